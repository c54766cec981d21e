//! The port for virtual networks.

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    xml::read,
};
use archipel_contract::{
    BoxFuture, Fault, NetworkId,
    network::{self as policy, NetworkFacts, NetworkPort, NetworkRecord, NetworkState},
};
use std::sync::Arc;
use virt::{error::Error, network::Network};

fn lookup(session: &Session, id: NetworkId) -> Result<Network, Error> {
    ask(|| session.connect.lookup_network_by_uuid(id.0))
}

fn record(network: &Network) -> Result<NetworkRecord, Trouble> {
    let xml = ask(|| network.xml_desc(0))?;
    let (bridge, forward) = read::network(&xml).map_err(|e| unreadable("a network", e))?;
    let active = ask(|| network.is_active())?;
    Ok(NetworkRecord {
        id: NetworkId(network.uuid()?),
        name: network.name()?.into(),
        facts: NetworkFacts {
            state: if active { NetworkState::Active } else { NetworkState::Inactive },
            bridge: bridge.map(Arc::from),
            forward: forward.into(),
            persistent: ask(|| network.is_persistent())?,
            autostart: ask(|| network.autostart())?,
        },
    })
}

impl Link {
    /// Runs `command` on one network, unless its state forbids it: drivers differ about stopping what is stopped.
    fn on_network(
        &self,
        id: NetworkId,
        command: &'static str,
        doing: &'static str,
        act: impl FnOnce(&Network) -> Result<(), Error> + Send + 'static,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, doing, move |session| {
            let network = lookup(session, id)?;
            let now = record(&network)?;
            policy::may(command, &now.facts).check(&format!("the network {}", now.name))?;
            Ok(ask(|| act(&network))?)
        })
    }
}

impl NetworkPort for Link {
    fn list(&self) -> BoxFuture<'_, Result<Vec<NetworkRecord>, Fault>> {
        self.call(Lane::Read, "listing networks", |session| {
            let networks = ask(|| session.connect.list_all_networks(0))?;
            let mut records = Vec::with_capacity(networks.len());
            for network in &networks {
                match record(network) {
                    Ok(record) => records.push(record),
                    Err(Trouble::Libvirt(error)) if fault::is_gone(&error) => {}
                    Err(trouble) => return Err(trouble),
                }
            }
            Ok(records)
        })
    }

    fn read(&self, id: NetworkId) -> BoxFuture<'_, Result<NetworkRecord, Fault>> {
        self.call(Lane::Read, "reading a network", move |session| record(&lookup(session, id)?))
    }

    fn start(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_network(id, "network.start", "starting a network", Network::create)
    }

    fn stop(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_network(id, "network.stop", "stopping a network", Network::destroy)
    }

    fn set_autostart(&self, id: NetworkId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_network(id, "network.autostart", "setting autostart", move |network| network.set_autostart(enabled))
    }
}
