//! A machine is gone from the host that had it, and another host has a copy that nobody looked at since: that host is told to look again.
//! The copy may be all that is left of the machine, and then it is the machine. No agent hears what is told of another one's machines, so
//! the exchange says it.
//!
//! It says so twice: when the machine's end is told, and when its ownership is given up, which comes over another way and may be later. Who
//! looked in between found it still owned, and would leave the copy alone for good.

use super::{
    Exchange,
    location::{Change, Locations},
};
use archipel_contract::{
    Caller, Command, DomainId, EntityId, Facts, HypervisorName, Kind, OperationId, Role,
    migration::LookAgain,
    port::{Address, Request},
};
use serde_json::json;
use std::sync::Arc;

/// The hosts with a copy of a machine, each with the machine.
fn with_copy(table: &Locations, id: DomainId) -> impl Iterator<Item = (HypervisorName, DomainId)> {
    let has = move |facts: &Facts| matches!(facts, Facts::Hypervisor(f) if f.strangers.iter().any(|s| s.id == id));
    table.of_kind(Kind::Hypervisor).filter(move |e| has(&e.facts)).map(move |e| (e.host.clone(), id))
}

impl Exchange {
    /// Who has a copy of a machine that is gone with these changes.
    fn heirs(&self, table: &Locations, changes: &[Change]) -> Vec<(HypervisorName, DomainId)> {
        let gone = changes.iter().filter_map(|change| match change.event.entity {
            EntityId::Domain(id) if change.event.after.is_none() => Some(id),
            _ => None,
        });
        gone.flat_map(|id| with_copy(table, id)).collect()
    }

    /// Tells whoever has a copy of a machine that nobody owns any more.
    pub(super) fn tell_heirs_of(self: &Arc<Self>, id: DomainId) {
        let heirs: Vec<_> = with_copy(&self.locations.read(), id).collect();
        for (host, id) in heirs {
            let exchange = self.clone();
            tokio::spawn(async move { exchange.tell_heir(&host, id).await });
        }
    }

    /// Tells whoever has a copy of a machine that is gone with these changes.
    pub(super) fn tell_heirs(self: &Arc<Self>, table: &Locations, changes: &[Change]) {
        for (host, id) in self.heirs(table, changes) {
            let exchange = self.clone();
            tokio::spawn(async move { exchange.tell_heir(&host, id).await });
        }
    }

    async fn tell_heir(&self, host: &HypervisorName, id: DomainId) {
        let target = EntityId::Hypervisor(host.clone());
        let to = self.cell.jid(&target);
        let caller = Caller { jid: self.cell.to_string(), role: Role::Node, operation: OperationId::fresh() };
        let (target, command) = (Address::Entity(target), LookAgain::NAME.to_owned());
        let request = Request { target, command, arguments: json!({ "domain": id }), caller };
        // One that cannot be asked lists everything when it is back.
        if let Err(fault) = self.ask_host(host, &to, &request, self.answer_within).await {
            tracing::debug!(%host, domain = %id, %fault, "it was not told that a machine it has a copy of is gone");
        }
    }
}
