//! Who in the whole cell uses what: the one question before anything is taken from a volume or written to it, and the proof that
//! it was asked. Pure.
//!
//! ```text
//!   change --> Inquiry(path, need) --> every host is asked: users, what is built on it, what is being changed
//!                     |                                  \--> one that does not answer: refused, unless the place is its host's alone
//!                     +--> Unused --> the port, which consumes it and looks once more at its own host
//! ```
//! Two hosts that begin at the same time have both said what they change before they ask, so one of them sees the other.

use super::{Landscape, Place, UNFINISHED, UsedDisk, VolumeUser};
use crate::{
    DomainId, Effect, Fault, FaultKind, HypervisorName, Role, Target,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::HashMap;
use std::fmt;

/// From another host: which of your machines use what lies in these places?
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindUsers {
    /// The places: a list of [`Place`] as JSON.
    pub places: String,
    /// The disks of machines that were parked from that host: a list of [`Shelved`] as JSON.
    #[serde(default)]
    pub shelved: Option<String>,
}
declare!(FindUsers, "hypervisor.find-users", Read, Node, Hypervisor, Vec<UsersThere>);

/// A machine that is parked, with what its definition names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelved {
    /// The machine.
    pub id: DomainId,
    /// Its name.
    pub name: String,
    /// Its disks.
    pub disks: Vec<UsedDisk>,
}

/// Who uses one place on one host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsersThere {
    /// Machines, those included whose disks are built on it.
    pub users: Vec<VolumeUser>,
    /// Volumes that are built on it.
    #[serde(default)]
    pub built: Vec<String>,
    /// What is being done with it there right now.
    #[serde(default)]
    pub changing: Vec<String>,
}

impl Landscape {
    /// All paths that it speaks of, each once.
    pub fn paths(&self) -> Vec<String> {
        let disks = self.attachments.iter().flat_map(|a| &a.paths);
        let volumes = self.volumes.iter().flat_map(|v| std::iter::once(&v.volume.facts.path).chain(&v.volume.facts.backing));
        let mut all: Vec<String> = disks.chain(volumes).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Who here uses what may be in that place. `known` is where each of [`Landscape::paths`] lies.
    pub fn users_at(&self, place: &Place, known: &HashMap<String, Place>) -> UsersThere {
        let mut found = UsersThere::default();
        let one = |other: &Place| place.may_be(other) || place.may_hold(other);
        // A path that was not looked up may be anything.
        let is_it = |path: &String| known.get(path).map_or_else(|| one(&Place::unknown(path.as_str())), one);
        for path in self.paths().iter().filter(|p| is_it(p)) {
            found.users.extend(self.users(path));
            found.built.extend(self.built_on(path).into_iter().map(|v| v.volume.name.clone()).filter(|n| !n.ends_with(UNFINISHED)));
        }
        found.users.sort_by(|a, b| (&a.name, &a.device, !a.running).cmp(&(&b.name, &b.device, !b.running)));
        found.users.dedup_by(|b, a| (a.id, &a.device) == (b.id, &b.device));
        found.built.sort();
        found.built.dedup();
        found
    }
}

/// What somebody is about to do with a volume, as far as it matters to those who use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It goes away, or other bytes take its place: nobody may use it, and nothing may be built on it.
    Gone,
    /// Its size changes: nobody may run with it, and nothing may be built on it.
    Still,
    /// It is read as one whole: nobody may write to it meanwhile.
    Quiet,
    /// Another volume is built on it: nobody may ever write to it again, so no machine may have it as a disk.
    Base,
    /// A machine will write to it: no other may use it, and nothing may be built on it.
    Sole,
    /// A machine will read it, or share it: no other may have it for itself.
    Shared,
}

impl Need {
    /// Whether nobody is harmed but whoever asks when a host that could not be asked has a user of it.
    fn is_harmless(self) -> bool {
        matches!(self, Need::Quiet | Need::Base | Need::Shared)
    }
}

/// How one host answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Which host; none for the own one.
    pub host: Option<HypervisorName>,
    /// Whether it is a namespace of this very machine, so that even what is local here may be its.
    pub same_machine: bool,
    /// What it said.
    pub said: Result<UsersThere, Fault>,
}

/// What is asked about one volume.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// What it is called, for people.
    pub name: String,
    /// Where it lies, as the own host sees it.
    pub place: Place,
    /// What for.
    pub need: Need,
    /// The machine that it is for, or that goes with it.
    pub but: Option<DomainId>,
    /// Names of volumes that may be built on it: layers of that machine's own disk, or what goes with it.
    pub above: Vec<String>,
}

/// The proof that every host was asked about a volume and nobody stands against what was to be done with it. Only
/// [`Inquiry::judge`] makes it, it cannot be copied, and the port that acts on it consumes it. As long as it lives the other hosts
/// are told what is being done.
pub struct Unused {
    path: String,
    need: Need,
    _told: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unused({}, {:?})", self.path, self.need)
    }
}

impl Unused {
    /// Refuses what the proof is not about: something else may have got that name meanwhile.
    pub fn covers(&self, path: &str, need: Need) -> Result<(), Fault> {
        if self.path != path {
            return Err(Fault::new(FaultKind::Conflict, format!("it lies at {path} now and not at {}; ask again", self.path)));
        }
        // Whoever may take it away may do anything with it, and whoever may write to it may share it.
        let enough = self.need == need || self.need == Need::Gone || (self.need == Need::Sole && need == Need::Shared);
        match enough {
            true => Ok(()),
            false => Err(Fault::internal(format!("{path} was asked about for {:?} and not for {need:?}; please report this", self.need))),
        }
    }

    /// Refuses what none of these proofs is about.
    pub fn among(proofs: &[Unused], path: &str, need: Need) -> Result<(), Fault> {
        match proofs.iter().find(|p| p.path == path) {
            Some(proof) => proof.covers(path, need),
            None => Err(Fault::new(FaultKind::Conflict, format!("who uses {path} was not asked; ask again"))),
        }
    }
}

impl Inquiry {
    /// What the hosts said, as a proof or as the reason why it may not be. `told` is let go when the proof is.
    pub fn judge(self, answers: &[Answer], told: Box<dyn Any + Send + Sync>) -> Result<Unused, Fault> {
        let mut unasked = Vec::new();
        for Answer { host, same_machine, said } in answers {
            let on = host.as_ref().map(|h| format!(" on {h}")).unwrap_or_default();
            match said {
                Ok(there) => self.check(there, &on)?,
                // The own host must answer in any case.
                Err(fault) if host.is_none() => return Err(fault.clone()),
                Err(_) if self.need.is_harmless() || (self.place.alone && !same_machine) => {}
                Err(fault) => unasked.push((host.as_ref().map(ToString::to_string).unwrap_or_default(), fault)),
            }
        }
        if let Some((_, why)) = unasked.first() {
            let hosts: Vec<&str> = unasked.iter().map(|(host, _)| host.as_str()).collect();
            let (hosts, it) = (hosts.join(" and "), if hosts.len() == 1 { "it" } else { "them" });
            let text = format!(
                "whether machines on {hosts} use {} could not be asked, and it may lie on storage that {hosts} shares; bring {it} back, or \
                 revoke {it} from the cell if {it} will never come back",
                self.name
            );
            return Err(Fault::unavailable(text).because(why));
        }
        Ok(Unused { path: self.place.path, need: self.need, _told: told })
    }

    /// The same for this host alone, in the very call that makes the change.
    pub fn check_here(&self, all: &Landscape) -> Result<(), Fault> {
        let path = &self.place.path;
        let built = all.built_on(path).into_iter().map(|v| v.volume.name.clone()).filter(|n| !n.ends_with(UNFINISHED)).collect();
        self.check(&UsersThere { users: all.users(path), built, changing: Vec::new() }, "")
    }

    fn check(&self, there: &UsersThere, on: &str) -> Result<(), Fault> {
        let name = &self.name;
        let users = there.users.iter().filter(|u| Some(u.id) != self.but);
        let in_the_way: Vec<&VolumeUser> = match self.need {
            Need::Gone | Need::Sole => users.collect(),
            Need::Still => users.filter(|u| u.running).collect(),
            Need::Quiet => users.filter(|u| u.running && !u.read_only).collect(),
            Need::Base => users.filter(|u| !u.read_only && !u.template && u.through.is_none()).collect(),
            Need::Shared => users.filter(|u| !u.read_only && !u.shareable).collect(),
        };
        let (who, one) = (told(&in_the_way, on), in_the_way.len() == 1);
        if !in_the_way.is_empty() {
            return Err(match self.need {
                Need::Gone => Fault::busy(format!("{name} is used by {who}; take it from there first")),
                Need::Still => Fault::busy(format!("{name} is used by {who}, which runs; resize the disk of the machine instead")),
                Need::Quiet => Fault::busy(format!(
                    "{name} is written to by {who}, so that a copy would be torn; shut it down first, or make a backup"
                )),
                Need::Base => Fault::busy(format!(
                    "{name} is a disk of {who}, and whatever is built on it breaks as soon as that writes to it; copy it (volume clone), or make \
                     the machine a template (domain template) and clone that with --linked"
                )),
                Need::Sole | Need::Shared => {
                    let what = if one { "a disk" } else { "disks" };
                    let text = format!("{name} is {what} of {who}; two machines that write to one disk destroy it: detach it there first");
                    Fault::new(FaultKind::Conflict, text)
                }
            });
        }
        let writes = matches!(self.need, Need::Gone | Need::Still | Need::Sole);
        let built: Vec<&str> = there.built.iter().map(String::as_str).filter(|name| !self.above.iter().any(|own| own == name)).collect();
        if let (true, false) = (writes, built.is_empty()) {
            let built = built.join(", ");
            return Err(Fault::busy(match self.need {
                Need::Still => format!("{built}{on} is built on {name}, whose size therefore stays"),
                Need::Sole => format!("{built}{on} is built on {name} and breaks when {name} is written to; use a clone of it"),
                _ => format!("{built}{on} is built on {name}; delete what is built on it first"),
            }));
        }
        match there.changing.first() {
            Some(what) => Err(Fault::busy(format!("{what}{on} right now; ask again when that has ended"))),
            None => Ok(()),
        }
    }
}

fn told(users: &[&VolumeUser], on: &str) -> String {
    let one = |u: &&VolumeUser| {
        let how = match (u.parked, &u.through) {
            (true, _) => ", parked".to_owned(),
            (false, Some(own)) => format!(", built on it as {own}"),
            (false, None) => String::new(),
        };
        format!("{} ({}{how}){on}", u.name, u.device)
    };
    users.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Attachment, Ground};
    use uuid::Uuid;

    const NEEDS: [Need; 6] = [Need::Gone, Need::Still, Need::Quiet, Need::Base, Need::Sole, Need::Shared];

    fn user(running: bool, read_only: bool, shareable: bool) -> VolumeUser {
        VolumeUser {
            id: DomainId(Uuid::from_u128(1)),
            name: "web1".into(),
            host: None,
            device: "vda".into(),
            running,
            read_only,
            shareable,
            parked: false,
            template: false,
            through: None,
        }
    }

    fn ask(need: Need, alone: bool, but: Option<DomainId>, answers: &[Answer]) -> Result<Unused, Fault> {
        let place = Place { alone, ..Place::unknown("/i/a") };
        Inquiry { name: "a".into(), place, need, but, above: Vec::new() }.judge(answers, Box::new(()))
    }

    fn on(host: &str, said: Result<UsersThere, Fault>) -> Answer {
        Answer { host: Some(host.parse().unwrap()), same_machine: false, said }
    }

    fn words(answer: Result<Unused, Fault>) -> String {
        answer.map_or_else(|f| f.message, |_| String::new())
    }

    #[test]
    fn each_need_is_refused_by_its_own_kind_of_user() {
        for need in NEEDS {
            for [running, read_only, shareable] in (0..8).map(|n| [n & 1 != 0, n & 2 != 0, n & 4 != 0]) {
                let there = UsersThere { users: vec![user(running, read_only, shareable)], ..UsersThere::default() };
                let stands = match need {
                    Need::Gone | Need::Sole => true,
                    Need::Still => running,
                    Need::Quiet => running && !read_only,
                    Need::Base => !read_only,
                    Need::Shared => !read_only && !shareable,
                };
                let said = words(ask(need, true, None, &[on("beta", Ok(there.clone()))]));
                assert_eq!(said.contains("web1 (vda) on beta"), stands, "{need:?} {running} {read_only} {shareable}: {said}");
                assert_eq!(said.is_empty(), !stands);
                let its_own = ask(need, true, Some(DomainId(Uuid::from_u128(1))), &[on("beta", Ok(there))]);
                assert!(its_own.is_ok(), "it goes with its machine, also where an old definition of it was left");
            }
        }
    }

    #[test]
    fn who_only_builds_on_it_does_not_keep_others_from_doing_so() {
        let above = VolumeUser { through: Some("top".into()), ..user(true, false, false) };
        let template = VolumeUser { template: true, ..user(false, false, false) };
        let there = UsersThere { users: vec![above, template], built: vec!["top".into()], ..UsersThere::default() };
        assert_eq!(words(ask(Need::Base, true, None, &[on("beta", Ok(there))])), "");
    }

    #[test]
    fn what_is_built_on_it_or_being_done_with_it_counts_too() {
        let built = UsersThere { built: vec!["top".into()], ..UsersThere::default() };
        let changing = UsersThere { changing: vec!["a is being attached".into()], ..UsersThere::default() };
        for need in NEEDS {
            let said = words(ask(need, true, None, &[on("beta", Ok(built.clone()))]));
            assert_eq!(said.starts_with("top on beta is built on a"), !need.is_harmless(), "{need:?}: {said}");
            let said = words(ask(need, true, None, &[on("beta", Ok(changing.clone()))]));
            assert_eq!(said, "a is being attached on beta right now; ask again when that has ended");
        }
    }

    #[test]
    fn a_machines_own_layers_may_be_built_on_what_it_merges_them_into() {
        let built = |names: &[&str]| UsersThere { built: names.iter().map(ToString::to_string).collect(), ..UsersThere::default() };
        let ask = |there: UsersThere| {
            let above = vec!["own".to_owned()];
            Inquiry { name: "base".into(), place: Place::unknown("/i/base"), need: Need::Sole, but: None, above }
                .judge(&[on("beta", Ok(there))], Box::new(()))
        };
        assert!(ask(built(&["own"])).is_ok());
        assert!(words(ask(built(&["clone", "own"]))).starts_with("clone on beta is built on base"));
    }

    #[test]
    fn a_host_that_does_not_answer_stands_in_the_way_of_what_it_may_share() {
        let silent = || on("beta", Err(Fault::unavailable("nobody answers")));
        let twin = || Answer { same_machine: true, ..silent() };
        for need in NEEDS {
            let refused = |alone, answers: &[Answer]| {
                let said = ask(need, alone, None, answers);
                assert!(said.as_ref().err().is_none_or(|f| f.kind == FaultKind::Unavailable && f.message.contains("on beta use a")));
                said.is_err()
            };
            assert_eq!(refused(false, &[silent()]), !need.is_harmless(), "{need:?}");
            assert_eq!(refused(true, &[twin()]), !need.is_harmless(), "{need:?}");
            assert!(!refused(true, &[silent()]) && !refused(false, &[]) && !refused(false, &[on("c", Ok(UsersThere::default()))]));
        }
        let own = Answer { host: None, same_machine: true, said: Err(Fault::unavailable("libvirt is gone")) };
        assert_eq!(words(ask(Need::Shared, true, None, &[own])), "libvirt is gone", "the own host must answer");
        let both = words(ask(Need::Gone, false, None, &[silent(), on("gamma", Err(Fault::unavailable("x")))]));
        assert!(both.contains("beta and gamma") && both.contains("bring them back"), "{both}");
        let used = UsersThere { users: vec![user(false, false, false)], ..UsersThere::default() };
        let said = words(ask(Need::Gone, false, None, &[silent(), on("gamma", Ok(used))]));
        assert!(said.contains("web1 (vda) on gamma"), "who is known to use it says more than who could not be asked: {said}");
    }

    #[test]
    fn a_proof_is_about_one_path_and_one_need() {
        for need in NEEDS {
            let proof = ask(need, true, None, &[]).unwrap();
            assert!(proof.covers("/i/b", need).unwrap_err().kind == FaultKind::Conflict);
            for other in NEEDS {
                let enough = need == other || need == Need::Gone || (need, other) == (Need::Sole, Need::Shared);
                assert_eq!(proof.covers("/i/a", other).is_ok(), enough, "{need:?} for {other:?}");
            }
            assert!(Unused::among(&[proof], "/i/a", need).is_ok() && Unused::among(&[], "/i/a", need).is_err());
        }
    }

    #[test]
    fn a_host_finds_users_under_whatever_path_it_knows_the_place_by() {
        let attached = |n: u128, path: &str| Attachment {
            domain: DomainId(Uuid::from_u128(n)),
            name: format!("web{n}").into(),
            device: "vda".into(),
            paths: vec![path.into()],
            ..Attachment::default()
        };
        let l = Landscape { attachments: vec![attached(1, "/n/a"), attached(2, "/n/b"), attached(3, "/i/a")], volumes: vec![] };
        let share = |path: &str, id: &str| Place { ground: Ground::Share(id.into()), ..Place::unknown(path) };
        let mut known: HashMap<String, Place> = HashMap::new();
        known.insert("/n/a".into(), share("/n/a", "nas:/e/a"));
        known.insert("/n/b".into(), share("/n/b", "nas:/e/b"));
        known.insert("/i/a".into(), Place { ground: Ground::Device("other".into()), ..Place::unknown("/i/a") });
        let names = |place| l.users_at(&place, &known).users.into_iter().map(|u| u.name).collect::<Vec<_>>();
        assert_eq!(names(share("/i/a", "nas:/e/a")), ["web1", "web3"], "one is it, of the other nothing is proved");
        assert_eq!(names(Place { ground: Ground::Device("mine".into()), ..Place::unknown("/i/a") }), Vec::<String>::new());
        assert_eq!(names(share("/x", "nas:/e/c")), Vec::<String>::new());
    }
}
