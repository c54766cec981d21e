//! Which machines of a host are meant, and where each would go if the host were emptied now. Nothing is moved.

use super::{
    place::{self, Planned},
    request::{self, elsewhere, load_of},
};
use crate::{
    domain::in_control,
    scope::{SHORT, Scope, within},
};
use archipel_contract::{
    Caller, Command, Entity, EntityId, Fault, HypervisorName,
    domain::may,
    migration::{MigrateDomain, PlanDrain, PlannedMove, Way},
    port::Inventory,
};
use std::rc::Rc;
use std::sync::Arc;

/// The words of a list with commas.
pub(super) fn words(list: Option<&str>) -> Vec<String> {
    list.unwrap_or_default().split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// The machines that are meant, by name.
pub(super) fn chosen(scope: &Scope, only: Option<&str>, include_off: bool) -> Result<Vec<Arc<Entity>>, Fault> {
    let mut all: Vec<Arc<Entity>> = scope.board.entities().into_iter().filter(|e| e.domain().is_some()).collect();
    let wanted = words(only);
    let has = |entity: &Entity, word: &str| match word.strip_prefix('#') {
        Some(tag) => {
            let note = entity.domain().and_then(|f| f.note.clone()).unwrap_or_default();
            note.split_whitespace().any(|w| w == word || w == tag)
        }
        None => *entity.name == *word || entity.id.plain() == word,
    };
    if let Some(unknown) = wanted.iter().find(|w| !all.iter().any(|e| has(e, w))) {
        return Err(Fault::not_found(format!("no machine on {} is called {unknown}; list them", scope.host.name)));
    }
    all.retain(|e| wanted.is_empty() || wanted.iter().any(|w| has(e, w)));
    all.retain(|e| include_off || e.domain().is_some_and(|f| f.state.is_active()));
    all.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
    Ok(all)
}

/// `hypervisor.drain-plan`.
pub(super) async fn plan(scope: &Rc<Scope>, command: PlanDrain, _: Caller) -> Result<Vec<PlannedMove>, Fault> {
    let way = Way { copy_storage: command.copy_storage, trust_storage: command.trust_storage, ..Way::default() };
    let among = words(command.to.as_deref());
    let mut hosts = elsewhere(scope, None).await?;
    hosts.retain(|h| among.is_empty() || among.iter().any(|a| a == h.as_str()));
    let (mut planned, mut moves) = (Planned::new(), Vec::new());
    for entity in chosen(scope, command.only.as_deref(), true)? {
        let EntityId::Domain(id) = entity.id else { continue };
        let name = entity.name.to_string();
        let nowhere = |reason: String| PlannedMove { id, name: name.clone(), to: None, reason };
        let refused =
            in_control(&entity).and_then(|()| entity.domain().map_or(Ok(()), |f| may(MigrateDomain::NAME, f).check(&entity.name)));
        if let Err(fault) = refused {
            moves.push(nowhere(fault.to_string()));
            continue;
        }
        let passport = match within(SHORT, scope.host.migration.passport(id)).await {
            Ok(passport) => passport,
            Err(fault) => {
                moves.push(nowhere(fault.to_string()));
                continue;
            }
        };
        let need = load_of(&passport);
        // A plan is for everybody to see, and no host is asked for a place: nobody's rights matter yet.
        let offers = request::offers(scope, &hosts, &passport, entity.epoch, &way, "").await?;
        let ranked = place::rank(need, offers, &planned);
        moves.push(match place::best(&ranked) {
            Some(best) => {
                if let Ok(host) = best.host.parse::<HypervisorName>() {
                    let load = planned.entry(host).or_default();
                    load.memory.0 += need.memory.0;
                    load.vcpus += need.vcpus;
                }
                PlannedMove { id, name, to: Some(best.host.clone()), reason: best.reason.clone() }
            }
            None if ranked.is_empty() => nowhere("there is no other hypervisor that answers".to_owned()),
            None => nowhere(ranked.iter().map(|c| format!("{}: {}", c.host, c.reason)).collect::<Vec<_>>().join("; ")),
        });
    }
    Ok(moves)
}
