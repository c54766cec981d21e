//! What the inside needs of a hypervisor to back machines up and bring them back.

use super::{Archive, Checkpoint, Manifest};
use crate::{BoxFuture, Bytes, DomainId, Fault, PoolId, Timestamp, volume::Unused, work::Follower};
use std::sync::Arc;

/// A backup to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupOrder {
    /// Where to.
    pub pool: PoolId,
    /// When it is asked for.
    pub at: Timestamp,
    /// The backup it shall build on, or why there is none.
    pub base: Result<Manifest, String>,
    /// Whether a full one is no answer when the incremental one cannot be made.
    pub strict: bool,
    /// See [`super::CreateBackup::quiesce`].
    pub quiesce: bool,
    /// See [`super::CreateBackup::limit`].
    pub limit: Option<Bytes>,
}

/// As what a backup comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreAs {
    /// As a new machine of that name.
    New(String),
    /// As the machine it is of, which is off.
    InPlace(DomainId),
}

/// A backup to be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOrder {
    /// Where it is.
    pub pool: PoolId,
    /// It and all it builds on, oldest first.
    pub chain: Vec<Manifest>,
    /// The pool for the new disks, by name; the backup's own when there is none.
    pub into: Option<String>,
    /// As what.
    pub restore_as: RestoreAs,
    /// When it is asked for: names of volumes are made of it.
    pub now: Timestamp,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The machine.
    pub id: DomainId,
    /// The volumes that were made, as POOL/VOLUME.
    pub made: Vec<String>,
    /// What the machine had before and has no more.
    pub before: Vec<String>,
}

/// What the inside needs of a hypervisor to back machines up and bring them back. What is begun is made whole or nothing of it stays; if
/// this process dies meanwhile, [`BackupPort::abandon`] clears up afterwards.
pub trait BackupPort: Send + Sync {
    /// Every backup in a pool. Empty where its volumes are no files of this host.
    fn archive(&self, pool: PoolId) -> BoxFuture<'_, Result<Archive, Fault>>;
    /// Makes one (`virDomainBackupBegin` while the machine runs), and reads it back.
    fn take(&self, id: DomainId, order: BackupOrder, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Manifest, Fault>>;
    /// Reads the files of these backups through: `wrong-state` when one is not what was written.
    fn verify(&self, pool: PoolId, chain: Vec<Manifest>, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>>;
    /// Brings one back. Nothing that is there is written over. What its definition names beside the disks that come back, and the machine
    /// does not have now, needs its proof.
    fn restore(&self, order: RestoreOrder, disks: Vec<Unused>, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Restored, Fault>>;
    /// Deletes the manifest, so that it is no backup any more, and then its files. Each file that is there needs its proof.
    fn remove(&self, pool: PoolId, manifest: Manifest, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>>;
    /// Gives up what an earlier life of this process had begun for that machine; says what it cleared up.
    fn abandon(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<String>, Fault>>;
    /// The checkpoints of a machine (`virDomainListAllCheckpoints`), oldest first.
    fn checkpoints(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Checkpoint>, Fault>>;
    /// Deletes one (`virDomainCheckpointDelete`).
    fn delete_checkpoint(&self, id: DomainId, name: String) -> BoxFuture<'_, Result<(), Fault>>;
}
