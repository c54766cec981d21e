//! What has changed since, on its way from one agent to many who look.
//!
//! ```text
//!   agent:     reading -- changed since what was sent last --> frame
//!   exchange:  frame --> ledger (numbered) -- changed since what this one has seen --> frame for each who looks
//! ```
//! A frame is merged into what one has, so any number of them may be skipped as long as the next says what changed since the last that was
//! taken. Whoever is slow gets the newest only, and whoever comes late gets everything at once.

use super::{DomainUsage, HostUsage, Reading};
use crate::{DomainId, HypervisorName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The most machines in one frame.
pub const MACHINES: usize = 200;

/// What has changed on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Which host.
    pub host: HypervisorName,
    /// When it was measured.
    pub at: Timestamp,
    /// The host itself, as it is; absent while nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<HostUsage>,
    /// Machines whose figures changed; `null`: nothing is known of it any more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machines: BTreeMap<DomainId, Option<DomainUsage>>,
    /// Another frame of the same moment follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Frame {
    /// What is to be said of a reading to whoever knows an earlier one.
    pub fn between(host: &HypervisorName, before: Option<&Reading>, now: &Reading) -> Frame {
        let known = |id: &DomainId| before.and_then(|b| b.machines.get(id));
        let changed = now.machines.iter().filter(|(id, usage)| known(id) != Some(usage)).map(|(id, usage)| (*id, Some(*usage)));
        let gone = before.iter().flat_map(|b| b.machines.keys()).filter(|id| !now.machines.contains_key(id)).map(|id| (*id, None));
        Frame { host: host.clone(), at: now.at, node: now.host, machines: changed.chain(gone).collect(), more: false }
    }

    /// The same in pieces that fit a stanza; at least one.
    pub fn pieces(self) -> Vec<Frame> {
        let Frame { host, at, node, machines, .. } = self;
        let piece = |machines| Frame { host: host.clone(), at, node, machines, more: true };
        let mut pieces: Vec<Frame> = Vec::new();
        for (id, usage) in machines {
            match pieces.last_mut() {
                Some(last) if last.machines.len() < MACHINES => {
                    last.machines.insert(id, usage);
                }
                _ => pieces.push(piece([(id, usage)].into())),
            }
        }
        if pieces.is_empty() {
            pieces.push(piece(BTreeMap::new()));
        }
        if let Some(last) = pieces.last_mut() {
            last.more = false;
        }
        pieces
    }
}

/// What is known of one host, with numbers that say when each part changed.
#[derive(Debug, Default)]
pub struct Ledger {
    number: u64,
    at: Timestamp,
    node: Option<HostUsage>,
    machines: HashMap<DomainId, (u64, Option<DomainUsage>)>,
}

impl Ledger {
    /// Takes what an agent says has changed.
    pub fn apply(&mut self, frame: Frame) {
        self.number += 1;
        self.at = frame.at;
        self.node = frame.node;
        for (id, usage) in frame.machines {
            // One that nobody here has heard of need not be taken back.
            if usage.is_some() || self.machines.contains_key(&id) {
                self.machines.insert(id, (self.number, usage));
            }
        }
    }

    /// Nothing is known of the host any more.
    pub fn lose(&mut self, at: Timestamp) {
        self.number += 1;
        self.at = at;
        self.node = None;
        for (number, usage) in self.machines.values_mut().filter(|(_, usage)| usage.is_some()) {
            (*number, *usage) = (self.number, None);
        }
    }

    /// The number of the last change; zero when there was none.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What has changed since that number; since zero: everything there is.
    pub fn since(&self, host: &HypervisorName, seen: u64) -> Frame {
        let news = self.machines.iter().filter(|(_, (number, usage))| *number > seen && (seen > 0 || usage.is_some()));
        let machines = news.map(|(id, (_, usage))| (*id, *usage)).collect();
        Frame { host: host.clone(), at: self.at, node: self.node, machines, more: false }
    }

    /// Everybody who looks has seen that number: what is gone since need not be said again.
    pub fn settle(&mut self, seen: u64) {
        self.machines.retain(|_, (number, usage)| usage.is_some() || *number > seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::MilliCpu;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn id(n: u8) -> DomainId {
        DomainId(Uuid::from_u128(u128::from(n)))
    }

    fn alpha() -> HypervisorName {
        "alpha".parse().expect("a name")
    }

    fn reading(at: u64, machines: &[(u8, u64)]) -> Reading {
        let usage = |cpu| DomainUsage { cpu: Some(MilliCpu(cpu)), ..DomainUsage::default() };
        Reading {
            at: Timestamp(at),
            host: Some(HostUsage::default()),
            machines: machines.iter().map(|(n, c)| (id(*n), usage(*c))).collect(),
        }
    }

    #[test]
    fn only_what_changed_is_said() {
        let frame = Frame::between(&alpha(), Some(&reading(1, &[(1, 5), (2, 6), (3, 7)])), &reading(2, &[(1, 5), (2, 9)]));
        let said: Vec<_> = frame.machines.iter().map(|(id, u)| (*id, u.and_then(|u| u.cpu))).collect();
        assert_eq!(said, [(id(2), Some(MilliCpu(9))), (id(3), None)]);
        assert_eq!(Frame::between(&alpha(), None, &reading(1, &[(1, 5)])).machines.len(), 1);
        let text = serde_json::to_string(&frame).expect("JSON");
        assert!(text.contains("\"host\":\"alpha\"") && text.contains(":null"), "{text}");
        assert_eq!(serde_json::from_str::<Frame>(&text).expect("it reads"), frame);
    }

    #[test]
    fn many_machines_travel_in_pieces_and_the_last_says_so() {
        let machines = (0..250u8).map(|n| (n, 1)).collect::<Vec<_>>();
        let mut frame = Frame::between(&alpha(), None, &reading(1, &machines));
        frame.machines.extend((0..250u128).map(|n| (DomainId(Uuid::from_u128(n + 1000)), None)));
        let pieces = frame.clone().pieces();
        assert_eq!(pieces.iter().map(|p| (p.machines.len(), p.more)).collect::<Vec<_>>(), [(200, true), (200, true), (100, false)]);
        let together: BTreeMap<_, _> = pieces.into_iter().flat_map(|p| p.machines).collect();
        assert_eq!(together, frame.machines);
        assert_eq!(Frame::between(&alpha(), None, &reading(1, &[])).pieces().len(), 1, "that there is nothing is news too");
    }

    #[test]
    fn a_host_that_is_lost_takes_its_figures_along() {
        let mut ledger = Ledger::default();
        ledger.apply(Frame::between(&alpha(), None, &reading(1, &[(1, 5)])));
        let seen = ledger.number();
        ledger.lose(Timestamp(9));
        let frame = ledger.since(&alpha(), seen);
        assert_eq!((frame.node, frame.machines.get(&id(1))), (None, Some(&None)));
        ledger.settle(ledger.number());
        assert_eq!(ledger.machines.len(), 0);
    }

    /// What somebody knows who merges every frame that reaches them.
    fn merge(known: &mut BTreeMap<DomainId, DomainUsage>, frame: &Frame) {
        for (id, usage) in &frame.machines {
            match usage {
                Some(usage) => known.insert(*id, *usage),
                None => known.remove(id),
            };
        }
    }

    proptest! {
        /// However many frames each of them misses, after one that reaches them they know what is.
        #[test]
        fn whoever_looks_knows_what_is(
            steps in prop::collection::vec((prop::collection::vec((0u8..6, 0u64..3), 0..5), any::<[bool; 3]>(), any::<bool>()), 1..20)
        ) {
            let mut ledger = Ledger::default();
            let mut viewers = [(0u64, BTreeMap::new()), (0, BTreeMap::new()), (0, BTreeMap::new())];
            let mut sent: Option<Reading> = None;
            for (at, (machines, reached, settles)) in steps.into_iter().enumerate() {
                let now = reading(at as u64, &machines);
                for piece in Frame::between(&alpha(), sent.as_ref(), &now).pieces() {
                    ledger.apply(piece);
                }
                for ((seen, known), reached) in viewers.iter_mut().zip(reached) {
                    if reached {
                        merge(known, &ledger.since(&alpha(), *seen));
                        *seen = ledger.number();
                        prop_assert_eq!(&*known, &now.machines.clone().into_iter().collect::<BTreeMap<_, _>>());
                    }
                }
                if settles {
                    ledger.settle(viewers.iter().map(|(seen, _)| *seen).min().unwrap_or(0));
                }
                sent = Some(now);
            }
        }
    }
}
