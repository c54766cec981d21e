//! What everybody sees of any entity, whatever its noun: one flat JSON object.
//!
//! The first fields are the same for all (`id jid kind name state host epoch seq since condition`), the rest are the facts
//! of the noun. The same object is the answer of `info`, a row of `list`, the snapshot of the feed and the `after` of an
//! event, so that a viewer needs one parser.

use crate::{
    CellName, EntityId, Epoch, HypervisorName, Seq, Timestamp, domain::DomainFacts, hypervisor::HypervisorFacts, network::NetworkFacts,
    storage_pool::PoolFacts, task::TaskFacts,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A noun that has addresses of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A libvirt connection and everything below it.
    Hypervisor,
    /// A virtual machine.
    Domain,
    /// A virtual network.
    Network,
    /// A storage pool.
    StoragePool,
    /// A long-running piece of work.
    Task,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Hypervisor, Kind::Domain, Kind::Network, Kind::StoragePool, Kind::Task];
    /// The noun as it stands in command names.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hypervisor => "hypervisor",
            Kind::Domain => "domain",
            Kind::Network => "network",
            Kind::StoragePool => "storage-pool",
            Kind::Task => "task",
        }
    }
}

/// How well we know and control an entity, apart from its own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// All is well.
    #[default]
    Ok,
    /// Its actor is being restarted, or something about it failed; commands may be refused for a moment.
    Degraded,
    /// libvirt on its host does not answer. It may well be running: nothing is known, nothing is started elsewhere.
    ControlLost,
    /// Its agent does not answer. It may well be running: nothing is known, nothing is started elsewhere.
    Unreachable,
}

/// The facts of a noun, told apart by `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Facts {
    /// Facts of a hypervisor.
    Hypervisor(HypervisorFacts),
    /// Facts of a virtual machine.
    Domain(DomainFacts),
    /// Facts of a network.
    Network(NetworkFacts),
    /// Facts of a storage pool.
    StoragePool(PoolFacts),
    /// Facts of a task.
    Task(TaskFacts),
}

impl Facts {
    /// The noun.
    pub fn kind(&self) -> Kind {
        match self {
            Facts::Hypervisor(_) => Kind::Hypervisor,
            Facts::Domain(_) => Kind::Domain,
            Facts::Network(_) => Kind::Network,
            Facts::StoragePool(_) => Kind::StoragePool,
            Facts::Task(_) => Kind::Task,
        }
    }
    /// The noun's own word for its state, for example `running`.
    pub fn state(&self) -> &'static str {
        match self {
            Facts::Hypervisor(f) => f.state.name(),
            Facts::Domain(f) => f.state.name(),
            Facts::Network(f) => f.state.name(),
            Facts::StoragePool(f) => f.state.name(),
            Facts::Task(f) => f.state.name(),
        }
    }
}

/// One entity as everybody sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Wire", into = "Wire")]
#[schemars(with = "Wire")]
pub struct Entity {
    /// Which one.
    pub id: EntityId,
    /// The cell it lives in.
    pub cell: CellName,
    /// The name people gave it; it may change and need not be unique across hosts.
    pub name: Arc<str>,
    /// The hypervisor it is on now.
    pub host: HypervisorName,
    /// The fencing number of its ownership.
    pub epoch: Epoch,
    /// The number of its last event in that epoch.
    pub seq: Seq,
    /// Since when it has been in this state. Information only.
    pub since: Timestamp,
    /// How well we know it.
    pub condition: Condition,
    /// One sentence about the condition, when it is not `ok`.
    pub why: Option<Arc<str>>,
    /// The noun's own facts, state included.
    pub facts: Facts,
}

impl Entity {
    /// The bare JID.
    pub fn jid(&self) -> String {
        self.cell.jid(&self.id)
    }
    /// The noun.
    pub fn kind(&self) -> Kind {
        self.facts.kind()
    }
    /// The word shown as its state: `unknown` while control is lost, else the noun's own word.
    pub fn state(&self) -> &'static str {
        match self.condition {
            Condition::ControlLost | Condition::Unreachable => "unknown",
            Condition::Ok | Condition::Degraded => self.facts.state(),
        }
    }
    /// The facts of a virtual machine, if it is one.
    pub fn domain(&self) -> Option<&DomainFacts> {
        if let Facts::Domain(f) = &self.facts { Some(f) } else { None }
    }
    /// As a JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The flat form on the wire. `id`, `jid` and the outer `state` are there for readers; they are computed when written and
/// the jid decides when read.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Entity")]
struct Wire {
    /// libvirt's UUID, or the name of a hypervisor.
    id: String,
    /// The bare XMPP address.
    jid: String,
    /// The name people gave it.
    name: Arc<str>,
    /// The state as shown: `unknown` while control is lost.
    state: String,
    /// The hypervisor it is on now.
    host: HypervisorName,
    /// The fencing number of its ownership.
    epoch: Epoch,
    /// The number of its last event in that epoch.
    seq: Seq,
    /// Since when it has been in this state.
    since: Timestamp,
    /// How well we know it.
    condition: Condition,
    /// One sentence about the condition, when it is not `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<Arc<str>>,
    #[serde(flatten)]
    facts: Facts,
}

impl From<Entity> for Wire {
    fn from(e: Entity) -> Wire {
        Wire {
            id: e.id.plain(),
            jid: e.jid(),
            state: e.state().to_owned(),
            name: e.name,
            host: e.host,
            epoch: e.epoch,
            seq: e.seq,
            since: e.since,
            condition: e.condition,
            why: e.why,
            facts: e.facts,
        }
    }
}

impl TryFrom<Wire> for Entity {
    type Error = String;
    fn try_from(w: Wire) -> Result<Entity, String> {
        let (local, cell) = w.jid.split_once('@').ok_or_else(|| format!("{:?} is not an entity's address", w.jid))?;
        let id: EntityId = local.parse().map_err(|e: crate::id::BadId| e.to_string())?;
        if id.kind() != w.facts.kind() {
            return Err(format!("{} is not the address of a {}", w.jid, w.facts.kind().name()));
        }
        Ok(Entity {
            id,
            cell: cell.parse().map_err(|e: crate::id::BadId| e.to_string())?,
            name: w.name,
            host: w.host,
            epoch: w.epoch,
            seq: w.seq,
            since: w.since,
            condition: w.condition,
            why: w.why,
            facts: w.facts,
        })
    }
}
