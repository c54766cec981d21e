//! Keeps actors alive that fail. actix's own supervisor restarts the same instance and does not survive a panic; this one
//! holds a factory, runs each actor's future in a task of its own and sees how it ends.
//!
//! ```text
//!                 start                    normal end, quit, kill
//!   (nothing) -----------> alive --------------------------------------> (nothing)
//!                           ^ |
//!           pause is over   | | panic, error, frozen
//!         (fresh instance)  | v
//!                         waiting        budget used up --> given up: the family is told; `start` begins anew
//! ```
//! | end | how it is known |
//! |---|---|
//! | panic | caught where the task polls the actor |
//! | error | the actor left its reason in its [`Life`] and stopped |
//! | frozen | messages wait and none is taken for a while; the task is aborted |
//! | normal | the actor stopped by itself and left no reason |
//!
//! The check for frozen actors sleeps until something is sent to one of them and goes back to sleep when all is taken, so
//! that ten thousand idle actors cost nothing.

use crate::policy::{Decision, History, Policy};
use archipel_actors::life::{Life, Nudge};
use archipel_contract::{Fault, Millis};
use futures::future::LocalBoxFuture;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How often the check for frozen actors looks while something is under way.
const LOOK: Duration = Duration::from_secs(1);

/// How an actor failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It panicked, with this message.
    Panic(String),
    /// It gave up, for this reason.
    Error(Fault),
    /// It had messages and took none.
    Frozen,
}

impl Failure {
    /// One word, for the label of a metric.
    pub fn word(&self) -> &'static str {
        match self {
            Failure::Panic(_) => "panic",
            Failure::Error(_) => "error",
            Failure::Frozen => "frozen",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panic(message) => write!(f, "panic: {message}"),
            Failure::Error(fault) => write!(f, "error: {fault}"),
            Failure::Frozen => write!(f, "frozen: it took no messages any more"),
        }
    }
}

/// What a supervisor needs to know of its children. Methods are never called while the supervisor is busy with itself, so
/// they may call it back.
pub trait Family: 'static {
    /// Names a child.
    type Key: Clone + Eq + Hash + fmt::Display + 'static;
    /// Makes a child and answers its whole life as a future; `fresh` when an earlier life failed. Senders get their way to
    /// it here.
    fn make(&self, key: &Self::Key, life: &Arc<Life>, fresh: bool) -> LocalBoxFuture<'static, ()>;
    /// How it is restarted.
    fn policy(&self, key: &Self::Key) -> Policy;
    /// That life is over or will take nothing new: senders must not find it any more.
    fn leave(&self, key: &Self::Key, life: &Arc<Life>);
    /// It failed, and this will happen now.
    fn failed(&self, key: &Self::Key, failure: &Failure, decision: Decision);
}

enum State {
    Alive { life: Arc<Life>, task: AbortHandle, quitting: bool },
    Waiting,
    GivenUp,
}

struct Child {
    state: State,
    /// Made with the first failure; most children never have one.
    history: Option<Box<History>>,
}

/// Keeps the children of one family alive. Lives on one thread.
pub struct Supervisor<F: Family> {
    me: Weak<Supervisor<F>>,
    family: F,
    children: RefCell<HashMap<F::Key, Child>>,
    nudge: Nudge,
    began: Instant,
    ended: Notify,
    looks: Cell<u64>,
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned()).chars().take(200).collect()
}

/// Runs an actor to its end; `Err` with the message if it panicked.
async fn to_the_end(mut actor: LocalBoxFuture<'static, ()>, life: &Life) -> Result<(), String> {
    let end = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| actor.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
        Err(payload) => Poll::Ready(Err(message_of(&*payload))),
    })
    .await;
    // actix polls an actor once more when it is dropped. Nothing may begin then, and a second panic must stay here.
    life.end();
    let _second = catch_unwind(AssertUnwindSafe(move || drop(actor)));
    end
}

impl<F: Family> Supervisor<F> {
    /// A supervisor without children. Must be made on the thread where they shall live.
    pub fn new(family: F) -> Rc<Supervisor<F>> {
        let this = Rc::new_cyclic(|me: &Weak<Supervisor<F>>| Supervisor {
            me: me.clone(),
            family,
            children: RefCell::default(),
            nudge: Nudge::default(),
            began: Instant::now(),
            ended: Notify::new(),
            looks: Cell::new(0),
        });
        tokio::task::spawn_local(look_for_frozen(this.me.clone(), this.nudge.clone()));
        this
    }

    /// The family.
    pub fn family(&self) -> &F {
        &self.family
    }

    /// Must be pulled by whoever sends to a child; [`archipel_actors::life::Post`] does.
    pub fn nudge(&self) -> &Nudge {
        &self.nudge
    }

    /// How often it looked for frozen actors. Stands still while nothing is sent.
    pub fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// How many children there are, alive or not.
    pub fn len(&self) -> usize {
        self.children.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.children.borrow().is_empty()
    }

    /// Begins a child, unless it lives or waits for its restart. One that was given up gets a fresh budget.
    pub fn start(&self, key: F::Key) {
        let fresh = match self.children.borrow().get(&key).map(|c| &c.state) {
            Some(State::Alive { quitting: false, .. } | State::Waiting) => return,
            Some(State::GivenUp) => true,
            // One that is ending finishes beside the new one.
            Some(State::Alive { .. }) | None => false,
        };
        self.begin(key, None, fresh);
    }

    fn begin(&self, key: F::Key, history: Option<Box<History>>, fresh: bool) {
        let life = Arc::new(Life::default());
        // The factory is not the actor, but a fault in it must not end the supervisor either.
        let made = catch_unwind(AssertUnwindSafe(|| self.family.make(&key, &life, fresh)));
        let actor: LocalBoxFuture<'static, ()> = match made {
            Ok(actor) => actor,
            Err(payload) => {
                let message = message_of(&*payload);
                Box::pin(async move { std::panic::panic_any(message) })
            }
        };
        let (me, name, its) = (self.me.clone(), key.clone(), life.clone());
        let task = tokio::task::spawn_local(async move {
            let end = to_the_end(actor, &its).await;
            if let Some(supervisor) = me.upgrade() {
                supervisor.ended(name, &its, end);
            }
        });
        let state = State::Alive { life, task: task.abort_handle(), quitting: false };
        self.children.borrow_mut().insert(key, Child { state, history });
    }

    /// The child's task came to its end by itself.
    fn ended(&self, key: F::Key, life: &Arc<Life>, end: Result<(), String>) {
        let quitting = match self.children.borrow().get(&key).map(|c| &c.state) {
            Some(State::Alive { life: its, quitting, .. }) if Arc::ptr_eq(its, life) => *quitting,
            _ => return,
        };
        self.family.leave(&key, life);
        let failure = match (end, life.error()) {
            _ if quitting => None,
            (Err(message), _) => Some(Failure::Panic(message)),
            (Ok(()), Some(fault)) => Some(Failure::Error(fault)),
            (Ok(()), None) => None,
        };
        match failure {
            Some(failure) => self.failed(key, failure),
            None => self.forget(&key),
        }
    }

    fn forget(&self, key: &F::Key) {
        self.children.borrow_mut().remove(key);
        self.ended.notify_waiters();
    }

    fn failed(&self, key: F::Key, failure: Failure) {
        let policy = self.family.policy(&key);
        let now = Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let decision = {
            let mut children = self.children.borrow_mut();
            let Some(child) = children.get_mut(&key) else { return };
            let decision = child.history.get_or_insert_default().failed(&policy, now);
            child.state = match decision {
                Decision::Restart { .. } => State::Waiting,
                Decision::GiveUp => State::GivenUp,
            };
            decision
        };
        tracing::error!(actor = %key, cause = failure.word(), %failure, ?decision, "actor failed");
        if let Decision::Restart { after } = decision {
            let (me, name) = (self.me.clone(), key.clone());
            tokio::task::spawn_local(async move {
                tokio::time::sleep(after.duration()).await;
                if let Some(supervisor) = me.upgrade() {
                    supervisor.again(name);
                }
            });
        }
        self.family.failed(&key, &failure, decision);
        self.ended.notify_waiters();
    }

    fn again(&self, key: F::Key) {
        let history = match self.children.borrow_mut().get_mut(&key) {
            Some(child) if matches!(child.state, State::Waiting) => child.history.take(),
            _ => return,
        };
        self.begin(key, history, true);
    }

    /// Asks a child to end: it takes nothing new, finishes what it has and is not restarted.
    pub fn quit(&self, key: &F::Key) {
        let life = match self.children.borrow_mut().get_mut(key).map(|c| &mut c.state) {
            Some(State::Alive { life, quitting, .. }) => {
                *quitting = true;
                Some(life.clone())
            }
            Some(_) => None,
            None => return,
        };
        match life {
            Some(life) => self.family.leave(key, &life),
            None => self.forget(key),
        }
    }

    /// Ends a child at once. It is not restarted.
    pub fn kill(&self, key: &F::Key) {
        if let Some(life) = self.abort(key) {
            self.family.leave(key, &life);
        }
        self.forget(key);
    }

    fn abort(&self, key: &F::Key) -> Option<Arc<Life>> {
        match self.children.borrow().get(key).map(|c| &c.state) {
            Some(State::Alive { life, task, .. }) => {
                life.end();
                task.abort();
                Some(life.clone())
            }
            _ => None,
        }
    }

    /// Asks all children to end, and ends those at once that have not after that time. Answers how many those were.
    pub async fn quit_all(&self, limit: Duration) -> usize {
        let keys: Vec<F::Key> = self.children.borrow().keys().cloned().collect();
        for key in &keys {
            self.quit(key);
        }
        let empty = async {
            loop {
                let mut news = std::pin::pin!(self.ended.notified());
                news.as_mut().enable();
                if self.is_empty() {
                    return;
                }
                news.await;
            }
        };
        if tokio::time::timeout(limit, empty).await.is_ok() {
            return 0;
        }
        let left: Vec<F::Key> = self.children.borrow().keys().cloned().collect();
        for key in &left {
            self.kill(key);
        }
        left.len()
    }

    /// Looks at every child that has messages waiting: aborts those that took none since `seen` for too long. Answers
    /// whether any has messages waiting.
    fn look(&self, seen: &mut HashMap<F::Key, (u32, Instant)>) -> bool {
        self.looks.set(self.looks.get() + 1);
        let now = Instant::now();
        let mut waiting = HashMap::new();
        for (key, child) in self.children.borrow().iter() {
            if let State::Alive { life, .. } = &child.state
                && let (1.., taken) = life.progress()
            {
                let since = seen.get(key).filter(|(t, _)| *t == taken).map_or(now, |(_, since)| *since);
                waiting.insert(key.clone(), (taken, since));
            }
        }
        for (key, (_, since)) in &waiting {
            if now.duration_since(*since) >= self.family.policy(key).frozen_after.duration()
                && let Some(life) = self.abort(key)
            {
                self.family.leave(key, &life);
                self.failed(key.clone(), Failure::Frozen);
            }
        }
        *seen = waiting;
        !seen.is_empty()
    }
}

async fn look_for_frozen<F: Family>(supervisor: Weak<Supervisor<F>>, nudge: Nudge) {
    let mut seen = HashMap::new();
    loop {
        nudge.pulled().await;
        tokio::time::sleep(LOOK).await;
        let Some(supervisor) = supervisor.upgrade() else { return };
        // At rest before looking: what is sent while we look pulls again.
        nudge.rest();
        if supervisor.look(&mut seen) {
            nudge.pull();
        }
    }
}
