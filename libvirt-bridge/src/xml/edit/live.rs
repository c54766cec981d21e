//! What of a change a running guest can be given, and by which of libvirt's calls. The rest waits for the next boot, with the reason.

use super::{Change, devices, machine};
use crate::xml::tree::{Element, write};
use archipel_contract::{
    Bytes, Fault, FaultKind,
    domain::{Edit, Ending, PlainDevice, SetDisk, SetLifecycle, parse_cpus},
};

/// One call that changes the running guest.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// `virDomainSetVcpusFlags`.
    Vcpus(u32),
    /// `virDomainSetMemoryFlags`, in KiB.
    Balloon(u64),
    /// `virDomainAttachDeviceFlags`.
    Attach(String),
    /// `virDomainDetachDeviceFlags`, with the path of names that shows whether it is gone.
    Detach(String),
    /// `virDomainUpdateDeviceFlags`; by force where the guest may hold it.
    Update(String, bool),
    /// `virDomainSetBlockIoTune`.
    IoTune(String, Vec<(&'static str, u64)>),
    /// `virDomainSetLifecycleAction`: which end, what follows.
    Lifecycle(u32, u32),
    /// `virDomainPinVcpuFlags`; no processors mean all.
    Pin(u32, Vec<u32>),
}

/// What a running guest is given now, and why not everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The calls, in order.
    pub steps: Vec<Step>,
    /// Why something of it waits for the next boot.
    pub waits: Option<String>,
}

impl Plan {
    fn now(steps: Vec<Step>) -> Result<Plan, Fault> {
        Ok(Plan { steps, waits: None })
    }
    fn later(why: impl Into<String>) -> Result<Plan, Fault> {
        Ok(Plan { steps: Vec::new(), waits: Some(why.into()) })
    }
}

fn attach(change: &Change) -> Result<Plan, Fault> {
    let elements = change.needs.iter().chain(&change.element);
    Plan::now(elements.map(|e| Step::Attach(write(e))).collect())
}

fn detach(change: &Change) -> Result<Plan, Fault> {
    Plan::now(change.element.iter().map(|e| Step::Detach(write(e))).collect())
}

/// What the running guest `before` is given, so that it is `after`; `change` says what that is about.
pub fn plan(edit: &Edit, before: &Element, after: &Element, change: &Change) -> Result<Plan, Fault> {
    if before == after && !matches!(edit, Edit::Password(_)) {
        return Ok(Plan::default());
    }
    let bus = change.element.as_ref().map(|e| e.of("target", "bus")).unwrap_or_default();
    match edit {
        Edit::Vcpus(ask) => vcpus(ask.vcpus, before),
        Edit::Memory(ask) => memory(ask.memory, before, ask.maximum.is_some() || ask.huge_pages.is_some()),
        Edit::Cpu(ask) => {
            let steps = match &ask.pin {
                None => Vec::new(),
                Some(pin) => {
                    let cpus = if pin == "all" { Vec::new() } else { parse_cpus(pin)? };
                    // Only those that are plugged in can be pinned now.
                    let plugged = machine::counted(before).0;
                    machine::pins(ask.vcpu, machine::counted(before).1)?
                        .filter(|v| *v < plugged)
                        .map(|v| Step::Pin(v, cpus.clone()))
                        .collect()
                }
            };
            let waits = (ask.mode.is_some() || ask.model.is_some() || ask.topology.is_some())
                .then(|| "a guest sees another processor only when it boots".to_owned());
            Ok(Plan { steps, waits })
        }
        Edit::Boot(_) => Plan::later("it boots from elsewhere only when it boots"),
        Edit::Template(_) => Plan::later("only a machine that is off can be a template"),
        Edit::Firmware(_) => Plan::later("its firmware is read only when it boots"),
        Edit::Graphics(_) => Plan::later("another screen is there only when it boots"),
        Edit::Lifecycle(ask) => lifecycle(ask),
        Edit::AttachDisk(_) if matches!(bus, "ide" | "sata" | "fdc") => {
            Plan::later(format!("a disk on {} can only be added at the next boot", bus.to_uppercase()))
        }
        Edit::AttachDisk(ask) if ask.cdrom => Plan::later("a drive can only be added at the next boot"),
        Edit::DetachDisk(_) if matches!(bus, "ide" | "sata" | "fdc") => {
            Plan::later(format!("a disk on {} can only be taken away at the next boot", bus.to_uppercase()))
        }
        Edit::AttachDisk(_) | Edit::AttachNic(_) | Edit::AttachHostDevice(_) => attach(change),
        Edit::DetachDisk(_) | Edit::DetachNic(_) | Edit::DetachHostDevice(_) => detach(change),
        // libvirt 9.0 itself ends when one is plugged into a running guest.
        Edit::AttachFilesystem(_) | Edit::DetachFilesystem(_) => Plan::later("which directories it shares changes only when it boots"),
        Edit::SetDisk(ask) => set_disk(ask),
        Edit::Media(ask) => Plan::now(change.element.iter().map(|e| Step::Update(write(e), ask.force)).collect()),
        Edit::SetNic(ask) => {
            let waits = ask.model.as_ref().map(|_| "another model of a card is there only when it boots".to_owned());
            let changes_now =
                ask.link.is_some() || ask.network.is_some() || ask.bridge.is_some() || ask.filter.is_some() || ask.bandwidth.is_some();
            // The running card keeps its model.
            let keeps = |e: &Element| {
                let mac = e.of("mac", "address").to_owned();
                let mut card = e.clone();
                if let Some(old) = devices(before).find(|d| super::nic::is_card(d, &mac)) {
                    card.remove("model");
                    card.remove("address");
                    card.children.extend(
                        old.children
                            .iter()
                            .filter(|c| matches!(c, crate::xml::tree::Node::Element(e) if matches!(e.name.as_str(), "model" | "address")))
                            .cloned(),
                    );
                }
                write(&card)
            };
            let steps = change.element.iter().filter(|_| changes_now).map(|e| Step::Update(keeps(e), false)).collect();
            Ok(Plan { steps, waits })
        }
        Edit::Password(ask) => {
            // QEMU asks viewers for a password only if it was told so when it began.
            let had = devices(before).any(|d| d.name == "graphics" && d.attribute("passwd").is_some());
            if !had || ask.password.is_empty() {
                return Plan::later("whether a screen asks for a password is settled when it boots");
            }
            Plan::now(change.element.iter().map(|e| Step::Update(write(e), false)).collect())
        }
        Edit::AddDevice(ask) => match ask.kind {
            PlainDevice::Rng | PlainDevice::GuestAgent | PlainDevice::Watchdog | PlainDevice::Tablet => attach(change),
            kind => Plan::later(format!("a {} can only be added at the next boot", super::plain::word(kind))),
        },
        Edit::RemoveDevice(ask) => match ask.kind {
            PlainDevice::Rng | PlainDevice::GuestAgent | PlainDevice::Watchdog | PlainDevice::Tablet => detach(change),
            kind => Plan::later(format!("a {} can only be taken away at the next boot", super::plain::word(kind))),
        },
    }
}

fn vcpus(wanted: Option<u32>, before: &Element) -> Result<Plan, Fault> {
    let Some(wanted) = wanted else { return Plan::later("the maximum changes only at the next boot") };
    let (now, most) = machine::counted(before);
    if wanted == now {
        return Ok(Plan::default());
    }
    if wanted > most {
        return Plan::later(format!("while it runs it can have at most {most} virtual CPUs"));
    }
    if wanted < now && matches!(before.attribute("type"), Some("qemu")) {
        // Under software emulation QEMU is known to be corrupted by it. Nothing here depends on how; a reboot is safe.
        return Plan::later("software emulation cannot take virtual CPUs from a running guest without harming it");
    }
    Plan::now(vec![Step::Vcpus(wanted)])
}

fn memory(wanted: Option<Bytes>, before: &Element, more: bool) -> Result<Plan, Fault> {
    let waits = more.then(|| "the maximum and the kind of its pages change only at the next boot".to_owned());
    let Some(wanted) = wanted else { return Ok(Plan { steps: Vec::new(), waits }) };
    let most = machine::amount(before, "memory").unwrap_or_default();
    if wanted > most {
        return Plan::later(format!("while it runs it can have at most {most} of memory"));
    }
    if devices(before).any(|d| d.name == "memballoon" && d.attribute("model") == Some("none")) {
        return Plan::later("it has no balloon, so its memory changes only at the next boot");
    }
    let steps =
        if machine::amount(before, "currentMemory") == Some(wanted) { Vec::new() } else { vec![Step::Balloon(wanted.0.div_ceil(1024))] };
    Ok(Plan { steps, waits })
}

fn lifecycle(ask: &SetLifecycle) -> Result<Plan, Fault> {
    // virDomainLifecycle and virDomainLifecycleAction.
    let action = |ending: Ending| match ending {
        Ending::Destroy => 0,
        Ending::Restart => 1,
        Ending::Preserve => 3,
    };
    let ends = [(0, ask.on_poweroff), (1, ask.on_reboot), (2, ask.on_crash)];
    let steps = ends.into_iter().filter_map(|(which, ending)| Some(Step::Lifecycle(which, action(ending?)))).collect();
    Ok(Plan { steps, waits: ask.clock.map(|_| "its clock is set only when it boots".to_owned()) })
}

fn set_disk(ask: &SetDisk) -> Result<Plan, Fault> {
    let mut values: Vec<(&'static str, u64)> = ask.limits().named().collect();
    for (name, value) in values.clone() {
        // Limits for both ways and for each exclude each other: the ones that go are said to be none.
        for rival in super::disk::rivals(name) {
            if value > 0 && !values.iter().any(|(n, _)| n == rival) {
                values.push((rival, 0));
            }
        }
    }
    let steps = if values.is_empty() { Vec::new() } else { vec![Step::IoTune(ask.disk.clone(), values)] };
    let waits = ask.needs_boot().then(|| "how a disk is connected and cached changes only at the next boot".to_owned());
    Ok(Plan { steps, waits })
}

/// The refusal of a change that was asked for now and has to wait.
pub fn not_now(why: &str) -> Fault {
    Fault::new(FaultKind::WrongState, format!("{why}; ask with --when next-boot"))
}
