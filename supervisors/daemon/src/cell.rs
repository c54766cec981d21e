//! The exchange role: the cell's domain, its embedded XMPP server, and the doors by which one comes in.
//!
//! ```text
//!   alone:                   seat taken at the start -------------------------> left at the end
//!   one of several:          empty (standby) <--- taken in an epoch, left when another leads ---> ...
//! ```
//! Whatever outlives one term (the doors, the agent of this process, the page for administrators) holds the [`Seat`] and not the cell.

use crate::cell_store::CellStore;
use crate::config::Settings;
use archipel_contract::port::{Account, AccountKind, Accounts, Clock, Documents};
use archipel_contract::{BoxFuture, Epoch, Fault, FaultKind, HypervisorName};
use archipel_ui::{Socket, SocketAcceptor, Standby};
use archipel_xmpp::accounts;
use archipel_xmpp::client::tls::{Pinned, Trust};
use archipel_xmpp::client::{Connected, Connector, InMemory, Tcp};
use archipel_xmpp::exchange::proof::Proof;
use archipel_xmpp::exchange::settling::Settling;
use archipel_xmpp::exchange::{Exchange, ExchangeConfig};
use archipel_xmpp::membership::Membership;
use archipel_xmpp::server::{Limits, Peer, Server, ServerConfig};
use archipel_xmpp::tls::Tls;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How much one in-process stream may hold on its way, each direction.
const PIPE: usize = 64 * 1024;
/// The document in which the active exchange says where it is.
pub(crate) const ACTIVE: &str = "exchange/active";

/// The running exchange.
pub(crate) struct Cell {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) server: Arc<Server>,
    pub(crate) address: SocketAddr,
    /// SHA-256 of the certificate, as clients show it.
    pub(crate) certificate: String,
    /// As agents are told it.
    pub(crate) epoch: Epoch,
    pub(crate) proof: Arc<Proof>,
    /// Takes connections; ended and awaited, it has given the port back.
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl Cell {
    /// Gives the port back.
    pub(crate) async fn close_port(&self) {
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            serving.abort();
            // It ends by being aborted, which is no news.
            let _ = serving.await;
        }
    }
}

/// Opens the port and serves, for one term.
pub(crate) async fn start(
    settings: &Settings,
    store: &CellStore,
    clock: Arc<dyn Clock>,
    listener: TcpListener,
    epoch: Epoch,
    proof: Arc<Proof>,
) -> Result<Cell, Fault> {
    let address = listener.local_addr().map_err(|e| Fault::internal("the port was lost").because(e))?;
    let accounts = store.accounts.clone();
    let (authority, documents) = (store.authority.clone(), store.documents.clone());
    let (reached, names) = reached(settings, address);
    let mut exchanges = Vec::new();
    let reached = match settings.cluster {
        // Whoever is invited is to know all of them, and so is every agent.
        Some(_) => {
            exchanges = addresses(&*documents, &reached).await?;
            exchanges.join(",")
        }
        None => reached,
    };
    let members = Membership::open(settings.cell.clone(), documents.clone(), accounts.clone(), clock.clone(), reached).await?;
    let tls = Arc::new(Tls::of_cell(&settings.data_dir, members.clone(), &names)?);
    let mut config = ExchangeConfig::new(settings.cell.clone(), accounts.clone(), authority, documents, clock, epoch);
    config.members = Some(members);
    config.journal = Some(store.journal.clone());
    config.proof = proof.clone();
    if settings.cluster.is_some() {
        config.settling = Settling::begin(store.documents.clone());
    }
    let exchange = Exchange::new(config);
    exchange.tell_exchanges(exchanges);
    let certificate = tls.fingerprint().to_owned();
    let config = ServerConfig {
        cell: settings.cell.to_string(),
        accounts,
        tls: Some(tls),
        limits: Limits { resume_window: settings.resume, ..Limits::default() },
        features: Vec::new(),
    };
    let server = Server::new(config, exchange.clone())?;
    let serving = Mutex::new(Some(tokio::spawn(server.clone().serve_tcp(listener))));
    Ok(Cell { exchange, server, address, certificate, epoch, proof, serving })
}

/// Where agents elsewhere reach this exchange, and every name and address its certificate is to have.
fn reached(settings: &Settings, address: SocketAddr) -> (String, Vec<String>) {
    let here = crate::host::hostname();
    let listens = if address.ip().is_unspecified() { format!("{here}:{}", address.port()) } else { address.to_string() };
    let reached = settings.cluster.as_ref().and_then(|cluster| cluster.advertise.clone()).unwrap_or(listens);
    let host = reached.rsplit_once(':').map_or(&*reached, |(host, _)| host).trim_matches(['[', ']']).to_owned();
    let mut names = vec![settings.cell.to_string(), host, here];
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    names.dedup();
    (reached, names)
}

/// The document with the addresses of all exchanges of the cell.
pub(crate) const ADDRESSES: &str = "exchange/addresses";

/// What is written there.
pub(crate) async fn written_addresses(documents: &dyn Documents) -> Result<Vec<String>, Fault> {
    let found = documents.document(ADDRESSES.to_owned()).await?;
    found.map_or(Ok(Vec::new()), |found| read_addresses(&found.body))
}

fn read_addresses(body: &[u8]) -> Result<Vec<String>, Fault> {
    serde_json::from_slice(body)
        .map_err(|e| Fault::internal(format!("the document {ADDRESSES} cannot be read; another version wrote it")).because(e))
}

/// The addresses of all exchanges that ever stood by, `own` first; it is written down if it was not there.
pub(crate) async fn addresses(documents: &dyn Documents, own: &str) -> Result<Vec<String>, Fault> {
    loop {
        let found = documents.document(ADDRESSES.to_owned()).await?;
        let mut all: Vec<String> = match &found {
            Some(found) => read_addresses(&found.body)?,
            None => Vec::new(),
        };
        if let Some(at) = all.iter().position(|address| address == own) {
            all[..=at].rotate_right(1);
            return Ok(all);
        }
        all.insert(0, own.to_owned());
        let body = serde_json::to_vec(&all).map_err(|e| Fault::internal("addresses cannot be written").because(e))?;
        match documents.write_document(ADDRESSES.to_owned(), found.map(|v| v.version), Some(body)).await {
            Err(fault) if fault.kind == FaultKind::Conflict => {}
            other => return other.map(|_| all),
        }
    }
}

/// Takes the port of the cell.
pub(crate) async fn listen(settings: &Settings) -> Result<TcpListener, Fault> {
    TcpListener::bind(&settings.xmpp_listen).await.map_err(|e| {
        let message =
            format!("cannot listen on {} (xmpp.listen); free the port or set xmpp.listen to another host:port", settings.xmpp_listen);
        Fault::new(FaultKind::Unavailable, message).because(e)
    })
}

/// Where the active exchange is, for its standbys and for the agents in their processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Active {
    /// `host:port` of its XMPP port.
    pub(crate) address: String,
    /// SHA-256 of its certificate.
    pub(crate) certificate: String,
    /// Its page, if it was told how browsers reach it.
    pub(crate) page: Option<String>,
    pub(crate) epoch: Epoch,
}

impl Active {
    /// Reads where it is; `None` when there was none yet.
    pub(crate) async fn read(documents: &dyn Documents) -> Result<Option<Active>, Fault> {
        let Some(found) = documents.document(ACTIVE.to_owned()).await? else { return Ok(None) };
        let read = serde_json::from_slice(&found.body);
        read.map(Some).map_err(|e| Fault::internal(format!("the document {ACTIVE} cannot be read; another version wrote it")).because(e))
    }

    /// Writes it down, unless a later one has.
    pub(crate) async fn write(&self, documents: &dyn Documents) -> Result<(), Fault> {
        let body = serde_json::to_vec(self).map_err(|e| Fault::internal("where this exchange is cannot be written").because(e))?;
        loop {
            let found = documents.document(ACTIVE.to_owned()).await?;
            let later = found.as_ref().and_then(|v| serde_json::from_slice::<Active>(&v.body).ok()).is_some_and(|a| a.epoch > self.epoch);
            if later {
                return Ok(());
            }
            match documents.write_document(ACTIVE.to_owned(), found.map(|v| v.version), Some(body.clone())).await {
                Err(fault) if fault.kind == FaultKind::Conflict => {}
                other => return other.map(drop),
            }
        }
    }
}

/// The place of the active exchange in this process: taken or empty.
pub(crate) struct Seat {
    cell: RwLock<Option<Arc<Cell>>>,
    /// Whether others may sit elsewhere.
    shared: bool,
    /// Who was active when it was looked last, while this one is not.
    active: Mutex<Option<Active>>,
    /// Where all exchanges are, as agents are to know it.
    exchanges: Mutex<Vec<String>>,
    /// Why nobody could be asked.
    trouble: Mutex<Option<Fault>>,
    /// How often a term began here.
    terms: AtomicU64,
    runtime: Handle,
}

impl Seat {
    /// An empty one. Must be called within the runtime that serves.
    pub(crate) fn new(shared: bool) -> Arc<Seat> {
        Arc::new(Seat {
            cell: RwLock::new(None),
            shared,
            active: Mutex::new(None),
            exchanges: Mutex::default(),
            trouble: Mutex::new(None),
            terms: Default::default(),
            runtime: Handle::current(),
        })
    }

    pub(crate) fn cell(&self) -> Option<Arc<Cell>> {
        self.cell.read().clone()
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Begins a term.
    pub(crate) fn take(&self, cell: Cell) -> Arc<Cell> {
        let cell = Arc::new(cell);
        *self.cell.write() = Some(cell.clone());
        *self.active.lock() = None;
        // One may have come while this one was beginning.
        self.tell_exchanges(None);
        self.terms.fetch_add(1, Ordering::Relaxed);
        cell
    }

    /// Ends it.
    pub(crate) fn leave(&self) -> Option<Arc<Cell>> {
        self.cell.write().take()
    }

    pub(crate) fn terms(&self) -> u64 {
        self.terms.load(Ordering::Relaxed)
    }

    pub(crate) fn saw(&self, active: Option<Active>) {
        *self.active.lock() = active;
    }

    pub(crate) fn active(&self) -> Option<Active> {
        self.active.lock().clone()
    }

    /// Tells the agents where all exchanges are, if this is the active one, now or as soon as it is. `None`: as it is known.
    pub(crate) fn tell_exchanges(&self, addresses: Option<Vec<String>>) {
        let mut known = self.exchanges.lock();
        if let Some(addresses) = addresses {
            *known = addresses;
        }
        if let (Some(cell), false) = (self.cell(), known.is_empty()) {
            cell.exchange.tell_exchanges(known.clone());
        }
    }

    /// What keeps this exchange from knowing how it stands, or `None` when nothing does.
    pub(crate) fn troubled(&self, fault: Option<Fault>) {
        *self.trouble.lock() = fault;
    }

    pub(crate) fn trouble(&self) -> Option<Fault> {
        self.trouble.lock().clone()
    }

    /// How the agent of this very process reaches the exchange: through a pipe, and when the exchange is elsewhere, there.
    pub(crate) fn connectors(self: &Arc<Seat>, name: &HypervisorName, store: &CellStore) -> (Arc<dyn Connector>, Vec<Arc<dyn Connector>>) {
        let seat = self.clone();
        let peer = format!("agent {name}");
        let pipe = Arc::new(InMemory::new(move || {
            let server = seat.cell()?.server.clone();
            let (near, far) = tokio::io::duplex(PIPE);
            tokio::spawn(server.accept_stream(far, Peer::in_process(peer.clone())));
            Some(near)
        }));
        let elsewhere: Option<Arc<dyn Connector>> = self.shared.then(|| {
            let there =
                Elsewhere { seat: self.clone(), documents: store.documents.clone(), last: Mutex::default(), shunned: Mutex::default() };
            Arc::new(there) as Arc<dyn Connector>
        });
        (pipe, elsewhere.into_iter().collect())
    }
}

/// The active exchange in another process, as it says in the cell's documents where it is.
struct Elsewhere {
    seat: Arc<Seat>,
    documents: Arc<dyn Documents>,
    last: Mutex<Option<Active>>,
    /// One that hung, and since when it is avoided: it says where it is until its successor does.
    shunned: Mutex<Option<(Epoch, Instant)>>,
}

/// How long an exchange that hung is avoided.
const SHUNNED: Duration = Duration::from_secs(15);

impl Connector for Elsewhere {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, Fault>> {
        Box::pin(async move {
            if self.seat.cell().is_some() {
                return Err(Fault::unavailable("the exchange is in this process"));
            }
            let active = Active::read(&*self.documents).await?;
            let active = active.ok_or_else(|| Fault::unavailable("no exchange was active yet; it begins as soon as one leads"))?;
            if self.shunned.lock().is_some_and(|(epoch, since)| epoch == active.epoch && since.elapsed() < SHUNNED) {
                return Err(Fault::unavailable(format!("the exchange at {} does not answer, and no other leads yet", active.address)));
            }
            *self.last.lock() = Some(active.clone());
            Tcp::new(active.address, None).one_of_several().connect().await
        })
    }
    fn name(&self) -> &str {
        "the active exchange"
    }
    fn trust(&self) -> Option<Arc<dyn Trust>> {
        let active = self.last.lock().clone()?;
        Pinned::new(&active.certificate).ok().map(|pinned| Arc::new(pinned) as Arc<dyn Trust>)
    }
    fn gave_up(&self) -> bool {
        *self.shunned.lock() = self.last.lock().as_ref().map(|active| (active.epoch, Instant::now()));
        true
    }
}

/// Gives the agent's account a fresh password that nobody ever sees.
pub(crate) async fn admit(accounts: &dyn Accounts, name: &HypervisorName, password: &str) -> Result<(), Fault> {
    // Nobody guesses a password of 100 random bits, so the least rounds do.
    let account: Account = accounts::account(&format!("hv.{name}"), password, AccountKind::Node, 0)?;
    match accounts.replace(account.clone()).await {
        Err(fault) if fault.kind == FaultKind::NotFound => accounts.add(account).await,
        other => other,
    }
}

/// The door for WebSockets: brings them from the HTTP thread to the exchange's.
pub(crate) struct Door(pub(crate) Arc<Seat>);

impl SocketAcceptor for Door {
    fn accept(&self, socket: Socket) {
        let Socket { peer, incoming, outgoing } = socket;
        // Left between the question whether it stands by and now: the socket is closed by being dropped.
        let Some(cell) = self.0.cell() else { return };
        let peer = match peer {
            Some(address) => Peer::from(address),
            None => Peer { name: "unknown".into(), host: "unknown".into(), local: false, secure: false },
        };
        self.0.runtime.spawn(cell.server.clone().accept_websocket(incoming, outgoing, peer));
    }

    fn standby(&self) -> Option<Standby> {
        if self.0.cell().is_some() {
            return None;
        }
        let active = self.0.active();
        Some(Standby { page: active.as_ref().and_then(|a| a.page.clone()), address: active.map(|a| a.address) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::fake::MemoryDocuments;

    #[tokio::test]
    async fn an_exchange_names_all_that_stand_by_and_itself_first() {
        let documents = MemoryDocuments::default();
        assert_eq!(addresses(&documents, "a:1").await.unwrap(), ["a:1"]);
        assert_eq!(addresses(&documents, "b:1").await.unwrap(), ["b:1", "a:1"]);
        assert_eq!(addresses(&documents, "a:1").await.unwrap(), ["a:1", "b:1"]);
        assert_eq!(addresses(&documents, "b:1").await.unwrap(), ["b:1", "a:1"]);
    }

    #[tokio::test]
    async fn where_the_active_exchange_is_is_said_by_the_latest_term() {
        let documents = MemoryDocuments::default();
        let here = |address: &str, epoch| Active { address: address.into(), certificate: "AA".into(), page: None, epoch: Epoch(epoch) };
        assert_eq!(Active::read(&documents).await.unwrap(), None);
        for (address, epoch) in [("a:1", 1), ("b:1", 2), ("a:1", 1)] {
            here(address, epoch).write(&documents).await.unwrap();
        }
        assert_eq!(Active::read(&documents).await.unwrap(), Some(here("b:1", 2)), "a late word of an earlier term changes nothing");
    }
}
