//! Everything that is needed to say which machine uses which volume, and what stands against a volume as a disk.

use super::record;
use crate::{
    connection::Trouble,
    count::ask,
    domain::unreadable,
    fault,
    hypervisor::is_local_qemu,
    qcow2,
    xml::{
        read,
        storage::{self, Source},
    },
};
use archipel_contract::{
    DomainId, PoolId,
    volume::{Attachment, Landscape, PlacedVolume},
};
use std::{collections::HashMap, fs::File, io::Read, path::PathBuf};
use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// Images built on images: QEMU follows no longer chains.
const DEEPEST: usize = 200;

/// Leaves out what went away while it was looked at.
fn unless_gone<T>(answer: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Trouble::Libvirt(error)) if fault::is_gone(&error) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

/// All volumes of all running pools, and all disks of all machines.
pub(crate) fn landscape(connect: &Connect, uri: &str) -> Result<Landscape, Trouble> {
    let mut all = Landscape::default();
    for pool in ask(|| connect.list_all_storage_pools(sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE))? {
        let (id, name) = (PoolId(pool.uuid()?), pool.name()?.into());
        let Some(volumes) = unless_gone(ask(|| pool.list_all_volumes(0)).map_err(Trouble::from))? else { continue };
        for volume in &volumes {
            if let Some(volume) = unless_gone(record(connect, uri, volume))? {
                all.volumes.push(PlacedVolume { pool: id, pool_name: Clone::clone(&name), volume });
            }
        }
    }
    // One file may be known by several paths, for example through a link; the volume's own is the one that counts.
    let mut real: HashMap<PathBuf, String> = HashMap::new();
    if is_local_qemu(uri) {
        let paths = all.volumes.iter().map(|v| &v.volume.facts.path);
        real.extend(paths.filter_map(|path| Some((std::fs::canonicalize(path).ok()?, path.clone()))));
    }
    let known = |path: String| -> String {
        let there = std::fs::canonicalize(&path).ok().and_then(|path| real.get(&path));
        there.cloned().unwrap_or(path)
    };
    for domain in &ask(|| connect.list_all_domains(0))? {
        if let Some(disks) = unless_gone(disks(domain, &all, &known))? {
            all.attachments.extend(disks);
        }
    }
    Ok(all)
}

/// The disks of a machine: of what runs, and of its definition.
fn disks(domain: &Domain, all: &Landscape, known: &dyn Fn(String) -> String) -> Result<Vec<Attachment>, Trouble> {
    let (id, name) = (DomainId(domain.uuid()?), domain.name()?.into());
    let running = ask(|| domain.is_active())?;
    let mut views = vec![(running, 0)];
    if running && ask(|| domain.is_persistent())? {
        views.push((false, sys::VIR_DOMAIN_XML_INACTIVE));
    }
    let mut found = Vec::new();
    for (running, flags) in views {
        let xml = ask(|| domain.xml_desc(flags))?;
        for used in storage::used(&xml).map_err(|e| unreadable("a virtual machine", e))? {
            let place = |source: Source| match source {
                Source::Path(path) => known(path),
                Source::Volume(pool, volume) => {
                    let there = all.volumes.iter().find(|v| *v.pool_name == *pool && v.volume.name == volume);
                    there.map_or(format!("{pool}/{volume}"), |v| v.volume.facts.path.clone())
                }
            };
            let paths = used.chain.into_iter().map(place).collect();
            found.push(Attachment {
                domain: id,
                name: Clone::clone(&name),
                device: used.device,
                running,
                read_only: used.read_only,
                shareable: used.shareable,
                parked: false,
                paths,
            });
        }
    }
    Ok(found)
}

/// Why this volume cannot be a disk; `None` when it can. Its content decides which files QEMU opens, so all it is built on must be
/// volumes too, and its head must be one that QEMU understands as libvirt does.
pub(super) fn refused(connect: &Connect, uri: &str, facts: &read::VolumeFacts) -> Result<Option<String>, Error> {
    if facts.format.as_deref() == Some("qcow2")
        && facts.volume_type == "file"
        && is_local_qemu(uri)
        && let Some((head, length)) = head(&facts.path)
        && let Some(why) = qcow2::trouble(&head, length)
    {
        return Ok(Some(why));
    }
    let mut seen = vec![facts.path.clone()];
    let mut next = facts.backing.clone();
    while let Some(path) = next {
        if seen.contains(&path) || seen.len() > DEEPEST {
            return Ok(Some("what it is built on is built on it again".to_owned()));
        }
        let below = match ask(|| connect.lookup_storage_vol_by_path(&path)) {
            Ok(volume) => ask(|| volume.xml_desc(0)).ok().and_then(|xml| read::volume(&xml).ok()),
            Err(error) if fault::is_gone(&error) => {
                return Ok(Some(format!(
                    "backing file outside of any pool: it is built on {path}; convert it to an image of its own first"
                )));
            }
            Err(error) => return Err(error),
        };
        seen.push(path);
        next = below.and_then(|b| b.backing);
    }
    Ok(None)
}

/// The first bytes of a file and its length, if this process may read it.
fn head(path: &str) -> Option<(Vec<u8>, u64)> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut head = Vec::with_capacity(qcow2::HEAD);
    file.take(qcow2::HEAD as u64).read_to_end(&mut head).ok()?;
    Some((head, length))
}
