//! The definition of a machine that is created: what a guest of today wants. `domain.define` builds its machines as it always has
//! ([`super::domain`]).
//!
//! The seed is on a SCSI bus of virtio: kernels made for clouds have drivers for that and for no SATA. An installation CD is on SATA,
//! where installers of every system look.

use super::{
    domain::{Kind, interface},
    edit,
    read::{AGENT_CHANNEL, VolumeFacts},
    tree::{Element, write},
};
use archipel_contract::{
    DomainId,
    domain::{BootFrom, DomainSpec, Firmware, Graphics},
};

/// The volumes of a machine that is created, as libvirt describes them.
#[derive(Debug, Clone, Default)]
pub struct Volumes {
    /// Its disk.
    pub disk: Option<VolumeFacts>,
    /// Its installation CD.
    pub iso: Option<VolumeFacts>,
    /// Its seed.
    pub seed: Option<VolumeFacts>,
}

/// The definition as XML.
pub fn definition(id: DomainId, spec: &DomainSpec, volumes: &Volumes, kind: &Kind) -> String {
    let Kind::Qemu { arch, kvm } = kind else {
        // Other drivers know none of this.
        return super::domain::definition(id, spec, volumes.disk.as_ref(), kind);
    };
    let is_pc = arch == "x86_64" || arch == "i686";
    let plain = |name: &str, text: &str| Element::new(name).saying(text);
    let mut root = Element::new("domain")
        .with("type", if *kvm { "kvm" } else { "qemu" })
        .holding(plain("name", &spec.name))
        .holding(plain("uuid", &id.to_string()))
        .holding_all(spec.note.as_deref().map(|note| plain("description", note)))
        .holding(plain("memory", &spec.memory.0.div_ceil(1024).to_string()).with("unit", "KiB"))
        .holding(plain("vcpu", &spec.vcpus.to_string()));
    let mut os_type = plain("type", "hvm").with("arch", arch.as_str());
    if is_pc {
        os_type = os_type.with("machine", "q35");
    }
    root = root.holding(Element::new("os").holding(os_type));
    if is_pc {
        root = root.holding(Element::new("features").holding(Element::new("acpi")).holding(Element::new("apic")));
    }
    if *kvm {
        root = root.holding(Element::new("cpu").with("mode", "host-passthrough").with("check", "none").with("migratable", "on"));
    }
    root = root
        .holding(Element::new("clock").with("offset", "utc"))
        .holding(plain("on_poweroff", "destroy"))
        .holding(plain("on_reboot", "restart"))
        .holding(plain("on_crash", "destroy"))
        .holding(devices(spec, volumes, is_pc));
    // Machines of ARM have no other firmware.
    let firmware = spec.firmware.or((arch == "aarch64").then_some(Firmware::Uefi));
    if let Some(firmware) = firmware {
        edit::choose_firmware(&mut root, firmware);
        edit::begin_with_fresh_variables(&mut root);
    }
    write(&root)
}

fn devices(spec: &DomainSpec, volumes: &Volumes, is_pc: bool) -> Element {
    let order = |from: BootFrom| {
        let place = spec.boot.iter().position(|b| *b == from)?;
        Some(Element::new("boot").with("order", (place + 1).to_string()))
    };
    let mut devices = Element::new("devices");
    if let Some(volume) = &volumes.disk {
        devices = devices.holding(disk("disk", volume, "vda", "virtio").holding_all(order(BootFrom::Disk)));
    }
    if let Some(volume) = &volumes.iso {
        let bus = if is_pc { "sata" } else { "scsi" };
        devices = devices.holding(disk("cdrom", volume, "sda", bus).holding_all(order(BootFrom::Iso)));
    }
    if let Some(volume) = &volumes.seed {
        devices = devices.holding(disk("cdrom", volume, "sdb", "scsi"));
    }
    if volumes.seed.is_some() || (volumes.iso.is_some() && !is_pc) {
        devices = devices.holding(Element::new("controller").with("type", "scsi").with("index", "0").with("model", "virtio-scsi"));
    }
    if let Some(network) = &spec.network {
        devices = devices.holding(interface(network, Some("virtio")).holding_all(order(BootFrom::Network)));
    }
    let port = || Element::new("target").with("port", "0");
    let agent = Element::new("target").with("type", "virtio").with("name", AGENT_CHANNEL);
    devices = devices
        .holding(Element::new("serial").with("type", "pty").holding(port()))
        .holding(Element::new("console").with("type", "pty").holding(port().with("type", "serial")))
        .holding(Element::new("channel").with("type", "unix").holding(agent));
    if spec.graphics == Graphics::Vnc {
        let listen = Element::new("listen").with("type", "address").with("address", "127.0.0.1");
        let screen = Element::new("graphics").with("type", "vnc").with("port", "-1").with("autoport", "yes").with("listen", "127.0.0.1");
        let card = Element::new("model").with("type", if is_pc { "vga" } else { "virtio" }).with("heads", "1");
        devices = devices
            .holding(Element::new("input").with("type", "tablet").with("bus", "usb"))
            .holding(screen.holding(listen))
            .holding(Element::new("video").holding(card));
    }
    let chance = Element::new("backend").saying("/dev/urandom").with("model", "random");
    devices.holding(Element::new("memballoon").with("model", "virtio")).holding(Element::new("rng").with("model", "virtio").holding(chance))
}

fn disk(device: &str, volume: &VolumeFacts, target: &str, bus: &str) -> Element {
    let is_block = volume.volume_type == "block";
    // Always written out: probing an image lets its content choose which files of the host are opened.
    let format = match volume.format.as_deref() {
        None | Some("iso") => "raw",
        Some(format) => format,
    };
    let is_cdrom = device == "cdrom";
    let driver = Element::new("driver").with("name", "qemu").with("type", format);
    let driver = if is_cdrom { driver } else { driver.with("discard", "unmap") };
    Element::new("disk")
        .with("type", if is_block { "block" } else { "file" })
        .with("device", device)
        .holding(driver)
        .holding(Element::new("source").with(if is_block { "dev" } else { "file" }, volume.path.as_str()))
        .holding(Element::new("target").with("dev", target).with("bus", bus))
        .holding_all(is_cdrom.then(|| Element::new("readonly")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::tree::parse;
    use archipel_contract::Bytes;
    use uuid::Uuid;

    fn volume(path: &str, format: &str) -> VolumeFacts {
        VolumeFacts {
            volume_type: "file".into(),
            format: Some(format.into()),
            capacity: Bytes::GIB,
            path: path.into(),
            ..VolumeFacts::default()
        }
    }
    fn built(spec: DomainSpec, volumes: &Volumes, arch: &str, kvm: bool) -> Element {
        let spec = DomainSpec { name: "web1".into(), memory: Bytes::GIB, vcpus: 2, network: Some("default".into()), modern: true, ..spec };
        parse(&definition(DomainId(Uuid::nil()), &spec, volumes, &Kind::Qemu { arch: arch.into(), kvm })).unwrap()
    }
    fn named<'a>(root: &'a Element, name: &'a str) -> Vec<&'a Element> {
        root.child("devices").unwrap().elements().filter(|e| e.name == name).collect()
    }
    fn on(disk: &Element) -> (&str, &str, &str) {
        let target = disk.child("target").unwrap();
        let of = |e: &'_ Element, a| e.attribute(a).map(str::to_owned).unwrap_or_default().leak();
        (of(disk, "device"), of(target, "dev"), of(target, "bus"))
    }

    #[test]
    fn a_machine_from_an_image_reads_its_seed_with_the_drivers_of_any_cloud() {
        let volumes = Volumes { disk: Some(volume("/p/web1.qcow2", "qcow2")), seed: Some(volume("/p/web1-seed.iso", "iso")), iso: None };
        let root = built(DomainSpec { boot: vec![BootFrom::Disk], ..DomainSpec::default() }, &volumes, "x86_64", false);
        assert_eq!(root.at(&["os", "type"]).unwrap().attribute("machine"), Some("q35"));
        assert!(root.child("cpu").is_none() && root.at(&["os", "boot"]).is_none());
        let disks = named(&root, "disk");
        assert_eq!(disks.iter().map(|d| on(d)).collect::<Vec<_>>(), [("disk", "vda", "virtio"), ("cdrom", "sdb", "scsi")]);
        assert_eq!(disks[0].child("boot").unwrap().attribute("order"), Some("1"));
        assert!(disks[1].child("boot").is_none() && disks[1].child("readonly").is_some(), "nothing is booted from the seed");
        assert_eq!(disks[1].child("driver").unwrap().attribute("type"), Some("raw"));
        assert_eq!(named(&root, "controller")[0].attribute("model"), Some("virtio-scsi"));
        assert_eq!(root.child("clock").unwrap().attribute("offset"), Some("utc"));
        for device in ["serial", "console", "channel", "rng", "memballoon", "interface"] {
            assert_eq!(named(&root, device).len(), 1, "{device}");
        }
    }

    #[test]
    fn everything_boots_in_the_order_that_was_said() {
        let volumes = Volumes { disk: Some(volume("/p/d", "qcow2")), iso: Some(volume("/p/i", "iso")), seed: None };
        let boot = vec![BootFrom::Network, BootFrom::Iso, BootFrom::Disk];
        let root = built(DomainSpec { boot, ..DomainSpec::default() }, &volumes, "x86_64", true);
        let order = |e: &Element| e.child("boot").and_then(|b| b.attribute("order")).map(str::to_owned);
        let disks = named(&root, "disk");
        assert_eq!((order(disks[0]), order(disks[1])), (Some("3".into()), Some("2".into())));
        assert_eq!(order(named(&root, "interface")[0]), Some("1".into()));
        assert_eq!(on(disks[1]), ("cdrom", "sda", "sata"));
        assert_eq!(root.child("cpu").unwrap().attribute("mode"), Some("host-passthrough"));
        assert!(named(&root, "controller").is_empty());
    }

    #[test]
    fn firmware_is_said_to_libvirt_which_finds_it() {
        let none = Volumes::default();
        let uefi = built(DomainSpec { firmware: Some(Firmware::Uefi), ..DomainSpec::default() }, &none, "x86_64", false);
        assert_eq!(uefi.child("os").unwrap().attribute("firmware"), Some("efi"));
        let bios = built(DomainSpec { firmware: Some(Firmware::Bios), ..DomainSpec::default() }, &none, "x86_64", false);
        assert_eq!(bios.child("os").unwrap().attribute("firmware"), None);
        // A machine of that name that was forgotten may have left its variables behind.
        let begins_new = |root: &Element| root.at(&["metadata", "archipel:firmware"]).is_some();
        assert!(begins_new(&uefi) && !begins_new(&bios));
        let arm = built(DomainSpec::default(), &none, "aarch64", true);
        assert_eq!((arm.child("os").unwrap().attribute("firmware"), arm.child("features").is_none()), (Some("efi"), true));
    }
}
