//! Who may run a machine. The right to run is a value that only the owner can hold, and starting a domain consumes it.

use crate::{DomainId, Fault, FaultKind, HypervisorName, MoveId};
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

/// How the owner holds a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "hold")]
pub enum Hold {
    /// It is the owner's: the only state with a right to run.
    #[default]
    Owned,
    /// The owner moves it to another host, which alone may claim it. Nobody may start it meanwhile.
    Moving {
        /// The move.
        saga: MoveId,
        /// Whither.
        to: HypervisorName,
    },
    /// It is on no host: its definition lies in the cell's documents. `owner` is where it was last.
    Parked,
}

/// What the authority knows about one machine.
///
/// ```text
///                    depart(saga, to)                 claim(saga, by = to): epoch + 1, owner = to
///   (nobody) -claim_unowned-> owned ---------> moving ----------------------------------> owned
///                              ^  | ^           | stay(saga): the target never had it
///                              |  | +-----------+
///                              |  +-- park --> parked -- unpark(by): epoch + 1, owner = by --> owned
///                              +------------------------------------------------------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ownership {
    /// The machine.
    pub domain: DomainId,
    /// The fencing number of this ownership.
    pub epoch: Epoch,
    /// The hypervisor that holds it.
    pub owner: HypervisorName,
    /// How it holds it.
    #[serde(flatten, default)]
    pub hold: Hold,
}

/// One change of an ownership. Whoever asks is `by`; the authority checks that, and that the epoch is still the expected one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum OwnershipStep {
    /// The owner begins to move it.
    Depart {
        /// The owner.
        by: HypervisorName,
        /// The move.
        saga: MoveId,
        /// Whither.
        to: HypervisorName,
    },
    /// The owner gives the move up: the target does not have it and never will under this saga.
    Stay {
        /// The owner.
        by: HypervisorName,
        /// The move.
        saga: MoveId,
    },
    /// The target has it, running or defined.
    Claim {
        /// The target.
        by: HypervisorName,
        /// The move.
        saga: MoveId,
    },
    /// The owner lays it on the shelf; its definition was written to the cell's documents before.
    Park {
        /// The owner.
        by: HypervisorName,
    },
    /// A host takes it from the shelf. Of two that try, one finds the epoch changed.
    Unpark {
        /// The new owner.
        by: HypervisorName,
    },
}

impl OwnershipStep {
    /// The host that asks for it.
    pub fn by(&self) -> &HypervisorName {
        match self {
            OwnershipStep::Depart { by, .. }
            | OwnershipStep::Stay { by, .. }
            | OwnershipStep::Claim { by, .. }
            | OwnershipStep::Park { by }
            | OwnershipStep::Unpark { by } => by,
        }
    }
}

/// The right to run one machine once, in one epoch. It cannot be built except from an [`Ownership`] by its owner, cannot
/// be copied, and [`crate::domain::DomainPort::start`] consumes it.
#[derive(Debug)]
pub struct RightToRun {
    domain: DomainId,
    epoch: Epoch,
}

impl Ownership {
    /// A machine just claimed.
    pub fn owned(domain: DomainId, epoch: Epoch, owner: HypervisorName) -> Ownership {
        Ownership { domain, epoch, owner, hold: Hold::Owned }
    }

    /// The right to run, if `me` is the owner and holds it for itself.
    pub fn right_to_run(&self, me: &HypervisorName) -> Option<RightToRun> {
        (self.owner == *me && self.hold == Hold::Owned).then_some(RightToRun { domain: self.domain, epoch: self.epoch })
    }

    /// Whether it may be forgotten at `expected`: a machine that moves or lies on the shelf is not gone, whatever a host does not
    /// see any more. The rule of every authority, like [`Ownership::step`].
    pub fn check_forget(&self, expected: Epoch) -> Result<(), Fault> {
        let conflict = |why: String| Err(Fault::new(FaultKind::Conflict, format!("{} is not forgotten: {why}", self.domain)));
        match &self.hold {
            _ if self.epoch != expected => {
                conflict(format!("it is at epoch {} on {} and not at {}; look at it again", self.epoch.0, self.owner, expected.0))
            }
            Hold::Owned => Ok(()),
            Hold::Moving { to, .. } => conflict(format!("it is being moved to {to}; end the move first")),
            Hold::Parked => conflict("it is parked; take it from the shelf first".to_owned()),
        }
    }

    /// What it is after a step taken at `expected`; `conflict` with the reason when it may not be taken. This is the whole rule:
    /// every authority stores what this answers and decides nothing itself.
    pub fn step(&self, expected: Epoch, step: &OwnershipStep) -> Result<Ownership, Fault> {
        let conflict = |why: String| Err(Fault::new(FaultKind::Conflict, format!("{}: {why}; look at it again", self.domain)));
        if self.epoch != expected {
            return conflict(format!("it is at epoch {} on {} and not at {}", self.epoch.0, self.owner, expected.0));
        }
        let mine = |by: &HypervisorName| *by == self.owner;
        let next = |owner: &HypervisorName| Ownership::owned(self.domain, Epoch(self.epoch.0 + 1), owner.clone());
        match (step, &self.hold) {
            // Asked again after the answer was lost: it stands already.
            (OwnershipStep::Depart { by, saga, to }, Hold::Moving { saga: s, to: t }) if mine(by) && saga == s && to == t => {
                Ok(self.clone())
            }
            (OwnershipStep::Depart { by, saga, to }, Hold::Owned) if mine(by) && by != to => {
                Ok(Ownership { hold: Hold::Moving { saga: *saga, to: to.clone() }, ..self.clone() })
            }
            (OwnershipStep::Stay { by, saga }, Hold::Moving { saga: s, .. }) if mine(by) && saga == s => {
                Ok(Ownership { hold: Hold::Owned, ..self.clone() })
            }
            (OwnershipStep::Stay { by, .. }, Hold::Owned) if mine(by) => Ok(self.clone()),
            (OwnershipStep::Claim { by, saga }, Hold::Moving { saga: s, to }) if by == to && saga == s => Ok(next(by)),
            (OwnershipStep::Park { by }, Hold::Owned) if mine(by) => Ok(Ownership { hold: Hold::Parked, ..self.clone() }),
            (OwnershipStep::Park { by }, Hold::Parked) if mine(by) => Ok(self.clone()),
            (OwnershipStep::Unpark { by }, Hold::Parked) => Ok(next(by)),
            (step, Hold::Moving { to, .. }) => {
                conflict(format!("{} is moving it to {to}, so {} may not touch it now", self.owner, step.by()))
            }
            (step, Hold::Parked) => conflict(format!("it is parked, so {} must take it from the shelf first", step.by())),
            (step, Hold::Owned) => conflict(format!("{} owns it and {} does not move it", self.owner, step.by())),
        }
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

    fn name(s: &str) -> HypervisorName {
        s.parse().unwrap()
    }

    fn held(hold: Hold) -> Ownership {
        Ownership { domain: DomainId(uuid::Uuid::nil()), epoch: Epoch(3), owner: name("a"), hold }
    }

    fn saga(n: u128) -> MoveId {
        MoveId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn only_the_owner_gets_the_right_to_run() {
        let own = held(Hold::Owned);
        assert_eq!(own.right_to_run(&name("a")).map(|r| r.epoch()), Some(Epoch(3)));
        assert!(own.right_to_run(&name("b")).is_none());
    }

    #[test]
    fn nobody_may_run_what_moves_or_is_parked() {
        for hold in [Hold::Parked, Hold::Moving { saga: saga(1), to: name("b") }] {
            for who in ["a", "b"] {
                assert!(held(hold.clone()).right_to_run(&name(who)).is_none(), "{hold:?} {who}");
            }
        }
    }

    #[test]
    fn a_move_is_claimed_by_its_target_alone_and_once() {
        let depart = OwnershipStep::Depart { by: name("a"), saga: saga(1), to: name("b") };
        let moving = held(Hold::Owned).step(Epoch(3), &depart).unwrap();
        assert_eq!(moving.step(Epoch(3), &depart).unwrap(), moving, "asked again, it stands already");
        for (by, s) in [("c", 1), ("b", 2), ("a", 1)] {
            let claim = OwnershipStep::Claim { by: name(by), saga: saga(s) };
            assert_eq!(moving.step(Epoch(3), &claim).unwrap_err().kind, FaultKind::Conflict, "{by} {s}");
        }
        let claim = OwnershipStep::Claim { by: name("b"), saga: saga(1) };
        let moved = moving.step(Epoch(3), &claim).unwrap();
        assert_eq!((moved.epoch, moved.owner.as_str(), &moved.hold), (Epoch(4), "b", &Hold::Owned));
        assert!(moved.step(Epoch(3), &claim).is_err());
        assert!(moved.step(Epoch(4), &OwnershipStep::Stay { by: name("a"), saga: saga(1) }).is_err(), "too late to stay");
    }

    #[test]
    fn after_staying_the_target_may_not_claim() {
        let moving = held(Hold::Moving { saga: saga(1), to: name("b") });
        let stayed = moving.step(Epoch(3), &OwnershipStep::Stay { by: name("a"), saga: saga(1) }).unwrap();
        assert!(stayed.right_to_run(&name("a")).is_some());
        assert!(stayed.step(Epoch(3), &OwnershipStep::Claim { by: name("b"), saga: saga(1) }).is_err());
    }

    #[test]
    fn of_two_that_unpark_one_finds_the_epoch_changed() {
        let parked = held(Hold::Owned).step(Epoch(3), &OwnershipStep::Park { by: name("a") }).unwrap();
        let first = parked.step(Epoch(3), &OwnershipStep::Unpark { by: name("b") }).unwrap();
        assert_eq!(first.owner, name("b"));
        assert!(first.step(Epoch(3), &OwnershipStep::Unpark { by: name("c") }).is_err());
    }

    #[test]
    fn what_moves_is_neither_parked_nor_moved_elsewhere() {
        let moving = held(Hold::Moving { saga: saga(1), to: name("b") });
        assert!(moving.step(Epoch(3), &OwnershipStep::Park { by: name("a") }).is_err());
        assert!(moving.step(Epoch(3), &OwnershipStep::Depart { by: name("a"), saga: saga(2), to: name("c") }).is_err());
        let itself = OwnershipStep::Depart { by: name("a"), saga: saga(1), to: name("a") };
        assert!(held(Hold::Owned).step(Epoch(3), &itself).is_err());
    }
}
