//! Copies of a machine, and machines that exist to be copied.
//!
//! ```text
//!   clone --its turn: off? what is copied?--> the machine is being copied --> volumes --> a definition like its own --> (started)
//!                                                  |  until the task ends, other commands on it are refused
//!   template --its turn: off?--> marked in its definition, and no start with its host
//! ```

use super::{After, Answer, DomainActor, command, history, turn::Turn};
use crate::{
    ask::Ask,
    life::Posted,
    making::{self, Making},
    scope::{LONG, SHORT, within},
    users,
};
use actix::Handler;
use archipel_contract::{
    Command, Fault, FaultKind,
    command::Started,
    domain::*,
    volume::{CopySpec, NewVolume, Preallocation, VolumeFormat},
};

/// What of a clone is done when its volumes are there, in percent.
const VOLUMES: u8 = 95;

command!(CloneDomain, Event, [], |turn, command| { clone(turn, command).await });

async fn clone(turn: &Turn, command: CloneDomain) -> Result<Started, Fault> {
    command.check()?;
    let (scope, id, entity) = (turn.scope.clone(), turn.id, turn.entity()?);
    let template = entity.domain().is_some_and(|f| f.template);
    let of = entity.name.to_string();
    let to = command.name(&of, |name| making::is_free(&scope, name))?;
    if !making::is_free(&scope, &to) {
        let text = format!("a virtual machine named {to} exists already, or is being made; choose another name");
        return Err(Fault::new(FaultKind::Conflict, text));
    }
    let landscape = within(SHORT, scope.host.volumes.landscape()).await?;
    let disks = command.plan(&landscape, id, &of, template, &to)?;
    for disk in &disks {
        making::running_pool(&scope, &disk.to_pool).await?;
        let taken = landscape.volumes.iter().any(|v| v.pool_name == disk.to_pool && v.volume.name == disk.to);
        if taken {
            let text = format!("there is a volume {}/{} already; choose another name for the machine", disk.to_pool, disk.to);
            return Err(Fault::new(FaultKind::Conflict, text));
        }
    }
    let copied = turn.copied();
    let words = format!("copying {of} to {to}");
    let linked = command.linked;
    making::begin(&scope, id.into(), CloneDomain::NAME, &to, &turn.caller, words, async move |making: &mut Making| {
        // Until this has ended, whatever its end.
        let _copied = copied;
        volumes(making, &disks, linked).await?;
        making.says(VOLUMES, "defining it");
        let name = making.name().to_owned();
        let own = |d: &ClonedDisk| (d.device.clone(), d.to_pool.to_string(), d.to.clone());
        let likeness = Likeness { name: name.clone(), disks: disks.iter().map(own).collect(), note: command.note.clone() };
        let (definitions, mut remarks) = (making.scope().host.definitions.clone(), Vec::new());
        let heard = &mut remarks;
        let made = making.domain(async move {
            let likened = within(LONG, definitions.liken(id, likeness)).await?;
            *heard = likened.remarks;
            Ok(likened.id)
        });
        let made = made.await?;
        let built = disks.iter().filter_map(|d| d.built_on.as_ref().filter(|_| !linked));
        remarks.extend(built.map(|base| format!("a disk of it is built on {base}, like that of {of}")));
        let and = if command.start {
            making.start(made).await?;
            "runs"
        } else {
            "is there and off"
        };
        let remarks = if remarks.is_empty() { String::new() } else { format!("; {}", remarks.join("; ")) };
        let what = if linked { format!(", and needs the template {of}") } else { String::new() };
        Ok(format!("{name} {and}{what}{remarks}"))
    })
}

async fn volumes(making: &mut Making, disks: &[ClonedDisk], linked: bool) -> Result<(), Fault> {
    let weights: Vec<_> = disks.iter().map(|d| d.weight).collect();
    for (disk, share) in disks.iter().zip(shares(&weights, 0, VOLUMES)) {
        let pool = making.pool(&disk.to_pool).await?;
        if linked {
            let backing = Some((disk.pool_name.to_string(), disk.volume.clone()));
            let (format, preallocation) = (VolumeFormat::Qcow2, Preallocation::None);
            making.create(&pool, NewVolume { name: disk.to.clone(), capacity: None, format, preallocation, backing }).await?;
        } else {
            let copy = CopySpec { pool: Some(disk.to_pool.to_string()), to: disk.to.clone(), format: None };
            making.copy((disk.pool, disk.volume.clone()), copy, &pool, share).await?;
        }
    }
    Ok(())
}

command!(TemplateDomain, Read, ["domain.changed"], |turn, command| {
    let enabled = command.enabled;
    // Nobody in the cell builds on its disks from here until it is a machine that writes to them.
    let _alone = if enabled {
        Vec::new()
    } else {
        let landscape = within(SHORT, turn.scope.host.volumes.landscape()).await?;
        check_unused(&landscape, turn.id, &turn.name())?;
        let stays = |fault: Fault| Fault { message: format!("{} stays a template: {}", turn.name(), fault.message), ..fault };
        users::of_machine(&turn.scope, &landscape, turn.id).await.map_err(stays)?
    };
    let autostart = turn.entity()?.domain().is_some_and(|f| f.autostart);
    if enabled && autostart {
        within(SHORT, turn.scope.host.domains.set_start_order(turn.id, None)).await?;
        within(SHORT, turn.scope.host.domains.set_autostart(turn.id, false)).await?;
    }
    let applied = within(LONG, turn.scope.host.definitions.edit(turn.id, Edit::Template(enabled), When::NextBoot, None)).await?;
    history::keep(turn, TemplateDomain::NAME, &applied).await;
    Ok(turn.done(match (enabled, autostart) {
        (true, true) => "is a template now, and does not start with its host any more",
        (true, false) => "is a template now",
        (false, _) => "is a machine like any other now",
    }))
});
