//! The storage pools of the fake hypervisor, and the volumes in them.

use super::host::{FakeHost, Model};
use crate::{
    BoxFuture, Fault, PoolId,
    host::{HostChange, PoolChange},
    storage_pool::{PoolPort, PoolRecord, PoolState},
    volume::{VolumePort, VolumeRecord},
};

fn find(model: &mut Model, id: PoolId) -> Result<&mut PoolRecord, Fault> {
    model.pools.get_mut(&id).ok_or_else(|| Fault::not_found(format!("there is no storage pool {id}; list them again")))
}

fn running(model: &mut Model, id: PoolId) -> Result<(), Fault> {
    let record = find(model, id)?;
    if record.facts.state == PoolState::Inactive {
        return Err(Fault::wrong_state(format!("{} is not started", record.name)));
    }
    Ok(())
}

impl PoolPort for FakeHost {
    fn list(&self) -> BoxFuture<'_, Result<Vec<PoolRecord>, Fault>> {
        self.call("storage-pool.list", String::new(), |model| Ok(model.pools.values().cloned().collect()))
    }
    fn read(&self, id: PoolId) -> BoxFuture<'_, Result<PoolRecord, Fault>> {
        self.call("storage-pool.read", id.to_string(), move |model| find(model, id).map(|r| r.clone()))
    }
    fn refresh(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("storage-pool.refresh", id.to_string(), move |model| {
            running(model, id)?;
            model.tell(HostChange::StoragePool(id, PoolChange::Refreshed));
            Ok(())
        })
    }
    fn start(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("storage-pool.start", id.to_string(), move |model| {
            let record = find(model, id)?;
            if record.facts.state != PoolState::Inactive {
                return Err(Fault::wrong_state(format!("{} is started already", record.name)));
            }
            record.facts.state = PoolState::Running;
            model.tell(HostChange::StoragePool(id, PoolChange::Started));
            Ok(())
        })
    }
    fn stop(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("storage-pool.stop", id.to_string(), move |model| {
            running(model, id)?;
            find(model, id)?.facts.state = PoolState::Inactive;
            model.tell(HostChange::StoragePool(id, PoolChange::Stopped));
            Ok(())
        })
    }
    fn set_autostart(&self, id: PoolId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("storage-pool.set-autostart", id.to_string(), move |model| {
            find(model, id)?.facts.autostart = enabled;
            Ok(())
        })
    }
}

impl VolumePort for FakeHost {
    fn list(&self, pool: PoolId) -> BoxFuture<'_, Result<Vec<VolumeRecord>, Fault>> {
        self.call("volume.list", pool.to_string(), move |model| {
            running(model, pool)?;
            Ok(model.volumes.get(&pool).cloned().unwrap_or_default())
        })
    }
    fn read(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<VolumeRecord, Fault>> {
        self.call("volume.read", pool.to_string(), move |model| {
            running(model, pool)?;
            let found = model.volumes.get(&pool).into_iter().flatten().find(|v| v.name == name).cloned();
            found.ok_or_else(|| Fault::not_found(format!("there is no volume {name} in that pool; list its volumes")))
        })
    }
}
