//! The whole agent against the fakes: supervisors, actors, routes and journal, on a thread of its own as in the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use archipel_contract::{
    Caller, Condition, DomainId, Entity, EntityId, Fault, FaultKind, OperationId, PoolId, Role, TaskId, Timestamp,
    command::{Done, Started},
    domain::{Defined, DomainState},
    event::{Cause, Event, TOPICS},
    fake::{FakeClock, FakeHost, MemoryAuthority, MemoryJournal, Recorder},
    host::DomainChange,
    port::{Acceptance, Address, Authority, Clock, Journal, Operation, Request},
};
use archipel_supervisors::tree::{Agent, Tree, start};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

struct Lab {
    fake: Arc<FakeHost>,
    recorder: Arc<Recorder>,
    journal: Arc<MemoryJournal>,
    authority: Arc<MemoryAuthority>,
    clock: Arc<FakeClock>,
    agent: Option<Agent>,
}

impl Lab {
    fn new() -> Lab {
        Lab {
            fake: FakeHost::new("alpha"),
            recorder: Arc::default(),
            journal: Arc::default(),
            authority: Arc::default(),
            clock: Arc::default(),
            agent: None,
        }
    }

    /// Starts the agent and waits until everything is listed.
    async fn begin(&mut self) {
        let incarnation = self.authority.incarnation().await.unwrap();
        let tree = Tree {
            cell: "vm.localhost".parse().unwrap(),
            hosts: vec![(self.fake.host(), self.recorder.clone())],
            authority: self.authority.clone(),
            journal: self.journal.clone(),
            clock: self.clock.clone(),
            incarnation,
        };
        self.agent = Some(start(tree).await.unwrap());
        self.seen("hypervisor.connected");
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }

    fn seen(&self, topic: &str) -> Event {
        self.recorder.wait(SOON, topic, |e| e.topic == topic)
    }

    fn told(&self, id: impl Into<EntityId>, topic: &str) -> Event {
        let id = id.into();
        self.recorder.wait(SOON, &format!("{topic} of {id}"), |e| e.entity == id && e.topic == topic)
    }

    fn entity(&self, id: impl Into<EntityId>) -> Option<Arc<Entity>> {
        let id = id.into();
        self.agent().inventory().entities().into_iter().find(|e| e.id == id)
    }

    async fn as_caller(&self, caller: Caller, id: impl Into<EntityId>, command: &str, arguments: Value) -> Result<Value, Fault> {
        let request = Request { target: Address::Entity(id.into()), command: command.into(), arguments, caller };
        let dispatcher = self.agent().dispatcher();
        tokio::time::timeout(SOON, dispatcher.call(request)).await.unwrap_or_else(|_| panic!("{command} was not answered"))
    }

    async fn ask(&self, id: impl Into<EntityId>, command: &str, arguments: Value) -> Result<Value, Fault> {
        self.as_caller(admin(), id, command, arguments).await
    }

    async fn done(&self, id: impl Into<EntityId>, command: &str) -> String {
        let answer = self.ask(id, command, json!({})).await.unwrap_or_else(|f| panic!("{command}: {f}"));
        serde_json::from_value::<Done>(answer).unwrap().message
    }

    async fn started(&self, id: impl Into<EntityId>, command: &str, arguments: Value) -> TaskId {
        let answer = self.ask(id, command, arguments).await.unwrap_or_else(|f| panic!("{command}: {f}"));
        serde_json::from_value::<Started>(answer).unwrap().task
    }

    fn pool(&self) -> PoolId {
        let found =
            self.agent().inventory().entities().into_iter().find_map(|e| if let EntityId::StoragePool(p) = e.id { Some(p) } else { None });
        found.unwrap()
    }
}

fn admin() -> Caller {
    Caller { jid: "admin@vm.localhost/web".into(), role: Role::Admin, operation: OperationId::fresh() }
}

fn person() -> Cause {
    Cause::Person("admin@vm.localhost".into())
}

fn hv() -> EntityId {
    "hv.alpha".parse().unwrap()
}

/// Runs a test, then ends the agent in order and checks what every story must satisfy: known topics, numbers without holes.
fn story(test: impl AsyncFnOnce(&mut Lab)) {
    actix::System::new().block_on(async {
        let mut lab = Lab::new();
        test(&mut lab).await;
        if let Some(agent) = lab.agent.take() {
            tokio::time::timeout(SOON, agent.shutdown()).await.expect("shutdown ends");
        }
        let mut last: HashMap<EntityId, u64> = HashMap::new();
        for event in lab.recorder.events() {
            assert!(TOPICS.iter().any(|(t, _)| *t == event.topic), "{} is no topic", event.topic);
            if let Some(before) = last.insert(event.entity.clone(), event.seq.0) {
                assert!(event.seq.0 > before, "{} went from {before} to {}", event.entity, event.seq.0);
                assert!(event.seq.0 == before + 1 || event.seq.0 >= before + 100_000, "a hole in {}", event.entity);
            }
            if let Some(after) = &event.after {
                assert_eq!((&after.id, after.seq, after.epoch), (&event.entity, event.seq, event.epoch));
            } else {
                last.remove(&event.entity);
            }
        }
    });
}

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
fn a_hypervisor_that_fails_too_often_ends_the_agent() {
    story(async |lab| {
        lab.begin().await;
        lab.fake.script.panic("hypervisor.facts", "");
        lab.fake.restore();
        let why = tokio::time::timeout(Duration::from_secs(60), lab.agent().failed()).await.expect("exit signal");
        assert!(why.contains("alpha") && why.contains("panic"), "{why}");
    });
}

#[test]
fn the_same_operation_runs_once() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        let caller = admin();
        let first = lab.as_caller(caller.clone(), id, "domain.start", json!({})).await;
        let again = lab.as_caller(caller.clone(), id, "domain.start", json!({})).await;
        assert!(first.is_ok());
        assert_eq!(first, again);
        assert_eq!(lab.fake.script.calls("domain.start"), 1);
        let other = lab.as_caller(caller, id, "domain.pause", json!({})).await.unwrap_err();
        assert_eq!(other.kind, FaultKind::Conflict);
        let refused = admin();
        let first = lab.as_caller(refused.clone(), id, "domain.start", json!({})).await.unwrap_err();
        lab.done(id, "domain.force-off").await;
        lab.told(id, "domain.stopped");
        let again = lab.as_caller(refused, id, "domain.start", json!({})).await.unwrap_err();
        assert_eq!((first.kind, &first), (FaultKind::WrongState, &again), "a refusal is an answer too");
    });
}

#[test]
fn the_same_operation_at_the_same_time_runs_once() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        lab.fake.script.hold("domain.start", "");
        let caller = admin();
        let release = async {
            let held = async {
                while lab.fake.script.calls("domain.start") == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON, held).await.expect("the call arrives");
            lab.fake.script.release();
        };
        let (one, two, three, ()) = futures::join!(
            lab.as_caller(caller.clone(), id, "domain.start", json!({})),
            lab.as_caller(caller.clone(), id, "domain.start", json!({})),
            lab.as_caller(caller.clone(), id, "domain.start", json!({})),
            release
        );
        assert!(one.is_ok(), "{one:?}");
        assert_eq!((&one, &one), (&two, &three));
        assert_eq!(lab.fake.script.calls("domain.start"), 1);
    });
}

#[test]
fn a_change_goes_on_when_whoever_asked_has_gone() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        lab.fake.script.hold("domain.start", "");
        let caller = admin();
        {
            let mut call = std::pin::pin!(lab.as_caller(caller.clone(), id, "domain.start", json!({})));
            let begun = async {
                while lab.fake.script.calls("domain.start") == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { _ = &mut call => panic!("it is held"), () = begun => {} }
        }
        lab.fake.script.release();
        lab.told(id, "domain.started");
        let again = lab.as_caller(caller, id, "domain.start", json!({})).await;
        assert!(again.is_ok(), "{again:?}");
        assert_eq!(lab.fake.script.calls("domain.start"), 1);
    });
}

async fn accepted(lab: &Lab, command: &str, target: impl Into<EntityId>, arguments: Value) -> OperationId {
    let operation = Operation {
        id: OperationId::fresh(),
        caller: "admin@vm.localhost".into(),
        role: Role::Admin,
        command: command.into(),
        target: target.into(),
        arguments,
        accepted: Timestamp(lab.clock.now().0),
    };
    assert_eq!(lab.journal.accept(operation.clone()).await.unwrap(), Acceptance::New);
    operation.id
}

async fn settled(lab: &Lab, id: OperationId) -> Result<Value, Fault> {
    let outcome = async {
        loop {
            if let Some(outcome) = lab.journal.outcome("admin@vm.localhost", id) {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, outcome).await.expect("the operation is settled")
}

#[test]
fn what_a_crash_interrupted_is_settled_and_never_run_again() {
    story(async |lab| {
        let on = lab.fake.add_domain("on", DomainState::Running, true);
        let off = lab.fake.add_domain("off", DomainState::Shutoff, true);
        let took = accepted(lab, "domain.start", on, json!({})).await;
        let not = accepted(lab, "domain.start", off, json!({})).await;
        let unknown = accepted(lab, "domain.reboot", on, json!({})).await;
        let gone = accepted(lab, "domain.undefine", DomainId(uuid::Uuid::from_u128(77)), json!({})).await;
        let task = TaskId::fresh();
        let ran = accepted(lab, "domain.shutdown", task, json!({"host": "alpha", "target": on.to_string()})).await;
        lab.begin().await;
        let answer = settled(lab, took).await.unwrap();
        assert!(answer["message"].as_str().unwrap().contains("before the restart"), "{answer}");
        let fault = settled(lab, not).await.unwrap_err();
        assert!(fault.message.contains("did not take effect"), "{fault}");
        let fault = settled(lab, unknown).await.unwrap_err();
        assert!(fault.message.contains("may or may not"), "{fault}");
        assert!(settled(lab, gone).await.is_ok());
        assert!(settled(lab, ran).await.is_err());
        assert_eq!(
            lab.fake.script.calls("domain.start") + lab.fake.script.calls("domain.reboot") + lab.fake.script.calls("domain.undefine"),
            0
        );
        let shown = lab.told(task, "task.finished").after.unwrap();
        assert_eq!(shown.state(), "failed");
        assert_eq!(lab.ask(task, "task.show", json!({})).await.unwrap()["message"], "interrupted");
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
fn a_viewer_is_refused_and_nothing_happens() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        let viewer = Caller { role: Role::Viewer, ..admin() };
        let fault = lab.as_caller(viewer.clone(), id, "domain.start", json!({})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Forbidden);
        assert!(lab.journal.is_empty());
        assert_eq!(lab.fake.script.calls("domain.start"), 0);
        assert!(lab.as_caller(viewer, id, "domain.info", json!({})).await.is_ok());
    });
}

#[test]
fn a_wrong_request_gets_its_fault() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        let kind = async |target: EntityId, command: &str, arguments: Value| lab.ask(target, command, arguments).await.unwrap_err().kind;
        use FaultKind::*;
        assert_eq!(kind(id.into(), "domain.fly", json!({})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.start", json!({"paused": "maybe"})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.start", json!({"now": true})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.start", json!([])).await, InvalidRequest);
        assert_eq!(kind(hv(), "domain.start", json!({})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.list", json!({})).await, InvalidRequest);
        assert_eq!(kind(id.into(), "domain.shutdown", json!({"timeout": 0})).await, InvalidRequest);
        assert_eq!(kind(DomainId(uuid::Uuid::nil()).into(), "domain.start", json!({})).await, NotFound);
        assert!(lab.journal.is_empty(), "nothing of this was accepted");
        assert_eq!(kind(id.into(), "domain.pause", json!({})).await, WrongState);
        assert_eq!(kind(hv(), "domain.define", json!({"name": "web1"})).await, Conflict);
        assert_eq!(kind(hv(), "domain.define", json!({"name": "../x"})).await, InvalidRequest);
    });
}

#[test]
fn only_the_owner_may_start_a_machine() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Shutoff, true);
        lab.begin().await;
        lab.authority.transfer(id, archipel_contract::Epoch(1), "beta".parse().unwrap()).await.unwrap();
        let fault = lab.ask(id, "domain.start", json!({})).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
        assert_eq!(lab.fake.script.calls("domain.start"), 0);
    });
}

#[test]
fn shutdown_is_followed_to_its_end() {
    story(async |lab| {
        let id = lab.fake.add_domain("web1", DomainState::Running, true);
        lab.begin().await;
        let task = lab.started(id, "domain.shutdown", json!({})).await;
        let shown = lab.ask(task, "task.wait", json!({"timeout": 20})).await.unwrap();
        assert_eq!(shown["state"], "done");
        assert_eq!(lab.told(id, "domain.stopped").cause, person());
        assert_eq!(lab.ask(task, "task.cancel", json!({})).await.unwrap_err().kind, FaultKind::WrongState);

        lab.done(id, "domain.start").await;
        lab.told(id, "domain.started");
        lab.fake.guests_listen(false);
        let deaf = lab.started(id, "domain.shutdown", json!({"timeout": 1})).await;
        let fault = lab.told(deaf, "task.finished").after.unwrap().to_json()["fault"].clone();
        assert_eq!(fault["kind"], "timeout");
        assert!(fault["message"].as_str().unwrap().contains("force-off"));

        let cancelled = lab.started(id, "domain.shutdown", json!({"timeout": 3600})).await;
        assert_eq!(lab.ask(cancelled, "task.wait", json!({"timeout": 0})).await.unwrap()["state"], "running");
        lab.done(cancelled, "task.cancel").await;
        assert_eq!(lab.told(cancelled, "task.finished").after.unwrap().state(), "cancelled");
    });
}

#[test]
fn a_pool_is_refreshed_by_a_task_and_its_volumes_are_listed() {
    story(async |lab| {
        lab.begin().await;
        let pool = lab.pool();
        let task = lab.started(pool, "storage-pool.refresh", json!({})).await;
        assert_eq!(lab.told(task, "task.finished").after.unwrap().state(), "done");
        assert_eq!(lab.told(pool, "storage-pool.refreshed").cause, person());
        let volumes = lab.ask(pool, "volume.list", json!({})).await.unwrap();
        assert_eq!(volumes[0]["id"], format!("{pool}/disk.qcow2"));
        assert_eq!(lab.ask(pool, "volume.info", json!({"volume": "disk.qcow2"})).await.unwrap()["host"], "alpha");
        lab.done(pool, "storage-pool.stop").await;
        lab.told(pool, "storage-pool.stopped");
        assert_eq!(lab.ask(pool, "volume.list", json!({})).await.unwrap_err().kind, FaultKind::WrongState);
        lab.done(pool, "storage-pool.start").await;
        assert_eq!(lab.told(pool, "storage-pool.started").cause, person());
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
