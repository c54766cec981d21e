//! Hosts that are emptied for maintenance, and filled again.
//!
//! ```text
//!   drain:   closed, plan stored --> moves, some at a time --> all ended: n moved, m not      (the host stays closed)
//!   undrain: opened --> each machine that was moved is asked back from where it went
//! ```
//! Each machine's move is a task of its own; the drain's task tells how many are done. One that fails stops no other. The plan is
//! stored before anything moves, so that a restart of the daemon goes on with it.

use super::{
    ask, departure,
    place::Planned,
    plan::{chosen, words},
    request::{destination, elsewhere, follow},
};
use crate::{
    ask::bare,
    board::{Change, Draft},
    domain::in_control,
    hypervisor,
    scope::Scope,
    task,
};
use archipel_contract::{
    Caller, Command, DomainId, Entity, EntityId, Facts, Fault, FaultKind, HypervisorName, OperationId, TaskId, Timestamp,
    command::{Done, Started},
    domain::may,
    event::Cause,
    hypervisor::SetMaintenance,
    migration::{DrainHypervisor, MigrateDomain, SendBack, UndrainHypervisor, Way},
    task::{TaskFacts, TaskState},
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

/// One machine of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The machine.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: ItemState,
}

/// How one machine of a plan stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum ItemState {
    /// Its turn has not come.
    Waiting,
    /// It is being moved.
    Moving {
        /// Whither.
        to: HypervisorName,
        /// By this task.
        task: TaskId,
    },
    /// It is there.
    Moved {
        /// Where.
        to: HypervisorName,
    },
    /// It is not, because of this.
    Failed {
        /// Why not.
        why: String,
        /// Where it stays, if it did not come back.
        #[serde(default)]
        at: Option<HypervisorName>,
    },
    /// It came back.
    Back,
}

/// What is written down of a drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The task of it, or of its undoing.
    pub task: TaskId,
    /// The command.
    pub command: String,
    /// Who asked: the bare JID.
    pub caller: String,
    /// When.
    pub started: Timestamp,
    /// Whether the host is closed for it.
    pub closed: bool,
    /// How many at a time.
    pub at_a_time: u32,
    /// Only to these.
    pub to: Vec<String>,
    /// How they travel.
    pub way: Way,
    /// Whether its task is still to be done.
    pub open: bool,
    /// The machines.
    pub items: Vec<Item>,
}

/// A drain, or its undoing.
pub struct Drain {
    note: RefCell<Note>,
    cancelled: Cell<bool>,
    called_off: Notify,
}

fn key(scope: &Scope) -> String {
    format!("agent/{}/drain", scope.host.name)
}

impl Drain {
    fn new(note: Note) -> Rc<Drain> {
        Rc::new(Drain { note: RefCell::new(note), cancelled: Cell::new(false), called_off: Notify::new() })
    }
    /// Its task.
    pub fn task(&self) -> TaskId {
        self.note.borrow().task
    }
    /// Whether its task is still to be done.
    pub fn is_open(&self) -> bool {
        self.note.borrow().open
    }
    /// No further machine is moved; those on their way end as they end.
    pub fn cancel(&self) {
        self.cancelled.set(true);
        self.called_off.notify_waiters();
    }
    fn item(&self, id: DomainId, state: ItemState) {
        if let Some(item) = self.note.borrow_mut().items.iter_mut().find(|i| i.id == id) {
            item.state = state;
        }
    }
}

async fn store(scope: &Scope, drain: &Drain) -> Result<(), Fault> {
    let body = serde_json::to_vec(&*drain.note.borrow()).map_err(|e| Fault::internal("a plan cannot be written down").because(e))?;
    let before = scope.local.document(key(scope)).await?;
    scope.local.write_document(key(scope), before.map(|d| d.version), Some(body)).await.map(drop)
}

/// Reads the plan of an earlier life of this agent.
pub(super) async fn load(scope: &Rc<Scope>) -> Result<(), Fault> {
    let Some(document) = scope.local.document(key(scope)).await? else { return Ok(()) };
    match serde_json::from_slice::<Note>(&document.body) {
        Ok(note) => {
            scope.moves.closed.set(note.closed);
            *scope.moves.drain.borrow_mut() = Some(Drain::new(note));
        }
        Err(error) => tracing::error!(%error, "the plan of a drain cannot be read; it is given up"),
    }
    Ok(())
}

/// Goes on with a plan nobody carries out.
pub(super) fn resume(scope: &Rc<Scope>) {
    let drain = scope.moves.drain.borrow().clone();
    if let Some(drain) = drain.filter(|d| d.is_open()) {
        let task = EntityId::Task(drain.task());
        if scope.board.get(&task).is_none() {
            task::introduce(scope, drain.task(), facts_of(scope, &drain, "it goes on after a restart of the agent".to_owned()));
        }
        scope.keeper.start(task);
    }
}

fn facts_of(scope: &Scope, drain: &Drain, message: String) -> TaskFacts {
    let note = drain.note.borrow();
    TaskFacts {
        state: TaskState::Running,
        command: note.command.as_str().into(),
        target: scope.host.name.clone().into(),
        caller: note.caller.as_str().into(),
        percent: None,
        message: message.into(),
        fault: None,
        started: note.started,
        ended: None,
    }
}

/// Opens or closes the host, and tells so.
fn close(scope: &Scope, closed: bool, person: &str) {
    scope.moves.closed.set(closed);
    if let Some((entity, mut facts)) = hypervisor::facts(scope).filter(|(_, f)| f.closed != closed) {
        facts.closed = closed;
        let mut draft = Draft::of(&entity);
        draft.facts = Facts::Hypervisor(facts);
        let detail: Arc<str> = if closed { "closed".into() } else { "open".into() };
        let change = Change::to(scope.host.name.clone(), "hypervisor.changed", Cause::Person(person.into()), draft);
        scope.board.publish(change.with_detail(Some(detail)));
    }
}

/// `hypervisor.drain`.
pub(super) async fn drain(scope: &Rc<Scope>, command: DrainHypervisor, caller: Caller) -> Result<Started, Fault> {
    busy(scope)?;
    let person = bare(&caller.jid).to_owned();
    let machines = chosen(scope, command.only.as_deref(), command.include_off)?;
    let among = words(command.to.as_deref());
    for name in &among {
        elsewhere(scope, Some(name)).await?;
        if *name == scope.host.name.as_str() {
            return Err(Fault::new(FaultKind::Conflict, format!("{name} is the host that shall be emptied; name another")));
        }
    }
    let items = machines.iter().filter_map(|e| {
        let EntityId::Domain(id) = e.id else { return None };
        Some(Item { id, name: e.name.to_string(), state: ItemState::Waiting })
    });
    let closed = command.only.is_none();
    let most = scope.moves.limits.out;
    let at_once = command.at_a_time.map_or(most, |n| most.min(n as usize));
    let note = Note {
        task: TaskId::fresh(),
        command: DrainHypervisor::NAME.to_owned(),
        caller: person.clone(),
        started: scope.clock.now(),
        closed: closed || scope.moves.closed.get(),
        at_a_time: at_once as u32,
        to: among,
        way: Way { copy_storage: command.copy_storage, trust_storage: command.trust_storage, ..Way::default() },
        open: true,
        items: items.collect(),
    };
    let (task, count, shut) = (note.task, note.items.len(), note.closed);
    let drain = Drain::new(note);
    store(scope, &drain).await?;
    if shut {
        close(scope, true, &person);
    }
    *scope.moves.drain.borrow_mut() = Some(drain.clone());
    task::introduce(scope, task, facts_of(scope, &drain, format!("0 of {count} machines moved")));
    scope.keeper.start(EntityId::Task(task));
    let fewer = match command.at_a_time {
        Some(asked) if asked as usize > at_once => {
            format!("; {asked} were asked for, and {most} is the most it sends ([migration] at_once_out)")
        }
        _ => String::new(),
    };
    Ok(Started { task, message: format!("{count} machines are being moved away from {}, {at_once} at a time{fewer}", scope.host.name) })
}

fn busy(scope: &Scope) -> Result<(), Fault> {
    match scope.moves.drain.borrow().as_ref().filter(|d| d.is_open()) {
        Some(drain) => Err(Fault::busy(format!("task {} empties or fills it already; wait for it or cancel it", drain.task()))),
        None => Ok(()),
    }
}

/// No drain at all.
fn blank(scope: &Scope) -> Note {
    Note {
        task: TaskId::fresh(),
        command: String::new(),
        caller: String::new(),
        started: scope.clock.now(),
        closed: false,
        at_a_time: 0,
        to: Vec::new(),
        way: Way::default(),
        open: false,
        items: Vec::new(),
    }
}

/// `hypervisor.maintenance`: what a drain moved is remembered, so that undoing it later still brings it back.
pub(crate) async fn maintain(scope: &Rc<Scope>, command: SetMaintenance, caller: Caller) -> Result<Done, Fault> {
    busy(scope)?;
    let before = scope.moves.drain.borrow().clone();
    let note = before.map_or_else(|| blank(scope), |drain| drain.note.borrow().clone());
    let drain = Drain::new(Note { closed: command.enabled, ..note });
    store(scope, &drain).await?;
    close(scope, command.enabled, bare(&caller.jid));
    *scope.moves.drain.borrow_mut() = Some(drain);
    let words = if command.enabled { "in maintenance and takes no machine of another host" } else { "open again" };
    Ok(Done::new(format!("{} is {words}", scope.host.name)))
}

/// `hypervisor.undrain`.
pub(super) async fn undrain(scope: &Rc<Scope>, command: UndrainHypervisor, caller: Caller) -> Result<Started, Fault> {
    busy(scope)?;
    let person = bare(&caller.jid).to_owned();
    let before = scope.moves.drain.borrow().clone();
    let mut note = match before {
        Some(drain) => drain.note.borrow().clone(),
        None => blank(scope),
    };
    note.items.retain(|i| command.bring_back && matches!(i.state, ItemState::Moved { .. } | ItemState::Failed { at: Some(_), .. }));
    for item in &mut note.items {
        if let ItemState::Failed { at: Some(at), .. } = &item.state {
            item.state = ItemState::Moved { to: at.clone() };
        }
    }
    note = Note {
        task: TaskId::fresh(),
        command: UndrainHypervisor::NAME.to_owned(),
        caller: person.clone(),
        started: scope.clock.now(),
        closed: false,
        // They come here: what this host receives at once counts.
        at_a_time: scope.moves.limits.come as u32,
        open: true,
        ..note
    };
    let (task, count, at_once) = (note.task, note.items.len(), note.at_a_time);
    let drain = Drain::new(note);
    store(scope, &drain).await?;
    close(scope, false, &person);
    *scope.moves.drain.borrow_mut() = Some(drain.clone());
    task::introduce(scope, task, facts_of(scope, &drain, format!("0 of {count} machines are back")));
    scope.keeper.start(EntityId::Task(task));
    Ok(Started { task, message: format!("{} is open, and {count} machines are being brought back, {at_once} at a time", scope.host.name) })
}

/// Carries a plan out to its end.
pub async fn carry_out(scope: Rc<Scope>, drain: Rc<Drain>) -> departure::Ending {
    let (ids, at_a_time, back) = {
        let note = drain.note.borrow();
        let back = note.command == UndrainHypervisor::NAME;
        let open = |s: &ItemState| {
            if back { matches!(s, ItemState::Moved { .. }) } else { matches!(s, ItemState::Waiting | ItemState::Moving { .. }) }
        };
        let ids: Vec<DomainId> = note.items.iter().filter(|i| open(&i.state)).map(|i| i.id).collect();
        (ids, note.at_a_time.max(1) as usize, back)
    };
    progress(&scope, &drain, back);
    futures::stream::iter(ids)
        .for_each_concurrent(at_a_time, |id| {
            let (scope, drain) = (scope.clone(), drain.clone());
            async move {
                if drain.cancelled.get() {
                    return;
                }
                let state = if back { bring_back(&scope, &drain, id).await } else { move_away(&scope, &drain, id).await };
                drain.item(id, state);
                if let Err(fault) = store(&scope, &drain).await {
                    tracing::warn!(%fault, "how far a drain is was not written down");
                }
                progress(&scope, &drain, back);
            }
        })
        .await;
    drain.note.borrow_mut().open = false;
    if let Err(fault) = store(&scope, &drain).await {
        tracing::warn!(%fault, "the end of a drain was not written down");
    }
    ended(&drain, back)
}

fn counts(drain: &Drain, back: bool) -> (usize, Vec<String>, usize) {
    let note = drain.note.borrow();
    let good = |s: &ItemState| if back { *s == ItemState::Back } else { matches!(s, ItemState::Moved { .. }) };
    let failed = note
        .items
        .iter()
        .filter_map(|i| if let ItemState::Failed { why, .. } = &i.state { Some(format!("{}: {why}", i.name)) } else { None });
    (note.items.iter().filter(|i| good(&i.state)).count(), failed.collect(), note.items.len())
}

fn progress(scope: &Scope, drain: &Drain, back: bool) {
    let (good, failed, all) = counts(drain, back);
    let what = if back { "are back" } else { "moved" };
    let not = if failed.is_empty() { String::new() } else { format!(", {} could not be", failed.len()) };
    let percent = ((good + failed.len()) * 100).checked_div(all).map(|p| (p as u8).min(99));
    task::progress(scope, drain.task(), percent, format!("{good} of {all} machines {what}{not}"));
}

fn ended(drain: &Drain, back: bool) -> departure::Ending {
    let (good, failed, all) = counts(drain, back);
    let what = if back { "are back" } else { "moved" };
    let told = format!("{good} of {all} machines {what}");
    if drain.cancelled.get() {
        return (TaskState::Cancelled, Ok(format!("cancelled; {told}")));
    }
    if failed.is_empty() {
        return (TaskState::Done, Ok(told));
    }
    let list = serde_json::to_string(&failed).unwrap_or_default();
    let fault = Fault::new(FaultKind::Conflict, format!("{told}; {} could not be: {}", failed.len(), failed.join(" | ")));
    (TaskState::Failed, Err(fault.because(list)))
}

fn failed(why: impl Into<String>) -> ItemState {
    ItemState::Failed { why: why.into(), at: None }
}

/// Moves one machine away and answers how that ended.
async fn move_away(scope: &Rc<Scope>, drain: &Rc<Drain>, id: DomainId) -> ItemState {
    let entity = EntityId::Domain(id);
    let earlier = drain.note.borrow().items.iter().find(|i| i.id == id).map(|i| i.state.clone());
    let (to, task) = match (earlier, scope.board.get(&entity)) {
        // A restart came in between.
        (Some(ItemState::Moving { to, task }), _) if scope.moves.by_task(task).is_some() => (to, task),
        (Some(ItemState::Moving { to, .. }), None) => return ItemState::Moved { to },
        (_, None) => return failed("it is not here any more"),
        (_, Some(known)) => match begin(scope, drain, &known).await {
            Ok((to, task)) => {
                drain.item(id, ItemState::Moving { to: to.clone(), task });
                if let Err(fault) = store(scope, drain).await {
                    tracing::warn!(%fault, "how far a drain is was not written down");
                }
                (to, task)
            }
            Err(fault) => return failed(fault.message),
        },
    };
    let ended = scope.board.until(&EntityId::Task(task), |e| e.is_none_or(|e| e.state() != "running")).await;
    match ended {
        Some(task) if task.state() != "done" => {
            let why = if let Facts::Task(facts) = &task.facts { facts.message.to_string() } else { String::new() };
            failed(why)
        }
        _ => ItemState::Moved { to },
    }
}

async fn begin(scope: &Rc<Scope>, drain: &Drain, entity: &Entity) -> Result<(HypervisorName, TaskId), Fault> {
    in_control(entity)?;
    if let Some(facts) = entity.domain() {
        may(MigrateDomain::NAME, facts).check(&entity.name)?;
    }
    let (among, way, caller) = {
        let note = drain.note.borrow();
        (note.to.clone(), note.way.clone(), note.caller.clone())
    };
    // What others of this plan take is promised there, or on its way.
    let planned = on_their_way(scope);
    let (to, _) = destination(scope, entity, None, &among, &way, &caller, &planned).await?;
    let known = scope.board.get(&entity.id).ok_or_else(|| Fault::not_found("it is not here any more"))?;
    let task = departure::begin(scope, &known, to.clone(), way, MigrateDomain::NAME, &caller, OperationId::fresh()).await?;
    Ok((to, task))
}

/// What machines that leave but have no place yet will take.
fn on_their_way(scope: &Scope) -> Planned {
    let mut planned = Planned::new();
    for departure in scope.moves.departures.borrow().values() {
        let id = departure.dossier().saga.domain;
        let facts = scope.board.get(&EntityId::Domain(id)).and_then(|e| e.domain().cloned());
        if let Some(facts) = facts.filter(|f| f.state.is_active()) {
            let load = planned.entry(departure.to()).or_default();
            load.memory.0 += facts.memory.0;
            load.vcpus += facts.vcpus;
        }
    }
    planned
}

/// Has one machine sent back and answers how that ended.
async fn bring_back(scope: &Rc<Scope>, drain: &Rc<Drain>, id: DomainId) -> ItemState {
    let item = drain.note.borrow().items.iter().find(|i| i.id == id).cloned();
    let Some(Item { state: ItemState::Moved { to: at }, .. }) = item else {
        return failed("it was not moved");
    };
    if scope.board.get(&EntityId::Domain(id)).is_some() {
        return ItemState::Back;
    }
    let (way, caller) = {
        let note = drain.note.borrow();
        (serde_json::to_string(&note.way).unwrap_or_default(), note.caller.clone())
    };
    let wanted = SendBack { domain: id, way, on_behalf_of: caller, role: None };
    let ended = async {
        let started = ask(scope, &at, &wanted, super::PEER).await?;
        loop {
            let task = follow(scope, &at, started.task).await?;
            match &task.facts {
                Facts::Task(facts) if facts.state == TaskState::Running => {}
                Facts::Task(facts) if facts.state == TaskState::Done => return Ok(()),
                Facts::Task(facts) => return Err(facts.fault.clone().unwrap_or_else(|| Fault::wrong_state(facts.message.to_string()))),
                _ => return Err(Fault::internal("a task is no task; please report this")),
            }
        }
    };
    match ended.await {
        Ok(()) => ItemState::Back,
        Err(_) if scope.board.get(&EntityId::Domain(id)).is_some() => ItemState::Back,
        // It is asked for again with the next `undrain`.
        Err(fault) => ItemState::Failed { why: fault.message, at: Some(at) },
    }
}
