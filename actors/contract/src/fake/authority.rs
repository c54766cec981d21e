//! Ownership and leadership in memory.

use super::lock;
use crate::{
    BoxFuture, DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, Millis, Ownership, OwnershipStep, Timestamp,
    port::{Authority, Leadership},
};
use std::collections::HashMap;
use std::future::ready;
use std::sync::Mutex;

/// An authority that forgets everything when it is dropped.
#[derive(Default)]
pub struct MemoryAuthority(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    owned: HashMap<DomainId, Ownership>,
    /// The highest epoch each machine ever had; never forgotten.
    highest: HashMap<DomainId, u64>,
    leaders: HashMap<String, (String, Leadership)>,
    incarnation: u64,
    away: bool,
}

impl MemoryAuthority {
    /// Behaves like that of an agent whose cell is away: what it knows it says, and of all else nothing.
    pub fn go_away(&self, away: bool) {
        lock(&self.0).away = away;
    }
}

fn unknown<T>(domain: DomainId) -> Result<T, Fault> {
    Err(Fault::unavailable(format!("the cell does not answer, so nobody knows whose {domain} is")))
}

fn conflict<T>(message: String) -> Result<T, Fault> {
    Err(Fault::new(FaultKind::Conflict, message))
}

impl Inner {
    fn own(&mut self, domain: DomainId, owner: HypervisorName) -> Ownership {
        let highest = self.highest.entry(domain).or_default();
        *highest += 1;
        let ownership = Ownership::owned(domain, Epoch(*highest), owner);
        self.owned.insert(domain, ownership.clone());
        ownership
    }
}

impl Authority for MemoryAuthority {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        let mut inner = lock(&self.0);
        if let Some(domain) = domains.iter().find(|d| inner.away && !inner.owned.contains_key(d)) {
            return Box::pin(ready(unknown(*domain)));
        }
        let all = domains
            .into_iter()
            .map(|d| match inner.owned.get(&d) {
                Some(o) => o.clone(),
                None => inner.own(d, owner.clone()),
            })
            .collect();
        Box::pin(ready(Ok(all)))
    }

    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        let inner = lock(&self.0);
        let held = inner.owned.get(&domain).cloned();
        Box::pin(ready(if inner.away && held.is_none() { unknown(domain) } else { Ok(held) }))
    }

    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        let mut inner = lock(&self.0);
        let result = match inner.owned.get(&domain) {
            None => Err(Fault::not_found(format!("nobody owns {domain}; claim it first"))),
            Some(o) => o.step(expected, &step).inspect(|after| {
                let after = after.clone();
                inner.highest.insert(domain, after.epoch.0);
                inner.owned.insert(domain, after);
            }),
        };
        Box::pin(ready(result))
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        let mut all: Vec<Ownership> = lock(&self.0).owned.values().filter(|o| o.hold == Hold::Parked).cloned().collect();
        all.sort_by_key(|o| o.domain);
        Box::pin(ready(Ok(all)))
    }

    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        let mut inner = lock(&self.0);
        let result = match inner.owned.get(&domain) {
            None => conflict(format!("nobody owns {domain}; there is nothing to forget")),
            Some(o) => o.check_forget(expected),
        };
        if result.is_ok() {
            inner.owned.remove(&domain);
        }
        Box::pin(ready(result))
    }

    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        let mut inner = lock(&self.0);
        let until = Timestamp(now.0 + lease.0);
        let epoch = match inner.leaders.get(&role) {
            Some((who, held)) if *who == holder => held.epoch,
            Some((who, held)) if held.until > now => {
                let refusal = conflict(format!("{who} leads {role} until {}; try again then", held.until));
                return Box::pin(ready(refusal));
            }
            Some((_, held)) => Epoch(held.epoch.0 + 1),
            None => Epoch(1),
        };
        let leadership = Leadership { epoch, until };
        inner.leaders.insert(role, (holder, leadership.clone()));
        Box::pin(ready(Ok(leadership)))
    }

    fn resign(&self, role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>> {
        if let Some((who, held)) = lock(&self.0).leaders.get_mut(&role)
            && *who == holder
        {
            held.until = Timestamp(0);
            who.clear();
        }
        Box::pin(ready(Ok(())))
    }

    fn vacancy(&self, role: String, now: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        let _ = (role, now);
        // The tests own the time: they ask again when they have moved it.
        Box::pin(ready(Ok(())))
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        let mut inner = lock(&self.0);
        inner.incarnation += 1;
        Box::pin(ready(Ok(inner.incarnation)))
    }
}
