//! Disks and media.

use super::{Change, Surroundings, absent, devices, devices_mut, taken};
use crate::xml::{read::VolumeFacts, tree::Element};
use archipel_contract::{
    Fault,
    domain::{AttachDisk, Bus, ChangeMedia, Limits, SetDisk},
};

fn is_disk(device: &Element, target: &str) -> bool {
    device.name == "disk" && device.of("target", "dev") == target
}

fn missing(target: &str) -> Fault {
    absent(&format!("disk {target}"))
}

/// Whether a definition has a disk with that source; `Some(true)` when all its disks with it may be shared.
pub fn uses(root: &Element, path: &str) -> Option<bool> {
    let sources = |d: &Element| d.child("source").is_some_and(|s| ["file", "dev"].iter().any(|a| s.attribute(a) == Some(path)));
    let mut found = devices(root).filter(|d| d.name == "disk" && sources(d)).peekable();
    found.peek()?;
    Some(found.all(|d| d.child("shareable").is_some() || d.child("readonly").is_some()))
}

/// A name for a disk on that bus which none of these definitions has.
pub fn free_target(roots: &[&Element], bus: Bus) -> String {
    let prefix = bus.prefix();
    let is_free = |name: &String| !roots.iter().any(|root| devices(root).any(|d| is_disk(d, name)));
    let letters = || ('a'..='z').map(String::from);
    let names = letters().chain(letters().flat_map(|first| ('a'..='z').map(move |second| format!("{first}{second}"))));
    names.map(|letters| format!("{prefix}{letters}")).find(is_free).unwrap_or_else(|| format!("{prefix}zzz"))
}

/// On which bus a new disk is when nobody says.
pub(crate) fn usual_bus(root: &Element, ask: &AttachDisk) -> Bus {
    let machine = root.at(&["os", "type"]).and_then(|t| t.attribute("machine")).unwrap_or_default();
    match (ask.bus, ask.device.as_deref()) {
        (Some(bus), _) => bus,
        (None, Some(target)) if target.starts_with("hd") => Bus::Ide,
        (None, Some(target)) if target.starts_with("sd") => Bus::Sata,
        (None, None) if ask.cdrom && !(machine == "pc" || machine.contains("i440fx")) => Bus::Sata,
        (None, None) if ask.cdrom => Bus::Ide,
        _ => Bus::Virtio,
    }
}

/// libvirt's name of a volume's format; an ISO image is raw, and what nobody knows is never probed.
fn format_of(volume: &VolumeFacts) -> &str {
    match volume.format.as_deref() {
        None | Some("iso") => "raw",
        Some(format) => format,
    }
}

/// Makes the volume a disk's source: type, format and path.
pub(crate) fn put_in(disk: &mut Element, volume: &VolumeFacts) {
    let is_block = volume.volume_type == "block";
    disk.set("type", if is_block { "block" } else { "file" });
    let driver = disk.ensure("driver");
    driver.set("name", "qemu");
    driver.set("type", format_of(volume));
    let source = disk.ensure("source");
    source.unset(&["file", "dev", "pool", "volume", "mode", "dir", "protocol", "name", "index", "startupPolicy"]);
    source.children.clear();
    source.set(if is_block { "dev" } else { "file" }, volume.path.as_str());
}

pub(super) fn attach(root: &mut Element, ask: &AttachDisk, with: &Surroundings) -> Result<Change, Fault> {
    let bus = usual_bus(root, ask);
    let target = match ask.device.as_ref().or(with.target.as_ref()) {
        Some(target) => target.clone(),
        None => free_target(&[root], bus),
    };
    if devices(root).any(|d| is_disk(d, &target)) {
        return Err(taken(format!("it has a disk {target} already; name another, or none")));
    }
    let Some(volume) = &with.volume else { return Err(Fault::internal("a disk without a volume was asked for; please report this")) };
    if uses(root, &volume.path).is_some() {
        return Err(taken(format!("{} is a disk of it already", ask.volume)));
    }
    let mut disk = Element::new("disk").with("type", "file").with("device", if ask.cdrom { "cdrom" } else { "disk" });
    put_in(&mut disk, volume);
    let driver = disk.ensure("driver");
    if let Some(cache) = ask.cache {
        driver.set("cache", cache.name());
    }
    if let Some(discard) = ask.discard {
        driver.set("discard", if discard { "unmap" } else { "ignore" });
    }
    disk.append(Element::new("target").with("dev", target.as_str()).with("bus", bus.name()));
    limit(&mut disk, &ask.limits());
    if ask.read_only || ask.cdrom {
        disk.append(Element::new("readonly"));
    }
    if ask.shareable {
        disk.append(Element::new("shareable"));
    }
    let mut change = Change::of(&target, disk.clone());
    let list = root.ensure("devices");
    if bus == Bus::Scsi && !list.elements().any(|d| d.name == "controller" && d.attribute("type") == Some("scsi")) {
        let controller = Element::new("controller").with("type", "scsi").with("index", "0").with("model", "virtio-scsi");
        list.append_beside(controller.clone());
        change.needs = Some(controller);
    }
    list.append_beside(disk);
    Ok(change)
}

pub(super) fn detach(root: &mut Element, target: &str) -> Result<Change, Fault> {
    let lists = root.elements_mut().filter(|e| e.name == "devices");
    let taken = lists.flat_map(|list| list.take(|d| is_disk(d, target))).next();
    taken.map(|disk| Change::of(target, disk)).ok_or_else(|| missing(target))
}

pub(super) fn set(root: &mut Element, ask: &SetDisk) -> Result<Change, Fault> {
    let found = devices(root).find(|d| is_disk(d, &ask.disk)).ok_or_else(|| missing(&ask.disk))?;
    // On another bus it has another name, unless it fits there too (SCSI, SATA and USB share theirs).
    let moves_to = ask.bus.filter(|bus| found.of("target", "bus") != bus.name());
    let name = match moves_to {
        Some(bus) if !ask.disk.starts_with(bus.prefix()) => free_target(&[root], bus),
        _ => ask.disk.clone(),
    };
    let needs_controller =
        moves_to == Some(Bus::Scsi) && !devices(root).any(|d| d.name == "controller" && d.attribute("type") == Some("scsi"));
    let Some(disk) = devices_mut(root).find(|d| is_disk(d, &ask.disk)) else { return Err(missing(&ask.disk)) };
    if let Some(bus) = moves_to {
        let target = disk.ensure("target");
        target.set("dev", name.as_str());
        target.set("bus", bus.name());
        disk.remove("address");
        disk.remove("alias");
    }
    if let Some(cache) = ask.cache {
        disk.ensure("driver").set("cache", cache.name());
    }
    if let Some(discard) = ask.discard {
        disk.ensure("driver").set("discard", if discard { "unmap" } else { "ignore" });
    }
    limit(disk, &ask.limits());
    let change = Change::of(&name, disk.clone());
    if needs_controller {
        root.ensure("devices")
            .append_beside(Element::new("controller").with("type", "scsi").with("index", "0").with("model", "virtio-scsi"));
    }
    Ok(change)
}

/// The limits that exclude each one: reads and writes together, or each.
pub(super) fn rivals(name: &str) -> &'static [&'static str] {
    match name {
        "total_bytes_sec" => &["read_bytes_sec", "write_bytes_sec"],
        "total_iops_sec" => &["read_iops_sec", "write_iops_sec"],
        "read_bytes_sec" | "write_bytes_sec" => &["total_bytes_sec"],
        "read_iops_sec" | "write_iops_sec" => &["total_iops_sec"],
        _ => &[],
    }
}

fn limit(disk: &mut Element, limits: &Limits) {
    for (name, value) in limits.named() {
        if value == 0 {
            if let Some(tune) = disk.child_mut("iotune") {
                // What may be exceeded for a while, and for how long, is nothing without the limit.
                let burst = format!("{name}_max");
                tune.take(|e| e.name == name || e.name == burst || e.name == format!("{burst}_length"));
            }
        } else {
            let tune = disk.ensure("iotune");
            tune.take(|e| rivals(name).contains(&e.name.as_str()));
            tune.ensure(name).say(&value.to_string());
        }
    }
    if disk.child("iotune").is_some_and(|t| t.elements().next().is_none()) {
        disk.remove("iotune");
    }
}

fn is_drive(device: &Element) -> bool {
    device.name == "disk" && matches!(device.attribute("device"), Some("cdrom" | "floppy"))
}

/// The drive that an edit means.
pub(crate) fn drive<'a>(root: &'a Element, ask: &ChangeMedia) -> Result<&'a str, Fault> {
    let drives: Vec<&str> = devices(root).filter(|d| is_drive(d)).map(|d| d.of("target", "dev")).collect();
    match (&ask.drive, drives.as_slice()) {
        (Some(name), _) => drives.iter().find(|d| *d == name).copied().ok_or_else(|| absent(&format!("drive {name} for media"))),
        (None, [only]) => Ok(only),
        (None, []) => Err(absent("drive for media; add one with add-device --kind cdrom")),
        (None, several) => Err(Fault::invalid(format!("it has several drives; say which of them: {}", several.join(", ")))),
    }
}

pub(super) fn media(root: &mut Element, ask: &ChangeMedia, with: &Surroundings) -> Result<Change, Fault> {
    let name = drive(root, ask)?.to_owned();
    let Some(disk) = devices_mut(root).find(|d| is_disk(d, &name)) else { return Err(missing(&name)) };
    match &with.volume {
        Some(volume) => put_in(disk, volume),
        None => disk.take(|e| matches!(e.name.as_str(), "source" | "backingStore")).clear(),
    }
    Ok(Change::of(&name, disk.clone()))
}
