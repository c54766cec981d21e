//! A cell on one disk that gets more exchanges: carried over to etcd whole, once, or not at all. And what is told of changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod etcd_cluster;

use archipel_contract::port::{
    Acceptance, Account, AccountKind, Accounts, Authority, Documents, Journal, Operation, RosterEntry, ScramKeys,
};
use archipel_contract::{DomainId, EntityId, Epoch, FaultKind, OperationId, OwnershipStep, Role, Timestamp};
use archipel_store::{Carried, Content, Etcd, EtcdConfig, Store, Watch, Watched};
use etcd_cluster::Cluster;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

fn account(local: &str, salt: u8) -> Account {
    let keys = ScramKeys { stored: vec![1], server: vec![2] };
    let kind = AccountKind::Person(Role::Admin);
    Account { local: local.into(), kind, salt: vec![salt], iterations: 4096, sha1: keys.clone(), sha256: keys }
}

fn domain(n: u128) -> DomainId {
    DomainId(Uuid::from_u128(n))
}

fn cell_itself() -> EntityId {
    archipel_contract::cell::journal_target().unwrap()
}

fn operation(n: u128, target: EntityId) -> Operation {
    Operation {
        id: OperationId(Uuid::from_u128(n)),
        caller: "admin@cell".into(),
        role: Role::Admin,
        command: "cell.invite".into(),
        target,
        arguments: serde_json::json!({}),
        accepted: Timestamp(1000),
    }
}

async fn write(documents: &dyn Documents, key: &str, body: &[u8]) {
    documents.write_document(key.into(), None, Some(body.to_vec())).await.unwrap();
}

/// A cell with one exchange that has lived for a while; its agent's own things lie in the same file.
async fn lived(authority: &[u8]) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.add(account("zoe", 1)).await.unwrap();
    store.add(account("yan", 2)).await.unwrap();
    store.put_roster("zoe".into(), RosterEntry { jid: "a@b".into(), name: Some("A".into()), groups: vec!["g".into()] }).await.unwrap();
    for (key, body) in [("ca/authority", authority), ("member/beta", b"m"), ("parked/x", b"<domain/>"), ("agent/alpha/saga/1", b"own")] {
        write(&store, key, body).await;
    }
    write(&store, "exchange-epoch", b"7").await;
    let alpha = || "alpha".parse().unwrap();
    store.claim_unowned((1..=120).map(domain).collect(), alpha()).await.unwrap();
    store.step(domain(1), Epoch(1), OwnershipStep::Park { by: alpha() }).await.unwrap();
    store.step(domain(1), Epoch(1), OwnershipStep::Unpark { by: alpha() }).await.unwrap();
    store.step(domain(2), Epoch(1), OwnershipStep::Park { by: alpha() }).await.unwrap();
    store.forget(domain(3), Epoch(1)).await.unwrap();
    for n in [1, 2] {
        assert_eq!(store.accept(operation(n, cell_itself())).await.unwrap(), Acceptance::New);
    }
    store.complete("admin@cell".into(), OperationId(Uuid::from_u128(1)), Ok(serde_json::json!("done")), Timestamp(2000)).await.unwrap();
    store.accept(operation(3, EntityId::Domain(domain(1)))).await.unwrap();
    (dir, store)
}

async fn content(store: &Store) -> Content {
    store.content(cell_itself()).await.unwrap()
}

/// Everything below the cell's prefix, with its revisions.
async fn dump(cluster: &Cluster) -> Vec<(String, i64)> {
    let mut client = etcd_client::Client::connect(cluster.endpoints(), None).await.unwrap();
    let all = client.get("/archipel/", Some(etcd_client::GetOptions::new().with_prefix())).await.unwrap();
    all.kvs().iter().map(|kv| (kv.key_str().unwrap().to_owned(), kv.mod_revision())).collect()
}

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);

#[tokio::test]
async fn a_cell_on_one_disk_is_carried_over_whole_and_once() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cluster.open(&cluster.config());
    let (_dir, store) = lived(b"one").await;
    let all = content(&store).await;
    assert_eq!(all.summary(), "2 accounts, 1 members, 119 machines, 1 parked definitions, 3 documents in all");
    assert_eq!(etcd.carry_over(&all, ONE, "alpha").await.unwrap(), Carried::Now);

    assert_eq!(etcd.list().await.unwrap(), store.list().await.unwrap());
    assert_eq!(etcd.roster("zoe".into()).await.unwrap(), store.roster("zoe".into()).await.unwrap());
    let keys: Vec<String> = etcd.documents(String::new()).await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["ca/authority", "member/beta", "parked/x"], "and nothing of the agent's own");
    assert_eq!(etcd.document("ca/authority".into()).await.unwrap().unwrap().body, b"one");
    for n in 1..=120 {
        assert_eq!(etcd.ownership(domain(n)).await.unwrap(), store.ownership(domain(n)).await.unwrap(), "{n}");
    }
    assert_eq!(etcd.ownership(domain(1)).await.unwrap().unwrap().epoch, Epoch(2));
    assert_eq!(etcd.parked().await.unwrap(), store.parked().await.unwrap());
    let again = etcd.claim_unowned(vec![domain(3)], "beta".parse().unwrap()).await.unwrap();
    assert_eq!(again[0].epoch, Epoch(2), "the epoch of a forgotten machine is not used again");
    assert_eq!(etcd.interrupted().await.unwrap(), [operation(2, cell_itself())]);
    let done = etcd.recall(operation(1, cell_itself())).await.unwrap();
    assert_eq!(done, Some(Acceptance::Done(Ok(serde_json::json!("done")))));
    assert_eq!(etcd.forget_before(Timestamp(3000)).await.unwrap(), 1, "it is forgotten in its time");

    // Life goes on in etcd, and is not undone by another start of the same exchange, nor of one that has nothing.
    etcd.remove("zoe".into()).await.unwrap();
    let before = dump(&cluster).await;
    assert_eq!(etcd.carry_over(&all, ONE, "alpha").await.unwrap(), Carried::Before);
    assert_eq!(etcd.carry_over(&Content::default(), TWO, "beta").await.unwrap(), Carried::Before);
    assert_eq!(etcd.find("zoe".into()).await.unwrap(), None);
    assert_eq!(dump(&cluster).await, before);
}

#[tokio::test]
async fn another_cell_is_refused_with_what_differs_and_nothing_is_written() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cluster.open(&cluster.config());
    let ((_a, one), (_b, two)) = (lived(b"one").await, lived(b"two").await);
    two.add(account("xeno", 3)).await.unwrap();
    etcd.carry_over(&content(&one).await, ONE, "alpha").await.unwrap();
    let before = dump(&cluster).await;
    let fault = etcd.carry_over(&content(&two).await, TWO, "beta").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    for word in [
        "something else there: document/ca/authority",
        "not there: account/xeno",
        "carry_over = \"never\"",
        "del --prefix /archipel/vm.localhost/",
    ] {
        assert!(fault.message.contains(word), "{word}: {fault}");
    }
    assert_eq!(dump(&cluster).await, before);
    // The very same content on two disks is no disagreement.
    assert_eq!(etcd.carry_over(&content(&one).await, TWO, "copy").await.unwrap(), Carried::Before);
    assert_eq!(dump(&cluster).await, before);
}

#[tokio::test]
async fn a_cell_comes_too_late_where_an_exchange_without_one_began() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cluster.open(&cluster.config());
    let (_dir, store) = lived(b"one").await;
    assert_eq!(etcd.carry_over(&Content::default(), TWO, "beta").await.unwrap(), Carried::Before);
    let before = dump(&cluster).await;
    let fault = etcd.carry_over(&content(&store).await, ONE, "alpha").await.unwrap_err();
    assert!(fault.kind == FaultKind::Conflict && fault.message.contains("account/zoe and 125 more"), "{fault}");
    assert_eq!(dump(&cluster).await, before);
}

#[tokio::test]
async fn what_etcd_has_already_is_kept_when_it_disagrees_with_nothing() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cluster.open(&cluster.config());
    let (_dir, store) = lived(b"one").await;
    etcd.add(account("first", 9)).await.unwrap();
    etcd.add(account("zoe", 1)).await.unwrap();
    assert_eq!(etcd.carry_over(&content(&store).await, ONE, "alpha").await.unwrap(), Carried::Now);
    let names: Vec<String> = etcd.list().await.unwrap().into_iter().map(|a| a.local).collect();
    assert_eq!(names, ["first", "yan", "zoe"]);
}

#[tokio::test]
async fn what_a_crash_broke_off_is_finished_by_the_same_exchange_and_others_wait() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let etcd = cluster.open(&cluster.config());
    let (_dir, store) = lived(b"one").await;
    let all = content(&store).await;
    // Dropped in the middle, a little later each time, until it comes through.
    let mut broken = 0;
    for millis in 1.. {
        let carrying = tokio::time::timeout(Duration::from_millis(millis), etcd.carry_over(&all, ONE, "alpha")).await;
        if let Ok(done) = carrying {
            done.unwrap();
            break;
        }
        let begun = dump(&cluster).await;
        if begun.iter().any(|(key, _)| key.ends_with("/carried")) {
            let other = etcd.carry_over(&Content::default(), TWO, "beta").await;
            // The last step may have been on its way when it was dropped.
            if let Err(fault) = other {
                broken += 1;
                assert!(fault.kind == FaultKind::Unavailable && fault.message.contains("carried over from alpha"), "{fault}");
            }
        }
    }
    println!("it was broken off {broken} times after it had begun");
    assert_eq!(etcd.list().await.unwrap(), store.list().await.unwrap());
    assert_eq!(etcd.ownership(domain(120)).await.unwrap(), store.ownership(domain(120)).await.unwrap());
    assert_eq!(etcd.carry_over(&Content::default(), TWO, "beta").await.unwrap(), Carried::Before);
}

#[tokio::test]
async fn two_that_begin_at_once_end_with_one_cell() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let ((_a, one), (_b, two)) = (lived(b"one").await, lived(b"two").await);
    let (one, two) = (content(&one).await, content(&two).await);
    for n in 0..10 {
        let etcd = cluster.open(&EtcdConfig { prefix: format!("/archipel/{n}/"), ..cluster.config() });
        let (a, b) = tokio::join!(etcd.carry_over(&one, ONE, "alpha"), etcd.carry_over(&two, TWO, "beta"));
        let won: &[u8] = if a.is_ok() { b"one" } else { b"two" };
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        assert_eq!(etcd.document("ca/authority".into()).await.unwrap().unwrap().body, won);
    }
}

#[tokio::test]
async fn nothing_is_asked_behind_a_gate_that_is_closed() {
    let Some(cluster) = Cluster::start(1).await else { return };
    let (open, gate) = tokio::sync::watch::channel(false);
    let hasty = EtcdConfig { timeout: archipel_contract::Millis(200), ..cluster.config() };
    let etcd = cluster.open(&hasty).behind(gate);
    let before = dump(&cluster).await;
    assert_eq!(etcd.add(account("zoe", 1)).await.unwrap_err().kind, FaultKind::Unavailable);
    assert_eq!(etcd.list().await.unwrap_err().kind, FaultKind::Unavailable);
    assert_eq!(dump(&cluster).await, before);
    open.send_replace(true);
    etcd.add(account("zoe", 1)).await.unwrap();
}

async fn told(news: &mut mpsc::Receiver<Watched>, wanted: &Watched) {
    let seen = async { while news.recv().await.expect("the watch goes on") != *wanted {} };
    tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap_or_else(|_| panic!("{wanted:?} is told"));
}

#[tokio::test]
async fn changes_are_told_to_whoever_watches_even_after_members_were_lost() {
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let (one, two): (Etcd, Etcd) = (cluster.open(&cluster.config()), cluster.open(&cluster.config()));
    let (tell, mut accounts) = mpsc::channel(4);
    let watching = two.clone();
    tokio::spawn(async move { watching.watch(Watch::Accounts, tell).await });
    let (tell, mut documents) = mpsc::channel(4);
    tokio::spawn(async move { two.watch(Watch::Documents("exchange/"), tell).await });
    told(&mut accounts, &Watched::Everything).await;
    told(&mut documents, &Watched::Everything).await;
    one.add(account("zoe", 1)).await.unwrap();
    told(&mut accounts, &Watched::One("zoe".into())).await;
    write(&one, "plan", b"1").await;
    write(&one, "exchange/addresses", b"1").await;
    told(&mut documents, &Watched::One("exchange/addresses".into())).await;
    // One that is paused says nothing and closes nothing; the others tell.
    cluster.pause(0);
    one.replace(account("zoe", 2)).await.unwrap();
    told(&mut accounts, &Watched::One("zoe".into())).await;
    cluster.resume(0);
    // Two are killed and come back: in between nobody could tell, so everything is to be looked at.
    cluster.kill(1);
    cluster.kill(2);
    cluster.restart(1);
    cluster.restart(2);
    cluster.wait_until_it_answers(&one).await;
    one.remove("zoe".into()).await.unwrap();
    told(&mut accounts, &Watched::Everything).await;
}
