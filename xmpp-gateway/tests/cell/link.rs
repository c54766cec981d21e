//! The node link against the real exchange.

use crate::world::*;
use archipel_contract::{
    Caller, EntityId, FaultKind, OperationId, Role,
    domain::DomainState,
    port::{AccountKind, Accounts, Address, Announcer, Peers, Request},
};
use archipel_xmpp::client::{Change, Origin};
use archipel_xmpp::server::Limits;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn request(to: &str, command: &str) -> Request {
    Request {
        target: Address::Entity(to.parse().unwrap()),
        command: command.into(),
        arguments: json!({}),
        caller: Caller { jid: "admin@vm.localhost/x".into(), role: Role::Admin, operation: OperationId::fresh() },
    }
}

#[tokio::test]
async fn an_agent_asserts_what_it_has_and_carries_out_what_is_asked() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    for n in 2..1000 {
        agent.machine(n, &format!("m{n}"), DomainState::Shutoff);
    }
    let wire = Wire::to(&cell.server);
    let link = link(&agent, &wire, |_| {});
    link.well().await;
    let (client, _incoming) = connect(&wire).await;
    let list = client.command(CELL, "domain.list", json!({}), None, PATIENCE).await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), 999);
    let to = format!("{web1}@{CELL}");
    let reply = client.command(&to, "domain.start", json!({}), Some(OperationId::fresh()), PATIENCE).await.unwrap();
    assert_eq!(reply, json!({ "message": "web1 is starting" }));
    let fault = client.command(&to, "domain.start", json!({}), None, PATIENCE).await.unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::WrongState, "web1 is running already"));
    let caller = agent.requests.lock()[0].caller.clone();
    assert!(caller.jid.starts_with("admin@vm.localhost/"), "{}", caller.jid);
}

#[tokio::test]
async fn a_cut_link_resumes_and_loses_no_event() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    let wire = Wire::to(&cell.server);
    let link = link(&agent, &wire, |_| {});
    link.well().await;
    let watching = Wire::to(&cell.server);
    let (client, incoming) = connect(&watching).await;
    let mut feed = client.follow(incoming, CELL);
    assert!(matches!(within("the snapshot", feed.next()).await, Some(Ok(Change::Snapshot(Origin::Beginning, all))) if all.len() == 2));
    let asserted = agent.asserted.load(Ordering::SeqCst);
    let mut seq = 1;
    for round in 0..5 {
        for _ in 0..50 {
            agent.enter(&web1, DomainState::Running);
        }
        wire.cut(None);
        for _ in 0..50 {
            agent.enter(&web1, DomainState::Paused);
        }
        until("the link notices", || link.watcher.health().connected_since.is_none()).await;
        wire.cut(Some(&cell.server));
        for _ in 0..100 {
            let change = within("an event", feed.next()).await.unwrap().unwrap();
            let Change::Event(event) = change else { panic!("round {round}: {change:?}") };
            seq += 1;
            assert_eq!(event.seq.0, seq, "round {round}");
        }
    }
    assert_eq!(agent.asserted.load(Ordering::SeqCst), asserted, "nothing was asserted again");
    assert_eq!(link.watcher.health().resumptions, 5);
}

#[tokio::test]
async fn an_exchange_that_forgot_everything_is_told_again() {
    let accounts = accounts().await;
    let cell = Cell::start(accounts.clone(), Limits::default(), None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    let wire = Wire::to(&cell.server);
    let link = link(&agent, &wire, |_| {});
    link.well().await;
    let next = Cell::start(accounts, Limits::default(), None).await;
    assert!(next.exchange.look_up(&web1).is_none());
    wire.cut(Some(&next.server));
    until("the new exchange knows it", || next.exchange.look_up(&web1).is_some()).await;
    agent.enter(&web1, DomainState::Running);
    until("it is told on", || next.exchange.look_up(&web1).is_some_and(|e| e.state() == "running")).await;
}

#[tokio::test]
async fn what_did_not_fit_into_the_queue_is_made_good_by_an_assertion() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    let wire = Wire::to(&cell.server);
    let link = link(&agent, &wire, |config| config.queue = 10);
    link.well().await;
    wire.cut(None);
    until("the link notices", || link.watcher.health().connected_since.is_none()).await;
    until("the queue overflows", || {
        agent.enter(&web1, DomainState::Paused);
        link.announcer.dropped() > 0
    })
    .await;
    agent.enter(&web1, DomainState::Running);
    wire.cut(Some(&cell.server));
    until("the exchange knows the last state", || cell.exchange.look_up(&web1).is_some_and(|e| e.state() == "running")).await;
    link.well().await;
    agent.enter(&web1, DomainState::Shutoff);
    until("and what comes after", || cell.exchange.look_up(&web1).is_some_and(|e| e.state() == "shutoff")).await;
}

#[tokio::test]
async fn an_entity_that_vanished_while_the_exchange_was_away_is_gone() {
    let accounts = accounts().await;
    let short = Limits { resume_window: Duration::from_millis(1), ..Limits::default() };
    let cell = Cell::start(accounts, short, None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    let wire = Wire::to(&cell.server);
    let first = link(&agent, &wire, |_| {});
    first.well().await;
    drop(first);
    wire.cut(None);
    until("it is unknown", || cell.exchange.look_up(&web1).is_some_and(|e| e.state() == "unknown")).await;
    let reborn = Agent::new("alpha");
    wire.cut(Some(&cell.server));
    let second = link(&reborn, &wire, |_| {});
    second.well().await;
    assert!(cell.exchange.look_up(&web1).is_none());
}

#[tokio::test]
async fn a_wrong_password_is_seen_in_health() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let agent = Agent::new("alpha");
    let wire = Wire::to(&cell.server);
    let link = link(&agent, &wire, |config| config.password = "wrong".into());
    until("health tells", || link.watcher.health().last_error.is_some()).await;
    let health = link.watcher.health();
    let fault = health.last_error.unwrap();
    assert_eq!(fault.kind, FaultKind::Forbidden);
    assert!(fault.message.contains("wrong password for hv.alpha@vm.localhost"), "{fault}");
    assert_eq!(health.connected_since, None);
    assert_eq!(wire.connections.load(Ordering::SeqCst), 1, "it must not hammer the server");
}

#[tokio::test]
async fn requests_beyond_the_bound_are_busy_and_the_others_are_answered() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let agent = Agent::new("alpha");
    agent.machine(1, "web1", DomainState::Shutoff);
    agent.gated.store(true, Ordering::SeqCst);
    let wire = Wire::to(&cell.server);
    let link = link(&agent, &wire, |config| config.in_flight = 2);
    link.well().await;
    let (client, _incoming) = connect(&wire).await;
    let to = format!("{}@{CELL}", uuid::Uuid::from_u128(1));
    let mut calls: Vec<_> = (0..3)
        .map(|_| {
            let (client, to) = (client.clone(), to.clone());
            tokio::spawn(async move { client.command(&to, "domain.pause", json!({}), None, PATIENCE).await })
        })
        .collect();
    let busy = within("one is refused", async {
        let (first, _, rest) = futures::future::select_all(calls.drain(..)).await;
        calls = rest;
        first.unwrap()
    })
    .await;
    assert_eq!(busy.unwrap_err().kind, FaultKind::Busy);
    agent.gate.add_permits(2);
    for call in calls {
        assert_eq!(within("the others", call).await.unwrap().unwrap(), json!({ "message": "web1 did it" }));
    }
}

#[tokio::test]
async fn agents_reach_each_other_through_the_exchange() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let (alpha, beta) = (Agent::new("alpha"), Agent::new("beta"));
    let (wire, other) = (Wire::to(&cell.server), Wire::to(&cell.server));
    let from = link(&alpha, &wire, |_| {});
    from.well().await;
    let ask = |command: &'static str| from.peers.ask("beta".parse().unwrap(), request("hv.beta", command));
    assert_eq!(within("a refusal", ask("hypervisor.reserve")).await.unwrap_err().kind, FaultKind::Unavailable);
    let to = link(&beta, &other, |_| {});
    to.well().await;
    assert_eq!(within("an answer", ask("hypervisor.reserve")).await.unwrap(), json!({ "message": "beta did it" }));
    wire.cut(None);
    until("the link notices", || from.watcher.health().connected_since.is_none()).await;
    assert_eq!(within("a refusal", ask("hypervisor.reserve")).await.unwrap_err().kind, FaultKind::Unavailable);
}

#[tokio::test]
async fn a_person_cannot_ask_an_agent_in_the_exchanges_name() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    let wire = Wire::to(&cell.server);
    let link = link(&agent, &wire, |_| {});
    link.well().await;
    let (client, _incoming) = connect(&wire).await;
    let payload = archipel_xmpp::stanza::node::Ask::Request(Box::new(request(&web1.to_string(), "domain.start"))).print();
    for to in [format!("{web1}@{CELL}"), format!("hv.alpha@{CELL}/alpha"), format!("hv.alpha@{CELL}"), CELL.to_owned()] {
        let answer = client.request(archipel_xmpp::stanza::IqKind::Set, Some(&to), payload.clone(), PATIENCE).await;
        assert!(answer.is_err(), "{to} answered {answer:?}");
    }
    assert!(agent.requests.lock().is_empty());
    let id: EntityId = web1;
    link.announcer.announce(Vec::new());
    assert_eq!(cell.exchange.look_up(&id).unwrap().state(), "shutoff");
}

#[tokio::test]
async fn what_a_person_may_do_is_the_cells_word_and_not_that_of_the_agent_that_asks_for_them() {
    let accounts = accounts().await;
    let cell = Cell::start(accounts.clone(), Limits::default(), None).await;
    let (alpha, beta) = (Agent::new("alpha"), Agent::new("beta"));
    let wire = Wire::to(&cell.server);
    let (from, to) = (link(&alpha, &wire, |_| {}), link(&beta, &wire, |_| {}));
    from.well().await;
    to.well().await;
    let ask = async |person: &str, claimed: &str| {
        let arguments = json!({ "epoch": 1, "passport": "{}", "way": "{}", "on_behalf_of": person, "role": claimed });
        let request = Request { arguments, ..request("hv.beta", "hypervisor.reserve") };
        from.peers.ask("beta".parse().unwrap(), request).await.unwrap();
        let heard = beta.requests.lock().pop().unwrap();
        assert_eq!(heard.caller.role, Role::Node);
        heard.arguments["role"].clone()
    };
    for (person, role) in [
        ("admin@vm.localhost", json!("admin")),
        ("guest@vm.localhost", json!("viewer")),
        ("nobody@vm.localhost", json!(null)),
        ("admin@elsewhere.example", json!(null)),
        ("hv.alpha@vm.localhost", json!(null)),
        ("", json!(null)),
    ] {
        assert_eq!(ask(person, "admin-raw").await, role, "{person}");
    }
    // At once, also for whoever logged in as an administrator.
    let demoted = archipel_xmpp::accounts::account("admin", PASSWORD, AccountKind::Person(Role::Viewer), 4096).unwrap();
    accounts.replace(demoted).await.unwrap();
    assert_eq!(ask("admin@vm.localhost", "admin").await, json!("viewer"));
}
