//! What every hypervisor must do: subscribe then list, tell of each change once and in order, and fail with the right fault.

use super::Probe;
use crate::{
    Bytes, DomainId, Epoch, Fault, FaultKind, Millis, Ownership, RightToRun,
    domain::{DomainSpec, DomainState, Graphics, StartOrder},
    host::{DomainChange, Host, HostChange, NetworkChange, PoolChange},
    network::NetworkState,
    storage_pool::PoolState,
};

const SOON: Millis = Millis::seconds(20);

pub(super) fn spec(name: &str) -> DomainSpec {
    DomainSpec {
        name: name.to_owned(),
        memory: Bytes::mib(16),
        vcpus: 1,
        disk: None,
        network: None,
        graphics: Graphics::None,
        note: Some("made by the conformance suite <&>".to_owned()),
        ..DomainSpec::default()
    }
}

pub(super) fn right(host: &Host, id: DomainId) -> RightToRun {
    Ownership::owned(id, Epoch(1), host.name.clone()).right_to_run(&host.name).unwrap_or_else(|| unreachable!())
}

pub(super) fn kind_of<T: std::fmt::Debug>(result: Result<T, Fault>) -> FaultKind {
    match result {
        Ok(value) => panic!("expected a fault and got {value:?}"),
        Err(fault) => {
            assert!(!fault.message.is_empty(), "a fault says what to do next");
            fault.kind
        }
    }
}

fn is(id: DomainId, state: DomainState) -> impl Fn(&HostChange) -> bool {
    move |change| matches!(change, HostChange::Domain(d, DomainChange::State(s, _)) if *d == id && *s == state)
}

/// The whole life of a virtual machine, each step seen as an event and read back. `tag` keeps names apart between runs.
pub async fn domain_life(host: &Host, tag: &str) {
    let probe = Probe::new();
    host.link.watch(probe.clone());
    let mut at = probe.wait(0, SOON, "Connected", |c| *c == HostChange::Connected);
    let name = format!("life-{tag}");
    let other = format!("other-{tag}");
    let domains = &host.domains;

    let id = domains.define(spec(&name), Vec::new()).await.expect("define");
    at = probe.wait(at, SOON, "Defined", |c| matches!(c, HostChange::Domain(d, DomainChange::Defined(_)) if *d == id));
    let record = domains.read(id).await.expect("read");
    assert_eq!(&*record.name, name);
    assert_eq!(record.facts.state, DomainState::Shutoff);
    assert_eq!(record.facts.memory, Bytes::mib(16));
    assert_eq!(record.facts.vcpus, 1);
    assert!(record.facts.persistent && !record.facts.autostart);
    assert_eq!(record.facts.note.as_deref(), Some("made by the conformance suite <&>"));
    assert!(domains.list().await.expect("list").contains(&record), "a machine reads the same alone and in the list");
    assert!(domains.xml(id, false).await.expect("xml").contains("<domain"));
    assert_eq!(kind_of(domains.define(spec(&name), Vec::new()).await), FaultKind::Conflict, "a name is taken once");

    domains.start(right(host, id), false).await.expect("start");
    at = probe.wait(at, SOON, "running", is(id, DomainState::Running));
    assert_eq!(domains.read(id).await.expect("read").facts.state, DomainState::Running);
    assert_eq!(kind_of(domains.start(right(host, id), false).await), FaultKind::WrongState, "a machine never runs twice");
    assert_eq!(kind_of(domains.rename(id, other.clone()).await), FaultKind::WrongState, "a running machine keeps its name");

    domains.pause(id).await.expect("pause");
    at = probe.wait(at, SOON, "paused", is(id, DomainState::Paused));
    domains.resume(id).await.expect("resume");
    at = probe.wait(at, SOON, "running again", is(id, DomainState::Running));
    domains.force_off(id).await.expect("force-off");
    at = probe.wait(at, SOON, "shutoff", is(id, DomainState::Shutoff));
    assert_eq!(domains.read(id).await.expect("read").facts.state, DomainState::Shutoff);
    assert_eq!(kind_of(domains.force_off(id).await), FaultKind::WrongState, "there is no power to cut");

    domains.start(right(host, id), true).await.expect("start paused");
    at = probe.wait(at, SOON, "paused at its first instruction", is(id, DomainState::Paused));
    assert_eq!(domains.read(id).await.expect("read").facts.state, DomainState::Paused);
    domains.force_off(id).await.expect("force-off while paused");
    at = probe.wait(at, SOON, "shutoff", is(id, DomainState::Shutoff));

    domains.set_autostart(id, true).await.expect("autostart");
    assert!(domains.read(id).await.expect("read").facts.autostart);
    domains.set_autostart(id, false).await.expect("autostart off");
    let order = StartOrder { order: 7, delay: 30 };
    domains.set_start_order(id, Some(order)).await.expect("an order");
    let facts = domains.read(id).await.expect("read").facts;
    assert!(facts.autostart && facts.start_order() == Some(order), "one of whom Archipel takes care starts with its host");
    assert!(domains.list().await.expect("list").iter().any(|r| r.id == id && r.facts.start_order() == Some(order)));
    domains.set_start_order(id, Some(StartOrder { order: 8, delay: 0 })).await.expect("another order");
    assert_eq!(domains.read(id).await.expect("read").facts.start_order(), Some(StartOrder { order: 8, delay: 0 }));
    domains.set_start_order(id, None).await.expect("no order");
    domains.set_start_order(id, None).await.expect("no order, once more");
    let facts = domains.read(id).await.expect("read").facts;
    assert!(!facts.autostart && facts.start_order().is_none());
    domains.set_note(id, Some("second <note>".into())).await.expect("note");
    assert_eq!(domains.read(id).await.expect("read").facts.note.as_deref(), Some("second <note>"));
    domains.set_note(id, None).await.expect("no note");
    assert_eq!(domains.read(id).await.expect("read").facts.note, None);

    let second = domains.define(spec(&other), Vec::new()).await.expect("define the other");
    assert_eq!(kind_of(domains.rename(id, other.clone()).await), FaultKind::Conflict, "the name is taken");
    assert!(!domains.has_variables(second).await.expect("variables"), "one with a BIOS has none");
    domains.undefine_with_variables(second).await.expect("undefine the other");
    domains.rename(id, other.clone()).await.expect("rename");
    assert_eq!(&*domains.read(id).await.expect("read").name, other, "the id survives a rename");

    domains.undefine(id).await.expect("undefine");
    probe.wait(at, SOON, "Undefined", |c| *c == HostChange::Domain(id, DomainChange::Undefined));
    assert_eq!(kind_of(domains.read(id).await), FaultKind::NotFound);
    let order: Vec<DomainState> = probe
        .seen()
        .into_iter()
        .filter_map(|c| if let HostChange::Domain(d, DomainChange::State(s, _)) = c { (d == id).then_some(s) } else { None })
        .collect();
    let mut once = order.clone();
    once.dedup();
    use DomainState::{Paused, Running, Shutoff};
    // QEMU says both "resumed" and "started" when it starts, and may pass through running when it starts paused.
    let short: Vec<_> = once.windows(2).filter(|w| !(w[0] == Running && w[1] == Paused)).map(|w| w[0]).collect();
    assert!(short.contains(&Paused) && *once.last().unwrap_or(&Running) == Shutoff, "states in order: {order:?}");
}

/// A machine nobody has answers every request with `not-found`, and nothing happens.
pub async fn unknown_domain(host: &Host) {
    let id = DomainId(uuid::Uuid::from_u128(0xdead_beef_0000_4000_8000_0000_0000_0001));
    let domains = &host.domains;
    let before = domains.list().await.expect("list");
    assert_eq!(kind_of(domains.read(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.xml(id, false).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.start(right(host, id), false).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.shutdown(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.reboot(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.force_off(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.reset(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.pause(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.resume(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.set_autostart(id, true).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.set_start_order(id, None).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.rename(id, "x".into()).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.set_note(id, None).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.undefine(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.undefine_with_variables(id).await), FaultKind::NotFound);
    assert_eq!(kind_of(domains.has_variables(id).await), FaultKind::NotFound);
    assert_eq!(domains.list().await.expect("list"), before);
}

/// The first network is stopped and started, each seen as an event. The host must have an active one.
pub async fn network_life(host: &Host) {
    let probe = Probe::new();
    host.link.watch(probe.clone());
    let at = probe.wait(0, SOON, "Connected", |c| *c == HostChange::Connected);
    let network = host.networks.list().await.expect("list").into_iter().next().expect("a network to try");
    assert_eq!(network.facts.state, NetworkState::Active);
    assert_eq!(host.networks.read(network.id).await.expect("read"), network);
    host.networks.stop(network.id).await.expect("stop");
    let at = probe.wait(at, SOON, "stopped", |c| *c == HostChange::Network(network.id, NetworkChange::Stopped));
    assert_eq!(kind_of(host.networks.stop(network.id).await), FaultKind::WrongState);
    host.networks.start(network.id).await.expect("start");
    probe.wait(at, SOON, "started", |c| *c == HostChange::Network(network.id, NetworkChange::Started));
    host.networks.set_autostart(network.id, true).await.expect("autostart");
    assert!(host.networks.read(network.id).await.expect("read").facts.autostart);
    host.networks.set_autostart(network.id, network.facts.autostart).await.expect("autostart back");
}

/// The first pool is refreshed, stopped and started, each seen as an event. The host must have a running one.
pub async fn pool_life(host: &Host) {
    let probe = Probe::new();
    host.link.watch(probe.clone());
    let at = probe.wait(0, SOON, "Connected", |c| *c == HostChange::Connected);
    let pool = host.pools.list().await.expect("list").into_iter().next().expect("a pool to try");
    assert_eq!(pool.facts.state, PoolState::Running);
    host.pools.refresh(pool.id).await.expect("refresh");
    let at = probe.wait(at, SOON, "refreshed", |c| *c == HostChange::StoragePool(pool.id, PoolChange::Refreshed));
    host.volumes.list(pool.id).await.expect("volumes");
    assert_eq!(kind_of(host.volumes.read(pool.id, "no such volume".into()).await), FaultKind::NotFound);
    host.pools.stop(pool.id).await.expect("stop");
    let at = probe.wait(at, SOON, "stopped", |c| *c == HostChange::StoragePool(pool.id, PoolChange::Stopped));
    assert_eq!(kind_of(host.volumes.list(pool.id).await), FaultKind::WrongState);
    host.pools.start(pool.id).await.expect("start");
    probe.wait(at, SOON, "started", |c| *c == HostChange::StoragePool(pool.id, PoolChange::Started));
}
