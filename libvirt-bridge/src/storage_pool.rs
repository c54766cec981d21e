//! The port for storage pools.

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    xml::{read, storage},
};
use archipel_contract::{
    BoxFuture, Bytes, Fault, FaultKind, PoolId,
    storage_pool::{self as policy, PoolFacts, PoolPort, PoolRecord, PoolSpec, PoolState},
    volume::{Need, Unused, check_empty_pool},
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
            provisioned: None,
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

    fn define(&self, spec: PoolSpec) -> BoxFuture<'_, Result<PoolId, Fault>> {
        self.call(Lane::Change, "defining a storage pool", move |session| {
            if ask(|| session.connect.lookup_storage_pool_by_name(&spec.name)).is_ok() {
                let text = format!("there is a storage pool {} already; choose another name", spec.name);
                return Err(Fault::new(FaultKind::Conflict, text).into());
            }
            let pool = ask(|| session.connect.define_storage_pool_xml(&storage::pool(&spec), 0))?;
            Ok(PoolId(pool.uuid()?))
        })
    }

    fn build(&self, id: PoolId, overwrite: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_pool(Lane::Long, id, "storage-pool.build", "making the place of a storage pool", move |pool| {
            let (kind, _) = read::pool(&pool.xml_desc(0)?).unwrap_or_default();
            // Only these put something of their own onto a device, and look first whether something is there.
            let flags = match (overwrite, kind.as_str()) {
                (false, "fs" | "logical" | "disk") => sys::VIR_STORAGE_POOL_BUILD_NO_OVERWRITE,
                (true, "fs" | "logical" | "disk") => sys::VIR_STORAGE_POOL_BUILD_OVERWRITE,
                _ => sys::VIR_STORAGE_POOL_BUILD_NEW,
            };
            pool.build(flags)
        })
    }

    fn delete(&self, id: PoolId, with_volumes: bool, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Long, "deleting a storage pool", move |session| session.delete_pool(id, with_volumes, &unused))
    }

    fn undefine(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_pool(Lane::Change, id, "storage-pool.undefine", "forgetting a storage pool", StoragePool::undefine)
    }
}

impl Session {
    /// Empties a pool and removes its place. When the place does not go the pool is started again.
    fn delete_pool(&self, id: PoolId, with_volumes: bool, unused: &[Unused]) -> Result<(), Trouble> {
        let pool = lookup(self, id)?;
        let now = record(&pool)?;
        policy::may("storage-pool.delete", &now.facts).check(&format!("the storage pool {}", now.name))?;
        // Files may have come that libvirt has not seen.
        ask(|| pool.refresh(0))?;
        let all = self.landscape()?;
        check_empty_pool(&all, id, &now.name, with_volumes)?;
        let mut left: Vec<_> = all.volumes.iter().filter(|v| v.pool == id).map(|v| &v.volume).collect();
        left.iter().try_for_each(|v| Unused::among(unused, &v.facts.path, Need::Gone))?;
        while !left.is_empty() {
            // What others are built on goes after them; in a circle, anyhow.
            let bases: Vec<&str> = left.iter().filter_map(|v| v.facts.backing.as_deref()).collect();
            let next = left.iter().position(|v| !bases.contains(&v.facts.path.as_str())).unwrap_or(0);
            let name = &left.swap_remove(next).name;
            ask(|| pool.lookup_storage_vol_by_name(name)).and_then(|volume| ask(|| volume.delete(0)))?;
        }
        ask(|| pool.destroy())?;
        if let Err(error) = ask(|| pool.delete(0)) {
            let _ = ask(|| pool.create(0));
            return Err(error.into());
        }
        Ok(())
    }
}
