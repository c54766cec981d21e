//! The tests every implementation of a port must pass: the fakes, SQLite, the libvirt test driver and real QEMU alike.
//!
//! They are plain async functions that panic when the port misbehaves, so that any runtime can run them. Waiting is for a
//! condition with a deadline; it blocks the calling thread, which is fine in a test because ports answer from threads of
//! their own or at once.
#![allow(clippy::expect_used)]

pub mod accounts;
pub mod authority;
pub mod backup;
pub mod console;
pub mod definition;
pub mod documents;
pub mod host;
pub mod journal;
pub mod migration;
pub mod network;
pub mod snapshot;
pub mod storage;
pub mod terms;
pub mod usage;

use crate::{
    BoxFuture, Millis, PoolId,
    host::{Host, HostChange, HostObserver},
    volume::{Inquiry, Need, Place, Unused},
};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// An observer that remembers every change and lets a test wait for one.
#[derive(Default)]
pub struct Probe {
    seen: Mutex<Vec<HostChange>>,
    news: Condvar,
}

impl Probe {
    /// An observer that has seen nothing yet.
    pub fn new() -> Arc<Probe> {
        Arc::default()
    }

    /// Everything seen so far, in order.
    pub fn seen(&self) -> Vec<HostChange> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a change after the first `from` ones fits, and answers how many had been seen including it.
    ///
    /// Panics with what was seen when the deadline passes.
    pub fn wait(&self, from: usize, deadline: Millis, what: &str, fits: impl Fn(&HostChange) -> bool) -> usize {
        let end = Instant::now() + deadline.duration();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(at) = seen.iter().skip(from).position(&fits) {
                return from + at + 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} within {} ms; seen after {from}: {:?}", deadline.0, &seen[from.min(seen.len())..]);
            seen = self.news.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The proof that nobody uses what lies there, of a host that belongs to no cell.
pub fn alone(path: &str, need: Need) -> Unused {
    let asked = Inquiry { name: path.to_owned(), place: Place::unknown(path), need, but: None, above: Vec::new() };
    asked.judge(&[], Box::new(())).expect("nobody was asked")
}

/// The same for a volume, wherever it lies.
pub fn unused<'a>(host: &'a Host, pool: PoolId, name: &'a str, need: Need) -> BoxFuture<'a, Unused> {
    Box::pin(async move {
        let found = host.volumes.read(pool, name.to_owned()).await;
        alone(&found.map_or_else(|_| "nowhere".to_owned(), |v| v.facts.path), need)
    })
}

impl HostObserver for Probe {
    fn observe(&self, change: HostChange) -> Result<(), HostChange> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        self.news.notify_all();
        Ok(())
    }
}
