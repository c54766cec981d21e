//! Machines from elsewhere: what a volume holds that was uploaded, and how its disks become volumes.
//!
//! ```text
//!   volume --first bytes--> tar: members --> description (ovf), checksums (manifest), disks (image)
//!                      \--> image: its format, its size, whether it leads elsewhere
//!   each disk --tool--> NAME.archipel-part --all of it--> NAME
//! ```
//! Nothing is unpacked: a disk in an archive is read where it lies.
//!
//! | file | holds |
//! |---|---|
//! | `tar` | the members of an archive, and which are refused: pure |
//! | `ovf` | the description of an appliance: pure |
//! | `manifest` | its checksums: pure |
//! | `image` | what an image is and where it would lead: pure |
//! | `tool` | `qemu-img`, and what it may do |

mod image;
mod manifest;
pub(crate) mod ovf;
pub(crate) mod tar;
mod tool;

use super::{
    change::{directory, find, free, look_again, rename_file},
    copy::{Claim, clear, remove, stopped},
    landscape,
};
use crate::{
    connection::{Link, Trouble},
    count::ask,
    hypervisor::is_local_qemu,
};
use archipel_contract::{
    BoxFuture, Bytes, Fault, FaultKind, PoolId,
    domain::{Appliance, Bus, Extent, FoundCard, FoundDisk, ImportPort},
    volume::{UNFINISHED, check_capacity},
    work::{Follower, percent},
};
use image::{Format, Image};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use virt::connect::Connect;

/// The longest list of checksums.
const MANIFEST: u64 = 1 << 20;
/// How much is read at once.
const PIECE: usize = 1 << 20;
/// Images up to this size hold a boot sector and little more; every firmware finds them on IDE.
const BOOT_SECTOR: Bytes = Bytes::mib(2);

/// The file of a volume, open.
struct Opened {
    file: File,
    path: PathBuf,
    length: u64,
}

fn open(connect: &Connect, uri: &str, pool: PoolId, name: &str) -> Result<Opened, Trouble> {
    let (_, _, facts) = find(connect, uri, pool, name)?;
    if let Some(why) = &facts.refused {
        return Err(Fault::invalid(format!("{name} cannot be imported: {why}")).into());
    }
    landscape::landscape(connect, uri)?.check_quiet(name, &facts)?;
    let path = PathBuf::from(&facts.path);
    let plain = std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
    if facts.volume_type != "file" || !is_local_qemu(uri) || !plain {
        let text = format!("{name} is no plain file of this host; upload it to a pool of the type dir");
        return Err(Fault::new(FaultKind::Unsupported, text).into());
    }
    let unread = |e: io::Error| Fault::new(FaultKind::Forbidden, format!("this agent may not read {name}; let it run as root")).because(e);
    let file = File::open(&path).map_err(unread)?;
    let length = file.metadata().map_err(unread)?.len();
    Ok(Opened { file, path, length })
}

/// Up to so many bytes from there on, within a part of a file.
fn bytes(file: &File, part: Extent, at: u64, count: usize) -> io::Result<Vec<u8>> {
    let left = usize::try_from(part.length.saturating_sub(at)).unwrap_or(usize::MAX);
    let mut piece = vec![0; count.min(left)];
    let mut done = 0;
    while done < piece.len() {
        match file.read_at(&mut piece[done..], part.offset + at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    piece.truncate(done);
    Ok(piece)
}

fn image_at(file: &File, part: Extent) -> Result<Image, String> {
    let image = image::look(part.length, &|at, count| bytes(file, part, at, count))?;
    check_capacity(image.capacity).map_err(|f| f.message)?;
    Ok(image)
}

/// A disk that was not an appliance's: its machine has no past that says how it was connected.
fn alone(image: Image, part: Extent) -> Appliance {
    let from_here = matches!(image.format, Format::Raw | Format::Qcow2);
    let bus = match from_here {
        _ if image.capacity <= BOOT_SECTOR => Bus::Ide,
        true => Bus::Virtio,
        false => Bus::Sata,
    };
    Appliance {
        disks: vec![FoundDisk { extent: Some(part), capacity: image.capacity, bus }],
        cards: vec![FoundCard { network: None, model: if from_here { "virtio" } else { "e1000" }.to_owned() }],
        remarks: vec![format!("the image is {}", image.format.name())],
        ..Appliance::default()
    }
}

fn text(file: &File, member: &tar::Member, most: u64) -> Result<String, String> {
    if member.length > most {
        return Err(format!("its {} is too long to be one", member.name));
    }
    let part = Extent { offset: member.offset, length: member.length };
    let read = bytes(file, part, 0, usize::try_from(member.length).unwrap_or(0)).map_err(|e| format!("it cannot be read: {e}"))?;
    String::from_utf8(read).map_err(|_| format!("its {} is no text", member.name))
}

fn ends(member: &tar::Member, ending: &str) -> bool {
    member.name.to_ascii_lowercase().ends_with(ending)
}

/// Checks what the appliance promises of its files. Answers what is to be told, or why it is not whole; `None` when it was stopped.
fn verify(file: &File, members: &[tar::Member], follower: &Arc<dyn Follower>) -> Result<Option<Vec<String>>, String> {
    let lists: Vec<_> = members.iter().filter(|m| ends(m, ".mf")).collect();
    let list = match lists.as_slice() {
        [] => return Ok(Some(vec!["it brings no checksums, so whether it is whole was not checked".to_owned()])),
        [list] => list,
        _ => return Err("it has several lists of checksums (.mf)".to_owned()),
    };
    let promises = manifest::read(&text(file, list, MANIFEST)?)?;
    let mut told = Vec::new();
    let promised = |m: &&tar::Member| promises.iter().any(|p| p.file == m.name) || ends(m, ".mf") || ends(m, ".cert");
    told.extend(members.iter().filter(|m| !promised(m)).map(|m| format!("it brings no checksum for {}", m.name)));
    if members.iter().any(|m| ends(m, ".cert")) {
        told.push("its signature was not checked".to_owned());
    }
    let found = |name: &str| members.iter().find(|m| m.name == name);
    let whole: u64 = promises.iter().filter_map(|p| found(&p.file)).map(|m| m.length).sum();
    let mut done = 0;
    for promise in &promises {
        let Some(member) = found(&promise.file) else {
            return Err(format!("its list of checksums names {:?}, which is not in it", promise.file));
        };
        let part = Extent { offset: member.offset, length: member.length };
        let (mut sum, mut at) = (promise.how.begin(), 0);
        while at < member.length {
            if follower.is_cancelled() {
                return Ok(None);
            }
            let piece = bytes(file, part, at, PIECE).map_err(|e| format!("it cannot be read: {e}"))?;
            if piece.is_empty() {
                return Err("it became shorter while it was read".to_owned());
            }
            sum.take(&piece);
            at += piece.len() as u64;
            done += piece.len() as u64;
            follower.advance(percent(done, whole), "checking its checksums");
        }
        if sum.end() != promise.sum {
            return Err(format!("{} is not what its checksum says: it was damaged or changed; send it again", member.name));
        }
    }
    Ok(Some(told))
}

/// Looks into an archive. `None` when it was stopped.
fn appliance(opened: &Opened, follower: &Arc<dyn Follower>) -> Result<Option<Appliance>, String> {
    let (file, all) = (&opened.file, Extent { offset: 0, length: opened.length });
    let members = tar::members(opened.length, &|at, count| bytes(file, all, at, count))?;
    let descriptions: Vec<_> = members.iter().filter(|m| ends(m, ".ovf")).collect();
    let description = match descriptions.as_slice() {
        [one] => one,
        [] => return Err("the archive has no description of a machine (.ovf), so it is no appliance".to_owned()),
        _ => return Err("the archive has several descriptions (.ovf); pack one machine by itself".to_owned()),
    };
    let described = ovf::read(&text(file, description, crate::xml::tree::SIZE_LIMIT as u64)?)?;
    let mut remarks = described.remarks;
    let mut disks = Vec::new();
    for disk in described.disks {
        let Some(name) = &disk.file else {
            let capacity = disk.capacity.ok_or("its description has an empty disk without a size")?;
            check_capacity(capacity).map_err(|f| f.message)?;
            disks.push(FoundDisk { extent: None, capacity, bus: disk.bus });
            continue;
        };
        let member = members.iter().find(|m| m.name == *name).ok_or_else(|| format!("its description names {name}, which is not in it"))?;
        if disk.length.is_some_and(|length| length != member.length) {
            return Err(format!(
                "{name} has {} bytes, and the description says {}; send it again",
                member.length,
                disk.length.unwrap_or(0)
            ));
        }
        let extent = Extent { offset: member.offset, length: member.length };
        let image = image_at(file, extent).map_err(|why| format!("its disk {name} cannot be taken: {why}"))?;
        if image.format == Format::Raw && !(ends(member, ".img") || ends(member, ".raw")) {
            return Err(format!("its disk {name} is in no format that is known here; export it as vmdk"));
        }
        if let Some(said) = disk.capacity.filter(|said| *said != image.capacity) {
            remarks.push(format!("{name} has {}, and not {said} as the description says", image.capacity));
        }
        disks.push(FoundDisk { extent: Some(extent), capacity: image.capacity, bus: disk.bus });
    }
    let Some(told) = verify(file, &members, follower)? else { return Ok(None) };
    remarks.extend(told);
    let cards = described.cards.into_iter();
    Ok(Some(Appliance {
        name: described.name,
        vcpus: described.vcpus,
        memory: described.memory,
        uefi: described.uefi,
        system: described.system,
        disks,
        cards: cards.map(|c| FoundCard { network: c.network, model: c.model.unwrap_or("e1000").to_owned() }).collect(),
        remarks,
    }))
}

fn look(connect: &Connect, uri: &str, pool: PoolId, name: &str, follower: &Arc<dyn Follower>) -> Result<Appliance, Trouble> {
    let opened = open(connect, uri, pool, name)?;
    let refused = |why: String| Trouble::from(Fault::invalid(format!("{name} cannot be imported: {why}")));
    let all = Extent { offset: 0, length: opened.length };
    let head = bytes(&opened.file, all, 0, 512).map_err(|e| refused(format!("it cannot be read: {e}")))?;
    if tar::is_tar(&head) {
        return appliance(&opened, follower).map_err(refused)?.ok_or_else(stopped);
    }
    Ok(alone(image_at(&opened.file, all).map_err(refused)?, all))
}

/// Removes a file that was being written, and lets libvirt forget it if it has seen it.
fn sweep(pool: &virt::storage_pool::StoragePool, dir: &Path, part: &str) {
    if let Err(error) = std::fs::remove_file(dir.join(part))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(volume = part, %error, "what was brought in by half could not be deleted; it is shown as unfinished");
    }
    remove(pool, part, None);
}

fn bring(
    connect: &Connect,
    uri: &str,
    from: (PoolId, &str),
    extent: Extent,
    to: (PoolId, &str),
    follower: &Arc<dyn Follower>,
) -> Result<(), Trouble> {
    let opened = open(connect, uri, from.0, from.1)?;
    let image = image_at(&opened.file, extent).map_err(|why| Fault::invalid(format!("{} cannot be imported: {why}", from.1)))?;
    let pool = ask(|| connect.lookup_storage_pool_by_uuid(to.0.0))?;
    free(&pool, to.1)?;
    let Some(dir) = directory(&pool, uri)? else {
        let text = "disks can be brought only to pools whose volumes are files of this host; import it there and clone its volumes";
        return Err(Fault::new(FaultKind::Unsupported, text).into());
    };
    let part = format!("{}{UNFINISHED}", to.1);
    let _claim = Claim::take(uri, &pool, &part)?;
    clear(&pool, &part)?;
    let room = Bytes(ask(|| pool.info())?.available.max(1 << 20));
    let path = dir.join(&part);
    // libvirt may not have seen what an earlier one has left.
    let _ = std::fs::remove_file(&path);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|e| {
        Fault::new(FaultKind::Forbidden, format!("this agent may not make files in {}; let it run as root", dir.display())).because(e)
    })?;
    let input = tool::Input { path: &opened.path, extent, format: image.format };
    let made = tool::convert(&input, &path, room, follower);
    let whole = made.and_then(|()| if follower.is_cancelled() { Err(stopped()) } else { Ok(()) });
    if let Err(trouble) = whole.and_then(|()| Ok(rename_file(&dir, &part, to.1, false)?)) {
        sweep(&pool, &dir, &part);
        return Err(trouble);
    }
    Ok(look_again(&pool)?)
}

impl ImportPort for Link {
    fn look(&self, pool: PoolId, volume: String, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Appliance, Fault>> {
        let uri = self.config().uri.clone();
        self.apart("looking into what is imported", move |connect| look(connect, &uri, pool, &volume, &follower))
    }

    fn bring(
        &self,
        pool: PoolId,
        volume: String,
        extent: Extent,
        to: (PoolId, String),
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        let uri = self.config().uri.clone();
        self.apart("bringing in a disk", move |connect| bring(connect, &uri, (pool, &volume), extent, (to.0, &to.1), &follower))
    }
}
