//! What may be asked about backups. A backup lies in a pool, so most of it goes there; what changes a machine goes to the machine.

use super::{Backup, Checkpoint};
use crate::{
    Bytes, Effect, Fault, Role, Target,
    command::{Command, Done, Started, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of backup is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WantedKind {
    /// An incremental one if it can be, else a full one; the answer says why.
    #[default]
    Auto,
    /// Everything, whatever there is.
    Full,
    /// What was written since the last one; refused with the reason if that cannot be.
    Incremental,
}

/// Back up a virtual machine to a storage pool of its host and follow it until it was read back. A running one goes on meanwhile, and
/// the backup holds what its disks held at the beginning.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBackup {
    /// The pool it goes to, by name: one whose volumes are files of the host.
    pub pool: String,
    /// Everything, or what was written since the last backup of this machine in that pool.
    #[serde(default)]
    pub kind: WantedKind,
    /// Have the guest agent write everything to the disks first. It stands still for a moment.
    #[serde(default)]
    pub quiesce: bool,
    /// How many bytes a second it may read at most, for example 50MiB.
    #[serde(default)]
    pub limit: Option<Bytes>,
}
declare!(CreateBackup, "backup.create", Change, Admin, Domain, Started);

/// List the backups in a storage pool, oldest first, those of machines that are gone included.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListBackups {
    /// Only those of the machine with this name or UUID.
    pub machine: Option<String>,
}
declare!(ListBackups, "backup.list", Read, Viewer, StoragePool, Vec<Backup>);

/// List the backups of a virtual machine in all pools of its host, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListDomainBackups {}
declare!(ListDomainBackups, "domain.backups", Read, Viewer, Domain, Vec<Backup>);

/// Make a new virtual machine from a backup and follow it. It gets a new UUID and new MACs, and stays off; the backup is read through
/// first, and refused if it is not what was written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreBackup {
    /// The name of the backup.
    pub backup: String,
    /// The name of the new machine.
    pub to: String,
    /// The pool its disks go to, by name; the backup's own when not given.
    #[serde(default)]
    pub into: Option<String>,
}
declare!(RestoreBackup, "backup.restore", Change, Admin, StoragePool, Started);

/// Take a virtual machine that is off back to what it was in a backup: its disks and its definition. It goes on with new volumes when
/// they are whole; those it had stay as they are, until you delete them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreDomain {
    /// The name of the backup.
    pub backup: String,
    /// The pool it is in, by name; looked for in all pools of the host when not given.
    #[serde(default)]
    pub pool: Option<String>,
    /// The pool the new disks go to, by name; the backup's own when not given.
    #[serde(default)]
    pub into: Option<String>,
}
declare!(RestoreDomain, "domain.restore", Destroy, Admin, Domain, Started);

/// Delete a backup. Refused while later ones build on it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteBackup {
    /// The name of the backup.
    pub backup: String,
    /// Delete those that build on it as well.
    #[serde(default)]
    pub with_later: bool,
}
declare!(DeleteBackup, "backup.delete", Destroy, Admin, StoragePool, Done);

/// Read a backup and all it builds on through, and follow it: every file is compared with what was written, and checked as an image.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyBackup {
    /// The name of the backup.
    pub backup: String,
}
declare!(VerifyBackup, "backup.verify", Change, Admin, StoragePool, Started);

/// List the checkpoints of a virtual machine, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListCheckpoints {}
declare!(ListCheckpoints, "checkpoint.list", Read, Viewer, Domain, Vec<Checkpoint>);

/// Delete a checkpoint, or all. If it is that of the last backup, the next one is a full one; backups stay as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteCheckpoint {
    /// The name of the checkpoint.
    pub checkpoint: Option<String>,
    /// All of them.
    pub all: bool,
}
declare!(DeleteCheckpoint, "checkpoint.delete", Change, Admin, Domain, Done);

/// The slowest a backup may be told to be.
const SLOWEST: Bytes = Bytes(64 << 10);

impl CreateBackup {
    /// Refuses what can be seen to be wrong before anybody is asked.
    pub fn check(&self, running: bool) -> Result<(), Fault> {
        if self.quiesce && !running {
            return Err(Fault::invalid("it is off, so its disks stand still already; leave quiesce away"));
        }
        match self.limit {
            Some(limit) if limit < SLOWEST => {
                Err(Fault::invalid(format!("a limit of {limit} a second never ends; give {SLOWEST} or more")))
            }
            _ => Ok(()),
        }
    }
}

impl DeleteCheckpoint {
    /// The name, `None` for all of them.
    pub fn which(self) -> Result<Option<String>, Fault> {
        match (self.checkpoint, self.all) {
            (Some(name), false) => Ok(Some(name)),
            (None, true) => Ok(None),
            _ => Err(Fault::invalid("either name a checkpoint or say all")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
        let ask = |quiesce, limit| CreateBackup { pool: "p".into(), kind: WantedKind::Auto, quiesce, limit };
        assert!(ask(true, None).check(true).is_ok() && ask(true, None).check(false).is_err());
        assert!(ask(false, Some(Bytes(0))).check(true).is_err() && ask(false, Some(Bytes::MIB)).check(false).is_ok());
        let delete = |name: Option<&str>, all| DeleteCheckpoint { checkpoint: name.map(str::to_owned), all }.which();
        assert!(delete(None, false).is_err() && delete(Some("a"), true).is_err());
        assert_eq!((delete(Some("a"), false), delete(None, true)), (Ok(Some("a".to_owned())), Ok(None)));
    }
}
