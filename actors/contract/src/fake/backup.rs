//! Backups and checkpoints of the fake hypervisor: what a backup holds is left out, which builds on which is not.

use super::host::{FakeHost, Model};
use crate::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind, PoolId,
    backup::*,
    domain::{DomainFacts, DomainRecord, DomainState},
    host::DomainChange,
    volume::{Inquiry, Need, Place, UNFINISHED, Unused, VolumeFacts, VolumeFormat, VolumeRecord, disks_brought},
    work::Follower,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// What the fake keeps of backups.
#[derive(Default)]
pub(super) struct Vault {
    manifests: BTreeMap<PoolId, Vec<Manifest>>,
    checkpoints: BTreeMap<DomainId, Vec<Checkpoint>>,
    /// Files that are not what was written.
    damaged: Vec<String>,
}

fn machine(model: &Model, id: DomainId) -> Result<DomainRecord, Fault> {
    let found = model.domains.get(&id).cloned();
    found.ok_or_else(|| Fault::not_found(format!("there is no virtual machine {id}; list them again")))
}

fn put(model: &mut Model, pool: PoolId, name: &str, capacity: Bytes) -> String {
    let dir = model.pools.get(&pool).and_then(|p| p.facts.path.clone()).unwrap_or_else(|| "/fake".into());
    let path = format!("{dir}/{name}");
    let (volume_type, format) = ("file".to_owned(), Some("qcow2".to_owned()));
    let facts = VolumeFacts { volume_type, format, capacity, path: path.clone(), ..VolumeFacts::default() };
    model.volumes.entry(pool).or_default().push(VolumeRecord { name: name.to_owned(), facts });
    path
}

fn archive(model: &Model, pool: PoolId) -> Archive {
    let manifests = model.vault.manifests.get(&pool).cloned().unwrap_or_default();
    let there = |file: &str| model.volumes.get(&pool).into_iter().flatten().any(|v| v.name == file);
    let files = manifests.iter().flat_map(|m| &m.disks).filter(|d| there(&d.file)).map(|d| (d.file.clone(), d.length)).collect();
    Archive { manifests, unreadable: Vec::new(), files }
}

fn verify(model: &Model, chain: &[Manifest]) -> Result<(), Fault> {
    match chain.iter().flat_map(|m| &m.disks).find(|d| model.vault.damaged.contains(&d.file)) {
        Some(disk) => Err(Fault::wrong_state(format!("{} is not what was written; restore an older backup", disk.file))),
        None => Ok(()),
    }
}

impl FakeHost {
    /// What the last backup noted in the images of a machine is still known, as when a daemon died before it was forgotten.
    pub fn remember_checkpoint(&self, id: DomainId, name: &str) {
        let one =
            Checkpoint { name: name.to_owned(), parent: None, created: crate::Timestamp(0), disks: vec!["vda".into()], description: None };
        self.change(|model| model.vault.checkpoints.entry(id).or_default().push(one));
    }

    /// A file of a backup is damaged behind everybody's back.
    pub fn damage(&self, file: &str) {
        self.change(|model| model.vault.damaged.push(file.to_owned()));
    }
}

impl BackupPort for FakeHost {
    fn archive(&self, pool: PoolId) -> BoxFuture<'_, Result<Archive, Fault>> {
        self.call("backup.archive", pool.to_string(), move |model| Ok(archive(model, pool)))
    }

    fn take(&self, id: DomainId, order: BackupOrder, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Manifest, Fault>> {
        let host = self.host_name();
        self.call("backup.take", id.to_string(), move |model| {
            let record = machine(model, id)?;
            let running = record.facts.state.is_active();
            follower.advance(Some(50), "copying");
            if follower.is_cancelled() {
                return Err(Fault::busy("it was stopped"));
            }
            let noted: Vec<_> = model.vault.checkpoints.get(&id).into_iter().flatten().cloned().collect();
            let all: Vec<Manifest> = model.vault.manifests.values().flatten().cloned().collect();
            let has = super::volume::named_disks(&super::volume::lines_of(model, id));
            if let Some(name) = outlived(&noted, &all, &has).first() {
                return Err(Fault::wrong_state(format!("the notes of {name} are in no image of the machine")));
            }
            let base = if running { order.base } else { Err("the machine is off".to_owned()) };
            let paths = model.attachments.iter().filter(|a| a.domain == id && !a.read_only);
            let disks: Vec<(String, String)> = paths.filter_map(|a| Some((a.device.clone(), a.paths.first()?.clone()))).collect();
            let capacity = Bytes::mib(64);
            let of = |source: &(String, String)| disk_kind(base.as_ref().ok(), &source.0, &source.1, capacity, VolumeFormat::Qcow2);
            let some = disks.iter().any(|d| of(d) == BackupKind::Incremental);
            if order.strict && !some {
                let why = base.err().unwrap_or_else(|| "no disk of it can be taken in part".to_owned());
                return Err(Fault::wrong_state(format!("no incremental backup can be made: {why}")));
            }
            let kind = if some { BackupKind::Incremental } else { BackupKind::Full };
            let name = backup_name(&record.name, order.at, kind);
            if model.vault.manifests.values().flatten().any(|m| m.name == name) {
                return Err(Fault::new(FaultKind::Conflict, format!("there is a backup {name} already; ask again in a second")));
            }
            let disk = |source: &(String, String)| BackupDisk {
                device: source.0.clone(),
                file: format!("{name}.{}.qcow2", source.0),
                kind: of(source),
                capacity,
                format: VolumeFormat::Qcow2,
                source: source.1.clone(),
                length: Bytes(1),
                sha256: "0".repeat(64),
            };
            let manifest = Manifest {
                version: MANIFEST_VERSION,
                machine: record.name.to_string(),
                uuid: id,
                host,
                at: order.at,
                kind,
                because: base.as_ref().map_or_else(Clone::clone, |b| format!("it builds on {}", b.name)),
                parent: base.as_ref().ok().filter(|_| some).map(|b| b.name.clone()),
                checkpoint: running.then(|| name.clone()),
                running,
                quiesced: order.quiesce,
                disks: disks.iter().map(disk).collect(),
                left_out: Vec::new(),
                definition: super::volume::lines_of(model, id),
                name,
            };
            for disk in &manifest.disks {
                put(model, order.pool, &disk.file, disk.capacity);
            }
            let old: Vec<String> = archive(model, order.pool).manifests.into_iter().filter_map(|m| m.checkpoint).collect();
            if let Some(name) = &manifest.checkpoint {
                let all = model.vault.checkpoints.entry(id).or_default();
                all.retain(|c| !old.contains(&c.name));
                let disks = manifest.disks.iter().map(|d| d.device.clone()).collect();
                all.push(Checkpoint { name: name.clone(), parent: None, created: order.at, disks, description: None });
            }
            model.vault.manifests.entry(order.pool).or_default().push(manifest.clone());
            Ok(manifest)
        })
    }

    fn verify(&self, pool: PoolId, chain: Vec<Manifest>, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("backup.verify", pool.to_string(), move |model| {
            follower.advance(Some(50), "reading");
            verify(model, &chain)
        })
    }

    fn restore(&self, order: RestoreOrder, unused: Vec<Unused>, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Restored, Fault>> {
        self.call("backup.restore", order.pool.to_string(), move |model| {
            let Some(newest) = order.chain.last() else {
                return Err(Fault::internal("an empty chain was to be restored; please report this"));
            };
            verify(model, &order.chain)?;
            if follower.is_cancelled() {
                return Err(Fault::busy("it was stopped"));
            }
            let pool = match &order.into {
                None => order.pool,
                Some(into) => {
                    let found = model.pools.values().find(|p| *p.name == **into).map(|p| p.id);
                    found.ok_or_else(|| Fault::not_found(format!("there is no storage pool {into}; list them again")))?
                }
            };
            let present = match &order.restore_as {
                RestoreAs::New(_) => String::new(),
                RestoreAs::InPlace(id) => super::volume::lines_of(model, *id),
            };
            let named = super::volume::named_disks(&newest.definition).into_iter();
            let stay = named.filter(|d| !newest.disks.iter().any(|n| n.device == d.device)).collect();
            for disk in disks_brought(stay, &super::volume::named_disks(&present)) {
                Unused::among(&unused, &disk.paths[0], disk.need())?;
            }
            let (id, stem) = match &order.restore_as {
                RestoreAs::New(name) => {
                    if model.domains.values().any(|d| *d.name == **name) {
                        let text = format!("a virtual machine named {name} exists already; choose another name");
                        return Err(Fault::new(FaultKind::Conflict, text));
                    }
                    let facts = DomainFacts {
                        state: DomainState::Shutoff,
                        reason: None,
                        vcpus: 1,
                        memory: Bytes::mib(16),
                        persistent: true,
                        autostart: false,
                        agent: false,
                        virtualization: "test".into(),
                        note: None,
                        moving_to: None,
                        autostart_order: None,
                        autostart_delay: None,
                        template: false,
                    };
                    let id = DomainId(Uuid::new_v4());
                    model.domains.insert(id, DomainRecord { id, name: name.as_str().into(), facts });
                    (id, name.clone())
                }
                RestoreAs::InPlace(id) => {
                    let record = machine(model, *id)?;
                    if record.facts.state.is_active() {
                        return Err(Fault::wrong_state(format!("{} is not off; shut it down first", record.name)));
                    }
                    model.vault.checkpoints.remove(id);
                    (*id, format!("{}-{}", record.name, order.now.0))
                }
            };
            let gone: Vec<_> = model.attachments.extract_if(.., |a| a.domain == id).collect();
            let mut made = Vec::new();
            for disk in &newest.disks {
                let name = format!("{stem}-{}.qcow2", disk.device);
                let path = put(model, pool, &name, disk.capacity);
                made.push(name);
                let (device, name) = (disk.device.clone(), stem.as_str().into());
                model.attachments.push(crate::volume::Attachment {
                    domain: id,
                    name,
                    device,
                    paths: vec![path],
                    ..crate::volume::Attachment::default()
                });
            }
            model.tell_domain(id, DomainChange::Defined("added"));
            Ok(Restored { id, made, before: gone.into_iter().flat_map(|a| a.paths).collect() })
        })
    }

    fn remove(&self, pool: PoolId, manifest: Manifest, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("backup.remove", pool.to_string(), move |model| {
            let all = super::volume::landscape(model);
            let here = |v: &&VolumeRecord| manifest.disks.iter().any(|d| d.file == v.name);
            for path in model.volumes.get(&pool).into_iter().flatten().filter(here).map(|v| v.facts.path.clone()) {
                Unused::among(&unused, &path, Need::Gone)?;
                let place = Place::unknown(&*path);
                Inquiry { name: path, place, need: Need::Gone, but: None, above: Vec::new() }.check_here(&all)?;
            }
            model.vault.manifests.entry(pool).or_default().retain(|m| m.name != manifest.name);
            let files: Vec<&String> = manifest.disks.iter().map(|d| &d.file).collect();
            model.volumes.entry(pool).or_default().retain(|v| !files.contains(&&v.name));
            Ok(())
        })
    }

    fn abandon(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        self.call("backup.abandon", id.to_string(), move |model| {
            let Ok(record) = machine(model, id) else { return Ok(Vec::new()) };
            let left = |v: &VolumeRecord| v.name.starts_with(&format!("{}.", record.name)) && v.name.ends_with(UNFINISHED);
            Ok(model.volumes.values_mut().flat_map(|all| all.extract_if(.., |v| left(v)).collect::<Vec<_>>()).map(|v| v.name).collect())
        })
    }

    fn checkpoints(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Checkpoint>, Fault>> {
        self.call("checkpoint.list", id.to_string(), move |model| {
            machine(model, id)?;
            Ok(model.vault.checkpoints.get(&id).cloned().unwrap_or_default())
        })
    }

    fn delete_checkpoint(&self, id: DomainId, name: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("checkpoint.delete", id.to_string(), move |model| {
            machine(model, id)?;
            let all = model.vault.checkpoints.entry(id).or_default();
            let before = all.len();
            all.retain(|c| c.name != name);
            if all.len() == before { Err(Fault::not_found("there is no such checkpoint; list them again")) } else { Ok(()) }
        })
    }
}
