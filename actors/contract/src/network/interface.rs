//! What a host has to attach networks and machines to: its bridges and cards, and the filters that libvirt knows.

use crate::{
    Effect, Role, Target,
    command::{Command, Document, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// List the interfaces of a host: its network cards, its bridges and what is on them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListInterfaces {
    /// Only those of this kind, for example bridge or ethernet.
    pub kind: Option<String>,
}
declare!(ListInterfaces, "interface.list", Read, Viewer, Hypervisor, Vec<HostInterface>);

/// An interface of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostInterface {
    /// Its name.
    pub name: String,
    /// `ethernet`, `bridge`, `vlan`, `bond`, `ovs`, or `other`.
    pub kind: String,
    /// `active` or `inactive`.
    pub state: String,
    /// Its MAC, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// What is on it, if it is a bridge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Who says so: `libvirt`, or `kernel` where libvirt has no driver for interfaces and the host itself was read.
    pub source: String,
}

/// List the network filters of a hypervisor.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListFilters {}
declare!(ListFilters, "nwfilter.list", Read, Viewer, Hypervisor, Vec<NetworkFilter>);

/// A network filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkFilter {
    /// Its name, as a card of a machine names it.
    pub name: String,
    /// libvirt's UUID.
    pub id: String,
}

/// Show a network filter in libvirt's XML.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowFilterXml {
    /// Its name.
    pub nwfilter: String,
}
declare!(ShowFilterXml, "nwfilter.xml", Read, Viewer, Hypervisor, Document);
