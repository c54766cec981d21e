//! Ports of no single noun: what the inside needs from the outside, and what the outside may ask of the inside.

use crate::{
    BoxFuture, Caller, DomainId, Entity, EntityId, Epoch, Event, Fault, HypervisorName, Millis, OperationId, Ownership, OwnershipStep,
    Role, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// To whom a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// The cell itself.
    Cell,
    /// One entity.
    Entity(EntityId),
}

/// One request on its way to an actor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// To whom.
    pub target: Address,
    /// The command's name, for example `domain.start`.
    pub command: String,
    /// Its arguments, a JSON object.
    #[serde(default)]
    pub arguments: Value,
    /// Who asks, as stamped by the edge.
    pub caller: Caller,
}

/// Inward: whoever can carry out requests. The agent's is its actors; the exchange's is the cell.
///
/// It authorises, journals, routes and answers; the answer of a command is its `Reply` as JSON.
pub trait Dispatcher: Send + Sync {
    /// Carries out one request.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Value, Fault>>;
}

/// Outward: whoever wants to know of every change. Must not block; what does not fit its bounded queue is dropped, and the
/// receiver notices by the hole in `seq`.
pub trait Announcer: Send + Sync {
    /// Tells of changes, in order.
    fn announce(&self, events: Vec<Event>);
}

/// Everything an agent knows at the moment, to be asserted again after a reconnect.
pub trait Inventory: Send + Sync {
    /// All its entities.
    fn entities(&self) -> Vec<Arc<Entity>>;
    /// Whether its host was listed since it began. Until then what is not among the entities is not known, and not gone.
    fn is_complete(&self) -> bool {
        true
    }
}

/// Outward: the other agents of the cell, reached through the exchange.
pub trait Peers: Send + Sync {
    /// Asks another hypervisor. `unavailable` when it cannot be reached.
    fn ask(&self, peer: HypervisorName, request: Request) -> BoxFuture<'_, Result<Value, Fault>>;
    /// Asks the cell itself one of its lists, for example `hypervisor.list`. `unavailable` when it cannot be reached.
    fn ask_cell(&self, request: Request) -> BoxFuture<'_, Result<Value, Fault>>;
    /// Whether there is no cell at all, so that nobody is to be asked.
    fn is_alone(&self) -> bool {
        false
    }
}

/// The peers of a host that has none.
pub struct Alone;

impl Peers for Alone {
    fn ask(&self, peer: HypervisorName, _: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(std::future::ready(Err(Fault::unavailable(format!("{peer} cannot be asked: this host is alone")))))
    }
    fn ask_cell(&self, _: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(std::future::ready(Err(Fault::unavailable("the cell cannot be asked: this host is alone"))))
    }
    fn is_alone(&self) -> bool {
        true
    }
}

/// Ownership and leadership: compare-and-set, nothing else. SQLite on one machine, etcd in a cluster.
pub trait Authority: Send + Sync {
    /// Takes every machine nobody owns for `owner` (epoch 1) and answers how each of the given ones stands.
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>>;
    /// How one machine stands.
    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>>;
    /// How each of these stands, in their order. Claims nothing.
    fn ownerships(&self, domains: Vec<DomainId>) -> BoxFuture<'_, Result<Vec<Option<Ownership>>, Fault>> {
        Box::pin(async move {
            let mut all = Vec::with_capacity(domains.len());
            for domain in domains {
                all.push(self.ownership(domain).await?);
            }
            Ok(all)
        })
    }
    /// Changes an ownership by [`Ownership::step`], in one compare-and-set; `conflict` when it may not be, `not-found` when
    /// nobody owns the machine.
    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>>;
    /// Every machine that is parked.
    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>>;
    /// Forgets a machine that is gone, if its epoch is still `expected`; else `conflict`. The epoch is not reused: a
    /// machine with that id that comes back begins above it.
    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>>;
    /// Tries to lead `role` until `now + lease`. Renewing keeps the epoch; a new leader gets the next one. `conflict`
    /// while another holder's lease runs.
    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>>;
    /// Gives the leadership of `role` back, if `holder` has it: another may lead at once.
    fn resign(&self, role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>>;
    /// Waits until somebody else may try to lead `role`: its lease ended or was given back. It may end early; whoever waited
    /// asks [`Authority::lead`], which decides.
    fn vacancy(&self, role: String, now: Timestamp) -> BoxFuture<'_, Result<(), Fault>>;
    /// Counts up and answers how often this process's data was opened. Later incarnations number their events higher.
    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>>;
}

/// One named document of the cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Grows with every change of this document.
    pub version: u64,
    /// Its text, at most [`DOCUMENT_BYTES`].
    pub body: Vec<u8>,
}

/// The largest document.
pub const DOCUMENT_BYTES: usize = 1 << 20;

/// Small named documents that must survive: definitions of parked machines, the cell's certificate authority, invitations,
/// plans and sagas. Compare-and-set, nothing else; every answered change is durable.
///
/// The cell's are kept where the [`Authority`] is; an agent keeps its own (its sagas) on its own disk.
pub trait Documents: Send + Sync {
    /// The document with that key, for example `parked/<uuid>`.
    fn document(&self, key: String) -> BoxFuture<'_, Result<Option<Versioned>, Fault>>;
    /// All documents whose key begins with `prefix`, by key.
    fn documents(&self, prefix: String) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, Fault>>;
    /// Writes a document (`None` removes it) if its version is still `expected` (`None`: there must be none), and answers the new
    /// version. `conflict` otherwise; `invalid-request` when it is too large or the key is not `[a-z0-9./-]{1,200}`.
    fn write_document(&self, key: String, expected: Option<u64>, body: Option<Vec<u8>>) -> BoxFuture<'_, Result<u64, Fault>>;
}

/// Whether a document's key and size may be.
pub fn check_document(key: &str, body: Option<&[u8]>) -> Result<(), Fault> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '/' | '-');
    if key.is_empty() || key.len() > 200 || !key.chars().all(fine) {
        return Err(Fault::invalid(format!("{:?} is not a document's key", key.chars().take(80).collect::<String>())));
    }
    match body {
        Some(body) if body.len() > DOCUMENT_BYTES => {
            Err(Fault::invalid(format!("the document {key} has {} bytes and may have {DOCUMENT_BYTES}", body.len())))
        }
        _ => Ok(()),
    }
}

/// A lease on a role. It is not mutual exclusion (a holder may pause): the epoch fences at whoever acts on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// The fencing number.
    pub epoch: Epoch,
    /// Until when it holds.
    pub until: Timestamp,
}

/// An operation that was accepted and must be answered exactly once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Chosen by the caller. Together with the bare JID it is the key.
    pub id: OperationId,
    /// Who asked: the bare JID.
    pub caller: String,
    /// The role they had.
    pub role: Role,
    /// The command.
    pub command: String,
    /// The target, as the local part of its address.
    pub target: EntityId,
    /// Its arguments.
    pub arguments: Value,
    /// When it was accepted.
    pub accepted: Timestamp,
}

/// What the journal says to an operation that asks to be accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Acceptance {
    /// It is new and now written down: carry it out.
    New,
    /// It was carried out before: this was the answer.
    Done(Result<Value, Fault>),
    /// It is being carried out right now, by somebody else's request.
    Running,
}

/// Write-ahead of operations: accepted before it runs, done before it is answered. Nothing acknowledged is ever lost.
pub trait Journal: Send + Sync {
    /// Writes an operation down, unless it is there already. The same id with another command, target or arguments is
    /// refused as `conflict`.
    fn accept(&self, operation: Operation) -> BoxFuture<'_, Result<Acceptance, Fault>>;
    /// What [`Journal::accept`] would say of an operation that is there already, and `None` of any other. Writes nothing.
    fn recall(&self, operation: Operation) -> BoxFuture<'_, Result<Option<Acceptance>, Fault>>;
    /// Writes down how it ended.
    fn complete(&self, caller: String, id: OperationId, outcome: Result<Value, Fault>, at: Timestamp) -> BoxFuture<'_, Result<(), Fault>>;
    /// Operations accepted and not done: what a crash interrupted.
    fn interrupted(&self) -> BoxFuture<'_, Result<Vec<Operation>, Fault>>;
    /// Forgets operations done before that time; the audit keeps its own record.
    fn forget_before(&self, time: Timestamp) -> BoxFuture<'_, Result<u64, Fault>>;
    /// Operations on that entity that were done since then, the newest `most` of them: they go with a machine that moves. A journal
    /// that is the whole cell's has nothing to hand over.
    fn done_on(&self, _: EntityId, _since: Timestamp, _most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Tasks that ended since then, the newest `most` of them, newest first: they are known again after a restart. A journal that is the
    /// whole cell's knows of no task.
    fn ended_tasks(&self, _since: Timestamp, _most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Takes operations that another host has done, so that they are not done again here. What is known already stays as it is.
    fn adopt(&self, done: Vec<DoneOperation>) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            for DoneOperation { operation, outcome, at } in done {
                let (caller, id) = (operation.caller.clone(), operation.id);
                if matches!(self.accept(operation).await, Ok(Acceptance::New)) {
                    self.complete(caller, id, outcome, at).await?;
                }
            }
            Ok(())
        })
    }
}

/// An operation with its end, as one host tells it to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoneOperation {
    /// What was asked.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Result<Value, Fault>,
    /// When.
    pub at: Timestamp,
}

/// Time, so that tests own it.
pub trait Clock: Send + Sync {
    /// The time of day. Information only; never used for order.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point, never going back.
    fn monotonic(&self) -> Millis;
}

/// Who an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountKind {
    /// A person, with a role.
    Person(Role),
    /// The agent of a hypervisor: its local part is `hv.<name>`, and it may speak for the entities it leases.
    Node,
}

/// Salted keys of one SCRAM mechanism (RFC 5802). No password is ever stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// `H(ClientKey)`.
    pub stored: Vec<u8>,
    /// `ServerKey`.
    pub server: Vec<u8>,
}

/// One account of the embedded server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The local part of its JID.
    pub local: String,
    /// Who it is for.
    pub kind: AccountKind,
    /// The salt of all its keys.
    pub salt: Vec<u8>,
    /// PBKDF2 rounds.
    pub iterations: u32,
    /// Keys for SCRAM-SHA-1.
    pub sha1: ScramKeys,
    /// Keys for SCRAM-SHA-256.
    pub sha256: ScramKeys,
}

/// An entry somebody put into their roster beyond the default one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// The bare JID.
    pub jid: String,
    /// The name shown, if they chose one.
    pub name: Option<String>,
    /// The groups it is shown in.
    pub groups: Vec<String>,
}

/// Accounts and what belongs to them.
pub trait Accounts: Send + Sync {
    /// The account with that local part.
    fn find(&self, local: String) -> BoxFuture<'_, Result<Option<Account>, Fault>>;
    /// All accounts, by name.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Account>, Fault>>;
    /// Adds an account; `conflict` when it exists.
    fn add(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>>;
    /// Replaces an account's kind and keys; `not-found` when there is none.
    fn replace(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>>;
    /// Removes an account and its roster; `not-found` when there is none.
    fn remove(&self, local: String) -> BoxFuture<'_, Result<(), Fault>>;
    /// What somebody put into their roster.
    fn roster(&self, local: String) -> BoxFuture<'_, Result<Vec<RosterEntry>, Fault>>;
    /// Puts an entry into somebody's roster, or replaces it.
    fn put_roster(&self, local: String, entry: RosterEntry) -> BoxFuture<'_, Result<(), Fault>>;
    /// Takes an entry out; `not-found` when it is not there.
    fn remove_roster(&self, local: String, jid: String) -> BoxFuture<'_, Result<(), Fault>>;
}
