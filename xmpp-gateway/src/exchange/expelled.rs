//! Accounts that have changed or are gone: their streams end at the server, and what they have opened over HTTP (consoles, contents of volumes)
//! ends at the hosts, each of which is told. One that cannot be told now is told when it has asserted what it has.

use super::Exchange;
use archipel_contract::{
    Caller, Command, EntityId, Fault, HypervisorName, Kind, OperationId, Role,
    port::{Address, Request},
    ticket::Expel,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Who is still to be sent away, by the host that could not be told.
pub(super) type Untold = BTreeMap<HypervisorName, BTreeSet<String>>;

impl Exchange {
    /// The account with this local part has changed or is gone: every host closes what was opened with it. Must be called within a tokio
    /// runtime.
    pub fn expel(&self, local: &str) {
        if local.parse::<EntityId>().is_ok() {
            // An agent opens nothing.
            return;
        }
        let hosts: Vec<HypervisorName> = self.locations.read().of_kind(Kind::Hypervisor).map(|e| e.host.clone()).collect();
        let person = format!("{local}@{}", self.cell);
        for host in hosts {
            self.untold.lock().entry(host.clone()).or_default().insert(person.clone());
            self.tell_expelled(&host);
        }
    }

    /// Tells a host who is to be sent away there, if anybody is.
    pub(super) fn tell_expelled(&self, host: &HypervisorName) {
        let persons = self.untold.lock().get(host).cloned().unwrap_or_default();
        for person in persons {
            let (Some(exchange), host) = (self.me.upgrade(), host.clone()) else { return };
            tokio::spawn(async move {
                match exchange.send_away(&host, &person).await {
                    Ok(()) => {
                        let mut untold = exchange.untold.lock();
                        if let Some(persons) = untold.get_mut(&host) {
                            persons.remove(&person);
                            if persons.is_empty() {
                                untold.remove(&host);
                            }
                        }
                    }
                    Err(fault) => {
                        tracing::warn!(%host, person, %fault, "what an account that has changed has open there is not closed yet")
                    }
                }
            });
        }
    }

    async fn send_away(&self, host: &HypervisorName, person: &str) -> Result<(), Fault> {
        let target = EntityId::Hypervisor(host.clone());
        let to = self.cell.jid(&target);
        let caller = Caller { jid: self.cell.to_string(), role: Role::Node, operation: OperationId::fresh() };
        let request =
            Request { target: Address::Entity(target), command: Expel::NAME.to_owned(), arguments: json!({ "person": person }), caller };
        self.ask_host(host, &to, &request, self.answer_within).await.map(drop)
    }
}
