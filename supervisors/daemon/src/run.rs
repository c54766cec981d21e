//! One run of the daemon, from the lock on its data to the orderly end.
//!
//! ```text
//!   store (lock) -> exchange (port, or standing by) -> agent (libvirt, links, actors) -> HTTP -> ready
//!                                                                                  |
//!                    ended <- store <- HTTP <- streams <- actors <- SIGTERM, SIGINT or given up
//! ```
//! The guests are libvirt's children and not ours: nothing here touches them.

use crate::admin::Admin;
use crate::agent::{self, Agent};
use crate::carriages::Mail;
use crate::cell::{self, Door, Seat};
use crate::cell_store::CellStore;
use crate::clock::MachineClock;
use crate::config::Settings;
use crate::contents::Contents;
use crate::openings::Screens;
use crate::standby::Standby;
use crate::{control, host, notify, telemetry};
use archipel_contract::port::{Authority, Clock, Journal};
use archipel_contract::{Fault, Millis, Timestamp};
use archipel_store::Store;
use archipel_ui::{Carrier, ConsoleAcceptor, Hooks, Http, HttpConfig, SocketAcceptor, VolumeAcceptor};
use archipel_xmpp::exchange::proof::Proof;
use archipel_xmpp::exchange::term::in_reign;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

/// How long the orderly end may take altogether.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long commands under way may take of it.
const UNDER_WAY: Duration = Duration::from_secs(3);
/// How long of it the streams may take.
const GOODBYE: Duration = Duration::from_secs(2);
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
    let seat = Seat::new(settings.cluster.is_some());
    let cell_store = if settings.roles.exchange { Some(CellStore::open(settings, &store)?) } else { None };
    let holder = format!("{}/{incarnation}", host::hostname());
    let standby = match (&cell_store, &settings.cluster) {
        (Some(cell_store), None) => {
            lead_alone(settings, cell_store, &clock, holder, &seat).await?;
            None
        }
        (Some(cell_store), Some(cluster)) => {
            // Said now and not at the first takeover; others may have the port until then.
            drop(cell::listen(settings).await?);
            Some(Arc::new(Standby {
                settings: settings.clone(),
                cluster: cluster.clone(),
                store: cell_store.clone(),
                clock: clock.clone(),
                // Two processes of one host have folders of their own, and these may have been opened equally often.
                holder: format!("{holder}/{}", crate::account::random_password()?),
                seat: seat.clone(),
            }))
        }
        (None, _) => None,
    };
    let ours = cell_store.as_ref().map(|store| (&seat, store));
    if ours.is_some()
        && let Err(fault) = control::listen(&settings.data_dir, seat.clone())
    {
        tracing::warn!(%fault, "changes of accounts count from the next login only");
    }
    // On its own task: a lease is renewed whatever else this one waits for.
    let leading = standby.clone().map(|standby| tokio::spawn(standby.run()));
    let agent = match settings.roles.agent {
        true => Some(Arc::new(agent::start(settings, &store, clock.clone(), incarnation, ours).await?)),
        false => None,
    };
    let admin = Arc::new(Admin::new(settings, &*clock, incarnation, seat.clone(), agent.clone()));
    let http = archipel_ui::serve(
        HttpConfig {
            listen: settings.http_listen.clone(),
            allowed_origins: settings.allowed_origins.clone(),
            pages: settings.cluster.iter().flat_map(|cluster| cluster.pages.clone()).collect(),
        },
        hooks(admin, settings.roles.exchange.then(|| seat.clone()), agent.clone()),
    )?;
    if http.addresses().iter().any(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            "the page is reachable from other machines without TLS, so nobody can log in from there; put a TLS proxy on this one"
        );
    }
    let shown: Vec<String> = http.addresses().iter().map(ToString::to_string).collect();
    let xmpp = match (seat.cell(), &settings.cluster) {
        (Some(cell), _) => cell.address.to_string(),
        (None, Some(_)) => format!("{} when active", settings.xmpp_listen),
        (None, None) => "none".to_owned(),
    };
    let roles = settings.roles.names().join("+");
    tracing::info!(cell = %settings.cell, roles, http = shown.join(","), xmpp, "archipel is ready");
    notify::tell("READY=1");

    let given_up = async {
        match &agent {
            Some(agent) => agent.given_up().await,
            None => std::future::pending().await,
        }
    };
    let stopping = leading.as_ref().map(JoinHandle::abort_handle);
    let no_exchange = async {
        match leading {
            Some(leading) => leading.await.unwrap_or_else(|e| Fault::internal("whoever leads this exchange has failed").because(e)),
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
        fault = no_exchange => {
            tracing::error!(%fault, "this process cannot be an exchange, and ends to be started afresh; the guests run on");
            Err(fault)
        }
    };
    notify::tell("STOPPING=1");
    if let Some(stopping) = stopping {
        stopping.abort();
    }
    tokio::select! {
        ended = tokio::time::timeout(FAREWELL, farewell(agent.as_deref(), &seat, standby.as_deref(), &http)) => {
            if ended.is_err() {
                tracing::warn!("not everything ended within {} s; leaving it", FAREWELL.as_secs());
            }
        }
        name = signals.next() => tracing::warn!(signal = name, "a second signal; leaving at once"),
    }
    outcome
}

/// Takes the seat for as long as the process lives.
async fn lead_alone(settings: &Settings, store: &CellStore, clock: &Arc<dyn Clock>, holder: String, seat: &Arc<Seat>) -> Result<(), Fault> {
    let listener = cell::listen(settings).await?;
    // The lock on data_dir is what keeps a second exchange of this data away, so the lease need not outlive this call and nobody
    // has to renew it. Every start gets an epoch of its own, because every start is another holder.
    let leadership = store.authority.lead("exchange".to_owned(), holder, Millis(0), clock.now()).await?;
    let epoch = in_reign(settings.reign, leadership.epoch);
    let proof = Proof::for_ever(clock.clone());
    seat.take(cell::start(settings, store, clock.clone(), listener, epoch, proof).await?);
    Ok(())
}

/// Those who ask are told last that nobody answers any more: first the work ends, then the streams, then the page.
async fn farewell(agent: Option<&Agent>, seat: &Seat, standby: Option<&Standby>, http: &Http) {
    if let Some(agent) = agent {
        agent.stop(UNDER_WAY).await;
    }
    if let Some(cell) = seat.cell() {
        // Who does not say goodbye in time must not keep the others from being served elsewhere.
        let _ = tokio::time::timeout(GOODBYE, cell.server.shutdown()).await;
        if let Some(standby) = standby {
            seat.leave();
            standby.resign().await;
        }
    }
    http.stop().await;
}

fn hooks(admin: Arc<Admin>, seat: Option<Arc<Seat>>, agent: Option<Arc<Agent>>) -> Hooks {
    let for_metrics = admin.clone();
    let own = agent.as_ref().map(|agent| agent.names()).unwrap_or_default();
    Hooks {
        consoles: agent.as_ref().map(|agent| Arc::new(Screens(agent.grown())) as Arc<dyn ConsoleAcceptor>),
        volumes: agent.as_ref().map(|agent| Arc::new(Contents(agent.grown())) as Arc<dyn VolumeAcceptor>),
        carrier: seat.clone().map(|seat| Arc::new(Mail { seat, own }) as Arc<dyn Carrier>),
        websocket: seat.map(|seat| Arc::new(Door(seat)) as Arc<dyn SocketAcceptor>),
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
