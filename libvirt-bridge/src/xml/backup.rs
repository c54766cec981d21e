//! What a backup takes of a machine, what libvirt is told about it, and the definition with which it comes back. Pure.

use super::{
    edit,
    read::{is_of_one_machine, is_template_mark},
    tree::{BadXml, Element, parse, write},
};
use archipel_contract::{
    Fault, Timestamp,
    backup::{BackupKind, Checkpoint},
    volume::VolumeFormat,
};

/// A disk that a backup takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenDisk {
    /// Its name in the machine.
    pub device: String,
    /// How it is written.
    pub format: VolumeFormat,
    /// Where it is, for people and to know it again.
    pub source: String,
    /// Whether it is a file or device of this host, which can be read while the machine is off.
    pub local: bool,
}

/// What of a machine is taken, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taking {
    /// Its disks.
    pub disks: Vec<TakenDisk>,
    /// Names of the disks that are not taken.
    pub others: Vec<String>,
    /// What is left out and why.
    pub left_out: Vec<String>,
}

fn disks(root: &Element) -> impl Iterator<Item = &Element> {
    root.elements().filter(|e| e.name == "devices").flat_map(Element::elements).filter(|e| e.name == "disk")
}

/// Sorts what a machine has into what is taken and what is not.
pub fn taking(root: &Element) -> Taking {
    let mut taking = Taking::default();
    for disk in disks(root) {
        let device = disk.of("target", "dev").to_owned();
        let why = match disk.attribute("device").unwrap_or("disk") {
            "cdrom" => Some("a medium the guest only reads"),
            "floppy" => Some("a floppy disk"),
            "lun" => Some("a device of the host that is handed through whole"),
            _ if disk.child("readonly").is_some() => Some("the guest only reads it"),
            _ if disk.child("transient").is_some() => Some("what is written to it is thrown away"),
            _ if disk.child("source").is_none() => Some("there is nothing in it"),
            _ => None,
        };
        if let Some(why) = why {
            taking.left_out.push(format!("{device}: {why}"));
            taking.others.push(device);
            continue;
        }
        let kind = disk.attribute("type").unwrap_or("file");
        let source = |name| disk.of("source", name);
        let (local, source) = match kind {
            "file" => (true, source("file").to_owned()),
            "block" => (true, source("dev").to_owned()),
            "volume" => (false, format!("{}/{}", source("pool"), source("volume"))),
            other => (false, format!("{other} {}", source("name"))),
        };
        let format = if disk.of("driver", "type") == "qcow2" { VolumeFormat::Qcow2 } else { VolumeFormat::Raw };
        taking.disks.push(TakenDisk { device, format, source, local });
    }
    if root.at(&["os", "nvram"]).is_some() {
        taking.left_out.push("nvram: the variables of its firmware; a new machine begins with fresh ones".to_owned());
    }
    if root.child("devices").is_some_and(|d| d.child("tpm").is_some()) {
        taking.left_out.push("tpm: what its security chip keeps".to_owned());
    }
    taking
}

/// One disk of a backup, as libvirt is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in the machine.
    pub device: String,
    /// What is taken of it.
    pub kind: BackupKind,
    /// Whether QEMU shall note what is written from now on.
    pub noted: bool,
    /// The file that is written.
    pub file: String,
}

/// The description of a backup. `since` is the checkpoint an incremental one begins at.
pub fn backup(targets: &[Target], others: &[String], since: Option<&str>) -> String {
    let mut list = Element::new("disks");
    for target in targets {
        let mut disk = Element::new("disk").with("name", target.device.as_str()).with("backup", "yes").with("type", "file");
        disk = match (target.kind, since) {
            (BackupKind::Incremental, Some(since)) => disk.with("backupmode", "incremental").with("incremental", since),
            _ => disk.with("backupmode", "full"),
        };
        let file = Element::new("target").with("file", target.file.as_str());
        list = list.holding(disk.holding(file).holding(Element::new("driver").with("type", "qcow2")));
    }
    let no = |name: &String| Element::new("disk").with("name", name.as_str()).with("backup", "no");
    write(&Element::new("domainbackup").with("mode", "push").holding(list.holding_all(others.iter().map(no))))
}

/// The description of a checkpoint, `None` when no disk can have one.
pub fn checkpoint(name: &str, note: &str, targets: &[Target], others: &[String]) -> Option<String> {
    if !targets.iter().any(|t| t.noted) {
        return None;
    }
    let disk = |name: &str, how: &str| Element::new("disk").with("name", name).with("checkpoint", how);
    let list = Element::new("disks")
        .holding_all(targets.iter().map(|t| disk(&t.device, if t.noted { "bitmap" } else { "no" })))
        .holding_all(others.iter().map(|name| disk(name, "no")));
    let plain = |name: &str, text: &str| Element::new(name).saying(text);
    Some(write(&Element::new("domaincheckpoint").holding(plain("name", name)).holding(plain("description", note)).holding(list)))
}

/// Reads a checkpoint.
pub fn read_checkpoint(xml: &str) -> Result<Checkpoint, BadXml> {
    let root = parse(xml)?;
    let text = |path: &[&str]| root.at(path).map(|e| e.text().trim().to_owned()).filter(|t| !t.is_empty());
    let noted = |d: &&Element| d.attribute("checkpoint") == Some("bitmap");
    let disks = root.child("disks").into_iter().flat_map(Element::elements).filter(noted);
    Ok(Checkpoint {
        name: text(&["name"]).unwrap_or_default(),
        parent: text(&["parent", "name"]),
        created: Timestamp(text(&["creationTime"]).and_then(|t| t.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1000)),
        disks: disks.filter_map(|d| d.attribute("name").map(str::to_owned)).collect(),
        description: text(&["description"]),
    })
}

/// As what a definition comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity<'a> {
    /// As a new machine of that name: what must be its own is left to libvirt.
    New(&'a str),
    /// As the same one, which is called so now.
    Same(&'a str),
}

/// A volume that takes the place of a disk's content: the disk's name, the volume's path and format.
pub type Replacement = (String, String, VolumeFormat);

/// The definition with which a machine comes back: that of the backup, with the new volumes.
pub fn restored(definition: &str, identity: Identity<'_>, volumes: &[Replacement]) -> Result<Element, Fault> {
    let mut root = parse(definition).map_err(|e| Fault::invalid("the definition in the backup cannot be read").because(e))?;
    if root.name != "domain" {
        return Err(Fault::invalid("the definition in the backup is not that of a virtual machine"));
    }
    root.unset(&["id"]);
    let (Identity::New(name) | Identity::Same(name)) = identity;
    root.ensure("name").say(name);
    let new = matches!(identity, Identity::New(_));
    if new {
        for metadata in root.elements_mut().filter(|e| e.name == "metadata") {
            metadata.take(|e| is_of_one_machine(e) && !is_template_mark(e));
        }
        root.remove("uuid");
        root.remove("genid");
        // The firmware's table would name the other machine.
        if let Some(info) = root.elements_mut().find(|e| e.name == "sysinfo") {
            for system in info.elements_mut().filter(|e| e.name == "system") {
                system.take(|e| e.attribute("name") == Some("uuid"));
            }
        }
        if let Some(nvram) = root.elements_mut().filter(|e| e.name == "os").flat_map(Element::elements_mut).find(|e| e.name == "nvram") {
            nvram.children.clear();
            nvram.unset(&["type"]);
        }
        edit::begin_with_fresh_variables(&mut root);
    }
    for device in root.elements_mut().filter(|e| e.name == "devices").flat_map(Element::elements_mut) {
        if new && device.name == "interface" {
            device.remove("mac");
        }
        let Some((_, path, format)) = volumes.iter().find(|(name, ..)| device.name == "disk" && device.of("target", "dev") == *name) else {
            continue;
        };
        device.set("type", "file");
        device.remove("backingStore");
        device.remove("mirror");
        let driver = device.ensure("driver");
        driver.set("name", "qemu");
        driver.set("type", format.name());
        let source = device.ensure("source");
        source.attributes.clear();
        source.children.clear();
        source.set("file", path.as_str());
    }
    match volumes.iter().find(|(name, ..)| !disks(&root).any(|d| d.of("target", "dev") == *name)) {
        Some((name, ..)) => Err(Fault::invalid(format!("the definition in the backup has no disk {name}"))),
        None => Ok(root),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "<domain type='qemu' id='7'><name>web1</name><uuid>u</uuid><genid>g</genid><metadata><x/></metadata>\
        <os><type>hvm</type><nvram template='t'>/nv/web1</nvram></os><sysinfo type='smbios'><system><entry name='uuid'>u</entry><entry name='serial'>s</entry></system></sysinfo>\
        <devices><disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='/i/a' index='3'/><backingStore type='file'><source file='/i/b'/></backingStore><target dev='vda'/></disk>\
        <disk type='block'><driver type='raw'/><source dev='/dev/x'/><target dev='vdb'/></disk>\
        <disk type='network'><driver type='raw'/><source protocol='rbd' name='p/i'/><target dev='vdc'/></disk>\
        <disk type='file' device='cdrom'><source file='/iso'/><target dev='sda'/><readonly/></disk>\
        <disk type='file'><source file='/ro'/><target dev='sdb'/><readonly/></disk>\
        <interface type='network'><mac address='52:54:00:00:00:01'/><source network='n'/></interface><tpm model='x'/></devices></domain>";

    #[test]
    fn what_is_not_taken_is_said() {
        let taking = taking(&parse(MACHINE).unwrap());
        let disk = |device: &str, format, source: &str, local| TakenDisk { device: device.into(), format, source: source.into(), local };
        assert_eq!(
            taking.disks,
            [
                disk("vda", VolumeFormat::Qcow2, "/i/a", true),
                disk("vdb", VolumeFormat::Raw, "/dev/x", true),
                disk("vdc", VolumeFormat::Raw, "network p/i", false),
            ]
        );
        assert_eq!(taking.others, ["sda", "sdb"]);
        let words = taking.left_out.join("\n");
        assert!(
            words.contains("sda: a medium")
                && words.contains("sdb: the guest only reads it")
                && words.contains("nvram")
                && words.contains("tpm")
        );
    }

    #[test]
    fn libvirt_is_told_about_every_disk() {
        let target = |device: &str, kind, noted| Target { device: device.into(), kind, noted, file: format!("/p/<{device}>'") };
        let targets = [target("vda", BackupKind::Incremental, true), target("vdb", BackupKind::Full, false)];
        let root = parse(&backup(&targets, &["sda".into()], Some("c1"))).unwrap();
        let list: Vec<&Element> = root.child("disks").unwrap().elements().collect();
        assert_eq!(list[0].of("target", "file"), "/p/<vda>'");
        assert_eq!((list[0].attribute("incremental"), list[1].attribute("incremental")), (Some("c1"), None));
        assert_eq!((list[1].attribute("backupmode"), list[2].attribute("backup")), (Some("full"), Some("no")));
        let xml = checkpoint("c2", "note", &targets, &["sda".into()]).unwrap();
        let read = read_checkpoint(&xml).unwrap();
        assert_eq!((read.name.as_str(), read.disks, read.description.as_deref()), ("c2", vec!["vda".to_owned()], Some("note")));
        assert_eq!(checkpoint("c2", "note", &targets[1..], &[]), None, "nothing can be noted");
        let told = "<domaincheckpoint><name>c</name><parent><name>b</name></parent><creationTime>12</creationTime></domaincheckpoint>";
        let read = read_checkpoint(told).unwrap();
        assert_eq!((read.parent.as_deref(), read.created), (Some("b"), Timestamp(12_000)));
    }

    #[test]
    fn a_copy_shares_nothing_that_must_be_its_own() {
        let volumes = [("vda".to_owned(), "/new/a".to_owned(), VolumeFormat::Raw)];
        let root = restored(MACHINE, Identity::New("web2"), &volumes).unwrap();
        assert_eq!(root.child("name").unwrap().text(), "web2");
        let text = write(&root);
        for other in ["<uuid>", "genid", "/nv/web1", "52:54:00", "/i/a", "/i/b", "id='7'", "id=\"7\"", "name='uuid'"] {
            assert!(!text.contains(other), "{other} is still in {text}");
        }
        for kept in ["/new/a", "serial", "template", "/dev/x", "/iso", "metadata"] {
            assert!(text.contains(kept), "{kept} is lost in {text}");
        }
        assert!(text.contains("variables='new'"), "the variables of its firmware begin new");
        let disk = disks(&root).next().unwrap();
        assert_eq!((disk.of("driver", "type"), disk.of("driver", "cache")), ("raw", "none"));
    }

    #[test]
    fn the_same_machine_keeps_what_is_its_own() {
        let volumes = [("vdb".to_owned(), "/new/b".to_owned(), VolumeFormat::Raw)];
        let text = write(&restored(MACHINE, Identity::Same("web1"), &volumes).unwrap());
        for kept in ["<uuid>u</uuid>", "genid", "/nv/web1", "52:54:00:00:00:01", "/i/a", "/new/b"] {
            assert!(text.contains(kept), "{kept} is lost in {text}");
        }
        assert!(!text.contains("/dev/x") && !text.contains("variables='new'"));
        let missing = [("vdz".to_owned(), "/new/z".to_owned(), VolumeFormat::Raw)];
        assert!(restored(MACHINE, Identity::Same("web1"), &missing).is_err());
        assert!(restored("<network/>", Identity::New("a"), &[]).is_err() && restored("<domain", Identity::New("a"), &[]).is_err());
    }
}
