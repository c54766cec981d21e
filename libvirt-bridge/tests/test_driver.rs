//! The bridge against libvirt's test driver: every test has a made-up host of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use archipel_contract::{
    Bytes, DomainId, FaultKind,
    domain::{DomainSpec, DomainState, Graphics},
    host::{DomainChange, HostChange, NetworkChange, PoolChange},
    network::NetworkState,
    storage_pool::PoolState,
};
use archipel_libvirt::fixture::domain_uuid;
use common::{Recorder, connected, kind, made_up, right};
use std::time::{Duration, Instant};

fn spec(name: &str) -> DomainSpec {
    DomainSpec {
        name: name.into(),
        memory: Bytes::mib(64),
        vcpus: 1,
        disk: None,
        network: None,
        graphics: Graphics::Vnc,
        note: Some("a < b & c".into()),
        ..DomainSpec::default()
    }
}

#[tokio::test]
async fn lifecycle_events_arrive_in_order_and_match_the_state_read() {
    let (config, _file) = made_up(2);
    let (host, recorder) = connected(config);
    let id = DomainId(domain_uuid(1));
    let state = || async { host.domains.read(id).await.unwrap().facts.state };
    let is = |state, why| DomainChange::State(state, why);

    host.domains.start(right(id), false).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, is(DomainState::Running, "booted")));
    assert_eq!(state().await, DomainState::Running);
    host.domains.pause(id).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, is(DomainState::Paused, "user")));
    let facts = host.domains.read(id).await.unwrap().facts;
    assert_eq!((facts.state, facts.reason.as_deref()), (DomainState::Paused, Some("user")), "the words of event and state differ");
    host.domains.resume(id).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, is(DomainState::Running, "unpaused")));
    host.domains.force_off(id).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, is(DomainState::Shutoff, "destroyed")));
    assert_eq!(state().await, DomainState::Shutoff);

    assert_eq!(
        recorder.of(id),
        [
            is(DomainState::Running, "booted"),
            is(DomainState::Paused, "user"),
            is(DomainState::Running, "unpaused"),
            is(DomainState::Shutoff, "destroyed")
        ]
    );
}

#[tokio::test]
async fn a_machine_is_defined_noted_renamed_and_forgotten() {
    let (config, _file) = made_up(0);
    let (host, recorder) = connected(config);
    let id = host.domains.define(spec("web1"), Vec::new()).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, DomainChange::Defined("added")));
    let record = host.domains.read(id).await.unwrap();
    assert_eq!((&*record.name, record.facts.note.as_deref()), ("web1", Some("a < b & c")));
    assert_eq!((record.facts.memory, record.facts.vcpus, record.facts.persistent), (Bytes::mib(64), 1, true));
    assert_eq!(&*record.facts.virtualization, "test");

    host.domains.set_autostart(id, true).await.unwrap();
    host.domains.set_note(id, Some("second".into())).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, DomainChange::Changed("metadata")));
    host.domains.rename(id, "web2".into()).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, DomainChange::Defined("renamed")));
    let record = host.domains.read(id).await.unwrap();
    assert_eq!((&*record.name, record.facts.note.as_deref(), record.facts.autostart), ("web2", Some("second"), true));
    assert!(host.domains.xml(id, true).await.unwrap().contains("<name>web2</name>"));
    assert!(!recorder.of(id).contains(&DomainChange::Undefined), "a rename was reported as an end");

    host.domains.set_note(id, None).await.unwrap();
    assert_eq!(host.domains.read(id).await.unwrap().facts.note, None);
    host.domains.undefine(id).await.unwrap();
    recorder.wait_for(&HostChange::Domain(id, DomainChange::Undefined));
    assert_eq!(kind(host.domains.read(id).await), FaultKind::NotFound);
}

#[tokio::test]
async fn errors_have_the_kinds_of_the_contract() {
    let (config, _file) = made_up(4);
    let (host, _recorder) = connected(config);
    let (running, off) = (DomainId(domain_uuid(0)), DomainId(domain_uuid(1)));
    let nobody = DomainId(domain_uuid(99));
    let d = &host.domains;
    assert_eq!(kind(d.start(right(running), false).await), FaultKind::WrongState);
    assert_eq!(kind(d.undefine(running).await), FaultKind::WrongState);
    assert_eq!(kind(d.rename(running, "other".into()).await), FaultKind::WrongState);
    assert_eq!(kind(d.resume(running).await), FaultKind::WrongState);
    for answer in [d.pause(off).await, d.resume(off).await, d.force_off(off).await, d.shutdown(off).await, d.reboot(off).await] {
        assert_eq!(kind(answer), FaultKind::WrongState);
    }
    d.pause(running).await.unwrap();
    assert_eq!(kind(d.pause(running).await), FaultKind::WrongState);
    assert_eq!(kind(d.read(nobody).await), FaultKind::NotFound);
    assert_eq!(kind(d.start(right(nobody), false).await), FaultKind::NotFound);
    assert_eq!(kind(d.define(spec("vm00001"), Vec::new()).await), FaultKind::Conflict);
    assert_eq!(kind(d.rename(off, "vm00002".into()).await), FaultKind::Conflict);
    let missing = DomainSpec { disk: Some(("default".into(), "nothing.qcow2".into())), ..spec("x") };
    assert_eq!(kind(d.define(missing, Vec::new()).await), FaultKind::NotFound);
    let fault = d.read(nobody).await.unwrap_err();
    assert!(fault.cause.is_some_and(|c| !c.is_empty()), "libvirt's own words are missing");
}

#[tokio::test]
async fn whoever_lists_after_connected_misses_nothing() {
    let (config, _file) = made_up(50);
    let (host, recorder) = connected(config);
    let before = recorder.all().len();
    let changer = host.clone();
    let changes = tokio::spawn(async move {
        for n in 0..50 {
            let id = DomainId(domain_uuid(n));
            if n % 2 == 0 { changer.domains.force_off(id).await.unwrap() } else { changer.domains.start(right(id), false).await.unwrap() }
        }
    });
    // Listed while everything changes: the list with the later events on top must give what is so in the end.
    let mut model: std::collections::HashMap<_, _> =
        host.domains.list().await.unwrap().into_iter().map(|r| (r.id, r.facts.state)).collect();
    assert_eq!(model.len(), 50);
    changes.await.unwrap();
    let states = |seen: &[HostChange]| seen.iter().filter(|c| matches!(c, HostChange::Domain(_, DomainChange::State(..)))).count();
    let seen = recorder.wait("50 changes of state", |seen| states(&seen[before..]) >= 50);
    for change in &seen[before..] {
        if let HostChange::Domain(id, DomainChange::State(state, _)) = change {
            model.insert(*id, *state);
        }
    }
    for record in host.domains.list().await.unwrap() {
        assert_eq!(model[&record.id], record.facts.state, "{}", record.name);
    }
}

#[tokio::test]
async fn overflow_is_reported_once_and_then_events_flow_again() {
    let (config, _file) = made_up(4);
    let (host, recorder) = connected(config);
    let id = DomainId(domain_uuid(0));
    recorder.full(true);
    host.domains.pause(id).await.unwrap();
    recorder.wait_until_refused();
    recorder.full(false);
    // Nothing happens on the host any more: the bridge must offer it by itself.
    recorder.wait_for(&HostChange::Overflow);
    host.domains.resume(id).await.unwrap();
    let resumed = HostChange::Domain(id, DomainChange::State(DomainState::Running, "unpaused"));
    let seen = recorder.wait_for(&resumed);
    assert_eq!(seen, [HostChange::Connected, HostChange::Overflow, resumed]);
}

#[tokio::test]
async fn a_full_queue_is_busy_and_loses_nothing_that_was_taken() {
    let (mut config, _file) = made_up(300);
    config.readers = 1;
    config.queue = 4;
    let (host, _recorder) = connected(config);
    let many: Vec<_> = (0..100).map(|_| host.domains.list()).collect();
    let answers = futures::future::join_all(many).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(good.len() >= 4 && !bad.is_empty(), "{} good, {} refused", good.len(), bad.len());
    for answer in bad {
        assert_eq!(kind(answer), FaultKind::Busy);
    }
    host.domains.list().await.unwrap();
}

#[tokio::test]
async fn networks_and_pools_start_stop_and_report() {
    let (config, _file) = made_up(0);
    let (host, recorder) = connected(config);
    let net = host.networks.list().await.unwrap().remove(0);
    assert_eq!((&*net.name, net.facts.state, &*net.facts.forward), ("default", NetworkState::Active, "nat"));
    assert_eq!(kind(host.networks.start(net.id).await), FaultKind::WrongState);
    host.networks.stop(net.id).await.unwrap();
    recorder.wait_for(&HostChange::Network(net.id, NetworkChange::Stopped));
    assert_eq!(host.networks.read(net.id).await.unwrap().facts.state, NetworkState::Inactive);
    host.networks.start(net.id).await.unwrap();
    recorder.wait_for(&HostChange::Network(net.id, NetworkChange::Started));
    host.networks.set_autostart(net.id, true).await.unwrap();
    assert!(host.networks.read(net.id).await.unwrap().facts.autostart);

    let pool = host.pools.list().await.unwrap().remove(0);
    assert_eq!((&*pool.name, pool.facts.state, &*pool.facts.pool_type), ("default", PoolState::Running, "dir"));
    assert_eq!(pool.facts.path.as_deref(), Some("/default-pool"));
    host.pools.refresh(pool.id).await.unwrap();
    recorder.wait_for(&HostChange::StoragePool(pool.id, PoolChange::Refreshed));
    let mut volumes = host.volumes.list(pool.id).await.unwrap();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(volumes.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["boot.tick", "disk0.qcow2"]);
    let disk = host.volumes.read(pool.id, "disk0.qcow2".into()).await.unwrap();
    assert_eq!((disk.facts.capacity, disk.facts.format.as_deref()), (Bytes(10 << 30), Some("qcow2")));
    assert_eq!(kind(host.volumes.read(pool.id, "none".into()).await), FaultKind::NotFound);
    host.pools.stop(pool.id).await.unwrap();
    recorder.wait_for(&HostChange::StoragePool(pool.id, PoolChange::Stopped));
    let facts = host.pools.read(pool.id).await.unwrap().facts;
    assert_eq!((facts.state, facts.capacity), (PoolState::Inactive, Bytes(0)));
    host.pools.start(pool.id).await.unwrap();
    recorder.wait_for(&HostChange::StoragePool(pool.id, PoolChange::Started));
}

#[tokio::test]
async fn the_hypervisor_tells_its_facts() {
    let (config, _file) = made_up(0);
    let (host, _recorder) = connected(config);
    let facts = host.hypervisor.facts().await.unwrap();
    assert_eq!((&*facts.driver, &*facts.acceleration, facts.cpus), ("Test", "none", 8));
    assert!(facts.libvirt_version.split('.').count() == 3, "{}", facts.libvirt_version);
}

#[tokio::test]
async fn a_host_with_no_memory_to_tell_of_has_none_left() {
    let (config, _file) = made_up(1);
    let (host, _recorder) = connected(config);
    let room = host.migration.room().await.unwrap();
    assert_eq!(room.memory_free, Bytes(0), "{room:?}");
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_fails_fast_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("qemu:///system?socket={}/nobody", dir.path().display());
    let host = archipel_libvirt::open(archipel_libvirt::LinkConfig::new("beta".parse().unwrap(), uri));
    let begun = Instant::now();
    assert_eq!(kind(host.domains.list().await), FaultKind::Unavailable);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let recorder = Recorder::new();
    host.link.watch(recorder.clone());
    recorder.wait("a reason", |seen| matches!(seen, [HostChange::Lost(reason)] if reason.contains("nobody")));
    host.link.close();
    assert_eq!(kind(host.domains.list().await), FaultKind::Unavailable);
}

#[tokio::test]
async fn a_closed_link_reports_and_does_nothing_more() {
    let (config, _file) = made_up(1);
    let (host, recorder) = connected(config);
    host.link.close();
    recorder.forget();
    let fault = host.domains.list().await.unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Unavailable, "the link to alpha was closed"));
    host.link.watch(recorder.clone());
    assert!(recorder.all().is_empty());
}

#[tokio::test]
async fn a_replaced_observer_hears_no_more_and_the_new_one_is_told_connected() {
    let (config, _file) = made_up(1);
    let (host, first) = connected(config);
    let second = Recorder::new();
    host.link.watch(second.clone());
    assert_eq!(second.all(), [HostChange::Connected]);
    let id = DomainId(domain_uuid(0));
    host.domains.pause(id).await.unwrap();
    second.wait_for(&HostChange::Domain(id, DomainChange::State(DomainState::Paused, "user")));
    assert_eq!(first.all(), [HostChange::Connected]);
}

#[tokio::test]
async fn ten_thousand_machines_are_listed_in_well_under_a_second() {
    let (config, _file) = made_up(10_000);
    let (host, _recorder) = connected(config);
    let mut fastest = Duration::MAX;
    // The best of three: other work on the machine must not decide.
    for _ in 0..3 {
        let begun = Instant::now();
        assert_eq!(host.domains.list().await.unwrap().len(), 10_000);
        fastest = fastest.min(begun.elapsed());
    }
    println!("listing 10,000 machines took {fastest:?}");
    // A build without optimisation on a shared machine gets three times the time an optimised one has to keep.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 1000 });
    assert!(fastest < limit, "{fastest:?}");
}

/// A libvirtd that stands still takes connections and never answers; libvirt itself would wait for ever.
#[tokio::test]
async fn a_libvirtd_that_takes_a_connection_and_never_answers_is_told_as_lost_and_does_not_hold_up_the_end() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("libvirt-sock");
    let _deaf = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let config = archipel_libvirt::LinkConfig::new("alpha".parse().unwrap(), format!("qemu:///system?socket={}", socket.display()));
    let host = archipel_libvirt::open(config);
    let recorder = Recorder::new();
    host.link.watch(recorder.clone());
    let seen = recorder.wait("the loss", |seen| !seen.is_empty());
    assert!(matches!(&seen[..], [HostChange::Lost(why)] if why.contains("not answered")), "{seen:?}");
    let fault = host.domains.list().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    let began = Instant::now();
    host.link.close();
    drop(host);
    assert!(began.elapsed() < Duration::from_secs(5), "closing waited for libvirtd");
}
