//! The volumes of the fake hypervisor, and which machine uses them.

use super::{
    host::{FakeHost, Model},
    storage_pool::{find as pool_of, running},
};
use crate::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind, PoolId,
    domain::DomainSpec,
    volume::{
        Attachment, CopySpec, Landscape, NewVolume, PlacedVolume, Sink, Source, UNFINISHED, UploadSpec, VolumeFacts, VolumePort,
        VolumeRecord, check_empty_pool,
    },
    work::Follower,
};
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

fn landscape(model: &Model) -> Landscape {
    let known = model.attachments.iter().filter_map(|a| {
        let record = model.domains.get(&a.domain)?;
        Some(Attachment { name: record.name.clone(), running: record.facts.state.is_active(), ..a.clone() })
    });
    let placed = |pool: PoolId, v: &VolumeRecord| {
        let pool_name = model.pools.get(&pool).map(|p| p.name.clone()).unwrap_or_default();
        PlacedVolume { pool, pool_name, volume: v.clone() }
    };
    let volumes = model.volumes.iter().flat_map(|(pool, list)| list.iter().map(move |v| placed(*pool, v)));
    Landscape { attachments: known.collect(), volumes: volumes.collect() }
}

/// A machine that is being defined gets its disk and its media.
pub(super) fn attach(model: &mut Model, domain: DomainId, spec: &DomainSpec) -> Result<(), Fault> {
    for (place, device, read_only) in [(&spec.disk, "vda", false), (&spec.iso, "sda", true), (&spec.seed, "sdb", true)] {
        let Some((pool, volume)) = place else { continue };
        let pool = named(model, pool)?;
        let path = find(model, pool, volume)?.facts.path.clone();
        let name = spec.name.as_str().into();
        model.attachments.push(Attachment { domain, name, device: device.into(), running: false, read_only, paths: vec![path] });
    }
    Ok(())
}

/// A pool that is to be deleted is empty, or nobody needs what is in it.
pub(super) fn check_empty(model: &Model, pool: PoolId, name: &str, with_volumes: bool) -> Result<(), Fault> {
    check_empty_pool(&landscape(model), pool, name, with_volumes)
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
    fn resize(&self, pool: PoolId, name: String, capacity: Bytes, shrink: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.resize", name.clone(), move |model| {
            let facts = find(model, pool, &name)?.facts.clone();
            landscape(model).check_still(&name, &facts)?;
            facts.check_growth(&name, capacity, shrink)?;
            find(model, pool, &name)?.facts.capacity = capacity;
            Ok(())
        })
    }
    fn rename(&self, pool: PoolId, name: String, to: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.rename", name.clone(), move |model| {
            let facts = find(model, pool, &name)?.facts.clone();
            free(model, pool, &to)?;
            landscape(model).check_free(&name, &facts, None)?;
            let path = path(model, pool, &to)?;
            let record = find(model, pool, &name)?;
            record.name = to;
            record.facts.path = path;
            Ok(())
        })
    }
    fn delete(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.delete", name.clone(), move |model| {
            let facts = find(model, pool, &name)?.facts.clone();
            landscape(model).check_free(&name, &facts, None)?;
            model.volumes.entry(pool).or_default().retain(|v| v.name != name);
            Ok(())
        })
    }
    fn copy(&self, pool: PoolId, name: String, copy: CopySpec, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.copy", name.clone(), move |model| {
            let original = find(model, pool, &name)?.clone();
            let to = copy.pool.as_deref().map_or(Ok(pool), |name| named(model, name))?;
            let replaces = to == pool && copy.to == name;
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
    fn wipe(&self, pool: PoolId, name: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("volume.wipe", name.clone(), move |model| {
            let facts = find(model, pool, &name)?.facts.clone();
            landscape(model).check_free(&name, &facts, None)?;
            let facts = &mut find(model, pool, &name)?.facts;
            facts.format = Some("raw".into());
            facts.backing = None;
            Ok(())
        })
    }
}
