//! The port for storage pools.

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    xml::read,
};
use archipel_contract::{
    BoxFuture, Bytes, Fault, PoolId,
    storage_pool::{self as policy, PoolFacts, PoolPort, PoolRecord, PoolState},
};
use std::sync::Arc;
use virt::{error::Error, storage_pool::StoragePool, sys};

pub(crate) fn lookup(session: &Session, id: PoolId) -> Result<StoragePool, Error> {
    ask(|| session.connect.lookup_storage_pool_by_uuid(id.0))
}

fn record(pool: &StoragePool) -> Result<PoolRecord, Trouble> {
    let info = ask(|| pool.info())?;
    let xml = ask(|| pool.xml_desc(0))?;
    let (pool_type, path) = read::pool(&xml).map_err(|e| unreadable("a storage pool", e))?;
    let state = match info.state {
        sys::VIR_STORAGE_POOL_INACTIVE => PoolState::Inactive,
        sys::VIR_STORAGE_POOL_BUILDING => PoolState::Building,
        sys::VIR_STORAGE_POOL_RUNNING => PoolState::Running,
        sys::VIR_STORAGE_POOL_DEGRADED => PoolState::Degraded,
        _ => PoolState::Inaccessible,
    };
    // What an inactive pool once had is of no use to anybody.
    let size = |bytes| if state == PoolState::Inactive { Bytes(0) } else { Bytes(bytes) };
    Ok(PoolRecord {
        id: PoolId(pool.uuid()?),
        name: pool.name()?.into(),
        facts: PoolFacts {
            state,
            capacity: size(info.capacity),
            allocation: size(info.allocation),
            available: size(info.available),
            pool_type: pool_type.into(),
            path: path.map(Arc::from),
            persistent: ask(|| pool.is_persistent())?,
            autostart: ask(|| pool.autostart())?,
        },
    })
}

impl Link {
    /// Runs `command` on one pool, unless its state forbids it.
    fn on_pool(
        &self,
        lane: Lane,
        id: PoolId,
        command: &'static str,
        doing: &'static str,
        act: impl FnOnce(&StoragePool) -> Result<(), Error> + Send + 'static,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(lane, doing, move |session| {
            let pool = lookup(session, id)?;
            let now = record(&pool)?;
            policy::may(command, &now.facts).check(&format!("the storage pool {}", now.name))?;
            Ok(ask(|| act(&pool))?)
        })
    }
}

impl PoolPort for Link {
    fn list(&self) -> BoxFuture<'_, Result<Vec<PoolRecord>, Fault>> {
        self.call(Lane::Read, "listing storage pools", |session| {
            let pools = ask(|| session.connect.list_all_storage_pools(0))?;
            let mut records = Vec::with_capacity(pools.len());
            for pool in &pools {
                match record(pool) {
                    Ok(record) => records.push(record),
                    Err(Trouble::Libvirt(error)) if fault::is_gone(&error) => {}
                    Err(trouble) => return Err(trouble),
                }
            }
            Ok(records)
        })
    }

    fn read(&self, id: PoolId) -> BoxFuture<'_, Result<PoolRecord, Fault>> {
        self.call(Lane::Read, "reading a storage pool", move |session| record(&lookup(session, id)?))
    }

    fn refresh(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_pool(Lane::Long, id, "storage-pool.refresh", "refreshing a storage pool", |pool| pool.refresh(0))
    }

    fn start(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        // Starting a pool lists its volumes too, so it is as long a call as a refresh.
        self.on_pool(Lane::Long, id, "storage-pool.start", "starting a storage pool", |pool| pool.create(0))
    }

    fn stop(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_pool(Lane::Change, id, "storage-pool.stop", "stopping a storage pool", StoragePool::destroy)
    }

    fn set_autostart(&self, id: PoolId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_pool(Lane::Change, id, "storage-pool.autostart", "setting autostart", move |pool| pool.set_autostart(enabled))
    }
}
