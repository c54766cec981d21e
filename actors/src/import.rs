//! Machines from elsewhere: what was uploaded is looked into, its disks become volumes, and a machine is defined that has them.
//!
//! ```text
//!   asked --> looked into (checksums) --> planned --> each disk a volume --> defined, given its devices --> (started)
//!                 \-- refused: nothing was made           \-- fails, is cancelled: what was made goes again
//! ```

use crate::{
    ask::Ask,
    hypervisor::HypervisorActor,
    life::Posted,
    making::{self, Making},
    scope::{LONG, SHORT, within},
};
use actix::prelude::*;
use archipel_contract::{
    Command, Fault,
    command::Started,
    domain::{AttachDisk, Edit, Extent, Firmware, FoundDisk, ImportDomain, ImportPlan, SetFirmware, When, shares},
    storage_pool::PoolRecord,
    volume::{NewVolume, Preallocation, VolumeFormat},
};

/// What of an import is done when it was looked into, and when its volumes are there, in percent.
const LOOKED: u8 = 20;
const VOLUMES: u8 = 95;

impl Handler<Posted<Ask<ImportDomain>>> for HypervisorActor {
    type Result = Result<Started, Fault>;
    fn handle(&mut self, posted: Posted<Ask<ImportDomain>>, _: &mut Self::Context) -> Self::Result {
        let Some(Ask { command, caller }) = posted.take() else { return crate::ask::ending() };
        command.check()?;
        let (scope, name) = (self.scope().clone(), command.name_at_first()?);
        let words = format!("looking into {}", command.source);
        let target = scope.host.name.clone().into();
        making::begin(&scope, target, ImportDomain::NAME, &name, &caller, words, async move |making: &mut Making| {
            import(making, command).await
        })
    }
}

async fn import(making: &mut Making, command: ImportDomain) -> Result<String, Fault> {
    let scope = making.scope().clone();
    let (pool, volume) = command.place()?;
    let source = making.pool(&pool).await?;
    let target = making.pool(command.pool.as_deref().unwrap_or(&pool)).await?;
    let found = scope.host.imports.look(source.id, volume.clone(), making.part(0, LOOKED)).await?;
    let networks: Vec<String> = within(SHORT, scope.host.networks.list()).await?.iter().map(|n| n.name.to_string()).collect();
    let plan = command.plan(making.name(), &found, &networks)?;
    volumes(making, &plan, (&source, &volume), &target).await?;
    making.says(VOLUMES, "defining it");
    let id = making.define(plan.spec).await?;
    let edits = std::iter::empty()
        .chain(plan.uefi.then(|| Edit::Firmware(SetFirmware { firmware: Some(Firmware::Uefi), ..SetFirmware::default() })))
        .chain(plan.disks.iter().map(|(disk, name)| {
            let (volume, bus) = (format!("{}/{name}", target.name), Some(disk.bus));
            Edit::AttachDisk(AttachDisk { volume, bus, ..AttachDisk::default() })
        }))
        .chain(plan.cards.into_iter().map(Edit::AttachNic));
    for edit in edits {
        making.check()?;
        within(LONG, scope.host.definitions.edit(id, edit, When::NextBoot)).await?;
    }
    let and = if command.start {
        making.start(id).await?;
        "runs"
    } else {
        "is there and off"
    };
    let remarks = if plan.remarks.is_empty() { String::new() } else { format!("; {}", plan.remarks.join("; ")) };
    Ok(format!("{} {and}{remarks}", making.name()))
}

async fn volumes(making: &mut Making, plan: &ImportPlan, from: (&PoolRecord, &str), to: &PoolRecord) -> Result<(), Fault> {
    let weights: Vec<_> = plan.disks.iter().map(|(disk, _)| archipel_contract::Bytes(disk.extent.map_or(1, |e| e.length))).collect();
    for ((disk, name), share) in plan.disks.iter().zip(shares(&weights, LOOKED, VOLUMES)) {
        match disk.extent {
            Some(extent) => bring(making, extent, name, from, to, share).await?,
            None => making.create(to, empty(disk, name)).await?,
        }
    }
    Ok(())
}

async fn bring(
    making: &mut Making,
    extent: Extent,
    name: &str,
    from: (&PoolRecord, &str),
    to: &PoolRecord,
    share: (u8, u8),
) -> Result<(), Fault> {
    let (imports, follower) = (making.scope().host.imports.clone(), making.part(share.0, share.1));
    let (source, volume, target) = (from.0.id, from.1.to_owned(), (to.id, name.to_owned()));
    making.volume(to, name.to_owned(), async move { imports.bring(source, volume, extent, target, follower).await }).await
}

fn empty(disk: &FoundDisk, name: &str) -> NewVolume {
    let (format, preallocation) = (VolumeFormat::Qcow2, Preallocation::None);
    NewVolume { name: name.to_owned(), capacity: Some(disk.capacity), format, preallocation, backing: None }
}
