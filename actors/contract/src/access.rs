//! Who may ask for what. This is the only comparison of a role with what a command needs; it runs before the actor.

use crate::{Fault, FaultKind, OperationId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an account may do. Each role may do everything the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees everything, changes nothing.
    Viewer,
    /// May do everything.
    Admin,
}

impl Role {
    /// The name as written in configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Admin => "admin",
        }
    }
    /// Whether somebody with this role may use a command that needs `needed`.
    pub fn covers(self, needed: Role) -> bool {
        self >= needed
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        [Role::Viewer, Role::Admin].into_iter().find(|r| r.name() == s).ok_or_else(|| format!("{s:?} is not a role (admin or viewer)"))
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
}
