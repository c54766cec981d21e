//! What the agent inside a guest tells and does: everything here needs `qemu-guest-agent` (or its like) to answer.
//!
//! ```text
//!   thawed --guest-freeze--> frozen --guest-thaw--> thawed
//!                              \--its deadline----> thawed      (nobody may forget a frozen guest)
//! ```

use crate::{
    BoxFuture, Bytes, DomainId, Effect, Fault, Role, Target, Verdict,
    command::{Command, Done, Started, declare},
    domain::{DomainFacts, DomainState},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ask the agent in a guest for its name, system, addresses, file systems and users.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShowGuest {}
declare!(ShowGuest, "domain.guest-info", Read, Viewer, Domain, GuestInfo);

/// What a guest says of itself. It is the guest's word: whoever owns the guest may make it say anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuestInfo {
    /// Its host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Its operating system as people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Its kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Its time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Its network cards.
    pub interfaces: Vec<GuestInterface>,
    /// Its file systems.
    pub filesystems: Vec<GuestFilesystem>,
    /// Who is logged in.
    pub users: Vec<String>,
    /// Where this comes from: agent, or lease when only the addresses that its network gave out are known.
    pub source: String,
}

/// A network card as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuestInterface {
    /// Its name in the guest.
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// Its addresses with the length of their network, such as 192.0.2.7/24.
    pub addresses: Vec<String>,
}

/// A mounted file system as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuestFilesystem {
    /// Where it is mounted.
    pub mountpoint: String,
    /// Its type, for example ext4.
    pub kind: String,
    /// Its size, where the agent knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// How much is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Bytes>,
}

/// Set a guest's clock to the time of its host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyncGuestTime {}
declare!(SyncGuestTime, "domain.guest-time-sync", Change, Admin, Domain, Done);

/// Hold the file systems of a guest still, for a copy from outside. They thaw by themselves when the time is over.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FreezeGuest {
    /// After how many seconds they thaw by themselves.
    #[schemars(range(min = 1, max = 600))]
    pub deadline: u32,
}
impl Default for FreezeGuest {
    fn default() -> Self {
        FreezeGuest { deadline: 30 }
    }
}
declare!(FreezeGuest, "domain.guest-freeze", Change, Admin, Domain, Started);

/// Let the file systems of a guest go on.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThawGuest {}
declare!(ThawGuest, "domain.guest-thaw", Change, Admin, Domain, Done);

/// Give a user of a guest another password. The agent in the guest sets it; it is kept nowhere.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetGuestPassword {
    /// The user, for example root.
    pub user: String,
    /// The new password.
    pub password: String,
}
declare!(SetGuestPassword, "domain.set-guest-password", Change, Admin, Domain, Done);

/// Longest password of a guest's user, in bytes.
pub const PASSWORD_LIMIT: usize = 512;

/// How a guest is asked to power off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownMode {
    /// As the hypervisor thinks best.
    #[default]
    Any,
    /// By the power button.
    Acpi,
    /// By the agent in the guest.
    Agent,
}

/// Arguments that are never written down: the command, and the argument.
const SECRETS: [(&str, &str); 9] = [
    ("domain.create", "password"),
    // What a person writes for the guest may hold passwords too.
    ("domain.create", "user_data"),
    ("domain.create", "network_config"),
    ("domain.set-guest-password", "password"),
    // Programs are given passwords too; which program it was is written down.
    ("domain.guest-run", "arguments"),
    ("domain.guest-run", "input"),
    ("domain.paste", "text"),
    ("domain.set-screen-password", "password"),
    // A definition may hold passwords; the versions of it that are kept do not.
    ("domain.edit-xml", "xml"),
];

/// Answers that are never written down: the command, and the field.
const UNTOLD: [(&str, &str); 2] = [("domain.guest-run", "output"), ("domain.guest-run", "errors")];

/// The arguments of a command as they may be written down.
pub fn masked(command: &str, arguments: serde_json::Value) -> serde_json::Value {
    without(&SECRETS, command, arguments)
}

/// The answer of a command as it may be written down, and told again to whoever repeats the question.
pub fn masked_reply(command: &str, reply: serde_json::Value) -> serde_json::Value {
    without(&UNTOLD, command, reply)
}

fn without(list: &[(&str, &str)], command: &str, mut fields: serde_json::Value) -> serde_json::Value {
    for (_, secret) in list.iter().filter(|(of, _)| *of == command) {
        if let Some(value) = fields.get_mut(*secret).filter(|v| !v.is_null()) {
            *value = serde_json::Value::from("(not written down)");
        }
    }
    fields
}

/// What the inside needs of a hypervisor to talk with the agent in a guest.
pub trait GuestPort: Send + Sync {
    /// What the guest says of itself (`virDomainGetGuestInfo`, `virDomainInterfaceAddresses`); without an agent, the addresses that its
    /// networks gave out.
    fn info(&self, id: DomainId) -> BoxFuture<'_, Result<GuestInfo, Fault>>;
    /// Sets its clock to this time, which is that of the host (`virDomainSetTime`).
    fn sync_time(&self, id: DomainId, now: crate::Timestamp) -> BoxFuture<'_, Result<(), Fault>>;
    /// Holds its file systems still and answers how many (`virDomainFSFreeze`).
    fn freeze(&self, id: DomainId) -> BoxFuture<'_, Result<u32, Fault>>;
    /// Lets them go on and answers how many (`virDomainFSThaw`).
    fn thaw(&self, id: DomainId) -> BoxFuture<'_, Result<u32, Fault>>;
    /// Asks the guest to power off in that way (`virDomainShutdownFlags`).
    fn shutdown(&self, id: DomainId, mode: ShutdownMode) -> BoxFuture<'_, Result<(), Fault>>;
    /// Gives a user of the guest another password (`virDomainSetUserPassword`).
    fn set_password(&self, id: DomainId, user: String, password: String) -> BoxFuture<'_, Result<(), Fault>>;
    /// Runs a program in the guest and waits so long for its end (`virDomainQemuAgentCommand`). `timeout`: it goes on in the guest.
    fn run(&self, id: DomainId, program: super::Program, patience: std::time::Duration) -> BoxFuture<'_, Result<super::ProgramEnd, Fault>>;
}

/// Whether a command to a guest's agent may run on a machine with these facts.
pub fn guest_may(command: &str, facts: &DomainFacts) -> Verdict {
    use DomainState::*;
    match facts.state {
        Shutoff | Crashed => Verdict::refused("is off; start it first"),
        Paused | Pmsuspended => Verdict::refused("stands still, and so does the agent in it; resume it first"),
        Shutdown if command != "domain.guest-info" => Verdict::refused("is going down"),
        Running | Shutdown => Verdict::Allowed,
    }
}

/// Whether a name may be that of a user in a guest.
pub fn check_user(name: &str) -> Result<(), Fault> {
    if !name.is_empty() && name.len() <= 64 && !name.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':') {
        return Ok(());
    }
    Err(Fault::invalid(format!("{:?} cannot be a user of a guest; write for example root", name.chars().take(64).collect::<String>())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_secret_is_not_written_down() {
        let told = masked("domain.set-guest-password", json!({"user": "root", "password": "hunter2"}));
        assert_eq!(told, json!({"user": "root", "password": "(not written down)"}));
        assert!(!masked("domain.paste", json!({"text": "hunter2"})).to_string().contains("hunter2"));
        assert_eq!(masked("domain.note", json!({"text": "kept"})), json!({"text": "kept"}));
        assert_eq!(masked("domain.paste", json!(null)), json!(null));
        let told = masked("domain.guest-run", json!({"program": "chpasswd", "arguments": "-e", "input": null}));
        assert_eq!(told, json!({"program": "chpasswd", "arguments": "(not written down)", "input": null}));
        let told = masked_reply("domain.guest-run", json!({"message": "id ended with 0", "output": "uid=0", "errors": ""}));
        assert!(told["message"] == "id ended with 0" && !told.to_string().contains("uid"), "{told}");
    }
}
