//! The rules of the location table, against a model that is too simple to be wrong.

use super::{event, machine, next};
use crate::exchange::location::{Locations, Refusal};
use archipel_contract::{Condition, Entity, EntityId, Epoch, Event, HypervisorName, Kind, Seq, Timestamp, domain::DomainState};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

fn host(name: &str) -> HypervisorName {
    name.parse().unwrap()
}

fn table() -> Locations {
    let mut table = Locations::new(super::CELL.parse().unwrap());
    table.hello(&host("alpha"), 1, 1).unwrap();
    table.hello(&host("beta"), 2, 1).unwrap();
    table
}

fn removal(entity: &Entity) -> Event {
    let mut gone = event("domain.undefined", entity);
    gone.after = None;
    gone
}

const NOW: Timestamp = Timestamp(5);

#[test]
fn an_older_number_is_ignored() {
    let mut table = table();
    let first = machine(1, "alpha");
    let second = next(&first, DomainState::Paused);
    table.announce(&host("alpha"), 1, vec![event("domain.added", &first), event("domain.paused", &second)]);
    let late = table.announce(&host("alpha"), 1, vec![event("domain.added", &first)]);
    assert_eq!(late.refused, [Refusal::Stale(first.id.clone())]);
    assert_eq!(table.get(&first.id).unwrap().state(), "paused");
}

#[test]
fn a_stale_owner_cannot_remove_what_moved() {
    let mut table = table();
    let here = machine(1, "alpha");
    let mut there = machine(1, "beta");
    there.epoch = Epoch(2);
    table.announce(&host("alpha"), 1, vec![event("domain.added", &here)]);
    table.announce(&host("beta"), 2, vec![event("domain.started", &there)]);
    let mut late = here.clone();
    late.seq = Seq(99);
    let outcome = table.announce(&host("alpha"), 1, vec![removal(&late)]);
    assert_eq!(outcome.refused, [Refusal::Late(here.id.clone(), host("beta"))]);
    assert_eq!(table.get(&here.id).unwrap().host, host("beta"));
    assert_eq!((table.on_host(&host("alpha")).count(), table.on_host(&host("beta")).count()), (0, 1));
}

#[test]
fn an_older_agent_and_a_replaced_link_are_refused() {
    let mut table = table();
    assert!(table.hello(&host("alpha"), 7, 0).is_err());
    table.hello(&host("alpha"), 8, 1).unwrap();
    let outcome = table.announce(&host("alpha"), 1, vec![event("domain.added", &machine(1, "alpha"))]);
    assert_eq!(outcome.refused, [Refusal::NoLease]);
    // The old link's end is not the host's end.
    assert!(table.lost(&host("alpha"), 1, NOW).changes.is_empty());
    assert_eq!(table.link(&host("alpha")), Some(8));
}

#[test]
fn numbers_have_no_hole_over_a_lost_link() {
    let mut table = table();
    let vm = machine(1, "alpha");
    table.announce(&host("alpha"), 1, vec![event("domain.added", &vm)]);
    let lost = table.lost(&host("alpha"), 1, NOW);
    assert_eq!(lost.changes[0].event.seq, Seq(2));
    assert_eq!(lost.changes[0].event.topic, "domain.unknown");
    table.hello(&host("alpha"), 3, 1).unwrap();
    let back = table.assert(&host("alpha"), 3, vec![Arc::new(vm.clone())], NOW);
    assert_eq!((back.changes[0].event.seq, &*back.changes[0].event.topic), (Seq(3), "domain.known"));
    let on = table.announce(&host("alpha"), 3, vec![event("domain.paused", &next(&vm, DomainState::Paused))]);
    assert_eq!(on.changes[0].event.seq, Seq(4));
}

#[test]
fn an_assertion_of_the_same_says_nothing() {
    let mut table = table();
    let vm = Arc::new(machine(1, "alpha"));
    assert_eq!(table.assert(&host("alpha"), 1, vec![vm.clone()], NOW).changes.len(), 1);
    table.asserted(&host("alpha"), 1, NOW);
    table.hello(&host("alpha"), 1, 1).unwrap();
    assert!(table.assert(&host("alpha"), 1, vec![vm], NOW).changes.is_empty());
    assert!(table.asserted(&host("alpha"), 1, NOW).changes.is_empty());
}

#[test]
fn people_find_things_by_name_id_and_address() {
    let mut table = table();
    let vm = machine(7, "alpha");
    let mut twin = machine(8, "beta");
    twin.name = vm.name.clone();
    table.announce(&host("alpha"), 1, vec![event("domain.added", &vm)]);
    table.announce(&host("beta"), 2, vec![event("domain.added", &twin)]);
    assert_eq!(table.named(Kind::Domain, "web7").len(), 2);
    for name in [vm.id.plain(), vm.jid(), format!("{}/alpha", vm.jid())] {
        assert_eq!(table.named(Kind::Domain, &name).len(), 1, "{name}");
    }
    assert!(table.named(Kind::Network, "web7").is_empty());
    let mut renamed = next(&vm, DomainState::Shutoff);
    renamed.name = "db".into();
    table.announce(&host("alpha"), 1, vec![event("domain.changed", &renamed)]);
    assert_eq!((table.named(Kind::Domain, "web7").len(), table.named(Kind::Domain, "db").len()), (1, 1));
}

/// One thing an agent may say about one of three machines.
#[derive(Debug, Clone)]
enum Said {
    Is { who: usize, vm: u128, epoch: u64, seq: u64 },
    Gone { who: usize, vm: u128, epoch: u64, seq: u64 },
}

fn said() -> impl Strategy<Value = Said> {
    (any::<bool>(), 0..2usize, 0..3u128, 1..4u64, 1..6u64)
        .prop_map(|(is, who, vm, epoch, seq)| if is { Said::Is { who, vm, epoch, seq } } else { Said::Gone { who, vm, epoch, seq } })
}

proptest! {
    /// The model keeps (host, epoch, seq) of each machine and nothing else.
    #[test]
    fn the_table_agrees_with_the_model(sayings in proptest::collection::vec(said(), 1..60)) {
        let mut table = table();
        let mut model: BTreeMap<u128, (usize, u64, u64)> = BTreeMap::new();
        let hosts = ["alpha", "beta"];
        for saying in &sayings {
            let (who, vm, epoch, seq, is) = match *saying {
                Said::Is { who, vm, epoch, seq } => (who, vm, epoch, seq, true),
                Said::Gone { who, vm, epoch, seq } => (who, vm, epoch, seq, false),
            };
            let mut entity = machine(vm, hosts[who]);
            entity.epoch = Epoch(epoch);
            entity.seq = Seq(seq);
            let told = if is { event("domain.changed", &entity) } else { removal(&entity) };
            table.announce(&host(hosts[who]), who as u64 + 1, vec![told]);
            let known = model.get(&vm).copied();
            let wins = match known {
                None => is,
                Some((h, e, s)) if h == who => (epoch, seq) > (e, s),
                Some((_, e, _)) => is && epoch > e,
            };
            if wins && is {
                model.insert(vm, (who, epoch, seq));
            } else if wins {
                model.remove(&vm);
            }
        }
        for vm in 0..3u128 {
            let seen = table.get(&machine(vm, "alpha").id).map(|e| (e.host.to_string(), e.epoch.0, e.seq.0));
            let expected = model.get(&vm).map(|(h, e, s)| (hosts[*h].to_owned(), *e, *s));
            prop_assert_eq!(seen, expected);
        }
        // The indexes agree with the table.
        prop_assert_eq!(table.len(), model.len());
        prop_assert_eq!(hosts.iter().map(|h| table.on_host(&host(h)).count()).sum::<usize>(), model.len());
        prop_assert_eq!((0..3u128).map(|n| table.named(Kind::Domain, &format!("web{n}")).len()).sum::<usize>(), model.len());
    }
}

#[test]
fn an_entity_takes_little_memory() {
    // The entity, its place in the map, in the index of its host and in that of the names.
    let fixed = std::mem::size_of::<Entity>() + 3 * std::mem::size_of::<EntityId>() + 64;
    assert!(fixed < 1024, "{fixed} bytes");
    let mut lost = table();
    lost.announce(&host("alpha"), 1, vec![event("domain.added", &machine(1, "alpha")), event("domain.added", &machine(2, "alpha"))]);
    lost.lost(&host("alpha"), 1, NOW);
    let why: Vec<_> = lost.of_kind(Kind::Domain).map(|e| e.why.clone().unwrap()).collect();
    assert!(Arc::ptr_eq(&why[0], &why[1]), "one text for all");
    assert!(lost.of_kind(Kind::Domain).all(|e| e.condition == Condition::Unreachable));
}
