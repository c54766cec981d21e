//! The other agents of a cell without an exchange between them.

use super::lock;
use crate::{
    BoxFuture, Caller, Entity, Fault, HypervisorName, Role,
    migration::{person_of, vouch},
    port::{Dispatcher, Inventory, Peers, Request},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

type Reachable = (Arc<dyn Dispatcher>, Arc<dyn Inventory>);

/// Where agents find each other. It stamps who asks, and what the person may do in whose name they ask, as the exchange does.
#[derive(Default)]
pub struct Switchboard(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    agents: BTreeMap<HypervisorName, Reachable>,
    silent: BTreeSet<HypervisorName>,
    roles: BTreeMap<String, Option<Role>>,
}

impl Switchboard {
    /// A hypervisor is reached at that agent from now on.
    pub fn connect(&self, host: HypervisorName, dispatcher: Arc<dyn Dispatcher>, inventory: Arc<dyn Inventory>) {
        lock(&self.0).agents.insert(host, (dispatcher, inventory));
    }

    /// A hypervisor is not reached, and reaches nobody.
    pub fn silence(&self, host: &HypervisorName, silent: bool) {
        let mut inner = lock(&self.0);
        if silent {
            inner.silent.insert(host.clone());
        } else {
            inner.silent.remove(host);
        }
    }

    /// What a person (a bare JID) may do from now on; everybody is an administrator until then, and `None` has no account.
    pub fn role(&self, person: &str, role: Option<Role>) {
        lock(&self.0).roles.insert(person.to_owned(), role);
    }

    /// The peers of one hypervisor.
    pub fn line(self: &Arc<Self>, host: &str) -> Arc<dyn Peers> {
        Arc::new(Line { board: self.clone(), host: host.parse().unwrap_or_else(|e| panic!("{e}")) })
    }

    fn reach(&self, from: &HypervisorName, to: &HypervisorName) -> Result<Reachable, Fault> {
        let inner = lock(&self.0);
        let found = inner.agents.get(to).filter(|_| !inner.silent.contains(from) && !inner.silent.contains(to));
        found.cloned().ok_or_else(|| Fault::unavailable(format!("the agent on {to} cannot be reached; try again when it is back")))
    }
}

struct Line {
    board: Arc<Switchboard>,
    host: HypervisorName,
}

impl Peers for Line {
    fn ask(&self, peer: HypervisorName, mut request: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(async move {
            let (dispatcher, _) = self.board.reach(&self.host, &peer)?;
            request.caller = Caller { jid: format!("hv.{}@vm.localhost/{}", self.host, self.host), role: Role::Node, ..request.caller };
            if let Some(person) = person_of(&request) {
                let role = lock(&self.board.0).roles.get(person).copied().unwrap_or(Some(Role::Admin));
                vouch(&mut request, role);
            }
            let answer = dispatcher.call(request).await;
            // An answer that nobody hears was given all the same.
            self.board.reach(&self.host, &peer)?;
            answer
        })
    }

    fn ask_cell(&self, request: Request) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(async move {
            if lock(&self.board.0).silent.contains(&self.host) {
                return Err(Fault::unavailable("the cell cannot be reached; try again later"));
            }
            let agents: Vec<Reachable> = lock(&self.board.0).agents.values().cloned().collect();
            let kind = request.command.split('.').next().unwrap_or_default();
            let mut found: Vec<Arc<Entity>> = Vec::new();
            for (_, inventory) in agents {
                found.extend(inventory.entities().into_iter().filter(|e| e.kind().name() == kind));
            }
            found.sort_by(|a, b| a.id.cmp(&b.id));
            found.dedup_by(|a, b| a.id == b.id);
            serde_json::to_value(found).map_err(|e| Fault::internal("the list cannot be written").because(e))
        })
    }
}
