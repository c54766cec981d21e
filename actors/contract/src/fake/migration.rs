//! Moving machines between fakes that were introduced to each other by a [`FakeLan`](super::FakeLan): a voyage at a time, as
//! the script of the source writes it.

use super::host::{FakeHost, Model};
use super::lan::carry;
use super::lock;
use super::voyage::Voyage;
use crate::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind,
    domain::{DomainFacts, DomainRecord, DomainState},
    host::DomainChange,
    migration::{DiskNeed, Landing, MigrationPort, Obstacle, ObstacleKind, Passport, Progress, Room, Standing, Transferred, Way},
    network::NetworkState,
    storage_pool::PoolState,
};
use std::future::poll_fn;
use std::sync::Arc;

/// What a machine needs of a host besides memory; it travels with the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Its disks.
    pub disks: Vec<DiskNeed>,
    /// Networks, by name.
    pub networks: Vec<String>,
    /// Devices of the host, which cannot travel.
    pub devices: Vec<String>,
    /// Its snapshots.
    pub snapshots: u32,
}

impl Needs {
    /// What every machine has that says nothing else: one disk in the pool that every fake has, and a card on its network.
    pub fn usual(name: &str) -> Needs {
        let disk = DiskNeed {
            device: "vda".into(),
            source: format!("/fake/images/{name}.qcow2"),
            kind: "file".into(),
            read_only: false,
            capacity: Some(Bytes::mib(64)),
        };
        Needs { disks: vec![disk], networks: vec!["default".into()], devices: Vec::new(), snapshots: 0 }
    }
}

fn absent(id: DomainId) -> Fault {
    Fault::not_found(format!("there is no virtual machine {id}; list them again"))
}

fn conflict(message: String) -> Fault {
    Fault::new(FaultKind::Conflict, message)
}

impl Model {
    fn needs_of(&self, record: &DomainRecord) -> Needs {
        self.needs.get(&record.id).cloned().unwrap_or_else(|| Needs::usual(&record.name))
    }

    fn room(&self) -> Room {
        let active = || self.domains.values().filter(|r| r.facts.state.is_active());
        let used: u64 = active().map(|r| r.facts.memory.0).sum();
        Room {
            memory_free: Bytes(self.memory.0.saturating_sub(used)),
            memory: self.memory,
            cpus: 8,
            vcpus: active().map(|r| r.facts.vcpus).sum(),
        }
    }

    fn standing(&self, id: DomainId) -> Standing {
        let Some(record) = self.domains.get(&id) else { return Standing::Absent };
        let state = record.facts.state;
        if self.arriving.contains_key(&id) {
            Standing::Arriving
        } else if self.split.contains(&id) {
            Standing::Split
        } else if self.leaving.contains_key(&id) && state.is_active() && !self.hanging.contains(&id) {
            Standing::Leaving
        } else if state.is_active() {
            Standing::Here(state)
        } else if record.facts.reason.as_deref() == Some("migrated") {
            Standing::Departed
        } else {
            Standing::Off(state)
        }
    }

    fn obstacles_of(&self, me: &str, passport: &Passport, way: &Way) -> Vec<Obstacle> {
        use ObstacleKind as K;
        let mut found = self.obstacles.clone();
        let mut tell = |kind, message: String| found.push(Obstacle::new(kind, message));
        if passport.from.as_str() == me {
            tell(K::Itself, format!("{} is on {me} already", passport.name));
            return found;
        }
        if self.domains.values().any(|r| *r.name == *passport.name && r.id != passport.domain) {
            tell(K::Name, format!("another virtual machine is called {} on {me}; rename one of them", passport.name));
        }
        if self.domains.get(&passport.domain).is_some_and(|r| r.facts.state.is_active()) {
            tell(K::Duplicate, format!("{} is active on {me} as well; look at both and stop one", passport.name));
        }
        for name in &passport.networks {
            match self.networks.values().find(|n| *n.name == **name) {
                None => tell(K::Network, format!("there is no network {name} on {me}; define it there")),
                Some(n) if n.facts.state != NetworkState::Active => {
                    tell(K::Network, format!("the network {name} on {me} is not active; start it"));
                }
                Some(_) => {}
            }
        }
        for bridge in &passport.bridges {
            tell(K::Network, format!("there is no bridge {bridge} on {me}; make it"));
        }
        for disk in passport.disks.iter().filter(|d| d.kind == "file") {
            let folder = disk.source.rsplit_once('/').map_or("", |(folder, _)| folder);
            let pool = self.pools.values().find(|p| p.facts.path.as_deref() == Some(folder));
            match pool {
                None => tell(K::Disk, format!("{}: there is no storage pool at {folder} on {me}; define one", disk.device)),
                Some(p) if p.facts.state == PoolState::Inactive => {
                    tell(K::Disk, format!("{}: the storage pool {} on {me} is not started; start it", disk.device, p.name));
                }
                Some(p) if way.copy_storage && !disk.read_only && disk.capacity.is_some_and(|c| c > p.facts.available) => {
                    tell(K::Disk, format!("{}: the storage pool {} on {me} has no room for it; make some", disk.device, p.name));
                }
                Some(_) => {}
            }
        }
        for device in &passport.devices {
            tell(K::Device, format!("{device} belongs to the host and cannot travel; detach it"));
        }
        if passport.snapshots > 0 {
            tell(K::Snapshot, format!("its {} snapshots cannot travel; delete them", passport.snapshots));
        }
        let free = self.room().memory_free;
        if passport.state.is_active() && passport.memory > free {
            tell(K::Memory, format!("it needs {} bytes of memory and {me} has {} free; stop something there", passport.memory.0, free.0));
        }
        found.sort();
        found
    }
}

/// The definition of a fake machine, with what a fake knows of it.
fn definition(record: &DomainRecord, disks: &str) -> String {
    let facts = &record.facts;
    format!(
        "<domain type='{}'><name>{}</name><uuid>{}</uuid><memory unit='b'>{}</memory><vcpu>{}</vcpu><description>{}</description>{disks}</domain>",
        facts.virtualization,
        record.name,
        record.id,
        facts.memory.0,
        facts.vcpus,
        facts.note.as_deref().unwrap_or_default()
    )
}

/// What stands between a tag and its end.
fn between<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}"))?;
    rest.split_once('>')?.1.split_once(&format!("</{tag}>")).map(|(inner, _)| inner)
}

fn defined(id: DomainId, definition: &str) -> Result<DomainRecord, Fault> {
    let missing = || Fault::invalid("that is no definition of a virtual machine; give the one its host gave");
    let name = between(definition, "name").ok_or_else(missing)?;
    if between(definition, "uuid").is_some_and(|uuid| uuid != id.to_string()) {
        return Err(Fault::invalid("that is the definition of another virtual machine"));
    }
    let number = |tag| between(definition, tag).and_then(|text| text.trim().parse::<u64>().ok());
    let facts = DomainFacts {
        state: DomainState::Shutoff,
        reason: None,
        vcpus: number("vcpu").map_or(1, |n| n as u32),
        memory: number("memory").map_or(Bytes::mib(16), Bytes),
        persistent: true,
        autostart: false,
        agent: false,
        virtualization: definition.split('\'').nth(1).unwrap_or("test").into(),
        note: between(definition, "description").filter(|t| !t.is_empty()).map(Into::into),
        template: false,
        moving_to: None,
        autostart_order: None,
        autostart_delay: None,
    };
    Ok(DomainRecord { id, name: name.into(), facts })
}

impl FakeHost {
    /// What this machine needs besides memory.
    pub fn needs(&self, id: DomainId, change: impl FnOnce(&mut Needs)) {
        self.change(|model| {
            if let Some(record) = model.domains.get(&id).cloned() {
                let mut needs = model.needs_of(&record);
                change(&mut needs);
                model.needs.insert(id, needs);
            }
        });
    }

    /// This stands in the way of whatever wants to come here.
    pub fn obstruct(&self, obstacle: Obstacle) {
        self.change(|model| model.obstacles.push(obstacle));
    }

    /// Nothing but the truth stands in the way any more.
    pub fn clear_the_way(&self) {
        self.change(|model| model.obstacles.clear());
    }

    /// How much memory this host has altogether.
    pub fn set_memory(&self, memory: Bytes) {
        self.change(|model| model.memory = memory);
    }

    /// Its transfer was given up, and QEMU hangs in that.
    pub fn hangs_in_giving_up(&self, id: DomainId) {
        self.change(|model| model.hanging.insert(id));
    }

    /// How a machine really stands, whether our connection is up or not.
    pub fn really(&self, id: DomainId) -> Standing {
        lock(&self.model).standing(id)
    }

    /// Whether the guest executes here at this moment: it is what may never be true on two hosts.
    pub fn executes(&self, id: DomainId) -> bool {
        lock(&self.model).domains.get(&id).is_some_and(|r| r.facts.state == DomainState::Running)
    }

    /// Machines received by half, and transfers under way: what must be empty when all is over.
    pub fn unfinished(&self) -> Vec<DomainId> {
        let model = lock(&self.model);
        model.arriving.keys().chain(model.leaving.keys()).chain(&model.standing_still).chain(&model.split).copied().collect()
    }

    pub(super) fn landing_uri(&self) -> Arc<str> {
        format!("fake+lan://{}/system", self.name_of()).into()
    }

    /// The other end of a transfer, if the two were introduced.
    fn voyage(&self, id: DomainId, to: &Landing, way: &Way) -> Result<Arc<Voyage>, Fault> {
        let unknown = || Fault::unavailable(format!("there is no host at {}; check its landing address", to.uri));
        let lan = lock(&self.lan).clone().ok_or_else(unknown)?;
        let target = lan.at(&to.uri).ok_or_else(unknown)?;
        let source = self.me.upgrade().ok_or_else(unknown)?;
        if Arc::ptr_eq(&source, &target) {
            return Err(Fault::invalid("a virtual machine cannot be moved to the host it is on; name another"));
        }
        Ok(Voyage::new(id, source, target, lan, way))
    }
}

impl MigrationPort for FakeHost {
    fn passport(&self, id: DomainId) -> BoxFuture<'_, Result<Passport, Fault>> {
        self.call("migration.passport", id.to_string(), move |model| {
            let record = model.domains.get(&id).ok_or_else(|| absent(id))?;
            let needs = model.needs_of(record);
            Ok(Passport {
                domain: id,
                name: record.name.to_string(),
                from: self.host_name(),
                state: record.facts.state,
                persistent: record.facts.persistent,
                autostart: record.facts.autostart,
                memory: record.facts.memory,
                vcpus: record.facts.vcpus,
                virtualization: record.facts.virtualization.to_string(),
                arch: "x86_64".into(),
                machine: "fake-1.0".into(),
                cpu: None,
                disks: needs.disks,
                networks: needs.networks,
                bridges: Vec::new(),
                devices: needs.devices,
                snapshots: needs.snapshots,
                libvirt: 9_000_000,
                hypervisor: 2_000_000,
                definition: definition(record, &super::volume::lines_of(model, id)),
            })
        })
    }

    fn obstacles(&self, passport: Passport, way: Way) -> BoxFuture<'_, Result<Vec<Obstacle>, Fault>> {
        let about = passport.domain.to_string();
        self.call("migration.obstacles", about, move |model| Ok(model.obstacles_of(self.name_of(), &passport, &way)))
    }

    fn room(&self) -> BoxFuture<'_, Result<Room, Fault>> {
        self.call("migration.room", String::new(), |model| Ok(model.room()))
    }

    fn landing(&self) -> BoxFuture<'_, Result<Landing, Fault>> {
        self.call("migration.landing", String::new(), |_| Ok(Landing { uri: self.landing_uri(), data: None }))
    }

    fn transfer(&self, id: DomainId, to: Landing, way: Way) -> BoxFuture<'_, Result<Transferred, Fault>> {
        Box::pin(async move {
            let begin = |model: &mut Model| {
                let record = model.domains.get(&id).ok_or_else(|| absent(id))?;
                if !record.facts.state.is_active() {
                    return Err(Fault::wrong_state(format!("{} is not running; move it as one that is off", record.name)));
                }
                if model.leaving.contains_key(&id) || model.arriving.contains_key(&id) || model.split.contains(&id) {
                    return Err(Fault::busy(format!("{} is being moved already; wait for that", record.name)));
                }
                let voyage = self.voyage(id, &to, &way)?;
                model.leaving.insert(id, voyage.clone());
                Ok(voyage)
            };
            let voyage = self.call("migration.transfer", id.to_string(), begin).await?;
            voyage.target.change(|m| m.inbound.insert(id, Arc::downgrade(&voyage)));
            carry(voyage.clone().sail());
            poll_fn(|context| voyage.answer.poll(context)).await
        })
    }

    fn progress(&self, id: DomainId) -> BoxFuture<'_, Result<Option<Progress>, Fault>> {
        self.call("migration.progress", id.to_string(), move |model| {
            let record = model.domains.get(&id).ok_or_else(|| absent(id))?;
            let goes_on = model.leaving.get(&id).filter(|_| !model.hanging.contains(&id));
            Ok(goes_on.map(|voyage| voyage.progress(record.facts.memory)))
        })
    }

    fn cancel(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("migration.cancel", id.to_string(), move |model| {
            model.domains.get(&id).ok_or_else(|| absent(id))?;
            let voyage = model.leaving.get(&id).ok_or_else(|| Fault::wrong_state("it is not being moved; there is nothing to cancel"))?;
            let waker = voyage.cancel()?;
            model.to_wake.extend(waker);
            Ok(())
        })
    }

    fn free_given_up(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>> {
        self.call("migration.free-given-up", id.to_string(), move |model| {
            let hung = model.hanging.remove(&id);
            if let Some(voyage) = model.leaving.get(&id).filter(|_| hung) {
                let waker = voyage.cancel()?;
                model.to_wake.extend(waker);
            }
            Ok(hung)
        })
    }

    fn switch_to_post_copy(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("migration.switch-to-post-copy", id.to_string(), move |model| {
            model.domains.get(&id).ok_or_else(|| absent(id))?;
            let voyage = model.leaving.get(&id).ok_or_else(|| Fault::wrong_state("it is not being moved; move it first"))?;
            let waker = voyage.switch_to_post_copy()?;
            model.to_wake.extend(waker);
            Ok(())
        })
    }

    fn recover_post_copy(&self, id: DomainId, to: Landing, way: Way) -> BoxFuture<'_, Result<Transferred, Fault>> {
        Box::pin(async move {
            let check = |model: &mut Model| {
                model.domains.get(&id).ok_or_else(|| absent(id))?;
                if !model.split.contains(&id) {
                    return Err(Fault::wrong_state("no post-copy of it broke here; look at it again"));
                }
                self.voyage(id, &to, &way)
            };
            self.call("migration.recover-post-copy", id.to_string(), check).await?.mend()
        })
    }

    fn standing(&self, id: DomainId) -> BoxFuture<'_, Result<Standing, Fault>> {
        self.call(
            "migration.standing",
            id.to_string(),
            move |model| {
                if model.forgetful { Ok(Standing::Absent) } else { Ok(model.standing(id)) }
            },
        )
    }

    fn define(&self, id: DomainId, definition: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("migration.define", id.to_string(), move |model| {
            let record = defined(id, &definition)?;
            if model.domains.values().any(|r| r.name == record.name && r.id != id) {
                return Err(conflict(format!("another virtual machine is called {}; rename one of them", record.name)));
            }
            let before = model.domains.get(&id);
            if before.is_some_and(|r| r.facts.state.is_active()) {
                return Err(Fault::wrong_state(format!("{} is active here; look at both hosts", record.name)));
            }
            let change = if before.is_some() { "updated" } else { "added" };
            model.domains.insert(id, record);
            model.tell_domain(id, DomainChange::Defined(change));
            Ok(())
        })
    }

    fn discard(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("migration.discard", id.to_string(), move |model| {
            let Some(record) = model.domains.get(&id) else { return Ok(()) };
            if record.facts.state.is_active() {
                return Err(Fault::wrong_state(format!("the guest of {} is here; it is not forgotten", record.name)));
            }
            model.domains.remove(&id);
            model.needs.remove(&id);
            model.tell_domain(id, DomainChange::Undefined);
            Ok(())
        })
    }
}
