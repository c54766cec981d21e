//! Machines that the authority has handed to another host while the table still shows them on the one before. Pure.
//!
//! ```text
//!   shown on A --claim by B, epoch + 1--> handed to B --B tells of it with that epoch--> shown on B
//! ```
//! From the claim on A is not heard about it any more: that it stopped there, or is undefined there, is how a move ends and no
//! news of the machine. It is shown as A told it last until B speaks, so that its presence never blinks.

use archipel_contract::{DomainId, EntityId, Epoch, HypervisorName, Ownership};
use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct Handed(HashMap<DomainId, (Epoch, HypervisorName)>);

fn domain(id: &EntityId) -> Option<&DomainId> {
    if let EntityId::Domain(id) = id { Some(id) } else { None }
}

impl Handed {
    pub(super) fn note(&mut self, after: &Ownership) {
        self.0.insert(after.domain, (after.epoch, after.owner.clone()));
    }

    /// To whom it was handed, when it is somebody with a higher epoch than the one who speaks has.
    pub(super) fn beyond(&self, id: &EntityId, epoch: Epoch) -> Option<&HypervisorName> {
        self.0.get(domain(id)?).filter(|(handed, _)| *handed > epoch).map(|(_, to)| to)
    }

    /// To whom it was handed, who has not spoken of it yet.
    pub(super) fn to(&self, id: &EntityId) -> Option<&HypervisorName> {
        self.0.get(domain(id)?).map(|(_, to)| to)
    }

    /// What was handed to this host, which has not spoken of it yet.
    pub(super) fn waiting(&self, host: &HypervisorName) -> impl Iterator<Item = EntityId> {
        self.0.iter().filter(move |(_, (_, to))| to == host).map(|(id, _)| EntityId::Domain(*id))
    }

    /// It was told of with this epoch.
    pub(super) fn told(&mut self, id: &EntityId, epoch: Epoch) {
        if let Some(id) = domain(id)
            && self.0.get(id).is_some_and(|(handed, _)| *handed <= epoch)
        {
            self.0.remove(id);
        }
    }

    /// It is gone.
    pub(super) fn forget(&mut self, id: &EntityId) {
        if let Some(id) = domain(id) {
            self.0.remove(id);
        }
    }
}
