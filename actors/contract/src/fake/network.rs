//! The networks of the fake hypervisor.

use super::host::{FakeHost, Model};
use crate::{
    BoxFuture, Fault, NetworkId,
    host::{HostChange, NetworkChange},
    network::{NetworkPort, NetworkRecord, NetworkState},
};

fn find(model: &mut Model, id: NetworkId) -> Result<&mut NetworkRecord, Fault> {
    model.networks.get_mut(&id).ok_or_else(|| Fault::not_found(format!("there is no network {id}; list them again")))
}

fn enter(model: &mut Model, id: NetworkId, state: NetworkState, change: NetworkChange) -> Result<(), Fault> {
    let record = find(model, id)?;
    if record.facts.state == state {
        return Err(Fault::wrong_state(format!("{} is {} already", record.name, state.name())));
    }
    record.facts.state = state;
    model.tell(HostChange::Network(id, change));
    Ok(())
}

impl NetworkPort for FakeHost {
    fn list(&self) -> BoxFuture<'_, Result<Vec<NetworkRecord>, Fault>> {
        self.call("network.list", String::new(), |model| Ok(model.networks.values().cloned().collect()))
    }
    fn read(&self, id: NetworkId) -> BoxFuture<'_, Result<NetworkRecord, Fault>> {
        self.call("network.read", id.to_string(), move |model| find(model, id).map(|r| r.clone()))
    }
    fn start(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.start", id.to_string(), move |m| enter(m, id, NetworkState::Active, NetworkChange::Started))
    }
    fn stop(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.stop", id.to_string(), move |m| enter(m, id, NetworkState::Inactive, NetworkChange::Stopped))
    }
    fn set_autostart(&self, id: NetworkId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.set-autostart", id.to_string(), move |model| {
            find(model, id)?.facts.autostart = enabled;
            Ok(())
        })
    }
}
