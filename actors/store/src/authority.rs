//! Ownership and leadership. Every change is one transaction that reads what it compares.

use crate::Store;
use crate::database::{Database, Refusal};
use archipel_contract::port::{Authority, Leadership};
use archipel_contract::{BoxFuture, DomainId, Epoch, Fault, FaultKind, HypervisorName, Millis, Ownership, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};

/// One row: the epoch, and the owner unless the machine was forgotten.
type Row = Option<(u64, Option<String>)>;

fn row(t: &Transaction<'_>, domain: DomainId) -> rusqlite::Result<Row> {
    t.prepare_cached("SELECT epoch, owner FROM ownership WHERE domain = ?1")?
        .query_row([domain.0.as_bytes()], |r| Ok((r.get::<_, i64>(0)? as u64, r.get(1)?)))
        .optional()
}

fn write(t: &Transaction<'_>, domain: DomainId, epoch: u64, owner: Option<&HypervisorName>) -> rusqlite::Result<()> {
    t.prepare_cached("INSERT INTO ownership VALUES (?1, ?2, ?3) ON CONFLICT (domain) DO UPDATE SET epoch = ?2, owner = ?3")?
        .execute(params![domain.0.as_bytes(), epoch as i64, owner.map(HypervisorName::as_str)])?;
    Ok(())
}

fn owned(domain: DomainId, epoch: u64, owner: &str) -> Result<Ownership, Fault> {
    let owner = owner.parse().map_err(|e| Fault::internal(format!("the stored owner of {domain} is no hypervisor")).because(e))?;
    Ok(Ownership { domain, epoch: Epoch(epoch), owner })
}

fn conflict(domain: DomainId, expected: Epoch, row: &Row) -> Fault {
    let now = match row {
        Some((epoch, Some(owner))) => format!("it is at epoch {epoch} on {owner}"),
        _ => "nobody owns it".to_owned(),
    };
    Fault::new(FaultKind::Conflict, format!("{domain} is not at epoch {} any more: {now}; look at it again", expected.0))
}

impl Database {
    fn claim_unowned(&mut self, domains: &[DomainId], owner: &HypervisorName) -> Result<Vec<Ownership>, Fault> {
        self.transact(|t| {
            let mut answer = Vec::with_capacity(domains.len());
            for &domain in domains {
                answer.push(match row(t, domain)? {
                    Some((epoch, Some(other))) => owned(domain, epoch, &other)?,
                    unowned => {
                        let epoch = unowned.map_or(0, |(epoch, _)| epoch) + 1;
                        write(t, domain, epoch, Some(owner))?;
                        Ownership { domain, epoch: Epoch(epoch), owner: owner.clone() }
                    }
                });
            }
            Ok(answer)
        })
    }

    fn change(
        &mut self,
        domain: DomainId,
        expected: Epoch,
        change: impl FnOnce(&Transaction<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Fault> {
        self.transact(|t| match row(t, domain)? {
            Some((epoch, Some(_))) if epoch == expected.0 => change(t),
            other => Err(conflict(domain, expected, &other).into()),
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
        Box::pin(self.run(move |db| {
            db.transact(|t| match row(t, domain)? {
                Some((epoch, Some(owner))) => Ok(Some(owned(domain, epoch, &owner)?)),
                _ => Ok(None),
            })
        }))
    }

    fn transfer(&self, domain: DomainId, expected: Epoch, owner: HypervisorName) -> BoxFuture<'_, Result<Ownership, Fault>> {
        Box::pin(self.run(move |db| {
            let epoch = expected.0.saturating_add(1);
            db.change(domain, expected, |t| Ok(write(t, domain, epoch, Some(&owner))?))?;
            Ok(Ownership { domain, epoch: Epoch(epoch), owner })
        }))
    }

    fn forget(&self, domain: DomainId, expected: Epoch) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| db.change(domain, expected, |t| Ok(write(t, domain, expected.0, None)?))))
    }

    fn lead(&self, role: String, holder: String, lease: Millis, now: Timestamp) -> BoxFuture<'_, Result<Leadership, Fault>> {
        Box::pin(self.run(move |db| db.lead(&role, &holder, lease, now)))
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
