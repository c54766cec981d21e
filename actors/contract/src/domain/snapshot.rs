//! Snapshots of a machine, and its memory saved to disk.
//!
//! ```text
//!   internal: in the qcow2 disks themselves; of a running machine with its memory      --revert--> as it was, running again
//!   external: a new file on top of each disk; the old one stands still from then on
//!
//!   running --domain.save--> shutoff (saved) --domain.start--> running, where it was
//!                                |  discard-saved
//!                                +--> shutoff
//! ```
//! Going back to a snapshot may start the guest, so it takes the right to run like a start does, and it loses what the machine
//! is now: whoever asks says whether to keep that in a snapshot first.

use super::check_name;
use crate::{
    BoxFuture, DomainId, Effect, Fault, FaultKind, RightToRun, Role, Target, Timestamp,
    command::{Command, Done, Started, declare},
    work::Follower,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One snapshot of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Its name, unique for the machine.
    pub name: String,
    /// The snapshot it was made after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What the machine was doing, in libvirt's words; `disk-snapshot` when only disks were taken.
    pub state: String,
    /// Whether what the machine is now follows from it.
    pub current: bool,
    /// Whether it holds the memory of the guest.
    pub memory: bool,
    /// Whether the disks go on in new files (external), rather than the snapshot being inside them (internal).
    pub external: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The disks in it, by their name in the machine, for example `vda`.
    pub disks: Vec<String>,
    /// What people say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// List the snapshots of a virtual machine, oldest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListSnapshots {}
declare!(ListSnapshots, "snapshot.list", Read, Viewer, Domain, Vec<Snapshot>);

/// Take a snapshot of a virtual machine: of its disks and, while it runs, of its memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CreateSnapshot {
    /// Its name: letters, digits and . _ + - (at most 64). Without one it is named after the time.
    pub name: Option<String>,
    /// What to remember about it.
    pub description: Option<String>,
    /// Let the disks go on in new files instead of keeping the snapshot inside them. Quick, works for raw disks too, and takes
    /// the disks alone.
    pub external: bool,
    /// Have the guest agent write everything to the disks first. Only for external snapshots of a running machine.
    pub quiesce: bool,
}
declare!(CreateSnapshot, "snapshot.create", Change, Admin, Domain, Started);

/// Go back to a snapshot. What the machine is now is lost unless it is kept in a snapshot first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertSnapshot {
    /// The name of the snapshot.
    pub snapshot: String,
    /// Take a snapshot of this name first, so that nothing is lost.
    #[serde(default)]
    pub keep_as: Option<String>,
    /// Lose what the machine is now.
    #[serde(default)]
    pub discard: bool,
}
declare!(RevertSnapshot, "snapshot.revert", Destroy, Admin, Domain, Started);

/// Delete a snapshot. The machine and its other snapshots stay as they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteSnapshot {
    /// The name of the snapshot.
    pub snapshot: String,
    /// Delete all that were made after it as well.
    #[serde(default)]
    pub children: bool,
}
declare!(DeleteSnapshot, "snapshot.delete", Destroy, Admin, Domain, Started);

/// Save the memory of a running virtual machine to disk and stop it; its next start goes on from there (libvirt's managed save).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SaveDomain {}
declare!(SaveDomain, "domain.save", Change, Admin, Domain, Started);

/// Throw the saved memory of a virtual machine away: its next start is a cold one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiscardSaved {}
declare!(DiscardSaved, "domain.discard-saved", Destroy, Admin, Domain, Done);

/// What a snapshot is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// Its name.
    pub name: String,
    /// What people say about it.
    pub description: Option<String>,
    /// See [`CreateSnapshot::external`].
    pub external: bool,
    /// See [`CreateSnapshot::quiesce`].
    pub quiesce: bool,
}

impl CreateSnapshot {
    /// The checked specification; `now` names a snapshot that was given no name.
    pub fn spec(self, now: Timestamp, running: bool) -> Result<SnapshotSpec, Fault> {
        let name = match self.name {
            Some(name) => name,
            // 2026-01-31T23:59:59.000Z becomes 2026-01-31-235959.
            None => now.to_string().chars().take(19).filter(|c| *c != ':').map(|c| if c == 'T' { '-' } else { c }).collect(),
        };
        check_name(&name)?;
        if let Some(text) = &self.description {
            super::check_note(text)?;
        }
        if self.quiesce && !(self.external && running) {
            return Err(Fault::invalid(
                "quiesce is for external snapshots of a running machine: an internal one holds its memory and needs none",
            ));
        }
        Ok(SnapshotSpec { name, description: self.description.filter(|t| !t.is_empty()), external: self.external, quiesce: self.quiesce })
    }
}

impl RevertSnapshot {
    /// Refuses to lose what the machine is now unless that was said.
    pub fn check(&self) -> Result<(), Fault> {
        match (&self.keep_as, self.discard) {
            (Some(name), false) => check_name(name),
            (None, true) => Ok(()),
            (Some(_), true) => Err(Fault::invalid("either keep what the machine is now (keep-as) or lose it (discard), not both")),
            (None, false) => Err(Fault::new(
                FaultKind::InvalidRequest,
                "what the machine is now would be lost; say keep-as NAME to take a snapshot of it first, or discard to lose it",
            )),
        }
    }
}

/// What the inside needs of a hypervisor to handle snapshots.
pub trait SnapshotPort: Send + Sync {
    /// All of a machine (`virDomainListAllSnapshots`), oldest first.
    fn list(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Snapshot>, Fault>>;
    /// Takes one (`virDomainSnapshotCreateXML`). `conflict` when the name is taken.
    fn create(&self, id: DomainId, spec: SnapshotSpec, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>>;
    /// Goes back to one (`virDomainRevertToSnapshot`). Consumes the right to run, because the guest runs afterwards if it did then.
    fn revert(&self, right: RightToRun, name: String) -> BoxFuture<'_, Result<(), Fault>>;
    /// Deletes one (`virDomainSnapshotDelete`), with all that were made after it if `children`.
    fn delete(&self, id: DomainId, name: String, children: bool) -> BoxFuture<'_, Result<(), Fault>>;
    /// Saves the memory and stops the guest (`virDomainManagedSave`).
    fn save(&self, id: DomainId, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>>;
    /// Whether memory of it is saved (`virDomainHasManagedSaveImage`).
    fn is_saved(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>>;
    /// Throws saved memory away (`virDomainManagedSaveRemove`); `wrong-state` when there is none.
    fn discard_saved(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_without_a_name_is_named_after_the_time() {
        let now: Timestamp = "2026-01-31T23:59:59.000Z".parse().unwrap();
        assert_eq!(CreateSnapshot::default().spec(now, true).unwrap().name, "2026-01-31-235959");
        for name in ["", "a/b", "..", "a b", &"x".repeat(300), "nàme"] {
            let asked = CreateSnapshot { name: Some(name.to_owned()), ..CreateSnapshot::default() };
            assert_eq!(asked.spec(now, true).unwrap_err().kind, FaultKind::InvalidRequest, "{name:?}");
        }
    }

    #[test]
    fn only_disks_of_a_running_guest_are_quiesced() {
        let asked = CreateSnapshot { quiesce: true, external: true, ..CreateSnapshot::default() };
        assert!(asked.clone().spec(Timestamp(0), true).is_ok());
        assert!(asked.clone().spec(Timestamp(0), false).is_err());
        assert!(CreateSnapshot { external: false, ..asked }.spec(Timestamp(0), true).is_err());
    }

    #[test]
    fn nothing_is_lost_by_going_back_unless_it_was_said() {
        let back = |keep_as: Option<&str>, discard| RevertSnapshot { snapshot: "s".into(), keep_as: keep_as.map(str::to_owned), discard };
        assert!(back(None, false).check().unwrap_err().message.contains("would be lost"));
        assert!(back(Some("before"), true).check().is_err() && back(Some("a b"), false).check().is_err());
        assert!(back(Some("before"), false).check().is_ok() && back(None, true).check().is_ok());
    }
}
