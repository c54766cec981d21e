//! The embedded XMPP server: streams of people and of agents, up to the bound resource. What stanzas mean is the handler's.
//!
//! ```text
//!   TCP --+                                       +-- bind ----> new session --+
//!   pipe -+--> [negotiate: TLS, SASL] --> logged in                            +--> [live] --> closed
//!   WS ---+      in the lobby, on the clock       +-- resume --> old session --+      |
//!                                                                     ^               v connection broke
//!                                                                     +-------- suspended (guarded) --> closed
//! ```
//! An agent may ask for a carriage instead of binding: then the connection is handed over as it is, and no session begins.
//! One task per connection; the server itself has none. A session's state outlives its connections in [`session::Session`].

mod config;
#[cfg(test)]
pub(crate) mod for_tests;
pub mod handler;
mod join;
mod live;
mod lobby;
mod metrics;
mod negotiate;
mod opening;
mod rate;
mod registry;
pub mod session;

pub use config::{Limits, Peer, Rate, ServerConfig};
pub use handler::{Berth, SessionHandler, Stanza, StreamCondition};
pub use session::{Phase, QueueBounds, QueueFull, Session, Transport};

use crate::sasl::server::Gate;
use crate::stream::wire::{self, BoxedIo, Io, Reader, Writer};
use archipel_contract::Fault;
use lobby::Lobby;
use metrics::METRICS;
use negotiate::Negotiation;
use registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// The embedded server.
pub struct Server {
    config: ServerConfig,
    handler: Arc<dyn SessionHandler>,
    gate: Arc<Gate>,
    registry: Registry,
    lobby: Arc<Lobby>,
    /// True once the server stops. Every connection watches it, and shutdown waits until none of them is left.
    stopping: watch::Sender<bool>,
}

impl Server {
    /// A server that waits for connections to be handed to it. Fails only when the system gives no random numbers.
    pub fn new(config: ServerConfig, handler: Arc<dyn SessionHandler>) -> Result<Arc<Server>, Fault> {
        let secret = match &config.tls {
            Some(tls) => tls.secret().to_vec(),
            None => {
                let mut fresh = vec![0; 32];
                getrandom::fill(&mut fresh).map_err(|e| Fault::internal("the system gives no random numbers").because(e))?;
                fresh
            }
        };
        let gate = Gate::new(config.accounts.clone(), config.cell.clone(), config.limits.throttle, secret);
        Ok(Arc::new(Server {
            config,
            handler,
            gate: Arc::new(gate),
            registry: Registry::default(),
            lobby: Arc::default(),
            stopping: watch::Sender::new(false),
        }))
    }

    /// Accepts connections until shutdown.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut stopping = self.stopping.subscribe();
        loop {
            let accepted = tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    // Small stanzas must not wait for each other; without this a request takes 40 ms.
                    if let Err(error) = socket.set_nodelay(true) {
                        tracing::debug!(%error, %address, "the connection ended before it began");
                        continue;
                    }
                    self.spawn(Box::new(socket), Peer::from(address), Transport::Tcp);
                }
                Err(error) => {
                    // Usually no file descriptor is left; accepting again at once would only burn the processor.
                    tracing::error!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Serves one stream over anything bytes go through: the agent in the same process comes this way. Answers when it ended.
    pub async fn accept_stream(self: Arc<Self>, io: impl Io + 'static, peer: Peer) {
        self.bytes(Box::new(io), peer, Transport::Memory).await;
    }

    /// Serves one WebSocket (RFC 7395): each text is one frame. Answers when the stream ended; the socket is then to be closed.
    pub async fn accept_websocket(self: Arc<Self>, incoming: mpsc::Receiver<String>, outgoing: mpsc::Sender<String>, peer: Peer) {
        let (reader, writer) = wire::over_frames(incoming, outgoing, self.config.limits.before_login);
        self.connection(reader, writer, peer, Transport::WebSocket).await;
    }

    /// The sessions of one account, suspended ones included. To close them when the account goes or its rights change.
    pub fn sessions_of(&self, local: &str) -> Vec<Arc<Session>> {
        self.registry.sessions_of(local)
    }

    /// Ends every stream with `system-shutdown` and answers when all have said goodbye, or did not in time.
    pub async fn shutdown(&self) {
        self.dismiss(StreamCondition::SystemShutdown).await;
    }

    /// Takes nobody any more, ends every stream for this reason, and answers when all have said goodbye, or did not in time.
    pub async fn dismiss(&self, why: StreamCondition) {
        self.handler.dismissed(why);
        // Before the word is out: whoever hears of the end says its own reason only if it has none yet.
        for session in self.registry.all() {
            session.close(why);
        }
        self.stopping.send_replace(true);
        // Whoever came in between.
        for session in self.registry.all() {
            session.close(why);
        }
        let patience = self.config.limits.farewell + Duration::from_secs(1);
        if tokio::time::timeout(patience, self.stopping.closed()).await.is_err() {
            tracing::warn!("some streams did not close in time");
        }
    }

    fn spawn(self: &Arc<Self>, io: BoxedIo, peer: Peer, transport: Transport) {
        let server = self.clone();
        tokio::spawn(async move { server.bytes(io, peer, transport).await });
    }

    async fn bytes(self: Arc<Self>, io: BoxedIo, peer: Peer, transport: Transport) {
        let (reader, writer) = wire::over_bytes(io, self.config.limits.before_login);
        self.connection(reader, writer, peer, transport).await;
    }

    /// One connection from its first byte to its last.
    async fn connection(self: Arc<Self>, reader: Reader, writer: Writer, peer: Peer, transport: Transport) {
        let stopping = self.stopping.subscribe();
        // Our own agent must come in whoever else stands before the door.
        let place = (transport != Transport::Memory).then(|| self.lobby.enter(&peer.host));
        let full =
            place.as_ref().is_some_and(|p| p.beyond(self.config.limits.unauthenticated, self.config.limits.unauthenticated_per_peer));
        let bound = Negotiation::new(self.clone(), reader, writer, peer, transport, full, stopping.clone()).run().await;
        drop(place);
        if let Some(bound) = bound {
            live::run(&self, bound, stopping).await;
        }
    }

    /// A session is gone for good: forgets it and tells the handler. Called once for each, by whoever ended it.
    fn retire(&self, session: &Arc<Session>) {
        self.registry.remove(session);
        tracing::info!(session = session.id(), jid = %session.jid(), "session closed");
        self.handler.closed(session);
    }

    fn refused(&self, condition: StreamCondition) {
        METRICS.refused.with_label_values(&[condition.name()]).inc();
    }
}
