//! A clock that stands still until a test moves it.

use super::lock;
use crate::{Millis, Timestamp, port::Clock};
use std::sync::Mutex;

/// Time as a test wants it.
pub struct FakeClock(Mutex<u64>);

impl FakeClock {
    /// A clock that shows this many milliseconds since 1970.
    pub fn at(ms: u64) -> FakeClock {
        FakeClock(Mutex::new(ms))
    }
    /// Lets time pass.
    pub fn advance(&self, by: Millis) {
        *lock(&self.0) += by.0;
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        FakeClock::at(1_790_000_000_000)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(*lock(&self.0))
    }
    fn monotonic(&self) -> Millis {
        Millis(*lock(&self.0))
    }
}
