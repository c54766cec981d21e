//! Making, growing, naming and deleting volumes. libvirt has no call that renames one: where volumes are files of this host the file
//! is renamed and the pool looked through again; elsewhere it is refused.

use super::{copy::Claim, landscape, raw, record};
use crate::{
    connection::{Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    hypervisor::is_local_qemu,
    xml::{read, storage},
};
use archipel_contract::{
    Bytes, Fault, FaultKind, PoolId,
    storage_pool::PoolType,
    volume::{Need, NewVolume, Preallocation, Unused, VolumeFacts, VolumeFormat},
};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use virt::{connect::Connect, error::Error, storage_pool::StoragePool, storage_vol::StorageVol, sys};

/// How long a pool is waited for that cannot be looked through because libvirt copies something in it.
const QUIET: Duration = Duration::from_secs(60);

/// A volume with its pool and what is known of it.
pub(super) fn find(connect: &Connect, uri: &str, pool: PoolId, name: &str) -> Result<(StoragePool, StorageVol, VolumeFacts), Trouble> {
    let pool = ask(|| connect.lookup_storage_pool_by_uuid(pool.0))?;
    let volume = ask(|| pool.lookup_storage_vol_by_name(name))?;
    let facts = record(connect, uri, &volume)?.facts;
    Ok((pool, volume, facts))
}

/// Refuses a name that is taken.
pub(crate) fn free(pool: &StoragePool, name: &str) -> Result<(), Trouble> {
    match ask(|| pool.lookup_storage_vol_by_name(name)) {
        Ok(_) => Err(Fault::new(FaultKind::Conflict, format!("there is a volume {name} already; choose another name")).into()),
        Err(error) if fault::is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The directory of a pool whose volumes are files that this process sees.
pub(crate) fn directory(pool: &StoragePool, uri: &str) -> Result<Option<PathBuf>, Trouble> {
    let xml = ask(|| pool.xml_desc(0))?;
    let (kind, path) = read::pool(&xml).map_err(|e| unreadable("a storage pool", e))?;
    Ok(path.map(PathBuf::from).filter(|path| PoolType::holds_files(&kind) && is_local_qemu(uri) && path.is_dir()))
}

/// Lets libvirt look through a pool again. It refuses as long as it makes a copy in it; that is waited for.
pub(crate) fn look_again(pool: &StoragePool) -> Result<(), Error> {
    let end = Instant::now() + QUIET;
    loop {
        match ask(|| pool.refresh(0)) {
            Err(error) if fault::may_be_state(&error) && Instant::now() < end => thread::sleep(Duration::from_millis(100)),
            answer => return answer,
        }
    }
}

/// Gives a file of a pool another name. With `replace` it takes the place of what has that name, in one step.
pub(crate) fn rename_file(dir: &Path, from: &str, to: &str, replace: bool) -> Result<(), Fault> {
    let (old, new) = (dir.join(from), dir.join(to));
    let done = if replace { std::fs::rename(&old, &new) } else { raw::rename(&old, &new) };
    done.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Fault::new(FaultKind::Conflict, format!("there is a file {to} already; choose another name")),
        ErrorKind::PermissionDenied => {
            Fault::new(FaultKind::Forbidden, format!("this agent may not rename files in {}; let it run as root", dir.display()))
        }
        ErrorKind::NotFound => Fault::not_found(format!("the file of {from} is gone; refresh its pool")),
        _ => Fault::internal(format!("{from} could not be renamed; see the cause")).because(&error),
    })
}

/// What cannot be because the pool has no room for it.
pub(super) fn room(pool: &StoragePool, needed: Bytes) -> Result<(), Trouble> {
    let left = Bytes(ask(|| pool.info())?.available);
    if needed > left {
        let name = pool.name()?;
        return Err(Fault::wrong_state(format!("it needs {needed} and {name} has {left} left; make room there or take less")).into());
    }
    Ok(())
}

impl Session {
    pub(super) fn create_volume(&self, id: PoolId, volume: &NewVolume) -> Result<(), Trouble> {
        let connect = &self.connect;
        let pool = ask(|| connect.lookup_storage_pool_by_uuid(id.0))?;
        free(&pool, &volume.name)?;
        let base = match &volume.backing {
            None => None,
            Some((of, name)) => {
                let of = ask(|| connect.lookup_storage_pool_by_name(of))?;
                let facts = record(connect, &self.uri, &ask(|| of.lookup_storage_vol_by_name(name))?)?.facts;
                if let Some(why) = &facts.refused {
                    return Err(Fault::invalid(format!("nothing can be built on {name}: {why}")).into());
                }
                self.landscape()?.check_quiet(name, &facts)?;
                Some(facts)
            }
        };
        let capacity = volume.capacity.or(base.as_ref().map(|b| b.capacity)).unwrap_or_default();
        if let Some(base) = base.as_ref().filter(|b| b.capacity > capacity) {
            return Err(Fault::invalid(format!("what it is built on has {}; give it no smaller capacity than that", base.capacity)).into());
        }
        let full = volume.preallocation == Preallocation::Full;
        if full {
            room(&pool, capacity)?;
        }
        let qcow2 = volume.format == VolumeFormat::Qcow2;
        let backing = base.as_ref().map(|b| {
            let format = b.format.as_deref().filter(|f| *f != "iso").unwrap_or("raw");
            (b.path.as_str(), format)
        });
        let spec = storage::VolumeSpec {
            name: &volume.name,
            capacity,
            allocation: if full { capacity } else { Bytes(0) },
            format: volume.format,
            backing,
        };
        let flags = if qcow2 && volume.preallocation != Preallocation::None { sys::VIR_STORAGE_VOL_CREATE_PREALLOC_METADATA } else { 0 };
        ask(|| StorageVol::create_xml(&pool, &storage::volume(&spec), flags))?;
        Ok(())
    }

    pub(super) fn resize_volume(&self, pool: PoolId, name: &str, capacity: Bytes, shrink: bool, unused: &Unused) -> Result<(), Trouble> {
        let (_, volume, facts) = find(&self.connect, &self.uri, pool, name)?;
        facts.check_growth(name, capacity, shrink)?;
        unused.covers(&facts.path, Need::Still)?;
        self.landscape()?.check_still(name, &facts)?;
        let flags = if capacity < facts.capacity { sys::VIR_STORAGE_VOL_RESIZE_SHRINK } else { 0 };
        Ok(ask(|| volume.resize(capacity.0, flags))?)
    }

    pub(super) fn rename_volume(&self, pool: PoolId, name: &str, to: &str, unused: &Unused) -> Result<(), Trouble> {
        let (pool, _, facts) = find(&self.connect, &self.uri, pool, name)?;
        free(&pool, to)?;
        unused.covers(&facts.path, Need::Gone)?;
        self.landscape()?.check_free(name, &facts, None)?;
        let dir = directory(&pool, &self.uri)?;
        let Some(dir) = dir.filter(|dir| Path::new(&facts.path) == dir.join(name)) else {
            let text = "libvirt cannot rename volumes, and this one is no file of this host; clone it under the new name and delete it";
            return Err(Fault::new(FaultKind::Unsupported, text).into());
        };
        rename_file(&dir, name, to, false)?;
        Ok(look_again(&pool)?)
    }

    pub(super) fn delete_volume(&self, pool: PoolId, name: &str, unused: &Unused) -> Result<(), Trouble> {
        let (pool, volume, facts) = find(&self.connect, &self.uri, pool, name)?;
        unused.covers(&facts.path, Need::Gone)?;
        let _claim = Claim::take(&self.uri, &pool, name)?;
        landscape::landscape(&self.connect, &self.uri)?.check_free(name, &facts, None)?;
        Ok(ask(|| volume.delete(0))?)
    }
}
