//! Serves the built web page, the XMPP WebSocket, metrics and health over HTTP. It knows neither the actors nor XMPP: what it needs
//! comes in as [`Hooks`].
//!
//! | path | answers |
//! |---|---|
//! | `/` and everything unknown without a dot | the page (its own router takes over); where the active exchange is, on a standby |
//! | `/xmpp-websocket` | RFC 7395, bridged to bounded queues of text |
//! | `/metrics` | Prometheus text |
//! | `/health` | JSON; 200, or 503 with the reasons |
//! | `/.well-known/host-meta`, `host-meta.json` | XEP-0156: where the WebSocket is, and those of the other exchanges |
//! | `/console/<token>` | a machine's console as a WebSocket, for whoever has the ticket and its secret |
//! | `/volume/<token>` | the contents of a volume, to (PUT) and fro (GET), for whoever has the ticket and its secret |
//!
//! Where the ticket is another host's, `/console` and `/volume` pass the request on to it, and the answer back.
//!
//! One worker thread serves all of it: the page is small and packed beforehand, and stanzas are handed on at once.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod assets;
mod carriage;
mod carried;
mod console;
mod frames;
mod origin;
mod socket;
mod standby;
mod ticket;
mod volume;
mod well_known;

#[cfg(test)]
mod stale;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_carried;
#[cfg(test)]
mod tests_opened;

pub use carriage::{Carriage, Carrier, Pipe};
pub use carried::Carriages;
pub use console::{CUT, Console, ConsoleAcceptor, FAILED, TAKEN_OVER};
pub use socket::{MAX_FRAME, Socket, SocketAcceptor};
pub use standby::Standby;
pub use ticket::Unopened;
pub use volume::{Download, Part, Upload, VolumeAcceptor};

use actix_web::dev::ServerHandle;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpResponse, HttpServer, web};
use archipel_contract::{BoxFuture, Fault, FaultKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Where to listen and whom to trust.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// `host:port` to listen on; port 0 takes a free one.
    pub listen: String,
    /// Origins (`https://host[:port]`) that may open a WebSocket beside the page's own.
    pub allowed_origins: Vec<String>,
    /// The pages of all exchanges of the cell (`https://host[:port]`), of which one serves: each may open a socket to the others.
    pub pages: Vec<String>,
}

/// How the process is.
#[derive(Debug, Clone)]
pub struct Health {
    /// Whether everything it was configured for works.
    pub healthy: bool,
    /// What is shown: one JSON object.
    pub details: serde_json::Value,
}

/// A question to the rest of the process, asked only while somebody looks.
pub type Question<T> = Arc<dyn Fn() -> BoxFuture<'static, T> + Send + Sync>;

/// What the rest of the process contributes.
#[derive(Clone)]
pub struct Hooks {
    /// Takes XMPP WebSockets; without it (a process that is no exchange) `/xmpp-websocket` is 404.
    pub websocket: Option<Arc<dyn SocketAcceptor>>,
    /// Opens consoles; without it (a process that is no agent) `/console` is 404.
    pub consoles: Option<Arc<dyn ConsoleAcceptor>>,
    /// Reads and writes volumes; without it `/volume` is 404.
    pub volumes: Option<Arc<dyn VolumeAcceptor>>,
    /// Passes on what tickets of other hosts open; without it only what is here is opened.
    pub carrier: Option<Arc<dyn Carrier>>,
    /// The text of `/metrics`.
    pub metrics: Question<String>,
    /// The body of `/health`.
    pub health: Question<Health>,
}

/// The running server.
pub struct Http {
    addresses: Vec<SocketAddr>,
    handle: ServerHandle,
}

impl Http {
    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops it: takes no connection any more and gives those that are open one second.
    pub async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

/// What every handler sees.
pub(crate) struct Shared {
    pub(crate) config: HttpConfig,
    pub(crate) hooks: Hooks,
}

impl Shared {
    /// Whoever passes a request with this token on, if what it opens is on another host.
    pub(crate) fn elsewhere(&self, token: &str) -> Option<Arc<dyn Carrier>> {
        self.hooks.carrier.clone().filter(|carrier| carrier.takes(token))
    }
}

/// Starts serving. Must be called inside a tokio (or actix) runtime; serving happens on a thread of its own.
pub fn serve(config: HttpConfig, hooks: Hooks) -> Result<Http, Fault> {
    let listeners = bind(&config.listen)?;
    let shared = web::Data::new(Shared { config, hooks });
    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .wrap(
                DefaultHeaders::new()
                    .add(("x-content-type-options", "nosniff"))
                    .add(("referrer-policy", "no-referrer"))
                    .add(("x-frame-options", "DENY")),
            )
            .route("/xmpp-websocket", web::get().to(socket::upgrade))
            .route("/metrics", web::get().to(metrics))
            .route("/health", web::get().to(health))
            .route("/.well-known/host-meta", web::get().to(well_known::host_meta))
            .route("/.well-known/host-meta.json", web::get().to(well_known::host_meta_json))
            .route("/console/{token}", web::get().to(console::upgrade))
            .route("/volume/{token}", web::get().to(volume::download))
            .route("/volume/{token}", web::put().to(volume::upload))
            .default_service(web::to(assets::answer))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(1)
    .client_request_timeout(Duration::from_secs(10))
    .keep_alive(Duration::from_secs(75))
    .on_connect(|connection, _| {
        if let Some(stream) = connection.downcast_ref::<tokio::net::TcpStream>() {
            // A stanza is small and somebody waits for it. Failing means that the peer is gone, which the next read tells.
            let _ = stream.set_nodelay(true);
        }
    });
    let mut addresses = Vec::new();
    for listener in listeners {
        addresses.extend(listener.local_addr());
        server = server.listen(listener).map_err(|e| Fault::unavailable("cannot serve HTTP").because(e))?;
    }
    let server = server.run();
    let handle = server.handle();
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the HTTP server has ended");
        }
    });
    Ok(Http { addresses, handle })
}

fn bind(listen: &str) -> Result<Vec<TcpListener>, Fault> {
    let refused = |e: &dyn std::fmt::Display| {
        let message = format!("cannot listen on {listen} (http.listen); free the port or set http.listen to another host:port");
        Fault::new(FaultKind::Unavailable, message).because(e)
    };
    let addresses: Vec<SocketAddr> = listen.to_socket_addrs().map_err(|e| refused(&e))?.collect();
    let mut listeners: Vec<TcpListener> = Vec::new();
    for mut address in addresses {
        // A name such as localhost may mean two addresses; both get the same port.
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr().map_err(|e| refused(&e))?.port());
        }
        listeners.push(TcpListener::bind(address).map_err(|e| refused(&e))?);
    }
    if listeners.is_empty() { Err(refused(&"the name has no address")) } else { Ok(listeners) }
}

async fn metrics(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body((shared.hooks.metrics)().await)
}

async fn health(shared: web::Data<Shared>) -> HttpResponse {
    let health = (shared.hooks.health)().await;
    let mut answer = if health.healthy { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    answer.insert_header(("cache-control", "no-store")).content_type("application/json").body(health.details.to_string())
}
