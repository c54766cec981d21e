//! The definition of a machine that is like another: everything stays as it was read, known or not, but for what may be there only once
//! (names, UUIDs, MACs, sockets, ports, files that are written to) and what belongs to the original alone (devices of the host).
//!
//! Pure. What it needs of its surroundings is found out before and handed in, so that the same question has the same answer.

use super::{
    edit,
    read::{TEMPLATE, VolumeFacts, is_of_one_machine, is_template_mark},
    tree::Element,
};
use archipel_contract::{DomainId, Fault, FaultKind};
use uuid::Uuid;

/// What the new machine has of its own.
pub struct Own<'a> {
    /// Its UUID.
    pub id: DomainId,
    /// Its name.
    pub name: &'a str,
    /// What is remembered about it, if not what was remembered about the original.
    pub note: Option<&'a str>,
    /// The volume of each disk that is written to, by the disk's name.
    pub disks: &'a [(String, VolumeFacts)],
    /// What tells the guest that it is a copy, if the original has one.
    pub generation: Uuid,
    /// MACs that nobody has, one for each card.
    pub macs: &'a [String],
}

/// How many MACs are needed.
pub fn cards(root: &Element) -> usize {
    edit::devices(root).filter(|d| d.name == "interface").count()
}

/// The new definition, and what is not as it was, for people.
pub fn of(original: &Element, own: &Own<'_>) -> Result<(Element, Vec<String>), Fault> {
    let mut root = original.clone();
    let mut remarks = Vec::new();
    root.unset(&["id"]);
    root.ensure("name").say(own.name);
    root.ensure("uuid").say(&own.id.to_string());
    if let Some(note) = own.note {
        match note {
            "" => root.remove("description"),
            note => root.ensure("description").say(note),
        }
    }
    if let Some(generation) = root.child_mut("genid") {
        generation.say(&own.generation.to_string());
    }
    for metadata in root.elements_mut().filter(|e| e.name == "metadata") {
        metadata.take(is_of_one_machine);
    }
    root.take(|e| e.name == "metadata" && e.elements().next().is_none() && original_mark_only(original));
    // SMBIOS may repeat the UUID, and libvirt insists that it is the machine's.
    for system in root.elements_mut().filter(|e| e.name == "sysinfo").flat_map(Element::elements_mut).filter(|e| e.name == "system") {
        for entry in system.elements_mut().filter(|e| e.name == "entry" && e.attribute("name") == Some("uuid")) {
            entry.say(&own.id.to_string());
        }
    }
    firmware(&mut root, &mut remarks);
    if root.elements().any(|e| e.name == "qemu:commandline") {
        remarks.push("it keeps QEMU options of its own (qemu:commandline); look whether two machines may have them".to_owned());
    }
    let mut macs = own.macs.iter();
    for list in root.elements_mut().filter(|e| e.name == "devices") {
        let dropped = list.take(belongs_to_one);
        remarks.extend(dropped.iter().map(|d| format!("{} is left out: only one machine can have it", told(d))));
        for device in list.elements_mut() {
            match device.name.as_str() {
                "disk" => disk(device, own.disks)?,
                "interface" => {
                    let mac = macs.next().ok_or_else(|| Fault::internal("there were too few MACs for a clone; please report this"))?;
                    card(device, mac);
                }
                "serial" | "console" | "parallel" => line(device),
                "channel" => channel(device),
                "graphics" => screen(device),
                "vsock" => {
                    device.take(|e| e.name == "cid");
                    device.append(Element::new("cid").with("auto", "yes"));
                }
                "tpm" => remarks.push("its trusted platform module begins empty: what was sealed with the old one stays closed".to_owned()),
                "filesystem" => remarks.push(format!("it shares the host's directory {} with the original", device.of("source", "dir"))),
                "memory" if matches!(device.attribute("model"), Some("nvdimm" | "virtio-pmem")) => {
                    let text = "it has persistent memory, whose file two machines would write to; remove it from the original first";
                    return Err(Fault::new(FaultKind::Unsupported, text));
                }
                _ => {}
            }
        }
    }
    Ok((root, remarks))
}

/// Whether notes of ours were all there was in the original's metadata; else what is empty stays as it was.
fn original_mark_only(original: &Element) -> bool {
    original.elements().filter(|e| e.name == "metadata").all(|m| m.elements().count() > 0 && m.elements().all(is_of_one_machine))
}

/// The firmware's settings are a file of the machine; libvirt makes a new one from its template at the first start.
fn firmware(root: &mut Element, remarks: &mut Vec<String>) {
    let Some(os) = root.child_mut("os") else { return };
    let mut had_one = false;
    for nvram in os.elements_mut().filter(|e| e.name == "nvram") {
        had_one = true;
        nvram.unset(&["type"]);
        nvram.children.clear();
    }
    // What has nothing left to say goes.
    os.take(|e| e.name == "nvram" && e.attributes.is_empty());
    // A machine of that name may have been here before and have left its own.
    if had_one || edit::has_variables(root) {
        edit::note_fresh_variables(root);
        remarks.push(
            "its firmware begins with fresh settings: boot entries that the guest made are gone, and it boots from the usual place"
                .to_owned(),
        );
    }
}

/// What only one machine can have at a time.
fn belongs_to_one(device: &Element) -> bool {
    let kind = device.attribute("type").unwrap_or_default();
    match device.name.as_str() {
        "hostdev" => true,
        "interface" => matches!(kind, "hostdev" | "vhostuser" | "vdpa"),
        "input" => matches!(kind, "passthrough" | "evdev"),
        "tpm" => device.child("backend").and_then(|b| b.attribute("type")) == Some("passthrough"),
        "redirdev" => kind != "spicevmc",
        "smartcard" => device.attribute("mode") == Some("passthrough") && kind != "spicevmc",
        _ => false,
    }
}

fn told(device: &Element) -> String {
    match (device.name.as_str(), device.attribute("type")) {
        ("hostdev", Some(kind)) => format!("a device of the host ({kind})"),
        ("hostdev", None) => "a device of the host".to_owned(),
        ("interface", Some(kind)) => format!("a network card of the type {kind}"),
        (name, _) => format!("its {name}"),
    }
}

/// A disk that is written to gets a volume of its own; media and what is only read are shared.
fn disk(disk: &mut Element, own: &[(String, VolumeFacts)]) -> Result<(), Fault> {
    let target = disk.of("target", "dev").to_owned();
    if let Some((_, volume)) = own.iter().find(|(device, _)| *device == target) {
        // Nobody else has its own copy, and libvirt shares no qcow2.
        disk.take(|e| matches!(e.name.as_str(), "backingStore" | "mirror" | "shareable"));
        edit::put_in(disk, volume);
        return Ok(());
    }
    let only_read = disk.child("readonly").is_some() || disk.attribute("device") == Some("cdrom");
    if only_read || disk.child("source").is_none() {
        return Ok(());
    }
    let text =
        format!("its disk {target} is no volume of a storage pool of this host, so it cannot be copied; detach it from the original first");
    Err(Fault::new(FaultKind::Unsupported, text))
}

fn card(card: &mut Element, mac: &str) {
    if card.child("mac").is_none() {
        let place = card.children.iter().position(|c| matches!(c, super::tree::Node::Element(_))).unwrap_or(card.children.len());
        card.children.insert(place, super::tree::Node::Element(Element::new("mac")));
    }
    card.ensure("mac").set("address", mac);
    // The name of its port on the host, and what a switch knows it by.
    card.take(|e| e.name == "target");
    for parameters in card.elements_mut().filter(|e| e.name == "virtualport").flat_map(Element::elements_mut) {
        parameters.unset(&["interfaceid", "instanceid"]);
    }
}

/// A line to a file, socket or device of the host becomes one to a terminal of libvirt's, which makes one for each machine.
fn line(line: &mut Element) {
    line.take(|e| e.name == "log");
    if matches!(line.attribute("type"), Some("file" | "pipe" | "unix" | "tcp" | "udp" | "dev" | "nmdm")) {
        line.set("type", "pty");
        line.take(|e| matches!(e.name.as_str(), "source" | "protocol"));
    } else if line.attribute("type") == Some("pty") {
        line.take(|e| e.name == "source");
        line.unset(&["tty"]);
    }
}

/// The host's end of a channel is a socket, which libvirt makes for each machine when none is named.
fn channel(channel: &mut Element) {
    channel.take(|e| e.name == "log");
    if matches!(channel.attribute("type"), Some("unix" | "file" | "pipe" | "tcp" | "udp" | "dev" | "pty")) {
        channel.take(|e| matches!(e.name.as_str(), "source" | "protocol"));
        if channel.attribute("type") != Some("pty") {
            channel.set("type", "unix");
        }
    }
}

/// A port or socket that is named is the original's.
fn screen(screen: &mut Element) {
    let fixed = |name: &str| screen.attribute(name).is_some_and(|v| v != "-1");
    if fixed("port") || fixed("tlsPort") || screen.attribute("autoport") == Some("no") {
        screen.unset(&["tlsPort"]);
        screen.set("port", "-1");
        screen.set("autoport", "yes");
    }
    screen.unset(&["websocket", "socket"]);
    for listen in screen.elements_mut().filter(|e| e.name == "listen") {
        listen.unset(&["socket"]);
    }
}

/// Marks a definition as a template, or takes the mark away; whether anything differs.
pub fn mark(root: &mut Element, template: bool) -> bool {
    let marked = root.elements().filter(|e| e.name == "metadata").flat_map(Element::elements).any(is_template_mark);
    if marked == template {
        return false;
    }
    if template {
        root.ensure("metadata").append(Element::new("archipel:template").with("xmlns:archipel", TEMPLATE));
    } else {
        for metadata in root.elements_mut().filter(|e| e.name == "metadata") {
            metadata.take(is_template_mark);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::tree::{parse, write};
    use archipel_contract::Bytes;

    const ORIGINAL: &str = "<domain type='kvm' id='3'><name>web</name><uuid>11111111-1111-4111-8111-111111111111</uuid><genid>22222222-2222-4222-8222-222222222222</genid>\
<title>Front</title><description>old</description><metadata><x:y xmlns:x='urn:x'/><archipel:template xmlns:archipel='urn:archipel:template:0'/><archipel:autostart xmlns:archipel='urn:archipel:autostart:0' order='1' delay='2'/></metadata>\
<sysinfo type='smbios'><system><entry name='uuid'>11111111-1111-4111-8111-111111111111</entry><entry name='serial'>7</entry></system></sysinfo>\
<os firmware='efi'><type>hvm</type><nvram template='/t.fd'>/n/web.fd</nvram></os><mystery keep='me'/>\
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='/p/web.qcow2' index='1'/><backingStore type='file'><source file='/p/base'/></backingStore><target dev='vda' bus='virtio'/><serial>S1</serial></disk>\
<disk type='file' device='cdrom'><source file='/p/cd.iso'/><target dev='sda' bus='sata'/><readonly/></disk>\
<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>\
<interface type='network'><mac address='52:54:00:11:11:11'/><source network='default'/><target dev='tap7'/><virtualport type='openvswitch'><parameters interfaceid='33333333-3333-4333-8333-333333333333' profileid='p'/></virtualport><model type='virtio'/></interface>\
<interface type='hostdev'><mac address='52:54:00:11:11:12'/></interface>\
<serial type='file'><source path='/log/web'/><target port='0'/></serial><console type='pty' tty='/dev/pts/1'><source path='/dev/pts/1'/><target type='serial' port='0'/></console>\
<channel type='unix'><source mode='bind' path='/s/web'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>\
<graphics type='vnc' port='5907' autoport='no' websocket='5999' passwd='x'><listen type='socket' socket='/s/vnc'/></graphics>\
<hostdev mode='subsystem' type='pci'><source><address bus='3'/></source></hostdev><vsock><cid auto='no' address='7'/></vsock><tpm model='tpm-crb'><backend type='emulator'/></tpm></devices></domain>";

    fn volume(path: &str) -> VolumeFacts {
        VolumeFacts {
            volume_type: "file".into(),
            format: Some("qcow2".into()),
            capacity: Bytes::MIB,
            path: path.into(),
            ..VolumeFacts::default()
        }
    }

    fn likened(xml: &str, disks: &[(String, VolumeFacts)]) -> Result<(Element, Vec<String>), Fault> {
        let macs: Vec<String> = (0..8).map(|n| format!("52:54:00:aa:aa:{n:02x}")).collect();
        let own =
            Own { id: DomainId(Uuid::from_u128(0xabc)), name: "new", note: None, disks, generation: Uuid::from_u128(0xdef), macs: &macs };
        of(&parse(xml).unwrap(), &own)
    }

    #[test]
    fn nothing_that_may_be_there_once_is_there_twice() {
        let (new, remarks) = likened(ORIGINAL, &[("vda".into(), volume("/p/new.qcow2"))]).unwrap();
        let text = write(&new);
        for gone in [
            "11111111",
            "22222222",
            "33333333",
            "web<",
            "web.qcow2",
            "/p/base",
            "web.fd",
            "52:54:00:11",
            "tap7",
            "/log/web",
            "/s/",
            "/dev/pts",
            "5907",
            "5999",
            "hostdev",
            "address='7'",
            "urn:archipel:template",
            "urn:archipel:autostart",
            "id='3'",
        ] {
            assert!(!text.contains(gone), "{gone} is in {text}");
        }
        for kept in [
            "<title>Front</title>",
            "urn:x",
            "mystery keep='me'",
            "cache='none'",
            "<serial>S1</serial>",
            "/p/cd.iso",
            "profileid='p'",
            "guest_agent",
            "spicevmc",
            "passwd='x'",
            "template='/t.fd'",
            "<archipel:firmware xmlns:archipel='urn:archipel:firmware:0' variables='new'/>",
            "<entry name='serial'>7</entry>",
            "<description>old</description>",
        ] {
            assert!(text.contains(kept), "{kept} is not in {text}");
        }
        assert_eq!(new.at(&["devices", "interface", "mac"]).unwrap().attribute("address"), Some("52:54:00:aa:aa:00"));
        assert_eq!(new.at(&["devices", "serial"]).unwrap().attribute("type"), Some("pty"));
        assert_eq!(new.at(&["devices", "graphics"]).unwrap().attribute("autoport"), Some("yes"));
        assert_eq!(new.at(&["sysinfo", "system", "entry"]).unwrap().text(), DomainId(Uuid::from_u128(0xabc)).to_string());
        let words = ["firmware", "hostdev", "pci", "platform module"];
        assert!(words.iter().all(|w| remarks.iter().any(|r| r.contains(w))), "{remarks:?}");
    }

    #[test]
    fn a_disk_that_would_be_written_to_by_two_is_refused() {
        let fault = likened(ORIGINAL, &[]).unwrap_err();
        assert!(fault.message.contains("vda"), "{fault}");
        let pmem = ORIGINAL.replace("<vsock>", "<memory model='nvdimm'/><vsock>");
        assert!(likened(&pmem, &[("vda".into(), volume("/p/new"))]).is_err());
        let network = ORIGINAL
            .replace("<vsock>", "<disk type='network' device='disk'><source protocol='rbd' name='a/b'/><target dev='vdb'/></disk><vsock>");
        assert!(likened(&network, &[("vda".into(), volume("/p/new"))]).unwrap_err().message.contains("vdb"));
    }

    #[test]
    fn a_note_is_kept_replaced_or_forgotten() {
        let root = parse("<domain><name>a</name><uuid>u</uuid><description>old</description></domain>").unwrap();
        let own = |note| Own { id: DomainId(Uuid::nil()), name: "b", note, disks: &[], generation: Uuid::nil(), macs: &[] };
        let text = |note| of(&root, &own(note)).unwrap().0.child("description").map(Element::text);
        assert_eq!((text(None).as_deref(), text(Some("new")).as_deref(), text(Some(""))), (Some("old"), Some("new"), None));
    }

    #[test]
    fn the_mark_of_a_template_comes_and_goes_and_leaves_the_rest() {
        for before in [
            "<domain><name>a</name></domain>",
            "<domain><metadata><x:y xmlns:x='urn:x'>urn:archipel:template:0</x:y></metadata><os/></domain>",
        ] {
            let mut root = parse(before).unwrap();
            assert!(mark(&mut root, true) && !mark(&mut root, true));
            assert!(crate::xml::read::domain(&write(&root)).unwrap().template, "{}", write(&root));
            assert!(mark(&mut root, false) && !mark(&mut root, false));
            assert!(!crate::xml::read::domain(&write(&root)).unwrap().template);
        }
    }
}
