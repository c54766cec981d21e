//! Whole cells on libvirt's test driver: the real bridge, actors, supervision, streams and client in one process.

use anyhow::{Context, Result};
use archipel_contract::{
    BoxFuture, DomainId, Entity, EntityId, Fault, FaultKind, OperationId, RightToRun,
    domain::{DomainPort, DomainRecord, DomainSpec, StartOrder},
    host::Host,
    volume::Unused,
};
use archipel_libvirt::{LinkConfig, fixture};
use archipel_tests::cell::{CELL, Cell};
use archipel_xmpp::client::{Change, Client, Feed};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn host(dir: &Path, machines: usize) -> Result<Host> {
    let file = dir.join("host.xml");
    std::fs::write(&file, fixture::test_driver_xml(machines))?;
    Ok(archipel_libvirt::open(LinkConfig::new("alpha".parse()?, format!("test://{}", file.display()))))
}

async fn cell(dir: &Path, host: Host, machines: usize) -> Result<Cell> {
    let cell = Cell::start(&dir.join("data"), vec![host])?;
    cell.holds(machines + 3, SOON).await?;
    Ok(cell)
}

fn id(number: usize) -> DomainId {
    DomainId(fixture::domain_uuid(number))
}

async fn ask(client: &Client, number: usize, command: &str, arguments: Value, operation: Option<OperationId>) -> Result<Value, Fault> {
    client.command(&format!("{}@{CELL}", id(number)), command, arguments, operation, SOON).await
}

async fn next(feed: &mut Feed) -> Result<Change> {
    Ok(tokio::time::timeout(SOON, feed.next()).await.context("nothing came")?.context("the feed ended")??)
}

/// A port that panics for one machine's XML when armed; everything else is libvirt's own.
struct Trapped {
    inner: Arc<dyn DomainPort>,
    victim: DomainId,
    armed: AtomicBool,
}

macro_rules! pass {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $reply:ty;)*) => {
        $(fn $name(&self $(, $argument: $type)*) -> BoxFuture<'_, Result<$reply, Fault>> { self.inner.$name($($argument),*) })*
    };
}

impl DomainPort for Trapped {
    fn xml(&self, id: DomainId, inactive: bool) -> BoxFuture<'_, Result<String, Fault>> {
        if id == self.victim && self.armed.swap(false, Ordering::SeqCst) {
            panic!("injected");
        }
        self.inner.xml(id, inactive)
    }
    pass! {
        fn list(&self) -> Vec<DomainRecord>;
        fn read(&self, id: DomainId) -> DomainRecord;
        fn define(&self, spec: DomainSpec, disks: Vec<Unused>) -> DomainId;
        fn undefine(&self, id: DomainId) -> ();
        fn undefine_with_variables(&self, id: DomainId) -> ();
        fn has_variables(&self, id: DomainId) -> bool;
        fn start(&self, right: RightToRun, paused: bool) -> ();
        fn shutdown(&self, id: DomainId) -> ();
        fn reboot(&self, id: DomainId) -> ();
        fn force_off(&self, id: DomainId) -> ();
        fn reset(&self, id: DomainId) -> ();
        fn pause(&self, id: DomainId) -> ();
        fn resume(&self, id: DomainId) -> ();
        fn set_autostart(&self, id: DomainId, enabled: bool) -> ();
        fn set_start_order(&self, id: DomainId, order: Option<StartOrder>) -> ();
        fn rename(&self, id: DomainId, to: String) -> ();
        fn set_note(&self, id: DomainId, note: Option<String>) -> ();
    }
}

#[tokio::test]
async fn a_panic_in_one_machines_actor_degrades_that_machine_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bridge = host(dir.path(), 5)?;
    let trap = Arc::new(Trapped { inner: bridge.domains.clone(), victim: id(0), armed: AtomicBool::new(true) });
    let cell = cell(dir.path(), Host { domains: trap, ..bridge }, 5).await?;
    let (client, _incoming) = cell.client("admin").await?;
    let mut feed = cell.feed().await?;
    next(&mut feed).await?;

    let fault = ask(&client, 0, "domain.xml", json!({}), None).await.expect_err("its actor died over this");
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    ask(&client, 1, "domain.xml", json!({}), None).await?;

    let mut conditions = Vec::new();
    let mut restarts = 0;
    while conditions.last().is_none_or(|c| c != "ok") || restarts == 0 {
        let Change::Event(event) = next(&mut feed).await? else { continue };
        let after = serde_json::to_value(event.after.as_deref())?;
        match &event.entity {
            EntityId::Domain(d) if *d == id(0) => conditions.push(after["condition"].as_str().unwrap_or_default().to_owned()),
            EntityId::Hypervisor(_) => restarts = after["restarts"].as_u64().unwrap_or_default(),
            other => panic!("{other} noticed: {event:?}"),
        }
    }
    assert_eq!(conditions, ["degraded", "ok"]);
    let hypervisor = client.command(&format!("hv.alpha@{CELL}"), "hypervisor.info", json!({}), None, SOON).await?;
    assert_eq!(hypervisor["restarts"], 1);
    assert!(hypervisor["last_restart"].as_str().unwrap_or_default().contains("injected"), "{hypervisor}");
    ask(&client, 0, "domain.xml", json!({}), None).await?;
    Ok(())
}

#[tokio::test]
async fn whoever_acts_on_an_answer_acts_on_what_is_known() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cell = cell(dir.path(), host(dir.path(), 2)?, 2).await?;
    let (client, _incoming) = cell.client("admin").await?;
    for round in 0..200 {
        for (command, state) in [("domain.pause", "paused"), ("domain.resume", "running")] {
            ask(&client, 0, command, json!({}), None).await.with_context(|| format!("{command} in round {round}"))?;
            let listed = client.command(CELL, "domain.list", json!({"name": "vm00000"}), None, SOON).await?;
            assert_eq!(listed[0]["state"], state, "round {round}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_operation_sent_twice_runs_once_and_is_answered_twice() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cell = cell(dir.path(), host(dir.path(), 2)?, 2).await?;
    let (client, _incoming) = cell.client("admin").await?;
    let mut feed = cell.feed().await?;
    next(&mut feed).await?;
    let operation = Some(OperationId::fresh());
    let first = ask(&client, 0, "domain.pause", json!({}), operation).await?;
    ask(&client, 0, "domain.resume", json!({}), None).await?;
    assert_eq!(ask(&client, 0, "domain.pause", json!({}), operation).await?, first);
    let other = ask(&client, 0, "domain.reset", json!({}), operation).await.expect_err("the id names another request");
    assert_eq!(other.kind, FaultKind::Conflict);
    ask(&client, 0, "domain.note", json!({"text": "the end"}), None).await?;
    let mut topics = Vec::new();
    while topics.last().is_none_or(|t| t != "domain.changed") {
        if let Change::Event(event) = next(&mut feed).await? {
            topics.push(event.topic.into_owned());
        }
    }
    assert_eq!(topics, ["domain.paused", "domain.resumed", "domain.changed"]);
    Ok(())
}

#[tokio::test]
async fn an_operation_that_removed_its_machine_is_answered_again() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cell = cell(dir.path(), host(dir.path(), 2)?, 2).await?;
    let (client, _incoming) = cell.client("admin").await?;
    let operation = Some(OperationId::fresh());
    let first = ask(&client, 1, "domain.undefine", json!({}), operation).await?;
    assert_eq!(ask(&client, 1, "domain.undefine", json!({}), operation).await?, first);
    let fresh = ask(&client, 1, "domain.undefine", json!({}), Some(OperationId::fresh())).await.expect_err("it is gone");
    assert_eq!(fresh.kind, FaultKind::NotFound, "{fresh}");
    let other = ask(&client, 1, "domain.start", json!({}), operation).await.expect_err("the id names another request");
    assert_eq!(other.kind, FaultKind::Conflict, "{other}");
    Ok(())
}

#[tokio::test]
async fn a_viewer_sees_everything_and_changes_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cell = cell(dir.path(), host(dir.path(), 2)?, 2).await?;
    let (client, _incoming) = cell.client("viewer").await?;
    let before: Entity = serde_json::from_value(ask(&client, 0, "domain.info", json!({}), None).await?)?;
    for command in ["domain.pause", "domain.force-off", "domain.undefine"] {
        let fault = ask(&client, 0, command, json!({}), None).await.expect_err("a viewer may not");
        assert_eq!(fault.kind, FaultKind::Forbidden, "{fault}");
    }
    let after: Entity = serde_json::from_value(ask(&client, 0, "domain.info", json!({}), None).await?)?;
    assert_eq!(before, after);
    Ok(())
}
