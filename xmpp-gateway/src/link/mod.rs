//! The agent's side of the node link: it tells the exchange what is on this host, and carries out what the exchange asks.
//!
//! ```text
//!            online, new session               queue was full
//!   offline ---------------------> asserting <----------------+
//!      ^ ^                           |  hello                 |
//!      | |                           |  announce what waited   |
//!      | |                           |  assert, assert ...     |
//!      | |                           |  asserted               |
//!      | |                           v                         |
//!      | +---------- cut --------- live: announce as it comes -+
//!      |                             |
//!      +-- cut; resumed: live again, nothing asserted, nothing lost
//! ```
//! What waited is announced *before* the inventory is read, so that viewers learn of it in order and the assertion that follows
//! is at least as new. An agent whose libvirt has not answered yet says what it has and leaves out that this is all; it asserts again
//! when everything is listed. Requests are carried out concurrently with all of this, at most [`LinkConfig::in_flight`] at a time.

mod answer;
mod authorities;
mod authority;
mod carriage;
mod fence;
mod figures;
mod health;
mod pages;
mod peers;
mod queue;
mod renewal;

pub use authorities::LinkAuthorities;
pub use authority::LinkAuthority;
pub use carriage::{Known, Porter};
pub use fence::Fence;
pub use health::LinkHealth;
pub use peers::LinkPeers;
pub use queue::LinkAnnouncer;

use crate::client::tls::Shows;
use crate::client::{Client, Config, Connector, Happening, Pauses, Retry, State, Vigil};
use crate::ns;
use crate::stanza::{self, IqKind, node};
use crate::stream::Bounds;
use answer::answer;
use archipel_contract::{
    CellName, Epoch, Fault, FaultKind, HypervisorName,
    port::{Clock, Dispatcher, Inventory},
    usage::Figures,
};
use carriage::Carriages;
use health::Board;
use minidom::Element;
use pages::{batches, pages};
use peers::Lent;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// How long the exchange may take to answer one step of an assertion.
const STEP_DEADLINE: Duration = Duration::from_secs(60);
/// How many events go into one message at most; [`node::PAGE_BYTES`] usually ends it earlier.
const EVENTS: usize = 200;

/// What a link needs to know.
pub struct LinkConfig {
    /// The cell.
    pub cell: CellName,
    /// The hypervisor this is the agent of; it logs in as `hv.<name>`.
    pub host: HypervisorName,
    /// The password of that account.
    pub password: String,
    /// How the exchange is reached.
    pub connector: Arc<dyn Connector>,
    /// The addresses of its standbys, tried in turn.
    pub others: Vec<Arc<dyn Connector>>,
    /// Where the exchange's word is put down of where all exchanges of the cell are.
    pub exchanges: watch::Sender<Vec<String>>,
    /// More addresses to be tried, as they become known.
    pub learned: watch::Receiver<Vec<Arc<dyn Connector>>>,
    /// When an exchange that says nothing is given up.
    pub vigil: Vigil,
    /// Which exchanges are not obeyed any more.
    pub fence: Arc<Fence>,
    /// The version of this program, for people.
    pub version: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How many events may wait while the exchange is away or slow.
    pub queue: usize,
    /// How many requests are carried out at a time; more are answered `busy`.
    pub in_flight: usize,
    /// How long to rest between attempts to connect.
    pub pauses: Pauses,
}

impl LinkConfig {
    /// With the usual bounds: 65,536 events, 256 requests, pauses of 0.25 to 30 s.
    pub fn new(
        cell: CellName,
        host: HypervisorName,
        password: impl Into<String>,
        connector: Arc<dyn Connector>,
        clock: Arc<dyn Clock>,
    ) -> LinkConfig {
        LinkConfig {
            cell,
            host,
            password: password.into(),
            connector,
            others: Vec::new(),
            exchanges: watch::Sender::new(Vec::new()),
            learned: watch::Sender::new(Vec::new()).subscribe(),
            vigil: Vigil::PATIENT,
            fence: Fence::forgetful(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock,
            queue: 65_536,
            in_flight: 256,
            pauses: Pauses::new(Duration::from_millis(250), Duration::from_secs(30)),
        }
    }

    /// The same for an exchange with standbys: an exchange that hangs is given up soon, and attempts stay frequent, because one of
    /// these addresses is about to serve.
    #[must_use]
    pub fn with_others(self, others: Vec<Arc<dyn Connector>>) -> LinkConfig {
        let pauses = Pauses::new(Duration::from_millis(250), Duration::from_millis(500));
        LinkConfig { others, vigil: Vigil::QUICK, pauses, ..self }
    }
}

/// The link, before it runs.
pub struct Link {
    config: LinkConfig,
    announcer: Arc<LinkAnnouncer>,
    watcher: Arc<LinkWatcher>,
    peers: Arc<LinkPeers>,
    authority: Arc<LinkAuthority>,
    figures: Option<Arc<dyn Figures>>,
    porter: Option<Arc<dyn Porter>>,
}

/// Answers how the link stands, from anywhere.
pub struct LinkWatcher {
    board: Board,
    announcer: Arc<LinkAnnouncer>,
}

impl LinkWatcher {
    /// How it stands now.
    pub fn health(&self) -> LinkHealth {
        LinkHealth { queued: self.announcer.len(), dropped: self.announcer.dropped(), ..self.board.read() }
    }
}

/// One session with the exchange, as the uploading side sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Session(u64);

impl Link {
    /// A link, and the mouth the actors announce through from now on.
    pub fn new(config: LinkConfig) -> (Arc<LinkAnnouncer>, Link) {
        let announcer = Arc::new(LinkAnnouncer::new(config.queue));
        let watcher = Arc::new(LinkWatcher { board: Board::default(), announcer: announcer.clone() });
        let peers = Arc::new(LinkPeers::new(config.cell.clone()));
        let authority = Arc::new(LinkAuthority::new(config.cell.clone()));
        (announcer.clone(), Link { config, announcer, watcher, peers, authority, figures: None, porter: None })
    }

    /// What its machines take can be looked at through it.
    #[must_use]
    pub fn showing(self, figures: Arc<dyn Figures>) -> Link {
        Link { figures: Some(figures), ..self }
    }

    /// Answers how the link stands, from anywhere and at any time.
    pub fn watcher(&self) -> Arc<LinkWatcher> {
        self.watcher.clone()
    }

    /// The other agents of the cell.
    pub fn peers(&self) -> Arc<LinkPeers> {
        self.peers.clone()
    }

    /// The cell's authority and documents.
    pub fn authority(&self) -> Arc<LinkAuthority> {
        self.authority.clone()
    }

    /// The same with somebody who opens what tickets of this host are for, so that the exchange can pass requests for it on.
    #[must_use]
    pub fn with_porter(self, porter: Arc<dyn Porter>) -> Link {
        Link { porter: Some(porter), ..self }
    }

    /// Runs for ever: connects, asserts, announces, and lets `dispatcher` carry out what is asked.
    pub async fn run(self, dispatcher: Arc<dyn Dispatcher>, inventory: Arc<dyn Inventory>, incarnation: u64) {
        let Link { config, announcer, watcher, peers, authority, figures, porter } = self;
        let carriages = Carriages::new(&config, porter);
        let instance = instance();
        let (client, mut incoming) = Client::start(Config {
            user: format!("hv.{}", config.host),
            domain: config.cell.as_str().to_owned(),
            password: config.password.clone(),
            // Two hosts with one identity must not throw each other out before anybody has noticed that they are two.
            resource: Some(format!("{}.{instance}", config.host)),
            connector: config.connector.clone(),
            others: config.others.clone(),
            learned: Some(config.learned.clone()),
            managed: true,
            vigil: config.vigil,
            retry: Retry::Forever(config.pauses.clone()),
            bounds: Bounds::NODE,
            // Every request that is under way, and as many again to be refused politely.
            queue: config.in_flight.saturating_mul(2),
            // Messages may be large; what waits, waits as events in the announcer, where it is bounded.
            outgoing: 16,
        });
        let _lent = Lent::to(&peers, &authority, &client);
        let (tell, session) = watch::channel(None);
        let uploader = Uploader {
            config: &config,
            client: client.clone(),
            announcer,
            watcher: &watcher,
            authority: &authority,
            inventory,
            incarnation,
            instance,
            renewal: watch::Sender::new(None),
            session,
        };
        let due = uploader.renewal.subscribe();
        let renewing = async {
            match config.connector.shows() {
                Shows::Certificate(identity) => renewal::keep(client.clone(), config.cell.clone(), identity, due).await,
                Shows::Nothing | Shows::Membership => {}
            }
            std::future::pending::<()>().await
        };
        let room = Arc::new(Semaphore::new(config.in_flight));
        let ahead = uploader.announcer.clone();
        let wanted = watch::Sender::new(figures::Wanted::default());
        let showing = figures::tell(&config, client.clone(), figures, wanted.subscribe());
        let listen = async {
            let mut number = 0;
            let mut last = None;
            while let Some(happening) = incoming.recv().await {
                match happening {
                    Happening::Online { resumed, jid } => {
                        tracing::info!(jid, resumed, exchange = config.connector.name(), "linked to the exchange");
                        last = None;
                        watcher.board.online(config.clock.now(), resumed);
                        if !resumed {
                            number += 1;
                            // It says so again if somebody looks.
                            figures::Wanted::say(&wanted, false);
                            tell.send_replace(Some(Session(number)));
                        }
                    }
                    Happening::Offline(fault) => {
                        // The same reason again and again is told once at this level.
                        if last.as_ref() != Some(&fault) {
                            tracing::warn!(exchange = config.connector.name(), kind = fault.kind.name(), %fault, "no link to the exchange; trying again");
                        }
                        last = Some(fault.clone());
                        watcher.board.offline(config.clock.now(), fault);
                    }
                    Happening::Stanza(stanza) if stanza.name() == "message" => {
                        let trusted = stanza.attr("from") == Some(config.cell.as_str());
                        if let Some(warnings) = node::warned(&stanza).filter(|_| trusted) {
                            watcher.board.warned(warnings);
                        }
                        if let Some(on) = node::watched(&stanza).filter(|_| trusted) {
                            figures::Wanted::say(&wanted, on);
                        }
                        if let Some(addresses) = node::exchanges_of(&stanza).filter(|_| trusted) {
                            config.exchanges.send_if_modified(|known| std::mem::replace(known, addresses.clone()) != addresses);
                        }
                    }
                    Happening::Stanza(stanza) => answer(stanza, &config, &client, &dispatcher, &carriages, &room, &ahead),
                }
            }
        };
        tokio::select! {
            () = listen => {}
            () = uploader.run() => {}
            () = renewing => {}
            () = showing => {}
        }
    }
}

/// What tells this start of this agent from every other: random, and the time if the system has no random numbers.
fn instance() -> String {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
        Err(_) => uuid::Uuid::now_v7().simple().to_string(),
    }
}

struct Uploader<'a> {
    config: &'a LinkConfig,
    client: Client,
    announcer: Arc<LinkAnnouncer>,
    watcher: &'a LinkWatcher,
    authority: &'a LinkAuthority,
    inventory: Arc<dyn Inventory>,
    incarnation: u64,
    instance: String,
    /// When the next certificate is to be asked for.
    renewal: watch::Sender<Option<Instant>>,
    session: watch::Receiver<Option<Session>>,
}

impl Uploader<'_> {
    /// Ends when the client does.
    async fn run(mut self) {
        let mut pauses = self.config.pauses.clone();
        loop {
            let Ok(current) = self.session.wait_for(Option::is_some).await.map(|s| *s) else { return };
            let mut session = self.session.clone();
            session.mark_unchanged();
            let changed = async {
                // A session that began between the two reads counts as a change as well.
                let _ = session.wait_for(|now| *now != current).await;
            };
            let fault = tokio::select! {
                fault = self.serve() => Some(fault),
                () = changed => None,
            };
            let Some(fault) = fault else {
                pauses.reset();
                continue;
            };
            if fault.kind != FaultKind::Unavailable {
                tracing::warn!(kind = fault.kind.name(), %fault, "the exchange does not take what this host has; trying again");
                self.watcher.board.error(self.config.clock.now(), fault);
            }
            let mut session = self.session.clone();
            tokio::select! {
                () = tokio::time::sleep(pauses.next_pause()) => {}
                _ = session.wait_for(|now| *now != current) => pauses.reset(),
            }
        }
    }

    /// One session: assert, then announce for ever. Answers why it cannot go on.
    async fn serve(&self) -> Fault {
        loop {
            let session = match self.assert().await {
                Ok(session) => session,
                Err(fault) => return fault,
            };
            loop {
                self.announcer.ready().await;
                match self.announce(EVENTS, session).await {
                    // The host was listed meanwhile: now it can be said what is gone.
                    Ok(Some(_)) if !self.watcher.board.read().asserted && self.inventory.is_complete() => break,
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(fault) => return fault,
                }
            }
        }
    }

    /// Waits until the stream is up. What is told while it is down would only wait in two places instead of one.
    async fn online(&self) -> Result<(), Fault> {
        let mut state = self.client.state();
        let up = state.wait_for(|s| matches!(s, State::Online(_))).await;
        up.map(|_| ()).map_err(|_| Fault::unavailable("the link was closed"))
    }

    async fn step(&self, payload: Element) -> Result<Option<Element>, Fault> {
        self.client.request(IqKind::Set, Some(self.config.cell.as_str()), payload, STEP_DEADLINE).await
    }

    /// Says everything, and answers in which session.
    async fn assert(&self) -> Result<u64, Fault> {
        self.watcher.board.asserted(false);
        self.online().await?;
        let session = self.client.session();
        let entities = self.inventory.entities().len();
        let hello = node::Hello {
            version: self.config.version.clone(),
            host: self.config.host.clone(),
            incarnation: self.incarnation,
            entities,
            instance: Some(self.instance.clone()),
            now: Some(self.config.clock.now()),
        };
        let answer = self.step(node::Ask::Hello(hello).print()).await?;
        let welcome = node::welcomed(&answer.ok_or_else(|| Fault::internal("the exchange answered hello with nothing"))?)?;
        if let Err(fault) = self.config.fence.admit(Epoch(welcome.exchange_epoch)).await {
            self.client.leave(fault.clone()).await;
            return Err(fault);
        }
        self.authority.greeted(session);
        self.watcher.board.warned(welcome.warnings);
        let told = welcome.exchanges;
        self.config.exchanges.send_if_modified(|known| !told.is_empty() && std::mem::replace(known, told.clone()) != told);
        self.renewal.send_replace(welcome.renew_after.map(|wait| Instant::now() + wait.duration()));
        // What waited is told first; what comes from here on waits until after the assertion.
        let mut waiting = self.announcer.len();
        while waiting > 0 {
            match self.announce(waiting.min(EVENTS), session).await? {
                Some(told) if told > 0 => waiting = waiting.saturating_sub(told),
                _ => break,
            }
        }
        self.announcer.forgive();
        // Asked before the entities are read, so that nothing listed in between is taken for gone.
        let complete = self.inventory.is_complete();
        let all = self.inventory.entities();
        let count = all.len();
        for page in pages(all) {
            conflicts_are_news(self.step(node::assert_json(&page)).await)?;
        }
        if !complete {
            // libvirt has not answered since this agent began. What an earlier one spoke for stays unknown.
            tracing::info!(entities = count, "the exchange knows this host as far as it is listed");
            return Ok(session);
        }
        conflicts_are_news(self.step(node::Ask::Asserted.print()).await)?;
        self.watcher.board.asserted(true);
        tracing::info!(entities = count, exchange_epoch = welcome.exchange_epoch, "the exchange knows this host");
        Ok(session)
    }

    /// Tells up to `most` of what waits and answers how many that were. `None`: events were dropped, assert again.
    ///
    /// In a session other than the one that was asserted in nothing is taken: the exchange hears no events before a hello.
    async fn announce(&self, most: usize, session: u64) -> Result<Option<usize>, Fault> {
        self.online().await?;
        if self.client.session() != session {
            return Err(Fault::unavailable("another session began; it is asserted first"));
        }
        let Some(events) = self.announcer.take(most) else { return Ok(None) };
        let told = events.len();
        for batch in batches(events) {
            let mut message = Element::bare("message", ns::CLIENT);
            message.append_child(node::announce_json(&batch));
            self.client.send(&stanza::addressed(message, self.config.cell.as_str())).await?;
        }
        self.announcer.passed(told);
        Ok(Some(told))
    }
}

/// An entity somebody else holds is refused without harm to the others; it is this host's operators who must know.
fn conflicts_are_news(result: Result<Option<Element>, Fault>) -> Result<(), Fault> {
    match result {
        Ok(_) => Ok(()),
        Err(fault) if fault.kind == FaultKind::Conflict => {
            tracing::error!(%fault, "the exchange refused some of this host's entities");
            Ok(())
        }
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests;
