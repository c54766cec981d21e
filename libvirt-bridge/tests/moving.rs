//! Moving machines between two real libvirt hosts. It runs where `ARCHIPEL_TEST_QEMU_PAIR` names two (`URI URI`) that reach each
//! other by the names they give themselves, with TLS, and says so where not.
//!
//! `ARCHIPEL_TEST_QEMU_BUSY` names a machine on the first one with some dozens of mebibytes in use and a disk that both see; `ARCHIPEL_TEST_QEMU_OWN` one like it whose disk lies in a pool that each host has of its own. Both run when a test
//! begins and when it ends, on the first host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use archipel_contract::{
    DomainId, FaultKind,
    conformance::migration::{self as suite, both, stands},
    domain::DomainState,
    host::{DomainChange, Host, HostChange},
    migration::{ObstacleKind, Standing, Transferred, Transport, Way},
};
use archipel_libvirt::LinkConfig;
use common::{Recorder, connected, kind};
use std::sync::Arc;

const RUNNING: Standing = Standing::Here(DomainState::Running);

struct Pair {
    source: Host,
    target: Host,
    /// What the source and the target reported.
    told: [Arc<Recorder>; 2],
}

fn pair(test: &str) -> Option<Pair> {
    let Ok(both) = std::env::var("ARCHIPEL_TEST_QEMU_PAIR") else {
        println!("SKIPPED {test}: ARCHIPEL_TEST_QEMU_PAIR names no two hosts");
        return None;
    };
    let mut ends = both.split_whitespace().zip(["alpha", "beta"]).map(|(uri, name)| connected(LinkConfig::new(name.parse().unwrap(), uri)));
    let ((source, first), (target, second)) = (ends.next().unwrap(), ends.next().unwrap());
    Some(Pair { source, target, told: [first, second] })
}

async fn machine(host: &Host, variable: &str) -> DomainId {
    let name = std::env::var(variable).unwrap();
    host.domains.list().await.unwrap().into_iter().find(|r| *r.name == *name).unwrap_or_else(|| panic!("no {name}")).id
}

fn trusting() -> Way {
    Way { trust_storage: true, ..Way::default() }
}

/// Moves it there and back, and forgets the definition that is left over there.
async fn there_and_back(pair: &Pair, id: DomainId, way: &Way) -> Transferred {
    let needs = pair.source.migration.passport(id).await.unwrap();
    assert_eq!(pair.target.migration.obstacles(needs, way.clone()).await.unwrap(), []);
    let done = pair.source.migration.transfer(id, pair.target.migration.landing().await.unwrap(), way.clone()).await.unwrap();
    stands(&pair.source, id, Standing::Departed).await;
    stands(&pair.target, id, RUNNING).await;
    assert!(done.downtime.is_some() && done.sent.0 > 0, "libvirt told no figures: {done:?}");
    home(pair, id).await;
    done
}

async fn home(pair: &Pair, id: DomainId) {
    let landing = pair.source.migration.landing().await.unwrap();
    pair.target.migration.transfer(id, landing, trusting()).await.unwrap();
    stands(&pair.source, id, RUNNING).await;
    stands(&pair.target, id, Standing::Departed).await;
    pair.target.migration.discard(id).await.unwrap();
    stands(&pair.target, id, Standing::Absent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_of_moving_holds_between_real_hosts() {
    let Some(Pair { source, target, .. }) = pair("the_contract_of_moving_holds_between_real_hosts") else { return };
    let tag = &std::process::id().to_string();
    for host in [&source, &target] {
        suite::absent_machine(host).await;
    }
    // The suite watches for itself, so it comes with hosts of its own.
    suite::there_and_back(&source, &target, tag).await;
    suite::a_paused_machine_stays_paused(&source, &target, tag).await;
    suite::a_definition_travels(&source, &target, tag).await;
    suite::obstacles_are_told_at_once(&source, &target, tag).await;
    let landing = target.migration.landing().await.unwrap();
    assert!(landing.uri.starts_with("qemu+tls://") && landing.uri.ends_with("/system"), "{landing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_machine_travels_by_every_way() {
    let Some(pair) = pair("a_busy_machine_travels_by_every_way") else { return };
    let id = machine(&pair.source, "ARCHIPEL_TEST_QEMU_BUSY").await;
    let ways = [
        ("direct", trusting()),
        ("tls", Way { transport: Transport::Tls, ..trusting() }),
        ("tunnelled", Way { transport: Transport::Tunnelled, ..trusting() }),
        ("parallel", Way { parallel: Some(2), ..trusting() }),
        ("auto-converge, 20 MiB/s", Way { auto_converge: true, bandwidth_mib: Some(20), ..trusting() }),
    ];
    for (name, way) in ways {
        let done = there_and_back(&pair, id, &way).await;
        println!("NOTE {name}: {} ms, {} sent, downtime {} ms", done.took.0, done.sent, done.downtime.unwrap_or_default().0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_transfer_can_be_given_up() {
    let Some(pair) = pair("a_busy_transfer_can_be_given_up") else { return };
    let id = machine(&pair.source, "ARCHIPEL_TEST_QEMU_BUSY").await;
    let slow = Way { bandwidth_mib: Some(1), ..trusting() };
    suite::a_transfer_can_be_given_up(&pair.source, &pair.target, id, slow).await;
    pair.told[0].wait("a pass", |seen| seen.iter().any(|c| matches!(c, HostChange::Domain(d, DomainChange::Job(_)) if *d == id)));
    let appeared = HostChange::Domain(id, DomainChange::Appeared("migrated"));
    pair.told[1].wait_for(&appeared);
    pair.told[1].wait("its end", |seen| {
        seen.iter().any(|c| matches!(c, HostChange::Domain(d, DomainChange::State(DomainState::Shutoff, _)) if *d == id))
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_that_is_not_known_to_be_shared_is_told_before() {
    let Some(pair) = pair("storage_that_is_not_known_to_be_shared_is_told_before") else { return };
    let id = machine(&pair.source, "ARCHIPEL_TEST_QEMU_BUSY").await;
    let needs = pair.source.migration.passport(id).await.unwrap();
    let disk = needs.disks.first().unwrap();
    assert!(disk.kind == "file" && !disk.read_only && disk.capacity.is_some_and(|c| c.0 == 8 << 20), "{disk:?}");
    assert!(
        needs.machine.starts_with("pc-") && needs.arch == "x86_64" && needs.virtualization == "qemu" && needs.cpu.is_some(),
        "{needs:?}"
    );
    let told = |way| pair.target.migration.obstacles(needs.clone(), way);
    assert_eq!(told(trusting()).await.unwrap(), []);
    for way in [Way::default(), Way { copy_storage: true, ..Way::default() }] {
        let found = told(way.clone()).await.unwrap();
        assert_eq!(found.iter().map(|o| o.kind).collect::<Vec<_>>(), [ObstacleKind::Disk], "{way:?}: {found:?}");
    }
    // And libvirt thinks so too.
    let landing = pair.target.migration.landing().await.unwrap();
    let refused = pair.source.migration.transfer(id, landing, Way::default()).await.unwrap_err();
    assert_eq!(refused.kind, FaultKind::WrongState, "{refused}");
    stands(&pair.source, id, RUNNING).await;
    stands(&pair.target, id, Standing::Absent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_or_machine_that_is_not_there_is_told_before() {
    let Some(pair) = pair("a_processor_or_machine_that_is_not_there_is_told_before") else { return };
    let id = machine(&pair.source, "ARCHIPEL_TEST_QEMU_BUSY").await;
    let needs = pair.source.migration.passport(id).await.unwrap();
    let mut strange = needs.clone();
    strange.cpu = Some(needs.cpu.unwrap().replace("</model>", "</model><feature policy='require' name='amx-tile'/>"));
    strange.networks = vec!["nowhere".into()];
    strange.bridges = vec!["br-nowhere".into()];
    strange.hypervisor += 1_000_000;
    let found = pair.target.migration.obstacles(strange.clone(), trusting()).await.unwrap();
    let kinds: Vec<_> = found.iter().map(|o| o.kind).collect();
    assert_eq!(kinds, [ObstacleKind::Cpu, ObstacleKind::Network, ObstacleKind::Network, ObstacleKind::Version], "{found:?}");
    strange.machine = "pc-i440fx-99.9".into();
    let found = pair.target.migration.obstacles(strange.clone(), trusting()).await.unwrap();
    assert!(found.iter().any(|o| o.kind == ObstacleKind::Machine), "{found:?}");
    strange.virtualization = "kvm".into();
    let found = pair.target.migration.obstacles(strange, trusting()).await.unwrap();
    assert!(found.iter().any(|o| o.kind == ObstacleKind::Virtualization), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_sees_its_hosts_own_processor_needs_one_that_has_all_of_it() {
    let Some(pair) = pair("a_guest_that_sees_its_hosts_own_processor_needs_one_that_has_all_of_it") else { return };
    let id = machine(&pair.source, "ARCHIPEL_TEST_QEMU_BUSY").await;
    let needs = pair.source.migration.passport(id).await.unwrap();
    // What the passport holds of a guest with host-passthrough: libvirt gives none such without hardware virtualization.
    let own = std::env::var("ARCHIPEL_TEST_QEMU_CPU").unwrap();
    let told = |cpu: String| {
        pair.target.migration.obstacles(archipel_contract::migration::Passport { cpu: Some(cpu), ..needs.clone() }, trusting())
    };
    assert_eq!(told(own.clone()).await.unwrap(), []);
    // The one is of the one maker and the other of the other, so no processor has both.
    let found = told(own.replace("</cpu>", "<feature name='xop'/><feature name='amx-tile'/></cpu>")).await.unwrap();
    assert_eq!(found.iter().map(|o| o.kind).collect::<Vec<_>>(), [ObstacleKind::Cpu], "{found:?}");
}

/// What the pool `own` of a host holds.
async fn own(host: &Host) -> Vec<String> {
    let pool = host.pools.list().await.unwrap().into_iter().find(|p| &*p.name == "own").unwrap().id;
    host.pools.refresh(pool).await.unwrap();
    host.volumes.list(pool).await.unwrap().into_iter().map(|v| v.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_are_copied_and_a_copy_that_was_given_up_is_removed() {
    let Some(pair) = pair("disks_are_copied_and_a_copy_that_was_given_up_is_removed") else { return };
    let id = machine(&pair.source, "ARCHIPEL_TEST_QEMU_OWN").await;
    let needs = pair.source.migration.passport(id).await.unwrap();
    let found = pair.target.migration.obstacles(needs.clone(), trusting()).await.unwrap();
    assert_eq!(found.iter().map(|o| o.kind).collect::<Vec<_>>(), [ObstacleKind::Disk], "it is not there");
    let copying = Way { copy_storage: true, ..Way::default() };
    assert_eq!(pair.target.migration.obstacles(needs.clone(), copying.clone()).await.unwrap(), []);
    let mut large = needs.clone();
    large.disks[0].capacity = Some(archipel_contract::Bytes(1 << 60));
    assert_eq!(pair.target.migration.obstacles(large, copying.clone()).await.unwrap().len(), 1, "it has no room");

    let slow = Way { bandwidth_mib: Some(1), ..copying.clone() };
    suite::a_transfer_can_be_given_up(&pair.source, &pair.target, id, slow).await;
    let name = needs.disks[0].source.rsplit('/').next().unwrap().to_owned();
    assert!(own(&pair.target).await.contains(&name), "libvirt removes what it made by itself: then remove_copies can go");
    assert_eq!(
        pair.target.migration.obstacles(needs.clone(), copying.clone()).await.unwrap().len(),
        1,
        "what is left over stands in the way"
    );
    assert_eq!(kind(pair.source.migration.remove_copies(needs.clone()).await), FaultKind::WrongState, "the machine is here");
    assert_eq!(pair.target.migration.remove_copies(needs.clone()).await, Ok(1));
    assert_eq!(pair.target.migration.remove_copies(needs.clone()).await, Ok(0));
    assert!(own(&pair.source).await.contains(&name) && !own(&pair.target).await.contains(&name));

    for transport in [Transport::Direct, Transport::Tls] {
        let way = Way { transport, ..copying.clone() };
        assert_eq!(pair.target.migration.obstacles(needs.clone(), way.clone()).await.unwrap(), []);
        let done = pair.source.migration.transfer(id, pair.target.migration.landing().await.unwrap(), way.clone()).await.unwrap();
        println!("NOTE copied, {transport:?}: {} ms, {} sent, downtime {:?} ms", done.took.0, done.sent, done.downtime.map(|d| d.0));
        stands(&pair.target, id, RUNNING).await;
        // What is old at the source would be in the way of coming back.
        pair.source.migration.discard(id).await.unwrap();
        assert_eq!(pair.source.migration.remove_copies(needs.clone()).await, Ok(1));
        pair.target.migration.transfer(id, pair.source.migration.landing().await.unwrap(), way).await.unwrap();
        stands(&pair.source, id, RUNNING).await;
        pair.target.migration.discard(id).await.unwrap();
        assert_eq!(pair.target.migration.remove_copies(needs.clone()).await, Ok(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn post_copy_is_switched_to_in_the_first_pass() {
    let Some(pair) = pair("post_copy_is_switched_to_in_the_first_pass") else { return };
    let id = machine(&pair.source, "ARCHIPEL_TEST_QEMU_BUSY").await;
    let way = Way { post_copy: true, bandwidth_mib: Some(8), ..trusting() };
    let landing = pair.target.migration.landing().await.unwrap();
    pair.told[0].forget();
    let switching = async {
        let told = pair.told[0].clone();
        let first = HostChange::Domain(id, DomainChange::Job("migration pass 1".into()));
        tokio::task::spawn_blocking(move || told.wait_for(&first)).await.unwrap();
        assert!(!pair.source.migration.progress(id).await.unwrap().unwrap().post_copy);
        pair.source.migration.switch_to_post_copy(id).await.unwrap();
    };
    let (done, ()) = both(pair.source.migration.transfer(id, landing, way), switching).await;
    println!("NOTE post-copy: {:?}", done.unwrap());
    let at = |n: usize, state, why| pair.told[n].wait_for(&HostChange::Domain(id, DomainChange::State(state, why)));
    at(0, DomainState::Paused, "postcopy");
    at(0, DomainState::Shutoff, "migrated");
    at(1, DomainState::Running, "postcopy");
    stands(&pair.source, id, Standing::Departed).await;
    stands(&pair.target, id, RUNNING).await;
    home(&pair, id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_answered_while_machines_are_on_their_way() {
    let Some(pair) = pair("reads_are_answered_while_machines_are_on_their_way") else { return };
    let (busy, own) = (machine(&pair.source, "ARCHIPEL_TEST_QEMU_BUSY").await, machine(&pair.source, "ARCHIPEL_TEST_QEMU_OWN").await);
    let slow = |copy_storage| Way { bandwidth_mib: Some(1), copy_storage, ..trusting() };
    let landing = pair.target.migration.landing().await.unwrap();
    let one = pair.source.migration.transfer(busy, landing.clone(), slow(false));
    let two = pair.source.migration.transfer(own, landing, slow(true));
    let asking = async {
        for id in [busy, own] {
            stands(&pair.source, id, Standing::Leaving).await;
            stands(&pair.target, id, Standing::Arriving).await;
        }
        for _ in 0..50 {
            pair.source.domains.list().await.unwrap();
            pair.target.domains.list().await.unwrap();
        }
        for id in [busy, own] {
            pair.source.migration.cancel(id).await.unwrap();
        }
    };
    let ((one, two), ()) = both(both(one, two), asking).await;
    assert!(one.is_err() && two.is_err());
    let needs = pair.source.migration.passport(own).await.unwrap();
    for id in [busy, own] {
        stands(&pair.source, id, RUNNING).await;
        stands(&pair.target, id, Standing::Absent).await;
    }
    pair.target.migration.remove_copies(needs).await.unwrap();
}
