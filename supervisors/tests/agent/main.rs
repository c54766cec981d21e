//! The whole agent against the fakes: supervisors, actors, routes and journal, on a thread of its own as in the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod autostart;
mod backups;
mod clones;
mod consoles;
mod creation;
mod faults;
mod inside;
mod life;
mod once;
mod requests;
mod snapshots;
mod strangers;
mod tasks;
use archipel_contract::{
    BoxFuture, Bytes, Caller, Condition, DomainId, Entity, EntityId, Fault, FaultKind, OperationId, PoolId, Role, TaskId, Timestamp,
    command::{Done, Started},
    domain::{Defined, DomainSpec, DomainState, Firmware},
    event::{Cause, Event, TOPICS},
    fake::{FakeClock, FakeHost, MemoryAuthority, MemoryDocuments, MemoryJournal, Recorder},
    host::DomainChange,
    port::{Acceptance, Address, Announcer, Authority, Clock, DoneOperation, Journal, Operation, Request},
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
    /// Stands before the journal, if a test wants to hold what is written.
    scribe: Option<Arc<dyn Journal>>,
    authority: Arc<MemoryAuthority>,
    clock: Arc<FakeClock>,
    /// What the agent has written down for itself, which outlives it.
    local: Arc<MemoryDocuments>,
    agent: Option<Agent>,
}

impl Lab {
    fn new() -> Lab {
        Lab {
            fake: FakeHost::new("alpha"),
            recorder: Arc::default(),
            journal: Arc::default(),
            scribe: None,
            authority: Arc::default(),
            clock: Arc::default(),
            local: Arc::default(),
            agent: None,
        }
    }

    /// Starts the agent and waits until everything is listed.
    async fn begin(&mut self) {
        self.begin_with(Vec::new()).await;
    }

    /// The same with further hypervisors beside the first.
    async fn begin_with(&mut self, more: Vec<Arc<FakeHost>>) {
        self.start(more).await;
        self.seen("hypervisor.connected");
    }

    /// The same without waiting.
    async fn start(&mut self, more: Vec<Arc<FakeHost>>) {
        let incarnation = self.authority.incarnation().await.unwrap();
        let tree = Tree {
            cell: "vm.localhost".parse().unwrap(),
            hosts: [self.fake.clone()].iter().chain(&more).map(|f| (f.host(), self.recorder.clone() as Arc<dyn Announcer>)).collect(),
            authority: self.authority.clone(),
            journal: self.scribe.clone().unwrap_or_else(|| self.journal.clone()),
            peers: Vec::new(),
            local: self.local.clone(),
            shelf: Arc::new(MemoryDocuments::default()),
            clock: self.clock.clone(),
            incarnation,
        };
        self.agent = Some(start(tree).await.unwrap());
    }

    /// The agent ends in order, and a next life of it can begin. What was told is forgotten.
    async fn end(&mut self) {
        let agent = self.agent.take().unwrap();
        tokio::time::timeout(SOON, agent.shutdown()).await.expect("shutdown ends");
        self.fake.reopen();
        self.recorder.clear();
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
