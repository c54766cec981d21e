//! The baseline: libvirt's test driver with nothing of ours around it but the calls themselves.

use crate::figures::{Timings, resident_kib};
use anyhow::Result;
use archipel_libvirt::{bare::Bare, fixture::test_driver_xml};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What was measured; times are in microseconds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) open_us: f64,
    pub(crate) list_p50_us: f64,
    pub(crate) toggle_p50_us: f64,
    pub(crate) toggle_p99_us: f64,
    pub(crate) resident_kib: u64,
}

pub(crate) fn measure(machines: usize) -> Result<Figures> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("host.xml");
    std::fs::write(&file, test_driver_xml(machines))?;
    let start = Instant::now();
    let bare = Bare::open(&format!("test://{}", file.display()))?;
    let open_us = start.elapsed().as_secs_f64() * 1e6;
    let mut list = Timings::default();
    for _ in 0..20 {
        let start = Instant::now();
        anyhow::ensure!(bare.count()? == machines, "the test driver has another number of machines");
        list.push(start.elapsed());
    }
    let resident_kib = resident_kib();
    let mut toggle = Timings::default();
    for _ in 0..500 {
        let start = Instant::now();
        bare.pause("vm00000")?;
        toggle.push(start.elapsed());
        let start = Instant::now();
        bare.resume("vm00000")?;
        toggle.push(start.elapsed());
    }
    let us = |d: std::time::Duration| d.as_secs_f64() * 1e6;
    Ok(Figures { open_us, list_p50_us: us(list.p50()), toggle_p50_us: us(toggle.p50()), toggle_p99_us: us(toggle.p99()), resident_kib })
}
