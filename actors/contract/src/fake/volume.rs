//! The volumes of the fake hypervisor, and which machine uses them.

use super::{
    host::{FakeHost, Model},
    storage_pool::{find as pool_of, running},
};
use crate::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind, PoolId,
    domain::DomainSpec,
    volume::{
        Attachment, CopySpec, FileId, Ground, Landscape, Need, NewVolume, Place, PlacedVolume, Sink, Source, UNFINISHED, Unused,
        UploadSpec, UsedDisk, VolumeFacts, VolumePort, VolumeRecord, check_empty_pool,
    },
    work::Follower,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

fn absent(name: &str) -> Fault {
    Fault::not_found(format!("there is no volume {name} in that pool; list its volumes"))
}

fn find<'a>(model: &'a mut Model, pool: PoolId, name: &str) -> Result<&'a mut VolumeRecord, Fault> {
    running(model, pool)?;
    model.volumes.entry(pool).or_default().iter_mut().find(|v| v.name == name).ok_or_else(|| absent(name))
}

fn free(model: &mut Model, pool: PoolId, name: &str) -> Result<(), Fault> {
    running(model, pool)?;
    match model.volumes.get(&pool).into_iter().flatten().find(|v| v.name == name) {
        Some(_) => Err(Fault::new(FaultKind::Conflict, format!("there is a volume {name} already; choose another name"))),
        None => Ok(()),
    }
}

fn named(model: &Model, pool: &str) -> Result<PoolId, Fault> {
    let found = model.pools.values().find(|p| *p.name == *pool).map(|p| p.id);
    found.ok_or_else(|| Fault::not_found(format!("there is no storage pool {pool}; list them again")))
}

fn path(model: &mut Model, pool: PoolId, name: &str) -> Result<String, Fault> {
    let dir = pool_of(model, pool)?.facts.path.clone().unwrap_or_else(|| "/fake".into());
    Ok(format!("{dir}/{name}"))
}

pub(super) fn landscape(model: &Model) -> Landscape {
    let known = model.attachments.iter().filter_map(|a| {
        let record = model.domains.get(&a.domain)?;
        Some(Attachment { name: record.name.clone(), running: record.facts.state.is_active(), ..a.clone() })
    });
    let plugged = super::definition::disks(model);
    let placed = |pool: PoolId, v: &VolumeRecord| {
        let pool_name = model.pools.get(&pool).map(|p| p.name.clone()).unwrap_or_default();
        PlacedVolume { pool, pool_name, volume: v.clone() }
    };
    let volumes = model.volumes.iter().flat_map(|(pool, list)| list.iter().map(move |v| placed(*pool, v)));
    Landscape { attachments: known.chain(plugged).collect(), volumes: volumes.collect() }
}

/// A place as the model has it: of this host alone, unless it is below a directory that others share.
fn place(model: &Model, path: String) -> Place {
    if let Some(id) = model.shared.iter().find_map(|(dir, id)| Some(format!("{id}{}", path.strip_prefix(dir.as_str())?))) {
        return Place { ground: Ground::Share(id), ..Place::unknown(path) };
    }
    let kernel = Some(format!("fake {:p}", std::ptr::from_ref(model)));
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    Place { path, kernel, file: Some(FileId { device: 0, inode: hasher.finish() }), ground: Ground::Local, alone: true }
}

/// The disks of a machine, as they stand in its definition when it is parked or sent.
pub(super) fn lines_of(model: &Model, id: DomainId) -> String {
    let own = landscape(model).attachments.into_iter().filter(|a| a.domain == id);
    own.map(|a| format!("\n<disk name='{}' source='{}'/>\n", a.device, a.paths.join(" "))).collect()
}

/// The disks in the text of a fake's definition.
pub(super) fn named_disks(text: &str) -> Vec<UsedDisk> {
    let between = |line: &str, from: &str| Some(line.split_once(from)?.1.split_once('\'')?.0.to_owned());
    let disk =
        |line: &str| Some(UsedDisk { device: between(line, "name='")?, paths: vec![between(line, "source='")?], ..UsedDisk::default() });
    text.lines().filter(|line| line.trim_start().starts_with("<disk ")).filter_map(disk).collect()
}

impl FakeHost {
    /// What lies below that directory is what other hosts have under the same name of a share.
    pub fn share(&self, dir: &str, name: &str) {
        self.change(|model| drop(model.shared.insert(dir.to_owned(), name.to_owned())));
    }
}

/// A machine that is being defined gets its disk and its media.
pub(super) fn attach(model: &mut Model, domain: DomainId, spec: &DomainSpec, proofs: &[Unused]) -> Result<(), Fault> {
    for (place, device, read_only) in [(&spec.disk, "vda", false), (&spec.iso, "sda", true), (&spec.seed, "sdb", true)] {
        let Some((pool, volume)) = place else { continue };
        let pool = named(model, pool)?;
        let path = find(model, pool, volume)?.facts.path.clone();
        if !read_only {
            Unused::among(proofs, &path, Need::Sole)?;
        }
        let name = spec.name.as_str().into();
        model.attachments.push(Attachment { domain, name, device: device.into(), read_only, paths: vec![path], ..Attachment::default() });
    }
    Ok(())
}

/// A pool that is to be deleted is empty, or nobody needs what is in it.
pub(super) fn check_empty(model: &Model, pool: PoolId, name: &str, with_volumes: bool, proofs: &[Unused]) -> Result<(), Fault> {
    check_empty_pool(&landscape(model), pool, name, with_volumes)?;
    model.volumes.get(&pool).into_iter().flatten().try_for_each(|v| Unused::among(proofs, &v.facts.path, Need::Gone))
}

impl VolumePort for FakeHost {
    fn list(&self, pool: PoolId) -> BoxFuture<'_, Result<Vec<VolumeRecord>, Fault>> {
        self.call("volume.list", pool.to_string(), move |model| {
            running(model, pool)?;
            Ok(model.volumes.get(&pool).cloned().unwrap_or_default())
        })
    }
    fn read(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<VolumeRecord, Fault>> {
        self.call("volume.read", pool.to_string(), move |model| find(model, pool, &name).map(|v| v.clone()))
    }
    fn landscape(&self) -> BoxFuture<'_, Result<Landscape, Fault>> {
        self.call("volume.landscape", String::new(), |model| Ok(landscape(model)))
    }
    fn places(&self, paths: Vec<String>) -> BoxFuture<'_, Result<Vec<Place>, Fault>> {
        self.call("volume.places", String::new(), move |model| Ok(paths.into_iter().map(|path| place(model, path)).collect()))
    }
    fn named(&self, definition: String) -> BoxFuture<'_, Result<Vec<UsedDisk>, Fault>> {
        self.call("volume.named", String::new(), move |_| Ok(named_disks(&definition)))
    }
    fn create(&self, pool: PoolId, volume: NewVolume) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.create", volume.name.clone(), move |model| {
            free(model, pool, &volume.name)?;
            let base = match &volume.backing {
                None => None,
                Some((of, name)) => {
                    let of = named(model, of)?;
                    Some(find(model, of, name)?.facts.clone())
                }
            };
            let path = path(model, pool, &volume.name)?;
            let facts = VolumeFacts {
                volume_type: "file".into(),
                format: Some(volume.format.name().into()),
                capacity: volume.capacity.or(base.as_ref().map(|b| b.capacity)).unwrap_or_default(),
                path,
                backing: base.map(|b| b.path),
                ..VolumeFacts::default()
            };
            model.volumes.entry(pool).or_default().push(VolumeRecord { name: volume.name, facts });
            Ok(())
        })
    }
    fn resize(&self, pool: PoolId, name: String, capacity: Bytes, shrink: bool, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.resize", name.clone(), move |model| {
            let facts = find(model, pool, &name)?.facts.clone();
            unused.covers(&facts.path, Need::Still)?;
            landscape(model).check_still(&name, &facts)?;
            facts.check_growth(&name, capacity, shrink)?;
            find(model, pool, &name)?.facts.capacity = capacity;
            Ok(())
        })
    }
    fn rename(&self, pool: PoolId, name: String, to: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.rename", name.clone(), move |model| {
            let facts = find(model, pool, &name)?.facts.clone();
            free(model, pool, &to)?;
            unused.covers(&facts.path, Need::Gone)?;
            landscape(model).check_free(&name, &facts, None)?;
            let path = path(model, pool, &to)?;
            let record = find(model, pool, &name)?;
            record.name = to;
            record.facts.path = path;
            Ok(())
        })
    }
    fn delete(&self, pool: PoolId, name: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.delete", name.clone(), move |model| {
            let facts = find(model, pool, &name)?.facts.clone();
            unused.covers(&facts.path, Need::Gone)?;
            landscape(model).check_free(&name, &facts, None)?;
            model.volumes.entry(pool).or_default().retain(|v| v.name != name);
            Ok(())
        })
    }
    fn copy(
        &self,
        pool: PoolId,
        name: String,
        copy: CopySpec,
        unused: Unused,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.copy", name.clone(), move |model| {
            let original = find(model, pool, &name)?.clone();
            let to = copy.pool.as_deref().map_or(Ok(pool), |name| named(model, name))?;
            let replaces = to == pool && copy.to == name;
            unused.covers(&original.facts.path, if replaces { Need::Gone } else { Need::Quiet })?;
            if replaces {
                landscape(model).check_free(&name, &original.facts, None)?;
            } else {
                landscape(model).check_quiet(&name, &original.facts)?;
                free(model, to, &copy.to)?;
            }
            follower.advance(Some(50), "copying");
            if follower.is_cancelled() {
                return Err(Fault::busy("it was stopped"));
            }
            let path = path(model, to, &copy.to)?;
            let mut made = VolumeRecord { name: copy.to, facts: VolumeFacts { path, ..original.facts } };
            if let Some(format) = copy.format {
                made.facts.format = Some(format.name().into());
                made.facts.backing = None;
            }
            let list = model.volumes.entry(to).or_default();
            list.retain(|v| v.name != made.name);
            list.push(made);
            Ok(())
        })
    }
    fn length(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<Bytes, Fault>> {
        self.call("volume.length", name.clone(), move |model| find(model, pool, &name).map(|v| v.facts.capacity))
    }
    fn begun(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        self.call("volume.begun", name.clone(), move |model| {
            free(model, pool, &name)?;
            Ok(find(model, pool, &format!("{name}{UNFINISHED}")).ok().map(|v| v.facts.capacity))
        })
    }
    fn download(&self, pool: PoolId, name: String, _: u64, length: u64, mut sink: Box<dyn Sink>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.download", name.clone(), move |model| {
            find(model, pool, &name)?;
            // Nothing was ever written to a volume of a fake.
            sink.put(vec![0; usize::try_from(length).unwrap_or(0)]);
            Ok(())
        })
    }
    fn upload(
        &self,
        pool: PoolId,
        upload: UploadSpec,
        mut source: Box<dyn Source>,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.upload", upload.name.clone(), move |model| {
            free(model, pool, &upload.name)?;
            let part = format!("{}{UNFINISHED}", upload.name);
            let mut done = upload.from;
            let mut cut = None;
            while let Some(piece) = source.next() {
                match piece {
                    Ok(bytes) => done += bytes.len() as u64,
                    Err(fault) => cut = Some(fault),
                }
            }
            model.volumes.entry(pool).or_default().retain(|v| v.name != part);
            if follower.is_cancelled() {
                return Err(Fault::busy("it was stopped"));
            }
            let cut = cut.or_else(|| {
                let short = upload.size.is_some_and(|size| size != done);
                short.then(|| Fault::unavailable(format!("the upload ended after {done} bytes; go on with --resume")))
            });
            let name = if cut.is_some() { part } else { upload.name };
            let path = path(model, pool, &name)?;
            let (volume_type, format) = ("file".into(), Some("raw".into()));
            let facts = VolumeFacts { volume_type, format, capacity: Bytes(done), allocation: Bytes(done), path, ..VolumeFacts::default() };
            model.volumes.entry(pool).or_default().push(VolumeRecord { name, facts });
            cut.map_or(Ok(()), Err)
        })
    }
    fn wipe(&self, pool: PoolId, name: String, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.wipe", name.clone(), move |model| {
            let facts = find(model, pool, &name)?.facts.clone();
            unused.covers(&facts.path, Need::Gone)?;
            landscape(model).check_free(&name, &facts, None)?;
            let facts = &mut find(model, pool, &name)?.facts;
            facts.format = Some("raw".into());
            facts.backing = None;
            Ok(())
        })
    }
}
