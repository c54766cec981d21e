//! The machines of a fake, and whoever is told after every change where each of them is known and executes.

use super::host::{FakeHost, Model};
use super::lock;
use crate::{
    DomainId, HypervisorName,
    domain::{DomainRecord, DomainState},
};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::task::Waker;

/// Sees every change of the machines of a host, whoever made it and whether anybody was told.
pub trait Witness: Send + Sync {
    /// After a change: whether that host knows the machine now, and whether its guest executes there.
    fn stands(&self, host: &HypervisorName, id: DomainId, known: bool, executes: bool);
}

/// The machines of one host. What may have changed one of them is remembered until the change is over.
#[derive(Default)]
pub(super) struct Population {
    machines: BTreeMap<DomainId, DomainRecord>,
    touched: Vec<DomainId>,
    witness: Option<Arc<dyn Witness>>,
}

impl Deref for Population {
    type Target = BTreeMap<DomainId, DomainRecord>;
    fn deref(&self) -> &Self::Target {
        &self.machines
    }
}

impl Population {
    pub(super) fn insert(&mut self, id: DomainId, record: DomainRecord) -> Option<DomainRecord> {
        self.touched.push(id);
        self.machines.insert(id, record)
    }

    pub(super) fn remove(&mut self, id: &DomainId) -> Option<DomainRecord> {
        self.touched.push(*id);
        self.machines.remove(id)
    }

    pub(super) fn get_mut(&mut self, id: &DomainId) -> Option<&mut DomainRecord> {
        self.touched.push(*id);
        self.machines.get_mut(id)
    }

    /// A change is over: the witness sees what came of it.
    fn settle(&mut self, host: &HypervisorName) {
        let touched = std::mem::take(&mut self.touched);
        let Some(witness) = &self.witness else { return };
        for id in touched {
            let record = self.machines.get(&id);
            witness.stands(host, id, record.is_some(), record.is_some_and(|r| r.facts.state == DomainState::Running));
        }
    }
}

impl FakeHost {
    /// This witness sees every change of a machine here from now on, and what is here already.
    pub fn witness(&self, witness: Arc<dyn Witness>) {
        self.change(|model| {
            model.domains.witness = Some(witness);
            model.domains.touched = model.domains.machines.keys().copied().collect();
        });
    }

    /// Changes the model, shows the witness what came of it, and wakes whoever waited for that.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut Model) -> T) -> T {
        let (done, wakers) = {
            let mut model = lock(&self.model);
            let done = work(&mut model);
            model.domains.settle(&self.name);
            (done, std::mem::take(&mut model.to_wake))
        };
        wakers.into_iter().for_each(Waker::wake);
        done
    }
}
