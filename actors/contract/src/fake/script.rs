//! What shall go wrong, and when: the part of a fake that a test writes.

use super::{Pace, lock};
use crate::{BoxFuture, Fault};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// Faults to come. An operation is named like the port's method, for example `domain.start`; `about` is the id it is
/// called with, as text, or empty for all.
#[derive(Default)]
pub struct Script(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    calls: BTreeMap<String, u64>,
    failures: Vec<(String, u64, Fault)>,
    lies: Vec<(String, u64, Fault)>,
    pace: Option<Arc<Pace>>,
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
    /// The `nth` call of this operation from now on (1 is the next one) does what it shall, and says that fault all the same.
    pub fn lie(&self, operation: &str, nth: u64, fault: Fault) {
        let mut inner = lock(&self.0);
        let at = inner.calls.get(operation).copied().unwrap_or(0) + nth;
        inner.lies.push((operation.to_owned(), at, fault));
    }
    /// Every call takes as long as this says; asked with the name of the operation.
    pub fn slow_down(&self, pace: impl Fn(&str) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        lock(&self.0).pace = Some(Arc::new(pace));
    }
    /// Calls take no time again.
    pub fn hurry(&self) {
        lock(&self.0).pace = None;
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

    /// One call begins: counts it, and fails, waits or panics as written. Answers its number.
    pub(super) async fn play(&self, operation: &str, about: &str) -> Result<u64, Fault> {
        let (planned, now, wait) = {
            let mut inner = lock(&self.0);
            let count = inner.calls.entry(operation.to_owned()).or_default();
            *count += 1;
            let now = *count;
            assert!(!matches(&inner.panics, operation, about), "scripted panic in {operation} of {about}");
            (take(&mut inner.failures, operation, now), now, inner.pace.as_ref().map(|pace| pace(operation)))
        };
        if let Some(wait) = wait {
            wait.await;
        }
        poll_fn(|context| {
            let mut inner = lock(&self.0);
            if matches(&inner.held, operation, about) {
                inner.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        planned.map_or(Ok(now), Err)
    }

    /// What is said instead of the truth of the call with that number, if it is to be a lie.
    pub(super) fn told_instead(&self, operation: &str, number: u64) -> Option<Fault> {
        take(&mut lock(&self.0).lies, operation, number)
    }
}

fn take(faults: &mut Vec<(String, u64, Fault)>, operation: &str, number: u64) -> Option<Fault> {
    let found = faults.iter().position(|(o, at, _)| o == operation && *at == number);
    found.map(|i| faults.swap_remove(i).2)
}
