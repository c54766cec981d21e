//! Consoles from the ticket to the last viewer, and the agents in guests.

use super::*;
use archipel_supervisors::consoles::{Opened, Unopened};
use std::io::{Read, Write};

const SECRET: &str = "0123456789012345678901234567890123456789";
/// Its SHA-256.
const PROOF: &str = "-1Js1K0OyXjBqeePfAcocRE5l4Qk1hjrIovlniEYiXA";

fn bob() -> Caller {
    Caller { jid: "bob@vm.localhost/phone".into(), ..admin() }
}

async fn ticket(lab: &Lab, caller: Caller, id: DomainId, arguments: Value) -> String {
    let mut all = json!({"proof": PROOF});
    all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
    let offer = lab.as_caller(caller, id, "domain.console", all).await.unwrap();
    assert_eq!(offer["ticket"]["path"], format!("/console/{}", offer["ticket"]["token"].as_str().unwrap()));
    offer["ticket"]["token"].as_str().unwrap().to_owned()
}

async fn open(lab: &Lab, token: &str) -> Result<Opened, Unopened> {
    lab.agent().consoles().clone().open(token.into(), SECRET.into()).await
}

async fn opened(lab: &Lab, token: &str) -> Opened {
    open(lab, token).await.unwrap_or_else(|why| panic!("{why:?}"))
}

#[test]
fn a_console_is_opened_once_told_of_and_left() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let token = ticket(lab, admin(), id, json!({"kind": "serial"})).await;
        let mut console = opened(lab, &token).await;
        assert_eq!(lab.told(id, "domain.console-opened").cause, person());
        assert!(matches!(open(lab, &token).await, Err(Unopened::Ticket)), "used up");
        console.stream.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        console.stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        let viewers = lab.ask(id, "domain.viewers", json!({})).await.unwrap();
        assert_eq!((&viewers[0]["person"], &viewers[0]["kind"]), (&json!("admin@vm.localhost"), &json!("serial")));
        drop(console);
        lab.told(id, "domain.console-closed");
        assert_eq!(lab.ask(id, "domain.viewers", json!({})).await.unwrap(), json!([]));
    });
}

#[test]
fn whoever_takes_over_sends_the_others_away() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let first = opened(lab, &ticket(lab, admin(), id, json!({"kind": "serial"})).await).await;
        let refused = open(lab, &ticket(lab, bob(), id, json!({"kind": "serial"})).await).await;
        let Err(Unopened::Fault(fault)) = refused else { panic!("two have one serial line") };
        assert!(fault.kind == FaultKind::Busy && fault.message.contains("admin@vm.localhost"), "{fault}");
        let token = ticket(lab, bob(), id, json!({"kind": "serial", "take_over": true})).await;
        let second = opened(lab, &token).await;
        let why = tokio::time::timeout(SOON, first.ended).await.expect("the first is sent away");
        assert_eq!(why, "bob@vm.localhost has taken it over");
        drop((first.stream, first.place));
        let mut screens = Vec::new();
        for caller in [admin(), bob()] {
            screens.push(opened(lab, &ticket(lab, caller, id, json!({})).await).await);
        }
        assert_eq!(lab.ask(id, "domain.viewers", json!({})).await.unwrap().as_array().unwrap().len(), 3);
        drop((second, screens));
    });
}

#[test]
fn a_machine_that_has_stopped_or_nobody_may_look_at_opens_nothing() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let token = ticket(lab, admin(), id, json!({"kind": "vnc"})).await;
        let viewer = Caller { role: Role::Viewer, ..admin() };
        let fault = lab.as_caller(viewer, id, "domain.console", json!({"proof": PROOF})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Forbidden);
        let fault = lab.ask(id, "domain.console", json!({"kind": "vnc"})).await.unwrap_err();
        assert!(fault.kind == FaultKind::InvalidRequest && fault.message.contains("proof"), "{fault}");
        lab.done(id, "domain.force-off").await;
        let Err(Unopened::Fault(fault)) = open(lab, &token).await else { panic!("it is off") };
        assert_eq!(fault.kind, FaultKind::WrongState);
        assert_eq!(lab.ask(id, "domain.console", json!({"proof": PROOF})).await.unwrap_err().kind, FaultKind::WrongState);
    });
}

#[test]
fn a_text_is_typed_key_by_key_and_never_written_down() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let task = lab.started(id, "domain.paste", json!({"text": "aB", "enter": true})).await;
        assert_eq!(lab.ask(task, "task.wait", json!({"timeout": 20})).await.unwrap()["state"], "done");
        assert_eq!(lab.fake.pressed(), [(id, vec![30]), (id, vec![42, 48]), (id, vec![28])]);
        let fault = lab.ask(id, "domain.paste", json!({"text": "ü"})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::InvalidRequest);
        lab.ask(id, "domain.send-key", json!({"keys": "ctrl+alt+delete", "hold": 1})).await.unwrap();
        assert_eq!(lab.fake.pressed().last(), Some(&(id, vec![29, 56, 111])));
    });
}

#[test]
fn a_freeze_thaws_by_itself() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.fake.set_silently(id, |record| record.facts.agent = true);
        lab.begin().await;
        let task = lab.started(id, "domain.guest-freeze", json!({"deadline": 1})).await;
        assert!(lab.fake.is_frozen(id));
        assert_eq!(lab.ask(task, "task.wait", json!({"timeout": 20})).await.unwrap()["state"], "done");
        assert!(!lab.fake.is_frozen(id));
        let task = lab.started(id, "domain.guest-freeze", json!({"deadline": 600})).await;
        lab.done(task, "task.cancel").await;
        lab.told(task, "task.finished");
        assert!(!lab.fake.is_frozen(id), "cancelled is thawed");
    });
}

/// What the exchange says when an account has changed or is gone.
async fn expelled(lab: &Lab, person: &str) {
    let cell = Caller { jid: "vm.localhost".into(), role: Role::Node, operation: OperationId::fresh() };
    lab.as_caller(cell, hv(), "hypervisor.expel", json!({"person": person})).await.unwrap();
}

#[test]
fn an_account_that_has_changed_keeps_no_console_and_no_ticket() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let token = ticket(lab, bob(), id, json!({})).await;
        let (mine, his) = (opened(lab, &ticket(lab, admin(), id, json!({})).await).await, opened(lab, &token).await);
        let waiting = ticket(lab, bob(), id, json!({})).await;
        let fault = lab.ask(hv(), "hypervisor.expel", json!({"person": "bob@vm.localhost"})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Forbidden, "only agents and the cell say so");
        expelled(lab, "bob@vm.localhost").await;
        let why = tokio::time::timeout(SOON, his.ended).await.expect("he is sent away");
        assert!(why.contains("account has changed"), "{why}");
        assert!(matches!(open(lab, &waiting).await, Err(Unopened::Ticket)));
        drop((his.stream, his.place));
        let viewers = lab.ask(id, "domain.viewers", json!({})).await.unwrap();
        assert_eq!((viewers.as_array().unwrap().len(), &viewers[0]["person"]), (1, &json!("admin@vm.localhost")), "{viewers}");
        drop(mine);
    });
}
