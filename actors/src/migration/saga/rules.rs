//! What each input means in each state. Together with `Saga::cancel` this is the whole rule of a move.

use super::{Answer, End, Input, Saga, Step, Undo, cancelled};
use archipel_contract::{Fault, FaultKind, Ownership, domain::DomainState, migration::Standing};

impl Saga {
    pub(super) fn next(&self, input: Input) -> Saga {
        let saga = self.clone();
        if self.resting {
            return match input {
                Input::Rested => Saga { resting: false, ..saga },
                Input::Claimed => saga.claimed_unasked(),
                Input::Restarted => saga.restarted(),
                _ => saga,
            };
        }
        match (&self.step, input) {
            (_, Input::Restarted) => saga.restarted(),
            (_, Input::Claimed) => saga.claimed_unasked(),
            (Step::Reserving, Input::Reserved(answer)) => saga.prepared(answer, Step::Departing),
            (Step::Departing, Input::Departed(answer)) => {
                let then = if self.autostart { Step::Disarming } else { self.travels() };
                saga.prepared(answer, then)
            }
            (Step::Disarming, Input::Disarmed(answer)) => {
                let then = self.travels();
                saga.prepared(answer, then)
            }
            (Step::Transferring, Input::Transferred(answer)) => {
                let fault = answer.err();
                Saga { fault, ..saga }.at(Step::Asking { own: None })
            }
            (Step::Reattaching, Input::JobEnded) | (Step::Recovering, Input::Recovered(Ok(()))) => saga.at(Step::Asking { own: None }),
            (Step::Recovering, Input::Recovered(Err(fault))) => saga.at(Step::Asking { own: None }).rest(fault),
            (Step::Asking { own: None }, Input::Own(answer)) => saga.stands_here(answer),
            (Step::Asking { own: Some(own) }, Input::Theirs(answer)) => saga.stands_there(*own, answer),
            (Step::HandingOver { look: false }, Input::Received(Ok(()))) => Saga { claimed: true, ..saga }.fresh(Step::Releasing),
            (Step::HandingOver { look: false }, Input::Received(Err(fault))) => {
                Saga { hindrance: Some(fault), ..saga }.at(Step::HandingOver { look: true })
            }
            (Step::HandingOver { look: true }, Input::Authority(answer)) => saga.not_received(answer),
            (Step::Releasing, Input::Discarded(answer)) => saga.discarded(answer),
            (Step::Undoing { undo, end }, input) => saga.undone(*undo, *end, input),
            (Step::Clearing { end }, Input::Unreserved(answer)) => match answer {
                Err(fault) if may_pass(&fault) => saga.rest(fault),
                Ok(()) | Err(_) => saga.fresh(Step::Ended { end: *end }),
            },
            _ => saga,
        }
    }

    fn travels(&self) -> Step {
        if self.off { Step::Asking { own: None } } else { Step::Transferring }
    }

    /// Another step, after as many pauses as there were.
    fn at(self, step: Step) -> Saga {
        Saga { step, resting: false, ..self }
    }

    /// Another step, and what was waited for is over.
    fn fresh(self, step: Step) -> Saga {
        Saga { step, resting: false, tries: 0, hindrance: None, ..self }
    }

    /// The same again, after a pause.
    fn rest(self, why: Fault) -> Saga {
        let tries = (self.tries + 1).min(super::PAUSES.len() as u8);
        Saga { resting: true, tries, hindrance: Some(why), ..self }
    }

    pub(super) fn undo(self, end: End, why: Option<Fault>) -> Saga {
        let fault = why.or_else(|| self.fault.clone());
        Saga { fault, ..self }.fresh(Step::Undoing { undo: Undo::Stay, end })
    }

    fn prepared(self, answer: Answer, then: Step) -> Saga {
        match answer {
            Ok(()) => self.fresh(then),
            Err(fault) => self.undo(End::Stayed, Some(fault)),
        }
    }

    fn restarted(self) -> Saga {
        let interrupted = || Fault::unavailable("it was interrupted by a restart of the agent; the machine is where it was");
        match self.step.clone() {
            Step::Reserving | Step::Departing | Step::Disarming => self.undo(End::Stayed, Some(interrupted())),
            // Where the guest is, libvirt says: a transfer goes on when nobody of ours waits for it.
            Step::Transferring
            | Step::Reattaching
            | Step::Recovering
            | Step::Asking { .. }
            | Step::HandingOver { .. }
            // Long ago, perhaps: whether the target still has it is asked before anything is discarded.
            | Step::Releasing => {
                let fault = self.fault.clone().or_else(|| Some(interrupted()));
                Saga { fault, ..self }.fresh(Step::Asking { own: None })
            }
            Step::Undoing { undo: Undo::Stay | Undo::Look, end } => self.fresh(Step::Undoing { undo: Undo::Stay, end }),
            step @ (Step::Undoing { .. } | Step::Clearing { .. } | Step::Ended { .. }) => self.fresh(step),
        }
    }

    fn claimed_unasked(self) -> Saga {
        let saga = Saga { claimed: true, ..self };
        match saga.step {
            // It is known that it is not here any more; but what the target is to know of it may still be on its way there.
            Step::HandingOver { look: true } => saga.fresh(Step::Releasing),
            Step::Undoing { .. } => saga.fresh(Step::Asking { own: None }),
            // The transfer is about to end here, or the question is under way.
            _ => saga,
        }
    }

    fn stands_here(self, answer: Answer<Standing>) -> Saga {
        let standing = match answer {
            Ok(standing) => standing,
            Err(fault) => return self.rest(fault),
        };
        match standing {
            Standing::Here(_) if self.claimed => {
                self.moved_but("it is claimed by its new host, and libvirt here says that its guest is here")
            }
            Standing::Here(_) if self.off => {
                let why = "it was started while it was moved; the machine is where it was";
                self.undo(End::Stayed, Some(Fault::wrong_state(why)))
            }
            // It stands still, and perhaps because libvirt does not know whether it goes on over there.
            Standing::Here(DomainState::Paused | DomainState::Pmsuspended) => self.at(Step::Asking { own: Some(standing) }),
            Standing::Here(_) => self.stays_here(),
            Standing::Leaving => self.fresh(Step::Reattaching),
            Standing::Arriving => self.rest(Fault::busy("somebody moves it to this host at the same time")),
            Standing::Off(_) | Standing::Departed | Standing::Absent | Standing::Split => self.at(Step::Asking { own: Some(standing) }),
        }
    }

    /// Its guest is here and nowhere else.
    fn stays_here(self) -> Saga {
        let unclear = || Fault::internal("libvirt said that it was moved, and its guest is here; the machine is where it was");
        let fault = if self.cancelled { cancelled() } else { self.fault.clone().unwrap_or_else(unclear) };
        self.undo(End::Stayed, Some(fault))
    }

    fn stands_there(self, own: Standing, answer: Answer<Standing>) -> Saga {
        let again = Step::Asking { own: None };
        let theirs = match answer {
            Ok(standing) => standing,
            Err(fault) => return self.at(again).rest(fault),
        };
        let seen = self.seen || theirs.may_execute();
        let saga = Saga { seen, ..self };
        let to = saga.to.clone();
        match (own, theirs) {
            (Standing::Here(_), Standing::Absent) if !saga.claimed => saga.stays_here(),
            // An old definition over there is no guest. Of one that ran when the move began this would be no proof: it may have gone on
            // over there and ended.
            (Standing::Here(_), Standing::Off(_) | Standing::Departed) if saga.paused && !saga.claimed => saga.stays_here(),
            (Standing::Split, Standing::Here(_) | Standing::Leaving) => saga.at(Step::Recovering),
            (Standing::Split, Standing::Split) if seen => saga.at(Step::Recovering),
            (Standing::Split, Standing::Absent | Standing::Off(_)) if !saga.claimed => saga.undo(
                End::Lost,
                Some(Fault::unavailable(format!(
                    "post-copy broke and {to} has lost its part of the memory, so the guest cannot go on; force it off here and start it"
                ))),
            ),
            (Standing::Split, Standing::Absent | Standing::Off(_)) => {
                saga.moved_but("post-copy broke after its new host had claimed it, and the memory there is lost; force it off here")
            }
            (Standing::Split, _) => saga.at(again).rest(Fault::busy(format!(
                "post-copy broke before {to} was seen executing the guest: nothing is resumed by itself, because it could run twice; mend the \
                 network, or force it off here when {to} does not have it any more"
            ))),
            (_, Standing::Arriving) => saga.at(again).rest(Fault::busy(format!("{to} has not received all of it yet"))),
            (_, Standing::Here(_) | Standing::Leaving | Standing::Off(_) | Standing::Departed | Standing::Split) => {
                saga.at(Step::HandingOver { look: false })
            }
            (Standing::Off(_), Standing::Absent) if saga.off && !saga.claimed => saga.at(Step::HandingOver { look: false }),
            (_, Standing::Absent) if saga.claimed => {
                saga.moved_but("its new host has claimed it and does not have it any more, so its definition was left here")
            }
            (_, Standing::Absent) => {
                let lost = Fault::unavailable(format!(
                    "its guest ended while it was moved: it is neither here nor on {to}; nothing was started, look why and start it"
                ));
                let lost = match &saga.fault {
                    Some(fault) => lost.because(fault.clone()),
                    None => lost,
                };
                saga.undo(End::Lost, Some(lost))
            }
        }
    }

    fn not_received(self, answer: Answer<Option<Ownership>>) -> Saga {
        let again = Step::Asking { own: None };
        let hindrance = self.hindrance.clone().unwrap_or_else(|| Fault::unavailable(format!("{} does not answer", self.to)));
        match answer {
            Ok(Some(now)) if self.is_claimed_by(&now) => Saga { claimed: true, ..self }.fresh(Step::Releasing),
            // Only a definition travels and it cannot be taken there: the authority decides whether it stays.
            Ok(_) if self.off && !may_pass(&hindrance) => self.undo(End::Stayed, Some(hindrance)),
            Ok(_) => self.at(again).rest(hindrance),
            Err(fault) => self.at(again).rest(fault),
        }
    }

    fn discarded(self, answer: Answer) -> Saga {
        match answer {
            Ok(()) => Saga { fault: None, ..self }.fresh(Step::Ended { end: End::Moved }),
            Err(fault) if fault.kind == FaultKind::WrongState => {
                self.moved_but("it is claimed by its new host, and a copy of it that stands still, or that somebody started, is still here")
            }
            Err(fault) => self.rest(fault),
        }
    }

    /// The target has it and so it is moved, but something here must be looked at by a person.
    fn moved_but(self, what: &str) -> Saga {
        let fault = Some(Fault::new(FaultKind::Conflict, format!("{what}; look at both hosts, nothing is repaired by itself")));
        Saga { fault, ..self }.fresh(Step::Ended { end: End::Moved })
    }

    fn undone(self, undo: Undo, end: End, input: Input) -> Saga {
        let next = |undo| Step::Undoing { undo, end };
        let stayed = if self.autostart { next(Undo::Rearm) } else { Step::Clearing { end } };
        match (undo, input) {
            (Undo::Stay, Input::Stayed(answer)) => match answer {
                Ok(()) => self.fresh(stayed),
                // Nobody owns it: it was undefined with other tools. What is listed next decides.
                Err(fault) if fault.kind == FaultKind::NotFound => self.fresh(stayed),
                Err(fault) if fault.kind == FaultKind::Conflict => self.at(next(Undo::Look)),
                Err(fault) => self.rest(fault),
            },
            (Undo::Look, Input::Authority(answer)) => match answer {
                Ok(Some(now)) if self.is_claimed_by(&now) => Saga { claimed: true, ..self }.fresh(Step::Asking { own: None }),
                Ok(_) => self.fresh(stayed),
                Err(fault) => self.at(next(Undo::Stay)).rest(fault),
            },
            (Undo::Rearm, Input::Rearmed(answer)) => match answer {
                Err(fault) if may_pass(&fault) => self.rest(fault),
                // It is gone, or has no definition that could start.
                Ok(()) | Err(_) => self.fresh(Step::Clearing { end }),
            },
            _ => self,
        }
    }
}

/// Whether the same may go well a little later. Whoever answers anything else has understood and will not.
fn may_pass(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Unavailable | FaultKind::Timeout | FaultKind::Busy | FaultKind::Internal)
}
