//! The feed.

use super::{
    CELL, event, machine, network, next, pool,
    world::{Client, World},
};
use crate::{
    ns,
    stanza::feed::{Ask, Page, PageRequest, Push},
};
use archipel_contract::{Entity, domain::DomainState};
use std::sync::Arc;
use std::time::{Duration, Instant};

async fn subscribe(client: &Client) {
    let answer = client.ask("set", Some(CELL), Ask::Subscribe { jid: client.jid() }.print()).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

async fn push(client: &Client) -> Push {
    let message = client.wait(|e| e.name() == "message" && e.has_child("event", ns::PUBSUB_EVENT)).await;
    Push::parse(&message).unwrap().unwrap()
}

async fn snapshot(client: &Client, max: usize) -> Vec<Arc<Entity>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let ask = Ask::Items(PageRequest { max: Some(max), after });
        let answer = client.ask("get", Some(CELL), ask.print()).await;
        let page = Page::parse(answer.children().next().unwrap()).unwrap();
        let Some(last) = page.last() else { return all };
        assert!(page.entities.len() <= max);
        after = Some(last);
        all.extend(page.entities);
    }
}

#[tokio::test]
async fn a_subscriber_gets_every_change_and_counts_them() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("web");
    subscribe(&admin).await;
    let paused = next(&vm, DomainState::Paused);
    let running = next(&paused, DomainState::Running);
    agent.announce(&[event("domain.paused", &paused), event("domain.resumed", &running)]);
    let first = push(&admin).await;
    assert_eq!(first.id, 1);
    assert_eq!(first.events, [event("domain.paused", &paused), event("domain.resumed", &running)]);
    agent.announce(&[event("domain.stopped", &next(&running, DomainState::Shutoff))]);
    assert_eq!(push(&admin).await.id, 2);
    // Closed: nothing more is kept for it.
    admin.close();
    assert_eq!(world.exchange.health().subscribers, 0);
}

#[tokio::test]
async fn the_snapshot_has_everything_once_in_order_of_the_addresses() {
    let world = World::new().await;
    let mut all: Vec<Entity> = (1..=25).map(|n| machine(n, "alpha")).collect();
    all.extend([network(3, "alpha"), pool(2, "alpha")]);
    world.host("alpha", all).await;
    let admin = world.admin("web");
    for max in [1, 7, 100] {
        let seen: Vec<String> = snapshot(&admin, max).await.iter().map(|e| e.id.to_string()).collect();
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!((seen.len(), &seen), (28, &sorted), "pages of {max}");
    }
}

#[tokio::test]
async fn somebody_else_cannot_be_subscribed() {
    let world = World::new().await;
    let admin = world.admin("web");
    let answer = admin.ask("set", Some(CELL), Ask::Subscribe { jid: format!("eve@{CELL}/web") }.print()).await;
    assert_eq!(answer.attr("type"), Some("error"));
    assert_eq!(world.exchange.health().subscribers, 0);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_sees_a_hole() {
    let world = World::new().await;
    let agent = world.host("alpha", vec![]).await;
    let admin = world.admin("web");
    subscribe(&admin).await;
    // Nobody takes anything from the session: its queue fills, and later pushes are dropped.
    for n in 0..5000u128 {
        agent.announce(&[event("domain.added", &machine(n, "alpha"))]);
        tokio::task::yield_now().await;
    }
    let full = admin.received();
    let mut numbers: Vec<u64> = full.iter().filter_map(Push::parse).map(|p| p.unwrap().id).collect();
    assert!(numbers.len() < 5000, "the queue is bounded");
    agent.announce(&[event("domain.added", &machine(6000, "alpha"))]);
    numbers.push(push(&admin).await.id);
    let last = numbers.len() - 1;
    assert!(numbers[last] > numbers[last - 1] + 1, "the hole is visible: {:?}", &numbers[last - 1..]);
    assert!(numbers[..last].windows(2).all(|w| w[1] == w[0] + 1));
}

#[tokio::test]
async fn ten_thousand_machines_are_read_page_by_page() {
    let world = World::new().await;
    world.host("alpha", (0..10_000).map(|n| machine(n, "alpha")).collect()).await;
    let admin = world.admin("web");
    let (mut count, mut after, mut bytes) = (0, None, 0);
    loop {
        let ask = Ask::Items(PageRequest { max: None, after });
        let answer = admin.ask("get", Some(CELL), ask.print()).await;
        let page = Page::parse(answer.children().next().unwrap()).unwrap();
        count += page.entities.len();
        bytes += String::from(&answer).len();
        match page.last() {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    assert_eq!(count, 10_001);
    println!("{count} entities, {bytes} bytes");
}

/// What one change costs with so many machines: the median of 500, from its announcement until its push is read.
async fn cost_of_a_change(machines: u128) -> Duration {
    let world = World::new().await;
    let agent = world.host("alpha", (0..machines).map(|n| machine(n, "alpha")).collect()).await;
    let admin = world.admin("web");
    subscribe(&admin).await;
    let mut vm = machine(machines - 1, "alpha");
    let mut costs = Vec::new();
    for n in 0..500 {
        vm = next(&vm, if n % 2 == 0 { DomainState::Paused } else { DomainState::Running });
        let one = event("domain.paused", &vm);
        let begun = Instant::now();
        agent.announce(&[one]);
        assert_eq!(push(&admin).await.events.len(), 1);
        costs.push(begun.elapsed());
    }
    costs.sort();
    costs[costs.len() / 2]
}

#[tokio::test]
async fn one_change_among_ten_thousand_machines_costs_what_it_costs_among_ten() {
    let few = cost_of_a_change(10).await;
    let many = cost_of_a_change(10_000).await;
    println!("one change among 10 machines: {few:?}, among 10,000: {many:?}");
    // Walking all machines for each change would take more than ten times as long. The median does not mind a busy machine.
    assert!(many < 5 * few, "{many:?} among 10,000, {few:?} among 10");
}
