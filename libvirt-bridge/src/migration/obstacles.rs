//! Everything that stands in the way of receiving a machine here. All of it at once, each with the way out, so that nobody
//! has to try five times to learn of five things.

use super::{raw, transfer::called};
use crate::{
    LinkConfig,
    connection::{Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    xml::{
        domain::Kind,
        needs::{self, Offer},
    },
};
use archipel_contract::{
    Bytes, DomainId,
    migration::{Obstacle, ObstacleKind as K, Passport, Room, Transport, Way},
};
use virt::{connect::NodeInfo, error::Error};

impl Session {
    pub(super) fn obstacles(&self, config: &LinkConfig, passport: &Passport, way: &Way) -> Result<Vec<Obstacle>, Trouble> {
        let active = passport.state.is_active();
        let mut found = Vec::new();
        let mut tell = |kind, message: String| found.push(Obstacle::new(kind, message));
        if passport.from == config.name {
            tell(K::Itself, format!("{} is on {} already; choose another host", passport.name, config.name));
        }
        if let Some(text) = wrong_way(way).filter(|_| active) {
            tell(K::Transport, text.to_owned());
        }
        self.identity(passport, &mut tell)?;
        self.platform(passport, active, &mut tell)?;
        let (free, all) = self.memory(&ask(|| self.connect.node_info())?)?;
        let (needed, left) = (passport.memory, if active { free } else { all });
        if needed > left {
            let what = if active { "free" } else { "in all" };
            tell(
                K::Memory,
                format!("it needs {needed} of memory and this host has {left} {what}; stop a machine here or choose another host"),
            );
        }
        self.networks(passport, &mut tell)?;
        for device in passport.devices.iter() {
            tell(K::Device, format!("{device} cannot travel; detach it first"));
        }
        if passport.snapshots > 0 {
            let n = passport.snapshots;
            tell(K::Snapshot, format!("libvirt moves no machine with snapshots, and it has {n}; delete them first"));
        }
        found.extend(self.disk_obstacles(passport, way)?);
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The machine itself, or its name, may be here.
    fn identity(&self, passport: &Passport, tell: &mut impl FnMut(K, String)) -> Result<(), Trouble> {
        let there = |answer: Result<_, Error>| match answer {
            Ok(domain) => Ok(Some(domain)),
            Err(error) if fault::is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        };
        let name = &passport.name;
        if let Some(same) = there(self.domain(passport.domain))? {
            if ask(|| same.is_active())? {
                let text = "a machine with the same UUID is active on this host; find out which of the two is right and stop the other";
                tell(K::Duplicate, text.to_owned());
            } else if ask(|| same.has_managed_save(0)).unwrap_or(false) {
                let text = format!("an old memory image of {name} is saved on this host; remove it first (virsh managedsave-remove)");
                tell(K::Duplicate, text);
            }
            let old = called(&same, passport.domain);
            if old != *name {
                tell(K::Name, format!("its definition on this host has another name, {old}; rename or undefine that one first"));
            }
        }
        if let Some(other) = there(ask(|| self.connect.lookup_domain_by_name(name)))?
            && other.uuid()? != passport.domain.0
        {
            tell(K::Name, format!("another machine on this host is named {name}; rename one of them"));
        }
        Ok(())
    }

    /// Architecture, kind of virtualization, machine type, processor, versions.
    fn platform(&self, passport: &Passport, active: bool, tell: &mut impl FnMut(K, String)) -> Result<(), Trouble> {
        let xml = ask(|| self.connect.capabilities())?;
        let offer: Offer = needs::offer(&xml, &passport.arch).map_err(|e| unreadable("the host", e))?;
        let (arch, kind) = (&passport.arch, &passport.virtualization);
        let runs = offer.kinds.iter().any(|k| k == kind) && !(kind == "kvm" && matches!(self.kind()?, Kind::Qemu { kvm: false, .. }));
        if !runs {
            let what = match kind.as_str() {
                "kvm" => format!("hardware virtualization of {arch} guests does not work on this host; choose another one"),
                _ => format!("this host runs no {kind} guests of {arch}; choose another one"),
            };
            tell(K::Virtualization, what);
        } else if !offer.has_machine(&passport.machine) {
            tell(K::Machine, format!("this host does not know the machine type {}; update its QEMU or change the type", passport.machine));
        } else {
            let most = offer.machines.iter().find(|(name, _)| *name == passport.machine).map_or(0, |(_, most)| *most);
            if most > 0 && passport.vcpus > most {
                tell(
                    K::Cpu,
                    format!("it has {} virtual CPUs and this host gives a machine at most {most}; take some away", passport.vcpus),
                );
            }
            if let Some(cpu) = &passport.cpu
                && !self.gives(passport, cpu)?
            {
                let text = "this host's processor lacks something the guest was given; choose another host, or give the guest a processor \
                            model that all hosts have";
                tell(K::Cpu, text.to_owned());
            }
        }
        // Within one series nothing changes that a guest could notice.
        let series = |number: u64| number / 1000;
        let words = |number: u64| format!("{}.{}", number / 1_000_000, series(number) % 1000);
        let here = [("libvirt", u64::from(ask(|| self.connect.lib_version())?)), ("QEMU", u64::from(ask(|| self.connect.hyp_version())?))];
        for ((what, mine), theirs) in here.into_iter().zip([passport.libvirt, passport.hypervisor]) {
            if active && series(mine) < series(theirs) {
                let (mine, theirs) = (words(mine), words(theirs));
                tell(
                    K::Version,
                    format!("{what} here is {mine}, older than the {theirs} it runs on; update this host, or move it while it is off"),
                );
            }
        }
        Ok(())
    }

    /// Whether a guest can have that processor here, by libvirt's answer. Where libvirt cannot tell, it will when it is tried.
    fn gives(&self, passport: &Passport, cpu: &str) -> Result<bool, Trouble> {
        let of_host = !cpu.contains("<model fallback") && cpu.contains("<arch>");
        let answer = if of_host {
            ask(|| self.connect.compare_cpu(cpu, 0)).map(|result| result != virt::sys::VIR_CPU_COMPARE_INCOMPATIBLE)
        } else {
            raw::can_give_cpu(&self.connect, &passport.arch, &passport.machine, &passport.virtualization, cpu)
        };
        match answer {
            Ok(gives) => Ok(gives),
            Err(error) if fault::may_mean_dead(&error) => Err(error.into()),
            Err(error) => {
                tracing::debug!(error = error.message(), "libvirt cannot compare the processors");
                Ok(true)
            }
        }
    }

    fn networks(&self, passport: &Passport, tell: &mut impl FnMut(K, String)) -> Result<(), Trouble> {
        for name in &passport.networks {
            match ask(|| self.connect.lookup_network_by_name(name)) {
                Ok(network) if ask(|| network.is_active())? => {}
                Ok(_) => tell(K::Network, format!("the network {name} is stopped on this host; start it")),
                Err(error) if fault::is_gone(&error) => tell(K::Network, format!("this host has no network {name}; define it here")),
                Err(error) => return Err(error.into()),
            }
        }
        // The table of the kernel, not /sys: that shows the interfaces of whoever mounted it.
        let table = self.sees_files().then(|| std::fs::read_to_string("/proc/self/net/dev").ok()).flatten();
        for name in table.iter().flat_map(|table| passport.bridges.iter().filter(|name| !has_interface(table, name))) {
            tell(
                K::Network,
                format!("this host has no bridge or interface {name}; make it, or put the card on a network that both hosts have"),
            );
        }
        Ok(())
    }

    pub(super) fn room(&self) -> Result<Room, Trouble> {
        let node = ask(|| self.connect.node_info())?;
        let (memory_free, memory) = self.memory(&node)?;
        let mut vcpus = 0;
        for domain in ask(|| self.connect.list_all_domains(virt::sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE))? {
            match ask(|| domain.info()) {
                Ok(info) => vcpus += info.nr_virt_cpu,
                Err(error) if fault::is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Room { memory_free, memory, cpus: node.cpus, vcpus })
    }

    /// Memory that guests could have, and all there is.
    fn memory(&self, node: &NodeInfo) -> Result<(Bytes, Bytes), Trouble> {
        let (free, all) = match raw::memory(&self.connect) {
            Ok(both) => both,
            // A driver that cannot tell in detail can tell the sum; where nothing at all is free, the binding takes that for an error.
            Err(error) if fault::is_unknown_flag(&error) => (ask(|| self.connect.free_memory()).unwrap_or(0), 0),
            Err(error) => return Err(error.into()),
        };
        // libvirt's sum can leave out memory that was plugged in later.
        Ok((Bytes(free), Bytes(all.max(Bytes::kib(node.memory).0))))
    }

    /// Whether a name is another machine's, and whose definition is here.
    pub(super) fn is_taken(&self, name: &str, id: DomainId) -> Result<bool, Error> {
        match ask(|| self.connect.lookup_domain_by_name(name)) {
            Ok(other) => Ok(other.uuid()? != id.0),
            Err(error) if fault::is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Wishes that exclude each other, known before libvirt is asked.
fn wrong_way(way: &Way) -> Option<&'static str> {
    match way {
        Way { transport: Transport::Tunnelled, copy_storage: true, .. } => {
            Some("disks cannot be copied through a tunnel; choose tls, which encrypts as well")
        }
        Way { transport: Transport::Tunnelled, parallel: Some(_), .. } => {
            Some("a tunnel is one connection; leave out parallel or choose tls")
        }
        Way { transport: Transport::Tunnelled, post_copy: true, .. } => Some("post-copy cannot go through a tunnel; choose tls"),
        Way { parallel: Some(_), post_copy: true, .. } => Some("post-copy needs a single connection; leave out parallel"),
        _ => None,
    }
}

/// Whether the kernel's table of interfaces (`/proc/net/dev`) has that name.
fn has_interface(table: &str, name: &str) -> bool {
    table.lines().filter_map(|line| line.split_once(':')).any(|(found, _)| found.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_that_exclude_each_other_are_named() {
        let tunnel = Way { transport: Transport::Tunnelled, ..Way::default() };
        assert_eq!(wrong_way(&tunnel), None);
        assert!(wrong_way(&Way { copy_storage: true, ..tunnel.clone() }).is_some());
        assert!(wrong_way(&Way { post_copy: true, ..tunnel.clone() }).is_some());
        assert!(wrong_way(&Way { parallel: Some(2), ..tunnel }).is_some());
        assert!(wrong_way(&Way { parallel: Some(2), post_copy: true, ..Way::default() }).is_some());
        assert_eq!(wrong_way(&Way { parallel: Some(2), transport: Transport::Tls, copy_storage: true, ..Way::default() }), None);
    }

    #[test]
    fn an_interface_is_found_by_its_whole_name() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 1 2\n  br0:3 4\n";
        assert!(has_interface(table, "br0") && has_interface(table, "lo") && !has_interface(table, "br") && !has_interface(table, "br01"));
    }
}
