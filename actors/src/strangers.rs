//! Machines that libvirt has on this host while another host owns them: what a move left behind, or a second copy. They have no
//! address here, nothing is done about them, and everybody can see them on the hypervisor.
//!
//! ```text
//!   listed, or reported --another owns it--> noted --its state is reported--> noted anew
//!                                              +--gone from libvirt, or ours now--> forgotten
//! ```

use crate::{
    board::{Change, Draft},
    domain::MIGRATED,
    hypervisor,
    scope::Scope,
};
use archipel_contract::{
    DomainId, EntityId, Facts,
    domain::{DomainRecord, DomainState},
    event::Cause,
    hypervisor::{HypervisorFacts, STRANGERS, Stranger},
};

fn of(record: &DomainRecord) -> Stranger {
    let DomainRecord { id, name, facts } = record;
    let left = !facts.state.is_active() && facts.reason.as_deref() == Some(MIGRATED);
    Stranger { id: *id, name: name.clone(), state: facts.state, left }
}

/// The strangers of a whole listing: those that run come first when there are too many to tell of.
pub fn listed<'a>(scope: &Scope, foreign: impl Iterator<Item = &'a DomainRecord>) -> Vec<Stranger> {
    // Some may have been claimed while everything was listed.
    let mut all: Vec<Stranger> = foreign.filter(|r| scope.board.get(&EntityId::Domain(r.id)).is_none()).map(of).collect();
    all.sort_by_key(|s| (!s.state.is_active(), s.id));
    all.truncate(STRANGERS);
    all.sort_by_key(|s| s.id);
    all
}

/// Whether it is known as one.
pub fn is_known(scope: &Scope, id: DomainId) -> bool {
    let entity = scope.board.get(&scope.host.name.clone().into());
    entity.is_some_and(|e| matches!(&e.facts, Facts::Hypervisor(facts) if facts.strangers.iter().any(|s| s.id == id)))
}

/// It is here, and not ours.
pub fn note(scope: &Scope, record: &DomainRecord) {
    change(scope, |facts| {
        let news = of(record);
        match facts.strangers.binary_search_by_key(&news.id, |s| s.id) {
            Ok(at) => facts.strangers[at] = news,
            Err(at) if facts.strangers.len() < STRANGERS => facts.strangers.insert(at, news),
            // One that runs matters more than one that is off.
            Err(_) if news.state.is_active() => {
                if let Some(off) = facts.strangers.iter().position(|s| !s.state.is_active()) {
                    facts.strangers.remove(off);
                    let at = facts.strangers.partition_point(|s| s.id < news.id);
                    facts.strangers.insert(at, news);
                }
            }
            Err(_) => {}
        }
    });
}

/// One that is known is in this state now.
pub fn enter(scope: &Scope, id: DomainId, state: DomainState) {
    change(scope, |facts| {
        if let Some(stranger) = facts.strangers.iter_mut().find(|s| s.id == id) {
            stranger.state = state;
            // Why it is off, the read that follows tells.
            stranger.left &= !state.is_active();
        }
    });
}

/// It is gone from here, or it is ours now.
pub fn forget(scope: &Scope, id: DomainId) {
    change(scope, |facts| facts.strangers.retain(|s| s.id != id));
}

fn change(scope: &Scope, change: impl FnOnce(&mut HypervisorFacts)) {
    let Some((entity, before)) = hypervisor::facts(scope) else { return };
    let mut after = before.clone();
    change(&mut after);
    if after.strangers != before.strangers {
        let mut draft = Draft::of(&entity);
        draft.facts = Facts::Hypervisor(after);
        scope.board.publish(Change::to(entity.id.clone(), "hypervisor.changed", Cause::Libvirt, draft));
    }
}
