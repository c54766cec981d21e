//! The port for volumes, and how a disk finds its volume.

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    fault, storage_pool,
    xml::read,
};
use archipel_contract::{
    BoxFuture, Fault, FaultKind, PoolId,
    volume::{VolumeFacts, VolumePort, VolumeRecord},
};
use virt::storage_vol::StorageVol;

fn told(volume: &StorageVol) -> Result<read::VolumeFacts, Trouble> {
    let xml = ask(|| volume.xml_desc(0))?;
    let mut facts = read::volume(&xml).map_err(|e| unreadable("a volume", e))?;
    if facts.path.is_empty() {
        facts.path = ask(|| volume.path())?;
    }
    Ok(facts)
}

fn record(volume: &StorageVol) -> Result<VolumeRecord, Trouble> {
    let told = told(volume)?;
    Ok(VolumeRecord {
        name: volume.name()?,
        facts: VolumeFacts {
            volume_type: told.volume_type,
            format: told.format,
            capacity: told.capacity,
            allocation: told.allocation,
            path: told.path,
        },
    })
}

impl Session {
    /// What libvirt says about the volume a disk is to be. The path is libvirt's, never the caller's.
    pub(crate) fn volume_for_disk(&self, pool: &str, volume: &str) -> Result<read::VolumeFacts, Trouble> {
        let pool = ask(|| self.connect.lookup_storage_pool_by_name(pool))?;
        let facts = told(&ask(|| pool.lookup_storage_vol_by_name(volume))?)?;
        match facts.volume_type.as_str() {
            "file" | "block" => Ok(facts),
            other => Err(Fault::new(
                FaultKind::Unsupported,
                format!("a volume of type {other} cannot be a disk here; use a file or a block device"),
            )
            .into()),
        }
    }
}

impl VolumePort for Link {
    fn list(&self, pool: PoolId) -> BoxFuture<'_, Result<Vec<VolumeRecord>, Fault>> {
        self.call(Lane::Read, "listing volumes", move |session| {
            let pool = storage_pool::lookup(session, pool)?;
            let volumes = ask(|| pool.list_all_volumes(0))?;
            let mut records = Vec::with_capacity(volumes.len());
            for volume in &volumes {
                match record(volume) {
                    Ok(record) => records.push(record),
                    Err(Trouble::Libvirt(error)) if fault::is_gone(&error) => {}
                    Err(trouble) => return Err(trouble),
                }
            }
            Ok(records)
        })
    }

    fn read(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<VolumeRecord, Fault>> {
        self.call(Lane::Read, "reading a volume", move |session| {
            let pool = storage_pool::lookup(session, pool)?;
            record(&ask(|| pool.lookup_storage_vol_by_name(&name))?)
        })
    }
}
