//! The node links.

use super::{CELL, event, hypervisor, machine, network, next, world::World};
use crate::stanza::{adhoc::Command, fault, node};
use archipel_contract::{Condition, FaultKind, Seq, domain::DomainState};
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn a_json_command_goes_to_the_agent_and_its_answer_comes_back() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("web");
    let (answer, ()) = tokio::join!(
        async {
            let command = Command::request("domain.pause", json!({}), None);
            admin.ask("set", Some(&vm.jid()), command.print()).await
        },
        async {
            let (iq, request) = agent.request().await;
            assert_eq!((iq.attr("from"), iq.attr("to")), (Some(CELL), Some(&*vm.jid())));
            assert_eq!(request.command, "domain.pause");
            assert_eq!(request.caller.jid, "admin@vm.localhost/web");
            agent.reply(&iq, &json!({ "message": "web1 is paused" }));
        }
    );
    let command = Command::parse(answer.children().next().unwrap()).unwrap();
    assert_eq!(command.json, Some(json!({ "message": "web1 is paused" })));
    assert_eq!(command.notes[0].text, "web1 is paused");
    assert_eq!(world.exchange.health().waiting, 0);
}

#[tokio::test]
async fn a_fault_of_the_agent_reaches_whoever_asked() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("web");
    let (answer, ()) =
        tokio::join!(async { admin.ask("set", Some(&vm.jid()), Command::request("domain.start", json!({}), None).print()).await }, async {
            let (iq, _) = agent.request().await;
            let told = archipel_contract::Fault::wrong_state("web1 is running already").because("libvirt: 55");
            agent.send(fault::answer(&iq, &told));
        });
    let told = fault::of_stanza(&answer);
    assert_eq!((told.kind, &*told.message, told.cause.as_deref()), (FaultKind::WrongState, "web1 is running already", Some("libvirt: 55")));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_a_timeout() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("web");
    let (answer, _) = tokio::join!(
        async { admin.ask("set", Some(&vm.jid()), Command::request("domain.pause", json!({}), None).print()).await },
        agent.request()
    );
    let told = fault::of_stanza(&answer);
    assert_eq!(told.kind, FaultKind::Timeout, "{told}");
    assert_eq!(world.exchange.health().waiting, 0);
}

#[tokio::test]
async fn a_link_that_closes_answers_who_waits_and_makes_its_entities_unknown() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("web");
    let (answer, ()) =
        tokio::join!(async { admin.ask("set", Some(&vm.jid()), Command::request("domain.pause", json!({}), None).print()).await }, async {
            agent.request().await;
            agent.close();
        });
    assert_eq!(fault::of_stanza(&answer).kind, FaultKind::Timeout);
    let known = world.exchange.look_up(&vm.id).unwrap();
    assert_eq!((known.condition.clone(), known.state()), (Condition::Unreachable, "unknown"));
    let answer = admin.ask("set", Some(&vm.jid()), Command::request("domain.pause", json!({}), None).print()).await;
    let told = fault::of_stanza(&answer);
    assert_eq!(told.kind, FaultKind::Unavailable);
    assert!(told.message.contains("alpha"), "{told}");
    // It comes back with a new link, numbered above what viewers saw last.
    world.host("alpha", vec![vm.clone()]).await;
    let back = world.exchange.look_up(&vm.id).unwrap();
    assert_eq!(back.condition, Condition::Ok);
    assert!(back.seq > known.seq, "{:?} after {:?}", back.seq, known.seq);
    assert_eq!(world.exchange.health().hosts_linked, 1);
}

#[tokio::test]
async fn an_agent_cannot_speak_for_another_host() {
    let world = World::new().await;
    let agent = world.agent("beta");
    let hello = node::Hello { version: "1".into(), host: "alpha".parse().unwrap(), incarnation: 1, entities: 0, instance: None, now: None };
    let answer = agent.ask("set", Some(CELL), node::Ask::Hello(hello).print()).await;
    assert_eq!(fault::of_stanza(&answer).kind, FaultKind::Forbidden);
    let answer = agent.ask("set", Some(CELL), node::Ask::Assert(vec![Arc::new(hypervisor("beta"))]).print()).await;
    assert_eq!(fault::of_stanza(&answer).kind, FaultKind::Conflict);
    assert_eq!(world.exchange.health().entities, 0);
}

#[tokio::test]
async fn the_same_machine_on_two_hosts_stays_with_the_first() {
    let world = World::new().await;
    world.host("alpha", vec![machine(1, "alpha")]).await;
    let beta = world.host("beta", vec![machine(1, "beta"), network(9, "beta")]).await;
    let again = beta.ask("set", Some(CELL), node::Ask::Assert(vec![Arc::new(machine(1, "beta"))]).print()).await;
    let told = fault::of_stanza(&again);
    assert!(told.kind == FaultKind::Conflict && told.message.contains("held by alpha"), "{told}");
    let held = world.exchange.look_up(&machine(1, "alpha").id).unwrap();
    assert_eq!(held.host.as_str(), "alpha");
    assert!(world.exchange.look_up(&network(9, "beta").id).is_some(), "the rest of the assertion counts");
    // A higher epoch moves it.
    let mut moved = machine(1, "beta");
    moved.epoch = archipel_contract::Epoch(2);
    beta.announce(&[event("domain.started", &moved)]);
    assert_eq!(world.exchange.look_up(&moved.id).unwrap().host.as_str(), "beta");
}

#[tokio::test]
async fn one_agent_asks_another_in_its_own_name_whatever_it_claims() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    let beta = world.host("beta", vec![]).await;
    let request = archipel_contract::port::Request {
        target: archipel_contract::port::Address::Entity(hypervisor("beta").id),
        command: "hypervisor.info".into(),
        arguments: json!({}),
        caller: archipel_contract::Caller {
            jid: "admin@vm.localhost/web".into(),
            role: archipel_contract::Role::Admin,
            operation: archipel_contract::OperationId::fresh(),
        },
    };
    let ask = node::Ask::Request(Box::new(request));
    let (answer, ()) = tokio::join!(alpha.ask("set", Some("hv.beta@vm.localhost"), ask.print()), async {
        let (iq, request) = beta.request().await;
        assert_eq!(request.command, "hypervisor.info");
        assert!(request.caller.jid.starts_with("hv.alpha@"), "{}", request.caller.jid);
        assert_eq!(request.caller.role, archipel_contract::Role::Node);
        beta.reply(&iq, &json!({ "fine": true }));
    });
    assert_eq!(node::replied::<serde_json::Value>(answer.children().next().unwrap()), Ok(json!({ "fine": true })));
    let answer = alpha.ask("set", Some("hv.gamma@vm.localhost"), ask.print()).await;
    assert_eq!(fault::of_stanza(&answer).kind, FaultKind::Unavailable);
}

#[tokio::test]
async fn an_answer_from_the_wrong_link_is_ignored() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let alpha = world.host("alpha", vec![vm.clone()]).await;
    let beta = world.host("beta", vec![]).await;
    let admin = world.admin("web");
    let (answer, ()) =
        tokio::join!(async { admin.ask("set", Some(&vm.jid()), Command::request("domain.pause", json!({}), None).print()).await }, async {
            let (iq, _) = alpha.request().await;
            beta.reply(&iq, &json!({ "message": "forged" }));
            alpha.reply(&iq, &json!({ "message": "true" }));
        });
    assert_eq!(Command::parse(answer.children().next().unwrap()).unwrap().json, Some(json!({ "message": "true" })));
}

#[tokio::test]
async fn what_was_not_asserted_again_is_gone() {
    let world = World::new().await;
    let agent = world.host("alpha", vec![machine(1, "alpha"), machine(2, "alpha")]).await;
    let stopped = next(&machine(1, "alpha"), DomainState::Shutoff);
    agent.announce(&[event("domain.stopped", &stopped)]);
    assert_eq!(world.exchange.look_up(&stopped.id).unwrap().state(), "shutoff");
    let mut kept = stopped.clone();
    kept.seq = Seq(1_000_000_000);
    agent.join("alpha", 2, vec![kept, hypervisor("alpha")]).await;
    assert_eq!(world.exchange.health().entities, 2);
    assert!(world.exchange.look_up(&machine(2, "alpha").id).is_none());
}

#[tokio::test]
async fn a_second_hello_keeps_what_is_under_way_on_the_books() {
    let world = World::new().await;
    let vm = machine(1, "alpha");
    let agent = world.host("alpha", vec![vm.clone()]).await;
    let admin = world.admin("web");
    let pause = || Command::request("domain.pause", json!({}), None).print();
    let to = vm.jid();
    let (answer, ()) = tokio::join!(admin.ask("set", Some(&to), pause()), async {
        let (iq, _) = agent.request().await;
        agent.join("alpha", 1, vec![vm.clone(), hypervisor("alpha")]).await;
        agent.reply(&iq, &json!({ "message": "web1 is paused" }));
    });
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    assert_eq!(world.exchange.health().waiting, 0);
    // The count of the link is right as well: the next request is not refused.
    let (answer, ()) = tokio::join!(admin.ask("set", Some(&to), pause()), async {
        let (iq, _) = agent.request().await;
        agent.reply(&iq, &json!({}));
    });
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

#[tokio::test]
async fn an_agent_changes_nothing_a_person_could_and_leaves_nothing_behind() {
    let world = World::new().await;
    let agent = world.host("alpha", vec![]).await;
    let subscribe =
        format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='urn:archipel:feed:0' jid='{}'/></pubsub>", agent.jid());
    let pin = "<query xmlns='jabber:iq:roster'><item jid='a@b'/></query>";
    for (to, payload) in [(Some(CELL), &*subscribe), (None, pin)] {
        let answer = agent.ask_text("set", to, payload).await;
        assert_eq!(answer.attr("type"), Some("error"), "{answer:?}");
    }
    assert!(archipel_contract::port::Accounts::roster(&*world.accounts, "hv.alpha".into()).await.unwrap().is_empty());
    assert_eq!(agent.ask_text("get", Some(CELL), "<ping xmlns='urn:xmpp:ping'/>").await.attr("type"), Some("result"));
    agent.close();
    assert_eq!(world.exchange.health().subscribers, 0);
}
