//! Machines for elsewhere: one that is off becomes an appliance (OVA), which other products and other cells take in. Pure, but for the port.
//!
//! ```text
//!   off --its turn: off?--> being copied: each disk packed (vmdk) --> described (ovf), summed (mf) --> POOL/NAME.ova
//!                              \-- fails, is cancelled: nothing of it is left
//! ```

use crate::{
    BoxFuture, Bytes, DomainId, Effect, Fault, PoolId, Role, Target,
    command::{Command, Started, declare},
    volume::{Unused, check_volume_name},
    work::Follower,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is in an appliance is named after it, and a name in an archive has at most a hundred bytes.
const LONGEST: usize = 80;

/// Write a machine that is off as an appliance (OVA) into a pool, to be downloaded and taken to another product or another cell. The
/// machine stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportDomain {
    /// The pool that the appliance is written to.
    pub pool: String,
    /// The name of its volume; without one NAME.ova.
    #[serde(default)]
    pub name: Option<String>,
    /// Put its disks on SATA and its cards on e1000, which every product knows; without it they stay as they are.
    #[serde(default)]
    pub portable: bool,
}
declare!(ExportDomain, "domain.export", Change, Admin, Domain, Started);

impl ExportDomain {
    /// The name of the volume, for a machine of that name. A name that does not end in `.ova` is refused: nobody would know what it is.
    pub fn volume(&self, machine: &str) -> Result<String, Fault> {
        let name = self.name.clone().unwrap_or_else(|| format!("{machine}.ova"));
        check_volume_name(&name)?;
        if !name.ends_with(".ova") {
            return Err(Fault::invalid("an appliance's name ends in .ova"));
        }
        if name.len() > LONGEST {
            return Err(Fault::invalid(format!(
                "the name of an appliance has at most {LONGEST} characters; say a shorter one with --name"
            )));
        }
        Ok(name)
    }
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// How many bytes it has.
    pub size: Bytes,
    /// What of the machine is not in it, and what else people should know.
    pub remarks: Vec<String>,
}

/// What the inside needs of a hypervisor to give machines out.
pub trait ExportPort: Send + Sync {
    /// Writes a machine that is off as the appliance `to`; `disks` prove that nobody else writes to what is copied. When it fails or is
    /// stopped, nothing of it is left. Refused with `conflict` when there is something of that name.
    fn export(
        &self,
        domain: DomainId,
        to: (PoolId, String),
        disks: Vec<Unused>,
        portable: bool,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<Exported, Fault>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_appliance_is_called_like_its_machine_or_as_is_said() {
        let ask = |name: Option<&str>| ExportDomain { pool: "default".into(), name: name.map(Into::into), portable: false };
        assert_eq!(ask(None).volume("web1").unwrap(), "web1.ova");
        assert_eq!(ask(Some("for-anna.ova")).volume("web1").unwrap(), "for-anna.ova");
        assert!(ask(None).volume(&"w".repeat(77)).is_err());
        for bad in ["../web1.ova", "web1", "web1.qcow2", "", ".ova/..", "a\u{0}.ova"] {
            assert!(ask(Some(bad)).volume("web1").is_err(), "{bad}");
        }
    }
}
