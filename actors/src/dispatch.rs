//! The way of a request to its actor and back.
//!
//! ```text
//!   request -> known? -> allowed? -> right target? -> arguments? --read--> actor -> answer
//!                                                          |
//!                                                        change
//!                                                          v
//!              journal: accept --done before--> the first answer
//!                         |  \--running-------> waits for the first one's end
//!                         v
//!                       actor ---> journal: complete ---+--> answer
//!                         \------> its event is known --/
//! ```
//! A change goes on when whoever asked has gone: it is carried by a task of the agent's own thread, and its end is written
//! down before anybody hears of it. The same operation sent twice runs once. Half of what a change costs is waking threads, so
//! the store's thread hands on what it has written by itself: to the agent when it accepts, to whoever asked at the end.

use crate::{
    ask::bare,
    board::Board,
    directory::Directory,
    domain::turn,
    glue, metrics,
    routes::{self, Errand, Route},
    settle::{self, Interruption},
};
use archipel_contract::{
    BoxFuture, Caller, Effect, EntityId, Facts, Fault, OperationId,
    access::authorise,
    catalog::{ArgumentKind, CommandEntry},
    host::Host,
    hypervisor::HypervisorState,
    port::{Acceptance, Address, Clock, Dispatcher, Journal, Operation, Request},
};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;
use tracing::Instrument;

/// Changes under way at the same time; more are told to come back.
const UNDER_WAY: u32 = 1024;
/// How long a repeated request waits for the end of the first one.
const FIRST_ONE: Duration = Duration::from_secs(150);

type Outcome = Result<Value, Fault>;
type Key = (String, OperationId);

/// Carries futures on the agent's own thread. `false`: the thread has ended.
pub type Runner = Arc<dyn Fn(BoxFuture<'static, ()>) -> bool + Send + Sync>;

/// Asks for a fresh life of an actor whose restarts were used up.
pub type Reviver = Arc<dyn Fn(&Post, &EntityId) + Send + Sync>;

/// One hypervisor as the dispatcher knows it.
#[derive(Clone)]
pub struct Post {
    /// Its ports, to look at what became of an interrupted operation.
    pub host: Host,
    /// What is known of its entities.
    pub board: Arc<Board>,
    /// Where its actors are found: a machine on its way between two hypervisors of one agent has an actor on each.
    pub directory: Arc<Directory>,
}

/// What the dispatcher is made of.
pub struct Parts {
    /// The hypervisors of this agent.
    pub hosts: Vec<Post>,
    /// What was accepted and must be answered.
    pub journal: Arc<dyn Journal>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Carries changes to their end.
    pub runner: Runner,
    /// Brings back actors that were given up.
    pub reviver: Reviver,
}

/// The agent's dispatcher: every surface's only way to its actors.
pub struct Routes {
    inner: Arc<Inner>,
    table: HashMap<String, Route>,
}

struct Inner {
    parts: Parts,
    open: AtomicBool,
    room: Arc<Semaphore>,
    under_way: Mutex<HashMap<Key, watch::Receiver<Option<Outcome>>>>,
}

impl Routes {
    /// The dispatcher over all routes. Panics when two commands have one name, which the first test finds.
    pub fn new(parts: Parts) -> Routes {
        let mut table = HashMap::new();
        for route in routes::list() {
            let name = route.entry.name.clone();
            assert!(table.insert(name.clone(), route).is_none(), "{name} is listed twice");
        }
        let inner =
            Inner { parts, open: AtomicBool::new(true), room: Arc::new(Semaphore::new(UNDER_WAY as usize)), under_way: Mutex::default() };
        Routes { inner: Arc::new(inner), table }
    }

    /// Takes no more changes, and waits until those under way have ended, at most that long. `false`: some have not.
    pub async fn close(&self, limit: Duration) -> bool {
        self.inner.open.store(false, Ordering::Release);
        tokio::time::timeout(limit, self.inner.room.acquire_many(UNDER_WAY)).await.is_ok_and(|r| r.is_ok())
    }

    async fn route(&self, request: Request) -> (&'static str, Outcome) {
        let Some(route) = self.table.get(&request.command) else {
            let shown: String = request.command.chars().take(80).collect();
            return ("unknown", Err(Fault::invalid(format!("there is no command {shown:?}; ask for the list of commands"))));
        };
        let name = name_of(&route.entry);
        (name, self.carry(route, request).await)
    }

    async fn carry(&self, route: &Route, request: Request) -> Outcome {
        let Request { target, command, arguments, caller } = request;
        let entry = &route.entry;
        authorise(&caller, &command, entry.access).inspect_err(|fault| {
            tracing::info!(target: "archipel::audit", who = bare(&caller.jid), role = caller.role.name(), what = %command,
                operation = %caller.operation, outcome = fault.kind.name(), "refused");
        })?;
        let target = check_target(entry, target)?;
        let Some(prepare) = route.prepare else {
            return Err(Fault::invalid(format!("{command} is asked of the cell itself; send it to the cell's address")));
        };
        check_ranges(entry, &arguments)?;
        let errand = prepare(arguments.clone())?;
        let home = self.inner.home(&target);
        if route.entry.effect == Effect::Read {
            let Some(home) = home else {
                return Err(self.inner.missing(&target, entry));
            };
            self.inner.revive(&home, &target);
            let answer = errand(&home.directory, target.clone(), caller).await;
            return answer.unwrap_or_else(|| Err(self.inner.ended(&target)));
        }
        let operation = Operation {
            id: caller.operation,
            caller: bare(&caller.jid).to_owned(),
            role: caller.role,
            command,
            target,
            arguments: archipel_contract::domain::masked(
                &entry.name,
                if arguments.is_null() { Value::Object(Default::default()) } else { arguments },
            ),
            accepted: self.inner.parts.clock.now(),
        };
        let Some(home) = home else {
            // What was asked may be why it is gone: the first answer stands.
            return match self.inner.parts.journal.recall(operation.clone()).await? {
                Some(Acceptance::Done(outcome)) => outcome,
                Some(Acceptance::New | Acceptance::Running) | None => Err(self.inner.missing(&operation.target, entry)),
            };
        };
        self.inner.clone().change(home, operation, caller, errand).await
    }
}

impl Dispatcher for Routes {
    fn call(&self, request: Request) -> BoxFuture<'_, Outcome> {
        let span = tracing::info_span!("command", command = %request.command.chars().take(80).collect::<String>(), operation = %request.caller.operation);
        Box::pin(
            async move {
                let begun = Instant::now();
                let (name, outcome) = self.route(request).await;
                metrics::command(name, &outcome, begun.elapsed());
                outcome
            }
            .instrument(span),
        )
    }
}

/// The name as a metric label: one of the catalog's, so that nobody can make labels up.
fn name_of(entry: &CommandEntry) -> &'static str {
    archipel_contract::catalog::Catalog::shipped().find(&entry.name).map_or("unlisted", |e| e.name.as_str())
}

fn entry_noun(entry: &CommandEntry) -> &'static str {
    entry.target.kind().map_or("cell", noun)
}

fn noun(kind: archipel_contract::Kind) -> &'static str {
    match kind {
        archipel_contract::Kind::Domain => "virtual machine",
        archipel_contract::Kind::StoragePool => "storage pool",
        other => other.name(),
    }
}

fn check_target(entry: &CommandEntry, target: Address) -> Result<EntityId, Fault> {
    match (target, entry.target.kind()) {
        (Address::Entity(id), Some(kind)) if id.kind() == kind => Ok(id),
        (Address::Entity(id), Some(kind)) => {
            Err(Fault::invalid(format!("{} is asked of a {}, and {id} is a {}", entry.name, noun(kind), noun(id.kind()))))
        }
        (Address::Cell, Some(kind)) => Err(Fault::invalid(format!("{} is asked of a {}; name one", entry.name, noun(kind)))),
        (_, None) => Err(Fault::invalid(format!("{} is asked of the cell itself; send it to the cell's address", entry.name))),
    }
}

/// The limits that the catalog promises hold on every surface, because they are checked here.
fn check_ranges(entry: &CommandEntry, arguments: &Value) -> Result<(), Fault> {
    for argument in entry.arguments.iter().filter(|a| a.kind == ArgumentKind::Integer) {
        let Some(value) = arguments.get(&argument.name).and_then(Value::as_i64) else { continue };
        if argument.minimum.is_some_and(|m| value < m) || argument.maximum.is_some_and(|m| value > m) {
            let (least, most) = (argument.minimum.unwrap_or(i64::MIN), argument.maximum.unwrap_or(i64::MAX));
            return Err(Fault::invalid(format!("{}: {} must be between {least} and {most}, not {value}", entry.name, argument.name)));
        }
    }
    Ok(())
}

impl Inner {
    fn home(&self, target: &EntityId) -> Option<Post> {
        // Between two hypervisors of this agent the one that claimed it last has it.
        let known = self.parts.hosts.iter().filter_map(|p| p.board.get(target).map(|e| (e.epoch, p)));
        known.max_by_key(|(epoch, _)| *epoch).map(|(_, post)| post.clone())
    }

    /// What to say of an entity that is not known: after a start nobody may call it gone before every hypervisor was listed.
    fn missing(&self, target: &EntityId, entry: &CommandEntry) -> Fault {
        let never_listed = |post: &&Post| {
            let hypervisor = post.board.get(&post.board.host().clone().into());
            hypervisor.is_none_or(|h| matches!(&h.facts, Facts::Hypervisor(f) if f.state == HypervisorState::Connecting))
        };
        match self.parts.hosts.iter().find(never_listed) {
            Some(post) if !matches!(target, EntityId::Task(_) | EntityId::Hypervisor(_)) => Fault::unavailable(format!(
                "{target} is not known here, but {} was not listed yet; ask again in a moment",
                post.board.host()
            )),
            _ => Fault::not_found(format!("there is no {} at that address; list them again", entry_noun(entry))),
        }
    }

    fn revive(&self, home: &Post, target: &EntityId) {
        (self.parts.reviver)(home, target);
    }

    /// The answer to a request that changes nothing, when its actor ended before it answered.
    fn ended(&self, target: &EntityId) -> Fault {
        match self.home(target) {
            Some(_) => Fault::unavailable(format!("the actor of {target} failed and is being restarted; ask again")),
            None => Fault::not_found(format!("{target} is gone; list them again")),
        }
    }

    async fn change(self: Arc<Self>, home: Post, operation: Operation, caller: Caller, errand: Errand) -> Outcome {
        if !self.open.load(Ordering::Acquire) {
            return Err(Fault::unavailable("the agent is shutting down; ask again when it is back"));
        }
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return Err(Fault::busy("too many changes are under way; ask again in a moment"));
        };
        let key: Key = (operation.caller.clone(), operation.id);
        let (tell, told) = watch::channel(None);
        // Stands before the journal is asked, so that whoever is told "running" finds somebody to wait for.
        let first = self.under_way.lock().entry(key.clone()).or_insert_with(|| told.clone()).clone();
        let first = (!first.same_channel(&told)).then_some(first);
        let end = End { home: self.clone(), key: first.is_none().then_some(key), tell: tell.clone(), _room: room };
        let span = tracing::Span::current();
        let accepting = async move {
            let accepted = self.parts.journal.accept(operation.clone()).await;
            let this = self.clone();
            let work = async move {
                match accepted {
                    Ok(Acceptance::New) => this.run(home, operation, caller, errand, end).await,
                    earlier => end.tell(repeated(earlier, first).await),
                }
            };
            if !(self.parts.runner)(Box::pin(work.instrument(tracing::Span::current()))) {
                tell.send_replace(Some(Err(Fault::unavailable("the agent has ended; ask again when it is back"))));
            }
        };
        glue::carry(accepting.instrument(span));
        heard(told).await
    }

    /// Carries out what is accepted. On the agent's own thread.
    async fn run(self: Arc<Self>, home: Post, operation: Operation, caller: Caller, errand: Errand, end: End) {
        self.revive(&home, &operation.target);
        let answer = errand(&home.directory, operation.target.clone(), caller).await;
        let outcome = match answer {
            Some(outcome) => outcome,
            // Whether or not libvirt can be asked, whoever asked learns what is known.
            None => settle::settle(&home.host, &home.board, &operation, Interruption::ActorFailed).await.unwrap_or_else(|fault| {
                let name = &operation.command;
                Err(Fault::unavailable(format!("{name} was interrupted and may or may not have taken effect; look before asking again"))
                    .because(fault))
            }),
        };
        // What was done is written down while its event is still on its way; the answer waits for both.
        audit(&operation, &outcome);
        let done = outcome.is_ok();
        let (known, is_known) = oneshot::channel::<()>();
        let (caller, id, ended, now) =
            (operation.caller.clone(), operation.id, to_write(&operation.command, &outcome), self.parts.clock.now());
        let writing = async move {
            let written = self.parts.journal.complete(caller, id, ended, now).await;
            if let Err(fault) = written {
                tracing::error!(operation = %id, %fault, "the end of an operation could not be written down");
            }
            // An agent that ended meanwhile will learn of no event; what was done is done.
            let _ = is_known.await;
            end.tell(outcome);
        };
        glue::carry(writing.instrument(tracing::Span::current()));
        if done {
            turn::known(&home.board, &operation).await;
        }
        let _ = known.send(());
    }
}

/// The end of one change: when it is told or dropped, nobody finds it under way any more.
struct End {
    home: Arc<Inner>,
    /// `None`: the change repeats one that is under way.
    key: Option<Key>,
    tell: watch::Sender<Option<Outcome>>,
    _room: OwnedSemaphorePermit,
}

impl End {
    fn tell(self, outcome: Outcome) {
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.home.under_way.lock().remove(key);
        }
    }
}

/// The answer to an operation that was accepted before, or could not be accepted.
async fn repeated(earlier: Result<Acceptance, Fault>, first: Option<watch::Receiver<Option<Outcome>>>) -> Outcome {
    let settling = || Fault::busy("this operation is under way and its end is not known yet; ask again in a moment");
    let (accepted, first) = (earlier?, first.map(|first| tokio::time::timeout(FIRST_ONE, heard(first))));
    match (accepted, first) {
        // Written down, but perhaps its event is still on its way.
        (Acceptance::Done(outcome), Some(first)) => first.await.unwrap_or(outcome),
        (Acceptance::Done(outcome), None) => outcome,
        (Acceptance::Running | Acceptance::New, Some(first)) => first.await.unwrap_or_else(|_| Err(settling())),
        (Acceptance::Running | Acceptance::New, None) => Err(settling()),
    }
}

async fn heard(mut told: watch::Receiver<Option<Outcome>>) -> Outcome {
    let lost = || Fault::unavailable("the operation was interrupted and may or may not have taken effect; look before asking again");
    let end = told.wait_for(Option::is_some).await.map_err(|_| lost())?;
    end.clone().unwrap_or_else(|| Err(lost()))
}

/// The end as it may be written down.
fn to_write(command: &str, outcome: &Outcome) -> Outcome {
    outcome.clone().map(|reply| archipel_contract::domain::masked_reply(command, reply))
}

fn audit(operation: &Operation, outcome: &Outcome) {
    let (ended, message) = match outcome {
        Ok(_) => ("ok", String::new()),
        Err(fault) => (fault.kind.name(), fault.to_string()),
    };
    tracing::info!(target: "archipel::audit", who = %operation.caller, role = operation.role.name(), what = %operation.command,
        target_entity = %operation.target, operation = %operation.id, outcome = ended, fault = %message, "change");
}
