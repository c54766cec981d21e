//! Somebody who follows the feed of the cell, and folds it into what they believe.

use super::log::Log;
use archipel_contract::{Cause, Condition, Entity, EntityId, Event};
use archipel_xmpp::client::{Change, Feed, Origin};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How far apart the numbers of two lives of an agent begin.
const LIFE: u64 = archipel_actors::board::NUMBERS_OF_AN_INCARNATION;

/// What of it is written into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Every event.
    Full,
    /// How often each topic came between two steps.
    Counted,
    /// Snapshots only: for somebody who misses some events, and which ones is chance.
    Snapshots,
}

/// What one viewer believes.
#[derive(Clone)]
pub(super) struct Viewer {
    pub(super) name: String,
    inner: Arc<Mutex<Belief>>,
}

#[derive(Default)]
pub(super) struct Belief {
    pub(super) known: BTreeMap<EntityId, Arc<Entity>>,
    pub(super) snapshots: Vec<Origin>,
    /// Numbers that do not follow one another.
    pub(super) holes: Vec<String>,
    offline: bool,
}

impl Viewer {
    /// Follows the feed until it ends.
    pub(super) fn follow(name: &str, mut feed: Feed, detail: Detail, log: Log) -> Viewer {
        let viewer = Viewer { name: name.to_owned(), inner: Arc::default() };
        let me = viewer.clone();
        tokio::spawn(async move {
            while let Some(change) = feed.next().await {
                log.news();
                match change {
                    Ok(change) => me.learn(change, detail, &log),
                    Err(fault) => log.write(&me.name, "", &format!("the feed says {}: {fault}", fault.kind.name())),
                }
            }
        });
        viewer
    }

    pub(super) fn belief(&self) -> MutexGuard<'_, Belief> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, change: Change, detail: Detail, log: &Log) {
        let mut belief = self.belief();
        match change {
            Change::Snapshot(origin, entities) => {
                belief.offline = false;
                belief.snapshots.push(origin);
                let word = match origin {
                    Origin::Beginning => "a snapshot",
                    Origin::Reconnected => "reconnected: a snapshot",
                    Origin::Missed => "something was missed: a snapshot",
                };
                log.write(&self.name, "", &format!("{word} of {} entities", entities.len()));
                entities.iter().for_each(|e| introduce(e, log));
                belief.known = entities.into_iter().map(|e| (e.id.clone(), e)).collect();
            }
            Change::Event(event) => {
                if let Some(after) = &event.after {
                    introduce(after, log);
                }
                if let Some(hole) = hole(&belief, &event) {
                    belief.holes.push(hole);
                }
                let before = match &event.after {
                    Some(after) => belief.known.insert(event.entity.clone(), after.clone()),
                    None => belief.known.remove(&event.entity),
                };
                match detail {
                    Detail::Full => {
                        let about = event.after.as_ref().or(before.as_ref()).map_or_else(|| event.entity.to_string(), |e| shown(e, log));
                        log.write(&self.name, &about, &line(&about, &event));
                    }
                    Detail::Counted => log.count(&self.name, &event.topic),
                    Detail::Snapshots => {}
                }
            }
            Change::Offline(fault) => {
                if !std::mem::replace(&mut belief.offline, true) {
                    log.write(&self.name, "", &format!("offline: {}", fault.kind.name()));
                }
            }
        }
    }
}

fn introduce(entity: &Entity, log: &Log) {
    match &entity.id {
        EntityId::Task(id) => log.task(id.to_string()),
        EntityId::Hypervisor(_) => {}
        EntityId::Domain(_) => log.name(entity.id.plain(), &entity.name),
        EntityId::Network(_) | EntityId::StoragePool(_) => log.name(entity.id.plain(), &format!("{}@{}", entity.name, entity.host)),
    }
}

/// The entity as the log calls it.
fn shown(entity: &Entity, log: &Log) -> String {
    match &entity.id {
        EntityId::Domain(_) => entity.name.to_string(),
        EntityId::Network(_) => format!("net {}@{}", entity.name, entity.host),
        EntityId::StoragePool(_) => format!("pool {}@{}", entity.name, entity.host),
        EntityId::Hypervisor(name) => format!("hv {name}"),
        EntityId::Task(id) => log.named(&id.to_string()).unwrap_or_else(|| "task".into()),
    }
}

/// The number must be the next one, unless the agent began a new life, whose numbers are higher.
///
/// While an agent is unreachable its queue may overflow, and what it had said may be lost with its session; when it is back it says
/// how everything is now. So the one change that ends that an entity is unreachable may leave numbers out. Nothing is missing after
/// it, because it carries the whole entity; at the end of every run the beliefs of all viewers are compared with the truth.
fn hole(belief: &Belief, event: &Event) -> Option<String> {
    let before = belief.known.get(&event.entity)?;
    let is_back = event.after.as_ref().is_none_or(|e| e.condition != Condition::Unreachable);
    let most = if before.condition == Condition::Unreachable && is_back { LIFE } else { 1 };
    let next = (before.seq.0 + 1..=before.seq.0 + most).contains(&event.seq.0) || event.seq.0 / LIFE > before.seq.0 / LIFE;
    let fits = if event.epoch == before.epoch { next } else { event.epoch > before.epoch };
    (!fits).then(|| format!("{}: {} {} after {} {}", before.name, event.epoch.0, event.seq.0, before.epoch.0, before.seq.0))
}

fn line(about: &str, event: &Event) -> String {
    let cause = match &event.cause {
        Cause::Person(jid) => jid.split('@').next().unwrap_or_default().to_owned(),
        Cause::Libvirt => "libvirt".into(),
        Cause::Archipel => "archipel".into(),
    };
    let number = format!("{}/{}.{}", event.epoch.0, event.seq.0 / LIFE, event.seq.0 % LIFE);
    let state = event.after.as_ref().map_or("gone", |e| e.state());
    let why = match &event.after {
        Some(e) if e.condition != Condition::Ok => e.why.as_deref().unwrap_or("not well"),
        _ => "",
    };
    format!("{about:<18} {:<22} {state:<12} {cause:<9} {number:<7} {why}", event.topic)
}
