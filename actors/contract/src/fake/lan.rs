//! The network on which fakes find each other, and the crew that sails their machines across.
//!
//! A transfer belongs to the two hosts and not to whoever asked for it: it goes on when the caller is gone, like libvirt's own
//! peer-to-peer migration. There is no runtime here, so a voyage is taken a step further by whoever wakes it.

use super::{FakeHost, lock};
use crate::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

/// How long a step of a voyage takes: asked with the name of the step, for example `migration.copy`.
pub type Pace = dyn Fn(&str) -> BoxFuture<'static, ()> + Send + Sync;

/// Hosts that reach each other by the addresses of their landings.
#[derive(Default)]
pub struct FakeLan(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    hosts: BTreeMap<Arc<str>, Weak<FakeHost>>,
    cut: BTreeSet<(String, String)>,
    pace: Option<Arc<Pace>>,
}

/// Two names in one order.
fn pair(a: &str, b: &str) -> (String, String) {
    if a < b { (a.to_owned(), b.to_owned()) } else { (b.to_owned(), a.to_owned()) }
}

impl FakeLan {
    /// A network without hosts.
    pub fn new() -> Arc<FakeLan> {
        Arc::default()
    }

    /// Two or more hosts that were introduced to each other.
    pub fn of(hosts: &[&Arc<FakeHost>]) -> Arc<FakeLan> {
        let lan = FakeLan::new();
        hosts.iter().for_each(|host| lan.join(host));
        lan
    }

    /// Introduces a host to all others.
    pub fn join(self: &Arc<Self>, host: &Arc<FakeHost>) {
        lock(&self.0).hosts.insert(host.landing_uri(), Arc::downgrade(host));
        *lock(&host.lan) = Some(self.clone());
    }

    /// Every step of every voyage takes as long as this says. Without it, steps take no time.
    pub fn pace(&self, pace: impl Fn(&str) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        lock(&self.0).pace = Some(Arc::new(pace));
    }

    /// The libvirts of two hosts reach each other no more: what is on the way between them breaks (rows E and G of the table).
    pub fn cut(&self, a: &str, b: &str) {
        lock(&self.0).cut.insert(pair(a, b));
        for host in [a, b].iter().filter_map(|name| self.named(name)) {
            let other = if host.name_of() == a { b } else { a };
            host.wreck(|voyage| voyage.touches(other), "unable to read from socket: connection reset by keepalive");
        }
    }

    /// They reach each other again.
    pub fn heal(&self, a: &str, b: &str) {
        lock(&self.0).cut.remove(&pair(a, b));
    }

    pub(super) fn reaches(&self, a: &str, b: &str) -> bool {
        !lock(&self.0).cut.contains(&pair(a, b))
    }

    pub(super) fn at(&self, uri: &str) -> Option<Arc<FakeHost>> {
        lock(&self.0).hosts.get(uri).and_then(Weak::upgrade)
    }

    fn named(&self, name: &str) -> Option<Arc<FakeHost>> {
        lock(&self.0).hosts.values().filter_map(Weak::upgrade).find(|h| h.name_of() == name)
    }

    /// The wait of one step.
    pub(super) fn wait(&self, step: &'static str) -> Option<BoxFuture<'static, ()>> {
        let pace = lock(&self.0).pace.clone();
        pace.map(|pace| pace(step))
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

enum Sail {
    Resting(Work),
    Polling { woken: bool },
    Over,
}

struct Crew(Mutex<Sail>);

/// Begins here and now; every further step is taken by whoever wakes it. So nobody wakes it while a fake is locked.
pub(super) fn carry(work: impl Future<Output = ()> + Send + 'static) {
    Arc::new(Crew(Mutex::new(Sail::Polling { woken: false }))).sail(Box::pin(work));
}

impl Crew {
    fn sail(self: Arc<Self>, mut work: Work) {
        let waker = Waker::from(self.clone());
        while work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            let mut state = lock(&self.0);
            if let Sail::Polling { woken: true } = *state {
                *state = Sail::Polling { woken: false };
            } else {
                *state = Sail::Resting(work);
                return;
            }
        }
        *lock(&self.0) = Sail::Over;
    }
}

impl Wake for Crew {
    fn wake(self: Arc<Self>) {
        let mut state = lock(&self.0);
        match std::mem::replace(&mut *state, Sail::Polling { woken: false }) {
            Sail::Resting(work) => {
                drop(state);
                self.sail(work);
            }
            Sail::Polling { .. } => *state = Sail::Polling { woken: true },
            Sail::Over => *state = Sail::Over,
        }
    }
}

/// Where the end of a voyage is put down for whoever still waits for it.
pub(super) struct Slot<T>(Mutex<(Option<T>, Option<Waker>)>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot(Mutex::new((None, None)))
    }
}

impl<T> Slot<T> {
    /// The first answer stands.
    pub(super) fn put(&self, value: T) {
        let waker = {
            let mut inner = lock(&self.0);
            if inner.0.is_none() {
                inner.0 = Some(value);
            }
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<T> {
        let mut inner = lock(&self.0);
        match inner.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                inner.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
