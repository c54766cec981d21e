//! Machines that move within a whole cell: two hypervisors on fakes, the real streams, exchange, store and client.

use anyhow::{Context, Result};
use archipel_contract::{
    DomainId, EntityId, FaultKind,
    domain::DomainState,
    fake::{FakeHost, FakeLan},
};
use archipel_tests::cell::{CELL, Cell};
use archipel_xmpp::client::{Change, Client, Feed};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

struct Lab {
    alpha: Arc<FakeHost>,
    beta: Arc<FakeHost>,
    _lan: Arc<FakeLan>,
    cell: Cell,
    _dir: tempfile::TempDir,
}

async fn lab(machines: &[(&str, DomainState)]) -> Result<(Lab, Vec<DomainId>)> {
    let (alpha, beta) = (FakeHost::new("alpha"), FakeHost::new("beta"));
    let lan = FakeLan::of(&[&alpha, &beta]);
    let ids = machines.iter().map(|(name, state)| alpha.add_domain(name, *state, true)).collect();
    let dir = tempfile::tempdir()?;
    let cell = Cell::start(&dir.path().join("data"), vec![alpha.host(), beta.host()])?;
    cell.holds(machines.len() + 6, SOON).await?;
    Ok((Lab { alpha, beta, _lan: lan, cell, _dir: dir }, ids))
}

async fn next(feed: &mut Feed) -> Result<Change> {
    Ok(tokio::time::timeout(SOON, feed.next()).await.context("nothing came")?.context("the feed ended")??)
}

async fn ask(client: &Client, to: &str, command: &str, arguments: Value) -> Result<Value> {
    client.command(to, command, arguments, None, SOON).await.with_context(|| format!("{command} of {to}"))
}

async fn ended(client: &Client, started: &Value) -> Result<Value> {
    let task = format!("task.{}@{CELL}", started["task"].as_str().context("no task")?);
    ask(client, &task, "task.wait", json!({"timeout": 15})).await
}

#[tokio::test]
async fn everybody_sees_a_machine_move_and_nobody_sees_it_blink() -> Result<()> {
    let (lab, ids) = lab(&[("web1", DomainState::Running)]).await?;
    let (client, _incoming) = lab.cell.client("admin").await?;
    let mut feed = lab.cell.feed().await?;
    next(&mut feed).await?;
    let web1 = format!("{}@{CELL}", ids[0]);
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        let started = ask(&client, &web1, "domain.migrate", json!({"to": to})).await?;
        let mut seen = Vec::new();
        loop {
            let Change::Event(event) = next(&mut feed).await? else { continue };
            match &event.entity {
                EntityId::Domain(_) => {
                    let after = event.after.context("it went away in between")?;
                    assert_eq!(after.state(), "running", "{}", event.topic);
                    seen.push((event.topic.into_owned(), after.host.to_string()));
                }
                EntityId::Task(_) if event.topic == "task.finished" => break,
                _ => {}
            }
        }
        assert_eq!(ended(&client, &started).await?["state"], "done");
        assert_eq!(seen.first(), Some(&("domain.migrating".to_owned(), from.to_owned())), "{seen:?}");
        assert_eq!(seen.last(), Some(&("domain.migrated".to_owned(), to.to_owned())), "{seen:?}");
        let shown = ask(&client, &web1, "domain.info", json!({})).await?;
        assert_eq!((&shown["host"], &shown["jid"]), (&json!(to), &json!(web1)));
        ask(&client, &web1, "domain.pause", json!({})).await?;
        ask(&client, &web1, "domain.resume", json!({})).await?;
        while !matches!(next(&mut feed).await?, Change::Event(e) if e.topic == "domain.resumed") {}
    }
    assert!(lab.alpha.executes(ids[0]) && !lab.beta.executes(ids[0]));
    Ok(())
}

#[tokio::test]
async fn the_cell_lists_what_is_parked_until_a_host_takes_it() -> Result<()> {
    let (lab, ids) = lab(&[("web1", DomainState::Shutoff)]).await?;
    let (client, _incoming) = lab.cell.client("admin").await?;
    ask(&client, &format!("{}@{CELL}", ids[0]), "domain.park", json!({})).await?;
    let parked = ask(&client, CELL, "domain.parked", json!({})).await?;
    assert_eq!((&parked[0]["name"], &parked[0]["from"], &parked[0]["by"]), (&json!("web1"), &json!("alpha"), &json!("admin@vm.localhost")));
    let there = ask(&client, &format!("hv.beta@{CELL}"), "domain.unpark", json!({"machine": "web1"})).await?;
    assert_eq!(there["id"], ids[0].to_string());
    assert_eq!(ask(&client, CELL, "domain.parked", json!({})).await?, json!([]));
    assert!(lab.beta.domain(ids[0]).is_some() && lab.alpha.domain(ids[0]).is_none());
    Ok(())
}

#[tokio::test]
async fn what_agents_say_to_each_other_nobody_else_may_say() -> Result<()> {
    let (lab, ids) = lab(&[("web1", DomainState::Running)]).await?;
    let (client, _incoming) = lab.cell.client("admin").await?;
    for command in ["hypervisor.reserve", "hypervisor.receive", "hypervisor.yield", "hypervisor.standing"] {
        let arguments = json!({"domain": ids[0]});
        let fault = client.command(&format!("hv.beta@{CELL}"), command, arguments, None, SOON).await.expect_err("only an agent may");
        assert!(matches!(fault.kind, FaultKind::Forbidden | FaultKind::NotFound), "{command}: {fault}");
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_is_followed_to_its_end() -> Result<()> {
    let machines: Vec<String> = (0..10).map(|n| format!("vm{n}")).collect();
    let machines: Vec<(&str, DomainState)> = machines.iter().map(|n| (n.as_str(), DomainState::Running)).collect();
    let (lab, ids) = lab(&machines).await?;
    let (client, _incoming) = lab.cell.client("admin").await?;
    let started = ask(&client, &format!("hv.alpha@{CELL}"), "hypervisor.drain", json!({})).await?;
    let ended = ended(&client, &started).await?;
    assert_eq!((&ended["state"], &ended["message"]), (&json!("done"), &json!("10 of 10 machines moved")), "{ended}");
    let listed = ask(&client, CELL, "domain.list", json!({"host": "beta"})).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(10));
    assert!(ids.iter().all(|id| lab.beta.executes(*id) && lab.alpha.domain(*id).is_none()));
    Ok(())
}
