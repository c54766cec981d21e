//! Which machine uses which volume, directly or through images that are built on it. Pure: libvirt knows no answer, so it is worked
//! out from all definitions and all volumes whenever somebody asks.

use super::{Need, SEED, UNFINISHED, VolumeFacts, VolumeRecord};
use crate::{DomainId, Fault, HypervisorName, PoolId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// A disk of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Whose.
    pub domain: DomainId,
    /// The machine's name.
    pub name: Arc<str>,
    /// The disk's name for the guest, for example `vda`.
    pub device: String,
    /// Whether the machine runs with it; else it stands in its definition only.
    pub running: bool,
    /// Whether the machine only reads it.
    pub read_only: bool,
    /// Whether its definition says that other machines may have it too.
    pub shareable: bool,
    /// Whether it is on no host: its definition lies with the cell.
    pub parked: bool,
    /// Where it is, and the images it is built on as far as libvirt tells, nearest first.
    pub paths: Vec<String>,
}

/// Something that a definition names: a disk, its firmware's variables, its kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedDisk {
    /// The disk's name for the guest, for example `vda`.
    pub device: String,
    /// Whether it is only read.
    pub read_only: bool,
    /// Whether other machines may have it too.
    pub shareable: bool,
    /// Where it is, and the images it is built on as far as the definition tells, nearest first.
    pub paths: Vec<String>,
}

impl UsedDisk {
    /// What it is wanted for.
    pub fn need(&self) -> Need {
        if self.read_only || self.shareable { Need::Shared } else { Need::Sole }
    }
}

/// The disks of a new definition that the present one does not have, or not for the same.
pub fn disks_brought(new: Vec<UsedDisk>, present: &[UsedDisk]) -> Vec<UsedDisk> {
    let had = |disk: &UsedDisk| {
        present.iter().any(|p| p.paths.first() == disk.paths.first() && (p.need() == disk.need() || p.need() == Need::Sole))
    };
    new.into_iter().filter(|disk| !disk.paths.is_empty() && !had(disk)).collect()
}

/// A volume with its pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacedVolume {
    /// Its pool.
    pub pool: PoolId,
    /// The pool's name.
    pub pool_name: Arc<str>,
    /// The volume.
    pub volume: VolumeRecord,
}

/// Everything needed to say who uses what.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Landscape {
    /// All disks of all machines.
    pub attachments: Vec<Attachment>,
    /// All volumes of all running pools.
    pub volumes: Vec<PlacedVolume>,
}

/// A machine that uses a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeUser {
    /// The machine's UUID.
    pub id: DomainId,
    /// The machine's name.
    pub name: String,
    /// The hypervisor it is on, or was on before it was parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HypervisorName>,
    /// The disk's name for the guest.
    pub device: String,
    /// Whether the machine runs with it.
    pub running: bool,
    /// Whether the machine only reads it.
    pub read_only: bool,
    /// Whether its definition says that other machines may have it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shareable: bool,
    /// Whether the machine is parked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parked: bool,
    /// Whether the machine is a template, which never writes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// The machine's own image, when it only builds on the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
}

/// A volume that a machine uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DomainVolume {
    /// The disk's name for the guest.
    pub device: String,
    /// The storage pool, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The volume's name in the pool, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Where it is.
    pub path: String,
    /// Whether the machine only reads it.
    pub read_only: bool,
    /// The other machines that use it; it is not deleted with this one while there are any.
    pub others: Vec<String>,
}

/// Images built on images: libvirt and QEMU follow no longer chains.
const DEEPEST: usize = 200;

impl Landscape {
    /// The volume at a path.
    pub fn at(&self, path: &str) -> Option<&PlacedVolume> {
        self.volumes.iter().find(|v| v.volume.facts.path == path)
    }

    /// A path and all that it is built on.
    fn chain<'a>(&'a self, path: &'a str) -> Vec<&'a str> {
        let mut chain = vec![path];
        while let Some(next) = chain.last().and_then(|p| self.at(p)).and_then(|v| v.volume.facts.backing.as_deref()) {
            // A chain that bites its tail is a broken one; everything in it has been seen.
            if chain.contains(&next) || chain.len() > DEEPEST {
                break;
            }
            chain.push(next);
        }
        chain
    }

    /// Where the disk of a machine is, as it runs if it does, and after it what it is built on.
    pub fn layers(&self, domain: DomainId, device: &str) -> Vec<&str> {
        let of = |running: bool| self.attachments.iter().find(|a| a.domain == domain && a.device == device && a.running == running);
        match of(true).or_else(|| of(false)).map(|a| a.paths.as_slice()) {
            Some([only]) => self.chain(only),
            Some(paths) => paths.iter().map(String::as_str).collect(),
            None => Vec::new(),
        }
    }

    /// The names of the volumes at these paths.
    pub fn names(&self, paths: &[&str]) -> Vec<String> {
        paths.iter().filter_map(|path| self.at(path)).map(|v| v.volume.name.clone()).collect()
    }

    fn reaches(&self, attachment: &Attachment, path: &str) -> bool {
        attachment.paths.iter().any(|own| self.chain(own).contains(&path))
    }

    /// The machines that use what is at this path.
    pub fn users(&self, path: &str) -> Vec<VolumeUser> {
        let uses = self.attachments.iter().filter(|a| self.reaches(a, path));
        let user = |a: &Attachment| {
            let own = a.paths.first().filter(|own| *own != path);
            // Whoever builds on an image never writes to it.
            let read_only = a.read_only || own.is_some();
            VolumeUser {
                id: a.domain,
                name: a.name.to_string(),
                host: None,
                device: a.device.clone(),
                running: a.running,
                read_only,
                shareable: a.shareable,
                parked: a.parked,
                template: false,
                through: own.cloned(),
            }
        };
        let mut users: Vec<VolumeUser> = uses.map(user).collect();
        users.sort_by(|a, b| (&a.name, &a.device, !a.running).cmp(&(&b.name, &b.device, !b.running)));
        // A machine that runs has its disk in what runs and in its definition.
        users.dedup_by(|b, a| (a.id, &a.device, &a.through) == (b.id, &b.device, &b.through));
        users
    }

    /// The volumes that are built on what is at this path.
    pub fn built_on(&self, path: &str) -> Vec<&PlacedVolume> {
        self.volumes.iter().filter(|v| v.volume.facts.backing.as_deref() == Some(path)).collect()
    }

    /// The volumes of a pool that no machine uses and no used image is built on.
    pub fn orphans(&self, pool: PoolId) -> Vec<&VolumeRecord> {
        let used: HashSet<&str> = self.attachments.iter().flat_map(|a| a.paths.iter()).flat_map(|p| self.chain(p)).collect();
        let here = self.volumes.iter().filter(|v| v.pool == pool && !v.volume.is_iso());
        here.filter(|v| !used.contains(v.volume.facts.path.as_str())).map(|v| &v.volume).collect()
    }

    /// The volumes of one machine. What it is built on belongs to others too and is not among them.
    pub fn of_domain(&self, domain: DomainId) -> Vec<DomainVolume> {
        let mut found: Vec<DomainVolume> = Vec::new();
        for attachment in self.attachments.iter().filter(|a| a.domain == domain) {
            let Some(path) = attachment.paths.first() else { continue };
            if found.iter().any(|f| f.path == *path) {
                continue;
            }
            let place = self.at(path);
            let mut others: Vec<String> = self.users(path).into_iter().filter(|u| u.id != domain).map(|u| u.name).collect();
            others.dedup();
            found.push(DomainVolume {
                device: attachment.device.clone(),
                pool: place.map(|v| v.pool_name.to_string()),
                volume: place.map(|v| v.volume.name.clone()),
                path: path.clone(),
                read_only: attachment.read_only,
                others,
            });
        }
        found.sort_by(|a, b| a.device.cmp(&b.device));
        found
    }

    /// The volumes that go with a machine: those that were named, or all. Refused when another machine needs one of them, or when one
    /// that was named is not this machine's. With all, what it only reads and what is in no pool stays.
    pub fn going(&self, domain: DomainId, all: bool, named: &[(String, String)]) -> Result<Vec<&PlacedVolume>, Fault> {
        let own = self.of_domain(domain);
        let mut going = Vec::new();
        for (pool, volume) in named {
            let fits = own.iter().any(|v| v.pool.as_deref() == Some(pool) && v.volume.as_deref() == Some(volume));
            let found = self.volumes.iter().find(|v| *v.pool_name == **pool && v.volume.name == *volume).filter(|_| fits);
            going.push(
                found.ok_or_else(|| Fault::invalid(format!("{pool}/{volume} is none of its volumes; list them with domain.volumes")))?,
            );
        }
        // A seed was made for this machine alone, although it only reads it.
        let is_seed = |v: &&DomainVolume| v.others.is_empty() && v.volume.as_deref().is_some_and(|name| name.ends_with(SEED));
        for volume in own.iter().filter(|v| all && (!v.read_only || is_seed(v))) {
            going.extend(self.at(&volume.path).filter(|v| !going.iter().any(|g| g.volume.facts.path == v.volume.facts.path)));
        }
        for placed in &going {
            self.check_free(&placed.volume.name, &placed.volume.facts, Some(domain))?;
        }
        Ok(going)
    }

    /// Refuses what would take a volume from those who need it: deleting, renaming, overwriting. `but` is a machine that goes with it.
    pub fn check_free(&self, name: &str, facts: &VolumeFacts, but: Option<DomainId>) -> Result<(), Fault> {
        let users: Vec<VolumeUser> = self.users(&facts.path).into_iter().filter(|u| Some(u.id) != but).collect();
        if !users.is_empty() {
            return Err(Fault::busy(format!("{name} is used by {}; take it from there first", told(&users))));
        }
        let built: Vec<&str> =
            self.built_on(&facts.path).into_iter().map(|v| v.volume.name.as_str()).filter(|n| !n.ends_with(UNFINISHED)).collect();
        if !built.is_empty() {
            return Err(Fault::busy(format!("{} is built on {name}; delete what is built on it first", built.join(", "))));
        }
        Ok(())
    }

    /// Refuses to change the size of what a running machine uses, or of what others build on.
    pub fn check_still(&self, name: &str, facts: &VolumeFacts) -> Result<(), Fault> {
        let mut users = self.users(&facts.path);
        users.retain(|u| u.running);
        if !users.is_empty() {
            return Err(Fault::busy(format!("{name} is used by {}, which runs; resize the disk of the machine instead", told(&users))));
        }
        let built = self.built_on(&facts.path);
        if let Some(first) = built.first() {
            return Err(Fault::busy(format!("{} is built on {name}, whose size therefore stays", first.volume.name)));
        }
        Ok(())
    }

    /// Refuses to copy what a running machine writes to: the copy would be torn.
    pub fn check_quiet(&self, name: &str, facts: &VolumeFacts) -> Result<(), Fault> {
        let mut users = self.users(&facts.path);
        users.retain(|u| u.running && !u.read_only);
        if !users.is_empty() {
            let text =
                format!("{name} is written to by {}, so that a copy would be torn; shut it down first, or make a backup", told(&users));
            return Err(Fault::busy(text));
        }
        Ok(())
    }
}

/// Refuses to delete a pool that is not empty, unless its volumes shall go too and nobody needs them but each other.
pub fn check_empty_pool(landscape: &Landscape, pool: PoolId, name: &str, with_volumes: bool) -> Result<(), Fault> {
    let inside: Vec<&PlacedVolume> = landscape.volumes.iter().filter(|v| v.pool == pool).collect();
    if inside.is_empty() {
        return Ok(());
    }
    if !with_volumes {
        let text = format!("{name} has {} volumes; delete them first, or say --with-volumes", inside.len());
        return Err(Fault::wrong_state(text));
    }
    for PlacedVolume { volume, .. } in &inside {
        let users = landscape.users(&volume.facts.path);
        if !users.is_empty() {
            return Err(Fault::busy(format!("{} in {name} is used by {}; take it from there first", volume.name, told(&users))));
        }
        if let Some(other) = landscape.built_on(&volume.facts.path).into_iter().find(|v| v.pool != pool) {
            let text = format!("{}/{} is built on {} in {name}; delete it first", other.pool_name, other.volume.name, volume.name);
            return Err(Fault::busy(text));
        }
    }
    Ok(())
}

fn told(users: &[VolumeUser]) -> String {
    let one = |u: &VolumeUser| match &u.through {
        Some(own) => format!("{} ({}, built on it as {own})", u.name, u.device),
        None => format!("{} ({})", u.name, u.device),
    };
    users.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const POOL: PoolId = PoolId(Uuid::from_u128(1));

    fn volume(path: &str, backing: Option<&str>) -> PlacedVolume {
        let facts = VolumeFacts { path: path.into(), backing: backing.map(Into::into), ..VolumeFacts::default() };
        PlacedVolume { pool: POOL, pool_name: "images".into(), volume: VolumeRecord { name: path.trim_start_matches("/p/").into(), facts } }
    }

    fn attachment(n: u128, running: bool, path: &str) -> Attachment {
        Attachment {
            domain: DomainId(Uuid::from_u128(n)),
            name: format!("web{n}").into(),
            device: "vda".into(),
            running,
            paths: vec![path.into()],
            ..Attachment::default()
        }
    }

    fn landscape() -> Landscape {
        Landscape {
            attachments: vec![
                attachment(1, true, "/p/a"),
                attachment(1, false, "/p/a"),
                attachment(2, false, "/p/b"),
                attachment(3, false, "/x"),
            ],
            volumes: vec![volume("/p/base", None), volume("/p/a", Some("/p/base")), volume("/p/b", Some("/p/base")), volume("/p/c", None)],
        }
    }

    #[test]
    fn a_machine_uses_what_its_disk_is_built_on() {
        let l = landscape();
        let users = l.users("/p/base");
        let told: Vec<_> = users.iter().map(|u| (u.name.as_str(), u.running, u.through.as_deref())).collect();
        assert_eq!(told, [("web1", true, Some("/p/a")), ("web2", false, Some("/p/b"))]);
        assert_eq!(l.users("/p/a").len(), 1, "what runs and its definition are one use");
        assert!(l.users("/p/c").is_empty());
        assert_eq!(l.orphans(POOL).iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn what_others_need_is_not_taken_from_them() {
        let l = landscape();
        let check = |path: &str, but| l.check_free("it", &l.at(path).unwrap().volume.facts, but);
        assert!(check("/p/c", None).is_ok());
        assert!(check("/p/a", None).unwrap_err().message.contains("used by web1 (vda)"));
        assert!(check("/p/base", None).unwrap_err().message.contains("web2 (vda, built on it as /p/b)"));
        assert!(check("/p/b", Some(DomainId(Uuid::from_u128(2)))).is_ok(), "it goes with its only machine");
        let still = |path: &str| l.check_still("it", &l.at(path).unwrap().volume.facts);
        assert!(still("/p/a").is_err() && still("/p/b").is_ok() && still("/p/base").is_err());
        let quiet = |path: &str| l.check_quiet("it", &l.at(path).unwrap().volume.facts);
        assert!(quiet("/p/a").is_err() && quiet("/p/base").is_ok(), "a base image is only read");
    }

    #[test]
    fn the_volumes_of_a_machine_name_who_else_uses_them() {
        let mut l = landscape();
        l.attachments.push(attachment(4, false, "/p/b"));
        let own = l.of_domain(DomainId(Uuid::from_u128(2)));
        assert_eq!((own.len(), own[0].volume.as_deref(), own[0].others.as_slice()), (1, Some("b"), &["web4".to_owned()][..]));
        let going = |all, named: &[(&str, &str)]| {
            let named: Vec<_> = named.iter().map(|(p, v)| ((*p).to_owned(), (*v).to_owned())).collect();
            l.going(DomainId(Uuid::from_u128(1)), all, &named).map(|g| g.iter().map(|v| v.volume.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(
            (going(false, &[]), going(true, &[]), going(true, &[("images", "a")])),
            (Ok(vec![]), Ok(vec!["a".into()]), Ok(vec!["a".into()]))
        );
        assert!(going(false, &[("images", "c")]).is_err(), "it is not its own");
        let medium = |n, path| Attachment { device: "sdb".into(), read_only: true, ..attachment(n, false, path) };
        let mut seeded = landscape();
        seeded.volumes.extend([volume("/p/web1-seed.iso", None), volume("/p/cd.iso", None), volume("/p/shared-seed.iso", None)]);
        seeded.attachments.extend(["/p/web1-seed.iso", "/p/cd.iso", "/p/shared-seed.iso"].map(|path| medium(1, path)));
        seeded.attachments.push(medium(2, "/p/shared-seed.iso"));
        let gone = seeded.going(DomainId(Uuid::from_u128(1)), true, &[]).unwrap();
        assert_eq!(
            gone.iter().map(|v| v.volume.name.as_str()).collect::<Vec<_>>(),
            ["web1-seed.iso", "a"],
            "its seed goes, other media stay"
        );
        let shared = l.going(DomainId(Uuid::from_u128(2)), true, &[]).unwrap_err();
        assert!(shared.message.contains("web4"), "{shared}");
        let outside = l.of_domain(DomainId(Uuid::from_u128(3)));
        assert_eq!((outside[0].pool.as_deref(), outside[0].path.as_str()), (None, "/x"));
    }

    proptest! {
        /// Against the naive model: follow the backing images one by one from each disk.
        #[test]
        fn users_are_those_whose_chain_leads_there(backing in proptest::collection::vec(proptest::option::of(0usize..8), 8), disks in proptest::collection::vec(0usize..8, 0..6)) {
            let path = |n: usize| format!("/p/{n}");
            let volumes = (0..8).map(|n| volume(&path(n), backing[n].map(path).as_deref())).collect();
            let attachments = disks.iter().enumerate().map(|(n, disk)| attachment(n as u128, false, &path(*disk))).collect();
            let l = Landscape { attachments, volumes };
            for target in 0..8 {
                let expected: HashSet<String> = disks.iter().enumerate().filter(|(_, disk)| {
                    let (mut at, mut seen) = (Some(**disk), HashSet::new());
                    while let Some(n) = at {
                        if n == target { return true; }
                        at = if seen.insert(n) { backing[n] } else { None };
                    }
                    false
                }).map(|(n, _)| format!("web{n}")).collect();
                let found: HashSet<String> = l.users(&path(target)).into_iter().map(|u| u.name).collect();
                prop_assert_eq!(&found, &expected);
                let is_orphan = l.orphans(POOL).iter().any(|v| v.facts.path == path(target));
                prop_assert_eq!(is_orphan, expected.is_empty());
            }
        }
    }
}
