//! One move of one machine, as the host it is on drives it: a pure machine. Input and state give the next state and what to do;
//! nothing here waits, asks or knows the time.
//!
//! ```text
//!   reserving --> departing --> disarming --> transferring --> asking --> handing over --> releasing --> ended: moved
//!       |             |             |               (off: straight on)|  ^      |  target silent, or not there yet
//!       |             |             |                                 |  +------+  pauses of 1 to 30 s
//!       |             |             |                                 |--> reattaching   libvirt goes on by itself: wait for its end
//!       |             |             |                                 |--> recovering    post-copy broke and the target executes it
//!       |   refused, cancelled, interrupted                           | the guest is here, or nowhere
//!       +-------------+-------------+--------> undoing <--------------+
//!                                                 |--> clearing --> ended: stayed, or lost
//!                                                 +--> asking     the target has claimed it: too late to stay
//! ```
//! The rules it keeps, whatever is lost, repeated, or comes late:
//! - Every state is stored before what it says is done, and everything it says may be done twice.
//! - What libvirt answers to a transfer says nothing about where the guest is; how the machine stands is read afterwards, always.
//! - Nothing is ever started here. What is not known waits.
//! - Of staying and handing over the authority allows one: after `stay` the target cannot claim, after the claim nobody can stay.
//! - The definition here is discarded only when the target has claimed the machine and has it.
//!
//! There is one question under way at a time; whoever drives this drops the answer to a question that is not asked any more.

mod rules;
#[cfg(test)]
mod tests;

use archipel_contract::{DomainId, Epoch, Fault, FaultKind, HypervisorName, Millis, MoveId, Ownership, migration::Standing};
use serde::{Deserialize, Serialize};

/// Where a move stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// The target is asked for a place.
    Reserving,
    /// The authority is told that it moves; from here on nobody may start it.
    Departing,
    /// It shall not start with this host any more: a reboot must not start a stale copy.
    Disarming,
    /// libvirt moves it.
    Transferring,
    /// Where is it? First this host's libvirt is asked, then, knowing that, the target's.
    Asking {
        /// How it stands here, once that is known.
        own: Option<Standing>,
    },
    /// A transfer that somebody else waits for, or an earlier life of ours, goes on; its end is awaited.
    Reattaching,
    /// Post-copy broke and the target executes the guest: the rest of its memory is sent once more.
    Recovering,
    /// It is not here any more: the target shall claim it.
    HandingOver {
        /// The target did not say that it has; the authority is asked whether it has claimed it.
        look: bool,
    },
    /// The target has claimed it: what is left of it here goes.
    Releasing,
    /// It stays here, or was lost: what was prepared is taken back.
    Undoing {
        /// What is being taken back.
        undo: Undo,
        /// How it will have ended.
        end: End,
    },
    /// It has ended for everybody; only the place held at the target is still to be given back.
    Clearing {
        /// How it ended.
        end: End,
    },
    /// It has ended.
    Ended {
        /// How.
        end: End,
    },
}

/// What is being taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// That the authority says it moves.
    Stay,
    /// The authority did not let it stay: why not.
    Look,
    /// That it does not start with this host.
    Rearm,
}

/// How a move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The target has it.
    Moved,
    /// It is where it was.
    Stayed,
    /// Its guest ended on the way. The definition is still here, and nobody started anything.
    Lost,
}

/// The answer to something that was to be done. A fault never means that it was not done.
pub type Answer<T = ()> = Result<T, Fault>;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// To [`Output::Reserve`].
    Reserved(Answer),
    /// To [`Output::Depart`].
    Departed(Answer),
    /// To [`Output::Disarm`].
    Disarmed(Answer),
    /// To [`Output::Transfer`].
    Transferred(Answer),
    /// To [`Output::AskOwn`].
    Own(Answer<Standing>),
    /// To [`Output::AskTarget`].
    Theirs(Answer<Standing>),
    /// To [`Output::AwaitJob`].
    JobEnded,
    /// To [`Output::Recover`].
    Recovered(Answer),
    /// To [`Output::Receive`].
    Received(Answer),
    /// To [`Output::LookAtAuthority`].
    Authority(Answer<Option<Ownership>>),
    /// To [`Output::Discard`].
    Discarded(Answer),
    /// To [`Output::Stay`].
    Stayed(Answer),
    /// To [`Output::Rearm`].
    Rearmed(Answer),
    /// To [`Output::Unreserve`].
    Unreserved(Answer),
    /// To [`Output::Rest`].
    Rested,
    /// The target says, unasked, that it has claimed the machine (`hypervisor.release`).
    Claimed,
    /// Somebody wants it to stay.
    Cancel,
    /// This state was read from the disk; whatever was under way is not any more, or nobody waits for it.
    Restarted,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Output {
    /// Ask the target for a place (`hypervisor.reserve`).
    Reserve,
    /// `OwnershipStep::Depart` at the authority, at the epoch of the move.
    Depart,
    /// Let it not start with this host.
    Disarm,
    /// Let libvirt move it, and say when that has ended.
    Transfer,
    /// Read how it stands with this host's libvirt.
    AskOwn,
    /// Ask how it stands with the target's libvirt (`hypervisor.standing`).
    AskTarget,
    /// Wait until no transfer of it is under way here.
    AwaitJob,
    /// Send what is left of its memory once more.
    Recover,
    /// Let the target claim it (`hypervisor.receive`), for a machine that is off with its definition.
    Receive,
    /// Read its ownership.
    LookAtAuthority,
    /// Forget its definition here.
    Discard,
    /// `OwnershipStep::Stay` at the authority, at the epoch of the move.
    Stay,
    /// Let it start with this host again.
    Rearm,
    /// Give the place back (`hypervisor.unreserve`).
    Unreserve,
    /// Wait that long.
    Rest(Millis),
    /// Ask libvirt to give the transfer up; its answer is no input.
    Abort,
    /// Tell who asked to cancel that it is too late.
    Refuse(Fault),
    /// It has ended for everybody; this is told once.
    Tell(End),
}

/// One move.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Saga {
    /// Which one.
    pub id: MoveId,
    /// The machine.
    pub domain: DomainId,
    /// The host it is on.
    pub from: HypervisorName,
    /// The host it goes to.
    pub to: HypervisorName,
    /// Its epoch at the source.
    pub epoch: Epoch,
    /// It was off when the move began: only its definition travels.
    pub off: bool,
    /// It started with this host.
    pub autostart: bool,
    /// It stood still by somebody's wish when the move began, and so it does wherever its guest is.
    #[serde(default)]
    pub paused: bool,
    /// Where the move stands.
    #[serde(flatten)]
    pub step: Step,
    /// The target was seen executing the guest: only then may a broken post-copy be taken up again.
    pub seen: bool,
    /// The target has claimed it, so it can never stay.
    pub claimed: bool,
    /// Somebody wanted it to stay.
    pub cancelled: bool,
    /// What went wrong, if something did.
    pub fault: Option<Fault>,
    /// What it waits for now, if it waits.
    pub hindrance: Option<Fault>,
    /// How many pauses it has made in a row, as far as that matters.
    pub tries: u8,
    /// It pauses before it does the same again.
    pub resting: bool,
}

/// The pauses between tries, in seconds.
const PAUSES: [u64; 6] = [1, 2, 4, 8, 16, 30];

impl Saga {
    /// A move that is about to begin.
    pub fn new(id: MoveId, domain: DomainId, from: HypervisorName, to: HypervisorName, epoch: Epoch, off: bool, autostart: bool) -> Saga {
        Saga {
            id,
            domain,
            from,
            to,
            epoch,
            off,
            autostart,
            paused: false,
            step: Step::Reserving,
            seen: false,
            claimed: false,
            cancelled: false,
            fault: None,
            hindrance: None,
            tries: 0,
            resting: false,
        }
    }

    /// What is to be done in this state; `None` when it has ended.
    pub fn work(&self) -> Option<Output> {
        if self.resting {
            let last = PAUSES.len() - 1;
            return Some(Output::Rest(Millis::seconds(PAUSES[usize::from(self.tries.saturating_sub(1)).min(last)])));
        }
        Some(match &self.step {
            Step::Reserving => Output::Reserve,
            Step::Departing => Output::Depart,
            Step::Disarming => Output::Disarm,
            Step::Transferring => Output::Transfer,
            Step::Asking { own: None } => Output::AskOwn,
            Step::Asking { own: Some(_) } => Output::AskTarget,
            Step::Reattaching => Output::AwaitJob,
            Step::Recovering => Output::Recover,
            Step::HandingOver { look: false } => Output::Receive,
            Step::HandingOver { look: true } | Step::Undoing { undo: Undo::Look, .. } => Output::LookAtAuthority,
            Step::Releasing => Output::Discard,
            Step::Undoing { undo: Undo::Stay, .. } => Output::Stay,
            Step::Undoing { undo: Undo::Rearm, .. } => Output::Rearm,
            Step::Clearing { .. } => Output::Unreserve,
            Step::Ended { .. } => return None,
        })
    }

    /// How it ended for everybody, if it has: nothing of the machine is touched any more.
    pub fn end(&self) -> Option<End> {
        match self.step {
            Step::Clearing { end } | Step::Ended { end } => Some(end),
            _ => None,
        }
    }

    /// Whether nothing is left to be done.
    pub fn is_over(&self) -> bool {
        matches!(self.step, Step::Ended { .. })
    }

    /// Whether a transfer may be under way in libvirt.
    pub fn transfers(&self) -> bool {
        matches!(self.step, Step::Transferring | Step::Reattaching | Step::Recovering)
    }

    /// Whether the authority says that the target claimed it under this move.
    ///
    /// An ownership that says `moving` under this move leaves that state by staying, which the source alone does, or by the claim, so a
    /// higher epoch elsewhere means the claim, even when the machine has moved on since. (It cannot have come back: a host takes no
    /// machine that it is still moving away.)
    pub fn is_claimed_by(&self, now: &Ownership) -> bool {
        now.domain == self.domain && now.epoch > self.epoch && now.owner != self.from
    }

    /// The next state, and what to do. An input that does not fit the state changes nothing.
    pub fn step(&self, input: Input) -> (Saga, Vec<Output>) {
        if input == Input::Cancel {
            return self.cancel();
        }
        let again = input == Input::Restarted;
        let next = self.next(input);
        let mut outputs = Vec::new();
        if next.end().is_some() && self.end().is_none() {
            outputs.extend(next.end().map(Output::Tell));
        }
        if again || (&next.step, next.resting) != (&self.step, self.resting) {
            outputs.extend(next.work());
        }
        (next, outputs)
    }

    fn cancel(&self) -> (Saga, Vec<Output>) {
        let refuse = |why: &str| (self.clone(), vec![Output::Refuse(Fault::new(FaultKind::WrongState, why.to_owned()))]);
        match &self.step {
            _ if self.claimed => refuse("it has been handed over; move it back instead"),
            // Nothing was moved yet; of a machine that is off nothing but the claim counts, and the authority allows one of both.
            Step::Reserving | Step::Departing | Step::Disarming => self.called_off(),
            Step::Asking { .. } | Step::HandingOver { .. } if self.off => self.called_off(),
            Step::Transferring | Step::Reattaching => (Saga { cancelled: true, ..self.clone() }, vec![Output::Abort]),
            Step::Undoing { .. } | Step::Clearing { .. } => refuse("it is being taken back already; wait until it ends"),
            Step::Ended { .. } => refuse("it has ended already"),
            Step::Asking { .. } | Step::HandingOver { .. } | Step::Recovering | Step::Releasing => {
                refuse("it has been handed over, or may have been; wait until it ends")
            }
        }
    }

    fn called_off(&self) -> (Saga, Vec<Output>) {
        let next = Saga { cancelled: true, ..self.clone() }.undo(End::Stayed, Some(cancelled()));
        let work = next.work().into_iter().collect();
        (next, work)
    }
}

fn cancelled() -> Fault {
    Fault::new(FaultKind::WrongState, "it was cancelled; the machine is where it was")
}
