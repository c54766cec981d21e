//! A cell in one process: agent and exchange joined by a link in memory, served on a free TCP port. It is what the daemon
//! makes from its configuration, without configuration, HTTP and signals.

use anyhow::{Context, Result};
use archipel_contract::{
    CellName, Millis, Role, Timestamp,
    host::Host,
    port::{AccountKind, Accounts, Authority, Clock, Journal},
};
use archipel_store::Store;
use archipel_supervisors::tree::{self, Tree};
use archipel_xmpp::{
    accounts::account,
    client::{Client, Config, Feed, InMemory, Incoming, Tcp},
    exchange::{Exchange, ExchangeConfig},
    link::{Link, LinkConfig},
    server::{Limits, Peer, Server, ServerConfig},
};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The name of every cell made here.
pub const CELL: &str = "vm.localhost";
/// The password of every account made here.
pub const PASSWORD: &str = "harness";

/// The real time.
pub struct WallClock(Instant);

impl Default for WallClock {
    fn default() -> Self {
        WallClock(Instant::now())
    }
}

impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that owns the time of these tests")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_millis() as u64)
    }
    fn monotonic(&self) -> Millis {
        Millis(self.0.elapsed().as_millis() as u64)
    }
}

/// A running cell. It ends with the value.
pub struct Cell {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The cell itself.
    pub exchange: Arc<Exchange>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Cell {
    /// Starts a cell with these hosts; what must survive is kept in `data_dir`. Accounts: `admin` and `viewer`.
    pub fn start(data_dir: &Path, hosts: Vec<Host>) -> Result<Cell> {
        let data_dir = data_dir.to_owned();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("cell".into()).spawn(move || {
            actix::System::new().block_on(async move {
                match serve(&data_dir, hosts).await {
                    Ok((address, exchange, agent, server)) => {
                        let _ = ready.send(Ok((address, exchange)));
                        let _ = stopped.await;
                        server.shutdown().await;
                        agent.shutdown().await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        let (address, exchange) = started.recv_timeout(Duration::from_secs(60)).context("the cell did not start")??;
        Ok(Cell { address, exchange, stop: Some(stop), thread: Some(thread) })
    }

    /// A client logged in as this account.
    pub async fn client(&self, account: &str) -> Result<(Client, Incoming)> {
        let tcp = Arc::new(Tcp::new(self.address.to_string(), None));
        Ok(Client::connect(Config::once(account, CELL, PASSWORD, tcp)).await?)
    }

    /// The feed, followed by the administrator.
    pub async fn feed(&self) -> Result<Feed> {
        let (client, incoming) = self.client("admin").await?;
        Ok(client.follow(incoming, CELL))
    }

    /// Waits until at least that many entities are known.
    pub async fn holds(&self, entities: usize, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        while self.exchange.health().entities < entities {
            anyhow::ensure!(Instant::now() < end, "only {} of {entities} entities after {deadline:?}", self.exchange.health().entities);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(data_dir: &Path, hosts: Vec<Host>) -> Result<(SocketAddr, Arc<Exchange>, tree::Agent, Arc<Server>)> {
    let cell: CellName = CELL.parse()?;
    let store = Arc::new(Store::open(data_dir)?);
    let clock: Arc<dyn Clock> = Arc::new(WallClock::default());
    let accounts: Arc<dyn Accounts> = store.clone();
    for (local, kind) in [("admin", AccountKind::Person(Role::Admin)), ("viewer", AccountKind::Person(Role::Viewer))] {
        accounts.add(account(local, PASSWORD, kind, 4096)?).await?;
    }
    let incarnation = store.incarnation().await?;
    let lease = store.lead("exchange".into(), "harness".into(), Millis::seconds(3600), clock.now()).await?;
    let exchange =
        Exchange::new(ExchangeConfig::new(cell.clone(), accounts.clone(), store.clone(), store.clone(), clock.clone(), lease.epoch));
    let config = ServerConfig { cell: CELL.into(), accounts: accounts.clone(), tls: None, limits: Limits::default(), features: Vec::new() };
    let server = Server::new(config, exchange.clone())?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(server.clone().serve_tcp(listener));

    let mut links = Vec::new();
    let mut with_announcers: Vec<(Host, Arc<dyn archipel_contract::port::Announcer>)> = Vec::new();
    for host in hosts {
        accounts.add(account(&format!("hv.{}", host.name), PASSWORD, AccountKind::Node, 4096)?).await?;
        let near = server.clone();
        let connector = InMemory::new(move || {
            let (ours, theirs) = tokio::io::duplex(256 * 1024);
            tokio::spawn(near.clone().accept_stream(theirs, Peer::in_process("agent")));
            Some(ours)
        });
        let config = LinkConfig::new(cell.clone(), host.name.clone(), PASSWORD, Arc::new(connector), clock.clone());
        let (announcer, link) = Link::new(config);
        links.push((host.name.clone(), link));
        with_announcers.push((host, announcer));
    }
    let journal: Arc<dyn Journal> = store.clone();
    let authority: Arc<dyn Authority> = store.clone();
    let peers = links.iter().map(|(_, link)| link.peers() as Arc<dyn archipel_contract::port::Peers>).collect();
    let (local, shelf) = (store.clone(), store.clone());
    let agent = tree::start(Tree { cell, hosts: with_announcers, authority, journal, peers, local, shelf, clock, incarnation }).await?;
    for (name, link) in links {
        let inventory = agent.inventory_of(&name).context("the agent does not know its own host")?;
        tokio::spawn(link.run(agent.dispatcher(), inventory, incarnation));
    }
    Ok((address, exchange, agent, server))
}
