//! The one place where the program asks what time it is.

use archipel_contract::port::Clock;
use archipel_contract::{Millis, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clocks.
pub(crate) struct MachineClock;

impl MachineClock {
    pub(crate) fn new() -> MachineClock {
        MachineClock
    }
}

impl Clock for MachineClock {
    #[allow(clippy::disallowed_methods)] // This is the port itself.
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Millis {
        // Unlike the one of `Instant` it goes on while the machine sleeps: a lease runs out meanwhile.
        let now = clock_gettime(ClockId::Boottime);
        let part = |n| u64::try_from(n).unwrap_or_default();
        Millis(part(now.tv_sec) * 1000 + part(now.tv_nsec) / 1_000_000)
    }
}
