//! The one place where the program asks what time it is.

use archipel_contract::port::Clock;
use archipel_contract::{Millis, Timestamp};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks.
pub(crate) struct MachineClock {
    began: Instant,
}

impl MachineClock {
    pub(crate) fn new() -> MachineClock {
        MachineClock { began: Instant::now() }
    }
}

impl Clock for MachineClock {
    #[allow(clippy::disallowed_methods)] // This is the port itself.
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
