//! Where every machine is known and where its guest executes, counted at every change that any libvirt makes, so that not even a
//! moment between two looks is missed, and a thousand machines cost no more than one.

use archipel_contract::{DomainId, HypervisorName, fake::Witness};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// The count.
pub(super) struct Census(Mutex<Inner>);

struct Inner {
    began: Instant,
    places: BTreeMap<DomainId, Places>,
    nowhere: BTreeSet<DomainId>,
    twice: Vec<String>,
    copied: bool,
    changes: u64,
}

#[derive(Default)]
struct Places {
    known: BTreeSet<HypervisorName>,
    executes: BTreeSet<HypervisorName>,
}

fn enter(set: &mut BTreeSet<HypervisorName>, host: &HypervisorName, is_there: bool) {
    if is_there {
        set.insert(host.clone());
    } else {
        set.remove(host);
    }
}

impl Census {
    pub(super) fn new() -> Arc<Census> {
        let (places, nowhere, twice) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Arc::new(Census(Mutex::new(Inner { began: Instant::now(), places, nowhere, twice, copied: false, changes: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody copied a machine with its guest: from then on it may execute twice, and nobody is to blame.
    pub(super) fn copied(&self) {
        self.lock().copied = true;
    }

    /// Fails if any guest ever executed on two hosts.
    pub(super) fn nothing_ran_twice(&self) -> anyhow::Result<()> {
        let inner = self.lock();
        anyhow::ensure!(inner.twice.is_empty(), "machines execute on several hosts: {}", inner.twice.join("; "));
        Ok(())
    }

    /// Machines that were on a host once and are on none now.
    pub(super) fn on_no_host(&self) -> Vec<DomainId> {
        self.lock().nowhere.iter().copied().collect()
    }

    /// How many changes of machines were looked at.
    pub(super) fn changes(&self) -> u64 {
        self.lock().changes
    }
}

impl Witness for Census {
    fn stands(&self, host: &HypervisorName, id: DomainId, known: bool, executes: bool) {
        let mut inner = self.lock();
        inner.changes += 1;
        let places = inner.places.entry(id).or_default();
        enter(&mut places.known, host, known);
        enter(&mut places.executes, host, executes);
        let lost = places.known.is_empty();
        let twice = (places.executes.len() > 1).then(|| format!("{:?}", places.executes.iter().map(|h| h.as_str()).collect::<Vec<_>>()));
        if lost {
            inner.nowhere.insert(id);
        } else {
            inner.nowhere.remove(&id);
        }
        if let Some(hosts) = twice.filter(|_| !inner.copied) {
            let at = inner.began.elapsed().as_secs_f64();
            inner.twice.push(format!("{id} on {hosts} after {at:.3} s"));
        }
    }
}
