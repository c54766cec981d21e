//! Disks that grow, are copied and merged while the guest runs.
//!
//! ```text
//!   begun --> both sides the same (ready) --> the guest goes on with the copy --> the definition names it too
//!     |  cancelled: the job ends, the guest goes on with what it had
//!     +--> the job ended by itself: told as a failure, the guest goes on with what it had
//! ```
//! QEMU does the work and goes on when this process ends. A copy that is asked for again is then followed, not begun anew.
//! Progress is read while somebody follows it; nothing else looks.

use super::{INACTIVE, SECURE, define_on, raw, tree};
use crate::{
    connection::{Session, Trouble},
    count::ask,
    volume::landscape::landscape,
    xml::{
        edit,
        read::VolumeFacts,
        tree::{Element, write},
    },
};
use archipel_contract::{
    Bytes, DomainId, Fault, FaultKind,
    domain::CopyDisk,
    volume::{Inquiry, Landscape, Need, Place, Unused},
    work::{Follower, percent},
};
use std::{
    thread,
    time::{Duration, Instant},
};
use virt::{connect::Connect, domain::Domain, sys};

/// How often the progress of a job is read while it is followed.
const LOOK: Duration = Duration::from_millis(200);
/// How long libvirt may take to tell that a job is over after it was ended.
const END: Duration = Duration::from_secs(60);

fn disk_of<'a>(root: &'a Element, disk: &str) -> Result<&'a Element, Fault> {
    let found = edit::devices(root).find(|d| d.name == "disk" && d.of("target", "dev") == disk);
    found.ok_or_else(|| Fault::not_found(format!("it has no disk {disk}; list its devices")))
}

fn source_of(disk: &Element) -> &str {
    let source = disk.child("source");
    source.and_then(|s| s.attribute("file").or(s.attribute("dev"))).unwrap_or_default()
}

/// Refuses to change a layer of a machine's disk that others on this host have, or of whom the cell was not asked.
fn its_own(all: &Landscape, id: DomainId, disk: &str, depth: usize, need: Need, unused: &Unused) -> Result<(), Fault> {
    let layers = all.layers(id, disk);
    let Some(path) = layers.get(depth).copied() else {
        return Err(Fault::not_found(format!("it has no such layer of a disk {disk}; list its devices")));
    };
    unused.covers(path, need)?;
    let above = all.names(&layers);
    Inquiry { name: path.to_owned(), place: Place::unknown(path), need, but: Some(id), above }.check_here(all)
}

pub(super) fn resize(session: &Session, id: DomainId, disk: &str, size: Bytes, unused: &Unused) -> Result<(), Trouble> {
    let domain = session.domain(id)?;
    let root = tree(&ask(|| domain.xml_desc(0))?)?;
    let device = disk_of(&root, disk)?;
    if device.child("readonly").is_some() {
        return Err(Fault::invalid(format!("{disk} is only read by the guest; it cannot grow")).into());
    }
    let now = ask(|| domain.block_info(disk, 0))?.capacity;
    if size.0 < now {
        let text = format!("{disk} has {} and can only grow; a smaller disk would cut off what is on it", Bytes(now));
        return Err(Fault::invalid(text).into());
    }
    if size.0 == now {
        return Ok(());
    }
    its_own(&session.landscape()?, id, disk, 0, Need::Still, unused)?;
    if ask(|| domain.is_active())? {
        ask(|| domain.block_resize(disk, size.0, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES))?;
        return Ok(());
    }
    let path = source_of(device).to_owned();
    ask(|| raw::resize_volume(&session.connect, &path, size.0))?;
    Ok(())
}

fn running(connect: &Connect, id: DomainId) -> Result<Domain, Trouble> {
    let domain = ask(|| connect.lookup_domain_by_uuid(id.0))?;
    if !ask(|| domain.is_active())? {
        let text = format!("{} is off; this is done while it runs. Move its volume with the commands of its pool instead", domain.name()?);
        return Err(Fault::wrong_state(text).into());
    }
    Ok(domain)
}

pub(super) fn copy(
    connect: &Connect,
    id: DomainId,
    ask_for: &CopyDisk,
    target: &VolumeFacts,
    follower: &dyn Follower,
) -> Result<String, Trouble> {
    let domain = running(connect, id)?;
    let disk = ask_for.disk.as_str();
    let root = tree(&ask(|| domain.xml_desc(0))?)?;
    let device = disk_of(&root, disk)?;
    let before = source_of(device).to_owned();
    if before == target.path {
        return Err(Fault::new(FaultKind::Conflict, format!("{disk} is on {} already", ask_for.to)).into());
    }
    let mirror = device.child("mirror");
    let goes_on = mirror.is_some_and(|m| source_of(m) == target.path);
    if mirror.is_some() && !goes_on {
        return Err(Fault::busy(format!("{disk} is being copied or merged already; wait until that has ended")).into());
    }
    if !goes_on {
        let size = ask(|| domain.block_info(disk, 0))?.capacity;
        if target.capacity.0 < size {
            let text = format!("{} has {} and {disk} needs {}; make it larger first", ask_for.to, target.capacity, Bytes(size));
            return Err(Fault::invalid(text).into());
        }
        let is_block = target.volume_type == "block";
        let format = target.format.as_deref().filter(|f| *f != "iso").unwrap_or("raw");
        let place = Element::new("disk")
            .with("type", if is_block { "block" } else { "file" })
            .holding(Element::new("driver").with("name", "qemu").with("type", format))
            .holding(Element::new("source").with(if is_block { "dev" } else { "file" }, target.path.as_str()));
        ask(|| raw::copy(&domain, disk, &write(&place), ask_for.bandwidth.map(|b| b.0)))?;
    }
    follow(&domain, disk, "copying", follower)?;
    settle(connect, &domain, disk, &target.path)?;
    Ok(format!("{disk} is on {} now; what it had before stays as it is: {before}", ask_for.to))
}

pub(super) fn commit(
    connect: &Connect,
    uri: &str,
    id: DomainId,
    disk: &str,
    unused: &Unused,
    follower: &dyn Follower,
) -> Result<String, Trouble> {
    let domain = running(connect, id)?;
    let root = tree(&ask(|| domain.xml_desc(0))?)?;
    let device = disk_of(&root, disk)?;
    let before = source_of(device).to_owned();
    let below = device.child("backingStore").map(|b| source_of(b).to_owned()).filter(|b| !b.is_empty());
    let Some(below) = below else {
        return Err(Fault::wrong_state(format!("{disk} has one layer only, so there is nothing to merge")).into());
    };
    match device.child("mirror") {
        Some(mirror) if mirror.attribute("job") == Some("active-commit") => {}
        Some(_) => return Err(Fault::busy(format!("{disk} is being copied already; wait until that has ended")).into()),
        None => {
            its_own(&landscape(connect, uri)?, id, disk, 1, Need::Sole, unused)?;
            ask(|| raw::commit(&domain, disk))?;
        }
    }
    follow(&domain, disk, "merging", follower)?;
    settle(connect, &domain, disk, &below)?;
    Ok(format!("{disk} is on {below} now; the layer that was merged is not used any more: {before}"))
}

/// Follows a job until both sides are the same, and lets the guest go on with the other one.
fn follow(domain: &Domain, disk: &str, words: &str, follower: &dyn Follower) -> Result<(), Trouble> {
    loop {
        if follower.is_cancelled() {
            ask(|| raw::end_job(domain, disk, false))?;
            return Err(Fault::new(FaultKind::Busy, format!("{words} {disk} was stopped; the guest goes on with what it had")).into());
        }
        let Some((done, whole)) = ask(|| raw::job(domain, disk))? else {
            let text = format!("{words} {disk} ended before it was done; the guest goes on with what it had. See the host's libvirt log");
            return Err(Fault::internal(text).into());
        };
        follower.advance(percent(done, whole), &format!("{words} {disk}: {} of {}", Bytes(done), Bytes(whole)));
        if done == whole {
            let root = tree(&ask(|| domain.xml_desc(0))?)?;
            let ready = disk_of(&root, disk)?.child("mirror").and_then(|m| m.attribute("ready"));
            if ready == Some("yes") {
                ask(|| raw::end_job(domain, disk, true))?;
                return Ok(());
            }
        }
        thread::sleep(LOOK);
    }
}

/// Waits until the guest goes on with that file, and writes it into the definition where libvirt has not.
fn settle(connect: &Connect, domain: &Domain, disk: &str, path: &str) -> Result<(), Trouble> {
    let end = Instant::now() + END;
    let device = loop {
        let root = tree(&ask(|| domain.xml_desc(0))?)?;
        let device = disk_of(&root, disk)?;
        if source_of(device) == path && device.child("mirror").is_none() {
            break device.clone();
        }
        if Instant::now() > end {
            let text = format!("libvirt did not say within {} s that {disk} is on {path}; look at its devices", END.as_secs());
            return Err(Fault::new(FaultKind::Timeout, text).into());
        }
        thread::sleep(LOOK);
    };
    if !ask(|| domain.is_persistent())? {
        return Ok(());
    }
    let mut config = tree(&ask(|| domain.xml_desc(INACTIVE | SECURE))?)?;
    let lists = config.elements_mut().filter(|e| e.name == "devices");
    let Some(kept) = lists.flat_map(Element::elements_mut).find(|d| d.name == "disk" && d.of("target", "dev") == disk) else {
        return Ok(());
    };
    if source_of(kept) == path {
        return Ok(());
    }
    kept.set("type", device.attribute("type").unwrap_or("file"));
    let format = device.of("driver", "type").to_owned();
    kept.ensure("driver").set("type", format);
    let block = device.attribute("type") == Some("block");
    kept.remove("backingStore");
    let source = kept.ensure("source");
    source.unset(&["file", "dev", "index"]);
    source.set(if block { "dev" } else { "file" }, path);
    define_on(connect, &write(&config), false)?;
    Ok(())
}
