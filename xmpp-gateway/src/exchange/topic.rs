//! What to call a change that nobody told as an event: one found when an agent asserted everything again. Pure.

use archipel_contract::{Entity, Kind};

/// What to call a difference found when an agent asserts: when it happened and why, nobody can tell.
pub(super) fn topic_of_assertion(before: Option<&Entity>, after: &Entity) -> &'static str {
    let known = before.is_some();
    let back = before.is_some_and(|b| b.state() == "unknown" && after.state() != "unknown");
    match after.kind() {
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
