//! A virtual network of a hypervisor.

use crate::{
    BoxFuture, Effect, Fault, NetworkId, Role, Target, Verdict,
    command::{Command, Done, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether a network is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkState {
    /// Machines can use it.
    Active,
    /// It is down.
    Inactive,
}

impl NetworkState {
    /// All states.
    pub const ALL: [NetworkState; 2] = [NetworkState::Active, NetworkState::Inactive];
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            NetworkState::Active => "active",
            NetworkState::Inactive => "inactive",
        }
    }
}

/// What is known of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkFacts {
    /// Whether it is up, as libvirt says.
    #[serde(rename = "libvirt_state")]
    pub state: NetworkState,
    /// The bridge on the host, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Arc<str>>,
    /// `nat`, `route`, `bridge`, `open` ... or `isolated`.
    pub forward: Arc<str>,
    /// Whether its definition stays when it is down.
    pub persistent: bool,
    /// Whether it starts with its host.
    pub autostart: bool,
}

/// A network as a hypervisor lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkRecord {
    /// libvirt's UUID.
    pub id: NetworkId,
    /// libvirt's name.
    pub name: Arc<str>,
    /// The rest.
    pub facts: NetworkFacts,
}

/// List the virtual networks of the cell, or of one host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListNetworks {
    /// Only those on this hypervisor.
    pub host: Option<String>,
    /// Only those with this name or UUID.
    pub name: Option<String>,
}
declare!(ListNetworks, "network.list", Read, Viewer, Cell, Vec<crate::Entity>);

/// Show everything known about a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowNetwork {}
declare!(ShowNetwork, "network.info", Read, Viewer, Network, crate::Entity);

/// Start a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StartNetwork {}
declare!(StartNetwork, "network.start", Change, Admin, Network, Done);

/// Stop a network. Machines attached to it lose their connection.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopNetwork {}
declare!(StopNetwork, "network.stop", Destroy, Admin, Network, Done);

/// Choose whether a network starts with its host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AutostartNetwork {
    /// Whether it does.
    pub enabled: bool,
}
impl Default for AutostartNetwork {
    fn default() -> Self {
        AutostartNetwork { enabled: true }
    }
}
declare!(AutostartNetwork, "network.autostart", Change, Admin, Network, Done);

/// May this command run on a network with these facts, and if not, why.
pub fn may(command: &str, facts: &NetworkFacts) -> Verdict {
    match (command, facts.state) {
        ("network.start", NetworkState::Active) => Verdict::refused("is active already"),
        ("network.stop", NetworkState::Inactive) => Verdict::refused("is not active"),
        ("network.autostart", _) if !facts.persistent => Verdict::refused("has no definition that stays"),
        _ => Verdict::Allowed,
    }
}

/// What the inside needs of a hypervisor to handle networks.
pub trait NetworkPort: Send + Sync {
    /// All networks (`virConnectListAllNetworks`).
    fn list(&self) -> BoxFuture<'_, Result<Vec<NetworkRecord>, Fault>>;
    /// One network as it is now.
    fn read(&self, id: NetworkId) -> BoxFuture<'_, Result<NetworkRecord, Fault>>;
    /// Starts it (`virNetworkCreate`).
    fn start(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Stops it (`virNetworkDestroy`).
    fn stop(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Starts it with its host or not (`virNetworkSetAutostart`).
    fn set_autostart(&self, id: NetworkId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>>;
}
