//! A machine's definition from its specification. Disks are named by pool and volume and arrive here already resolved to
//! what libvirt says about them; formats are always written out, because probing an image lets its content choose which
//! files of the host are opened.

use super::{
    read::{AGENT_CHANNEL, VolumeFacts},
    tree::{Element, write},
};
use archipel_contract::{
    Bytes, DomainId,
    domain::{DomainSpec, Graphics},
};

/// What the guests of a hypervisor run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// QEMU of this architecture; with hardware virtualization only where it was proved to work.
    Qemu {
        /// The host's architecture, for example `x86_64`.
        arch: String,
        /// Whether hardware virtualization works.
        kvm: bool,
    },
    /// libvirt's test driver.
    Test,
    /// Another driver, by libvirt's name for its domain type.
    Other(String),
}

/// Images up to this size hold a boot sector and little more; they get a disk that every firmware finds by itself.
const BOOT_SECTOR_IMAGE: Bytes = Bytes::mib(2);

/// The definition as XML.
pub fn definition(id: DomainId, spec: &DomainSpec, disk: Option<&VolumeFacts>, kind: &Kind) -> String {
    let domain_type = match kind {
        Kind::Qemu { kvm: true, .. } => "kvm",
        Kind::Qemu { kvm: false, .. } => "qemu",
        Kind::Test => "test",
        Kind::Other(name) => name,
    };
    let plain = |name: &str, text: &str| Element::new(name).saying(text);
    let mut root =
        Element::new("domain").with("type", domain_type).holding(plain("name", &spec.name)).holding(plain("uuid", &id.to_string()));
    if let Some(note) = &spec.note {
        root = root.holding(plain("description", note));
    }
    root = root
        .holding(plain("memory", &spec.memory.0.div_ceil(1024).to_string()).with("unit", "KiB"))
        .holding(plain("vcpu", &spec.vcpus.to_string()));
    let is_cdrom = disk.is_some_and(|d| d.format.as_deref() == Some("iso"));
    let boot = match (disk, &spec.network) {
        (Some(_), _) if is_cdrom => "cdrom",
        (None, Some(_)) => "network",
        _ => "hd",
    };
    let mut os_type = plain("type", "hvm");
    if let Kind::Qemu { arch, .. } = kind {
        os_type = os_type.with("arch", arch.as_str());
        if arch == "x86_64" || arch == "i686" {
            os_type = os_type.with("machine", "pc");
        }
    }
    let mut os = Element::new("os").holding(os_type);
    let Kind::Qemu { arch, kvm } = kind else {
        let devices = Element::new("devices").holding_all(spec.network.as_deref().map(|n| interface(n, None)));
        return write(&root.holding(os).holding_all((!devices.children.is_empty()).then_some(devices)));
    };
    os = os.holding(Element::new("boot").with("dev", boot));
    root = root.holding(os);
    if arch == "x86_64" || arch == "i686" {
        root = root.holding(Element::new("features").holding(Element::new("acpi")).holding(Element::new("apic")));
    }
    if *kvm {
        root = root.holding(Element::new("cpu").with("mode", "host-model"));
    }
    root = root
        .holding(Element::new("clock").with("offset", "utc"))
        .holding(plain("on_poweroff", "destroy"))
        .holding(plain("on_reboot", "restart"))
        .holding(plain("on_crash", "destroy"));
    let mut devices = Element::new("devices");
    if let Some(volume) = disk {
        devices = devices.holding(disk_element(volume, is_cdrom));
    }
    if let Some(network) = &spec.network {
        devices = devices.holding(interface(network, Some("virtio")));
    }
    let port = || Element::new("target").with("port", "0");
    devices = devices
        .holding(Element::new("serial").with("type", "pty").holding(port()))
        .holding(Element::new("console").with("type", "pty").holding(port().with("type", "serial")))
        .holding(
            Element::new("channel").with("type", "unix").holding(Element::new("target").with("type", "virtio").with("name", AGENT_CHANNEL)),
        );
    if spec.graphics == Graphics::Vnc {
        let listen = Element::new("listen").with("type", "address").with("address", "127.0.0.1");
        devices = devices
            .holding(Element::new("input").with("type", "tablet").with("bus", "usb"))
            .holding(
                Element::new("graphics")
                    .with("type", "vnc")
                    .with("port", "-1")
                    .with("autoport", "yes")
                    .with("listen", "127.0.0.1")
                    .holding(listen),
            )
            .holding(Element::new("video").holding(Element::new("model").with("type", "vga").with("heads", "1")));
    }
    devices = devices
        .holding(Element::new("memballoon").with("model", "virtio"))
        .holding(Element::new("rng").with("model", "virtio").holding(plain("backend", "/dev/urandom").with("model", "random")));
    write(&root.holding(devices))
}

pub(super) fn interface(network: &str, model: Option<&str>) -> Element {
    Element::new("interface")
        .with("type", "network")
        .holding(Element::new("source").with("network", network))
        .holding_all(model.map(|m| Element::new("model").with("type", m)))
}

fn disk_element(volume: &VolumeFacts, is_cdrom: bool) -> Element {
    let is_block = volume.volume_type == "block";
    let format = match volume.format.as_deref() {
        None | Some("iso") => "raw",
        Some(format) => format,
    };
    let (bus, target) = match () {
        () if is_cdrom => ("ide", "hda"),
        () if volume.capacity <= BOOT_SECTOR_IMAGE => ("ide", "hda"),
        () => ("virtio", "vda"),
    };
    Element::new("disk")
        .with("type", if is_block { "block" } else { "file" })
        .with("device", if is_cdrom { "cdrom" } else { "disk" })
        .holding(Element::new("driver").with("name", "qemu").with("type", format))
        .holding(Element::new("source").with(if is_block { "dev" } else { "file" }, volume.path.as_str()))
        .holding(Element::new("target").with("dev", target).with("bus", bus))
        .holding_all(is_cdrom.then(|| Element::new("readonly")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::tree::parse;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn spec() -> DomainSpec {
        DomainSpec {
            name: "web1".into(),
            memory: Bytes::mib(256),
            vcpus: 2,
            disk: Some(("default".into(), "web1.qcow2".into())),
            network: Some("default".into()),
            graphics: Graphics::Vnc,
            note: Some("front end".into()),
            ..DomainSpec::default()
        }
    }
    fn volume(capacity: Bytes, format: Option<&str>) -> VolumeFacts {
        VolumeFacts {
            volume_type: "file".into(),
            format: format.map(str::to_owned),
            capacity,
            allocation: Bytes(0),
            path: "/srv/images/web1".into(),
            ..VolumeFacts::default()
        }
    }
    const EMULATED: fn() -> Kind = || Kind::Qemu { arch: "x86_64".into(), kvm: false };
    const NOBODY: DomainId = DomainId(Uuid::nil());

    fn built(spec: &DomainSpec, disk: Option<&VolumeFacts>, kind: &Kind) -> Element {
        parse(&definition(NOBODY, spec, disk, kind)).unwrap()
    }

    #[test]
    fn an_emulated_machine_has_everything_it_needs() {
        let root = built(&spec(), Some(&volume(Bytes(10 << 30), Some("qcow2"))), &EMULATED());
        assert_eq!(root.attribute("type"), Some("qemu"));
        assert_eq!(root.child("memory").unwrap().text(), "262144");
        assert_eq!(root.at(&["os", "type"]).unwrap().attribute("machine"), Some("pc"));
        assert!(root.child("cpu").is_none(), "an emulated guest takes QEMU's own processor");
        assert_eq!(root.at(&["devices", "disk", "driver"]).unwrap().attribute("type"), Some("qcow2"));
        assert_eq!(root.at(&["devices", "disk", "target"]).unwrap().attribute("bus"), Some("virtio"));
        assert_eq!(root.at(&["devices", "graphics", "listen"]).unwrap().attribute("address"), Some("127.0.0.1"));
        assert_eq!(root.at(&["devices", "interface", "model"]).unwrap().attribute("type"), Some("virtio"));
        for device in ["serial", "console", "channel", "rng", "memballoon"] {
            assert!(root.at(&["devices", device]).is_some(), "no {device}");
        }
    }

    #[test]
    fn a_format_is_always_written_out() {
        let root = built(&spec(), Some(&volume(Bytes(10 << 30), None)), &EMULATED());
        assert_eq!(root.at(&["devices", "disk", "driver"]).unwrap().attribute("type"), Some("raw"));
    }

    #[test]
    fn boot_sectors_and_installers_are_on_a_bus_every_firmware_finds() {
        let root = built(&spec(), Some(&volume(Bytes::MIB, Some("raw"))), &EMULATED());
        assert_eq!(root.at(&["devices", "disk", "target"]).unwrap().attribute("bus"), Some("ide"));
        let root = built(&spec(), Some(&volume(Bytes(1 << 30), Some("iso"))), &EMULATED());
        let disk = root.at(&["devices", "disk"]).unwrap();
        assert_eq!(disk.attribute("device"), Some("cdrom"));
        assert!(disk.child("readonly").is_some());
        assert_eq!(root.at(&["os", "boot"]).unwrap().attribute("dev"), Some("cdrom"));
    }

    #[test]
    fn hardware_virtualization_is_used_only_when_proved() {
        let root = built(&spec(), None, &Kind::Qemu { arch: "x86_64".into(), kvm: true });
        assert_eq!((root.attribute("type"), root.child("cpu").is_some()), (Some("kvm"), true));
        assert_eq!(root.at(&["os", "boot"]).unwrap().attribute("dev"), Some("network"), "there is no disk to boot from");
    }

    #[test]
    fn the_test_driver_gets_little() {
        let root = built(&DomainSpec { network: None, ..spec() }, None, &Kind::Test);
        assert_eq!(root.attribute("type"), Some("test"));
        assert!(root.child("devices").is_none());
    }

    proptest! {
        #[test]
        fn no_name_or_note_breaks_out_of_its_place(name in "\\PC{1,20}", note in "\\PC{0,40}", network in "\\PC{1,20}", path in "\\PC{1,20}") {
            let spec = DomainSpec { name: name.clone(), note: Some(note.clone()), network: Some(network.clone()), ..spec() };
            let disk = VolumeFacts { path: path.clone(), ..volume(Bytes::MIB, None) };
            let root = built(&spec, Some(&disk), &EMULATED());
            prop_assert_eq!(root.child("name").unwrap().text(), name);
            prop_assert_eq!(root.child("description").unwrap().text(), note);
            prop_assert_eq!(root.at(&["devices", "interface", "source"]).unwrap().attribute("network"), Some(network.as_str()));
            prop_assert_eq!(root.at(&["devices", "disk", "source"]).unwrap().attribute("file"), Some(path.as_str()));
            let usual = built(&super::tests::spec(), Some(&volume(Bytes::MIB, None)), &EMULATED());
            prop_assert_eq!(root.elements().count(), usual.elements().count());
        }
    }
}
