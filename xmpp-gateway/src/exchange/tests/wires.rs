//! Everything of this crate together: the embedded server with the exchange, an agent's link and a person's client, over pipes.

use super::{CELL, event, hypervisor, machine, next, world::World};
use crate::{
    client::{self, Client, InMemory},
    link::{Link, LinkConfig},
    server::{Limits, Peer, Server, ServerConfig},
};
use archipel_contract::{
    BoxFuture, Entity, Fault, FaultKind,
    domain::DomainState,
    port::{AccountKind, Accounts, Announcer, Dispatcher, Inventory, Request},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// An agent that pauses what it is asked to pause.
struct Agent {
    machine: Mutex<Arc<Entity>>,
    announcer: Arc<dyn Announcer>,
}

impl Dispatcher for Agent {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(async move {
            if request.command != "domain.pause" {
                return Err(Fault::new(FaultKind::Unsupported, "only pausing is practised here"));
            }
            let mut machine = self.machine.lock();
            let paused = next(&machine, DomainState::Paused);
            *machine = Arc::new(paused.clone());
            self.announcer.announce(vec![event("domain.paused", &paused)]);
            Ok(json!({ "message": "web1 is paused" }))
        })
    }
}

impl Inventory for Agent {
    fn entities(&self) -> Vec<Arc<Entity>> {
        vec![Arc::new(hypervisor("alpha")), self.machine.lock().clone()]
    }
}

#[tokio::test]
async fn a_person_pauses_a_machine_over_the_whole_way() {
    let world = World::new().await;
    world.accounts.add(crate::accounts::account("hv.alpha", "node secret", AccountKind::Node, 4096).unwrap()).await.unwrap();
    let config =
        ServerConfig { cell: CELL.into(), accounts: world.accounts.clone(), tls: None, limits: Limits::default(), features: Vec::new() };
    let server = Server::new(config, world.exchange.clone()).unwrap();
    let pipes = Arc::new(InMemory::new(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(server.clone().accept_stream(far, Peer::in_process("test")));
        Some(near)
    }));

    let (announcer, link) =
        Link::new(LinkConfig::new(CELL.parse().unwrap(), "alpha".parse().unwrap(), "node secret", pipes.clone(), world.clock.clone()));
    let vm = machine(1, "alpha");
    let agent = Arc::new(Agent { machine: Mutex::new(Arc::new(vm.clone())), announcer });
    tokio::spawn(link.run(agent.clone(), agent.clone(), 7));

    let whole = async {
        let (admin, incoming) = Client::connect(client::Config::once("admin", CELL, "secret", pipes)).await.unwrap();
        let mut feed = admin.clone().follow(incoming, CELL);
        // The machine may be in the snapshot or come right after it.
        let mut seen = false;
        while !seen {
            seen = match feed.next().await.unwrap().unwrap() {
                client::Change::Snapshot(_, all) => all.iter().any(|e| e.id == vm.id),
                client::Change::Event(e) => e.entity == vm.id,
                client::Change::Offline(fault) => panic!("{fault}"),
            };
        }
        let answer = admin.command(&vm.jid(), "domain.pause", json!({}), None, Duration::from_secs(20)).await;
        assert_eq!(answer, Ok(json!({ "message": "web1 is paused" })));
        loop {
            if let client::Change::Event(told) = feed.next().await.unwrap().unwrap()
                && told.entity == vm.id
                && &*told.topic == "domain.paused"
            {
                break;
            }
        }
        let listed = admin.command(CELL, "domain.list", json!({ "state": "paused" }), None, Duration::from_secs(20)).await.unwrap();
        assert_eq!(listed[0]["name"], "web1");
        let refused = admin.command(&vm.jid(), "domain.xml", json!({}), None, Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(refused.kind, FaultKind::Unsupported);
    };
    tokio::time::timeout(Duration::from_secs(60), whole).await.expect("within a minute");
}
