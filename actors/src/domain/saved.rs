//! Memory that libvirt has saved on this host of a machine which another host has had since: its next start would go on from there, over
//! disks that were written to elsewhere. So the right to run is not given out before somebody has thrown it away.
//!
//! ```text
//!   seen here, another host's --memory is saved here--> noted
//!   ours: start ----noted, and still saved--> refused: domain.discard-saved
//!     |             \--noted, saved no more--> forgotten, started
//!     +-- saved anew here, thrown away, undefined --> forgotten
//! ```
//! It is noted when the machine is seen to be another host's, because later nobody can tell: libvirt does not say when it was saved.

use crate::scope::{SHORT, Scope, within};
use archipel_contract::{DomainId, Fault};

fn key(scope: &Scope, id: DomainId) -> String {
    format!("agent/{}/stale-memory/{id}", scope.host.name)
}

/// It is here and another host's: what is saved of it here is of no use any more.
pub(crate) async fn suspect(scope: &Scope, id: DomainId) -> Result<(), Fault> {
    if !within(SHORT, scope.host.snapshots.is_saved(id)).await? {
        return Ok(());
    }
    let before = scope.local.document(key(scope, id)).await?;
    if before.is_none() {
        tracing::warn!(domain = %id, host = %scope.host.name, "old memory of a machine of another host is saved here");
        scope.local.write_document(key(scope, id), None, Some(scope.clock.now().to_string().into_bytes())).await?;
    }
    Ok(())
}

/// Refuses to take a disk from a machine whose memory is saved: libvirt goes on with the devices it had then, whatever its definition names
/// since, and the disk may be another machine's by that time.
pub(super) async fn nothing_is_saved(scope: &Scope, id: DomainId, name: &str) -> Result<(), Fault> {
    if within(SHORT, scope.host.snapshots.is_saved(id)).await? {
        return Err(Fault::wrong_state(format!(
            "{name} has its memory saved and goes on from there with the disks it had; start it and shut it down first, or throw the \
             memory away (domain discard-saved)"
        )));
    }
    Ok(())
}

/// Refuses to start what would go on from old memory.
pub(super) async fn check(scope: &Scope, id: DomainId, name: &str) -> Result<(), Fault> {
    if scope.local.document(key(scope, id)).await?.is_none() {
        return Ok(());
    }
    if within(SHORT, scope.host.snapshots.is_saved(id)).await? {
        return Err(Fault::wrong_state(format!(
            "{name} has memory saved here from before another host had it, and going on from there would destroy what its disks hold now; \
             throw it away first (domain discard-saved)"
        )));
    }
    forget(scope, id).await;
    Ok(())
}

/// What is saved now, if anything, was saved here since, or it is gone.
pub(crate) async fn forget(scope: &Scope, id: DomainId) {
    let forgetting = async {
        let Some(noted) = scope.local.document(key(scope, id)).await? else { return Ok(()) };
        scope.local.write_document(key(scope, id), Some(noted.version), None).await.map(drop)
    };
    let forgotten: Result<(), Fault> = forgetting.await;
    if let Err(fault) = forgotten {
        tracing::warn!(domain = %id, %fault, "that old memory of a machine is gone could not be written down; its start may be refused");
    }
}
