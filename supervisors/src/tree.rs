//! The one picture of who is under whom.
//!
//! ```text
//! agent (one thread)                     budget of a hypervisor used up -> exit signal; systemd restarts the daemon
//!  └─ hypervisors       one for one      5 restarts in 60 s
//!      ├─ HypervisorActor                watches the link, lists, hands reports on
//!      └─ its children  one for one      3 restarts in 30 s each; used up -> that entity stays degraded, nobody else notices
//!          ├─ DomainActor       one per virtual machine
//!          ├─ NetworkActor      one per network
//!          ├─ PoolActor         one per storage pool
//!          └─ TaskActor         one per task; its work is never run twice
//! ```
//! Children live beside their hypervisor's actor, not below it: when that one is restarted they go on, and it lists anew.
//! A child that was given up is tried again when everything is listed, or when somebody sends it a command.

pub use crate::health::{Health, HostHealth};
use crate::{
    interrupted::{Interrupted, Past},
    policy::{Decision, Policy},
    restarts::{Restart, Restarts},
    shutdown,
    supervisor::{Failure, Family, Supervisor},
};
use actix::prelude::*;
pub use archipel_actors::migration::Limits;
use archipel_actors::{
    board::Board,
    consoles::Consoles,
    directory::{Directory, Resident},
    dispatch::{self, Parts, Routes},
    domain::DomainActor,
    hypervisor::{self, HypervisorActor},
    life::{Life, Nudge, Post},
    migration::Moves,
    network::NetworkActor,
    scope::{Keeper, Scope},
    storage_pool::PoolActor,
    task::{self, TaskActor},
    tickets::Tickets,
    transfers::Transfers,
    usage::Usage,
};
use archipel_contract::{
    CellName, Entity, EntityId, Fault, HypervisorName,
    host::Host,
    port::{Alone, Announcer, Authority, Clock, Dispatcher, Documents, Inventory, Journal, Peers},
};
use futures::future::LocalBoxFuture;
use std::cell::{OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Orders from other threads that may wait.
const ORDERS: usize = 1024;

/// What an agent is made of.
pub struct Tree {
    /// The cell it belongs to.
    pub cell: CellName,
    /// Its hypervisors, each with whoever wants to know of changes there.
    pub hosts: Vec<(Host, Arc<dyn Announcer>)>,
    /// Who may run what.
    pub authority: Arc<dyn Authority>,
    /// What was accepted and must be answered.
    pub journal: Arc<dyn Journal>,
    /// The way from each of its hypervisors to the others of the cell, in the order of `hosts`; one that has none is alone.
    pub peers: Vec<Arc<dyn Peers>>,
    /// What the agent writes down for itself, on its own disk.
    pub local: Arc<dyn Documents>,
    /// What the cell keeps.
    pub shelf: Arc<dyn Documents>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How often this agent's data was opened; events are numbered by it.
    pub incarnation: u64,
}

/// A running agent, as seen from other threads.
pub struct Agent {
    routes: Arc<Routes>,
    boards: Arc<Vec<Arc<Board>>>,
    restarts: Arc<Restarts>,
    tickets: Arc<Tickets>,
    consoles: Arc<Consoles>,
    transfers: Arc<Transfers>,
    pub(crate) usages: Vec<(HypervisorName, Arc<Usage>)>,
    orders: mpsc::Sender<Order>,
    exit: watch::Receiver<Option<String>>,
    arbiter: Option<Arbiter>,
}

/// What other threads may ask of the agent's own.
pub(crate) enum Order {
    Revive(HypervisorName, EntityId),
    ListAgain,
    Quit(oneshot::Sender<()>),
}

/// All entities of all hypervisors of an agent.
struct Everything(Arc<Vec<Arc<Board>>>);

impl Inventory for Everything {
    fn entities(&self) -> Vec<Arc<Entity>> {
        self.0.iter().flat_map(|b| b.entities()).collect()
    }
    fn is_complete(&self) -> bool {
        self.0.iter().all(|b| b.is_complete())
    }
}

/// The children of one hypervisor.
pub(crate) struct Children {
    scope: OnceCell<Weak<Scope>>,
    restarts: Arc<Restarts>,
    nudge: OnceCell<Nudge>,
}

/// The hypervisors of the agent.
pub(crate) struct Hosts {
    scopes: Vec<Rc<Scope>>,
    restarts: Arc<Restarts>,
    exit: watch::Sender<Option<String>>,
    nudge: OnceCell<Nudge>,
}

/// A child's whole life: its address goes into the directory, its future to the supervisor.
fn live<A: Resident>(
    actor: A,
    id: &EntityId,
    directory: &Directory,
    life: &Arc<Life>,
    nudge: &OnceCell<Nudge>,
) -> LocalBoxFuture<'static, ()> {
    let future = Context::<A>::new().into_future(actor);
    let nudge = nudge.get().cloned().unwrap_or_default();
    directory.enter(id, Post::new(future.address(), life.clone(), nudge));
    Box::pin(future)
}

fn noted(scope: &Scope, restarts: &Restarts, id: &EntityId, failure: &Failure, decision: Decision) {
    let given_up = decision == Decision::GiveUp;
    restarts.note(scope.clock.now(), scope.host.name.clone(), id.clone(), failure, given_up);
    let why = if given_up {
        format!("its actor failed too often and was given up ({failure}); a command or the next listing tries again")
    } else {
        hypervisor::count_restart(scope, &format!("{} {id}: {failure}", id.kind().name()));
        format!("its actor failed and is being restarted ({failure})")
    };
    hypervisor::degrade(scope, id, &why);
}

impl Family for Children {
    type Key = EntityId;

    fn make(&self, key: &EntityId, life: &Arc<Life>, fresh: bool) -> LocalBoxFuture<'static, ()> {
        let Some(scope) = self.scope.get().and_then(Weak::upgrade) else { return Box::pin(std::future::ready(())) };
        let (directory, its) = (scope.directory.clone(), life.clone());
        match key {
            EntityId::Domain(id) => live(DomainActor::new(*id, scope, its, fresh), key, &directory, life, &self.nudge),
            EntityId::Network(id) => live(NetworkActor::new(*id, scope, its, fresh), key, &directory, life, &self.nudge),
            EntityId::StoragePool(id) => live(PoolActor::new(*id, scope, its, fresh), key, &directory, life, &self.nudge),
            EntityId::Task(id) => live(TaskActor::new(*id, scope, its), key, &directory, life, &self.nudge),
            // A hypervisor is nobody's child here.
            EntityId::Hypervisor(_) => Box::pin(std::future::ready(())),
        }
    }

    fn policy(&self, _: &EntityId) -> Policy {
        Policy::CHILD
    }

    fn leave(&self, key: &EntityId, life: &Arc<Life>) {
        if let Some(scope) = self.scope.get().and_then(Weak::upgrade) {
            scope.directory.leave(key, life);
        }
    }

    fn failed(&self, key: &EntityId, failure: &Failure, decision: Decision) {
        if let Some(scope) = self.scope.get().and_then(Weak::upgrade) {
            noted(&scope, &self.restarts, key, failure, decision);
        }
    }
}

impl Family for Hosts {
    type Key = HypervisorName;

    fn make(&self, key: &HypervisorName, life: &Arc<Life>, fresh: bool) -> LocalBoxFuture<'static, ()> {
        let Some(scope) = self.scope(key) else { return Box::pin(std::future::ready(())) };
        let actor = HypervisorActor::new(scope.clone(), life.clone(), fresh);
        live(actor, &key.clone().into(), &scope.directory, life, &self.nudge)
    }

    fn policy(&self, _: &HypervisorName) -> Policy {
        Policy::HYPERVISOR
    }

    fn leave(&self, key: &HypervisorName, life: &Arc<Life>) {
        if let Some(scope) = self.scope(key) {
            scope.directory.leave(&key.clone().into(), life);
        }
    }

    fn failed(&self, key: &HypervisorName, failure: &Failure, decision: Decision) {
        let Some(scope) = self.scope(key) else { return };
        noted(scope, &self.restarts, &key.clone().into(), failure, decision);
        if decision == Decision::GiveUp {
            self.exit.send_replace(Some(format!("the actor of hypervisor {key} failed too often: {failure}")));
        }
    }
}

impl Hosts {
    fn scope(&self, name: &HypervisorName) -> Option<&Rc<Scope>> {
        self.scopes.iter().find(|s| s.host.name == *name)
    }
}

/// The children's supervisor as their hypervisor's actors see it.
struct Nursery(Rc<Supervisor<Children>>);

impl Keeper for Nursery {
    fn start(&self, id: EntityId) {
        self.0.start(id);
    }
    fn stop(&self, id: &EntityId) {
        self.0.quit(id);
    }
}

/// Everything that lives on the agent's own thread.
pub(crate) struct Local {
    pub(crate) hosts: Rc<Supervisor<Hosts>>,
    pub(crate) nurseries: Vec<Rc<Supervisor<Children>>>,
}

impl Local {
    pub(crate) fn scopes(&self) -> &[Rc<Scope>] {
        &self.hosts.family().scopes
    }

    fn revive(&self, host: &HypervisorName, id: EntityId) {
        let home = self.scopes().iter().position(|s| s.host.name == *host && s.board.get(&id).is_some());
        if let Some(nursery) = home.and_then(|n| self.nurseries.get(n))
            && !matches!(id, EntityId::Hypervisor(_))
        {
            nursery.start(id);
        }
    }

    fn list_again(&self) {
        for scope in self.scopes() {
            // One that is being restarted lists everything anyway, and so does one that has no room for more.
            if let Some(post) = scope.directory.find::<HypervisorActor>(&scope.host.name.clone().into()) {
                let _ = post.tell(hypervisor::ListAgain);
            }
        }
    }
}

/// Starts an agent on a thread of its own, with the usual limits and without a history of usage. Must be called within an actix System.
pub async fn start(tree: Tree) -> Result<Agent, Fault> {
    start_within(tree, Limits::default(), false).await
}

/// The same with these limits of each of its hypervisors, and a history of their usage if it is wanted.
pub async fn start_within(tree: Tree, limits: Limits, keeps_history: bool) -> Result<Agent, Fault> {
    let arbiter = Arbiter::new();
    let mut agent = begin(tree, limits, keeps_history, arbiter.handle()).await?;
    agent.arbiter = Some(arbiter);
    Ok(agent)
}

/// Starts an agent on that arbiter's thread; simulations use the one they run on, so that they own its clock.
pub async fn start_on(tree: Tree, arbiter: ArbiterHandle, keeps_history: bool) -> Result<Agent, Fault> {
    begin(tree, Limits::default(), keeps_history, arbiter).await
}

async fn begin(tree: Tree, limits: Limits, keeps_history: bool, arbiter: ArbiterHandle) -> Result<Agent, Fault> {
    let past = Past::read(&*tree.journal, tree.clock.now()).await?;
    let restarts = Arc::new(Restarts::default());
    let boards: Vec<Arc<Board>> = tree
        .hosts
        .iter()
        .map(|(host, announcer)| {
            Arc::new(Board::new(tree.cell.clone(), host.name.clone(), tree.incarnation, announcer.clone(), tree.clock.clone()))
        })
        .collect();
    let boards = Arc::new(boards);
    let (orders, inbox) = mpsc::channel(ORDERS);
    let (exit, exited) = watch::channel(None);
    let reviver = {
        let orders = orders.clone();
        move |post: &dispatch::Post, id: &EntityId| {
            if !post.directory.lives(id) {
                // Full: whoever asks is told to come back, and asking again tries again.
                let _ = orders.try_send(Order::Revive(post.host.name.clone(), id.clone()));
            }
        }
    };
    let runner = arbiter.clone();
    let post = |((host, _), board): (&(Host, _), &Arc<Board>)| dispatch::Post {
        host: host.clone(),
        board: board.clone(),
        directory: Arc::default(),
    };
    let posts: Vec<dispatch::Post> = tree.hosts.iter().zip(boards.iter()).map(post).collect();
    let directories: Vec<Arc<Directory>> = posts.iter().map(|p| p.directory.clone()).collect();
    let tickets = Arc::<Tickets>::default();
    let consoles = Arc::new(Consoles::new(tickets.clone(), posts.clone(), tree.clock.clone()));
    let transfers = Arc::new(Transfers::new(tickets.clone(), posts.clone()));
    let usages: Vec<_> = tree.hosts.iter().map(|(host, _)| (host.name.clone(), Usage::new(keeps_history))).collect();
    let routes = Routes::new(Parts {
        hosts: posts,
        journal: tree.journal.clone(),
        clock: tree.clock.clone(),
        runner: Arc::new(move |work| runner.spawn(work)),
        reviver: Arc::new(reviver),
    });
    let routes = Arc::new(routes);
    let plant = {
        let (boards, restarts, routes) = (boards.clone(), restarts.clone(), routes.clone());
        let (tickets, consoles) = (tickets.clone(), consoles.clone());
        let seen = usages.iter().map(|(_, usage)| usage.clone()).collect();
        move || {
            let local = plant(Seed { tree, limits, usages: seen }, &boards, directories, restarts, (tickets, consoles), exit, past);
            actix_rt::spawn(obey(local, inbox, routes));
        }
    };
    if !arbiter.spawn_fn(plant) {
        return Err(Fault::internal("the agent's thread has ended before it began; please report this"));
    }
    Ok(Agent { routes, boards, restarts, tickets, consoles, transfers, usages, orders, exit: exited, arbiter: None })
}

/// What the tree grows from.
struct Seed {
    tree: Tree,
    limits: Limits,
    usages: Vec<Arc<Usage>>,
}

/// Builds the tree on the agent's own thread.
fn plant(
    Seed { tree, limits, usages }: Seed,
    boards: &[Arc<Board>],
    directories: Vec<Arc<Directory>>,
    restarts: Arc<Restarts>,
    (tickets, consoles): (Arc<Tickets>, Arc<Consoles>),
    exit: watch::Sender<Option<String>>,
    Past { open, ended }: Past,
) -> Local {
    let interrupted = Rc::new(Interrupted::new(open, boards.iter().map(|b| b.host().clone()).collect()));
    let (mut scopes, mut nurseries) = (Vec::new(), Vec::new());
    let peers = tree.peers.into_iter().chain(std::iter::repeat_with(|| Arc::new(Alone) as Arc<dyn Peers>));
    for (((((host, _), board), directory), peers), usage) in tree.hosts.into_iter().zip(boards).zip(directories).zip(peers).zip(usages) {
        let family = Children { scope: OnceCell::new(), restarts: restarts.clone(), nudge: OnceCell::new() };
        let nursery = Supervisor::new(family);
        let scope = Rc::new_cyclic(|me: &Weak<Scope>| {
            let (me, interrupted) = (me.clone(), interrupted.clone());
            let listed = move || {
                if let Some(scope) = me.upgrade() {
                    let interrupted = interrupted.clone();
                    actix_rt::spawn(async move { interrupted.host_listed(&scope).await });
                }
            };
            Scope {
                cell: tree.cell.clone(),
                host,
                board: board.clone(),
                directory,
                authority: tree.authority.clone(),
                journal: tree.journal.clone(),
                peers,
                local: tree.local.clone(),
                shelf: tree.shelf.clone(),
                desks: Default::default(),
                usage,
                changing: Default::default(),
                boot_seen: Default::default(),
                tickets: tickets.clone(),
                consoles: consoles.clone(),
                moves: Moves::new(limits),
                clock: tree.clock.clone(),
                keeper: Rc::new(Nursery(nursery.clone())),
                plans: RefCell::default(),
                ended: RefCell::default(),
                expected: RefCell::default(),
                catching_up: RefCell::default(),
                listed: Box::new(listed),
            }
        });
        let _ = nursery.family().scope.set(Rc::downgrade(&scope));
        let _ = nursery.family().nudge.set(nursery.nudge().clone());
        hypervisor::introduce(&scope);
        task::recall(&scope, &ended);
        scopes.push(scope);
        nurseries.push(nursery);
    }
    let names: Vec<HypervisorName> = scopes.iter().map(|s| s.host.name.clone()).collect();
    let hosts = Supervisor::new(Hosts { scopes, restarts, exit, nudge: OnceCell::new() });
    let _ = hosts.family().nudge.set(hosts.nudge().clone());
    for name in names {
        hosts.start(name);
    }
    Local { hosts, nurseries }
}

/// Carries out what other threads order, until the agent shall end.
async fn obey(local: Local, mut inbox: mpsc::Receiver<Order>, routes: Arc<Routes>) {
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Revive(host, id) => local.revive(&host, id),
            Order::ListAgain => local.list_again(),
            Order::Quit(done) => {
                shutdown::in_order(&local, &routes).await;
                let _ = done.send(());
                return;
            }
        }
    }
}

impl Agent {
    /// What carries out requests.
    pub fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        self.routes.clone()
    }

    /// Everything known of all hypervisors.
    pub fn inventory(&self) -> Arc<dyn Inventory> {
        Arc::new(Everything(self.boards.clone()))
    }

    /// Everything known of one hypervisor.
    pub fn inventory_of(&self, host: &HypervisorName) -> Option<Arc<dyn Inventory>> {
        self.boards.iter().find(|b| b.host() == host).map(|b| b.clone() as Arc<dyn Inventory>)
    }

    /// Who may open what once over HTTP.
    pub fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }

    /// Who has a screen or serial line open.
    pub fn consoles(&self) -> &Arc<Consoles> {
        &self.consoles
    }

    /// The contents of its volumes.
    pub fn transfers(&self) -> &Arc<Transfers> {
        &self.transfers
    }

    /// Lists everything again: the cell may have learned of other owners while this agent could not hear it.
    pub fn list_again(&self) {
        // Full: there is so much to do that it is asked again soon.
        let _ = self.orders.try_send(Order::ListAgain);
    }

    /// The last restarts, oldest first.
    pub fn restarts(&self) -> Vec<Restart> {
        self.restarts.last()
    }

    /// How it is.
    pub fn health(&self) -> Health {
        let mut hypervisors = Vec::new();
        for board in self.boards.iter() {
            let entities = board.entities();
            let state = board.get(&board.host().clone().into()).map_or("connecting", |e| e.state());
            let not_well = entities.iter().filter(|e| e.condition != archipel_contract::Condition::Ok).count();
            hypervisors.push(HostHealth { name: board.host().clone(), state, entities: entities.len(), not_well });
        }
        let ok = self.exit.borrow().is_none() && hypervisors.iter().all(|h| h.state == "connected" && h.not_well == 0);
        Health { ok, hypervisors, restarts: self.restarts() }
    }

    /// Waits until the agent cannot go on by itself, and answers why: the daemon shall exit and be started again.
    pub async fn failed(&self) -> String {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // The thread ended in order; there is nothing to wait for.
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends the agent in order; guests are not touched.
    pub async fn shutdown(self) {
        let (done, ended) = oneshot::channel();
        if self.orders.send(Order::Quit(done)).await.is_ok() {
            let _ = ended.await;
        }
        if let Some(arbiter) = self.arbiter {
            arbiter.stop();
        }
    }
}
