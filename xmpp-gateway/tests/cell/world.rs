//! The cell the tests play in.
//!
//! ```text
//!   agent -- link -- [wire] -- server + exchange -- [wire] -- viewers
//! ```

use archipel_contract::{
    BoxFuture, Bytes, Cause, CellName, Condition, DomainId, Entity, EntityId, Epoch, Event, Facts, Fault, HypervisorName, Role, Seq,
    TaskId, Timestamp,
    domain::{DomainFacts, DomainState},
    fake::{FakeClock, MemoryAccounts, MemoryAuthority, MemoryDocuments},
    port::{AccountKind, Accounts, Address, Announcer, Dispatcher, Inventory, Request},
    task::{TaskFacts, TaskState},
};
use archipel_xmpp::client::{Client, Config, InMemory, Incoming, Pauses};
use archipel_xmpp::exchange::{Exchange, ExchangeConfig};
use archipel_xmpp::link::{Link, LinkAnnouncer, LinkAuthority, LinkConfig, LinkPeers, LinkWatcher, Porter};
use archipel_xmpp::server::{Limits, Peer, Server, ServerConfig};
use archipel_xmpp::tls::Tls;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};

pub(crate) const CELL: &str = "vm.localhost";
pub(crate) const PASSWORD: &str = "correct horse";
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until it is so; panics with what it was about after a minute.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The same for something that ends by itself.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// A server with its exchange, and the wires to it.
pub(crate) struct Cell {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) server: Arc<Server>,
    pub(crate) documents: Arc<MemoryDocuments>,
}

impl Cell {
    pub(crate) async fn start(accounts: Arc<MemoryAccounts>, limits: Limits, tls: Option<Arc<Tls>>) -> Cell {
        Cell::deciding(accounts, limits, tls, Arc::<MemoryAuthority>::default())
    }

    /// The same with this authority.
    pub(crate) fn deciding(
        accounts: Arc<MemoryAccounts>,
        limits: Limits,
        tls: Option<Arc<Tls>>,
        authority: Arc<dyn archipel_contract::port::Authority>,
    ) -> Cell {
        let clock = Arc::new(FakeClock::default());
        let documents = Arc::<MemoryDocuments>::default();
        let cell = CELL.parse().unwrap();
        let exchange = Exchange::new(ExchangeConfig::new(cell, accounts.clone(), authority, documents.clone(), clock, Epoch(1)));
        let config = ServerConfig { cell: CELL.into(), accounts, tls, limits, features: Vec::new() };
        Cell { server: Server::new(config, exchange.clone()).unwrap(), exchange, documents }
    }
}

pub(crate) async fn accounts() -> Arc<MemoryAccounts> {
    let accounts = Arc::new(MemoryAccounts::default());
    for (local, kind) in [
        ("admin", AccountKind::Person(Role::Admin)),
        ("guest", AccountKind::Person(Role::Viewer)),
        ("hv.alpha", AccountKind::Node),
        ("hv.beta", AccountKind::Node),
    ] {
        accounts.add(archipel_xmpp::accounts::account(local, PASSWORD, kind, 4096).unwrap()).await.unwrap();
    }
    accounts
}

/// A wire that can be cut, and a server at its end that can be exchanged or taken away.
#[derive(Default)]
pub(crate) struct Wire {
    server: Mutex<Option<Arc<Server>>>,
    pumps: Mutex<Vec<AbortHandle>>,
    pub(crate) connections: AtomicUsize,
    /// Connections that stand stay, and no other is made.
    pub(crate) closed_to_new: AtomicBool,
}

impl Wire {
    pub(crate) fn to(server: &Arc<Server>) -> Arc<Wire> {
        let wire = Wire::default();
        *wire.server.lock() = Some(server.clone());
        Arc::new(wire)
    }

    /// Ends all connections without a word; new ones go to this server, or nowhere.
    pub(crate) fn cut(&self, next: Option<&Arc<Server>>) {
        *self.server.lock() = next.cloned();
        for pump in self.pumps.lock().drain(..) {
            pump.abort();
        }
    }

    fn connect(&self) -> Option<DuplexStream> {
        let server = self.server.lock().clone().filter(|_| !self.closed_to_new.load(Ordering::SeqCst))?;
        let (client, mut near) = tokio::io::duplex(16 * 1024);
        let (mut far, end) = tokio::io::duplex(16 * 1024);
        let pump = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await.map(|_| ()) });
        self.pumps.lock().push(pump.abort_handle());
        tokio::spawn(server.accept_stream(end, Peer::in_process("test")));
        self.connections.fetch_add(1, Ordering::SeqCst);
        Some(client)
    }

    pub(crate) fn connector(self: &Arc<Self>) -> Arc<InMemory<impl Fn() -> Option<DuplexStream> + Send + Sync + use<>>> {
        let wire = self.clone();
        Arc::new(InMemory::new(move || wire.connect()))
    }
}

/// A person's client that stays.
pub(crate) fn person(wire: &Arc<Wire>) -> Config {
    Config { retry: archipel_xmpp::client::Retry::Forever(quick()), ..Config::lasting("admin", CELL, PASSWORD, wire.connector()) }
}

pub(crate) async fn connect(wire: &Arc<Wire>) -> (Client, Incoming) {
    within("a login", Client::connect(person(wire))).await.unwrap()
}

pub(crate) fn quick() -> Pauses {
    Pauses::new(Duration::from_millis(5), Duration::from_millis(50))
}

/// What an agent has, and how it answers.
pub(crate) struct Agent {
    pub(crate) host: HypervisorName,
    pub(crate) cell: CellName,
    pub(crate) announcer: Mutex<Option<Arc<LinkAnnouncer>>>,
    entities: Mutex<BTreeMap<EntityId, Arc<Entity>>>,
    pub(crate) asserted: AtomicUsize,
    pub(crate) requests: Mutex<Vec<Request>>,
    /// Requests wait here while it is closed.
    pub(crate) gate: Semaphore,
    pub(crate) gated: AtomicBool,
}

impl Agent {
    pub(crate) fn new(host: &str) -> Arc<Agent> {
        let agent = Arc::new(Agent {
            host: host.parse().unwrap(),
            cell: CELL.parse().unwrap(),
            announcer: Mutex::new(None),
            entities: Mutex::default(),
            asserted: AtomicUsize::new(0),
            requests: Mutex::default(),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
        });
        let facts = archipel_contract::hypervisor::HypervisorFacts {
            state: archipel_contract::hypervisor::HypervisorState::Connected,
            ..archipel_contract::hypervisor::HypervisorFacts::connecting("test:///default")
        };
        agent.put(agent.host.clone().into(), host, Facts::Hypervisor(facts), Seq(1));
        agent
    }

    fn put(&self, id: EntityId, name: &str, facts: Facts, seq: Seq) -> Arc<Entity> {
        let entity = Arc::new(Entity {
            id: id.clone(),
            cell: self.cell.clone(),
            name: name.into(),
            host: self.host.clone(),
            epoch: Epoch(1),
            seq,
            since: Timestamp(0),
            condition: Condition::Ok,
            why: None,
            facts,
        });
        self.entities.lock().insert(id, entity.clone());
        entity
    }

    pub(crate) fn machine(&self, number: u128, name: &str, state: DomainState) -> EntityId {
        let id: EntityId = DomainId(uuid::Uuid::from_u128(number)).into();
        let facts = DomainFacts {
            state,
            reason: None,
            vcpus: 1,
            memory: Bytes::mib(256),
            persistent: true,
            autostart: false,
            agent: false,
            virtualization: "test".into(),
            note: None,
            template: false,
            moving_to: None,
            autostart_order: None,
            autostart_delay: None,
        };
        self.put(id.clone(), name, Facts::Domain(facts), Seq(1));
        id
    }

    /// Changes an entity and announces it, as an actor would.
    pub(crate) fn change(&self, id: &EntityId, topic: &'static str, change: impl FnOnce(&mut Facts)) {
        let event = {
            let mut entities = self.entities.lock();
            let mut entity = Entity::clone(&entities[id]);
            entity.seq = entity.seq.next();
            change(&mut entity.facts);
            let entity = Arc::new(entity);
            entities.insert(id.clone(), entity.clone());
            event(entity, topic)
        };
        self.announce(event);
    }

    pub(crate) fn enter(&self, id: &EntityId, state: DomainState) {
        self.change(id, "domain.changed", |facts| {
            if let Facts::Domain(facts) = facts {
                facts.state = state;
            }
        });
    }

    fn announce(&self, event: Event) {
        let announcer = self.announcer.lock().clone();
        if let Some(announcer) = announcer {
            announcer.announce(vec![event]);
        }
    }

    /// A task that ends at once, well or badly.
    fn task(&self, number: u128, target: EntityId, state: TaskState) -> TaskId {
        let id = TaskId(uuid::Uuid::from_u128(number));
        let mut facts = TaskFacts {
            state: TaskState::Running,
            command: "domain.shutdown".into(),
            target,
            caller: "admin@vm.localhost".into(),
            percent: Some(50),
            message: "half way".into(),
            fault: None,
            started: Timestamp(0),
            ended: None,
        };
        let entity = self.put(id.into(), "domain.shutdown", Facts::Task(facts.clone()), Seq(1));
        self.announce(event(entity, "task.started"));
        facts.state = state;
        facts.message = "it ended".into();
        if state == TaskState::Failed {
            facts.fault = Some(Fault::new(archipel_contract::FaultKind::Timeout, "the guest did not listen"));
        }
        self.change(&id.into(), "task.finished", |f| *f = Facts::Task(facts));
        id
    }

    async fn answer(&self, request: Request) -> Result<Value, Fault> {
        self.requests.lock().push(request.clone());
        if self.gated.load(Ordering::SeqCst) {
            self.gate.acquire().await.unwrap().forget();
        }
        let Address::Entity(id) = &request.target else { return Err(Fault::invalid("an agent is asked about entities")) };
        let entity = self.entities.lock().get(id).cloned().ok_or_else(|| Fault::not_found(format!("no {id}")))?;
        let done = |text: &str| Ok(json!({ "message": format!("{} {text}", entity.name) }));
        match request.command.as_str() {
            "domain.start" if entity.state() == "running" => Err(Fault::wrong_state(format!("{} is running already", entity.name))),
            "domain.start" => {
                self.enter(id, DomainState::Running);
                done("is starting")
            }
            "domain.force-off" => {
                self.enter(id, DomainState::Shutoff);
                done("is off")
            }
            "domain.shutdown" => {
                let state = if &*entity.name == "stubborn" { TaskState::Failed } else { TaskState::Done };
                let task = self.task(0x7a00 + self.requests.lock().len() as u128, id.clone(), state);
                Ok(json!({ "task": task, "message": format!("{} was asked", entity.name) }))
            }
            "domain.define" => Ok(json!({ "id": uuid::Uuid::from_u128(99), "message": "defined" })),
            "domain.info" | "task.show" | "task.wait" => Ok(entity.to_json()),
            "volume.list" => Ok(json!([])),
            _ => done("did it"),
        }
    }
}

fn event(after: Arc<Entity>, topic: &'static str) -> Event {
    Event {
        entity: after.id.clone(),
        cell: after.cell.clone(),
        topic: topic.into(),
        epoch: after.epoch,
        seq: after.seq,
        at: Timestamp(0),
        cause: Cause::Libvirt,
        detail: None,
        after: Some(after),
    }
}

struct Front(Arc<Agent>);

impl Dispatcher for Front {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(self.0.answer(request))
    }
}

impl Inventory for Front {
    fn entities(&self) -> Vec<Arc<Entity>> {
        self.0.asserted.fetch_add(1, Ordering::SeqCst);
        self.0.entities.lock().values().cloned().collect()
    }
}

/// A running link.
pub(crate) struct Running {
    pub(crate) watcher: Arc<LinkWatcher>,
    pub(crate) peers: Arc<LinkPeers>,
    pub(crate) authority: Arc<LinkAuthority>,
    pub(crate) announcer: Arc<LinkAnnouncer>,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Links an agent to whatever is at the end of the wire.
pub(crate) fn link(agent: &Arc<Agent>, wire: &Arc<Wire>, change: impl FnOnce(&mut LinkConfig)) -> Running {
    link_with(agent, wire, None, change)
}

/// The same with somebody who opens what tickets are for.
pub(crate) fn link_with(
    agent: &Arc<Agent>,
    wire: &Arc<Wire>,
    porter: Option<Arc<dyn Porter>>,
    change: impl FnOnce(&mut LinkConfig),
) -> Running {
    let clock = Arc::new(FakeClock::default());
    let mut config = LinkConfig::new(agent.cell.clone(), agent.host.clone(), PASSWORD, wire.connector(), clock);
    config.pauses = quick();
    change(&mut config);
    let (announcer, mut link) = Link::new(config);
    if let Some(porter) = porter {
        link = link.with_porter(porter);
    }
    *agent.announcer.lock() = Some(announcer.clone());
    let (watcher, peers, authority) = (link.watcher(), link.peers(), link.authority());
    let front = Arc::new(Front(agent.clone()));
    let task = tokio::spawn(link.run(front.clone(), front, 1));
    Running { watcher, peers, authority, announcer, task }
}

impl Running {
    pub(crate) async fn well(&self) {
        until("the link is well", || self.watcher.health().is_well()).await;
    }
}
