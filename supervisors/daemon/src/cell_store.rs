//! Where what the cell knows is kept: in `data_dir` when there is one exchange, in etcd when there are several. What belongs to this
//! process alone (its agent's operations and sagas) stays in `data_dir` either way.

use crate::config::Settings;
use archipel_contract::port::{Account, Accounts, Authority, Documents, Journal, RosterEntry};
use archipel_contract::{BoxFuture, Fault, FaultKind, Millis};
use archipel_store::{Etcd, EtcdConfig, Store};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The cell's ports.
#[derive(Clone)]
pub(crate) struct CellStore {
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) documents: Arc<dyn Documents>,
    pub(crate) accounts: Arc<dyn Accounts>,
    /// Of what is asked of the cell itself; all other operations are kept by the agents that carry them out.
    pub(crate) journal: Arc<dyn Journal>,
}

impl CellStore {
    /// The one the configuration names. With etcd nothing is connected yet.
    pub(crate) fn open(settings: &Settings, own: &Store) -> Result<CellStore, Fault> {
        match &settings.cluster {
            None => Ok(CellStore::of(own)),
            Some(cluster) => {
                let etcd = Etcd::open(&cluster.etcd)?;
                let accounts = Remembering { inner: Arc::new(etcd.clone()), seen: Mutex::default() };
                Ok(CellStore { accounts: Arc::new(accounts), ..CellStore::of(&etcd) })
            }
        }
    }

    /// The same, for questions that must be answered within `patience`.
    pub(crate) fn hasty(config: &EtcdConfig, patience: Millis) -> Result<CellStore, Fault> {
        Ok(CellStore::of(&Etcd::open(&EtcdConfig { timeout: patience, ..config.clone() })?))
    }

    fn of<S: Authority + Documents + Accounts + Journal + Clone + 'static>(store: &S) -> CellStore {
        CellStore {
            authority: Arc::new(store.clone()),
            documents: Arc::new(store.clone()),
            accounts: Arc::new(store.clone()),
            journal: Arc::new(store.clone()),
        }
    }
}

/// How long a login waits for etcd before it is decided by what is remembered.
const LOGIN_PATIENCE: Duration = Duration::from_secs(1);

/// Accounts that were seen lately, so that people can log in and look while etcd is away. What was changed meanwhile is not known here,
/// but nothing can be changed meanwhile either.
struct Remembering {
    inner: Arc<dyn Accounts>,
    seen: Mutex<HashMap<String, Account>>,
}

impl Remembering {
    fn see(&self, local: &str, account: Option<&Account>) {
        let mut seen = self.seen.lock();
        match account {
            Some(account) => drop(seen.insert(local.to_owned(), account.clone())),
            None => drop(seen.remove(local)),
        }
    }
}

impl Accounts for Remembering {
    fn find(&self, local: String) -> BoxFuture<'_, Result<Option<Account>, Fault>> {
        Box::pin(async move {
            let answer = match tokio::time::timeout(LOGIN_PATIENCE, self.inner.find(local.clone())).await {
                Ok(answer) => answer,
                Err(_) => Err(Fault::unavailable("the accounts cannot be read, because etcd does not answer; try again later")),
            };
            match answer {
                Ok(found) => {
                    self.see(&local, found.as_ref());
                    Ok(found)
                }
                Err(fault) => match self.seen.lock().get(&local) {
                    Some(account) if matches!(fault.kind, FaultKind::Unavailable | FaultKind::Timeout) => Ok(Some(account.clone())),
                    _ => Err(fault),
                },
            }
        })
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Account>, Fault>> {
        Box::pin(async move {
            let all = self.inner.list().await?;
            *self.seen.lock() = all.iter().map(|account| (account.local.clone(), account.clone())).collect();
            Ok(all)
        })
    }
    fn add(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
        self.inner.add(account)
    }
    fn replace(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
        self.inner.replace(account)
    }
    fn remove(&self, local: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.inner.remove(local)
    }
    fn roster(&self, local: String) -> BoxFuture<'_, Result<Vec<RosterEntry>, Fault>> {
        self.inner.roster(local)
    }
    fn put_roster(&self, local: String, entry: RosterEntry) -> BoxFuture<'_, Result<(), Fault>> {
        self.inner.put_roster(local, entry)
    }
    fn remove_roster(&self, local: String, jid: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.inner.remove_roster(local, jid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::fake::MemoryAccounts;
    use archipel_contract::port::AccountKind;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Default)]
    struct Flaky {
        inner: MemoryAccounts,
        away: AtomicBool,
    }

    impl Accounts for Flaky {
        fn find(&self, local: String) -> BoxFuture<'_, Result<Option<Account>, Fault>> {
            match self.away.load(Ordering::SeqCst) {
                true => Box::pin(std::future::ready(Err(Fault::unavailable("away")))),
                false => self.inner.find(local),
            }
        }
        fn list(&self) -> BoxFuture<'_, Result<Vec<Account>, Fault>> {
            self.inner.list()
        }
        fn add(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
            self.inner.add(account)
        }
        fn replace(&self, account: Account) -> BoxFuture<'_, Result<(), Fault>> {
            self.inner.replace(account)
        }
        fn remove(&self, local: String) -> BoxFuture<'_, Result<(), Fault>> {
            self.inner.remove(local)
        }
        fn roster(&self, local: String) -> BoxFuture<'_, Result<Vec<RosterEntry>, Fault>> {
            self.inner.roster(local)
        }
        fn put_roster(&self, local: String, entry: RosterEntry) -> BoxFuture<'_, Result<(), Fault>> {
            self.inner.put_roster(local, entry)
        }
        fn remove_roster(&self, local: String, jid: String) -> BoxFuture<'_, Result<(), Fault>> {
            self.inner.remove_roster(local, jid)
        }
    }

    #[tokio::test]
    async fn who_was_known_can_log_in_while_etcd_is_away_and_who_was_removed_cannot() {
        let flaky = Arc::new(Flaky::default());
        let accounts = Remembering { inner: flaky.clone(), seen: Mutex::default() };
        for local in ["ann", "bob", "cyd"] {
            accounts.add(archipel_xmpp::accounts::account(local, "x", AccountKind::Node, 0).unwrap()).await.unwrap();
        }
        assert_eq!(accounts.list().await.unwrap().len(), 3);
        accounts.remove("bob".into()).await.unwrap();
        assert_eq!(accounts.find("bob".into()).await.unwrap(), None);
        flaky.away.store(true, Ordering::SeqCst);
        assert!(accounts.find("ann".into()).await.unwrap().is_some());
        for nobody in ["bob", "dan"] {
            assert_eq!(accounts.find(nobody.into()).await.unwrap_err().kind, FaultKind::Unavailable, "{nobody}");
        }
        flaky.away.store(false, Ordering::SeqCst);
        assert!(accounts.find("cyd".into()).await.unwrap().is_some());
    }
}
