//! Where what the cell knows is kept: in `data_dir` when there is one exchange, in etcd when there are several. What belongs to this
//! process alone (its agent's operations and sagas) stays in `data_dir` either way.

use crate::config::Settings;
use archipel_contract::port::{Accounts, Authority, Documents, Journal};
use archipel_contract::{Fault, Millis};
use archipel_store::{Etcd, EtcdConfig, Store};
use std::sync::Arc;

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
            Some(cluster) => Ok(CellStore::of(&Etcd::open(&cluster.etcd)?)),
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
