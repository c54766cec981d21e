//! The port for definitions and devices: a definition is read, changed in one place and defined again; the running guest gets the
//! same change by the call that libvirt has for it.
//!
//! ```text
//!   read --> changed copy --> defined (next boot) --> calls for the running guest (now) --> read again, answered
//!                 |                                        |
//!                 +-- refused: nothing was done            +-- refused: the definition is put back
//! ```

mod block;
mod likeness;
mod raw;
mod shared;

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::unreadable,
    xml::{
        edit::{self, Change, Surroundings, live},
        tree::{Element, parse, write},
    },
};
use archipel_contract::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind,
    domain::{
        Applied, Applies, CopyDisk, DefinitionPort, Device, Edit, HostDevice, Likened, Likeness, When, host_device_of, mac_of, may_apply,
        volume_of,
    },
    volume::{Need, Unused, disks_brought},
    work::Follower,
};
use live::Step;
use std::sync::Arc;
use uuid::Uuid;
use virt::{connect::Connect, domain::Domain, error::Error, sys};

const SECURE: u32 = sys::VIR_DOMAIN_XML_SECURE;
const INACTIVE: u32 = sys::VIR_DOMAIN_XML_INACTIVE;
/// How often a MAC is made up before libvirt's machines are said to have them all.
const ATTEMPTS: usize = 64;

pub(crate) use shared::check_start;

pub(crate) fn tree(xml: &str) -> Result<Element, Fault> {
    parse(xml).map_err(|e| unreadable("a virtual machine", e))
}

/// What both sides of an edit start from.
struct Present {
    domain: Domain,
    /// With secrets; `None` while it is off.
    live: Option<Element>,
    /// With secrets; `None` when there is no definition that stays.
    config: Option<Element>,
    /// The definition as people see it.
    shown: String,
}

fn present(session: &Session, id: DomainId) -> Result<Present, Trouble> {
    let domain = session.domain(id)?;
    let (active, persistent) = (ask(|| domain.is_active())?, ask(|| domain.is_persistent())?);
    let shown = ask(|| domain.xml_desc(INACTIVE))?;
    let live = if active { Some(tree(&ask(|| domain.xml_desc(SECURE))?)?) } else { None };
    let config = if persistent { Some(tree(&ask(|| domain.xml_desc(INACTIVE | SECURE))?)?) } else { None };
    Ok(Present { domain, live, config, shown })
}

/// Every machine but one that has `needle` in its definition, running or not, with both definitions.
fn others(connect: &Connect, except: Option<DomainId>, needle: &str) -> Result<Vec<(String, Vec<Element>)>, Trouble> {
    let mut found = Vec::new();
    for domain in ask(|| connect.list_all_domains(0))? {
        let text = |flags| ask(|| domain.xml_desc(flags));
        let look = || -> Result<Option<(String, Vec<Element>)>, Trouble> {
            if Some(DomainId(domain.uuid()?)) == except {
                return Ok(None);
            }
            let mut texts = vec![text(0)?];
            if ask(|| domain.is_active())? && ask(|| domain.is_persistent())? {
                texts.push(text(INACTIVE)?);
            }
            let fitting: Vec<Element> =
                texts.iter().filter(|t| t.to_ascii_lowercase().contains(needle)).map(|t| tree(t)).collect::<Result<_, _>>()?;
            Ok(if fitting.is_empty() { None } else { Some((domain.name()?, fitting)) })
        };
        match look() {
            Ok(machine) => found.extend(machine),
            // It went away between the listing and the look at it.
            Err(Trouble::Libvirt(error)) if crate::fault::is_gone(&error) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(found)
}

/// The machine that has a card with that MAC.
fn owner_of(connect: &Connect, mac: &str, except: Option<DomainId>) -> Result<Option<String>, Trouble> {
    let mac = mac.to_ascii_lowercase();
    let has = |root: &Element| edit::devices(root).any(|d| edit::is_card(d, &mac));
    Ok(others(connect, except, &mac)?.into_iter().find(|(_, roots)| roots.iter().any(has)).map(|(name, _)| name))
}

/// A MAC that no machine of this host has. libvirt's prefix for QEMU, the rest from chance.
fn fresh_mac(connect: &Connect) -> Result<String, Trouble> {
    for _ in 0..ATTEMPTS {
        let [a, b, c, ..] = *Uuid::new_v4().as_bytes();
        let mac = format!("52:54:00:{a:02x}:{b:02x}:{c:02x}");
        if owner_of(connect, &mac, None)?.is_none() {
            return Ok(mac);
        }
    }
    Err(Fault::internal("no MAC was free; please report this").into())
}

/// Refuses a disk that another machine has, unless both only read it or share it.
fn not_in_use(connect: &Connect, id: DomainId, path: &str, name: &str, shared: bool) -> Result<(), Trouble> {
    for (machine, roots) in others(connect, Some(id), &path.to_ascii_lowercase())? {
        let uses: Vec<bool> = roots.iter().filter_map(|root| edit::uses(root, path)).collect();
        if uses.is_empty() || (shared && uses.iter().all(|u| *u)) {
            continue;
        }
        let text = format!("{name} is a disk of {machine}; two machines that write to one disk destroy it: detach it there first");
        return Err(Fault::new(FaultKind::Conflict, text).into());
    }
    Ok(())
}

fn surroundings(session: &Session, id: DomainId, edit: &Edit, present: &Present, disk: &[Unused]) -> Result<Surroundings, Trouble> {
    let mut with = Surroundings::default();
    if let Some(named) = edit::volume_named(edit) {
        let (pool, volume) = volume_of(named)?;
        let volume = session.volume_for_disk(&pool, &volume)?;
        let need = edit.brings().map_or(Need::Sole, |(_, need)| need);
        Unused::among(disk, &volume.path, need)?;
        not_in_use(&session.connect, id, &volume.path, named, need == Need::Shared)?;
        with.volume = Some(volume);
    }
    if let (Edit::AttachDisk(ask), Some(root)) = (edit, present.config.as_ref().or(present.live.as_ref())) {
        // Both know it by the same name.
        let roots: Vec<&Element> = present.config.iter().chain(&present.live).collect();
        with.target = Some(edit::free_target(&roots, edit::usual_bus(root, ask)));
    }
    match edit::mac_brought(edit) {
        Some(Some(mac)) => {
            let mac = mac_of(mac)?;
            if let Some(machine) = owner_of(&session.connect, &mac, Some(id))? {
                let text = format!("{machine} has a card {mac} already; choose another MAC, or none for a new one");
                return Err(Fault::new(FaultKind::Conflict, text).into());
            }
        }
        Some(None) => with.mac = Some(fresh_mac(&session.connect)?),
        None => {}
    }
    Ok(with)
}

/// A changed copy, and what it was about. A device that is not there is `None`: it may be on the other side.
fn changed(root: Option<&Element>, edit: &Edit, with: &Surroundings) -> Result<Option<(Element, Change)>, Fault> {
    let Some(root) = root else { return Ok(None) };
    let mut copy = root.clone();
    let change = edit::apply(&mut copy, edit, with)?;
    Ok(Some((copy, change)))
}

/// Both sides, or the one that has the device; the fault when none has.
type Side = Option<(Element, Change)>;
fn sides(live: Result<Side, Fault>, config: Result<Side, Fault>) -> Result<(Side, Side), Fault> {
    let lacks = |side: &Result<Side, Fault>| matches!(side, Err(f) if f.kind == FaultKind::NotFound);
    match (lacks(&live), lacks(&config)) {
        (true, false) if matches!(config, Ok(Some(_))) => Ok((None, config?)),
        (false, true) if matches!(live, Ok(Some(_))) => Ok((live?, None)),
        _ => Ok((live?, config?)),
    }
}

fn define(session: &Session, xml: &str, validate: bool) -> Result<(), Error> {
    define_on(&session.connect, xml, validate)
}

pub(crate) fn define_on(connect: &Connect, xml: &str, validate: bool) -> Result<(), Error> {
    let flags = if validate { sys::VIR_DOMAIN_DEFINE_VALIDATE } else { 0 };
    ask(|| connect.define_domain_xml_flags(xml, flags)).map(drop)
}

/// Gives the running guest its part.
fn give(session: &Session, domain: &Domain, step: &Step) -> Result<(), Trouble> {
    const LIVE: u32 = sys::VIR_DOMAIN_AFFECT_LIVE;
    match step {
        Step::Vcpus(count) => ask(|| domain.set_vcpus_flags(*count, LIVE))?,
        Step::Balloon(kib) => ask(|| domain.set_memory_flags(*kib, LIVE))?,
        Step::Attach(xml) => ask(|| domain.attach_device_flags(xml, LIVE))?,
        Step::Detach(xml) => ask(|| domain.detach_device_flags(xml, LIVE))?,
        Step::Update(xml, force) => {
            let force = if *force { sys::VIR_DOMAIN_DEVICE_MODIFY_FORCE } else { 0 };
            ask(|| domain.update_device_flags(xml, LIVE | force))?;
        }
        Step::IoTune(disk, values) => ask(|| raw::io_tune(domain, disk, values, LIVE))?,
        Step::Lifecycle(which, action) => ask(|| domain.set_lifecycle_action(*which, *action, LIVE))?,
        Step::Pin(vcpu, cpus) => {
            let count = ask(|| session.connect.node_info())?.cpus;
            ask(|| domain.pin_vcpu_flags(*vcpu, &map_of(cpus, count), LIVE))?;
        }
    }
    Ok(())
}

/// The bitmap of processors that libvirt wants; none means all that the host has.
fn map_of(cpus: &[u32], count: u32) -> Vec<u8> {
    let most = cpus.iter().copied().max().map_or(count, |m| count.max(m + 1));
    let mut map = vec![0u8; usize::try_from(most.div_ceil(8)).unwrap_or(1).max(1)];
    for cpu in 0..most {
        if (cpus.is_empty() && cpu < count) || cpus.contains(&cpu) {
            map[(cpu / 8) as usize] |= 1 << (cpu % 8);
        }
    }
    map
}

fn make(session: &Session, id: DomainId, edit: &Edit, when: When, disk: &[Unused]) -> Result<Applied, Trouble> {
    let before = present(session, id)?;
    let name = before.domain.name()?;
    let when = edit.when(when);
    may_apply(when, before.live.is_some(), before.config.is_some()).check(&name)?;
    let with = surroundings(session, id, edit, &before, disk)?;
    let live_root = before.live.as_ref().filter(|_| when != When::NextBoot);
    let config_root = before.config.as_ref().filter(|_| when != When::Now);
    let (live, config) = sides(changed(live_root, edit, &with), changed(config_root, edit, &with))?;
    let plan = match (&live, live_root) {
        (Some((after, change)), Some(root)) => live::plan(edit, root, after, change)?,
        _ => live::Plan::default(),
    };
    if let (When::Now, Some(why)) = (when, &plan.waits) {
        return Err(live::not_now(&format!("{name}: {why}")).into());
    }
    let device = config.as_ref().or(live.as_ref()).and_then(|(_, change)| change.device.clone());

    let defined = config.as_ref().filter(|(after, _)| Some(after) != config_root);
    if let Some((after, _)) = defined {
        define(session, &write(after), false).map_err(|error| only_read(edit, error))?;
    }
    let mut done: Vec<&Step> = Vec::new();
    for step in &plan.steps {
        if let Err(trouble) = give(session, &before.domain, step) {
            // Nothing is left half made: what was plugged in before goes, the definition is as it was.
            for done in done.iter().rev() {
                if let Step::Attach(xml) = done {
                    let _ = ask(|| before.domain.detach_device_flags(xml, sys::VIR_DOMAIN_AFFECT_LIVE));
                }
            }
            if let (Some(_), Some(root)) = (defined, &before.config) {
                define(session, &write(root), false)?;
            }
            return Err(trouble);
        }
        done.push(step);
    }

    let mut remark = plan.waits.clone().filter(|_| live.is_some());
    if let (Edit::AttachFilesystem(_), Some((after, _)), Some(root)) = (edit, defined, config_root)
        && edit::shares_memory(after)
        && !edit::shares_memory(root)
    {
        remark = Some("its memory is shared with its host from then on, as virtiofs needs it".to_owned());
    }
    if plan.steps.iter().any(|s| matches!(s, Step::Detach(_)))
        && let Ok(now) = tree(&ask(|| before.domain.xml_desc(SECURE))?)
        && changed(Some(&now), edit, &with).is_ok()
    {
        remark = Some("the guest was asked to let go of it and has not yet; an event tells when it has".to_owned());
    }
    let applies = match (!plan.steps.is_empty(), defined.is_some()) {
        (true, true) => Applies::Both,
        (true, false) => Applies::Now,
        (false, true) => Applies::NextBoot,
        (false, false) => Applies::Nothing,
    };
    let after = ask(|| before.domain.xml_desc(INACTIVE))?;
    Ok(Applied { applies, device, remark, before: before.shown, after })
}

/// libvirt before 11.0 has no virtiofs that is only read.
fn only_read(edit: &Edit, error: Error) -> Trouble {
    match edit {
        Edit::AttachFilesystem(ask) if ask.read_only && crate::fault::is_unsupported(&error) => {
            let text = "this host's libvirt cannot share a directory for reading only; mount it once more on the host, read-only (mount --bind \
                        -o ro), and share that, or leave --read-only away";
            Fault::new(FaultKind::Unsupported, text).because(error.message()).into()
        }
        _ => error.into(),
    }
}

/// Takes over the passwords of screens, which a definition is shown without.
fn keep_secrets(new: &mut Element, old: &Element) {
    for screen in new.elements_mut().filter(|e| e.name == "devices").flat_map(Element::elements_mut).filter(|d| d.name == "graphics") {
        let same = |d: &&Element| d.name == "graphics" && d.attribute("type") == screen.attribute("type");
        if screen.attribute("passwd").is_none()
            && let Some(password) = edit::devices(old).find(same).and_then(|d| d.attribute("passwd"))
        {
            screen.set("passwd", password);
        }
    }
}

fn replace(session: &Session, id: DomainId, xml: &str, disks: &[Unused]) -> Result<Applied, Trouble> {
    let mut new = parse(xml).map_err(|e| Fault::invalid("the definition cannot be read; nothing was changed").because(e))?;
    let before = present(session, id)?;
    let name = before.domain.name()?;
    let said = |what: &str| new.child(what).map(|e| e.text().trim().to_owned()).unwrap_or_default();
    if new.name != "domain" || said("name") != name || !said("uuid").eq_ignore_ascii_case(&id.to_string()) {
        let text =
            format!("the definition is not one of {name}: its name and UUID must stay as they are; rename a machine with domain.rename");
        return Err(Fault::invalid(text).into());
    }
    let Some(config) = &before.config else {
        return Err(Fault::wrong_state(format!("{name} has no definition that stays; define it first")).into());
    };
    for card in edit::devices(&new).filter(|d| d.name == "interface") {
        let mac = card.of("mac", "address");
        if !mac.is_empty()
            && let Some(machine) = owner_of(&session.connect, mac, Some(id))?
        {
            return Err(Fault::new(FaultKind::Conflict, format!("{machine} has a card {mac} already; choose another MAC")).into());
        }
    }
    let present = session.disks_named(&before.shown)?;
    for disk in disks_brought(session.disks_named(xml)?, &present) {
        Unused::among(disks, &disk.paths[0], disk.need())?;
    }
    keep_secrets(&mut new, config);
    define(session, &write(&new), true)?;
    let after = ask(|| before.domain.xml_desc(INACTIVE))?;
    let applies = if after == before.shown { Applies::Nothing } else { Applies::NextBoot };
    Ok(Applied { applies, device: None, remark: None, before: before.shown, after })
}

/// Whether the administrator of the host lets this device be handed out.
pub(crate) fn allowed(list: &[String], device: &str) -> Result<(), Fault> {
    let wanted: HostDevice = host_device_of(device)?;
    if list.iter().any(|entry| host_device_of(entry).is_ok_and(|d| d == wanted)) {
        return Ok(());
    }
    let text =
        format!("{device} is not among the devices this host hands out; its administrator lists them as host_devices in the configuration");
    Err(Fault::new(FaultKind::Forbidden, text))
}

impl DefinitionPort for Link {
    fn devices(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Device>, Fault>> {
        self.call(Lane::Read, "listing devices", move |session| {
            let domain = session.domain(id)?;
            let (active, persistent) = (ask(|| domain.is_active())?, ask(|| domain.is_persistent())?);
            let live = if active { Some(tree(&ask(|| domain.xml_desc(0))?)?) } else { None };
            let config = if persistent { Some(tree(&ask(|| domain.xml_desc(INACTIVE))?)?) } else { None };
            Ok(edit::rows(live.as_ref(), config.as_ref()))
        })
    }

    fn edit(&self, id: DomainId, edit: Edit, when: When, disk: Option<Unused>) -> BoxFuture<'_, Result<Applied, Fault>> {
        if let Edit::AttachHostDevice(ask) = &edit
            && let Err(fault) = allowed(&self.config().host_devices, &ask.device)
        {
            return Box::pin(std::future::ready(Err(fault)));
        }
        let config = self.config().clone();
        self.call(Lane::Change, "changing a definition", move |session| {
            let mut edit = edit;
            if let Edit::AttachFilesystem(ask) = &mut edit {
                ask.directory = shared::resolved(&config, &ask.directory)?;
            }
            make(session, id, &edit, when, disk.as_slice())
        })
    }

    fn replace(&self, id: DomainId, xml: String, disks: Vec<Unused>) -> BoxFuture<'_, Result<Applied, Fault>> {
        self.call(Lane::Change, "replacing a definition", move |session| replace(session, id, &xml, &disks))
    }

    fn liken(&self, id: DomainId, likeness: Likeness) -> BoxFuture<'_, Result<Likened, Fault>> {
        self.call(Lane::Change, "defining a machine like another", move |session| likeness::make(session, id, &likeness))
    }

    fn macs(&self, definition: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        let read = parse(&definition).map(|root| {
            let cards = edit::devices(&root).filter(|d| d.name == "interface").map(|card| card.of("mac", "address").to_ascii_lowercase());
            cards.filter(|mac| !mac.is_empty()).collect()
        });
        let read = read.map_err(|e| Fault::invalid("the definition cannot be read; nothing was changed").because(e));
        Box::pin(std::future::ready(read))
    }

    fn owner_of_mac(&self, mac: String, except: Option<DomainId>) -> BoxFuture<'_, Result<Option<String>, Fault>> {
        self.call(Lane::Read, "looking for a MAC", move |session| owner_of(&session.connect, &mac, except))
    }

    fn resize_disk(&self, id: DomainId, disk: String, size: Bytes, unused: Unused) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "making a disk larger", move |session| block::resize(session, id, &disk, size, &unused))
    }

    fn copy_disk(&self, id: DomainId, copy: CopyDisk, unused: Unused, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<String, Fault>> {
        Box::pin(async move {
            let (pool, volume) = volume_of(&copy.to)?;
            let named = copy.to.clone();
            let target = self.call(Lane::Read, "looking at a volume", move |session| {
                let volume = session.volume_for_disk(&pool, &volume)?;
                not_in_use(&session.connect, id, &volume.path, &named, false)?;
                Ok(volume)
            });
            let target = target.await?;
            unused.covers(&target.path, Need::Sole)?;
            self.apart("copying a disk", move |connect| {
                // Others are told of it until the copy has ended.
                let _unused = unused;
                block::copy(connect, id, &copy, &target, &*follower)
            })
            .await
        })
    }

    fn commit_disk(&self, id: DomainId, disk: String, below: Unused, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<String, Fault>> {
        let uri = self.config().uri.clone();
        // Others are told of it until libvirt has ended: the proof goes with the work.
        self.apart("merging a disk", move |connect| block::commit(connect, &uri, id, &disk, &below, &*follower))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_become_the_bitmap_that_libvirt_wants() {
        assert_eq!(map_of(&[], 2), [0b11]);
        assert_eq!(map_of(&[0, 9], 4), [1, 2]);
        assert_eq!(map_of(&[1], 16), [2, 0]);
    }

    #[test]
    fn only_listed_devices_are_handed_out() {
        let list = ["0000:03:00.0".to_owned(), "1D6B:0002".to_owned(), "nonsense".to_owned()];
        assert!(allowed(&list, "1d6b:0002").is_ok() && allowed(&list, "0000:03:00.0").is_ok());
        assert_eq!(allowed(&list, "0000:03:00.1").unwrap_err().kind, FaultKind::Forbidden);
        assert_eq!(allowed(&[], "1d6b:0002").unwrap_err().kind, FaultKind::Forbidden);
    }

    #[test]
    fn a_password_outlives_a_definition_that_was_edited_without_seeing_it() {
        let old = parse("<domain><devices><graphics type='vnc' passwd='geheim'/></devices></domain>").unwrap();
        let mut new = parse("<domain><devices><graphics type='spice'/><graphics type='vnc' port='-1'/></devices></domain>").unwrap();
        keep_secrets(&mut new, &old);
        let passwords: Vec<_> = edit::devices(&new).map(|d| d.attribute("passwd")).collect();
        assert_eq!(passwords, [None, Some("geheim")]);
    }
}
