//! Medians, ratios and readings of this process. A benchmark never passes or fails: it prints.

use std::time::Duration;

/// A set of timings.
#[derive(Default)]
pub(crate) struct Timings(Vec<Duration>);

impl Timings {
    pub(crate) fn push(&mut self, d: Duration) {
        self.0.push(d);
    }

    fn at(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get(((last as f64) * share).round() as usize).copied().unwrap_or_default()
    }

    pub(crate) fn p50(&self) -> Duration {
        self.at(0.5)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.at(0.99)
    }
}

/// Resident memory of this process, in KiB.
pub(crate) fn resident_kib() -> u64 {
    resident_kib_of("self")
}

/// The same of another process, by its id.
pub(crate) fn resident_kib_of(pid: &str) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Processor time used by this process so far.
pub(crate) fn cpu_time() -> Duration {
    cpu_time_of("self")
}

/// The same of another process, by its id.
pub(crate) fn cpu_time_of(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces; what follows it does not.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// One line of the table: what was measured, ours, the baseline of the same run, and what was aimed at.
pub(crate) fn row(what: &str, ours: &str, baseline: &str, aim: &str) {
    println!("{what:<52} {ours:>16} {baseline:>16}   {aim}");
}
