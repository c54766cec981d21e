//! Moving machines between hosts.
//!
//! ```text
//!   domain.migrate --> departure (source: drives the saga) <--- messages of agents ---> arrival (target: holds room, claims)
//!   virsh migrate  --> adoption  (target: asks the owner to yield)
//!   domain.park    --> park      (no host)            hypervisor.drain --> drain (many departures)
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`saga`] | one move as its source drives it: a pure machine, explored by a model checker |
//! | [`departure`] | drives it at the source, on the agent's disk before it says what it does |
//! | [`transit`] | what each step of it does |
//! | [`arrival`] [`adoption`] | the target's side: places held, claims; machines that other tools brought |
//! | [`sweep`] | what a transfer that was given up leaves at its target |
//! | `leftover` | definitions that other tools left behind |
//! | `rights` [`origin`] | who may have a machine moved here, and which host may ask for one back |
//! | [`place`] | which host is the best, and why: pure |
//! | [`request`] | what people ask of a machine and of a hypervisor about all this |
//! | [`park`] | machines on no host |
//! | [`drain`] [`plan`] | hosts that are emptied; which machines that means, and where each would go |

pub mod adoption;
pub mod arrival;
pub mod departure;
pub mod drain;
mod leftover;
pub mod origin;
pub mod park;
pub mod place;
pub mod plan;
pub mod request;
mod rights;
pub mod saga;
pub mod sweep;
pub mod transit;

use crate::scope::{SHORT, Scope, within};
use archipel_contract::{
    Caller, Command, DomainId, Entity, EntityId, Fault, FaultKind, Hold, HypervisorName, MoveId, OperationId, Ownership, OwnershipStep,
    Role, TaskId,
    command::Done,
    migration::{Obstacle, ObstacleKind, Standing},
    port::{Address, Operation, Request},
};
use arrival::Arrival;
use departure::Departure;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// How many machines of one host travel at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Machines that leave it; more wait for their turn.
    pub out: usize,
    /// Machines that come to it; more wait a while for a place.
    pub come: usize,
}

impl Default for Limits {
    /// Two each way: one more would only share the network with the first two, and all would take longer.
    fn default() -> Limits {
        Limits { out: 2, come: 2 }
    }
}

/// How long another agent may take to answer.
pub const PEER: Duration = Duration::from_secs(110);

/// The pause before what could not be settled is tried again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What one hypervisor knows of machines that come and go.
pub struct Moves {
    /// Machines that leave, by machine.
    pub departures: RefCell<HashMap<DomainId, Rc<Departure>>>,
    /// Places held for machines that come, by move.
    pub arrivals: RefCell<HashMap<MoveId, Rc<Arrival>>>,
    /// Places given back, by move, of which libvirt has not let go yet.
    pub unswept: RefCell<HashMap<MoveId, Rc<Arrival>>>,
    /// A place became free.
    pub vacated: Notify,
    /// How many travel at the same time.
    pub limits: Limits,
    /// Who may leave now.
    pub outgoing: Arc<Semaphore>,
    /// Machines of others that are being looked at; `true`: something was reported meanwhile.
    pub noticed: RefCell<HashMap<DomainId, bool>>,
    /// Machines that were given up and may not be claimed yet.
    pub yielded: RefCell<HashSet<DomainId>>,
    /// How tasks ended whose moves were over when they were loaded.
    pub told: RefCell<HashMap<TaskId, Result<String, Fault>>>,
    /// The moves of an earlier life of this agent were loaded.
    pub loaded: Cell<bool>,
    /// What was being parked or unparked when this agent ended may still be open.
    pub unsettled: Cell<bool>,
    /// Somebody settles what is open.
    pub settling: Cell<bool>,
    /// Moves whose place was given back lately: a request for a place that comes late is too late.
    pub given_back: RefCell<VecDeque<MoveId>>,
    /// It takes no machines of others.
    pub closed: Cell<bool>,
    /// Claims are made one after the other.
    pub claims: tokio::sync::Mutex<()>,
    /// The drain under way or done, if there is one.
    pub drain: RefCell<Option<Rc<drain::Drain>>>,
}

impl Moves {
    /// Nothing comes or goes yet.
    pub fn new(limits: Limits) -> Moves {
        Moves {
            limits,
            departures: RefCell::default(),
            arrivals: RefCell::default(),
            unswept: RefCell::default(),
            vacated: Notify::new(),
            outgoing: Arc::new(Semaphore::new(limits.out)),
            noticed: RefCell::default(),
            yielded: RefCell::default(),
            told: RefCell::default(),
            loaded: Cell::new(false),
            unsettled: Cell::new(true),
            settling: Cell::new(false),
            given_back: RefCell::default(),
            closed: Cell::new(false),
            claims: tokio::sync::Mutex::default(),
            drain: RefCell::default(),
        }
    }

    /// Whither a machine is being moved.
    pub fn to(&self, id: DomainId) -> Option<HypervisorName> {
        self.departures.borrow().get(&id).map(|d| d.to())
    }
    /// The move of a machine that leaves.
    pub fn departure(&self, id: DomainId) -> Option<Rc<Departure>> {
        self.departures.borrow().get(&id).cloned()
    }
    /// The move that a task drives.
    pub fn by_task(&self, task: TaskId) -> Option<Rc<Departure>> {
        self.departures.borrow().values().find(|d| d.task() == task).cloned()
    }
    /// The place held for a machine.
    pub fn awaited(&self, id: DomainId) -> Option<Rc<Arrival>> {
        self.arrivals.borrow().values().find(|a| a.domain() == id).cloned()
    }
}

/// Reads what an earlier life of this agent wrote down, once, before anything is listed.
pub async fn load(scope: &Rc<Scope>) -> Result<(), Fault> {
    if !scope.moves.loaded.get() {
        departure::load(scope).await?;
        arrival::load(scope).await?;
        drain::load(scope).await?;
        scope.moves.loaded.set(true);
    }
    Ok(())
}

/// Everything was listed: goes on with what is open.
pub fn listed(scope: &Rc<Scope>) {
    departure::resume(scope);
    drain::resume(scope);
    if let Some((_, facts)) = crate::hypervisor::facts(scope) {
        facts.strangers.iter().filter(|s| !s.left).for_each(|s| adoption::noticed(scope, s.id));
    }
    if scope.moves.settling.replace(true) {
        return;
    }
    let scope = scope.clone();
    actix_rt::spawn(async move {
        let mut pause = FIRST_PAUSE;
        // The cell may be out of reach when a host is listed; what is open then is settled when it is back.
        while !(arrival::settle(&scope).await & park::settle(&scope).await) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        scope.moves.settling.set(false);
    });
}

/// What became of an operation that a restart interrupted, if what it began goes on.
pub fn continued(scope: &Scope, operation: &Operation) -> Option<Result<Value, Fault>> {
    let departures = scope.moves.departures.borrow();
    let task = departures.values().find(|d| d.operation() == operation.id).map(|d| d.task())?;
    let message = "it goes on after a restart of the agent".to_owned();
    Some(Ok(serde_json::to_value(archipel_contract::command::Started { task, message }).unwrap_or_default()))
}

// ------------------------------------------------------------ agents among each other

fn request<C: Command>(scope: &Scope, target: Address, command: &C) -> Result<Request, Fault> {
    let me = EntityId::Hypervisor(scope.host.name.clone());
    Ok(Request {
        target,
        command: C::NAME.to_owned(),
        arguments: serde_json::to_value(command)
            .map_err(|e| Fault::internal("a request could not be written; please report this").because(e))?,
        caller: Caller { jid: format!("{}/{}", scope.cell.jid(&me), scope.host.name), role: Role::Node, operation: OperationId::fresh() },
    })
}

fn reply<C: Command>(value: Value) -> Result<C::Reply, Fault> {
    serde_json::from_value(value)
        .map_err(|e| Fault::internal("the answer of another agent cannot be read; compare the versions").because(e))
}

async fn patient<T>(who: &str, limit: Duration, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::new(FaultKind::Timeout, format!("{who} did not answer within {} s", limit.as_secs()))),
    }
}

/// Asks another hypervisor in this one's name.
pub async fn ask<C: Command>(scope: &Scope, peer: &HypervisorName, command: &C, limit: Duration) -> Result<C::Reply, Fault> {
    let asked = request(scope, Address::Entity(peer.clone().into()), command)?;
    reply::<C>(patient(peer.as_str(), limit, scope.peers.ask(peer.clone(), asked)).await?)
}

/// Asks the cell for one of its lists.
pub async fn ask_cell<C: Command>(scope: &Scope, command: &C) -> Result<C::Reply, Fault> {
    let asked = request(scope, Address::Cell, command)?;
    reply::<C>(patient("the cell", SHORT, scope.peers.ask_cell(asked)).await?)
}

/// The hypervisors of the cell.
pub async fn hypervisors(scope: &Scope) -> Result<Vec<Entity>, Fault> {
    ask_cell(scope, &archipel_contract::hypervisor::ListHypervisors::default()).await
}

/// The hypervisor that asks, as the exchange stamped it.
pub fn asker(scope: &Scope, caller: &Caller) -> Result<HypervisorName, Fault> {
    match scope.cell.entity(&caller.jid) {
        Ok(EntityId::Hypervisor(name)) if caller.role == Role::Node => Ok(name),
        _ => Err(forbidden("only the agent of a hypervisor may ask this")),
    }
}

pub(crate) fn forbidden(why: &str) -> Fault {
    Fault::new(FaultKind::Forbidden, why.to_owned())
}

pub(crate) fn done(message: impl Into<String>) -> Result<Done, Fault> {
    Ok(Done::new(message))
}

/// All obstacles in one fault: a sentence for people, and the list as JSON beneath it.
pub fn refusal(name: &str, to: &HypervisorName, obstacles: &[Obstacle]) -> Fault {
    let all = |kind| obstacles.iter().all(|o| o.kind == kind);
    let kind = match () {
        () if all(ObstacleKind::State) => FaultKind::WrongState,
        () if all(ObstacleKind::Rights) => FaultKind::Forbidden,
        () => FaultKind::Conflict,
    };
    let reasons: Vec<&str> = obstacles.iter().map(|o| o.message.as_str()).collect();
    let list = serde_json::to_string(obstacles).unwrap_or_default();
    Fault::new(kind, format!("{name} cannot go to {to}: {}", reasons.join("; "))).because(list)
}

// ------------------------------------------------------------ the right to run

/// The ownership of a machine of ours, free of a move that nobody drives any more.
///
/// A `depart` may reach the authority after its saga has ended, and whoever was to claim a yielded machine may be gone. Nobody else
/// can end that state. Staying is safe where the guest is here; where only its definition is, whoever was to claim it is asked first,
/// because a machine is yielded to a host that runs it already.
pub async fn rightful(scope: &Scope, held: Ownership) -> Result<Ownership, Fault> {
    let me = &scope.host.name;
    let Hold::Moving { saga, to } = &held.hold else { return Ok(held) };
    if held.owner != *me || scope.moves.departures.borrow().contains_key(&held.domain) {
        return Ok(held);
    }
    let stays = match within(SHORT, scope.host.migration.standing(held.domain)).await? {
        Standing::Here(_) => true,
        Standing::Off(_) => !may_be_on(scope, to, held.domain).await?,
        _ => false,
    };
    if !stays {
        return Ok(held);
    }
    let step = OwnershipStep::Stay { by: me.clone(), saga: *saga };
    within(SHORT, scope.authority.step(held.domain, held.epoch, step)).await
}

/// Whether the guest may be on that host of the cell; one that does not answer may have it.
async fn may_be_on(scope: &Scope, host: &HypervisorName, id: DomainId) -> Result<bool, Fault> {
    if !hypervisors(scope).await?.iter().any(|e| e.host == *host) {
        return Ok(false);
    }
    let there = ask(scope, host, &archipel_contract::migration::AskStanding { domain: id }, SHORT).await;
    Ok(!matches!(there, Ok(Standing::Absent | Standing::Off(_) | Standing::Departed)))
}

/// Why it may not be started here.
pub fn no_right(name: &str, held: &Ownership) -> Fault {
    let owner = &held.owner;
    Fault::new(
        FaultKind::Conflict,
        match &held.hold {
            Hold::Owned => format!("{name} may only run on {owner}, which owns it"),
            Hold::Moving { to, .. } => format!("{name} is being moved from {owner} to {to}, and nobody may start it until that has ended"),
            Hold::Parked => format!("{name} is parked; unpark it first"),
        },
    )
}

/// Refuses to start a machine that libvirt moved away, as long as its guest may execute elsewhere in the cell.
pub async fn not_elsewhere(scope: &Scope, id: DomainId, name: &str) -> Result<(), Fault> {
    // libvirt itself is asked: that it was started and moved away may have happened while nobody listened.
    if within(SHORT, scope.host.migration.standing(id)).await? != Standing::Departed {
        return Ok(());
    }
    for host in hypervisors(scope).await?.into_iter().map(|e| e.host).filter(|h| *h != scope.host.name) {
        let there = ask(scope, &host, &archipel_contract::migration::AskStanding { domain: id }, SHORT).await;
        let why = match there {
            Ok(Standing::Absent | Standing::Off(_) | Standing::Departed) => continue,
            Ok(_) => format!("its guest is on {host}"),
            Err(fault) => format!("whether its guest is on {host} is not known ({fault})"),
        };
        return Err(Fault::wrong_state(format!(
            "{name} was moved away by libvirt, and {why}; it is not started here, because it could run twice"
        )));
    }
    Ok(())
}
