//! What an exchange changes belongs to its term, however late it arrives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod etcd_cluster;
mod etcd_wire;

use archipel_contract::conformance::{accounts, authority, documents, journal, terms};
use archipel_contract::port::{Authority, Documents};
use archipel_contract::{DomainId, Epoch, FaultKind, Millis, OwnershipStep, Timestamp};
use archipel_store::{Etcd, EtcdConfig};
use etcd_cluster::Cluster;
use etcd_wire::Wire;
use std::time::{Duration, Instant};

const LEASE: Millis = Millis::seconds(60);

async fn lead(etcd: &Etcd, who: &str) -> Epoch {
    etcd.lead("exchange".into(), who.into(), LEASE, Timestamp(0)).await.unwrap().epoch
}

async fn succeed(etcd: &Etcd, before: &str, after: &str) -> Etcd {
    etcd.resign("exchange".into(), before.into()).await.unwrap();
    let epoch = lead(etcd, after).await;
    etcd.in_term("exchange", epoch).await.unwrap()
}

#[tokio::test]
async fn in_a_term_everything_is_as_without_one() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let cell = async |name: &str| {
        let etcd = cluster.open(&EtcdConfig { prefix: format!("/archipel/{name}/"), ..cluster.config() });
        let epoch = lead(&etcd, "one").await;
        etcd.in_term("exchange", epoch).await.unwrap()
    };
    authority::first_claim_wins(&cell("a").await).await;
    authority::epochs_only_grow(&cell("b").await).await;
    authority::the_shelf(&cell("c").await).await;
    journal::the_first_answer_stands(&cell("d").await).await;
    journal::an_id_names_one_request(&cell("e").await).await;
    journal::the_interrupted_are_found(&cell("f").await).await;
    accounts::life_of_an_account(&cell("g").await).await;
    documents::a_document_is_changed_from_what_was_read(&cell("h").await).await;
    documents::documents_are_found_by_prefix(&cell("i").await).await;
}

#[tokio::test]
async fn what_a_succeeded_term_changes_is_refused() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cluster.open(&cluster.config());
    let epoch = lead(&etcd, "one").await;
    let old = etcd.in_term("exchange", epoch).await.unwrap();
    terms::what_a_succeeded_term_changes_is_refused(&old, async || succeed(&etcd, "one", "two").await).await;
    let late = etcd.in_term("exchange", epoch).await.err().expect("its term is over");
    assert_eq!(late.kind, FaultKind::Unavailable);
    // The same holder in another term is another exchange, too.
    let third = succeed(&etcd, "two", "one").await;
    assert!(old.write_document("plan".into(), None, Some(vec![9])).await.is_err());
    third.write_document("x".into(), None, Some(vec![1])).await.unwrap();
    // Vacant is over as well: nobody knows yet who comes next.
    etcd.resign("exchange".into(), "one".into()).await.unwrap();
    assert_eq!(third.write_document("y".into(), None, Some(vec![1])).await.unwrap_err().kind, FaultKind::Unavailable);
}

#[tokio::test]
async fn a_change_that_was_on_its_way_when_the_next_began_to_lead_is_not_made() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let direct = cluster.open(&cluster.config());
    let wire = Wire::to(&cluster.endpoints()[0]).await;
    let slow = cluster.open(&EtcdConfig { endpoints: vec![wire.endpoint().to_owned()], ..cluster.config() });
    let machine = DomainId(uuid::Uuid::from_u128(1));
    direct.claim_unowned(vec![machine], "alpha".parse().unwrap()).await.unwrap();
    let epoch = lead(&direct, "one").await;
    let old = slow.in_term("exchange", epoch).await.unwrap();
    // It reads how the machine stands, and its change stays on the way; as does every attempt to send it again.
    wire.keep_after(1);
    let park = OwnershipStep::Park { by: "alpha".parse().unwrap() };
    let late = tokio::spawn(async move { old.step(machine, Epoch(1), park).await });
    let end = Instant::now() + Duration::from_secs(10);
    while wire.kept() == 0 {
        assert!(Instant::now() < end, "the change is sent");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let new = succeed(&direct, "one", "two").await;
    wire.deliver();
    let fault = late.await.unwrap().expect_err("it comes too late");
    assert!(fault.kind == FaultKind::Unavailable && fault.message.contains("term 1 of the exchange is over"), "{fault}");
    assert_eq!(new.parked().await.unwrap(), []);
}

#[tokio::test]
async fn a_change_that_was_made_in_its_term_is_known_though_its_answer_was_lost_and_the_term_is_over() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let direct = cluster.open(&cluster.config());
    let (losing, slow) = (Wire::to(&cluster.endpoints()[0]).await, Wire::to(&cluster.endpoints()[0]).await);
    // The first answer is lost on one way; the second attempt stays on the other until the next one leads.
    let endpoints = vec![losing.endpoint().to_owned(), slow.endpoint().to_owned()];
    let both = cluster.open(&EtcdConfig { endpoints, ..cluster.config() });
    let epoch = lead(&direct, "one").await;
    let old = both.in_term("exchange", epoch).await.unwrap();
    losing.lose_after(1);
    slow.keep_after(0);
    let late = tokio::spawn(async move { old.write_document("plan".into(), None, Some(vec![1])).await });
    let end = Instant::now() + Duration::from_secs(10);
    while slow.kept() == 0 {
        assert!(Instant::now() < end, "the change is sent again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let new = succeed(&direct, "one", "two").await;
    let version = new.document("plan".into()).await.unwrap().expect("it was made").version;
    slow.deliver();
    assert_eq!(late.await.unwrap().expect("it was made in its term"), version);
}
