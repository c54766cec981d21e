//! Wrong passwords cost time, and too many lock one account for one peer. Other accounts, and the same account from elsewhere,
//! are not touched, so nobody can lock out somebody else. Pure: the caller brings the time.
//!
//! ```text
//!   clear --wrong--> counting(n): the n-th answer is delayed --n = limit--> locked until t --t--> clear
//!     ^-----right--------+
//! ```

use std::collections::HashMap;
use std::time::Duration;

/// How strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleRules {
    /// The delay of the first wrong answer; it doubles.
    pub first_delay: Duration,
    /// And never grows beyond this.
    pub longest_delay: Duration,
    /// So many wrong passwords lock.
    pub limit: u32,
    /// For so long. Also how long a wrong password is remembered.
    pub lock: Duration,
}

impl Default for ThrottleRules {
    fn default() -> ThrottleRules {
        ThrottleRules {
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(2),
            limit: 10,
            lock: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Record {
    failures: u32,
    last: Duration,
}

/// More than this many records are never kept; the oldest goes first.
const MOST: usize = 10_000;

/// Who guessed wrong, from where, how often.
#[derive(Debug, Default)]
pub struct Throttle {
    rules: ThrottleRules,
    records: HashMap<(String, String), Record>,
}

impl Throttle {
    /// Nobody has guessed yet.
    pub fn new(rules: ThrottleRules) -> Throttle {
        Throttle { rules, records: HashMap::new() }
    }

    /// How long this account is still locked for that peer.
    pub fn locked(&self, account: &str, peer: &str, now: Duration) -> Option<Duration> {
        let record = self.records.get(&(account.to_owned(), peer.to_owned()))?;
        let until = record.last + self.rules.lock;
        (record.failures >= self.rules.limit && now < until).then(|| until - now)
    }

    /// A wrong password; answers how long to wait before saying so.
    pub fn failed(&mut self, account: &str, peer: &str, now: Duration) -> Duration {
        let lock = self.rules.lock;
        if self.records.len() >= MOST {
            self.records.retain(|_, r| now < r.last + lock);
        }
        if self.records.len() >= MOST {
            let oldest = self.records.iter().min_by_key(|(_, r)| r.last).map(|(key, _)| key.clone());
            oldest.map(|key| self.records.remove(&key));
        }
        let record = self.records.entry((account.to_owned(), peer.to_owned())).or_insert(Record { failures: 0, last: now });
        if now >= record.last + lock {
            record.failures = 0;
        }
        record.failures += 1;
        record.last = now;
        let doublings = (record.failures - 1).min(20);
        self.rules.first_delay.saturating_mul(1 << doublings).min(self.rules.longest_delay)
    }

    /// The right password.
    pub fn succeeded(&mut self, account: &str, peer: &str) {
        self.records.remove(&(account.to_owned(), peer.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_passwords_lock_one_account_for_one_peer() {
        let mut throttle = Throttle::default();
        let mut last = Duration::ZERO;
        for n in 0..10u64 {
            let now = Duration::from_secs(n);
            assert_eq!(throttle.locked("admin", "a", now), None);
            let delay = throttle.failed("admin", "a", now);
            assert!(delay >= last && delay <= Duration::from_secs(2));
            last = delay;
        }
        let now = Duration::from_secs(10);
        assert_eq!(throttle.locked("admin", "a", now), Some(Duration::from_secs(299)));
        assert_eq!(throttle.locked("admin", "b", now), None);
        assert_eq!(throttle.locked("viewer", "a", now), None);
        let later = Duration::from_secs(309);
        assert_eq!(throttle.locked("admin", "a", later), None);
        assert_eq!(throttle.failed("admin", "a", later), Duration::from_millis(100), "it begins anew");
    }

    #[test]
    fn the_right_password_clears() {
        let mut throttle = Throttle::default();
        for _ in 0..9 {
            throttle.failed("a", "p", Duration::ZERO);
        }
        throttle.succeeded("a", "p");
        throttle.failed("a", "p", Duration::ZERO);
        assert_eq!(throttle.locked("a", "p", Duration::ZERO), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut throttle = Throttle::default();
        for n in 0..(MOST as u64 + 50) {
            throttle.failed(&n.to_string(), "p", Duration::from_millis(n));
        }
        assert_eq!(throttle.records.len(), MOST);
    }
}
