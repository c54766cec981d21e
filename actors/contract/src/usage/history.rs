//! The last 24 hours of every machine, in a ring of fixed size: 288 averages of five minutes.
//!
//! All lines end now, so a machine that is not there for a while has gaps, and no time of its own has to be kept. A line begins when a
//! machine is seen first and goes when nothing is known of it any more.

use super::{ByteRate, DomainUsage, HostUsage, MilliCpu, Reading, UsagePoint};
use crate::{Bytes, DomainId, Millis, Timestamp};
use std::collections::{HashMap, VecDeque};

/// How many averages are kept.
pub const POINTS: usize = 288;
/// What one of them covers.
pub const SLOT: Millis = Millis::seconds(300);
/// What one of them weighs.
pub const SLOT_BYTES: usize = size_of::<Slot>();

/// Nothing is known.
const NONE: u32 = u32::MAX;

/// One average, small: thousandths of a CPU, KiB and KiB a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    cpu: u32,
    memory: u32,
    disk: [u32; 2],
    net: [u32; 2],
}

const EMPTY: Slot = Slot { cpu: NONE, memory: NONE, disk: [NONE; 2], net: [NONE; 2] };

fn small(value: Option<u64>) -> u32 {
    // Too large for a slot is as much as a slot can say.
    value.map_or(NONE, |v| u32::try_from(v).unwrap_or(NONE - 1).min(NONE - 1))
}

/// Rounded, so that the little traffic of a quiet network is not always nothing.
fn kib(rate: Option<ByteRate>) -> u32 {
    small(rate.map(|r| r.0.saturating_add(512) / 1024))
}

fn known(value: u32) -> Option<u64> {
    (value != NONE).then_some(u64::from(value))
}

impl From<&DomainUsage> for Slot {
    fn from(usage: &DomainUsage) -> Slot {
        Slot {
            cpu: small(usage.cpu.map(|c| c.0)),
            memory: small(usage.memory.map(Bytes::as_kib)),
            disk: [kib(usage.disk_read), kib(usage.disk_written)],
            net: [kib(usage.net_received), kib(usage.net_sent)],
        }
    }
}

impl From<&HostUsage> for Slot {
    fn from(usage: &HostUsage) -> Slot {
        Slot {
            cpu: small(usage.cpu.map(|c| c.0)),
            memory: small(usage.memory_used.map(Bytes::as_kib)),
            disk: [kib(Some(usage.disk_read)), kib(Some(usage.disk_written))],
            net: [kib(Some(usage.net_received)), kib(Some(usage.net_sent))],
        }
    }
}

impl Slot {
    fn point(self, at: Timestamp) -> UsagePoint {
        let rate = |value| known(value).map(|kib| ByteRate(kib * 1024));
        UsagePoint {
            at,
            cpu: known(self.cpu).map(MilliCpu),
            memory: known(self.memory).map(Bytes::kib),
            disk_read: rate(self.disk[0]),
            disk_written: rate(self.disk[1]),
            net_received: rate(self.net[0]),
            net_sent: rate(self.net[1]),
        }
    }
}

/// The averages of one machine, or of the host.
#[derive(Debug, Clone, Default)]
pub struct Line(VecDeque<Slot>);

impl Line {
    fn push(&mut self, slot: Slot) {
        if self.0.len() == POINTS {
            self.0.pop_front();
        }
        // By halves of what is there, as a deque grows, but never beyond what is needed.
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact((self.0.len() / 2).max(8).min(POINTS - self.0.len()));
        }
        self.0.push_back(slot);
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|slot| *slot == EMPTY)
    }

    /// What it weighs, in bytes.
    pub fn weight(&self) -> usize {
        self.0.capacity() * SLOT_BYTES
    }
}

/// The last 24 hours.
#[derive(Debug, Clone, Default)]
pub struct History {
    times: VecDeque<Timestamp>,
    host: Line,
    machines: HashMap<DomainId, Line>,
}

impl History {
    /// Enters five minutes: what was found out over them, or nothing.
    pub fn enter(&mut self, at: Timestamp, reading: Option<&Reading>) {
        if self.times.len() == POINTS {
            self.times.pop_front();
        }
        self.times.push_back(at);
        self.host.push(reading.and_then(|r| r.host.as_ref()).map_or(EMPTY, Slot::from));
        for (id, usage) in reading.iter().flat_map(|r| &r.machines) {
            self.machines.entry(*id).or_default().push(usage.into());
        }
        self.machines.retain(|id, line| {
            if reading.is_none_or(|r| !r.machines.contains_key(id)) {
                line.push(EMPTY);
                return !line.is_empty();
            }
            true
        });
    }

    /// The host, oldest first.
    pub fn host(&self) -> Vec<UsagePoint> {
        self.points(&self.host)
    }

    /// One machine, oldest first; nothing if it was not seen in these 24 hours.
    pub fn machine(&self, id: &DomainId) -> Vec<UsagePoint> {
        self.machines.get(id).map(|line| self.points(line)).unwrap_or_default()
    }

    /// How many machines it knows.
    pub fn machines(&self) -> usize {
        self.machines.len()
    }

    /// What the machines' lines weigh together, in bytes.
    pub fn weight(&self) -> usize {
        self.machines.values().map(Line::weight).sum()
    }

    fn points(&self, line: &Line) -> Vec<UsagePoint> {
        let before = self.times.len() - line.0.len();
        line.0.iter().zip(self.times.iter().skip(before)).map(|(slot, at)| slot.point(*at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(n: u128) -> DomainId {
        DomainId(Uuid::from_u128(n))
    }

    fn reading(machines: &[(u128, u64)]) -> Reading {
        let usage = |cpu| DomainUsage { cpu: Some(MilliCpu(cpu)), memory: Some(Bytes::mib(64)), ..DomainUsage::default() };
        Reading {
            at: Timestamp(0),
            host: Some(HostUsage { cpus: 2, cpu: Some(MilliCpu(7)), ..HostUsage::default() }),
            machines: machines.iter().map(|(n, cpu)| (id(*n), usage(*cpu))).collect(),
        }
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut history = History::default();
        for n in 0..1000u64 {
            history.enter(Timestamp(n), Some(&reading(&[(1, n)])));
        }
        let points = history.machine(&id(1));
        assert_eq!((points.len(), history.host().len()), (POINTS, POINTS));
        assert_eq!((points[0].at, points[0].cpu), (Timestamp(712), Some(MilliCpu(712))));
        assert_eq!((points[287].at, points[287].cpu, points[287].memory), (Timestamp(999), Some(MilliCpu(999)), Some(Bytes::mib(64))));
        assert_eq!(POINTS as u64 * SLOT.0, 24 * 3600 * 1000);
    }

    #[test]
    fn a_machine_weighs_less_than_eight_kib() {
        let mut history = History::default();
        for n in 0..2 * POINTS as u64 {
            history.enter(Timestamp(n), Some(&reading(&[(1, n)])));
        }
        assert_eq!(SLOT_BYTES, 24);
        assert!(history.weight() <= 8 * 1024, "{} bytes", history.weight());
        let mut short = History::default();
        short.enter(Timestamp(0), Some(&reading(&[(1, 1)])));
        assert!(short.weight() <= 512, "{} bytes for one average", short.weight());
    }

    #[test]
    fn one_that_comes_later_or_is_off_for_a_while_has_its_points_at_their_times() {
        let mut history = History::default();
        history.enter(Timestamp(1), Some(&reading(&[(1, 10)])));
        history.enter(Timestamp(2), Some(&reading(&[(2, 20)])));
        history.enter(Timestamp(3), None);
        history.enter(Timestamp(4), Some(&reading(&[(1, 11), (2, 21)])));
        let of = |n| history.machine(&id(n)).into_iter().map(|p| (p.at.0, p.cpu.map(|c| c.0))).collect::<Vec<_>>();
        assert_eq!(of(1), [(1, Some(10)), (2, None), (3, None), (4, Some(11))]);
        assert_eq!(of(2), [(2, Some(20)), (3, None), (4, Some(21))]);
        assert_eq!(of(3), []);
        assert_eq!(history.host().iter().filter(|p| p.cpu.is_none()).count(), 1);
    }

    #[test]
    fn one_of_which_nothing_is_known_any_more_is_forgotten() {
        let mut history = History::default();
        history.enter(Timestamp(0), Some(&reading(&[(1, 1), (2, 1)])));
        for n in 1..=POINTS as u64 {
            assert_eq!(history.machines(), 2, "{n}");
            history.enter(Timestamp(n), Some(&reading(&[(2, 1)])));
        }
        assert_eq!((history.machines(), history.machine(&id(1))), (1, vec![]));
    }

    #[test]
    fn what_is_too_large_is_as_much_as_can_be_said() {
        let huge = DomainUsage { cpu: Some(MilliCpu(u64::MAX)), net_sent: Some(ByteRate(u64::MAX)), ..DomainUsage::default() };
        let mut history = History::default();
        history.enter(Timestamp(0), Some(&Reading { machines: [(id(1), huge)].into(), ..Reading::default() }));
        let point = &history.machine(&id(1))[0];
        assert_eq!((point.cpu, point.memory, point.disk_read), (Some(MilliCpu(u64::from(u32::MAX - 1))), None, None));
        assert_eq!(point.net_sent, Some(ByteRate(u64::from(u32::MAX - 1) * 1024)));
    }
}
