//! Machines from elsewhere: an appliance (OVA) or the image of a disk that lies in a pool becomes a machine. Pure, but for the port.
//!
//! ```text
//!   POOL/VOLUME --looked at--> Appliance --plan--> Plan: a spec, disks to bring, cards, firmware, and what is told
//!                    |                                     \--> each disk is written anew as qcow2, then the machine is defined
//!                    +-- leads elsewhere, broken, lying: refused before any program opens it
//! ```

use super::{AttachNic, Bus, DefineDomain, DomainSpec, Graphics};
use crate::{
    BoxFuture, Bytes, Effect, Fault, PoolId, Role, Target,
    command::{Command, Started, declare},
    volume::{check_capacity, check_volume_name, parse_place},
    work::Follower,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Make a machine of an appliance (OVA) or of the image of a disk (qcow2, raw, vmdk, vhdx, vdi, vhd) that was uploaded to a pool. What was
/// uploaded stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportDomain {
    /// What is imported, as POOL/VOLUME.
    pub source: String,
    /// Its name; without one that of the volume.
    #[serde(default)]
    pub name: Option<String>,
    /// The pool its disks shall be in; that of the source when not given.
    #[serde(default)]
    pub pool: Option<String>,
    /// The network all its cards are on; without it the one that the appliance names if there is one of that name here, else default.
    #[serde(default)]
    pub network: Option<String>,
    /// Its memory; without it what the appliance says, or 1GiB.
    #[serde(default)]
    pub memory: Option<Bytes>,
    /// Its virtual CPUs; without them what the appliance says, or 1.
    #[serde(default)]
    #[schemars(range(min = 1, max = 512))]
    pub vcpus: Option<u32>,
    /// Start it when it is there.
    #[serde(default)]
    pub start: bool,
}
declare!(ImportDomain, "domain.import", Change, Admin, Hypervisor, Started);

/// What something to import turned out to hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Appliance {
    /// Its own name for the machine.
    pub name: Option<String>,
    /// Its virtual CPUs.
    pub vcpus: Option<u32>,
    /// Its memory.
    pub memory: Option<Bytes>,
    /// Whether the guest expects UEFI.
    pub uefi: bool,
    /// Which system it says the guest is.
    pub system: Option<String>,
    /// Its disks, in their order.
    pub disks: Vec<FoundDisk>,
    /// Its cards, in their order.
    pub cards: Vec<FoundCard>,
    /// What was not understood, or is not brought over.
    pub remarks: Vec<String>,
}

/// Where the image of a disk lies in the volume that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// A disk of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundDisk {
    /// Where it is; an empty disk is made when it is nowhere.
    pub extent: Option<Extent>,
    /// Its size as the guest sees it.
    pub capacity: Bytes,
    /// How it was connected.
    pub bus: Bus,
}

/// A card of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundCard {
    /// The name of the network it was on.
    pub network: Option<String>,
    /// Its model, in libvirt's words.
    pub model: String,
}

/// How a machine is made of what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportPlan {
    /// The machine without its devices.
    pub spec: DomainSpec,
    /// Its disks, each with the name of the volume it becomes.
    pub disks: Vec<(FoundDisk, String)>,
    /// Its cards.
    pub cards: Vec<AttachNic>,
    /// Whether it gets UEFI.
    pub uefi: bool,
    /// What people should know.
    pub remarks: Vec<String>,
}

/// A name for a machine out of a name of something else.
pub fn name_from(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let kept: String = text.trim().chars().map(|c| if fits(c) { c } else { '-' }).collect();
    let kept = kept.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).trim_end_matches('-');
    let kept: String = kept.chars().take(48).collect();
    (!kept.is_empty()).then_some(kept)
}

impl ImportDomain {
    /// Pool and volume of what is imported.
    pub fn place(&self) -> Result<(String, String), Fault> {
        parse_place(&self.source)
    }

    /// The name the machine gets when nobody has looked into the volume yet.
    pub fn name_at_first(&self) -> Result<String, Fault> {
        let (_, volume) = self.place()?;
        let stem = volume.rsplit_once('.').map_or(volume.as_str(), |(stem, _)| stem);
        let name = self.name.clone().or_else(|| name_from(stem));
        name.ok_or_else(|| Fault::invalid("nothing in the name of the volume can name a machine; say --name"))
    }

    /// The machine without its devices, for what the appliance says and the caller wants; checked.
    fn spec(&self, name: &str, found: &Appliance) -> Result<DomainSpec, Fault> {
        let define = DefineDomain {
            name: name.to_owned(),
            memory: self.memory.or(found.memory).unwrap_or(Bytes::mib(1024)),
            vcpus: self.vcpus.or(found.vcpus).unwrap_or(1),
            disk: None,
            network: None,
            graphics: Graphics::Vnc,
            note: found.system.as_ref().map(|s| format!("imported from {}: {s}", self.source)).filter(|n| super::check_note(n).is_ok()),
        };
        define.spec()
    }

    /// Refuses what cannot be whatever the source holds.
    pub fn check(&self) -> Result<(), Fault> {
        self.spec(&self.name_at_first()?, &Appliance::default())?;
        Ok(())
    }

    /// How the machine is made of what was found. `networks` are the names of those that are here.
    pub fn plan(&self, name: &str, found: &Appliance, networks: &[String]) -> Result<ImportPlan, Fault> {
        let spec = self.spec(name, found)?;
        let mut remarks = found.remarks.clone();
        if found.disks.is_empty() {
            return Err(Fault::invalid("there is no disk in it; nothing would boot"));
        }
        let mut disks = Vec::new();
        for (n, disk) in found.disks.iter().enumerate() {
            check_capacity(disk.capacity)?;
            let volume = if n == 0 { format!("{name}.qcow2") } else { format!("{name}-{}.qcow2", n + 1) };
            check_volume_name(&volume)?;
            disks.push((disk.clone(), volume));
        }
        if let Some(network) = self.network.as_ref().filter(|n| !networks.contains(n)) {
            return Err(Fault::not_found(format!("there is no network {network:?} on this host; there are {}", networks.join(", "))));
        }
        let mut cards = Vec::new();
        for card in &found.cards {
            let own = card.network.as_ref().filter(|n| networks.contains(n));
            let usual = networks.iter().find(|n| *n == "default");
            let Some(network) = self.network.as_ref().or(own).or(usual) else {
                remarks.push("a network card is left out: this host has no network default; attach one with domain attach-nic".to_owned());
                continue;
            };
            if let Some(wanted) = card.network.as_ref().filter(|n| *n != network) {
                remarks.push(format!("the card that was on {wanted} is on {network}"));
            }
            cards.push(AttachNic { network: Some(network.clone()), model: Some(card.model.clone()), ..AttachNic::default() });
        }
        Ok(ImportPlan { spec, disks, cards, uefi: found.uefi, remarks })
    }
}

/// What the inside needs of a hypervisor to take machines in from elsewhere.
pub trait ImportPort: Send + Sync {
    /// Looks into a volume: what it is, whether it is whole, and whether it would lead anywhere else. Its checksums are checked, which
    /// takes as long as reading it does.
    fn look(&self, pool: PoolId, volume: String, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Appliance, Fault>>;
    /// Writes the image that lies there as a qcow2 volume of its own. When it fails or is stopped, nothing of it is left.
    fn bring(
        &self,
        pool: PoolId,
        volume: String,
        extent: Extent,
        to: (PoolId, String),
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<(), Fault>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Appliance {
        let disk = FoundDisk { extent: Some(Extent { offset: 0, length: 9 }), capacity: Bytes::MIB, bus: Bus::Sata };
        let card = |network: &str| FoundCard { network: Some(network.into()), model: "e1000".into() };
        Appliance {
            name: Some("web".into()),
            vcpus: Some(2),
            memory: Some(Bytes::mib(64)),
            disks: vec![disk.clone(), FoundDisk { extent: None, ..disk }],
            cards: vec![card("lab"), card("elsewhere")],
            ..Appliance::default()
        }
    }
    fn ask() -> ImportDomain {
        ImportDomain { source: "images/My web.ova".into(), ..ImportDomain::default() }
    }
    fn networks() -> Vec<String> {
        vec!["default".into(), "lab".into()]
    }

    #[test]
    fn an_appliance_becomes_what_it_says() {
        let plan = ask().plan("web", &found(), &networks()).unwrap();
        assert_eq!((plan.spec.name.as_str(), plan.spec.vcpus, plan.spec.memory), ("web", 2, Bytes::mib(64)));
        assert_eq!(plan.disks.iter().map(|(_, v)| v.as_str()).collect::<Vec<_>>(), ["web.qcow2", "web-2.qcow2"]);
        let on: Vec<_> = plan.cards.iter().map(|c| c.network.as_deref().unwrap()).collect();
        assert_eq!(on, ["lab", "default"]);
        assert!(plan.remarks.iter().any(|r| r.contains("was on elsewhere is on default")));
    }

    #[test]
    fn what_is_asked_for_counts_before_what_it_says() {
        let ask = ImportDomain { network: Some("lab".into()), memory: Some(Bytes::mib(128)), vcpus: Some(1), ..ask() };
        let plan = ask.plan("web", &found(), &networks()).unwrap();
        assert!(
            plan.spec.memory == Bytes::mib(128) && plan.spec.vcpus == 1 && plan.cards.iter().all(|c| c.network.as_deref() == Some("lab"))
        );
        let ask = ImportDomain { network: Some("nowhere".into()), ..ask };
        assert!(ask.plan("web", &found(), &networks()).unwrap_err().message.contains("there are default, lab"));
        let plan = super::ImportDomain { network: None, ..ask }.plan("web", &found(), &[]).unwrap();
        assert!(plan.cards.is_empty() && plan.remarks.iter().any(|r| r.contains("left out")));
    }

    #[test]
    fn what_cannot_be_a_machine_is_refused() {
        let none = Appliance { disks: vec![], ..found() };
        assert!(ask().plan("web", &none, &networks()).is_err());
        let mut huge = found();
        huge.disks[0].capacity = Bytes(1 << 62);
        assert!(ask().plan("web", &huge, &networks()).is_err());
        huge.disks[0].capacity = Bytes(0);
        assert!(ask().plan("web", &huge, &networks()).is_err());
        for bad in ["images", "images/../x", "/etc/passwd", ""] {
            assert!(ImportDomain { source: bad.into(), ..ask() }.check().is_err(), "{bad}");
        }
        assert!(ImportDomain { vcpus: Some(0), ..ask() }.check().is_err());
        assert!(ImportDomain { name: Some("a/b".into()), ..ask() }.check().is_err());
    }

    #[test]
    fn a_name_is_made_of_what_there_is() {
        assert_eq!(ask().name_at_first().unwrap(), "My-web");
        assert_eq!(name_from("  ../..  "), None);
        assert_eq!(name_from("w\u{435}b 1!"), Some("w-b-1".into()));
        assert_eq!(name_from(&"a".repeat(300)).map(|n| n.len()), Some(48));
    }
}
