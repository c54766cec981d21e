//! The description of an appliance (OVF 1 and 2), read from its XML: what machine it wants, and which of its files are which disks.
//! What is not understood is told and not guessed. Names are compared without their namespaces: programs differ in those.

use crate::xml::tree::{self, Element};
use archipel_contract::{Bytes, domain::Bus};
use std::collections::HashMap;

/// Disks and cards of one machine.
const MOST: usize = 64;

/// A machine as an appliance describes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Described {
    pub name: Option<String>,
    pub vcpus: Option<u32>,
    pub memory: Option<Bytes>,
    pub uefi: bool,
    pub system: Option<String>,
    pub disks: Vec<DescribedDisk>,
    pub cards: Vec<DescribedCard>,
    /// What was not understood, or is not brought over.
    pub remarks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DescribedDisk {
    /// The file's name in the archive; `None` for a disk that is empty.
    pub file: Option<String>,
    /// How long the description says that file is.
    pub length: Option<u64>,
    /// The size the guest sees, as it says.
    pub capacity: Option<Bytes>,
    pub bus: Bus,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DescribedCard {
    pub network: Option<String>,
    /// libvirt's word.
    pub model: Option<&'static str>,
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn named<'a>(root: &'a Element, name: &'a str) -> impl Iterator<Item = &'a Element> {
    root.elements().filter(move |e| local(&e.name) == name)
}

fn attribute<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
    element.attributes.iter().find(|(n, _)| local(n) == name && !n.starts_with("xmlns")).map(|(_, v)| v.as_str())
}

fn text(element: &Element, name: &str) -> Option<String> {
    named(element, name).next().map(|e| e.text().trim().to_owned()).filter(|t| !t.is_empty())
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// How many bytes a unit is: `byte * 2^20`, or one of the older words.
fn unit(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    if let Some(power) = text.strip_prefix("bytes").or(text.strip_prefix("byte")).map(str::trim) {
        let Some(factor) = power.strip_prefix('*').map(str::trim) else { return power.is_empty().then_some(1) };
        return match factor.split_once('^') {
            Some((base, exponent)) => base.trim().parse::<u64>().ok()?.checked_pow(exponent.trim().parse().ok()?),
            None => factor.parse().ok(),
        };
    }
    match text.as_str() {
        "kilobytes" | "kb" => Some(1 << 10),
        "megabytes" | "mb" => Some(1 << 20),
        "gigabytes" | "gb" => Some(1 << 30),
        "terabytes" | "tb" => Some(1 << 40),
        _ => None,
    }
}

fn size(number: &str, of: Option<&str>, usual: u64) -> Option<Bytes> {
    let factor = match of {
        None | Some("") => usual,
        Some(of) => unit(of)?,
    };
    number.trim().parse::<u64>().ok()?.checked_mul(factor).map(Bytes)
}

/// The one machine in it.
fn machine(envelope: &Element) -> Result<&Element, String> {
    let direct: Vec<&Element> = named(envelope, "VirtualSystem").collect();
    if named(envelope, "VirtualSystemCollection").next().is_some() || direct.len() > 1 {
        return Err("the appliance holds several machines; export each one by itself".to_owned());
    }
    direct.first().copied().ok_or_else(|| "its description names no machine (VirtualSystem); it is no appliance".to_owned())
}

struct File {
    name: String,
    length: Option<u64>,
}

fn files(envelope: &Element) -> Result<HashMap<String, File>, String> {
    let mut files = HashMap::new();
    for file in named(envelope, "References").flat_map(|r| named(r, "File")) {
        let (Some(id), Some(name)) = (attribute(file, "id"), attribute(file, "href")) else {
            return Err("its description names a file without an id or a place".to_owned());
        };
        if name.contains(['/', '\\', ':']) {
            return Err(format!("its description names a file elsewhere ({:?}); an appliance holds all its files", short(name)));
        }
        if let Some(packed) = attribute(file, "compression").filter(|c| !c.is_empty() && *c != "identity") {
            return Err(format!("its file {:?} is compressed ({}); export it without compression", short(name), short(packed)));
        }
        if attribute(file, "chunkSize").is_some() {
            return Err(format!("its file {:?} is in several pieces; export it as one file", short(name)));
        }
        let length = attribute(file, "size").and_then(|s| s.trim().parse().ok());
        if files.insert(id.to_owned(), File { name: name.to_owned(), length }).is_some() {
            return Err(format!("its description has two files with the id {:?}", short(id)));
        }
    }
    Ok(files)
}

/// A disk of the description: its file, and its size as it says.
type FileAndSize = (Option<String>, Option<Bytes>);

/// All disks of the description, by their ids.
fn disks(envelope: &Element) -> Result<HashMap<String, FileAndSize>, String> {
    let mut disks = HashMap::new();
    for disk in named(envelope, "DiskSection").flat_map(|s| named(s, "Disk")) {
        let Some(id) = attribute(disk, "diskId") else { return Err("its description has a disk without an id".to_owned()) };
        if attribute(disk, "parentRef").is_some() {
            return Err(format!("its disk {:?} is built on another one; export it as a whole", short(id)));
        }
        let said = attribute(disk, "capacity");
        let capacity = said.and_then(|c| size(c, attribute(disk, "capacityAllocationUnits"), 1));
        if said.is_some_and(|c| !c.starts_with("${")) && capacity.is_none() {
            return Err(format!("its disk {:?} has a size that cannot be: {:?}", short(id), short(said.unwrap_or_default())));
        }
        if disks.insert(id.to_owned(), (attribute(disk, "fileRef").map(str::to_owned), capacity)).is_some() {
            return Err(format!("its description has two disks with the id {:?}", short(id)));
        }
    }
    Ok(disks)
}

/// libvirt's word for a card.
fn model(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    match word.as_str() {
        "e1000" | "intel e1000" => Some("e1000"),
        "e1000e" => Some("e1000e"),
        "pcnet32" | "pcnet" | "am79c973" | "am79c970a" => Some("pcnet"),
        "vmxnet3" => Some("vmxnet3"),
        "virtio" | "virtio-net" => Some("virtio"),
        _ if word.starts_with("82540") || word.starts_with("82543") || word.starts_with("82545") => Some("e1000"),
        _ => None,
    }
}

/// One piece of the virtual hardware.
struct Item<'a>(&'a Element);

impl Item<'_> {
    fn text(&self, name: &str) -> Option<String> {
        text(self.0, name)
    }
    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
    fn called(&self) -> String {
        short(&self.text("ElementName").or_else(|| self.text("Description")).unwrap_or_else(|| "a device without a name".to_owned()))
    }
}

/// Reads a description.
pub(crate) fn read(xml: &str) -> Result<Described, String> {
    let envelope = tree::parse(xml).map_err(|e| format!("its description cannot be read: {e}"))?;
    if local(&envelope.name) != "Envelope" {
        return Err("its description is no OVF: it has another root than Envelope".to_owned());
    }
    let (files, disks, machine) = (files(&envelope)?, disks(&envelope)?, machine(&envelope)?);
    let mut found =
        Described { name: text(machine, "Name").or_else(|| attribute(machine, "id").map(str::to_owned)), ..Described::default() };
    found.system = named(machine, "OperatingSystemSection").next().and_then(|s| text(s, "Description")).map(|t| short(&t));
    let Some(hardware) = named(machine, "VirtualHardwareSection").next() else {
        return Err("its description names no virtual hardware; it is no appliance of a machine".to_owned());
    };
    let items: Vec<Item<'_>> =
        hardware.elements().filter(|e| matches!(local(&e.name), "Item" | "StorageItem" | "EthernetPortItem")).map(Item).collect();
    let kind_of: HashMap<String, (u64, String)> = items
        .iter()
        .filter_map(|i| Some((i.text("InstanceID")?, (i.number("ResourceType")?, i.text("ResourceSubType").unwrap_or_default()))))
        .collect();
    let mut on_scsi = false;
    let mut used = Vec::new();
    for item in &items {
        match item.number("ResourceType") {
            Some(3) => {
                let count = item.number("VirtualQuantity").and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=512).contains(n));
                found.vcpus = Some(count.ok_or("its description wants an impossible number of processors")?);
            }
            Some(4) => {
                let number = item.text("VirtualQuantity").unwrap_or_default();
                let memory = size(&number, item.text("AllocationUnits").as_deref(), 1 << 20);
                let fits = memory.filter(|m| *m >= Bytes::MIB && m.0 <= 16 << 40);
                found.memory = Some(fits.ok_or("its description wants an impossible amount of memory")?);
            }
            Some(10) => {
                let word = item.text("ResourceSubType");
                let model = word.as_deref().and_then(model);
                if let (Some(word), None) = (&word, model) {
                    found.remarks.push(format!("a card of the model {} is an e1000 now", short(word)));
                }
                found.cards.push(DescribedCard { network: item.text("Connection").map(|n| short(&n)), model });
            }
            Some(17) => {
                let source = item.text("HostResource").unwrap_or_default();
                let place = source.trim_start_matches("ovf:").trim_start_matches('/').to_owned();
                let (file, capacity) = match place.split_once('/') {
                    Some(("disk", id)) => {
                        let (file, capacity) =
                            disks.get(id).ok_or_else(|| format!("its description uses a disk {:?} and has none of that id", short(id)))?;
                        used.push(id.to_owned());
                        (file.clone(), *capacity)
                    }
                    Some(("file", id)) => (Some(id.to_owned()), None),
                    _ => return Err(format!("its disk {:?} is nowhere: {:?}", item.called(), short(&source))),
                };
                let file = match file {
                    None => None,
                    Some(id) => Some(
                        files.get(&id).ok_or_else(|| format!("its description uses a file {:?} and names none of that id", short(&id)))?,
                    ),
                };
                let bus = match item.text("Parent").and_then(|p| kind_of.get(&p)) {
                    Some((5, _)) => Bus::Ide,
                    Some((6, word)) => {
                        let word = word.to_ascii_lowercase();
                        on_scsi |= !word.contains("virtio");
                        match word.as_str() {
                            "virtio-blk" => Bus::Virtio,
                            word if word.contains("virtio") => Bus::Scsi,
                            _ => Bus::Sata,
                        }
                    }
                    _ => Bus::Sata,
                };
                found.disks.push(DescribedDisk { file: file.map(|f| f.name.clone()), length: file.and_then(|f| f.length), capacity, bus });
            }
            // Controllers, drives without a medium, screens, keyboards and the like: every machine here gets its own.
            Some(1 | 5 | 6 | 13..=16 | 18..=20 | 23 | 24) => {}
            Some(35) => found.remarks.push("its sound card is left out".to_owned()),
            _ => found.remarks.push(format!("{} is left out: nobody here knows what it is", item.called())),
        }
        if found.disks.len() > MOST || found.cards.len() > MOST {
            return Err(format!("its description wants more than {MOST} disks or cards"));
        }
    }
    if on_scsi {
        found.remarks.push("disks that were on SCSI are on SATA, which every guest knows".to_owned());
    }
    let unused = disks.keys().filter(|id| !used.contains(id)).count();
    if unused > 0 {
        found.remarks.push(format!("{unused} of its disks belong to no controller and are left out"));
    }
    found.uefi = is_uefi(machine, hardware);
    Ok(found)
}

/// Whether the guest was installed for UEFI: VMware and VirtualBox have their own words for it.
fn is_uefi(machine: &Element, hardware: &Element) -> bool {
    let vmware = named(hardware, "Config")
        .any(|c| attribute(c, "key") == Some("firmware") && attribute(c, "value").is_some_and(|v| v.eq_ignore_ascii_case("efi")));
    let virtualbox = named(machine, "Machine")
        .flat_map(|m| named(m, "Hardware"))
        .flat_map(|h| named(h, "Firmware"))
        .any(|f| attribute(f, "type").is_some_and(|t| t.to_ascii_lowercase().starts_with("efi")));
    vmware || virtualbox
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"<?xml version="1.0"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:href="web-disk1.vmdk" ovf:id="file1" ovf:size="71680"/></References>
  <DiskSection><Info>d</Info><Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="vmdisk1" ovf:fileRef="file1"/>
    <Disk ovf:capacity="1048576" ovf:diskId="empty"/></DiskSection>
  <NetworkSection><Network ovf:name="bridged"/></NetworkSection>
  <VirtualSystem ovf:id="vm-id"><Name>web</Name>
    <OperatingSystemSection ovf:id="94"><Description>Ubuntu 64-bit</Description></OperatingSystemSection>
    <VirtualHardwareSection><Info>h</Info>
      <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
      <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceType>5</rasd:ResourceType></Item>
      <Item><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>5</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:HostResource>/disk/empty</rasd:HostResource><rasd:InstanceID>6</rasd:InstanceID><rasd:Parent>4</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:Connection>bridged</rasd:Connection><rasd:InstanceID>7</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
      <Item><rasd:ElementName>mystery</rasd:ElementName><rasd:InstanceID>8</rasd:InstanceID><rasd:ResourceType>99</rasd:ResourceType></Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</ovf:Envelope>"#;

    #[test]
    fn a_description_says_what_machine_it_wants() {
        let found = read(GOOD).unwrap();
        assert_eq!((found.name.as_deref(), found.vcpus, found.memory, found.uefi), (Some("web"), Some(2), Some(Bytes::mib(512)), true));
        assert_eq!(found.system.as_deref(), Some("Ubuntu 64-bit"));
        let disk = |file: Option<&str>, length, capacity, bus| DescribedDisk {
            file: file.map(Into::into),
            length,
            capacity: Some(Bytes(capacity)),
            bus,
        };
        assert_eq!(found.disks, [disk(Some("web-disk1.vmdk"), Some(71680), 8 << 30, Bus::Sata), disk(None, None, 1 << 20, Bus::Ide)]);
        assert_eq!(found.cards, [DescribedCard { network: Some("bridged".into()), model: Some("vmxnet3") }]);
        assert_eq!(found.remarks.len(), 2, "{:?}", found.remarks);
        assert!(found.remarks[0].contains("mystery") && found.remarks[1].contains("SATA"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        for (what, with, word) in [
            ("web-disk1.vmdk", "../../etc/passwd", "elsewhere"),
            ("web-disk1.vmdk", "http://host/disk", "elsewhere"),
            ("ovf:size=\"71680\"", "ovf:compression=\"gzip\"", "compressed"),
            ("ovf:size=\"71680\"", "ovf:chunkSize=\"7\"", "several pieces"),
            ("ovf:fileRef=\"file1\"", "ovf:fileRef=\"file9\"", "none of that id"),
            ("ovf:fileRef=\"file1\"", "ovf:parentRef=\"x\"", "built on another"),
            ("ovf:capacity=\"8\"", "ovf:capacity=\"99999999999999\"", "cannot be"),
            ("ovf:capacity=\"8\"", "ovf:capacity=\"-8\"", "cannot be"),
            ("ovf:/disk/vmdisk1", "ovf:/disk/other", "none of that id"),
            ("ovf:/disk/vmdisk1", "/etc/passwd", "nowhere"),
            ("<rasd:VirtualQuantity>2<", "<rasd:VirtualQuantity>0<", "processors"),
            ("<rasd:VirtualQuantity>512<", "<rasd:VirtualQuantity>99999999999<", "memory"),
            ("ovf:diskId=\"empty\"", "ovf:diskId=\"vmdisk1\"", "two disks"),
            ("<VirtualSystem ovf:id=\"vm-id\">", "<VirtualSystem/><VirtualSystem ovf:id=\"vm-id\">", "several machines"),
            ("<VirtualHardwareSection>", "<VirtualHardwareSection/><x/><VirtualHardwareSection>", ""),
            ("ovf:Envelope", "ovf:Letter", "no OVF"),
        ] {
            let changed = GOOD.replace(what, with);
            assert_ne!(changed, GOOD, "{what}");
            match read(&changed) {
                Err(said) => assert!(!word.is_empty() && said.contains(word), "{with}: {said}"),
                Ok(_) => assert!(word.is_empty(), "{with} was taken"),
            }
        }
    }

    #[test]
    fn entities_and_depth_are_refused() {
        let bomb = GOOD.replace("<?xml version=\"1.0\"?>", "<!DOCTYPE x [<!ENTITY a \"aaaa\">]>");
        assert!(read(&bomb).unwrap_err().contains("cannot be read"));
        assert!(read(&GOOD.replace("<Name>web", "<Name>&xxe;web")).is_err());
        assert!(read(&format!("{}{}", "<a>".repeat(1000), "</a>".repeat(1000))).is_err());
        assert!(read("").is_err() && read("<Envelope/>").is_err());
    }

    #[test]
    fn units_are_understood_in_old_words_and_new_ones() {
        for (text, bytes) in [
            ("byte * 2^20", 1 << 20),
            ("byte*2^30", 1 << 30),
            ("bytes", 1),
            ("byte", 1),
            ("MegaBytes", 1 << 20),
            ("byte * 1024", 1024),
            ("GB", 1 << 30),
        ] {
            assert_eq!(unit(text), Some(bytes), "{text}");
        }
        for text in ["byte * 2^99", "parsec", "byte * x", "byte ^ 2"] {
            assert_eq!(unit(text), None, "{text}");
        }
    }

    #[test]
    fn virtualbox_says_uefi_in_its_own_words() {
        let vbox = GOOD.replace("vmw:key=\"firmware\"", "vmw:key=\"other\"");
        assert!(!read(&vbox).unwrap().uefi);
        let more = "<vbox:Machine xmlns:vbox=\"v\"><Hardware><Firmware type=\"EFI\"/></Hardware></vbox:Machine></VirtualSystem>";
        assert!(read(&vbox.replace("</VirtualSystem>", more)).unwrap().uefi);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}", at in 0usize..3000, cut in 0usize..50) {
            let _ = read(&text);
            let (at, mut changed) = (at.min(GOOD.len()), GOOD.to_owned());
            let end = (at + cut).min(GOOD.len());
            changed.replace_range(at..end, &text);
            let _ = read(&changed);
        }
    }
}
