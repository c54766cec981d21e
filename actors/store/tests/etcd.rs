//! The ports on a real etcd: the contract's conformance suites, and what is etcd's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod etcd_cluster;

use archipel_contract::conformance::{accounts, authority, documents, journal};
use archipel_contract::port::{Acceptance, Authority, Documents, Journal, Operation};
use archipel_contract::{DomainId, EntityId, Epoch, FaultKind, HypervisorName, Millis, OperationId, OwnershipStep, Role, Timestamp};
use archipel_store::{Etcd, EtcdConfig};
use etcd_cluster::Cluster;
use std::time::Instant;
use uuid::Uuid;

fn name(text: &str) -> HypervisorName {
    text.parse().unwrap()
}

fn domain(n: u128) -> DomainId {
    DomainId(Uuid::from_u128(n))
}

/// A cell of its own in the same cluster.
fn cell(cluster: &Cluster, name: &str) -> Etcd {
    cluster.open(&EtcdConfig { prefix: format!("/archipel/{name}/"), ..cluster.config() })
}

#[tokio::test]
async fn it_is_an_authority() {
    let Some(cluster) = Cluster::start(1).await else { return };
    authority::first_claim_wins(&cell(&cluster, "a")).await;
    authority::epochs_only_grow(&cell(&cluster, "b")).await;
    authority::the_shelf(&cell(&cluster, "c")).await;
    authority::one_leader_at_a_time(&cell(&cluster, "d")).await;
}

#[tokio::test]
async fn it_is_a_journal() {
    let Some(cluster) = Cluster::start(1).await else { return };
    journal::the_first_answer_stands(&cell(&cluster, "a")).await;
    journal::an_id_names_one_request(&cell(&cluster, "b")).await;
    journal::the_interrupted_are_found(&cell(&cluster, "c")).await;
}

#[tokio::test]
async fn it_keeps_accounts_and_documents() {
    let Some(cluster) = Cluster::start(1).await else { return };
    accounts::life_of_an_account(&cell(&cluster, "a")).await;
    documents::a_document_is_changed_from_what_was_read(&cell(&cluster, "b")).await;
    documents::documents_are_found_by_prefix(&cell(&cluster, "c")).await;
}

#[tokio::test]
async fn ten_thousand_machines_are_claimed_and_read_back_in_order() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cell(&cluster, "a");
    // Not in the order of their ids, one twice, and some of them another's.
    let mut ids: Vec<DomainId> = (0..10_000).map(|n| domain(n * 7919 % 10_000)).collect();
    ids.push(ids[0]);
    let theirs: Vec<DomainId> = ids.iter().copied().skip(100).step_by(50).take(100).collect();
    etcd.claim_unowned(theirs.clone(), name("beta")).await.unwrap();
    etcd.forget(theirs[0], Epoch(1)).await.unwrap();
    let begin = Instant::now();
    let held = etcd.claim_unowned(ids.clone(), name("alpha")).await.unwrap();
    let (claimed, begin) = (begin.elapsed(), Instant::now());
    let again = etcd.claim_unowned(ids.clone(), name("alpha")).await.unwrap();
    println!("claiming 10,000 machines: {} ms, asking again: {} ms", claimed.as_millis(), begin.elapsed().as_millis());
    assert_eq!(held.iter().map(|o| o.domain).collect::<Vec<_>>(), ids, "answers stand in the order of the question");
    assert_eq!(held, again);
    assert_eq!(held.iter().filter(|o| o.owner == name("beta")).count(), 99);
    let forgotten = held.iter().find(|o| o.domain == theirs[0]).unwrap();
    assert_eq!((forgotten.epoch, forgotten.owner.as_str()), (Epoch(2), "alpha"));
}

#[tokio::test]
async fn of_two_hosts_that_unpark_at_once_exactly_one_wins() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let (one, two) = (cell(&cluster, "a"), cell(&cluster, "a"));
    let ids: Vec<DomainId> = (0..50).map(domain).collect();
    one.claim_unowned(ids.clone(), name("alpha")).await.unwrap();
    for id in ids {
        one.step(id, Epoch(1), OwnershipStep::Park { by: name("alpha") }).await.unwrap();
        let unpark = |by: &str| OwnershipStep::Unpark { by: name(by) };
        let (a, b) = tokio::join!(one.step(id, Epoch(1), unpark("beta")), two.step(id, Epoch(1), unpark("gamma")));
        let (won, lost) = if a.is_ok() { (a, b) } else { (b, a) };
        let (won, lost) = (won.unwrap(), lost.unwrap_err());
        assert_eq!((won.epoch, lost.kind), (Epoch(2), FaultKind::Conflict), "{won:?} {lost}");
        assert_eq!(one.ownership(id).await.unwrap(), Some(won));
    }
    assert_eq!(one.parked().await.unwrap(), []);
}

fn operation(n: u128) -> Operation {
    Operation {
        id: OperationId(Uuid::from_u128(n)),
        caller: "admin@cell".into(),
        role: Role::Admin,
        command: "domain.start".into(),
        target: EntityId::Domain(domain(n)),
        arguments: serde_json::json!({}),
        accepted: Timestamp(1000 + n as u64),
    }
}

#[tokio::test]
async fn many_operations_are_found_and_forgotten_whatever_fits_a_page() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cell(&cluster, "a");
    for n in 0..250 {
        etcd.accept(operation(n)).await.unwrap();
    }
    for n in 100..250 {
        etcd.complete("admin@cell".into(), operation(n).id, Ok(serde_json::json!(n as u64)), Timestamp(5000 + n as u64)).await.unwrap();
    }
    let open: Vec<Operation> = (0..100).map(operation).collect();
    assert_eq!(etcd.interrupted().await.unwrap(), open);
    assert_eq!(etcd.forget_before(Timestamp(5240)).await.unwrap(), 140);
    assert_eq!(etcd.forget_before(Timestamp(5240)).await.unwrap(), 0);
    assert_eq!(etcd.recall(operation(239)).await.unwrap(), None);
    assert_eq!(etcd.recall(operation(240)).await.unwrap(), Some(Acceptance::Done(Ok(serde_json::json!(240)))));
    assert_eq!(etcd.interrupted().await.unwrap(), open);
}

#[tokio::test]
async fn large_documents_are_listed_together() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cell(&cluster, "a");
    for n in 0..20u8 {
        etcd.write_document(format!("parked/{n:02}"), None, Some(vec![n; 1 << 20])).await.unwrap();
    }
    let all = etcd.documents("parked/".into()).await.unwrap();
    assert_eq!(all.len(), 20);
    assert!(all.iter().enumerate().all(|(n, (key, d))| *key == format!("parked/{n:02}") && d.body == vec![n as u8; 1 << 20]));
}

#[tokio::test]
async fn cells_in_one_cluster_know_nothing_of_each_other() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let (one, two) = (cell(&cluster, "a"), cell(&cluster, "a.b"));
    one.claim_unowned(vec![domain(1)], name("alpha")).await.unwrap();
    one.write_document("x".into(), None, Some(vec![1])).await.unwrap();
    one.accept(operation(1)).await.unwrap();
    assert_eq!(two.ownership(domain(1)).await.unwrap(), None);
    assert_eq!(two.documents(String::new()).await.unwrap(), []);
    assert_eq!(two.interrupted().await.unwrap(), []);
    assert_eq!(one.documents(String::new()).await.unwrap().len(), 1);
}

const LEASE: Millis = Millis::seconds(2);

#[tokio::test]
async fn a_leader_that_paused_longer_than_its_lease_is_replaced_and_refused() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let (one, two) = (cell(&cluster, "a"), cell(&cluster, "a"));
    let lead = |etcd: &Etcd, who: &str, now: u64| {
        let (etcd, who) = (etcd.clone(), who.to_owned());
        async move { etcd.lead("exchange".into(), who, LEASE, Timestamp(now)).await }
    };
    // The time of day that is given decides nothing, however wrong it is; only `until` is counted from it.
    let first = lead(&one, "one", 1_000_000).await.unwrap();
    assert_eq!((first.epoch, first.until), (Epoch(1), Timestamp(1_002_000)));
    assert_eq!(lead(&two, "two", 9_000_000).await.unwrap_err().kind, FaultKind::Conflict);
    let begin = Instant::now();
    let waiting = two.clone();
    let mut vacancy = tokio::spawn(async move { waiting.vacancy("exchange".into(), Timestamp(0)).await });
    let mut renewal = begin;
    while begin.elapsed() < 2 * LEASE.duration() {
        renewal = Instant::now();
        let renewed = lead(&one, "one", 1_000_000).await.unwrap();
        assert_eq!(renewed.epoch, Epoch(1));
        let early = tokio::time::timeout(LEASE.duration() / 4, &mut vacancy).await;
        assert!(early.is_err(), "it is renewed and not vacant: {early:?}");
    }
    // Now it pauses.
    vacancy.await.unwrap().unwrap();
    println!("vacant {} ms after the last renewal of a lease of {} ms", renewal.elapsed().as_millis(), LEASE.0);
    let second = lead(&two, "two", 0).await.unwrap();
    assert_eq!(second.epoch, Epoch(2));
    let late = lead(&one, "one", 1_000_000).await.unwrap_err();
    assert_eq!(late.kind, FaultKind::Conflict);
    assert!(late.message.contains("two leads exchange"), "{late}");
    // What is given back is free at once, and whoever did not have it changes nothing.
    one.resign("exchange".into(), "one".into()).await.unwrap();
    assert_eq!(lead(&one, "one", 0).await.unwrap_err().kind, FaultKind::Conflict);
    two.resign("exchange".into(), "two".into()).await.unwrap();
    one.vacancy("exchange".into(), Timestamp(0)).await.unwrap();
    assert_eq!(lead(&one, "one", 0).await.unwrap().epoch, Epoch(3));
}

#[tokio::test]
async fn of_many_that_want_to_lead_one_does_and_epochs_are_never_used_twice() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cell(&cluster, "a");
    for epoch in 1..=10 {
        let tries = (0..8).map(|n| etcd.lead("exchange".into(), format!("h{n}"), LEASE, Timestamp(0)));
        let answers = futures::future::join_all(tries).await;
        let won: Vec<usize> = (0..8).filter(|n| answers[*n].is_ok()).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert_eq!(answers[won[0]].as_ref().unwrap().epoch, Epoch(epoch));
        assert!(answers.iter().flat_map(|a| a.as_ref().err()).all(|f| f.kind == FaultKind::Conflict));
        etcd.resign("exchange".into(), format!("h{}", won[0])).await.unwrap();
    }
}
