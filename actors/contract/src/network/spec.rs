//! What a network is defined from. Which arguments a mode needs, and which it cannot use, is said all at once.

use super::subnet::Subnet;
use crate::{
    Bytes, Effect, Fault, NetworkId, Role, Target,
    command::{Command, declare},
    domain::{check_name, check_rate},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How what is on a network reaches what is beyond it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// By the host's address, with its firewall in between.
    #[default]
    Nat,
    /// Not at all: machines reach each other and the host.
    Isolated,
    /// By the host as a router, with its firewall in between.
    Route,
    /// By the host as a router; libvirt adds no rules to its firewall.
    Open,
    /// By a bridge that the host has.
    Bridge,
    /// By a bridge of Open vSwitch that the host has.
    Ovs,
}

impl NetworkMode {
    /// All modes.
    pub const ALL: [NetworkMode; 6] =
        [NetworkMode::Nat, NetworkMode::Isolated, NetworkMode::Route, NetworkMode::Open, NetworkMode::Bridge, NetworkMode::Ovs];
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            NetworkMode::Nat => "nat",
            NetworkMode::Isolated => "isolated",
            NetworkMode::Route => "route",
            NetworkMode::Open => "open",
            NetworkMode::Bridge => "bridge",
            NetworkMode::Ovs => "ovs",
        }
    }
    /// Whether the bridge is one that the host has already, and not one that libvirt makes.
    pub fn uses_bridge_of_host(self) -> bool {
        matches!(self, NetworkMode::Bridge | NetworkMode::Ovs)
    }
}

/// Define a new network on a hypervisor. It is not started, unless you ask for that too.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefineNetwork {
    /// Its name: letters, digits and . _ + - (at most 64).
    pub name: String,
    /// How what is on it reaches what is beyond it.
    #[serde(default)]
    pub mode: NetworkMode,
    /// The bridge of the host that it uses (bridge, ovs), or a name for the one that is made; without it libvirt finds one.
    #[serde(default)]
    pub bridge: Option<String>,
    /// The VLAN that its machines are on, 1 to 4094 (bridge, ovs).
    #[serde(default)]
    pub vlan: Option<u16>,
    /// The host's own address on it with the length of its prefix, for example 192.168.100.1/24.
    #[serde(default)]
    pub address: Option<String>,
    /// The first address that is given out by DHCP.
    #[serde(default)]
    pub dhcp_start: Option<String>,
    /// The last address that is given out by DHCP.
    #[serde(default)]
    pub dhcp_end: Option<String>,
    /// The domain in DNS that its machines are in, for example lab.example.org.
    #[serde(default)]
    pub domain: Option<String>,
    /// Bytes in a second that all its machines together may get, for example 10MiB.
    #[serde(default)]
    pub inbound: Option<Bytes>,
    /// Bytes in a second that all its machines together may send.
    #[serde(default)]
    pub outbound: Option<Bytes>,
    /// Start it too.
    #[serde(default)]
    pub start: bool,
    /// Let it start with its host.
    #[serde(default)]
    pub autostart: bool,
}
declare!(DefineNetwork, "network.define", Change, Admin, Hypervisor, DefinedNetwork);

/// The answer of `network.define`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DefinedNetwork {
    /// The new network's UUID.
    pub id: NetworkId,
    /// What was done.
    pub message: String,
}

/// A checked definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Its mode.
    pub mode: NetworkMode,
    /// Its bridge, if it is named.
    pub bridge: Option<String>,
    /// Its VLAN.
    pub vlan: Option<u16>,
    /// The host's address on it, and what is reached there.
    pub subnet: Option<Subnet>,
    /// The first and the last address that is given out.
    pub range: Option<(IpAddr, IpAddr)>,
    /// Its domain in DNS.
    pub domain: Option<String>,
    /// Most bytes in a second that come.
    pub inbound: Option<Bytes>,
    /// Most bytes in a second that go.
    pub outbound: Option<Bytes>,
}

const BRIDGE: &str = "bridge";
const VLAN: &str = "vlan";
const ADDRESS: &str = "address";
const DHCP: &str = "dhcp_start";
const DOMAIN: &str = "domain";

/// What a mode needs, and what it may have beside that.
fn fields(mode: NetworkMode) -> (&'static [&'static str], &'static [&'static str]) {
    match mode {
        NetworkMode::Nat | NetworkMode::Route => (&[ADDRESS], &[BRIDGE, DHCP, DOMAIN]),
        NetworkMode::Isolated | NetworkMode::Open => (&[], &[ADDRESS, BRIDGE, DHCP, DOMAIN]),
        NetworkMode::Bridge | NetworkMode::Ovs => (&[BRIDGE], &[VLAN]),
    }
}

/// Why this cannot be the name of an interface of a host.
fn bad_interface(name: &str) -> Option<&'static str> {
    let fits = name.len() <= 15 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (!fits || name.starts_with(['.', '-']) || name.is_empty()).then_some("is no name of an interface: at most 15 letters, digits and . _ -")
}

/// Whether this can be a name in DNS.
pub(super) fn is_dns_name(name: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// What was really said.
fn said(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|t| !t.is_empty())
}

impl DefineNetwork {
    /// The definition, checked; every mistake is named at once.
    pub fn spec(&self) -> Result<NetworkSpec, Fault> {
        check_name(&self.name)?;
        let mut wrong = Vec::new();
        let given = [
            (BRIDGE, said(&self.bridge).is_some()),
            (VLAN, self.vlan.is_some()),
            (ADDRESS, said(&self.address).is_some()),
            (DHCP, said(&self.dhcp_start).is_some() || said(&self.dhcp_end).is_some()),
            (DOMAIN, said(&self.domain).is_some()),
        ];
        let (needed, possible) = fields(self.mode);
        for (field, there) in given {
            match there {
                false if needed.contains(&field) => wrong.push(format!("{field} is missing")),
                true if !needed.contains(&field) && !possible.contains(&field) => wrong.push(format!("{field} means nothing for it")),
                _ => {}
            }
        }
        wrong.extend(said(&self.bridge).and_then(bad_interface).map(|why| format!("{BRIDGE} {why}")));
        if self.vlan.is_some_and(|tag| !(1..=4094).contains(&tag)) {
            wrong.push(format!("{VLAN} is a number from 1 to 4094"));
        }
        if said(&self.domain).is_some_and(|d| !is_dns_name(d)) {
            wrong.push(format!("{DOMAIN} is no name in DNS"));
        }
        for (field, rate) in [("inbound", self.inbound), ("outbound", self.outbound)] {
            wrong.extend(check_rate(rate).err().map(|f| format!("{field}: {}", f.message)));
        }
        let mut keep = |found: Result<_, String>| found.map_err(|why| wrong.push(why)).ok();
        let subnet = said(&self.address).and_then(|text| keep(Subnet::of_host(text)));
        let range = match (said(&self.dhcp_start), said(&self.dhcp_end), subnet) {
            (None, None, _) => None,
            (Some(start), Some(end), Some(subnet)) => subnet.range(start, end).map_err(|why| wrong.push(why)).ok(),
            (Some(_), Some(_), None) if said(&self.address).is_none() => {
                wrong.push("addresses can be given out only where the host has one: name its address".to_owned());
                None
            }
            (Some(_), Some(_), None) => None,
            _ => {
                wrong.push("dhcp_start and dhcp_end go together".to_owned());
                None
            }
        };
        if !wrong.is_empty() {
            return Err(Fault::invalid(format!("a network of mode {} cannot be defined so: {}", self.mode.name(), wrong.join("; "))));
        }
        let own = |text: &Option<String>| said(text).map(str::to_owned);
        let some = |rate: Option<Bytes>| rate.filter(|r| *r > Bytes(0));
        Ok(NetworkSpec {
            name: self.name.clone(),
            mode: self.mode,
            bridge: own(&self.bridge),
            vlan: self.vlan,
            subnet,
            range,
            domain: own(&self.domain),
            inbound: some(self.inbound),
            outbound: some(self.outbound),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Option<String> {
        Some(s.to_owned())
    }

    fn of(mode: NetworkMode) -> DefineNetwork {
        let host = mode.uses_bridge_of_host();
        DefineNetwork {
            name: "n".into(),
            mode,
            bridge: host.then(|| "br0".into()),
            address: (!host).then(|| "192.168.50.1/24".into()),
            ..DefineNetwork::default()
        }
    }

    fn refused(asked: DefineNetwork) -> String {
        asked.spec().unwrap_err().message
    }

    #[test]
    fn each_mode_needs_its_own_and_says_all_that_is_wrong() {
        for mode in NetworkMode::ALL {
            assert!(of(mode).spec().is_ok(), "{mode:?}: {:?}", of(mode).spec());
        }
        let nothing = refused(DefineNetwork { address: None, vlan: Some(5), ..of(NetworkMode::Nat) });
        assert!(nothing.contains("vlan means nothing for it; address is missing"), "{nothing}");
        assert!(refused(DefineNetwork { bridge: None, ..of(NetworkMode::Ovs) }).contains("bridge is missing"));
        assert!(refused(DefineNetwork { address: text("10.0.0.1/24"), ..of(NetworkMode::Bridge) }).contains("address means nothing"));
        assert!(DefineNetwork { address: None, ..of(NetworkMode::Isolated) }.spec().is_ok(), "an isolated network needs no host");
    }

    #[test]
    fn a_range_lies_in_its_subnet() {
        let with = |start: &str, end: &str| DefineNetwork { dhcp_start: text(start), dhcp_end: text(end), ..of(NetworkMode::Nat) };
        assert!(with("192.168.50.10", "192.168.50.99").spec().unwrap().range.is_some());
        assert!(refused(with("192.168.51.10", "192.168.51.99")).contains("outside of 192.168.50.0/24"));
        assert!(refused(with("192.168.50.99", "192.168.50.10")).contains("before"));
        assert!(refused(with("192.168.50.1", "192.168.50.10")).contains("the host's own"));
        assert!(refused(DefineNetwork { dhcp_end: None, ..with("192.168.50.10", "") }).contains("go together"));
        assert!(refused(DefineNetwork { address: None, mode: NetworkMode::Isolated, ..with("10.0.0.2", "10.0.0.9") }).contains("address"));
    }

    #[test]
    fn names_of_interfaces_and_of_dns_are_such() {
        for bad in ["a/b", "../up", "a b", "x'/><y", "sixteen-letters-", ".", "-x"] {
            assert!(refused(DefineNetwork { bridge: text(bad), ..of(NetworkMode::Nat) }).contains("bridge"), "{bad}");
        }
        for bad in ["a b", "x..y", "-a", "a'/>", "\u{435}xample.org"] {
            assert!(refused(DefineNetwork { domain: text(bad), ..of(NetworkMode::Nat) }).contains("DNS"), "{bad}");
        }
        assert!(refused(DefineNetwork { vlan: Some(4095), ..of(NetworkMode::Ovs) }).contains("1 to 4094"));
        assert!(refused(DefineNetwork { inbound: Some(Bytes(1)), ..of(NetworkMode::Nat) }).contains("inbound"));
        assert!(DefineNetwork { name: "a/b".into(), ..of(NetworkMode::Nat) }.spec().is_err());
    }
}
