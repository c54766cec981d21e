//! A storage pool of a hypervisor: a place for volumes.
//!
//! ```text
//!              define                build               start
//!   (nothing) --------> inactive ------------> inactive -------> running
//!       ^                |   ^   makes its place          stop     | delete: empties it and removes its place
//!       |    undefine    |   +-------------------------------------+
//!       +----------------+
//! ```

mod spec;

pub use spec::{DefinePool, DefinedPool, PoolSpec, PoolType};

use crate::{
    BoxFuture, Bytes, Effect, Fault, PoolId, Role, Target, Verdict,
    command::{Command, Done, Started, declare},
    volume::{Unused, Volume},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a storage pool is doing, in libvirt's words (`virStoragePoolState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolState {
    /// It can be used.
    Running,
    /// It is stopped.
    Inactive,
    /// It is being made.
    Building,
    /// It works, but not fully.
    Degraded,
    /// It runs but cannot be reached.
    Inaccessible,
}

impl PoolState {
    /// All states.
    pub const ALL: [PoolState; 5] =
        [PoolState::Running, PoolState::Inactive, PoolState::Building, PoolState::Degraded, PoolState::Inaccessible];
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            PoolState::Running => "running",
            PoolState::Inactive => "inactive",
            PoolState::Building => "building",
            PoolState::Degraded => "degraded",
            PoolState::Inaccessible => "inaccessible",
        }
    }
}

/// What is known of a storage pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolFacts {
    /// What it is doing, as libvirt says.
    #[serde(rename = "libvirt_state")]
    pub state: PoolState,
    /// Room in all, in bytes; 0 while it is inactive.
    pub capacity: Bytes,
    /// Room taken, in bytes.
    pub allocation: Bytes,
    /// Room left, in bytes.
    pub available: Bytes,
    /// What its volumes may take at most, in bytes, when all of them have grown to their size: more than its room is overcommitted.
    /// Worked out when somebody asks for it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<Bytes>,
    /// `dir`, `fs`, `logical`, `netfs`, `rbd`, `zfs` ...
    #[serde(rename = "type")]
    pub pool_type: Arc<str>,
    /// Where it is on the host, if it is somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Arc<str>>,
    /// Whether its definition stays when it is stopped.
    pub persistent: bool,
    /// Whether it starts with its host.
    pub autostart: bool,
}

/// A pool as a hypervisor lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolRecord {
    /// libvirt's UUID.
    pub id: PoolId,
    /// libvirt's name.
    pub name: Arc<str>,
    /// The rest.
    pub facts: PoolFacts,
}

/// List the storage pools of the cell, or of one host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListPools {
    /// Only those on this hypervisor.
    pub host: Option<String>,
    /// Only those with this name or UUID.
    pub name: Option<String>,
}
declare!(ListPools, "storage-pool.list", Read, Viewer, Cell, Vec<crate::Entity>);

/// Show everything known about a storage pool.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowPool {}
declare!(ShowPool, "storage-pool.info", Read, Viewer, StoragePool, crate::Entity);

/// List the volumes of a storage pool again, as files may have changed behind libvirt's back.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshPool {}
declare!(RefreshPool, "storage-pool.refresh", Change, Admin, StoragePool, Started);

/// Start a storage pool.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StartPool {}
declare!(StartPool, "storage-pool.start", Change, Admin, StoragePool, Done);

/// Stop a storage pool. Nothing in it is deleted; machines cannot be started from it meanwhile.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopPool {}
declare!(StopPool, "storage-pool.stop", Destroy, Admin, StoragePool, Done);

/// Choose whether a storage pool starts with its host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AutostartPool {
    /// Whether it does.
    pub enabled: bool,
}
impl Default for AutostartPool {
    fn default() -> Self {
        AutostartPool { enabled: true }
    }
}
declare!(AutostartPool, "storage-pool.autostart", Change, Admin, StoragePool, Done);

/// Make the place of a storage pool: the directory, the file system, the volume group. A pool that was just defined needs it once.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BuildPool {
    /// Make it even where something else is already: a file system or volume group that is there is lost.
    pub overwrite: bool,
}
declare!(BuildPool, "storage-pool.build", Destroy, Admin, StoragePool, Done);

/// Remove the place of a storage pool. It must be empty, or its volumes go with it if you say so. Its definition stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeletePool {
    /// Delete all its volumes first; refused while a machine uses one of them.
    pub with_volumes: bool,
}
declare!(DeletePool, "storage-pool.delete", Destroy, Admin, StoragePool, Done);

/// Forget the definition of a storage pool that is stopped. Nothing in it is deleted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UndefinePool {}
declare!(UndefinePool, "storage-pool.undefine", Destroy, Admin, StoragePool, Done);

/// List the volumes of a storage pool that no machine uses and nothing that is used is built on. Media to install from are not told.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListOrphans {}
declare!(ListOrphans, "storage-pool.orphans", Read, Viewer, StoragePool, Vec<Volume>);

/// May this command run on a pool with these facts, and if not, why.
pub fn may(command: &str, facts: &PoolFacts) -> Verdict {
    match (command, facts.state) {
        ("storage-pool.start", PoolState::Inactive) => Verdict::Allowed,
        ("storage-pool.start", _) => Verdict::refused("is started already"),
        ("storage-pool.delete", PoolState::Inactive) => {
            Verdict::refused("is not started; start it, so that it can be seen whether anything is in it")
        }
        ("storage-pool.stop" | "storage-pool.refresh" | "storage-pool.orphans", PoolState::Inactive) => Verdict::refused("is not started"),
        (command, PoolState::Inactive) if command.starts_with("volume.") || command.starts_with("backup.") => {
            Verdict::refused("is not started")
        }
        ("storage-pool.build" | "storage-pool.undefine", state) if state != PoolState::Inactive => {
            Verdict::refused("is started; stop it first")
        }
        ("storage-pool.autostart", _) if !facts.persistent => Verdict::refused("has no definition that stays"),
        _ => Verdict::Allowed,
    }
}

/// What the inside needs of a hypervisor to handle storage pools.
pub trait PoolPort: Send + Sync {
    /// All pools (`virConnectListAllStoragePools`).
    fn list(&self) -> BoxFuture<'_, Result<Vec<PoolRecord>, Fault>>;
    /// One pool as it is now.
    fn read(&self, id: PoolId) -> BoxFuture<'_, Result<PoolRecord, Fault>>;
    /// Lists its volumes again (`virStoragePoolRefresh`); may take long.
    fn refresh(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Starts it (`virStoragePoolCreate`).
    fn start(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Stops it (`virStoragePoolDestroy`).
    fn stop(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Starts it with its host or not (`virStoragePoolSetAutostart`).
    fn set_autostart(&self, id: PoolId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>>;
    /// Defines a new one (`virStoragePoolDefineXML`). `conflict` when the name is taken.
    fn define(&self, spec: PoolSpec) -> BoxFuture<'_, Result<PoolId, Fault>>;
    /// What making its place would write to: its devices, and where it is.
    fn ground(&self, id: PoolId) -> BoxFuture<'_, Result<Vec<String>, Fault>>;
    /// Makes its place (`virStoragePoolBuild`); over something else that is there only with `overwrite`, and then all of its
    /// [`PoolPort::ground`] needs its proof.
    fn build(&self, id: PoolId, overwrite: bool, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>>;
    /// Stops it and removes its place (`virStoragePoolDelete`). `wrong-state` when it has volumes, unless they shall go too; `busy` when
    /// a machine uses one of them. Each volume that goes needs its proof.
    fn delete(&self, id: PoolId, with_volumes: bool, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>>;
    /// Forgets its definition (`virStoragePoolUndefine`).
    fn undefine(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>>;
}
