//! The storage pools of the fake hypervisor.

use super::host::{FakeHost, Model};
use crate::{
    BoxFuture, Bytes, Fault, FaultKind, PoolId,
    host::{HostChange, PoolChange},
    storage_pool::{PoolFacts, PoolPort, PoolRecord, PoolSpec, PoolState},
    volume::{Need, Unused},
};
use uuid::Uuid;

pub(super) fn find(model: &mut Model, id: PoolId) -> Result<&mut PoolRecord, Fault> {
    model.pools.get_mut(&id).ok_or_else(|| Fault::not_found(format!("there is no storage pool {id}; list them again")))
}

pub(super) fn running(model: &mut Model, id: PoolId) -> Result<(), Fault> {
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
    fn define(&self, spec: PoolSpec) -> BoxFuture<'_, Result<PoolId, Fault>> {
        self.call("storage-pool.define", spec.name.clone(), move |model| {
            if model.pools.values().any(|p| *p.name == *spec.name) {
                return Err(Fault::new(FaultKind::Conflict, format!("there is a storage pool {} already; choose another name", spec.name)));
            }
            let id = PoolId(Uuid::new_v4());
            let facts = PoolFacts {
                state: PoolState::Inactive,
                capacity: Bytes(0),
                allocation: Bytes(0),
                available: Bytes(0),
                provisioned: None,
                pool_type: spec.pool_type.name().into(),
                path: spec.target.map(Into::into),
                persistent: true,
                autostart: false,
            };
            model.pools.insert(id, PoolRecord { id, name: spec.name.into(), facts });
            model.tell(HostChange::StoragePool(id, PoolChange::Defined));
            Ok(id)
        })
    }
    fn ground(&self, id: PoolId) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        self.call("storage-pool.ground", id.to_string(), move |model| Ok(ground(&find(model, id)?.facts)))
    }
    fn build(&self, id: PoolId, overwrite: bool, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("storage-pool.build", id.to_string(), move |model| {
            inactive(model, id)?;
            if overwrite {
                ground(&find(model, id)?.facts).iter().try_for_each(|path| Unused::among(&unused, path, Need::Gone))?;
            }
            model.tell(HostChange::StoragePool(id, PoolChange::Defined));
            Ok(())
        })
    }
    fn delete(&self, id: PoolId, with_volumes: bool, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("storage-pool.delete", id.to_string(), move |model| {
            running(model, id)?;
            let name = find(model, id)?.name.clone();
            super::volume::check_empty(model, id, &name, with_volumes, &unused)?;
            model.volumes.remove(&id);
            find(model, id)?.facts.state = PoolState::Inactive;
            model.tell(HostChange::StoragePool(id, PoolChange::Stopped));
            Ok(())
        })
    }
    fn undefine(&self, id: PoolId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("storage-pool.undefine", id.to_string(), move |model| {
            inactive(model, id)?;
            model.pools.remove(&id);
            model.tell(HostChange::StoragePool(id, PoolChange::Undefined));
            Ok(())
        })
    }
}

/// Only a pool on a device of its own writes over anything.
fn ground(facts: &PoolFacts) -> Vec<String> {
    let writes = matches!(&*facts.pool_type, "fs" | "logical" | "disk");
    facts.path.iter().filter(|_| writes).map(ToString::to_string).collect()
}

fn inactive(model: &mut Model, id: PoolId) -> Result<(), Fault> {
    let record = find(model, id)?;
    if record.facts.state != PoolState::Inactive {
        return Err(Fault::wrong_state(format!("{} is started; stop it first", record.name)));
    }
    Ok(())
}
