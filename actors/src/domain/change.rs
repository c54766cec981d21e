//! What a report of libvirt means for a machine: pure functions from facts and change to what shall happen.
//!
//! A state is taken from the event itself, without asking libvirt; only "read it again" costs one read. libvirt may report
//! one change more than once (QEMU says both resumed and started when it starts); the second finds nothing new.

use archipel_contract::{
    domain::{DomainFacts, DomainState},
    host::DomainChange,
};
use std::sync::Arc;

/// What shall happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Reaction {
    /// Nothing is new.
    Nothing,
    /// Tell of it; the facts afterwards.
    Tell {
        /// What happened.
        topic: &'static str,
        /// The facts afterwards.
        facts: DomainFacts,
        /// More for people.
        detail: Option<Arc<str>>,
        /// The machine is gone after that: it had no definition that stays.
        vanishes: bool,
    },
    /// Read the machine; tell if something differs.
    Read,
    /// It is gone.
    Gone,
}

/// What a step from one state to another is called.
pub fn topic(from: DomainState, to: DomainState, reason: Option<&str>) -> &'static str {
    use DomainState::*;
    match to {
        Running if matches!(from, Paused | Pmsuspended) => "domain.resumed",
        Running => "domain.started",
        Paused => "domain.paused",
        Shutdown => "domain.shutting-down",
        Shutoff if reason == Some("crashed") => "domain.crashed",
        Shutoff => "domain.stopped",
        Crashed => "domain.crashed",
        Pmsuspended => "domain.suspended",
    }
}

/// libvirt's words for what a migration does: `migrated`, `postcopy`, `postcopy-failed` ...
fn is_of_a_move(reason: &str) -> bool {
    reason.starts_with("migrat") || reason.starts_with("postcopy") || reason.starts_with("post-copy")
}

fn tell(topic: &'static str, facts: &DomainFacts, detail: Option<Arc<str>>) -> Reaction {
    Reaction::Tell { topic, facts: facts.clone(), detail, vanishes: false }
}

/// What this change means for a machine with these facts.
pub fn react(facts: &DomainFacts, change: &DomainChange) -> Reaction {
    match change {
        DomainChange::State(state, _) if *state == facts.state => Reaction::Nothing,
        // How libvirt takes it from one host to the other is no news of the machine: it runs on. The move tells how it ended.
        DomainChange::State(_, reason) if facts.moving_to.is_some() && is_of_a_move(reason) => Reaction::Nothing,
        DomainChange::State(state, reason) => {
            let mut after = facts.clone();
            after.state = *state;
            after.reason = Some((*reason).into());
            after.agent &= state.is_active();
            let vanishes = !state.is_active() && !facts.persistent;
            Reaction::Tell { topic: topic(facts.state, *state, Some(reason)), detail: after.reason.clone(), facts: after, vanishes }
        }
        DomainChange::Appeared(_) | DomainChange::Defined(_) | DomainChange::Changed(_) => Reaction::Read,
        DomainChange::Undefined if facts.state.is_active() => {
            if !facts.persistent {
                return Reaction::Nothing;
            }
            let after = DomainFacts { persistent: false, ..facts.clone() };
            tell("domain.changed", &after, Some("definition removed".into()))
        }
        DomainChange::Undefined => Reaction::Gone,
        DomainChange::Rebooted => tell("domain.rebooted", facts, None),
        DomainChange::Agent(answers) if *answers == facts.agent => Reaction::Nothing,
        DomainChange::Agent(answers) => {
            let after = DomainFacts { agent: *answers, ..facts.clone() };
            tell(if *answers { "domain.agent-connected" } else { "domain.agent-disconnected" }, &after, None)
        }
        DomainChange::Graphics(phase, peer) => tell("domain.graphics", facts, Some(format!("{phase} {peer}").into())),
        DomainChange::DeviceAdded(alias) => tell("domain.device-added", facts, Some(alias.clone())),
        DomainChange::DeviceRemoved(alias) => tell("domain.device-removed", facts, Some(alias.clone())),
        DomainChange::Job(what) => tell("domain.job", facts, Some(what.clone())),
        DomainChange::BlockJob(disk, how) => tell("domain.block-job", facts, Some(format!("{disk}: {how}").into())),
        DomainChange::IoError(path, done) => tell("domain.io-error", facts, Some(format!("{path}: {done}").into())),
        DomainChange::Watchdog(done) => tell("domain.watchdog", facts, Some((*done).into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::Bytes;

    fn facts(state: DomainState) -> DomainFacts {
        DomainFacts {
            state,
            reason: None,
            vcpus: 1,
            memory: Bytes::MIB,
            persistent: true,
            autostart: false,
            agent: false,
            virtualization: "qemu".into(),
            note: None,
            template: false,
            moving_to: None,
            autostart_order: None,
            autostart_delay: None,
        }
    }

    #[test]
    fn the_second_report_of_one_change_is_no_news() {
        for state in DomainState::ALL {
            assert_eq!(react(&facts(state), &DomainChange::State(state, "again")), Reaction::Nothing);
        }
    }

    #[test]
    fn a_step_is_named_after_where_it_leads() {
        use DomainState::*;
        assert_eq!(topic(Shutoff, Running, Some("booted")), "domain.started");
        assert_eq!(topic(Paused, Running, Some("unpaused")), "domain.resumed");
        assert_eq!(topic(Running, Shutoff, Some("crashed")), "domain.crashed");
        assert_eq!(topic(Running, Shutoff, Some("destroyed")), "domain.stopped");
    }

    #[test]
    fn a_machine_without_definition_vanishes_when_it_stops() {
        let transient = DomainFacts { persistent: false, ..facts(DomainState::Running) };
        let reaction = react(&transient, &DomainChange::State(DomainState::Shutoff, "destroyed"));
        assert!(matches!(reaction, Reaction::Tell { topic: "domain.stopped", vanishes: true, .. }), "{reaction:?}");
        let reaction = react(&facts(DomainState::Running), &DomainChange::State(DomainState::Shutoff, "destroyed"));
        assert!(matches!(reaction, Reaction::Tell { vanishes: false, .. }), "{reaction:?}");
    }

    #[test]
    fn a_machine_that_moves_never_blinks() {
        use DomainState::*;
        let moving = DomainFacts { moving_to: Some("beta".parse().unwrap()), ..facts(Running) };
        for (state, reason) in [(Paused, "migrated"), (Shutoff, "migrated"), (Paused, "postcopy"), (Paused, "postcopy-failed")] {
            assert_eq!(react(&moving, &DomainChange::State(state, reason)), Reaction::Nothing, "{reason}");
            assert_ne!(react(&facts(Running), &DomainChange::State(state, reason)), Reaction::Nothing, "{reason}");
        }
        assert!(matches!(react(&moving, &DomainChange::State(Shutoff, "crashed")), Reaction::Tell { topic: "domain.crashed", .. }));
    }

    #[test]
    fn undefining_an_active_machine_leaves_it_running() {
        let reaction = react(&facts(DomainState::Running), &DomainChange::Undefined);
        assert!(matches!(reaction, Reaction::Tell { topic: "domain.changed", ref facts, .. } if !facts.persistent), "{reaction:?}");
        assert_eq!(react(&facts(DomainState::Shutoff), &DomainChange::Undefined), Reaction::Gone);
    }

    #[test]
    fn the_guest_agent_goes_with_the_guest() {
        let with_agent = DomainFacts { agent: true, ..facts(DomainState::Running) };
        let Reaction::Tell { facts, .. } = react(&with_agent, &DomainChange::State(DomainState::Shutoff, "destroyed")) else { panic!() };
        assert!(!facts.agent);
    }
}
