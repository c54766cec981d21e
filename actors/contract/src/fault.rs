//! The closed list of ways a request can fail. Each edge maps it in one `match` without a wildcard arm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What kind of failure it is. The list is closed: surfaces map it exhaustively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The request itself is wrong: unknown command, wrong type, impossible value.
    InvalidRequest,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// The caller's role does not allow it.
    Forbidden,
    /// Not in this state; it may be possible later.
    WrongState,
    /// Something with that name or id is there already.
    Conflict,
    /// Something else is using it right now.
    Busy,
    /// No answer in time; the outcome may be unknown.
    Timeout,
    /// Whoever could answer cannot be reached.
    Unavailable,
    /// This hypervisor or this build cannot do that.
    Unsupported,
    /// A defect of ours or an error we know nothing better about.
    Internal,
}

impl FaultKind {
    /// All kinds, in the order of the table in the manual.
    pub const ALL: [FaultKind; 10] = [
        FaultKind::InvalidRequest,
        FaultKind::NotFound,
        FaultKind::Forbidden,
        FaultKind::WrongState,
        FaultKind::Conflict,
        FaultKind::Busy,
        FaultKind::Timeout,
        FaultKind::Unavailable,
        FaultKind::Unsupported,
        FaultKind::Internal,
    ];

    /// The name on the wire, for example `wrong-state`.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::InvalidRequest => "invalid-request",
            FaultKind::NotFound => "not-found",
            FaultKind::Forbidden => "forbidden",
            FaultKind::WrongState => "wrong-state",
            FaultKind::Conflict => "conflict",
            FaultKind::Busy => "busy",
            FaultKind::Timeout => "timeout",
            FaultKind::Unavailable => "unavailable",
            FaultKind::Unsupported => "unsupported",
            FaultKind::Internal => "internal",
        }
    }

    /// The kind with that wire name.
    pub fn from_name(name: &str) -> Option<FaultKind> {
        FaultKind::ALL.into_iter().find(|k| k.name() == name)
    }

    /// The exit code of the command line for this kind (sysexits.h).
    pub fn exit_code(self) -> u8 {
        match self {
            FaultKind::InvalidRequest => 64,
            FaultKind::WrongState => 65,
            FaultKind::NotFound => 66,
            FaultKind::Unavailable | FaultKind::Unsupported => 69,
            FaultKind::Internal => 70,
            FaultKind::Conflict => 73,
            FaultKind::Busy | FaultKind::Timeout => 75,
            FaultKind::Forbidden => 77,
        }
    }
}

/// A failed request: the kind, a message that says what to do next, and the cause if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}{}", self.cause.as_deref().map(|c| format!(" ({c})")).unwrap_or_default())]
pub struct Fault {
    /// What kind of failure it is.
    pub kind: FaultKind,
    /// One sentence for the person who asked: what happened and what to do next. Lower case, no full stop.
    pub message: String,
    /// What lay beneath it, word for word (for example libvirt's own message).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Arc<str>>,
}

impl Fault {
    /// A fault without a deeper cause.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), cause: None }
    }
    /// The same fault with the cause kept.
    pub fn because(mut self, cause: impl std::fmt::Display) -> Fault {
        self.cause = Some(cause.to_string().into());
        self
    }
    /// The request itself is wrong.
    pub fn invalid(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::InvalidRequest, message)
    }
    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::NotFound, message)
    }
    /// Not in this state.
    pub fn wrong_state(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::WrongState, message)
    }
    /// Whoever could answer cannot be reached.
    pub fn unavailable(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::Unavailable, message)
    }
    /// A defect of ours.
    pub fn internal(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::Internal, message)
    }
    /// Something else is using it, or too much is asked at once.
    pub fn busy(message: impl Into<String>) -> Fault {
        Fault::new(FaultKind::Busy, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name() {
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), serde_json::json!(kind.name()));
            assert!((64..=77).contains(&kind.exit_code()));
        }
    }

    #[test]
    fn the_cause_is_shown_once() {
        let f = Fault::not_found("no machine web9").because("libvirt: 42");
        assert_eq!(f.to_string(), "no machine web9 (libvirt: 42)");
    }
}
