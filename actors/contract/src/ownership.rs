//! Who may run a machine. The right to run is a value that only the owner can hold, and starting a domain consumes it.

use crate::{DomainId, HypervisorName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fencing number: it grows by one with every change of owner. Whoever acts with a lower one is stale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The number of an event within one epoch of one entity. A hole means that something was missed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The next number.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

/// What the authority knows about one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// The machine.
    pub domain: DomainId,
    /// The fencing number of this ownership.
    pub epoch: Epoch,
    /// The hypervisor that holds it.
    pub owner: HypervisorName,
}

/// The right to run one machine once, in one epoch. It cannot be built except from an [`Ownership`] by its owner, cannot
/// be copied, and [`crate::domain::DomainPort::start`] consumes it.
#[derive(Debug)]
pub struct RightToRun {
    domain: DomainId,
    epoch: Epoch,
}

impl Ownership {
    /// The right to run, if `me` is the owner.
    pub fn right_to_run(&self, me: &HypervisorName) -> Option<RightToRun> {
        (self.owner == *me).then_some(RightToRun { domain: self.domain, epoch: self.epoch })
    }
}

impl RightToRun {
    /// The machine it is for.
    pub fn domain(&self) -> DomainId {
        self.domain
    }
    /// The epoch it is for.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_gets_the_right_to_run() {
        let own = Ownership { domain: DomainId(uuid::Uuid::nil()), epoch: Epoch(3), owner: "a".parse().unwrap() };
        assert_eq!(own.right_to_run(&"a".parse().unwrap()).map(|r| r.epoch()), Some(Epoch(3)));
        assert!(own.right_to_run(&"b".parse().unwrap()).is_none());
    }
}
