//! A backup that comes back.
//!
//! ```text
//!   files read through --> each disk written anew as VOLUME.archipel-part --> checked, named --> definition: the machine has them
//!        damaged: refused        \-- fails, is cancelled: what was written goes; the machine is as it was
//! ```
//! The files of the backup are only read. What a machine had before stays in its pool.

use super::{
    archive::{Place, part, verify},
    raw, tool,
};
use crate::{
    connection::Trouble,
    count::ask,
    definition::define_on,
    domain::conflict,
    fault,
    volume::{
        change::{free, rename_file},
        copy::Claim,
        disks_named,
    },
    xml::{
        backup::{Identity, Replacement, restored, taking},
        tree,
    },
};
use archipel_contract::{
    DomainId, Fault, FaultKind,
    backup::{BackupDisk, Layers, Manifest, RestoreAs, RestoreOrder, Restored, layers},
    volume::{UNFINISHED, Unused, UsedDisk, check_volume_name, disks_brought},
    work::Follower,
};
use std::path::{Path, PathBuf};
use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// Which part of the work is reading through, and which writing, in percent.
const READING: (u64, u64) = (0, 40);
const WRITING: (u64, u64) = (40, 99);

/// A disk on its way: its layers, and the volume it becomes.
struct Coming {
    layers: Layers,
    volume: String,
    path: PathBuf,
}

pub(super) fn restore(
    connect: &Connect,
    uri: &str,
    order: &RestoreOrder,
    unused: &[Unused],
    follower: &dyn Follower,
) -> Result<Restored, Trouble> {
    let chain: Vec<&Manifest> = order.chain.iter().collect();
    let Some(newest) = chain.last() else { return Err(Fault::internal("an empty chain was to be restored; please report this").into()) };
    let from = Place::open(connect, uri, order.pool)?;
    let into = match &order.into {
        Some(name) => Place::named(connect, uri, name)?,
        None => Place::open(connect, uri, order.pool)?,
    };
    let present = match &order.restore_as {
        RestoreAs::New(name) => {
            match ask(|| connect.lookup_domain_by_name(name)) {
                Ok(_) => return Err(conflict(name).into()),
                Err(error) if fault::is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
            None
        }
        RestoreAs::InPlace(id) => Some(ready(connect, *id, newest)?),
    };
    let stem = match (&order.restore_as, &present) {
        (RestoreAs::New(name), _) => name.clone(),
        // 2026-01-31T23:59:59.000Z becomes 20260131T235959.
        (_, Some((_, name))) => {
            let time: String = order.now.to_string().chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
            format!("{name}-{time}")
        }
        _ => newest.machine.clone(),
    };
    let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '_' }).collect();
    let (mut coming, mut claims) = (Vec::new(), Vec::new());
    for layers in layers(&chain)? {
        let volume = format!("{stem}-{}.{}", layers.device, layers.format.name());
        check_volume_name(&volume)?;
        free(&into.pool, &volume)?;
        // libvirt may not have seen it yet.
        into.unwritten(&volume)?;
        // Two that are asked for at once would write to one file.
        claims.push(Claim::take(uri, &into.pool, &volume)?);
        let path = into.path(&volume);
        coming.push(Coming { layers, volume, path });
    }
    let needed = |disk: &&BackupDisk| coming.iter().any(|c| c.layers.files.contains(&disk.file));
    let disks: Vec<&BackupDisk> = chain.iter().flat_map(|m| &m.disks).filter(needed).collect();
    verify(&from, &disks, follower, READING)?;
    let mut ours = Vec::new();
    let written = write(&from, &into, &coming, &mut ours, follower);
    let defined = written.and_then(|()| {
        // libvirt knows the volumes before a definition names them.
        into.look();
        define(connect, order, newest, &coming, unused)
    });
    match defined {
        Ok((id, before)) => {
            let made = coming.iter().map(|c| format!("{}/{}", into.name, c.volume)).collect();
            Ok(Restored { id, made, before })
        }
        // Whether libvirt has defined it is not known: then what it may name stays.
        Err(Trouble::Libvirt(error)) if fault::may_mean_dead(&error) => {
            let made: Vec<&str> = coming.iter().map(|c| c.volume.as_str()).collect();
            let text = format!(
                "libvirt was lost while the machine was being defined, so the new volumes stay ({}); look whether it has them, and delete \
                 them if not",
                made.join(", ")
            );
            Err(Fault::new(FaultKind::Timeout, text).because(error.message()).into())
        }
        Err(trouble) => {
            // Only what was written here: a file that came meanwhile under such a name is somebody else's.
            for file in &ours {
                let _ = std::fs::remove_file(file);
            }
            into.look();
            Err(trouble)
        }
    }
}

/// The machine that is to be taken back, if it can be: nothing may be lost that cannot be had again.
fn ready(connect: &Connect, id: DomainId, newest: &Manifest) -> Result<(Domain, String), Trouble> {
    let domain = ask(|| connect.lookup_domain_by_uuid(id.0))?;
    let name = domain.name()?;
    if newest.uuid != id {
        let text = format!(
            "{} is a backup of another machine, {}; make a new machine from it instead (backup restore)",
            newest.name, newest.machine
        );
        return Err(Fault::invalid(text).into());
    }
    if ask(|| domain.is_active())? {
        return Err(Fault::wrong_state(format!("{name} is not off; shut it down first")).into());
    }
    if ask(|| domain.has_managed_save(0))? {
        let text = format!(
            "{name} has saved memory, which would meet other disks; start it and shut it down, or throw that away (domain discard-saved)"
        );
        return Err(Fault::wrong_state(text).into());
    }
    if !ask(|| domain.list_all_snapshots(0))?.is_empty() {
        let text = format!(
            "{name} has snapshots, which its new disks would not have; delete them first, or make a new machine from the backup (backup restore)"
        );
        return Err(Fault::wrong_state(text).into());
    }
    Ok((domain, name))
}

/// Writes all that comes. `ours` is what was written so far.
fn write(from: &Place, into: &Place, coming: &[Coming], ours: &mut Vec<PathBuf>, follower: &dyn Follower) -> Result<(), Trouble> {
    let count = coming.len() as u64;
    for (n, disk) in coming.iter().enumerate() {
        let files: Vec<PathBuf> = disk.layers.files.iter().map(|f| from.path(f)).collect();
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let part_name = format!("{}{UNFINISHED}", disk.volume);
        let words = format!("writing {}", disk.layers.device);
        let progress = |share: u32| follower.advance(part(n as u64 * 10_000 + u64::from(share), count * 10_000, WRITING), &words);
        let making = into.path(&part_name);
        // What an earlier attempt has left when its daemon died.
        let _ = std::fs::remove_file(&making);
        ours.push(making.clone());
        tool::convert((&tool::layered(&files), None), &making, tool::Written::Volume(disk.layers.format), None, follower, &progress)?;
        tool::check(&making, disk.layers.format, follower)?;
        std::fs::File::open(&making).and_then(|f| f.sync_all()).map_err(|e| super::archive::io("writing", &making, &e))?;
        if follower.is_cancelled() {
            return Err(tool::stopped().into());
        }
        rename_file(&into.dir, &part_name, &disk.volume, false)?;
        ours.push(disk.path.clone());
    }
    Ok(())
}

/// Gives the machine its new disks; says who it is and what it had before.
fn define(
    connect: &Connect,
    order: &RestoreOrder,
    newest: &Manifest,
    coming: &[Coming],
    unused: &[Unused],
) -> Result<(DomainId, Vec<String>), Trouble> {
    let volumes: Vec<Replacement> =
        coming.iter().map(|c| (c.layers.device.clone(), c.path.to_string_lossy().into_owned(), c.layers.format)).collect();
    let (identity, before) = match &order.restore_as {
        RestoreAs::New(name) => (Identity::New(name), Vec::new()),
        RestoreAs::InPlace(id) => {
            // It may have been started meanwhile, by somebody else.
            let (domain, _) = ready(connect, *id, newest)?;
            let root = tree::parse(&ask(|| domain.xml_desc(0))?).map_err(|e| crate::domain::unreadable("a virtual machine", e))?;
            let before = taking(&root).disks.into_iter().map(|d| d.source).collect();
            return replace(connect, &domain, *id, newest, &volumes, unused).map(|()| (*id, before));
        }
    };
    let root = restored(&newest.definition, identity, &volumes)?;
    asked(connect, &tree::write(&root), &[], &volumes, unused)?;
    let made = ask(|| connect.define_domain_xml_flags(&tree::write(&root), 0))?;
    Ok((DomainId(made.uuid()?), before))
}

/// Refuses a definition that names what the machine does not have now, unless the cell was asked who uses it.
fn asked(connect: &Connect, xml: &str, present: &[UsedDisk], volumes: &[Replacement], unused: &[Unused]) -> Result<(), Trouble> {
    let mut named = disks_named(connect, xml)?;
    named.retain(|disk| !volumes.iter().any(|(_, path, _)| disk.paths.first() == Some(path)));
    for disk in disks_brought(named, present) {
        Unused::among(unused, &disk.paths[0], disk.need())?;
    }
    Ok(())
}

fn replace(
    connect: &Connect,
    domain: &Domain,
    id: DomainId,
    newest: &Manifest,
    volumes: &[Replacement],
    unused: &[Unused],
) -> Result<(), Trouble> {
    let name = domain.name()?;
    let mut root = restored(&newest.definition, Identity::Same(&name), volumes)?;
    root.ensure("uuid").say(&id.to_string());
    let present = disks_named(connect, &ask(|| domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))?)?;
    asked(connect, &tree::write(&root), &present, volumes, unused)?;
    define_on(connect, &tree::write(&root), false)?;
    // What QEMU has noted is in the images it does not have any more. The machine has its new disks whatever comes of this; what stays is
    // found when the next backup is made.
    if let Err(error) = forget_checkpoints(domain) {
        tracing::warn!(machine = name, %error, "checkpoints of disks that a machine has no more could not be forgotten");
    }
    Ok(())
}

fn forget_checkpoints(domain: &Domain) -> Result<(), Error> {
    raw::Checkpoint::all(domain)?.iter().try_for_each(|checkpoint| checkpoint.delete(true))
}
