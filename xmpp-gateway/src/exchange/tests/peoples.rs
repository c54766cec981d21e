//! Rosters, presence, and the small services.

use super::{
    CELL, event, hypervisor, machine, next,
    world::{Client, World},
};
use crate::ns;
use archipel_contract::{Epoch, domain::DomainState, port::Accounts};
use minidom::Element;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

async fn roster(client: &Client) -> Vec<Element> {
    let answer = client.ask_text("get", None, "<query xmlns='jabber:iq:roster'/>").await;
    answer.children().next().unwrap().children().cloned().collect()
}

async fn online(client: &Client) {
    client.write("<presence/>");
    client.wait(|e| e.name() == "presence" && e.attr("from") == Some(&client.jid())).await;
}

async fn presence_from(client: &Client, from: &str) -> Element {
    client.wait(|e| e.name() == "presence" && e.attr("from") == Some(from)).await
}

fn child(element: &Element, name: &str) -> Option<String> {
    element.get_child(name, ns::CLIENT).map(Element::text)
}

#[tokio::test]
async fn everybody_sees_the_hypervisors() {
    let world = World::new().await;
    let agent = world.host("alpha", vec![machine(1, "alpha")]).await;
    let admin = world.admin("web");
    let items = roster(&admin).await;
    assert_eq!(items.len(), 1);
    assert_eq!(
        (items[0].attr("jid"), items[0].attr("name"), items[0].attr("subscription")),
        (Some("hv.alpha@vm.localhost"), Some("alpha"), Some("both"))
    );
    assert_eq!(items[0].children().next().unwrap().text(), "Hypervisors");
    online(&admin).await;
    let seen = presence_from(&admin, "hv.alpha@vm.localhost/alpha").await;
    assert_eq!((seen.attr("type"), child(&seen, "priority").as_deref()), (None, Some("10")));
    // A new one is pushed, and one whose agent is lost goes away.
    world.host("beta", vec![]).await;
    let push = admin.wait(|e| e.name() == "iq" && e.attr("type") == Some("set")).await;
    assert_eq!(push.children().next().unwrap().children().next().unwrap().attr("jid"), Some("hv.beta@vm.localhost"));
    presence_from(&admin, "hv.beta@vm.localhost/beta").await;
    agent.close();
    let gone = presence_from(&admin, "hv.alpha@vm.localhost/alpha").await;
    assert_eq!(gone.attr("type"), Some("unavailable"));
    assert!(child(&gone, "status").unwrap().contains("unknown since"));
}

#[tokio::test]
async fn a_pinned_machine_is_shown_followed_and_kept() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone(), machine(2, "alpha")]).await;
    let admin = world.admin("web");
    roster(&admin).await;
    online(&admin).await;
    let set = format!("<query xmlns='jabber:iq:roster'><item jid='{}' name='my web'/></query>", vm.jid());
    let answer = admin.ask_text("set", None, &set).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    let from = format!("{}/alpha", vm.jid());
    assert_eq!(child(&presence_from(&admin, &from).await, "status").as_deref(), Some("running, 2 vCPU, 4 GiB"));
    admin.received();
    let off = next(&vm, DomainState::Shutoff);
    agent.announce(&[event("domain.stopped", &off), event("domain.stopped", &next(&machine(2, "alpha"), DomainState::Shutoff))]);
    let all = admin.received();
    assert_eq!(all.len(), 1, "only what is pinned: {all:?}");
    assert_eq!((all[0].attr("type"), child(&all[0], "show").as_deref()), (None, Some("xa")));
    // A change that looks the same costs nothing.
    let mut same = off.clone();
    same.seq = off.seq.next();
    agent.announce(&[event("domain.changed", &same)]);
    assert!(admin.received().is_empty());
    // Kept with the account: another session of the same person has it.
    assert_eq!(world.accounts.roster("admin".into()).await.unwrap().len(), 1);
    let phone = world.admin("phone");
    let items = roster(&phone).await;
    assert!(items.iter().any(|i| i.attr("jid") == Some(&vm.jid()) && i.attr("name") == Some("my web")));
    // Taken out again.
    let remove = format!("<query xmlns='jabber:iq:roster'><item jid='{}' subscription='remove'/></query>", vm.jid());
    admin.ask_text("set", None, &remove).await;
    assert_eq!(presence_from(&admin, &from).await.attr("type"), Some("unavailable"));
    admin.received();
    agent.announce(&[event("domain.started", &next(&same, DomainState::Running))]);
    assert!(admin.received().is_empty());
}

#[tokio::test]
async fn a_request_to_see_a_machine_is_granted() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone()]).await;
    let eve = world.viewer();
    online(&eve).await;
    eve.write(&format!("<presence type='subscribe' to='{}'/>", vm.jid()));
    assert_eq!(presence_from(&eve, &vm.jid()).await.attr("type"), Some("subscribed"));
    presence_from(&eve, &format!("{}/alpha", vm.jid())).await;
    assert_eq!(world.accounts.roster("eve".into()).await.unwrap()[0].jid, vm.jid());
    let nobody = machine(9, "alpha").jid();
    eve.write(&format!("<presence type='subscribe' to='{nobody}'/>"));
    assert_eq!(presence_from(&eve, &nobody).await.attr("type"), Some("unsubscribed"));
    eve.write(&format!("<presence type='unsubscribe' to='{}'/>", vm.jid()));
    eve.wait(|e| e.attr("type") == Some("unsubscribed") && e.attr("from") == Some(&vm.jid())).await;
    assert!(world.accounts.roster("eve".into()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_machine_that_moves_is_there_before_it_is_away() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone()]).await;
    let beta = world.host("beta", vec![]).await;
    let admin = world.admin("web");
    online(&admin).await;
    admin.ask_text("set", None, &format!("<query xmlns='jabber:iq:roster'><item jid='{}'/></query>", vm.jid())).await;
    presence_from(&admin, &format!("{}/alpha", vm.jid())).await;
    admin.received();
    let mut moved = vm.clone();
    moved.host = "beta".parse().unwrap();
    moved.epoch = Epoch(2);
    beta.announce(&[event("domain.started", &moved)]);
    let seen: Vec<(String, Option<String>)> =
        admin.received().iter().map(|p| (p.attr("from").unwrap().to_owned(), p.attr("type").map(str::to_owned))).collect();
    assert_eq!(seen, [(format!("{}/beta", vm.jid()), None), (format!("{}/alpha", vm.jid()), Some("unavailable".into()))]);
}

#[tokio::test]
async fn sessions_of_one_person_see_each_other_and_their_end() {
    let world = World::new().await;
    let (web, phone) = (world.admin("web"), world.admin("phone"));
    online(&web).await;
    phone.write("<presence><show>away</show></presence>");
    assert_eq!(child(&presence_from(&web, &phone.jid()).await, "show").as_deref(), Some("away"));
    presence_from(&phone, &web.jid()).await;
    // Broken off without goodbye.
    phone.close();
    assert_eq!(presence_from(&web, &phone.jid()).await.attr("type"), Some("unavailable"));
}

#[tokio::test]
async fn directed_presence_is_taken_back_at_the_end() {
    let world = World::new().await;
    let (admin, eve) = (world.admin("web"), world.viewer());
    online(&admin).await;
    online(&eve).await;
    admin.write(&format!("<presence to='{}'/>", eve.jid()));
    assert_eq!(presence_from(&eve, &admin.jid()).await.attr("type"), None);
    admin.close();
    assert_eq!(presence_from(&eve, &admin.jid()).await.attr("type"), Some("unavailable"));
}

#[tokio::test]
async fn people_write_to_each_other() {
    let world = World::new().await;
    let (admin, eve) = (world.admin("web"), world.viewer());
    admin.write(&format!("<message type='chat' to='eve@{CELL}' id='1'><body>hello</body></message>"));
    let bounced = admin.wait(|e| e.name() == "message").await;
    assert_eq!(bounced.attr("type"), Some("error"), "nobody is available");
    online(&eve).await;
    for to in [format!("eve@{CELL}"), eve.jid(), format!("eve@{CELL}/gone")] {
        admin.write(&format!("<message type='chat' to='{to}' id='1'><body>hello</body></message>"));
        let got = eve.wait(|e| e.name() == "message").await;
        assert_eq!((got.attr("from"), child(&got, "body").as_deref()), (Some(&*admin.jid()), Some("hello")), "{to}");
    }
    assert!(admin.received().is_empty());
}

#[tokio::test]
async fn what_clients_ask_at_login_is_answered() {
    let world = World::new().await;
    world.host("alpha", vec![machine(1, "alpha")]).await;
    let admin = world.admin("web");
    let vm = machine(1, "alpha").jid();
    for (kind, to, payload) in [
        ("get", Some(CELL), "<ping xmlns='urn:xmpp:ping'/>"),
        ("get", Some(&*vm), "<ping xmlns='urn:xmpp:ping'/>"),
        ("get", None, "<ping xmlns='urn:xmpp:ping'/>"),
        ("get", Some(CELL), "<query xmlns='jabber:iq:version'/>"),
        ("get", Some(CELL), "<time xmlns='urn:xmpp:time'/>"),
        ("get", Some(&*vm), "<query xmlns='jabber:iq:last'/>"),
        ("get", Some(&*vm), "<vCard xmlns='vcard-temp'/>"),
        ("get", None, "<vCard xmlns='vcard-temp'/>"),
        ("get", None, "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>"),
        ("get", None, "<blocklist xmlns='urn:xmpp:blocking'/>"),
        ("set", None, "<enable xmlns='urn:xmpp:carbons:2'/>"),
        ("set", None, "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>"),
        ("get", None, "<query xmlns='http://jabber.org/protocol/disco#info'/>"),
        ("get", Some(CELL), "<query xmlns='http://jabber.org/protocol/disco#items'/>"),
    ] {
        let answer = admin.ask_text(kind, to, payload).await;
        assert_eq!(answer.attr("type"), Some("result"), "{payload} to {to:?}: {}", String::from(&answer));
    }
}

fn condition(answer: &Element) -> String {
    assert_eq!(answer.attr("type"), Some("error"), "{}", String::from(answer));
    answer.get_child("error", ns::CLIENT).unwrap().children().next().unwrap().name().to_owned()
}

#[tokio::test]
async fn what_is_not_offered_is_refused_in_the_right_words() {
    let world = World::new().await;
    world.host("alpha", vec![machine(1, "alpha")]).await;
    let admin = world.admin("web");
    let unknown = "<x xmlns='urn:nobody:knows'/>";
    let (there, gone) = (machine(1, "alpha").jid(), machine(9, "alpha").jid());
    for (kind, to, payload, expected) in [
        ("get", Some(CELL), unknown, "service-unavailable"),
        ("get", Some(&*there), unknown, "service-unavailable"),
        ("get", Some(&*gone), "<ping xmlns='urn:xmpp:ping'/>", "item-not-found"),
        ("get", Some("eve@vm.localhost"), "<vCard xmlns='vcard-temp'/>", "service-unavailable"),
        ("get", Some("nobody@vm.localhost/x"), unknown, "service-unavailable"),
        ("get", Some("example.org"), unknown, "remote-server-not-found"),
        ("get", None, "<query xmlns='urn:xmpp:mam:2'/>", "service-unavailable"),
        ("set", None, "<query xmlns='jabber:iq:roster'/>", "bad-request"),
        ("put", Some(CELL), unknown, "bad-request"),
    ] {
        assert_eq!(condition(&admin.ask_text(kind, to, payload).await), expected, "{payload} to {to:?}");
    }
    admin.write(&format!("<iq type='get' to='{CELL}' id='two'><ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/></iq>"));
    assert_eq!(condition(&admin.wait(|e| e.attr("id") == Some("two")).await), "bad-request");
    // Without an id nothing can be answered; an answer nobody waits for is no question.
    admin.write(&format!("<iq type='get' to='{CELL}'><ping xmlns='urn:xmpp:ping'/></iq>"));
    admin.write(&format!("<iq type='result' to='{CELL}' id='x'/>"));
    assert!(admin.received().is_empty());
}

#[tokio::test]
async fn a_removed_hypervisor_leaves_the_roster() {
    let world = World::new().await;
    let agent = world.host("alpha", vec![]).await;
    let admin = world.admin("web");
    roster(&admin).await;
    online(&admin).await;
    presence_from(&admin, "hv.alpha@vm.localhost/alpha").await;
    let mut gone = event("hypervisor.removed", &hypervisor("alpha"));
    gone.seq = gone.seq.next();
    gone.after = None;
    agent.announce(&[gone]);
    let push = admin.wait(|e| e.name() == "iq").await;
    assert_eq!(push.children().next().unwrap().children().next().unwrap().attr("subscription"), Some("remove"));
    assert_eq!(presence_from(&admin, "hv.alpha@vm.localhost/alpha").await.attr("type"), Some("unavailable"));
}

/// The subscription of an entity as the next roster push tells it.
async fn pushed(client: &Client, jid: &str) -> Option<String> {
    let item = |e: &Element| e.children().next().and_then(|q| q.children().next()).cloned();
    let push = client.wait(|e| e.attr("type") == Some("set") && item(e).is_some_and(|i| i.attr("jid") == Some(jid))).await;
    item(&push).and_then(|i| i.attr("subscription").map(str::to_owned))
}

#[tokio::test]
async fn a_pinned_machine_that_goes_and_comes_back_stays_right_in_the_roster() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("web");
    roster(&admin).await;
    online(&admin).await;
    let set = format!("<query xmlns='jabber:iq:roster'><item jid='{}' name='my web'/></query>", vm.jid());
    admin.ask_text("set", None, &set).await;
    assert_eq!(pushed(&admin, &vm.jid()).await.as_deref(), Some("both"));
    let mut gone = event("domain.undefined", &next(&vm, DomainState::Shutoff));
    gone.after = None;
    agent.announce(&[gone]);
    assert_eq!(pushed(&admin, &vm.jid()).await.as_deref(), Some("none"), "it is there no more, and still in the roster");
    let mut back = next(&next(&vm, DomainState::Running), DomainState::Running);
    back.seq = archipel_contract::Seq(9);
    agent.announce(&[event("domain.added", &back)]);
    assert_eq!(pushed(&admin, &vm.jid()).await.as_deref(), Some("both"), "without a new login");
}

#[tokio::test]
async fn nobody_but_the_cell_pushes_rosters_and_the_feed() {
    let world = World::new().await;
    world.host("alpha", vec![]).await;
    let (admin, eve) = (world.admin("web"), world.viewer());
    online(&admin).await;
    admin.received();
    eve.write(&format!(
        "<message id='m' type='headline' to='{}'><event xmlns='http://jabber.org/protocol/pubsub#event'>\
         <items node='urn:archipel:feed:0'><item id='1'/></items></event></message>",
        admin.jid()
    ));
    let bounced = eve.wait(|e| e.name() == "message" && e.attr("id") == Some("m")).await;
    assert_eq!(bounced.attr("type"), Some("error"), "{bounced:?}");
    let push = "<query xmlns='jabber:iq:roster'><item jid='evil@example.org' subscription='both'/></query>";
    assert_eq!(eve.ask_text("set", Some(&admin.jid()), push).await.attr("type"), Some("error"));
    assert!(admin.received().is_empty());
    // Anything else between people still passes.
    eve.write(&format!("<message type='chat' to='{}'><body>hello</body></message>", admin.jid()));
    admin.wait(|e| e.get_child("body", ns::CLIENT).is_some()).await;
}

#[tokio::test]
async fn an_address_in_capitals_is_the_same_address() {
    let world = World::new().await;
    let vm = machine(0xabcdef, "alpha");
    world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("web");
    for to in [CELL.to_uppercase(), vm.jid().to_uppercase(), format!("ADMIN@{CELL}")] {
        let answer = admin.ask_text("get", Some(&to), "<ping xmlns='urn:xmpp:ping'/>").await;
        assert_eq!(answer.attr("type"), Some("result"), "{to}: {answer:?}");
    }
}

#[tokio::test]
async fn whoever_asks_how_the_exchange_is_holds_nobody_up() {
    let world = World::new().await;
    let agent = world.host("alpha", vec![]).await;
    let _people: Vec<_> = ["a", "b"].map(|resource| world.admin(resource)).into();
    let (asking, exchange) = (Arc::new(AtomicBool::new(true)), world.exchange.clone());
    let on = asking.clone();
    let page = std::thread::spawn(move || {
        while on.load(Ordering::Relaxed) {
            exchange.health();
            exchange.collect();
        }
    });
    let (tell, told) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Handle::current();
    let changes = std::thread::spawn(move || {
        let _here = runtime.enter();
        for n in 0..3000u128 {
            agent.announce(&[event("domain.added", &machine(n, "alpha"))]);
        }
        let _ = tell.send(());
    });
    told.recv_timeout(Duration::from_secs(60)).expect("the table and the page wait for each other");
    asking.store(false, Ordering::Relaxed);
    page.join().unwrap();
    changes.join().unwrap();
}

#[tokio::test]
async fn every_host_closes_what_an_account_that_has_changed_has_open() {
    let world = World::new().await;
    let (alpha, beta) = (world.host("alpha", vec![]).await, world.host("beta", vec![]).await);
    world.exchange.expel("ada");
    for host in [&alpha, &beta] {
        let (iq, request) = host.request().await;
        assert_eq!((&*request.command, &request.arguments), ("hypervisor.expel", &serde_json::json!({ "person": format!("ada@{CELL}") })));
        assert_eq!(request.caller.role, archipel_contract::Role::Node);
        host.reply(&iq, &serde_json::json!({ "message": "1 closed" }));
    }
}

#[tokio::test]
async fn a_host_that_was_away_is_told_whose_account_has_changed_when_it_is_back() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    alpha.close();
    world.exchange.expel("ada");
    let back = world.agent("alpha");
    back.join("alpha", 2, vec![super::hypervisor("alpha")]).await;
    let (iq, request) = back.request().await;
    assert_eq!(&*request.command, "hypervisor.expel");
    back.reply(&iq, &serde_json::json!({ "message": "1 closed" }));
    super::audits::until("it was told", || world.exchange.untold.lock().is_empty()).await;
}
