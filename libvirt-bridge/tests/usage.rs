//! What looking costs: one call of libvirt for each sample, however many machines, and no memory. One test alone in its process, as it
//! counts for the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use archipel_libvirt::calls;
use common::{connected, made_up};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_sample_of_a_thousand_machines_is_one_call_and_leaks_nothing() {
    let (config, _file) = made_up(1000);
    let (host, _recorder) = connected(config);
    let active = host.domains.list().await.unwrap().into_iter().filter(|d| d.facts.state.is_active()).count();
    assert!(active >= 500, "{active}");
    // The first one may ask which driver this is; the allocator needs some to settle.
    for _ in 0..200 {
        assert_eq!(host.usage.sample().await.unwrap().machines.len(), active);
    }
    let (before, at_first) = (calls(), resident_kib());
    for _ in 0..2000 {
        host.usage.sample().await.unwrap();
    }
    assert_eq!(calls() - before, 2000, "each sample is one call");
    let grown = resident_kib().saturating_sub(at_first);
    println!("2000 samples of {active} machines: {grown} KiB grown");
    // A leak of what libvirt answers would be some 200 KiB each time.
    assert!(grown < 8 * 1024, "{grown} KiB more after 2000 samples");
}
