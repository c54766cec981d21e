//! Ownership and leadership. Every change is one transaction that reads what it compares.

use crate::Store;
use crate::database::{Database, Refusal};
use archipel_contract::port::{Authority, Leadership};
use archipel_contract::{BoxFuture, DomainId, Epoch, Fault, FaultKind, Hold, HypervisorName, Millis, Ownership, OwnershipStep, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};

/// One row: the epoch, and how it is owned unless the machine was forgotten.
type Row = Option<(u64, Option<Ownership>)>;

const COLUMNS: &str = "domain, epoch, owner, hold";

fn read(r: &rusqlite::Row<'_>) -> rusqlite::Result<(DomainId, u64, Option<String>, Option<String>)> {
    Ok((DomainId(uuid::Uuid::from_bytes(r.get(0)?)), r.get::<_, i64>(1)? as u64, r.get(2)?, r.get(3)?))
}

fn understood((domain, epoch, owner, hold): (DomainId, u64, Option<String>, Option<String>)) -> Result<(u64, Option<Ownership>), Fault> {
    let broken = |what: &str, e: String| Fault::internal(format!("the stored {what} of {domain} cannot be read")).because(e);
    let Some(owner) = owner else { return Ok((epoch, None)) };
    let owner = owner.parse().map_err(|e| broken("owner", format!("{e}")))?;
    let hold = hold.map_or(Ok(Hold::Owned), |h| serde_json::from_str(&h)).map_err(|e| broken("hold", e.to_string()))?;
    Ok((epoch, Some(Ownership { domain, epoch: Epoch(epoch), owner, hold })))
}

fn row(t: &Transaction<'_>, domain: DomainId) -> Result<Row, Refusal> {
    let found = t
        .prepare_cached(&format!("SELECT {COLUMNS} FROM ownership WHERE domain = ?1"))?
        .query_row([domain.0.as_bytes()], read)
        .optional()?;
    Ok(found.map(understood).transpose()?)
}

/// Every machine there ever was: its highest epoch, and how it is held unless it was forgotten.
pub(crate) fn every_ownership(t: &Transaction<'_>) -> Result<Vec<(DomainId, Epoch, Option<Ownership>)>, Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM ownership ORDER BY domain");
    let rows = t.prepare_cached(&sql)?.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let domain = row.0;
        let (epoch, held) = understood(row)?;
        all.push((domain, Epoch(epoch), held));
    }
    Ok(all)
}

fn write(t: &Transaction<'_>, o: &Ownership) -> Result<(), Refusal> {
    let hold = match &o.hold {
        Hold::Owned => None,
        other => Some(serde_json::to_string(other).map_err(|e| Fault::internal("an ownership cannot be written").because(e))?),
    };
    t.prepare_cached("INSERT INTO ownership VALUES (?1, ?2, ?3, ?4) ON CONFLICT (domain) DO UPDATE SET epoch = ?2, owner = ?3, hold = ?4")?
        .execute(params![o.domain.0.as_bytes(), o.epoch.0 as i64, o.owner.as_str(), hold])?;
    Ok(())
}

impl Database {
    fn claim_unowned(&mut self, domains: &[DomainId], owner: &HypervisorName) -> Result<Vec<Ownership>, Fault> {
        self.transact(|t| {
            let mut answer = Vec::with_capacity(domains.len());
            for &domain in domains {
                answer.push(match row(t, domain)? {
                    Some((_, Some(held))) => held,
                    unowned => {
                        let held = Ownership::owned(domain, Epoch(unowned.map_or(0, |(epoch, _)| epoch) + 1), owner.clone());
                        write(t, &held)?;
                        held
                    }
                });
            }
            Ok(answer)
        })
    }

    /// A transaction that waits for the disk: what it did survives a power cut. For what is rare and decides who may run what.
    pub(crate) fn transact_durably<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Refusal>) -> Result<T, Fault> {
        let set = |db: &Database, level: &str| db.connection.pragma_update(None, "synchronous", level).map_err(|e| db.explain(e));
        set(self, "FULL")?;
        let outcome = self.transact(work);
        set(self, "NORMAL")?;
        outcome
    }

    fn step(&mut self, domain: DomainId, expected: Epoch, step: &OwnershipStep) -> Result<Ownership, Fault> {
        self.transact_durably(|t| match row(t, domain)? {
            Some((_, Some(held))) => {
                let after = held.step(expected, step)?;
                write(t, &after)?;
                Ok(after)
            }
            _ => Err(Fault::not_found(format!("nobody owns {domain}; claim it first")).into()),
        })
    }

    fn parked(&mut self) -> Result<Vec<Ownership>, Fault> {
        self.transact(|t| {
            let sql = format!("SELECT {COLUMNS} FROM ownership WHERE owner IS NOT NULL AND hold IS NOT NULL ORDER BY domain");
            let rows = t.prepare_cached(&sql)?.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut parked = Vec::new();
            for row in rows {
                parked.extend(understood(row)?.1.filter(|o| o.hold == Hold::Parked));
            }
            Ok(parked)
        })
    }

    fn forget(&mut self, domain: DomainId, expected: Epoch) -> Result<(), Fault> {
        self.transact(|t| match row(t, domain)? {
            Some((_, Some(held))) => {
                held.check_forget(expected)?;
                t.prepare_cached("UPDATE ownership SET owner = NULL, hold = NULL WHERE domain = ?1")?.execute([domain.0.as_bytes()])?;
                Ok(())
            }
            _ => Err(Fault::new(FaultKind::Conflict, format!("nobody owns {domain}; there is nothing to forget")).into()),
        })
    }

    fn resign(&mut self, role: &str, holder: &str) -> Result<(), Fault> {
        self.transact(|t| {
            t.prepare_cached("UPDATE leadership SET until = 0, holder = '' WHERE role = ?1 AND holder = ?2")?.execute([role, holder])?;
            Ok(())
        })
    }

    fn led_until(&mut self, role: &str) -> Result<Timestamp, Fault> {
        self.transact(|t| {
            let sql = "SELECT until FROM leadership WHERE role = ?1";
            let until: Option<i64> = t.prepare_cached(sql)?.query_row([role], |r| r.get(0)).optional()?;
            Ok(Timestamp(until.unwrap_or(0) as u64))
        })
    }

    fn lead(&mut self, role: &str, holder: &str, lease: Millis, now: Timestamp) -> Result<Leadership, Fault> {
        self.transact(|t| {
            let current: Option<(u64, String, u64)> = t
                .prepare_cached("SELECT epoch, holder, until FROM leadership WHERE role = ?1")?
                .query_row([role], |r| Ok((r.get::<_, i64>(0)? as u64, r.get(1)?, r.get::<_, i64>(2)? as u64)))
                .optional()?;
            let epoch = match current {
                Some((epoch, other, _)) if other == holder => epoch,
                Some((_, other, until)) if now.0 < until => {
                    let message = format!("{other} leads {role} until {}; wait or stop it", Timestamp(until));
                    return Err(Fault::new(FaultKind::Conflict, message).into());
                }
                Some((epoch, ..)) => epoch + 1,
                None => 1,
            };
            let until = Timestamp(now.0.saturating_add(lease.0));
            t.prepare_cached(
                "INSERT INTO leadership VALUES (?1, ?2, ?3, ?4) ON CONFLICT (role) DO UPDATE SET epoch = ?2, holder = ?3, until = ?4",
            )?
            .execute(params![role, epoch as i64, holder, until.0 as i64])?;
            Ok(Leadership { epoch: Epoch(epoch), until })
        })
    }
}

impl Authority for Store {
    fn claim_unowned(&self, domains: Vec<DomainId>, owner: HypervisorName) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(self.run(move |db| db.claim_unowned(&domains, &owner)))
    }

    fn ownership(&self, domain: DomainId) -> BoxFuture<'_, Result<Option<Ownership>, Fault>> {
        Box::pin(self.run(move |db| db.transact(|t| Ok(row(t, domain)?.and_then(|(_, held)| held)))))
    }

    fn ownerships(&self, domains: Vec<DomainId>) -> BoxFuture<'_, Result<Vec<Option<Ownership>>, Fault>> {
        let read = move |t: &Transaction<'_>| domains.iter().map(|id| Ok(row(t, *id)?.and_then(|(_, held)| held))).collect();
        Box::pin(self.run(move |db| db.transact(read)))
    }

    fn step(&self, domain: DomainId, expected: Epoch, step: OwnershipStep) -> BoxFuture<'_, Result<Ownership, Fault>> {
        Box::pin(self.run(move |db| db.step(domain, expected, &step)))
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Ownership>, Fault>> {
        Box::pin(self.run(Database::parked))
    }

    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| db.forget(domain, expected)))
    }

    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        Box::pin(self.run(move |db| db.lead(&role, &holder, lease, now)))
    }

    fn resign(&self, role: String, holder: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| db.resign(&role, &holder)))
    }

    fn vacancy(&self, role: String, now: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let until = self.run(move |db| db.led_until(&role)).await?;
            tokio::time::sleep(Millis(until.0.saturating_sub(now.0)).duration()).await;
            Ok(())
        })
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(self.run(|db| {
            db.transact(|t| {
                let sql =
                    "INSERT INTO counter VALUES ('incarnation', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value";
                Ok(t.query_row(sql, [], |r| r.get::<_, i64>(0))? as u64)
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Use;

    #[test]
    fn what_decides_who_may_run_a_machine_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Database::open(dir.path(), Use::Daemon).unwrap();
        let level = |t: &Transaction<'_>| -> Result<i64, Refusal> { Ok(t.query_row("PRAGMA synchronous", [], |r| r.get(0))?) };
        assert_eq!(db.transact_durably(level).unwrap(), 2, "FULL");
        assert_eq!(db.transact(level).unwrap(), 1, "NORMAL again");
        let refused = db.transact_durably(|_| Err::<(), _>(Fault::busy("no").into()));
        assert!(refused.is_err());
        assert_eq!(db.transact(level).unwrap(), 1, "also after a refusal");
    }
}
