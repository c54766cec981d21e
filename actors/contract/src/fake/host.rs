//! An in-memory hypervisor: a model of machines, networks and pools, and events in libvirt's order.
//!
//! Events are told while the model is locked, so their order is the order of the changes, whatever thread made them.

use super::{Script, lock};
use crate::{
    BoxFuture, Bytes, DomainId, Fault, HypervisorName, NetworkId, PoolId,
    domain::{DomainFacts, DomainRecord, DomainState},
    host::{DomainChange, Host, HostChange, HostLink, HostObserver},
    hypervisor::{HypervisorFacts, HypervisorPort, HypervisorState},
    network::{NetworkFacts, NetworkRecord, NetworkState},
    storage_pool::{PoolFacts, PoolRecord, PoolState},
    volume::{VolumeFacts, VolumeRecord},
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A hypervisor that exists in memory only.
pub struct FakeHost {
    name: HypervisorName,
    /// What shall go wrong.
    pub script: Script,
    pub(super) model: Mutex<Model>,
}

pub(super) struct Model {
    pub(super) connected: bool,
    pub(super) closed: bool,
    observer: Option<Arc<dyn HostObserver>>,
    overflowed: bool,
    to_drop: usize,
    pub(super) domains: BTreeMap<DomainId, DomainRecord>,
    pub(super) networks: BTreeMap<NetworkId, NetworkRecord>,
    pub(super) pools: BTreeMap<PoolId, PoolRecord>,
    pub(super) volumes: BTreeMap<PoolId, Vec<VolumeRecord>>,
    /// Whether guests power off when they are asked.
    pub(super) guests_listen: bool,
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
        if let Some(record) = self.domains.get_mut(&id) {
            record.facts.state = state;
            record.facts.reason = Some(reason.into());
            if !state.is_active() && !record.facts.persistent {
                self.domains.remove(&id);
            }
            self.tell_domain(id, DomainChange::State(state, reason));
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
            domains: BTreeMap::new(),
            networks: BTreeMap::new(),
            pools: BTreeMap::new(),
            volumes: BTreeMap::new(),
            guests_listen: true,
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
        };
        model.volumes.insert(pool, vec![VolumeRecord { name: "disk.qcow2".into(), facts }]);
        let name = name.parse().unwrap_or_else(|e| panic!("{e}"));
        Arc::new(FakeHost { name, script: Script::default(), model: Mutex::new(model) })
    }

    /// The bundle of ports the actors get.
    pub fn host(self: &Arc<Self>) -> Host {
        Host {
            name: self.name.clone(),
            uri: format!("fake:///{}", self.name).into(),
            hypervisor: self.clone(),
            domains: self.clone(),
            networks: self.clone(),
            pools: self.clone(),
            volumes: self.clone(),
            migration: self.clone(),
            link: self.clone(),
        }
    }

    /// Adds a machine as if somebody else had defined it; tells about it.
    pub fn add_domain(&self, name: &str, state: DomainState, persistent: bool) -> DomainId {
        let mut model = lock(&self.model);
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
        };
        model.domains.insert(id, DomainRecord { id, name: name.into(), facts });
        if persistent {
            model.tell_domain(id, DomainChange::Defined("added"));
        }
        if state.is_active() {
            model.tell_domain(id, DomainChange::State(state, "booted"));
        }
        id
    }

    /// Puts a machine here as it stands, id included, as if its disk and definition were copied from elsewhere; tells about it.
    pub fn adopt(&self, record: DomainRecord) {
        let mut model = lock(&self.model);
        let (id, state) = (record.id, record.facts.state);
        model.domains.insert(id, record);
        model.tell_domain(id, DomainChange::Defined("added"));
        if state.is_active() {
            model.tell_domain(id, DomainChange::State(state, "booted"));
        }
    }

    /// Changes a machine behind everybody's back, without telling.
    pub fn set_silently(&self, id: DomainId, change: impl FnOnce(&mut DomainRecord)) {
        if let Some(record) = lock(&self.model).domains.get_mut(&id) {
            change(record);
        }
    }

    /// Takes a machine away without telling.
    pub fn remove_silently(&self, id: DomainId) {
        lock(&self.model).domains.remove(&id);
    }

    /// Puts a machine into a state as if somebody else had done it; tells about it.
    pub fn enter(&self, id: DomainId, state: DomainState, reason: &'static str) {
        lock(&self.model).enter(id, state, reason);
    }

    /// Reports something about a machine that is no state.
    pub fn report(&self, id: DomainId, change: DomainChange) {
        lock(&self.model).tell_domain(id, change);
    }

    /// Whether guests power off when they are asked.
    pub fn guests_listen(&self, listen: bool) {
        lock(&self.model).guests_listen = listen;
    }

    /// The connection breaks.
    pub fn lose(&self, reason: &str) {
        let mut model = lock(&self.model);
        model.tell(HostChange::Lost(reason.into()));
        model.connected = false;
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
            self.script.play(operation, &about).await?;
            let mut model = lock(&self.model);
            if !model.connected {
                return Err(Fault::unavailable(format!("libvirt on {} does not answer; try again later", self.name)));
            }
            work(&mut model)
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
    fn facts(&self) -> BoxFuture<'_, Result<HypervisorFacts, Fault>> {
        self.call("hypervisor.facts", String::new(), |_| {
            Ok(HypervisorFacts {
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
