//! Machines given out as appliances.
//!
//! ```text
//!   export --its turn: off? does anybody else write to its disks?--> the machine is being copied --> port: POOL/NAME.ova --> told
//!                                                                         |  until the task ends, other commands on it are refused
//! ```

use super::{After, Answer, DomainActor, command, turn::Turn};
use crate::{
    ask::Ask,
    life::Posted,
    making, noun,
    scope::{SHORT, within},
    storage_pool::Pool,
    users, work,
};
use actix::Handler;
use archipel_contract::{
    Command, Fault, FaultKind,
    command::Started,
    domain::{ExportDomain, Exported},
    host::PoolChange,
};

command!(ExportDomain, Event, [], |turn, command| { export(turn, command).await });

async fn export(turn: &Turn, command: ExportDomain) -> Result<Started, Fault> {
    let (scope, id, machine) = (turn.scope.clone(), turn.id, turn.name());
    let volume = command.volume(&machine)?;
    let pool = making::running_pool(&scope, &command.pool).await?.id;
    if within(SHORT, scope.host.volumes.list(pool)).await?.iter().any(|v| v.name == volume) {
        let text = format!("there is a volume {}/{volume} already; choose another name with --name", command.pool);
        return Err(Fault::new(FaultKind::Conflict, text));
    }
    let disks = users::of_disks(&scope, id).await?;
    let copied = turn.copied();
    let words = format!("writing {machine} to {}/{volume}", command.pool);
    let place = format!("{}/{volume}", command.pool);
    Ok(work::begin(&turn.scope, id.into(), ExportDomain::NAME, &machine, &turn.caller, words, move |follower| async move {
        // Until this has ended, whatever its end.
        let _copied = copied;
        let exported = scope.host.exports.export(id, (pool, volume), disks, command.portable, follower).await;
        // Told even when it failed: something may have been there for a while.
        noun::reported::<Pool>(&scope, pool, PoolChange::Volumes);
        let Exported { size, remarks } = exported?;
        let remarks = if remarks.is_empty() { String::new() } else { format!("; {}", remarks.join("; ")) };
        Ok(format!("{place} is there ({size}); fetch it with volume download{remarks}"))
    }))
}
