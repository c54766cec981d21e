//! What changes a machine's definition and its devices: each command is one edit, made in the machine's turn by the port.
//!
//! ```text
//!   command --checked--> edit --(a MAC: nobody else in the cell has it)--> port --> answered with when it applies
//!                        long work (copy, merge) --> a task
//! ```

use super::{After, Answer, DomainActor, command, history, in_control, saved::nothing_is_saved, turn::Turn};
use crate::{
    ask::{Ask, ending},
    hypervisor::HypervisorActor,
    life::Posted,
    migration,
    scope::{LONG, SHORT, Scope, within},
    users, work,
};
use actix::prelude::*;
use archipel_contract::{Command, DomainId, Fault, FaultKind, command::Done, domain::*, volume::Need};

macro_rules! edits {
    ($($command:ty),* $(,)?) => {
        $(command!($command, Read, ["domain.changed", "domain.device-added", "domain.device-removed"], |turn, command| {
            edit(turn, command).await
        });)*
    };
}

edits!(
    SetVcpus,
    SetMemory,
    SetCpu,
    SetBoot,
    SetFirmware,
    SetLifecycle,
    AttachDisk,
    DetachDisk,
    SetDisk,
    ChangeMedia,
    AttachNic,
    DetachNic,
    SetNic,
    SetGraphics,
    SetPassword,
    AttachHostDevice,
    DetachHostDevice,
    AttachFilesystem,
    DetachFilesystem,
    AddDevice,
    RemoveDevice,
);

async fn edit<C: Editing>(turn: &Turn, command: C) -> Result<Edited, Fault> {
    let when = command.when();
    let edit = command.edit()?;
    let mut unasked = Vec::new();
    if let Edit::AttachNic(AttachNic { mac: Some(mac), .. }) = &edit {
        unasked = nobody_has(&turn.scope, &mac_of(mac)?).await?;
    }
    if matches!(edit, Edit::DetachDisk(_) | Edit::Media(_)) {
        nothing_is_saved(&turn.scope, turn.id, &turn.name()).await?;
    }
    let disk = users::of_edit(&turn.scope, turn.id, &edit).await?;
    let applied = within(LONG, turn.scope.host.definitions.edit(turn.id, edit, when, disk)).await?;
    history::keep(turn, C::NAME, &applied).await;
    let mut edited = told(&turn.name(), &applied);
    edited.message = and_unasked(edited.message, &unasked);
    Ok(edited)
}

/// What was done, for people.
pub(super) fn told(name: &str, applied: &Applied) -> Edited {
    let when = match applied.applies {
        Applies::Both => "is changed, now and for every boot",
        Applies::Now => "is changed now; at the next boot it is as before",
        Applies::NextBoot => "changes at its next boot",
        Applies::Nothing => "was so already",
    };
    let what = applied.device.as_ref().map(|d| format!("{d} of {name}")).unwrap_or_else(|| name.to_owned());
    let remark = applied.remark.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    Edited { message: format!("{what} {when}{remark}"), applies: applied.applies, device: applied.device.clone() }
}

/// Refuses a MAC that a machine on another host has; answers the hosts that could not be asked.
async fn nobody_has(scope: &Scope, mac: &str) -> Result<Vec<String>, Fault> {
    let hosts = match migration::hypervisors(scope).await {
        Ok(hosts) => hosts.into_iter().map(|h| h.host).filter(|h| *h != scope.host.name).collect(),
        // A host that belongs to no cell has nobody to ask.
        Err(fault) if fault.kind == FaultKind::Unavailable => Vec::new(),
        Err(fault) => return Err(fault),
    };
    let asked = hosts.iter().map(|host| async move { (host, migration::ask(scope, host, &FindMac { mac: mac.to_owned() }, SHORT).await) });
    let mut unasked = Vec::new();
    for (host, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(MacOwner { name: Some(name), .. }) => {
                let text = format!("{name} on {host} has a card {mac} already; choose another MAC, or none for a new one");
                return Err(Fault::new(FaultKind::Conflict, text));
            }
            Ok(_) => {}
            Err(fault) => {
                tracing::debug!(%host, %fault, "could not be asked who has a MAC");
                unasked.push(host.to_string());
            }
        }
    }
    Ok(unasked)
}

/// Refuses a new definition of a machine with a MAC that another machine has and this one does not have now; answers the hosts that could
/// not be asked.
pub(super) async fn nobody_has_those_of(scope: &Scope, id: DomainId, xml: &str) -> Result<Vec<String>, Fault> {
    let port = &scope.host.definitions;
    let mut new = within(SHORT, port.macs(xml.to_owned())).await?;
    let present = within(SHORT, scope.host.domains.xml(id, true)).await?;
    let present = within(SHORT, port.macs(present)).await?;
    new.retain(|mac| !present.contains(mac));
    let mut unasked = Vec::new();
    for mac in new {
        if let Some(machine) = within(SHORT, port.owner_of_mac(mac.clone(), Some(id))).await? {
            let text = format!("{machine} has a card {mac} already; choose another MAC, or none for a new one");
            return Err(Fault::new(FaultKind::Conflict, text));
        }
        unasked = nobody_has(scope, &mac).await?;
    }
    Ok(unasked)
}

/// What is said of hosts that could not be asked who has a MAC.
pub(super) fn and_unasked(message: String, unasked: &[String]) -> String {
    match unasked {
        [] => message,
        hosts => format!("{message}; whether machines on {} have its MACs could not be asked", hosts.join(" and ")),
    }
}

impl Handler<Posted<Ask<FindMac>>> for HypervisorActor {
    type Result = ResponseActFuture<Self, Result<MacOwner, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<FindMac>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, .. }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let scope = self.scope().clone();
        let look = async move {
            let mac = mac_of(&command.mac)?;
            let name = within(SHORT, scope.host.definitions.owner_of_mac(mac.clone(), None)).await?;
            Ok(MacOwner { mac, name })
        };
        Box::pin(look.into_actor(self))
    }
}

impl Handler<Posted<Ask<ListDevices>>> for DomainActor {
    type Result = Answer<ListDevices>;
    fn handle(&mut self, posted: Posted<Ask<ListDevices>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            in_control(&*entity?)?;
            let mut devices = within(SHORT, scope.host.definitions.devices(id)).await?;
            if let Some(kind) = ask.command.kind {
                devices.retain(|d| d.kind == kind);
            }
            Ok(devices)
        };
        Box::pin(look.into_actor(self))
    }
}

command!(ResizeDisk, Read, ["domain.changed"], |turn, command| {
    command.check()?;
    let ResizeDisk { disk, size } = command;
    let still = users::of_own_disk(&turn.scope, turn.id, &disk).await?;
    within(LONG, turn.scope.host.definitions.resize_disk(turn.id, disk.clone(), size, still)).await?;
    Ok(Done::new(format!("{disk} of {} has {size} now", turn.name())))
});

command!(CopyDisk, Event, ["domain.block-job"], |turn, command| {
    command.check()?;
    let (name, id, port) = (turn.name(), turn.id, turn.scope.host.definitions.clone());
    let target = users::of_named(&turn.scope, &command.to, Need::Sole, Some(id)).await?;
    let words = format!("copying {} of {name} to {}", command.disk, command.to);
    let doing = move |follower| async move { port.copy_disk(id, command, target, follower).await };
    Ok(work::begin(&turn.scope, id.into(), CopyDisk::NAME, &name, &turn.caller, words, doing))
});

command!(CommitDisk, Event, ["domain.block-job"], |turn, command| {
    command.check()?;
    let (name, id, port) = (turn.name(), turn.id, turn.scope.host.definitions.clone());
    let nothing = || Fault::wrong_state(format!("{} has one layer only, so there is nothing to merge", command.disk));
    let below = users::of_layers(&turn.scope, id, &command.disk, 1).await?.pop().ok_or_else(nothing)?;
    let words = format!("merging the newest layer of {} of {name}", command.disk);
    let doing = move |follower| async move { port.commit_disk(id, command.disk, below, follower).await };
    Ok(work::begin(&turn.scope, id.into(), CommitDisk::NAME, &name, &turn.caller, words, doing))
});
