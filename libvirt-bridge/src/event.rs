//! What libvirt reports by itself, on its way to the observer.
//!
//! ```text
//!   in step ──observer full──▶ behind: events are dropped, Lost / Connected / Overflow wait in the backlog
//!      ▲                          │ offered again with every event and by the link thread
//!      └────── backlog taken ─────┘
//! ```
//! The backlog never holds more than two entries: a loss makes what came before it pointless, and after `Connected` or
//! `Overflow` the observer lists everything anew, so nothing that was dropped is missed. [`raw`] is the C side.

pub(crate) mod raw;

use archipel_contract::{
    domain::DomainState,
    host::{DeviceChange, DomainChange, HostChange, HostObserver, NetworkChange, PoolChange},
};
use parking_lot::Mutex;
use std::sync::Arc;
use virt::sys;

pub(crate) struct Relay {
    inner: Mutex<Inner>,
}

struct Inner {
    observer: Option<Arc<dyn HostObserver>>,
    /// The connection events are taken from, while it is up.
    up: Option<u64>,
    /// Why there is none, and whether the observer is to be told: not before the first attempt has failed.
    down: Option<Arc<str>>,
    /// What the observer has still to be told, in order.
    backlog: Vec<HostChange>,
    stopped: bool,
}

impl Relay {
    pub(crate) fn new() -> Relay {
        Relay { inner: Mutex::new(Inner { observer: None, up: None, down: None, backlog: Vec::new(), stopped: false }) }
    }

    /// Reports to `observer` from now on.
    pub(crate) fn watch(&self, observer: Arc<dyn HostObserver>) {
        let mut inner = self.inner.lock();
        if inner.stopped {
            return;
        }
        inner.observer = Some(observer);
        inner.backlog.clear();
        if inner.up.is_some() {
            inner.backlog.push(HostChange::Connected);
        } else if let Some(reason) = inner.down.clone() {
            inner.backlog.push(HostChange::Lost(reason));
        }
        inner.offer();
    }

    /// Events are registered on connection `number`.
    pub(crate) fn connected(&self, number: u64) {
        let mut inner = self.inner.lock();
        inner.up = Some(number);
        inner.down = None;
        inner.backlog.retain(|waiting| matches!(waiting, HostChange::Lost(_)));
        inner.backlog.push(HostChange::Connected);
        inner.offer();
    }

    /// The connection is gone, or could not be made. The same reason twice in a row is told once.
    pub(crate) fn lost(&self, reason: Option<Arc<str>>) {
        let mut inner = self.inner.lock();
        let Some(reason) = reason else {
            inner.up = None;
            return;
        };
        if inner.up.take().is_none() && inner.down.as_ref() == Some(&reason) {
            return;
        }
        inner.down = Some(reason.clone());
        inner.backlog.clear();
        inner.backlog.push(HostChange::Lost(reason));
        inner.offer();
    }

    /// Passes an event on. Answers whether something waits, so that somebody has to offer it again.
    pub(crate) fn changed(&self, number: u64, change: HostChange) -> bool {
        let mut inner = self.inner.lock();
        if inner.up != Some(number) {
            // Before `Connected` nobody has listed yet, and after a loss everything is listed again.
            return false;
        }
        inner.offer();
        if !inner.backlog.is_empty() {
            return true;
        }
        let Some(observer) = inner.observer.clone() else {
            return false;
        };
        match observer.observe(change) {
            Ok(()) => false,
            Err(_) => {
                inner.backlog.push(HostChange::Overflow);
                true
            }
        }
    }

    /// Offers what waits.
    pub(crate) fn offer(&self) {
        self.inner.lock().offer();
    }

    pub(crate) fn has_backlog(&self) -> bool {
        let inner = self.inner.lock();
        inner.observer.is_some() && !inner.backlog.is_empty()
    }

    /// Reports nothing more.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.lock();
        inner.stopped = true;
        inner.observer = None;
        inner.up = None;
        inner.backlog.clear();
    }
}

impl Inner {
    fn offer(&mut self) {
        let Some(observer) = self.observer.clone() else {
            return;
        };
        while !self.backlog.is_empty() {
            let first = self.backlog.remove(0);
            if let Err(back) = observer.observe(first) {
                self.backlog.insert(0, back);
                return;
            }
        }
    }
}

// ---------------------------------------------------------------- what the numbers mean

/// A lifecycle event with its detail. `None` for what changes nothing by itself.
pub(crate) fn domain_lifecycle(event: u32, detail: u32) -> Option<DomainChange> {
    use DomainChange::{Appeared, Defined, State};
    Some(match event {
        sys::VIR_DOMAIN_EVENT_DEFINED => Defined(match detail {
            sys::VIR_DOMAIN_EVENT_DEFINED_ADDED => "added",
            sys::VIR_DOMAIN_EVENT_DEFINED_RENAMED => "renamed",
            sys::VIR_DOMAIN_EVENT_DEFINED_FROM_SNAPSHOT => "from-snapshot",
            _ => "updated",
        }),
        // A rename is reported as undefined (old name) and defined (new name) of the same UUID: nothing went away.
        sys::VIR_DOMAIN_EVENT_UNDEFINED if detail == sys::VIR_DOMAIN_EVENT_UNDEFINED_RENAMED => return None,
        sys::VIR_DOMAIN_EVENT_UNDEFINED => DomainChange::Undefined,
        // An incoming migration begins with a machine that does not run yet: only a look can tell what it is.
        sys::VIR_DOMAIN_EVENT_STARTED if detail == sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED => Appeared("migrated"),
        sys::VIR_DOMAIN_EVENT_STARTED => State(
            DomainState::Running,
            match detail {
                sys::VIR_DOMAIN_EVENT_STARTED_RESTORED => "restored",
                sys::VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT => "from-snapshot",
                sys::VIR_DOMAIN_EVENT_STARTED_WAKEUP => "wakeup",
                sys::VIR_DOMAIN_EVENT_STARTED_RECREATED => "recreated",
                _ => "booted",
            },
        ),
        // The words are those virDomainGetState gives as its reason, so that a later look does not change them.
        sys::VIR_DOMAIN_EVENT_SUSPENDED => State(
            DomainState::Paused,
            match detail {
                sys::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED => "migration",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => "ioerror",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => "watchdog",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_RESTORED => "restored",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT => "from-snapshot",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR => "api-error",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY => "postcopy",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED => "postcopy-failed",
                sys::VIR_DOMAIN_EVENT_SUSPENDED_GUEST_SHUTDOWN => "shutting-down",
                _ => "user",
            },
        ),
        sys::VIR_DOMAIN_EVENT_RESUMED => State(
            DomainState::Running,
            match detail {
                sys::VIR_DOMAIN_EVENT_RESUMED_MIGRATED => "migrated",
                sys::VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT => "from-snapshot",
                sys::VIR_DOMAIN_EVENT_RESUMED_POSTCOPY => "postcopy",
                sys::VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED => "postcopy-failed",
                _ => "unpaused",
            },
        ),
        // Stopped is shut off, whatever the cause: libvirt itself says crashed only for a guest that panicked and was kept.
        sys::VIR_DOMAIN_EVENT_STOPPED => State(
            DomainState::Shutoff,
            match detail {
                sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => "shutdown",
                sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => "destroyed",
                sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => "crashed",
                sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED => "migrated",
                sys::VIR_DOMAIN_EVENT_STOPPED_SAVED => "saved",
                sys::VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT => "from-snapshot",
                sys::VIR_DOMAIN_EVENT_STOPPED_RECREATED => "recreated",
                _ => "failed",
            },
        ),
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => State(
            DomainState::Shutdown,
            match detail {
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST => "guest",
                sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST => "host",
                _ => "finished",
            },
        ),
        sys::VIR_DOMAIN_EVENT_PMSUSPENDED => {
            State(DomainState::Pmsuspended, if detail == sys::VIR_DOMAIN_EVENT_PMSUSPENDED_DISK { "disk" } else { "memory" })
        }
        sys::VIR_DOMAIN_EVENT_CRASHED => {
            State(DomainState::Crashed, if detail == sys::VIR_DOMAIN_EVENT_CRASHED_CRASHLOADED { "crashloaded" } else { "panicked" })
        }
        // A later libvirt's event of a kind unknown here: what it means is found by looking.
        _ => DomainChange::Changed("unknown event"),
    })
}

/// A network's lifecycle event.
pub(crate) fn network_lifecycle(event: u32) -> NetworkChange {
    match event {
        sys::VIR_NETWORK_EVENT_UNDEFINED => NetworkChange::Undefined,
        sys::VIR_NETWORK_EVENT_STARTED => NetworkChange::Started,
        sys::VIR_NETWORK_EVENT_STOPPED => NetworkChange::Stopped,
        _ => NetworkChange::Defined,
    }
}

/// A storage pool's lifecycle event. Created means built and deleted means wiped: its definition is still there.
pub(crate) fn pool_lifecycle(event: u32) -> PoolChange {
    match event {
        sys::VIR_STORAGE_POOL_EVENT_UNDEFINED => PoolChange::Undefined,
        sys::VIR_STORAGE_POOL_EVENT_STARTED => PoolChange::Started,
        sys::VIR_STORAGE_POOL_EVENT_STOPPED => PoolChange::Stopped,
        _ => PoolChange::Defined,
    }
}

/// A host device's lifecycle event.
pub(crate) fn device_lifecycle(event: u32) -> DeviceChange {
    match event {
        sys::VIR_NODE_DEVICE_EVENT_CREATED => DeviceChange::Created,
        sys::VIR_NODE_DEVICE_EVENT_DELETED => DeviceChange::Deleted,
        _ => DeviceChange::Updated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::DomainId;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Takes as many as it has room for.
    #[derive(Default)]
    struct Narrow {
        room: AtomicUsize,
        seen: Mutex<Vec<HostChange>>,
    }
    impl HostObserver for Narrow {
        fn observe(&self, change: HostChange) -> Result<(), HostChange> {
            if self.room.load(Ordering::SeqCst) == 0 {
                return Err(change);
            }
            self.room.fetch_sub(1, Ordering::SeqCst);
            self.seen.lock().push(change);
            Ok(())
        }
    }
    fn event(n: u128) -> HostChange {
        HostChange::Domain(DomainId(uuid::Uuid::from_u128(n)), DomainChange::Rebooted)
    }
    fn lost(reason: &str) -> HostChange {
        HostChange::Lost(reason.into())
    }

    #[test]
    fn overflow_is_reported_once_and_before_what_follows() {
        let (relay, observer) = (Relay::new(), Arc::new(Narrow::default()));
        observer.room.store(2, Ordering::SeqCst);
        relay.watch(observer.clone());
        relay.connected(1);
        assert!(!relay.changed(1, event(1)));
        assert!(relay.changed(1, event(2)), "there was no room");
        assert!(relay.changed(1, event(3)));
        observer.room.store(9, Ordering::SeqCst);
        assert!(relay.has_backlog());
        relay.offer();
        relay.offer();
        assert!(!relay.changed(1, event(4)));
        assert_eq!(*observer.seen.lock(), [HostChange::Connected, event(1), HostChange::Overflow, event(4)]);
    }

    #[test]
    fn a_loss_and_a_return_are_never_dropped() {
        let (relay, observer) = (Relay::new(), Arc::new(Narrow::default()));
        relay.watch(observer.clone());
        relay.connected(1);
        relay.changed(1, event(1));
        relay.lost(Some("gone".into()));
        relay.connected(2);
        relay.changed(2, event(2));
        relay.changed(1, event(3));
        observer.room.store(9, Ordering::SeqCst);
        relay.offer();
        assert_eq!(*observer.seen.lock(), [lost("gone"), HostChange::Connected]);
    }

    #[test]
    fn events_of_an_earlier_connection_and_before_connected_are_not_passed_on() {
        let (relay, observer) = (Relay::new(), Arc::new(Narrow::default()));
        observer.room.store(9, Ordering::SeqCst);
        relay.watch(observer.clone());
        relay.changed(1, event(1));
        relay.connected(2);
        relay.changed(1, event(2));
        relay.changed(2, event(3));
        assert_eq!(*observer.seen.lock(), [HostChange::Connected, event(3)]);
    }

    #[test]
    fn a_new_observer_is_told_how_things_stand() {
        let relay = Relay::new();
        let watch = || {
            let observer = Arc::new(Narrow::default());
            observer.room.store(9, Ordering::SeqCst);
            relay.watch(observer.clone());
            observer
        };
        let first = watch();
        assert!(first.seen.lock().is_empty(), "nothing is known yet");
        relay.lost(Some("refused".into()));
        relay.lost(Some("refused".into()));
        assert_eq!(*first.seen.lock(), [lost("refused")], "the same reason is told once");
        assert_eq!(*watch().seen.lock(), [lost("refused")]);
        relay.connected(1);
        assert_eq!(*watch().seen.lock(), [HostChange::Connected]);
        assert_eq!(*first.seen.lock(), [lost("refused")], "a replaced observer hears no more");
    }

    #[test]
    fn a_rename_is_not_an_end() {
        assert_eq!(domain_lifecycle(sys::VIR_DOMAIN_EVENT_UNDEFINED, sys::VIR_DOMAIN_EVENT_UNDEFINED_RENAMED), None);
        assert_eq!(
            domain_lifecycle(sys::VIR_DOMAIN_EVENT_DEFINED, sys::VIR_DOMAIN_EVENT_DEFINED_RENAMED),
            Some(DomainChange::Defined("renamed"))
        );
    }

    #[test]
    fn a_killed_emulator_is_off_and_a_panicked_guest_crashed() {
        let stopped = |detail| domain_lifecycle(sys::VIR_DOMAIN_EVENT_STOPPED, detail);
        assert_eq!(stopped(sys::VIR_DOMAIN_EVENT_STOPPED_FAILED), Some(DomainChange::State(DomainState::Shutoff, "failed")));
        assert_eq!(stopped(sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED), Some(DomainChange::State(DomainState::Shutoff, "crashed")));
        assert_eq!(domain_lifecycle(sys::VIR_DOMAIN_EVENT_CRASHED, 0), Some(DomainChange::State(DomainState::Crashed, "panicked")));
    }

    #[test]
    fn an_incoming_machine_is_looked_at_instead_of_called_running() {
        assert_eq!(
            domain_lifecycle(sys::VIR_DOMAIN_EVENT_STARTED, sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED),
            Some(DomainChange::Appeared("migrated"))
        );
    }
}
