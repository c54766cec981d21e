//! Definitions that other tools left behind: `virsh migrate` without `--undefinesource` leaves one at the source, off and under the same
//! UUID. It is harmless: it does not start with its host, nobody has the right to start it here, and the hypervisor tells of it. It goes
//! only when a person says so.

use super::ask;
use crate::{
    hypervisor,
    scope::{LONG, SHORT, Scope, within},
    strangers,
};
use archipel_contract::{
    Caller, DomainId, Fault, FaultKind, Hold, HypervisorName, Ownership,
    command::Done,
    hypervisor::Stranger,
    migration::{AskStanding, RemoveCopy, Standing},
};
use std::rc::Rc;

/// Why the definition here may not go, as far as the authority tells. Pure.
fn keeps(held: Option<&Ownership>, me: &HypervisorName) -> Option<String> {
    match held {
        None => Some("nobody owns it, so this may be the only one; it will be shown as a machine of this host".to_owned()),
        Some(held) if held.owner == *me => Some("this host owns it; undefine the machine itself".to_owned()),
        Some(Ownership { owner, hold: Hold::Moving { to, .. }, .. }) => Some(format!("{owner} is moving it to {to}; wait until that ends")),
        Some(_) => None,
    }
}

fn find(scope: &Scope, machine: &str) -> Result<Stranger, Fault> {
    let all = hypervisor::facts(scope).map(|(_, facts)| facts.strangers).unwrap_or_default();
    let id = machine.parse::<DomainId>().ok();
    let mut named: Vec<Stranger> = all.into_iter().filter(|s| Some(s.id) == id || *s.name == *machine).collect();
    match named.len() {
        1 => Ok(named.remove(0)),
        0 => Err(Fault::not_found(format!("{} has no copy of {machine} that is another host's; look at its info", scope.host.name))),
        n => Err(Fault::new(FaultKind::Conflict, format!("{n} copies here are called {machine}; use the UUID"))),
    }
}

/// How the authority says that it stands, if the definition here may go.
async fn elsewhere(scope: &Scope, id: DomainId, name: &str) -> Result<Option<Ownership>, Fault> {
    let (me, held) = (&scope.host.name, within(SHORT, scope.authority.ownership(id)).await?);
    match keeps(held.as_ref(), me) {
        Some(why) => Err(Fault::new(FaultKind::Conflict, format!("{name} stays on {me}: {why}"))),
        None => Ok(held),
    }
}

/// `hypervisor.remove-copy`.
pub(super) async fn remove(scope: &Rc<Scope>, command: RemoveCopy, _: Caller) -> Result<Done, Fault> {
    let (me, migration) = (&scope.host.name, &scope.host.migration);
    let Stranger { id, name, .. } = find(scope, &command.machine)?;
    let held = elsewhere(scope, id, &name).await?;
    // A parked machine's definition is the cell's; every other one's is asked for, so that the last one is never removed.
    if let Some(owner) = held.as_ref().filter(|h| h.hold != Hold::Parked).map(|h| &h.owner) {
        match ask(scope, owner, &AskStanding { domain: id }, SHORT).await {
            Ok(Standing::Absent) => {
                let message = format!("{name} stays on {me}: {owner} owns it and has no definition of it, so this is the only one");
                return Err(Fault::new(FaultKind::Conflict, message));
            }
            Ok(_) => {}
            Err(fault) => {
                let message = format!("{name} stays on {me}: whether {owner} still has it is not known; ask again when it answers");
                return Err(Fault::unavailable(message).because(fault));
            }
        }
    }
    // Nobody claims it from here on.
    let _turn = scope.moves.claims.lock().await;
    if elsewhere(scope, id, &name).await? != held {
        return Err(Fault::new(FaultKind::Conflict, format!("{name} changed hands meanwhile; look at it again")));
    }
    if !matches!(within(SHORT, migration.standing(id)).await?, Standing::Off(_) | Standing::Departed) {
        return Err(Fault::wrong_state(format!("{name} is not off on {me}; shut this copy down there first, if it is the wrong one")));
    }
    within(LONG, migration.discard(id)).await?;
    strangers::forget(scope, id);
    Ok(Done::new(format!("the copy of {name} on {me} is removed; its disks stay")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::{Epoch, MoveId};

    #[test]
    fn only_what_another_host_has_for_good_may_go() {
        let name = |n: &str| -> HypervisorName { n.parse().unwrap() };
        let held = |owner: &str, hold| Ownership { hold, ..Ownership::owned(DomainId(uuid::Uuid::nil()), Epoch(2), name(owner)) };
        let moving = |to: &str| Hold::Moving { saga: MoveId(uuid::Uuid::nil()), to: name(to) };
        assert_eq!(keeps(Some(&held("a", Hold::Owned)), &name("b")), None);
        assert_eq!(keeps(Some(&held("a", Hold::Parked)), &name("b")), None);
        assert!(keeps(None, &name("b")).is_some(), "the only one");
        assert!(keeps(Some(&held("b", Hold::Owned)), &name("b")).is_some());
        assert!(keeps(Some(&held("b", Hold::Parked)), &name("b")).is_some(), "about to be put away");
        assert!(keeps(Some(&held("a", moving("b"))), &name("b")).is_some(), "it is about to be ours");
    }
}
