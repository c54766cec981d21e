//! What must be true at the end of every scenario: viewers believe what the exchange knows, and the exchange knows what is.

use super::wire::Way;
use super::world::{Authorities, CELL, Site, World};
use anyhow::Result;
use archipel_contract::{
    Condition, DomainId, Entity, EntityId, Facts, Hold,
    hypervisor::{STRANGERS, Stranger},
    network::NetworkPort,
    port::{Authority, Documents},
    storage_pool::PoolPort,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// At every moment of every scenario.
pub(super) fn nothing_runs_twice(world: &World) -> Result<()> {
    world.census.nothing_ran_twice()
}

/// No transfer, no half-received machine, no place held and no move written down.
pub(super) async fn nothing_is_left_behind(world: &World) -> Result<()> {
    for (name, site) in &world.sites {
        let unfinished = site.fake.unfinished();
        anyhow::ensure!(unfinished.is_empty(), "{name} still moves {unfinished:?}");
        for kind in ["saga", "arrival"] {
            let left = site.local.documents(format!("agent/{name}/{kind}/")).await?;
            anyhow::ensure!(
                left.is_empty(),
                "the agent of {name} still has written down: {:?}",
                left.iter().map(|(key, _)| key).collect::<Vec<_>>()
            );
        }
    }
    Ok(())
}

type Table = BTreeMap<EntityId, Arc<Entity>>;

/// Names everything about which somebody is wrong.
pub(super) async fn everybody_agrees(world: &mut World) -> Result<()> {
    let inspector = world.person("admin/inspector").await?;
    let table: Table = inspector.snapshot(CELL).await?.into_iter().map(|e| (e.id.clone(), e)).collect();
    let mut wrong = Vec::new();
    for viewer in &world.viewers {
        let belief = viewer.belief();
        wrong.extend(belief.holes.iter().map(|h| format!("{} saw numbers with a hole: {h}", viewer.name)));
        for (id, entity) in &table {
            match belief.known.get(id) {
                None => wrong.push(format!("{} does not know {}", viewer.name, entity.name)),
                Some(believed) if believed != entity => {
                    wrong.push(format!("{} believes {}\n    and the exchange knows {}", viewer.name, told(believed), told(entity)))
                }
                Some(_) => {}
            }
        }
        for (_, ghost) in belief.known.iter().filter(|(id, _)| !table.contains_key(id)) {
            wrong.push(format!("{} believes in {}, which is gone", viewer.name, ghost.name));
        }
    }
    for (name, site) in &world.sites {
        let there = table.values().filter(|e| e.host.as_str() == name && !matches!(e.id, EntityId::Task(_)));
        let linked = site.agent.as_ref().is_some_and(|a| a.wire.way() == Way::Open);
        if linked && site.libvirt {
            let truth = truth(site).await?;
            let shown: Vec<&Arc<Entity>> = there.collect();
            compare(name, &truth, &shown, &table, world, &mut wrong).await?;
        } else {
            // Of the hypervisor itself we know that its libvirt does not answer.
            for entity in there.filter(|e| !matches!(e.id, EntityId::Hypervisor(_)) && e.state() != "unknown") {
                wrong.push(format!("{} on {name} is shown as {}, and nobody can know", entity.name, entity.state()));
            }
        }
    }
    anyhow::ensure!(wrong.is_empty(), "not everybody agrees:\n  {}", wrong.join("\n  "));
    Ok(())
}

/// What really is on a host.
async fn truth(site: &Site) -> Result<BTreeMap<EntityId, (Arc<str>, Facts)>> {
    let fake = &*site.fake;
    let mut all = BTreeMap::new();
    for record in fake.domains() {
        all.insert(EntityId::Domain(record.id), (record.name, Facts::Domain(record.facts)));
    }
    for record in NetworkPort::list(fake).await? {
        all.insert(EntityId::Network(record.id), (record.name, Facts::Network(record.facts)));
    }
    for record in PoolPort::list(fake).await? {
        all.insert(EntityId::StoragePool(record.id), (record.name, Facts::StoragePool(record.facts)));
    }
    Ok(all)
}

/// What is not shown as this host's own must be told of as a stranger here, and no stranger may be told of that is not here.
struct Strangers<'a>(BTreeMap<EntityId, &'a Stranger>);

impl<'a> Strangers<'a> {
    fn of(host: &str, table: &'a Table) -> Strangers<'a> {
        let hypervisors = table.values().filter(|e| e.host.as_str() == host);
        let told = hypervisors.filter_map(|e| if let Facts::Hypervisor(facts) = &e.facts { Some(&facts.strangers) } else { None });
        Strangers(told.flatten().map(|s| (EntityId::Domain(s.id), s)).collect())
    }

    fn tell(&self, id: &EntityId, name: &str, facts: &Facts) -> bool {
        let Facts::Domain(facts) = facts else { return false };
        self.0.len() >= STRANGERS || self.0.get(id).is_some_and(|s| *s.name == *name && s.state == facts.state)
    }
}

async fn compare(
    host: &str,
    truth: &BTreeMap<EntityId, (Arc<str>, Facts)>,
    shown: &[&Arc<Entity>],
    table: &Table,
    world: &World,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let strangers = Strangers::of(host, table);
    for (id, (name, facts)) in truth {
        match table.get(id) {
            // A machine that is parked is shown nowhere. What moves have left of it on a host is that host's stranger: nobody may
            // start it, for the authority says whose it is.
            None if strangers.tell(id, name, facts) && is_parked(world, id).await? => {}
            None => wrong.push(format!("{name} is on {host} and nobody is shown it")),
            // One machine is shown in one place only; the other place must have it as well, or we would show a ghost.
            Some(entity) if entity.host.as_str() != host => {
                let there = world.sites.get(entity.host.as_str()).is_some_and(|s| domain(id).is_some_and(|id| s.fake.domain(id).is_some()));
                if !there {
                    wrong.push(format!("{name} is on {host} and is shown on {}, where it is not", entity.host));
                }
                // Where agents do not share who owns what, none is a stranger.
                if world.authorities != Authorities::Own && !strangers.tell(id, name, facts) {
                    wrong.push(format!("{name} is on {host} as {facts:?}\n    and is no stranger there: {:?}", strangers.0.get(id)));
                }
            }
            Some(entity) if entity.name != *name || entity.facts != *facts || entity.condition != Condition::Ok => {
                wrong.push(format!("{name} on {host} is {facts:?}\n    and shown as {}", told(entity)));
            }
            Some(_) => {}
        }
    }
    for entity in shown.iter().filter(|e| !truth.contains_key(&e.id) && !matches!(e.id, EntityId::Hypervisor(_))) {
        wrong.push(format!("{} is shown on {host}, where it is not", entity.name));
    }
    for stranger in strangers.0.iter().filter(|(id, _)| !truth.contains_key(id)).map(|(_, s)| s) {
        wrong.push(format!("{} is told of as a stranger on {host}, where it is not", stranger.name));
    }
    Ok(())
}

fn domain(id: &EntityId) -> Option<DomainId> {
    if let EntityId::Domain(id) = id { Some(*id) } else { None }
}

async fn is_parked(world: &World, id: &EntityId) -> Result<bool> {
    let Some(id) = domain(id) else { return Ok(false) };
    Ok(world.authority.ownership(id).await?.is_some_and(|o| o.hold == Hold::Parked))
}

fn told(entity: &Entity) -> String {
    entity.to_json().to_string()
}
