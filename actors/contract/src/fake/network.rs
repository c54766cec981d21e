//! The networks of the fake hypervisor.

use super::definition::cards_on;
use super::host::{FakeHost, Model};
use crate::{
    BoxFuture, Fault, FaultKind, NetworkId,
    host::{HostChange, NetworkChange},
    network::{
        AttachedCard, DnsName, Given, HostInterface, Lease, NetworkFacts, NetworkFilter, NetworkMode, NetworkPort, NetworkRecord,
        NetworkSpec, NetworkState, Range, RemoveName, SetRange, StaticHost, Subnet, check_answers, check_dns, check_no_overlap,
        check_static, check_unattached, find_dns, find_static, plan_range,
    },
};
use uuid::Uuid;

/// What a network has beside its facts.
#[derive(Default)]
pub(super) struct Plan {
    subnet: Option<Subnet>,
    hosts: Vec<StaticHost>,
    names: Vec<DnsName>,
    ranges: Vec<Range>,
}

/// The one bridge that the host has.
const BRIDGE: &str = "br0";

fn conflict(text: String) -> Fault {
    Fault::new(FaultKind::Conflict, text)
}

fn define(model: &mut Model, spec: NetworkSpec) -> Result<NetworkId, Fault> {
    if model.networks.values().any(|n| *n.name == *spec.name) {
        return Err(conflict(format!("there is a network {} already; choose another name", spec.name)));
    }
    if let Some(subnet) = &spec.subnet {
        let named = |(id, plan): (&NetworkId, &Plan)| Some((&*model.networks.get(id)?.name, plan.subnet?));
        check_no_overlap(subnet, model.plans.iter().filter_map(named))?;
    }
    let id = NetworkId(Uuid::new_v4());
    let bridge = match (spec.mode.uses_bridge_of_host(), spec.bridge) {
        (true, Some(name)) if name != BRIDGE => {
            return Err(Fault::invalid(format!("the host has no bridge {name}; list them with interface.list")));
        }
        (false, Some(name)) if name == BRIDGE || model.networks.values().any(|n| n.facts.bridge.as_deref() == Some(&*name)) => {
            return Err(conflict(format!("there is an interface {name} already; choose another bridge")));
        }
        (_, name) => name.unwrap_or_else(|| format!("virbr{}", model.networks.len())),
    };
    let forward = if spec.mode == NetworkMode::Ovs { "bridge" } else { spec.mode.name() };
    let facts = NetworkFacts {
        state: NetworkState::Inactive,
        bridge: Some(bridge.into()),
        forward: forward.into(),
        persistent: true,
        autostart: false,
    };
    model.networks.insert(id, NetworkRecord { id, name: spec.name.into(), facts });
    let ranges = spec.range.map(|(start, end)| Range { place: 0, start, end }).into_iter().collect();
    model.plans.insert(id, Plan { subnet: spec.subnet, ranges, ..Plan::default() });
    model.tell(HostChange::Network(id, NetworkChange::Defined));
    Ok(id)
}

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
    fn define(&self, spec: NetworkSpec) -> BoxFuture<'_, Result<NetworkId, Fault>> {
        self.call("network.define", spec.name.clone(), move |model| define(model, spec))
    }
    fn undefine(&self, id: NetworkId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.undefine", id.to_string(), move |model| {
            let record = find(model, id)?.clone();
            check_unattached(&record.name, &cards_on(model, &record.name))?;
            if record.facts.state == NetworkState::Active {
                enter(model, id, NetworkState::Inactive, NetworkChange::Stopped)?;
            }
            model.networks.remove(&id);
            model.plans.remove(&id);
            model.tell(HostChange::Network(id, NetworkChange::Undefined));
            Ok(())
        })
    }
    fn xml(&self, id: NetworkId, _inactive: bool) -> BoxFuture<'_, Result<String, Fault>> {
        self.call("network.xml", id.to_string(), move |model| {
            let record = find(model, id)?;
            Ok(format!("<network>\n  <name>{}</name>\n  <uuid>{id}</uuid>\n</network>\n", record.name))
        })
    }
    fn leases(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<Lease>, Fault>> {
        self.call("network.leases", id.to_string(), move |model| find(model, id).map(|_| Vec::new()))
    }
    fn attached(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<AttachedCard>, Fault>> {
        self.call("network.attached", id.to_string(), move |model| {
            let name = find(model, id)?.name.clone();
            Ok(cards_on(model, &name))
        })
    }
    fn hosts(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<StaticHost>, Fault>> {
        self.call("network.hosts", id.to_string(), move |model| {
            find(model, id)?;
            Ok(model.plans.get(&id).map(|p| p.hosts.clone()).unwrap_or_default())
        })
    }
    fn add_host(&self, id: NetworkId, host: StaticHost) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.add-host", id.to_string(), move |model| {
            let name = find(model, id)?.name.clone();
            let plan = model.plans.entry(id).or_default();
            let subnets: Vec<Subnet> = plan.subnet.into_iter().collect();
            let host = check_static(&host, &name, &subnets, &plan.hosts)?;
            plan.hosts.push(host);
            Ok(())
        })
    }
    fn remove_host(&self, id: NetworkId, which: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.remove-host", id.to_string(), move |model| {
            let name = find(model, id)?.name.clone();
            let plan = model.plans.entry(id).or_default();
            let gone = find_static(&plan.hosts, &which, &name)?.clone();
            plan.hosts.retain(|h| *h != gone);
            Ok(())
        })
    }
    fn names(&self, id: NetworkId) -> BoxFuture<'_, Result<Vec<DnsName>, Fault>> {
        self.call("network.names", id.to_string(), move |model| {
            find(model, id)?;
            Ok(model.plans.get(&id).map(|p| p.names.clone()).unwrap_or_default())
        })
    }
    fn add_name(&self, id: NetworkId, name: DnsName) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.add-name", id.to_string(), move |model| {
            let network = find(model, id)?.name.clone();
            let plan = model.plans.entry(id).or_default();
            check_answers(&network, plan.subnet.is_some())?;
            let name = check_dns(&name, &network, &plan.names)?;
            plan.names.push(name);
            Ok(())
        })
    }
    fn remove_name(&self, id: NetworkId, which: RemoveName) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.remove-name", id.to_string(), move |model| {
            let network = find(model, id)?.name.clone();
            let plan = model.plans.entry(id).or_default();
            let gone = find_dns(&plan.names, which.kind, &which.name, which.value.as_deref(), &network)?.clone();
            plan.names.retain(|n| *n != gone);
            Ok(())
        })
    }
    fn set_range(&self, id: NetworkId, range: SetRange) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("network.set-range", id.to_string(), move |model| {
            let network = find(model, id)?.name.clone();
            let plan = model.plans.entry(id).or_default();
            let subnets: Vec<Subnet> = plan.subnet.into_iter().collect();
            let given = Given { network: &network, subnets: &subnets, ranges: &plan.ranges, hosts: &plan.hosts, leases: &[] };
            let change = plan_range(&range, given)?;
            plan.ranges.retain(|r| !change.remove.contains(r));
            plan.ranges.extend(change.add);
            Ok(())
        })
    }
    fn interfaces(&self) -> BoxFuture<'_, Result<Vec<HostInterface>, Fault>> {
        self.call("interface.list", String::new(), |_| {
            let interface = |name: &str, kind: &str, members: &[&str]| HostInterface {
                name: name.to_owned(),
                kind: kind.to_owned(),
                state: "active".to_owned(),
                mac: Some("52:54:00:ff:00:01".to_owned()),
                members: members.iter().map(|m| (*m).to_owned()).collect(),
                source: "libvirt".to_owned(),
            };
            Ok(vec![interface(BRIDGE, "bridge", &["eth0"]), interface("eth0", "ethernet", &[])])
        })
    }
    fn filters(&self) -> BoxFuture<'_, Result<Vec<NetworkFilter>, Fault>> {
        self.call("nwfilter.list", String::new(), |_| {
            Ok(vec![NetworkFilter { name: "clean-traffic".to_owned(), id: Uuid::from_u128(5).to_string() }])
        })
    }
    fn filter_xml(&self, name: String) -> BoxFuture<'_, Result<String, Fault>> {
        self.call("nwfilter.xml", name.clone(), move |_| match name.as_str() {
            "clean-traffic" => Ok(format!("<filter name='{name}'/>\n")),
            _ => Err(Fault::not_found(format!("there is no network filter {name:?}; list them again"))),
        })
    }
}
