//! The port for volumes, and how a disk finds its volume.
//!
//! | file | holds |
//! |---|---|
//! | `change` | making, growing, naming and deleting |
//! | `copy` | copies and conversions, which take long |
//! | `import` | appliances and images from elsewhere |
//! | `landscape` | which machine uses what, and what cannot be a disk |
//! | `place` | where something lies, so that other hosts can tell whether they have it too |
//! | `transfer` | contents that come and go |
//! | `raw` | the C that `virt` lacks |

pub(crate) mod change;
pub(crate) mod copy;
pub(crate) mod import;
pub(crate) mod landscape;
mod place;
mod raw;
mod transfer;

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    fault, storage_pool,
    xml::{read, storage},
};
use archipel_contract::{
    BoxFuture, Bytes, Fault, FaultKind, PoolId,
    volume::{
        CopySpec, Landscape, Need, NewVolume, Place, Sink, Source, Unused, UploadSpec, UsedDisk, VolumeFacts, VolumePort, VolumeRecord,
    },
    work::Follower,
};
pub(crate) use place::kernel;
use std::sync::Arc;
use virt::{connect::Connect, storage_vol::StorageVol};

fn told(volume: &StorageVol) -> Result<read::VolumeFacts, Trouble> {
    let xml = ask(|| volume.xml_desc(0))?;
    let mut facts = read::volume(&xml).map_err(|e| unreadable("a volume", e))?;
    if facts.path.is_empty() {
        facts.path = ask(|| volume.path())?;
    }
    Ok(facts)
}

fn record(connect: &Connect, uri: &str, volume: &StorageVol) -> Result<VolumeRecord, Trouble> {
    let told = told(volume)?;
    let refused = landscape::refused(connect, uri, &told)?;
    Ok(VolumeRecord {
        name: volume.name()?,
        facts: VolumeFacts {
            volume_type: told.volume_type,
            format: told.format,
            capacity: told.capacity,
            allocation: told.allocation,
            path: told.path,
            backing: told.backing,
            refused,
        },
    })
}

/// The disks that a definition names, and where they are.
pub(crate) fn disks_named(connect: &Connect, definition: &str) -> Result<Vec<UsedDisk>, Trouble> {
    let place = |source: storage::Source| match source {
        storage::Source::Path(path) => path,
        storage::Source::Volume(pool, volume) => {
            let there = ask(|| connect.lookup_storage_pool_by_name(&pool));
            let there = there.and_then(|p| ask(|| p.lookup_storage_vol_by_name(&volume))).and_then(|v| ask(|| v.path()));
            there.unwrap_or_else(|_| format!("{pool}/{volume}"))
        }
    };
    let used = storage::used(definition).map_err(|e| unreadable("a virtual machine", e))?;
    let one = |u: storage::Used| {
        let storage::Used { device, read_only, shareable, chain } = u;
        UsedDisk { device, read_only, shareable, paths: chain.into_iter().map(place).collect() }
    };
    Ok(used.into_iter().map(one).collect())
}

impl Session {
    /// What libvirt says about the volume a disk is to be. The path is libvirt's, never the caller's.
    pub(crate) fn volume_for_disk(&self, pool: &str, volume: &str) -> Result<read::VolumeFacts, Trouble> {
        let pool = ask(|| self.connect.lookup_storage_pool_by_name(pool))?;
        let facts = told(&ask(|| pool.lookup_storage_vol_by_name(volume))?)?;
        if let Some(why) = landscape::refused(&self.connect, &self.uri, &facts)? {
            return Err(Fault::new(FaultKind::InvalidRequest, format!("{volume} cannot be a disk: {why}")).into());
        }
        match facts.volume_type.as_str() {
            "file" | "block" => Ok(facts),
            other => Err(Fault::new(
                FaultKind::Unsupported,
                format!("a volume of type {other} cannot be a disk here; use a file or a block device"),
            )
            .into()),
        }
    }

    /// The same for the connection of this session.
    pub(crate) fn disks_named(&self, definition: &str) -> Result<Vec<UsedDisk>, Trouble> {
        disks_named(&self.connect, definition)
    }

    /// Everything needed to say who uses what.
    pub(crate) fn landscape(&self) -> Result<Landscape, Trouble> {
        landscape::landscape(&self.connect, &self.uri)
    }
}

impl VolumePort for Link {
    fn list(&self, pool: PoolId) -> BoxFuture<'_, Result<Vec<VolumeRecord>, Fault>> {
        self.call(Lane::Read, "listing volumes", move |session| {
            let pool = storage_pool::lookup(session, pool)?;
            let volumes = ask(|| pool.list_all_volumes(0))?;
            let mut records = Vec::with_capacity(volumes.len());
            for volume in &volumes {
                match record(&session.connect, &session.uri, volume) {
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
            record(&session.connect, &session.uri, &ask(|| pool.lookup_storage_vol_by_name(&name))?)
        })
    }

    fn landscape(&self) -> BoxFuture<'_, Result<Landscape, Fault>> {
        self.call(Lane::Read, "looking which machine uses which volume", Session::landscape)
    }

    fn places(&self, paths: Vec<String>) -> BoxFuture<'_, Result<Vec<Place>, Fault>> {
        self.call(Lane::Read, "looking where volumes lie", move |session| Ok(place::places(&session.uri, paths)))
    }

    fn named(&self, definition: String) -> BoxFuture<'_, Result<Vec<UsedDisk>, Fault>> {
        self.call(Lane::Read, "reading the disks of a definition", move |session| session.disks_named(&definition))
    }

    fn create(&self, pool: PoolId, volume: NewVolume) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "making a volume", move |session| session.create_volume(pool, &volume))
    }

    fn resize(&self, pool: PoolId, name: String, capacity: Bytes, shrink: bool, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        let doing = "changing the size of a volume";
        self.call(Lane::Change, doing, move |session| session.resize_volume(pool, &name, capacity, shrink, &unused))
    }

    fn rename(&self, pool: PoolId, name: String, to: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "renaming a volume", move |session| session.rename_volume(pool, &name, &to, &unused))
    }

    fn delete(&self, pool: PoolId, name: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "deleting a volume", move |session| session.delete_volume(pool, &name, &unused))
    }

    fn copy(
        &self,
        pool: PoolId,
        name: String,
        copy: CopySpec,
        unused: Unused,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        let uri = self.config().uri.clone();
        self.apart("copying a volume", move |connect| copy::copy(connect, &uri, pool, &name, &copy, &unused, &follower))
    }

    fn length(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<Bytes, Fault>> {
        self.call(Lane::Read, "reading the length of a volume", move |session| {
            let pool = storage_pool::lookup(session, pool)?;
            copy::length(&ask(|| pool.lookup_storage_vol_by_name(&name))?)
        })
    }

    fn begun(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        self.call(Lane::Read, "looking for an unfinished upload", move |session| {
            transfer::begun(&storage_pool::lookup(session, pool)?, &name)
        })
    }

    fn download(&self, pool: PoolId, name: String, from: u64, length: u64, sink: Box<dyn Sink>) -> BoxFuture<'_, Result<(), Fault>> {
        self.apart("reading a volume", move |connect| transfer::download(connect, pool, &name, from, length, sink))
    }

    fn upload(
        &self,
        pool: PoolId,
        upload: UploadSpec,
        source: Box<dyn Source>,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        let uri = self.config().uri.clone();
        self.apart("writing a volume", move |connect| transfer::upload(connect, &uri, pool, &upload, source, &follower))
    }

    fn wipe(&self, pool: PoolId, name: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        let uri = self.config().uri.clone();
        self.apart("wiping a volume", move |connect| {
            let (_, volume, facts) = change::find(connect, &uri, pool, &name)?;
            unused.covers(&facts.path, Need::Gone)?;
            landscape::landscape(connect, &uri)?.check_free(&name, &facts, None)?;
            Ok(ask(|| volume.wipe(0))?)
        })
    }
}
