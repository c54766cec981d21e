//! A virtual network of a hypervisor.
//!
//! ```text
//!              define                start
//!   (nothing) --------> inactive ------------> active
//!       ^                |    ^                 |  |
//!       |    undefine    |    +------ stop -----+  |
//!       +----------------+-------------------------+   undefine stops it first; refused while a machine is on it
//! ```

mod interface;
mod names;
mod range;
mod spec;
mod subnet;

pub use interface::*;
pub use names::*;
pub use range::*;
pub use spec::{DefineNetwork, DefinedNetwork, NetworkMode, NetworkSpec};
pub use subnet::{Subnet, check_no_overlap, check_static, find_static};

use crate::{
    BoxFuture, DomainId, Effect, Fault, FaultKind, NetworkId, Role, Target, Timestamp, Verdict,
    command::{Command, Document, Done, declare},
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

/// Forget the definition of a network. It is stopped first; refused while a virtual machine is on it, running or not.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UndefineNetwork {}
declare!(UndefineNetwork, "network.undefine", Destroy, Admin, Network, Done);

/// Show the definition of a network in libvirt's XML.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowNetworkXml {
    /// The definition for the next start instead of the active one.
    pub inactive: bool,
}
declare!(ShowNetworkXml, "network.xml", Read, Viewer, Network, Document);

/// List the addresses that a network has given out by DHCP.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListLeases {}
declare!(ListLeases, "network.leases", Read, Viewer, Network, Vec<Lease>);

/// List the virtual machines of the host that are on a network, with their network cards.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListAttached {}
declare!(ListAttached, "network.attached", Read, Viewer, Network, Vec<AttachedCard>);

/// List the hosts that always get the same address on a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListHosts {}
declare!(ListHosts, "network.hosts", Read, Viewer, Network, Vec<StaticHost>);

/// Give a host on a network always the same address, from now on and when the network starts again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddHost {
    /// Its MAC.
    pub mac: String,
    /// Its address, in the network's subnet.
    pub address: String,
    /// Its name in DNS.
    #[serde(default)]
    pub name: Option<String>,
}
declare!(AddHost, "network.add-host", Change, Admin, Network, Done);

/// Let a host on a network have any address again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveHost {
    /// Which one: its MAC, its address or its name.
    pub which: String,
}
declare!(RemoveHost, "network.remove-host", Change, Admin, Network, Done);

/// An address that was given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// The MAC that has it.
    pub mac: String,
    /// The address with the length of its prefix.
    pub address: String,
    /// The name its host told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it ends; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A card of a machine that is on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttachedCard {
    /// The machine.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// The card's MAC.
    pub mac: String,
    /// Whether the machine runs with it now; otherwise only its definition names it.
    pub running: bool,
    /// The card's end on the host, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// A host that always gets the same address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StaticHost {
    /// Its MAC.
    pub mac: String,
    /// Its address.
    pub address: String,
    /// Its name in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Refuses to take a network from the machines that are on it.
pub fn check_unattached(network: &str, cards: &[AttachedCard]) -> Result<(), Fault> {
    let mut names: Vec<&str> = cards.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let text = format!("{network} is used by {}; take their network cards from it first", names.join(", "));
    Err(Fault::new(FaultKind::Busy, text))
}

/// May this command run on a network with these facts, and if not, why.
pub fn may(command: &str, facts: &NetworkFacts) -> Verdict {
    match (command, facts.state) {
        ("network.start", NetworkState::Active) => Verdict::refused("is active already"),
        ("network.stop", NetworkState::Inactive) => Verdict::refused("is not active"),
        ("network.undefine", _) if !facts.persistent => Verdict::refused("has no definition; stop it, and it is gone"),
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
    /// Defines a new one (`virNetworkDefineXML`). `conflict` when its name, its bridge or its addresses are taken; `invalid-request`
    /// when the host does not have its bridge.
    fn define(&self, spec: NetworkSpec) -> BoxFuture<'_, Result<NetworkId, Fault>>;
    /// Stops it and forgets its definition (`virNetworkUndefine`). `busy` while a machine is on it.
    fn undefine(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>>;
    /// Its definition; `inactive`: for the next start.
    fn xml(&self, id: NetworkId, inactive: bool) -> BoxFuture<'_, Result<String, Fault>>;
    /// What it has given out (`virNetworkGetDHCPLeases`).
    fn leases(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<Lease>, Fault>>;
    /// Which machines are on it, by their definitions and by what runs.
    fn attached(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<AttachedCard>, Fault>>;
    /// Hosts that always get the same address.
    fn hosts(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<StaticHost>, Fault>>;
    /// One more, now and when it starts again (`virNetworkUpdate`).
    fn add_host(&self, id: NetworkId, host: StaticHost) -> BoxFuture<'_, Result<(), Fault>>;
    /// One less, by its MAC, its address or its name.
    fn remove_host(&self, id: NetworkId, which: String) -> BoxFuture<'_, Result<(), Fault>>;
    /// The names that it answers in DNS beside those of its machines.
    fn names(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<DnsName>, Fault>>;
    /// One more, now and when it starts again (`virNetworkUpdate`). `wrong-state` when it has no name server.
    fn add_name(&self, id: NetworkId, name: DnsName) -> BoxFuture<'_, Result<(), Fault>>;
    /// One less.
    fn remove_name(&self, id: NetworkId, which: RemoveName) -> BoxFuture<'_, Result<(), Fault>>;
    /// Gives out these addresses, now and when it starts again (`virNetworkUpdate`). `busy` while machines have others.
    fn set_range(&self, id: NetworkId, range: SetRange) -> BoxFuture<'_, Result<(), Fault>>;
    /// The interfaces of the host itself (`virConnectListAllInterfaces`).
    fn interfaces(&self) -> BoxFuture<'_, Result<Vec<HostInterface>, Fault>>;
    /// All network filters (`virConnectListAllNWFilters`).
    fn filters(&self) -> BoxFuture<'_, Result<Vec<NetworkFilter>, Fault>>;
    /// One of them as XML.
    fn filter_xml(&self, name: String) -> BoxFuture<'_, Result<String, Fault>>;
}
