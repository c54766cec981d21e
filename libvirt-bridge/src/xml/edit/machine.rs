//! Processors, memory, boot, firmware, ends.

use super::{Change, absent, devices, devices_mut};
use crate::xml::{read, tree::Element};
use archipel_contract::{
    Bytes, Fault,
    domain::{CpuMode, Firmware, SetBoot, SetCpu, SetFirmware, SetLifecycle, SetMemory, SetVcpus, parse_cpus},
};

/// How many virtual CPUs a definition has, and the maximum.
pub(super) fn counted(root: &Element) -> (u32, u32) {
    let most = root.child("vcpu").and_then(|v| v.text().trim().parse().ok()).unwrap_or(1);
    let now = root.child("vcpu").and_then(|v| v.attribute("current")).and_then(|n| n.parse().ok());
    (now.unwrap_or(most), most)
}

fn count(root: &mut Element, now: u32, most: u32) {
    let before = counted(root);
    let vcpu = root.ensure("vcpu");
    vcpu.say(&most.to_string());
    if now == most {
        vcpu.unset(&["current"]);
    } else {
        vcpu.set("current", now.to_string());
    }
    if before != (now, most) {
        // Which of them are plugged in one by one would contradict the number; libvirt chooses anew.
        root.remove("vcpus");
    }
}

pub(super) fn vcpus(root: &mut Element, ask: &SetVcpus) -> Result<Change, Fault> {
    let (now, most) = counted(root);
    let wanted = ask.vcpus.unwrap_or_else(|| now.min(ask.maximum.unwrap_or(now)));
    let maximum = ask.maximum.unwrap_or(most.max(wanted));
    if maximum != most
        && let Some(topology) = root.at(&["cpu", "topology"])
    {
        let product: u32 =
            ["sockets", "dies", "cores", "threads"].iter().filter_map(|n| topology.attribute(n)?.parse::<u32>().ok()).product();
        if product != maximum {
            return Err(Fault::invalid(format!(
                "its processors are arranged as {product}, so the maximum cannot be {maximum}; change the arrangement with set-cpu --topology"
            )));
        }
    }
    count(root, wanted, maximum);
    Ok(Change::default())
}

/// An amount of memory in the definition.
pub(super) fn amount(root: &Element, name: &str) -> Option<Bytes> {
    let element = root.child(name)?;
    Some(Bytes(element.text().trim().parse::<u64>().ok()?.saturating_mul(read::unit(element.attribute("unit")))))
}

fn set_amount(root: &mut Element, name: &str, bytes: Bytes) {
    if amount(root, name) == Some(bytes) {
        return;
    }
    let element = root.ensure(name);
    element.say(&bytes.0.div_ceil(1024).to_string());
    element.set("unit", "KiB");
}

pub(super) fn memory(root: &mut Element, ask: &SetMemory) -> Result<Change, Fault> {
    let most = amount(root, "memory").unwrap_or_default();
    let maximum = ask.maximum.unwrap_or(most.max(ask.memory.unwrap_or_default()));
    if maximum != most {
        if root.at(&["cpu", "numa", "cell"]).is_some() {
            return Err(Fault::invalid(
                "its memory is divided among NUMA cells, so its maximum is theirs; change the cells in its definition",
            ));
        }
        set_amount(root, "memory", maximum);
    }
    let now = ask.memory.or_else(|| amount(root, "currentMemory").map(|now| if now == most { maximum } else { now.min(maximum) }));
    if let Some(now) = now {
        set_amount(root, "currentMemory", now);
    }
    if let Some(size) = ask.huge_pages {
        huge_pages(root, size);
    }
    Ok(Change::default())
}

fn huge_pages(root: &mut Element, size: Bytes) {
    if size == Bytes(0) {
        if let Some(backing) = root.child_mut("memoryBacking") {
            backing.remove("hugepages");
            if backing.elements().next().is_none() {
                root.remove("memoryBacking");
            }
        }
        return;
    }
    let pages = root.ensure("memoryBacking").ensure("hugepages");
    // One size for all of it; what is said of single NUMA nodes stays.
    if !pages.elements().any(|p| p.name == "page" && p.attribute("nodeset").is_none()) {
        pages.append(Element::new("page"));
    }
    for page in pages.elements_mut().filter(|p| p.name == "page" && p.attribute("nodeset").is_none()) {
        page.set("size", size.as_kib().to_string());
        page.set("unit", "KiB");
    }
}

pub(super) fn cpu(root: &mut Element, ask: &SetCpu) -> Result<Change, Fault> {
    let mode = ask.mode.or(ask.model.as_ref().map(|_| CpuMode::Custom));
    if let Some(mode) = mode {
        set_mode(root, mode, ask.model.as_deref());
    }
    if let Some([sockets, cores, threads]) = ask.arrangement()? {
        let topology = root.ensure("cpu").ensure("topology");
        let dies = topology.attribute("dies").and_then(|d| d.parse::<u32>().ok()).unwrap_or(1);
        if dies != 1 {
            topology.set("dies", "1");
        }
        for (name, value) in [("sockets", sockets), ("cores", cores), ("threads", threads)] {
            topology.set(name, value.to_string());
        }
        let (now, most) = counted(root);
        let product = sockets * cores * threads;
        if product != most {
            count(root, if now == most { product } else { now.min(product) }, product);
        }
    }
    if let Some(pin) = &ask.pin {
        pinned(root, ask.vcpu, pin)?;
    }
    Ok(Change::default())
}

fn set_mode(root: &mut Element, mode: CpuMode, model: Option<&str>) {
    if mode == CpuMode::Default {
        if let Some(cpu) = root.child_mut("cpu") {
            cpu.unset(&["mode", "match", "check", "migratable"]);
            cpu.take(|e| matches!(e.name.as_str(), "model" | "vendor" | "feature"));
            if cpu.attributes.is_empty() && cpu.elements().next().is_none() {
                root.remove("cpu");
            }
        }
        return;
    }
    let cpu = root.ensure("cpu");
    cpu.set("mode", mode.name());
    match model {
        Some(model) => {
            if cpu.attribute("match").is_none() {
                cpu.set("match", "exact");
            }
            let said = cpu.ensure("model");
            said.say(model);
        }
        None => {
            cpu.unset(&["match"]);
            cpu.take(|e| matches!(e.name.as_str(), "model" | "vendor"));
        }
    }
    if !matches!(mode, CpuMode::HostPassthrough | CpuMode::Maximum) {
        cpu.unset(&["migratable"]);
    }
}

/// Which virtual CPUs an edit pins, on a machine with that many.
pub(super) fn pins(only: Option<u32>, most: u32) -> Result<std::ops::Range<u32>, Fault> {
    match only {
        None => Ok(0..most),
        Some(one) if one < most => Ok(one..one + 1),
        Some(one) => Err(absent(&format!("virtual CPU {one}"))),
    }
}

fn pinned(root: &mut Element, only: Option<u32>, pin: &str) -> Result<(), Fault> {
    let which = pins(only, counted(root).1)?;
    if pin != "all" {
        parse_cpus(pin)?;
        for vcpu in which {
            let tune = root.ensure("cputune");
            let number = vcpu.to_string();
            let is_it = |e: &Element| e.name == "vcpupin" && e.attribute("vcpu") == Some(&number);
            if let Some(old) = tune.elements_mut().find(|e| is_it(e)) {
                old.set("cpuset", pin);
                continue;
            }
            tune.append_beside(Element::new("vcpupin").with("vcpu", number.as_str()).with("cpuset", pin));
        }
        return Ok(());
    }
    if let Some(tune) = root.child_mut("cputune") {
        let fits = |e: &Element| e.attribute("vcpu").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| which.contains(&n));
        tune.take(|e| e.name == "vcpupin" && fits(e));
        if tune.elements().next().is_none() {
            root.remove("cputune");
        }
    }
    Ok(())
}

const CLASSES: [&str; 4] = ["hd", "cdrom", "network", "fd"];

/// Whether a device is the one that a person calls so.
fn is_called(device: &Element, name: &str) -> bool {
    match device.name.as_str() {
        "disk" => device.of("target", "dev") == name,
        "interface" => device.of("mac", "address").eq_ignore_ascii_case(name),
        _ => false,
    }
}

pub(super) fn boot(root: &mut Element, ask: &SetBoot) -> Result<Change, Fault> {
    let order = ask.devices();
    if !order.is_empty() {
        let classes = order.iter().filter(|d| CLASSES.contains(d)).count();
        if classes != 0 && classes != order.len() {
            return Err(Fault::invalid("a boot order names kinds (hd, cdrom, network, fd) or devices (vda, a MAC), not both"));
        }
        if let Some(missing) = order.iter().find(|d| classes == 0 && !devices(root).any(|e| is_called(e, d))) {
            return Err(absent(&format!("device {missing}")));
        }
        for device in devices_mut(root) {
            let place = order.iter().position(|d| classes == 0 && is_called(device, d));
            match place {
                Some(place) => device.ensure("boot").set("order", (place + 1).to_string()),
                None => device.remove("boot"),
            }
        }
        let os = root.ensure("os");
        let before: Vec<String> =
            os.elements().filter(|e| e.name == "boot").filter_map(|e| e.attribute("dev")).map(str::to_owned).collect();
        let wanted: &[&str] = if classes == 0 { &[] } else { &order };
        if before != wanted {
            os.remove("boot");
            wanted.iter().for_each(|class| os.append_beside(Element::new("boot").with("dev", *class)));
        }
    }
    if let Some(menu) = ask.menu {
        root.ensure("os").ensure("bootmenu").set("enable", if menu { "yes" } else { "no" });
    }
    if let Some(machine) = &ask.machine {
        set_machine(root, machine)?;
    }
    Ok(Change::default())
}

fn is_q35(machine: &str) -> bool {
    machine.contains("q35")
}

fn set_machine(root: &mut Element, machine: &str) -> Result<(), Fault> {
    let before = root.at(&["os", "type"]).and_then(|t| t.attribute("machine")).unwrap_or_default().to_owned();
    let x86 = |name: &str| is_q35(name) || name == "pc" || name.contains("i440fx");
    if x86(&before) && x86(machine) && is_q35(&before) != is_q35(machine) {
        if is_q35(machine)
            && let Some(disk) = devices(root).find(|d| d.name == "disk" && d.of("target", "bus") == "ide")
        {
            let name = disk.of("target", "dev");
            return Err(Fault::invalid(format!(
                "{machine} has no IDE, and {name} is on it; put it on another bus first with set-disk --bus sata"
            )));
        }
        // The places on one machine type's buses do not exist on the other; libvirt gives new ones.
        for list in root.elements_mut().filter(|e| e.name == "devices") {
            list.take(|d| d.name == "controller" && d.attribute("type") == Some("pci"));
            for device in list.elements_mut() {
                device.take(|e| e.name == "address" && e.attribute("type") == Some("pci"));
            }
        }
    }
    root.ensure("os").ensure("type").set("machine", machine);
    Ok(())
}

pub(super) fn firmware(root: &mut Element, ask: &SetFirmware) -> Result<Change, Fault> {
    if let Some(firmware) = ask.firmware {
        set_firmware(root, firmware);
    }
    match ask.tpm {
        Some(true) if !devices(root).any(|d| d.name == "tpm") => {
            let backend = Element::new("backend").with("type", "emulator").with("version", "2.0");
            root.ensure("devices").append(Element::new("tpm").with("model", "tpm-crb").holding(backend));
        }
        Some(false) => {
            for list in root.elements_mut().filter(|e| e.name == "devices") {
                list.take(|d| d.name == "tpm" && d.of("backend", "type") == "emulator");
            }
        }
        _ => {}
    }
    Ok(Change::default())
}

/// The namespace of what is noted in a definition about its firmware.
pub(crate) const NOTED: &str = "urn:archipel:firmware:0";

/// The kind of firmware that a definition asks for by name; `None` where nobody but its author knows.
fn firmware_of(root: &Element) -> Option<Firmware> {
    let os = root.child("os")?;
    let named = os.child("firmware").into_iter().flat_map(Element::elements).find(|f| f.attribute("name") == Some("secure-boot"));
    match (os.attribute("firmware"), named.and_then(|f| f.attribute("enabled"))) {
        (Some("efi"), Some("yes")) => Some(Firmware::SecureBoot),
        (Some("efi"), Some("no")) => Some(Firmware::Uefi),
        (None, _) if os.child("loader").is_none() => Some(Firmware::Bios),
        _ => None,
    }
}

/// Whether a machine's firmware keeps variables in a file.
pub(crate) fn has_variables(root: &Element) -> bool {
    root.child("os").is_some_and(|os| {
        os.attribute("firmware") == Some("efi")
            || os.elements().any(|e| e.name == "nvram" || (e.name == "loader" && e.attribute("type") == Some("pflash")))
    })
}

/// The same for a machine that is new: what lies under its name is another one's, which was forgotten without it.
pub(crate) fn begin_with_fresh_variables(root: &mut Element) {
    if has_variables(root) {
        note_fresh_variables(root);
    }
}

/// Notes that the next start shall begin with new variables. libvirt takes the old file of the machine's name if there is one, and the one
/// of plain UEFI holds no keys: Secure Boot would be asked for and be off.
pub(crate) fn note_fresh_variables(root: &mut Element) {
    let notes = root.ensure("metadata");
    notes.take(|e| e.attributes.iter().any(|(_, value)| value == NOTED));
    notes.append(Element::new("archipel:firmware").with("xmlns:archipel", NOTED).with("variables", "new"));
}

fn set_firmware(root: &mut Element, firmware: Firmware) {
    let before = firmware_of(root);
    if before == Some(firmware) {
        return;
    }
    if firmware != Firmware::Bios {
        note_fresh_variables(root);
    }
    choose_firmware(root, firmware);
}

/// Says which firmware; libvirt finds its files.
pub(crate) fn choose_firmware(root: &mut Element, firmware: Firmware) {
    let os = root.ensure("os");
    // What libvirt chose for the firmware before does not fit the next one.
    os.take(|e| matches!(e.name.as_str(), "firmware" | "nvram") || e.name == "loader");
    if firmware == Firmware::Bios {
        os.unset(&["firmware"]);
        return;
    }
    os.set("firmware", "efi");
    let secure = firmware == Firmware::SecureBoot;
    let word = if secure { "yes" } else { "no" };
    let feature = |name: &str| Element::new("feature").with("enabled", word).with("name", name);
    os.append(Element::new("firmware").holding(feature("enrolled-keys")).holding(feature("secure-boot")));
    if secure {
        os.append(Element::new("loader").with("secure", "yes"));
        root.ensure("features").ensure("smm").set("state", "on");
    }
}

pub(super) fn lifecycle(root: &mut Element, ask: &SetLifecycle) -> Result<Change, Fault> {
    let ends = [("on_poweroff", ask.on_poweroff), ("on_reboot", ask.on_reboot), ("on_crash", ask.on_crash)];
    for (name, ending) in ends.into_iter().filter_map(|(n, e)| Some((n, e?))) {
        root.ensure(name).say(ending.name());
    }
    if let Some(offset) = ask.clock {
        let clock = root.ensure("clock");
        if clock.attribute("offset") != Some(offset.name()) {
            clock.set("offset", offset.name());
            clock.unset(&["adjustment", "basis", "timezone", "start"]);
        }
    }
    Ok(Change::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::tree::{parse, write};

    #[test]
    fn another_firmware_begins_with_new_variables_and_the_same_one_keeps_its_own() {
        let mut root = parse("<domain><name>w</name><os><type>hvm</type></os></domain>").unwrap();
        set_firmware(&mut root, Firmware::Bios);
        assert!(!write(&root).contains(NOTED));
        set_firmware(&mut root, Firmware::Uefi);
        assert!(write(&root).contains(NOTED));
        root.remove("metadata");
        root.ensure("os").append(Element::new("nvram").saying("/var/w_VARS.fd"));
        set_firmware(&mut root, Firmware::Uefi);
        assert!(!write(&root).contains(NOTED) && root.at(&["os", "nvram"]).is_some());
        for _ in 0..2 {
            set_firmware(&mut root, Firmware::SecureBoot);
        }
        assert!(write(&root).matches(NOTED).count() == 1 && root.at(&["os", "nvram"]).is_none());
        // One that libvirt chose by its own order may be of any kind.
        let mut chosen = parse("<domain><os firmware='efi'><type>hvm</type></os></domain>").unwrap();
        set_firmware(&mut chosen, Firmware::SecureBoot);
        assert!(write(&chosen).contains(NOTED));
    }
}
