//! What the loss of members, of the majority and of single answers does to a call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod etcd_cluster;
mod etcd_wire;

use archipel_contract::port::{Acceptance, Account, AccountKind, Accounts, Authority, Documents, Journal, Operation, ScramKeys};
use archipel_contract::{
    DomainId, EntityId, Epoch, FaultKind, HypervisorName, Millis, MoveId, OperationId, OwnershipStep, Role, Timestamp,
};
use archipel_store::{Etcd, EtcdConfig};
use etcd_cluster::Cluster;
use etcd_wire::Wire;
use std::time::{Duration, Instant};
use uuid::Uuid;

fn name(text: &str) -> HypervisorName {
    text.parse().unwrap()
}

fn domain(n: u128) -> DomainId {
    DomainId(Uuid::from_u128(n))
}

/// Changes one document after the other until `count` were changed; all must succeed. Answers the longest that one took.
async fn change(etcd: &Etcd, what: &str, count: usize) -> Duration {
    let mut longest = Duration::ZERO;
    let key = format!("change/{what}");
    let mut version = None;
    for n in 0..count {
        let begin = Instant::now();
        version = Some(etcd.write_document(key.clone(), version, Some(vec![n as u8])).await.expect("not noticed"));
        longest = longest.max(begin.elapsed());
    }
    longest
}

#[tokio::test]
async fn the_loss_of_one_of_three_members_is_not_noticed() {
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let etcd = cluster.open(&cluster.config());
    let usual = change(&etcd, "a", 50).await;
    // The one that leads, so that the others must elect another.
    let leader = cluster.leader().await;
    let (killing, longest) = tokio::join!(async { cluster.kill(leader) }, change(&etcd, "b", 50));
    let () = killing;
    println!("longest change: {} ms; while the leader was killed: {} ms", usual.as_millis(), longest.as_millis());
    // Twice the patience that users have by default, for a loaded machine.
    let bearable = 2 * archipel_store::etcd::TIMEOUT.duration();
    assert!(longest < bearable, "{longest:?}");
    cluster.restart(leader);
    cluster
        .wait_until_it_answers(&cluster.open(&EtcdConfig { endpoints: vec![cluster.endpoints()[leader].clone()], ..cluster.config() }))
        .await;
    // Each in turn, paused, where it is the one that is asked first: it closes no connection and answers nothing.
    for member in 0..3 {
        let mut endpoints = cluster.endpoints().to_vec();
        endpoints.rotate_left(member);
        let etcd = cluster.open(&EtcdConfig { endpoints, ..cluster.config() });
        change(&etcd, &format!("q{member}"), 1).await;
        cluster.pause(member);
        let longest = change(&etcd, &format!("p{member}"), 20).await;
        println!("longest change while member {member} was paused: {} ms", longest.as_millis());
        assert!(longest < bearable, "{longest:?}");
        cluster.resume(member);
    }
}

#[tokio::test]
async fn without_a_majority_changes_freeze_with_a_clear_word_and_go_on_when_it_returns() {
    let Some(cluster) = Cluster::start(3).await else { return };
    let patience = Duration::from_secs(1);
    let etcd = cluster.open(&EtcdConfig { timeout: Millis(1000), ..cluster.config() });
    let patient = cluster.open(&cluster.config());
    patient.claim_unowned(vec![domain(1)], name("alpha")).await.unwrap();
    cluster.pause(0);
    cluster.pause(1);
    let saga = MoveId(Uuid::from_u128(1));
    let depart = OwnershipStep::Depart { by: name("alpha"), saga, to: name("beta") };
    for _ in 0..2 {
        let begin = Instant::now();
        let changed = etcd.step(domain(1), Epoch(1), depart.clone()).await.unwrap_err();
        let read = etcd.ownership(domain(1)).await.unwrap_err();
        let led = etcd.lead("exchange".into(), "one".into(), Millis(2000), Timestamp(0)).await.unwrap_err();
        println!("three calls without a majority: {} ms", begin.elapsed().as_millis());
        // Without a limit of its own a call would wait for as long as the majority is away, which here is for ever.
        assert!(begin.elapsed() < 3 * patience + Duration::from_secs(20), "{:?}", begin.elapsed());
        for fault in [changed, read, led] {
            assert_eq!(fault.kind, FaultKind::Unavailable);
            for word in ["no majority", "frozen", "guests are not touched", "etcdctl endpoint status", cluster.endpoints()[2].as_str()] {
                assert!(fault.message.contains(word), "{word}: {fault}");
            }
        }
    }
    cluster.resume(0);
    cluster.resume(1);
    // The same connections, without anything being started again. What was asked meanwhile was made once or not at all.
    cluster.wait_until_it_answers(&etcd).await;
    let moving = patient.step(domain(1), Epoch(1), depart).await.unwrap();
    assert_eq!(moving.epoch, Epoch(1));
    let claim = OwnershipStep::Claim { by: name("beta"), saga };
    assert_eq!(patient.step(domain(1), Epoch(1), claim).await.unwrap().epoch, Epoch(2));
    assert_eq!(etcd.ownership(domain(1)).await.unwrap().map(|o| o.owner), Some(name("beta")));
}

#[tokio::test]
async fn a_cluster_that_is_not_there_yet_is_unavailable_and_then_used() {
    let Some(mut cluster) = Cluster::start(1).await else { return };
    cluster.kill(0);
    let etcd = cluster.open(&EtcdConfig { timeout: Millis(300), ..cluster.config() });
    assert_eq!(etcd.incarnation().await.unwrap_err().kind, FaultKind::Unavailable);
    let waiting = etcd.vacancy("exchange".into(), Timestamp(0)).await;
    assert_eq!(waiting.unwrap_err().kind, FaultKind::Unavailable);
    cluster.restart(0);
    cluster.wait_until_it_answers(&etcd).await;
    assert_eq!(etcd.incarnation().await.unwrap(), 1);
}

#[tokio::test]
async fn who_waits_to_lead_hears_of_it_although_the_member_it_asked_is_gone() {
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let (one, two) = (cluster.open(&cluster.config()), cluster.open(&cluster.config()));
    let lease = Millis::seconds(60);
    one.lead("exchange".into(), "one".into(), lease, Timestamp(0)).await.unwrap();
    let mut vacancy = tokio::spawn(async move { two.vacancy("exchange".into(), Timestamp(0)).await });
    cluster.wait_until_it_is_watched().await;
    // Both asked member 0 first. It closes nothing and says nothing any more.
    cluster.pause(0);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut vacancy).await;
    assert!(early.is_err(), "it is led: {early:?}");
    cluster.resume(0);
    cluster.wait_until_it_answers(&one).await;
    cluster.kill(1);
    one.lead("exchange".into(), "one".into(), lease, Timestamp(0)).await.unwrap();
    cluster.pause(0);
    cluster.restart(1);
    one.resign("exchange".into(), "one".into()).await.unwrap();
    let begin = Instant::now();
    tokio::time::timeout(Duration::from_secs(5), vacancy).await.expect("it hears of it").unwrap().unwrap();
    println!("vacancy was heard {} ms after it was given back", begin.elapsed().as_millis());
}

/// Member 0 through a wire that can lose what comes back, member 1 (the same etcd) directly.
struct Lossy {
    cluster: Cluster,
    wire: Wire,
}

impl Lossy {
    async fn start() -> Option<Lossy> {
        let cluster = Cluster::start(1).await?;
        let wire = Wire::to(&cluster.endpoints()[0]).await;
        Some(Lossy { cluster, wire })
    }

    /// A fresh handle whose first answer will be lost after the request was carried out.
    async fn losing(&self) -> Etcd {
        let endpoints = vec![self.wire.endpoint().to_owned(), self.cluster.endpoints()[0].clone()];
        let etcd = self.cluster.open(&EtcdConfig { endpoints, timeout: Millis(6000), ..self.cluster.config() });
        self.wire.pass();
        etcd.document("x".into()).await.unwrap();
        // One request that reads goes through, so that it is the answer of the change that is lost.
        etcd
    }
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_recognised_and_not_made_twice() {
    let Some(lossy) = Lossy::start().await else { return };
    let direct = lossy.cluster.open(&lossy.cluster.config());
    let operation = Operation {
        id: OperationId::fresh(),
        caller: "admin@cell".into(),
        role: Role::Admin,
        command: "domain.start".into(),
        target: EntityId::Domain(domain(1)),
        arguments: serde_json::json!({}),
        accepted: Timestamp(1000),
    };
    let keys = ScramKeys { stored: vec![1], server: vec![2] };
    let account = Account {
        local: "zoe".into(),
        kind: AccountKind::Person(Role::Viewer),
        salt: vec![3],
        iterations: 4096,
        sha1: keys.clone(),
        sha256: keys,
    };
    direct.claim_unowned(vec![domain(1)], name("alpha")).await.unwrap();
    direct.step(domain(1), Epoch(1), OwnershipStep::Park { by: name("alpha") }).await.unwrap();

    let etcd = lossy.losing().await;
    lossy.wire.lose_after(0);
    assert_eq!(etcd.accept(operation.clone()).await.unwrap(), Acceptance::New, "and not running");
    assert_eq!(direct.interrupted().await.unwrap(), [operation]);
    assert_eq!(lossy.wire.lost(), 1);

    // The others read before they write: the second answer is the change's.
    let etcd = lossy.losing().await;
    lossy.wire.lose_after(1);
    let taken = etcd.step(domain(1), Epoch(1), OwnershipStep::Unpark { by: name("beta") }).await.unwrap();
    assert_eq!((taken.epoch, taken.owner), (Epoch(2), name("beta")));
    assert_eq!(lossy.wire.lost(), 2);

    let etcd = lossy.losing().await;
    lossy.wire.lose_after(1);
    let version = etcd.write_document("plan".into(), None, Some(vec![1])).await.unwrap();
    assert_eq!(direct.document("plan".into()).await.unwrap().map(|d| d.version), Some(version));
    assert_eq!(lossy.wire.lost(), 3);

    let etcd = lossy.losing().await;
    lossy.wire.lose_after(1);
    etcd.add(account.clone()).await.expect("it was added by this very call");
    let etcd = lossy.losing().await;
    lossy.wire.lose_after(1);
    etcd.remove("zoe".into()).await.expect("it was removed by this very call");
    assert_eq!(lossy.wire.lost(), 5);

    let etcd = lossy.losing().await;
    lossy.wire.lose_after(1);
    assert_eq!(etcd.incarnation().await.unwrap(), 1);
    let etcd = lossy.losing().await;
    lossy.wire.lose_after(1);
    etcd.forget(domain(1), Epoch(2)).await.expect("forgotten by this very call");
    assert_eq!(lossy.wire.lost(), 7);

    // Read, grant, then the change.
    let etcd = lossy.losing().await;
    lossy.wire.lose_after(2);
    let led = etcd.lead("exchange".into(), "one".into(), Millis::seconds(60), Timestamp(0)).await.unwrap();
    assert_eq!(led.epoch, Epoch(1));
    assert_eq!(lossy.wire.lost(), 8);
}

#[test]
fn a_wrong_configuration_is_named_when_it_is_opened() {
    let good = EtcdConfig::new(vec!["http://127.0.0.1:1".into()], &"vm.localhost".parse().unwrap());
    assert_eq!(good.prefix, "/archipel/vm.localhost/");
    assert!(Etcd::open(&good).is_ok());
    let wrong = |what: &str, config: EtcdConfig| {
        let fault = Etcd::open(&config).err().unwrap();
        assert_eq!(fault.kind, FaultKind::InvalidRequest);
        assert!(fault.message.contains(what), "{what}: {fault}");
    };
    let here = |name: &str| Some(std::path::PathBuf::from(name));
    let secure = || vec!["https://127.0.0.1:1".into()];
    wrong("no member", EtcdConfig { endpoints: vec![], ..good.clone() });
    wrong("no time", EtcdConfig { timeout: Millis(0), ..good.clone() });
    wrong("prefix", EtcdConfig { prefix: String::new(), ..good.clone() });
    wrong("prefix", EtcdConfig { prefix: "/a b/".into(), ..good.clone() });
    wrong("use one for all", EtcdConfig { endpoints: [secure(), good.endpoints.clone()].concat(), ..good.clone() });
    wrong("needs the file", EtcdConfig { endpoints: secure(), ..good.clone() });
    wrong("/no/such/ca.pem", EtcdConfig { endpoints: secure(), ca_file: here("/no/such/ca.pem"), ..good.clone() });
    wrong("not https", EtcdConfig { ca_file: here("/no/such/ca.pem"), ..good.clone() });
    wrong("password file", EtcdConfig { user: Some("archipel".into()), ..good.clone() });
    wrong("/no/such/password", EtcdConfig { user: Some("a".into()), password_file: here("/no/such/password"), ..good });
}
