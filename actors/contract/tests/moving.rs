//! The fakes pass the suite that every pair of hypervisors must pass.
#![cfg(feature = "fake")]

use archipel_contract::{
    conformance::migration as suite,
    domain::DomainState,
    fake::{FakeHost, FakeLan},
    host::Host,
    migration::Way,
};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A fake never waits for a runtime, so polling until it is done is all the runtime it needs.
fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

fn two() -> (Arc<FakeHost>, Arc<FakeHost>, Host, Host, Arc<FakeLan>) {
    let (a, b) = (FakeHost::new("a"), FakeHost::new("b"));
    let lan = FakeLan::of(&[&a, &b]);
    let (source, target) = (a.host(), b.host());
    (a, b, source, target, lan)
}

#[test]
fn the_fakes_move_machines_as_the_suite_wants() {
    let (_a, _b, source, target, _lan) = two();
    run(async {
        suite::absent_machine(&source).await;
        suite::there_and_back(&source, &target, "fake").await;
        suite::a_paused_machine_stays_paused(&source, &target, "fake").await;
        suite::a_definition_travels(&source, &target, "fake").await;
        suite::obstacles_are_told_at_once(&source, &target, "fake").await;
    });
}

#[test]
fn a_slow_transfer_between_fakes_can_be_given_up() {
    let (a, _b, source, target, _lan) = two();
    let id = a.add_domain("busy", DomainState::Running, true);
    a.script.hold("migration.switch", "");
    run(suite::a_transfer_can_be_given_up(&source, &target, id, Way { bandwidth_mib: Some(1), ..Way::default() }));
}
