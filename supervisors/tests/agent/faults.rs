//! Actors that fail: who notices, and how it ends.

use super::*;

#[test]
fn a_panic_in_one_machine_shows_and_siblings_notice_nothing() {
    story(async |lab| {
        let bad = lab.fake.add_domain("bad", DomainState::Running, true);
        let good = lab.fake.add_domain("good", DomainState::Running, true);
        lab.begin().await;
        lab.fake.script.panic("domain.pause", &bad.to_string());
        let fault = lab.ask(bad, "domain.pause", json!({})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
        assert!(fault.message.contains("may or may not"), "{fault}");
        let event = lab.told(bad, "domain.degraded");
        assert!(event.after.unwrap().why.as_deref().unwrap().contains("scripted panic"));
        assert_eq!(lab.told(bad, "domain.known").after.unwrap().condition, Condition::Ok);
        assert_eq!(lab.done(good, "domain.pause").await, "good is paused");
        assert_eq!(lab.recorder.topics(&good.into()), ["domain.added", "domain.paused"]);
        let restarts = lab.agent().restarts();
        assert_eq!((restarts.len(), restarts[0].cause, &restarts[0].entity), (1, "panic", &EntityId::Domain(bad)));
        let shown = lab.ask(hv(), "hypervisor.info", json!({})).await.unwrap();
        assert_eq!(shown["restarts"], 1);
        assert!(shown["last_restart"].as_str().unwrap().contains("panic"));
        lab.fake.script.calm();
        assert_eq!(lab.done(bad, "domain.pause").await, "bad is paused");
    });
}

#[test]
fn a_used_up_budget_leaves_one_machine_degraded_until_it_is_asked() {
    story(async |lab| {
        let bad = lab.fake.add_domain("bad", DomainState::Running, true);
        let good = lab.fake.add_domain("good", DomainState::Running, true);
        lab.begin().await;
        lab.fake.script.panic("domain.read", &bad.to_string());
        lab.fake.report(bad, DomainChange::Changed("metadata"));
        let given_up = |e: &Event| e.after.as_ref().is_some_and(|a| a.why.as_deref().is_some_and(|w| w.contains("given up")));
        lab.recorder.wait(SOON, "giving up", given_up);
        assert_eq!(lab.agent().restarts().len(), 4);
        assert!(!lab.agent().health().ok);
        assert_eq!(lab.done(good, "domain.pause").await, "good is paused");
        lab.fake.script.calm();
        assert_eq!(lab.done(bad, "domain.pause").await, "bad is paused");
        lab.told(bad, "domain.known");
        assert_eq!(lab.entity(bad).unwrap().condition, Condition::Ok);
    });
}

#[test]
fn a_machine_that_was_given_up_is_not_shown_in_a_state_it_left() {
    story(async |lab| {
        let bad = lab.fake.add_domain("bad", DomainState::Shutoff, true);
        lab.begin().await;
        lab.fake.script.panic("domain.read", &bad.to_string());
        lab.fake.report(bad, DomainChange::Changed("metadata"));
        let given_up = |e: &Event| e.after.as_ref().is_some_and(|a| a.why.as_deref().is_some_and(|w| w.contains("given up")));
        lab.recorder.wait(SOON, "giving up", given_up);
        lab.fake.script.calm();
        lab.fake.enter(bad, DomainState::Running, "booted");
        assert_eq!(lab.told(bad, "domain.known").after.unwrap().state(), "running");
    });
}

#[test]
fn a_read_that_libvirt_has_no_time_for_costs_no_restart_and_loses_nothing() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        for nth in 1..=4 {
            let fault = if nth == 2 { Fault::new(FaultKind::Timeout, "too slow") } else { Fault::busy("too many requests wait") };
            lab.fake.script.fail("domain.read", nth, fault);
        }
        lab.fake.report(id, DomainChange::Changed("metadata"));
        lab.fake.enter(id, DomainState::Paused, "paused");
        assert!(lab.told(id, "domain.degraded").after.unwrap().why.as_deref().unwrap().contains("too slow"));
        assert_eq!(lab.told(id, "domain.known").after.unwrap().state(), "paused");
        assert_eq!((lab.fake.script.calls("domain.read") >= 5, lab.agent().restarts().len()), (true, 0));
    });
}

#[test]
fn a_hypervisor_that_fails_too_often_ends_the_agent() {
    story(async |lab| {
        lab.begin().await;
        lab.fake.script.panic("hypervisor.facts", "");
        lab.fake.restore();
        let why = tokio::time::timeout(Duration::from_secs(60), lab.agent().failed()).await.expect("exit signal");
        assert!(why.contains("alpha") && why.contains("panic"), "{why}");
    });
}

/// Six failures in a row were more than the budget of a hypervisor, and ended the daemon.
#[test]
fn a_listing_that_fails_is_loss_of_control_and_tried_again_however_often() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        for nth in 1..=7 {
            let why = if nth % 2 == 0 { Fault::internal("nobody understands libvirt") } else { Fault::unavailable("a part of it is away") };
            lab.fake.script.fail("domain.list", nth, why);
        }
        // Each word of the link cuts a pause short.
        lab.fake.restore();
        assert_eq!(lab.told(id, "domain.unknown").after.unwrap().condition, Condition::ControlLost);
        assert!(lab.entity(hv()).unwrap().why.as_deref().unwrap().contains("could not be listed"));
        let listed = async {
            while lab.fake.script.calls("domain.list") < 9 {
                lab.fake.restore();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, listed).await.expect("it is listed again and again");
        assert_eq!(lab.told(id, "domain.known").after.unwrap().state(), "running");
        assert!(lab.agent().restarts().is_empty(), "{:?}", lab.agent().restarts());
        assert_eq!(lab.entity(hv()).unwrap().state(), "connected");
    });
}

#[test]
fn an_actor_that_fails_while_control_is_lost_stays_unknown() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        lab.fake.script.panic("domain.pause", "");
        assert!(lab.ask(id, "domain.pause", json!({})).await.is_err());
        lab.fake.lose("connection reset");
        lab.told(id, "domain.unknown");
        // Through the actor, so its next life has begun.
        assert_eq!(lab.ask(id, "domain.info", json!({})).await.unwrap()["state"], "unknown");
        lab.fake.script.calm();
        lab.fake.restore();
        assert_eq!(lab.told(id, "domain.known").after.unwrap().state(), "running");
    });
}

/// The actor of this machine panics and is begun anew.
async fn dies(lab: &Lab, id: DomainId) {
    let before = lab.agent().restarts().len();
    lab.fake.script.panic("domain.read", &id.to_string());
    lab.fake.report(id, DomainChange::Changed("metadata"));
    let died = async {
        while lab.agent().restarts().len() == before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, died).await.expect("it dies");
    lab.fake.script.calm();
    let lives = async {
        while lab.entity(id).is_none_or(|e| e.condition != Condition::Ok) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, lives).await.expect("it is begun anew");
}

async fn called(lab: &Lab, what: &str) {
    let called = async {
        while lab.fake.script.calls(what) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, called).await.unwrap_or_else(|_| panic!("{what} is not called"));
}

#[test]
fn a_start_keeps_the_machines_turn_when_its_actor_dies() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        let other = lab.fake.add_domain("web2", DomainState::Shutoff, true);
        lab.begin().await;
        lab.fake.script.hold("domain.start", &id.to_string());
        let held = async {
            called(lab, "domain.start").await;
            dies(lab, id).await;
            // Whoever asks now waits until libvirt has ended the first start.
            let mut again = std::pin::pin!(lab.ask(id, "domain.start", json!({})));
            let mut undefine = std::pin::pin!(lab.ask(id, "domain.undefine", json!({})));
            assert!(futures::poll!(&mut again).is_pending() && futures::poll!(&mut undefine).is_pending());
            lab.done(other, "domain.start").await;
            assert!(futures::poll!(&mut again).is_pending() && futures::poll!(&mut undefine).is_pending());
            assert_eq!((lab.fake.script.calls("domain.start"), lab.fake.script.calls("domain.undefine")), (2, 0), "one for each machine");
            lab.fake.script.release();
            let fault = again.await.unwrap_err();
            assert!(fault.kind == FaultKind::WrongState && fault.message.contains("running"), "{fault}");
            drop(undefine.await);
        };
        let (first, ()) = futures::join!(lab.ask(id, "domain.start", json!({})), held);
        assert_eq!(first.unwrap_err().kind, FaultKind::Unavailable, "its actor died");
        assert_eq!(lab.fake.domain(id).unwrap().facts.state, DomainState::Running);
    });
}

#[test]
fn going_back_to_a_snapshot_keeps_the_machines_turn_when_its_task_dies() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let task = lab.started(id, "snapshot.create", json!({"name": "fresh"})).await;
        lab.told(task, "task.finished");
        lab.done(id, "domain.force-off").await;
        lab.fake.script.hold("snapshot.revert", &id.to_string());
        lab.started(id, "snapshot.revert", json!({"snapshot": "fresh", "discard": true})).await;
        called(lab, "snapshot.revert").await;
        dies(lab, id).await;
        let mut start = std::pin::pin!(lab.ask(id, "domain.start", json!({})));
        assert!(futures::poll!(&mut start).is_pending());
        lab.ask(hv(), "hypervisor.info", json!({})).await.unwrap();
        assert!(futures::poll!(&mut start).is_pending());
        assert_eq!(lab.fake.script.calls("domain.start"), 0);
        lab.fake.script.release();
        let fault = start.await.unwrap_err();
        assert!(fault.message.contains("running"), "{fault}");
    });
}
