//! Hosts that boot, and agents that come back.

use super::{FakeHost, lock};
use crate::{DomainId, domain::DomainState};

impl FakeHost {
    /// The host has booted: this is the boot of its kernel now, no guest runs, and libvirt knows of no end of any.
    pub fn boots(&self, boot: &str) {
        self.change(|model| {
            model.kernel = Some(boot.into());
            for id in model.domains.keys().copied().collect::<Vec<_>>() {
                let Some(record) = model.domains.get_mut(&id) else { continue };
                record.facts.state = DomainState::Shutoff;
                record.facts.reason = None;
                if !record.facts.persistent {
                    model.domains.remove(&id);
                }
            }
        });
    }

    /// The next life of an agent that ended in order can connect.
    pub fn reopen(&self) {
        self.change(|model| {
            model.closed = false;
            model.connected = true;
        });
    }

    /// Whether the variables of a machine's firmware are there, though it may be gone.
    pub fn keeps_variables(&self, id: DomainId) -> bool {
        lock(&self.model).variables.contains(&id)
    }
}
