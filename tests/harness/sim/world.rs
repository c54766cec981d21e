//! The simulated cell: hosts that exist in memory, the real agents, the real exchange and server, viewers and people.

use super::census::Census;
use super::log::Log;
use super::mortal::{Mortal, Process, Reach};
use super::viewer::{Detail, Viewer};
use super::wire::{Chance, Distance, Plug, Seat, Way, Wire};
use anyhow::{Context, Result};
use archipel_contract::{
    CellName, EntityId, Epoch, HypervisorName, Millis, Role, Timestamp,
    fake::{FakeHost, FakeLan, MemoryAccounts, MemoryAuthority, MemoryDocuments, MemoryJournal},
    host::{Host, HostChange, HostLink, HostObserver},
    port::{AccountKind, Accounts, Authority, Clock},
};
use archipel_supervisors::tree::{self, Tree};
use archipel_xmpp::{
    accounts::account,
    client::{Client, Config, Incoming, Pauses, Retry},
    exchange::{Exchange, ExchangeConfig},
    link::{Link, LinkAuthority, LinkConfig, LinkWatcher},
    server::{Limits, Server, ServerConfig},
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// The name of every simulated cell.
pub(super) const CELL: &str = "vm.localhost";
const PASSWORD: &str = "simulated";
/// What the clock shows when a scenario begins.
const BEGINNING: u64 = 1_790_000_000_000;
/// Too short for the jitter to be seen: a pause always ends at the next millisecond.
const PAUSE: Duration = Duration::from_micros(500);

/// How long each step of a transfer takes.
const STEP: Duration = Duration::from_millis(200);

/// The time of tokio's paused clock. The time of day may be set, the other never goes back.
pub(super) struct SimClock {
    began: Instant,
    set: AtomicI64,
}

impl SimClock {
    /// Somebody sets the time of day.
    pub(super) fn step(&self, by: i64) {
        self.set.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp((BEGINNING + self.monotonic().0).saturating_add_signed(self.set.load(Ordering::SeqCst)))
    }
    fn monotonic(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// What belongs to one hypervisor, whether its agent lives or not.
pub(super) struct Site {
    pub(super) fake: Arc<FakeHost>,
    pub(super) libvirt: bool,
    pub(super) agent: Option<Running>,
    journal: Arc<MemoryJournal>,
    authority: Arc<MemoryAuthority>,
    /// What the agent writes down for itself.
    pub(super) local: Arc<MemoryDocuments>,
}

/// The process of an agent.
pub(super) struct Running {
    pub(super) tree: Arc<tree::Agent>,
    pub(super) watcher: Arc<LinkWatcher>,
    pub(super) wire: Arc<Wire>,
    link: tokio::task::JoinHandle<()>,
    pub(super) process: Process,
}

/// The connection of one process to its host. The host outlives the process, and the next one connects to it again.
struct Line {
    fake: Arc<FakeHost>,
    ear: Arc<Ear>,
}

/// Whoever hears what the host reports, until the process closes the connection or dies.
#[derive(Default)]
struct Ear {
    observer: Mutex<Option<Arc<dyn HostObserver>>>,
    deaf: AtomicBool,
}

impl Ear {
    fn set(&self, observer: Option<Arc<dyn HostObserver>>) {
        *self.observer.lock().unwrap_or_else(PoisonError::into_inner) = observer;
    }
    fn deafen(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }
}

impl HostLink for Line {
    fn watch(&self, observer: Arc<dyn HostObserver>) {
        self.ear.set(Some(observer));
        if !self.ear.deaf.load(Ordering::SeqCst) {
            self.fake.watch(self.ear.clone());
        }
    }
    fn close(&self) {
        self.ear.set(None);
    }
}

impl HostObserver for Ear {
    fn observe(&self, change: HostChange) -> Result<(), HostChange> {
        let observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        observer.filter(|_| !self.deaf.load(Ordering::SeqCst)).map_or(Ok(()), |o| o.observe(change))
    }
}

/// How agents reach the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authorities {
    /// Directly, as in the process of the exchange.
    Shared,
    /// Over their links, as on other machines.
    Linked,
    /// Each has one of its own, which must not be.
    Own,
}

/// What the daemon does in every session of its link: whoever was overtaken while it was away looks again at what is there, and so does
/// whoever could not find out whose it is.
async fn overtaken(me: HypervisorName, link: Arc<LinkAuthority>, authority: Arc<MemoryAuthority>, tree: Weak<tree::Agent>) {
    let mut session = None;
    loop {
        session = Some(link.next_session(session).await);
        let Some(tree) = tree.upgrade() else { return };
        let all = tree.inventory();
        let mut stale = !all.is_complete();
        for entity in all.entities() {
            if let EntityId::Domain(id) = entity.id {
                stale |= authority.ownership(id).await.is_ok_and(|held| held.is_some_and(|held| held.owner != me));
            }
        }
        if stale {
            tree.list_again();
        }
    }
}

/// The cell with everything around it.
pub(super) struct World {
    pub(super) log: Log,
    pub(super) sites: BTreeMap<String, Site>,
    pub(super) viewers: Vec<Viewer>,
    pub(super) authorities: Authorities,
    pub(super) queue: Option<usize>,
    /// Where every machine is, at every moment.
    pub(super) census: Arc<Census>,
    cell: CellName,
    pub(super) clock: Arc<SimClock>,
    pub(super) lan: Arc<FakeLan>,
    chance: Arc<Chance>,
    seed: u64,
    /// How many milliseconds bytes are on their way at most; none in scenarios, whose logs do not depend on what comes first.
    pub(super) distance: u64,
    pub(super) authority: Arc<MemoryAuthority>,
    pub(super) documents: Arc<MemoryDocuments>,
    accounts: Arc<MemoryAccounts>,
    seat: Arc<Seat>,
    /// How often the cell was taken over, and once more.
    term: u64,
    wires: BTreeMap<String, Arc<Wire>>,
    people: BTreeMap<String, (Client, tokio::task::AbortHandle)>,
    dead: Vec<Arc<tree::Agent>>,
}

impl World {
    pub(super) async fn new(seed: u64, log: Log) -> Result<World> {
        let lan = FakeLan::new();
        lan.pace(|_| Box::pin(tokio::time::sleep(STEP)));
        let accounts = Arc::new(MemoryAccounts::default());
        for (local, kind) in [("admin", AccountKind::Person(Role::Admin)), ("guest", AccountKind::Person(Role::Viewer))] {
            accounts.add(account(local, PASSWORD, kind, 4096)?).await?;
        }
        Ok(World {
            log,
            sites: BTreeMap::new(),
            viewers: Vec::new(),
            authorities: Authorities::Shared,
            queue: None,
            census: Census::new(),
            cell: CELL.parse()?,
            clock: Arc::new(SimClock { began: Instant::now(), set: AtomicI64::new(0) }),
            lan,
            chance: Chance::new(seed),
            seed,
            distance: 0,
            authority: Arc::default(),
            documents: Arc::default(),
            accounts,
            seat: Arc::default(),
            term: 0,
            wires: BTreeMap::new(),
            people: BTreeMap::new(),
            dead: Vec::new(),
        })
    }

    /// The server with its exchange; it begins when somebody needs it first.
    fn served(&mut self) -> Result<()> {
        if self.term == 0 { self.serve() } else { Ok(()) }
    }

    /// An exchange begins a term and serves the cell. Of the one before it knows what the authority and the documents hold.
    pub(super) fn serve(&mut self) -> Result<()> {
        self.term += 1;
        let (authority, documents) = (self.authority.clone(), self.documents.clone());
        let config =
            ExchangeConfig::new(self.cell.clone(), self.accounts.clone(), authority, documents, self.clock.clone(), Epoch(self.term));
        let exchange = Exchange::new(config);
        let mut limits = Limits::default();
        if let Some(queue) = self.queue {
            limits.queue.stanzas = queue;
        }
        let config = ServerConfig { cell: CELL.into(), accounts: self.accounts.clone(), tls: None, limits, features: Vec::new() };
        self.seat.take(Some(Server::new(config, exchange)?));
        Ok(())
    }

    /// Whoever serves the cell dies without a word.
    pub(super) fn unseat(&mut self) {
        let gone = self.seat.take(None);
        let agents = self.sites.values().filter_map(|s| s.agent.as_ref()).map(|a| &a.wire);
        agents.chain(self.wires.values()).for_each(|wire| wire.snap());
        // It reaches nobody any more; what it still holds goes with it.
        drop(gone);
    }

    pub(super) fn site(&self, host: &str) -> Result<&Site> {
        self.sites.get(host).with_context(|| format!("there is no host {host}; add `host {host}` before"))
    }

    fn site_mut(&mut self, host: &str) -> Result<&mut Site> {
        self.sites.get_mut(host).with_context(|| format!("there is no host {host}; add `host {host}` before"))
    }

    pub(super) async fn host(&mut self, name: &str) -> Result<()> {
        let local = format!("hv.{name}");
        self.accounts.add(account(&local, PASSWORD, AccountKind::Node, 4096)?).await?;
        let authority = if self.authorities == Authorities::Own { Arc::default() } else { self.authority.clone() };
        let fake = FakeHost::new(name);
        self.lan.join(&fake);
        fake.witness(self.census.clone());
        let site = Site { fake, libvirt: true, agent: None, journal: Arc::default(), local: Arc::default(), authority };
        self.sites.insert(name.to_owned(), site);
        Ok(())
    }

    /// Begins the process of an agent: a higher incarnation each time.
    pub(super) async fn begin(&mut self, host: &str) -> Result<()> {
        let wire = self.new_wire()?;
        let (cell, clock, own) = (self.cell.clone(), self.clock.clone(), self.authorities != Authorities::Linked);
        let site = self.site_mut(host)?;
        anyhow::ensure!(site.agent.is_none(), "the agent of {host} lives already");
        let incarnation = site.authority.incarnation().await?;
        let process = Process::begin();
        let me: HypervisorName = host.parse()?;
        let mut config = LinkConfig::new(cell.clone(), me.clone(), PASSWORD, Arc::new(Plug(wire.clone())), clock.clone());
        config.pauses = Pauses::new(PAUSE, PAUSE);
        config.version = "simulated".into();
        let (announcer, link) = Link::new(config);
        let watcher = link.watcher();
        let ear = Arc::new(Ear::default());
        let ports = Host { link: Arc::new(Line { fake: site.fake.clone(), ear: ear.clone() }), ..site.fake.host() };
        let tree = Tree {
            cell,
            hosts: vec![(ports, announcer)],
            authority: Arc::new(Reach {
                recorded: site.authority.clone(),
                cell: if own { site.authority.clone() } else { link.authority() },
                me: me.clone(),
                process: process.clone(),
            }),
            journal: Arc::new(Mortal { inner: site.journal.clone(), process: process.clone() }),
            peers: vec![link.peers()],
            local: Arc::new(Mortal { inner: site.local.clone(), process: process.clone() }),
            shelf: link.authority(),
            clock,
            incarnation,
        };
        // On this very thread, whose clock is the paused one.
        let tree = Arc::new(tree::start_on(tree, actix::Arbiter::current(), false).await?);
        tokio::spawn(overtaken(me, link.authority(), site.authority.clone(), Arc::downgrade(&tree)));
        let link = tokio::spawn(link.run(tree.dispatcher(), tree.inventory(), incarnation));
        let (cut, speaks) = (wire.clone(), link.abort_handle());
        process.ends_with(move || {
            ear.deafen();
            cut.set(Way::Cut);
            speaks.abort();
        });
        site.agent = Some(Running { tree, watcher, wire, link, process });
        Ok(())
    }

    /// Ends the process of an agent without a word to anybody.
    pub(super) fn kill(&mut self, host: &str) -> Result<()> {
        let agent = self.site_mut(host)?.agent.take().with_context(|| format!("the agent of {host} does not live"))?;
        agent.process.die();
        // What is left of it hears nothing and reaches nobody any more. An end in order would say something to somebody.
        self.dead.push(agent.tree);
        Ok(())
    }

    /// Whether the agent of that host has a process that lives.
    pub(super) fn lives(&self, host: &str) -> bool {
        self.sites.get(host).and_then(|s| s.agent.as_ref()).is_some_and(|a| a.process.lives())
    }

    /// The actors of dead processes end as well. Nobody hears that, but an operator may be told that they took their time.
    pub(super) fn bury(&mut self) {
        self.dead.drain(..).filter_map(Arc::into_inner).for_each(|tree| drop(tokio::spawn(tree.shutdown())));
    }

    fn new_wire(&mut self) -> Result<Arc<Wire>> {
        self.served()?;
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let distance = Distance { salt: self.seed, most: self.distance, began: self.clock.began };
        Ok(Wire::to(&self.seat, self.chance.clone(), (self.distance > 0).then_some(distance)))
    }

    /// The wire of an agent, a viewer or a person.
    pub(super) fn wire(&self, name: &str) -> Result<Arc<Wire>> {
        if let Some(site) = self.sites.get(name) {
            return Ok(site.agent.as_ref().with_context(|| format!("the agent of {name} does not live"))?.wire.clone());
        }
        self.wires.get(name).cloned().with_context(|| format!("nobody called {name} has a link"))
    }

    async fn connect(&mut self, account: &str, name: &str) -> Result<(Client, Incoming)> {
        let wire = self.new_wire()?;
        self.wires.insert(name.to_owned(), wire.clone());
        let retry = Retry::Forever(Pauses::new(PAUSE, PAUSE));
        let config = Config { retry, ..Config::lasting(account, CELL, PASSWORD, Arc::new(Plug(wire))) };
        Ok(Client::connect(config).await?)
    }

    pub(super) async fn viewer(&mut self, name: &str, detail: Detail) -> Result<()> {
        let (client, incoming) = self.connect("guest", name).await?;
        self.viewers.push(Viewer::follow(name, client.follow(incoming, CELL), detail, self.log.clone()));
        Ok(())
    }

    /// The client of `ACCOUNT` or `ACCOUNT/DEVICE`, logged in when it is needed first.
    pub(super) async fn person(&mut self, who: &str) -> Result<Client> {
        if let Some((client, _)) = self.people.get(who) {
            return Ok(client.clone());
        }
        let account = who.split('/').next().unwrap_or(who).to_owned();
        let (client, mut incoming) = self.connect(&account, who).await?;
        let drain = tokio::spawn(async move { while incoming.recv().await.is_some() {} });
        self.people.insert(who.to_owned(), (client.clone(), drain.abort_handle()));
        Ok(client)
    }

    /// Whether everybody who could be linked to the cell is.
    pub(super) fn linked(&self) -> bool {
        let agents = self.sites.values().filter_map(|s| s.agent.as_ref());
        agents.filter(|a| a.wire.way() == Way::Open).all(|a| a.watcher.health().is_well())
    }

    pub(super) async fn end(mut self) {
        for agent in std::mem::take(&mut self.sites).into_values().filter_map(|s| s.agent) {
            agent.link.abort();
            if let Some(tree) = Arc::into_inner(agent.tree) {
                tree.shutdown().await;
            }
        }
        self.people.values().for_each(|(_, drain)| drain.abort());
        if let Some(server) = self.seat.take(None) {
            server.shutdown().await;
        }
    }
}
