//! Machines that start with their host, in their order.

use super::*;

const BOOTS: [&str; 3] = ["boot-1", "boot-2", "boot-3"];

impl Lab {
    /// The agent ends in order and begins again; the host stays up.
    async fn again(&mut self) {
        self.end().await;
        self.begin().await;
    }

    /// The host boots: the agent ends, no guest runs, and the agent begins.
    async fn boot(&mut self, boot: &str) {
        self.end().await;
        self.fake.boots(boot);
        self.begin().await;
    }

    async fn ordered(&self, id: DomainId, order: u32, delay: u32) {
        self.ask(id, "domain.autostart", json!({"order": order, "delay": delay})).await.unwrap();
        self.recorder.wait(SOON, "its order", |e| {
            e.entity == EntityId::Domain(id) && e.after.as_ref().is_some_and(|a| a.to_json()["autostart_order"] == order)
        });
    }

    /// The end of the task that starts machines.
    fn end_of_starts(&self) -> Value {
        // That of an earlier life was interrupted, and another goes on with what it had left.
        let of_starts = |a: &Value| a["command"] == "domain.autostart" && a["message"] != "interrupted";
        let ended = |e: &Event| e.topic == "task.finished" && e.after.as_ref().is_some_and(|a| of_starts(&a.to_json()));
        self.recorder.wait(SOON, "the end of the starts", ended).after.unwrap().to_json()
    }

    /// Which machines were started, in the order of the events.
    fn starts(&self) -> Vec<String> {
        let started = |e: &Event| (e.topic == "domain.started").then(|| e.after.as_ref().unwrap().name.to_string());
        self.recorder.events().iter().filter_map(started).collect()
    }

    fn runs(&self, id: DomainId) -> bool {
        self.fake.domain(id).unwrap().facts.state.is_active()
    }
}

#[test]
fn machines_with_an_order_are_started_in_it_when_their_host_boots() {
    story(async |lab| {
        lab.fake.boots(BOOTS[0]);
        let [web, store, mail, free] = ["web", "store", "mail", "free"].map(|n| lab.fake.add_domain(n, DomainState::Shutoff, true));
        lab.begin().await;
        lab.ordered(web, 20, 0).await;
        lab.ordered(store, 1, 1).await;
        lab.ordered(mail, 20, 0).await;
        let shown = lab.ask(store, "domain.info", json!({})).await.unwrap();
        assert_eq!((&shown["autostart"], &shown["autostart_order"], &shown["autostart_delay"]), (&json!(true), &json!(1), &json!(1)));
        lab.boot(BOOTS[1]).await;
        let end = lab.end_of_starts();
        assert_eq!((&end["state"], &end["message"]), (&json!("done"), &json!("3 of 3 machines were started")), "{end}");
        for id in [web, store, mail] {
            assert_eq!(lab.told(id, "domain.started").cause, Cause::Archipel);
        }
        assert_eq!(lab.starts(), ["store", "mail", "web"]);
        assert!(!lab.runs(free), "it has no order");
    });
}

#[test]
fn a_restart_of_the_agent_or_of_libvirt_starts_nothing() {
    story(async |lab| {
        lab.fake.boots(BOOTS[0]);
        let id = lab.fake.add_domain("web", DomainState::Shutoff, true);
        lab.begin().await;
        lab.ordered(id, 1, 0).await;
        lab.again().await;
        lab.fake.libvirt_dies();
        lab.seen("hypervisor.lost");
        lab.recorder.clear();
        lab.fake.libvirt_restarts();
        lab.seen("hypervisor.connected");
        assert_eq!(lab.fake.script.calls("domain.start"), 0);
        // What follows shows that the agent would have started it, had it been a boot.
        lab.boot(BOOTS[1]).await;
        lab.end_of_starts();
        assert!(lab.runs(id));
    });
}

#[test]
fn what_a_person_stopped_since_the_boot_stays_off() {
    story(async |lab| {
        lab.fake.boots(BOOTS[0]);
        let [first, second, third] = ["a", "b", "c"].map(|n| lab.fake.add_domain(n, DomainState::Shutoff, true));
        lab.begin().await;
        for (id, delay) in [(first, 0), (second, 3600), (third, 0)] {
            lab.ordered(id, 1, delay).await;
        }
        // Somebody was quicker than the agent, with other tools.
        lab.end().await;
        lab.fake.boots(BOOTS[1]);
        lab.fake.enter(first, DomainState::Running, "booted");
        lab.fake.enter(first, DomainState::Shutoff, "destroyed");
        lab.begin().await;
        lab.told(second, "domain.started");
        // And somebody else while the third waits for its turn; a restart of the agent does not forget it.
        lab.done(third, "domain.start").await;
        lab.told(third, "domain.started");
        lab.done(third, "domain.force-off").await;
        lab.told(third, "domain.stopped");
        lab.again().await;
        assert_eq!(lab.end_of_starts()["message"], "0 of 1 machines were started");
        assert_eq!([first, second, third].map(|id| lab.runs(id)), [false, true, false]);
    });
}

#[test]
fn what_a_person_stopped_while_it_waited_stays_off_also_when_libvirt_has_forgotten_why_it_is_off() {
    story(async |lab| {
        lab.fake.boots(BOOTS[0]);
        let [first, second] = ["a", "b"].map(|n| lab.fake.add_domain(n, DomainState::Shutoff, true));
        lab.begin().await;
        lab.ordered(first, 1, 4).await;
        lab.ordered(second, 2, 0).await;
        lab.boot(BOOTS[1]).await;
        lab.told(first, "domain.started");
        lab.done(second, "domain.start").await;
        lab.told(second, "domain.started");
        lab.done(second, "domain.force-off").await;
        lab.told(second, "domain.stopped");
        // As after a restart of libvirtd.
        lab.fake.set_silently(second, |record| record.facts.reason = None);
        assert_eq!(lab.end_of_starts()["message"], "1 of 2 machines were started");
        assert!(!lab.runs(second));
    });
}

#[test]
fn a_machine_that_cannot_be_started_is_told_and_stops_no_other() {
    story(async |lab| {
        lab.fake.boots(BOOTS[0]);
        let [bad, good] = ["bad", "good"].map(|n| lab.fake.add_domain(n, DomainState::Shutoff, true));
        lab.begin().await;
        lab.ordered(bad, 1, 0).await;
        lab.ordered(good, 2, 0).await;
        lab.fake.script.fail("domain.start", 1, Fault::unavailable("its disk is gone"));
        lab.boot(BOOTS[1]).await;
        let end = lab.end_of_starts();
        assert_eq!(end["state"], "failed");
        assert_eq!(end["fault"]["message"], "1 of 2 machines were started; bad was not: its disk is gone");
        let told = lab.told(bad, "domain.not-started");
        assert_eq!((told.cause, told.detail.as_deref()), (Cause::Archipel, Some("its disk is gone")));
        lab.told(good, "domain.started");
        assert!(!lab.runs(bad) && lab.runs(good));
        // It was tried for this boot: nobody tries again by himself.
        lab.again().await;
        lab.boot(BOOTS[2]).await;
        lab.told(bad, "domain.started");
    });
}

#[test]
fn starts_after_a_boot_can_be_cancelled_and_go_on_after_a_restart_otherwise() {
    story(async |lab| {
        lab.fake.boots(BOOTS[0]);
        let [first, second] = ["a", "b"].map(|n| lab.fake.add_domain(n, DomainState::Shutoff, true));
        lab.begin().await;
        lab.ordered(first, 1, 3600).await;
        lab.ordered(second, 2, 0).await;
        lab.boot(BOOTS[1]).await;
        lab.told(first, "domain.started");
        assert!(!lab.runs(second), "it waits");
        // The agent dies while the second waits: the next life starts it, and the first not again.
        lab.again().await;
        lab.told(second, "domain.started");
        assert_eq!(lab.end_of_starts()["message"], "1 of 1 machines were started");

        lab.boot(BOOTS[2]).await;
        lab.told(first, "domain.started");
        let task = lab.seen("task.started").entity;
        lab.done(task.clone(), "task.cancel").await;
        assert_eq!(lab.told(task, "task.finished").after.unwrap().state(), "cancelled");
        lab.again().await;
        assert!(lab.runs(first) && !lab.runs(second), "what was cancelled does not go on");
    });
}

#[test]
fn a_machine_that_another_host_owns_is_not_started() {
    story(async |lab| {
        lab.fake.boots(BOOTS[0]);
        let ours = lab.fake.add_domain("ours", DomainState::Shutoff, true);
        lab.begin().await;
        lab.ordered(ours, 2, 0).await;
        lab.end().await;
        let theirs = lab.fake.add_domain("theirs", DomainState::Shutoff, true);
        lab.authority.claim_unowned(vec![theirs], "beta".parse().unwrap()).await.unwrap();
        lab.fake.set_silently(theirs, |record| record.facts.autostart_order = Some(1));
        lab.fake.boots(BOOTS[1]);
        lab.begin().await;
        lab.told(ours, "domain.started");
        lab.end_of_starts();
        assert!(!lab.runs(theirs));
    });
}

#[test]
fn nothing_is_started_on_a_host_that_was_closed() {
    story(async |lab| {
        lab.fake.boots(BOOTS[0]);
        let id = lab.fake.add_domain("web", DomainState::Shutoff, true);
        lab.begin().await;
        lab.ordered(id, 1, 0).await;
        lab.ask(hv(), "hypervisor.maintenance", json!({"enabled": true})).await.unwrap();
        lab.boot(BOOTS[1]).await;
        lab.ask(hv(), "hypervisor.maintenance", json!({"enabled": false})).await.unwrap();
        lab.again().await;
        assert_eq!(lab.fake.script.calls("domain.start"), 0, "that boot is over");
    });
}

#[test]
fn the_way_a_machine_starts_is_one_truth() {
    story(async |lab| {
        let id = lab.fake.add_domain("web", DomainState::Shutoff, true);
        lab.begin().await;
        for (arguments, autostart, order) in [
            (json!({}), json!(true), Value::Null),
            (json!({"order": 3}), json!(true), json!(3)),
            (json!({}), json!(true), Value::Null),
            (json!({"order": 4, "delay": 9}), json!(true), json!(4)),
            (json!({"enabled": false}), json!(false), Value::Null),
        ] {
            lab.ask(id, "domain.autostart", arguments.clone()).await.unwrap();
            let is = |e: Option<&Entity>| {
                e.is_some_and(|e| (&e.to_json()["autostart"], &e.to_json()["autostart_order"]) == (&autostart, &order))
            };
            lab.recorder.wait(SOON, &arguments.to_string(), |e| e.entity == EntityId::Domain(id) && is(e.after.as_deref()));
        }
        for wrong in [json!({"delay": 1}), json!({"enabled": false, "order": 1}), json!({"order": 1, "delay": 4000}), json!({"order": -1})]
        {
            let fault = lab.ask(id, "domain.autostart", wrong.clone()).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::InvalidRequest, "{wrong}");
        }
    });
}
