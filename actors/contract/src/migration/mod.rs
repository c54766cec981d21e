//! Moving a virtual machine to another host while it runs, or while it is off.
//!
//! ```text
//!   A: passport --> B: obstacles, reserve --> A: depart (the authority knows it moves) --> libvirt moves it
//!        --> B: claims (epoch + 1) --> A: releases what is left
//! ```
//! The saga that drives this is a pure machine of the actors; here is what it talks about: what a machine needs
//! ([`Passport`]), what stands in its way ([`Obstacle`]), how it shall travel ([`Way`]), and how it stands with one libvirt
//! ([`Standing`]), which is always read freshly: what is not known starts nothing.

mod ask;
mod node;
mod port;

pub use ask::*;
pub use node::*;
pub use port::MigrationPort;

use crate::{Bytes, DomainId, HypervisorName, Millis, domain::DomainState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How the two libvirts talk, and how the memory travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// libvirt to libvirt as their addresses say, memory straight from QEMU to QEMU.
    #[default]
    Direct,
    /// The same with the memory encrypted by QEMU (`VIR_MIGRATE_TLS`).
    Tls,
    /// The memory through the connection of the two libvirts (`VIR_MIGRATE_TUNNELLED`).
    Tunnelled,
}

/// How a machine shall travel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Way {
    /// How the libvirts talk.
    pub transport: Transport,
    /// Copy its writable disks to pools of the same path over there.
    pub copy_storage: bool,
    /// Slow the guest down when its memory changes faster than it travels (`VIR_MIGRATE_AUTO_CONVERGE`).
    pub auto_converge: bool,
    /// The most it may send, in MiB a second.
    pub bandwidth_mib: Option<u32>,
    /// Over how many connections at once.
    pub parallel: Option<u32>,
    /// Allow the switch to post-copy: faster, but a break of the network then may cost the guest.
    pub post_copy: bool,
    /// Believe that its disks are shared although libvirt cannot tell (`VIR_MIGRATE_UNSAFE`).
    pub trust_storage: bool,
}

/// One disk of a machine, as far as moving is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskNeed {
    /// Its name for the guest, for example `vda`.
    pub device: String,
    /// The file or block device, or what else names its source.
    pub source: String,
    /// `file`, `block`, `network`, `volume`.
    pub kind: String,
    /// Only read, or shared among guests: it is never copied.
    pub read_only: bool,
    /// How large it is for the guest, where that can be read.
    pub capacity: Option<Bytes>,
}

/// Everything a machine needs of a host that shall receive it. Made by the host it is on, read by the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passport {
    /// The machine.
    pub domain: DomainId,
    /// Its name.
    pub name: String,
    /// The host it is on.
    pub from: HypervisorName,
    /// What it is doing.
    pub state: DomainState,
    /// Whether its definition stays when it is off.
    pub persistent: bool,
    /// Whether it starts with its host.
    pub autostart: bool,
    /// Memory.
    pub memory: Bytes,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// `kvm`, `qemu`, `test` ...
    pub virtualization: String,
    /// `x86_64` ...
    pub arch: String,
    /// The machine type, for example `pc-q35-7.2`.
    pub machine: String,
    /// The CPU as libvirt's XML, if it has one that both sides must agree on.
    pub cpu: Option<String>,
    /// Its disks.
    pub disks: Vec<DiskNeed>,
    /// Virtual networks its cards are on, by name.
    pub networks: Vec<String>,
    /// Bridges of the host its cards are on.
    pub bridges: Vec<String>,
    /// Devices of the host it holds, for people: they cannot travel.
    pub devices: Vec<String>,
    /// How many snapshots libvirt keeps of it.
    pub snapshots: u32,
    /// The version of libvirt, as a number (9.0.0 is 9000000).
    pub libvirt: u64,
    /// The version of QEMU, as a number.
    pub hypervisor: u64,
    /// The definition to be kept, with secrets, so that it can be defined elsewhere when it is off.
    pub definition: String,
}

/// What kind of thing stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObstacleKind {
    /// It is there already, or the target is the host itself.
    Itself,
    /// The state of the machine.
    State,
    /// Another machine has that name there.
    Name,
    /// A machine with that UUID is there.
    Duplicate,
    /// The architecture or kind of virtualization.
    Virtualization,
    /// The CPU.
    Cpu,
    /// The machine type.
    Machine,
    /// The memory.
    Memory,
    /// A disk or its pool.
    Disk,
    /// A network or bridge.
    Network,
    /// A device of the host.
    Device,
    /// Snapshots that cannot travel.
    Snapshot,
    /// A version.
    Version,
    /// How the two libvirts reach each other.
    Transport,
    /// Who asks may not.
    Rights,
    /// The target is being emptied, or has too many moves at once.
    Host,
}

/// One thing that stands in the way; all of them are told at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Obstacle {
    /// What kind of thing.
    pub kind: ObstacleKind,
    /// For people: what it is and what to do about it. Lower case, no full stop.
    pub message: String,
}

impl Obstacle {
    /// An obstacle with its words.
    pub fn new(kind: ObstacleKind, message: impl Into<String>) -> Obstacle {
        Obstacle { kind, message: message.into() }
    }
}

/// How much a host has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Room {
    /// Memory free for guests now, in bytes.
    pub memory_free: Bytes,
    /// All its memory, in bytes.
    pub memory: Bytes,
    /// Logical CPUs.
    pub cpus: u32,
    /// Virtual CPUs of the guests that are active.
    pub vcpus: u32,
}

/// How a machine stands with one libvirt, read freshly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "standing", content = "state")]
pub enum Standing {
    /// libvirt does not know it.
    Absent,
    /// It is defined here and no guest of it exists in memory; the state says whether it is off or crashed.
    Off(DomainState),
    /// It was here, was moved away by libvirt, and only its definition is left (`shutoff`, reason `migrated`).
    Departed,
    /// Its guest executes here, or is paused or going down by somebody's wish: the guest is here.
    Here(DomainState),
    /// It is being received: a QEMU waits for its memory and the guest does not execute here.
    Arriving,
    /// It is being sent: a migration job of libvirt runs, and the guest is still here.
    Leaving,
    /// Post-copy has begun and failed here: its memory is partly on each side.
    Split,
}

impl Standing {
    /// Whether the guest may execute on this host now.
    pub fn may_execute(self) -> bool {
        matches!(self, Standing::Here(_) | Standing::Leaving)
    }
}

/// How far a migration is (`virDomainGetJobStats`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes of memory and disks to be sent altogether.
    pub total: Bytes,
    /// Of these, what was sent.
    pub processed: Bytes,
    /// Of these, what is left.
    pub remaining: Bytes,
    /// How long it has taken.
    pub elapsed: Millis,
    /// How often the memory was gone through.
    pub iteration: u32,
    /// Whether post-copy has begun.
    pub post_copy: bool,
}

impl Progress {
    /// How far, 0 to 99: 100 is said only when it is done.
    pub fn percent(&self) -> Option<u8> {
        let whole = u128::from(self.total.0);
        let left = u128::from(self.remaining.0.min(self.total.0));
        (whole > 0).then(|| (((whole - left) * 100 / whole) as u8).min(99))
    }

    /// How long it will still take at the speed so far.
    pub fn eta(&self) -> Option<Millis> {
        let sent = u128::from(self.processed.0);
        (sent > 0 && self.elapsed.0 > 0)
            .then(|| Millis(u64::try_from(u128::from(self.remaining.0) * u128::from(self.elapsed.0) / sent).unwrap_or(u64::MAX)))
    }
}

/// What libvirt said when a transfer had ended well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferred {
    /// How long the guest stood still, as libvirt measured it.
    pub downtime: Option<Millis>,
    /// How long the transfer took.
    pub took: Millis,
    /// Bytes sent.
    pub sent: Bytes,
}

/// Where a host is reached by the libvirt of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Landing {
    /// The address of its libvirt for others, for example `qemu+tls://h2.example.org/system`.
    pub uri: Arc<str>,
    /// Where the memory goes (`migrateuri`), if it is not the same host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_never_complete_before_the_end() {
        let p = |total, remaining| Progress { total: Bytes(total), remaining: Bytes(remaining), ..Progress::default() };
        assert_eq!(p(0, 0).percent(), None);
        assert_eq!(p(100, 100).percent(), Some(0));
        assert_eq!(p(100, 40).percent(), Some(60));
        assert_eq!(p(100, 0).percent(), Some(99));
        assert_eq!(p(100, 500).percent(), Some(0));
        let running = Progress { processed: Bytes(50), remaining: Bytes(100), elapsed: Millis(1000), ..Progress::default() };
        assert_eq!(running.eta(), Some(Millis(2000)));
        assert_eq!(Progress::default().eta(), None);
    }

    #[test]
    fn a_guest_executes_only_where_it_is_or_leaves_from() {
        assert!(Standing::Here(DomainState::Running).may_execute() && Standing::Leaving.may_execute());
        for s in [Standing::Absent, Standing::Departed, Standing::Arriving, Standing::Split, Standing::Off(DomainState::Shutoff)] {
            assert!(!s.may_execute(), "{s:?}");
        }
    }
}
