//! The exchange role: the cell's domain, its embedded XMPP server, and the doors by which one comes in.

use crate::config::Settings;
use archipel_contract::port::{Account, AccountKind, Accounts, Authority, Clock};
use archipel_contract::{Epoch, Fault, FaultKind, HypervisorName, Millis};
use archipel_store::Store;
use archipel_ui::{Socket, SocketAcceptor};
use archipel_xmpp::accounts;
use archipel_xmpp::client::{Connector, InMemory};
use archipel_xmpp::exchange::{Exchange, ExchangeConfig};
use archipel_xmpp::server::{Limits, Peer, Server, ServerConfig};
use archipel_xmpp::tls::Tls;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// How much one in-process stream may hold on its way, each direction.
const PIPE: usize = 64 * 1024;

/// The running exchange.
pub(crate) struct Cell {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) server: Arc<Server>,
    pub(crate) address: SocketAddr,
    /// SHA-256 of the certificate, as clients show it.
    pub(crate) certificate: String,
    pub(crate) epoch: Epoch,
}

/// Takes the leadership of the cell, opens the port and serves.
pub(crate) async fn start(settings: &Settings, store: &Store, clock: Arc<dyn Clock>, holder: String) -> Result<Cell, Fault> {
    let listener = TcpListener::bind(&settings.xmpp_listen).await.and_then(|l| Ok((l.local_addr()?, l)));
    let (address, listener) = listener.map_err(|e| {
        let message =
            format!("cannot listen on {} (xmpp.listen); free the port or set xmpp.listen to another host:port", settings.xmpp_listen);
        Fault::new(FaultKind::Unavailable, message).because(e)
    })?;
    // The lock on data_dir is what keeps a second exchange of this data away, so the lease need not outlive this call and nobody
    // has to renew it. Every start gets an epoch of its own, because every start is another holder.
    let leadership = store.lead("exchange".to_owned(), holder, Millis(0), clock.now()).await?;
    let tls = Arc::new(Tls::load_or_create(&settings.data_dir, settings.cell.as_str())?);
    let accounts: Arc<dyn Accounts> = Arc::new(store.clone());
    let (authority, documents) = (Arc::new(store.clone()), Arc::new(store.clone()));
    let config = ExchangeConfig::new(settings.cell.clone(), accounts.clone(), authority, documents, clock, leadership.epoch);
    let exchange = Exchange::new(config);
    let certificate = tls.fingerprint().to_owned();
    let config = ServerConfig {
        cell: settings.cell.to_string(),
        accounts,
        tls: Some(tls),
        limits: Limits { resume_window: settings.resume, ..Limits::default() },
        features: Vec::new(),
    };
    let server = Server::new(config, exchange.clone())?;
    tokio::spawn(server.clone().serve_tcp(listener));
    Ok(Cell { exchange, server, address, certificate, epoch: leadership.epoch })
}

impl Cell {
    /// How the agent of this very process reaches the exchange: through a pipe.
    pub(crate) fn connector(&self, name: &HypervisorName) -> Arc<dyn Connector> {
        let server: Weak<Server> = Arc::downgrade(&self.server);
        let peer = format!("agent {name}");
        Arc::new(InMemory::new(move || {
            let server = server.upgrade()?;
            let (near, far) = tokio::io::duplex(PIPE);
            tokio::spawn(server.accept_stream(far, Peer::in_process(peer.clone())));
            Some(near)
        }))
    }

    /// The door for WebSockets.
    pub(crate) fn door(&self) -> Arc<dyn SocketAcceptor> {
        Arc::new(Door { server: self.server.clone(), runtime: Handle::current() })
    }
}

/// Gives the agent's account a fresh password that nobody ever sees, and answers it.
pub(crate) async fn admit(store: &Store, name: &HypervisorName) -> Result<String, Fault> {
    let password = crate::account::random_password()?;
    // Nobody guesses a password of 100 random bits, so the least rounds do.
    let account: Account = accounts::account(&format!("hv.{name}"), &password, AccountKind::Node, 0)?;
    match store.replace(account.clone()).await {
        Err(fault) if fault.kind == FaultKind::NotFound => store.add(account).await?,
        other => other?,
    }
    Ok(password)
}

/// Brings WebSockets from the HTTP thread to the exchange's.
struct Door {
    server: Arc<Server>,
    runtime: Handle,
}

impl SocketAcceptor for Door {
    fn accept(&self, socket: Socket) {
        let Socket { peer, incoming, outgoing } = socket;
        let peer = match peer {
            Some(address) => Peer::from(address),
            None => Peer { name: "unknown".into(), host: "unknown".into(), local: false, secure: false },
        };
        self.runtime.spawn(self.server.clone().accept_websocket(incoming, outgoing, peer));
    }
}
