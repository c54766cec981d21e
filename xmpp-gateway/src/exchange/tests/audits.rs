//! Machines that run twice: counted, asked about, shown, and left alone.

use super::{
    CELL, event, hypervisor, machine, next,
    world::{Client, World},
};
use crate::{
    exchange::{audit::Auditor, location::Locations},
    stanza::{
        adhoc::Command,
        feed::{Ask, Push},
    },
};
use archipel_contract::{
    Condition, DomainId, Entity, EntityId, Event, Facts, HypervisorName, Seq, Timestamp,
    domain::DomainState,
    hypervisor::Stranger,
    port::{Authority, Dispatcher},
};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn id(n: u128) -> DomainId {
    DomainId(uuid::Uuid::from_u128(n))
}

fn stranger(n: u128, state: DomainState) -> Stranger {
    Stranger { id: id(n), name: format!("web{n}").into(), state, left: false }
}

/// The hypervisor with these strangers, numbered so.
fn with_strangers(host: &str, seq: u64, all: Vec<Stranger>) -> Entity {
    let mut entity = Entity { seq: Seq(seq), ..hypervisor(host) };
    let Facts::Hypervisor(facts) = &mut entity.facts else { panic!("a hypervisor") };
    facts.strangers = all;
    entity
}

fn changed(entity: &Entity) -> Event {
    event("hypervisor.changed", entity)
}

/// Answers what the exchange asks with this entity, and says what that was.
async fn answers(agent: &Client, known: &Entity) -> String {
    let (iq, request) = agent.request().await;
    let archipel_contract::port::Address::Entity(target) = &request.target else { panic!("{request:?}") };
    assert_eq!(*target, known.id);
    agent.reply(&iq, &known.to_json());
    request.command
}

pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("not within 20 s: {what}"));
}

/// Gives everything that is under way the time to happen.
async fn calm() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn shown(world: &World, vm: &Entity) -> Entity {
    Entity::clone(&world.exchange.look_up(&vm.id).unwrap())
}

#[tokio::test]
async fn a_machine_that_runs_twice_is_an_alarm_everywhere_and_nothing_is_done() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta) = (world.host("alpha", vec![vm.clone()]).await, world.host("beta", vec![]).await);
    let admin = world.admin("web");
    admin.ask_text("get", None, "<query xmlns='jabber:iq:roster'/>").await;
    admin.write("<presence/>");
    admin.ask_text("set", None, &format!("<query xmlns='jabber:iq:roster'><item jid='{}'/></query>", vm.jid())).await;
    let from = format!("{}/alpha", vm.jid());
    admin.wait(|e| e.attr("from") == Some(&from)).await;
    admin.ask("set", Some(CELL), Ask::Subscribe { jid: admin.jid() }.print()).await;
    let twin = with_strangers("beta", 2, vec![stranger(1, DomainState::Running)]);
    beta.announce(&[changed(&twin)]);
    let asked = tokio::join!(answers(&alpha, &vm), answers(&beta, &twin));
    assert_eq!((asked.0.as_str(), asked.1.as_str()), ("domain.info", "hypervisor.info"));
    until("the alarm", || !world.exchange.health().duplicates.is_empty()).await;
    let health = world.exchange.health().duplicates;
    assert!(health.len() == 1 && health[0].contains("web1") && health[0].contains("alpha, beta"), "{health:?}");
    let why = "runs on alpha and on beta: shut one down by hand at the right place; nothing is done automatically";
    let now = shown(&world, &vm);
    assert_eq!((&now.condition, now.why.as_deref(), now.state()), (&Condition::Degraded, Some(why), "running"));
    let presence = admin.wait(|e| e.attr("from") == Some(&from)).await;
    assert!(presence.get_child("status", crate::ns::CLIENT).unwrap().text().contains(why), "{presence:?}");
    let pushed = loop {
        let push = Push::parse(&admin.wait(|e| e.name() == "message").await).unwrap().unwrap();
        if let Some(found) = push.events.into_iter().find(|e| e.topic == "domain.duplicate") {
            break found;
        }
    };
    assert_eq!((pushed.seq, pushed.detail.as_deref()), (Seq(2), Some(why)));
    // Whoever asks the machine itself is told as well, with the numbers that viewers see.
    let info = Command::request("domain.info", json!({}), None);
    let to = vm.jid();
    let (answer, _) = tokio::join!(admin.ask("set", Some(&to), info.print()), answers(&alpha, &vm));
    let told = Command::parse(answer.children().next().unwrap()).unwrap().json.unwrap();
    assert_eq!((&told["condition"], &told["why"], &told["seq"]), (&json!("degraded"), &json!(why), &json!(2)));
    // What its agent tells goes on without a hole, and the alarm stays over it.
    let mut renamed = next(&vm, DomainState::Running);
    renamed.name = "web1a".into();
    (renamed.condition, renamed.why) = (Condition::Degraded, Some("its actor is being restarted".into()));
    alpha.announce(&[event("domain.changed", &renamed)]);
    let now = shown(&world, &vm);
    assert_eq!((&*now.name, now.seq, now.why.as_deref()), ("web1a", Seq(3), Some(why)));
    calm().await;
    assert!([&alpha, &beta].iter().all(|a| a.received().iter().all(|e| e.attr("type") != Some("set"))), "nobody was told to do anything");
    // A person ended the copy on beta.
    beta.announce(&[changed(&with_strangers("beta", 3, vec![stranger(1, DomainState::Shutoff)]))]);
    let now = shown(&world, &vm);
    assert_eq!((now.why.as_deref(), now.seq), (Some("its actor is being restarted"), Seq(4)), "what its agent told last");
    assert!(world.exchange.health().duplicates.is_empty());
    alpha.announce(&[event("domain.paused", &Entity { seq: Seq(3), ..next(&renamed, DomainState::Paused) })]);
    assert_eq!((shown(&world, &vm).seq, shown(&world, &vm).state()), (Seq(5), "paused"));
}

#[test]
fn a_hypervisor_asked_how_it_stands_names_what_is_not_its_own() {
    let said = crate::exchange::words::standing(&with_strangers(
        "beta",
        1,
        vec![stranger(1, DomainState::Running), stranger(2, DomainState::Shutoff)],
    ));
    assert!(said.contains("also here, though another host has it: web1 (") && said.contains("), RUNNING\n"), "{said}");
    assert!(said.contains("), shutoff\n"), "{said}");
}

#[tokio::test]
async fn a_move_whose_end_is_heard_before_its_beginning_is_no_alarm() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta) = (world.host("alpha", vec![vm.clone()]).await, world.host("beta", vec![]).await);
    // First it stands still on beta, which is nothing.
    beta.announce(&[changed(&with_strangers("beta", 2, vec![stranger(1, DomainState::Paused)]))]);
    calm().await;
    assert!(alpha.received().iter().all(|e| e.attr("type") != Some("set")), "what stands still is not asked about");
    // Then it runs there, and that alpha stopped is still on its way.
    let there = with_strangers("beta", 3, vec![stranger(1, DomainState::Running)]);
    beta.announce(&[changed(&there)]);
    let stopped = next(&vm, DomainState::Paused);
    tokio::join!(answers(&alpha, &stopped), answers(&beta, &there));
    calm().await;
    assert_eq!((shown(&world, &vm).condition, world.exchange.health().duplicates.len()), (Condition::Ok, 0));
    assert_eq!(shown(&world, &vm).seq, vm.seq, "nobody was told anything");
    alpha.announce(&[event("domain.paused", &stopped)]);
    calm().await;
    assert!([&alpha, &beta].iter().all(|a| a.received().iter().all(|e| e.attr("type") != Some("set"))), "and nobody is asked again");
}

#[tokio::test]
async fn what_changes_while_it_is_looked_at_is_looked_at_again() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta) = (world.host("alpha", vec![vm.clone()]).await, world.host("beta", vec![]).await);
    let there = with_strangers("beta", 2, vec![stranger(1, DomainState::Running)]);
    beta.announce(&[changed(&there)]);
    let (iq, _) = beta.request().await;
    // While beta is being asked alpha stops and starts again.
    let (off, on) = (next(&vm, DomainState::Shutoff), next(&next(&vm, DomainState::Shutoff), DomainState::Running));
    alpha.announce(&[event("domain.stopped", &off), event("domain.started", &on)]);
    answers(&alpha, &off).await;
    beta.reply(&iq, &there.to_json());
    tokio::join!(answers(&alpha, &on), answers(&beta, &there));
    until("the alarm", || world.exchange.health().duplicates.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_asked_again_and_no_alarm_is_raised_before() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta) = (world.host("alpha", vec![vm.clone()]).await, world.host("beta", vec![]).await);
    let there = with_strangers("beta", 2, vec![stranger(1, DomainState::Running)]);
    beta.announce(&[changed(&there)]);
    for _ in 0..3 {
        tokio::join!(alpha.request(), answers(&beta, &there));
        assert_eq!(shown(&world, &vm).condition, Condition::Ok);
    }
    tokio::join!(answers(&alpha, &vm), answers(&beta, &there));
    let raised = async {
        while world.exchange.health().duplicates.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), raised).await.unwrap();
}

#[tokio::test]
async fn a_host_that_is_away_is_asked_when_it_is_back() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta) = (world.host("alpha", vec![vm.clone()]).await, world.host("beta", vec![]).await);
    alpha.close();
    let there = with_strangers("beta", 2, vec![stranger(1, DomainState::Running)]);
    beta.announce(&[changed(&there)]);
    answers(&beta, &there).await;
    calm().await;
    assert_eq!((shown(&world, &vm).condition, world.exchange.health().duplicates.len()), (Condition::Unreachable, 0));
    let alpha = world.host("alpha", vec![vm.clone()]).await;
    tokio::join!(answers(&alpha, &vm), answers(&beta, &there));
    until("the alarm", || world.exchange.health().duplicates.len() == 1).await;
    assert_eq!(shown(&world, &vm).condition, Condition::Degraded);
    // While it is away again the alarm stands, and what is shown is that nobody knows.
    alpha.close();
    assert_eq!((shown(&world, &vm).condition, world.exchange.health().duplicates.len()), (Condition::Unreachable, 1));
    world.host("alpha", vec![vm.clone()]).await;
    assert_eq!(shown(&world, &vm).condition, Condition::Degraded);
}

#[tokio::test]
async fn a_host_that_lost_control_proves_nothing() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta) = (world.host("alpha", vec![vm.clone()]).await, world.host("beta", vec![]).await);
    let there = with_strangers("beta", 2, vec![stranger(1, DomainState::Running)]);
    beta.announce(&[changed(&there)]);
    let lost = Entity { condition: Condition::ControlLost, ..vm.clone() };
    tokio::join!(answers(&alpha, &lost), answers(&beta, &there));
    calm().await;
    assert!(world.exchange.health().duplicates.is_empty());
    // Control is back, and so is the question.
    alpha.announce(&[event("domain.known", &Entity { seq: Seq(2), ..vm.clone() })]);
    tokio::join!(answers(&alpha, &vm), answers(&beta, &there));
    until("the alarm", || world.exchange.health().duplicates.len() == 1).await;
}

#[tokio::test]
async fn copies_whose_owner_nobody_knows_are_an_alarm_too() {
    let world = World::new().await;
    let (beta, gamma) = (world.host("beta", vec![]).await, world.host("gamma", vec![]).await);
    let (one, two) = ([stranger(1, DomainState::Running)], [stranger(1, DomainState::Running)]);
    let (on_beta, on_gamma) = (with_strangers("beta", 2, one.into()), with_strangers("gamma", 2, two.into()));
    beta.announce(&[changed(&on_beta)]);
    gamma.announce(&[changed(&on_gamma)]);
    tokio::join!(answers(&beta, &on_beta), answers(&gamma, &on_gamma));
    until("the alarm", || world.exchange.health().duplicates.len() == 1).await;
    // The owner comes: a third copy, and the entity shows it from the first moment.
    let vm = machine(1, "alpha");
    world.host("alpha", vec![vm.clone()]).await;
    let now = shown(&world, &vm);
    assert_eq!(now.condition, Condition::Degraded);
    assert!(now.why.as_deref().is_some_and(|why| why.contains("on alpha and on beta and on gamma")), "{:?}", now.why);
    assert!(world.exchange.health().duplicates[0].contains("alpha, beta, gamma"));
}

#[tokio::test]
async fn lists_and_metrics_tell_of_an_alarm() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let (alpha, beta) = (world.host("alpha", vec![vm.clone()]).await, world.host("beta", vec![]).await);
    let there = with_strangers("beta", 2, vec![stranger(1, DomainState::Running)]);
    beta.announce(&[changed(&there)]);
    tokio::join!(answers(&alpha, &vm), answers(&beta, &there));
    until("the alarm", || world.exchange.health().duplicates.len() == 1).await;
    let list = archipel_contract::port::Request {
        target: archipel_contract::port::Address::Cell,
        command: "domain.list".into(),
        arguments: json!({}),
        caller: archipel_contract::Caller {
            jid: "admin@vm.localhost/web".into(),
            role: archipel_contract::Role::Admin,
            operation: archipel_contract::OperationId::fresh(),
        },
    };
    let all = world.exchange.call(list).await.unwrap();
    assert_eq!(all[0]["condition"], "degraded");
    world.exchange.collect();
    let text = prometheus::TextEncoder::new().encode_to_string(&prometheus::gather()).unwrap();
    // All exchanges of this process share the gauges, so their values are not this test's alone.
    for name in ["archipel_domain_running_copies_max ", "archipel_duplicates "] {
        assert!(text.lines().any(|l| l.starts_with(name)), "{name}");
    }
}

/// One thing a host may say: how a machine stands there, as its owner or as a stranger's.
#[derive(Debug, Clone)]
struct Said {
    host: usize,
    vm: u128,
    owner: bool,
    state: DomainState,
}

fn said() -> impl Strategy<Value = Said> {
    let state = prop::sample::select(DomainState::ALL.to_vec());
    (0..3usize, 0..2u128, any::<bool>(), state).prop_map(|(host, vm, owner, state)| Said { host, vm, owner, state })
}

proptest! {
    /// The model writes down for each host which machines run there, and counts.
    #[test]
    fn the_auditor_counts_like_the_model(sayings in proptest::collection::vec(said(), 1..60)) {
        let hosts: Vec<HypervisorName> = ["alpha", "beta", "gamma"].iter().map(|h| h.parse().unwrap()).collect();
        let mut table = Locations::new(CELL.parse().unwrap());
        let mut auditor = Auditor::default();
        for (link, host) in hosts.iter().enumerate() {
            table.hello(host, link as u64 + 1, 1).unwrap();
        }
        let mut strangers: BTreeMap<(usize, u128), DomainState> = BTreeMap::new();
        let mut owners: BTreeMap<u128, (usize, DomainState)> = BTreeMap::new();
        let (mut seq, mut epoch) = (1, 1);
        for Said { host, vm, owner, state } in sayings {
            seq += 1;
            let entity = if owner {
                epoch += 1;
                owners.insert(vm, (host, state));
                let mut entity = Entity { seq: Seq(seq), epoch: archipel_contract::Epoch(epoch), ..machine(vm, hosts[host].as_str()) };
                let Facts::Domain(facts) = &mut entity.facts else { panic!("a machine") };
                facts.state = state;
                entity
            } else {
                strangers.insert((host, vm), state);
                let all = (0..2).filter_map(|vm| strangers.get(&(host, vm)).map(|state| stranger(vm, *state))).collect();
                with_strangers(hosts[host].as_str(), seq, all)
            };
            let mut outcome = table.announce(&hosts[host], host as u64 + 1, vec![event("domain.changed", &entity)]);
            prop_assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
            let suspects = auditor.follow(&mut table, &mut outcome.changes, Timestamp(5));
            for vm in 0..2u128 {
                let runs = |state: DomainState| matches!(state, DomainState::Running | DomainState::Shutdown);
                let mut on: BTreeSet<usize> = (0..3).filter(|h| strangers.get(&(*h, vm)).is_some_and(|s| runs(*s))).collect();
                on.extend(owners.get(&vm).filter(|(_, state)| runs(*state)).map(|(host, _)| *host));
                let counted: BTreeSet<usize> = auditor.copies(&table, id(vm)).iter().map(|h| hosts.iter().position(|x| x == h).unwrap()).collect();
                prop_assert_eq!(&counted, &on);
                prop_assert!(!suspects.contains(&id(vm)) || on.len() > 1);
            }
            prop_assert!(auditor.alarmed().is_empty(), "nobody is alarmed before the hosts were asked");
        }
    }
}

#[test]
fn a_hypervisor_that_is_gone_has_no_copies() {
    let mut table = Locations::new(CELL.parse().unwrap());
    let mut auditor = Auditor::default();
    let beta: HypervisorName = "beta".parse().unwrap();
    table.hello(&beta, 1, 1).unwrap();
    let there = with_strangers("beta", 1, vec![stranger(1, DomainState::Running)]);
    let mut told = table.announce(&beta, 1, vec![changed(&there)]);
    auditor.follow(&mut table, &mut told.changes, Timestamp(5));
    assert_eq!(auditor.copies(&table, id(1)).len(), 1);
    let gone = Event { after: None, ..event("hypervisor.removed", &Entity { seq: Seq(2), ..there }) };
    let mut told = table.announce(&beta, 1, vec![gone]);
    auditor.follow(&mut table, &mut told.changes, Timestamp(5));
    assert!(auditor.copies(&table, id(1)).is_empty());
    assert!(table.get(&EntityId::Hypervisor(beta)).is_none());
}

#[tokio::test]
async fn whoever_has_a_copy_of_a_machine_that_is_gone_looks_again() {
    let world = World::new().await;
    let (one, two) = (machine(1, "alpha"), machine(2, "alpha"));
    let (alpha, beta) = (world.host("alpha", vec![one.clone(), two.clone()]).await, world.host("beta", vec![]).await);
    beta.announce(&[changed(&with_strangers("beta", 2, vec![stranger(2, DomainState::Shutoff)]))]);
    for vm in [&one, &two] {
        let after = next(vm, DomainState::Running);
        alpha.announce(&[Event { after: None, ..event("domain.undefined", &after) }]);
    }
    let (iq, request) = beta.request().await;
    assert_eq!((&*request.command, &request.arguments), ("hypervisor.look-again", &json!({ "domain": id(2) })));
    assert_eq!(request.caller.role, archipel_contract::Role::Node);
    beta.reply(&iq, &json!({ "message": "it is being looked at" }));
    until("it has answered", || world.exchange.health().waiting == 0).await;
}

#[tokio::test]
async fn whoever_has_a_copy_looks_again_when_nobody_owns_the_machine_any_more() {
    let world = World::new().await;
    let (alpha, beta) = (world.host("alpha", vec![]).await, world.host("beta", vec![]).await);
    beta.announce(&[changed(&with_strangers("beta", 2, vec![stranger(2, DomainState::Shutoff)]))]);
    let held = world.authority.claim_unowned(vec![id(2)], "alpha".parse().unwrap()).await.unwrap();
    let forget = crate::stanza::authority::Forget { domain: id(2), expected: held[0].epoch };
    super::authorities::ask::<()>(&alpha, crate::stanza::authority::Ask::Forget(forget)).await.unwrap();
    let (iq, request) = beta.request().await;
    assert_eq!((&*request.command, &request.arguments), ("hypervisor.look-again", &json!({ "domain": id(2) })));
    beta.reply(&iq, &json!({ "message": "it is being looked at" }));
    until("it has answered", || world.exchange.health().waiting == 0).await;
}
