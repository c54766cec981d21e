//! Write-ahead of operations.
//!
//! ```text
//!   (absent) --accept--> open/... --complete--> done/... and aged/<time>/... --forget_before--> (absent)
//! ```
//! An operation lies at one key at a time, so what a crash interrupted is one range and nothing is searched for.

use super::Etcd;
use super::call::{Outcome, delete, get, plain, unchanged};
use archipel_contract::port::{Acceptance, DoneOperation, Journal, Operation};
use archipel_contract::{BoxFuture, Fault, FaultKind, OperationId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An operation that was carried out.
#[derive(Serialize, Deserialize)]
struct Done {
    operation: Operation,
    outcome: Result<Value, Fault>,
}

struct Keys {
    open: String,
    done: String,
    tail: String,
}

impl Etcd {
    /// The id stands first because it has no slash in it, whatever the caller is called.
    fn operation(&self, caller: &str, id: OperationId) -> Keys {
        let tail = format!("{id}/{caller}");
        Keys { open: self.key(format_args!("open/{tail}")), done: self.key(format_args!("done/{tail}")), tail }
    }

    fn aged(&self, completed: Timestamp, tail: &str) -> String {
        self.key(format_args!("aged/{:020}/{tail}", completed.0))
    }
}

/// An operation that was accepted and not done, as it lies in etcd.
pub(super) fn open_entry(etcd: &Etcd, operation: &Operation) -> Result<(String, Value), Fault> {
    Ok((etcd.operation(&operation.caller, operation.id).open, plain(operation)?))
}

/// One that was done.
pub(super) fn done_entries(etcd: &Etcd, done: &DoneOperation) -> Result<[(String, Value); 2], Fault> {
    let keys = etcd.operation(&done.operation.caller, done.operation.id);
    let value = plain(&Done { operation: done.operation.clone(), outcome: done.outcome.clone() })?;
    Ok([(keys.done, value), (etcd.aged(done.at, &keys.tail), Value::Null)])
}

/// How an operation that was accepted before stands (what lies at its open and its done key), compared with one that asks now.
fn stands(found: &Outcome, asked: &Operation) -> Result<Option<Acceptance>, Fault> {
    let (open, done) = (found.seen::<Operation>(0)?.value, found.seen::<Done>(1)?.value);
    let (before, stands) = match (open, done) {
        (_, Some(done)) => (done.operation, Acceptance::Done(done.outcome)),
        (Some(open), None) => (open, Acceptance::Running),
        (None, None) => return Ok(None),
    };
    if before.command != asked.command || before.target != asked.target || before.arguments != asked.arguments {
        let message = format!(
            "operation {} was {} on {} before; use a fresh operation id for another request",
            asked.id, before.command, before.target
        );
        return Err(Fault::new(FaultKind::Conflict, message));
    }
    Ok(Some(stands))
}

impl Journal for Etcd {
    fn accept(&self, operation: Operation) -> BoxFuture<'_, Result<Acceptance, Fault>> {
        Box::pin(async move {
            let (call, keys) = (self.call(), self.operation(&operation.caller, operation.id));
            let new = vec![unchanged(&keys.open, 0), unchanged(&keys.done, 0)];
            let found = call.commit(new, vec![call.put(&keys.open, &operation)?], vec![get(&keys.open), get(&keys.done)]).await?;
            if found.made || call.wrote(&found.seen::<Operation>(0)?) {
                return Ok(Acceptance::New);
            }
            stands(&found, &operation)?.ok_or_else(|| Fault::internal("an operation was there and is not; please report this"))
        })
    }

    fn recall(&self, operation: Operation) -> BoxFuture<'_, Result<Option<Acceptance>, Fault>> {
        Box::pin(async move {
            let keys = self.operation(&operation.caller, operation.id);
            stands(&self.call().look(vec![get(&keys.open), get(&keys.done)]).await?, &operation)
        })
    }

    fn complete(&self, caller: String, id: OperationId, outcome: Result<Value, Fault>, at: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let (call, keys) = (self.call(), self.operation(&caller, id));
            let read = || vec![get(&keys.open), get(&keys.done)];
            let mut found = call.look(read()).await?;
            loop {
                // The first outcome stands: it may have been answered already.
                if found.seen::<Done>(1)?.value.is_some() {
                    return Ok(());
                }
                let open = found.seen::<Operation>(0)?;
                let Some(operation) = open.value else {
                    return Err(Fault::not_found(format!("no operation {id} of {caller} was accepted")));
                };
                let done = Done { operation, outcome: outcome.clone() };
                let changes = vec![delete(&keys.open), call.put(&keys.done, &done)?, call.put(&self.aged(at, &keys.tail), &())?];
                found = call.commit(vec![unchanged(&keys.open, open.revision)], changes, read()).await?;
                if found.made {
                    return Ok(());
                }
            }
        })
    }

    fn interrupted(&self) -> BoxFuture<'_, Result<Vec<Operation>, Fault>> {
        Box::pin(async move {
            let open = self.under::<Operation>(&self.key("open/")).await?;
            let mut all: Vec<Operation> = open.into_iter().map(|(_, _, operation)| operation).collect();
            all.sort_by_key(|o| (o.accepted, o.id.0));
            Ok(all)
        })
    }

    fn forget_before(&self, time: Timestamp) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(async move {
            let (from, end) = (self.key("aged/"), self.aged(time, ""));
            // Where the rest of the key begins, after the time and its slash.
            let tail = from.len() + 21;
            let mut forgotten = 0;
            loop {
                let call = self.call();
                let (page, next) = call.page(from.as_bytes(), end.as_bytes(), true).await?;
                let keys: Vec<String> = page.iter().map(|kv| String::from_utf8_lossy(kv.key()).into_owned()).collect();
                if !keys.is_empty() {
                    let both = |key: &String| [delete(key), delete(&self.key(format_args!("done/{}", &key[tail..])))];
                    let removed = call.commit(vec![], keys.iter().flat_map(both).collect(), vec![]).await?.removed;
                    forgotten += removed as u64 / 2;
                }
                if next.is_none() {
                    return Ok(forgotten);
                }
            }
        })
    }
}
