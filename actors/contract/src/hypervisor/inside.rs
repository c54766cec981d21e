//! What a host is made of: its processors, memory, devices and programs, and what its agent logged.

use crate::{
    Bytes, Effect, Role, Target, Timestamp,
    command::{Command, Done, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory and processors that are near each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NumaCell {
    /// The kernel's number of it.
    pub cell: u32,
    /// Its memory, in bytes.
    pub memory: Bytes,
    /// Its logical CPUs, for example 0-3,8-11.
    pub cpus: String,
}

/// What a host is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostInside {
    /// Its architecture, for example x86_64.
    pub architecture: String,
    /// Its processors, as libvirt calls them, for example Skylake-Client-IBRS.
    pub cpu_model: String,
    /// Who made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_vendor: Option<String>,
    /// What they can beyond that model.
    pub cpu_features: Vec<String>,
    /// Sockets.
    pub sockets: u32,
    /// Cores of each socket.
    pub cores: u32,
    /// Threads of each core.
    pub threads: u32,
    /// Logical CPUs.
    pub cpus: u32,
    /// All its memory, in bytes.
    pub memory: Bytes,
    /// Memory and processors that are near each other.
    pub numa: Vec<NumaCell>,
    /// Machine types that guests of this architecture may have.
    pub machine_types: Vec<String>,
    /// Whether its devices can be given to guests (IOMMU).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu: Option<bool>,
    /// libvirt's version.
    pub libvirt_version: String,
    /// The version of QEMU or whatever runs the guests.
    pub hypervisor_version: String,
    /// The kernel's version; absent when libvirt is on another host than its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The version of Archipel that looks after it.
    pub archipel_version: String,
    /// How long it has been up, in seconds; absent when libvirt is on another host than its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime: Option<u64>,
}

/// A device of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeDevice {
    /// libvirt's name of it, for example pci_0000_03_00_0.
    pub name: String,
    /// `pci`, `usb`, `net` or `storage`.
    pub kind: String,
    /// How `domain.attach-host-device` calls it; empty if it cannot be given to a guest.
    pub address: String,
    /// Who made it, and what it is.
    pub product: String,
    /// The driver that has it on the host; empty when none has.
    pub driver: String,
    /// The group of devices that can only be given away together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu_group: Option<u32>,
    /// Its size, if it is storage, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Bytes>,
    /// Whether the host's administrator lets machines be given it (`host_devices` of the configuration).
    pub allowed: bool,
    /// Machines that have it or will have it at their next boot, by name.
    pub held_by: Vec<String>,
}

/// Show what a host is made of: processors and what they can, memory by NUMA cell, machine types, versions, uptime.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowInside {}
declare!(ShowInside, "hypervisor.capabilities", Read, Viewer, Hypervisor, HostInside);

/// List the devices of a host (PCI, USB, network cards, storage), whether machines may be given them, and which have them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListNodeDevices {
    /// Only those of this kind: pci, usb, net or storage.
    pub kind: Option<String>,
}
declare!(ListNodeDevices, "hypervisor.devices", Read, Viewer, Hypervisor, Vec<NodeDevice>);

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// What may go wrong.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Everything that is logged.
    Debug,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// How much it matters.
    pub level: LogLevel,
    /// Which part said it.
    pub part: String,
    /// What it said.
    pub text: String,
}

/// Show the last lines that the agent of a host logged, oldest first. They are kept in memory, the last 1,000 of this start of archipeld.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowLog {
    /// How many lines.
    #[schemars(range(min = 1, max = 1000))]
    pub lines: u32,
    /// Only those that matter at least so much.
    pub level: LogLevel,
}

impl Default for ShowLog {
    fn default() -> ShowLog {
        ShowLog { lines: 100, level: LogLevel::Info }
    }
}
declare!(ShowLog, "hypervisor.log", Read, Admin, Hypervisor, Vec<LogLine>);

/// Close a host for machines of other hosts, or open it again: nothing is moved, and what runs here goes on. `hypervisor.drain` closes it and
/// empties it too.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetMaintenance {
    /// Whether it is in maintenance.
    pub enabled: bool,
}

impl Default for SetMaintenance {
    fn default() -> SetMaintenance {
        SetMaintenance { enabled: true }
    }
}
declare!(SetMaintenance, "hypervisor.maintenance", Change, Admin, Hypervisor, Done);
