//! How long to wait before the next attempt: growing, with jitter, so that a thousand clients do not come back at once.

use std::time::Duration;

/// Pauses that double from one attempt to the next.
#[derive(Debug, Clone)]
pub struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    /// From `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Pauses {
        Pauses { first, longest, next: first }
    }

    /// The next pause: between three and five quarters of its nominal length.
    pub fn next_pause(&mut self) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(self.longest);
        let mut byte = [0u8; 1];
        // Without randomness the pause is the nominal one: jitter is a courtesy.
        let share = if getrandom::fill(&mut byte).is_ok() { u32::from(byte[0]) } else { 128 };
        nominal * (192 + share / 2) / 256
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::from_secs(30));
        for nominal in [1, 2, 4, 8, 16, 30, 30] {
            let pause = pauses.next_pause().as_secs_f64() / f64::from(nominal);
            assert!((0.74..=1.26).contains(&pause), "{pause} of {nominal} s");
        }
        pauses.reset();
        assert!(pauses.next_pause() < Duration::from_secs(2));
    }
}
