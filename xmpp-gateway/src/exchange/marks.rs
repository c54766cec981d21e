//! What the exchange itself says of an entity over what its agent says: that it runs twice. Pure.
//!
//! Such words come between two numbers of the agent, so each of them moves the numbers of that entity by one. They stay over
//! everything the agent tells, until they are taken back; then what the agent told last is shown again.

use archipel_contract::{Condition, Entity, EntityId};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
struct Mark {
    /// What is said now.
    why: Option<Arc<str>>,
    /// What the agent said last.
    own: (Condition, Option<Arc<str>>),
    /// How often something was said: added to the numbers of the agent. It stays when the words are gone.
    shift: u64,
}

#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<EntityId, Mark>);

/// Whether it can be said at all: of what is unknown nothing better is known.
fn shown(condition: &Condition) -> bool {
    matches!(condition, Condition::Ok | Condition::Degraded)
}

impl Marks {
    /// What is added to the agent's numbers of this entity.
    pub(super) fn shift(&self, id: &EntityId) -> u64 {
        self.0.get(id).map_or(0, |m| m.shift)
    }

    /// What is said of it now.
    pub(super) fn why(&self, id: &EntityId) -> Option<&Arc<str>> {
        self.0.get(id)?.why.as_ref()
    }

    /// Puts the words over what an agent has just told.
    pub(super) fn dress(&mut self, entity: &mut Entity) {
        let Some(mark) = self.0.get_mut(&entity.id) else { return };
        mark.own = (entity.condition.clone(), entity.why.clone());
        if let Some(why) = &mark.why
            && shown(&entity.condition)
        {
            entity.condition = Condition::Degraded;
            entity.why = Some(why.clone());
        }
    }

    /// Says this of an entity from now on, or takes it back. Answers how it looks then, if that differs.
    pub(super) fn say(&mut self, id: &EntityId, before: Option<&Entity>, why: Option<Arc<str>>) -> Option<Entity> {
        let own = || before.map_or((Condition::Ok, None), |b| (b.condition.clone(), b.why.clone()));
        let mark = self.0.entry(id.clone()).or_insert_with(|| Mark { why: None, own: own(), shift: 0 });
        mark.why = why;
        let before = before.filter(|b| shown(&b.condition))?;
        let mut after = before.clone();
        (after.condition, after.why) = match &mark.why {
            Some(why) => (Condition::Degraded, Some(why.clone())),
            None => mark.own.clone(),
        };
        if after == *before {
            return None;
        }
        after.seq = before.seq.next();
        mark.shift += 1;
        Some(after)
    }
}
