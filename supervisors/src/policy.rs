//! When to restart: pure, no clock and no actor.
//!
//! ```text
//!   failure --> restarts within the window < budget? --yes--> restart after a pause that doubles
//!                                                    --no---> give up: the parent decides
//! ```

use archipel_contract::Millis;

/// How often, how fast and how patiently one kind of actor is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Restarts allowed within the window.
    pub restarts: usize,
    /// The window.
    pub window: Millis,
    /// The pause before the first restart; it doubles with each one in the window.
    pub first_pause: Millis,
    /// The longest pause.
    pub longest_pause: Millis,
    /// An actor that has messages and takes none for this long is frozen.
    pub frozen_after: Millis,
}

impl Policy {
    /// Machines, networks, pools and tasks: 3 restarts in 30 s.
    pub const CHILD: Policy = Policy {
        restarts: 3,
        window: Millis::seconds(30),
        first_pause: Millis(100),
        longest_pause: Millis::seconds(5),
        frozen_after: Millis::seconds(10),
    };
    /// Hypervisors: 5 restarts in 60 s.
    pub const HYPERVISOR: Policy = Policy {
        restarts: 5,
        window: Millis::seconds(60),
        first_pause: Millis(200),
        longest_pause: Millis::seconds(10),
        frozen_after: Millis::seconds(30),
    };
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Begin a fresh life after this pause.
    Restart {
        /// The pause.
        after: Millis,
    },
    /// The budget is used up.
    GiveUp,
}

/// When one actor was restarted, oldest first. Only those in the window are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(Vec<Millis>);

impl History {
    /// An actor failed now: what to do. A restart is noted.
    pub fn failed(&mut self, policy: &Policy, now: Millis) -> Decision {
        self.0.retain(|at| at.0 + policy.window.0 > now.0);
        let recent = self.0.len();
        if recent >= policy.restarts {
            return Decision::GiveUp;
        }
        self.0.push(now);
        let doubled =
            u32::try_from(recent).ok().and_then(|n| policy.first_pause.0.checked_shl(n).filter(|p| p >> n == policy.first_pause.0));
        Decision::Restart { after: Millis(doubled.unwrap_or(u64::MAX).min(policy.longest_pause.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_machine_gets_three_in_thirty_seconds() {
        let mut history = History::default();
        let pauses: Vec<Decision> = (0..4).map(|n| history.failed(&Policy::CHILD, Millis(n * 1000))).collect();
        let again = |ms| Decision::Restart { after: Millis(ms) };
        assert_eq!(pauses, [again(100), again(200), again(400), Decision::GiveUp]);
        assert_eq!(history.failed(&Policy::CHILD, Millis(30_000)), again(400), "the first has left the window");
    }

    proptest! {
        /// Against a naive model that remembers everything.
        #[test]
        fn never_more_restarts_in_a_window_than_the_budget(
            gaps in prop::collection::vec(0u64..20_000, 1..60),
            restarts in 0usize..6,
            window in 1u64..40_000,
        ) {
            let policy = Policy { restarts, window: Millis(window), ..Policy::CHILD };
            let (mut history, mut now, mut restarted) = (History::default(), 1_000_000u64, Vec::new());
            for gap in gaps {
                now += gap;
                let recent = restarted.iter().filter(|at| **at + window > now).count();
                match history.failed(&policy, Millis(now)) {
                    Decision::Restart { after } => {
                        prop_assert!(recent < restarts);
                        prop_assert!(after >= policy.first_pause && after <= policy.longest_pause);
                        restarted.push(now);
                    }
                    Decision::GiveUp => prop_assert_eq!(recent, restarts, "gives up only when the budget is used up"),
                }
                prop_assert!(history.0.len() <= restarts.max(1), "what has left the window is forgotten");
            }
        }

        #[test]
        fn the_pause_grows_and_never_overflows(restarts in 1usize..200) {
            let policy = Policy { restarts, window: Millis(u64::MAX / 2), ..Policy::CHILD };
            let mut history = History::default();
            let mut last = Millis(0);
            for _ in 0..restarts {
                let Decision::Restart { after } = history.failed(&policy, Millis(5)) else { panic!("budget of {restarts}") };
                prop_assert!(after >= last);
                last = after;
            }
        }
    }
}
