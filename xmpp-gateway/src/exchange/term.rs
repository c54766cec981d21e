//! The term of an exchange that may have to share the cell with others: when it asks to lead, when it serves, when it refuses
//! changes, and when it steps down. Pure: no I/O, no clock; whoever drives it tells it the (monotonic) time.
//!
//! ```text
//!              vacant, or long enough                granted(epoch)
//!   waiting ----------------------------> asking ----------------------> leading <---------------+
//!      ^                                  |  ^  |                          |  |  | renew at 1/3   |
//!      +------------- refused ------------+  |  +-- unreachable            |  |  +--- granted ----+
//!      |                                     |            v                |  |    (the same epoch)
//!      |                                     +-- later - resting           |  | now >= until - margin
//!      |                                                                   |  v
//!      +<-- step down: refused, or granted another epoch (served next) -- frozen: no change is taken
//! ```
//! A lease is no mutual exclusion: its holder may sleep and wake up believing in it. Three things make that harmless.
//! 1. The lease counts from when it was *asked for*, by the holder's own clock, so that the holder stops believing first.
//! 2. Every change is allowed by a look at that clock ([`super::proof::Proof`]) and not by what this machine was told last: it holds for a process
//!    that has just been woken up, before it has understood anything.
//! 3. What passes nevertheless carries the epoch, and agents refuse a lower one than the highest they ever saw.

use archipel_contract::{Epoch, Millis};

/// How often the cell's authority began anew is the upper half of an exchange's epoch: 0 is one exchange alone, which keeps its own
/// authority; a cluster is above it, and above every cluster that went before.
const REIGN_BITS: u32 = 32;

/// The epoch that agents are told.
pub fn in_reign(reign: u32, epoch: Epoch) -> Epoch {
    Epoch((u64::from(reign) << REIGN_BITS) + epoch.0)
}

/// The reign of an epoch that agents are told.
pub fn reign(epoch: Epoch) -> u64 {
    epoch.0 >> REIGN_BITS
}

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules {
    /// What is asked for.
    pub lease: Millis,
    /// How much earlier than the authority the holder stops believing: clocks do not run equally fast.
    pub margin: Millis,
}

impl Rules {
    /// A margin of a tenth.
    pub fn of(lease: Millis) -> Rules {
        Rules { lease, margin: Millis((lease.0 / 10).max(1)) }
    }

    /// A lease is renewed after a third of it, so that one lost renewal costs nothing.
    pub fn renewal(self) -> Millis {
        Millis((self.lease.0 / 3).max(1))
    }

    /// The rest after the authority could not be reached, and the least time between two questions.
    pub fn rest(self) -> Millis {
        Millis((self.lease.0 / 12).max(1))
    }

    /// After so long somebody who waits asks anyway: a notice of the vacancy may have been lost.
    pub fn patience(self) -> Millis {
        Millis(self.lease.0 * 4)
    }

    fn proven(self, asked: Millis) -> Millis {
        Millis(asked.0 + self.lease.0.saturating_sub(self.margin.0))
    }
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// The authority lets us lead.
    Granted(Epoch),
    /// The authority says that another leads.
    Refused,
    /// The authority did not answer, or the wait for a vacancy broke off.
    Unreachable,
    /// Nobody may be leading.
    Vacant,
    /// Time has passed.
    Awake,
}

/// Why a term ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The lease had run out and another leads.
    Succeeded,
    /// The lease had run out and a new term begins with another epoch.
    Interrupted,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// Ask the authority to lead; exactly one of granted, refused and unreachable must follow.
    Ask,
    /// Wait for a vacancy; vacant or unreachable may follow.
    AwaitVacancy,
    /// Begin to serve in this epoch, with changes allowed until then.
    Serve(Epoch, Millis),
    /// Changes are allowed until then.
    Prove(Millis),
    /// From now on changes are refused. The gate is [`super::proof::Proof`]; this is for the log.
    Freeze,
    /// They are allowed again.
    Thaw,
    /// End all streams and forget everything.
    StepDown(Why),
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stand {
    Waiting { since: Millis },
    Asking { asked: Millis },
    Resting { until: Millis },
    Leading { epoch: Epoch, until: Millis, next: Millis, asked: Option<Millis>, frozen: bool },
}

/// One exchange's view of its own leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Term {
    rules: Rules,
    stand: Stand,
}

impl Term {
    /// Begins by asking.
    pub fn begin(rules: Rules, now: Millis) -> (Term, Vec<Output>) {
        (Term { rules, stand: Stand::Asking { asked: now } }, vec![Output::Ask])
    }

    /// The epoch it leads in.
    pub fn leads(&self) -> Option<Epoch> {
        match self.stand {
            Stand::Leading { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    /// Whether a change may be taken now, and in which epoch.
    pub fn may_change(&self, now: Millis) -> Option<Epoch> {
        match self.stand {
            Stand::Leading { epoch, until, .. } if now < until => Some(epoch),
            _ => None,
        }
    }

    /// When it wants to be told the time.
    pub fn wake(&self) -> Option<Millis> {
        match self.stand {
            Stand::Asking { .. } => None,
            Stand::Waiting { since } => Some(Millis(since.0 + self.rules.patience().0)),
            Stand::Resting { until } => Some(until),
            Stand::Leading { until, next, asked, frozen, .. } => {
                let renewal = asked.is_none().then_some(next);
                let freeze = (!frozen).then_some(until);
                renewal.into_iter().chain(freeze).min()
            }
        }
    }

    /// Takes one input and answers what is to be done. What does not fit where it stands is ignored.
    pub fn on(&mut self, input: Input, now: Millis) -> Vec<Output> {
        let mut out = Vec::new();
        match (self.stand, input) {
            (Stand::Asking { asked }, Input::Granted(epoch)) => self.granted(epoch, asked, now, &mut out),
            (Stand::Asking { .. }, Input::Refused) => self.wait(now, &mut out),
            (Stand::Asking { .. } | Stand::Waiting { .. }, Input::Unreachable) => {
                self.stand = Stand::Resting { until: Millis(now.0 + self.rules.rest().0) };
            }
            // A notice that comes at once may be about what was just refused.
            (Stand::Waiting { since }, Input::Vacant) => {
                let earliest = Millis(since.0 + self.rules.rest().0);
                if now < earliest {
                    self.stand = Stand::Resting { until: earliest };
                } else {
                    self.ask(now, &mut out);
                }
            }
            (Stand::Waiting { since }, Input::Awake) if now.0 >= since.0 + self.rules.patience().0 => self.ask(now, &mut out),
            (Stand::Resting { until }, Input::Awake) if now >= until => self.ask(now, &mut out),
            (Stand::Leading { epoch, asked: Some(asked), frozen, .. }, Input::Granted(granted)) => {
                if granted != epoch {
                    out.push(Output::StepDown(Why::Interrupted));
                    self.granted(granted, asked, now, &mut out);
                } else {
                    let until = self.rules.proven(asked);
                    let next = Millis(asked.0 + self.rules.renewal().0);
                    let still = frozen && now >= until;
                    self.stand = Stand::Leading { epoch, until, next, asked: None, frozen: still };
                    out.push(Output::Prove(until));
                    if frozen && !still {
                        out.push(Output::Thaw);
                    }
                    self.look(now, &mut out);
                }
            }
            (Stand::Leading { asked: Some(_), .. }, Input::Refused) => {
                out.push(Output::StepDown(Why::Succeeded));
                self.wait(now, &mut out);
            }
            (Stand::Leading { epoch, until, asked: Some(_), frozen, .. }, Input::Unreachable) => {
                let next = Millis(now.0 + self.rules.rest().0);
                self.stand = Stand::Leading { epoch, until, next, asked: None, frozen };
                self.look(now, &mut out);
            }
            (Stand::Leading { .. }, Input::Awake) => self.look(now, &mut out),
            _ => {}
        }
        out
    }

    fn ask(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.stand = Stand::Asking { asked: now };
        out.push(Output::Ask);
    }

    fn wait(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.stand = Stand::Waiting { since: now };
        out.push(Output::AwaitVacancy);
    }

    /// A first grant of a term. One that took longer than it holds is worth nothing yet: it is asked for again.
    fn granted(&mut self, epoch: Epoch, asked: Millis, now: Millis, out: &mut Vec<Output>) {
        let until = self.rules.proven(asked);
        if now >= until {
            return self.ask(now, out);
        }
        let next = Millis(asked.0 + self.rules.renewal().0);
        self.stand = Stand::Leading { epoch, until, next, asked: None, frozen: false };
        out.push(Output::Serve(epoch, until));
        self.look(now, out);
    }

    /// What is due while leading.
    fn look(&mut self, now: Millis, out: &mut Vec<Output>) {
        if let Stand::Leading { until, next, asked, frozen, .. } = &mut self.stand {
            if !*frozen && now >= *until {
                *frozen = true;
                out.push(Output::Freeze);
            }
            if asked.is_none() && now >= *next {
                *asked = Some(now);
                out.push(Output::Ask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { lease: Millis(1200), margin: Millis(100) };
    const E1: Epoch = Epoch(1);

    fn leading() -> Term {
        let (mut term, out) = Term::begin(RULES, Millis(0));
        assert_eq!(out, [Output::Ask]);
        assert_eq!(term.on(Input::Granted(E1), Millis(50)), [Output::Serve(E1, Millis(1100))]);
        term
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for_and_is_renewed_after_a_third() {
        let mut term = leading();
        assert_eq!(term.wake(), Some(Millis(400)));
        assert_eq!(term.on(Input::Awake, Millis(399)), []);
        assert_eq!(term.on(Input::Awake, Millis(400)), [Output::Ask]);
        assert_eq!(term.on(Input::Granted(E1), Millis(700)), [Output::Prove(Millis(1500))]);
        assert_eq!(term.wake(), Some(Millis(800)));
    }

    #[test]
    fn a_leader_without_proof_freezes_and_thaws_when_it_has_one_again() {
        let mut term = leading();
        assert_eq!(term.on(Input::Awake, Millis(400)), [Output::Ask]);
        assert_eq!(term.on(Input::Unreachable, Millis(800)), []);
        assert_eq!((term.wake(), term.may_change(Millis(1099))), (Some(Millis(900)), Some(E1)));
        assert_eq!(term.on(Input::Awake, Millis(900)), [Output::Ask]);
        assert_eq!(term.wake(), Some(Millis(1100)));
        assert_eq!(term.may_change(Millis(1100)), None);
        assert_eq!(term.on(Input::Awake, Millis(1100)), [Output::Freeze]);
        assert_eq!(term.on(Input::Unreachable, Millis(1300)), []);
        assert_eq!((term.wake(), term.leads()), (Some(Millis(1400)), Some(E1)), "it goes on to show what it knows");
        assert_eq!(term.on(Input::Awake, Millis(1400)), [Output::Ask]);
        assert_eq!(term.on(Input::Granted(E1), Millis(1410)), [Output::Prove(Millis(2500)), Output::Thaw]);
        assert_eq!(term.may_change(Millis(1410)), Some(E1));
    }

    #[test]
    fn whoever_wakes_up_after_its_lease_changes_nothing_and_steps_down_when_another_leads() {
        let mut term = leading();
        assert_eq!(term.may_change(Millis(60_000)), None, "before it has understood anything");
        assert_eq!(term.on(Input::Awake, Millis(60_000)), [Output::Freeze, Output::Ask]);
        assert_eq!(term.on(Input::Refused, Millis(60_010)), [Output::StepDown(Why::Succeeded), Output::AwaitVacancy]);
        assert_eq!(term.leads(), None);
    }

    #[test]
    fn a_renewal_answered_after_a_pause_proves_nothing() {
        let mut term = leading();
        assert_eq!(term.on(Input::Awake, Millis(400)), [Output::Ask]);
        let out = term.on(Input::Granted(E1), Millis(9000));
        assert_eq!(out, [Output::Prove(Millis(1500)), Output::Freeze, Output::Ask]);
        assert_eq!(term.may_change(Millis(9000)), None);
        let (mut fresh, _) = Term::begin(RULES, Millis(0));
        assert_eq!(fresh.on(Input::Granted(E1), Millis(5000)), [Output::Ask], "nor does a first grant");
        assert_eq!(fresh.leads(), None);
    }

    #[test]
    fn another_epoch_is_another_term() {
        let mut term = leading();
        assert_eq!(term.on(Input::Awake, Millis(5000)), [Output::Freeze, Output::Ask]);
        let out = term.on(Input::Granted(Epoch(4)), Millis(5001));
        assert_eq!(out, [Output::StepDown(Why::Interrupted), Output::Serve(Epoch(4), Millis(6100))]);
    }

    #[test]
    fn a_standby_waits_and_does_not_hammer() {
        let (mut term, _) = Term::begin(RULES, Millis(0));
        assert_eq!(term.on(Input::Refused, Millis(10)), [Output::AwaitVacancy]);
        assert_eq!(term.on(Input::Vacant, Millis(11)), [], "a notice of what was before");
        assert_eq!(term.on(Input::Awake, Millis(110)), [Output::Ask]);
        assert_eq!(term.on(Input::Refused, Millis(120)), [Output::AwaitVacancy]);
        assert_eq!(term.on(Input::Vacant, Millis(2000)), [Output::Ask]);
        assert_eq!(term.on(Input::Unreachable, Millis(2100)), []);
        assert_eq!(term.on(Input::Awake, Millis(2200)), [Output::Ask]);
        assert_eq!(term.on(Input::Refused, Millis(2300)), [Output::AwaitVacancy]);
        assert_eq!(term.on(Input::Awake, Millis(2300 + 4800)), [Output::Ask], "the notice may have been lost");
    }
}
