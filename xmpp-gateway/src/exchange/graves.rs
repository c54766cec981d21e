//! The last entities that went, and where they were: whoever repeats the operation that removed one is sent to the agent that
//! knows the first answer. Pure and bounded.

use archipel_contract::{EntityId, HypervisorName};
use std::collections::VecDeque;

/// How many are kept. Operations are repeated within seconds, not days.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Graves(VecDeque<(EntityId, HypervisorName)>);

impl Graves {
    pub(super) fn bury(&mut self, id: EntityId, host: HypervisorName) {
        self.0.truncate(KEPT - 1);
        self.0.push_front((id, host));
    }

    /// Where it was last.
    pub(super) fn find(&self, id: &EntityId) -> Option<&HypervisorName> {
        self.0.iter().find(|(gone, _)| gone == id).map(|(_, host)| host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_grave_makes_room() {
        let mut graves = Graves::default();
        let id = |n: usize| EntityId::Hypervisor(format!("h{n}").parse().unwrap());
        for n in 0..=KEPT {
            graves.bury(id(n), "alpha".parse().unwrap());
        }
        assert!(graves.find(&id(0)).is_none() && graves.find(&id(1)).is_some() && graves.find(&id(KEPT)).is_some());
    }
}
