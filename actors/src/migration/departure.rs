//! Drives a move at its source: stores each state on the agent's own disk, then does what it says.
//!
//! ```text
//!   task actor --drive--> [ saga state --stored--> work (transit) --answer--> saga state ... ] --ended--> task ends, place given back
//!                               ^--- cancel, claimed
//! ```
//! The record outlives the task's actor and the daemon: whoever finds it feeds `restarted` and goes on.

use super::saga::{End, Input, Output, Saga};
use super::{adoption, origin, transit};
use crate::{
    board::{Change, Draft},
    domain::{DomainActor, Observed},
    scope::Scope,
    task,
};
use archipel_contract::{
    DomainId, Entity, EntityId, Facts, Fault, FaultKind, HypervisorName, Millis, MoveId, OperationId, TaskId, Timestamp,
    event::Cause,
    host::DomainChange,
    migration::{Landing, Transferred, Way},
    task::{TaskFacts, TaskState},
};
use futures::{FutureExt, future::LocalBoxFuture};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

/// The pause before a state that could not be stored is stored again.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// What is written down of a move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dossier {
    /// Where it stands.
    pub saga: Saga,
    /// The task people follow.
    pub task: TaskId,
    /// The operation that asked for it.
    pub operation: OperationId,
    /// The command that asked for it.
    pub command: String,
    /// The machine's name.
    pub name: String,
    /// How it travels.
    pub way: Way,
    /// Who asked: the bare JID.
    pub caller: String,
    /// When.
    pub started: Timestamp,
    /// Where it is received, once that is known.
    pub landing: Option<Landing>,
    /// What libvirt said of the transfer.
    pub transferred: Option<Transferred>,
}

/// What is said to a move from outside.
enum Order {
    Cancel(oneshot::Sender<Result<(), Fault>>),
    Claimed,
}

/// A machine that leaves.
pub struct Departure {
    dossier: RefCell<Dossier>,
    version: Cell<Option<u64>>,
    orders: RefCell<VecDeque<Order>>,
    news: Notify,
    /// Its turn to leave, while it has it.
    pub(super) permit: RefCell<Option<OwnedSemaphorePermit>>,
    /// Somebody drives it, or did.
    driven: Cell<bool>,
}

/// How a move ended, for its task.
pub type Ending = (TaskState, Result<String, Fault>);

fn prefix(scope: &Scope) -> String {
    format!("agent/{}/saga/", scope.host.name)
}

impl Departure {
    fn new(dossier: Dossier, version: Option<u64>, driven: bool) -> Rc<Departure> {
        Rc::new(Departure {
            dossier: RefCell::new(dossier),
            version: Cell::new(version),
            orders: RefCell::default(),
            news: Notify::new(),
            permit: RefCell::default(),
            driven: Cell::new(driven),
        })
    }

    /// What is written down of it.
    pub fn dossier(&self) -> Ref<'_, Dossier> {
        self.dossier.borrow()
    }
    /// Whither.
    pub fn to(&self) -> HypervisorName {
        self.dossier.borrow().saga.to.clone()
    }
    /// Its task.
    pub fn task(&self) -> TaskId {
        self.dossier.borrow().task
    }
    /// The operation that asked for it.
    pub fn operation(&self) -> OperationId {
        self.dossier.borrow().operation
    }
    /// Its id.
    pub fn id(&self) -> MoveId {
        self.dossier.borrow().saga.id
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Dossier)) {
        change(&mut self.dossier.borrow_mut());
    }

    /// Wants it to stay; answers once it is known whether that is still possible.
    pub async fn cancel(&self) -> Result<(), Fault> {
        let (tell, told) = oneshot::channel();
        self.orders.borrow_mut().push_back(Order::Cancel(tell));
        self.news.notify_one();
        told.await.unwrap_or_else(|_| Err(Fault::wrong_state("it has ended already")))
    }

    /// The target says that it has claimed the machine.
    pub fn claimed(&self) {
        self.orders.borrow_mut().push_back(Order::Claimed);
        self.news.notify_one();
    }

    async fn order(&self) -> Order {
        loop {
            if let Some(order) = self.orders.borrow_mut().pop_front() {
                return order;
            }
            self.news.notified().await;
        }
    }

    async fn store(&self, scope: &Scope) -> Result<(), Fault> {
        let (key, body) = {
            let dossier = self.dossier.borrow();
            let body = serde_json::to_vec(&*dossier)
                .map_err(|e| Fault::internal("a move cannot be written down; please report this").because(e))?;
            (format!("{}{}", prefix(scope), dossier.saga.id), body)
        };
        let version = scope.local.write_document(key.clone(), self.version.get(), Some(body)).await;
        match version {
            Ok(version) => {
                self.version.set(Some(version));
                Ok(())
            }
            Err(fault) => {
                // A write whose answer was lost is read back before it is written again.
                if let Ok(found) = scope.local.document(key).await {
                    self.version.set(found.map(|d| d.version));
                }
                Err(fault)
            }
        }
    }

    /// Stores it, however long that takes: nothing is done that is not written down.
    async fn insist(&self, scope: &Scope) {
        while let Err(fault) = self.store(scope).await {
            tracing::error!(saga = %self.id(), %fault, "a move waits: its state cannot be stored");
            tokio::time::sleep(STORE_AGAIN).await;
        }
    }

    async fn erase(&self, scope: &Scope) {
        let key = format!("{}{}", prefix(scope), self.id());
        while let Err(fault) = scope.local.write_document(key.clone(), self.version.get(), None).await {
            match scope.local.document(key.clone()).await {
                Ok(None) => return,
                Ok(Some(found)) => self.version.set(Some(found.version)),
                Err(_) => tracing::error!(saga = %self.id(), %fault, "a move that has ended cannot be removed; it is tried again"),
            }
            tokio::time::sleep(STORE_AGAIN).await;
        }
    }
}

/// Begins to move a machine, and answers the task that does it.
pub async fn begin(
    scope: &Rc<Scope>,
    entity: &Entity,
    to: HypervisorName,
    way: Way,
    command: &'static str,
    person: &str,
    operation: OperationId,
) -> Result<TaskId, Fault> {
    let (EntityId::Domain(domain), Some(facts)) = (&entity.id, entity.domain()) else {
        return Err(Fault::internal(format!("{} is not a virtual machine; please report this", entity.id)));
    };
    if let Some(to) = scope.moves.to(*domain) {
        return Err(Fault::wrong_state(format!("{} is being moved to {to} already", entity.name)));
    }
    let task = TaskId::fresh();
    let from = scope.host.name.clone();
    let autostart = facts.autostart && facts.persistent;
    let saga = Saga::new(MoveId::fresh(), *domain, from, to.clone(), entity.epoch, !facts.state.is_active(), autostart);
    let paused = facts.state == archipel_contract::domain::DomainState::Paused;
    let dossier = Dossier {
        saga: Saga { paused, ..saga },
        task,
        operation,
        command: command.to_owned(),
        name: entity.name.to_string(),
        way,
        caller: person.to_owned(),
        started: scope.clock.now(),
        landing: None,
        transferred: None,
    };
    let departure = Departure::new(dossier, None, false);
    // Stands before it is stored, so that nobody begins a second one meanwhile.
    scope.moves.departures.borrow_mut().insert(*domain, departure.clone());
    if let Err(fault) = departure.store(scope).await {
        scope.moves.departures.borrow_mut().remove(domain);
        return Err(fault);
    }
    tell_moving(scope, *domain, Some(to.clone()), Cause::Person(person.into()));
    task::introduce(scope, task, facts_of(&departure, format!("waiting to be moved to {to}")));
    scope.keeper.start(EntityId::Task(task));
    Ok(task)
}

fn facts_of(departure: &Departure, message: String) -> TaskFacts {
    let dossier = departure.dossier();
    TaskFacts {
        state: TaskState::Running,
        command: dossier.command.as_str().into(),
        target: EntityId::Domain(dossier.saga.domain),
        caller: dossier.caller.as_str().into(),
        percent: None,
        message: message.into(),
        fault: None,
        started: dossier.started,
        ended: None,
    }
}

fn tell_moving(scope: &Scope, domain: DomainId, to: Option<HypervisorName>, cause: Cause) {
    let Some(entity) = scope.board.get(&EntityId::Domain(domain)) else { return };
    let Some(facts) = entity.domain().filter(|f| f.moving_to != to) else { return };
    let mut facts = facts.clone();
    let (topic, detail): (_, Option<Arc<str>>) = match &to {
        Some(to) => ("domain.migrating", Some(format!("to {to}").into())),
        None => ("domain.changed", None),
    };
    facts.moving_to = to;
    let mut draft = Draft::of(&entity);
    draft.facts = Facts::Domain(facts);
    scope.board.publish(Change::to(domain, topic, cause, draft).with_detail(detail));
}

/// Reads the moves of an earlier life of this agent.
pub(super) async fn load(scope: &Rc<Scope>) -> Result<(), Fault> {
    for (key, document) in scope.local.documents(prefix(scope)).await? {
        let dossier: Dossier = match serde_json::from_slice(&document.body) {
            Ok(dossier) => dossier,
            Err(error) => {
                tracing::error!(%key, %error, "a stored move cannot be read; it is left alone, look at its machine");
                continue;
            }
        };
        let departure = Departure::new(dossier, Some(document.version), true);
        if let Some(end) = departure.dossier().saga.end() {
            scope.moves.told.borrow_mut().insert(departure.task(), ending(&departure, end).1);
            actix_rt::spawn(clear(scope.clone(), departure.clone()));
            continue;
        }
        tracing::info!(saga = %departure.id(), machine = %departure.dossier().saga.domain, "a move goes on after a restart");
        let domain = departure.dossier().saga.domain;
        scope.moves.departures.borrow_mut().insert(domain, departure);
    }
    Ok(())
}

/// Goes on with the moves nobody drives.
pub(super) fn resume(scope: &Rc<Scope>) {
    let open: Vec<Rc<Departure>> = scope.moves.departures.borrow().values().cloned().collect();
    for departure in open {
        let task = EntityId::Task(departure.task());
        if scope.board.get(&task).is_none() {
            task::introduce(scope, departure.task(), facts_of(&departure, "it goes on after a restart of the agent".to_owned()));
        }
        scope.keeper.start(task);
    }
}

/// Drives a move until it has ended for everybody.
pub async fn drive(scope: Rc<Scope>, departure: Rc<Departure>) -> Ending {
    if departure.driven.replace(true) {
        take(&scope, &departure, Input::Restarted).await;
    }
    let mut doing: Option<(Output, LocalBoxFuture<'static, Input>)> = None;
    loop {
        let saga = departure.dossier().saga.clone();
        if let Some(end) = saga.end() {
            return over(&scope, &departure, end);
        }
        let Some(wanted) = saga.work() else { return over(&scope, &departure, End::Stayed) };
        if doing.as_ref().is_none_or(|(output, _)| *output != wanted) {
            transit::say(&scope, &departure, &saga);
            doing = Some((wanted.clone(), transit::perform(scope.clone(), departure.clone(), wanted.clone()).boxed_local()));
        }
        let Some((_, work)) = &mut doing else { continue };
        // What changes something for good is not left half-way; it is short.
        let hears = !matches!(wanted, Output::Depart | Output::Stay | Output::Disarm | Output::Rearm | Output::Discard);
        let input = tokio::select! {
            input = work => {
                doing = None;
                input
            }
            order = departure.order(), if hears => match order {
                Order::Claimed => Input::Claimed,
                Order::Cancel(tell) => {
                    let refused = take(&scope, &departure, Input::Cancel).await;
                    let _ = tell.send(refused.map_or(Ok(()), Err));
                    continue;
                }
            },
        };
        take(&scope, &departure, input).await;
    }
}

/// Takes one step and stores it; answers the refusal, if there was one.
async fn take(scope: &Rc<Scope>, departure: &Rc<Departure>, input: Input) -> Option<Fault> {
    let before = departure.dossier().saga.clone();
    tracing::debug!(saga = %before.id, step = ?before.step, ?input, "move");
    let (after, outputs) = before.step(input);
    let aborts = outputs.contains(&Output::Abort);
    let refused = outputs.into_iter().find_map(|o| if let Output::Refuse(fault) = o { Some(fault) } else { None });
    // Pauses and what it waits for are not worth a write.
    let kept = |s: &Saga| Saga { tries: 0, resting: false, hindrance: None, ..s.clone() };
    let changed = kept(&before) != kept(&after);
    departure.note(|d| d.saga = after);
    if changed {
        departure.insist(scope).await;
    }
    if aborts {
        actix_rt::spawn(transit::abort(scope.clone(), departure.clone()));
    }
    refused
}

fn ending(departure: &Departure, end: End) -> Ending {
    let dossier = departure.dossier();
    let (name, to, from) = (&dossier.name, &dossier.saga.to, &dossier.saga.from);
    let fault = dossier.saga.fault.clone();
    match end {
        End::Moved => {
            let stood =
                dossier.transferred.and_then(|t| t.downtime).map(|d| format!("; its guest stood still for {} ms", d.0)).unwrap_or_default();
            let but = fault.map(|f| format!("; but {f}")).unwrap_or_default();
            (TaskState::Done, Ok(format!("{name} is on {to}{stood}{but}")))
        }
        End::Stayed if dossier.saga.cancelled => (TaskState::Cancelled, Ok(format!("cancelled; {name} stays on {from}"))),
        End::Stayed | End::Lost => (
            TaskState::Failed,
            Err(fault.unwrap_or_else(|| Fault::new(FaultKind::Unavailable, "it could not be moved; look at the machine"))),
        ),
    }
}

/// It has ended for everybody: tells so, and gives the place back without anybody waiting for it.
fn over(scope: &Rc<Scope>, departure: &Rc<Departure>, end: End) -> Ending {
    let (domain, caller, to) = {
        let dossier = departure.dossier();
        (dossier.saga.domain, dossier.caller.clone(), dossier.saga.to.clone())
    };
    scope.moves.departures.borrow_mut().remove(&domain);
    departure.permit.borrow_mut().take();
    for order in departure.orders.borrow_mut().drain(..) {
        if let Order::Cancel(tell) = order {
            let _ = tell.send(Err(Fault::wrong_state("it has ended already")));
        }
    }
    let id = EntityId::Domain(domain);
    let cause = Cause::Person(caller.as_str().into());
    match end {
        End::Moved => {
            scope.board.publish(Change::gone(id.clone(), "domain.migrated", cause).with_detail(Some(format!("to {to}").into())));
            scope.keeper.stop(&id);
            // A guest that stands still here since libvirt did not know how its hand-over ended is not discarded.
            let scope = scope.clone();
            actix_rt::spawn(async move { adoption::left(&scope, domain).await });
        }
        End::Stayed | End::Lost => {
            tell_moving(scope, domain, None, cause);
            // What libvirt reported meanwhile was part of the move.
            if let Some(post) = scope.directory.find::<DomainActor>(&id) {
                scope.catch_up(id, post.ask(Observed(DomainChange::Changed("move ended"))));
            }
        }
    }
    let ending = ending(departure, end);
    tracing::info!(target: "archipel::audit", who = %caller, what = "domain.migrate", target_entity = %domain, to = %to, outcome = ?end, "move ended");
    ending
}

/// Gives the place at the target back, and forgets the move.
pub async fn clear(scope: Rc<Scope>, departure: Rc<Departure>) {
    loop {
        let saga = departure.dossier().saga.clone();
        let Some(work) = saga.work() else { break };
        let input = transit::perform(scope.clone(), departure.clone(), work).await;
        take(&scope, &departure, input).await;
    }
    let saga = departure.dossier().saga.clone();
    if saga.end() == Some(End::Moved) {
        origin::erase(&scope, saga.domain, saga.epoch).await;
    }
    departure.erase(&scope).await;
}

/// How long ago something may have been done on a machine to be told to its next host.
pub(super) const LATELY: Millis = Millis::seconds(24 * 3600);
