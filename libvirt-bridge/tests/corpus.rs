//! Definitions in all shapes that libvirt documents (`corpus/domains.xml`): one field is edited, and only that field differs, in
//! our own trees and, where `ARCHIPEL_TEST_QEMU_URI` names one, in what a real QEMU driver says of a machine it has defined.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;
#[path = "corpus/likeness.rs"]
mod likeness;

use archipel_contract::{Bytes, DomainId, domain::*};
use archipel_libvirt::{
    LinkConfig,
    xml::{
        edit::{Surroundings, apply},
        tree::{Element, Node, parse, write},
    },
};
use common::connected;
use proptest::prelude::*;
use std::sync::OnceLock;

const MAC: &str = "52:54:00:c0:ff:ee";

fn corpus() -> &'static [Element] {
    static CORPUS: OnceLock<Vec<Element>> = OnceLock::new();
    CORPUS.get_or_init(|| parse(include_str!("corpus/domains.xml")).unwrap().elements().cloned().collect())
}

fn devices(root: &Element) -> impl Iterator<Item = &Element> {
    root.child("devices").into_iter().flat_map(Element::elements)
}

/// The edits that are tried on a definition: each changes one thing.
fn edits(root: &Element) -> Vec<Edit> {
    let mut edits = vec![
        Edit::Lifecycle(SetLifecycle { on_crash: Some(Ending::Preserve), ..Default::default() }),
        Edit::Lifecycle(SetLifecycle { clock: Some(ClockOffset::Localtime), ..Default::default() }),
        Edit::Memory(SetMemory { memory: Some(Bytes::mib(32)), ..Default::default() }),
        Edit::Vcpus(SetVcpus { vcpus: Some(1), ..Default::default() }),
        Edit::Cpu(SetCpu { model: Some("Penryn".into()), ..Default::default() }),
        Edit::Cpu(SetCpu { pin: Some("0".into()), vcpu: Some(0), ..Default::default() }),
        Edit::Boot(SetBoot { order: Some("network,hd".into()), ..Default::default() }),
        Edit::AttachNic(AttachNic { network: Some("default".into()), mac: Some(MAC.into()), ..Default::default() }),
        Edit::AddDevice(AddDevice { kind: PlainDevice::Rng, ..Default::default() }),
    ];
    if let Some(disk) = devices(root).find(|d| d.name == "disk" && d.attribute("device") == Some("disk") && d.child("driver").is_some()) {
        let disk = disk.of("target", "dev").to_owned();
        edits.push(Edit::SetDisk(SetDisk { disk: disk.clone(), cache: Some(Cache::Writethrough), ..Default::default() }));
        edits.push(Edit::DetachDisk(DetachDisk { disk, when: When::Both }));
    }
    if let Some(card) = devices(root).find(|d| d.name == "interface" && d.child("mac").is_some()) {
        let mac = card.of("mac", "address").to_owned();
        edits.push(Edit::SetNic(SetNic { mac, link: Some(LinkState::Down), ..Default::default() }));
    }
    edits
}

/// Takes away what an edit may change, and white space between elements; what is left must be the same before and after.
fn rest(root: &Element, edit: &Edit) -> Element {
    let mut root = root.clone();
    let on_devices = |root: &mut Element, each: &mut dyn FnMut(&mut Element)| {
        root.elements_mut().filter(|e| e.name == "devices").flat_map(Element::elements_mut).for_each(each);
    };
    let drop = |root: &mut Element, fits: &dyn Fn(&Element) -> bool| {
        root.elements_mut().filter(|e| e.name == "devices").for_each(|list| std::mem::drop(list.take(fits)));
    };
    match edit {
        Edit::Lifecycle(ask) if ask.on_crash.is_some() => root.remove("on_crash"),
        Edit::Lifecycle(_) => {
            root.ensure("clock").unset(&["offset", "adjustment", "basis", "timezone"]);
        }
        Edit::Memory(_) => root.remove("currentMemory"),
        Edit::Vcpus(_) => {
            root.remove("vcpus");
            root.ensure("vcpu").unset(&["current"]);
        }
        Edit::Cpu(ask) if ask.pin.is_some() => {
            let tune = root.ensure("cputune");
            tune.take(|e| e.name == "vcpupin" && e.attribute("vcpu") == Some("0"));
        }
        Edit::Cpu(_) => {
            let cpu = root.ensure("cpu");
            cpu.unset(&["mode", "match", "check", "migratable"]);
            cpu.take(|e| e.name == "model");
        }
        Edit::Boot(_) => {
            root.ensure("os").remove("boot");
            on_devices(&mut root, &mut |device| device.remove("boot"));
        }
        Edit::AttachNic(_) => drop(&mut root, &|d| d.of("mac", "address") == MAC || is_bus(d)),
        Edit::AddDevice(_) => drop(&mut root, &|d| d.name == "rng" || is_bus(d)),
        Edit::DetachDisk(ask) => drop(&mut root, &|d| d.name == "disk" && d.of("target", "dev") == ask.disk),
        Edit::SetDisk(ask) => on_devices(&mut root, &mut |d| {
            if d.of("target", "dev") == ask.disk {
                d.ensure("driver").unset(&["cache"]);
            }
        }),
        Edit::SetNic(ask) => on_devices(&mut root, &mut |d| {
            if d.of("mac", "address") == ask.mac {
                d.remove("link");
            }
        }),
        other => panic!("no mask for {other:?}"),
    }
    bare(&mut root);
    // What holds nothing any more was made by the edit, or by the mask itself.
    let empty = |e: &Element| e.attributes.is_empty() && e.elements().next().is_none() && e.text().trim().is_empty();
    root.take(|e| matches!(e.name.as_str(), "cputune" | "cpu" | "clock") && empty(e));
    root
}

/// A new device may need another port to plug it into, which libvirt adds by itself.
fn is_bus(device: &Element) -> bool {
    device.name == "controller" && device.attribute("type") == Some("pci")
}

fn bare(element: &mut Element) {
    if element.elements().next().is_some() {
        element.children.retain(|c| !matches!(c, Node::Text(t) if t.trim().is_empty()));
    }
    element.elements_mut().for_each(bare);
}

/// A tree as lines, to say what differs in a few words.
fn lines(element: &Element, path: &str, into: &mut Vec<String>) {
    let path = format!("{path}/{}", element.name);
    into.push(format!("{path} {:?} {:?}", element.attributes, element.text().trim()));
    element.elements().for_each(|e| lines(e, &path, into));
}

fn same(before: &Element, after: &Element, what: &str) {
    if before == after {
        return;
    }
    let (mut old, mut new) = (Vec::new(), Vec::new());
    lines(before, "", &mut old);
    lines(after, "", &mut new);
    // libvirt lists controllers in an order of its own.
    old.sort();
    new.sort();
    if old == new {
        return;
    }
    let gone: Vec<&String> = old.iter().filter(|l| !new.contains(l)).collect();
    let came: Vec<&String> = new.iter().filter(|l| !old.contains(l)).collect();
    panic!("{what} changed something else: gone {gone:#?}, came {came:#?}");
}

fn with() -> Surroundings {
    Surroundings { mac: Some(MAC.into()), ..Surroundings::default() }
}

#[test]
fn there_are_more_than_two_hundred_definitions() {
    assert!(corpus().len() >= 200, "{}", corpus().len());
    let names: std::collections::BTreeSet<String> = corpus().iter().map(|d| d.child("name").unwrap().text()).collect();
    assert_eq!(names.len(), corpus().len());
}

#[test]
fn every_definition_is_written_as_it_was_read() {
    for root in corpus() {
        assert_eq!(parse(&write(root)).as_ref(), Ok(root));
    }
}

#[test]
fn an_edit_changes_its_field_and_no_other_in_every_shape() {
    let mut changed = std::collections::BTreeMap::<String, usize>::new();
    for root in corpus() {
        for edit in edits(root) {
            let mut after = root.clone();
            apply(&mut after, &edit, &with()).unwrap_or_else(|f| panic!("{edit:?} of {}: {f}", root.child("name").unwrap().text()));
            assert_eq!(rest(&after, &edit), rest(root, &edit), "{edit:?} of {}", root.child("name").unwrap().text());
            assert_eq!(parse(&write(&after)).as_ref(), Ok(&after), "what is written reads as it was meant");
            if after != *root {
                *changed.entry(format!("{:?}", std::mem::discriminant(&edit))).or_default() += 1;
            }
            let mut again = after.clone();
            match apply(&mut again, &edit, &with()) {
                Ok(_) if !matches!(edit, Edit::AddDevice(_)) => assert_eq!(again, after, "{edit:?} twice"),
                _ => {}
            }
        }
    }
    assert!(changed.len() >= 9 && changed.values().all(|n| *n > 50), "{changed:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_nobody_knows_stays_wherever_it_stands(
        which in 0usize..1000, edit in 0usize..1000, place in 0usize..1000, deep in 0usize..4, name in "[a-z]{1,6}:[a-z]{1,6}", text in "[ -~]{0,20}",
    ) {
        let all = corpus();
        let mut root = all[which % all.len()].clone();
        // A stranger somewhere in the tree: an element of another namespace, a comment, an instruction.
        let mut spot = &mut root;
        for _ in 0..deep {
            let count = spot.elements().count();
            if count == 0 {
                break;
            }
            spot = spot.elements_mut().nth(place % count).unwrap();
        }
        let stranger = Element::new(&name).with("xmlns:q", "urn:q").with("a", text.as_str()).saying(format!("{text}x"));
        spot.children.insert(place % (spot.children.len() + 1), Node::Element(stranger));
        spot.children.push(Node::Comment("kept".into()));
        let choices = edits(&root);
        let edit = &choices[edit % choices.len()];
        let mut after = root.clone();
        if apply(&mut after, edit, &with()).is_ok() {
            prop_assert_eq!(rest(&after, edit), rest(&root, edit), "{:?}", edit);
        }
    }
}

#[tokio::test]
async fn a_real_driver_sees_only_the_edited_field_differ() {
    let Ok(uri) = std::env::var("ARCHIPEL_TEST_QEMU_URI") else {
        println!("SKIPPED a_real_driver_sees_only_the_edited_field_differ: ARCHIPEL_TEST_QEMU_URI names no libvirtd");
        return;
    };
    let (host, _recorder) = connected(LinkConfig::new("alpha".parse().unwrap(), uri.clone()));
    let connect = virt::connect::Connect::open(Some(&uri)).unwrap();
    let (mut accepted, mut made, mut refused) = (0, 0, Vec::new());
    for (number, root) in corpus().iter().enumerate() {
        // Where there is no hardware virtualization the same machine is emulated.
        let emulated = || {
            let mut root = root.clone();
            root.set("type", "qemu");
            connect.define_domain_xml(&write(&root))
        };
        let domain = match connect.define_domain_xml(&write(root)).or_else(|_| emulated()) {
            Ok(domain) => domain,
            Err(error) => {
                refused.push(format!("{number}: {}", error.message()));
                continue;
            }
        };
        accepted += 1;
        let id = DomainId(domain.uuid().unwrap());
        let read = || parse(&domain.xml_desc(virt::sys::VIR_DOMAIN_XML_INACTIVE | virt::sys::VIR_DOMAIN_XML_SECURE).unwrap()).unwrap();
        // One edit for each definition in turn, so that all of them meet many shapes.
        let before = read();
        let choices = edits(&before);
        let edit = &choices[number % choices.len()];
        match host.definitions.edit(id, edit.clone(), When::NextBoot).await {
            Ok(applied) => {
                let after = read();
                same(&rest(&before, edit), &rest(&after, edit), &format!("{edit:?} of definition {number}"));
                assert_eq!(applied.applies == Applies::Nothing, after == before, "{edit:?} of definition {number}: {:?}", applied.applies);
                made += 1;
            }
            Err(fault) => {
                assert_eq!(read(), before, "{edit:?} of definition {number} was refused ({fault}) and changed something");
                refused.push(format!("{number}: {edit:?}: {fault}"));
            }
        }
        let keep = virt::sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM;
        domain.undefine_flags(keep).unwrap();
    }
    println!("{accepted} of {} defined, {made} edited; refused:\n{}", corpus().len(), refused.join("\n"));
    // The rest needs what this host or this driver has not: hardware virtualization, SEV, screens that fit their channels.
    assert!(accepted >= 110 && made >= 100, "{accepted} defined, {made} edited");
}
