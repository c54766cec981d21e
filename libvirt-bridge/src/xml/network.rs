//! Networks as libvirt wants them described, what their descriptions say, and the cards of machines that are on them.

use super::tree::{self, BadXml, Element, write};
use archipel_contract::{
    Bytes,
    network::{DnsKind, DnsName, HostInterface, NetworkMode, NetworkSpec, Range, StaticHost, Subnet, service_named, service_of},
};
use std::net::{IpAddr, Ipv4Addr};

/// A network's definition.
pub fn network(spec: &NetworkSpec) -> String {
    let mode = spec.mode;
    let forward = match mode {
        NetworkMode::Isolated => None,
        NetworkMode::Ovs => Some(NetworkMode::Bridge.name()),
        _ => Some(mode.name()),
    };
    let bridge = spec.bridge.as_deref().map(|name| {
        let bridge = Element::new("bridge").with("name", name);
        // What the host has is as it is.
        if mode.uses_bridge_of_host() { bridge } else { bridge.with("stp", "on").with("delay", "0") }
    });
    let port = (mode == NetworkMode::Ovs).then(|| Element::new("virtualport").with("type", "openvswitch"));
    let vlan = spec.vlan.map(|tag| Element::new("vlan").holding(Element::new("tag").with("id", tag.to_string())));
    let domain = spec.domain.as_deref().map(|name| Element::new("domain").with("name", name).with("localOnly", "yes"));
    let ways = [("inbound", spec.inbound), ("outbound", spec.outbound)];
    // libvirt counts in KiB a second.
    let rate = |(way, rate): (&str, Option<Bytes>)| rate.map(|r| Element::new(way).with("average", r.0.div_ceil(1024).to_string()));
    let rates: Vec<Element> = ways.into_iter().filter_map(rate).collect();
    let bandwidth = (!rates.is_empty()).then(|| Element::new("bandwidth").holding_all(rates));
    let ip = spec.subnet.map(|subnet| {
        let ip = Element::new("ip");
        let ip = if subnet.address.is_ipv6() { ip.with("family", "ipv6") } else { ip };
        let range = spec.range.map(|(start, end)| {
            let range = Element::new("range").with("start", start.to_string()).with("end", end.to_string());
            Element::new("dhcp").holding(range)
        });
        ip.with("address", subnet.address.to_string()).with("prefix", subnet.prefix.to_string()).holding_all(range)
    });
    let root = Element::new("network").holding(Element::new("name").saying(spec.name.as_str()));
    write(
        &root
            .holding_all(forward.map(|mode| Element::new("forward").with("mode", mode)))
            .holding_all(bridge)
            .holding_all(domain)
            .holding_all(port)
            .holding_all(vlan)
            .holding_all(bandwidth)
            .holding_all(ip),
    )
}

/// A host that always gets the same address, as `virNetworkUpdate` wants it.
pub fn host(host: &StaticHost) -> String {
    let element = Element::new("host").with("mac", host.mac.as_str());
    let element = host.name.as_deref().into_iter().fold(element, |e, name| e.with("name", name));
    write(&element.with("ip", host.address.as_str()))
}

/// A range of addresses that are given out, as `virNetworkUpdate` wants it.
pub fn range(range: &Range) -> String {
    write(&Element::new("range").with("start", range.start.to_string()).with("end", range.end.to_string()))
}

/// A name in DNS, as `virNetworkUpdate` wants it.
pub fn dns(name: &DnsName) -> String {
    write(&match name.kind {
        DnsKind::Host => return dns_host(&name.value, &[&name.name]),
        DnsKind::Txt => Element::new("txt").with("name", name.name.as_str()).with("value", quoted(&name.value)),
        DnsKind::Srv => {
            let (service, protocol, domain) = service_named(&name.name).unwrap_or_default();
            let (target, port) = service_of(&name.value).unwrap_or_default();
            let srv = Element::new("srv").with("service", service).with("protocol", protocol);
            let srv = domain.into_iter().fold(srv, |srv, domain| srv.with("domain", domain));
            srv.with("target", target).with("port", port.to_string())
        }
    })
}

/// An address with all its names: libvirt has one entry of an address.
pub fn dns_host(address: &str, names: &[&str]) -> String {
    let host = Element::new("host").with("ip", address);
    write(&names.iter().fold(host, |host, name| host.holding(Element::new("hostname").saying(*name))))
}

/// The name server reads a comma as the end of a text and a # as the beginning of a comment, unless the text is in quotes.
fn quoted(text: &str) -> String {
    if text.contains([',', '#']) { format!("\"{text}\"") } else { text.to_owned() }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// The names of a `dns` element. One address with several names is several of ours.
fn names(dns: &Element) -> Vec<DnsName> {
    let told = |e: &Element, name: &str| e.attribute(name).unwrap_or_default().to_owned();
    let record = |kind, name: String, value: String| DnsName { kind, name, value };
    let of = |e: &Element| match e.name.as_str() {
        "host" => {
            let named = e.elements().filter(|h| h.name == "hostname").map(|h| h.text().trim().to_owned());
            named.map(|name| record(DnsKind::Host, name, told(e, "ip"))).collect()
        }
        "txt" => vec![record(DnsKind::Txt, told(e, "name"), unquoted(&told(e, "value")).to_owned())],
        "srv" => {
            let domain = e.attribute("domain").map(|d| format!(".{d}")).unwrap_or_default();
            let name = format!("_{}._{}{domain}", told(e, "service"), told(e, "protocol"));
            vec![record(DnsKind::Srv, name, format!("{}:{}", told(e, "target"), told(e, "port")))]
        }
        _ => Vec::new(),
    };
    dns.elements().flat_map(of).collect()
}

/// What of a network's description matters to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Its bridge.
    pub bridge: Option<String>,
    /// The host's addresses on it, in order.
    pub subnets: Vec<Subnet>,
    /// Hosts that always get the same address.
    pub hosts: Vec<StaticHost>,
    /// The addresses that are given out.
    pub ranges: Vec<Range>,
    /// The names that it answers beside those of its machines.
    pub names: Vec<DnsName>,
    /// Whether it has a name server: the host has an address on it, and nobody switched DNS off.
    pub answers: bool,
}

/// Reads a network's description.
pub fn shape(xml: &str) -> Result<Shape, BadXml> {
    let root = tree::parse(xml)?;
    let bridge = root.child("bridge").and_then(|b| b.attribute("name")).map(str::to_owned);
    let names = root.elements().filter(|e| e.name == "dns").flat_map(names).collect();
    let silent = root.elements().any(|e| e.name == "dns" && e.attribute("enable") == Some("no"));
    let mut shape = Shape { bridge, names, ..Shape::default() };
    for ip in root.elements().filter(|e| e.name == "ip") {
        let Some(address) = ip.attribute("address").and_then(|a| a.parse::<IpAddr>().ok()) else { continue };
        let whole = if address.is_ipv6() { 64 } else { 24 };
        let mask = ip.attribute("netmask").and_then(|m| m.parse::<Ipv4Addr>().ok()).map(|m| u32::from(m).leading_ones() as u8);
        let prefix = ip.attribute("prefix").and_then(|p| p.parse().ok()).or(mask).unwrap_or(whole);
        let place = shape.subnets.len();
        shape.subnets.push(Subnet { address, prefix });
        for range in ip.child("dhcp").iter().flat_map(|d| d.elements()).filter(|e| e.name == "range") {
            let end = |name: &str| range.attribute(name).and_then(|a| a.parse::<IpAddr>().ok());
            shape.ranges.extend(end("start").zip(end("end")).map(|(start, end)| Range { place, start, end }));
        }
        for host in ip.child("dhcp").iter().flat_map(|d| d.elements()).filter(|e| e.name == "host") {
            let told = |name: &str| host.attribute(name).unwrap_or_default().to_owned();
            let name = host.attribute("name").map(str::to_owned);
            shape.hosts.push(StaticHost { mac: told("mac"), address: told("ip"), name });
        }
    }
    shape.answers = !silent && !shape.subnets.is_empty();
    Ok(shape)
}

/// A card that is on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its MAC.
    pub mac: String,
    /// Its end on the host.
    pub interface: Option<String>,
}

/// The cards in a machine's definition that are on this network, by its name or by its bridge.
pub fn cards(xml: &str, network: &str, bridge: Option<&str>) -> Result<Vec<Card>, BadXml> {
    let root = tree::parse(xml)?;
    let interfaces = root.child("devices").into_iter().flat_map(|d| d.elements()).filter(|e| e.name == "interface");
    let on = |card: &&Element| {
        let source = |name: &str| card.child("source").and_then(|s| s.attribute(name));
        match card.attribute("type") {
            Some("network") => source("network") == Some(network),
            Some("bridge") => bridge.is_some() && source("bridge") == bridge,
            _ => false,
        }
    };
    let told = |card: &Element, child: &str, name: &str| card.child(child).and_then(|c| c.attribute(name)).map(str::to_owned);
    let card = |c: &Element| Card { mac: told(c, "mac", "address").unwrap_or_default(), interface: told(c, "target", "dev") };
    Ok(interfaces.filter(on).map(card).collect())
}

/// An interface of the host as libvirt describes it; name, state and source are told elsewhere.
pub fn interface(xml: &str) -> Result<HostInterface, BadXml> {
    let root = tree::parse(xml)?;
    let kind = root.attribute("type").unwrap_or("other");
    let inside = root.child("bridge").into_iter().flat_map(|b| b.elements()).filter(|e| e.name == "interface");
    Ok(HostInterface {
        kind: kind.to_owned(),
        mac: root.child("mac").and_then(|m| m.attribute("address")).map(str::to_owned),
        members: inside.filter_map(|e| e.attribute("name").map(str::to_owned)).collect(),
        ..HostInterface::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(mode: NetworkMode) -> NetworkSpec {
        NetworkSpec { name: "n".into(), mode, ..NetworkSpec::default() }
    }

    fn addressed(mode: NetworkMode) -> NetworkSpec {
        NetworkSpec { subnet: Some(Subnet::of_host("10.1.0.1/24").unwrap()), ..spec(mode) }
    }

    #[test]
    fn every_mode_is_described_as_libvirt_documents_it() {
        let nat = NetworkSpec {
            bridge: Some("virbr7".into()),
            range: Some(("10.1.0.10".parse().unwrap(), "10.1.0.99".parse().unwrap())),
            domain: Some("lab.example".into()),
            inbound: Some(Bytes::MIB),
            outbound: Some(Bytes(1500)),
            ..addressed(NetworkMode::Nat)
        };
        assert_eq!(
            network(&nat),
            "<network><name>n</name><forward mode='nat'/><bridge name='virbr7' stp='on' delay='0'/><domain name='lab.example' localOnly='yes'/>\
             <bandwidth><inbound average='1024'/><outbound average='2'/></bandwidth>\
             <ip address='10.1.0.1' prefix='24'><dhcp><range start='10.1.0.10' end='10.1.0.99'/></dhcp></ip></network>"
        );
        assert_eq!(network(&spec(NetworkMode::Isolated)), "<network><name>n</name></network>");
        let ip = "<ip address='10.1.0.1' prefix='24'/>";
        assert_eq!(network(&addressed(NetworkMode::Isolated)), format!("<network><name>n</name>{ip}</network>"));
        assert_eq!(network(&addressed(NetworkMode::Route)), format!("<network><name>n</name><forward mode='route'/>{ip}</network>"));
        assert_eq!(network(&addressed(NetworkMode::Open)), format!("<network><name>n</name><forward mode='open'/>{ip}</network>"));
        let bridge = NetworkSpec { bridge: Some("br0".into()), vlan: Some(42), ..spec(NetworkMode::Bridge) };
        assert_eq!(
            network(&bridge),
            "<network><name>n</name><forward mode='bridge'/><bridge name='br0'/><vlan><tag id='42'/></vlan></network>"
        );
        assert_eq!(
            network(&NetworkSpec { mode: NetworkMode::Ovs, ..bridge }),
            "<network><name>n</name><forward mode='bridge'/><bridge name='br0'/><virtualport type='openvswitch'/><vlan><tag id='42'/></vlan></network>"
        );
        let six = NetworkSpec { subnet: Some(Subnet::of_host("fd00:7::1/64").unwrap()), ..spec(NetworkMode::Nat) };
        assert!(network(&six).contains("<ip family='ipv6' address='fd00:7::1' prefix='64'/>"));
    }

    #[test]
    fn what_was_written_is_read_again() {
        let text = "<network><name>n</name><bridge name='virbr3'/><ip address='10.1.0.1' netmask='255.255.0.0'><dhcp>\
            <range start='10.1.0.9' end='10.1.0.20'/><host mac='52:54:00:00:00:01' name='web' ip='10.1.0.5'/></dhcp></ip>\
            <ip family='ipv6' address='fd00::1' prefix='64'/></network>";
        let found = shape(text).unwrap();
        assert_eq!(found.bridge.as_deref(), Some("virbr3"));
        assert_eq!(found.subnets.iter().map(Subnet::to_string).collect::<Vec<_>>(), ["10.1.0.0/16", "fd00::/64"]);
        assert_eq!(found.ranges, [Range { place: 0, start: "10.1.0.9".parse().unwrap(), end: "10.1.0.20".parse().unwrap() }]);
        assert!(
            found.answers
                && !shape(&text.replace("<ip", "<dns enable='no'/><ip")).unwrap().answers
                && !shape("<network/>").unwrap().answers
        );
        assert_eq!(host(&found.hosts[0]), "<host mac='52:54:00:00:00:01' name='web' ip='10.1.0.5'/>");
    }

    #[test]
    fn names_in_dns_are_written_as_they_are_read() {
        let text = "<network><name>n</name><dns><forwarder addr='10.0.0.1'/><host ip='10.1.0.9'><hostname>git.lab</hostname></host>\
            <srv service='sip' protocol='tcp' domain='lab.example' target='pbx.lab' port='5060'/><txt name='t' value='&quot;a &lt;b&gt;, c&quot;'/></dns></network>";
        let found = shape(text).unwrap().names;
        let written: String = found.iter().map(dns).collect();
        assert_eq!(found.len(), 3);
        assert!(text.contains(&written), "{written}");
    }

    #[test]
    fn a_card_is_on_a_network_by_its_name_or_by_its_bridge() {
        let text = "<domain><devices><interface type='network'><mac address='52:54:00:00:00:01'/><source network='lab'/><target dev='vnet0'/></interface>\
            <interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='virbr7'/></interface>\
            <interface type='network'><mac address='52:54:00:00:00:03'/><source network='other'/></interface>\
            <interface type='user'><mac address='52:54:00:00:00:04'/></interface></devices></domain>";
        let of = |bridge| cards(text, "lab", bridge).unwrap().into_iter().map(|c| c.mac).collect::<Vec<_>>();
        assert_eq!(of(Some("virbr7")), ["52:54:00:00:00:01", "52:54:00:00:00:02"]);
        assert_eq!(of(None), ["52:54:00:00:00:01"]);
    }

    #[test]
    fn a_bridge_of_the_host_tells_what_is_on_it() {
        let text = "<interface type='bridge' name='br0'><mac address='52:54:00:00:00:01'/><bridge stp='off'>\
            <interface type='ethernet' name='eth0'/><interface type='ethernet' name='vnet0'/></bridge></interface>";
        let found = interface(text).unwrap();
        assert_eq!((found.kind.as_str(), found.members.as_slice()), ("bridge", &["eth0".to_owned(), "vnet0".to_owned()][..]));
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_place(name in "\\PC{1,20}", bridge in "\\PC{1,20}", domain in "\\PC{1,20}") {
            let made = NetworkSpec { name: name.clone(), bridge: Some(bridge.clone()), domain: Some(domain.clone()), ..addressed(NetworkMode::Nat) };
            let text = network(&made);
            let root = tree::parse(&text).unwrap();
            prop_assert_eq!(root.child("name").unwrap().text(), name);
            prop_assert_eq!(root.child("domain").unwrap().attribute("name"), Some(domain.as_str()));
            prop_assert_eq!(shape(&text).unwrap().bridge, Some(bridge));
            prop_assert_eq!(root.elements().count(), 5);
        }
    }
}
