//! Figures from two samples. A counter that went back, a machine that began anew or came from elsewhere, and a clock that stood still
//! give no figure rather than a wrong one.

use super::{ByteRate, Counters, CpuTime, DomainUsage, HostCounters, HostUsage, MilliCpu, Sample, Traffic};
use crate::{Bytes, DomainId, Millis, Timestamp};
use std::collections::HashMap;
use std::num::NonZeroU64;

/// What was found out at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// When, for people.
    pub at: Timestamp,
    /// The host; absent when libvirt did not answer.
    pub host: Option<HostUsage>,
    /// Every active machine.
    pub machines: HashMap<DomainId, DomainUsage>,
}

/// A time between two samples that one can divide by.
#[derive(Clone, Copy)]
struct Span(NonZeroU64);

impl Span {
    fn between(before: Millis, now: Millis) -> Option<Span> {
        NonZeroU64::new(now.0.checked_sub(before.0)?).map(Span)
    }

    /// So much in each `of` milliseconds; none if it shrank.
    fn per(self, of: u64, before: u64, now: u64) -> Option<u64> {
        let grown = u128::from(now.checked_sub(before)?);
        Some(u64::try_from(grown * u128::from(of) / u128::from(self.0.get())).unwrap_or(u64::MAX))
    }

    fn bytes(self, before: Bytes, now: Bytes) -> Option<ByteRate> {
        self.per(1000, before.0, now.0).map(ByteRate)
    }

    /// A millisecond has a million nanoseconds; a thousandth of a CPU is busy for a thousand of them.
    fn cpu(self, before: CpuTime, now: CpuTime) -> Option<MilliCpu> {
        self.per(1, before.0, now.0).map(|nanos_each_milli| MilliCpu(nanos_each_milli / 1000))
    }

    fn traffic(self, before: Option<Traffic>, now: Option<Traffic>) -> (Option<ByteRate>, Option<ByteRate>) {
        let (Some(before), Some(now)) = (before, now) else { return (None, None) };
        // A disk or card that was unplugged takes its count along; then one direction alone would be a lie too.
        match (self.bytes(before.inward, now.inward), self.bytes(before.outward, now.outward)) {
            (Some(inward), Some(outward)) => (Some(inward), Some(outward)),
            _ => (None, None),
        }
    }
}

fn of_machine(span: Option<Span>, before: Option<&Counters>, now: &Counters) -> DomainUsage {
    let mut usage = DomainUsage {
        memory: now.memory.current,
        memory_maximum: now.memory.maximum,
        memory_used: now.memory.used,
        memory_resident: now.memory.resident,
        ..DomainUsage::default()
    };
    // Counters of another run say nothing, even if they are smaller.
    if let (Some(span), Some(before)) = (span, before.filter(|b| b.run == now.run)) {
        usage.cpu = before.cpu.zip(now.cpu).and_then(|(b, n)| span.cpu(b, n));
        (usage.disk_read, usage.disk_written) = span.traffic(before.disk, now.disk);
        (usage.net_received, usage.net_sent) = span.traffic(before.net, now.net);
    }
    usage
}

/// How much of all its processors' time a host worked. Measured by its own clock of idling and working, whatever ours says.
fn of_host(before: &HostCounters, now: &HostCounters) -> Option<MilliCpu> {
    let busy = now.busy?.0.checked_sub(before.busy?.0)?;
    let total = now.total?.0.checked_sub(before.total?.0).filter(|total| *total > 0)?;
    let whole = u128::from(now.cpus) * 1000;
    // Working is part of everything; a kernel that says otherwise for a moment counts in rough steps.
    let share = (u128::from(busy) * whole / u128::from(total)).min(whole);
    u64::try_from(share).ok().map(MilliCpu)
}

/// What happened between two samples. Without an earlier one only what is no rate is known.
pub fn rates(before: Option<&Sample>, now: &Sample, at: Timestamp) -> Reading {
    let span = before.and_then(|b| Span::between(b.at, now.at));
    let earlier: HashMap<DomainId, &Counters> = before.iter().flat_map(|b| b.machines.iter().map(|(id, c)| (*id, c))).collect();
    let machines: HashMap<DomainId, DomainUsage> =
        now.machines.iter().map(|(id, c)| (*id, of_machine(span, earlier.get(id).copied(), c))).collect();
    let sum = |of: fn(&DomainUsage) -> Option<ByteRate>| {
        ByteRate(machines.values().filter_map(of).fold(0u64, |sum, rate| sum.saturating_add(rate.0)))
    };
    let host = HostUsage {
        cpus: now.host.cpus,
        cpu: before.filter(|_| span.is_some()).and_then(|b| of_host(&b.host, &now.host)),
        memory: now.host.memory,
        memory_used: now.host.memory.zip(now.host.available).map(|(all, free)| Bytes(all.0.saturating_sub(free.0))),
        disk_read: sum(|u| u.disk_read),
        disk_written: sum(|u| u.disk_written),
        net_received: sum(|u| u.net_received),
        net_sent: sum(|u| u.net_sent),
    };
    Reading { at, host: Some(host), machines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const AT: Timestamp = Timestamp(5);

    fn id(n: u128) -> DomainId {
        DomainId(Uuid::from_u128(n))
    }

    fn counters(run: i64, cpu: u64, bytes: u64) -> Counters {
        let traffic = Some(Traffic { inward: Bytes(bytes), outward: Bytes(bytes * 2) });
        Counters { run, cpu: Some(CpuTime(cpu)), disk: traffic, net: traffic, ..Counters::default() }
    }

    fn sample(at: u64, machines: Vec<(DomainId, Counters)>) -> Sample {
        Sample { at: Millis(at), machines, ..Sample::default() }
    }

    fn one(before: Option<(u64, Counters)>, now: (u64, Counters)) -> DomainUsage {
        let before = before.map(|(at, c)| sample(at, vec![(id(1), c)]));
        rates(before.as_ref(), &sample(now.0, vec![(id(1), now.1)]), AT).machines[&id(1)]
    }

    #[test]
    fn a_busy_cpu_is_a_thousand_thousandths() {
        let usage = one(Some((1000, counters(1, 0, 0))), (3000, counters(1, 2_000_000_000, 4096)));
        assert_eq!((usage.cpu, usage.disk_read, usage.disk_written), (Some(MilliCpu(1000)), Some(ByteRate(2048)), Some(ByteRate(4096))));
        assert_eq!(usage.net_sent, Some(ByteRate(4096)));
        let half = one(Some((0, counters(1, 7, 0))), (1000, counters(1, 500_000_007, 0)));
        assert_eq!(half.cpu, Some(MilliCpu(500)));
        assert_eq!(half.disk_read, Some(ByteRate(0)), "nothing is read, and that is known");
        assert_eq!((MilliCpu(1005).to_string(), ByteRate(2048).to_string()), ("100.5 %".into(), "2 KiB/s".into()));
    }

    #[test]
    fn what_cannot_be_compared_gives_no_figure() {
        let now = (3000, counters(1, 5_000, 500));
        for (why, before) in [
            ("nothing before", None),
            ("another run with smaller counts", Some((1000, counters(2, 10, 10)))),
            ("the clock stood still", Some((3000, counters(1, 10, 10)))),
            ("the clock went back", Some((4000, counters(1, 10, 10)))),
            ("counters went back", Some((1000, counters(1, 9_000, 900)))),
        ] {
            let usage = one(before, now);
            assert_eq!((usage.cpu, usage.disk_read, usage.net_sent), (None, None, None), "{why}");
        }
    }

    #[test]
    fn one_direction_alone_is_not_told() {
        let odd = Some(Traffic { inward: Bytes(900), outward: Bytes(0) });
        let usage = one(Some((0, Counters { disk: odd, ..counters(1, 0, 0) })), (1000, counters(1, 0, 500)));
        assert_eq!((usage.disk_read, usage.disk_written, usage.net_sent), (None, None, Some(ByteRate(1000))));
    }

    #[test]
    fn a_machine_that_came_from_elsewhere_has_memory_and_no_rates() {
        let memory = super::super::MemoryNow { current: Some(Bytes::mib(64)), ..Default::default() };
        let now = sample(2000, vec![(id(1), counters(1, 9, 9)), (id(2), Counters { memory, ..counters(4, 7, 7) })]);
        let before = sample(1000, vec![(id(1), counters(1, 9, 9)), (id(3), counters(1, 1, 1))]);
        let reading = rates(Some(&before), &now, AT);
        assert_eq!(reading.machines.len(), 2, "one that is off is not there any more");
        assert_eq!((reading.machines[&id(2)].memory, reading.machines[&id(2)].cpu), (Some(Bytes::mib(64)), None));
        assert_eq!(reading.machines[&id(1)].cpu, Some(MilliCpu(0)));
    }

    #[test]
    fn a_host_is_measured_by_its_own_clock() {
        let host = |busy, total| HostCounters {
            cpus: 4,
            busy: Some(CpuTime(busy)),
            total: Some(CpuTime(total)),
            memory: Some(Bytes(100)),
            available: Some(Bytes(30)),
        };
        let at = |at, host| Sample { host, ..sample(at, vec![]) };
        let reading = rates(Some(&at(0, host(10, 100))), &at(1000, host(60, 300)), AT).host.expect("a host");
        assert_eq!((reading.cpu, reading.memory_used), (Some(MilliCpu(1000)), Some(Bytes(70))));
        for (before, now) in [((10, 100), (10, 100)), ((10, 100), (9, 200)), ((10, 300), (20, 200))] {
            let reading = rates(Some(&at(0, host(before.0, before.1))), &at(1000, host(now.0, now.1)), AT);
            assert_eq!(reading.host.expect("a host").cpu, None, "{before:?} {now:?}");
        }
        assert_eq!(rates(None, &at(1, host(1, 1)), AT).host.expect("a host").cpu, None);
    }

    proptest! {
        #[test]
        fn any_two_samples_give_figures_or_none(a in any::<[u64; 4]>(), b in any::<[u64; 4]>(), runs in any::<(bool, u8)>()) {
            let of = |n: [u64; 4], run| (n[0], Counters {
                run, cpu: Some(CpuTime(n[1])), disk: Some(Traffic { inward: Bytes(n[2]), outward: Bytes(n[3]) }), ..Counters::default()
            });
            let usage = one(Some(of(a, 1)), of(b, i64::from(runs.0)));
            let known = runs.0 && b[0] > a[0];
            prop_assert_eq!(usage.cpu.is_some(), known && b[1] >= a[1]);
            prop_assert_eq!(usage.disk_read.is_some(), known && b[2] >= a[2] && b[3] >= a[3]);
            prop_assert_eq!(usage.disk_read.is_some(), usage.disk_written.is_some());
        }
    }
}
