//! Where what the cell knows is kept: in `data_dir` when there is one exchange, in etcd when there are several. What belongs to this
//! process alone (its agent's operations and sagas) stays in `data_dir` either way.
//!
//! ```text
//!   first start with etcd:  gate closed --what data_dir has of the cell is carried over--> gate open
//!   each term of this exchange: the same ports, whose changes end with the term
//! ```

use crate::config::{Cluster, Settings};
use crate::control::Ring;
use archipel_contract::cell::journal_target;
use archipel_contract::port::{Account, Accounts, Authority, Documents, Journal, RosterEntry};
use archipel_contract::{BoxFuture, Epoch, Fault, FaultKind, Millis, OperationId};
use archipel_store::{Carried, Content, Etcd, EtcdConfig, Store, Watch, Watched};
use archipel_xmpp::client::Pauses;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The cell's ports.
#[derive(Clone)]
pub(crate) struct CellStore {
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) documents: Arc<dyn Documents>,
    pub(crate) accounts: Arc<dyn Accounts>,
    /// Of what is asked of the cell itself; all other operations are kept by the agents that carry them out.
    pub(crate) journal: Arc<dyn Journal>,
    shared: Option<Arc<Shared>>,
}

/// What there is besides, when other exchanges share it.
struct Shared {
    /// Behind the gate.
    etcd: Etcd,
    remembered: Arc<Remembered>,
    own: Store,
    /// Whether what `own` has of the cell is in etcd.
    gate: watch::Sender<bool>,
    /// Before the gate.
    outside: Etcd,
    carry_over: bool,
}

/// The document in `data_dir` that says whether what is there of the cell was carried over.
const CARRIED: &str = "cluster/carried";

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Carrying {
    /// Names this `data_dir` in etcd.
    id: OperationId,
    done: bool,
}

/// Who wants to use etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// An exchange: it says in etcd that the cell began, even with nothing.
    Exchange,
    /// A short command.
    Command,
}

impl CellStore {
    /// The one the configuration names. With etcd nothing is connected yet, and nothing is asked before [`CellStore::carried`].
    pub(crate) fn open(settings: &Settings, own: &Store) -> Result<CellStore, Fault> {
        match &settings.cluster {
            None => Ok(CellStore::of(own, own)),
            Some(Cluster { etcd, carry_over, .. }) => {
                let (outside, gate) = (Etcd::open(etcd)?, watch::Sender::new(false));
                let etcd = outside.behind(gate.subscribe());
                let remembered = Arc::<Remembered>::default();
                let (own, carry_over) = (own.clone(), *carry_over);
                Ok(CellStore::remembering(Arc::new(Shared { etcd, remembered, own, gate, outside, carry_over }), None))
            }
        }
    }

    /// The same, for questions that must be answered within `patience`.
    pub(crate) fn hasty(config: &EtcdConfig, patience: Millis) -> Result<Arc<dyn Authority>, Fault> {
        Ok(Arc::new(Etcd::open(&EtcdConfig { timeout: patience, ..config.clone() })?))
    }

    fn remembering(shared: Arc<Shared>, term: Option<Etcd>) -> CellStore {
        let etcd = term.unwrap_or_else(|| shared.etcd.clone());
        let accounts = Remembering { inner: Arc::new(etcd.clone()), remembered: shared.remembered.clone() };
        CellStore { shared: Some(shared), ..CellStore::of(&etcd, &accounts) }
    }

    fn of<S, A>(store: &S, accounts: &A) -> CellStore
    where
        S: Authority + Documents + Journal + Clone + 'static,
        A: Accounts + Clone + 'static,
    {
        CellStore {
            authority: Arc::new(store.clone()),
            documents: Arc::new(store.clone()),
            accounts: Arc::new(accounts.clone()),
            journal: Arc::new(store.clone()),
            shared: None,
        }
    }

    /// The same for one term of this exchange: what is changed through it is changed in that term or not at all.
    pub(crate) async fn in_term(&self, role: &str, epoch: Epoch) -> Result<CellStore, Fault> {
        match &self.shared {
            None => Ok(self.clone()),
            Some(shared) => Ok(CellStore::remembering(shared.clone(), Some(shared.etcd.in_term(role, epoch).await?))),
        }
    }

    /// Brings what `data_dir` has of the cell to etcd, if that was not done before, and opens the gate. `conflict`: etcd has another cell.
    pub(crate) async fn carried(&self, usage: Use) -> Result<(), Fault> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let before = shared.carrying().await?;
        if !before.done {
            let cell = journal_target().map_err(|e| Fault::internal("the cell has no name in the journal").because(e))?;
            let content = if shared.carry_over { shared.own.content(cell).await? } else { Content::default() };
            // A command has nothing to say about a cell that is not here.
            if usage == Use::Exchange || !content.is_empty() {
                let carried = shared.outside.carry_over(&content, before.id.0, &crate::host::hostname()).await?;
                shared.carried().await?;
                if carried == Carried::Now {
                    tracing::info!(what = content.summary(), "what this host had of the cell was carried over to etcd");
                }
            }
        }
        shared.gate.send_replace(true);
        Ok(())
    }

    /// Whoever wants to know that an account which was seen here is another one now.
    pub(crate) fn on_account(&self, tell: impl Fn(&str, Ring) + Send + Sync + 'static) {
        if let Some(shared) = &self.shared {
            // Said once, by the one exchange of this process.
            let _ = shared.remembered.told.set(Box::new(tell));
        }
    }

    /// Learns of every change of accounts, whoever makes it, for ever.
    pub(crate) async fn follow_accounts(self) {
        let Some(shared) = self.shared else { return };
        let of = shared.clone();
        let look = move |what: Watched| -> BoxFuture<'static, Result<(), Fault>> {
            let of = of.clone();
            Box::pin(async move {
                match what {
                    Watched::Everything => of.remembered.look_at_all(&of.etcd).await.map(drop),
                    Watched::One(local) => of.remembered.look_at(&of.etcd, &local).await.map(drop),
                }
            })
        };
        shared.follow(Watch::Accounts, look).await;
    }

    /// Calls for every change of documents that begin so, and at the beginning; again when it fails.
    pub(crate) async fn follow_documents(&self, prefix: &'static str, look: impl Fn() -> BoxFuture<'static, Result<(), Fault>> + Send) {
        let Some(shared) = &self.shared else { return };
        shared.follow(Watch::Documents(prefix), move |_| look()).await;
    }
}

impl Shared {
    async fn carrying(&self) -> Result<Carrying, Fault> {
        loop {
            if let Some(found) = self.own.document(CARRIED.to_owned()).await? {
                return serde_json::from_slice(&found.body)
                    .map_err(|e| Fault::internal(format!("the document {CARRIED} in data_dir cannot be read")).because(e));
            }
            match self.write(None, Carrying { id: OperationId::fresh(), done: false }).await {
                Err(fault) if fault.kind != FaultKind::Conflict => return Err(fault),
                _ => {}
            }
        }
    }

    async fn carried(&self) -> Result<(), Fault> {
        let found = self.own.document(CARRIED.to_owned()).await?;
        let before = self.carrying().await?;
        match self.write(found.map(|v| v.version), Carrying { done: true, ..before }).await {
            // A command beside the daemon wrote the same.
            Err(fault) if fault.kind == FaultKind::Conflict => Ok(()),
            other => other,
        }
    }

    async fn write(&self, version: Option<u64>, carrying: Carrying) -> Result<(), Fault> {
        let body =
            serde_json::to_vec(&carrying).map_err(|e| Fault::internal("that the cell was carried over cannot be written").because(e))?;
        self.own.write_document(CARRIED.to_owned(), version, Some(body)).await.map(drop)
    }

    async fn follow(&self, what: Watch, look: impl Fn(Watched) -> BoxFuture<'static, Result<(), Fault>> + Send) {
        let (tell, mut news) = mpsc::channel::<Watched>(64);
        let looking = async {
            while let Some(one) = news.recv().await {
                let mut pauses = Pauses::new(Duration::from_millis(250), Duration::from_secs(5));
                while let Err(fault) = look(one.clone()).await {
                    tracing::debug!(?what, %fault, "what changed in etcd cannot be read yet");
                    tokio::time::sleep(pauses.next_pause()).await;
                }
            }
        };
        tokio::join!(self.etcd.watch(what, tell), looking);
    }
}

/// How long a login waits for etcd before it is decided by what is remembered.
const LOGIN_PATIENCE: Duration = Duration::from_secs(1);

/// Whoever wants to know of accounts that are others now.
type Listener = dyn Fn(&str, Ring) + Send + Sync;

/// Accounts that were seen lately. Whoever logged in was seen by it, so that whatever differs from it later concerns their sessions.
#[derive(Default)]
struct Remembered {
    seen: Mutex<HashMap<String, Account>>,
    told: OnceLock<Box<Listener>>,
}

impl Remembered {
    /// Takes it for what is there now; whoever wants to know is told before this returns if it was something else.
    fn see(&self, local: &str, account: Option<&Account>) {
        let mut seen = self.seen.lock();
        let before = match account {
            Some(account) => seen.insert(local.to_owned(), account.clone()),
            None => seen.remove(local),
        };
        drop(seen);
        let ring = match (before, account) {
            (Some(before), Some(now)) if before != *now => Ring::Changed,
            (Some(_), None) => Ring::Removed,
            _ => return,
        };
        if let Some(tell) = self.told.get() {
            tell(local, ring);
        }
    }

    async fn look_at(&self, accounts: &dyn Accounts, local: &str) -> Result<Option<Account>, Fault> {
        let found = accounts.find(local.to_owned()).await?;
        self.see(local, found.as_ref());
        Ok(found)
    }

    async fn look_at_all(&self, accounts: &dyn Accounts) -> Result<Vec<Account>, Fault> {
        let all = accounts.list().await?;
        let listed: HashMap<&str, &Account> = all.iter().map(|account| (account.local.as_str(), account)).collect();
        let missing: Vec<String> = self.seen.lock().keys().filter(|local| !listed.contains_key(local.as_str())).cloned().collect();
        for account in &all {
            self.see(&account.local, Some(account));
        }
        for local in missing {
            // It may have been added since the list was read.
            self.look_at(accounts, &local).await?;
        }
        Ok(all)
    }
}

/// The cell's accounts, remembered so that people can log in and look while etcd is away. What was changed meanwhile is not known here,
/// but nothing can be changed meanwhile either.
#[derive(Clone)]
struct Remembering {
    inner: Arc<dyn Accounts>,
    remembered: Arc<Remembered>,
}

impl Accounts for Remembering {
    fn find(&self, local: String) -> BoxFuture<'_, Result<Option<Account>, Fault>> {
        Box::pin(async move {
            match tokio::time::timeout(LOGIN_PATIENCE, self.remembered.look_at(&*self.inner, &local)).await {
                Ok(Ok(found)) => Ok(found),
                answer => {
                    let fault = answer.map_or_else(
                        |_| Fault::unavailable("the accounts cannot be read, because etcd does not answer; try again later"),
                        |answer| answer.err().unwrap_or_else(|| Fault::internal("an account was found and lost")),
                    );
                    match self.remembered.seen.lock().get(&local) {
                        Some(account) if matches!(fault.kind, FaultKind::Unavailable | FaultKind::Timeout) => Ok(Some(account.clone())),
                        _ => Err(fault),
                    }
                }
            }
        })
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Account>, Fault>> {
        Box::pin(async move { self.remembered.look_at_all(&*self.inner).await })
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
        let accounts = Remembering { inner: flaky.clone(), remembered: Arc::default() };
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

    #[tokio::test]
    async fn whoever_was_seen_is_noticed_when_they_are_another_or_gone_and_nobody_else_is() {
        let inner = Arc::new(MemoryAccounts::default());
        let accounts = Remembering { inner: inner.clone(), remembered: Arc::default() };
        let (tell, mut told) = mpsc::unbounded_channel();
        let _ = accounts.remembered.told.set(Box::new(move |local, ring| tell.send((local.to_owned(), ring)).unwrap()));
        let account = |local: &str, password: &str| archipel_xmpp::accounts::account(local, password, AccountKind::Node, 0).unwrap();
        for local in ["ann", "bob", "cyd"] {
            inner.add(account(local, "x")).await.unwrap();
        }
        accounts.find("ann".into()).await.unwrap();
        inner.replace(account("ann", "y")).await.unwrap();
        inner.replace(account("bob", "y")).await.unwrap();
        accounts.remembered.look_at(&*inner, "bob").await.unwrap();
        assert!(told.try_recv().is_err(), "nobody has logged in as bob");
        // Whoever logs in with the new password sees to it that those with the old one go.
        accounts.find("ann".into()).await.unwrap();
        assert_eq!(told.try_recv(), Ok(("ann".to_owned(), Ring::Changed)));
        accounts.find("ann".into()).await.unwrap();
        assert!(told.try_recv().is_err(), "and nobody has to go twice");
        inner.remove("ann".into()).await.unwrap();
        accounts.list().await.unwrap();
        assert_eq!(told.try_recv(), Ok(("ann".to_owned(), Ring::Removed)));
        assert!(told.try_recv().is_err());
    }
}
