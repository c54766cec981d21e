//! One run of the daemon, from the lock on its data to the orderly end.
//!
//! ```text
//!   store (lock) -> exchange (port) -> agent (libvirt, links, actors) -> HTTP -> ready
//!                                                                                  |
//!                    ended <- store <- HTTP <- streams <- actors <- SIGTERM, SIGINT or given up
//! ```
//! The guests are libvirt's children and not ours: nothing here touches them.

use crate::admin::Admin;
use crate::agent::{self, Agent};
use crate::cell::{self, Cell};
use crate::clock::MachineClock;
use crate::config::Settings;
use crate::{control, host, notify, telemetry};
use archipel_contract::port::{Authority, Clock, Journal};
use archipel_contract::{Fault, Millis, Timestamp};
use archipel_store::Store;
use archipel_ui::{Hooks, Http, HttpConfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the orderly end may take altogether.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long commands under way may take of it.
const UNDER_WAY: Duration = Duration::from_secs(3);
/// Operations done before that are forgotten at the start.
const KEEP: Millis = Millis::seconds(24 * 3600);

/// Runs until a signal or until the supervision gives up.
pub(crate) fn run(settings: &Settings) -> Result<(), Fault> {
    let _telemetry = telemetry::start(settings)?;
    let outcome = actix_rt::System::new().block_on(serve(settings));
    tracing::info!("ended");
    outcome
}

async fn serve(settings: &Settings) -> Result<(), Fault> {
    let mut signals = Signals::new()?;
    let store = Store::open(&settings.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(MachineClock::new());
    store.forget_before(Timestamp(clock.now().0.saturating_sub(KEEP.0))).await?;
    let incarnation = store.incarnation().await?;
    let cell = match settings.roles.exchange {
        true => Some(Arc::new(cell::start(settings, &store, clock.clone(), format!("{}/{incarnation}", host::hostname())).await?)),
        false => None,
    };
    if let Some(cell) = &cell
        && let Err(fault) = control::listen(&settings.data_dir, cell.server.clone())
    {
        tracing::warn!(%fault, "changes of accounts count from the next login only");
    }
    let agent = match settings.roles.agent {
        true => Some(Arc::new(agent::start(settings, &store, clock.clone(), incarnation, cell.as_deref()).await?)),
        false => None,
    };
    let admin = Arc::new(Admin::new(settings, &*clock, incarnation, cell.clone(), agent.clone()));
    let http = archipel_ui::serve(
        HttpConfig { listen: settings.http_listen.clone(), allowed_origins: settings.allowed_origins.clone() },
        hooks(admin, cell.as_deref()),
    )?;
    if http.addresses().iter().any(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            "the page is reachable from other machines without TLS, so nobody can log in from there; put a TLS proxy on this one"
        );
    }
    let shown: Vec<String> = http.addresses().iter().map(ToString::to_string).collect();
    let xmpp = cell.as_ref().map(|cell| cell.address.to_string()).unwrap_or_else(|| "none".to_owned());
    let roles = settings.roles.names().join("+");
    tracing::info!(cell = %settings.cell, roles, http = shown.join(","), xmpp, "archipel is ready");
    notify::tell("READY=1");

    let given_up = async {
        match &agent {
            Some(agent) => agent.given_up().await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping; the guests run on");
            Ok(())
        }
        fault = given_up => {
            tracing::error!(%fault, "giving up, to be started afresh; the guests run on");
            Err(fault)
        }
    };
    notify::tell("STOPPING=1");
    tokio::select! {
        ended = tokio::time::timeout(FAREWELL, farewell(agent.as_deref(), cell.as_deref(), &http)) => {
            if ended.is_err() {
                tracing::warn!("not everything ended within {} s; leaving it", FAREWELL.as_secs());
            }
        }
        name = signals.next() => tracing::warn!(signal = name, "a second signal; leaving at once"),
    }
    outcome
}

/// Those who ask are told last that nobody answers any more: first the work ends, then the streams, then the page.
async fn farewell(agent: Option<&Agent>, cell: Option<&Cell>, http: &Http) {
    if let Some(agent) = agent {
        agent.stop(UNDER_WAY).await;
    }
    if let Some(cell) = cell {
        cell.server.shutdown().await;
    }
    http.stop().await;
}

fn hooks(admin: Arc<Admin>, cell: Option<&Cell>) -> Hooks {
    let for_metrics = admin.clone();
    Hooks {
        websocket: cell.map(Cell::door),
        metrics: Arc::new(move || {
            let admin = for_metrics.clone();
            Box::pin(async move { admin.metrics() })
        }),
        health: Arc::new(move || {
            let admin = admin.clone();
            Box::pin(async move { admin.health() })
        }),
    }
}

/// SIGTERM and SIGINT, from before anything is opened: a signal during the start is not lost.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, Fault> {
        let listen = |kind| signal(kind).map_err(|e| Fault::internal("cannot listen to signals").because(e));
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
