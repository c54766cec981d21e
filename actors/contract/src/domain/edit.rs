//! Changes of a machine's definition: what may be asked, checked before anything is touched, and how it is answered. Pure.
//!
//! ```text
//!   command --check--> Edit --port--> definition (next boot) --> running guest (now) --> Applied
//!                                         ^                          |
//!                                         +---- put back, if libvirt refuses the running guest's part
//! ```
//! Each command changes the one thing it names. What it does not name stays as it is, also what Archipel does not know.

use super::{
    clone::{Likened, Likeness},
    device::*,
    disk::*,
    filesystem::*,
    machine::*,
    nic::*,
};
use crate::{
    BoxFuture, Bytes, DomainId, Fault, Verdict,
    command::Command,
    volume::{Need, Unused},
    work::Follower,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// When a change shall apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Only to the running guest; gone when it is off.
    Now,
    /// Only to the definition: the running guest does not notice.
    NextBoot,
    /// Wherever possible: the definition, and the running guest if it can be changed while it runs.
    #[default]
    Both,
}

/// When a change does apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Applies {
    /// To the running guest only.
    Now,
    /// At the next boot.
    NextBoot,
    /// To the running guest, and at the next boot too.
    Both,
    /// It was so already.
    Nothing,
}

/// The answer of a command that changed a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edited {
    /// What was done. Lower case, no full stop.
    pub message: String,
    /// When it applies.
    pub applies: Applies,
    /// The device it is about, as later commands name it: `vda` for a disk, a MAC for a card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What a port did with an edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// When it applies.
    pub applies: Applies,
    /// The device it was about.
    pub device: Option<String>,
    /// Why the running guest was left alone, or what it still has to do; for people.
    pub remark: Option<String>,
    /// The definition before, without secrets.
    pub before: String,
    /// The definition afterwards, without secrets. The same text when only the running guest was changed.
    pub after: String,
}

/// One checked change of a definition.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Edit {
    Vcpus(SetVcpus),
    Memory(SetMemory),
    Cpu(SetCpu),
    Boot(SetBoot),
    Firmware(SetFirmware),
    Lifecycle(SetLifecycle),
    AttachDisk(AttachDisk),
    DetachDisk(DetachDisk),
    SetDisk(SetDisk),
    Media(ChangeMedia),
    AttachNic(AttachNic),
    DetachNic(DetachNic),
    SetNic(SetNic),
    Graphics(SetGraphics),
    Password(SetPassword),
    AttachHostDevice(AttachHostDevice),
    DetachHostDevice(DetachHostDevice),
    AttachFilesystem(AttachFilesystem),
    DetachFilesystem(DetachFilesystem),
    AddDevice(AddDevice),
    RemoveDevice(RemoveDevice),
    Template(bool),
}

impl Edit {
    /// The volume that it brings, as POOL/VOLUME, and what for.
    pub fn brings(&self) -> Option<(&str, Need)> {
        match self {
            Edit::AttachDisk(ask) => Some((&ask.volume, ask.need())),
            Edit::Media(ask) => ask.volume.as_deref().map(|volume| (volume, Need::Shared)),
            _ => None,
        }
    }
}

impl Edit {
    /// When it is made, if that was asked: what is only there when a guest boots leaves the running one alone.
    pub fn when(&self, asked: When) -> When {
        match self {
            Edit::AttachFilesystem(_) | Edit::DetachFilesystem(_) => When::NextBoot,
            _ => asked,
        }
    }
}

/// A command that changes a definition: what it changes, and when.
pub trait Editing: Command<Reply = Edited> {
    /// When it shall apply.
    fn when(&self) -> When;
    /// The checked change, or the first thing that is wrong with it.
    fn edit(self) -> Result<Edit, Fault>;
}

macro_rules! editing {
    ($type:ident, $name:literal, $effect:ident, $edit:ident) => {
        declare!($type, $name, $effect, Admin, Domain, Edited);
        impl Editing for $type {
            fn when(&self) -> When {
                self.when
            }
            fn edit(self) -> Result<Edit, Fault> {
                self.check()?;
                Ok(Edit::$edit(self))
            }
        }
    };
}
pub(crate) use editing;

// ---------------------------------------------------------------- checks

/// Refuses a command that names nothing to change.
pub(crate) fn something(named: bool) -> Result<(), Fault> {
    if named { Ok(()) } else { Err(Fault::invalid("nothing was named that shall change; name at least one option")) }
}

/// Words that go into a definition as they are: letters, digits and a few signs.
pub(crate) fn check_word(what: &str, word: &str, more: &str) -> Result<(), Fault> {
    let fits = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    if !word.is_empty() && word.len() <= 128 && word.chars().all(fits) {
        return Ok(());
    }
    let shown: String = word.chars().take(80).collect();
    Err(Fault::invalid(format!("{shown:?} cannot be {what}: use letters, digits and {more}")))
}

/// Refuses to change now what a guest only sees when it boots.
pub(crate) fn next_boot_only(when: When, what: &str) -> Result<(), Fault> {
    if when == When::Now {
        return Err(Fault::invalid(format!("{what} can only change at the next boot; ask with --when next-boot")));
    }
    Ok(())
}

/// Whether an edit asked for at this time can be made on a machine in this state, apart from what it is about.
pub fn may_apply(when: When, active: bool, persistent: bool) -> Verdict {
    match when {
        When::Now if !active => Verdict::refused("is off, so nothing can change now; ask with --when next-boot"),
        When::NextBoot if !persistent => Verdict::refused("has no definition that stays, so there is no next boot; ask with --when now"),
        _ => Verdict::Allowed,
    }
}

// ---------------------------------------------------------------- the port

/// What the inside needs of a hypervisor to change the definition and the devices of a machine, off or running.
///
/// An edit is made whole or not at all, with the one exception that `remark` tells of: a guest may take its time to let go of a device.
pub trait DefinitionPort: Send + Sync {
    /// Its devices: those of the running guest and those of its definition, as one list.
    fn devices(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Device>, Fault>>;
    /// Makes one change, when asked. `wrong-state` when nothing can change at that time; `conflict` when what is asked for is taken.
    /// What [`Edit::brings`] needs its proof.
    fn edit(&self, id: DomainId, edit: Edit, when: When, disk: Option<Unused>) -> BoxFuture<'_, Result<Applied, Fault>>;
    /// Puts another definition in place of the present one, after libvirt's own schema has passed it. Name and UUID must be the same.
    /// Secrets that a definition is shown without are taken over from the present one. Each disk that the present one does not name
    /// needs its proof.
    fn replace(&self, id: DomainId, xml: String, disks: Vec<Unused>) -> BoxFuture<'_, Result<Applied, Fault>>;
    /// Defines a new machine that is like this one: with those disks, with a UUID, MACs and everything else that may be there once of its
    /// own, and without what belongs to the original alone. `conflict` when the name is taken.
    fn liken(&self, id: DomainId, likeness: Likeness) -> BoxFuture<'_, Result<Likened, Fault>>;
    /// The MACs that a definition names, in lower case.
    fn macs(&self, definition: String) -> BoxFuture<'_, Result<Vec<String>, Fault>>;
    /// The name of the machine on this host that has a card with that address, if there is one besides `except`.
    fn owner_of_mac(&self, mac: String, except: Option<DomainId>) -> BoxFuture<'_, Result<Option<String>, Fault>>;
    /// Makes a disk larger; a running guest sees it at once. Needs the proof that no other machine runs with it.
    fn resize_disk(&self, id: DomainId, disk: String, size: Bytes, unused: Unused) -> BoxFuture<'_, Result<(), Fault>>;
    /// Copies a disk of a running machine to a volume that exists, and lets it go on with the copy. Answers what was done.
    fn copy_disk(&self, id: DomainId, copy: CopyDisk, target: Unused, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<String, Fault>>;
    /// Merges the newest layer of a running machine's disk into the one below, which needs the proof that nobody else has it and nothing
    /// else is built on it. Answers what was done.
    fn commit_disk(&self, id: DomainId, disk: String, below: Unused, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<String, Fault>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_applies_depends_on_what_there_is() {
        assert_eq!(may_apply(When::Both, false, true), Verdict::Allowed);
        assert_eq!(may_apply(When::Both, true, false), Verdict::Allowed);
        assert!(matches!(may_apply(When::Now, false, true), Verdict::Refused(why) if why.contains("is off")));
        assert!(matches!(may_apply(When::NextBoot, true, false), Verdict::Refused(why) if why.contains("no next boot")));
    }
}
