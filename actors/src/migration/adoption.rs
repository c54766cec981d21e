//! Machines of others that are seen here: those a move of ours brings, and those somebody moved with other tools.
//!
//! ```text
//!   seen --place held, executes--> claimed at once, the source is told
//!     |---its owner moves it here, executes--> claimed
//!     |---its owner has it no more (hypervisor.yield)--> claimed: adopted
//!     |---off on both, or moved away from here--> left alone, and kept from starting with this host
//!     +---runs on both, or its owner is silent--> stays a stranger, and is asked about again
//! ```
//! Nothing is started or stopped for that. Memory that is saved here of a machine of another host is noted (`domain/saved`) before it is
//! claimed. A stranger that is adopted by nobody is shown with its hypervisor and alarmed by the auditor.

use super::arrival::{self, Wish};
use super::{PEER, ask, asker, done, sweep};
use crate::{
    board::Change,
    domain::{saved, turn},
    scope::{SHORT, Scope, within},
    strangers,
};
use archipel_contract::{
    Caller, DomainId, EntityId, Fault, FaultKind, Hold, HypervisorName, MoveId, Ownership, OwnershipStep,
    command::Done,
    event::Cause,
    migration::{LookAgain, Release, Standing, Yield, Yielded},
};
use std::rc::Rc;
use std::time::Duration;

/// The pause before the owner of a stranger is asked again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Something was seen of a machine that is not ours. It is looked at by one at a time.
pub fn noticed(scope: &Rc<Scope>, id: DomainId) {
    if let Some(again) = scope.moves.noticed.borrow_mut().get_mut(&id) {
        *again = true;
        return;
    }
    scope.moves.noticed.borrow_mut().insert(id, false);
    let scope = scope.clone();
    actix_rt::spawn(async move {
        let _done = Looked { scope: scope.clone(), id };
        let mut pause = FIRST_PAUSE;
        loop {
            scope.moves.noticed.borrow_mut().insert(id, false);
            let open = match look(&scope, id).await {
                Ok(()) => false,
                Err(Unsettled { fault, again }) => {
                    tracing::warn!(domain = %id, host = %scope.host.name, %fault, "a machine of another host is here");
                    again
                }
            };
            tell(&scope, id).await;
            if scope.moves.noticed.borrow().get(&id) == Some(&true) {
                continue;
            }
            if !open {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
}

/// Why a machine that is here is still another host's.
struct Unsettled {
    fault: Fault,
    /// It is worth asking again. Of a machine that is off, an owner that has it has said enough: nothing changes by itself until libvirt
    /// reports something there or here.
    again: bool,
}

impl From<Fault> for Unsettled {
    fn from(fault: Fault) -> Unsettled {
        Unsettled { fault, again: true }
    }
}

/// What is to be done about a machine that libvirt has here and no move of ours brings. Pure.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    Leave,
    /// It is ours, or may be claimed like any that appears.
    Ours,
    /// Its owner has said that it comes here: it is claimed.
    Claim(MoveId),
    /// Its owner is asked to give it up.
    Ask {
        /// Whether it is off here.
        off: bool,
    },
    /// It should not be here, and nobody but a person can say what is right.
    Wrong(&'static str),
}

fn judge(standing: Standing, held: Option<&Ownership>, me: &HypervisorName) -> Verdict {
    let off = match standing {
        Standing::Here(_) | Standing::Leaving => false,
        Standing::Off(_) => true,
        // What libvirt moved away from here is not taken back because its definition was left.
        Standing::Departed if held.is_none_or(|h| h.owner == *me) => true,
        Standing::Absent | Standing::Departed | Standing::Arriving | Standing::Split => return Verdict::Leave,
    };
    let Some(held) = held.filter(|h| h.owner != *me) else { return Verdict::Ours };
    match &held.hold {
        Hold::Owned => Verdict::Ask { off },
        Hold::Moving { saga, to } if to == me && !off => Verdict::Claim(*saga),
        // Perhaps the owner has given it up to us before. What runs at its owner and leaves for here is not claimed for an old definition.
        Hold::Moving { to, .. } if to == me => Verdict::Ask { off },
        _ if off => Verdict::Leave,
        Hold::Moving { .. } => Verdict::Wrong("its owner moves it to another host, and it is here"),
        Hold::Parked => Verdict::Wrong("it is parked, and somebody started it here; take it from the shelf"),
    }
}

/// Whether a machine that stands so here is given up to a host that has it, perhaps off. Pure.
fn gives_up(standing: Standing, off_there: bool, me: &HypervisorName) -> Result<(), Fault> {
    let keeps = |why: &str| Err(Fault::wrong_state(format!("its {why}")));
    match standing {
        Standing::Absent | Standing::Departed => Ok(()),
        Standing::Off(_) if !off_there => Ok(()),
        Standing::Off(_) => keeps(&format!("definition is on {me} as well, and it is off on both; remove the one that is wrong")),
        Standing::Here(_) | Standing::Leaving | Standing::Arriving | Standing::Split => {
            keeps(&format!("guest is on {me} as well; look at both hosts and stop one"))
        }
    }
}

/// While the cell was away nobody could say that it is another host's, and what was listed then does not tell of it.
async fn tell(scope: &Scope, id: DomainId) {
    let moves = scope.moves.awaited(id).is_some() || scope.moves.to(id).is_some();
    if moves || strangers::is_known(scope, id) || scope.board.get(&EntityId::Domain(id)).is_some() {
        return;
    }
    let held = within(SHORT, scope.authority.ownership(id)).await;
    if held.is_ok_and(|held| held.is_some_and(|held| held.owner != scope.host.name)) {
        left(scope, id).await;
    }
}

struct Looked {
    scope: Rc<Scope>,
    id: DomainId,
}

impl Drop for Looked {
    fn drop(&mut self) {
        self.scope.moves.noticed.borrow_mut().remove(&self.id);
    }
}

/// One look.
async fn look(scope: &Rc<Scope>, id: DomainId) -> Result<(), Unsettled> {
    sweep::again(scope, id).await;
    let me = &scope.host.name;
    let standing = within(SHORT, scope.host.migration.standing(id)).await?;
    if let Some(place) = scope.moves.awaited(id) {
        // In post-copy half of its memory is still at the source, whose word is awaited.
        if standing.may_execute() && !place.held().way.post_copy {
            take(scope, arrival::wish_of(&place)).await?;
        }
        return Ok(());
    }
    let held = within(SHORT, scope.authority.ownership(id)).await?;
    let wish = |held: &Ownership, saga: MoveId, epoch| Wish {
        saga,
        domain: id,
        epoch,
        from: held.owner.clone(),
        definition: None,
        autostart: false,
        operations: Vec::new(),
        cause: Cause::Libvirt,
    };
    if standing != Standing::Absent && held.as_ref().is_some_and(|h| h.owner != *me) {
        saved::suspect(scope, id).await?;
    }
    let is_off = matches!(standing, Standing::Off(_) | Standing::Departed);
    match (judge(standing, held.as_ref(), me), held) {
        (Verdict::Ours, _) => scope.keeper.start(EntityId::Domain(id)),
        (Verdict::Claim(saga), Some(held)) => drop(arrival::claim(scope, wish(&held, saga, held.epoch)).await?),
        (Verdict::Ask { off }, Some(held)) => {
            let saga = MoveId::fresh();
            let asked = ask(scope, &held.owner, &Yield { domain: id, saga, off }, PEER).await;
            // Whoever has understood and will not has said so for as long as nothing changes.
            let again = |fault: &Fault| !off || fault.kind != FaultKind::WrongState;
            let yielded = match asked {
                Ok(yielded) => yielded,
                Err(fault) => {
                    if is_off {
                        stays_off(scope, id).await;
                    }
                    return Err(Unsettled { again: again(&fault), fault });
                }
            };
            take(scope, wish(&held, saga, yielded.epoch)).await?;
        }
        (Verdict::Wrong(why), _) => return Err(Fault::new(FaultKind::Conflict, why).into()),
        (Verdict::Leave, Some(_)) if is_off => stays_off(scope, id).await,
        (Verdict::Leave | Verdict::Claim(_) | Verdict::Ask { .. }, _) => {}
    }
    Ok(())
}

/// The definition here is a copy of another host's machine: when this host boots, libvirt must not start it beside that.
async fn stays_off(scope: &Scope, id: DomainId) {
    if let Err(fault) = within(SHORT, scope.host.domains.set_autostart(id, false)).await {
        tracing::warn!(domain = %id, %fault, "what is left of a machine that went elsewhere may start with this host");
    }
}

/// Claims it, and tells whoever had it before.
async fn take(scope: &Rc<Scope>, wish: Wish) -> Result<(), Fault> {
    let (saga, domain, from) = (wish.saga, wish.domain, wish.from.clone());
    let epoch = arrival::claim(scope, wish).await?;
    if let Err(fault) = ask(scope, &from, &Release { saga, domain, epoch }, PEER).await {
        tracing::info!(%domain, %from, %fault, "who had the machine before was not told that it was claimed; it will ask, or find out");
    }
    Ok(())
}

/// `hypervisor.look-again`.
pub(super) async fn look_again(scope: &Rc<Scope>, command: LookAgain, _: Caller) -> Result<Done, Fault> {
    noticed(scope, command.domain);
    done("it is being looked at")
}

/// `hypervisor.yield`: gives up a machine that this host's libvirt does not have any more.
pub async fn give_up(scope: &Rc<Scope>, command: Yield, caller: Caller) -> Result<Yielded, Fault> {
    let to = asker(scope, &caller)?;
    let (me, id) = (&scope.host.name, command.domain);
    // A start that was found rightful before this must have reached libvirt, or not begin any more.
    let _turn = turn::take(scope, id).await?;
    if let Some(to) = scope.moves.to(id) {
        return Err(Fault::busy(format!("{me} moves it to {to} at this moment; ask again")));
    }
    let standing = within(SHORT, scope.host.migration.standing(id)).await?;
    gives_up(standing, command.off, me)?;
    let held = within(SHORT, scope.authority.ownership(id)).await?;
    let mut held = held.filter(|h| h.owner == *me).ok_or_else(|| Fault::not_found(format!("{me} does not own it")))?;
    if let Hold::Moving { saga, .. } = &held.hold {
        // It was yielded before, to somebody who did not come.
        let step = OwnershipStep::Stay { by: me.clone(), saga: *saga };
        held = within(SHORT, scope.authority.step(id, held.epoch, step)).await?;
    }
    let step = OwnershipStep::Depart { by: me.clone(), saga: command.saga, to: to.clone() };
    held = within(SHORT, scope.authority.step(id, held.epoch, step)).await?;
    if standing != Standing::Absent {
        stays_off(scope, id).await;
    }
    scope.moves.yielded.borrow_mut().insert(id);
    went(scope, id, &to).await;
    Ok(Yielded { epoch: held.epoch })
}

/// A machine that other tools took away is not shown here any more. Its definition, which they left, is a stranger from now on.
async fn went(scope: &Scope, id: DomainId, to: &HypervisorName) {
    let entity = EntityId::Domain(id);
    scope.board.publish(Change::gone(entity.clone(), "domain.migrated", Cause::Libvirt).with_detail(Some(format!("to {to}").into())));
    scope.keeper.stop(&entity);
    left(scope, id).await;
}

/// What libvirt still has here of a machine that is another host's now is a stranger.
pub(super) async fn left(scope: &Scope, id: DomainId) {
    match within(SHORT, scope.host.domains.read(id)).await {
        Ok(record) => strangers::note(scope, &record),
        Err(fault) if fault.kind == FaultKind::NotFound => strangers::forget(scope, id),
        Err(fault) => tracing::debug!(domain = %id, %fault, "what is left of a machine here is told of with the next listing"),
    }
}

/// Its new host has claimed it: what was reported of it in between is not shown either.
pub(super) async fn claimed(scope: &Rc<Scope>, id: DomainId, to: &HypervisorName) -> Result<(), Fault> {
    let held = within(SHORT, scope.authority.ownership(id)).await?;
    if held.is_some_and(|h| h.owner != scope.host.name) && scope.moves.to(id).is_none() {
        went(scope, id, to).await;
    }
    scope.moves.yielded.borrow_mut().remove(&id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::{Epoch, domain::DomainState};

    const OFF: Standing = Standing::Off(DomainState::Shutoff);
    const RUNS: Standing = Standing::Here(DomainState::Running);

    fn held(owner: &str, hold: Hold) -> Ownership {
        Ownership { hold, ..Ownership::owned(DomainId(uuid::Uuid::nil()), Epoch(2), owner.parse().unwrap()) }
    }

    fn judged(standing: Standing, held: Option<Ownership>) -> Verdict {
        judge(standing, held.as_ref(), &"b".parse().unwrap())
    }

    #[test]
    fn what_nobody_owns_is_ours_running_or_off() {
        for standing in [OFF, RUNS, Standing::Leaving, Standing::Departed] {
            assert_eq!(judged(standing, None), Verdict::Ours, "{standing:?}");
            assert_eq!(judged(standing, Some(held("b", Hold::Owned))), Verdict::Ours, "{standing:?}");
        }
        for standing in [Standing::Absent, Standing::Arriving, Standing::Split] {
            assert_eq!(judged(standing, None), Verdict::Leave, "{standing:?}");
        }
    }

    #[test]
    fn an_owner_is_asked_for_what_is_here_and_never_for_what_was_moved_away_from_here() {
        let owned = || Some(held("a", Hold::Owned));
        assert_eq!(judged(RUNS, owned()), Verdict::Ask { off: false });
        assert_eq!(judged(OFF, owned()), Verdict::Ask { off: true });
        assert_eq!(judged(Standing::Departed, owned()), Verdict::Leave);
        assert_eq!(judged(OFF, Some(held("a", Hold::Parked))), Verdict::Leave);
        assert!(matches!(judged(RUNS, Some(held("a", Hold::Parked))), Verdict::Wrong(_)));
    }

    #[test]
    fn what_comes_here_is_claimed_when_it_runs_and_not_for_an_old_definition() {
        let saga = MoveId(uuid::Uuid::nil());
        let moving = |to: &str| Some(held("a", Hold::Moving { saga, to: to.parse().unwrap() }));
        assert_eq!(judged(RUNS, moving("b")), Verdict::Claim(saga));
        assert_eq!(judged(OFF, moving("b")), Verdict::Ask { off: true });
        assert_eq!(judged(OFF, moving("c")), Verdict::Leave);
        assert!(matches!(judged(RUNS, moving("c")), Verdict::Wrong(_)));
    }

    #[test]
    fn of_two_definitions_that_are_off_the_owners_counts() {
        let gives_up = |standing, off| gives_up(standing, off, &"a".parse().unwrap());
        for off in [true, false] {
            assert!(gives_up(Standing::Absent, off).is_ok() && gives_up(Standing::Departed, off).is_ok());
            assert!(gives_up(RUNS, off).is_err() && gives_up(Standing::Split, off).is_err() && gives_up(Standing::Arriving, off).is_err());
        }
        assert!(gives_up(OFF, false).is_ok() && gives_up(OFF, true).is_err());
    }
}
