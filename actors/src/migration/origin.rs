//! Where a machine came from. Of all hosts that one alone may ask for it back (`hypervisor.send-back`), and only as long as the authority
//! says that this host has held it without a break since.
//!
//! ```text
//!   claimed from A in epoch 5 --> noted --A asks, authority: ours, epoch 5--> sent back
//!                                   \--moved on, or undefined--> removed      (a note of another epoch counts for nothing)
//! ```

use super::forbidden;
use crate::scope::{SHORT, Scope, within};
use archipel_contract::{DomainId, Epoch, Fault, Hold, HypervisorName};
use serde::{Deserialize, Serialize};

/// What is written down.
#[derive(Serialize, Deserialize)]
struct Origin {
    from: HypervisorName,
    epoch: Epoch,
}

fn key(scope: &Scope, id: DomainId) -> String {
    format!("agent/{}/origin/{id}", scope.host.name)
}

/// It was claimed from that host, and has this epoch here.
pub(super) async fn note(scope: &Scope, id: DomainId, from: &HypervisorName, epoch: Epoch) {
    let write = async {
        let body = serde_json::to_vec(&Origin { from: from.clone(), epoch });
        let body = body.map_err(|e| Fault::internal("where a machine came from cannot be written").because(e))?;
        let before = scope.local.document(key(scope, id)).await?;
        scope.local.write_document(key(scope, id), before.map(|d| d.version), Some(body)).await
    };
    if let Err(fault) = write.await {
        tracing::warn!(domain = %id, %fault, "where a machine came from is not written down; it can only be moved back by hand");
    }
}

/// It is not here any more, where it had this epoch. It may have come back since.
pub async fn erase(scope: &Scope, id: DomainId, epoch: Epoch) {
    let Ok(Some(noted)) = scope.local.document(key(scope, id)).await else { return };
    if serde_json::from_slice::<Origin>(&noted.body).is_ok_and(|origin| origin.epoch > epoch) {
        return;
    }
    if let Err(fault) = scope.local.write_document(key(scope, id), Some(noted.version), None).await {
        tracing::debug!(domain = %id, %fault, "where a machine came from stays written down, and counts for nothing");
    }
}

/// Refuses whoever is not the host it came from.
pub(super) async fn check(scope: &Scope, id: DomainId, who: &HypervisorName) -> Result<(), Fault> {
    let me = &scope.host.name;
    let held = within(SHORT, scope.authority.ownership(id)).await?;
    let held = held.filter(|h| h.owner == *me && h.hold == Hold::Owned);
    let held = held.ok_or_else(|| forbidden(&format!("{id} is not {me}'s to send; look where it is")))?;
    let noted = scope.local.document(key(scope, id)).await?;
    match noted.and_then(|d| serde_json::from_slice::<Origin>(&d.body).ok()) {
        Some(origin) if origin.from == *who && origin.epoch == held.epoch => Ok(()),
        _ => Err(forbidden(&format!("{id} did not come to {me} from {who}, so {who} may not ask for it; move it with domain.migrate"))),
    }
}
