//! What the bridge costs when nothing happens, and over time. One test alone in its process, as it counts for the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use archipel_contract::{DomainId, host::HostChange};
use archipel_libvirt::{calls, fixture::domain_uuid};
use common::{connected, made_up};
use std::time::{Duration, Instant};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Time on the processor this process has used, in clock ticks.
fn used_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn silence_costs_nothing_and_work_leaks_nothing() {
    let (config, _file) = made_up(1000);
    let (host, recorder) = connected(config);
    assert_eq!(host.domains.list().await.unwrap().len(), 1000);

    // Silence is itself a span of time, so here, and only here, time is what is waited for.
    let (calls_before, ticks_before) = (calls(), used_ticks());
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
    assert_eq!(calls(), calls_before, "libvirt was asked though nobody wanted to know anything");
    assert!(used_ticks() - ticks_before <= 2, "{} ticks of processor time in silence", used_ticks() - ticks_before);
    assert_eq!(recorder.all(), [HostChange::Connected]);

    let id = DomainId(domain_uuid(0));
    let churn = async || {
        for _ in 0..20 {
            host.domains.list().await.unwrap();
            host.domains.pause(id).await.unwrap();
            host.domains.resume(id).await.unwrap();
        }
    };
    churn().await;
    let before = resident_kib();
    for _ in 0..4 {
        churn().await;
    }
    let grown = resident_kib().saturating_sub(before);
    println!("80 listings of 1000 machines: {grown} KiB grown");
    assert!(grown < 8 * 1024, "{grown} KiB more after 80 listings of 1000 machines");
    assert!(calls() > calls_before);
}
