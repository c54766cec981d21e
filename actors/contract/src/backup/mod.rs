//! Backups of machines, and the checkpoints from which the next one is made.
//!
//! ```text
//!   running: full --checkpoint--> incremental --checkpoint--> incremental      each holds what was written since the one before
//!   off:     full                                                              nobody can say what will have been written since
//!
//!   NAME.backup.json.archipel-part --files written, read back, named--> NAME.backup.json
//!        |   fails, is cancelled, its agent died: files, checkpoint and this go; there is no backup without the last name
//! ```
//! A backup is ordinary files in a pool: one qcow2 image for each disk and a manifest that says what they are. Whoever has them needs
//! no Archipel to read them. The pool is the truth about backups: they outlive their machine and its host.

mod ask;
mod chain;
mod port;

pub use ask::*;
pub use chain::{Archive, Layers, disk_kind, layers, outlived};
pub use port::{BackupOrder, BackupPort, RestoreAs, RestoreOrder, Restored};

use crate::{
    Bytes, DomainId, Epoch, Fault, FaultKind, HypervisorName, Seq, Timestamp,
    volume::{VolumeFormat, check_volume_name},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the manifests written here. Later ones may mean something else and are not guessed at.
pub const MANIFEST_VERSION: u32 = 1;
/// How the name of a manifest ends.
pub const MANIFEST: &str = ".backup.json";
/// The largest manifest: a definition of libvirt has at most 4 MiB.
pub const MANIFEST_BYTES: u64 = 8 << 20;

/// What a backup, or one disk in it, holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// Everything.
    Full,
    /// What was written since the one before.
    Incremental,
}

impl BackupKind {
    /// The word in the names of files.
    pub fn short(self) -> &'static str {
        match self {
            BackupKind::Full => "full",
            BackupKind::Incremental => "inc",
        }
    }
}

/// One disk in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupDisk {
    /// The disk's name in the machine, for example `vda`.
    pub device: String,
    /// Its file, beside the manifest.
    pub file: String,
    /// What the file holds.
    pub kind: BackupKind,
    /// The size of the disk as the guest sees it.
    pub capacity: Bytes,
    /// How the disk itself was written; its file here is always qcow2.
    pub format: VolumeFormat,
    /// Where the disk was on its host.
    pub source: String,
    /// How many bytes the file has.
    pub length: Bytes,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
}

/// What a backup is, as it lies beside its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// See [`MANIFEST_VERSION`].
    #[serde(rename = "archipel_backup")]
    pub version: u32,
    /// The name of the backup: machine, time, and kind.
    pub name: String,
    /// The name the machine had.
    pub machine: String,
    /// Its UUID.
    pub uuid: DomainId,
    /// The hypervisor it was on.
    pub host: HypervisorName,
    /// The moment whose content it holds.
    pub at: Timestamp,
    /// What it holds.
    pub kind: BackupKind,
    /// Why it is a full one, or what it builds on, for people.
    pub because: String,
    /// The backup that an incremental one builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The checkpoint from which the next one can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Whether the machine ran.
    pub running: bool,
    /// Whether the guest agent had written everything to the disks.
    pub quiesced: bool,
    /// Its disks.
    pub disks: Vec<BackupDisk>,
    /// What is not in it, and why.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// libvirt's definition of the machine.
    pub definition: String,
}

impl Manifest {
    /// Reads one that was found under this name. What is in it may have been written by anybody.
    pub fn read(name: &str, text: &[u8]) -> Result<Manifest, String> {
        let version = serde_json::from_slice::<serde_json::Value>(text).ok().and_then(|v| v["archipel_backup"].as_u64());
        match version {
            None => return Err("this is no manifest of a backup".to_owned()),
            Some(version) if version != u64::from(MANIFEST_VERSION) => {
                return Err(format!("its manifest is of version {version}, and this Archipel reads {MANIFEST_VERSION}"));
            }
            Some(_) => {}
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(|e| format!("its manifest cannot be read: {e}"))?;
        if manifest.name != name {
            return Err(format!("its manifest is of another backup, {:?}", manifest.name.chars().take(80).collect::<String>()));
        }
        // A file with a path in its name could be any file of the host, and one with a name of its own the disk of a machine: both would be
        // deleted with the backup.
        let own = |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')) && file.ends_with(".qcow2");
        match manifest.disks.iter().find(|d| check_volume_name(&d.file).is_err() || !own(&d.file)) {
            Some(disk) => Err(format!("its manifest names a file for {} that no backup has", disk.device.escape_debug())),
            None => Ok(manifest),
        }
    }

    /// What all its files take.
    pub fn size(&self) -> Bytes {
        Bytes(self.disks.iter().map(|d| d.length.0).fold(0, u64::saturating_add))
    }
}

/// The name of a backup. A machine that was named elsewhere may be called what no file can be.
pub fn backup_name(machine: &str, at: Timestamp, kind: BackupKind) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '_' };
    let stem: String = machine.chars().take(80).map(fits).collect();
    let stem = if stem.starts_with(|c: char| c.is_ascii_alphanumeric()) { stem } else { format!("vm{stem}") };
    // 2026-01-31T23:59:59.000Z becomes 20260131T235959Z.
    let time: String = at.to_string().chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{stem}.{time}Z.{}", kind.short())
}

/// A backup as people see it: a row of its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backup {
    /// `POOL-UUID/NAME`, unique in the cell.
    pub id: String,
    /// The bare JID of its pool.
    pub jid: String,
    /// Its name in the pool.
    pub name: String,
    /// `whole`, or `broken` when something it needs is missing or cannot be read.
    pub state: String,
    /// Why it is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// The hypervisor its pool is on.
    pub host: HypervisorName,
    /// The epoch of its pool.
    pub epoch: Epoch,
    /// The number of its pool's last event.
    pub seq: Seq,
    /// The name of its pool.
    pub pool: String,
    /// The machine's name when it was made.
    pub machine: String,
    /// The machine's UUID; none when its manifest cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<DomainId>,
    /// What it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<BackupKind>,
    /// The moment whose content it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What its own files take.
    pub size: Bytes,
    /// The backup it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Why it is a full one, or what it builds on.
    pub because: String,
    /// Whether the guest agent had written everything to the disks.
    pub quiesced: bool,
    /// The disks in it.
    pub disks: Vec<String>,
    /// What is not in it, and why.
    pub left_out: Vec<String>,
}

/// A point in time since which QEMU notes what is written, so that a backup of just that can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    /// Its name, unique for the machine. That of a backup, if one made it.
    pub name: String,
    /// The one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// The disks it is of.
    pub disks: Vec<String>,
    /// What people say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Refuses what would make checkpoints untrue: QEMU does not note that the disks are others then.
pub fn check_no_checkpoints(checkpoints: &[Checkpoint], doing: &str) -> Result<(), Fault> {
    let names: Vec<&str> = checkpoints.iter().map(|c| c.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Fault::new(
        FaultKind::WrongState,
        format!(
            "it has checkpoints of backups ({}), and {doing} would make them untrue without anybody noticing; delete them first (checkpoint delete), the next backup is a full one then",
            names.join(", ")
        ),
    ))
}

/// What may be done with a machine while it runs and is backed up: whatever does not touch its disks or take it elsewhere.
pub fn may_while_running(command: &str) -> bool {
    let noun = command.split('.').next().unwrap_or_default();
    let elsewhere = matches!(
        command,
        "domain.migrate" | "domain.park" | "domain.undefine" | "domain.save" | "domain.restore" | "domain.edit-xml" | "domain.revert"
    );
    !(matches!(noun, "snapshot" | "backup" | "checkpoint") || command.contains("disk") || elsewhere)
}

/// The same while it is off: its disks are being read or written, so it does not start either.
pub fn may_while_off(command: &str) -> bool {
    matches!(command, "domain.note" | "domain.autostart")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_backup_is_a_file_name_whatever_the_machine_is_called() {
        let at: Timestamp = "2026-11-23T04:15:00.123Z".parse().unwrap();
        assert_eq!(backup_name("web1", at, BackupKind::Full), "web1.20261123T041500Z.full");
        assert_eq!(backup_name("web1", at, BackupKind::Incremental), "web1.20261123T041500Z.inc");
        for odd in ["", "a/b", "../x", "wéb 1", ".hidden", &"x".repeat(300), "-rf"] {
            let name = backup_name(odd, at, BackupKind::Full);
            assert_eq!(check_volume_name(&format!("{name}.vda.qcow2")), Ok(()), "{odd:?} became {name:?}");
        }
    }

    #[test]
    fn a_backup_never_keeps_a_guest_from_being_stopped() {
        for command in ["domain.shutdown", "domain.force-off", "domain.pause", "domain.resume", "domain.reboot", "domain.set-memory"] {
            assert!(may_while_running(command), "{command}");
        }
        for command in ["domain.migrate", "domain.undefine", "snapshot.revert", "backup.create", "domain.detach-disk", "domain.commit-disk"]
        {
            assert!(!may_while_running(command), "{command}");
        }
        for command in ["domain.start", "domain.undefine", "domain.migrate", "domain.attach-disk", "backup.create", "domain.rename"] {
            assert!(!may_while_off(command), "{command}");
        }
        assert!(may_while_off("domain.note"));
    }

    #[test]
    fn a_manifest_that_names_other_files_is_not_read() {
        let manifest = super::chain::tests::full("web1.1.full", 1);
        let text = |m: &Manifest| serde_json::to_vec(m).unwrap();
        assert_eq!(Manifest::read("web1.1.full", &text(&manifest)).as_ref(), Ok(&manifest));
        assert!(Manifest::read("web1.2.full", &text(&manifest)).unwrap_err().contains("another backup"));
        for file in ["../../etc/shadow", "/etc/shadow", "", "a b", "x.archipel-part", "web1.raw", "web2.qcow2", "web1.1.fullvda.qcow2"] {
            let mut bad = manifest.clone();
            bad.disks[0].file = file.to_owned();
            assert!(Manifest::read("web1.1.full", &text(&bad)).is_err(), "{file:?}");
        }
        let later = Manifest { version: 2, ..manifest };
        assert!(Manifest::read("web1.1.full", &text(&later)).unwrap_err().contains("version 2"));
        assert!(Manifest::read("x", b"{}").is_err() && Manifest::read("x", b"").is_err() && Manifest::read("x", b"[1]").is_err());
    }
}
