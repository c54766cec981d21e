//! Definitions and devices of the fake hypervisor: as much of them as decides what a command answers.

use super::{
    host::{FakeHost, Model},
    volume::named_disks,
};
use crate::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind,
    domain::{
        Applied, Applies, CopyDisk, DefinitionPort, Device, DomainFacts, DomainRecord, DomainState, Edit, Likened, Likeness, When,
        check_shared, directory_of, mac_of, may_apply, volume_of,
    },
    host::DomainChange,
    volume::{Attachment, Need, Unused, disks_brought},
    work::{Follower, percent},
};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// What a machine's definition has beside its facts.
#[derive(Default, Clone, PartialEq)]
pub(super) struct Bench {
    /// What the running guest has.
    live: Vec<Device>,
    /// What the definition has.
    config: Vec<Device>,
    settings: BTreeMap<&'static str, String>,
    replaced: Option<String>,
}

fn machine(model: &Model, id: DomainId) -> Result<DomainRecord, Fault> {
    model.domains.get(&id).cloned().ok_or_else(|| Fault::not_found(format!("there is no virtual machine {id}; list them again")))
}

fn text(record: &DomainRecord, bench: &Bench) -> String {
    if let Some(text) = &bench.replaced {
        return text.clone();
    }
    let facts = &record.facts;
    let mut text = format!("<domain type='{}'>\n  <name>{}</name>\n  <uuid>{}</uuid>\n", facts.virtualization, record.name, record.id);
    let _ = writeln!(text, "  <memory>{}</memory>\n  <vcpu>{}</vcpu>", facts.memory.0, facts.vcpus);
    for device in &bench.config {
        let _ = writeln!(text, "  <{} name='{}' source='{}'/>", device.kind, device.name, device.source);
    }
    for (name, value) in &bench.settings {
        let _ = writeln!(text, "  <{name}>{value}</{name}>");
    }
    text + "</domain>\n"
}

fn conflict(message: String) -> Fault {
    Fault::new(FaultKind::Conflict, message)
}

fn device(kind: &str, name: &str, source: &str, model: &str) -> Device {
    let own = str::to_owned;
    Device { kind: own(kind), name: own(name), source: own(source), model: own(model), detail: String::new(), applies: Applies::Both }
}

fn volume(model: &Model, name: &str) -> Result<String, Fault> {
    let (pool, volume) = volume_of(name)?;
    let found = model.pools.iter().find(|(_, p)| *p.name == *pool);
    let found = found.and_then(|(id, _)| model.volumes.get(id)?.iter().find(|v| v.name == volume));
    found.map(|v| v.facts.path.clone()).ok_or_else(|| Fault::not_found(format!("there is no volume {name}; list the volumes of its pool")))
}

/// The cards of all machines that are on this network.
pub(super) fn cards_on(model: &Model, network: &str) -> Vec<crate::network::AttachedCard> {
    let of = |(id, bench): (&DomainId, &Bench)| {
        let record = model.domains.get(id)?;
        let running = record.facts.state.is_active();
        let list = if running { &bench.live } else { &bench.config };
        let on = list.iter().filter(|d| d.kind == "nic" && d.source == network);
        let card = |d: &Device| crate::network::AttachedCard {
            id: *id,
            name: record.name.to_string(),
            mac: d.name.clone(),
            running,
            interface: None,
        };
        Some(on.map(card).collect::<Vec<_>>())
    };
    model.workshop.iter().filter_map(of).flatten().collect()
}

/// The disks that machines were given after they were defined.
pub(super) fn disks(model: &Model) -> Vec<Attachment> {
    let of = |(id, bench): (&DomainId, &Bench)| {
        let record = model.domains.get(id)?;
        let disks = bench.config.iter().filter(|d| d.kind == "disk");
        let one = |d: &Device| Attachment {
            domain: *id,
            name: record.name.clone(),
            device: d.name.clone(),
            running: record.facts.state.is_active(),
            paths: vec![d.source.clone()],
            ..Attachment::default()
        };
        Some(disks.map(one).collect::<Vec<_>>())
    };
    model.workshop.iter().filter_map(of).flatten().collect()
}

/// The machine that has this device, other than `except`.
fn holder(model: &Model, kind: &str, fits: impl Fn(&Device) -> bool, except: Option<DomainId>) -> Option<String> {
    let benches = model.workshop.iter().filter(|(id, _)| Some(**id) != except);
    let mut holders = benches.filter(|(_, b)| b.live.iter().chain(&b.config).any(|d| d.kind == kind && fits(d)));
    holders.find_map(|(id, _)| model.domains.get(id).map(|r| r.name.to_string()))
}

/// The one directory that the host shares with machines.
const SHARED: &str = "/srv/share";

enum Move {
    Attach(Device),
    Detach(&'static str, String),
    Change(&'static str, String, Option<String>),
    Setting(&'static str, String),
}

fn what(model: &Model, id: DomainId, bench: &Bench, edit: &Edit) -> Result<Move, Fault> {
    Ok(match edit {
        Edit::AttachDisk(ask) => {
            let path = volume(model, &ask.volume)?;
            if let Some(name) = holder(model, "disk", |d| d.source == path, Some(id)) {
                return Err(conflict(format!("{} is a disk of {name}; detach it there first, or share it", ask.volume)));
            }
            let has = |target: &String| bench.config.iter().chain(&bench.live).any(|d| d.name == *target);
            let free = ('a'..='z').map(|c| format!("vd{c}")).find(|t| !has(t)).unwrap_or_default();
            let target = ask.device.clone().unwrap_or(free);
            if has(&target) || bench.config.iter().any(|d| d.source == path) {
                return Err(conflict(format!("it has the disk {target} or {} already", ask.volume)));
            }
            Move::Attach(device(if ask.cdrom { "cdrom" } else { "disk" }, &target, &path, "virtio"))
        }
        Edit::DetachDisk(ask) => Move::Detach("disk", ask.disk.clone()),
        Edit::SetDisk(ask) => Move::Change("disk", ask.disk.clone(), None),
        Edit::Media(ask) => {
            let source = ask.volume.as_ref().map(|v| volume(model, v)).transpose()?;
            let drive = ask.drive.clone().or_else(|| bench.config.iter().find(|d| d.kind == "cdrom").map(|d| d.name.clone()));
            Move::Change("cdrom", drive.unwrap_or_default(), Some(source.unwrap_or_default()))
        }
        Edit::AttachNic(ask) => {
            let mac = ask.mac.clone().unwrap_or_else(|| format!("52:54:00:00:00:{:02x}", model.workshop.len() + bench.config.len()));
            if bench.config.iter().any(|d| d.name == mac) {
                return Err(conflict(format!("it has a card {mac} already")));
            }
            Move::Attach(device("nic", &mac, ask.network.as_deref().unwrap_or_default(), "virtio"))
        }
        Edit::DetachNic(ask) => Move::Detach("nic", mac_of(&ask.mac)?),
        Edit::SetNic(ask) => Move::Change("nic", mac_of(&ask.mac)?, ask.network.clone()),
        Edit::AttachHostDevice(ask) => Move::Attach(device("host-device", &ask.device, "pci", "")),
        Edit::AttachFilesystem(ask) => {
            check_shared(&directory_of(&ask.directory)?, &[SHARED.into()])?;
            if bench.config.iter().any(|d| d.kind == "filesystem" && d.name == ask.tag) {
                return Err(conflict(format!("it has a directory {} already; choose another tag", ask.tag)));
            }
            Move::Attach(device("filesystem", &ask.tag, &ask.directory, "virtiofs"))
        }
        Edit::DetachFilesystem(ask) => Move::Detach("filesystem", ask.tag.clone()),
        Edit::DetachHostDevice(ask) => Move::Detach("host-device", ask.device.clone()),
        Edit::Vcpus(_) | Edit::Memory(_) => Move::Setting("size", String::new()),
        Edit::Cpu(ask) => Move::Setting("cpu", format!("{ask:?}")),
        Edit::Boot(ask) => Move::Setting("boot", format!("{ask:?}")),
        Edit::Firmware(ask) => Move::Setting("firmware", format!("{ask:?}")),
        Edit::Lifecycle(ask) => Move::Setting("lifecycle", format!("{ask:?}")),
        Edit::Graphics(ask) => Move::Setting("graphics", format!("{ask:?}")),
        Edit::Password(_) => Move::Setting("password", "set".to_owned()),
        Edit::AddDevice(ask) => Move::Setting("added", format!("{:?}", ask.kind)),
        Edit::RemoveDevice(ask) => Move::Setting("removed", format!("{:?}", ask.kind)),
        Edit::Template(_) => Move::Setting("template", String::new()),
    })
}

/// Makes the move in one of the two lists; whether anything differs afterwards.
fn make(list: &mut Vec<Device>, make: &Move) -> Result<bool, Fault> {
    let found = |list: &[Device], kind: &str, name: &str| {
        let at = list.iter().position(|d| d.kind == kind && d.name == *name);
        at.ok_or_else(|| Fault::not_found(format!("it has no {kind} {name}; list its devices")))
    };
    match make {
        Move::Attach(device) => list.push(device.clone()),
        Move::Detach(kind, name) => drop(list.remove(found(list, kind, name)?)),
        Move::Change(kind, name, source) => {
            let at = found(list, kind, name)?;
            match source {
                Some(source) if list[at].source != *source => list[at].source.clone_from(source),
                Some(_) => return Ok(false),
                None => {}
            }
        }
        Move::Setting(..) => {}
    }
    Ok(true)
}

fn edit(model: &mut Model, id: DomainId, edit: &Edit, when: When) -> Result<Applied, Fault> {
    let record = machine(model, id)?;
    let active = record.facts.state.is_active();
    let when = edit.when(when);
    may_apply(when, active, record.facts.persistent).check(&record.name)?;
    let mut bench = model.workshop.get(&id).cloned().unwrap_or_default();
    let before = text(&record, &bench);
    let step = what(model, id, &bench, edit)?;
    let (now, later) = (active && when != When::NextBoot, record.facts.persistent && when != When::Now);
    let mut applies = (false, false);
    let device = match &step {
        Move::Attach(d) => Some(d.name.clone()),
        Move::Detach(_, name) | Move::Change(_, name, _) => Some(name.clone()),
        Move::Setting(..) => None,
    };
    if later {
        applies.1 = make(&mut bench.config, &step)?;
    }
    if now {
        applies.0 = make(&mut bench.live, &step)?;
    }
    let mut after = record.clone();
    match (edit, step) {
        (Edit::Vcpus(ask), _) => {
            let wanted = ask.vcpus.or(ask.maximum).unwrap_or(after.facts.vcpus);
            applies = (now && wanted != after.facts.vcpus, later && wanted != after.facts.vcpus);
            after.facts.vcpus = wanted;
        }
        (Edit::Memory(ask), _) => after.facts.memory = ask.memory.or(ask.maximum).unwrap_or(after.facts.memory),
        (Edit::Template(template), _) => {
            applies.1 = after.facts.template != *template;
            after.facts.template = *template;
            if applies.1 {
                model.tell_domain(id, DomainChange::Defined("updated"));
            }
        }
        (_, Move::Setting(name, value)) => drop(bench.settings.insert(name, value)),
        (Edit::AttachDisk(_) | Edit::AttachNic(_) | Edit::AttachHostDevice(_), _) if now => {
            model.tell_domain(id, DomainChange::DeviceAdded(device.clone().unwrap_or_default().into()));
        }
        (Edit::DetachDisk(_) | Edit::DetachNic(_) | Edit::DetachHostDevice(_), _) if now => {
            model.tell_domain(id, DomainChange::DeviceRemoved(device.clone().unwrap_or_default().into()));
        }
        _ => {}
    }
    let applies = match applies {
        (true, true) => Applies::Both,
        (true, false) => Applies::Now,
        (false, true) => Applies::NextBoot,
        (false, false) => Applies::Nothing,
    };
    let after_text = text(&after, &bench);
    if let Some(record) = model.domains.get_mut(&id) {
        *record = after;
    }
    model.workshop.insert(id, bench);
    Ok(Applied { applies, device, remark: None, before, after: after_text })
}

fn liken(model: &mut Model, id: DomainId, likeness: Likeness) -> Result<Likened, Fault> {
    let original = machine(model, id)?;
    if original.facts.state.is_active() {
        return Err(Fault::wrong_state(format!("{} was started meanwhile; shut it down first", original.name)));
    }
    if model.domains.values().any(|d| *d.name == *likeness.name) {
        return Err(conflict(format!("a virtual machine named {} exists already; choose another name", likeness.name)));
    }
    let made = DomainId(uuid::Uuid::new_v4());
    for (device, pool, name) in likeness.disks {
        let paths = vec![volume(model, &format!("{pool}/{name}"))?];
        let (name, running, read_only) = (likeness.name.as_str().into(), false, false);
        model.attachments.push(crate::volume::Attachment {
            domain: made,
            name,
            device,
            running,
            read_only,
            paths,
            ..Attachment::default()
        });
    }
    let note = likeness.note.map_or(original.facts.note.clone(), |n| Some(n.into()).filter(|n: &Arc<str>| !n.is_empty()));
    let facts = DomainFacts {
        state: DomainState::Shutoff,
        template: false,
        autostart: false,
        autostart_order: None,
        autostart_delay: None,
        note,
        ..original.facts
    };
    model.domains.insert(made, DomainRecord { id: made, name: likeness.name.into(), facts });
    model.tell_domain(made, DomainChange::Defined("added"));
    Ok(Likened { id: made, remarks: Vec::new() })
}

impl DefinitionPort for FakeHost {
    fn devices(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Device>, Fault>> {
        self.call("domain.devices", id.to_string(), move |model| {
            let active = machine(model, id)?.facts.state.is_active();
            let bench = model.workshop.get(&id).cloned().unwrap_or_default();
            let mut rows = bench.config;
            for row in &mut rows {
                row.applies = if active && bench.live.iter().any(|d| d.name == row.name) { Applies::Both } else { Applies::NextBoot };
            }
            let only_live = bench.live.into_iter().filter(|d| active && !rows.iter().any(|r| r.name == d.name));
            let only_live: Vec<Device> = only_live.map(|d| Device { applies: Applies::Now, ..d }).collect();
            rows.extend(only_live);
            Ok(rows)
        })
    }

    fn edit(&self, id: DomainId, ask: Edit, when: When, disk: Option<Unused>) -> BoxFuture<'_, Result<Applied, Fault>> {
        self.call("domain.edit", id.to_string(), move |model| {
            if let Some((named, need)) = ask.brings() {
                Unused::among(disk.as_slice(), &volume(model, named)?, need)?;
            }
            edit(model, id, &ask, when)
        })
    }

    fn replace(&self, id: DomainId, xml: String, disks: Vec<Unused>) -> BoxFuture<'_, Result<Applied, Fault>> {
        self.call("domain.replace", id.to_string(), move |model| {
            let record = machine(model, id)?;
            let has = |what: &str| xml.contains(what);
            if !has(&format!("<name>{}</name>", record.name)) || !has(&format!("<uuid>{id}</uuid>")) {
                return Err(Fault::invalid("the definition is one of another machine: name and UUID must stay as they are"));
            }
            let mut bench = model.workshop.get(&id).cloned().unwrap_or_default();
            let before = text(&record, &bench);
            let present = named_disks(&before);
            for disk in disks_brought(named_disks(&xml), &present) {
                Unused::among(&disks, &disk.paths[0], disk.need())?;
            }
            let applies = if before == xml { Applies::Nothing } else { Applies::NextBoot };
            bench.replaced = Some(xml.clone());
            model.workshop.insert(id, bench);
            model.tell_domain(id, DomainChange::Defined("updated"));
            Ok(Applied { applies, device: None, remark: None, before, after: xml })
        })
    }

    fn liken(&self, id: DomainId, likeness: Likeness) -> BoxFuture<'_, Result<Likened, Fault>> {
        self.call("domain.liken", likeness.name.clone(), move |model| liken(model, id, likeness))
    }

    fn macs(&self, definition: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        let mac = |part: &str| part.split_once('\'').map(|(mac, _)| mac.to_ascii_lowercase());
        self.call("domain.macs", String::new(), move |_| Ok(definition.split("<mac address='").skip(1).filter_map(mac).collect()))
    }

    fn owner_of_mac(&self, mac: String, except: Option<DomainId>) -> BoxFuture<'_, Result<Option<String>, Fault>> {
        self.call("domain.owner-of-mac", mac.clone(), move |model| Ok(holder(model, "nic", |d| d.name.eq_ignore_ascii_case(&mac), except)))
    }

    fn resize_disk(&self, id: DomainId, disk: String, _size: Bytes, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.resize-disk", id.to_string(), move |model| {
            machine(model, id)?;
            let all = super::volume::landscape(model);
            let Some(path) = all.layers(id, &disk).first().copied() else {
                return Err(Fault::not_found(format!("it has no disk {disk}; list its devices")));
            };
            unused.covers(path, Need::Still)
        })
    }

    fn copy_disk(&self, id: DomainId, copy: CopyDisk, target: Unused, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<String, Fault>> {
        self.call("domain.copy-disk", id.to_string(), move |model| {
            let path = volume(model, &copy.to)?;
            target.covers(&path, Need::Sole)?;
            follower.advance(percent(1, 2), "copying");
            let bench = model.workshop.entry(id).or_default();
            for list in [&mut bench.live, &mut bench.config] {
                make(list, &Move::Change("disk", copy.disk.clone(), Some(path.clone())))?;
            }
            Ok(format!("{} is on {} now", copy.disk, copy.to))
        })
    }

    fn commit_disk(&self, id: DomainId, disk: String, below: Unused, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<String, Fault>> {
        self.call("domain.commit-disk", id.to_string(), move |model| {
            machine(model, id)?;
            let all = super::volume::landscape(model);
            let Some(path) = all.layers(id, &disk).get(1).copied() else {
                return Err(Fault::wrong_state(format!("{disk} has one layer only, so there is nothing to merge")));
            };
            below.covers(path, Need::Sole)?;
            follower.advance(percent(1, 2), "merging");
            Ok(format!("{disk} has one layer less"))
        })
    }
}
