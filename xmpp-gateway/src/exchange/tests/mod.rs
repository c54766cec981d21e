//! The exchange with sessions that have no wire: what a client or an agent would see, stanza by stanza.

mod audits;
mod authorities;
mod carriages;
mod commands;
mod feeds;
mod locations;
mod moves;
mod nodes;
mod peoples;
mod usages;
mod wires;
mod world;

use archipel_contract::{
    Bytes, Condition, DomainId, Entity, EntityId, Epoch, Event, Facts, NetworkId, PoolId, Seq, Timestamp,
    domain::{DomainFacts, DomainState},
    hypervisor::{HypervisorFacts, HypervisorState},
    network::{NetworkFacts, NetworkState},
    storage_pool::{PoolFacts, PoolState},
};
use std::sync::Arc;

/// The cell of all tests.
pub(crate) const CELL: &str = "vm.localhost";

fn entity(id: EntityId, name: &str, host: &str, facts: Facts) -> Entity {
    Entity {
        id,
        cell: CELL.parse().unwrap(),
        name: name.into(),
        host: host.parse().unwrap(),
        epoch: Epoch(1),
        seq: Seq(1),
        since: Timestamp(0),
        condition: Condition::Ok,
        why: None,
        facts,
    }
}

/// A running machine `web<n>`.
pub(crate) fn machine(n: u128, host: &str) -> Entity {
    let facts = DomainFacts {
        state: DomainState::Running,
        reason: None,
        vcpus: 2,
        memory: Bytes(4 << 30),
        persistent: true,
        autostart: false,
        agent: false,
        virtualization: "qemu".into(),
        note: None,
        template: false,
        moving_to: None,
        autostart_order: None,
        autostart_delay: None,
    };
    entity(EntityId::Domain(DomainId(uuid::Uuid::from_u128(n))), &format!("web{n}"), host, Facts::Domain(facts))
}

/// A connected hypervisor.
pub(crate) fn hypervisor(name: &str) -> Entity {
    let mut facts = HypervisorFacts::connecting("test:///default");
    facts.state = HypervisorState::Connected;
    entity(EntityId::Hypervisor(name.parse().unwrap()), name, name, Facts::Hypervisor(facts))
}

/// An active network.
pub(crate) fn network(n: u128, host: &str) -> Entity {
    let facts = NetworkFacts { state: NetworkState::Active, bridge: None, forward: "nat".into(), persistent: true, autostart: true };
    entity(EntityId::Network(NetworkId(uuid::Uuid::from_u128(n))), &format!("net{n}"), host, Facts::Network(facts))
}

/// A running pool.
pub(crate) fn pool(n: u128, host: &str) -> Entity {
    let facts = PoolFacts {
        state: PoolState::Running,
        capacity: Bytes(10 << 30),
        allocation: Bytes(1 << 30),
        available: Bytes(9 << 30),
        provisioned: None,
        pool_type: "dir".into(),
        path: None,
        persistent: true,
        autostart: true,
    };
    entity(EntityId::StoragePool(PoolId(uuid::Uuid::from_u128(n))), &format!("pool{n}"), host, Facts::StoragePool(facts))
}

/// The same machine in another state, one number later.
pub(crate) fn next(before: &Entity, state: DomainState) -> Entity {
    let mut after = before.clone();
    after.seq = before.seq.next();
    let Facts::Domain(facts) = &mut after.facts else { panic!("a machine") };
    facts.state = state;
    after
}

/// The event after which the entity is like this.
pub(crate) fn event(topic: &'static str, after: &Entity) -> Event {
    Event {
        entity: after.id.clone(),
        cell: after.cell.clone(),
        topic: topic.into(),
        epoch: after.epoch,
        seq: after.seq,
        at: Timestamp(0),
        cause: archipel_contract::Cause::Libvirt,
        detail: None,
        after: Some(Arc::new(after.clone())),
    }
}
