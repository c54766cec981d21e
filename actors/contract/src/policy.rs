//! The answer to "may this happen now, and if not, why". Each noun's policy is a pure function that returns a [`Verdict`].

use crate::{Fault, FaultKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a command may run in a state, and if not, the reason for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// It may.
    Allowed,
    /// It may not, because of this. Lower case, no full stop.
    Refused(String),
}

impl Verdict {
    /// A refusal with its reason.
    pub fn refused(reason: impl Into<String>) -> Verdict {
        Verdict::Refused(reason.into())
    }
    /// `Ok` when allowed, else a wrong-state fault about `name`.
    pub fn check(self, name: &str) -> Result<(), Fault> {
        match self {
            Verdict::Allowed => Ok(()),
            Verdict::Refused(reason) => Err(Fault::new(FaultKind::WrongState, format!("{name} {reason}"))),
        }
    }
}
