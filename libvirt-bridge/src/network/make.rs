//! Networks are made, forgotten and given hosts. What libvirt accepts and only refuses when it starts is refused here at once.

use super::{lookup, record};
use crate::{
    connection::{Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    xml::network::{self as xml, Shape},
};
use archipel_contract::{
    DomainId, Fault, FaultKind, NetworkId,
    network::{
        self as policy, AttachedCard, NetworkSpec, NetworkState, StaticHost, Subnet, check_no_overlap, check_static, check_unattached,
        find_static,
    },
};
use virt::{network::Network, sys};

fn conflict(text: String) -> Trouble {
    Fault::new(FaultKind::Conflict, text).into()
}

/// What a network's definition says, without what changes while it is active.
fn shape(network: &Network) -> Result<Shape, Trouble> {
    let text = ask(|| network.xml_desc(0))?;
    Ok(xml::shape(&text).map_err(|e| unreadable("a network", e))?)
}

impl Session {
    pub(super) fn define_network(&self, spec: &NetworkSpec) -> Result<NetworkId, Trouble> {
        if ask(|| self.connect.lookup_network_by_name(&spec.name)).is_ok() {
            return Err(conflict(format!("there is a network {} already; choose another name", spec.name)));
        }
        let mut others = Vec::new();
        for network in &ask(|| self.connect.list_all_networks(0))? {
            match shape(network) {
                Ok(shape) => others.push((network.name()?, shape)),
                Err(Trouble::Libvirt(error)) if fault::is_gone(&error) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        if let Some(subnet) = &spec.subnet {
            check_no_overlap(subnet, others.iter().flat_map(|(name, shape)| shape.subnets.iter().map(|s| (name.as_str(), *s))))?;
        }
        if let Some(bridge) = &spec.bridge {
            self.check_bridge(spec, bridge, &others)?;
        }
        let network = ask(|| self.connect.define_network_xml(&xml::network(spec)))?;
        Ok(NetworkId(network.uuid()?))
    }

    /// A bridge of the host must be there, and one that libvirt shall make must not.
    fn check_bridge(&self, spec: &NetworkSpec, bridge: &str, others: &[(String, Shape)]) -> Result<(), Trouble> {
        let own = !spec.mode.uses_bridge_of_host();
        if let Some((name, _)) = others.iter().find(|(_, o)| own && o.bridge.as_deref() == Some(bridge)) {
            return Err(conflict(format!("the network {name} has the bridge {bridge} already; choose another bridge")));
        }
        // A host whose interfaces nobody can list answers when the network starts.
        let Ok(interfaces) = self.interfaces() else { return Ok(()) };
        match (own, interfaces.iter().find(|i| i.name == bridge)) {
            (true, Some(_)) => Err(conflict(format!("the host has an interface {bridge} already; choose another bridge"))),
            (false, None) => Err(Fault::invalid(format!("the host has no bridge {bridge}; list them with interface.list")).into()),
            (false, Some(found)) if matches!(found.kind.as_str(), "ethernet" | "bond" | "vlan") => {
                Err(Fault::invalid(format!("{bridge} is no bridge; list them with interface.list")).into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn undefine_network(&self, id: NetworkId) -> Result<(), Trouble> {
        let network = lookup(self, id)?;
        let now = record(&network)?;
        policy::may("network.undefine", &now.facts).check(&format!("the network {}", now.name))?;
        check_unattached(&now.name, &self.cards_on(&network)?)?;
        if now.facts.state == NetworkState::Active {
            ask(|| network.destroy())?;
        }
        Ok(ask(|| network.undefine())?)
    }

    /// The cards of all machines that are on it: of what runs, else of the definition.
    pub(super) fn cards_on(&self, network: &Network) -> Result<Vec<AttachedCard>, Trouble> {
        let (name, bridge) = (network.name()?, shape(network)?.bridge);
        let mut found: Vec<AttachedCard> = Vec::new();
        for domain in &ask(|| self.connect.list_all_domains(0))? {
            let look = || -> Result<Vec<AttachedCard>, Trouble> {
                let (id, owner, active) = (DomainId(domain.uuid()?), domain.name()?, ask(|| domain.is_active())?);
                let mut cards: Vec<AttachedCard> = Vec::new();
                let mut views = vec![(active, 0)];
                if active && ask(|| domain.is_persistent())? {
                    views.push((false, sys::VIR_DOMAIN_XML_INACTIVE));
                }
                for (running, flags) in views {
                    let text = ask(|| domain.xml_desc(flags))?;
                    let on = xml::cards(&text, &name, bridge.as_deref()).map_err(|e| unreadable("a virtual machine", e))?;
                    for card in on.into_iter().filter(|card| !card.mac.is_empty()) {
                        if !cards.iter().any(|c| c.mac == card.mac) {
                            let interface = card.interface.filter(|_| running);
                            cards.push(AttachedCard { id, name: owner.clone(), mac: card.mac, running, interface });
                        }
                    }
                }
                Ok(cards)
            };
            match look() {
                Ok(cards) => found.extend(cards),
                Err(Trouble::Libvirt(error)) if fault::is_gone(&error) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(found)
    }

    pub(super) fn hosts_on(&self, network: &Network) -> Result<(Vec<Subnet>, Vec<StaticHost>), Trouble> {
        let shape = shape(network)?;
        Ok((shape.subnets, shape.hosts))
    }

    pub(super) fn add_host(&self, id: NetworkId, asked: &StaticHost) -> Result<(), Trouble> {
        let network = lookup(self, id)?;
        let (subnets, there) = self.hosts_on(&network)?;
        let host = check_static(asked, &network.name()?, &subnets, &there)?;
        let place = subnets.iter().position(|s| host.address.parse().is_ok_and(|a| s.holds(a)));
        update(&network, sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, place, &host)
    }

    pub(super) fn remove_host(&self, id: NetworkId, which: &str) -> Result<(), Trouble> {
        let network = lookup(self, id)?;
        let (_, there) = self.hosts_on(&network)?;
        let host = find_static(&there, which, &network.name()?)?;
        update(&network, sys::VIR_NETWORK_UPDATE_COMMAND_DELETE, None, host)
    }
}

/// Now if it is active, and for the next start if it has a definition.
fn update(network: &Network, command: sys::virNetworkUpdateCommand, place: Option<usize>, host: &StaticHost) -> Result<(), Trouble> {
    let live = if ask(|| network.is_active())? { sys::VIR_NETWORK_UPDATE_AFFECT_LIVE } else { 0 };
    let config = if ask(|| network.is_persistent())? { sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG } else { 0 };
    let place = place.and_then(|p| i32::try_from(p).ok()).unwrap_or(-1);
    let text = xml::host(host);
    Ok(ask(|| network.update(command, sys::VIR_NETWORK_SECTION_IP_DHCP_HOST, place, &text, live | config))?)
}
