//! The port that counts: one bulk call for all machines. What their host takes is read from the kernel when libvirt's host is this very
//! one, as libvirtd would do, and asked of libvirt otherwise.

mod raw;

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
};
use archipel_contract::{
    BoxFuture, Bytes, Fault, Millis,
    usage::{Counters, CpuTime, HostCounters, Sample, Traffic, UsagePort},
};
use std::sync::OnceLock;
use std::time::Instant;

/// The kernel counts in hundredths of a second, on every architecture that libvirt knows.
const TICK: u64 = 10_000_000;

/// Time since the first sample of this process.
fn now() -> Millis {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    Millis(u64::try_from(BEGINNING.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// libvirt's names and numbers as what they mean.
fn counters<'a>(run: i64, told: impl Iterator<Item = (&'a [u8], u64)>) -> Counters {
    let mut counters = Counters { run, ..Counters::default() };
    let (mut available, mut unused, mut usable) = (None, None, None);
    let add = |traffic: &mut Option<Traffic>, inward: bool, value: u64| {
        let traffic = traffic.get_or_insert_default();
        let sum = if inward { &mut traffic.inward } else { &mut traffic.outward };
        sum.0 = sum.0.saturating_add(value);
    };
    for (name, value) in told {
        match name {
            b"cpu.time" => counters.cpu = Some(CpuTime(value)),
            b"balloon.current" => counters.memory.current = Some(Bytes::kib(value)),
            b"balloon.maximum" => counters.memory.maximum = Some(Bytes::kib(value)),
            b"balloon.rss" => counters.memory.resident = Some(Bytes::kib(value)),
            b"balloon.available" => available = Some(value),
            b"balloon.unused" => unused = Some(value),
            b"balloon.usable" => usable = Some(value),
            name if name.starts_with(b"block.") && name.ends_with(b".rd.bytes") => add(&mut counters.disk, true, value),
            name if name.starts_with(b"block.") && name.ends_with(b".wr.bytes") => add(&mut counters.disk, false, value),
            name if name.starts_with(b"net.") && name.ends_with(b".rx.bytes") => add(&mut counters.net, true, value),
            name if name.starts_with(b"net.") && name.ends_with(b".tx.bytes") => add(&mut counters.net, false, value),
            _ => {}
        }
    }
    // What the guest could give back at once, such as its cache, it does not use.
    counters.memory.used = available.zip(usable.or(unused)).map(|(all, free)| Bytes::kib(u64::saturating_sub(all, free)));
    counters
}

/// The first line of `/proc/stat`: time the processors worked and all their time; and how many there are.
fn processors(stat: &str) -> Option<(CpuTime, CpuTime, u32)> {
    let ticks: Vec<u64> = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what guests take is part of user and nice.
    let total: u64 = ticks.get(..8)?.iter().sum();
    let idle = ticks[3] + ticks[4];
    let cpus = stat.lines().filter(|l| l.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))).count();
    Some((CpuTime((total - idle) * TICK), CpuTime(total * TICK), u32::try_from(cpus).ok()?))
}

/// All memory of `/proc/meminfo`, and what could be given away.
fn memory(meminfo: &str) -> Option<(Bytes, Bytes)> {
    let of = |key: &str| meminfo.lines().find_map(|l| l.strip_prefix(key)?.split_whitespace().next()?.parse().ok()).map(Bytes::kib);
    Some((of("MemTotal:")?, of("MemAvailable:")?))
}

fn is_here(uri: &str) -> bool {
    let rest = uri.split_once("://").map_or("", |(_, rest)| rest);
    rest.starts_with('/')
}

/// What a file of the kernel says; an empty one, which nobody can read anything from, where there is none.
fn kernel(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn host(session: &Session) -> Result<HostCounters, Trouble> {
    let ((busy, total, cpus), memory) = if is_here(&session.uri) {
        let told = processors(&kernel("/proc/stat"));
        (told.map_or((None, None, 0), |(busy, total, cpus)| (Some(busy), Some(total), cpus)), memory(&kernel("/proc/meminfo")))
    } else {
        let (busy, total) = raw::processors(&session.connect)?;
        // Not every driver knows of memory; processors alone are worth telling.
        let memory = raw::memory(&session.connect).ok();
        ((Some(busy), Some(total), ask(|| session.connect.node_info())?.cpus), memory)
    };
    Ok(HostCounters { cpus, busy, total, memory: memory.map(|m| m.0), available: memory.map(|m| m.1) })
}

impl UsagePort for Link {
    fn sample(&self) -> BoxFuture<'_, Result<Sample, Fault>> {
        self.call(Lane::Read, "measuring usage", |session| {
            // Only QEMU's driver knows how not to wait for a machine that is busy.
            let machines = raw::machines(&session.connect, &*session.driver()? != "QEMU")?;
            let at = now();
            Ok(Sample { at, host: host(session)?, machines })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(list: &[(&str, u64)]) -> Counters {
        counters(3, list.iter().map(|(name, value)| (name.as_bytes(), *value)))
    }

    #[test]
    fn all_disks_and_all_cards_are_counted_together() {
        let found = told(&[
            ("cpu.time", 7),
            ("cpu.user", 5),
            ("block.count", 2),
            ("block.0.rd.reqs", 9),
            ("block.0.rd.bytes", 10),
            ("block.0.wr.bytes", 20),
            ("block.1.rd.bytes", 30),
            ("block.1.wr.bytes", u64::MAX),
            ("net.0.rx.bytes", 1),
            ("net.0.tx.bytes", 2),
            ("net.12.rx.bytes", 3),
            ("net.12.tx.pkts", 900),
        ]);
        assert_eq!((found.run, found.cpu), (3, Some(CpuTime(7))));
        assert_eq!(found.disk, Some(Traffic { inward: Bytes(40), outward: Bytes(u64::MAX) }));
        assert_eq!(found.net, Some(Traffic { inward: Bytes(4), outward: Bytes(2) }));
        assert_eq!((told(&[]).cpu, told(&[]).disk), (None, None), "what is not told is not zero");
    }

    #[test]
    fn memory_is_what_the_balloon_and_the_guest_say() {
        let found = told(&[("balloon.current", 1000), ("balloon.maximum", 2000), ("balloon.rss", 500)]).memory;
        assert_eq!((found.current, found.maximum, found.resident), (Some(Bytes::kib(1000)), Some(Bytes::kib(2000)), Some(Bytes::kib(500))));
        assert_eq!(found.used, None, "a guest without the driver says nothing");
        let unused = [("balloon.available", 900), ("balloon.unused", 300)];
        assert_eq!(told(&unused).memory.used, Some(Bytes::kib(600)));
        assert_eq!(told(&[&unused[..], &[("balloon.usable", 800)]].concat()).memory.used, Some(Bytes::kib(100)), "its cache is not used");
        assert_eq!(told(&[("balloon.available", 9), ("balloon.unused", 300)]).memory.used, Some(Bytes(0)));
    }

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "cpu  100 10 50 1000 40 1 2 3 77 0\ncpu0 50 5 25 500 20 0 1 1 0 0\ncpu1 50 5 25 500 20 1 1 2 0 0\nintr 5\n";
        assert_eq!(processors(stat), Some((CpuTime(166 * TICK), CpuTime(1206 * TICK), 2)));
        for wrong in ["", "cpu  1 2 3\n", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  a b c d e f g h\n"] {
            assert_eq!(processors(wrong), None, "{wrong:?}");
        }
        let meminfo = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\n";
        assert_eq!(memory(meminfo), Some((Bytes::kib(1000), Bytes::kib(600))));
        assert_eq!(memory("MemTotal: 1 kB\n"), None);
        assert!(processors(&kernel("/proc/stat")).is_some() && memory(&kernel("/proc/meminfo")).is_some());
    }

    #[test]
    fn only_this_very_host_is_read_from_its_kernel() {
        assert!(is_here("qemu:///system") && is_here("test:///default") && is_here("qemu+unix:///system?socket=/x"));
        assert!(!is_here("qemu://host/system") && !is_here("qemu+tls://host/system") && !is_here("odd"));
    }
}
