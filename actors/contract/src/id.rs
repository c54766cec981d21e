//! Names and addresses. An address never contains the location: a machine keeps its address when it moves.
//!
//! ```text
//! <uuid>@cell        a domain            hv.<name>@cell     a hypervisor
//! net.<uuid>@cell    a network           pool.<uuid>@cell   a storage pool
//! task.<uuid>@cell   a task              cell               the cell itself
//! ```
//! Local parts are restricted to `[a-z0-9.-]{1,64}`, so XEP-0106 escaping is never needed.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// Why a text is not a name or an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct BadId {
    /// The text that was given, cut to 80 characters.
    pub text: String,
    /// What it should have been.
    pub expected: &'static str,
}

fn bad(text: &str, expected: &'static str) -> BadId {
    BadId { text: text.chars().take(80).collect(), expected }
}

macro_rules! string_serde {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = std::borrow::Cow::<str>::deserialize(d)?;
                s.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $type:ident, $name:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub Uuid);
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl FromStr for $type {
            type Err = BadId;
            fn from_str(s: &str) -> Result<Self, BadId> {
                Uuid::parse_str(s).map($type).map_err(|_| bad(s, concat!("a ", $name, " (a UUID)")))
            }
        }
        string_serde!($type);
    };
}

uuid_id!(
    /// A virtual machine: libvirt's UUID of the domain. It survives rename, restart and migration.
    DomainId, "domain id");
uuid_id!(
    /// A virtual network: libvirt's UUID.
    NetworkId, "network id");
uuid_id!(
    /// A storage pool: libvirt's UUID.
    PoolId, "storage pool id");
uuid_id!(
    /// A long-running piece of work.
    TaskId, "task id");
uuid_id!(
    /// One request, chosen by whoever asks. The same operation id runs at most once, however often it is sent.
    OperationId, "operation id");

uuid_id!(
    /// One move of one machine from one host to another: a saga. Every step of it carries this id.
    MoveId, "id of a move");

impl MoveId {
    /// A fresh id.
    pub fn fresh() -> MoveId {
        MoveId(Uuid::now_v7())
    }
}

impl OperationId {
    /// A fresh operation id (UUID version 7, so that they sort by time).
    pub fn fresh() -> OperationId {
        OperationId(Uuid::now_v7())
    }
}

impl TaskId {
    /// A fresh task id.
    pub fn fresh() -> TaskId {
        TaskId(Uuid::now_v7())
    }
}

/// The name of a hypervisor: lower-case letters, digits, `.` and `-`, at most 60. It is also the resource of every entity
/// that runs there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HypervisorName(Arc<str>);

impl HypervisorName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HypervisorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HypervisorName {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        let fits = !s.is_empty()
            && s.len() <= 60
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
            && s.as_bytes()[0].is_ascii_alphanumeric();
        if fits { Ok(HypervisorName(s.into())) } else { Err(bad(s, "a hypervisor name (a-z, 0-9, '.', '-', at most 60)")) }
    }
}
string_serde!(HypervisorName);

/// The XMPP domain of a cell (a site or cluster), for example `vm.localhost`. Never contains a host's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellName(Arc<str>);

impl CellName {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The bare JID of an entity in this cell.
    pub fn jid(&self, entity: &EntityId) -> String {
        format!("{entity}@{self}")
    }
    /// The entity that a bare or full JID of this cell names; `Err` for other cells and other local parts.
    pub fn entity(&self, jid: &str) -> Result<EntityId, BadId> {
        let bare = jid.split_once('/').map_or(jid, |(bare, _)| bare);
        match bare.split_once('@') {
            Some((local, domain)) if domain == self.as_str() => local.parse(),
            _ => Err(bad(jid, "an address of this cell")),
        }
    }
}

impl fmt::Display for CellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CellName {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if s.len() <= 253 && s.split('.').all(label) {
            Ok(CellName(s.into()))
        } else {
            Err(bad(s, "a cell name (a lower-case DNS name such as vm.localhost)"))
        }
    }
}
string_serde!(CellName);

/// Any entity that has an address. Its text form is the local part of the JID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityId {
    /// `hv.<name>`
    Hypervisor(HypervisorName),
    /// `<uuid>`
    Domain(DomainId),
    /// `net.<uuid>`
    Network(NetworkId),
    /// `pool.<uuid>`
    StoragePool(PoolId),
    /// `task.<uuid>`
    Task(TaskId),
}

impl EntityId {
    /// The virtual machine, if it is one.
    pub fn domain(&self) -> Option<DomainId> {
        match self {
            EntityId::Domain(id) => Some(*id),
            _ => None,
        }
    }
    /// The noun this is an instance of.
    pub fn kind(&self) -> crate::Kind {
        match self {
            EntityId::Hypervisor(_) => crate::Kind::Hypervisor,
            EntityId::Domain(_) => crate::Kind::Domain,
            EntityId::Network(_) => crate::Kind::Network,
            EntityId::StoragePool(_) => crate::Kind::StoragePool,
            EntityId::Task(_) => crate::Kind::Task,
        }
    }
    /// The id as people and libvirt write it: the bare UUID, or the hypervisor's name.
    pub fn plain(&self) -> String {
        match self {
            EntityId::Hypervisor(n) => n.to_string(),
            EntityId::Domain(d) => d.to_string(),
            EntityId::Network(n) => n.to_string(),
            EntityId::StoragePool(p) => p.to_string(),
            EntityId::Task(t) => t.to_string(),
        }
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntityId::Hypervisor(n) => write!(f, "hv.{n}"),
            EntityId::Domain(d) => d.fmt(f),
            EntityId::Network(n) => write!(f, "net.{n}"),
            EntityId::StoragePool(p) => write!(f, "pool.{p}"),
            EntityId::Task(t) => write!(f, "task.{t}"),
        }
    }
}

impl FromStr for EntityId {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        if let Some(name) = s.strip_prefix("hv.") {
            return name.parse().map(EntityId::Hypervisor);
        }
        if let Some(id) = s.strip_prefix("net.") {
            return id.parse().map(EntityId::Network);
        }
        if let Some(id) = s.strip_prefix("pool.") {
            return id.parse().map(EntityId::StoragePool);
        }
        if let Some(id) = s.strip_prefix("task.") {
            return id.parse().map(EntityId::Task);
        }
        s.parse().map(EntityId::Domain).map_err(|_| bad(s, "an entity's address (a UUID, hv.NAME, net.UUID, pool.UUID or task.UUID)"))
    }
}
string_serde!(EntityId);

impl From<DomainId> for EntityId {
    fn from(id: DomainId) -> Self {
        EntityId::Domain(id)
    }
}
impl From<NetworkId> for EntityId {
    fn from(id: NetworkId) -> Self {
        EntityId::Network(id)
    }
}
impl From<PoolId> for EntityId {
    fn from(id: PoolId) -> Self {
        EntityId::StoragePool(id)
    }
}
impl From<TaskId> for EntityId {
    fn from(id: TaskId) -> Self {
        EntityId::Task(id)
    }
}
impl From<HypervisorName> for EntityId {
    fn from(name: HypervisorName) -> Self {
        EntityId::Hypervisor(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_parses_back() {
        let u = Uuid::from_u128(0x4dea22b3_1d52_4d8f_9f3b_0a8c1c0e6a11);
        let ids = [
            EntityId::Domain(DomainId(u)),
            EntityId::Network(NetworkId(u)),
            EntityId::StoragePool(PoolId(u)),
            EntityId::Task(TaskId(u)),
            EntityId::Hypervisor("alpha-1".parse().unwrap()),
        ];
        for id in ids {
            assert_eq!(id.to_string().parse::<EntityId>(), Ok(id.clone()));
            let cell: CellName = "vm.localhost".parse().unwrap();
            assert_eq!(cell.entity(&format!("{}/alpha", cell.jid(&id))), Ok(id));
        }
    }

    #[test]
    fn names_with_other_characters_are_refused() {
        for name in ["", "Alpha", "a b", "a/b", "é", ".x", &"a".repeat(61)] {
            assert!(name.parse::<HypervisorName>().is_err(), "{name}");
        }
        for cell in ["", "a..b", "-a", "A", "a_b"] {
            assert!(cell.parse::<CellName>().is_err(), "{cell}");
        }
        let cell: CellName = "vm.localhost".parse().unwrap();
        assert!(cell.entity("hv.alpha@other").is_err());
        assert!(cell.entity("admin@vm.localhost").is_err());
    }
}
