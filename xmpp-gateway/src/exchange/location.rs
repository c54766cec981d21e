//! The location table: where every entity of the cell is, and which node link may speak for it. Pure: no I/O, no clock.
//!
//! ```text
//!   host:    (none) --hello--> asserting --asserted--> live --lost--> unreachable --hello--> asserting ...
//!   entity:  absent --assert/announce--> known --lost--> unreachable --assert--> known
//!              ^                            |                  |
//!              +---- announced as gone, or not asserted again -+
//! ```
//! Two rules decide every conflict: a lower epoch never wins, and an entity held by another host changes hands only for a
//! strictly higher epoch. Within one epoch the higher `seq` wins. A change of owner that came through this exchange counts from
//! then on, before the new host has said a word (`handed`).
//!
//! The exchange itself says that an entity became unreachable, and such a change needs a number that no viewer has seen. So
//! each host has a *shift* that is added to the numbers of its agent and grows by one whenever the exchange speaks in the
//! agent's place. Viewers see one row of numbers without holes, but for what changed while its host was unreachable: the one change
//! with which it comes back leaves out the numbers of what was lost meanwhile, and carries the whole entity.

use super::graves::Graves;
use super::handed::Handed;
use super::interned::Words;
use super::marks::Marks;
use super::topic::{move_of, told, topic_of_absence, topic_of_assertion};
use archipel_contract::{Cause, CellName, Condition, Entity, EntityId, Event, HypervisorName, Kind, Ownership, Seq, Timestamp};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

/// Order of the maps, so that walking them in turn is walking in the order of the local parts: a UUID begins with a hex
/// digit, and `h` < `n` < `p` < `t`.
const ORDER: [Kind; 5] = [Kind::Domain, Kind::Hypervisor, Kind::Network, Kind::StoragePool, Kind::Task];

fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Domain => 0,
        Kind::Hypervisor => 1,
        Kind::Network => 2,
        Kind::StoragePool => 3,
        Kind::Task => 4,
    }
}

/// One accepted change, numbered as viewers see it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// What is told.
    pub event: Event,
    /// The entity as it was, if it was known.
    pub before: Option<Arc<Entity>>,
}

/// Why something a node said was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The link has not said hello, or another link took over.
    NoLease,
    /// The entity claims to be on a host that is not the link's own.
    OtherHost(EntityId, HypervisorName),
    /// Another host holds it with the same or a higher epoch.
    Held(EntityId, HypervisorName),
    /// Its last host tells of it, while another holds it since: in every move its last words cross the claim.
    Late(EntityId, HypervisorName),
    /// What is known already is newer.
    Stale(EntityId),
}

/// What came of an assertion or announcement.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// What was refused.
    pub refused: Vec<Refusal>,
}

#[derive(Debug)]
struct Lease {
    /// The link that speaks for the host; `None` while it is lost.
    link: Option<u64>,
    incarnation: u64,
    shift: u64,
    /// Entities asserted since the last hello; `None` once the assertion is complete.
    seen: Option<HashSet<EntityId>>,
    entities: BTreeSet<EntityId>,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Locations {
    cell: CellName,
    maps: [BTreeMap<EntityId, Arc<Entity>>; 5],
    names: HashMap<Arc<str>, Vec<EntityId>>,
    leases: HashMap<HypervisorName, Lease>,
    graves: Graves,
    handed: Handed,
    marks: Marks,
    words: Words,
}

impl Locations {
    pub(crate) fn new(cell: CellName) -> Locations {
        Locations {
            cell,
            maps: Default::default(),
            names: HashMap::new(),
            leases: HashMap::new(),
            graves: Graves::default(),
            handed: Handed::default(),
            marks: Marks::default(),
            words: Words::default(),
        }
    }

    // ------------------------------------------------------------ reading

    pub(crate) fn get(&self, id: &EntityId) -> Option<&Arc<Entity>> {
        self.maps[slot(id.kind())].get(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.maps.iter().map(BTreeMap::len).sum()
    }

    /// All of a kind, by id.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entity>> {
        self.maps[slot(kind)].values()
    }

    /// Those of a kind that people may mean by `name`: the name, the plain id, or the address.
    pub(crate) fn named(&self, kind: Kind, name: &str) -> Vec<Arc<Entity>> {
        let mut found: Vec<Arc<Entity>> =
            self.names.get(name).into_iter().flatten().filter(|id| id.kind() == kind).filter_map(|id| self.get(id).cloned()).collect();
        let local = self.cell.entity(name).ok().or_else(|| name.parse().ok()).or_else(|| plain(kind, name));
        if let Some(entity) = local.filter(|id| id.kind() == kind).and_then(|id| self.get(&id))
            && !found.iter().any(|f| f.id == entity.id)
        {
            found.push(entity.clone());
        }
        found
    }

    /// What is on a host, by kind and id.
    pub(crate) fn on_host(&self, host: &HypervisorName) -> impl Iterator<Item = &Arc<Entity>> {
        self.leases.get(host).into_iter().flat_map(|l| l.entities.iter()).filter_map(|id| self.get(id))
    }

    /// Entities in the order of their local parts, from the one after `after` on.
    pub(crate) fn page(&self, after: Option<&EntityId>) -> impl Iterator<Item = &Arc<Entity>> {
        let first = after.map_or(0, |id| slot(id.kind()));
        ORDER.iter().enumerate().skip(first).flat_map(move |(at, _)| {
            let from = match after {
                Some(id) if at == first => Bound::Excluded(id),
                _ => Bound::Unbounded,
            };
            self.maps[at].range((from, Bound::Unbounded)).map(|(_, e)| e)
        })
    }

    /// Where an entity was that went lately.
    pub(crate) fn grave(&self, id: &EntityId) -> Option<&HypervisorName> {
        self.graves.find(id)
    }

    /// The link that speaks for a host now.
    pub(crate) fn link(&self, host: &HypervisorName) -> Option<u64> {
        self.leases.get(host).and_then(|l| l.link)
    }

    /// What is added to its agent's numbers of an entity.
    pub(crate) fn shift(&self, entity: &Entity) -> u64 {
        self.leases.get(&entity.host).map_or(0, |l| l.shift) + self.marks.shift(&entity.id)
    }

    /// What the exchange says of an entity over what its agent says.
    pub(crate) fn mark(&self, id: &EntityId) -> Option<&Arc<str>> {
        self.marks.why(id)
    }

    /// Hosts that ever said hello, and whether their link is live.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&HypervisorName, bool)> {
        self.leases.iter().map(|(h, l)| (h, l.link.is_some()))
    }

    // ------------------------------------------------------------ what the cell itself knows

    /// The authority has given a machine another owner.
    pub(crate) fn handed(&mut self, after: &Ownership) {
        let known = self.get(&EntityId::Domain(after.domain));
        if known.is_some_and(|e| e.host != after.owner && e.epoch < after.epoch) {
            self.handed.note(after);
        }
    }

    /// Says something of an entity over what its agent says, or takes it back.
    pub(crate) fn say(&mut self, id: &EntityId, why: Option<Arc<str>>, topic: &'static str, detail: Arc<str>, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        let before = self.get(id).cloned();
        if let Some(after) = self.marks.say(id, before.as_deref(), why) {
            let after = self.put(after);
            let event = Event { detail: Some(detail), ..told(topic, &after, now) };
            outcome.changes.push(Change { event, before });
        }
        outcome
    }

    // ------------------------------------------------------------ what nodes say

    /// A link begins to speak for a host and will assert everything. A newer link replaces an older one; an agent older
    /// than the one that spoke last is refused.
    pub(crate) fn hello(&mut self, host: &HypervisorName, link: u64, incarnation: u64) -> Result<(), Refusal> {
        let lease = self.leases.entry(host.clone()).or_insert_with(|| Lease {
            link: None,
            incarnation,
            shift: 0,
            seen: None,
            entities: BTreeSet::new(),
        });
        if incarnation < lease.incarnation {
            return Err(Refusal::Stale(EntityId::Hypervisor(host.clone())));
        }
        if lease.link.is_none() && !lease.entities.is_empty() {
            lease.shift += 1;
        }
        lease.link = Some(link);
        lease.incarnation = incarnation;
        lease.seen = Some(HashSet::new());
        Ok(())
    }

    /// Takes a part of what an agent knows.
    pub(crate) fn assert(&mut self, host: &HypervisorName, link: u64, entities: Vec<Arc<Entity>>, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(shift) = self.speaks(host, link) else {
            outcome.refused.push(Refusal::NoLease);
            return outcome;
        };
        for entity in entities {
            let mut entity = Arc::unwrap_or_clone(entity);
            entity.seq = Seq(entity.seq.0.saturating_add(shift + self.marks.shift(&entity.id)));
            if let Some(refusal) = self.refuses(host, &entity) {
                // An older assertion of an entity of one's own is still a sign of life.
                if refusal == Refusal::Stale(entity.id.clone()) {
                    self.see(host, &entity.id);
                }
                outcome.refused.push(refusal);
                continue;
            }
            self.see(host, &entity.id);
            let before = self.get(&entity.id).cloned();
            if let Some(b) = before.as_deref()
                && b.epoch == entity.epoch
                && entity.seq < b.seq
            {
                outcome.refused.push(Refusal::Stale(entity.id.clone()));
                continue;
            }
            self.marks.dress(&mut entity);
            if before.as_deref() == Some(&entity) {
                continue;
            }
            let topic = topic_of_assertion(before.as_deref(), &entity);
            let after = self.put(entity);
            let detail = move_of(before.as_deref(), &after);
            outcome.changes.push(Change { event: Event { detail, ..told(topic, &after, now) }, before });
        }
        outcome
    }

    /// The agent has asserted everything: what it did not mention is gone.
    pub(crate) fn asserted(&mut self, host: &HypervisorName, link: u64, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        if self.speaks(host, link).is_none() {
            outcome.refused.push(Refusal::NoLease);
            return outcome;
        }
        let Some(lease) = self.leases.get_mut(host) else { return outcome };
        let Some(seen) = lease.seen.take() else { return outcome };
        // What was handed to another host is that one's to tell; what was handed to this one it should have told.
        let mine = lease.entities.iter().filter(|id| !seen.contains(*id) && self.handed.to(id).is_none()).cloned();
        let gone: Vec<EntityId> = mine.chain(self.handed.waiting(host)).collect();
        for id in gone {
            if let Some(before) = self.take(&id) {
                let event = Event {
                    entity: id,
                    cell: self.cell.clone(),
                    topic: Cow::Borrowed(topic_of_absence(before.kind())),
                    epoch: before.epoch,
                    seq: before.seq.next(),
                    at: now,
                    cause: Cause::Archipel,
                    detail: Some("its agent does not know it any more".into()),
                    after: None,
                };
                outcome.changes.push(Change { event, before: Some(before) });
            }
        }
        outcome
    }

    /// Takes changes as an agent tells them.
    pub(crate) fn announce(&mut self, host: &HypervisorName, link: u64, events: Vec<Event>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(shift) = self.speaks(host, link) else {
            outcome.refused.push(Refusal::NoLease);
            return outcome;
        };
        for mut event in events {
            event.seq = Seq(event.seq.0.saturating_add(shift + self.marks.shift(&event.entity)));
            event.cell = self.cell.clone();
            let before = self.get(&event.entity).cloned();
            if let Some(before) = &before
                && before.host == *host
                && (event.epoch, event.seq) <= (before.epoch, before.seq)
            {
                outcome.refused.push(Refusal::Stale(event.entity.clone()));
                continue;
            }
            let was_its = before.as_ref().is_some_and(|b| b.host == *host || b.epoch.0.checked_sub(1) == Some(event.epoch.0));
            let held = |id: EntityId, owner| if was_its { Refusal::Late(id, owner) } else { Refusal::Held(id, owner) };
            if let Some(owner) = self.handed.beyond(&event.entity, event.epoch) {
                outcome.refused.push(held(event.entity.clone(), owner.clone()));
                continue;
            }
            match event.after.take() {
                Some(after) => {
                    let mut after = Arc::unwrap_or_clone(after);
                    (after.epoch, after.seq) = (event.epoch, event.seq);
                    if after.id != event.entity {
                        outcome.refused.push(Refusal::Stale(event.entity.clone()));
                        continue;
                    }
                    if let Some(refusal) = self.refuses(host, &after) {
                        outcome.refused.push(if let Refusal::Held(id, owner) = refusal { held(id, owner) } else { refusal });
                        continue;
                    }
                    self.see(host, &after.id);
                    // New to an agent that began anew, and not to the cell.
                    if before.is_some() && event.topic.ends_with(".added") {
                        event.topic = Cow::Borrowed(topic_of_assertion(before.as_deref(), &after));
                    }
                    if let Some(way) = move_of(before.as_deref(), &after) {
                        event.topic = Cow::Borrowed("domain.migrated");
                        event.detail = Some(way);
                    }
                    self.marks.dress(&mut after);
                    event.after = Some(self.put(after));
                }
                None => match &before {
                    Some(b) if b.host == *host => drop(self.take(&event.entity)),
                    Some(b) => {
                        outcome.refused.push(held(event.entity.clone(), b.host.clone()));
                        continue;
                    }
                    None => continue,
                },
            }
            outcome.changes.push(Change { event, before });
        }
        outcome
    }

    /// The link is gone for good: everything it spoke for becomes unreachable. Nothing is removed and nothing is assumed.
    pub(crate) fn lost(&mut self, host: &HypervisorName, link: u64, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(lease) = self.leases.get_mut(host).filter(|l| l.link == Some(link)) else { return outcome };
        lease.link = None;
        lease.seen = None;
        lease.shift += 1;
        let mine = lease.entities.iter().filter(|id| self.handed.to(id).is_none()).cloned();
        let ids: Vec<EntityId> = mine.chain(self.handed.waiting(host)).collect();
        let why: Arc<str> = format!("the agent on {host} does not answer since {now}; it may well be running").into();
        for id in ids {
            let Some(before) = self.get(&id).cloned() else { continue };
            let mut after = Entity::clone(&before);
            after.condition = Condition::Unreachable;
            after.why = Some(why.clone());
            after.since = now;
            after.seq = before.seq.next();
            let topic = match after.kind() {
                Kind::Domain => "domain.unknown",
                Kind::Hypervisor => "hypervisor.lost",
                Kind::Network => "network.changed",
                Kind::StoragePool => "storage-pool.changed",
                Kind::Task => "task.progressed",
            };
            let after = self.put(after);
            let mut event = told(topic, &after, now);
            event.detail = Some(why.clone());
            outcome.changes.push(Change { event, before: Some(before) });
        }
        outcome
    }

    /// A host does not belong to the cell any more: whoever comes by its name begins anew.
    pub(crate) fn dismiss(&mut self, host: &HypervisorName) {
        if self.leases.get(host).is_some_and(|lease| lease.entities.is_empty()) {
            self.leases.remove(host);
        }
    }

    // ------------------------------------------------------------ inside

    /// The host's shift, if this link speaks for it.
    fn speaks(&self, host: &HypervisorName, link: u64) -> Option<u64> {
        self.leases.get(host).filter(|l| l.link == Some(link)).map(|l| l.shift)
    }

    fn see(&mut self, host: &HypervisorName, id: &EntityId) {
        if let Some(seen) = self.leases.get_mut(host).and_then(|l| l.seen.as_mut()) {
            seen.insert(id.clone());
        }
    }

    /// Why an entity (numbered as viewers see it) may not be taken from this host.
    fn refuses(&self, host: &HypervisorName, entity: &Entity) -> Option<Refusal> {
        if entity.host != *host || entity.cell != self.cell {
            return Some(Refusal::OtherHost(entity.id.clone(), entity.host.clone()));
        }
        if let EntityId::Hypervisor(name) = &entity.id
            && name != host
        {
            return Some(Refusal::OtherHost(entity.id.clone(), name.clone()));
        }
        if let Some(owner) = self.handed.beyond(&entity.id, entity.epoch) {
            return Some(Refusal::Held(entity.id.clone(), owner.clone()));
        }
        let known = self.get(&entity.id)?;
        if known.host != *host && entity.epoch <= known.epoch {
            return Some(Refusal::Held(entity.id.clone(), known.host.clone()));
        }
        (entity.epoch < known.epoch).then(|| Refusal::Stale(entity.id.clone()))
    }

    fn put(&mut self, mut entity: Entity) -> Arc<Entity> {
        self.share(&mut entity);
        let id = entity.id.clone();
        let entity = Arc::new(entity);
        let old = self.maps[slot(id.kind())].insert(id.clone(), entity.clone());
        if let Some(old) = &old {
            if old.name != entity.name {
                self.unname(old);
            }
            if old.host != entity.host
                && let Some(lease) = self.leases.get_mut(&old.host)
            {
                lease.entities.remove(&id);
            }
        }
        if old.is_none_or(|o| o.name != entity.name) {
            self.names.entry(entity.name.clone()).or_insert_with(|| Vec::with_capacity(1)).push(id.clone());
        }
        self.handed.told(&id, entity.epoch);
        if let Some(lease) = self.leases.get_mut(&entity.host) {
            lease.entities.insert(id);
        }
        entity
    }

    fn take(&mut self, id: &EntityId) -> Option<Arc<Entity>> {
        let old = self.maps[slot(id.kind())].remove(id)?;
        self.unname(&old);
        if let Some(lease) = self.leases.get_mut(&old.host) {
            lease.entities.remove(id);
        }
        self.handed.forget(id);
        self.graves.bury(id.clone(), old.host.clone());
        Some(old)
    }

    fn unname(&mut self, entity: &Entity) {
        if let Some(ids) = self.names.get_mut(&entity.name) {
            ids.retain(|id| *id != entity.id);
            if ids.is_empty() {
                self.names.remove(&entity.name);
            }
        }
    }

    /// Replaces texts that are equal in many entities by one copy.
    fn share(&mut self, entity: &mut Entity) {
        entity.cell = self.cell.clone();
        if let Some((host, _)) = self.leases.get_key_value(&entity.host) {
            entity.host = host.clone();
        }
        if let Some((name, _)) = self.names.get_key_value(&entity.name) {
            entity.name = name.clone();
        }
        self.words.share(&mut entity.facts);
    }
}

fn plain(kind: Kind, name: &str) -> Option<EntityId> {
    match kind {
        Kind::Hypervisor => name.parse().map(EntityId::Hypervisor).ok(),
        Kind::Domain => name.parse().map(EntityId::Domain).ok(),
        Kind::Network => name.parse().map(EntityId::Network).ok(),
        Kind::StoragePool => name.parse().map(EntityId::StoragePool).ok(),
        Kind::Task => name.parse().map(EntityId::Task).ok(),
    }
}
