//! Changes of a definition: one thing is changed, everything else stays as it was read, known or not.
//!
//! ```text
//!   what libvirt has --parse--> tree --apply(edit)--> tree --write--> what libvirt gets
//!                                          \--> what it was about, for the running guest: [`live`]
//! ```
//! Pure: what an edit needs of its surroundings (a volume's path, a free name) is found out before and handed in.

mod disk;
mod filesystem;
pub mod hand;
pub mod live;
mod machine;
mod nic;
mod plain;
mod rows;

use super::{read::VolumeFacts, tree::Element};
use archipel_contract::{
    Fault, FaultKind,
    domain::{AttachDisk, AttachNic, Edit},
};

pub use disk::{free_target, uses};
pub(crate) use disk::{put_in, usual_bus};
pub use filesystem::{shared_directories, shares_memory};
pub(crate) use machine::{NOTED, begin_with_fresh_variables, choose_firmware, has_variables, note_fresh_variables};
pub(crate) use nic::is_card;
pub use rows::rows;

/// What an edit needs to know beside the definition.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The volume it names.
    pub volume: Option<VolumeFacts>,
    /// What a new disk shall be called when nobody says.
    pub target: Option<String>,
    /// The MAC of a new card when nobody says.
    pub mac: Option<String>,
}

/// What an edit was about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// How commands name the device.
    pub device: Option<String>,
    /// The device: as it is now, or as it was when it was taken away.
    pub element: Option<Element>,
    /// What must be there before the device.
    pub needs: Option<Element>,
}

impl Change {
    fn of(device: &str, element: Element) -> Change {
        Change { device: Some(device.to_owned()), element: Some(element), needs: None }
    }
}

/// Makes the change in a definition. On a fault the tree may be changed in part: work on a copy.
pub fn apply(root: &mut Element, edit: &Edit, with: &Surroundings) -> Result<Change, Fault> {
    match edit {
        Edit::Vcpus(ask) => machine::vcpus(root, ask),
        Edit::Memory(ask) => machine::memory(root, ask),
        Edit::Cpu(ask) => machine::cpu(root, ask),
        Edit::Boot(ask) => machine::boot(root, ask),
        Edit::Firmware(ask) => machine::firmware(root, ask),
        Edit::Lifecycle(ask) => machine::lifecycle(root, ask),
        Edit::AttachDisk(ask) => disk::attach(root, ask, with),
        Edit::DetachDisk(ask) => disk::detach(root, &ask.disk),
        Edit::SetDisk(ask) => disk::set(root, ask),
        Edit::Media(ask) => disk::media(root, ask, with),
        Edit::AttachNic(ask) => nic::attach(root, ask, with),
        Edit::DetachNic(ask) => nic::detach(root, &ask.mac),
        Edit::SetNic(ask) => nic::set(root, ask),
        Edit::Graphics(ask) => plain::graphics(root, ask),
        Edit::Password(ask) => plain::password(root, &ask.password),
        Edit::AttachHostDevice(ask) => plain::attach_host_device(root, &ask.device),
        Edit::DetachHostDevice(ask) => plain::detach_host_device(root, &ask.device),
        Edit::AttachFilesystem(ask) => filesystem::attach(root, ask),
        Edit::DetachFilesystem(ask) => filesystem::detach(root, &ask.tag),
        Edit::AddDevice(ask) => plain::add(root, ask.kind),
        Edit::RemoveDevice(ask) => plain::remove(root, ask.kind),
        Edit::Template(template) => {
            super::likeness::mark(root, *template);
            Ok(Change::default())
        }
    }
}

/// The volume that an edit names, as `POOL/VOLUME`.
pub fn volume_named(edit: &Edit) -> Option<&str> {
    match edit {
        Edit::AttachDisk(AttachDisk { volume, .. }) => Some(volume),
        Edit::Media(ask) => ask.volume.as_deref(),
        _ => None,
    }
}

/// The MAC that an edit brings; `Some(None)` when one must be found.
pub fn mac_brought(edit: &Edit) -> Option<Option<&str>> {
    match edit {
        Edit::AttachNic(AttachNic { mac, .. }) => Some(mac.as_deref()),
        _ => None,
    }
}

fn absent(what: &str) -> Fault {
    Fault::not_found(format!("it has no {what}; list its devices"))
}

fn taken(message: String) -> Fault {
    Fault::new(FaultKind::Conflict, message)
}

/// The devices of a definition.
pub(crate) fn devices(root: &Element) -> impl Iterator<Item = &Element> {
    root.elements().filter(|e| e.name == "devices").flat_map(Element::elements)
}

fn devices_mut(root: &mut Element) -> impl Iterator<Item = &mut Element> {
    root.elements_mut().filter(|e| e.name == "devices").flat_map(Element::elements_mut)
}
