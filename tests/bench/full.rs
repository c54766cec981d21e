//! Ours: a whole cell in this process, a client over TCP, and libvirt's callbacks timed as they come.

use crate::figures::{Timings, cpu_time, resident_kib};
use anyhow::{Context, Result};
use archipel_contract::{
    DomainId, EntityId,
    host::{Host, HostChange, HostLink, HostObserver},
};
use archipel_libvirt::{LinkConfig, calls, fixture};
use archipel_tests::cell::{CELL, Cell};
use archipel_xmpp::client::{Change, Feed};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What was measured; times are in microseconds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) start_us: f64,
    pub(crate) resident_kib: u64,
    pub(crate) idle_calls: u64,
    pub(crate) idle_cpu_us: f64,
    pub(crate) sign_in_p50_us: f64,
    pub(crate) event_p50_us: f64,
    pub(crate) event_p99_us: f64,
    pub(crate) command_p50_us: f64,
    pub(crate) command_p99_us: f64,
    pub(crate) port_p50_us: f64,
}

/// Remembers when libvirt called back about one machine, before anything of ours knows.
#[derive(Default)]
struct Stopwatch(Mutex<Option<Instant>>);

struct Timed {
    inner: Arc<dyn HostLink>,
    watch: Arc<Stopwatch>,
}

struct TimedObserver {
    inner: Arc<dyn HostObserver>,
    watch: Arc<Stopwatch>,
}

impl HostLink for Timed {
    fn watch(&self, observer: Arc<dyn HostObserver>) {
        self.inner.watch(Arc::new(TimedObserver { inner: observer, watch: self.watch.clone() }));
    }
    fn close(&self) {
        self.inner.close();
    }
}

impl HostObserver for TimedObserver {
    fn observe(&self, change: HostChange) -> Result<(), HostChange> {
        if let HostChange::Domain(..) = change
            && let Ok(mut at) = self.watch.0.lock()
        {
            *at = Some(Instant::now());
        }
        self.inner.observe(change)
    }
}

pub(crate) fn measure(machines: usize, idle_seconds: u64) -> Result<Figures> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("host.xml");
    std::fs::write(&file, fixture::test_driver_xml(machines))?;
    let watch = Arc::new(Stopwatch::default());
    let start = Instant::now();
    let bridge = archipel_libvirt::open(LinkConfig::new("alpha".parse()?, format!("test://{}", file.display())));
    let host = Host { link: Arc::new(Timed { inner: bridge.link.clone(), watch: watch.clone() }), ..bridge };
    let cell = Cell::start(&dir.path().join("data"), vec![host.clone()])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // The machines, the hypervisor, its network and its pool.
        cell.holds(machines + 3, Duration::from_secs(120)).await?;
        let start_us = start.elapsed().as_secs_f64() * 1e6;
        let resident_kib = resident_kib();

        at_rest().await?;
        let (calls_before, cpu_before) = (calls(), cpu_time());
        tokio::time::sleep(Duration::from_secs(idle_seconds)).await;
        let (idle_calls, idle_cpu) = (calls() - calls_before, cpu_time() - cpu_before);

        let mut sign_in = Timings::default();
        for _ in 0..7 {
            let start = Instant::now();
            let mut feed = cell.feed().await?;
            anyhow::ensure!(snapshot(&mut feed).await? >= machines + 3, "the inventory is incomplete");
            sign_in.push(start.elapsed());
        }

        let id = DomainId(fixture::domain_uuid(0));
        let mut event = Timings::default();
        let mut port = Timings::default();
        let mut feed = cell.feed().await?;
        snapshot(&mut feed).await?;
        for round in 0..600 {
            let start = Instant::now();
            if round % 2 == 0 {
                host.domains.pause(id).await?
            } else {
                host.domains.resume(id).await?
            }
            port.push(start.elapsed());
            next_of(&mut feed, id).await?;
            let called = watch.0.lock().ok().and_then(|at| *at).context("libvirt did not call back")?;
            event.push(called.elapsed());
        }
        drop(feed);

        let (client, _incoming) = cell.client("admin").await?;
        let jid = format!("{id}@{CELL}");
        let mut command = Timings::default();
        for round in 0..600 {
            let verb = if round % 2 == 0 { "domain.pause" } else { "domain.resume" };
            let start = Instant::now();
            client.command(&jid, verb, json!({}), None, Duration::from_secs(10)).await?;
            command.push(start.elapsed());
        }
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        Ok(Figures {
            start_us,
            resident_kib,
            idle_calls,
            idle_cpu_us: us(idle_cpu),
            sign_in_p50_us: us(sign_in.p50()),
            event_p50_us: us(event.p50()),
            event_p99_us: us(event.p99()),
            command_p50_us: us(command.p50()),
            command_p99_us: us(command.p99()),
            port_p50_us: us(port.p50()),
        })
    })
}

/// Waits until the start is over: the exchange still digests the assertion for a while after it knows every machine.
async fn at_rest() -> Result<()> {
    let still = async {
        let mut before = cpu_time();
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = cpu_time();
            if now == before {
                return;
            }
            before = now;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), still).await.context("the cell does not come to rest within 60 s")
}

async fn snapshot(feed: &mut Feed) -> Result<usize> {
    match feed.next().await.context("the feed ended")?? {
        Change::Snapshot(_, entities) => Ok(entities.len()),
        other => anyhow::bail!("expected a snapshot and got {other:?}"),
    }
}

async fn next_of(feed: &mut Feed, id: DomainId) -> Result<()> {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(10), feed.next()).await.context("no event within 10 s")?;
        if let Change::Event(event) = next.context("the feed ended")??
            && event.entity == EntityId::Domain(id)
        {
            return Ok(());
        }
    }
}
