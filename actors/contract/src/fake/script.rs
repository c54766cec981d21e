//! What shall go wrong, and when: the part of a fake that a test writes.

use super::lock;
use crate::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Mutex;
use std::task::{Poll, Waker};

/// Faults to come. An operation is named like the port's method, for example `domain.start`; `about` is the id it is
/// called with, as text, or empty for all.
#[derive(Default)]
pub struct Script(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    calls: BTreeMap<String, u64>,
    failures: Vec<(String, u64, Fault)>,
    held: BTreeSet<(String, String)>,
    panics: BTreeSet<(String, String)>,
    waiting: Vec<Waker>,
}

fn matches(set: &BTreeSet<(String, String)>, operation: &str, about: &str) -> bool {
    set.iter().any(|(o, a)| o == operation && (a.is_empty() || a == about))
}

impl Script {
    /// The `nth` call of this operation from now on (1 is the next one) fails with that fault.
    pub fn fail(&self, operation: &str, nth: u64, fault: Fault) {
        let mut inner = lock(&self.0);
        let at = inner.calls.get(operation).copied().unwrap_or(0) + nth;
        inner.failures.push((operation.to_owned(), at, fault));
    }
    /// Calls of this operation wait until they are released; without a release they hang for ever.
    pub fn hold(&self, operation: &str, about: &str) {
        lock(&self.0).held.insert((operation.to_owned(), about.to_owned()));
    }
    /// Lets all held calls go on.
    pub fn release(&self) {
        let waiting = {
            let mut inner = lock(&self.0);
            inner.held.clear();
            std::mem::take(&mut inner.waiting)
        };
        // Whoever is woken may go on right here, and play the next step.
        waiting.into_iter().for_each(Waker::wake);
    }
    /// Calls of this operation panic.
    pub fn panic(&self, operation: &str, about: &str) {
        lock(&self.0).panics.insert((operation.to_owned(), about.to_owned()));
    }
    /// No call panics any more.
    pub fn calm(&self) {
        lock(&self.0).panics.clear();
    }
    /// How often this operation was called.
    pub fn calls(&self, operation: &str) -> u64 {
        lock(&self.0).calls.get(operation).copied().unwrap_or(0)
    }
    /// How often anything was called.
    pub fn all_calls(&self) -> u64 {
        lock(&self.0).calls.values().sum()
    }

    /// One call begins: counts it, and fails, waits or panics as written.
    pub(super) async fn play(&self, operation: &str, about: &str) -> Result<(), Fault> {
        let planned = {
            let mut inner = lock(&self.0);
            let count = inner.calls.entry(operation.to_owned()).or_default();
            *count += 1;
            let now = *count;
            assert!(!matches(&inner.panics, operation, about), "scripted panic in {operation} of {about}");
            let found = inner.failures.iter().position(|(o, at, _)| o == operation && *at == now);
            found.map(|i| inner.failures.swap_remove(i).2)
        };
        poll_fn(|context| {
            let mut inner = lock(&self.0);
            if matches(&inner.held, operation, about) {
                inner.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        planned.map_or(Ok(()), Err)
    }
}
