//! Two token buckets, one for stanzas and one for bytes. Pure: the caller brings the time and does the waiting.

use super::config::Rate;
use std::time::Duration;

/// How much one session may still say at once.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    stanzas: f64,
    bytes: f64,
    last: Duration,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: Rate, now: Duration) -> Bucket {
        Bucket { rate, stanzas: rate.stanza_burst, bytes: rate.byte_burst, last: now }
    }

    /// Takes one stanza of that size; answers how long to wait before the next one is read.
    pub(super) fn take(&mut self, bytes: usize, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.stanzas = (self.stanzas + passed * self.rate.stanzas).min(self.rate.stanza_burst) - 1.0;
        self.bytes = (self.bytes + passed * self.rate.bytes).min(self.rate.byte_burst) - bytes as f64;
        let owed = (-self.stanzas / self.rate.stanzas).max(-self.bytes / self.rate.bytes);
        if owed > 0.0 { Duration::from_secs_f64(owed.min(60.0)) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { stanzas: 10.0, stanza_burst: 5.0, bytes: 1000.0, byte_burst: 1000.0 };

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds() {
        let mut bucket = Bucket::new(RATE, Duration::ZERO);
        let mut now = Duration::ZERO;
        for n in 0..105 {
            let wait = bucket.take(1, now);
            assert_eq!(wait > Duration::ZERO, n >= 5, "stanza {n}");
            now += wait;
        }
        assert!((now.as_secs_f64() - 10.0).abs() < 0.01, "{now:?}");
    }

    #[test]
    fn bytes_count_too() {
        let mut bucket = Bucket::new(RATE, Duration::ZERO);
        assert_eq!(bucket.take(1000, Duration::ZERO), Duration::ZERO);
        assert_eq!(bucket.take(500, Duration::ZERO), Duration::from_millis(500));
        assert_eq!(bucket.take(0, Duration::from_secs(10)), Duration::ZERO);
    }
}
