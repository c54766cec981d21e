//! Makes the board equal to what libvirt lists, and back from lost control. Idempotent and without input: it may run at any
//! time, and running it twice changes nothing.

use crate::{
    autostart,
    board::{Change, Draft},
    domain::{self, DomainActor, Observed},
    hypervisor, migration,
    network::Network,
    noun::{self, Noun},
    scope::{LONG, SHORT, Scope, within},
    storage_pool::Pool,
    strangers,
};
use archipel_contract::{
    Condition, DomainId, Entity, EntityId, Epoch, Facts, Fault, FaultKind, Ownership,
    domain::DomainRecord,
    event::Cause,
    host::DomainChange,
    hypervisor::{HypervisorState, Stranger},
    port::Inventory,
};
use futures::StreamExt;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// Changes told as one batch.
const BATCH: usize = 500;
/// How many machines are claimed one by one at a time, when they cannot be claimed together.
const AT_ONCE: usize = 64;

/// Lists everything, tells what differs, begins the actors that are missing and ends those of what is gone.
pub async fn list(scope: &Rc<Scope>) -> Result<(), Fault> {
    let host = &scope.host;
    migration::load(scope).await?;
    let facts = within(SHORT, host.hypervisor.facts()).await?;
    let domains = within(LONG, host.domains.list()).await?;
    let networks = within(LONG, host.networks.list()).await?;
    let pools = within(LONG, host.pools.list()).await?;
    let Sorted { ours: domains, foreign, unclear } = owned(scope, domains).await?;

    let mut changes = Vec::new();
    let mut found: HashSet<EntityId> = HashSet::with_capacity(domains.len() + networks.len() + pools.len());
    let mut note = |id: EntityId, news: Option<(&'static str, Draft)>, found: &mut HashSet<EntityId>| {
        if let Some((topic, draft)) = news {
            changes.push(Change::to(id.clone(), topic, Cause::Libvirt, draft));
        }
        found.insert(id);
    };
    for (epoch, mut record) in domains {
        record.facts.moving_to = scope.moves.to(record.id);
        let id = EntityId::Domain(record.id);
        let before = scope.board.get(&id);
        // A new epoch is news even when nothing else is.
        let news = match before {
            Some(e) if e.epoch != epoch => domain::compare(None, epoch, record).map(|(_, draft)| ("domain.changed", draft)),
            before => domain::compare(before.as_deref(), epoch, record),
        };
        // A machine that was defined while reports were lost is found here; its definer waits for nothing any more.
        if let Some(("domain.added", draft)) = &news {
            scope.expected.borrow_mut().remove(&*draft.name);
        }
        note(id, news, &mut found);
    }
    for (id, news) in noun::listed::<Network>(scope, networks).into_iter().chain(noun::listed::<Pool>(scope, pools)) {
        note(id, news, &mut found);
    }
    for batch in chunks(changes) {
        scope.board.publish_all(batch);
        // Ten thousand machines must not keep everybody else waiting.
        tokio::task::yield_now().await;
    }
    for id in found.iter() {
        scope.keeper.start(id.clone());
    }
    let elsewhere: HashMap<EntityId, Epoch> = foreign.iter().map(|(epoch, record)| (EntityId::Domain(record.id), *epoch)).collect();
    found.extend(unclear.iter().map(|id| EntityId::Domain(*id)));
    for entity in scope.board.entities() {
        // What was another host's when it was listed may have been claimed since.
        let claimed = elsewhere.get(&entity.id).is_some_and(|epoch| entity.epoch > *epoch);
        if !listed_by_libvirt(&entity) || found.contains(&entity.id) || claimed {
            continue;
        }
        // A libvirt that is going down knows no machine any more, a moment before it is lost. What it leaves out of a list is asked for
        // by name, and twice, before its owner lets it go: another host might take it for nobody's.
        match scope.directory.find::<DomainActor>(&entity.id).filter(|_| !elsewhere.contains_key(&entity.id)) {
            Some(post) => scope.catch_up(entity.id.clone(), post.ask(Observed(DomainChange::Changed("not listed")))),
            None => remove(scope, &entity),
        }
    }
    if unclear.is_empty() {
        scope.board.complete();
    }
    connected(scope, facts, strangers::listed(scope, foreign.iter().map(|(_, record)| record)));
    (scope.listed)();
    migration::listed(scope);
    autostart::listed(scope);
    // Each is claimed when the cell says whose it is.
    unclear.into_iter().for_each(|id| migration::adoption::noticed(scope, id));
    Ok(())
}

fn chunks(changes: Vec<Change>) -> impl Iterator<Item = Vec<Change>> {
    let mut rest = changes.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<Change> = rest.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

fn listed_by_libvirt(entity: &Entity) -> bool {
    matches!(entity.id, EntityId::Domain(_) | EntityId::Network(_) | EntityId::StoragePool(_))
}

/// Machines with the epochs of their ownership.
type Held = Vec<(Epoch, DomainRecord)>;

/// The machines of a listing by whose they are.
#[derive(Default)]
struct Sorted {
    ours: Held,
    /// Their address is elsewhere: they are left alone.
    foreign: Held,
    /// Nobody can say whose they are while the cell is away. They do not keep the others from being shown.
    unclear: Vec<DomainId>,
}

async fn owned(scope: &Scope, records: Vec<DomainRecord>) -> Result<Sorted, Fault> {
    let claim = |ids| within(LONG, scope.authority.claim_unowned(ids, scope.host.name.clone()));
    let held: Vec<Option<Ownership>> = match claim(records.iter().map(|r| r.id).collect()).await {
        Ok(held) => held.into_iter().map(Some).collect(),
        Err(fault) if fault.kind == FaultKind::Unavailable => {
            let each = records.iter().map(|r| async { claim(vec![r.id]).await.ok().and_then(|mut held| held.pop()) });
            let held: Vec<_> = futures::stream::iter(each).buffered(AT_ONCE).collect().await;
            if held.iter().all(Option::is_none) && !held.is_empty() {
                return Err(fault);
            }
            held
        }
        Err(fault) => return Err(fault),
    };
    let mut sorted = Sorted::default();
    for (ownership, record) in held.into_iter().zip(records) {
        match ownership {
            Some(ownership) if ownership.owner == scope.host.name => sorted.ours.push((ownership.epoch, record)),
            Some(ownership) => {
                tracing::warn!(domain = %record.id, host = %scope.host.name, owner = %ownership.owner, state = record.facts.state.name(),
                    "not shown: another hypervisor owns it");
                sorted.foreign.push((ownership.epoch, record));
            }
            None => {
                tracing::warn!(domain = %record.id, host = %scope.host.name,
                    "not shown: the cell does not answer, and without it nobody knows whose it is");
                sorted.unclear.push(record.id);
            }
        }
    }
    Ok(sorted)
}

fn remove(scope: &Rc<Scope>, entity: &Entity) {
    match entity.id {
        // What libvirt has left of a machine that leaves is the business of its move.
        EntityId::Domain(id) if scope.moves.to(id).is_some() => return,
        EntityId::Domain(_) => domain::forget(scope, entity, Cause::Libvirt),
        EntityId::Network(_) => scope.board.publish(Change::gone(entity.id.clone(), Network::TOPICS.undefined, Cause::Libvirt)),
        EntityId::StoragePool(_) => scope.board.publish(Change::gone(entity.id.clone(), Pool::TOPICS.undefined, Cause::Libvirt)),
        EntityId::Hypervisor(_) | EntityId::Task(_) => return,
    }
    scope.keeper.stop(&entity.id);
}

fn connected(scope: &Scope, mut facts: archipel_contract::hypervisor::HypervisorFacts, strangers: Vec<Stranger>) {
    let Some((entity, before)) = hypervisor::facts(scope) else { return };
    facts.state = HypervisorState::Connected;
    facts.restarts = before.restarts;
    facts.last_restart = before.last_restart;
    facts.strangers = strangers;
    facts.closed = scope.moves.closed.get();
    let topic = if before.state == HypervisorState::Connected { "hypervisor.changed" } else { "hypervisor.connected" };
    let draft = Draft::new(entity.name.clone(), entity.epoch, Facts::Hypervisor(facts));
    if draft != Draft::of(&entity) {
        scope.board.publish(Change::to(entity.id.clone(), topic, Cause::Archipel, draft));
    }
}

/// libvirt does not answer: everything it told becomes unknown, and nothing is called off.
pub fn lose(scope: &Scope, why: &str) {
    let reason: Arc<str> = format!("libvirt on {} does not answer: {why}", scope.host.name).into();
    let mut changes = Vec::new();
    for entity in scope.board.entities() {
        let topic = match entity.id {
            EntityId::Domain(_) => "domain.unknown",
            EntityId::Network(_) => "network.changed",
            EntityId::StoragePool(_) => "storage-pool.changed",
            EntityId::Hypervisor(_) | EntityId::Task(_) => continue,
        };
        if entity.condition != Condition::ControlLost {
            let draft = Draft::of(&entity).in_condition(Condition::ControlLost, Some(reason.clone()));
            changes.push(Change::to(entity.id.clone(), topic, Cause::Archipel, draft));
        }
    }
    if let Some((entity, mut facts)) = hypervisor::facts(scope)
        && facts.state != HypervisorState::Lost
    {
        // Only what was reached can be lost; what never was is still being connected, and says why it is not yet.
        let topic = match facts.state {
            HypervisorState::Connecting => "hypervisor.changed",
            HypervisorState::Connected | HypervisorState::Lost => {
                facts.state = HypervisorState::Lost;
                "hypervisor.lost"
            }
        };
        let mut draft = Draft::of(&entity).in_condition(Condition::Degraded, Some(reason));
        draft.facts = Facts::Hypervisor(facts);
        if draft != Draft::of(&entity) {
            changes.push(Change::to(entity.id.clone(), topic, Cause::Archipel, draft));
        }
    }
    scope.board.publish_all(changes);
}
