//! Small named documents, compare-and-set. Each change is one transaction that reads the version it compares.

use crate::Store;
use crate::database::Database;
use archipel_contract::port::{Documents, Versioned, check_document};
use archipel_contract::{BoxFuture, Fault, FaultKind};
use rusqlite::{OptionalExtension, params};

impl Database {
    fn document(&mut self, key: &str) -> Result<Option<Versioned>, Fault> {
        self.transact(|t| {
            let sql = "SELECT version, body FROM document WHERE key = ?1 AND body IS NOT NULL";
            Ok(t.prepare_cached(sql)?
                .query_row([key], |r| Ok(Versioned { version: r.get::<_, i64>(0)? as u64, body: r.get(1)? }))
                .optional()?)
        })
    }

    fn documents(&mut self, prefix: &str) -> Result<Vec<(String, Versioned)>, Fault> {
        self.transact(|t| {
            // Keys are ASCII without anything that LIKE or GLOB would read as a pattern, `~` sorts after all of it.
            let sql = "SELECT key, version, body FROM document WHERE key >= ?1 AND key < ?1 || '~' AND body IS NOT NULL ORDER BY key";
            let mut statement = t.prepare_cached(sql)?;
            let rows =
                statement.query_map([prefix], |r| Ok((r.get(0)?, Versioned { version: r.get::<_, i64>(1)? as u64, body: r.get(2)? })))?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        })
    }

    fn write_document(&mut self, key: &str, expected: Option<u64>, body: Option<&[u8]>) -> Result<u64, Fault> {
        self.transact_durably(|t| {
            let now: Option<(i64, bool)> = t
                .prepare_cached("SELECT version, body IS NOT NULL FROM document WHERE key = ?1")?
                .query_row([key], |r| Ok((r.get(0)?, r.get(1)?)))
                .optional()?;
            let version = now.map_or(0, |(version, _)| version as u64);
            let there = now.filter(|(_, there)| *there).map(|(version, _)| version as u64);
            if there != expected {
                let message = format!("the document {key} was changed meanwhile; read it again");
                return Err(Fault::new(FaultKind::Conflict, message).into());
            }
            t.prepare_cached("INSERT INTO document VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET version = ?2, body = ?3")?
                .execute(params![key, (version + 1) as i64, body])?;
            Ok(version + 1)
        })
    }
}

impl Documents for Store {
    fn document(&self, key: String) -> BoxFuture<'_, Result<Option<Versioned>, Fault>> {
        Box::pin(self.run(move |db| db.document(&key)))
    }

    fn documents(&self, prefix: String) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, Fault>> {
        Box::pin(self.run(move |db| db.documents(&prefix)))
    }

    fn write_document(&self, key: String, expected: Option<u64>, body: Option<Vec<u8>>) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(async move {
            check_document(&key, body.as_deref())?;
            self.run(move |db| db.write_document(&key, expected, body.as_deref())).await
        })
    }
}
