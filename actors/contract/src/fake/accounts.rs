//! Accounts in memory.

use super::lock;
use crate::{
    BoxFuture, Fault, FaultKind,
    port::{Account, Accounts, RosterEntry},
};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Mutex;

/// Accounts that are forgotten when this is dropped.
#[derive(Default)]
pub struct MemoryAccounts(Mutex<BTreeMap<String, (Account, Roster)>>);

type Roster = BTreeMap<String, RosterEntry>;

fn nobody(local: &str) -> Fault {
    Fault::not_found(format!("there is no account {local}; add it first"))
}

impl Accounts for MemoryAccounts {
    fn find(&self, local: String) -> BoxFuture<'_, Result<Option<Account>, Fault>> {
        Box::pin(ready(Ok(lock(&self.0).get(&local).map(|(a, _)| a.clone()))))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Account>, Fault>> {
        Box::pin(ready(Ok(lock(&self.0).values().map(|(a, _)| a.clone()).collect())))
    }

    fn add(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
        let mut all = lock(&self.0);
        let answer = if all.contains_key(&account.local) {
            Err(Fault::new(FaultKind::Conflict, format!("there is an account {} already", account.local)))
        } else {
            all.insert(account.local.clone(), (account, Roster::new()));
            Ok(())
        };
        Box::pin(ready(answer))
    }

    fn replace(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
        let answer = match lock(&self.0).get_mut(&account.local) {
            None => Err(nobody(&account.local)),
            Some((old, _)) => {
                *old = account;
                Ok(())
            }
        };
        Box::pin(ready(answer))
    }

    fn remove(&self, local: String) -> BoxFuture<'_, Result<(), Fault>> {
        let answer = lock(&self.0).remove(&local).map(|_| ()).ok_or_else(|| nobody(&local));
        Box::pin(ready(answer))
    }

    fn roster(&self, local: String) -> BoxFuture<'_, Result<Vec<RosterEntry>, Fault>> {
        let answer = lock(&self.0).get(&local).map(|(_, r)| r.values().cloned().collect()).unwrap_or_default();
        Box::pin(ready(Ok(answer)))
    }

    fn put_roster(&self, local: String, entry: RosterEntry) -> BoxFuture<'_, Result<(), Fault>> {
        let answer = match lock(&self.0).get_mut(&local) {
            None => Err(nobody(&local)),
            Some((_, roster)) => {
                roster.insert(entry.jid.clone(), entry);
                Ok(())
            }
        };
        Box::pin(ready(answer))
    }

    fn remove_roster(&self, local: String, jid: String) -> BoxFuture<'_, Result<(), Fault>> {
        let gone = lock(&self.0).get_mut(&local).and_then(|(_, roster)| roster.remove(&jid));
        let answer = gone.map(|_| ()).ok_or_else(|| Fault::not_found(format!("{jid} is not in that roster")));
        Box::pin(ready(answer))
    }
}
