//! Machines of others that are seen here: those a move of ours brings, and those somebody moved with other tools.
//!
//! ```text
//!   seen --place held, executes--> claimed at once, the source is told
//!     |---its owner moves it here--> claimed
//!     +---its owner has it no more (hypervisor.yield)--> claimed: adopted       else it stays a stranger, and is asked about again
//! ```
//! Nothing is started or stopped for that. A stranger that is adopted by nobody is shown with its hypervisor and alarmed by the auditor.

use super::arrival::{self, Wish};
use super::{PEER, ask, asker};
use crate::{
    board::Change,
    domain::turn,
    scope::{SHORT, Scope, within},
    strangers,
};
use archipel_contract::{
    Caller, DomainId, EntityId, Fault, FaultKind, Hold, HypervisorName, MoveId, OwnershipStep,
    event::Cause,
    migration::{Release, Standing, Yield, Yielded},
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
            let stays = match look(&scope, id).await {
                Ok(stays) => stays,
                Err(fault) => {
                    tracing::warn!(domain = %id, host = %scope.host.name, %fault, "a machine of another host is here");
                    true
                }
            };
            if scope.moves.noticed.borrow().get(&id) == Some(&true) {
                continue;
            }
            if !stays {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
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

/// One look; `true`: it is a stranger and stays one for now.
async fn look(scope: &Rc<Scope>, id: DomainId) -> Result<bool, Fault> {
    let me = &scope.host.name;
    let executes = within(SHORT, scope.host.migration.standing(id)).await?.may_execute();
    if let Some(place) = scope.moves.awaited(id) {
        // In post-copy half of its memory is still at the source, whose word is awaited.
        if executes && !place.held().way.post_copy {
            let wish = arrival::wish_of(&place);
            let (saga, from) = (wish.saga, wish.from.clone());
            let epoch = arrival::claim(scope, wish).await?;
            if let Err(fault) = ask(scope, &from, &Release { saga, domain: id, epoch }, PEER).await {
                tracing::info!(domain = %id, %from, %fault, "the source was not told that its machine was claimed; it will ask");
            }
        }
        return Ok(false);
    }
    if !executes {
        return Ok(false);
    }
    let Some(held) = within(SHORT, scope.authority.ownership(id)).await? else {
        scope.keeper.start(EntityId::Domain(id));
        return Ok(false);
    };
    let wish = |saga: MoveId, epoch| Wish {
        saga,
        domain: id,
        epoch,
        from: held.owner.clone(),
        definition: None,
        autostart: false,
        operations: Vec::new(),
        cause: Cause::Libvirt,
    };
    match &held.hold {
        _ if held.owner == *me => scope.keeper.start(EntityId::Domain(id)),
        Hold::Moving { saga, to } if to == me => drop(arrival::claim(scope, wish(*saga, held.epoch)).await?),
        Hold::Moving { to, .. } => return Err(Fault::busy(format!("{} moves it to {to}, and it is here", held.owner))),
        Hold::Parked => return Err(Fault::new(FaultKind::Conflict, "it is parked, and somebody started it here; take it from the shelf")),
        Hold::Owned => {
            let saga = MoveId::fresh();
            let yielded = ask(scope, &held.owner, &Yield { domain: id, saga }, PEER).await?;
            let epoch = arrival::claim(scope, wish(saga, yielded.epoch)).await?;
            if let Err(fault) = ask(scope, &held.owner, &Release { saga, domain: id, epoch }, PEER).await {
                tracing::info!(domain = %id, from = %held.owner, %fault, "the owner before was not told that its machine was claimed");
            }
        }
    }
    Ok(false)
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
    match standing {
        Standing::Absent | Standing::Departed | Standing::Off(_) => {}
        Standing::Here(_) | Standing::Leaving | Standing::Arriving | Standing::Split => {
            return Err(Fault::wrong_state(format!("its guest is on {me} as well; look at both hosts and stop one")));
        }
    }
    let held = within(SHORT, scope.authority.ownership(id)).await?;
    let mut held = held.filter(|h| h.owner == *me).ok_or_else(|| Fault::not_found(format!("{me} does not own it")))?;
    if let Hold::Moving { saga, .. } = &held.hold {
        // It was yielded before, to somebody who did not come.
        let step = OwnershipStep::Stay { by: me.clone(), saga: *saga };
        held = within(SHORT, scope.authority.step(id, held.epoch, step)).await?;
    }
    let step = OwnershipStep::Depart { by: me.clone(), saga: command.saga, to: to.clone() };
    held = within(SHORT, scope.authority.step(id, held.epoch, step)).await?;
    if standing != Standing::Absent
        && let Err(fault) = within(SHORT, scope.host.domains.set_autostart(id, false)).await
    {
        tracing::warn!(domain = %id, %fault, "what is left of a machine that went elsewhere may start with this host");
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
    match within(SHORT, scope.host.domains.read(id)).await {
        Ok(record) => strangers::note(scope, &record),
        Err(fault) if fault.kind == FaultKind::NotFound => strangers::forget(scope, id),
        Err(fault) => tracing::debug!(domain = %id, %fault, "what other tools have left of a machine is told of with the next listing"),
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
