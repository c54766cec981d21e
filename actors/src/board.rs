//! What is known of every entity of one hypervisor at this moment, and the only way to tell of a change.
//!
//! ```text
//!   actor --Change--> Board: numbers it, keeps the entity, wakes who waits --Event--> Announcer
//! ```
//! The lock is held while the announcer is called, so events leave in the order of their numbers; an announcer never blocks.
//! An idle machine costs one shared `Entity` and one row here; words that repeat (`qemu`, `booted`) are kept once.

use archipel_contract::{
    CellName, Condition, DomainId, Entity, EntityId, Epoch, Event, Facts, HypervisorName, Seq, Timestamp,
    event::Cause,
    port::{Announcer, Clock, Inventory},
};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// How far apart the numbers of two incarnations begin.
pub const NUMBERS_OF_AN_INCARNATION: u64 = 1_000_000_000;

/// An entity without what the board adds: numbers, place and times.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Its name.
    pub name: Arc<str>,
    /// The fencing number of its ownership.
    pub epoch: Epoch,
    /// How well we know it.
    pub condition: Condition,
    /// Why, if not well.
    pub why: Option<Arc<str>>,
    /// The noun's facts.
    pub facts: Facts,
}

impl Draft {
    /// An entity in good condition.
    pub fn new(name: Arc<str>, epoch: Epoch, facts: Facts) -> Draft {
        Draft { name, epoch, condition: Condition::Ok, why: None, facts }
    }
    /// An entity as it is, to be changed.
    pub fn of(entity: &Entity) -> Draft {
        Draft {
            name: entity.name.clone(),
            epoch: entity.epoch,
            condition: entity.condition.clone(),
            why: entity.why.clone(),
            facts: entity.facts.clone(),
        }
    }
    /// The same with another condition.
    pub fn in_condition(mut self, condition: Condition, why: Option<Arc<str>>) -> Draft {
        self.condition = condition;
        self.why = why;
        self
    }
}

/// One change to tell of.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose.
    pub id: EntityId,
    /// What happened; one of the topics of the contract.
    pub topic: &'static str,
    /// Why.
    pub cause: Cause,
    /// More about it for people.
    pub detail: Option<Arc<str>>,
    /// The entity afterwards; `None` when it is gone.
    pub after: Option<Draft>,
}

impl Change {
    /// A change after which the entity is like this.
    pub fn to(id: impl Into<EntityId>, topic: &'static str, cause: Cause, after: Draft) -> Change {
        Change { id: id.into(), topic, cause, detail: None, after: Some(after) }
    }
    /// A change after which the entity is no more.
    pub fn gone(id: impl Into<EntityId>, topic: &'static str, cause: Cause) -> Change {
        Change { id: id.into(), topic, cause, detail: None, after: None }
    }
    /// The same with a detail for people.
    pub fn with_detail(mut self, detail: Option<Arc<str>>) -> Change {
        self.detail = detail;
        self
    }
}

/// The entities of one hypervisor.
pub struct Board {
    cell: CellName,
    host: HypervisorName,
    announcer: Arc<dyn Announcer>,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    listed: AtomicBool,
}

struct Inner {
    entities: HashMap<EntityId, Arc<Entity>>,
    /// New entities are numbered from here, above every number of one that went.
    next: u64,
    waiting: HashMap<EntityId, Arc<Notify>>,
    words: HashSet<Arc<str>>,
}

impl Inner {
    fn word(&mut self, word: &mut Arc<str>) {
        match self.words.get(word) {
            Some(known) => *word = known.clone(),
            // A bound, in case something that does not repeat is taken for a word.
            None if self.words.len() < 1024 => {
                self.words.insert(word.clone());
            }
            None => {}
        }
    }

    fn share_words(&mut self, facts: &mut Facts) {
        match facts {
            Facts::Domain(f) => {
                self.word(&mut f.virtualization);
                if let Some(reason) = &mut f.reason {
                    self.word(reason);
                }
            }
            Facts::Network(f) => self.word(&mut f.forward),
            Facts::StoragePool(f) => self.word(&mut f.pool_type),
            Facts::Task(f) => self.word(&mut f.command),
            Facts::Hypervisor(_) => {}
        }
    }
}

impl Board {
    /// An empty board. `incarnation` counts the starts of this agent; later ones number higher.
    pub fn new(cell: CellName, host: HypervisorName, incarnation: u64, announcer: Arc<dyn Announcer>, clock: Arc<dyn Clock>) -> Board {
        let next = incarnation.saturating_mul(NUMBERS_OF_AN_INCARNATION);
        let inner = Inner { entities: HashMap::new(), next, waiting: HashMap::new(), words: HashSet::new() };
        Board { cell, host, announcer, clock, inner: Mutex::new(inner), listed: AtomicBool::new(false) }
    }

    /// The hypervisor whose board it is.
    pub fn host(&self) -> &HypervisorName {
        &self.host
    }

    /// Everything on this hypervisor was listed and published: from now on what is not on the board is not there.
    pub fn complete(&self) {
        self.listed.store(true, Ordering::Release);
    }

    /// One entity as it is now.
    pub fn get(&self, id: &EntityId) -> Option<Arc<Entity>> {
        self.inner.lock().entities.get(id).cloned()
    }

    /// The machine with that name, if there is one.
    pub fn domain_named(&self, name: &str) -> Option<DomainId> {
        self.inner.lock().entities.values().find_map(|e| match e.id {
            EntityId::Domain(id) if *e.name == *name => Some(id),
            _ => None,
        })
    }

    /// How many entities there are.
    pub fn len(&self) -> usize {
        self.inner.lock().entities.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells of one change.
    pub fn publish(&self, change: Change) {
        self.publish_all(vec![change]);
    }

    /// Tells of several changes as one batch.
    pub fn publish_all(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let at = self.clock.now();
        let mut inner = self.inner.lock();
        let mut events = Vec::with_capacity(changes.len());
        for change in changes {
            if let Some(event) = self.apply(&mut inner, change, at) {
                events.push(event);
            }
        }
        if !events.is_empty() {
            self.announcer.announce(events);
        }
    }

    /// Puts an entity of an earlier life on the board without telling anybody, unless it is there.
    pub fn restore(&self, id: EntityId, draft: Draft) {
        let at = self.clock.now();
        let mut inner = self.inner.lock();
        if !inner.entities.contains_key(&id) {
            self.apply(&mut inner, Change { id, topic: "task.finished", cause: Cause::Archipel, detail: None, after: Some(draft) }, at);
        }
    }

    fn apply(&self, inner: &mut Inner, change: Change, at: Timestamp) -> Option<Event> {
        let Change { id, topic, cause, detail, after } = change;
        let before = inner.entities.get(&id).cloned();
        let seq = before.as_ref().map_or(Seq(inner.next), |e| e.seq.next());
        let (epoch, after) = match after {
            Some(mut draft) => {
                inner.share_words(&mut draft.facts);
                let mut entity = Entity {
                    id: id.clone(),
                    cell: self.cell.clone(),
                    name: draft.name,
                    host: self.host.clone(),
                    epoch: draft.epoch,
                    seq,
                    since: at,
                    condition: draft.condition,
                    why: draft.why,
                    facts: draft.facts,
                };
                if let Some(before) = before.filter(|b| b.state() == entity.state()) {
                    entity.since = before.since;
                }
                let entity = Arc::new(entity);
                inner.entities.insert(id.clone(), entity.clone());
                (entity.epoch, Some(entity))
            }
            None => {
                // Gone twice is gone once.
                let before = before?;
                inner.entities.remove(&id);
                inner.next = inner.next.max(seq.0 + 1);
                (before.epoch, None)
            }
        };
        if let Some(notify) = inner.waiting.get(&id) {
            notify.notify_waiters();
        }
        Some(Event { entity: id, cell: self.cell.clone(), topic: Cow::Borrowed(topic), epoch, seq, at, cause, detail, after })
    }

    /// Waits until the entity fits (`None`: it is gone), and answers what it was then. Costs nothing while nobody waits.
    pub async fn until(&self, id: &EntityId, fits: impl Fn(Option<&Entity>) -> bool) -> Option<Arc<Entity>> {
        let notify = self.inner.lock().waiting.entry(id.clone()).or_default().clone();
        let _leave = Leave { board: self, id, notify: Some(notify.clone()) };
        loop {
            let mut news = std::pin::pin!(notify.notified());
            news.as_mut().enable();
            let now = self.get(id);
            if fits(now.as_deref()) {
                return now;
            }
            news.await;
        }
    }
}

/// Takes the row of waiters away with the last of them.
struct Leave<'a> {
    board: &'a Board,
    id: &'a EntityId,
    notify: Option<Arc<Notify>>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut inner = self.board.inner.lock();
        self.notify = None;
        // One count is the row's own, one is the local clone of the `until` that is being left.
        if inner.waiting.get(self.id).is_some_and(|n| Arc::strong_count(n) <= 2) {
            inner.waiting.remove(self.id);
        }
    }
}

impl Inventory for Board {
    fn entities(&self) -> Vec<Arc<Entity>> {
        self.inner.lock().entities.values().cloned().collect()
    }
    fn is_complete(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }
}
