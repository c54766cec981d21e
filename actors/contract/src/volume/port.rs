//! What the inside needs of a hypervisor to handle volumes.

use super::{Landscape, Place, Preallocation, Unused, UsedDisk, VolumeFormat, VolumeRecord};
use crate::{BoxFuture, Bytes, Fault, PoolId, work::Follower};
use std::sync::Arc;

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name, checked.
    pub name: String,
    /// Its size; that of what it is built on when there is none.
    pub capacity: Option<Bytes>,
    /// How it is written; qcow2 always as version 1.1.
    pub format: VolumeFormat,
    /// What of it is taken at once.
    pub preallocation: Preallocation,
    /// The pool and volume it is built on.
    pub backing: Option<(String, String)>,
}

/// A copy to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySpec {
    /// The pool it shall be in, by name; that of the original when there is none.
    pub pool: Option<String>,
    /// Its name, checked. When it is the original's own name in the same pool, the copy takes its place.
    pub to: String,
    /// Its format; that of the original when there is none.
    pub format: Option<VolumeFormat>,
}

/// Contents of a volume that come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSpec {
    /// The name it shall have, checked.
    pub name: String,
    /// Where the first byte goes: 0, or as many as are there.
    pub from: u64,
    /// How many bytes the whole has, if that is known.
    pub size: Option<u64>,
}

/// Where the contents of a volume come from. It is asked from a thread that may wait.
pub trait Source: Send {
    /// The next bytes, or `None` after the last; a fault when whoever sends was cut off.
    fn next(&mut self) -> Option<Result<Vec<u8>, Fault>>;
}

/// Where the contents of a volume go. It is given from a thread that may wait.
pub trait Sink: Send {
    /// Takes the next bytes; `false` when nobody wants more.
    fn put(&mut self, bytes: Vec<u8>) -> bool;
}

/// What the inside needs of a hypervisor to handle volumes. Every method may fail with `unavailable` while the connection is lost,
/// and with `not-found`. What would take a volume from a machine that uses it is refused as `busy`, naming the machines
/// ([`Landscape`] decides), and what takes anything from one consumes the proof that all other hosts were asked too ([`Unused`]).
/// libvirt reports nothing of volumes: whoever changes one reads its pool afterwards.
pub trait VolumePort: Send + Sync {
    /// The volumes of a pool (`virStoragePoolListAllVolumes`).
    fn list(&self, pool: PoolId) -> BoxFuture<'_, Result<Vec<VolumeRecord>, Fault>>;
    /// One volume (`virStorageVolLookupByName`).
    fn read(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<VolumeRecord, Fault>>;
    /// Every volume of every running pool, and what every machine uses. Costs some calls for each: only when somebody asks.
    fn landscape(&self) -> BoxFuture<'_, Result<Landscape, Fault>>;
    /// Where each of these lies, in words that other hosts understand; in their order.
    fn places(&self, paths: Vec<String>) -> BoxFuture<'_, Result<Vec<Place>, Fault>>;
    /// The disks that a definition names. Those in a pool that is not here are told as `POOL/VOLUME`.
    fn named(&self, definition: String) -> BoxFuture<'_, Result<Vec<UsedDisk>, Fault>>;
    /// Makes an empty one (`virStorageVolCreateXML`). `conflict` when the name is taken.
    fn create(&self, pool: PoolId, volume: NewVolume) -> BoxFuture<'_, Result<(), Fault>>;
    /// Changes its size (`virStorageVolResize`); smaller only with `shrink`.
    fn resize(&self, pool: PoolId, name: String, capacity: Bytes, shrink: bool, unused: Unused) -> BoxFuture<'_, Result<(), Fault>>;
    /// Gives it another name. `unsupported` where a pool's volumes are no files of this host.
    fn rename(&self, pool: PoolId, name: String, to: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>>;
    /// Deletes it (`virStorageVolDelete`).
    fn delete(&self, pool: PoolId, name: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>>;
    /// Copies it; may take long. When it fails or is stopped, nothing of the copy is left. A copy that takes the place of its original
    /// needs the proof that this may go, any other the proof that nobody writes to it.
    fn copy(
        &self,
        pool: PoolId,
        name: String,
        copy: CopySpec,
        unused: Unused,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>>;
    /// How many bytes its file or device has (`virStorageVolGetInfoFlags`): what a download brings.
    fn length(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<Bytes, Fault>>;
    /// How many bytes are there of an upload that was cut off, `None` when there is none. `conflict` when a volume has that name.
    fn begun(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<Option<Bytes>, Fault>>;
    /// Brings so many bytes of it from there on (`virStorageVolDownload`).
    fn download(&self, pool: PoolId, name: String, from: u64, length: u64, sink: Box<dyn Sink>) -> BoxFuture<'_, Result<(), Fault>>;
    /// Takes the contents of a new volume (`virStorageVolUpload`). When whoever sends is cut off, what has come stays as unfinished and
    /// can be gone on with; when it is stopped, nothing stays.
    fn upload(
        &self,
        pool: PoolId,
        upload: UploadSpec,
        source: Box<dyn Source>,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>>;
    /// Overwrites its content (`virStorageVolWipe`); may take long, and cannot be stopped.
    fn wipe(&self, pool: PoolId, name: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>>;
}
