//! The description of an appliance (OVF 1.1, DSP0243), written from a machine's definition, and its checksums. Pure. What an appliance
//! cannot say is told.

use crate::xml::tree::{Element, write};
use archipel_contract::Bytes;
use sha2::{Digest, Sha256};
use std::{fmt::Write, path::PathBuf};

/// DMTF's number for a system of 64 bits of which no more is known (CIM_OperatingSystem.OSType).
const OTHER_64: &str = "102";
/// The format of disks that are read from front to back.
const STREAMED: &str = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";
const OVF: &str = "http://schemas.dmtf.org/ovf/envelope/1";
const CIM: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2";

/// A disk as it is going to be in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    /// Its name in the machine.
    pub device: String,
    /// Where it lies until it is in the archive.
    pub lies: PathBuf,
    /// Its name there.
    pub file: String,
    /// The size the guest sees.
    pub capacity: Bytes,
    pub length: u64,
    pub sha256: String,
}

pub(super) struct Described {
    pub text: String,
    pub remarks: Vec<String>,
}

/// The list of checksums: one line each, the description first.
pub(super) fn checksums(name: &str, description: &str, disks: &[Packed]) -> String {
    let own = Sha256::digest(description.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let line = |file: &str, sum: &str| format!("SHA256({file})= {sum}\n");
    std::iter::once(line(name, &own)).chain(disks.iter().map(|d| line(&d.file, &d.sha256))).collect()
}

/// Where disks of one kind are plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Controller {
    name: &'static str,
    resource: u8,
    subtype: &'static str,
}

const IDE: Controller = Controller { name: "IDE", resource: 5, subtype: "PIIX4" };
const SATA: Controller = Controller { name: "SATA", resource: 20, subtype: "AHCI" };
const SCSI: Controller = Controller { name: "SCSI", resource: 6, subtype: "VirtioSCSI" };
const VIRTIO: Controller = Controller { name: "virtio", resource: 6, subtype: "virtio-blk" };

fn controller(bus: &str, portable: bool) -> Controller {
    match bus {
        "ide" => IDE,
        "virtio" if !portable => VIRTIO,
        "scsi" if !portable => SCSI,
        _ => SATA,
    }
}

/// The word of other products for a card.
fn card(model: &str, portable: bool) -> &'static str {
    match model {
        "pcnet" => "PCNet32",
        "e1000e" if !portable => "E1000e",
        "vmxnet3" if !portable => "VmxNet3",
        virtio if virtio.starts_with("virtio") && !portable => "virtio",
        _ => "E1000",
    }
}

fn holding(name: &str, text: impl Into<String>) -> Element {
    Element::new(name).saying(text)
}

/// The items of the hardware, numbered as they come.
#[derive(Default)]
struct Items(Vec<Element>);

impl Items {
    /// Adds one of a kind and answers its number. What an item holds stands in the order of the alphabet.
    fn add(&mut self, kind: u8, name: String, more: Vec<(&str, String)>) -> String {
        let number = (self.0.len() + 1).to_string();
        let mut parts = vec![("ElementName", name), ("InstanceID", number.clone()), ("ResourceType", kind.to_string())];
        parts.extend(more);
        parts.sort_by(|a, b| a.0.cmp(b.0));
        self.0.push(Element::new("Item").holding_all(parts.into_iter().map(|(name, text)| holding(&format!("rasd:{name}"), text))));
        number
    }
}

fn devices<'a>(root: &'a Element, name: &'a str) -> impl Iterator<Item = &'a Element> {
    root.child("devices").into_iter().flat_map(Element::elements).filter(move |e| e.name == name)
}

/// libvirt always writes KiB.
fn memory(root: &Element) -> u64 {
    let kib = root.child("memory").and_then(|m| m.text().trim().parse::<u64>().ok()).unwrap_or(0);
    kib.div_ceil(1024).max(1)
}

fn vcpus(root: &Element) -> String {
    let Some(vcpu) = root.child("vcpu") else { return "1".to_owned() };
    vcpu.attribute("current").map_or_else(|| vcpu.text().trim().to_owned(), str::to_owned)
}

fn is_uefi(root: &Element) -> bool {
    let Some(os) = root.child("os") else { return false };
    os.attribute("firmware") == Some("efi") || os.child("loader").is_some_and(|l| l.attribute("type") == Some("pflash"))
}

/// Processors, memory, controllers and disks.
fn machinery(root: &Element, disks: &[Packed], portable: bool, items: &mut Items, remarks: &mut Vec<String>) {
    let (cpus, mib) = (vcpus(root), memory(root));
    let quantity = |unit: &str, number: String| vec![("AllocationUnits", unit.to_owned()), ("VirtualQuantity", number)];
    items.add(3, format!("{cpus} virtual CPUs"), quantity("hertz * 10^6", cpus));
    items.add(4, format!("{mib} MiB of memory"), quantity("byte * 2^20", mib.to_string()));
    let mut controllers: Vec<(Controller, String, usize)> = Vec::new();
    for (n, disk) in disks.iter().enumerate() {
        let own = devices(root, "disk").find(|d| d.of("target", "dev") == disk.device);
        let wanted = controller(own.map_or("", |d| d.of("target", "bus")), portable);
        let at = controllers.iter().position(|(c, ..)| *c == wanted).unwrap_or_else(|| {
            let count = controllers.len();
            let more = vec![("Address", count.to_string()), ("ResourceSubType", wanted.subtype.to_owned())];
            let number = items.add(wanted.resource, format!("{} controller", wanted.name), more);
            controllers.push((wanted, number, 0));
            count
        });
        let (_, parent, used) = &mut controllers[at];
        let more =
            vec![("AddressOnParent", used.to_string()), ("HostResource", format!("ovf:/disk/disk{}", n + 1)), ("Parent", parent.clone())];
        items.add(17, format!("disk {}", n + 1), more);
        *used += 1;
    }
    if controllers.iter().any(|(c, ..)| *c == VIRTIO || *c == SCSI) {
        remarks.push("its disks are on virtio, which not every product knows; with --portable they are on SATA".to_owned());
    }
}

/// Its cards. Answers the networks they are on.
fn cards(root: &Element, portable: bool, items: &mut Items) -> Vec<String> {
    let mut networks: Vec<String> = Vec::new();
    for interface in devices(root, "interface") {
        let source = interface.child("source");
        let of = |name: &str| source.and_then(|s| s.attribute(name)).map(str::to_owned);
        let network = of("network").or_else(|| of("bridge")).or_else(|| of("dev")).unwrap_or_else(|| "default".to_owned());
        let more = vec![
            ("AutomaticAllocation", "true".to_owned()),
            ("Connection", network.clone()),
            ("ResourceSubType", card(interface.of("model", "type"), portable).to_owned()),
        ];
        items.add(10, format!("card on {network}"), more);
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    networks
}

/// The files of the archive, and the disks in them.
fn contents(disks: &[Packed]) -> [Element; 2] {
    let files = disks.iter().enumerate().map(|(n, disk)| {
        let id = format!("file{}", n + 1);
        Element::new("File").with("ovf:href", disk.file.as_str()).with("ovf:id", id).with("ovf:size", disk.length.to_string())
    });
    let described = disks.iter().enumerate().map(|(n, disk)| {
        Element::new("Disk")
            .with("ovf:capacity", disk.capacity.0.to_string())
            .with("ovf:capacityAllocationUnits", "byte")
            .with("ovf:diskId", format!("disk{}", n + 1))
            .with("ovf:fileRef", format!("file{}", n + 1))
            .with("ovf:format", STREAMED)
    });
    let section = Element::new("DiskSection").holding(holding("Info", "Its disks"));
    [Element::new("References").holding_all(files), section.holding_all(described)]
}

/// Describes a machine.
pub(super) fn describe(root: &Element, name: &str, disks: &[Packed], portable: bool) -> Described {
    let (mut remarks, mut items) = (Vec::new(), Items::default());
    machinery(root, disks, portable, &mut items, &mut remarks);
    let networks = cards(root, portable, &mut items);
    if devices(root, "hostdev").next().is_some() {
        remarks.push("devices of the host are not in it".to_owned());
    }
    let system = Element::new("System")
        .holding(holding("vssd:ElementName", "Virtual Hardware Family"))
        .holding(holding("vssd:InstanceID", "0"))
        .holding(holding("vssd:VirtualSystemIdentifier", name))
        .holding(holding("vssd:VirtualSystemType", "vmx-11"));
    let made_of = holding("Info", "What it is made of");
    let mut hardware = Element::new("VirtualHardwareSection").holding(made_of).holding(system).holding_all(items.0);
    if is_uefi(root) {
        let firmware = Element::new("vmw:Config").with("ovf:required", "false").with("vmw:key", "firmware").with("vmw:value", "efi");
        hardware = hardware.holding(firmware);
    }
    let network = |name: &String| Element::new("Network").with("ovf:name", name.as_str()).holding(holding("Description", name.as_str()));
    let kind = Element::new("OperatingSystemSection")
        .with("ovf:id", OTHER_64)
        .holding(holding("Info", "Which system it is"))
        .holding(holding("Description", "Other 64-bit"));
    let machine = Element::new("VirtualSystem")
        .with("ovf:id", name)
        .holding(holding("Info", "A virtual machine"))
        .holding(holding("Name", name))
        .holding(kind)
        .holding(hardware);
    let on = Element::new("NetworkSection").holding(holding("Info", "What its cards are on"));
    let envelope = Element::new("Envelope")
        .with("xmlns", OVF)
        .with("xmlns:ovf", OVF)
        .with("xmlns:rasd", format!("{CIM}/CIM_ResourceAllocationSettingData"))
        .with("xmlns:vssd", format!("{CIM}/CIM_VirtualSystemSettingData"))
        .with("xmlns:vmw", "http://www.vmware.com/schema/ovf")
        .holding_all(contents(disks))
        .holding(on.holding_all(networks.iter().map(network)))
        .holding(machine);
    Described { text: format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", write(&envelope)), remarks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{volume::import::ovf, xml::tree::parse};
    use archipel_contract::domain::Bus;

    const WEB: &str = "<domain><name>web &amp; 1</name><memory unit='KiB'>393216</memory><vcpu current='2'>4</vcpu>
      <os firmware='efi'><type>hvm</type></os><devices>
      <disk type='file' device='disk'><target dev='vda' bus='virtio'/></disk><disk device='disk'><target dev='sdb' bus='scsi'/></disk>
      <disk device='disk'><target dev='hdc' bus='ide'/></disk><disk device='cdrom'><target dev='sdz' bus='sata'/></disk>
      <interface type='network'><source network='lab'/><model type='virtio'/></interface>
      <interface type='bridge'><source bridge='br0'/><model type='rtl8139'/></interface><interface type='user'/>
      <hostdev mode='subsystem'/></devices></domain>";

    fn packed(device: &str, n: u64) -> Packed {
        let (file, sha256) = (format!("web-disk{n}.vmdk"), "00".repeat(32));
        Packed { device: device.into(), lies: PathBuf::new(), file, capacity: Bytes::mib(n), length: 100 + n, sha256 }
    }

    fn read_again(portable: bool) -> (ovf::Described, Vec<String>) {
        let disks = [packed("vda", 1), packed("sdb", 2), packed("hdc", 3)];
        let made = describe(&parse(WEB).unwrap(), "web & 1", &disks, portable);
        (ovf::read(&made.text).unwrap_or_else(|why| panic!("{why}: {}", made.text)), made.remarks)
    }

    #[test]
    fn what_is_described_is_understood_by_who_reads_appliances() {
        let (found, remarks) = read_again(false);
        assert_eq!((found.name.as_deref(), found.vcpus, found.memory, found.uefi), (Some("web & 1"), Some(2), Some(Bytes::mib(384)), true));
        let disks: Vec<_> = found.disks.iter().map(|d| (d.file.as_deref().unwrap(), d.length, d.capacity.unwrap(), d.bus)).collect();
        assert_eq!(
            disks,
            [
                ("web-disk1.vmdk", Some(101), Bytes::mib(1), Bus::Virtio),
                ("web-disk2.vmdk", Some(102), Bytes::mib(2), Bus::Scsi),
                ("web-disk3.vmdk", Some(103), Bytes::mib(3), Bus::Ide)
            ]
        );
        let cards: Vec<_> = found.cards.iter().map(|c| (c.network.as_deref().unwrap(), c.model)).collect();
        assert_eq!(cards, [("lab", Some("virtio")), ("br0", Some("e1000")), ("default", Some("e1000"))]);
        assert!(found.remarks.is_empty(), "{:?}", found.remarks);
        assert!(remarks.iter().any(|r| r.contains("--portable")) && remarks.iter().any(|r| r.contains("devices of the host")));
    }

    #[test]
    fn portable_is_what_every_product_knows() {
        let (found, remarks) = read_again(true);
        assert_eq!(found.disks.iter().map(|d| d.bus).collect::<Vec<_>>(), [Bus::Sata, Bus::Sata, Bus::Ide]);
        assert!(found.cards.iter().all(|c| c.model == Some("e1000")));
        assert!(!remarks.iter().any(|r| r.contains("--portable")));
    }

    #[test]
    fn checksums_are_in_the_words_of_the_standard() {
        let list = checksums("a.ovf", "abc", &[packed("vda", 1)]);
        let mut lines = list.lines();
        assert_eq!(lines.next().unwrap(), "SHA256(a.ovf)= ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(lines.next().unwrap().starts_with("SHA256(web-disk1.vmdk)= 0000"));
    }
}
