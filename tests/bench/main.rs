//! `just bench`: one table of ours beside the bare libvirt call, measured side by side in one run. It prints medians and
//! ratios and never fails because of a number.
//!
//! Each size is measured in processes of its own, so that memory can be compared: one that only opens libvirt's test driver
//! with N machines, one that is a whole cell with them.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark is its printed table")]

mod bare;
mod figures;
mod full;
mod storm;

use anyhow::{Context, Result, bail};
use figures::row;
use serde::de::DeserializeOwned;
use std::process::Command;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bare", n] => print_json(&bare::measure(n.parse()?)?),
        ["full", n, idle] => {
            archipel_libvirt::memory::keep_small();
            print_json(&full::measure(n.parse()?, idle.parse()?)?)
        }
        ["storm", hosts, machines] => print_json(&storm::measure(hosts.parse()?, machines.parse()?)?),
        [] => table(&[100, 1000, 10_000], 60).and_then(|()| storm(3, 1000)),
        ["--quick"] => table(&[100, 1000], 5).and_then(|()| storm(3, 100)),
        ["--storm"] => storm(3, 1000),
        ["--storm", hosts, machines] => storm(hosts.parse()?, machines.parse()?),
        ["--sizes", sizes] => table(&sizes.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?, 60),
        _ => bail!("usage: bench [--quick | --sizes 100,1000 | --storm [HOSTS MACHINES]]"),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Runs one measurement in a process of its own.
fn child<T: DeserializeOwned>(arguments: &[&str]) -> Result<T> {
    let output = Command::new(std::env::current_exe()?).args(arguments).stderr(std::process::Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "{arguments:?} ended with {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.lines().last().context("it printed nothing")?).context("it printed something else than its figures")
}

fn storm(hosts: usize, machines: usize) -> Result<()> {
    storm::table(hosts, machines, &child(&["storm", &hosts.to_string(), &machines.to_string()])?);
    Ok(())
}

fn table(sizes: &[usize], idle: u64) -> Result<()> {
    row("archipel", "ours", "bare libvirt", "aim");
    for &n in sizes {
        let bare: bare::Figures = child(&["bare", &n.to_string()])?;
        let full: full::Figures = child(&["full", &n.to_string(), &idle.to_string()])?;
        let us = |us: f64| format!("{:.3} ms", us / 1000.0);
        println!("--- {n} machines of the test driver");
        row("event: libvirt's callback to stanza at a client, p50", &us(full.event_p50_us), "0 (callback)", "at most 1 ms");
        row("event: the same, p99", &us(full.event_p99_us), "", "");
        row("command: pause or resume through a client, p50", &us(full.command_p50_us), &us(bare.toggle_p50_us), "overhead at most 0.5 ms");
        row("command: the same, p99", &us(full.command_p99_us), &us(bare.toggle_p99_us), "");
        row("command: overhead over the bare call, p50", &us(full.command_p50_us - bare.toggle_p50_us), "", "at most 0.5 ms");
        row("command: the bridge's own call, p50", &us(full.port_p50_us), &us(bare.toggle_p50_us), "");
        row(
            "sign-in with the whole inventory, p50",
            &us(full.sign_in_p50_us),
            &format!("{} (list)", us(bare.list_p50_us)),
            "10,000 within 1 s",
        );
        row("start to everything listed and asserted", &us(full.start_us), &format!("{} (open)", us(bare.open_us)), "");
        let per = (full.resident_kib.saturating_sub(bare.resident_kib)) as f64 / n as f64;
        row("memory, resident", &format!("{} KiB", full.resident_kib), &format!("{} KiB", bare.resident_kib), "");
        row("memory: beyond libvirt's, per machine", &format!("{per:.2} KiB"), "", "at most 4 KiB at 10,000");
        row(&format!("nobody looking for {idle} s: libvirt calls"), &full.idle_calls.to_string(), "", "0");
        row("  and processor time", &us(full.idle_cpu_us), "", "none");
    }
    Ok(())
}
