//! What agents and viewers see when the exchange dies, hangs or is cut off and another takes over; with 10,000 entities, measured.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::print_stdout)] // Times are part of the result.

mod house;
#[path = "../cell/world.rs"]
#[allow(dead_code)]
mod world;

use archipel_contract::port::{AccountKind, Accounts};
use archipel_contract::{EntityId, FaultKind, OperationId, domain::DomainState};
use archipel_xmpp::client::{Change, Client, Config, Feed, Origin, Pauses, Vigil};
use archipel_xmpp::link::{Fence, LinkConfig};
use house::{Node, Shared, pair};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use world::{Agent, CELL, PASSWORD, link, until, within};

const HOSTS: usize = 10;
const MACHINES: usize = 999;
const PATIENCE: Duration = Duration::from_secs(20);

async fn shared(hosts: usize) -> Arc<Shared> {
    let accounts = world::accounts().await;
    for host in 0..hosts {
        accounts.add(archipel_xmpp::accounts::account(&format!("hv.h{host}"), PASSWORD, AccountKind::Node, 0).unwrap()).await.unwrap();
    }
    Shared::new(accounts)
}

/// How an agent of a cell with standbys is linked.
fn both<'a>(nodes: [&'a Node; 2]) -> impl FnOnce(&mut LinkConfig) + 'a {
    move |config| {
        config.connector = nodes[0].connector();
        config.others = vec![nodes[1].connector()];
        config.vigil = Vigil::QUICK;
        config.pauses = Pauses::new(Duration::from_millis(250), Duration::from_millis(500));
    }
}

fn viewer_config(nodes: [&Node; 2]) -> Config {
    Config::lasting("admin", CELL, PASSWORD, nodes[0].connector()).with_others(vec![nodes[1].connector()])
}

/// A person's screen.
struct Screen {
    feed: Feed,
    shown: HashMap<EntityId, &'static str>,
    snapshots: Vec<Origin>,
    smallest: usize,
}

impl Screen {
    async fn open(config: Config) -> Screen {
        let (client, incoming) = within("a login", Client::connect(config)).await.unwrap();
        Screen { feed: client.follow(incoming, CELL), shown: HashMap::new(), snapshots: Vec::new(), smallest: usize::MAX }
    }

    /// Takes what comes until the screen is as wanted.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Screen) -> bool) {
        within(what, async {
            while !is_so(self) {
                match self.feed.next().await.expect("the feed goes on").expect("and has no fault") {
                    Change::Snapshot(origin, all) => {
                        self.shown = all.iter().map(|e| (e.id.clone(), e.state())).collect();
                        self.smallest = self.smallest.min(all.len());
                        self.snapshots.push(origin);
                    }
                    Change::Event(event) => match &event.after {
                        Some(after) => drop(self.shown.insert(event.entity.clone(), after.state())),
                        None => drop(self.shown.remove(&event.entity)),
                    },
                    Change::Offline(_) => {}
                }
            }
        })
        .await;
    }

    fn is_current(&self, all: usize) -> bool {
        self.shown.len() == all && self.shown.values().all(|state| *state != "unknown")
    }
}

async fn ten_thousand(what: &str, break_it: impl FnOnce(&mut Node) -> Box<dyn Send>) {
    let shared = shared(HOSTS).await;
    let (mut first, second) = pair(&shared).await;
    let mut links = Vec::new();
    let agents: Vec<_> = (0..HOSTS).map(|host| Agent::new(&format!("h{host}"))).collect();
    let mut machine = None;
    for (host, agent) in agents.iter().enumerate() {
        for n in 0..MACHINES {
            machine = Some(agent.machine((host * MACHINES + n + 1) as u128, &format!("m{host}-{n}"), DomainState::Shutoff));
        }
        links.push(link(agent, &Arc::default(), both([&first, &second])));
    }
    let all = HOSTS * (MACHINES + 1);
    let mut screens = Vec::new();
    for _ in 0..3 {
        let mut screen = Screen::open(viewer_config([&first, &second])).await;
        screen.until("everything is there", |s| s.is_current(all)).await;
        screens.push(screen);
    }
    assert!(!second.serves());
    let broken = Instant::now();
    let still = break_it(&mut first);
    let led = async {
        while !second.serves() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        broken.elapsed()
    };
    let current = async {
        let all_of_them = screens.iter_mut().map(async |screen| {
            screen.until("current again", |s| s.snapshots.contains(&Origin::Reconnected) && s.is_current(all)).await;
        });
        futures::future::join_all(all_of_them).await;
        broken.elapsed()
    };
    let (led, current) = tokio::join!(within("the second leads", led), current);
    let (agent, machine) = (agents.last().unwrap(), machine.unwrap());
    agent.enter(&machine, DomainState::Running);
    for screen in &mut screens {
        screen.until("what happens next", |s| s.shown.get(&machine) == Some(&"running")).await;
    }
    println!("takeover after {what}: {all} entities, the standby led after {led:.2?}, viewers were current after {current:.2?}");
    // Without optimisation reading and telling 10,000 entities takes most of the time: 4 to 7 s after the standby leads (2 to 3 s), on two
    // busy cores. What is promised is promised of the program people run, so 5 s are asserted there.
    assert!(current < Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 5 }), "{current:?}");
    drop(still);
    drop(links);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_are_current_again_after_a_kill() {
    ten_thousand("a kill", |node| {
        node.kill();
        Box::new(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_are_current_again_after_a_hang() {
    ten_thousand("a hang", |node| Box::new(node.stop())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_are_current_again_after_a_cut() {
    ten_thousand("a cut", |node| {
        node.cut.send_replace(true);
        Box::new(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_wakes_up_after_its_succession_changes_nothing_and_stands_by() {
    let shared = shared(1).await;
    let (first, second) = pair(&shared).await;
    let agent = Agent::new("h0");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    let fence = Fence::kept(shared.documents.clone());
    let linked = link(&agent, &Arc::default(), |config| {
        both([&first, &second])(config);
        config.fence = fence.clone();
    });
    linked.well().await;
    // This one knows only the first, and stays with it: its command lies in the socket of the sleeper when that wakes up.
    let faithful = Config::lasting("admin", CELL, PASSWORD, first.connector());
    let (client, _incoming) = within("a login", Client::connect(faithful)).await.unwrap();
    let woken = first.stop();
    let to = format!("{web1}@{CELL}");
    let late =
        tokio::spawn(
            async move { client.command(&to, "domain.start", json!({}), Some(OperationId::fresh()), Duration::from_secs(8)).await },
        );
    until("the second serves", || second.serves()).await;
    until("the agent is with the second", || {
        second.window.exchange.lock().as_ref().is_some_and(|e| e.look_up(&web1).is_some_and(|e| e.state() == "shutoff"))
    })
    .await;
    drop(woken);
    let fault = within("the late command", late).await.unwrap().unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Unavailable | FaultKind::Timeout), "{fault}");
    until("the first stands by", || !first.serves()).await;
    assert!(agent.requests.lock().is_empty(), "nothing of it came to the machine");
    assert!(second.serves());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_answer_was_lost_is_answered_by_the_next_exchange_with_the_same_id() {
    let shared = shared(1).await;
    let (mut first, second) = pair(&shared).await;
    let agent = Agent::new("h0");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    agent.gated.store(true, Ordering::SeqCst);
    let _linked = link(&agent, &Arc::default(), both([&first, &second]));
    let (client, _incoming) = within("a login", Client::connect(viewer_config([&first, &second]))).await.unwrap();
    until("the first knows it", || first.window.exchange.lock().as_ref().is_some_and(|e| e.look_up(&web1).is_some())).await;
    let operation = OperationId::fresh();
    let to = format!("{web1}@{CELL}");
    let asked = {
        let (client, to) = (client.clone(), to.clone());
        tokio::spawn(async move { client.command(&to, "domain.pause", json!({}), Some(operation), PATIENCE).await })
    };
    until("the agent has it", || !agent.requests.lock().is_empty()).await;
    first.kill();
    let fault = within("the word that nobody knows", asked).await.unwrap().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    // What the old exchange asked is answered into the stream of the new one, where nobody asked it.
    agent.gate.add_permits(1);
    until("the second knows it", || second.window.exchange.lock().as_ref().is_some_and(|e| e.look_up(&web1).is_some())).await;
    agent.gated.store(false, Ordering::SeqCst);
    within("the client is back", client.online_again()).await;
    let answer = client.command(&to, "domain.pause", json!({}), Some(operation), PATIENCE).await.unwrap();
    assert_eq!(answer, json!({ "message": "web1 did it" }));
    let requests = agent.requests.lock();
    assert_eq!(requests.len(), 2, "the agent's journal tells them for one: both carry the same key");
    assert!(requests.iter().all(|r| r.caller.operation == operation && r.caller.jid.starts_with("admin@vm.localhost/")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_without_its_etcd_shows_what_it_knows_and_refuses_changes_until_it_is_back() {
    let shared = shared(1).await;
    let (first, second) = pair(&shared).await;
    let agent = Agent::new("h0");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    let linked = link(&agent, &Arc::default(), both([&first, &second]));
    linked.well().await;
    let (client, _incoming) = within("a login", Client::connect(viewer_config([&first, &second]))).await.unwrap();
    let to = format!("{web1}@{CELL}");
    shared.lost.store(true, Ordering::SeqCst);
    let fault = within("a refusal", async {
        loop {
            let pause = client.command(&to, "domain.pause", json!({}), Some(OperationId::fresh()), PATIENCE).await;
            if let Err(fault) = pause {
                return fault;
            }
        }
    })
    .await;
    assert!(fault.kind == FaultKind::Unavailable && fault.message.contains("changes are frozen"), "{fault}");
    let list = client.command(CELL, "domain.list", json!({}), None, PATIENCE).await.unwrap();
    assert_eq!(list[0]["state"], "shutoff", "it shows what it knows: {list}");
    assert!(linked.watcher.health().is_well() && !second.serves());
    shared.lost.store(false, Ordering::SeqCst);
    within("changes are taken again", async {
        while client.command(&to, "domain.pause", json!({}), Some(OperationId::fresh()), PATIENCE).await.is_err() {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_to_the_old_exchange_is_nobodys_at_the_new_one() {
    let shared = shared(1).await;
    let (mut first, second) = pair(&shared).await;
    let agent = Agent::new("h0");
    let web1 = agent.machine(1, "web1", DomainState::Shutoff);
    agent.gated.store(true, Ordering::SeqCst);
    let linked = link(&agent, &Arc::default(), both([&first, &second]));
    linked.well().await;
    let (client, _incoming) = within("a login", Client::connect(viewer_config([&first, &second]))).await.unwrap();
    let to = format!("{web1}@{CELL}");
    let ask = |command: &'static str| {
        let (client, to) = (client.clone(), to.clone());
        tokio::spawn(async move { client.command(&to, command, json!({}), Some(OperationId::fresh()), PATIENCE).await })
    };
    let old = ask("domain.start");
    until("the agent has the first", || agent.requests.lock().len() == 1).await;
    first.kill();
    within("the word that nobody knows", old).await.unwrap().unwrap_err();
    until("the second knows it", || second.window.exchange.lock().as_ref().is_some_and(|e| e.look_up(&web1).is_some())).await;
    within("the client is back", client.online_again()).await;
    // The first request of the new exchange waits behind the first one of the old.
    let new = ask("domain.pause");
    until("the agent has both", || agent.requests.lock().len() == 2).await;
    agent.gate.add_permits(1);
    until("the old one is carried out", || {
        second.window.exchange.lock().as_ref().is_some_and(|e| e.look_up(&web1).is_some_and(|e| e.state() == "running"))
    })
    .await;
    agent.gate.add_permits(1);
    assert_eq!(within("its own answer", new).await.unwrap().unwrap(), json!({ "message": "web1 did it" }));
}
