//! Prints what a hypervisor reports by itself: `cargo run -p archipel-libvirt --example watch -- qemu:///system`.
//! It runs until it is interrupted, survives restarts of libvirtd, and is handy to see what libvirt really says.
#![allow(clippy::print_stdout)]

use archipel_contract::host::{HostChange, HostObserver};
use archipel_libvirt::{LinkConfig, counters, open};
use std::sync::Arc;

struct Print;

impl HostObserver for Print {
    fn observe(&self, change: HostChange) -> Result<(), HostChange> {
        println!("{change:?}");
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let uri = std::env::args().nth(1).unwrap_or_else(|| "test:///default".into());
    let host = open(LinkConfig::new("watched".parse()?, uri));
    host.link.watch(Arc::new(Print));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(tokio::signal::ctrl_c())?;
    host.link.close();
    println!("{:?}", counters());
    Ok(())
}
