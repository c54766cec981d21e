//! The fake's consoles pass the suite that real ones pass.
#![cfg(feature = "fake")]

use archipel_contract::{conformance::console, domain::DomainState, fake::FakeHost};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fake waited although nothing was held"),
    }
}

#[test]
fn the_consoles_conform() {
    let fake = FakeHost::new("alpha");
    let id = fake.add_domain("web1", DomainState::Running, true);
    now(console::consoles_of_a_machine(&fake.host(), id));
    now(console::no_console_of_nothing(&fake.host()));
    assert_eq!(fake.pressed(), [(id, vec![30])]);
}
