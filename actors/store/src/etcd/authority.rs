//! Who owns which machine. The rule is [`Ownership::step`]; here is only how its answer is written down.

use super::Etcd;
use super::call::{BATCH, Seen, delete, get, plain, unchanged};
use archipel_contract::port::{Authority, Leadership};
use archipel_contract::{BoxFuture, DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, Millis, Ownership, OwnershipStep, Timestamp};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many batches of one bulk claim are under way at once.
const AT_ONCE: usize = 8;

/// The highest epoch a machine ever had, and how it is held unless it was forgotten.
#[derive(Serialize, Deserialize)]
struct Row {
    epoch: Epoch,
    held: Option<Ownership>,
}

impl Row {
    fn of(held: &Ownership) -> Row {
        Row { epoch: held.epoch, held: Some(held.clone()) }
    }
}

/// How a machine stands, as it lies in etcd.
pub(super) fn entries(etcd: &Etcd, domain: DomainId, epoch: Epoch, held: Option<&Ownership>) -> Result<Vec<(String, Value)>, Fault> {
    let row = plain(&Row { epoch, held: held.cloned() })?;
    let shelf = held.filter(|held| held.hold == Hold::Parked).map(|_| (etcd.shelf(domain), row.clone()));
    Ok(std::iter::once((etcd.own(domain), row)).chain(shelf).collect())
}

impl Etcd {
    fn own(&self, domain: DomainId) -> String {
        self.key(format_args!("own/{domain}"))
    }

    fn shelf(&self, domain: DomainId) -> String {
        self.key(format_args!("shelf/{domain}"))
    }

    /// Claims what is unowned among a few machines. Most often none of them was ever seen (a new host) or all are owned (a restart);
    /// both take one request.
    async fn claim_batch(&self, domains: &[DomainId], owner: &HypervisorName) -> Result<Vec<Ownership>, Fault> {
        let call = self.call();
        let keys: Vec<String> = domains.iter().map(|d| self.own(*d)).collect();
        let mut held: Vec<Option<Ownership>> = vec![None; domains.len()];
        // What was seen last of each: revision and epoch, at first as if there were nothing.
        let mut seen = vec![(0, Epoch(0)); domains.len()];
        loop {
            let open: Vec<usize> = (0..domains.len()).filter(|i| held[*i].is_none()).collect();
            if open.is_empty() {
                return Ok(held.into_iter().flatten().collect());
            }
            let claims: Vec<Ownership> =
                open.iter().map(|i| Ownership::owned(domains[*i], Epoch(seen[*i].1.0 + 1), owner.clone())).collect();
            let changes = open.iter().zip(&claims).map(|(i, claim)| call.put(&keys[*i], &Row::of(claim))).collect::<Result<_, _>>()?;
            let same = open.iter().map(|i| unchanged(&keys[*i], seen[*i].0)).collect();
            let done = call.commit(same, changes, open.iter().map(|i| get(&keys[*i])).collect()).await?;
            if done.made {
                open.iter().zip(claims).for_each(|(i, claim)| held[*i] = Some(claim));
                continue;
            }
            for (at, i) in open.iter().enumerate() {
                let now: Seen<Row> = done.seen(at)?;
                let (epoch, owned) = now.value.map_or((Epoch(0), None), |row| (row.epoch, row.held));
                (seen[*i], held[*i]) = ((now.revision, epoch), owned);
            }
        }
    }

    async fn take(&self, domain: DomainId, expected: Epoch, step: &OwnershipStep) -> Result<Ownership, Fault> {
        let (call, own, shelf) = (self.call(), self.own(domain), self.shelf(domain));
        let mut seen: Seen<Row> = call.read(&own).await?;
        loop {
            let ours = call.wrote(&seen);
            let Some(held) = seen.value.and_then(|row| row.held) else {
                return Err(Fault::not_found(format!("nobody owns {domain}; claim it first")));
            };
            if ours {
                return Ok(held);
            }
            let after = held.step(expected, step)?;
            // A stay that finds nothing to change is written all the same: a departure that is still on its way to etcd then finds
            // another revision than the one it has read, and comes too late.
            if after == held && !matches!(step, OwnershipStep::Stay { .. }) {
                return Ok(after);
            }
            let listed = match after.hold {
                Hold::Parked => call.put(&shelf, &Row::of(&after))?,
                Hold::Owned | Hold::Moving { .. } => delete(&shelf),
            };
            let changes = vec![call.put(&own, &Row::of(&after))?, listed];
            let done = call.commit(vec![unchanged(&own, seen.revision)], changes, vec![get(&own)]).await?;
            if done.made {
                return Ok(after);
            }
            seen = done.seen(0)?;
        }
    }

    async fn drop_row(&self, domain: DomainId, expected: Epoch) -> Result<(), Fault> {
        let (call, own) = (self.call(), self.own(domain));
        let mut seen: Seen<Row> = call.read(&own).await?;
        loop {
            if call.wrote(&seen) {
                return Ok(());
            }
            match seen.value.and_then(|row| row.held) {
                Some(held) => held.check_forget(expected)?,
                None => return Err(Fault::new(FaultKind::Conflict, format!("nobody owns {domain}; there is nothing to forget"))),
            }
            let changes = vec![call.put(&own, &Row { epoch: expected, held: None })?, delete(&self.shelf(domain))];
            let done = call.commit(vec![unchanged(&own, seen.revision)], changes, vec![get(&own)]).await?;
            if done.made {
                return Ok(());
            }
            seen = done.seen(0)?;
        }
    }
}

impl Authority for Etcd {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(async move {
            // A transaction may not write one key twice.
            let mut once = domains.clone();
            once.sort_unstable();
            once.dedup();
            let batches = once.chunks(BATCH).map(<[DomainId]>::to_vec).collect::<Vec<_>>();
            let owner = &owner;
            let held: Vec<Ownership> = futures::stream::iter(batches)
                .map(|batch| async move { self.claim_batch(&batch, owner).await })
                .buffered(AT_ONCE)
                .try_collect::<Vec<_>>()
                .await?
                .concat();
            let found = |d: &DomainId| held.binary_search_by_key(d, |o| o.domain).ok().map(|at| held[at].clone());
            Ok(domains.iter().filter_map(found).collect())
        })
    }

    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        Box::pin(async move { Ok(self.call().read::<Row>(&self.own(domain)).await?.value.and_then(|row| row.held)) })
    }

    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        Box::pin(async move { self.take(domain, expected, &step).await })
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(async move {
            let all = self.under::<Row>(&self.key("shelf/")).await?;
            Ok(all.into_iter().filter_map(|(_, _, row)| row.held).collect())
        })
    }

    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { self.drop_row(domain, expected).await })
    }

    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        Box::pin(async move { self.try_to_lead(&role, &holder, lease, now).await })
    }

    fn resign(&self, role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { self.give_back(&role, &holder).await })
    }

    fn vacancy(&self, role: String, _now: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { self.wait_for_vacancy(&role).await })
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(async move {
            let (call, key) = (self.call(), self.key("incarnation"));
            let mut seen: Seen<u64> = call.read(&key).await?;
            loop {
                let count = seen.value.unwrap_or(0);
                if call.wrote(&seen) {
                    return Ok(count);
                }
                let same = vec![unchanged(&key, seen.revision)];
                let done = call.commit(same, vec![call.put(&key, &(count + 1))?], vec![get(&key)]).await?;
                if done.made {
                    return Ok(count + 1);
                }
                seen = done.seen(0)?;
            }
        })
    }
}
