//! Who may have a machine moved, asked again where it is received. The host it is on has checked the person when they asked; a queue or
//! a drain later that may not be so any more, and what the other agent says of them is only its word. The exchange, through which
//! agents ask each other, writes down what the person may do at that moment.

use super::forbidden;
use archipel_contract::{
    Command, Fault, Role,
    migration::{MigrateDomain, Obstacle, ObstacleKind},
};

/// Why this person may not have a machine moved here, if so. Pure.
fn lacks(person: &str, role: Option<Role>) -> Option<String> {
    let needed = MigrateDomain::ACCESS;
    match role {
        Some(role) if role.covers(needed) => None,
        Some(role) => {
            Some(format!("{person} has the role {} now, and moving machines needs {}; ask an administrator", role.name(), needed.name()))
        }
        None if person.is_empty() => Some("nobody is named who wants it moved; compare the versions of both hosts".to_owned()),
        None => Some(format!("{person} has no account in this cell, so nobody answers for the move; ask an administrator")),
    }
}

/// What stands in the way of receiving a machine for this person. Whoever only looks need not name anybody.
pub(super) fn obstacle(person: &str, role: Option<Role>, only_looks: bool) -> Option<Obstacle> {
    let message = lacks(person, role).filter(|_| !only_looks || !person.is_empty())?;
    Some(Obstacle::new(ObstacleKind::Rights, message))
}

/// Refuses to send a machine away for somebody who may not have it moved.
pub(super) fn check(person: &str, role: Option<Role>) -> Result<(), Fault> {
    lacks(person, role).map_or(Ok(()), |why| Err(forbidden(&why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_move_machines_now_has_them_received() {
        for (role, fine) in
            [(None, false), (Some(Role::Viewer), false), (Some(Role::Node), false), (Some(Role::Admin), true), (Some(Role::AdminRaw), true)]
        {
            assert_eq!(obstacle("a@c", role, false).is_none(), fine, "{role:?}");
            assert_eq!(obstacle("a@c", role, true).is_none(), fine, "whoever names somebody is told of them: {role:?}");
            assert_eq!(check("a@c", role).is_ok(), fine, "{role:?}");
        }
    }

    #[test]
    fn a_place_is_held_for_somebody() {
        assert!(obstacle("", None, true).is_none());
        assert_eq!(obstacle("", None, false).unwrap().kind, ObstacleKind::Rights);
    }
}
