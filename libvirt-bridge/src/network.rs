//! The port for virtual networks, and for what the host has to attach them to.

mod interface;
mod make;
mod raw;

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    xml::read,
};
use archipel_contract::{
    BoxFuture, Fault, NetworkId,
    network::{
        self as policy, AttachedCard, DnsName, HostInterface, Lease, NetworkFacts, NetworkFilter, NetworkPort, NetworkRecord, NetworkSpec,
        NetworkState, RemoveName, SetRange, StaticHost,
    },
};
use std::sync::Arc;
use virt::{error::Error, network::Network, sys};

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

    fn define(&self, spec: NetworkSpec) -> BoxFuture<'_, Result<NetworkId, Fault>> {
        self.call(Lane::Change, "defining a network", move |session| session.define_network(&spec))
    }

    fn undefine(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "forgetting a network", move |session| session.undefine_network(id))
    }

    fn xml(&self, id: NetworkId, inactive: bool) -> BoxFuture<'_, Result<String, Fault>> {
        self.call(Lane::Read, "reading a network", move |session| {
            let network = lookup(session, id)?;
            let flags = if inactive { sys::VIR_NETWORK_XML_INACTIVE } else { 0 };
            match ask(|| network.xml_desc(flags)) {
                // A driver that does not know the difference has one definition only.
                Err(error) if inactive && fault::is_unknown_flag(&error) => Ok(ask(|| network.xml_desc(0))?),
                text => Ok(text?),
            }
        })
    }

    fn leases(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<Lease>, Fault>> {
        self.call(Lane::Read, "reading leases", move |session| Ok(raw::leases(&lookup(session, id)?)?))
    }

    fn attached(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<AttachedCard>, Fault>> {
        self.call(Lane::Read, "looking for machines on a network", move |session| session.cards_on(&lookup(session, id)?))
    }

    fn hosts(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<StaticHost>, Fault>> {
        self.call(Lane::Read, "reading a network", move |session| Ok(session.hosts_on(&lookup(session, id)?)?.1))
    }

    fn add_host(&self, id: NetworkId, host: StaticHost) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "giving a host its address", move |session| session.add_host(id, &host))
    }

    fn remove_host(&self, id: NetworkId, which: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "taking a host's address back", move |session| session.remove_host(id, &which))
    }

    fn names(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<DnsName>, Fault>> {
        self.call(Lane::Read, "reading a network", move |session| session.names_on(id))
    }

    fn add_name(&self, id: NetworkId, name: DnsName) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "giving a network a name to answer", move |session| session.add_name(id, &name))
    }

    fn remove_name(&self, id: NetworkId, which: RemoveName) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "taking a name from a network", move |session| session.remove_name(id, &which))
    }

    fn set_range(&self, id: NetworkId, range: SetRange) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "changing which addresses are given out", move |session| session.set_range(id, &range))
    }

    fn interfaces(&self) -> BoxFuture<'_, Result<Vec<HostInterface>, Fault>> {
        self.call(Lane::Read, "listing the interfaces of the host", |session| session.interfaces())
    }

    fn filters(&self) -> BoxFuture<'_, Result<Vec<NetworkFilter>, Fault>> {
        self.call(Lane::Read, "listing network filters", |session| {
            let filters = ask(|| session.connect.list_all_nw_filters(0))?;
            let tell = |f: &virt::nwfilter::NWFilter| Ok(NetworkFilter { name: f.name()?, id: f.uuid_string()? });
            let mut told = filters.iter().map(tell).collect::<Result<Vec<_>, Error>>()?;
            told.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(told)
        })
    }

    fn filter_xml(&self, name: String) -> BoxFuture<'_, Result<String, Fault>> {
        self.call(Lane::Read, "reading a network filter", move |session| {
            let filter = ask(|| session.connect.lookup_nwfilter_by_name(&name))?;
            Ok(ask(|| filter.xml_desc(0))?)
        })
    }
}
