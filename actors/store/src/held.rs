//! An agent's authority: its own disk first, and the cell's authority behind it, reached over the node link.
//!
//! A machine that the own disk records as owned needs no cell: nobody can take it without this agent's help, so the agent works for
//! as long as it likes while the cell is away. Whatever gives the right to run away is written here before the cell is asked;
//! whatever takes it is written here after the cell has said so. A request or an answer that is lost between the two leaves nobody
//! with the right, and asking again, or [`Held::verify`] after a reconnect, settles it.
//!
//! | asked | own disk | cell |
//! |---|---|---|
//! | `claim_unowned` | answers what it records as owned by that owner | the rest, in one question |
//! | `step` depart, park of ours | first: no right from that moment on | then; if it refuses, what it says is taken over |
//! | `step` stay, claim, unpark | after the cell agreed | first |
//! | `ownership` | answers what it records as owned | the rest |
//! | `forget` | first: no right from that moment on, and after: gone | between |
//! | `lead`, `resign`, `vacancy`, `parked` | | all |
//!
//! An answer of the cell counts only if the record did not change since the question ([`known`] has the rule and its picture). Epochs
//! below the highest this disk has ever seen are refused, whoever says them.

pub(crate) mod known;
mod record;
#[cfg(test)]
mod tests;

use crate::Store;
use archipel_contract::port::{Authority, Leadership};
use archipel_contract::{BoxFuture, DomainId, Epoch, Fault, FaultKind, HypervisorName, Millis, Ownership, OwnershipStep, Timestamp};
use futures::{StreamExt, TryStreamExt};
use known::{Known, Ours};
use record::Record;
use std::sync::Arc;

/// How many machines are left at once when everything is verified.
const AT_ONCE: usize = 64;
/// How many machines are asked after in one question.
const BATCH: usize = 500;

/// The authority of one agent. Cheap to clone.
#[derive(Clone)]
pub struct Held {
    record: Arc<dyn Record>,
    cell: Arc<dyn Authority>,
    ours: Arc<Ours>,
}

/// Whether the cell has answered, and said no.
fn refused(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Conflict | FaultKind::NotFound)
}

fn overtaken(domain: DomainId) -> Fault {
    Fault::new(FaultKind::Conflict, format!("{domain} was changed meanwhile; look at it again"))
}

impl Held {
    /// The authority of the agent with these hypervisors, whose disk is `store`, in the cell of `cell`.
    pub fn new(store: Store, cell: Arc<dyn Authority>, hypervisors: impl IntoIterator<Item = HypervisorName>) -> Held {
        Held { record: Arc::new(store), cell, ours: Arc::new(hypervisors.into_iter().collect()) }
    }

    async fn known(&self, domain: DomainId) -> Result<Known, Fault> {
        Ok(self.record.read(vec![domain]).await?.pop().unwrap_or(Known::nothing(domain)))
    }

    /// Writes down what was learned since `before` was read, and answers what is known now.
    async fn learn(&self, before: &Known, after: Known) -> Result<Known, Fault> {
        // Of machines that were never ours nothing needs to be kept.
        if after == *before || (before.turn == 0 && after.held.is_none() && !after.leaving) {
            return Ok(after);
        }
        Ok(self.record.write(vec![after.clone()]).await?.pop().unwrap_or(after))
    }

    /// Takes over what the cell says.
    async fn hear(&self, before: &Known, said: Option<&Ownership>) -> Result<Known, Fault> {
        if let Some(said) = said {
            before.admits(said.epoch)?;
        }
        self.learn(before, before.hear(said, &self.ours)).await
    }

    /// After the cell refused: takes over how it stands there, as far as that can be known. The refusal is the answer in any case.
    async fn adopt(&self, before: &Known) -> Option<Option<Ownership>> {
        let said = self.cell.ownership(before.domain).await.ok()?;
        if let Err(fault) = self.hear(before, said.as_ref()).await {
            tracing::warn!(domain = %before.domain, %fault, "what the cell says of a machine is not taken over");
        }
        Some(said)
    }

    async fn step_away(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> Result<Ownership, Fault> {
        let mut known = self.known(domain).await?;
        known.admits(expected)?;
        if known.held.is_none() || known.highest != expected {
            let said = self.cell.ownership(domain).await?;
            known = self.hear(&known, said.as_ref()).await?;
            known.admits(expected)?;
            if let Some(theirs) = said.filter(|said| !self.ours.contains(&said.owner)) {
                // The rule says why not; a host that may do it is not this one.
                return theirs.step(expected, &step).and(Err(overtaken(domain)));
            }
        }
        let away = known.step_away(expected, &step)?;
        let written = self.learn(&known, away.clone()).await?;
        if written.held != away.held || written.right().is_some() {
            return Err(overtaken(domain));
        }
        match self.cell.step(domain, expected, step).await {
            Ok(said) => {
                self.hear(&written, Some(&said)).await?;
                Ok(said)
            }
            Err(fault) => {
                if refused(&fault) {
                    self.adopt(&written).await;
                }
                Err(fault)
            }
        }
    }

    async fn step_with_the_cell(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> Result<Ownership, Fault> {
        let known = self.known(domain).await?;
        known.admits(expected)?;
        if known.leaving && known.highest == expected {
            return Err(Fault::not_found(format!("{domain} is being forgotten; claim it first")));
        }
        let saga = match &step {
            OwnershipStep::Stay { saga, .. } => Some(*saga),
            _ => None,
        };
        match self.cell.step(domain, expected, step).await {
            Ok(said) => {
                known.admits(said.epoch)?;
                let after = match saga {
                    Some(saga) => known.stayed(&said, saga, &self.ours),
                    None => known.hear(Some(&said), &self.ours),
                };
                let now = self.learn(&known, after).await?;
                match now.seen(Some(said.clone()), &self.ours) {
                    Some(seen) if seen == said => Ok(said),
                    _ => Err(overtaken(domain)),
                }
            }
            Err(fault) => {
                if refused(&fault) {
                    self.adopt(&known).await;
                }
                Err(fault)
            }
        }
    }

    /// Asks the cell again to forget what it was asked to forget without an answer, so that a late request finds another epoch or
    /// nothing, and answers what is known then.
    async fn finish_leaving(&self, known: Known) -> Result<Known, Fault> {
        match self.cell.forget(known.domain, known.highest).await {
            Ok(()) => self.hear(&known, None).await,
            Err(fault) if refused(&fault) => {
                let said = self.cell.ownership(known.domain).await?;
                self.hear(&known, said.as_ref()).await
            }
            Err(fault) => Err(fault),
        }
    }

    async fn claim(&self, domains: Vec<DomainId>, owner: HypervisorName) -> Result<Vec<Ownership>, Fault> {
        let mut known = self.record.read(domains).await?;
        for one in known.iter_mut().filter(|k| k.leaving) {
            *one = self.finish_leaving(one.clone()).await?;
        }
        let local = |k: &Known| k.right().is_some_and(|held| held.owner == owner);
        let (at, rest): (Vec<usize>, Vec<DomainId>) =
            known.iter().enumerate().filter(|(_, k)| !local(k)).map(|(at, k)| (at, k.domain)).unzip();
        let mut said: Vec<Option<Ownership>> = vec![None; known.len()];
        if !rest.is_empty() {
            match self.cell.claim_unowned(rest, owner).await {
                Ok(answers) => {
                    let mut changes = Vec::new();
                    for (at, answer) in at.iter().zip(answers) {
                        known[*at].admits(answer.epoch)?;
                        let after = known[*at].hear(Some(&answer), &self.ours);
                        let foreign = known[*at].turn == 0 && after.held.is_none();
                        if after != known[*at] && !foreign {
                            changes.push(after);
                        }
                        said[*at] = Some(answer);
                    }
                    let mut written = self.record.write(changes).await?;
                    written.sort_by_key(|k| k.domain);
                    for one in &mut known {
                        if let Ok(found) = written.binary_search_by_key(&one.domain, |k| k.domain) {
                            *one = written[found].clone();
                        }
                    }
                }
                // What is held and gives no right can be said without the cell; of the unknown nothing can.
                Err(fault) if refused(&fault) || at.iter().any(|at| known[*at].held.is_none()) => return Err(fault),
                Err(_) => {}
            }
        }
        let answer = |(known, said): (Known, Option<Ownership>)| {
            let said = said.or_else(|| known.held.clone());
            known.seen(said, &self.ours).ok_or_else(|| overtaken(known.domain))
        };
        known.into_iter().zip(said).map(answer).collect()
    }

    async fn look(&self, domain: DomainId) -> Result<Option<Ownership>, Fault> {
        let known = self.known(domain).await?;
        if let Some(held) = known.right() {
            return Ok(Some(held.clone()));
        }
        match self.cell.ownership(domain).await {
            Ok(said) => {
                let now = self.hear(&known, said.as_ref()).await?;
                Ok(now.seen(said, &self.ours))
            }
            Err(_) if known.held.is_some() => Ok(known.held),
            Err(fault) => Err(fault),
        }
    }

    async fn drop_it(&self, domain: DomainId, expected: Epoch) -> Result<(), Fault> {
        let mut known = self.known(domain).await?;
        known.admits(expected)?;
        let again = known.leaving && known.highest == expected;
        if !again && (known.held.is_none() || known.highest != expected) {
            let said = self.cell.ownership(domain).await?;
            known = self.hear(&known, said.as_ref()).await?;
            if known.held.is_none() || known.highest != expected {
                let now = said.map_or("nobody owns it".into(), |o| format!("it is at epoch {} on {}", o.epoch.0, o.owner));
                let message = format!("{domain} is not this host's at epoch {} any more: {now}; look at it again", expected.0);
                return Err(Fault::new(FaultKind::Conflict, message));
            }
        }
        // What moves or is parked is not forgotten; the right given up for it here would be given up for nothing.
        if let Some(held) = known.held.as_ref().filter(|_| !again) {
            held.check_forget(expected)?;
        }
        let left = self.learn(&known, known.leave()).await?;
        if !left.leaving {
            return Err(overtaken(domain));
        }
        match self.cell.forget(domain, expected).await {
            Ok(()) => self.hear(&left, None).await.map(drop),
            Err(fault) => {
                // The first request did it, and only its answer was lost.
                let gone = refused(&fault) && self.adopt(&left).await == Some(None);
                if gone && again { Ok(()) } else { Err(fault) }
            }
        }
    }

    /// Asks the cell after everything recorded here, which is wanted after a reconnect, takes over what it says, and answers the
    /// machines that are at a higher epoch there or another's: this host is stale in them, and has no right to run them unless it
    /// is named again.
    /// `unavailable` when the cell cannot be reached meanwhile; what was learned until then is kept.
    pub async fn verify(&self) -> Result<Vec<Ownership>, Fault> {
        let (leaving, held): (Vec<Known>, Vec<Known>) = self.record.all().await?.into_iter().partition(|known| known.leaving);
        let left = futures::stream::iter(leaving).map(|known| self.finish_leaving(known)).buffered(AT_ONCE);
        left.try_for_each(|_| std::future::ready(Ok(()))).await?;
        let mut stale = Vec::new();
        for batch in held.chunks(BATCH) {
            let said = self.cell.ownerships(batch.iter().map(|known| known.domain).collect()).await?;
            let mut changes = Vec::new();
            for (known, said) in batch.iter().zip(said) {
                if let Some(said) = &said
                    && let Err(fault) = known.admits(said.epoch)
                {
                    tracing::error!(%fault, "the cell went back behind what this host has seen");
                    continue;
                }
                let after = known.hear(said.as_ref(), &self.ours);
                if after != *known {
                    changes.push(after);
                }
                stale.extend(said.filter(|said| said.epoch > known.highest || !self.ours.contains(&said.owner)));
            }
            self.record.write(changes).await?;
        }
        Ok(stale)
    }
}

impl Authority for Held {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(self.claim(domains, owner))
    }

    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        Box::pin(self.look(domain))
    }

    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        match &step {
            OwnershipStep::Depart { by, .. } | OwnershipStep::Park { by } if self.ours.contains(by) => {
                Box::pin(self.step_away(domain, expected, step))
            }
            _ => Box::pin(self.step_with_the_cell(domain, expected, step)),
        }
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        self.cell.parked()
    }

    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.drop_it(domain, expected))
    }

    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        self.cell.lead(role, holder, lease, now)
    }

    fn resign(&self, role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.cell.resign(role, holder)
    }

    fn vacancy(&self, role: String, now: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        self.cell.vacancy(role, now)
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        self.record.incarnation()
    }
}
