//! How an entity looks in somebody's contact list. Pure: an entity in, a presence out.
//!
//! | | available | show | priority |
//! |---|---|---|---|
//! | machine running | yes | | 10 |
//! | machine paused, asleep | yes | away | 5 |
//! | machine going down | yes | dnd | 5 |
//! | machine off | yes, else clients hide it and nobody can start it | xa | 0 |
//! | machine crashed, anything degraded | yes | dnd | 0 |
//! | hypervisor connected; network, pool active | yes | | 10 |
//! | hypervisor connecting; pool being made | yes | away | 0 |
//! | network, pool inactive | yes | xa | 0 |
//! | hypervisor lost; anything unknown | no | | |
//!
//! No number that changes by itself is ever shown: each change costs a stanza for everybody who looks.

use super::words;
use archipel_contract::{
    Condition, Entity, Facts, domain::DomainState, hypervisor::HypervisorState, network::NetworkState, storage_pool::PoolState,
    task::TaskState,
};

/// A presence without its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub available: bool,
    pub show: Option<&'static str>,
    pub priority: i8,
    pub status: String,
}

/// How this entity looks.
pub(crate) fn look(entity: &Entity) -> Look {
    let gone = |status: String| Look { available: false, show: None, priority: 0, status };
    let why = || entity.why.as_deref().unwrap_or("nothing is known of it now");
    match entity.condition {
        Condition::Unreachable => return gone(format!("unknown since {}: {}", entity.since, why())),
        Condition::ControlLost => return gone(format!("unknown since {}: control was lost: {}", entity.since, why())),
        Condition::Ok | Condition::Degraded => {}
    }
    let (show, priority) = match &entity.facts {
        Facts::Domain(f) => match f.state {
            DomainState::Running => (None, 10),
            DomainState::Paused | DomainState::Pmsuspended => (Some("away"), 5),
            DomainState::Shutdown => (Some("dnd"), 5),
            DomainState::Shutoff => (Some("xa"), 0),
            DomainState::Crashed => (Some("dnd"), 0),
        },
        Facts::Hypervisor(f) => match f.state {
            HypervisorState::Connected => (None, 10),
            HypervisorState::Connecting => (Some("away"), 0),
            HypervisorState::Lost => return gone(format!("libvirt does not answer since {}", entity.since)),
        },
        Facts::Network(f) => match f.state {
            NetworkState::Active => (None, 10),
            NetworkState::Inactive => (Some("xa"), 0),
        },
        Facts::StoragePool(f) => match f.state {
            PoolState::Running => (None, 10),
            PoolState::Building => (Some("away"), 0),
            PoolState::Inactive => (Some("xa"), 0),
            PoolState::Degraded | PoolState::Inaccessible => (Some("dnd"), 0),
        },
        Facts::Task(f) => match f.state {
            TaskState::Running => (None, 10),
            TaskState::Failed => (Some("dnd"), 0),
            TaskState::Done | TaskState::Cancelled => (Some("xa"), 0),
        },
    };
    let status = status(entity);
    if entity.condition == Condition::Degraded {
        let why = entity.why.as_deref().unwrap_or("something about it failed");
        return Look { available: true, show: Some("dnd"), priority: 0, status: format!("{status}: degraded: {why}") };
    }
    Look { available: true, show, priority, status }
}

fn status(entity: &Entity) -> String {
    match &entity.facts {
        Facts::Domain(f) => match f.state {
            DomainState::Crashed => match &f.reason {
                Some(reason) => format!("crashed: {reason}"),
                None => "crashed".to_owned(),
            },
            DomainState::Shutoff => "shut off".to_owned(),
            DomainState::Shutdown => "shutting down".to_owned(),
            DomainState::Pmsuspended => "asleep".to_owned(),
            DomainState::Running | DomainState::Paused => words::about(entity),
        },
        // Room in a pool changes by itself, and so does a task's progress.
        Facts::StoragePool(f) => f.state.name().to_owned(),
        Facts::Task(f) => format!("{}: {}", f.state.name(), f.command),
        Facts::Hypervisor(_) | Facts::Network(_) => words::about(entity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::{hypervisor, machine, network, pool};
    use archipel_contract::{Kind, Timestamp};

    #[test]
    fn a_machine_looks_as_its_state_says() {
        for (state, show, priority, status) in [
            (DomainState::Running, None, 10, "running, 2 vCPU, 4 GiB"),
            (DomainState::Paused, Some("away"), 5, "paused, 2 vCPU, 4 GiB"),
            (DomainState::Pmsuspended, Some("away"), 5, "asleep"),
            (DomainState::Shutdown, Some("dnd"), 5, "shutting down"),
            (DomainState::Shutoff, Some("xa"), 0, "shut off"),
            (DomainState::Crashed, Some("dnd"), 0, "crashed"),
        ] {
            let mut entity = machine(1, "alpha");
            let Facts::Domain(facts) = &mut entity.facts else { panic!("a machine") };
            facts.state = state;
            assert_eq!(look(&entity), Look { available: true, show, priority, status: status.into() }, "{state:?}");
        }
    }

    #[test]
    fn other_kinds_look_as_their_state_says() {
        for (state, available, show) in [
            (HypervisorState::Connected, true, None),
            (HypervisorState::Connecting, true, Some("away")),
            (HypervisorState::Lost, false, None),
        ] {
            let mut entity = hypervisor("alpha");
            let Facts::Hypervisor(facts) = &mut entity.facts else { panic!("a hypervisor") };
            facts.state = state;
            let seen = look(&entity);
            assert_eq!((seen.available, seen.show), (available, show), "{state:?}");
        }
        for (state, show) in [(NetworkState::Active, None), (NetworkState::Inactive, Some("xa"))] {
            let mut entity = network(1, "alpha");
            let Facts::Network(facts) = &mut entity.facts else { panic!("a network") };
            facts.state = state;
            assert_eq!(look(&entity).show, show);
        }
        for (state, show) in [
            (PoolState::Running, None),
            (PoolState::Inactive, Some("xa")),
            (PoolState::Building, Some("away")),
            (PoolState::Degraded, Some("dnd")),
            (PoolState::Inaccessible, Some("dnd")),
        ] {
            let mut entity = pool(1, "alpha");
            let Facts::StoragePool(facts) = &mut entity.facts else { panic!("a pool") };
            facts.state = state;
            assert_eq!(look(&entity).show, show);
        }
    }

    #[test]
    fn what_is_not_known_is_unavailable_and_says_since_when() {
        for condition in [Condition::Unreachable, Condition::ControlLost] {
            for mut entity in [machine(1, "alpha"), hypervisor("alpha"), network(1, "alpha"), pool(1, "alpha")] {
                entity.condition = condition.clone();
                entity.since = Timestamp(0);
                let seen = look(&entity);
                assert!(!seen.available && seen.status.contains("unknown since 1970-01-01"), "{seen:?}");
            }
        }
    }

    #[test]
    fn what_is_degraded_is_busy_and_says_why() {
        let mut entity = machine(1, "alpha");
        entity.condition = Condition::Degraded;
        entity.why = Some("its actor is being restarted".into());
        let seen = look(&entity);
        assert_eq!((seen.available, seen.show, seen.priority), (true, Some("dnd"), 0));
        assert!(seen.status.contains("being restarted"));
        assert_eq!(entity.kind(), Kind::Domain);
    }
}
