//! Documents in memory.

use super::lock;
use crate::{
    BoxFuture, Fault, FaultKind,
    port::{Documents, Versioned, check_document},
};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Mutex;

/// The version a key has reached, and its text unless it was removed.
type Slot = (u64, Option<Vec<u8>>);

/// Documents that are forgotten when this is dropped.
#[derive(Default)]
pub struct MemoryDocuments(Mutex<BTreeMap<String, Slot>>);

impl Documents for MemoryDocuments {
    fn document(&self, key: String) -> BoxFuture<'_, Result<Option<Versioned>, Fault>> {
        let found = lock(&self.0).get(&key).and_then(|(version, body)| Some(Versioned { version: *version, body: body.clone()? }));
        Box::pin(ready(Ok(found)))
    }

    fn documents(&self, prefix: String) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, Fault>> {
        let all = lock(&self.0);
        let matching = all.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let found = matching
            .filter_map(|(key, (version, body))| Some((key.clone(), Versioned { version: *version, body: body.clone()? })))
            .collect();
        Box::pin(ready(Ok(found)))
    }

    fn write_document(&self, key: String, expected: Option<u64>, body: Option<Vec<u8>>) -> BoxFuture<'_, Result<u64, Fault>> {
        if let Err(fault) = check_document(&key, body.as_deref()) {
            return Box::pin(ready(Err(fault)));
        }
        let mut all = lock(&self.0);
        let slot = all.entry(key.clone()).or_insert((0, None));
        if slot.1.as_ref().map(|_| slot.0) != expected {
            let message = format!("the document {key} was changed meanwhile; read it again");
            return Box::pin(ready(Err(Fault::new(FaultKind::Conflict, message))));
        }
        *slot = (slot.0 + 1, body);
        Box::pin(ready(Ok(slot.0)))
    }
}
