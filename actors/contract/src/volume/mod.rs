//! A volume: one disk image in a storage pool. It is a row of its pool, not an actor, and a disco node, not an address.

use crate::{
    BoxFuture, Bytes, Effect, Epoch, Fault, HypervisorName, PoolId, Role, Seq, Target,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A volume as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// `POOL-UUID/NAME`, unique in the cell.
    pub id: String,
    /// The bare JID of its pool.
    pub jid: String,
    /// Its name in the pool.
    pub name: String,
    /// Always `available`: a volume that is listed can be used.
    pub state: String,
    /// The hypervisor its pool is on.
    pub host: HypervisorName,
    /// The epoch of its pool.
    pub epoch: Epoch,
    /// The number of its pool's last event.
    pub seq: Seq,
    /// The rest.
    #[serde(flatten)]
    pub facts: VolumeFacts,
}

/// What libvirt says about a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeFacts {
    /// `file`, `block`, `dir`, `network` ...
    #[serde(rename = "type")]
    pub volume_type: String,
    /// `raw`, `qcow2`, `iso` ... where libvirt says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Its size as a guest sees it, in bytes.
    pub capacity: Bytes,
    /// What it takes on the pool, in bytes.
    pub allocation: Bytes,
    /// Where it is on the host.
    pub path: String,
}

/// A volume as a hypervisor lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeRecord {
    /// Its name in the pool.
    pub name: String,
    /// The rest.
    pub facts: VolumeFacts,
}

/// List the volumes of a storage pool.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListVolumes {}
declare!(ListVolumes, "volume.list", Read, Viewer, StoragePool, Vec<Volume>);

/// Show everything known about a volume of a storage pool.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowVolume {
    /// Its name in the pool.
    pub volume: String,
}
declare!(ShowVolume, "volume.info", Read, Viewer, StoragePool, Volume);

/// What the inside needs of a hypervisor to handle volumes.
pub trait VolumePort: Send + Sync {
    /// The volumes of a pool (`virStoragePoolListAllVolumes`).
    fn list(&self, pool: PoolId) -> BoxFuture<'_, Result<Vec<VolumeRecord>, Fault>>;
    /// One volume (`virStorageVolLookupByName`).
    fn read(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<VolumeRecord, Fault>>;
}
