//! What the board promises to everybody who follows events: numbers without holes, one batch, nothing after gone.
#![allow(clippy::unwrap_used)]

use archipel_actors::board::{Board, Change, Draft};
use archipel_contract::{
    Bytes, DomainId, EntityId, Epoch, Event, Facts, Millis,
    domain::{DomainFacts, DomainState},
    event::Cause,
    fake::{FakeClock, Recorder},
};
use std::sync::Arc;
use std::time::Duration;

fn draft(state: DomainState) -> Draft {
    let facts = DomainFacts {
        state,
        reason: Some("booted".into()),
        vcpus: 1,
        memory: Bytes::MIB,
        persistent: true,
        autostart: false,
        agent: false,
        virtualization: "qemu".into(),
        note: None,
        template: false,
        moving_to: None,
        autostart_order: None,
        autostart_delay: None,
    };
    Draft::new("web1".into(), Epoch(1), Facts::Domain(facts))
}

fn id(n: u128) -> DomainId {
    DomainId(uuid::Uuid::from_u128(n))
}

fn board() -> (Board, Arc<Recorder>, Arc<FakeClock>) {
    let (recorder, clock) = (Arc::<Recorder>::default(), Arc::<FakeClock>::default());
    (Board::new("vm.localhost".parse().unwrap(), "alpha".parse().unwrap(), 7, recorder.clone(), clock.clone()), recorder, clock)
}

fn told(recorder: &Recorder, n: u128) -> Vec<u64> {
    recorder.events().iter().filter(|e: &&Event| e.entity == EntityId::Domain(id(n))).map(|e| e.seq.0).collect()
}

#[test]
fn numbers_begin_with_the_incarnation_and_have_no_holes() {
    let (board, recorder, _) = board();
    for state in [DomainState::Shutoff, DomainState::Running, DomainState::Paused] {
        board.publish(Change::to(id(1), "domain.changed", Cause::Libvirt, draft(state)));
        board.publish(Change::to(id(2), "domain.changed", Cause::Libvirt, draft(state)));
    }
    assert_eq!(told(&recorder, 1), [7_000_000_000, 7_000_000_001, 7_000_000_002]);
    assert_eq!(told(&recorder, 1), told(&recorder, 2));
}

#[test]
fn what_comes_back_is_numbered_above_what_it_was() {
    let (board, recorder, _) = board();
    for _ in 0..5 {
        board.publish(Change::to(id(1), "domain.changed", Cause::Libvirt, draft(DomainState::Running)));
    }
    board.publish(Change::gone(id(1), "domain.undefined", Cause::Libvirt));
    board.publish(Change::gone(id(1), "domain.undefined", Cause::Libvirt));
    board.publish(Change::to(id(1), "domain.added", Cause::Libvirt, draft(DomainState::Shutoff)));
    let numbers = told(&recorder, 1);
    assert_eq!(numbers.len(), 7, "gone twice is told once");
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn since_is_when_the_state_began() {
    let (board, _, clock) = board();
    let entity = EntityId::Domain(id(1));
    board.publish(Change::to(id(1), "domain.added", Cause::Libvirt, draft(DomainState::Running)));
    let began = board.get(&entity).unwrap().since;
    clock.advance(Millis(500));
    board.publish(Change::to(id(1), "domain.changed", Cause::Libvirt, draft(DomainState::Running)));
    assert_eq!(board.get(&entity).unwrap().since, began);
    board.publish(Change::to(id(1), "domain.paused", Cause::Libvirt, draft(DomainState::Paused)));
    assert_eq!(board.get(&entity).unwrap().since.0, began.0 + 500);
}

#[test]
fn words_that_repeat_are_kept_once() {
    let (board, _, _) = board();
    for n in 1..3 {
        board.publish(Change::to(id(n), "domain.added", Cause::Libvirt, draft(DomainState::Running)));
    }
    let word = |n| board.get(&EntityId::Domain(id(n))).unwrap().domain().unwrap().virtualization.clone();
    assert!(Arc::ptr_eq(&word(1), &word(2)));
}

#[test]
fn whoever_waits_is_woken_by_the_change_and_by_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (board, _, _) = board();
        let entity = EntityId::Domain(id(1));
        board.publish(Change::to(id(1), "domain.added", Cause::Libvirt, draft(DomainState::Running)));
        let off = board.until(&entity, |e| e.is_some_and(|e| e.state() == "shutoff"));
        let gone = board.until(&entity, |e| e.is_none());
        let change = async {
            tokio::task::yield_now().await;
            board.publish(Change::to(id(1), "domain.stopped", Cause::Libvirt, draft(DomainState::Shutoff)));
            tokio::task::yield_now().await;
            board.publish(Change::gone(id(1), "domain.undefined", Cause::Libvirt));
        };
        let all = async { futures::join!(off, gone, change) };
        let (off, gone, ()) = tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
        assert!(off.is_some() && gone.is_none());
    });
}
