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
        self as policy, AttachedCard, DnsKind, DnsName, Given, NetworkSpec, NetworkState, Range, RemoveName, SetRange, StaticHost, Subnet,
        check_answers, check_dns, check_no_overlap, check_static, check_unattached, find_dns, find_static, plan_range,
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
        update(&network, ADD, sys::VIR_NETWORK_SECTION_IP_DHCP_HOST, place, &xml::host(&host))
    }

    pub(super) fn remove_host(&self, id: NetworkId, which: &str) -> Result<(), Trouble> {
        let network = lookup(self, id)?;
        let (_, there) = self.hosts_on(&network)?;
        let host = find_static(&there, which, &network.name()?)?;
        update(&network, DELETE, sys::VIR_NETWORK_SECTION_IP_DHCP_HOST, None, &xml::host(host))
    }

    pub(super) fn names_on(&self, id: NetworkId) -> Result<Vec<DnsName>, Trouble> {
        Ok(shape(&lookup(self, id)?)?.names)
    }

    pub(super) fn add_name(&self, id: NetworkId, asked: &DnsName) -> Result<(), Trouble> {
        let network = lookup(self, id)?;
        let (title, now) = (network.name()?, shape(&network)?);
        check_answers(&title, now.answers)?;
        let name = check_dns(asked, &title, &now.names)?;
        let beside = beside(&now.names, &name);
        if beside.is_empty() {
            return update(&network, ADD, section(name.kind), None, &xml::dns(&name));
        }
        let with: Vec<&str> = beside.iter().copied().chain([name.name.as_str()]).collect();
        rename(&network, &name.value, &beside, &with)
    }

    pub(super) fn remove_name(&self, id: NetworkId, which: &RemoveName) -> Result<(), Trouble> {
        let network = lookup(self, id)?;
        let there = shape(&network)?.names;
        let found = find_dns(&there, which.kind, &which.name, which.value.as_deref(), &network.name()?)?;
        let beside = beside(&there, found);
        if beside.is_empty() {
            return update(&network, DELETE, section(found.kind), None, &xml::dns(found));
        }
        let with: Vec<&str> = beside.iter().copied().chain([found.name.as_str()]).collect();
        rename(&network, &found.value, &with, &beside)
    }

    pub(super) fn set_range(&self, id: NetworkId, asked: &SetRange) -> Result<(), Trouble> {
        let network = lookup(self, id)?;
        let (title, now) = (network.name()?, shape(&network)?);
        let leases = if ask(|| network.is_active())? { super::raw::leases(&network)? } else { Vec::new() };
        let given = Given { network: &title, subnets: &now.subnets, ranges: &now.ranges, hosts: &now.hosts, leases: &leases };
        let change = plan_range(asked, given)?;
        let tell = |command, range: &Range| {
            update(&network, command, sys::VIR_NETWORK_SECTION_IP_DHCP_RANGE, Some(range.place), &xml::range(range))
        };
        // The new one cannot stand beside an old one that has addresses in common with it, so the old ones go first. What went comes
        // back when the rest is refused.
        let mut gone = Vec::new();
        let done = change.remove.iter().try_for_each(|range| tell(DELETE, range).map(|()| gone.push(range)));
        let done = done.and_then(|()| change.add.iter().try_for_each(|range| tell(ADD, range)));
        if done.is_err() {
            gone.into_iter().try_for_each(|range| tell(ADD, range))?;
        }
        done
    }
}

const ADD: sys::virNetworkUpdateCommand = sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST;
const DELETE: sys::virNetworkUpdateCommand = sys::VIR_NETWORK_UPDATE_COMMAND_DELETE;

/// The other names of its address: libvirt has one entry of an address, and removes it as a whole.
fn beside<'a>(there: &'a [DnsName], name: &DnsName) -> Vec<&'a str> {
    let host = |n: &&DnsName| name.kind == DnsKind::Host && n.kind == name.kind && n.value == name.value && n.name != name.name;
    there.iter().filter(host).map(|n| n.name.as_str()).collect()
}

/// Gives an address other names. libvirt takes no second entry of it, so the first goes, and comes back when the new one is refused.
fn rename(network: &Network, address: &str, from: &[&str], to: &[&str]) -> Result<(), Trouble> {
    let section = section(DnsKind::Host);
    update(network, DELETE, section, None, &xml::dns_host(address, from))?;
    let done = update(network, ADD, section, None, &xml::dns_host(address, to));
    if done.is_err() {
        update(network, ADD, section, None, &xml::dns_host(address, from))?;
    }
    done
}

fn section(kind: DnsKind) -> sys::virNetworkUpdateSection {
    match kind {
        DnsKind::Host => sys::VIR_NETWORK_SECTION_DNS_HOST,
        DnsKind::Srv => sys::VIR_NETWORK_SECTION_DNS_SRV,
        DnsKind::Txt => sys::VIR_NETWORK_SECTION_DNS_TXT,
    }
}

/// Now if it is active, and for the next start if it has a definition.
fn update(
    network: &Network,
    command: sys::virNetworkUpdateCommand,
    section: sys::virNetworkUpdateSection,
    place: Option<usize>,
    text: &str,
) -> Result<(), Trouble> {
    let live = if ask(|| network.is_active())? { sys::VIR_NETWORK_UPDATE_AFFECT_LIVE } else { 0 };
    let config = if ask(|| network.is_persistent())? { sys::VIR_NETWORK_UPDATE_AFFECT_CONFIG } else { 0 };
    let place = place.and_then(|p| i32::try_from(p).ok()).unwrap_or(-1);
    Ok(ask(|| network.update(command, section, place, text, live | config))?)
}
