//! Clones, templates and imports: made whole or not at all, and nobody changes what is being copied.

use super::*;

async fn ended(lab: &Lab, task: TaskId) -> Value {
    lab.told(task, "task.finished").after.unwrap().to_json()
}

/// A machine that is off with one disk.
async fn web1(lab: &Lab) -> DomainId {
    let arguments = json!({"name": "web1", "disk": "default/disk.qcow2", "note": "front"});
    let defined: Defined = serde_json::from_value(lab.ask(hv(), "domain.define", arguments).await.unwrap()).unwrap();
    lab.told(defined.id, "domain.added");
    defined.id
}

fn named(lab: &Lab, name: &str) -> Option<Arc<Entity>> {
    lab.agent().inventory().entities().into_iter().find(|e| *e.name == *name && e.domain().is_some())
}

async fn volumes(lab: &Lab) -> Vec<String> {
    let all = lab.ask(lab.pool(), "volume.list", json!({})).await.unwrap();
    all.as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_clone_has_disks_of_its_own_and_is_off() {
    story(async |lab| {
        lab.begin().await;
        let id = web1(lab).await;
        let task = lab.started(id, "domain.clone", json!({"to": "web2"})).await;
        let end = ended(lab, task).await;
        assert_eq!((end["state"].as_str(), end["message"].as_str()), (Some("done"), Some("web2 is there and off")), "{end}");
        let made = lab.recorder.wait(SOON, "web2", |e| e.topic == "domain.added" && e.after.as_ref().is_some_and(|a| &*a.name == "web2"));
        assert_eq!(made.cause, person());
        let facts = made.after.unwrap().to_json();
        assert_eq!((facts["state"].as_str(), facts["note"].as_str()), (Some("shutoff"), Some("front")));
        assert_eq!(volumes(lab).await, ["disk.qcow2", "web2.qcow2"]);
        let task = lab.started(id, "domain.clone", json!({"start": true})).await;
        assert_eq!(ended(lab, task).await["message"], "web1-copy runs");
        let fault = lab.ask(id, "domain.clone", json!({"to": "web2"})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict, "{fault}");
    });
}

#[test]
fn what_is_being_copied_is_not_changed_and_can_be_copied_again() {
    story(async |lab| {
        lab.begin().await;
        let id = web1(lab).await;
        lab.fake.script.hold("volume.copy", "");
        let first = lab.started(id, "domain.clone", json!({"to": "web2"})).await;
        let second = lab.started(id, "domain.clone", json!({"to": "web3"})).await;
        for command in ["domain.start", "domain.undefine"] {
            let fault = lab.ask(id, command, json!({})).await.unwrap_err();
            assert!(fault.kind == FaultKind::Busy && fault.message.contains("is being copied"), "{fault}");
        }
        lab.done(first, "task.cancel").await;
        lab.fake.script.release();
        assert_eq!(ended(lab, first).await["state"], "cancelled");
        assert_eq!(ended(lab, second).await["state"], "done");
        assert_eq!(volumes(lab).await, ["disk.qcow2", "web3.qcow2"]);
        assert!(named(lab, "web2").is_none());
        lab.done(id, "domain.start").await;
    });
}

#[test]
fn a_clone_that_fails_leaves_nothing() {
    story(async |lab| {
        lab.begin().await;
        let id = web1(lab).await;
        lab.fake.script.fail("domain.liken", 1, Fault::wrong_state("no room"));
        let task = lab.started(id, "domain.clone", json!({"to": "web2"})).await;
        let end = ended(lab, task).await;
        assert!(end["fault"]["message"].as_str().unwrap().contains("no room; what had been made was removed again"), "{end}");
        assert_eq!(volumes(lab).await, ["disk.qcow2"]);
        // Its name is free again.
        let task = lab.started(id, "domain.clone", json!({"to": "web2"})).await;
        assert_eq!(ended(lab, task).await["state"], "done");
    });
}

#[test]
fn a_template_is_cloned_and_nothing_else() {
    story(async |lab| {
        lab.begin().await;
        let id = web1(lab).await;
        let fault = lab.ask(id, "domain.clone", json!({"to": "web2", "linked": true})).await.unwrap_err();
        assert!(fault.message.contains("is no template"), "{fault}");
        lab.ask(id, "domain.autostart", json!({})).await.unwrap();
        let said = lab.done(id, "domain.template").await;
        assert!(said.contains("does not start with its host"), "{said}");
        let shown = lab.ask(id, "domain.info", json!({})).await.unwrap();
        assert_eq!((&shown["template"], &shown["autostart"]), (&json!(true), &json!(false)));
        let fault = lab.ask(id, "domain.start", json!({})).await.unwrap_err();
        assert!(fault.kind == FaultKind::WrongState && fault.message.contains("is a template"), "{fault}");

        let task = lab.started(id, "domain.clone", json!({"to": "web2", "linked": true})).await;
        assert_eq!(ended(lab, task).await["message"], "web2 is there and off, and needs the template web1");
        let made = lab.ask(lab.pool(), "volume.info", json!({"volume": "web2.qcow2"})).await.unwrap();
        assert_eq!(made["backing"], "/fake/images/disk.qcow2");
        let fault = lab.ask(id, "domain.template", json!({"enabled": false})).await.unwrap_err();
        assert!(fault.kind == FaultKind::Busy && fault.message.contains("web2"), "{fault}");

        let child = named(lab, "web2").unwrap();
        assert!(!child.domain().unwrap().template);
        lab.ask(child.id.clone(), "domain.undefine", json!({"with_volumes": "all"})).await.unwrap();
        lab.ask(id, "domain.template", json!({"enabled": false})).await.unwrap();
        lab.done(id, "domain.start").await;
    });
}

#[test]
fn a_template_that_was_started_with_other_tools_is_an_alarm_until_it_is_off() {
    story(async |lab| {
        lab.begin().await;
        let id = web1(lab).await;
        lab.done(id, "domain.template").await;
        lab.fake.enter(id, DomainState::Running, "booted");
        let told = lab.told(id, "domain.started").after.unwrap();
        assert!(told.condition == Condition::Degraded && told.why.as_deref().unwrap().contains("is a template and runs"));
        lab.done(id, "domain.force-off").await;
        let told = lab.told(id, "domain.stopped").after.unwrap();
        assert_eq!((told.condition.clone(), told.why.clone()), (Condition::Ok, None));
    });
}

#[test]
fn an_appliance_becomes_a_machine() {
    story(async |lab| {
        lab.begin().await;
        let pool = lab.pool();
        for name in ["away.ova", "bad.bad"] {
            lab.ask(pool, "volume.create", json!({"volume": name, "capacity": "64MiB", "format": "raw"})).await.unwrap();
        }
        let task = lab.started(hv(), "domain.import", json!({"source": "default/away.ova"})).await;
        let end = ended(lab, task).await;
        assert_eq!(end["message"], "away is there and off; the card that was on lab is on default", "{end}");
        let made = lab.recorder.wait(SOON, "away", |e| e.topic == "domain.added" && e.after.as_ref().is_some_and(|a| &*a.name == "away"));
        let facts = made.after.unwrap().to_json();
        assert_eq!((&facts["vcpus"], &facts["memory"]), (&json!(2), &json!(256 << 20)));
        let EntityId::Domain(id) = made.entity else { panic!("{:?}", made.entity) };
        let devices = lab.ask(id, "domain.devices", json!({})).await.unwrap();
        let kinds: Vec<_> = devices.as_array().unwrap().iter().map(|d| d["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["disk", "nic"]);

        let task = lab.started(hv(), "domain.import", json!({"source": "default/bad.bad"})).await;
        assert!(ended(lab, task).await["fault"]["message"].as_str().unwrap().contains("leads elsewhere"));
        lab.fake.script.fail("domain.edit", 2, Fault::wrong_state("no such model"));
        let task = lab.started(hv(), "domain.import", json!({"source": "default/away.ova", "name": "other"})).await;
        assert_eq!(ended(lab, task).await["state"], "failed");
        assert_eq!(volumes(lab).await, ["disk.qcow2", "away.ova", "bad.bad", "away.qcow2"], "what was made for it is gone");
    });
}

#[test]
fn a_machine_that_is_exported_is_not_changed_meanwhile() {
    story(async |lab| {
        lab.begin().await;
        let id = web1(lab).await;
        lab.fake.script.hold("domain.export", "");
        let task = lab.started(id, "domain.export", json!({"pool": "default"})).await;
        for command in ["domain.start", "domain.undefine", "domain.export"] {
            let arguments = if command == "domain.export" { json!({"pool": "default", "name": "b.ova"}) } else { json!({}) };
            let fault = lab.ask(id, command, arguments).await.unwrap_err();
            assert!(fault.kind == FaultKind::Busy && fault.message.contains("is being copied"), "{fault}");
        }
        lab.fake.script.release();
        let end = ended(lab, task).await;
        assert!(end["state"] == "done" && end["message"].as_str().unwrap().starts_with("default/web1.ova is there"), "{end}");
        assert_eq!(volumes(lab).await, ["disk.qcow2", "web1.ova"]);
        let fault = lab.ask(id, "domain.export", json!({"pool": "default"})).await.unwrap_err();
        assert!(fault.kind == FaultKind::Conflict && fault.message.contains("already"), "{fault}");
        let fault = lab.ask(id, "domain.export", json!({"pool": "nowhere"})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
        lab.done(id, "domain.start").await;
        let fault = lab.ask(id, "domain.export", json!({"pool": "default", "name": "b.ova"})).await.unwrap_err();
        assert!(fault.kind == FaultKind::WrongState && fault.message.contains("is not off"), "{fault}");
    });
}
