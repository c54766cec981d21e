//! Machines made of machines: templates, full clones, and linked ones that hold only what differs. Pure, but for the port.
//!
//! ```text
//!                 template                     clone: every disk it writes to is copied
//!   off ---------------------> template ----------------------------------------------> a machine of its own
//!    ^                            |            clone --linked: each disk is built on the template's
//!    |  template --enabled false  +----------------------------------------------------> a machine that needs the template
//!    +-- refused while anything is built on its disks
//! ```
//! A disk that others build on must never be written to again, or all of them break. Therefore only a template, which is never started,
//! has linked clones.

use super::{DomainFacts, DomainState, check_name, check_note};
use crate::{
    Bytes, DomainId, Effect, Fault, PoolId, Role, Target, Verdict,
    command::{Command, Done, Started, declare},
    volume::{Landscape, PlacedVolume, check_volume_name},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Make a new machine as a copy of one that is off: with new disks, cards of its own, and everything else as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloneDomain {
    /// The name of the new machine; without one NAME-copy.
    pub to: Option<String>,
    /// Build its disks on those of the template instead of copying them: made at once, and holding only what differs.
    pub linked: bool,
    /// The pool its disks shall be in; without one each is in the pool of its original.
    pub pool: Option<String>,
    /// What to remember about it; without it what was remembered about the original.
    pub note: Option<String>,
    /// Start it when it is there.
    pub start: bool,
}
declare!(CloneDomain, "domain.clone", Change, Admin, Domain, Started);

/// Make a machine that is off a template: it is never started, its disks stay as they are, and clones are made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateDomain {
    /// Whether it is one; false makes it a machine like any other again.
    pub enabled: bool,
}
impl Default for TemplateDomain {
    fn default() -> Self {
        TemplateDomain { enabled: true }
    }
}
declare!(TemplateDomain, "domain.template", Change, Admin, Domain, Done);

/// What a template refuses; everything else is as with any machine.
pub(super) fn template_may(command: &str, facts: &DomainFacts) -> Verdict {
    let changes = matches!(
        command,
        "domain.start"
            | "domain.resume"
            | "domain.reboot"
            | "domain.reset"
            | "domain.save"
            | "domain.autostart"
            | "domain.attach-disk"
            | "domain.detach-disk"
            | "domain.set-disk"
            | "domain.resize-disk"
            | "domain.copy-disk"
            | "domain.commit-disk"
            | "domain.edit-xml"
            | "domain.revert"
            | "snapshot.create"
            | "snapshot.revert"
            | "snapshot.delete"
    );
    if facts.template && changes {
        return Verdict::refused(
            "is a template, whose disks others may be built on; clone it, or make it a machine again with domain template --enabled false",
        );
    }
    Verdict::Allowed
}

/// Whether a machine in this state can be copied or made a template.
pub(super) fn copy_may(facts: &DomainFacts) -> Verdict {
    match facts.state {
        DomainState::Shutoff | DomainState::Crashed if !facts.persistent => Verdict::refused("has no definition that stays"),
        DomainState::Shutoff | DomainState::Crashed if facts.reason.as_deref() == Some("saved") => Verdict::refused(
            "has its memory saved, and its disks are as they were in mid-run; start it and shut it down first, or discard what is saved",
        ),
        DomainState::Shutoff | DomainState::Crashed => Verdict::Allowed,
        _ => Verdict::refused("is not off, and what it writes meanwhile would tear a copy; shut it down first"),
    }
}

impl CloneDomain {
    /// Refuses what cannot be whatever the machine is.
    pub fn check(&self) -> Result<(), Fault> {
        if let Some(to) = &self.to {
            check_name(to)?;
        }
        self.note.as_deref().map_or(Ok(()), check_note)
    }

    /// The name of the new machine. `is_free` says whether one may be had.
    pub fn name(&self, of: &str, is_free: impl Fn(&str) -> bool) -> Result<String, Fault> {
        if let Some(to) = &self.to {
            return Ok(to.clone());
        }
        // Names are plain text but for those that others gave.
        let stem: String = of.chars().take(52).collect();
        let mut names = std::iter::once(format!("{stem}-copy")).chain((2..1000).map(|n| format!("{stem}-copy-{n}")));
        let name = names.find(|name| is_free(name)).ok_or_else(|| Fault::invalid("there are too many copies of it; say --to NAME"))?;
        check_name(&name).map_err(|_| Fault::invalid("a name for the copy cannot be made of its own; say --to NAME"))?;
        Ok(name)
    }

    /// Which volumes are made for the new machine, and of what.
    pub fn plan(&self, landscape: &Landscape, source: DomainId, of: &str, template: bool, to: &str) -> Result<Vec<ClonedDisk>, Fault> {
        if self.linked && !template {
            return Err(Fault::wrong_state(format!(
                "{of} is no template: whoever writes to a disk that others build on breaks theirs; make it a template first (domain template {of}), or leave --linked away"
            )));
        }
        let mut disks: Vec<ClonedDisk> = Vec::new();
        for own in landscape.of_domain(source).into_iter().filter(|v| !v.read_only && v.device != "nvram") {
            let Some(PlacedVolume { pool, pool_name, volume }) = landscape.at(&own.path) else {
                return Err(Fault::invalid(format!(
                    "its disk {} ({}) is in no storage pool, so nothing can be made beside it; define a pool there (storage-pool define), or detach the disk",
                    own.device, own.path
                )));
            };
            if let Some(why) = volume.facts.refused.as_ref().filter(|_| self.linked) {
                return Err(Fault::invalid(format!("nothing can be built on {}: {why}", volume.name)));
            }
            let ending = match volume.name.rsplit_once('.') {
                _ if self.linked => "qcow2",
                Some((_, ending)) if (1..=5).contains(&ending.len()) && ending.bytes().all(|b| b.is_ascii_alphanumeric()) => ending,
                _ => "img",
            };
            let name = if disks.is_empty() { format!("{to}.{ending}") } else { format!("{to}-{}.{ending}", own.device) };
            check_volume_name(&name)?;
            disks.push(ClonedDisk {
                device: own.device,
                pool: *pool,
                pool_name: pool_name.clone(),
                volume: volume.name.clone(),
                to_pool: self.pool.as_deref().map_or_else(|| pool_name.clone(), Arc::from),
                to: name,
                weight: volume.facts.allocation,
                built_on: volume.facts.backing.clone(),
            });
        }
        Ok(disks)
    }
}

/// A disk of the new machine, and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClonedDisk {
    /// What the guest's side of it is called.
    pub device: String,
    /// The pool of the original.
    pub pool: PoolId,
    /// Its name.
    pub pool_name: Arc<str>,
    /// The original.
    pub volume: String,
    /// The pool it is made in, by name.
    pub to_pool: Arc<str>,
    /// The name of the new volume.
    pub to: String,
    /// How much there is to copy.
    pub weight: Bytes,
    /// What the original is built on, and the copy too.
    pub built_on: Option<String>,
}

/// Where each disk's share of the whole begins and ends, in percent, when all of them together take from `from` to `to`.
pub fn shares(weights: &[Bytes], from: u8, to: u8) -> Vec<(u8, u8)> {
    let whole: u128 = weights.iter().map(|w| u128::from(w.0.max(1))).sum();
    let span = u128::from(to.saturating_sub(from));
    let mut done = 0u128;
    let at = |done: u128| from.saturating_add(u8::try_from(done * span / whole.max(1)).unwrap_or(0));
    weights
        .iter()
        .map(|weight| {
            let begins = at(done);
            done += u128::from(weight.0.max(1));
            (begins, at(done))
        })
        .collect()
}

/// A machine to be defined after the picture of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Likeness {
    /// Its name.
    pub name: String,
    /// What takes the place of each disk that is written to: its device, and the pool and volume.
    pub disks: Vec<(String, String, String)>,
    /// What is remembered about it; as with the original when there is none.
    pub note: Option<String>,
}

/// The new machine, and what is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Likened {
    /// Which one it is.
    pub id: DomainId,
    /// What was left out or begins anew, for people.
    pub remarks: Vec<String>,
}

/// Refuses to give up a template while anything is built on its disks.
pub fn check_unused(landscape: &Landscape, id: DomainId, name: &str) -> Result<(), Fault> {
    for own in landscape.of_domain(id).into_iter().filter(|v| !v.read_only) {
        let mut built: Vec<String> = landscape.built_on(&own.path).into_iter().map(|v| v.volume.name.clone()).collect();
        built.extend(landscape.users(&own.path).into_iter().filter(|u| u.id != id).map(|u| u.name));
        built.sort();
        built.dedup();
        if !built.is_empty() {
            let text = format!(
                "{name} stays a template: {} {} built on its disk {}; delete them first",
                built.join(", "),
                if built.len() == 1 { "is" } else { "are" },
                own.device
            );
            return Err(Fault::busy(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Attachment, VolumeFacts, VolumeRecord};
    use uuid::Uuid;

    const WEB: DomainId = DomainId(Uuid::from_u128(1));

    fn volume(path: &str, backing: Option<&str>) -> PlacedVolume {
        let facts = VolumeFacts { path: path.into(), backing: backing.map(Into::into), allocation: Bytes(100), ..VolumeFacts::default() };
        PlacedVolume {
            pool: PoolId(Uuid::from_u128(9)),
            pool_name: "p".into(),
            volume: VolumeRecord { name: path.trim_start_matches("/p/").into(), facts },
        }
    }
    fn disk(of: DomainId, device: &str, path: &str, read_only: bool) -> Attachment {
        Attachment { domain: of, name: "web".into(), device: device.into(), read_only, paths: vec![path.into()], ..Attachment::default() }
    }
    fn landscape() -> Landscape {
        Landscape {
            attachments: vec![
                disk(WEB, "vda", "/p/web.qcow2", false),
                disk(WEB, "vdb", "/p/data", false),
                disk(WEB, "sda", "/p/cd.iso", true),
                disk(WEB, "nvram", "/var/nvram", false),
            ],
            volumes: vec![volume("/p/web.qcow2", Some("/p/base")), volume("/p/data", None), volume("/p/cd.iso", None)],
        }
    }
    fn plan(ask: &CloneDomain, template: bool) -> Result<Vec<ClonedDisk>, Fault> {
        ask.plan(&landscape(), WEB, "web", template, "new")
    }

    #[test]
    fn every_disk_that_is_written_to_is_copied_and_media_are_shared() {
        let disks = plan(&CloneDomain::default(), false).unwrap();
        let told: Vec<_> = disks.iter().map(|d| (d.device.as_str(), d.volume.as_str(), &*d.to_pool, d.to.as_str())).collect();
        assert_eq!(told, [("vda", "web.qcow2", "p", "new.qcow2"), ("vdb", "data", "p", "new-vdb.img")]);
        assert_eq!(disks[0].built_on.as_deref(), Some("/p/base"));
        let there = plan(&CloneDomain { pool: Some("q".into()), ..CloneDomain::default() }, false).unwrap();
        assert!(there.iter().all(|d| &*d.to_pool == "q"));
    }

    #[test]
    fn linked_clones_are_made_of_templates_only() {
        let linked = CloneDomain { linked: true, ..CloneDomain::default() };
        assert!(plan(&linked, false).unwrap_err().message.contains("domain template web"));
        let disks = plan(&linked, true).unwrap();
        assert_eq!(disks.iter().map(|d| d.to.as_str()).collect::<Vec<_>>(), ["new.qcow2", "new-vdb.qcow2"]);
    }

    #[test]
    fn a_disk_outside_of_pools_is_refused_with_what_to_do() {
        let mut all = landscape();
        all.attachments[1].paths = vec!["/srv/else".into()];
        let fault = CloneDomain::default().plan(&all, WEB, "web", false, "new").unwrap_err();
        assert!(fault.message.contains("vdb (/srv/else)") && fault.message.contains("define a pool"), "{fault}");
    }

    #[test]
    fn a_name_is_found_when_none_is_given() {
        let none = CloneDomain::default();
        assert_eq!(none.name("web", |_| true).unwrap(), "web-copy");
        assert_eq!(none.name("web", |n| n != "web-copy").unwrap(), "web-copy-2");
        assert!(none.name("w\u{435}b", |_| true).is_err());
        let bad = |to: &str| CloneDomain { to: Some(to.into()), ..CloneDomain::default() }.check();
        assert!(bad("a/b").is_err() && bad("").is_err() && bad("new").is_ok());
        assert!(CloneDomain { note: Some("\u{7}".into()), ..CloneDomain::default() }.check().is_err());
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        assert_eq!(shares(&[Bytes(100), Bytes(300)], 0, 100), [(0, 25), (25, 100)]);
        assert_eq!(shares(&[Bytes(0)], 10, 90), [(10, 90)]);
        assert!(shares(&[], 0, 100).is_empty());
        assert_eq!(shares(&[Bytes(u64::MAX), Bytes(u64::MAX)], 0, 90), [(0, 45), (45, 90)]);
    }

    fn facts(state: DomainState, template: bool) -> DomainFacts {
        DomainFacts {
            state,
            reason: None,
            vcpus: 1,
            memory: Bytes::MIB,
            persistent: true,
            autostart: false,
            agent: false,
            virtualization: "qemu".into(),
            note: None,
            template,
            moving_to: None,
            autostart_order: None,
            autostart_delay: None,
        }
    }

    #[test]
    fn only_what_is_off_is_copied_and_a_template_is_copied_only() {
        use super::super::may;
        let refused = |command: &str, facts: &DomainFacts| match may(command, facts) {
            Verdict::Refused(why) => why,
            Verdict::Allowed => String::new(),
        };
        for state in DomainState::ALL {
            for command in ["domain.clone", "domain.template"] {
                let why = refused(command, &facts(state, false));
                assert_eq!(why.is_empty(), !state.is_active(), "{command} {state:?}: {why}");
            }
        }
        let saved = DomainFacts { reason: Some("saved".into()), ..facts(DomainState::Shutoff, false) };
        assert!(refused("domain.clone", &saved).contains("memory saved"));
        let gone = DomainFacts { persistent: false, ..facts(DomainState::Crashed, false) };
        assert!(refused("domain.clone", &gone).contains("no definition"));
        let template = facts(DomainState::Shutoff, true);
        for command in ["start", "resume", "attach-disk", "detach-disk", "set-disk", "resize-disk", "edit-xml", "revert", "autostart"] {
            assert!(refused(&format!("domain.{command}"), &template).contains("is a template"), "{command}");
        }
        for command in ["clone", "template", "info", "xml", "undefine", "rename", "note", "history", "park", "migrate"] {
            assert_eq!(refused(&format!("domain.{command}"), &template), "", "{command}");
        }
        let runs = facts(DomainState::Running, true);
        assert_eq!(refused("domain.force-off", &runs) + &refused("domain.shutdown", &runs), "", "one that runs can be ended");
    }

    #[test]
    fn a_template_stays_one_while_others_need_it() {
        let mut all = landscape();
        assert!(check_unused(&all, WEB, "web").is_ok());
        all.volumes.push(volume("/p/child", Some("/p/data")));
        assert!(check_unused(&all, WEB, "web").unwrap_err().message.contains("child is built on its disk vdb"));
    }
}
