//! Two agents on fakes that reach each other: machines move between them, and every way in which that can go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod breaks;
mod groups;
mod leftovers;
mod rights;
mod shelf;
mod storage;
mod travels;

use archipel_contract::{
    Caller, DomainId, Entity, EntityId, Epoch, Fault, FaultKind, Hold, HypervisorName, OperationId, Ownership, Role, TaskId,
    command::Started,
    domain::DomainState,
    event::{Cause, Event, TOPICS},
    fake::{FakeClock, FakeHost, FakeLan, MemoryAuthority, MemoryDocuments, MemoryJournal, Recorder, Switchboard},
    host::{Host, HostChange, HostLink, HostObserver},
    migration::Standing,
    port::{Address, Announcer, Authority, Documents, Request},
};
use archipel_supervisors::tree::{Agent, Limits, Tree, start_within};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A link that the end of an agent does not close: libvirt lives longer than we do.
struct Line(Arc<FakeHost>);

impl HostLink for Line {
    fn watch(&self, observer: Arc<dyn HostObserver>) {
        self.0.watch(observer);
    }
    fn close(&self) {
        self.0.watch(Arc::new(Deaf));
    }
}

/// Hears for an agent that has ended.
struct Deaf;

impl HostObserver for Deaf {
    fn observe(&self, _: HostChange) -> Result<(), HostChange> {
        Ok(())
    }
}

struct Site {
    name: HypervisorName,
    fake: Arc<FakeHost>,
    recorder: Arc<Recorder>,
    journal: Arc<MemoryJournal>,
    local: Arc<MemoryDocuments>,
    incarnation: u64,
    agent: Option<Agent>,
}

struct Lab {
    sites: Vec<Site>,
    lan: Arc<FakeLan>,
    board: Arc<Switchboard>,
    authority: Arc<MemoryAuthority>,
    shelf: Arc<MemoryDocuments>,
    clock: Arc<FakeClock>,
    limits: Limits,
}

fn admin() -> Caller {
    Caller { jid: "admin@vm.localhost/web".into(), role: Role::Admin, operation: OperationId::fresh() }
}

/// The agent of a host, as the exchange stamps it.
fn node(host: &str) -> Caller {
    Caller { jid: format!("hv.{host}@vm.localhost/x"), role: Role::Node, operation: OperationId::fresh() }
}

fn person() -> Cause {
    Cause::Person("admin@vm.localhost".into())
}

fn hv(name: &str) -> EntityId {
    EntityId::Hypervisor(name.parse().unwrap())
}

impl Lab {
    fn of(names: &[&str]) -> Lab {
        let site = |name: &&str| Site {
            name: name.parse().unwrap(),
            fake: FakeHost::new(name),
            recorder: Arc::default(),
            journal: Arc::default(),
            local: Arc::default(),
            incarnation: 0,
            agent: None,
        };
        let sites: Vec<Site> = names.iter().map(site).collect();
        let lan = FakeLan::of(&sites.iter().map(|s| &s.fake).collect::<Vec<_>>());
        let limits = Limits::default();
        Lab { sites, lan, board: Arc::default(), authority: Arc::default(), shelf: Arc::default(), clock: Arc::default(), limits }
    }

    fn site(&self, name: &str) -> &Site {
        self.sites.iter().find(|s| s.name.as_str() == name).unwrap()
    }

    fn fake(&self, name: &str) -> &Arc<FakeHost> {
        &self.site(name).fake
    }

    /// Starts the agent of a host and waits until it has listed everything.
    async fn begin(&mut self, name: &str) {
        let (authority, shelf, clock, board) = (self.authority.clone(), self.shelf.clone(), self.clock.clone(), self.board.clone());
        let site = self.sites.iter_mut().find(|s| s.name.as_str() == name).unwrap();
        site.incarnation += 1;
        let host = Host { link: Arc::new(Line(site.fake.clone())), ..site.fake.host() };
        let tree = Tree {
            cell: "vm.localhost".parse().unwrap(),
            hosts: vec![(host, site.recorder.clone() as Arc<dyn Announcer>)],
            authority,
            journal: site.journal.clone(),
            peers: vec![board.line(name)],
            local: site.local.clone(),
            shelf,
            clock,
            incarnation: site.incarnation,
        };
        let agent = start_within(tree, self.limits, false).await.unwrap();
        board.connect(site.name.clone(), agent.dispatcher(), agent.inventory());
        site.agent = Some(agent);
        self.until(&format!("{name} is connected"), |lab| lab.entity(name, hv(name)).is_some_and(|e| e.state() == "connected")).await;
    }

    async fn begin_all(&mut self) {
        let names: Vec<String> = self.sites.iter().map(|s| s.name.to_string()).collect();
        for name in names {
            self.begin(&name).await;
        }
    }

    /// The daemon of a host ends; its libvirt goes on.
    async fn end(&mut self, name: &str) {
        self.board.silence(&name.parse().unwrap(), true);
        let site = self.sites.iter_mut().find(|s| s.name.as_str() == name).unwrap();
        if let Some(agent) = site.agent.take() {
            tokio::time::timeout(SOON, agent.shutdown()).await.expect("shutdown ends");
        }
    }

    async fn begin_again(&mut self, name: &str) {
        self.board.silence(&name.parse().unwrap(), false);
        self.begin(name).await;
    }

    async fn until(&self, what: &str, so: impl Fn(&Lab) -> bool) {
        let wait = async {
            while !so(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(SOON, wait).await.is_err() {
            let line = |s: &Site, e: &Event| format!("{} {} {} {:?}", s.name, e.entity, e.topic, e.after.as_ref().map(|a| a.state()));
            let told = self.sites.iter().flat_map(|s| s.recorder.events().iter().map(|e| line(s, e)).collect::<Vec<_>>());
            panic!("it did not become so: {what}\n{}", told.collect::<Vec<_>>().join("\n"));
        }
    }

    fn entity(&self, at: &str, id: impl Into<EntityId>) -> Option<Arc<Entity>> {
        let id = id.into();
        self.site(at).agent.as_ref()?.inventory().entities().into_iter().find(|e| e.id == id)
    }

    fn seen(&self, at: &str, id: impl Into<EntityId>, topic: &str) -> Event {
        let id = id.into();
        self.site(at).recorder.wait(SOON, &format!("{topic} of {id} on {at}"), |e| e.entity == id && e.topic == topic)
    }

    async fn as_caller(&self, at: &str, caller: Caller, id: impl Into<EntityId>, command: &str, arguments: Value) -> Result<Value, Fault> {
        let request = Request { target: Address::Entity(id.into()), command: command.into(), arguments, caller };
        let dispatcher = self.site(at).agent.as_ref().unwrap().dispatcher();
        tokio::time::timeout(SOON, dispatcher.call(request)).await.unwrap_or_else(|_| panic!("{command} was not answered"))
    }

    async fn ask(&self, at: &str, id: impl Into<EntityId>, command: &str, arguments: Value) -> Result<Value, Fault> {
        self.as_caller(at, admin(), id, command, arguments).await
    }

    async fn started(&self, at: &str, id: impl Into<EntityId>, command: &str, arguments: Value) -> TaskId {
        let answer = self.ask(at, id, command, arguments).await.unwrap_or_else(|f| panic!("{command}: {f}"));
        serde_json::from_value::<Started>(answer).unwrap().task
    }

    async fn refused(&self, at: &str, id: impl Into<EntityId>, command: &str, arguments: Value) -> Fault {
        self.ask(at, id, command, arguments).await.expect_err("it must be refused")
    }

    /// How a task ended.
    async fn ends(&self, at: &str, task: TaskId) -> Value {
        let shown = self.ask(at, task, "task.wait", json!({"timeout": 25})).await.unwrap();
        assert_ne!(shown["state"], "running", "{shown}");
        shown
    }

    async fn ownership(&self, id: DomainId) -> Ownership {
        self.authority.ownership(id).await.unwrap().expect("somebody owns it")
    }

    /// How a host asks another for a place for one of its machines (`hypervisor.reserve`).
    async fn place(&self, from: &str, id: DomainId, saga: u128) -> Value {
        let passport = serde_json::to_string(&self.fake(from).host().migration.passport(id).await.unwrap()).unwrap();
        let saga = uuid::Uuid::from_u128(saga);
        json!({"saga": saga, "epoch": 1, "passport": passport, "way": "{}", "on_behalf_of": "x", "role": "admin"})
    }

    /// What every story ends with: the guest executes on exactly these hosts, one of them shows it, and nothing is left behind.
    async fn at_rest(&self, id: DomainId, at: &str) {
        let held = self.ownership(id).await;
        assert_eq!((held.owner.as_str(), &held.hold), (at, &Hold::Owned));
        let wanted = |lab: &Lab| {
            lab.sites.iter().filter(|s| s.agent.is_some()).all(|s| {
                let shown = lab.entity(s.name.as_str(), id);
                if s.name.as_str() == at {
                    shown.is_some_and(|e| e.epoch == held.epoch && e.domain().unwrap().moving_to.is_none())
                } else {
                    shown.is_none()
                }
            })
        };
        self.until("one host shows it", wanted).await;
        for site in &self.sites {
            let prefix = format!("agent/{}/", site.name);
            let left = async {
                loop {
                    let left = site.local.documents(prefix.clone()).await.unwrap();
                    let left: Vec<String> =
                        left.into_iter().map(|(k, _)| k).filter(|k| !k.ends_with("/drain") && !k.contains("/origin/")).collect();
                    if left.is_empty() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(SOON, left).await.unwrap_or_else(|_| panic!("{} has something written down still", site.name));
        }
    }
}

/// Runs a test, then ends the agents in order and checks what every story must satisfy.
fn story(names: &[&str], test: impl AsyncFnOnce(&mut Lab)) {
    actix::System::new().block_on(async {
        let mut lab = Lab::of(names);
        test(&mut lab).await;
        for site in &mut lab.sites {
            if let Some(agent) = site.agent.take() {
                tokio::time::timeout(SOON, agent.shutdown()).await.expect("shutdown ends");
            }
            for event in site.recorder.events() {
                assert!(TOPICS.iter().any(|(t, _)| *t == event.topic), "{} is no topic", event.topic);
            }
        }
    });
}
