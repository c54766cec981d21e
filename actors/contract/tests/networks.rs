//! The fake's networks pass the suite that the real ones pass.
#![cfg(feature = "fake")]
#![allow(clippy::unwrap_used)] // A fault where none was expected is a failed test.

use archipel_contract::{
    FaultKind, conformance,
    domain::{AttachNic, DomainState, Edit, When},
    fake::FakeHost,
};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Fakes are ready when polled, so one poll must be enough.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fake waited although nothing was held"),
    }
}

#[test]
fn the_networks_conform() {
    let fake = FakeHost::new("alpha");
    now(conformance::network::network_definition(&fake.host(), "fake", "10.77"));
}

#[test]
fn a_network_is_not_taken_from_its_machines() {
    let host_of = FakeHost::new("alpha");
    let host = host_of.host();
    let id = host_of.add_domain("web", DomainState::Shutoff, true);
    let card = AttachNic { network: Some("default".into()), mac: Some("52:54:00:00:00:09".into()), ..AttachNic::default() };
    now(host.definitions.edit(id, Edit::AttachNic(card), When::NextBoot, None)).unwrap();
    let network = now(host.networks.list()).unwrap()[0].id;
    let on = now(host.networks.attached(network)).unwrap();
    assert_eq!((on[0].name.as_str(), on[0].mac.as_str(), on[0].running), ("web", "52:54:00:00:00:09", false));
    let fault = now(host.networks.undefine(network)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy);
    assert!(fault.message.contains("is used by web"), "{}", fault.message);
    assert!(now(host.networks.read(network)).is_ok());
}
