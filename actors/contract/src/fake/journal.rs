//! Operations in memory.

use super::lock;
use crate::{
    BoxFuture, EntityId, Fault, FaultKind, OperationId, Timestamp,
    port::{Acceptance, DoneOperation, Journal, Operation},
};
use serde_json::Value;
use std::collections::HashMap;
use std::future::ready;
use std::sync::Mutex;

type Key = (String, OperationId);
type Ended = (Result<Value, Fault>, Timestamp);

/// A journal that forgets everything when it is dropped. Keep it over a restart of the agent to play a crash.
#[derive(Default)]
pub struct MemoryJournal(Mutex<HashMap<Key, (Operation, Option<Ended>)>>);

impl MemoryJournal {
    /// How an operation stands: `None` when it is unknown or not done.
    pub fn outcome(&self, caller: &str, id: OperationId) -> Option<Result<Value, Fault>> {
        lock(&self.0).get(&(caller.to_owned(), id)).and_then(|(_, ended)| ended.as_ref().map(|(outcome, _)| outcome.clone()))
    }
    /// How many operations it knows.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How an operation that was accepted before stands, compared with one that asks now.
fn stands((first, ended): &(Operation, Option<Ended>), operation: &Operation) -> Result<Acceptance, Fault> {
    let same = first.command == operation.command && first.target == operation.target && first.arguments == operation.arguments;
    match ended {
        _ if !same => Err(Fault::new(FaultKind::Conflict, format!("operation {} was another request; use a fresh id", operation.id))),
        Some((outcome, _)) => Ok(Acceptance::Done(outcome.clone())),
        None => Ok(Acceptance::Running),
    }
}

/// Those that were done since then, newest first.
fn newest<'a>(of: impl Iterator<Item = &'a (Operation, Option<Ended>)>, since: Timestamp, most: usize) -> Vec<DoneOperation> {
    let done = |(operation, ended): &(Operation, Option<Ended>)| {
        let (outcome, at) = ended.clone()?;
        (at >= since).then(|| DoneOperation { operation: operation.clone(), outcome, at })
    };
    let mut done: Vec<DoneOperation> = of.filter_map(done).collect();
    done.sort_by_key(|d| std::cmp::Reverse((d.at, d.operation.id)));
    done.truncate(most);
    done
}

impl Journal for MemoryJournal {
    fn accept(&self, operation: Operation) -> BoxFuture<'_, Result<Acceptance, Fault>> {
        let mut all = lock(&self.0);
        let key = (operation.caller.clone(), operation.id);
        let answer = match all.get(&key) {
            None => {
                all.insert(key, (operation, None));
                Ok(Acceptance::New)
            }
            Some(known) => stands(known, &operation),
        };
        Box::pin(ready(answer))
    }

    fn recall(&self, operation: Operation) -> BoxFuture<'_, Result<Option<Acceptance>, Fault>> {
        let answer = lock(&self.0).get(&(operation.caller.clone(), operation.id)).map(|known| stands(known, &operation)).transpose();
        Box::pin(ready(answer))
    }

    fn complete(&self, caller: String, id: OperationId, outcome: Result<Value, Fault>, at: Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        let answer = match lock(&self.0).get_mut(&(caller, id)) {
            None => Err(Fault::not_found(format!("operation {id} was never accepted; accept it first"))),
            Some((_, ended)) => {
                ended.get_or_insert((outcome, at));
                Ok(())
            }
        };
        Box::pin(ready(answer))
    }

    fn interrupted(&self) -> BoxFuture<'_, Result<Vec<Operation>, Fault>> {
        let mut open: Vec<Operation> = lock(&self.0).values().filter(|(_, ended)| ended.is_none()).map(|(o, _)| o.clone()).collect();
        open.sort_by_key(|o| (o.accepted, o.id));
        Box::pin(ready(Ok(open)))
    }

    fn done_on(&self, target: EntityId, since: Timestamp, most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        let all = lock(&self.0);
        Box::pin(ready(Ok(newest(all.values().filter(|(operation, _)| operation.target == target), since, most))))
    }

    fn ended_tasks(&self, since: Timestamp, most: usize) -> BoxFuture<'_, Result<Vec<DoneOperation>, Fault>> {
        let all = lock(&self.0);
        Box::pin(ready(Ok(newest(all.values().filter(|(operation, _)| matches!(operation.target, EntityId::Task(_))), since, most))))
    }

    fn forget_before(&self, time: Timestamp) -> BoxFuture<'_, Result<u64, Fault>> {
        let mut all = lock(&self.0);
        let before = all.len();
        all.retain(|_, (_, ended)| ended.as_ref().is_none_or(|(_, at)| *at >= time));
        let gone = (before - all.len()) as u64;
        Box::pin(ready(Ok(gone)))
    }
}
