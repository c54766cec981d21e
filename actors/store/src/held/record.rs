//! The record on this agent's disk. It is written with the disk waited for: a power cut must not bring back a right that was given up.

use super::known::Known;
use crate::Store;
use crate::database::{Database, Refusal};
use archipel_contract::port::Authority;
use archipel_contract::{BoxFuture, DomainId, Epoch, Fault, Hold, Ownership};
use rusqlite::{OptionalExtension, Row, Transaction, params};

/// Where an agent writes down what it knows.
pub(crate) trait Record: Send + Sync {
    /// What is known of each of these machines.
    fn read(&self, domains: Vec<DomainId>) -> BoxFuture<'_, Result<Vec<Known>, Fault>>;
    /// Every machine that is held or being left.
    fn all(&self) -> BoxFuture<'_, Result<Vec<Known>, Fault>>;
    /// Writes each of these that was not changed since it was read, and answers what is known of each now.
    fn write(&self, changes: Vec<Known>) -> BoxFuture<'_, Result<Vec<Known>, Fault>>;
    /// As [`Authority::incarnation`], of this agent.
    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>>;
}

const COLUMNS: &str = "domain, highest, owner, hold, leaving, turn";

fn known(r: &Row<'_>) -> rusqlite::Result<(Known, Option<String>, Option<String>)> {
    let domain = DomainId(uuid::Uuid::from_bytes(r.get(0)?));
    let highest = Epoch(r.get::<_, i64>(1)? as u64);
    Ok((Known { domain, turn: r.get::<_, i64>(5)? as u64, highest, held: None, leaving: r.get(4)? }, r.get(2)?, r.get(3)?))
}

fn understood((mut known, owner, hold): (Known, Option<String>, Option<String>)) -> Result<Known, Fault> {
    let domain = known.domain;
    let broken = |what: &str, e: String| Fault::internal(format!("the recorded {what} of {domain} cannot be read")).because(e);
    if let Some(owner) = owner {
        let owner = owner.parse().map_err(|e| broken("owner", format!("{e}")))?;
        let hold = hold.map_or(Ok(Hold::Owned), |h| serde_json::from_str(&h)).map_err(|e| broken("hold", e.to_string()))?;
        known.held = Some(Ownership { domain, epoch: known.highest, owner, hold });
    }
    Ok(known)
}

fn read(t: &Transaction<'_>, domain: DomainId) -> Result<Known, Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM holding WHERE domain = ?1");
    let found = t.prepare_cached(&sql)?.query_row([domain.0.as_bytes()], known).optional()?;
    Ok(found.map(understood).transpose()?.unwrap_or(Known::nothing(domain)))
}

fn write(t: &Transaction<'_>, change: Known) -> Result<Known, Refusal> {
    let now = read(t, change.domain)?;
    if now.turn != change.turn {
        return Ok(now);
    }
    let change = Known { turn: change.turn + 1, ..change };
    let hold = match change.held.as_ref().map(|held| &held.hold) {
        None | Some(Hold::Owned) => None,
        Some(other) => Some(serde_json::to_string(other).map_err(|e| Fault::internal("an ownership cannot be written").because(e))?),
    };
    let sql = format!("INSERT OR REPLACE INTO holding ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    t.prepare_cached(&sql)?.execute(params![
        change.domain.0.as_bytes(),
        change.highest.0 as i64,
        change.held.as_ref().map(|held| held.owner.as_str()),
        hold,
        change.leaving,
        change.turn as i64
    ])?;
    Ok(change)
}

impl Database {
    fn known(&mut self, domains: &[DomainId]) -> Result<Vec<Known>, Fault> {
        self.transact(|t| domains.iter().map(|domain| read(t, *domain)).collect())
    }

    fn all_known(&mut self) -> Result<Vec<Known>, Fault> {
        self.transact(|t| {
            let sql = format!("SELECT {COLUMNS} FROM holding WHERE owner IS NOT NULL OR leaving ORDER BY domain");
            let rows = t.prepare_cached(&sql)?.query_map([], known)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(rows.into_iter().map(understood).collect::<Result<_, _>>()?)
        })
    }

    fn write_known(&mut self, changes: Vec<Known>) -> Result<Vec<Known>, Fault> {
        self.transact_durably(|t| changes.into_iter().map(|change| write(t, change)).collect())
    }
}

impl Record for Store {
    fn read(&self, domains: Vec<DomainId>) -> BoxFuture<'_, Result<Vec<Known>, Fault>> {
        Box::pin(self.run(move |db| db.known(&domains)))
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<Known>, Fault>> {
        Box::pin(self.run(Database::all_known))
    }

    fn write(&self, changes: Vec<Known>) -> BoxFuture<'_, Result<Vec<Known>, Fault>> {
        Box::pin(self.run(move |db| db.write_known(changes)))
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<u64, Fault>> {
        Authority::incarnation(self)
    }
}
