//! The versions of a definition follow their machine: its new host asks the one before for them, in the background, after the machine is
//! its own. Nothing of the move waits for that. Where the machine was they stay, as the past of a copy there.
//!
//! ```text
//!   claimed, or taken from the shelf --> asked, part by part --(in the machine's turn)--> joined with what is kept here
//!                                          |  no answer: again, a few times
//!                                          +--> given up: told in the log; the past begins anew here
//! ```

use super::history::{folder, kept, write};
use crate::{
    migration::{PEER, ask, asker, forbidden},
    scope::{SHORT, Scope, within},
};
use archipel_contract::{
    Caller, DomainId, Fault, FaultKind, HypervisorName,
    domain::{KEPT, Kept, joined},
    migration::AskPast,
};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// The pauses before a host that does not answer is asked again, in seconds.
const PAUSES: [u64; 5] = [1, 5, 30, 120, 600];
/// How many bytes of definitions one answer has, at most; one that is larger than that by itself is left out.
const PART: usize = 256 * 1024;

/// Lets the past of a machine that came from there go on here.
pub(crate) fn follow(scope: &Rc<Scope>, id: DomainId, from: HypervisorName) {
    if from == scope.host.name {
        return;
    }
    let scope = scope.clone();
    actix_rt::spawn(async move {
        let mut pauses = PAUSES.into_iter();
        loop {
            let fault = match fetch(&scope, id, &from).await {
                Ok(()) => return,
                Err(fault) => fault,
            };
            let may_pass = matches!(fault.kind, FaultKind::Unavailable | FaultKind::Timeout | FaultKind::Busy);
            let Some(pause) = pauses.next().filter(|_| may_pass) else {
                tracing::warn!(domain = %id, %from, %fault, "the earlier versions of a definition stay where the machine was");
                return;
            };
            tokio::time::sleep(Duration::from_secs(pause)).await;
        }
    });
}

async fn fetch(scope: &Scope, id: DomainId, from: &HypervisorName) -> Result<(), Fault> {
    let mut there: Vec<Kept> = Vec::new();
    loop {
        let after = there.last().map_or(0, |k| k.version.version);
        let part = ask(scope, from, &AskPast { domain: id, after }, PEER).await?;
        let goes_on = part.iter().all(|k| k.version.version > after) && there.len() + part.len() <= KEPT;
        if part.is_empty() || !goes_on {
            break;
        }
        there.extend(part);
    }
    if there.is_empty() {
        return Ok(());
    }
    let desk = scope.desks.of(id);
    let _place = desk.turn.clone().lock_owned().await;
    let mut all = joined(kept(scope, id).await?, there);
    put(scope, id, &all).await?;
    // Every libvirt writes it in its own way.
    let now = within(SHORT, scope.host.domains.xml(id, true)).await?;
    if all.last().is_none_or(|newest| newest.xml != now) {
        write(scope, id, &mut all, None, &format!("moved here from {from}"), &now).await?;
    }
    Ok(())
}

/// Puts these in place of what is kept, each where its number says.
async fn put(scope: &Scope, id: DomainId, all: &[Kept]) -> Result<(), Fault> {
    let mut found: HashMap<String, _> = scope.local.documents(folder(id)).await?.into_iter().collect();
    for kept in all {
        let key = format!("{}{:08}", folder(id), kept.version.version);
        let body =
            serde_json::to_vec(kept).map_err(|e| Fault::internal("a version could not be written; please report this").because(e))?;
        let before = found.remove(&key);
        if before.as_ref().is_none_or(|b| b.body != body) {
            scope.local.write_document(key, before.map(|b| b.version), Some(body)).await?;
        }
    }
    for (key, old) in found {
        scope.local.write_document(key, Some(old.version), None).await?;
    }
    Ok(())
}

/// `hypervisor.past`: only for the host that has the machine now.
pub(crate) async fn tell(scope: &Rc<Scope>, command: AskPast, caller: Caller) -> Result<Vec<Kept>, Fault> {
    let who = asker(scope, &caller)?;
    let held = within(SHORT, scope.authority.ownership(command.domain)).await?;
    if held.is_none_or(|held| held.owner != who) {
        return Err(forbidden("only the host that has a machine may ask for its past"));
    }
    let all = kept(scope, command.domain).await?;
    let mut room = PART;
    let goes = |k: &Kept| k.version.version > command.after && k.xml.len() <= PART;
    let fits = |k: &Kept| {
        let left = room.checked_sub(k.xml.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    Ok(all.into_iter().filter(goes).take_while(fits).collect())
}
