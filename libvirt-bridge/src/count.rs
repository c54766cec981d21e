//! Counts every call of libvirt at the one place it passes: silence must cost none, and a test counts.

use std::sync::atomic::{AtomicU64, Ordering};
use virt::error::Error;

static CALLS: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);
pub(crate) static REFUSED: AtomicU64 = AtomicU64::new(0);
pub(crate) static TIMEOUTS: AtomicU64 = AtomicU64::new(0);
pub(crate) static CONNECTS: AtomicU64 = AtomicU64::new(0);

/// How many calls of libvirt this process has made. It stands still while nothing happens and nobody asks.
pub fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// What was counted since the process started, over all hypervisors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Calls of libvirt, as [`calls`].
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Requests refused because their queue was full.
    pub refused: u64,
    /// Requests whose caller was told `timeout`.
    pub timeouts: u64,
    /// Connections made.
    pub connects: u64,
}

/// All counters at once: five atomic loads.
pub fn counters() -> Counters {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Counters { calls: get(&CALLS), failures: get(&FAILURES), refused: get(&REFUSED), timeouts: get(&TIMEOUTS), connects: get(&CONNECTS) }
}

/// The one place every call of libvirt passes.
pub(crate) fn ask<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let answer = call();
    if answer.is_err() {
        FAILURES.fetch_add(1, Ordering::Relaxed);
    }
    answer
}
