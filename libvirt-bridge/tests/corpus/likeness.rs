//! Machines that are like those of the corpus: whatever may be there once differs, and nothing else does; a real QEMU driver takes both.

use super::{corpus, devices};
use archipel_contract::{Bytes, DomainId};
use archipel_libvirt::xml::{
    likeness::{self, Own},
    read::VolumeFacts,
    tree::{Element, Node, parse, write},
};
use uuid::Uuid;

/// A volume for each disk of a definition, as if all of them were in a pool.
fn volumes(root: &Element) -> Vec<(String, VolumeFacts)> {
    let disks = devices(root).filter(|d| d.name == "disk" && d.attribute("device") != Some("cdrom") && d.child("readonly").is_none());
    let named = disks.filter_map(|d| d.child("target")?.attribute("dev").map(str::to_owned));
    let volume = |target: &str| VolumeFacts {
        volume_type: "file".into(),
        format: Some("qcow2".into()),
        capacity: Bytes::GIB,
        path: format!("/srv/new/{target}.qcow2"),
        ..VolumeFacts::default()
    };
    named.map(|target| (target.clone(), volume(&target))).collect()
}

/// The same question always, so that two answers can be compared.
fn like(root: &Element, name: &str, number: u128) -> Result<Element, archipel_contract::Fault> {
    let macs: Vec<String> = (0..64).map(|n| format!("52:54:00:fe:{:02x}:{n:02x}", number % 256)).collect();
    let disks = volumes(root);
    let own =
        Own { id: DomainId(Uuid::from_u128(number)), name, note: None, disks: &disks, generation: Uuid::from_u128(!number), macs: &macs };
    likeness::of(root, &own).map(|(root, _)| root)
}

fn all_values(root: &Element, found: &mut Vec<String>) {
    found.extend(root.attributes.iter().map(|(_, v)| v.clone()));
    for child in &root.children {
        match child {
            Node::Element(element) => all_values(element, found),
            Node::Text(text) => found.push(text.trim().to_owned()),
            _ => {}
        }
    }
}

/// What of a definition only one machine can have.
fn unique(root: &Element) -> Vec<String> {
    let text = |name: &str| root.child(name).map(|e| e.text().trim().to_owned());
    let mut found: Vec<String> = [text("uuid"), text("genid")].into_iter().flatten().collect();
    for device in devices(root) {
        let attribute = |child: &str, name: &str| device.child(child).and_then(|c| c.attribute(name)).map(str::to_owned);
        match device.name.as_str() {
            "interface" => found.extend(attribute("mac", "address")),
            "disk" if device.attribute("device") != Some("cdrom") && device.child("readonly").is_none() => {
                found.extend(attribute("source", "file").or(attribute("source", "dev")));
            }
            "serial" | "channel" | "console" | "parallel" if device.attribute("type") != Some("spicevmc") => {
                found.extend(attribute("source", "path"))
            }
            _ => {}
        }
    }
    found.retain(|v| !v.is_empty());
    found
}

#[test]
fn nothing_that_may_be_there_once_is_in_two_machines_in_every_shape() {
    let (mut made, mut refused) = (0, Vec::new());
    for (number, root) in corpus().iter().enumerate() {
        let before = write(root);
        let new = match like(root, "new", 1) {
            Ok(new) => new,
            Err(fault) => {
                refused.push(format!("{number}: {fault}"));
                continue;
            }
        };
        assert_eq!(write(root), before, "the original was changed");
        let mut values = Vec::new();
        all_values(&new, &mut values);
        for once in unique(root) {
            assert!(!values.contains(&once), "{once} of definition {number} is in its likeness:\n{}", write(&new));
        }
        assert_eq!(like(&new, "new", 1).unwrap(), new, "a likeness of definition {number} is not like itself");
        assert_eq!(parse(&write(&new)).unwrap(), new, "definition {number} cannot be read back");
        made += 1;
    }
    println!("{made} made; refused:\n{}", refused.join("\n"));
    assert!(made >= 190, "{made} made; refused: {}", refused.join("\n"));
}

#[test]
fn whoever_has_nothing_of_his_own_keeps_all_but_name_and_uuid() {
    let plain = |root: &Element| devices(root).next().is_none() && root.child("genid").is_none() && root.at(&["os", "nvram"]).is_none();
    let mut seen = 0;
    for root in corpus().iter().filter(|r| plain(r) && r.child("sysinfo").is_none()) {
        let name = root.child("name").unwrap().text();
        let mut new = like(root, "new", 1).unwrap();
        for child in new.children.iter_mut() {
            if let Node::Element(e) = child
                && e.name == "name"
            {
                *e = root.child("name").unwrap().clone();
            }
        }
        let without = |root: &Element| {
            let mut root = root.clone();
            root.children.retain(|c| !matches!(c, Node::Element(e) if e.name == "uuid"));
            root
        };
        assert_eq!(without(&new), without(root), "{name}");
        seen += 1;
    }
    println!("{seen} compared");
}

#[test]
fn a_real_driver_takes_a_machine_and_its_likeness() {
    let Ok(uri) = std::env::var("ARCHIPEL_TEST_QEMU_URI") else {
        println!("SKIPPED a_real_driver_takes_a_machine_and_its_likeness: ARCHIPEL_TEST_QEMU_URI names no libvirtd");
        return;
    };
    let connect = virt::connect::Connect::open(Some(&uri)).unwrap();
    let (mut both, mut refused) = (0, Vec::new());
    for (number, root) in corpus().iter().enumerate() {
        let mut root = root.clone();
        root.attributes.iter_mut().filter(|(n, v)| n == "type" && v == "kvm").for_each(|(_, v)| *v = "qemu".to_owned());
        let Ok(original) = connect.define_domain_xml(&write(&root)) else { continue };
        let flags = virt::sys::VIR_DOMAIN_XML_INACTIVE | virt::sys::VIR_DOMAIN_XML_SECURE;
        let shown = parse(&original.xml_desc(flags).unwrap()).unwrap();
        match like(&shown, &format!("like-{number}"), 0xfeed_0000 + number as u128) {
            Err(fault) => refused.push(format!("{number}: {fault}")),
            Ok(new) => match connect.define_domain_xml(&write(&new)) {
                Ok(new) => {
                    both += 1;
                    new.undefine_flags(virt::sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM).unwrap();
                }
                Err(error) => panic!("libvirt does not take the likeness of definition {number}: {}\n{}", error.message(), write(&new)),
            },
        }
        original.undefine_flags(virt::sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM).unwrap();
    }
    println!("{both} defined beside their originals; refused:\n{}", refused.join("\n"));
    assert!(both >= 100, "{both}; refused: {}", refused.join("\n"));
}
