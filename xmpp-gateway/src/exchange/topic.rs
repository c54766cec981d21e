//! What to call a change that nobody told as an event: one found when an agent asserted everything again. Pure.

use archipel_contract::{Cause, Entity, Event, Kind, Timestamp};
use std::borrow::Cow;
use std::sync::Arc;

/// The event of such a change.
pub(super) fn told(topic: &'static str, after: &Arc<Entity>, at: Timestamp) -> Event {
    Event {
        entity: after.id.clone(),
        cell: after.cell.clone(),
        topic: Cow::Borrowed(topic),
        epoch: after.epoch,
        seq: after.seq,
        at,
        cause: Cause::Archipel,
        detail: None,
        after: Some(after.clone()),
    }
}

/// From where to where a machine went, when another host tells of it than the one that had it.
pub(super) fn move_of(before: Option<&Entity>, after: &Entity) -> Option<Arc<str>> {
    let before = before.filter(|b| b.host != after.host && after.kind() == Kind::Domain)?;
    Some(format!("from {} to {}", before.host, after.host).into())
}

/// What to call a difference found when an agent asserts: when it happened and why, nobody can tell.
pub(super) fn topic_of_assertion(before: Option<&Entity>, after: &Entity) -> &'static str {
    let known = before.is_some();
    let back = before.is_some_and(|b| b.state() == "unknown" && after.state() != "unknown");
    match after.kind() {
        Kind::Domain if move_of(before, after).is_some() => "domain.migrated",
        Kind::Domain if back => "domain.known",
        Kind::Domain if known => "domain.changed",
        Kind::Domain => "domain.added",
        Kind::Hypervisor if after.state() == "connected" && (back || !known) => "hypervisor.connected",
        Kind::Hypervisor => "hypervisor.changed",
        Kind::Network if known => "network.changed",
        Kind::Network => "network.added",
        Kind::StoragePool if known => "storage-pool.changed",
        Kind::StoragePool => "storage-pool.added",
        Kind::Task if known => "task.progressed",
        Kind::Task => "task.started",
    }
}

/// What to call an entity that was not asserted again.
pub(super) fn topic_of_absence(kind: Kind) -> &'static str {
    match kind {
        Kind::Hypervisor => "hypervisor.removed",
        Kind::Domain => "domain.undefined",
        Kind::Network => "network.undefined",
        Kind::StoragePool => "storage-pool.undefined",
        Kind::Task => "task.removed",
    }
}
