//! Stream management (XEP-0198), both sides: who has what, counted modulo 2^32. No I/O and no clock.
//!
//! ```text
//!   sent(s)     --> unacked: [.., s]          acked(h): the front up to h is dropped
//!   received()  --> handled + 1               handled() is what <a h=''/> and <resumed h=''/> carry
//!   resume(h)   --> acked(h), and what is left is given back to be sent again, oldest first
//! ```
//! Nothing is lost because a stanza leaves `unacked` only by the peer's own count; nothing is doubled because what the peer
//! counted is never given back.

use crate::stream::Stanza;
use std::collections::VecDeque;

/// The peer counted stanzas that were never sent: its stream cannot be trusted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer acknowledged {claimed} stanzas beyond the {outstanding} outstanding; start a new stream")]
pub struct TooHigh {
    /// How many the peer's count is beyond the last one.
    pub claimed: u32,
    /// How many could be acknowledged at most.
    pub outstanding: u32,
}

/// When to ask the peer for its count.
#[derive(Debug, Clone, Copy)]
pub struct AskAfter {
    /// After that many stanzas.
    pub stanzas: usize,
    /// After that many bytes.
    pub bytes: usize,
}

impl Default for AskAfter {
    fn default() -> AskAfter {
        AskAfter { stanzas: 16, bytes: 64 * 1024 }
    }
}

/// The accounts of one managed stream.
#[derive(Debug, Default)]
pub struct Ledger {
    received: u32,
    acked: u32,
    unacked: VecDeque<Stanza>,
    bytes: usize,
    ask: AskAfter,
    asked: bool,
    since_asked: usize,
    bytes_since_asked: usize,
}

impl Ledger {
    /// A stream that has just been enabled: all counts are zero.
    pub fn new(ask: AskAfter) -> Ledger {
        Ledger { ask, ..Ledger::default() }
    }

    /// Begins with counts near the end of their range, for tests of the wrap-around.
    #[cfg(test)]
    fn starting_at(received: u32, acked: u32) -> Ledger {
        Ledger { received, acked, ..Ledger::default() }
    }

    /// A stanza is put on the wire.
    pub fn sent(&mut self, stanza: Stanza) {
        self.bytes += stanza.len();
        self.since_asked += 1;
        self.bytes_since_asked += stanza.len();
        self.unacked.push_back(stanza);
    }

    /// A stanza of the peer was handled.
    pub fn received(&mut self) {
        self.received = self.received.wrapping_add(1);
    }

    /// How many of the peer's stanzas were handled: our `h`.
    pub fn handled(&self) -> u32 {
        self.received
    }

    /// Whether to write `<r/>` now; asks once until answered. `eager` asks for anything outstanding, as before a pause.
    pub fn take_request(&mut self, eager: bool) -> bool {
        let due = self.since_asked >= self.ask.stanzas || self.bytes_since_asked >= self.ask.bytes || (eager && !self.unacked.is_empty());
        if self.asked || !due {
            return false;
        }
        self.asked = true;
        self.since_asked = 0;
        self.bytes_since_asked = 0;
        true
    }

    /// Whether an answer is outstanding.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// The peer has handled `h` of ours. Answers how many that freed.
    pub fn acked(&mut self, h: u32) -> Result<usize, TooHigh> {
        let claimed = h.wrapping_sub(self.acked);
        let outstanding = u32::try_from(self.unacked.len()).unwrap_or(u32::MAX);
        if claimed > outstanding {
            return Err(TooHigh { claimed, outstanding });
        }
        for stanza in self.unacked.drain(..claimed as usize) {
            self.bytes -= stanza.len();
        }
        self.acked = h;
        self.asked = false;
        Ok(claimed as usize)
    }

    /// The stream goes on over another connection and the peer has handled `h`. What it has not is given back, oldest
    /// first, to be sent (and counted) again.
    pub fn resume(&mut self, h: u32) -> Result<VecDeque<Stanza>, TooHigh> {
        self.acked(h)?;
        self.since_asked = 0;
        self.bytes_since_asked = 0;
        self.bytes = 0;
        Ok(std::mem::take(&mut self.unacked))
    }

    /// Stanzas sent and not acknowledged.
    pub fn outstanding(&self) -> usize {
        self.unacked.len()
    }

    /// Their size in bytes.
    pub fn outstanding_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stanza(n: usize) -> Stanza {
        Stanza::from(format!("<m n='{n}'/>"))
    }

    #[test]
    fn counts_wrap_around() {
        let mut ledger = Ledger::starting_at(u32::MAX, u32::MAX - 1);
        for n in 0..4 {
            ledger.sent(stanza(n));
        }
        ledger.received();
        assert_eq!(ledger.handled(), 0);
        assert_eq!(ledger.acked(1), Ok(3));
        assert_eq!(ledger.outstanding(), 1);
        assert_eq!(ledger.acked(3), Err(TooHigh { claimed: 2, outstanding: 1 }));
        assert_eq!(ledger.acked(0), Err(TooHigh { claimed: u32::MAX, outstanding: 1 }));
    }

    #[test]
    fn asks_once_until_answered() {
        let mut ledger = Ledger::new(AskAfter { stanzas: 2, bytes: 1000 });
        ledger.sent(stanza(0));
        assert!(!ledger.take_request(false));
        ledger.sent(stanza(1));
        assert!(ledger.take_request(false));
        ledger.sent(stanza(2));
        ledger.sent(stanza(3));
        assert!(!ledger.take_request(true));
        ledger.acked(2).unwrap();
        assert!(ledger.take_request(false));
        ledger.acked(4).unwrap();
        assert!(!ledger.take_request(true));
        assert_eq!(ledger.outstanding_bytes(), 0);
    }

    /// What happens on a wire between two peers that both keep a ledger.
    #[derive(Debug, Clone)]
    enum Step {
        Send(bool),
        Deliver(bool),
        Ack(bool),
        Cut,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<bool>().prop_map(Step::Send),
            4 => any::<bool>().prop_map(Step::Deliver),
            2 => any::<bool>().prop_map(Step::Ack),
            1 => Just(Step::Cut),
        ]
    }

    #[derive(Default)]
    struct End {
        ledger: Ledger,
        sent: usize,
        wire: VecDeque<Stanza>,
        got: Vec<Stanza>,
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        #[test]
        fn random_cuts_lose_nothing_and_double_nothing(start in any::<(u32, u32)>(), steps in prop::collection::vec(step(), 0..200)) {
            let mut ends = [End::default(), End::default()];
            ends[0].ledger = Ledger::starting_at(start.0, start.1);
            ends[1].ledger = Ledger::starting_at(start.1, start.0);
            for step in steps.into_iter().chain([Step::Cut]) {
                match step {
                    Step::Send(side) => {
                        let end = &mut ends[usize::from(side)];
                        let next = stanza(end.sent);
                        end.sent += 1;
                        end.ledger.sent(next.clone());
                        end.wire.push_back(next);
                    }
                    Step::Deliver(side) => {
                        if let Some(stanza) = ends[usize::from(side)].wire.pop_front() {
                            let other = &mut ends[usize::from(!side)];
                            other.ledger.received();
                            other.got.push(stanza);
                        }
                    }
                    Step::Ack(side) => {
                        let h = ends[usize::from(!side)].ledger.handled();
                        ends[usize::from(side)].ledger.acked(h).unwrap();
                    }
                    Step::Cut => {
                        for side in [0, 1] {
                            let h = ends[1 - side].ledger.handled();
                            let end = &mut ends[side];
                            end.wire.clear();
                            for stanza in end.ledger.resume(h).unwrap() {
                                end.ledger.sent(stanza.clone());
                                end.wire.push_back(stanza);
                            }
                        }
                    }
                }
            }
            for side in [0, 1] {
                let mut all = ends[1 - side].got.clone();
                all.extend(ends[side].wire.iter().cloned());
                let expected: Vec<Stanza> = (0..ends[side].sent).map(stanza).collect();
                prop_assert_eq!(all, expected);
            }
        }
    }
}
