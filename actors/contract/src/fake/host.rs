//! An in-memory hypervisor: a model of machines, networks and pools, and events in libvirt's order.
//!
//! Events are told while the model is locked, so their order is the order of the changes, whatever thread made them.

use super::lan::FakeLan;
use super::migration::Needs;
use super::population::Population;
use super::snapshot::Album;
use super::voyage::Voyage;
use super::{Script, lock};
use crate::{
    BoxFuture, Bytes, DomainId, Fault, HypervisorName, NetworkId, PoolId,
    domain::{DomainFacts, DomainRecord, DomainState},
    host::{DomainChange, Host, HostChange, HostLink, HostObserver},
    hypervisor::{HostInside, HypervisorFacts, HypervisorPort, HypervisorState, NodeDevice, NumaCell},
    network::{NetworkFacts, NetworkRecord, NetworkState},
    storage_pool::{PoolFacts, PoolRecord, PoolState},
    volume::{VolumeFacts, VolumeRecord},
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;
use uuid::Uuid;

/// A hypervisor that exists in memory only.
pub struct FakeHost {
    pub(super) name: HypervisorName,
    /// What shall go wrong.
    pub script: Script,
    pub(super) model: Mutex<Model>,
    pub(super) lan: Mutex<Option<Arc<FakeLan>>>,
    pub(super) me: Weak<FakeHost>,
}

pub(super) struct Model {
    pub(super) connected: bool,
    pub(super) closed: bool,
    /// Whether libvirt lives at all; it may, and we may still not reach it.
    pub(super) libvirt: bool,
    /// The boot of its kernel.
    pub(super) kernel: Option<Arc<str>>,
    /// All the memory of the host.
    pub(super) memory: Bytes,
    /// What machines need of a host, where it is not the usual.
    pub(super) needs: BTreeMap<DomainId, Needs>,
    /// What more stands in the way of whatever comes here.
    pub(super) obstacles: Vec<crate::migration::Obstacle>,
    /// Machines on their way to another host.
    pub(super) leaving: BTreeMap<DomainId, Arc<Voyage>>,
    /// Machines whose voyage hither has not ended.
    pub(super) inbound: BTreeMap<DomainId, Weak<Voyage>>,
    /// Half-received machines, with the definition that was here before.
    pub(super) arriving: BTreeMap<DomainId, Option<DomainRecord>>,
    /// Machines that stand still for their hand-over and run on if it fails.
    pub(super) standing_still: BTreeSet<DomainId>,
    /// Their transfer was given up, and QEMU does not end it.
    pub(super) hanging: BTreeSet<DomainId>,
    /// Machines whose post-copy broke here.
    pub(super) split: BTreeSet<DomainId>,
    /// Machines whose file systems stand still.
    pub(super) frozen: super::guest::Frozen,
    /// What machines took so far.
    pub(super) meters: super::usage::Meters,
    /// Consoles that are open, and keys that were pressed.
    pub(super) lines: super::console::Lines,
    /// Whoever is to be woken when the model is locked no more.
    pub(super) to_wake: Vec<Waker>,
    observer: Option<Arc<dyn HostObserver>>,
    overflowed: bool,
    to_drop: usize,
    pub(super) domains: Population,
    pub(super) networks: BTreeMap<NetworkId, NetworkRecord>,
    /// What networks have beside facts.
    pub(super) plans: BTreeMap<NetworkId, super::network::Plan>,
    pub(super) pools: BTreeMap<PoolId, PoolRecord>,
    pub(super) volumes: BTreeMap<PoolId, Vec<VolumeRecord>>,
    /// Machines whose firmware has written variables; of those that are gone too.
    pub(super) variables: BTreeSet<DomainId>,
    /// What definitions have beside facts.
    pub(super) workshop: BTreeMap<DomainId, super::definition::Bench>,
    /// Directories that other hosts have too, with the name of what lies there.
    pub(super) shared: BTreeMap<String, String>,
    /// Disks of machines; of those that are gone too.
    pub(super) attachments: Vec<crate::volume::Attachment>,
    pub(super) album: Album,
    /// Backups and checkpoints.
    pub(super) vault: super::backup::Vault,
    /// Whether guests power off when they are asked.
    pub(super) guests_listen: bool,
    /// libvirt says that it knows no machine at all.
    pub(super) forgetful: bool,
}

impl Model {
    /// Tells the observer, or drops and remembers to say so, as the port demands.
    pub(super) fn tell(&mut self, change: HostChange) {
        let Some(observer) = self.observer.clone().filter(|_| self.connected) else { return };
        if self.to_drop > 0 {
            self.to_drop -= 1;
            self.overflowed = true;
            return;
        }
        if self.overflowed {
            if observer.observe(HostChange::Overflow).is_err() {
                return;
            }
            self.overflowed = false;
        }
        self.overflowed = observer.observe(change).is_err();
    }

    pub(super) fn tell_domain(&mut self, id: DomainId, change: DomainChange) {
        self.tell(HostChange::Domain(id, change));
    }

    /// Puts a machine into a state and tells; a transient one that stops is gone.
    pub(super) fn enter(&mut self, id: DomainId, state: DomainState, reason: &'static str) {
        let Some(record) = self.domains.get_mut(&id) else { return };
        record.facts.state = state;
        record.facts.reason = Some(reason.into());
        if !state.is_active() {
            self.lines.close(id);
            self.meters.stop(id);
            if !record.facts.persistent {
                self.domains.remove(&id);
            }
            if let Some(Some(before)) = self.arriving.remove(&id) {
                self.domains.insert(id, before);
            }
            self.split.remove(&id);
            self.standing_still.remove(&id);
            let under_way = self.leaving.get(&id).cloned().map(|v| (v, "domain is not running"));
            let hither = self.inbound.get(&id).and_then(Weak::upgrade).map(|v| (v, "unable to write to socket: broken pipe"));
            for (voyage, cause) in [under_way, hither].into_iter().flatten() {
                let fault = Fault::unavailable("the transfer broke; ask both hosts where the machine is").because(cause);
                self.to_wake.extend(voyage.wreck(fault));
            }
        }
        self.tell_domain(id, DomainChange::State(state, reason));
    }

    /// A half-received machine is removed; a definition that was here before is here again.
    pub(super) fn drop_half(&mut self, id: DomainId) {
        let Some(before) = self.arriving.remove(&id) else { return };
        self.domains.remove(&id);
        if let Some(mut before) = before {
            before.facts.state = DomainState::Shutoff;
            before.facts.reason = Some("failed".into());
            self.domains.insert(id, before);
        }
        self.tell_domain(id, DomainChange::State(DomainState::Shutoff, "failed"));
    }

    /// A machine that stood still for its hand-over runs on.
    pub(super) fn wake_up(&mut self, id: DomainId) {
        if self.libvirt && self.standing_still.remove(&id) {
            self.enter(id, DomainState::Running, "migrated");
        }
    }
}

impl FakeHost {
    /// A connected hypervisor with no machines, one active network `default` and one running pool `default` with one volume.
    pub fn new(name: &str) -> Arc<FakeHost> {
        let mut model = Model {
            connected: true,
            closed: false,
            observer: None,
            overflowed: false,
            to_drop: 0,
            domains: Population::default(),
            networks: BTreeMap::new(),
            plans: BTreeMap::new(),
            pools: BTreeMap::new(),
            volumes: BTreeMap::new(),
            shared: BTreeMap::new(),
            attachments: Vec::new(),
            album: Album::default(),
            vault: Default::default(),
            workshop: BTreeMap::new(),
            guests_listen: true,
            forgetful: false,
            libvirt: true,
            kernel: None,
            variables: BTreeSet::new(),
            memory: Bytes(16 << 30),
            needs: BTreeMap::new(),
            obstacles: Vec::new(),
            leaving: BTreeMap::new(),
            inbound: BTreeMap::new(),
            arriving: BTreeMap::new(),
            standing_still: BTreeSet::new(),
            hanging: BTreeSet::new(),
            split: BTreeSet::new(),
            to_wake: Vec::new(),
            lines: Default::default(),
            frozen: Default::default(),
            meters: Default::default(),
        };
        let seed = name.bytes().fold(0u128, |n, b| n * 31 + u128::from(b)) << 64;
        let network = NetworkId(Uuid::from_u128(seed | 1));
        let facts = NetworkFacts {
            state: NetworkState::Active,
            bridge: Some("virbr0".into()),
            forward: "nat".into(),
            persistent: true,
            autostart: true,
        };
        model.networks.insert(network, NetworkRecord { id: network, name: "default".into(), facts });
        let pool = PoolId(Uuid::from_u128(seed | 2));
        let facts = PoolFacts {
            state: PoolState::Running,
            capacity: Bytes::GIB,
            allocation: Bytes::MIB,
            available: Bytes(Bytes::GIB.0 - Bytes::MIB.0),
            provisioned: None,
            pool_type: "dir".into(),
            path: Some("/fake/images".into()),
            persistent: true,
            autostart: true,
        };
        model.pools.insert(pool, PoolRecord { id: pool, name: "default".into(), facts });
        let facts = VolumeFacts {
            volume_type: "file".into(),
            format: Some("qcow2".into()),
            capacity: Bytes::mib(64),
            allocation: Bytes::MIB,
            path: "/fake/images/disk.qcow2".into(),
            ..VolumeFacts::default()
        };
        model.volumes.insert(pool, vec![VolumeRecord { name: "disk.qcow2".into(), facts }]);
        let name = name.parse().unwrap_or_else(|e| panic!("{e}"));
        Arc::new_cyclic(|me| FakeHost { name, script: Script::default(), model: Mutex::new(model), lan: Mutex::default(), me: me.clone() })
    }

    /// The bundle of ports the actors get.
    pub fn host(self: &Arc<Self>) -> Host {
        Host {
            name: self.name.clone(),
            uri: format!("fake:///{}", self.name).into(),
            hypervisor: self.clone(),
            domains: self.clone(),
            snapshots: self.clone(),
            backups: self.clone(),
            definitions: self.clone(),
            networks: self.clone(),
            pools: self.clone(),
            volumes: self.clone(),
            imports: self.clone(),
            exports: self.clone(),
            migration: self.clone(),
            consoles: self.clone(),
            guests: self.clone(),
            usage: self.clone(),
            link: self.clone(),
        }
    }

    /// Adds a machine as if somebody else had defined it; tells about it.
    pub fn add_domain(&self, name: &str, state: DomainState, persistent: bool) -> DomainId {
        let seed =
            self.name.as_str().bytes().chain(name.bytes()).fold(7u128, |n, b| n.wrapping_mul(0x1_0000_01b3).wrapping_add(u128::from(b)));
        let id = DomainId(Uuid::from_u128(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
        let facts = DomainFacts {
            state,
            reason: None,
            vcpus: 1,
            memory: Bytes::mib(16),
            persistent,
            autostart: false,
            agent: false,
            virtualization: "test".into(),
            note: None,
            template: false,
            moving_to: None,
            autostart_order: None,
            autostart_delay: None,
        };
        self.change(|model| {
            model.domains.insert(id, DomainRecord { id, name: name.into(), facts });
            if persistent {
                model.tell_domain(id, DomainChange::Defined("added"));
            }
            if state.is_active() {
                model.tell_domain(id, DomainChange::State(state, "booted"));
            }
        });
        id
    }

    /// Puts a machine here as it stands, id included, as if its disk and definition were copied from elsewhere; tells about it.
    pub fn adopt(&self, record: DomainRecord) {
        let (id, state) = (record.id, record.facts.state);
        self.change(|model| {
            model.domains.insert(id, record);
            model.tell_domain(id, DomainChange::Defined("added"));
            if state.is_active() {
                model.tell_domain(id, DomainChange::State(state, "booted"));
            }
        });
    }

    /// Changes a machine behind everybody's back, without telling.
    pub fn set_silently(&self, id: DomainId, change: impl FnOnce(&mut DomainRecord)) {
        self.change(|model| model.domains.get_mut(&id).map(change));
    }

    /// Takes a machine away without telling.
    pub fn remove_silently(&self, id: DomainId) {
        self.change(|model| model.domains.remove(&id));
    }

    /// Puts a machine into a state as if somebody else had done it; tells about it.
    pub fn enter(&self, id: DomainId, state: DomainState, reason: &'static str) {
        self.change(|model| model.enter(id, state, reason));
    }

    pub(super) fn name_of(&self) -> &str {
        self.name.as_str()
    }

    pub(super) fn host_name(&self) -> HypervisorName {
        self.name.clone()
    }

    /// Reports something about a machine that is no state.
    pub fn report(&self, id: DomainId, change: DomainChange) {
        lock(&self.model).tell_domain(id, change);
    }

    /// Whether guests power off when they are asked.
    pub fn guests_listen(&self, listen: bool) {
        lock(&self.model).guests_listen = listen;
    }

    /// libvirt says, without being lost, that it knows no machine, as it does for a moment when it goes down; or knows them again.
    pub fn forgets(&self, forgetful: bool) {
        lock(&self.model).forgetful = forgetful;
    }

    /// The connection breaks.
    pub fn lose(&self, reason: &str) {
        let waiting: Vec<Arc<Voyage>> = self.change(|model| {
            model.tell(HostChange::Lost(reason.into()));
            model.connected = false;
            model.leaving.values().cloned().collect()
        });
        // Whoever waits for a transfer is told so; the transfer itself goes on.
        let fault = Fault::unavailable(format!("libvirt on {} does not answer; try again later", self.name)).because(reason);
        waiting.iter().for_each(|voyage| voyage.answer.put(Err(fault.clone())));
    }

    /// libvirt itself is killed: the connection breaks, and so does what is under way (rows B, C and L of the table). Guests run on.
    pub fn libvirt_dies(&self) {
        self.lose("the connection was reset");
        self.change(|model| model.libvirt = false);
        self.wreck(|_| true, "client socket is closed");
    }

    /// libvirt begins again: it removes what was received by half, and lets run on what stood still for a hand-over that failed.
    pub fn libvirt_restarts(&self) {
        self.change(|model| {
            model.libvirt = true;
            let halves: Vec<DomainId> = model.arriving.keys().copied().collect();
            halves.into_iter().for_each(|id| model.drop_half(id));
            let still: Vec<DomainId> = model.standing_still.iter().copied().collect();
            still.into_iter().for_each(|id| model.wake_up(id));
        });
        self.restore();
    }

    pub(super) fn libvirt_lives(&self) -> bool {
        lock(&self.model).libvirt
    }

    /// What fits of the transfers from and to this host breaks.
    pub(super) fn wreck(&self, fits: impl Fn(&Voyage) -> bool, cause: &str) {
        self.change(|model| {
            let all: Vec<Arc<Voyage>> =
                model.leaving.values().cloned().chain(model.inbound.values().filter_map(Weak::upgrade)).filter(|v| fits(v)).collect();
            for voyage in all {
                let fault = Fault::unavailable("the transfer broke; ask both hosts where the machine is").because(cause);
                let waker = voyage.wreck(fault);
                model.to_wake.extend(waker);
            }
        });
    }

    /// The connection is back.
    pub fn restore(&self) {
        let mut model = lock(&self.model);
        model.connected = true;
        model.tell(HostChange::Connected);
    }

    /// The next `count` changes are dropped as if the observer's queue were full; `Overflow` follows.
    pub fn drop_changes(&self, count: usize) {
        lock(&self.model).to_drop = count;
    }

    /// How a machine really stands.
    pub fn domain(&self, id: DomainId) -> Option<DomainRecord> {
        lock(&self.model).domains.get(&id).cloned()
    }

    /// How all machines really stand, by id.
    pub fn domains(&self) -> Vec<DomainRecord> {
        lock(&self.model).domains.values().cloned().collect()
    }

    /// Whether the connection was closed for good.
    pub fn is_closed(&self) -> bool {
        lock(&self.model).closed
    }

    /// One call of a port: the script first, then the connection, then the model.
    pub(super) fn call<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        about: String,
        work: impl FnOnce(&mut Model) -> Result<T, Fault> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Fault>> {
        Box::pin(async move {
            let number = self.script.play(operation, &about).await?;
            let done = self.change(|model| {
                if !model.connected {
                    return Err(Fault::unavailable(format!("libvirt on {} does not answer; try again later", self.name)));
                }
                work(model)
            })?;
            self.script.told_instead(operation, number).map_or(Ok(done), Err)
        })
    }
}

impl HostLink for FakeHost {
    fn watch(&self, observer: Arc<dyn HostObserver>) {
        let mut model = lock(&self.model);
        model.observer = Some(observer);
        model.overflowed = false;
        if !model.closed {
            model.tell(HostChange::Connected);
        }
    }

    fn close(&self) {
        let mut model = lock(&self.model);
        model.observer = None;
        model.connected = false;
        model.closed = true;
    }
}

impl HypervisorPort for FakeHost {
    fn inside(&self) -> BoxFuture<'_, Result<HostInside, Fault>> {
        self.call("hypervisor.inside", String::new(), |model| {
            Ok(HostInside {
                architecture: "x86_64".into(),
                cpu_model: "fake".into(),
                cpus: 8,
                memory: model.memory,
                numa: vec![NumaCell { cell: 0, memory: model.memory, cpus: "0-7".into() }],
                machine_types: vec!["pc".into()],
                libvirt_version: "9.0.0".into(),
                hypervisor_version: "2.0.0".into(),
                archipel_version: env!("CARGO_PKG_VERSION").into(),
                ..HostInside::default()
            })
        })
    }
    fn devices(&self) -> BoxFuture<'_, Result<Vec<NodeDevice>, Fault>> {
        self.call("hypervisor.devices", String::new(), |_| {
            let device = |name: &str, kind: &str| NodeDevice { name: name.into(), kind: kind.into(), ..NodeDevice::default() };
            Ok(vec![device("block_sda", "storage"), device("net_eth0", "net")])
        })
    }
    fn facts(&self) -> BoxFuture<'_, Result<HypervisorFacts, Fault>> {
        self.call("hypervisor.facts", String::new(), |model| {
            Ok(HypervisorFacts {
                kernel: model.kernel.clone(),
                state: HypervisorState::Connected,
                driver: "Fake".into(),
                acceleration: "none".into(),
                hostname: "fake.example".into(),
                libvirt_version: "9.0.0".into(),
                hypervisor_version: "2.0.0".into(),
                cpus: 8,
                memory: Bytes(16 << 30),
                ..HypervisorFacts::connecting(&format!("fake:///{}", self.name))
            })
        })
    }
}
