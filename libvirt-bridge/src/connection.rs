//! The link to one hypervisor: threads that make libvirt's blocking calls, and one that keeps the connection up.
//!
//! ```text
//!              connect, register events
//!   connecting ------------------------> up ----+ close callback, keepalive, or a call that
//!       ^  ^                             |      | finds the connection dead
//!       |  +--- pause 0.2 s .. 10 s <----|------+
//!       |        (doubling, jitter)    close
//!       +--------------------------------+----> closed (for good; threads end)
//! ```
//! Calls fail fast with `unavailable` whenever the link is not up. A caller that stops waiting withdraws its call if no
//! thread has begun with it, so nothing runs behind the back of somebody who was told that it failed.

use crate::{
    LinkConfig,
    count::{self, ask},
    event::{Relay, raw},
    fault,
    queue::{Queue, Refused},
    xml::domain::Kind,
};
use archipel_contract::{
    BoxFuture, Fault, FaultKind,
    host::{HostLink, HostObserver},
};
use parking_lot::{Condvar, Mutex};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::sync::oneshot;
use virt::{connect::Connect, error::Error};

/// Which threads a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// It only reads.
    Read,
    /// It changes something.
    Change,
    /// It may take minutes.
    Long,
}

/// One connection, from connect to loss.
pub(crate) struct Session {
    pub(crate) connect: Connect,
    pub(crate) uri: Arc<str>,
    number: u64,
    /// What guests run on here, once asked for.
    pub(crate) kind: OnceLock<Kind>,
    /// libvirt's name of the driver, once asked for.
    pub(crate) driver: OnceLock<Arc<str>>,
}

/// What a call on a worker thread answers: libvirt's own error, or a fault found by ourselves.
pub(crate) enum Trouble {
    Libvirt(Error),
    Ours(Fault),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Libvirt(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Ours(fault)
    }
}

enum State {
    Down(Arc<str>),
    Up(Arc<Session>),
    Closed,
}

type Job = Box<dyn FnOnce(&Shared) + Send>;
type Body = fn(Arc<Shared>);

pub(crate) struct Shared {
    config: LinkConfig,
    state: Mutex<State>,
    /// Wakes the link thread: the state changed, or something waits to be told.
    wake: Condvar,
    relay: Relay,
    reads: Queue<Job>,
    changes: Queue<Job>,
    long: Queue<Job>,
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// All ports of one hypervisor. Dropping the last one closes the link.
pub(crate) struct Link {
    shared: Arc<Shared>,
    /// How many long works run on threads of their own.
    pub(crate) transfers: Arc<AtomicUsize>,
}

impl Link {
    pub(crate) fn open(config: LinkConfig) -> Link {
        let name = config.name.clone();
        let (readers, changers) = (config.readers.max(1), config.changers.max(1));
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Down("not connected yet".into())),
            wake: Condvar::new(),
            relay: Relay::new(),
            reads: Queue::new(config.queue),
            changes: Queue::new(config.queue),
            long: Queue::new(config.long_queue),
            config,
        });
        let mut threads: Vec<(String, Body)> = vec![(format!("lv-link {name}"), keep_up)];
        threads.extend((0..readers).map(|n| (format!("lv-read{n} {name}"), (|s| work(&s, &s.reads)) as Body)));
        threads.extend((0..changers).map(|n| (format!("lv-chg{n} {name}"), (|s| work(&s, &s.changes)) as Body)));
        threads.push((format!("lv-long {name}"), |s| work(&s, &s.long)));
        for (name, body) in threads {
            let mine = shared.clone();
            // Deep recursion happens nowhere, so the threads need no more than this; libvirt's own parsers fit easily.
            if let Err(error) = thread::Builder::new().name(name).stack_size(1 << 20).spawn(move || body(mine)) {
                tracing::error!(%error, "cannot start a libvirt thread; this hypervisor stays unavailable");
                shared.close();
            }
        }
        Link { shared, transfers: Arc::default() }
    }

    pub(crate) fn config(&self) -> &LinkConfig {
        &self.shared.config
    }

    /// Fails with `unavailable` while there is no connection.
    pub(crate) fn reachable(&self) -> Result<(), Fault> {
        self.shared.number().map(drop)
    }

    /// Makes a call on one of the lane's threads. `doing` completes the sentence "timeout while ...".
    pub(crate) fn call<T: Send + 'static>(
        &self,
        lane: Lane,
        doing: &'static str,
        work: impl FnOnce(&Session) -> Result<T, Trouble> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Fault>> {
        Box::pin(async move {
            let wanted = self.shared.number()?;
            let (send, receive) = oneshot::channel();
            let stage = Arc::new(AtomicU8::new(WAITING));
            let mine = stage.clone();
            let job: Job = Box::new(move |shared| {
                if mine.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_err() || send.is_closed() {
                    return;
                }
                // A receiver that is gone wants no answer; that is its own affair.
                let _ = send.send(shared.run(wanted, doing, work));
            });
            let (queue, deadline) = match lane {
                Lane::Read => (&self.shared.reads, self.shared.config.deadline),
                Lane::Change => (&self.shared.changes, self.shared.config.change_deadline),
                Lane::Long => (&self.shared.long, self.shared.config.long_deadline),
            };
            match queue.push(job) {
                Ok(()) => {}
                Err(Refused::Full) => {
                    count::REFUSED.fetch_add(1, Ordering::Relaxed);
                    let name = &self.shared.config.name;
                    return Err(Fault::busy(format!("too many requests wait for {name} already; ask again in a moment")));
                }
                Err(Refused::Closed) => return Err(self.shared.closed()),
            }
            match tokio::time::timeout(deadline, receive).await {
                Ok(Ok(answer)) => answer,
                // The thread dropped the sender without an answer: the link was closed with the call in its queue.
                Ok(Err(_)) => Err(self.shared.closed()),
                Err(_) => {
                    count::TIMEOUTS.fetch_add(1, Ordering::Relaxed);
                    let withdrawn = stage.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok();
                    let (name, seconds) = (&self.shared.config.name, deadline.as_secs_f32());
                    Err(Fault::new(
                        FaultKind::Timeout,
                        if withdrawn {
                            format!("{name} was too busy for {seconds} s, so nothing was done while {doing}; ask again later")
                        } else {
                            format!(
                                "no answer from {name} within {seconds} s while {doing}; the outcome is unknown, look before asking again"
                            )
                        },
                    ))
                }
            }
        })
    }
}

impl HostLink for Link {
    fn watch(&self, observer: Arc<dyn HostObserver>) {
        self.shared.relay.watch(observer);
        self.shared.nudge();
    }

    fn close(&self) {
        self.shared.close();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    /// The number of the connection. Async callers get no reference to it, so that they are never the last to hold one:
    /// closing a connection may block.
    fn number(&self) -> Result<u64, Fault> {
        match &*self.state.lock() {
            State::Up(session) => Ok(session.number),
            other => Err(self.none(other)),
        }
    }

    /// The connection, or why there is none.
    fn session(&self) -> Result<Arc<Session>, Fault> {
        match &*self.state.lock() {
            State::Up(session) => Ok(session.clone()),
            other => Err(self.none(other)),
        }
    }

    fn none(&self, state: &State) -> Fault {
        match state {
            State::Up(_) | State::Closed => self.closed(),
            State::Down(reason) => {
                let name = &self.config.name;
                Fault::unavailable(format!("{name} cannot be reached; it is tried again by itself")).because(reason)
            }
        }
    }

    fn closed(&self) -> Fault {
        Fault::unavailable(format!("the link to {} was closed", self.config.name))
    }

    /// Runs on a worker thread.
    fn run<T>(&self, wanted: u64, doing: &str, work: impl FnOnce(&Session) -> Result<T, Trouble>) -> Result<T, Fault> {
        let session = self.session()?;
        if session.number != wanted {
            let name = &self.config.name;
            return Err(Fault::unavailable(format!("the connection to {name} was lost before this was begun; ask again")));
        }
        // A handle's destructor in virt panics when libvirt cannot free it; that must cost one call, not the thread.
        match catch_unwind(AssertUnwindSafe(|| work(&session))) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Trouble::Ours(fault))) => Err(fault),
            Ok(Err(Trouble::Libvirt(error))) => {
                if fault::may_mean_dead(&error) && !matches!(session.connect.is_alive(), Ok(true)) {
                    self.lose(session.number, error.message().into());
                    let name = &self.config.name;
                    let text = format!("the connection to {name} was lost while {doing}; the outcome is unknown, look before asking again");
                    return Err(Fault::unavailable(text).because(error.message()));
                }
                Err(fault::fault(&error, doing))
            }
            Err(_) => Err(Fault::internal(format!("a defect in the libvirt bridge showed while {doing}; please report it"))),
        }
    }

    /// The connection with that number is dead. Called from any thread, libvirt's event thread included.
    fn lose(&self, number: u64, reason: Arc<str>) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Up(session) if session.number == number) {
            // The link thread holds a reference of its own, so the connection is not closed here.
            *state = State::Down(reason);
            self.wake.notify_all();
        }
    }

    /// Lets the link thread look whether something waits to be told.
    fn nudge(&self) {
        // Taking the lock orders this after the link thread's own look, so that no wake-up falls between.
        drop(self.state.lock());
        self.wake.notify_all();
    }

    fn close(&self) {
        *self.state.lock() = State::Closed;
        self.relay.stop();
        for queue in [&self.reads, &self.changes, &self.long] {
            queue.close();
        }
        self.wake.notify_all();
    }
}

/// The body of a worker thread.
fn work(shared: &Arc<Shared>, queue: &Queue<Job>) {
    while let Some(job) = queue.pop() {
        if catch_unwind(AssertUnwindSafe(|| job(shared))).is_err() {
            tracing::error!("a libvirt call panicked outside its own guard");
        }
    }
}

/// What libvirt's callbacks hold: enough to reach the link, not enough to keep it alive.
pub(crate) struct Hook {
    shared: Weak<Shared>,
    number: u64,
}

impl Hook {
    pub(crate) fn changed(&self, change: archipel_contract::host::HostChange) {
        if let Some(shared) = self.shared.upgrade()
            && shared.relay.changed(self.number, change)
        {
            shared.nudge();
        }
    }
    pub(crate) fn lost(&self, reason: &str) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lose(self.number, reason.into());
        }
    }
}

/// How often the link thread offers what the observer's full queue refused. Only while something waits.
const OFFER_AGAIN: Duration = Duration::from_millis(20);

/// The body of the link thread.
fn keep_up(shared: Arc<Shared>) {
    let mut number = 0;
    let mut pause = shared.config.first_pause;
    loop {
        number += 1;
        let Some(attempt) = attempt(&shared, number) else { return };
        match attempt {
            Ok((session, registrations)) => {
                {
                    let mut state = shared.state.lock();
                    if matches!(*state, State::Closed) {
                        return;
                    }
                    *state = State::Up(session.clone());
                }
                // The close callback may have come before the state said up; then nobody would notice.
                if !matches!(ask(|| session.connect.is_alive()), Ok(true)) {
                    shared.lose(number, "the connection died while it was made".into());
                } else {
                    count::CONNECTS.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(hypervisor = %shared.config.name, uri = %shared.config.uri, "connected");
                    pause = shared.config.first_pause;
                    shared.relay.connected(number);
                }
                let reason = stay(&shared);
                shared.relay.lost(reason.clone());
                drop(registrations);
                drop(session);
                match reason {
                    Some(reason) => tracing::warn!(hypervisor = %shared.config.name, %reason, "connection lost"),
                    None => return,
                }
            }
            Err(error) => {
                tracing::warn!(hypervisor = %shared.config.name, error = error.message(), "cannot connect");
                let reason: Arc<str> = error.message().into();
                let mut state = shared.state.lock();
                if matches!(*state, State::Closed) {
                    return;
                }
                *state = State::Down(reason.clone());
                drop(state);
                shared.relay.lost(Some(reason));
            }
        }
        if !rest(&shared, jittered(pause)) {
            return;
        }
        pause = (pause * 2).min(shared.config.longest_pause);
    }
}

/// Waits until the connection is lost (its reason) or the link closed (`None`); offers what the observer had no room for.
fn stay(shared: &Shared) -> Option<Arc<str>> {
    let mut state = shared.state.lock();
    loop {
        match &*state {
            State::Up(_) => {}
            State::Down(reason) => return Some(reason.clone()),
            State::Closed => return None,
        }
        if shared.relay.has_backlog() {
            shared.wake.wait_for(&mut state, OFFER_AGAIN);
            parking_lot::MutexGuard::unlocked(&mut state, || shared.relay.offer());
        } else {
            shared.wake.wait(&mut state);
        }
    }
}

/// Waits that long, or until the link is closed: then `false`.
fn rest(shared: &Shared, pause: Duration) -> bool {
    let until = std::time::Instant::now() + pause;
    let mut state = shared.state.lock();
    while !matches!(*state, State::Closed) {
        if shared.relay.has_backlog() {
            parking_lot::MutexGuard::unlocked(&mut state, || shared.relay.offer());
        }
        let step = if shared.relay.has_backlog() { until.min(std::time::Instant::now() + OFFER_AGAIN) } else { until };
        if std::time::Instant::now() >= until {
            return true;
        }
        shared.wake.wait_until(&mut state, step);
    }
    false
}

/// The pause, shortened by up to a quarter, so that many links to one restarted host do not knock at the same time.
fn jittered(pause: Duration) -> Duration {
    let dice = (uuid::Uuid::new_v4().as_u128() % 1000) as u32;
    pause - pause * dice / 4000
}

/// How long connecting may take before it is told that libvirt does not answer.
const SLOW: Duration = Duration::from_secs(5);

type Connected = Result<(Arc<Session>, raw::Registrations), Error>;

/// Connects on a thread of its own: a libvirtd that stands still takes the connection and never answers, and libvirt offers
/// no way to give up. `None`: the link was closed meanwhile; what still comes of the attempt is dropped by its own thread.
fn attempt(shared: &Arc<Shared>, number: u64) -> Option<Connected> {
    let slot: Arc<Mutex<Option<Connected>>> = Arc::default();
    let (mine, result) = (shared.clone(), slot.clone());
    let body = move || {
        let connected = connect(&mine, number);
        *result.lock() = Some(connected);
        drop(result);
        mine.nudge();
    };
    if let Err(error) = thread::Builder::new().name(format!("lv-conn {}", shared.config.name)).stack_size(1 << 20).spawn(body) {
        tracing::warn!(%error, "cannot start a thread to connect; this thread waits for libvirt itself");
        return Some(connect(shared, number));
    }
    let mut tell_at = Some(std::time::Instant::now() + SLOW);
    let mut state = shared.state.lock();
    loop {
        if matches!(*state, State::Closed) {
            return None;
        }
        if let Some(connected) = slot.lock().take() {
            return Some(connected);
        }
        if tell_at.is_some_and(|at| std::time::Instant::now() >= at) {
            tell_at = None;
            let reason: Arc<str> = format!("libvirtd has not answered for {} s while connecting; it is waited for", SLOW.as_secs()).into();
            tracing::warn!(hypervisor = %shared.config.name, %reason, "cannot connect yet");
            *state = State::Down(reason.clone());
            parking_lot::MutexGuard::unlocked(&mut state, || shared.relay.lost(Some(reason)));
            continue;
        }
        let offer_at = shared.relay.has_backlog().then(|| std::time::Instant::now() + OFFER_AGAIN);
        match [tell_at, offer_at].into_iter().flatten().min() {
            Some(at) => {
                shared.wake.wait_until(&mut state, at);
            }
            None => shared.wake.wait(&mut state),
        }
        if offer_at.is_some() {
            parking_lot::MutexGuard::unlocked(&mut state, || shared.relay.offer());
        }
    }
}

fn connect(shared: &Arc<Shared>, number: u64) -> Connected {
    raw::start_event_loop()?;
    let config = &shared.config;
    let connect = ask(|| Connect::open(Some(&config.uri)))?;
    if config.keepalive_seconds > 0 {
        let (interval, count) = (i32::from(config.keepalive_seconds), u32::from(config.keepalive_count));
        if let Err(error) = ask(|| connect.set_keep_alive(interval, count)) {
            tracing::debug!(uri = %config.uri, error = error.message(), "no keepalive");
        }
    }
    let hook = || Hook { shared: Arc::downgrade(shared), number };
    let registrations = raw::register(&connect, &hook);
    let session = Session { connect, uri: config.uri.as_str().into(), number, kind: OnceLock::new(), driver: OnceLock::new() };
    Ok((Arc::new(session), registrations))
}
