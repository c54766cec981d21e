//! What every hypervisor must do with networks that are made. Runs against libvirt's test driver too.

use super::Probe;
use super::host::kind_of;
use crate::{
    FaultKind, Millis,
    host::{Host, HostChange, NetworkChange},
    network::{DefineNetwork, DnsKind, DnsName, NetworkMode, NetworkState, RemoveName, SetRange, StaticHost},
};

const SOON: Millis = Millis::seconds(20);

/// A network is defined, given hosts, started, and forgotten while it is active, each seen as an event. `subnet` is a pair of
/// numbers such as `10.77` that no other network of the host has.
pub async fn network_definition(host: &Host, tag: &str, subnet: &str) {
    let probe = Probe::new();
    host.link.watch(probe.clone());
    let mut at = probe.wait(0, SOON, "Connected", |c| *c == HostChange::Connected);
    let networks = &host.networks;
    let asked = DefineNetwork {
        name: format!("made-{tag}"),
        mode: NetworkMode::Isolated,
        address: Some(format!("{subnet}.1.1/24")),
        dhcp_start: Some(format!("{subnet}.1.10")),
        dhcp_end: Some(format!("{subnet}.1.99")),
        ..DefineNetwork::default()
    };
    let before = networks.list().await.expect("list").len();

    let id = networks.define(asked.spec().expect("spec")).await.expect("define");
    at = probe.wait(at, SOON, "defined", |c| *c == HostChange::Network(id, NetworkChange::Defined));
    let record = networks.read(id).await.expect("read");
    assert_eq!((&*record.name, record.facts.state, &*record.facts.forward), (&*asked.name, NetworkState::Inactive, "isolated"));
    assert!(networks.xml(id, true).await.expect("xml").contains(&asked.name));

    // What cannot be is refused and leaves nothing.
    assert_eq!(kind_of(networks.define(asked.spec().expect("spec")).await), FaultKind::Conflict, "a name is taken once");
    let overlapping = DefineNetwork { name: format!("other-{tag}"), address: Some(format!("{subnet}.9.9/16")), ..asked.clone() };
    let overlapping = DefineNetwork { dhcp_start: None, dhcp_end: None, ..overlapping };
    assert_eq!(kind_of(networks.define(overlapping.spec().expect("spec")).await), FaultKind::Conflict, "addresses are taken once");
    let bridged = DefineNetwork {
        name: format!("other-{tag}"),
        mode: NetworkMode::Bridge,
        bridge: Some("no-such-br".into()),
        ..DefineNetwork::default()
    };
    assert_eq!(kind_of(networks.define(bridged.spec().expect("spec")).await), FaultKind::InvalidRequest, "the host has no such bridge");
    assert_eq!(networks.list().await.expect("list").len(), before + 1, "nothing half made");

    let web = StaticHost { mac: "52:54:00:77:00:01".into(), address: format!("{subnet}.1.50"), name: Some("web".into()) };
    networks.add_host(id, web.clone()).await.expect("add a host");
    assert_eq!(networks.hosts(id).await.expect("hosts").first(), Some(&web));
    assert_eq!(kind_of(networks.add_host(id, web.clone()).await), FaultKind::Conflict);
    let outside = StaticHost { mac: "52:54:00:77:00:02".into(), address: "192.0.2.7".into(), name: None };
    assert_eq!(kind_of(networks.add_host(id, outside).await), FaultKind::InvalidRequest);
    assert_eq!(kind_of(networks.remove_host(id, "nobody".into()).await), FaultKind::NotFound);
    networks.remove_host(id, web.mac.clone()).await.expect("remove a host");
    assert_eq!(networks.hosts(id).await.expect("hosts"), []);

    let git = DnsName { kind: DnsKind::Host, name: "git.lab".into(), value: format!("{subnet}.1.60") };
    let sip = DnsName { kind: DnsKind::Srv, name: "_sip._tcp".into(), value: "pbx.lab:5060".into() };
    let text = DnsName { kind: DnsKind::Txt, name: "about".into(), value: "a & b".into() };
    for name in [&git, &sip, &text] {
        networks.add_name(id, name.clone()).await.expect("add a name");
        assert_eq!(kind_of(networks.add_name(id, name.clone()).await), FaultKind::Conflict, "{name:?}");
    }
    let told = networks.names(id).await.expect("names");
    assert!([&git, &sip, &text].iter().all(|n| told.contains(n)) && told.len() == 3, "{told:?}");
    let second = DnsName { name: "git2.lab".into(), ..git.clone() };
    networks.add_name(id, second.clone()).await.expect("a second name of one address");
    let spare = DnsName { value: "pbx2.lab:5060".into(), ..sip.clone() };
    networks.add_name(id, spare.clone()).await.expect("a second host of one service");
    let which =
        |name: &DnsName, value: Option<&str>| RemoveName { kind: name.kind, name: name.name.clone(), value: value.map(str::to_owned) };
    assert_eq!(kind_of(networks.remove_name(id, which(&sip, None)).await), FaultKind::Conflict, "which of the two");
    networks.remove_name(id, which(&sip, Some(&sip.value))).await.expect("remove a service");
    networks.remove_name(id, which(&git, None)).await.expect("remove a name");
    assert_eq!(kind_of(networks.remove_name(id, which(&git, None)).await), FaultKind::NotFound);
    let told = networks.names(id).await.expect("names");
    assert!([&second, &spare, &text].iter().all(|n| told.contains(n)) && told.len() == 3, "{told:?}");
    let range = |start: &str, end: &str, add| SetRange {
        first: format!("{subnet}.1.{start}"),
        last: format!("{subnet}.1.{end}"),
        add,
        drop_leases: false,
    };
    networks.set_range(id, range("20", "30", false)).await.expect("another range");
    networks.set_range(id, range("40", "50", true)).await.expect("one more range");
    networks.set_range(id, range("40", "50", true)).await.expect("it is so already");
    assert_eq!(kind_of(networks.set_range(id, range("30", "35", true)).await), FaultKind::Conflict);
    assert_eq!(kind_of(networks.set_range(id, range("9", "300", false)).await), FaultKind::InvalidRequest);

    assert_eq!(networks.attached(id).await.expect("attached"), []);
    networks.start(id).await.expect("start");
    at = probe.wait(at, SOON, "started", |c| *c == HostChange::Network(id, NetworkChange::Started));
    networks.add_host(id, web.clone()).await.expect("add a host while it is active");
    assert_eq!(networks.hosts(id).await.expect("hosts"), [web]);
    networks.undefine(id).await.expect("undefine");
    probe.wait(at, SOON, "undefined", |c| *c == HostChange::Network(id, NetworkChange::Undefined));
    assert_eq!(kind_of(networks.read(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(networks.undefine(id).await), FaultKind::NotFound);
}
