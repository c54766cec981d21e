//! What a transfer that was given up leaves at its target is of no use to anybody: a definition (libvirt makes it when the guest
//! arrives, and the guest may have ended since) and copies of disks. The machine's definition is at its source, which gave the place back.
//!
//! ```text
//!   place given back, that is written down --libvirt has let go of it--> swept
//!      |  its emulator is still there, or the cell does not say whose the machine is
//!      +--> kept: looked at whenever libvirt tells of the machine, after each listing, and in the next life of the agent
//! ```
//! libvirt may let go of it late: a libvirtd that stood still while the source gave up takes the last step of the transfer afterwards,
//! defines the machine, finds that the source has its disks, and ends the guest; the definition stays.

use super::{
    adoption,
    arrival::{self, Arrival},
};
use crate::scope::{LONG, SHORT, Scope, within};
use archipel_contract::{DomainId, FaultKind, Hold, HypervisorName, MoveId, Ownership, domain::DomainState, migration::Standing};
use std::rc::Rc;

/// What is to be done. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It may all go.
    Sweep,
    /// Another move may bring it, or libvirt is not done with this one.
    Later,
    /// The machine is meant to be here, or it executes here: a person may want what there is.
    Leave,
}

fn judge(standing: Standing, held: Option<&Ownership>, me: &HypervisorName) -> Verdict {
    let Some(held) = held else { return Verdict::Leave };
    match (&held.hold, standing) {
        _ if held.owner == *me => Verdict::Leave,
        (Hold::Moving { to, .. }, _) if to == me => Verdict::Later,
        (_, Standing::Off(_) | Standing::Departed | Standing::Absent) => Verdict::Sweep,
        (_, Standing::Here(DomainState::Running)) => Verdict::Leave,
        (_, Standing::Here(_) | Standing::Leaving | Standing::Arriving | Standing::Split) => Verdict::Later,
    }
}

/// A place was given back: sweeps what its transfer made, now or as soon as that may be.
pub(super) async fn begin(scope: &Rc<Scope>, arrival: Rc<Arrival>) {
    let id = arrival.domain();
    let then = sweep(scope, &arrival).await;
    if then == Then::Done {
        return;
    }
    tracing::info!(domain = %id, "libvirt has not let go of a given-up transfer; what it leaves is removed when it has");
    keep(scope, arrival);
    if then == Then::Again {
        // It may have let go just before.
        adoption::noticed(scope, id);
    }
}

/// What an earlier life of this agent gave back and has not swept.
pub(super) fn keep(scope: &Scope, arrival: Rc<Arrival>) {
    scope.moves.unswept.borrow_mut().insert(arrival.held().saga, arrival);
}

/// Whether something of that machine is to be swept.
pub fn is_due(scope: &Scope, id: DomainId) -> bool {
    scope.moves.unswept.borrow().values().any(|a| a.domain() == id)
}

/// Something was seen of a machine of which something is to be swept.
pub(super) async fn again(scope: &Scope, id: DomainId) {
    let due: Vec<Rc<Arrival>> = scope.moves.unswept.borrow().values().filter(|a| a.domain() == id).cloned().collect();
    for arrival in due {
        if sweep(scope, &arrival).await == Then::Done {
            scope.moves.unswept.borrow_mut().remove(&arrival.held().saga);
        }
    }
}

/// After a listing: what is to be swept is looked at.
pub(super) fn settle(scope: &Rc<Scope>) {
    let due: Vec<DomainId> = scope.moves.unswept.borrow().values().map(|a| a.domain()).collect();
    due.into_iter().for_each(|id| adoption::noticed(scope, id));
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is swept, or left for good.
    Done,
    /// Not yet: it is looked at again soon, and when something is told of the machine.
    Again,
    /// libvirt is lost: it is looked at after the next listing.
    Listing,
}

/// Sweeps, if that may be now. The source's word may be late or repeated, so the authority is asked whose the machine is, while nobody
/// claims one here.
async fn sweep(scope: &Scope, arrival: &Arrival) -> Then {
    let (id, held, port) = (arrival.domain(), arrival.held(), &scope.host.migration);
    let _turn = scope.moves.claims.lock().await;
    let standing = match within(SHORT, port.standing(id)).await {
        Ok(standing) => standing,
        Err(fault) if fault.kind == FaultKind::Unavailable => return Then::Listing,
        Err(_) => return Then::Again,
    };
    let Ok(owned) = within(SHORT, scope.authority.ownership(id)).await else { return Then::Again };
    match judge(standing, owned.as_ref(), &scope.host.name) {
        Verdict::Sweep => {}
        Verdict::Later => return Then::Again,
        Verdict::Leave => {
            tracing::warn!(domain = %id, ?owned, ?standing, "what a given-up transfer may have made here is left: the machine may be meant to be here");
            return erased(scope, held.saga).await;
        }
    }
    if held.unknown_before && matches!(standing, Standing::Off(_)) {
        match within(SHORT, port.discard(id)).await {
            Ok(()) => tracing::info!(domain = %id, "the definition a given-up transfer left is removed"),
            Err(fault) => {
                tracing::warn!(domain = %id, %fault, "a definition that a given-up transfer made is still here");
                return Then::Again;
            }
        }
    }
    if held.way.copy_storage {
        match within(LONG, port.remove_copies(held.passport.clone())).await {
            Ok(removed) => tracing::info!(domain = %id, removed, "half-made copies of disks removed"),
            Err(fault) => tracing::warn!(domain = %id, %fault, "half-made copies of disks may be left"),
        }
    }
    erased(scope, held.saga).await
}

async fn erased(scope: &Scope, saga: MoveId) -> Then {
    if arrival::erase(scope, saga).await { Then::Done } else { Then::Again }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::Epoch;

    const OFF: Standing = Standing::Off(DomainState::Shutoff);

    fn name(name: &str) -> HypervisorName {
        name.parse().unwrap()
    }
    fn judged(standing: Standing, owner: &str, hold: Hold) -> Verdict {
        let held = Ownership { hold, ..Ownership::owned(DomainId(uuid::Uuid::nil()), Epoch(2), name(owner)) };
        judge(standing, Some(&held), &name("b"))
    }
    fn moving(to: &str) -> Hold {
        Hold::Moving { saga: MoveId(uuid::Uuid::nil()), to: name(to) }
    }

    #[test]
    fn what_is_ours_or_on_its_way_here_is_never_swept() {
        for standing in [OFF, Standing::Absent, Standing::Departed] {
            assert_eq!(judged(standing, "b", Hold::Owned), Verdict::Leave, "it was claimed, and the word of its source is late");
            assert_eq!(judged(standing, "a", moving("b")), Verdict::Later, "another move brings it here");
            assert_eq!(judged(standing, "a", Hold::Owned), Verdict::Sweep);
            assert_eq!(judged(standing, "a", moving("c")), Verdict::Sweep);
            assert_eq!(judge(standing, None, &name("b")), Verdict::Leave, "nobody says that it is elsewhere");
        }
    }

    #[test]
    fn nothing_is_swept_from_under_an_emulator() {
        for standing in [Standing::Arriving, Standing::Here(DomainState::Paused), Standing::Split, Standing::Leaving] {
            assert_eq!(judged(standing, "a", Hold::Owned), Verdict::Later, "{standing:?}");
        }
        assert_eq!(judged(Standing::Here(DomainState::Running), "a", Hold::Owned), Verdict::Leave, "somebody runs it here");
    }
}
