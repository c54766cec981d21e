//! A virtual machine. libvirt says domain, and so do code and wire; texts for people say virtual machine.
//!
//! ```text
//!              define                     start (consumes a RightToRun)
//!   (nothing) --------> shutoff ------------------------------> running <---------+
//!       ^                 ^  ^                                  |  |  |           | resume
//!       |   undefine      |  |   force-off, guest powers off    |  |  +--> paused-+
//!       +-----------------+  +----------------------------------+  |
//!                         ^        shutdown (asks the guest)       |
//!                         +------------ shutdown <-----------------+
//!   crashed: stopped by accident, counts as off.   pmsuspended: the guest sleeps, resume wakes it.
//! ```

mod ask;
mod autostart;
mod clone;
mod console;
mod create;
mod device;
mod disk;
mod edit;
mod export;
mod filesystem;
mod first_boot;
mod guest;
mod history;
mod import;
mod keys;
mod machine;
mod nic;
mod port;
mod run;
mod snapshot;
mod yaml;

pub use ask::*;
pub use autostart::*;
pub use clone::*;
pub use console::*;
pub use create::*;
pub use device::*;
pub use disk::*;
pub use edit::*;
pub use export::*;
pub use filesystem::*;
pub use first_boot::{FirstBoot, TEXT_LIMIT, hostname_of};
pub use guest::*;
pub use history::*;
pub use import::*;
pub use keys::{ENTER, chords, strokes, typed};
pub use machine::*;
pub use nic::*;
pub use port::DomainPort;
pub use run::*;
pub use snapshot::*;

use crate::{Bytes, DomainId, HypervisorName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a virtual machine is doing, in libvirt's words (`virDomainState`; `blocked` counts as running).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DomainState {
    /// It runs.
    Running,
    /// Its virtual CPUs stand still.
    Paused,
    /// The guest is going down.
    Shutdown,
    /// It is off.
    Shutoff,
    /// It stopped by accident.
    Crashed,
    /// The guest put itself to sleep.
    Pmsuspended,
}

impl DomainState {
    /// All states.
    pub const ALL: [DomainState; 6] = [
        DomainState::Running,
        DomainState::Paused,
        DomainState::Shutdown,
        DomainState::Shutoff,
        DomainState::Crashed,
        DomainState::Pmsuspended,
    ];
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            DomainState::Running => "running",
            DomainState::Paused => "paused",
            DomainState::Shutdown => "shutdown",
            DomainState::Shutoff => "shutoff",
            DomainState::Crashed => "crashed",
            DomainState::Pmsuspended => "pmsuspended",
        }
    }
    /// Whether a guest exists in memory.
    pub fn is_active(self) -> bool {
        !matches!(self, DomainState::Shutoff | DomainState::Crashed)
    }
}

/// What is known of a virtual machine apart from its name and place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DomainFacts {
    /// libvirt's own state. The entity's `state` says `unknown` instead while control is lost.
    #[serde(rename = "libvirt_state")]
    pub state: DomainState,
    /// Why it is in that state, in libvirt's words, for example `booted` or `crashed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory it may use, in bytes.
    pub memory: Bytes,
    /// Whether its definition stays when it is off.
    pub persistent: bool,
    /// Whether it starts with its host, in whichever way.
    pub autostart: bool,
    /// When among the others Archipel starts it after a boot of its host; without it libvirt does, at no certain time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart_order: Option<u32>,
    /// How many seconds the next one is then waited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart_delay: Option<u32>,
    /// Whether its guest agent answers.
    pub agent: bool,
    /// `kvm` (hardware), `qemu` (software emulation), `test`, `xen`, `lxc` ...
    pub virtualization: Arc<str>,
    /// What people wrote about it (libvirt's description).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Arc<str>>,
    /// Whether it is a template: never started, its disks left as they are, and cloned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// The hypervisor it is being moved to. Until that has ended it is not changed otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<HypervisorName>,
}

/// A virtual machine as a hypervisor lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainRecord {
    /// libvirt's UUID.
    pub id: DomainId,
    /// libvirt's name.
    pub name: Arc<str>,
    /// The rest.
    pub facts: DomainFacts,
}

/// Which screen a new machine gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Graphics {
    /// No screen; the serial console only.
    None,
    /// VNC, listening on loopback only.
    #[default]
    Vnc,
}

/// From what a new machine boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFrom {
    /// Its disk.
    Disk,
    /// Its installation CD.
    Iso,
    /// Its card.
    Network,
}

/// What a new machine is made from. The bridge builds the XML; nothing of it comes from the wire as XML.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DomainSpec {
    /// Its name.
    pub name: String,
    /// Its memory.
    pub memory: Bytes,
    /// Its virtual CPUs.
    pub vcpus: u32,
    /// Its disk: pool name and volume name.
    pub disk: Option<(String, String)>,
    /// The name of the network its card is on.
    pub network: Option<String>,
    /// Its screen.
    pub graphics: Graphics,
    /// What people say about it.
    pub note: Option<String>,
    /// Its UUID, if it was chosen before.
    pub id: Option<DomainId>,
    /// Its installation CD: pool name and volume name.
    pub iso: Option<(String, String)>,
    /// The CD that tells the guest what it is at its first boot: pool name and volume name.
    pub seed: Option<(String, String)>,
    /// From what it boots, in order; from what it has when nothing is said.
    pub boot: Vec<BootFrom>,
    /// Its firmware; the hypervisor's own choice when nothing is said.
    pub firmware: Option<Firmware>,
    /// Built as new machines are today, not as `domain.define` has always built them.
    pub modern: bool,
}
