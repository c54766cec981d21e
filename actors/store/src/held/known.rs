//! What an agent knows of one machine, and how that changes. Pure: no disk, no cell, no time.
//!
//! ```text
//!                  the cell says: owned by us                    step away (depart, park): before the cell is asked
//!   nothing here ------------------------------> right to run ------------------------------> no right, held
//!      ^  ^                                        |       ^                                      |
//!      |  |   the cell says: higher epoch, or not ours     +---- the cell confirmed that it stays, <---+
//!      |  +----------------------------------------+             or says: ours at a higher epoch
//!      |                                           |
//!      +--- the cell has forgotten it --- leaving <+ forget: before the cell is asked
//! ```
//! The right is given up before the cell hears of it and taken only when the cell has said so. What the cell merely *reads* does not
//! bring a right back that was given up in the same epoch: the step may still be on its way.

use archipel_contract::{DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, MoveId, Ownership, OwnershipStep};
use std::collections::BTreeSet;

/// The hypervisors of this agent.
pub(crate) type Ours = BTreeSet<HypervisorName>;

/// What is known of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Known {
    pub(crate) domain: DomainId,
    /// How often this was changed. 0: nothing was ever written.
    pub(crate) turn: u64,
    /// The highest epoch ever seen; that of `held` if there is one.
    pub(crate) highest: Epoch,
    /// How one of ours holds it.
    pub(crate) held: Option<Ownership>,
    /// The cell was asked to forget it and has not said what became of that.
    pub(crate) leaving: bool,
}

impl Known {
    pub(crate) fn nothing(domain: DomainId) -> Known {
        Known { domain, turn: 0, highest: Epoch(0), held: None, leaving: false }
    }

    /// The record that gives the right to run, if there is one.
    pub(crate) fn right(&self) -> Option<&Ownership> {
        self.held.as_ref().filter(|held| held.hold == Hold::Owned && !self.leaving)
    }

    /// Refuses what belongs to an epoch that is over.
    pub(crate) fn admits(&self, epoch: Epoch) -> Result<(), Fault> {
        if epoch >= self.highest {
            return Ok(());
        }
        let message = format!("{}: epoch {} is over, this host has seen {}; look at it again", self.domain, epoch.0, self.highest.0);
        Err(Fault::new(FaultKind::Conflict, message))
    }

    fn let_go(&self, highest: Epoch) -> Known {
        Known { highest, held: None, leaving: false, ..self.clone() }
    }

    fn take(&self, said: &Ownership) -> Known {
        Known { highest: said.epoch, held: Some(said.clone()), leaving: false, ..self.clone() }
    }

    /// What is known after the cell said how the machine stands, if nothing changed here since it was asked.
    pub(crate) fn hear(&self, said: Option<&Ownership>, ours: &Ours) -> Known {
        let Some(said) = said else { return self.let_go(self.highest) };
        let same = said.epoch == self.highest;
        let without_right = self.held.as_ref().is_some_and(|h| h.hold != Hold::Owned && h.owner == said.owner);
        match () {
            () if said.epoch < self.highest => self.clone(),
            () if !ours.contains(&said.owner) => self.let_go(said.epoch),
            () if same && self.leaving => self.clone(),
            () if same && without_right && said.hold == Hold::Owned => self.clone(),
            () => self.take(said),
        }
    }

    /// What is known before the cell is asked for a step that gives the right away.
    pub(crate) fn step_away(&self, expected: Epoch, step: &OwnershipStep) -> Result<Known, Fault> {
        match &self.held {
            Some(held) if !self.leaving => Ok(Known { held: Some(held.step(expected, step)?), ..self.clone() }),
            _ => Err(Fault::not_found(format!("no hypervisor of this host holds {}; claim it first", self.domain))),
        }
    }

    /// What is known after the cell confirmed that the move `saga` is given up: the one thing that brings a right back.
    pub(crate) fn stayed(&self, said: &Ownership, saga: MoveId, ours: &Ours) -> Known {
        let given_up = match &self.held {
            Some(Ownership { epoch, owner, hold: Hold::Moving { saga: moving, .. }, .. }) => {
                *moving == saga && *epoch == said.epoch && *owner == said.owner && said.hold == Hold::Owned && !self.leaving
            }
            _ => false,
        };
        if given_up { self.take(said) } else { self.hear(Some(said), ours) }
    }

    /// What is known before the cell is asked to forget the machine.
    pub(crate) fn leave(&self) -> Known {
        Known { held: None, leaving: true, ..self.clone() }
    }

    /// How the machine stands for whoever asks here, after the cell said `said` and it was taken into account. That it is ours is
    /// answered from here alone.
    pub(crate) fn seen(&self, said: Option<Ownership>, ours: &Ours) -> Option<Ownership> {
        match said {
            Some(said) if !ours.contains(&said.owner) => Some(said),
            Some(_) => self.held.clone(),
            None => None,
        }
    }
}
