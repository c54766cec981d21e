//! What became of an operation that was begun and whose end nobody saw: judged by what libvirt says now, never run again.

use crate::{
    board::Board,
    scope::{SHORT, within},
};
use archipel_contract::{
    Bytes, EntityId, Fault, FaultKind,
    command::Done,
    domain::{self, Settled},
    host::Host,
    network::NetworkState,
    port::Operation,
    storage_pool::PoolState,
};
use serde::Deserialize;
use serde_json::Value;

/// Why its end was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The daemon ended; nothing of ours is under way any more.
    Restart,
    /// The actor failed; what it asked of libvirt may still be under way.
    ActorFailed,
}

/// The answer to an operation whose end nobody saw, or the reason why nobody can look right now.
pub async fn settle(host: &Host, board: &Board, operation: &Operation, why: Interruption) -> Result<Result<Value, Fault>, Fault> {
    let name = board.get(&operation.target).map_or_else(|| operation.target.to_string(), |e| e.name.to_string());
    let (when, by) = match why {
        Interruption::Restart => ("before the restart", "was interrupted by a restart"),
        Interruption::ActorFailed => ("before its actor failed", "was interrupted by a fault of its actor"),
    };
    let command = &operation.command;
    Ok(match look(host, operation).await? {
        Settled::TookEffect => {
            let done = Done::new(format!("{command} of {name} had taken effect {when}"));
            serde_json::to_value(done).map_err(|e| Fault::internal("an answer could not be written; please report this").because(e))
        }
        // What is not so yet may still become so: libvirt goes on with a call when whoever made it has died, and may have
        // it unread in its socket. And what was so may have been changed by somebody else since.
        Settled::NoEffect if why == Interruption::Restart => Err(Fault::unavailable(format!(
            "{command} of {name} {by} and had not taken effect when libvirt was asked afterwards; look before asking again"
        ))),
        Settled::NoEffect | Settled::Unknown => {
            Err(Fault::unavailable(format!("{command} of {name} {by} and may or may not have taken effect; look before asking again")))
        }
    })
}

fn so(yes: bool) -> Settled {
    if yes { Settled::TookEffect } else { Settled::NoEffect }
}

fn wanted_volume(operation: &Operation) -> String {
    operation.arguments.get("volume").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn wanted_autostart(operation: &Operation) -> bool {
    operation.arguments.get("enabled").and_then(Value::as_bool).unwrap_or(true)
}

/// `None` when it is gone; other faults stay faults.
fn or_gone<T>(found: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match found {
        Ok(record) => Ok(Some(record)),
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn look(host: &Host, operation: &Operation) -> Result<Settled, Fault> {
    let command = operation.command.as_str();
    match &operation.target {
        EntityId::Domain(id) => {
            let now = or_gone(within(SHORT, host.domains.read(*id)).await)?;
            Ok(domain::settle(command, &operation.arguments, now.as_ref()))
        }
        EntityId::Network(id) => {
            let now = or_gone(within(SHORT, host.networks.read(*id)).await)?;
            let Some(now) = now else { return Ok(if command == "network.undefine" { Settled::TookEffect } else { Settled::Unknown }) };
            Ok(match command {
                "network.undefine" => Settled::NoEffect,
                "network.start" => so(now.facts.state == NetworkState::Active),
                "network.stop" => so(now.facts.state == NetworkState::Inactive),
                "network.autostart" => so(now.facts.autostart == wanted_autostart(operation)),
                _ => Settled::Unknown,
            })
        }
        EntityId::StoragePool(id) => {
            let Some(now) = or_gone(within(SHORT, host.pools.read(*id)).await)? else { return Ok(Settled::Unknown) };
            Ok(match command {
                "storage-pool.start" => so(now.facts.state != PoolState::Inactive),
                "storage-pool.stop" => so(now.facts.state == PoolState::Inactive),
                "volume.create" => match or_gone(within(SHORT, host.volumes.read(*id, wanted_volume(operation))).await)? {
                    // Somebody else may have made the one that is there.
                    Some(_) => Settled::Unknown,
                    None => Settled::NoEffect,
                },
                "volume.delete" => so(or_gone(within(SHORT, host.volumes.read(*id, wanted_volume(operation))).await)?.is_none()),
                "volume.resize" => match or_gone(within(SHORT, host.volumes.read(*id, wanted_volume(operation))).await)? {
                    Some(volume) => {
                        let wanted = operation.arguments.get("capacity").and_then(|c| Bytes::deserialize(c).ok());
                        so(wanted.is_some_and(|wanted| volume.facts.capacity.0.abs_diff(wanted.0) < 512))
                    }
                    None => Settled::Unknown,
                },
                "storage-pool.autostart" => so(now.facts.autostart == wanted_autostart(operation)),
                _ => Settled::Unknown,
            })
        }
        EntityId::Hypervisor(_) if command == "domain.define" => {
            let wanted = operation.arguments.get("name").and_then(Value::as_str).unwrap_or_default();
            let there = within(SHORT, host.domains.list()).await?.iter().any(|r| *r.name == *wanted);
            // Somebody else may have defined the one that is there.
            Ok(if there { Settled::Unknown } else { Settled::NoEffect })
        }
        EntityId::Hypervisor(_) if command == "network.define" => {
            let wanted = operation.arguments.get("name").and_then(Value::as_str).unwrap_or_default();
            let there = within(SHORT, host.networks.list()).await?.iter().any(|r| *r.name == *wanted);
            // The same.
            Ok(if there { Settled::Unknown } else { Settled::NoEffect })
        }
        EntityId::Hypervisor(_) | EntityId::Task(_) => Ok(Settled::Unknown),
    }
}
