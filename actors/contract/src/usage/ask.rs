//! The commands that show usage, and what they answer.

use super::{ByteRate, MilliCpu};
use crate::{
    Bytes, DomainId, Effect, Role, Target, Timestamp,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a machine takes now. What is not known is absent, and not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DomainUsage {
    /// Processor use in thousandths of one CPU: 1000 is one CPU that is busy all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// Memory that the balloon leaves the guest, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// The most memory it may have, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_maximum: Option<Bytes>,
    /// What the guest uses of its memory, in bytes; only a guest with a balloon driver that reports tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<Bytes>,
    /// What the machine's process has of the host's memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_resident: Option<Bytes>,
    /// Read from all its disks, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_read: Option<ByteRate>,
    /// Written to all its disks, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written: Option<ByteRate>,
    /// Received by all its network cards, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_received: Option<ByteRate>,
    /// Sent by all its network cards, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_sent: Option<ByteRate>,
}

/// What a host takes now. What is not known is absent, and not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostUsage {
    /// Logical CPUs of the host.
    pub cpus: u32,
    /// Processor use of the whole host in thousandths of one CPU: all of them busy is 1000 for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// All its memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// What is in use of it, in bytes: all that could not be given to whoever asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<Bytes>,
    /// Read from the disks of all its machines, in bytes a second.
    pub disk_read: ByteRate,
    /// Written to the disks of all its machines, in bytes a second.
    pub disk_written: ByteRate,
    /// Received by all its machines, in bytes a second.
    pub net_received: ByteRate,
    /// Sent by all its machines, in bytes a second.
    pub net_sent: ByteRate,
}

/// One machine among others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineUsage {
    /// libvirt's UUID.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// What it takes.
    #[serde(flatten)]
    pub usage: DomainUsage,
}

/// A machine's usage at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DomainUsageNow {
    /// When it was measured.
    pub at: Timestamp,
    /// What it takes.
    #[serde(flatten)]
    pub usage: DomainUsage,
}

/// A host's usage at a moment, and its machines'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostUsageNow {
    /// When it was measured.
    pub at: Timestamp,
    /// What the host takes.
    #[serde(flatten)]
    pub usage: HostUsage,
    /// Its active machines, the busiest first.
    pub machines: Vec<MachineUsage>,
}

/// The average of five minutes, or one moment's memory. What is not known is absent, and not zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsagePoint {
    /// The end of those minutes.
    pub at: Timestamp,
    /// Processor use in thousandths of one CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// Memory at the end of those minutes, in bytes: what the balloon leaves a machine, what is in use on a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Read from disks, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_read: Option<ByteRate>,
    /// Written to disks, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written: Option<ByteRate>,
    /// Received from the network, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_received: Option<ByteRate>,
    /// Sent to the network, in bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_sent: Option<ByteRate>,
}

/// Measure how much processor, memory, disk and network a machine takes now. It takes a second, unless somebody is looking already.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowDomainUsage {}
declare!(ShowDomainUsage, "domain.usage", Read, Viewer, Domain, DomainUsageNow);

/// Show what a machine took in the last 24 hours, an average for every five minutes, oldest first. Its host keeps it in memory: it begins
/// anew when archipeld is started and when the machine moves to another host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListDomainUsage {}
declare!(ListDomainUsage, "domain.usage-history", Read, Viewer, Domain, Vec<UsagePoint>);

/// Measure how much processor, memory, disk and network a host and each of its machines take now. It takes a second, unless somebody is
/// looking already.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowHostUsage {}
declare!(ShowHostUsage, "hypervisor.usage", Read, Viewer, Hypervisor, HostUsageNow);

/// Show what a host and its machines together took in the last 24 hours, an average for every five minutes, oldest first. It is kept in
/// memory and begins anew when archipeld is started.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListHostUsage {}
declare!(ListHostUsage, "hypervisor.usage-history", Read, Viewer, Hypervisor, Vec<UsagePoint>);
