//! What may be asked of a virtual machine, and of a hypervisor about a new one; whether it may happen now, and if not, why; and
//! what became of what was interrupted. Pure.

use super::{DomainFacts, DomainRecord, DomainSpec, DomainState, Graphics};
use crate::{
    Bytes, DomainId, Effect, Fault, Role, Target, Verdict,
    command::{Command, Document, Done, Started, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// List the virtual machines of the whole cell, or of one host, or those with one name.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListDomains {
    /// Only those on this hypervisor.
    pub host: Option<String>,
    /// Only those with this name or UUID.
    pub name: Option<String>,
    /// Only those in this state, for example running.
    pub state: Option<String>,
}
declare!(ListDomains, "domain.list", Read, Viewer, Cell, Vec<crate::Entity>);

/// Show everything known about a virtual machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowDomain {}
declare!(ShowDomain, "domain.info", Read, Viewer, Domain, crate::Entity);

/// Show the definition of a virtual machine in libvirt's XML.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowDomainXml {
    /// The definition for the next start instead of the running one.
    pub inactive: bool,
}
declare!(ShowDomainXml, "domain.xml", Read, Viewer, Domain, Document);

/// Define a new virtual machine on a hypervisor; it stays off.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefineDomain {
    /// Its name: letters, digits and . _ + - (at most 64).
    pub name: String,
    /// Its memory, for example 512MiB.
    #[serde(default = "default_memory")]
    pub memory: Bytes,
    /// Its virtual CPUs.
    #[serde(default = "default_vcpus")]
    #[schemars(range(min = 1, max = 512))]
    pub vcpus: u32,
    /// Its disk as POOL/VOLUME; without one it has no disk.
    #[serde(default)]
    pub disk: Option<String>,
    /// The network its card is on; without one it has no card.
    #[serde(default)]
    pub network: Option<String>,
    /// Its screen.
    #[serde(default)]
    pub graphics: Graphics,
    /// What to remember about it.
    #[serde(default)]
    pub note: Option<String>,
}
fn default_memory() -> Bytes {
    Bytes::mib(1024)
}
fn default_vcpus() -> u32 {
    1
}
declare!(DefineDomain, "domain.define", Change, Admin, Hypervisor, Defined);

/// The answer of `domain.define`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Defined {
    /// The new machine's UUID, which is also the local part of its address.
    pub id: DomainId,
    /// What was done.
    pub message: String,
}

/// Forget the definition of a virtual machine that is off. Its disks stay, unless you say which of them go; `domain.volumes` shows them.
/// The variables of a UEFI firmware go with all volumes and stay otherwise; a new machine of that name does not get them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UndefineDomain {
    /// Whether its volumes are deleted with it: none, or all that it alone writes to. One that another machine uses is never deleted.
    pub with_volumes: crate::volume::WithVolumes,
    /// Delete these of its volumes with it, as POOL/VOLUME with commas between them.
    pub delete_volumes: Option<String>,
}
declare!(UndefineDomain, "domain.undefine", Destroy, Admin, Domain, Done);

/// List the disks of a virtual machine, the volumes they are, and who else uses those: what may be deleted with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListDomainVolumes {}
declare!(ListDomainVolumes, "domain.volumes", Read, Viewer, Domain, Vec<crate::volume::DomainVolume>);

/// Start a virtual machine that is off.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StartDomain {
    /// Leave it paused before its first instruction.
    pub paused: bool,
}
declare!(StartDomain, "domain.start", Change, Admin, Domain, Done);

/// Ask the guest to power off, and follow it until it has. Nothing is forced.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownDomain {
    /// How it is asked.
    pub mode: super::ShutdownMode,
    /// How many seconds to wait before saying that the guest did not listen.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout: u32,
}
impl Default for ShutdownDomain {
    fn default() -> Self {
        ShutdownDomain { mode: super::ShutdownMode::Any, timeout: 120 }
    }
}
declare!(ShutdownDomain, "domain.shutdown", Change, Admin, Domain, Started);

/// Ask the guest to reboot.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RebootDomain {}
declare!(RebootDomain, "domain.reboot", Change, Admin, Domain, Done);

/// Cut the power. The guest cannot save anything; nothing is deleted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForceOffDomain {}
declare!(ForceOffDomain, "domain.force-off", Destroy, Admin, Domain, Done);

/// Press the reset button. The guest cannot save anything.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResetDomain {}
declare!(ResetDomain, "domain.reset", Destroy, Admin, Domain, Done);

/// Stop the virtual CPUs; memory stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PauseDomain {}
declare!(PauseDomain, "domain.pause", Change, Admin, Domain, Done);

/// Let the virtual CPUs go on, or wake a sleeping guest.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResumeDomain {}
declare!(ResumeDomain, "domain.resume", Change, Admin, Domain, Done);

/// Give a virtual machine that is off another name. Its address stays.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameDomain {
    /// The new name: letters, digits and . _ + - (at most 64).
    pub to: String,
}
declare!(RenameDomain, "domain.rename", Change, Admin, Domain, Done);

/// Remember something about a virtual machine; an empty text forgets it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoteDomain {
    /// The text, at most 4096 characters.
    pub text: String,
}
declare!(NoteDomain, "domain.note", Change, Admin, Domain, Done);

// ---------------------------------------------------------------- policy

/// May this command run on a machine with these facts, and if not, why.
pub fn may(command: &str, facts: &DomainFacts) -> Verdict {
    use DomainState::*;
    let state = facts.state;
    if let Some(to) = &facts.moving_to
        && !matches!(
            command,
            "domain.info"
                | "domain.xml"
                | "domain.usage"
                | "domain.usage-history"
                | "domain.migrate-check"
                | "domain.console"
                | "domain.viewers"
                | "domain.screenshot"
        )
    {
        return Verdict::refused(format!("is being moved to {to}; cancel the task first, or wait until it ends"));
    }
    if let refused @ Verdict::Refused(_) = super::template_may(command, facts) {
        return refused;
    }
    match command {
        "domain.clone" | "domain.export" | "domain.template" => super::copy_may(facts),
        "domain.migrate" => match state {
            Running | Paused | Shutoff | Crashed => Verdict::Allowed,
            Shutdown => Verdict::refused("is going down; move it when it is off"),
            Pmsuspended => Verdict::refused("sleeps and cannot travel; resume it first"),
        },
        "domain.park" => {
            if state.is_active() {
                Verdict::refused("is not off; shut it down first")
            } else {
                Verdict::Allowed
            }
        }
        "domain.start" => match state {
            Shutoff | Crashed => Verdict::Allowed,
            Running => Verdict::refused("is running already"),
            Paused => Verdict::refused("is paused; resume it instead"),
            Pmsuspended => Verdict::refused("sleeps; resume it instead"),
            Shutdown => Verdict::refused("is still going down; wait until it is off"),
        },
        "domain.shutdown" | "domain.reboot" => match state {
            Running => Verdict::Allowed,
            Paused => Verdict::refused("is paused and cannot hear it; resume it first"),
            Pmsuspended => Verdict::refused("sleeps and cannot hear it; resume it first"),
            Shutdown => Verdict::refused("is going down already"),
            Shutoff | Crashed => Verdict::refused("is off"),
        },
        "domain.usage" if !state.is_active() => Verdict::refused("is off and takes nothing"),
        "domain.force-off" | "domain.reset" => {
            if state.is_active() {
                Verdict::Allowed
            } else {
                Verdict::refused("is off")
            }
        }
        "domain.pause" => match state {
            Running => Verdict::Allowed,
            Paused => Verdict::refused("is paused already"),
            Pmsuspended => Verdict::refused("sleeps"),
            Shutdown => Verdict::refused("is going down"),
            Shutoff | Crashed => Verdict::refused("is off"),
        },
        "domain.resume" => match state {
            Paused | Pmsuspended => Verdict::Allowed,
            Running => Verdict::refused("is running already"),
            Shutdown => Verdict::refused("is going down"),
            Shutoff | Crashed => Verdict::refused("is off; start it instead"),
        },
        "snapshot.create" | "snapshot.revert" => match state {
            Shutdown => Verdict::refused("is going down; wait until it is off"),
            Pmsuspended => Verdict::refused("sleeps; resume it first"),
            _ if !facts.persistent => Verdict::refused("has no definition that stays, so it can have no snapshots"),
            _ => Verdict::Allowed,
        },
        "backup.create" => match state {
            Shutdown => Verdict::refused("is going down; wait until it is off"),
            Pmsuspended => Verdict::refused("sleeps; resume it first"),
            _ if !facts.persistent => Verdict::refused("has no definition that stays, so nothing could come back"),
            _ => Verdict::Allowed,
        },
        "domain.restore" => {
            if state.is_active() {
                Verdict::refused("is not off; shut it down first")
            } else {
                Verdict::Allowed
            }
        }
        "domain.save" => match state {
            Running | Paused if !facts.persistent => Verdict::refused("has no definition that stays, so nothing could go on later"),
            Running | Paused => Verdict::Allowed,
            Shutdown => Verdict::refused("is going down"),
            Pmsuspended => Verdict::refused("sleeps; resume it first"),
            Shutoff | Crashed => Verdict::refused("is off"),
        },
        "domain.discard-saved" => {
            if state.is_active() {
                Verdict::refused("is not off, so no saved memory waits for its start")
            } else {
                Verdict::Allowed
            }
        }
        "domain.undefine" => {
            if state.is_active() {
                Verdict::refused("is not off; shut it down first")
            } else {
                Verdict::Allowed
            }
        }
        "domain.rename" => {
            if state.is_active() {
                Verdict::refused("can only be renamed while it is off")
            } else {
                Verdict::Allowed
            }
        }
        "domain.guest-info"
        | "domain.guest-time-sync"
        | "domain.guest-freeze"
        | "domain.guest-thaw"
        | "domain.guest-run"
        | "domain.set-guest-password" => super::guest_may(command, facts),
        "domain.console" | "domain.screenshot" | "domain.send-key" | "domain.paste" => super::console_may(command, state),
        "domain.autostart" => {
            if facts.persistent {
                Verdict::Allowed
            } else {
                Verdict::refused("has no definition that stays, so it cannot start with its host")
            }
        }
        _ => Verdict::Allowed,
    }
}

/// Whether a text may name a machine; the reason if not.
pub fn check_name(name: &str) -> Result<(), Fault> {
    let fits = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        && name.as_bytes()[0].is_ascii_alphanumeric();
    if fits {
        Ok(())
    } else {
        let shown: String = name.chars().take(80).collect();
        Err(Fault::invalid(format!(
            "{shown:?} cannot be a name: use letters, digits and . _ + -, begin with a letter or digit, at most 64"
        )))
    }
}

/// Longest note, in characters.
pub const NOTE_LIMIT: usize = 4096;

/// Checks a note: its length, and that it has no characters that XML cannot carry.
pub fn check_note(text: &str) -> Result<(), Fault> {
    if text.chars().count() > NOTE_LIMIT {
        return Err(Fault::invalid(format!("a note has at most {NOTE_LIMIT} characters")));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(Fault::invalid("a note cannot hold control characters"));
    }
    Ok(())
}

impl DefineDomain {
    /// The checked spec, or the first thing that is wrong with it.
    pub fn spec(self) -> Result<DomainSpec, Fault> {
        check_name(&self.name)?;
        if let Some(note) = &self.note {
            check_note(note)?;
        }
        if self.memory < Bytes::mib(1) || self.memory > Bytes(16 << 40) {
            return Err(Fault::invalid(format!("memory must be between 1 MiB and 16 TiB, not {}", self.memory)));
        }
        if !(1..=512).contains(&self.vcpus) {
            return Err(Fault::invalid(format!("a machine has 1 to 512 virtual CPUs, not {}", self.vcpus)));
        }
        let plain = |s: &str| !s.is_empty() && s.len() <= 255 && !s.contains('/') && !s.contains("..") && !s.chars().any(char::is_control);
        let disk = match self.disk {
            None => None,
            Some(text) => match text.split_once('/') {
                Some((pool, volume)) if plain(pool) && plain(volume) => Some((pool.to_owned(), volume.to_owned())),
                _ => return Err(Fault::invalid(format!("a disk is written POOL/VOLUME, not {text:?}"))),
            },
        };
        if let Some(network) = &self.network
            && !plain(network)
        {
            return Err(Fault::invalid(format!("{network:?} cannot be the name of a network")));
        }
        Ok(DomainSpec {
            name: self.name,
            memory: self.memory,
            vcpus: self.vcpus,
            disk,
            network: self.network,
            graphics: self.graphics,
            note: self.note.filter(|n| !n.is_empty()),
            ..DomainSpec::default()
        })
    }
}

/// What became of an operation that was interrupted between "accepted" and "done", judged by what libvirt says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// What it wanted is so.
    TookEffect,
    /// What it wanted is not so; it may be asked again.
    NoEffect,
    /// Nobody can tell; a person should look before asking again.
    Unknown,
}

/// Judges an interrupted command from what the machine is now (`None`: it is gone). Nothing is ever run again blindly.
pub fn settle(command: &str, arguments: &serde_json::Value, now: Option<&DomainRecord>) -> Settled {
    use Settled::*;
    let so = |yes: bool| if yes { TookEffect } else { NoEffect };
    let Some(now) = now else {
        // It is somewhere else, perhaps because of that.
        if command == "domain.migrate" {
            return Unknown;
        }
        return so(matches!(command, "domain.undefine" | "domain.park" | "domain.force-off" | "domain.shutdown"));
    };
    let state = now.facts.state;
    match command {
        "domain.start" => so(state.is_active()),
        "domain.force-off" => so(!state.is_active()),
        "domain.pause" => so(state == DomainState::Paused),
        "domain.resume" => so(state == DomainState::Running),
        "domain.shutdown" if !state.is_active() => TookEffect,
        "domain.undefine" | "domain.park" => NoEffect,
        "domain.save" if !state.is_active() => TookEffect,
        "domain.autostart" => so(super::autostart::is_so(arguments, &now.facts)),
        "domain.template" => so(arguments.get("enabled").and_then(|v| v.as_bool()).unwrap_or(true) == now.facts.template),
        "domain.rename" => so(arguments.get("to").and_then(|v| v.as_str()) == Some(&*now.name)),
        "domain.note" => {
            let text = arguments.get("text").and_then(|v| v.as_str()).unwrap_or_default();
            so(text == now.facts.note.as_deref().unwrap_or_default())
        }
        _ => Unknown,
    }
}
