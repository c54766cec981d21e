//! Measures what the machines of one hypervisor take, for as long as somebody looks, and once every five minutes for the history.
//!
//! ```text
//!             nobody looks                            somebody looks
//!   resting --------------- 5 min, any active? -----> one sample --> history --> resting
//!      |                        none: a gap, no call
//!      +--- look ---> sample - 1 s - sample - 2 s - sample ... each but the first makes a reading; those at 5 min enter the history
//!      +--- glance -> one sample
//! ```
//! This is the one timer that asks libvirt, and it reads no state: what it finds changes nothing and decides nothing
//! (`ops/decisions/0018-usage.md`). It lives with the hypervisor's actor and begins anew with it; the history stays.

use crate::{
    ask::{Ask, ending},
    domain::{DomainActor, in_control},
    hypervisor::HypervisorActor,
    life::Posted,
    scope::{SHORT, Scope, within},
};
use actix::prelude::*;
use archipel_contract::{
    BoxFuture, Command, EntityId, Fault,
    domain::may,
    port::Inventory,
    usage::{
        DomainUsageNow, Figures, History, HostUsageNow, ListDomainUsage, ListHostUsage, Look, MachineUsage, Reading, SLOT, Sample,
        ShowDomainUsage, ShowHostUsage, rates,
    },
};
use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Between the first two samples: whoever begins to look shall not wait long.
const FIRST: Duration = Duration::from_secs(1);
/// Between all others.
const EVERY: Duration = Duration::from_secs(2);
/// How old a sample may be that is told to whoever only glances.
const GLANCE: Duration = Duration::from_secs(2 * SLOT.0 / 1000);

#[derive(Default)]
struct State {
    looks: usize,
    glance: bool,
    history: History,
    last: Option<(Instant, Arc<Sample>)>,
}

/// What is known of one hypervisor's usage, and who looks.
pub struct Usage {
    keeps_history: bool,
    state: Mutex<State>,
    changed: Notify,
    newest: watch::Sender<Option<Arc<Reading>>>,
}

impl Usage {
    /// Nobody looks yet. `keeps_history`: measure every five minutes too.
    pub fn new(keeps_history: bool) -> Arc<Usage> {
        Arc::new(Usage { keeps_history, state: Mutex::default(), changed: Notify::new(), newest: watch::Sender::new(None) })
    }

    /// Begins to look at it.
    fn begin(self: &Arc<Self>) -> Looking {
        self.state.lock().looks += 1;
        self.changed.notify_one();
        Looking { seen: self.newest.subscribe(), usage: self.clone() }
    }

    fn is_looked_at(&self) -> bool {
        self.state.lock().looks > 0
    }

    /// The last sample, if it is not old; `renew`: another one is made meanwhile, for whoever asks next.
    pub fn glance(&self, renew: bool) -> Option<Arc<Sample>> {
        let mut state = self.state.lock();
        let found = state.last.as_ref().filter(|(at, _)| at.elapsed() <= GLANCE).map(|(_, sample)| sample.clone());
        if renew {
            state.glance = true;
            drop(state);
            self.changed.notify_one();
        }
        found
    }

    /// What is going on now: what somebody else sees already, or two samples.
    async fn now(self: &Arc<Self>) -> Result<Arc<Reading>, Fault> {
        let mut look = self.begin();
        let shown = look.seen.borrow_and_update().clone();
        let reading = match shown {
            Some(reading) => reading,
            None => within(SHORT, async { look.next().await.ok_or_else(|| Fault::unavailable("archipeld is stopping")) }).await?,
        };
        if reading.host.is_none() {
            return Err(Fault::unavailable("libvirt could not be asked; try again when control is back"));
        }
        Ok(reading)
    }
}

/// One hypervisor's usage as its link looks at it.
pub struct View(pub Arc<Usage>);

impl Figures for View {
    fn look(&self) -> Box<dyn Look> {
        Box::new(self.0.begin())
    }
}

/// Somebody who looks.
struct Looking {
    seen: watch::Receiver<Option<Arc<Reading>>>,
    usage: Arc<Usage>,
}

impl Look for Looking {
    fn next(&mut self) -> BoxFuture<'_, Option<Arc<Reading>>> {
        Box::pin(async move {
            loop {
                self.seen.changed().await.ok()?;
                if let Some(reading) = self.seen.borrow_and_update().clone() {
                    return Some(reading);
                }
            }
        })
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.usage.state.lock().looks -= 1;
        self.usage.changed.notify_one();
    }
}

/// What the loop remembers between two samples.
struct Clockwork {
    /// Whether somebody looked when it was looked last.
    streaming: bool,
    /// The sample before, while somebody looks, and when the next is due.
    before: Option<Arc<Sample>>,
    next: Instant,
    /// The sample at the beginning of these five minutes, and their end.
    base: Option<Arc<Sample>>,
    slot: Instant,
}

impl Clockwork {
    fn new() -> Clockwork {
        let now = Instant::now();
        Clockwork { streaming: false, before: None, next: now, base: None, slot: now + SLOT.duration() }
    }

    /// The end of the next five minutes; none are made up for, if this process slept.
    fn turn(&mut self, now: Instant) {
        self.slot = (self.slot + SLOT.duration()).max(now + SLOT.duration() / 2);
    }
}

/// Measures for as long as it is polled.
pub(crate) async fn keep(scope: Rc<Scope>) {
    let usage = scope.usage.clone();
    let mut clockwork = Clockwork::new();
    loop {
        let looked_at = usage.is_looked_at();
        if !looked_at {
            clockwork.before = None;
            usage.newest.send_if_modified(|newest| newest.take().is_some());
        } else if !clockwork.streaming {
            clockwork.next = Instant::now();
        }
        clockwork.streaming = looked_at;
        let glance = std::mem::take(&mut usage.state.lock().glance);
        let live = looked_at.then_some(clockwork.next);
        let slot = usage.keeps_history.then_some(clockwork.slot);
        if !glance {
            let due = live.into_iter().chain(slot).min();
            let woken = tokio::select! {
                () = usage.changed.notified() => true,
                () = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => false,
            };
            // Perhaps somebody came, perhaps the last one went.
            if woken {
                continue;
            }
        }
        let now = Instant::now();
        let ends = slot.is_some_and(|slot| slot <= now);
        if ends && !looked_at && !scope.board.entities().iter().any(|e| e.domain().is_some_and(|d| d.state.is_active())) {
            usage.state.lock().history.enter(scope.clock.now(), None);
            clockwork.base = None;
            clockwork.turn(now);
            continue;
        }
        let sample = within(SHORT, scope.host.usage.sample()).await.map(Arc::new);
        measured(&scope, &usage, &mut clockwork, sample, looked_at, ends);
    }
}

/// Makes of a sample what is to be made of it.
fn measured(scope: &Scope, usage: &Usage, clockwork: &mut Clockwork, sample: Result<Arc<Sample>, Fault>, looked_at: bool, ends: bool) {
    let (at, now) = (scope.clock.now(), Instant::now());
    let sample = match sample {
        Ok(sample) => sample,
        Err(fault) => {
            tracing::debug!(host = %scope.host.name, %fault, "usage cannot be measured");
            if ends {
                usage.state.lock().history.enter(at, None);
                clockwork.base = None;
                clockwork.turn(now);
            }
            if looked_at {
                clockwork.before = None;
                clockwork.next = now + EVERY;
                // That nothing is known is news: what was shown is not so any more.
                usage.newest.send_replace(Some(Arc::new(Reading { at, ..Reading::default() })));
            }
            return;
        }
    };
    {
        let mut state = usage.state.lock();
        state.last = Some((now, sample.clone()));
        if ends {
            state.history.enter(at, Some(&rates(clockwork.base.as_deref(), &sample, at)));
        }
    }
    if ends {
        clockwork.turn(now);
    }
    if ends || clockwork.base.is_none() {
        clockwork.base = Some(sample.clone());
    }
    if looked_at {
        let first = clockwork.before.is_none();
        if let Some(before) = clockwork.before.replace(sample.clone()) {
            usage.newest.send_replace(Some(Arc::new(rates(Some(&before), &sample, at))));
        }
        clockwork.next = now + if first { FIRST } else { EVERY };
    }
}

type Answer<A, C> = ResponseActFuture<A, Result<<C as Command>::Reply, Fault>>;

impl Handler<Posted<Ask<ShowDomainUsage>>> for DomainActor {
    type Result = Answer<DomainActor, ShowDomainUsage>;
    fn handle(&mut self, posted: Posted<Ask<ShowDomainUsage>>, _: &mut Self::Context) -> Self::Result {
        let (scope, id, entity) = (self.scope().clone(), self.id(), self.entity());
        let look = async move {
            posted.take().map_or_else(ending, Ok)?;
            let entity = entity?;
            in_control(&entity)?;
            if let Some(facts) = entity.domain() {
                may(ShowDomainUsage::NAME, facts).check(&entity.name)?;
            }
            let reading = scope.usage.now().await?;
            let usage = reading.machines.get(&id).copied();
            let usage = usage.ok_or_else(|| Fault::busy(format!("{} has just begun or ended; ask again", entity.name)))?;
            Ok(DomainUsageNow { at: reading.at, usage })
        };
        Box::pin(look.into_actor(self))
    }
}

impl Handler<Posted<Ask<ListDomainUsage>>> for DomainActor {
    type Result = Result<<ListDomainUsage as Command>::Reply, Fault>;
    fn handle(&mut self, _: Posted<Ask<ListDomainUsage>>, _: &mut Self::Context) -> Self::Result {
        Ok(self.scope().usage.state.lock().history.machine(&self.id()))
    }
}

impl Handler<Posted<Ask<ShowHostUsage>>> for HypervisorActor {
    type Result = Answer<HypervisorActor, ShowHostUsage>;
    fn handle(&mut self, posted: Posted<Ask<ShowHostUsage>>, _: &mut Self::Context) -> Self::Result {
        let scope = self.scope().clone();
        let look = async move {
            posted.take().map_or_else(ending, Ok)?;
            let reading = scope.usage.now().await?;
            let named = |(id, usage): (&archipel_contract::DomainId, &archipel_contract::usage::DomainUsage)| {
                // One that nobody here knows by name yet is told by its id.
                let name = scope.board.get(&EntityId::Domain(*id)).map_or_else(|| id.to_string(), |e| e.name.to_string());
                MachineUsage { id: *id, name, usage: *usage }
            };
            let mut machines: Vec<MachineUsage> = reading.machines.iter().map(named).collect();
            machines.sort_by(|a, b| b.usage.cpu.cmp(&a.usage.cpu).then_with(|| a.name.cmp(&b.name)));
            Ok(HostUsageNow { at: reading.at, usage: reading.host.unwrap_or_default(), machines })
        };
        Box::pin(look.into_actor(self))
    }
}

impl Handler<Posted<Ask<ListHostUsage>>> for HypervisorActor {
    type Result = Result<<ListHostUsage as Command>::Reply, Fault>;
    fn handle(&mut self, _: Posted<Ask<ListHostUsage>>, _: &mut Self::Context) -> Self::Result {
        Ok(self.scope().usage.state.lock().history.host())
    }
}
