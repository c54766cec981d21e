//! The libvirt ports of the contract, over `virt` and `virt-sys`. This crate knows libvirt and the contract, and nothing
//! about actors, XMPP or the daemon; the only unsafe code of the workspace is in `event/raw.rs`, `migration/raw.rs`, `volume/raw.rs`, `console/raw.rs`, `guest/raw.rs`, `network/raw.rs`, `definition/raw.rs`, `backup/raw.rs`, `usage/raw.rs` and `memory.rs`.
//!
//! ```text
//!   async callers ──call()──▶ lanes (bounded) ──▶ worker threads ──▶ libvirt ──▶ answer by oneshot
//!                              reads   2 threads
//!                              changes 2 threads                     libvirt's event thread
//!                              long    1 thread                          │ callbacks: translate, never block
//!   long work ──▶ a thread and a connection each ──▶ libvirt             │
//!   link thread: connect ▶ register ▶ up ▶ (lost) ▶ pause ▶ connect      ▼
//!                                                                     relay ──▶ HostObserver
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `connection` | the link: its threads, lanes, deadlines, reconnecting |
//! | `apart` | work that takes as long as it takes: moves, snapshots with memory, backups |
//! | `count` | how often libvirt was called |
//! | `event` | the relay to the observer, and the meaning of each event; `event/raw` is the C side |
//! | `backup` | backups and checkpoints; `backup/raw` is the C that `virt` lacks |
//! | `domain` `snapshot` `network` `storage_pool` `volume` `hypervisor` | one port of the contract each |
//! | `definition` | changing definitions and devices; `definition/block` copies and merges disks |
//! | `console` `guest` | screens, serial lines, keys; the agents in guests; `console/raw` and `guest/raw` are what `virt` lacks |
//! | `usage` | what machines and the host take; `usage/raw` is what `virt` leaks |
//! | `migration` | moving machines; `migration/raw` is the C that `virt` lacks |
//! | `fault` | libvirt error number to fault, the only such table |
//! | [`memory`] | how the process keeps its memory |
//! | `xml` | reading and building libvirt's XML, nothing by string concatenation |
//! | [`bare`] | the bare call, for benchmarks |
//! | [`fixture`] | made-up hosts of any size for tests and benchmarks |
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod apart;
mod backup;
pub mod bare;
mod connection;
mod console;
mod count;
mod definition;
mod domain;
mod event;
mod export;
mod fault;
pub mod fixture;
mod guest;
mod hypervisor;
pub mod memory;
mod migration;
mod network;
mod qcow2;
mod queue;
mod snapshot;
mod storage_pool;
mod usage;
mod volume;
pub mod xml;

use archipel_contract::{HypervisorName, host::Host};
use std::{sync::Arc, time::Duration};

pub use count::{Counters, calls, counters};

/// Which hypervisor to reach, and the limits of the link to it.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Its name in the cell.
    pub name: HypervisorName,
    /// Its libvirt address, for example `qemu:///system`.
    pub uri: String,
    /// Threads for calls that only read. 2, so that together with the others there are five: as many calls as libvirtd
    /// serves to one client at a time by default (`max_client_requests`).
    pub readers: usize,
    /// Threads for calls that change something. 2.
    pub changers: usize,
    /// How many reads and changes may wait, each; a call beyond that fails with `busy`. 1024.
    pub queue: usize,
    /// How many long calls (refreshing a pool) may wait for the one thread that makes them. 64.
    pub long_queue: usize,
    /// How long a read may take, waiting included, until its caller gets `timeout`. 30 s.
    pub deadline: Duration,
    /// The same for changes: starting QEMU takes a second or so, and hundreds may be asked for at once. 2 min.
    pub change_deadline: Duration,
    /// The same for long calls. 10 min.
    pub long_deadline: Duration,
    /// The pause before the second attempt to connect; it doubles with every failure. 0.2 s.
    pub first_pause: Duration,
    /// The longest pause between two attempts. 10 s.
    pub longest_pause: Duration,
    /// Seconds between two signs of life asked from a remote libvirtd; 0 asks for none. 5.
    pub keepalive_seconds: u16,
    /// How many of them may stay unanswered before the connection counts as dead. 3.
    pub keepalive_count: u16,
    /// How many long works (moves, snapshots, backups) may be under way at a time; one more is refused with `busy`. 32.
    pub transfers: usize,
    /// Devices of the host that may be handed to machines: `0000:03:00.0` for PCI, `1234:abcd` for USB. None.
    pub host_devices: Vec<String>,
    /// Directories of the host that machines may share, with all that is below them. None.
    pub shared_directories: Vec<std::path::PathBuf>,
    /// Where the libvirt of another host reaches this one; `None`: `qemu+tls://HOSTNAME/system`.
    pub peer_uri: Option<String>,
    /// Where the memory of a machine is to be sent (`migrate_uri`), when that is not the host of `peer_uri`.
    pub data_uri: Option<String>,
}

impl LinkConfig {
    /// The default limits for this hypervisor.
    pub fn new(name: HypervisorName, uri: impl Into<String>) -> LinkConfig {
        LinkConfig {
            name,
            uri: uri.into(),
            readers: 2,
            changers: 2,
            queue: 1024,
            long_queue: 64,
            deadline: Duration::from_secs(30),
            change_deadline: Duration::from_secs(120),
            long_deadline: Duration::from_secs(600),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
            keepalive_seconds: 5,
            keepalive_count: 3,
            transfers: 32,
            host_devices: Vec::new(),
            shared_directories: Vec::new(),
            peer_uri: None,
            data_uri: None,
        }
    }
}

/// Begins to keep up a connection to a hypervisor, and returns at once. The ports answer `unavailable` until it is there;
/// [`archipel_contract::host::HostLink::watch`] tells when. Everything ends with `close`, or when the last port is dropped.
pub fn open(config: LinkConfig) -> Host {
    let (name, uri): (_, Arc<str>) = (config.name.clone(), config.uri.as_str().into());
    let link = Arc::new(connection::Link::open(config));
    Host {
        name,
        uri,
        hypervisor: link.clone(),
        domains: link.clone(),
        snapshots: link.clone(),
        backups: link.clone(),
        definitions: link.clone(),
        networks: link.clone(),
        pools: link.clone(),
        volumes: link.clone(),
        imports: link.clone(),
        exports: link.clone(),
        migration: link.clone(),
        consoles: link.clone(),
        guests: link.clone(),
        usage: link.clone(),
        link,
    }
}
