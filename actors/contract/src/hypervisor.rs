//! A hypervisor: one libvirt connection and everything below it.
//!
//! ```text
//!   connecting --> connected <--> lost
//! ```

mod inside;

pub use inside::*;

use crate::{
    BoxFuture, Bytes, DomainId, Effect, Fault, Role, Target,
    command::{Command, declare},
    domain::DomainState,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether libvirt answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HypervisorState {
    /// Not yet reached since the start.
    Connecting,
    /// It answers, events flow and everything was listed.
    Connected,
    /// It does not answer; retried with growing pauses.
    Lost,
}

impl HypervisorState {
    /// All states.
    pub const ALL: [HypervisorState; 3] = [HypervisorState::Connecting, HypervisorState::Connected, HypervisorState::Lost];
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            HypervisorState::Connecting => "connecting",
            HypervisorState::Connected => "connected",
            HypervisorState::Lost => "lost",
        }
    }
}

/// The most strangers a hypervisor tells of.
pub const STRANGERS: usize = 100;

/// A machine that libvirt has here while another host owns it: what a move left behind, or a second copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stranger {
    /// libvirt's UUID.
    pub id: DomainId,
    /// libvirt's name.
    pub name: Arc<str>,
    /// What it is doing here.
    pub state: DomainState,
    /// Its guest was moved away from here with other tools, and only its definition is left. Nothing starts it, and nothing removes it
    /// but `hypervisor.remove-copy`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

/// What is known of a hypervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HypervisorFacts {
    /// Whether libvirt answers.
    #[serde(rename = "link")]
    pub state: HypervisorState,
    /// The libvirt address, for example `qemu:///system`.
    pub uri: Arc<str>,
    /// libvirt's driver: `QEMU`, `Test`, `Xen`, `LXC` ...
    pub driver: Arc<str>,
    /// `kvm` when hardware virtualization was proved to work, `software` when guests are emulated, `none` where the
    /// question does not arise (test driver).
    pub acceleration: Arc<str>,
    /// The name the host has for itself.
    pub hostname: Arc<str>,
    /// libvirt's version, for example `9.0.0`.
    pub libvirt_version: Arc<str>,
    /// The version of QEMU or whatever runs the guests.
    pub hypervisor_version: Arc<str>,
    /// Logical CPUs of the host.
    pub cpus: u32,
    /// Memory of the host, in bytes.
    pub memory: Bytes,
    /// Whether it is closed: it is being emptied, or was, and takes no machine of another host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// Machines that are here while another host owns them, by id; at most a hundred are told of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<Stranger>,
    /// The boot of its kernel. Hypervisors that say the same are namespaces of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Arc<str>>,
    /// How often one of its actors was restarted since the daemon started.
    #[serde(default)]
    pub restarts: u32,
    /// The last of those restarts: which actor, and the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restart: Option<Arc<str>>,
}

impl HypervisorFacts {
    /// What is known before the first connection.
    pub fn connecting(uri: &str) -> HypervisorFacts {
        let unknown: Arc<str> = "unknown".into();
        HypervisorFacts {
            state: HypervisorState::Connecting,
            uri: uri.into(),
            driver: unknown.clone(),
            acceleration: unknown.clone(),
            hostname: unknown.clone(),
            libvirt_version: unknown.clone(),
            hypervisor_version: unknown,
            cpus: 0,
            memory: Bytes(0),
            closed: false,
            strangers: Vec::new(),
            kernel: None,
            restarts: 0,
            last_restart: None,
        }
    }
}

/// List the hypervisors of the cell.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListHypervisors {
    /// Only the one with this name.
    pub name: Option<String>,
}
declare!(ListHypervisors, "hypervisor.list", Read, Viewer, Cell, Vec<crate::Entity>);

/// Show everything known about a hypervisor, restarts of its actors included.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowHypervisor {}
declare!(ShowHypervisor, "hypervisor.info", Read, Viewer, Hypervisor, crate::Entity);

/// What the inside needs of a hypervisor as a whole.
pub trait HypervisorPort: Send + Sync {
    /// The facts, with state `connected` (`virNodeGetInfo`, `virConnectGetVersion`, `virConnectGetCapabilities`).
    fn facts(&self) -> BoxFuture<'_, Result<HypervisorFacts, Fault>>;
    /// What it is made of (`virConnectGetCapabilities`).
    fn inside(&self) -> BoxFuture<'_, Result<HostInside, Fault>>;
    /// Its devices by name (`virConnectListAllNodeDevices`), and which machines have them.
    fn devices(&self) -> BoxFuture<'_, Result<Vec<NodeDevice>, Fault>>;
}
