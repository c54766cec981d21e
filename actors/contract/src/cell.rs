//! The cell itself: which hosts belong to it, and how one comes in and goes.
//!
//! ```text
//!   stranger --invited, joined with the token--> member <--linked--> away
//!                                                  |  ^
//!                       left, revoked, replaced    |  | joined again, with a new token
//!                                                  v  |
//!                                                 outside
//! ```
//! These commands are the exchange's own: no actor of a host answers them.

use crate::{
    Effect, EntityId, HypervisorName, Role, Target, Timestamp,
    command::{Command, Done, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a token holds unless somebody says otherwise, in minutes.
pub const TOKEN_MINUTES: u32 = 30;
/// The longest a token can hold: a day, in minutes.
pub const LONGEST_TOKEN_MINUTES: u32 = 24 * 60;

fn token_minutes() -> u32 {
    TOKEN_MINUTES
}

/// Invite a host into the cell. The answer is a token that works once and the line to run on that host; whoever has the token can
/// join, so hand it on as you would a password.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteHost {
    /// The hypervisor the token is for. With it, a host that is away, or that was lost with its disk, is replaced; without it any new
    /// name may join.
    #[serde(default)]
    pub name: Option<HypervisorName>,
    /// For how many minutes the token holds.
    #[serde(default = "token_minutes")]
    #[schemars(range(min = 1, max = 1440))]
    pub lifetime: u32,
}
declare!(InviteHost, "cell.invite", Change, Admin, Cell, Invitation);

impl Default for InviteHost {
    fn default() -> InviteHost {
        InviteHost { name: None, lifetime: TOKEN_MINUTES }
    }
}

/// What an invited host needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invitation {
    /// What to do with it. Lower case, no full stop.
    pub message: String,
    /// The whole line to run on the other host.
    pub command: String,
    /// The token alone. Absent when the same operation is asked again after the exchange was started anew: it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where the exchange is reached, `host:port`.
    pub exchange: String,
    /// SHA-256 of the certificate of the cell's authority, by which the other host knows the exchange.
    pub fingerprint: String,
    /// The only hypervisor it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<HypervisorName>,
    /// Until when it holds, by the exchange's clock.
    pub expires: Timestamp,
}

/// List the hosts of the cell. Each with the time it joined, the end of its certificate, and what is wrong with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListMembers {}
declare!(ListMembers, "cell.members", Read, Viewer, Cell, Vec<Member>);

/// How an agent proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemberLogin {
    /// By a certificate of the cell's authority: it joined with a token.
    Certificate,
    /// By the password of an account: the exchange's own agent, or one that was set up by hand.
    Account,
}

/// Whether an agent is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// Its link stands.
    Linked,
    /// It belongs to the cell and has no link.
    Away,
}

/// One host of the cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// The name of its hypervisor.
    pub name: HypervisorName,
    /// Whether its agent is there.
    pub state: MemberState,
    /// How its agent logs in.
    pub login: MemberLogin,
    /// When it joined; absent for accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Timestamp>,
    /// Until when its certificate holds; it is renewed by itself while the host is linked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The version of its program, if it was linked since the exchange began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How far its clock is ahead of the exchange's, in seconds, as it was when it linked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset: Option<i64>,
    /// What is wrong with it, a sentence each; empty when all is well.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Take a host's certificate back. Its link is cut at once, and it comes in again only with a new token; its guests run on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeMember {
    /// The name of its hypervisor.
    pub name: HypervisorName,
}
declare!(RevokeMember, "cell.revoke", Destroy, Admin, Cell, Done);

/// Under which target the journal knows what was asked of the cell: an operation needs one, and the cell is no entity.
/// A hypervisor of that name would do no harm, because an operation is known by its id and caller.
pub fn journal_target() -> Result<EntityId, crate::id::BadId> {
    "hv.cell".parse()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::parse_arguments;
    use serde_json::json;

    #[test]
    fn an_invitation_holds_half_an_hour_for_anybody_unless_told_otherwise() {
        let plain: InviteHost = parse_arguments(json!({})).unwrap();
        assert_eq!((plain.name, plain.lifetime), (None, 30));
        let named: InviteHost = parse_arguments(json!({"name": "beta", "lifetime": 5})).unwrap();
        assert_eq!((named.name.map(|n| n.to_string()), named.lifetime), (Some("beta".into()), 5));
        assert!(parse_arguments::<InviteHost>(json!({"name": "No Name"})).is_err());
    }

    #[test]
    fn the_journal_has_a_name_for_the_cell() {
        assert!(journal_target().is_ok());
    }
}
