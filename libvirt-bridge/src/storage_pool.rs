//! The port for storage pools.

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    hypervisor::is_local_qemu,
    xml::{read, storage},
};
use archipel_contract::{
    BoxFuture, Bytes, Fault, FaultKind, PoolId,
    storage_pool::{self as policy, PoolFacts, PoolPort, PoolRecord, PoolSpec, PoolState},
    volume::{Attachment, Need, Place, Unused, check_empty_pool},
};
use std::{
    fs::OpenOptions,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    sync::Arc,
};
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

    fn ground(&self, id: PoolId) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        self.call(Lane::Read, "looking what a storage pool is made of", move |session| {
            let xml = ask(|| lookup(session, id)?.xml_desc(0))?;
            Ok(read::ground(&xml).map_err(|e| unreadable("a storage pool", e))?)
        })
    }

    fn build(&self, id: PoolId, overwrite: bool, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Long, "making the place of a storage pool", move |session| session.build_pool(id, overwrite, &unused))
    }

    fn delete(&self, id: PoolId, with_volumes: bool, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Long, "deleting a storage pool", move |session| session.delete_pool(id, with_volumes, &unused))
    }

    fn undefine(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on_pool(Lane::Change, id, "storage-pool.undefine", "forgetting a storage pool", StoragePool::undefine)
    }
}

/// Refuses a device that this host's kernel has given to somebody: a file system that is mounted, a volume group, an array.
fn idle(device: &str) -> Result<(), Fault> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_EXCL | libc::O_NONBLOCK).open(device);
    match open {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let text =
                format!("{device} is mounted on this host or is part of something that is in use; nothing was written. Free it first");
            Err(Fault::busy(text))
        }
        // That it cannot be opened otherwise is found out by whoever writes to it.
        _ => Ok(()),
    }
}

impl Session {
    fn build_pool(&self, id: PoolId, overwrite: bool, unused: &[Unused]) -> Result<(), Trouble> {
        let pool = lookup(self, id)?;
        let now = record(&pool)?;
        policy::may("storage-pool.build", &now.facts).check(&format!("the storage pool {}", now.name))?;
        // Only these put something of their own onto a device, and look first whether something is there.
        let writes = matches!(&*now.facts.pool_type, "fs" | "logical" | "disk");
        if !writes || !overwrite {
            let flags = if writes { sys::VIR_STORAGE_POOL_BUILD_NO_OVERWRITE } else { sys::VIR_STORAGE_POOL_BUILD_NEW };
            return Ok(ask(|| pool.build(flags))?);
        }
        let xml = ask(|| pool.xml_desc(0))?;
        let all = self.landscape()?;
        for path in read::ground(&xml).map_err(|e| unreadable("a storage pool", e))? {
            Unused::among(unused, &path, Need::Gone)?;
            let place = Place::unknown(&*path);
            let used: Vec<&Attachment> =
                all.attachments.iter().filter(|a| a.paths.iter().any(|p| *p == path || place.may_hold(&Place::unknown(&**p)))).collect();
            if let Some(user) = used.first() {
                return Err(Fault::busy(format!("{path} is used by {} ({}); take it from there first", user.name, user.device)).into());
            }
            if is_local_qemu(&self.uri) && std::fs::metadata(&path).is_ok_and(|m| m.file_type().is_block_device()) {
                idle(&path)?;
            }
        }
        Ok(ask(|| pool.build(sys::VIR_STORAGE_POOL_BUILD_OVERWRITE))?)
    }

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
