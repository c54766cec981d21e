//! What the tests share: an observer that keeps everything, a made-up host, and waiting with a deadline.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use archipel_contract::{
    DomainId, Epoch, Fault, HypervisorName, Ownership, RightToRun,
    host::{Host, HostChange, HostObserver},
};
use archipel_libvirt::{LinkConfig, fixture::test_driver_xml};
use std::{
    io::Write,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

pub const DEADLINE: Duration = Duration::from_secs(30);

/// Keeps what it is told, in order; can be made to have no room.
#[derive(Default)]
pub struct Recorder {
    seen: Mutex<(Vec<HostChange>, bool)>,
    more: Condvar,
    refused: AtomicUsize,
}

impl HostObserver for Recorder {
    fn observe(&self, change: HostChange) -> Result<(), HostChange> {
        let mut seen = self.seen.lock().unwrap();
        if seen.1 {
            self.refused.fetch_add(1, Ordering::SeqCst);
            self.more.notify_all();
            return Err(change);
        }
        seen.0.push(change);
        self.more.notify_all();
        Ok(())
    }
}

impl Recorder {
    pub fn new() -> Arc<Recorder> {
        Arc::new(Recorder::default())
    }
    pub fn all(&self) -> Vec<HostChange> {
        self.seen.lock().unwrap().0.clone()
    }
    pub fn full(&self, full: bool) {
        self.seen.lock().unwrap().1 = full;
    }
    pub fn wait_until_refused(&self) {
        self.wait("a refusal", |_| self.refused.load(Ordering::SeqCst) > 0);
    }
    pub fn forget(&self) {
        self.seen.lock().unwrap().0.clear();
    }
    /// Waits until what was seen satisfies the condition, and answers it.
    pub fn wait(&self, what: &str, mut enough: impl FnMut(&[HostChange]) -> bool) -> Vec<HostChange> {
        let until = Instant::now() + DEADLINE;
        let mut seen = self.seen.lock().unwrap();
        while !enough(&seen.0) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {DEADLINE:?} for {what}; seen: {:?}", seen.0);
            seen = self.more.wait_timeout(seen, left).unwrap().0;
        }
        seen.0.clone()
    }
    pub fn wait_for(&self, change: &HostChange) -> Vec<HostChange> {
        self.wait(&format!("{change:?}"), |seen| seen.contains(change))
    }
    /// The changes of one machine.
    pub fn of(&self, id: DomainId) -> Vec<archipel_contract::host::DomainChange> {
        let changes = self.all().into_iter();
        changes.filter_map(|c| if let HostChange::Domain(d, change) = c { (d == id).then_some(change) } else { None }).collect()
    }
}

/// A made-up host with that many machines; the file lives as long as the second value.
pub fn made_up(machines: usize) -> (LinkConfig, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(test_driver_xml(machines).as_bytes()).unwrap();
    let uri = format!("test://{}", file.path().display());
    (LinkConfig::new("alpha".parse().unwrap(), uri), file)
}

/// A host that is connected, and what it reported so far.
pub fn connected(config: LinkConfig) -> (Host, Arc<Recorder>) {
    let host = archipel_libvirt::open(config);
    let recorder = Recorder::new();
    host.link.watch(recorder.clone());
    recorder.wait_for(&HostChange::Connected);
    (host, recorder)
}

pub fn right(id: DomainId) -> RightToRun {
    let me: HypervisorName = "alpha".parse().unwrap();
    Ownership::owned(id, Epoch(1), me.clone()).right_to_run(&me).unwrap()
}

pub fn kind<T: std::fmt::Debug>(answer: Result<T, Fault>) -> archipel_contract::FaultKind {
    answer.unwrap_err().kind
}
