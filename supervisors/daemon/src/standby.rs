//! One exchange among several: it waits until it may lead, serves, and steps down. What it may do when, [`Term`] decides; here are
//! only the hands that ask etcd, open the port and cut the streams.
//!
//! ```text
//!   etcd <--lead, vacancy-- [drive] --input, time--> Term
//!                              |  <---outputs-------
//!                              +--> Seat: taken with a new Exchange and Server, or left; Proof: prolonged
//! ```

use crate::cell::{self, Active, Cell, Seat};
use crate::cell_store::{CellStore, Use};
use crate::config::{Cluster, Settings};
use crate::control;
use archipel_contract::port::{Authority, Clock, Documents};
use archipel_contract::{BoxFuture, Epoch, Fault, FaultKind, Millis, Timestamp};
use archipel_xmpp::client::Pauses;
use archipel_xmpp::exchange::proof::Proof;
use archipel_xmpp::exchange::term::{Input, Output, Rules, Term, Why, in_reign};
use archipel_xmpp::server::StreamCondition;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What is led.
const ROLE: &str = "exchange";

/// Operations of the cell that were done before that are forgotten when a term begins.
const KEEP: Millis = Millis::seconds(24 * 3600);

type Asking = Pin<Box<dyn Future<Output = Result<Epoch, Fault>> + Send>>;
type Waiting = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// Everything one term after the other needs.
pub(crate) struct Standby {
    pub(crate) settings: Settings,
    pub(crate) cluster: Cluster,
    pub(crate) store: CellStore,
    pub(crate) clock: Arc<dyn Clock>,
    /// Who this is, among the exchanges of the cell: another one after every start.
    pub(crate) holder: String,
    pub(crate) seat: Arc<Seat>,
}

impl Standby {
    /// Runs until this process cannot go on as an exchange, and answers why.
    pub(crate) async fn run(self: Arc<Self>) -> Fault {
        let rules = Rules::of(self.cluster.lease);
        // A renewal has time for two members of etcd that do not answer, and for a third.
        let patience = Millis(self.cluster.lease.0 / 2);
        let hasty = match CellStore::hasty(&self.cluster.etcd, patience) {
            Ok(authority) => authority,
            Err(fault) => return fault,
        };
        if let Some(fault) = self.carry_over().await {
            return fault;
        }
        self.register();
        let seat = self.seat.clone();
        self.store.on_account(move |local, ring| control::end_sessions(&seat, ring, local));
        tokio::spawn(self.store.clone().follow_accounts());
        tokio::spawn(follow_addresses(self.store.clone(), self.seat.clone()));
        let (mut term, mut todo) = Term::begin(rules, self.clock.monotonic());
        let (mut asking, mut waiting): (Option<Asking>, Option<Waiting>) = (None, None);
        loop {
            for output in todo.drain(..) {
                match output {
                    Output::Ask => {
                        waiting = None;
                        asking = Some(self.ask(hasty.clone(), patience));
                    }
                    Output::AwaitVacancy => {
                        waiting = Some(self.wait());
                        self.look_who_leads();
                    }
                    Output::Serve(epoch, until) => {
                        if let Err(fault) = self.serve(epoch, until).await {
                            // Another may be able to; and this one ends, to be started afresh.
                            let _ = hasty.resign(ROLE.to_owned(), self.holder.clone()).await;
                            return fault;
                        }
                    }
                    Output::Prove(until) => {
                        if let Some(cell) = self.seat.cell() {
                            cell.proof.prolong(until);
                        }
                    }
                    Output::Freeze => {
                        tracing::error!("nothing proves any more that this exchange leads: changes are refused, guests run on")
                    }
                    Output::Thaw => tracing::info!("this exchange leads, as it has proof again: changes are taken"),
                    Output::StepDown(why) => self.step_down(why).await,
                }
            }
            let input = tokio::select! {
                answer = pending(&mut asking) => {
                    asking = None;
                    self.seat.troubled(answer.as_ref().err().filter(|f| f.kind != FaultKind::Conflict).cloned());
                    match answer {
                        Ok(epoch) => Input::Granted(epoch),
                        Err(fault) if fault.kind == FaultKind::Conflict => {
                            tracing::info!(%fault, "standing by");
                            Input::Refused
                        }
                        Err(fault) => {
                            tracing::warn!(%fault, "etcd does not say who leads the cell; asking again");
                            Input::Unreachable
                        }
                    }
                }
                answer = pending(&mut waiting) => {
                    waiting = None;
                    if answer.is_ok() { Input::Vacant } else { Input::Unreachable }
                }
                () = until(&*self.clock, term.wake()) => Input::Awake,
            };
            todo = term.on(input, self.clock.monotonic());
        }
    }

    /// Until what this host has of the cell is in etcd. Answers why that can never be.
    async fn carry_over(&self) -> Option<Fault> {
        let mut pauses = Pauses::new(Duration::from_millis(250), Duration::from_secs(5));
        let mut said = None;
        loop {
            let fault = match self.store.carried(Use::Exchange).await {
                Ok(()) => {
                    self.seat.troubled(None);
                    return None;
                }
                Err(fault) if matches!(fault.kind, FaultKind::Unavailable | FaultKind::Timeout | FaultKind::Busy) => fault,
                Err(fault) => return Some(fault),
            };
            if said.as_ref() != Some(&fault.message) {
                tracing::warn!(%fault, "this exchange cannot stand by yet; trying again");
            }
            said = Some(fault.message.clone());
            self.seat.troubled(Some(fault));
            tokio::time::sleep(pauses.next_pause()).await;
        }
    }

    /// One question, with an answer in any case.
    fn ask(&self, authority: Arc<dyn Authority>, patience: Millis) -> Asking {
        let (holder, lease, now) = (self.holder.clone(), self.cluster.lease, self.clock.now());
        Box::pin(async move {
            match tokio::time::timeout(patience.duration(), authority.lead(ROLE.to_owned(), holder, lease, now)).await {
                Ok(answer) => answer.map(|leadership| leadership.epoch),
                Err(_) => Err(Fault::unavailable(format!("etcd did not answer within {} ms", patience.0))),
            }
        })
    }

    fn wait(&self) -> Waiting {
        let (authority, now) = (self.store.authority.clone(), self.clock.now());
        Box::pin(async move { authority.vacancy(ROLE.to_owned(), now).await })
    }

    /// Says where this exchange is, to whoever is invited to the cell.
    fn register(&self) {
        let Some(own) = self.cluster.advertise.clone().or_else(|| fixed(&self.settings.xmpp_listen)) else { return };
        let documents = self.store.documents.clone();
        tokio::spawn(async move {
            let mut pauses = Pauses::new(Duration::from_millis(250), Duration::from_secs(30));
            while let Err(fault) = cell::addresses(&*documents, &own).await {
                tracing::debug!(%fault, "the address of this exchange is not written down yet");
                tokio::time::sleep(pauses.next_pause()).await;
            }
        });
    }

    /// For the page that sends people on.
    fn look_who_leads(&self) {
        let (documents, seat) = (self.store.documents.clone(), self.seat.clone());
        tokio::spawn(async move {
            match Active::read(&*documents).await {
                Ok(active) => seat.saw(active),
                Err(fault) => tracing::debug!(%fault, "where the active exchange is, is not known"),
            }
        });
    }

    async fn serve(&self, epoch: Epoch, until: Millis) -> Result<(), Fault> {
        let store = self.store.in_term(ROLE, epoch).await?;
        let epoch = in_reign(self.settings.reign, epoch);
        let listener = cell::listen(&self.settings).await?;
        let proof = Proof::until(self.clock.clone(), until);
        let cell = cell::start(&self.settings, &store, self.clock.clone(), listener, epoch, proof).await?;
        let cell = self.seat.take(cell);
        tracing::info!(epoch = epoch.0, xmpp = %cell.address, "this exchange serves the cell now");
        tell_where(store.documents.clone(), self.here(&cell));
        // Accounts are remembered, for logins while etcd is away; and what was asked of the cell long ago is forgotten.
        let (accounts, journal, old) = (self.store.accounts.clone(), store.journal, Timestamp(self.clock.now().0.saturating_sub(KEEP.0)));
        tokio::spawn(async move {
            if let Err(fault) = accounts.list().await {
                tracing::warn!(%fault, "accounts are read one by one, at their logins");
            }
            if let Err(fault) = journal.forget_before(old).await {
                tracing::warn!(%fault, "old operations of the cell stay until another term begins");
            }
        });
        Ok(())
    }

    fn here(&self, cell: &Cell) -> Active {
        Active {
            address: self.cluster.advertise.clone().unwrap_or_else(|| cell.address.to_string()),
            certificate: cell.certificate.clone(),
            page: self.cluster.page.clone(),
            epoch: cell.epoch,
        }
    }

    /// At once: nobody may go on to see or ask an exchange that was succeeded.
    async fn step_down(&self, why: Why) {
        let Some(cell) = self.seat.leave() else { return };
        let reason = match why {
            Why::Succeeded => "another exchange leads",
            Why::Interrupted => "its lease had run out; it begins anew",
        };
        tracing::warn!(epoch = cell.epoch.0, reason, "this exchange steps down and forgets what it knew");
        // The next term may begin in a moment and needs the port.
        cell.close_port().await;
        tokio::spawn(async move { cell.server.dismiss(StreamCondition::Reset).await });
    }

    /// The orderly end: another may lead at once.
    pub(crate) async fn resign(&self) {
        if let Err(fault) = self.store.authority.resign(ROLE.to_owned(), self.holder.clone()).await {
            tracing::warn!(%fault, "the leadership could not be given back; another exchange takes over when its lease has run out");
        }
    }
}

/// An address with a port that was chosen.
fn fixed(listen: &str) -> Option<String> {
    (!listen.ends_with(":0")).then(|| listen.to_owned())
}

/// Tells the agents whenever an exchange comes to the cell.
async fn follow_addresses(store: CellStore, seat: Arc<Seat>) {
    let documents = store.documents.clone();
    let look = move || -> BoxFuture<'static, Result<(), Fault>> {
        let (documents, seat) = (documents.clone(), seat.clone());
        Box::pin(async move {
            let addresses = cell::written_addresses(&*documents).await?;
            seat.tell_exchanges(Some(addresses));
            Ok(())
        })
    };
    store.follow_documents(cell::ADDRESSES, look).await;
}

/// Writes down where the active exchange is; not in the way of serving.
fn tell_where(documents: Arc<dyn Documents>, here: Active) {
    tokio::spawn(async move {
        if let Err(fault) = here.write(&*documents).await {
            tracing::warn!(%fault, "where this exchange is could not be written down; standbys cannot send people here");
        }
    });
}

/// The answer of what is under way; nothing when nothing is.
async fn pending<T>(what: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match what {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Until the monotonic clock shows that time.
async fn until(clock: &dyn Clock, time: Option<Millis>) {
    match time {
        Some(time) => tokio::time::sleep(Millis(time.0.saturating_sub(clock.monotonic().0)).duration()).await,
        None => std::future::pending().await,
    }
}
