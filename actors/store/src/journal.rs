//! Write-ahead of operations: accepted before they run, done before they are answered.
//!
//! ```text
//!   (absent) --accept--> accepted --complete--> done --24 h later--> (absent)
//!                           |                     |
//!                           +-- accept: Running   +-- accept: Done(the same answer)
//! ```

use crate::Store;
use crate::database::{Database, Refusal};
use archipel_contract::port::{Acceptance, DoneOperation, Journal, Operation};
use archipel_contract::{BoxFuture, EntityId, Fault, FaultKind, OperationId, Role, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;
use uuid::Uuid;

type Outcome = Result<Value, Fault>;

fn unreadable(what: &str, error: impl std::fmt::Display) -> Fault {
    Fault::internal(format!("the stored {what} of an operation cannot be read; please report this")).because(error)
}

/// How an operation that was accepted before stands, compared with one that asks now.
fn stands(t: &Transaction<'_>, operation: &Operation) -> Result<Option<Acceptance>, Refusal> {
    let found = t
        .prepare_cached("SELECT command, target, arguments, outcome FROM operation WHERE caller = ?1 AND id = ?2")?
        .query_row(params![operation.caller, operation.id.0.as_bytes()], |r| {
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get::<_, Option<String>>(3)?))
        })
        .optional()?;
    let Some((command, target, arguments, outcome)) = found else { return Ok(None) };
    let same_arguments = serde_json::from_str::<Value>(&arguments).is_ok_and(|before| before == operation.arguments);
    if command != operation.command || target != operation.target.to_string() || !same_arguments {
        let message = format!("operation {} was {command} on {target} before; use a fresh operation id for another request", operation.id);
        return Err(Fault::new(FaultKind::Conflict, message).into());
    }
    match outcome {
        None => Ok(Some(Acceptance::Running)),
        Some(text) => Ok(Some(Acceptance::Done(serde_json::from_str::<Outcome>(&text).map_err(|e| unreadable("outcome", e))?))),
    }
}

/// What is read of an operation, in this order.
const COLUMNS: &str = "caller, id, role, command, target, arguments, accepted, completed, outcome";

/// An operation as it is written down.
struct Row {
    caller: String,
    id: [u8; 16],
    role: String,
    command: String,
    target: String,
    arguments: String,
    accepted: i64,
}

/// How an operation ended, and when.
struct Ended {
    outcome: Outcome,
    at: Timestamp,
}

fn written(r: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        caller: r.get(0)?,
        id: r.get(1)?,
        role: r.get(2)?,
        command: r.get(3)?,
        target: r.get(4)?,
        arguments: r.get(5)?,
        accepted: r.get(6)?,
    })
}

/// When it ended, and how.
fn end(r: &rusqlite::Row<'_>) -> rusqlite::Result<Option<(i64, String)>> {
    Ok(r.get::<_, Option<i64>>(7)?.zip(r.get::<_, Option<String>>(8)?))
}

impl Row {
    fn operation(self) -> Result<Operation, Fault> {
        Ok(Operation {
            id: OperationId(Uuid::from_bytes(self.id)),
            caller: self.caller,
            role: Role::from_name(&self.role).ok_or_else(|| unreadable("role", &self.role))?,
            command: self.command,
            target: self.target.parse().map_err(|e| unreadable("target", e))?,
            arguments: serde_json::from_str(&self.arguments).map_err(|e| unreadable("arguments", e))?,
            accepted: Timestamp(self.accepted as u64),
        })
    }
}

impl Ended {
    fn of((at, outcome): (i64, String)) -> Result<Ended, Fault> {
        Ok(Ended { outcome: serde_json::from_str(&outcome).map_err(|e| unreadable("outcome", e))?, at: Timestamp(at as u64) })
    }
}

fn done((operation, ended): (Operation, Option<Ended>)) -> Option<DoneOperation> {
    ended.map(|Ended { outcome, at }| DoneOperation { operation, outcome, at })
}

impl Database {
    fn accept(&mut self, operation: &Operation) -> Result<Acceptance, Fault> {
        self.newest = self.newest.max(operation.accepted);
        // One statement is a transaction by itself, which spares every command the words BEGIN and COMMIT.
        let inserted = self
            .connection
            .prepare_cached(
                "INSERT INTO operation (caller, id, role, command, target, arguments, accepted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT DO NOTHING",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    operation.caller,
                    operation.id.0.as_bytes(),
                    operation.role.name(),
                    operation.command,
                    operation.target.to_string(),
                    operation.arguments.to_string(),
                    operation.accepted.0 as i64
                ])
            })
            .map_err(|e| self.explain(e))?;
        if inserted == 1 {
            return Ok(Acceptance::New);
        }
        self.transact(|t| {
            stands(t, operation)?.ok_or_else(|| Fault::internal("an operation was there and is not; please report this").into())
        })
    }

    fn recall(&mut self, operation: &Operation) -> Result<Option<Acceptance>, Fault> {
        self.transact(|t| stands(t, operation))
    }

    fn complete(&mut self, caller: &str, id: OperationId, outcome: &Outcome, at: Timestamp) -> Result<(), Fault> {
        self.newest = self.newest.max(at);
        let text = serde_json::to_string(outcome).map_err(|e| unreadable("outcome", e))?;
        // The first outcome stands: it may have been answered already.
        let changed = self
            .connection
            .prepare_cached(
                "UPDATE operation SET completed = coalesce(completed, ?3), outcome = coalesce(outcome, ?4) WHERE caller = ?1 AND id = ?2",
            )
            .and_then(|mut statement| statement.execute(params![caller, id.0.as_bytes(), at.0 as i64, text]))
            .map_err(|e| self.explain(e))?;
        if changed == 0 {
            return Err(Fault::not_found(format!("no operation {id} of {caller} was accepted")));
        }
        Ok(())
    }

    /// Operations that fit, with their ends where they have one.
    fn operations(&mut self, which: &str, values: impl rusqlite::Params) -> Result<Vec<(Operation, Option<Ended>)>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM operation WHERE {which}");
        let rows = self.connection.prepare_cached(&sql).and_then(|mut statement| {
            let rows = statement.query_map(values, |r| Ok((written(r)?, end(r)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        let rows = rows.map_err(|e| self.explain(e))?;
        rows.into_iter().map(|(row, end)| Ok((row.operation()?, end.map(Ended::of).transpose()?))).collect()
    }

    fn interrupted(&mut self) -> Result<Vec<Operation>, Fault> {
        let found = self.operations("completed IS NULL ORDER BY accepted, id", [])?;
        Ok(found.into_iter().map(|(operation, _)| operation).collect())
    }

    fn done_on(&mut self, target: &EntityId, since: Timestamp, most: usize) -> Result<Vec<DoneOperation>, Fault> {
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let which = "completed >= ?2 AND target = ?1 ORDER BY completed DESC, id DESC LIMIT ?3";
        let found = self.operations(which, params![target.to_string(), since, most])?;
        Ok(found.into_iter().filter_map(done).collect())
    }

    /// Asked once, when an agent begins: it may look at every operation of a day.
    fn ended_tasks(&mut self, since: Timestamp, most: usize) -> Result<Vec<DoneOperation>, Fault> {
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let which = "completed >= ?1 AND target >= 'task.' AND target < 'task/' ORDER BY completed DESC, id DESC LIMIT ?2";
        Ok(self.operations(which, params![since, most])?.into_iter().filter_map(done).collect())
    }

    pub(crate) fn forget_before(&mut self, time: Timestamp) -> Result<u64, Fault> {
        let time = i64::try_from(time.0).unwrap_or(i64::MAX);
        self.transact(|t| Ok(t.prepare_cached("DELETE FROM operation WHERE accepted < ?1 AND completed < ?1")?.execute([time])? as u64))
    }
}

impl Journal for Store {
    fn accept(&self, operation: Operation) -> BoxFuture<'_, Result<Acceptance, Fault>> {
        Box::pin(self.run(move |db| db.accept(&operation)))
    }

    fn recall(&self, operation: Operation) -> BoxFuture<'_, Result<Option<Acceptance>, Fault>> {
        Box::pin(self.run(move |db| db.recall(&operation)))
    }

    fn complete(&self, caller: String, id: OperationId, outcome: Outcome, at: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.run(move |db| db.complete(&caller, id, &outcome, at)))
    }

    fn interrupted(&self) -> BoxFuture<'_, Result<Vec<Operation>, Fault>> {
        Box::pin(self.run(Database::interrupted))
    }

    fn done_on(&self, target: EntityId, since: Timestamp, most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        Box::pin(self.run(move |db| db.done_on(&target, since, most)))
    }

    fn ended_tasks(&self, since: Timestamp, most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        Box::pin(self.run(move |db| db.ended_tasks(since, most)))
    }

    fn forget_before(&self, time: Timestamp) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(self.run(move |db| db.forget_before(time)))
    }
}
