//! From define to undefine, from inside and outside, and what is told of it.

use super::*;

#[test]
fn a_machine_lives_from_define_to_undefine() {
    story(async |lab| {
        lab.begin().await;
        let answer = lab.ask(hv(), "domain.define", json!({"name": "web1", "memory": "64MiB"})).await.unwrap();
        let id = serde_json::from_value::<Defined>(answer).unwrap().id;
        assert_eq!(lab.told(id, "domain.added").cause, person());
        assert_eq!(lab.done(id, "domain.start").await, "web1 is started");
        let event = lab.told(id, "domain.started");
        assert_eq!((event.cause, event.after.unwrap().state()), (person(), "running"));
        lab.done(id, "domain.pause").await;
        assert_eq!(lab.told(id, "domain.paused").cause, person());
        lab.done(id, "domain.resume").await;
        lab.told(id, "domain.resumed");
        lab.done(id, "domain.reboot").await;
        lab.told(id, "domain.rebooted");
        lab.done(id, "domain.force-off").await;
        lab.told(id, "domain.stopped");
        lab.ask(id, "domain.autostart", json!({"enabled": true})).await.unwrap();
        assert!(lab.told(id, "domain.changed").after.unwrap().domain().unwrap().autostart);
        lab.ask(id, "domain.rename", json!({"to": "web2"})).await.unwrap();
        lab.recorder.wait(SOON, "the new name", |e| e.after.as_ref().is_some_and(|a| &*a.name == "web2"));
        lab.ask(id, "domain.note", json!({"text": "hello"})).await.unwrap();
        lab.recorder
            .wait(SOON, "the note", |e| e.after.as_ref().is_some_and(|a| a.domain().is_some_and(|d| d.note.as_deref() == Some("hello"))));
        let shown: Entity = serde_json::from_value(lab.ask(id, "domain.info", Value::Null).await.unwrap()).unwrap();
        assert_eq!((&*shown.name, shown.state()), ("web2", "shutoff"));
        assert!(lab.ask(id, "domain.xml", json!({})).await.unwrap()["text"].as_str().unwrap().contains("web2"));
        assert_eq!(lab.done(id, "domain.undefine").await, "web2 is forgotten; its disks stay");
        assert_eq!(lab.told(id, "domain.undefined").cause, person());
        assert_eq!(lab.ask(id, "domain.info", json!({})).await.unwrap_err().kind, FaultKind::NotFound);
        let topics = lab.recorder.topics(&id.into());
        let once = ["domain.started", "domain.paused", "domain.resumed", "domain.rebooted", "domain.stopped"];
        for topic in once {
            assert_eq!(topics.iter().filter(|t| *t == topic).count(), 1, "{topic} in {topics:?}");
        }
        assert_eq!(topics.iter().filter(|t| *t == "domain.changed").count(), 3, "{topics:?}");
    });
}

#[test]
fn a_change_from_outside_is_told_with_its_cause() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        lab.fake.enter(id, DomainState::Paused, "paused");
        let event = lab.told(id, "domain.paused");
        assert_eq!((event.cause, event.detail.as_deref()), (Cause::Libvirt, Some("paused")));
        let calls = lab.fake.script.calls("domain.read");
        lab.fake.enter(id, DomainState::Running, "unpaused");
        lab.told(id, "domain.resumed");
        assert_eq!(lab.fake.script.calls("domain.read"), calls, "a state costs no call of libvirt");
        let new = lab.fake.add_domain("web2", DomainState::Running, false);
        assert_eq!(lab.told(new, "domain.added").after.unwrap().state(), "running");
    });
}

#[test]
fn lost_control_is_unknown_and_never_off() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        let other = lab.fake.add_domain("web2", DomainState::Running, true);
        lab.begin().await;
        lab.fake.lose("connection reset");
        lab.seen("hypervisor.lost");
        assert_eq!(lab.recorder.batches().last().unwrap().iter().filter(|e| e.topic == "domain.unknown").count(), 2, "one batch");
        let entity = lab.entity(id).unwrap();
        assert_eq!((entity.state(), &entity.condition), ("unknown", &Condition::ControlLost));
        let fault = lab.ask(id, "domain.pause", json!({})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable);
        assert!(fault.message.contains("may well be running"), "{fault}");
        lab.fake.set_silently(id, |r| r.facts.state = DomainState::Paused);
        lab.fake.remove_silently(other);
        lab.recorder.clear();
        lab.fake.restore();
        assert_eq!(lab.told(id, "domain.known").after.unwrap().state(), "paused");
        lab.told(other, "domain.undefined");
        lab.seen("hypervisor.connected");
        lab.fake.enter(id, DomainState::Running, "unpaused");
        lab.told(id, "domain.resumed");
    });
}

#[test]
fn dropped_reports_make_everything_be_listed_again() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        lab.fake.drop_changes(1);
        lab.fake.enter(id, DomainState::Paused, "paused");
        let new = lab.fake.add_domain("web2", DomainState::Shutoff, true);
        lab.told(new, "domain.added");
        assert_eq!(lab.told(id, "domain.paused").after.unwrap().state(), "paused");
        assert_eq!(lab.fake.script.calls("domain.list"), 2);
    });
}

#[test]
fn a_transient_machine_that_stops_is_gone() {
    story(async |lab| {
        let id = lab.fake.add_domain("once", DomainState::Running, false);
        lab.begin().await;
        lab.fake.enter(id, DomainState::Shutoff, "destroyed");
        lab.told(id, "domain.stopped");
        lab.told(id, "domain.undefined");
        assert!(lab.entity(id).is_none());
    });
}

#[test]
fn undefining_a_running_machine_leaves_it() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        lab.fake.set_silently(id, |r| r.facts.persistent = false);
        lab.fake.report(id, DomainChange::Undefined);
        assert!(!lab.told(id, "domain.changed").after.unwrap().domain().unwrap().persistent);
        assert_eq!(lab.entity(id).unwrap().state(), "running");
    });
}

#[test]
fn a_network_stops_and_starts() {
    story(async |lab| {
        lab.begin().await;
        let id = lab
            .agent()
            .inventory()
            .entities()
            .into_iter()
            .find_map(|e| matches!(e.id, EntityId::Network(_)).then(|| e.id.clone()))
            .unwrap();
        lab.done(id.clone(), "network.stop").await;
        lab.told(id.clone(), "network.stopped");
        assert_eq!(lab.ask(id.clone(), "network.stop", json!({})).await.unwrap_err().kind, FaultKind::WrongState);
        lab.done(id.clone(), "network.start").await;
        assert_eq!(lab.told(id.clone(), "network.started").cause, person());
        lab.ask(id.clone(), "network.autostart", json!({"enabled": false})).await.unwrap();
        lab.told(id, "network.changed");
    });
}

#[test]
fn many_reports_at_once_end_in_the_right_state() {
    story(async |lab| {
        let ids: Vec<DomainId> = (0..50).map(|n| lab.fake.add_domain(&format!("vm{n}"), DomainState::Running, true)).collect();
        lab.begin().await;
        for _ in 0..40 {
            for id in &ids {
                lab.fake.enter(*id, DomainState::Paused, "paused");
                lab.fake.enter(*id, DomainState::Running, "unpaused");
            }
        }
        for id in &ids {
            lab.fake.enter(*id, DomainState::Shutoff, "destroyed");
        }
        for id in &ids {
            lab.told(*id, "domain.stopped");
            assert_eq!(lab.entity(*id).unwrap().state(), "shutoff");
        }
    });
}

#[test]
fn the_end_is_orderly_and_touches_no_guest() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let dispatcher = lab.agent().dispatcher();
        let agent = lab.agent.take().unwrap();
        tokio::time::timeout(SOON, agent.shutdown()).await.expect("it ends");
        assert!(lab.fake.is_closed());
        assert_eq!(lab.fake.domain(id).unwrap().facts.state, DomainState::Running);
        let request = Request { target: Address::Entity(id.into()), command: "domain.pause".into(), arguments: json!({}), caller: admin() };
        assert_eq!(dispatcher.call(request).await.unwrap_err().kind, FaultKind::Unavailable);
        assert_eq!(lab.recorder.topics(&id.into()), ["domain.added"]);
    });
}

#[test]
fn a_second_start_numbers_higher() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let first = lab.entity(id).unwrap();
        lab.agent.take().unwrap().shutdown().await;
        let fake = FakeHost::new("alpha");
        assert_eq!(fake.add_domain("web1", DomainState::Running, true), id);
        lab.fake = fake;
        lab.recorder.clear();
        lab.begin().await;
        let second = lab.entity(id).unwrap();
        assert_eq!((first.seq.0, second.seq.0), (1_000_000_000, 2_000_000_000));
        assert_eq!(first.epoch, second.epoch);
    });
}

#[test]
fn the_variables_of_a_firmware_go_with_all_volumes_or_are_said_to_stay() {
    story(async |lab| {
        lab.begin().await;
        let domains = lab.fake.host().domains;
        for (number, (with_volumes, stay)) in [("none", true), ("all", false)].into_iter().enumerate() {
            let name = format!("uefi{number}");
            let spec = DomainSpec {
                name: name.clone(),
                memory: Bytes::mib(64),
                vcpus: 1,
                firmware: Some(Firmware::Uefi),
                ..DomainSpec::default()
            };
            let id = domains.define(spec, Vec::new()).await.unwrap();
            lab.told(id, "domain.added");
            let answer = lab.ask(id, "domain.undefine", json!({"with_volumes": with_volumes})).await.unwrap();
            let said = answer["message"].as_str().unwrap().to_owned();
            assert_eq!((said.contains("variables of its firmware"), said.contains(" stay")), (true, stay), "{said}");
            assert_eq!(lab.fake.keeps_variables(id), stay);
            lab.told(id, "domain.undefined");
        }
        let plain = lab.fake.add_domain("bios", DomainState::Shutoff, true);
        lab.told(plain, "domain.added");
        let answer = lab.ask(plain, "domain.undefine", json!({})).await.unwrap();
        assert_eq!(answer["message"], "bios is forgotten; its disks stay");
    });
}
