//! Who may ask for what. This is the only comparison of a role with what a command needs; it runs before the actor.

use crate::{Fault, FaultKind, OperationId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an account may do. Of people each role may do everything the ones before it may; agents are apart: they may look,
/// and say to each other what only agents may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees everything, changes nothing.
    Viewer,
    /// May do everything but what [`Role::AdminRaw`] is needed for.
    Admin,
    /// May also hand texts through that Archipel does not understand: definitions as raw XML.
    AdminRaw,
    /// The agent of a hypervisor, in its own name. No person ever has it.
    Node,
}

impl Role {
    /// The name as written in configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Admin => "admin",
            Role::AdminRaw => "admin-raw",
            Role::Node => "node",
        }
    }
    /// The role with that name, agents' included: for reading what was stored. What a person writes is parsed, and never an agent's.
    pub fn from_name(name: &str) -> Option<Role> {
        [Role::Viewer, Role::Admin, Role::AdminRaw, Role::Node].into_iter().find(|r| r.name() == name)
    }
    /// Whether somebody with this role may use a command that needs `needed`.
    pub fn covers(self, needed: Role) -> bool {
        match (self, needed) {
            (Role::Node, needed) => matches!(needed, Role::Node | Role::Viewer),
            (_, Role::Node) => false,
            (held, needed) => held >= needed,
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let known = [Role::Viewer, Role::Admin, Role::AdminRaw];
        known.into_iter().find(|r| r.name() == s).ok_or_else(|| format!("{s:?} is not a role (viewer, admin or admin-raw)"))
    }
}

/// Who asks, stamped by the edge of the stream and never read from a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The full JID the stream was bound to.
    pub jid: String,
    /// The role of that account at the time of asking.
    pub role: Role,
    /// The operation this request is; repeated requests carry the same one.
    pub operation: OperationId,
}

/// Deny by default: `Ok` only when the role covers what the command needs.
pub fn authorise(caller: &Caller, command: &str, needed: Role) -> Result<(), Fault> {
    if caller.role.covers(needed) {
        return Ok(());
    }
    let bare = caller.jid.split('/').next().unwrap_or_default();
    Err(Fault::new(
        FaultKind::Forbidden,
        format!("{bare} has the role {} and {command} needs {}; ask an administrator", caller.role.name(), needed.name()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_may_look_and_not_touch() {
        let caller = Caller { jid: "v@c/x".into(), role: Role::Viewer, operation: OperationId::fresh() };
        assert!(authorise(&caller, "domain.info", Role::Viewer).is_ok());
        let fault = authorise(&caller, "domain.start", Role::Admin).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Forbidden);
        assert!(fault.message.contains("domain.start"));
    }

    #[test]
    fn agents_and_people_are_apart() {
        assert!(Role::Node.covers(Role::Node) && Role::Node.covers(Role::Viewer));
        assert!(!Role::Node.covers(Role::Admin) && !Role::Node.covers(Role::AdminRaw), "an agent administers nothing");
        assert!(!Role::Admin.covers(Role::Node) && !Role::Viewer.covers(Role::Node));
        assert!("node".parse::<Role>().is_err(), "no account can be given it");
    }

    #[test]
    fn each_role_of_people_covers_the_ones_before_it() {
        let ladder = [Role::Viewer, Role::Admin, Role::AdminRaw];
        for (held, role) in ladder.into_iter().enumerate() {
            for (needed, other) in ladder.into_iter().enumerate() {
                assert_eq!(role.covers(other), held >= needed, "{role:?} {other:?}");
            }
        }
    }
}
