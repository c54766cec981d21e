//! One hypervisor as a bundle of ports, and the changes it reports by itself.

use crate::{
    DomainId, HypervisorName, NetworkId, PoolId,
    backup::BackupPort,
    domain::{DefinitionPort, DomainPort, DomainState, SnapshotPort},
    hypervisor::HypervisorPort,
    migration::MigrationPort,
    network::NetworkPort,
    storage_pool::PoolPort,
    usage::UsagePort,
    volume::VolumePort,
};
use std::sync::Arc;

/// Everything the actors need of one hypervisor.
#[derive(Clone)]
pub struct Host {
    /// Its name in the cell.
    pub name: HypervisorName,
    /// Its libvirt address, for people.
    pub uri: Arc<str>,
    /// The hypervisor as a whole.
    pub hypervisor: Arc<dyn HypervisorPort>,
    /// Its virtual machines.
    pub domains: Arc<dyn DomainPort>,
    /// Their snapshots.
    pub snapshots: Arc<dyn SnapshotPort>,
    /// Their backups and checkpoints.
    pub backups: Arc<dyn BackupPort>,
    /// Their definitions and devices.
    pub definitions: Arc<dyn DefinitionPort>,
    /// Its networks.
    pub networks: Arc<dyn NetworkPort>,
    /// Its storage pools.
    pub pools: Arc<dyn PoolPort>,
    /// The volumes in them.
    pub volumes: Arc<dyn VolumePort>,
    /// Taking machines in from elsewhere.
    pub imports: Arc<dyn crate::domain::ImportPort>,
    /// Giving machines out to elsewhere.
    pub exports: Arc<dyn crate::domain::ExportPort>,
    /// Moving machines to and from it.
    pub migration: Arc<dyn MigrationPort>,
    /// The agents in their guests.
    pub guests: Arc<dyn crate::domain::GuestPort>,
    /// What it and they take of processor, memory, disks and network.
    pub usage: Arc<dyn UsagePort>,
    /// Their screens, serial lines and keyboards.
    pub consoles: Arc<dyn crate::domain::ConsolePort>,
    /// What it reports by itself.
    pub link: Arc<dyn HostLink>,
}

/// The connection itself. The bridge keeps it up: it reconnects with growing pauses and registers for events again.
pub trait HostLink: Send + Sync {
    /// Begins to report changes to `observer`, replacing any earlier one. If the connection is up, `Connected` comes at
    /// once; in any case `Connected` is reported only after all events are registered, so that whoever lists *then* and
    /// applies what follows misses nothing.
    fn watch(&self, observer: Arc<dyn HostObserver>);
    /// Stops reporting and closes the connection for good.
    fn close(&self);
}

/// Whoever wants to know. Called from libvirt's event thread: it must not block, call back or panic.
pub trait HostObserver: Send + Sync {
    /// Takes one change, or gives it back when its queue is full. Then the bridge drops what follows, and reports
    /// `Overflow` as soon as there is room again: everything must be listed anew.
    fn observe(&self, change: HostChange) -> Result<(), HostChange>;
}

/// What a hypervisor reports by itself, in libvirt's order.
#[derive(Debug, Clone, PartialEq)]
pub enum HostChange {
    /// The connection is up and events are registered: list now.
    Connected,
    /// The connection is down; the reason for people.
    Lost(Arc<str>),
    /// Changes were dropped because the observer's queue was full: list again.
    Overflow,
    /// Something happened to a virtual machine.
    Domain(DomainId, DomainChange),
    /// Something happened to a network.
    Network(NetworkId, NetworkChange),
    /// Something happened to a storage pool.
    StoragePool(PoolId, PoolChange),
    /// A device of the host appeared, went or changed: its libvirt name.
    NodeDevice(Arc<str>, DeviceChange),
}

/// What happened to a virtual machine.
#[derive(Debug, Clone, PartialEq)]
pub enum DomainChange {
    /// Its state is now this, for this reason in libvirt's words (`virDomainEventType` and detail).
    State(DomainState, &'static str),
    /// The guest is going to sleep, or a machine appeared: it is active and everything about it should be read.
    Appeared(&'static str),
    /// Its definition was added or changed: read it again.
    Defined(&'static str),
    /// Its definition was removed. An active machine goes on without one.
    Undefined,
    /// The guest rebooted (`VIR_DOMAIN_EVENT_ID_REBOOT`).
    Rebooted,
    /// The guest agent answers or not (`VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE`).
    Agent(bool),
    /// Somebody connected to, was let into, or left the screen (`VIR_DOMAIN_EVENT_ID_GRAPHICS`): phase and peer.
    Graphics(&'static str, Arc<str>),
    /// A device was plugged in: its alias.
    DeviceAdded(Arc<str>),
    /// A device was unplugged: its alias.
    DeviceRemoved(Arc<str>),
    /// A job ended (`VIR_DOMAIN_EVENT_ID_JOB_COMPLETED`) or a migration went on to this pass.
    Job(Arc<str>),
    /// A block job on this disk now stands so.
    BlockJob(Arc<str>, &'static str),
    /// A disk reports errors: path and what was done.
    IoError(Arc<str>, &'static str),
    /// The watchdog fired: what was done.
    Watchdog(&'static str),
    /// Its balloon, title, note or another fact changed: read it again.
    Changed(&'static str),
}

/// What happened to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChange {
    /// Defined, or its definition changed: read it again.
    Defined,
    /// Its definition was removed.
    Undefined,
    /// It is active.
    Started,
    /// It is inactive.
    Stopped,
}

/// What happened to a storage pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolChange {
    /// Defined, created or built, or its definition changed: read it again.
    Defined,
    /// Its definition was removed.
    Undefined,
    /// It is started.
    Started,
    /// It is stopped.
    Stopped,
    /// Its volumes were listed again.
    Refreshed,
    /// A volume in it was made, changed or deleted through us; libvirt itself does not tell.
    Volumes,
}

/// What happened to a device of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChange {
    /// It appeared.
    Created,
    /// It went.
    Deleted,
    /// It changed.
    Updated,
}
