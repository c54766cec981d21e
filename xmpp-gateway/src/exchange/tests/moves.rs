//! A machine that changes its host: its address stays, its presence never blinks, and the host before is not heard any more.

use super::{
    CELL,
    authorities::{ask, step},
    event, hypervisor, machine, next,
    world::{Client, World},
};
use crate::{
    exchange::location::{Locations, Refusal},
    ns,
    stanza::feed::{Ask, Push},
};
use archipel_contract::{
    Condition, Entity, Epoch, Event, HypervisorName, MoveId, Ownership, OwnershipStep, Seq, Timestamp, domain::DomainState, port::Authority,
};
use minidom::Element;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(5);

fn host(name: &str) -> HypervisorName {
    name.parse().unwrap()
}

/// The same machine on another host, one epoch later, numbered anew.
fn on(before: &Entity, to: &str) -> Entity {
    Entity { host: host(to), epoch: Epoch(before.epoch.0 + 1), seq: Seq(1), ..before.clone() }
}

fn gone(entity: &Entity) -> Event {
    let last = Entity { seq: entity.seq.next(), ..entity.clone() };
    Event { after: None, ..event("domain.undefined", &last) }
}

/// Both hosts, and a person who watches the feed and has pinned the machine.
async fn watched(world: &World, vm: &Entity) -> (Client, Client, Client) {
    let alpha = world.host("alpha", vec![vm.clone()]).await;
    let beta = world.host("beta", vec![]).await;
    world.authority.claim_unowned(vec![vm.id.to_string().parse().unwrap()], host("alpha")).await.unwrap();
    let admin = world.admin("web");
    admin.ask_text("get", None, "<query xmlns='jabber:iq:roster'/>").await;
    admin.write("<presence/>");
    admin.wait(|e| e.name() == "presence" && e.attr("from") == Some(&admin.jid())).await;
    let pin = format!("<query xmlns='jabber:iq:roster'><item jid='{}'/></query>", vm.jid());
    admin.ask_text("set", None, &pin).await;
    admin.wait(|e| e.attr("from") == Some(&format!("{}/alpha", vm.jid()))).await;
    admin.ask("set", Some(CELL), Ask::Subscribe { jid: admin.jid() }.print()).await;
    admin.received();
    (alpha, beta, admin)
}

/// Begins the move and ends it in the authority, through the links.
async fn handed_over(alpha: &Client, beta: &Client) {
    let saga = MoveId(uuid::Uuid::from_u128(7));
    ask::<Ownership>(alpha, step(1, 1, OwnershipStep::Depart { by: host("alpha"), saga, to: host("beta") })).await.unwrap();
    ask::<Ownership>(beta, step(1, 1, OwnershipStep::Claim { by: host("beta"), saga })).await.unwrap();
}

/// The types and senders of the presences among these, and the events of the feed.
fn seen(stanzas: Vec<Element>, vm: &Entity) -> (Vec<(String, Option<String>)>, Vec<Event>) {
    assert!(stanzas.iter().all(|e| e.name() != "iq"), "nothing happens to the contact: {stanzas:?}");
    let presences = stanzas.iter().filter(|e| e.name() == "presence" && e.attr("from").is_some_and(|f| f.starts_with(&vm.jid())));
    let presences = presences.map(|e| (e.attr("from").unwrap().to_owned(), e.attr("type").map(str::to_owned))).collect();
    let pushes = stanzas.iter().filter(|e| e.has_child("event", ns::PUBSUB_EVENT)).filter_map(Push::parse);
    (presences, pushes.flat_map(|p| p.unwrap().events).collect())
}

async fn settle(admin: &Client, fits: impl Fn(&Event) -> bool) -> Vec<Element> {
    let mut all = Vec::new();
    loop {
        let next = admin.wait(|_| true).await;
        let events = Push::parse(&next).and_then(Result::ok).map(|p| p.events).unwrap_or_default();
        all.push(next);
        if events.iter().any(&fits) {
            all.extend(admin.received());
            return all;
        }
    }
}

#[tokio::test]
async fn a_move_through_the_authority_never_blinks() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta, admin) = watched(&world, &vm).await;
    handed_over(&alpha, &beta).await;
    // The end of the copy on alpha is heard before beta has said anything.
    alpha.announce(&[event("domain.stopped", &next(&vm, DomainState::Shutoff)), gone(&next(&vm, DomainState::Shutoff))]);
    assert_eq!(world.exchange.look_up(&vm.id).unwrap().state(), "running", "the end of a copy is no news of the machine");
    assert!(admin.received().is_empty());
    let there = on(&vm, "beta");
    beta.announce(&[event("domain.added", &there)]);
    let (presences, events) = seen(settle(&admin, |e| e.topic == "domain.migrated").await, &vm);
    let full = |on: &str| format!("{}/{on}", vm.jid());
    assert_eq!(presences, [(full("beta"), None), (full("alpha"), Some("unavailable".into()))], "the new place first");
    let told: Vec<_> = events.iter().map(|e| (&*e.topic, e.detail.as_deref(), e.epoch)).collect();
    assert_eq!(told, [("domain.migrated", Some("from alpha to beta"), Epoch(2))]);
    assert_eq!(events[0].after.as_ref().unwrap().jid(), vm.jid());
    // Later words of alpha change nothing, and the contact is still followed.
    alpha.announce(&[event("domain.started", &next(&next(&vm, DomainState::Shutoff), DomainState::Running))]);
    beta.announce(&[event("domain.paused", &next(&there, DomainState::Paused))]);
    let (presences, events) = seen(settle(&admin, |e| e.topic == "domain.paused").await, &vm);
    assert_eq!((presences, events.len()), (vec![(full("beta"), None)], 1));
}

#[tokio::test]
async fn a_move_made_without_us_never_blinks_either() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta, admin) = watched(&world, &vm).await;
    beta.announce(&[event("domain.added", &on(&vm, "beta"))]);
    alpha.announce(&[gone(&vm)]);
    let (presences, _) = seen(settle(&admin, |e| e.topic == "domain.migrated").await, &vm);
    assert_eq!(presences.iter().map(|(_, t)| t.as_deref()).collect::<Vec<_>>(), [None, Some("unavailable")]);
    assert_eq!(world.exchange.look_up(&vm.id).unwrap().host, host("beta"));
}

#[tokio::test]
async fn a_host_that_comes_back_with_what_it_had_does_not_get_it_back() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta, admin) = watched(&world, &vm).await;
    handed_over(&alpha, &beta).await;
    // It crashed right after the claim, and asserts what it knew before beta has spoken, and again afterwards.
    alpha.close();
    assert_eq!(world.exchange.look_up(&vm.id).unwrap().condition, Condition::Ok, "it is beta's to say that it is unknown");
    let late = Entity { seq: Seq(2_000_000_000), ..vm.clone() };
    let alpha = world.agent("alpha");
    alpha.join("alpha", 2, vec![hypervisor("alpha"), late.clone()]).await;
    assert_eq!(world.exchange.look_up(&vm.id).unwrap().seq, vm.seq);
    beta.announce(&[event("domain.added", &on(&vm, "beta"))]);
    alpha.join("alpha", 2, vec![hypervisor("alpha"), late]).await;
    alpha.join("alpha", 2, vec![hypervisor("alpha")]).await;
    let now = world.exchange.look_up(&vm.id).unwrap();
    assert_eq!((now.host.as_str(), now.epoch), ("beta", Epoch(2)));
    let (presences, _) = seen(settle(&admin, |e| e.topic == "domain.migrated").await, &vm);
    assert_eq!(presences.iter().map(|(_, t)| t.as_deref()).collect::<Vec<_>>(), [None, Some("unavailable")], "{presences:?}");
}

fn table() -> (Locations, Entity) {
    let mut table = Locations::new(CELL.parse().unwrap());
    table.hello(&host("alpha"), 1, 1).unwrap();
    table.hello(&host("beta"), 2, 1).unwrap();
    let vm = machine(1, "alpha");
    table.announce(&host("alpha"), 1, vec![event("domain.added", &vm)]);
    (table, vm)
}

fn owned(vm: &Entity, to: &str) -> Ownership {
    Ownership::owned(vm.id.to_string().parse().unwrap(), Epoch(vm.epoch.0 + 1), host(to))
}

#[test]
fn a_takeover_by_assertion_says_from_where_to_where() {
    let (mut table, vm) = table();
    let outcome = table.assert(&host("beta"), 2, vec![Arc::new(on(&vm, "beta"))], NOW);
    let told = &outcome.changes[0].event;
    assert_eq!((&*told.topic, told.detail.as_deref()), ("domain.migrated", Some("from alpha to beta")));
    assert_eq!(table.assert(&host("beta"), 2, vec![Arc::new(on(&vm, "beta"))], NOW).changes.len(), 0);
    // And so does one by an event, whatever that is called.
    let back = Entity { epoch: Epoch(3), ..on(&vm, "alpha") };
    let outcome = table.announce(&host("alpha"), 1, vec![event("domain.resumed", &back)]);
    let told = &outcome.changes[0].event;
    assert_eq!((&*told.topic, told.detail.as_deref()), ("domain.migrated", Some("from beta to alpha")));
}

#[test]
fn an_equal_or_lower_epoch_takes_nothing_over() {
    let (mut table, vm) = table();
    for epoch in [0, 1] {
        let there = Entity { epoch: Epoch(epoch), seq: Seq(99), ..on(&vm, "beta") };
        let outcome = table.assert(&host("beta"), 2, vec![Arc::new(there.clone())], NOW);
        assert_eq!(outcome.refused, [Refusal::Held(vm.id.clone(), host("alpha"))]);
        // Whoever had it last is late; whoever claims it with the same number is not.
        let told = if epoch == 0 { Refusal::Late(vm.id.clone(), host("alpha")) } else { outcome.refused[0].clone() };
        assert_eq!(table.announce(&host("beta"), 2, vec![event("domain.started", &there)]).refused, [told]);
    }
}

#[test]
fn what_was_handed_over_and_never_told_of_goes_with_the_new_host() {
    let (mut table, vm) = table();
    table.handed(&owned(&vm, "beta"));
    let lost = table.lost(&host("beta"), 2, NOW);
    assert_eq!((lost.changes.len(), table.get(&vm.id).unwrap().state()), (1, "unknown"), "beta had it and does not answer");
    table.hello(&host("beta"), 3, 2).unwrap();
    let gone = table.asserted(&host("beta"), 3, NOW);
    assert_eq!(gone.changes.iter().map(|c| (&c.event.entity, c.event.after.is_none())).collect::<Vec<_>>(), [(&vm.id, true)]);
    assert!(table.get(&vm.id).is_none());
    assert_eq!(table.on_host(&host("alpha")).count(), 0);
}

#[test]
fn a_hand_over_of_what_is_not_shown_elsewhere_means_nothing() {
    let (mut table, vm) = table();
    // It was told of before the answer of the authority was.
    table.announce(&host("beta"), 2, vec![event("domain.added", &on(&vm, "beta"))]);
    table.handed(&owned(&vm, "beta"));
    table.handed(&Ownership::owned(archipel_contract::DomainId(uuid::Uuid::from_u128(9)), Epoch(4), host("beta")));
    assert!(table.asserted(&host("beta"), 2, NOW).changes.is_empty());
    let back = Entity { epoch: Epoch(3), ..on(&vm, "alpha") };
    assert!(table.announce(&host("alpha"), 1, vec![event("domain.added", &back)]).refused.is_empty(), "and moves on");
}
