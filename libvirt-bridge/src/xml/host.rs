//! What libvirt says of a host and of its devices, and which of them machines have.

use super::tree::{self, BadXml, Element};
use archipel_contract::{
    Bytes,
    hypervisor::{HostInside, NodeDevice, NumaCell},
};

fn number(element: &Element, attribute: &str) -> u32 {
    element.attribute(attribute).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Memory as libvirt writes it, in the unit it names.
fn memory(element: &Element) -> Bytes {
    let count: u64 = element.text().trim().parse().unwrap_or(0);
    match element.attribute("unit") {
        Some("b" | "bytes") => Bytes(count),
        Some("MiB") => Bytes::mib(count),
        Some("GiB") => Bytes(count.saturating_mul(Bytes::GIB.0)),
        _ => Bytes(count.saturating_mul(1024)),
    }
}

/// Numbers as people write them: 0-3,8.
fn ranges(mut numbers: Vec<u32>) -> String {
    numbers.sort_unstable();
    numbers.dedup();
    let mut groups: Vec<(u32, u32)> = Vec::new();
    for n in numbers {
        match groups.last_mut() {
            Some((_, end)) if *end + 1 == n => *end = n,
            _ => groups.push((n, n)),
        }
    }
    let words: Vec<String> = groups.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    words.join(",")
}

/// What the capabilities of a host say; versions and uptime are not among them.
pub fn inside(xml: &str) -> Result<HostInside, BadXml> {
    let root = tree::parse(xml)?;
    let mut found = HostInside::default();
    if let Some(cpu) = root.at(&["host", "cpu"]) {
        let text = |name: &str| cpu.child(name).map(Element::text).unwrap_or_default();
        found.architecture = text("arch");
        found.cpu_model = text("model");
        found.cpu_vendor = Some(text("vendor")).filter(|v| !v.is_empty());
        found.cpu_features =
            cpu.elements().filter(|e| e.name == "feature").filter_map(|f| f.attribute("name").map(str::to_owned)).collect();
        if let Some(topology) = cpu.child("topology") {
            // A package of several dies counts its cores for each of them.
            let dies = number(topology, "dies").max(1);
            found.sockets = number(topology, "sockets");
            found.cores = number(topology, "cores").saturating_mul(dies);
            found.threads = number(topology, "threads");
        }
    }
    found.iommu = root.at(&["host", "iommu"]).and_then(|i| i.attribute("support")).map(|s| s == "yes");
    let cells = root.at(&["host", "topology", "cells"]);
    found.numa = cells
        .into_iter()
        .flat_map(Element::elements)
        .filter(|c| c.name == "cell")
        .map(|cell| {
            let cpus = cell.child("cpus").into_iter().flat_map(Element::elements).filter(|c| c.name == "cpu");
            NumaCell {
                cell: number(cell, "id"),
                memory: cell.child("memory").map(memory).unwrap_or_default(),
                cpus: ranges(cpus.map(|c| number(c, "id")).collect()),
            }
        })
        .collect();
    let arch = found.architecture.clone();
    let mut types: Vec<String> = root
        .elements()
        .filter(|e| e.name == "guest")
        .filter_map(|g| g.child("arch"))
        .filter(|a| a.attribute("name") == Some(&arch))
        .flat_map(Element::elements)
        .filter(|e| e.name == "machine")
        .map(Element::text)
        .collect();
    types.sort();
    types.dedup();
    found.machine_types = types;
    Ok(found)
}

/// A device of the host; `None` for such as nobody asks about: buses, ports and the like.
pub fn node_device(xml: &str) -> Result<Option<NodeDevice>, BadXml> {
    let root = tree::parse(xml)?;
    let text = |e: &Element, name: &str| e.child(name).map(Element::text).unwrap_or_default();
    let Some(what) = root.child("capability") else { return Ok(None) };
    let mut found = NodeDevice {
        name: text(&root, "name"),
        driver: root.at(&["driver", "name"]).map(Element::text).unwrap_or_default(),
        product: [text(what, "vendor"), text(what, "product")].join(" ").trim().to_owned(),
        ..NodeDevice::default()
    };
    match what.attribute("type") {
        Some("pci") => {
            let part = |name: &str| text(what, name).parse::<u32>().unwrap_or(0);
            found.kind = "pci".into();
            found.address = format!("{:04x}:{:02x}:{:02x}.{:x}", part("domain"), part("bus"), part("slot"), part("function"));
            found.iommu_group = what.child("iommuGroup").and_then(|g| g.attribute("number")?.parse().ok());
        }
        Some("usb_device") => {
            let id = |name: &str| what.child(name).and_then(|e| e.attribute("id")).map(|id| id.trim_start_matches("0x").to_owned());
            found.kind = "usb".into();
            found.address = id("vendor").zip(id("product")).map(|(vendor, product)| format!("{vendor}:{product}")).unwrap_or_default();
        }
        Some("net") => {
            found.kind = "net".into();
            found.product = [text(what, "interface"), text(what, "address")].join(" ").trim().to_owned();
        }
        Some("storage") => {
            found.kind = "storage".into();
            found.product = [text(what, "block"), text(what, "vendor"), text(what, "model")].join(" ").trim().to_owned();
            found.capacity = what.child("size").and_then(|s| s.text().parse().ok()).map(Bytes);
        }
        _ => return Ok(None),
    }
    Ok(Some(found))
}

/// The devices of its host that a machine has, as `domain.attach-host-device` calls them.
pub fn held(xml: &str) -> Result<Vec<String>, BadXml> {
    let root = tree::parse(xml)?;
    let hex = |e: &Element, name: &str| {
        let text = e.attribute(name).unwrap_or("0");
        u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0)
    };
    let devices = root.child("devices").into_iter().flat_map(Element::elements).filter(|e| e.name == "hostdev");
    let named = |device: &Element| match device.attribute("type") {
        Some("pci") => device
            .at(&["source", "address"])
            .map(|a| format!("{:04x}:{:02x}:{:02x}.{:x}", hex(a, "domain"), hex(a, "bus"), hex(a, "slot"), hex(a, "function"))),
        Some("usb") => {
            let id = |name: &str| device.at(&["source", name]).map(|e| hex(e, "id"));
            Some(format!("{:04x}:{:04x}", id("vendor")?, id("product")?))
        }
        _ => None,
    };
    Ok(devices.filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read() {
        let xml = "<capabilities><host><cpu><arch>x86_64</arch><model>Haswell</model><vendor>Intel</vendor>\
            <topology sockets='2' dies='1' cores='4' threads='2'/><feature name='vmx'/><feature name='ds'/></cpu><iommu support='yes'/>\
            <topology><cells num='2'><cell id='0'><memory unit='KiB'>1024</memory><cpus num='3'><cpu id='2'/><cpu id='0'/><cpu id='1'/></cpus></cell>\
            <cell id='1'><memory unit='MiB'>2</memory><cpus num='2'><cpu id='3'/><cpu id='7'/></cpus></cell></cells></topology></host>\
            <guest><arch name='i686'><machine>isapc</machine></arch></guest>\
            <guest><arch name='x86_64'><machine canonical='pc-q35-7.2'>q35</machine><machine>pc</machine><domain type='qemu'/></arch></guest></capabilities>";
        let found = inside(xml).unwrap();
        assert_eq!(
            (found.architecture.as_str(), found.cpu_model.as_str(), found.cpu_vendor.as_deref()),
            ("x86_64", "Haswell", Some("Intel"))
        );
        assert_eq!((found.sockets, found.cores, found.threads, found.iommu), (2, 4, 2, Some(true)));
        assert_eq!((found.cpu_features, found.machine_types), (vec!["vmx".to_owned(), "ds".into()], vec!["pc".to_owned(), "q35".into()]));
        let cells: Vec<_> = found.numa.iter().map(|c| (c.cell, c.memory, c.cpus.as_str())).collect();
        assert_eq!(cells, [(0, Bytes::mib(1), "0-2"), (1, Bytes::mib(2), "3,7")]);
        assert_eq!(inside("<capabilities/>").unwrap(), HostInside::default());
        assert!(inside("no").is_err());
    }

    #[test]
    fn devices_are_read() {
        let pci = "<device><name>pci_0000_03_00_1</name><driver><name>e1000e</name></driver><capability type='pci'><domain>0</domain><bus>3</bus>\
            <slot>0</slot><function>1</function><product id='0x10d3'>82574L</product><vendor id='0x8086'>Intel</vendor><iommuGroup number='7'/>\
            </capability></device>";
        let found = node_device(pci).unwrap().unwrap();
        assert_eq!((found.kind.as_str(), found.address.as_str(), found.product.as_str()), ("pci", "0000:03:00.1", "Intel 82574L"));
        assert_eq!((found.driver.as_str(), found.iommu_group), ("e1000e", Some(7)));
        let usb = "<device><name>usb_1_1</name><capability type='usb_device'><product id='0x0002'>hub</product><vendor id='0x1d6b'>LF</vendor></capability></device>";
        assert_eq!(node_device(usb).unwrap().unwrap().address, "1d6b:0002");
        let disk = "<device><name>block_sda</name><capability type='storage'><block>/dev/sda</block><model>M</model><size>4096</size></capability></device>";
        let found = node_device(disk).unwrap().unwrap();
        assert_eq!((found.kind.as_str(), found.capacity, found.address.as_str()), ("storage", Some(Bytes(4096)), ""));
        assert_eq!(node_device("<device><name>computer</name><capability type='system'/></device>").unwrap(), None);
    }

    #[test]
    fn what_a_machine_has_is_called_as_commands_call_it() {
        let xml = "<domain><devices><hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x03' slot='0x00' function='0x1'/></source>\
            </hostdev><hostdev mode='subsystem' type='usb'><source><vendor id='0x1D6B'/><product id='0x2'/></source></hostdev>\
            <hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev></devices></domain>";
        assert_eq!(held(xml).unwrap(), ["0000:03:00.1", "1d6b:0002"]);
    }
}
