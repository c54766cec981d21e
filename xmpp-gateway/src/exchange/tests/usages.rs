//! Who looks at what machines take, and which agents are told.

use super::{
    CELL,
    world::{Client, World},
};
use crate::{
    ns,
    stanza::{addressed, node, usage},
};
use archipel_contract::{
    DomainId, HypervisorName, Timestamp,
    usage::{DomainUsage, Frame, HostUsage, MilliCpu},
};
use minidom::Element;
use std::collections::BTreeMap;

fn host(name: &str) -> HypervisorName {
    name.parse().unwrap()
}

fn id(n: u128) -> DomainId {
    DomainId(uuid::Uuid::from_u128(n))
}

fn frame(of: &str, machines: &[(u128, Option<u64>)]) -> Frame {
    let usage = |cpu| DomainUsage { cpu: Some(MilliCpu(cpu)), ..DomainUsage::default() };
    Frame {
        host: host(of),
        at: Timestamp(7),
        node: Some(HostUsage { cpus: 2, ..HostUsage::default() }),
        machines: machines.iter().map(|(n, cpu)| (id(*n), cpu.map(usage))).collect(),
        more: false,
    }
}

async fn says(client: &Client, ask: usage::Ask) {
    let answer = client.ask("set", Some(CELL), ask.print()).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
}

async fn watch(client: &Client, hosts: &[&str]) {
    says(client, usage::Ask::Watch(hosts.iter().map(|name| host(name)).collect())).await;
}

fn tell(agent: &Client, frame: &Frame) {
    let mut message = Element::bare("message", ns::CLIENT);
    message.append_child(node::usage(frame));
    agent.send(addressed(message, CELL));
}

/// What an agent was told since it was looked last.
fn told(agent: &Client) -> Vec<bool> {
    agent.received().iter().filter_map(node::watched).collect()
}

/// What somebody was shown since it was looked last: host, and thousandths of a CPU by machine.
fn shown(client: &Client) -> Vec<(String, BTreeMap<DomainId, Option<u64>>)> {
    let frames = client.received().into_iter().filter_map(|e| usage::pushed(&e)).map(Result::unwrap);
    frames.map(|f| (f.host.to_string(), f.machines.iter().map(|(id, u)| (*id, u.and_then(|u| u.cpu).map(|c| c.0))).collect())).collect()
}

#[tokio::test]
async fn an_agent_measures_from_the_first_who_looks_to_the_last() {
    let world = World::new().await;
    let (alpha, beta) = (world.host("alpha", vec![]).await, world.host("beta", vec![]).await);
    let (admin, eve) = (world.admin("web"), world.viewer());
    assert_eq!((told(&alpha), told(&beta)), (vec![], vec![]), "nobody looks");
    watch(&admin, &["alpha"]).await;
    watch(&eve, &[]).await;
    assert_eq!((told(&alpha), told(&beta)), (vec![true], vec![true]));
    watch(&eve, &["alpha"]).await;
    assert_eq!((told(&alpha), told(&beta)), (vec![], vec![false]), "whoever looks elsewhere looks away");
    says(&admin, usage::Ask::Unwatch).await;
    assert_eq!((told(&alpha), world.exchange.health().viewers), (vec![], 1));
    // The session of the last one ends without a word.
    eve.close();
    assert_eq!((told(&alpha), world.exchange.health().viewers), (vec![false], 0));
}

#[tokio::test]
async fn whoever_looks_is_shown_what_changed_and_nobody_else_is() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    let (admin, eve) = (world.admin("web"), world.viewer());
    tell(&alpha, &frame("alpha", &[(1, Some(9))]));
    watch(&admin, &[]).await;
    assert_eq!(shown(&admin), [], "what was said before anybody asked is not kept");
    tell(&alpha, &frame("alpha", &[(1, Some(5)), (2, Some(6))]));
    assert_eq!(shown(&admin), [("alpha".into(), [(id(1), Some(5)), (id(2), Some(6))].into())]);
    tell(&alpha, &frame("alpha", &[(1, Some(7))]));
    assert_eq!(shown(&admin), [("alpha".into(), [(id(1), Some(7))].into())]);
    assert_eq!(shown(&eve), []);
    watch(&eve, &["alpha"]).await;
    assert_eq!(shown(&eve), [("alpha".into(), [(id(1), Some(7)), (id(2), Some(6))].into())], "whoever comes late gets everything at once");
    // An agent speaks only for its own host, and in pieces.
    tell(&alpha, &frame("beta", &[(1, Some(1))]));
    tell(&alpha, &Frame { more: true, ..frame("alpha", &[(3, Some(1))]) });
    assert_eq!(shown(&eve), []);
    tell(&alpha, &frame("alpha", &[(4, None)]));
    assert_eq!(shown(&eve), [("alpha".into(), [(id(3), Some(1))].into())]);
}

#[tokio::test]
async fn a_slow_viewer_gets_the_newest_only() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    let slow = world.admin("slow");
    watch(&slow, &[]).await;
    assert_eq!(shown(&slow), []);
    tell(&alpha, &frame("alpha", &[(1, Some(1)), (2, Some(1))]));
    // It reads nothing of this.
    for n in 2..100 {
        tell(&alpha, &frame("alpha", &[(1, Some(n))]));
    }
    tell(&alpha, &frame("alpha", &[(2, None)]));
    assert_eq!(slow.session.backlog().0, 1, "one push waits and no more");
    assert_eq!(shown(&slow), [("alpha".into(), [(id(1), Some(1)), (id(2), Some(1))].into())]);
    tell(&alpha, &frame("alpha", &[]));
    assert_eq!(shown(&slow), [("alpha".into(), [(id(1), Some(99)), (id(2), None)].into())]);
}

#[tokio::test]
async fn an_agent_that_comes_back_is_told_again_and_is_not_known_meanwhile() {
    let world = World::new().await;
    let alpha = world.host("alpha", vec![]).await;
    let admin = world.admin("web");
    watch(&admin, &["alpha", "beta"]).await;
    tell(&alpha, &frame("alpha", &[(1, Some(5))]));
    shown(&admin);
    alpha.close();
    assert_eq!(shown(&admin), [("alpha".into(), [(id(1), None)].into())]);
    let (alpha, beta) = (world.agent("alpha"), world.host("beta", vec![]).await);
    alpha.join("alpha", 2, vec![super::hypervisor("alpha")]).await;
    assert_eq!((told(&alpha), told(&beta)), (vec![true], vec![true]), "one that was not there yet is told when it comes");
    tell(&alpha, &frame("alpha", &[(1, Some(6))]));
    assert_eq!(shown(&admin), [("alpha".into(), [(id(1), Some(6))].into())]);
}

#[tokio::test]
async fn what_means_nothing_is_refused() {
    let world = World::new().await;
    let admin = world.admin("web");
    for payload in ["<dance xmlns='urn:archipel:usage:0'/>", "<watch xmlns='urn:archipel:usage:0'><host>a/b</host></watch>"] {
        assert_eq!(admin.ask_text("set", Some(CELL), payload).await.attr("type"), Some("error"), "{payload}");
    }
    assert_eq!(world.exchange.health().viewers, 0);
}
