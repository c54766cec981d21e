//! A client against the real server and exchange.

use crate::world::*;
use archipel_contract::{EntityId, FaultKind, domain::DomainState};
use archipel_xmpp::client::{Change, Client, Config, Feed, Happening, Origin, Retry};
use archipel_xmpp::server::Limits;
use archipel_xmpp::stanza::IqKind;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

async fn change(feed: &mut Feed) -> Change {
    within("a change", feed.next()).await.expect("the feed goes on").expect("and has no fault")
}

/// The next change that is no news about the connection.
async fn news(feed: &mut Feed) -> Change {
    loop {
        match change(feed).await {
            Change::Offline(_) => {}
            other => return other,
        }
    }
}

struct Scene {
    cell: Cell,
    agent: Arc<Agent>,
    web1: EntityId,
    wire: Arc<Wire>,
    feed: Feed,
    _link: Running,
}

async fn scene(limits: Limits) -> Scene {
    let cell = Cell::start(accounts().await, limits, None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    let linked = link(&agent, &Wire::to(&cell.server), |_| {});
    linked.well().await;
    let wire = Wire::to(&cell.server);
    let (client, incoming) = connect(&wire).await;
    let mut feed = client.follow(incoming, CELL);
    assert!(matches!(change(&mut feed).await, Change::Snapshot(Origin::Beginning, all) if all.len() == 2));
    Scene { cell, agent, web1, wire, feed, _link: linked }
}

#[tokio::test]
async fn a_follower_that_was_cut_off_goes_on_where_it_was() {
    let mut scene = scene(Limits::default()).await;
    for round in 0..3 {
        scene.wire.cut(None);
        scene.agent.enter(&scene.web1, DomainState::Running);
        assert!(matches!(change(&mut scene.feed).await, Change::Offline(_)), "round {round}");
        scene.wire.cut(Some(&scene.cell.server));
        match news(&mut scene.feed).await {
            Change::Event(event) => assert_eq!(event.seq.0, 2 + round),
            other => panic!("round {round}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_follower_that_was_away_too_long_takes_a_snapshot() {
    let mut scene = scene(Limits { resume_window: Duration::from_millis(1), ..Limits::default() }).await;
    scene.wire.cut(None);
    until("the session is over", || scene.cell.exchange.health().people == 0).await;
    scene.agent.enter(&scene.web1, DomainState::Running);
    scene.wire.cut(Some(&scene.cell.server));
    match news(&mut scene.feed).await {
        Change::Snapshot(Origin::Reconnected, all) => assert_eq!(all.len(), 2),
        other => panic!("{other:?}"),
    }
    // The change may be in the snapshot already, or come after it.
    scene.agent.enter(&scene.web1, DomainState::Paused);
    loop {
        if let Change::Event(event) = news(&mut scene.feed).await
            && event.seq.0 == 3
        {
            break;
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_forbidden_and_not_repeated() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let wire = Wire::to(&cell.server);
    for (user, password) in [("admin", "wrong"), ("nobody", PASSWORD), ("admin", "")] {
        let config = Config::once(user, CELL, password, wire.connector());
        let fault = within("a refusal", Client::connect(config)).await.err().expect("it is refused");
        assert_eq!(fault.kind, FaultKind::Forbidden, "{user}: {fault}");
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_ends_with_its_deadline() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    agent.gated.store(true, std::sync::atomic::Ordering::SeqCst);
    let wire = Wire::to(&cell.server);
    let linked = link(&agent, &wire, |_| {});
    linked.well().await;
    let (client, _incoming) = connect(&wire).await;
    let to = format!("{web1}@{CELL}");
    let fault = client.command(&to, "domain.start", json!({}), None, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Timeout);
    agent.gate.add_permits(1);
    // The late answer is nobody's and harms nobody.
    let list = client.command(CELL, "domain.list", json!({}), None, Duration::from_secs(20)).await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_waits_is_told_when_its_session_is_over() {
    let accounts = accounts().await;
    let cell = Cell::start(accounts.clone(), Limits::default(), None).await;
    let agent = Agent::new("alpha");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    agent.gated.store(true, std::sync::atomic::Ordering::SeqCst);
    let linked = link(&agent, &Wire::to(&cell.server), |_| {});
    linked.well().await;
    let wire = Wire::to(&cell.server);
    let (client, mut incoming) = connect(&wire).await;
    let asking = {
        let (client, to) = (client.clone(), format!("{web1}@{CELL}"));
        tokio::spawn(async move { client.command(&to, "domain.start", json!({}), None, Duration::from_secs(60)).await })
    };
    until("it is under way", || !agent.requests.lock().is_empty()).await;
    let other = Cell::start(accounts, Limits::default(), None).await;
    wire.cut(Some(&other.server));
    let fault = within("the answer", asking).await.unwrap().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.message.contains("look before you repeat"), "{fault}");
    let new_session = async {
        while let Some(happening) = incoming.recv().await {
            if matches!(happening, Happening::Online { resumed: false, .. }) && other.exchange.health().people == 1 {
                return;
            }
        }
        panic!("the client gave up");
    };
    within("the new session", new_session).await;
}

#[tokio::test]
async fn a_question_asked_before_the_connection_stands_never_hangs() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let wire = Wire::to(&cell.server);
    wire.cut(None);
    let (client, mut incoming) = Client::start(person(&wire));
    let asking = {
        let client = client.clone();
        tokio::spawn(async move { client.command(CELL, "domain.list", json!({}), None, Duration::from_secs(20)).await })
    };
    assert!(matches!(within("a failed attempt", incoming.recv()).await, Some(Happening::Offline(_))));
    wire.cut(Some(&cell.server));
    // Either it is answered or it is told that it was never sent; it never hangs.
    match within("an answer", asking).await.unwrap() {
        Ok(list) => assert_eq!(list, json!([])),
        Err(fault) => assert_eq!(fault.kind, FaultKind::Unavailable),
    }
    within("the connection", client.online_again()).await;
    assert_eq!(client.command(CELL, "domain.list", json!({}), None, Duration::from_secs(20)).await, Ok(json!([])));
}

#[tokio::test]
async fn a_client_without_second_thoughts_ends_with_its_connection() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let wire = Wire::to(&cell.server);
    let config = Config { managed: true, retry: Retry::Never, ..Config::once("admin", CELL, PASSWORD, wire.connector()) };
    let (client, mut incoming) = within("a login", Client::connect(config)).await.unwrap();
    wire.cut(None);
    within("the end", async { while incoming.recv().await.is_some() {} }).await;
    assert!(client.command(CELL, "domain.list", json!({}), None, Duration::from_secs(5)).await.is_err());
}

#[tokio::test]
async fn a_thousand_questions_at_once_are_all_answered() {
    let cell = Cell::start(accounts().await, Limits::default(), None).await;
    let wire = Wire::to(&cell.server);
    let (client, _incoming) = connect(&wire).await;
    let ping = || {
        let ping = minidom::Element::bare("ping", archipel_xmpp::ns::PING);
        client.request(IqKind::Get, Some(CELL), ping, Duration::from_secs(20))
    };
    for answer in within("all answers", futures::future::join_all((0..1000).map(|_| ping()))).await {
        assert_eq!(answer, Ok(None));
    }
    // One after the other as well: no answer may wait for the next question.
    for _ in 0..100 {
        assert_eq!(within("an answer", ping()).await, Ok(None));
    }
}
