//! A volume: one disk image in a storage pool. It is a row of its pool, not an actor, and a disco node, not an address.
//!
//! ```text
//!            create, upload, clone, convert                    attached to a machine: users
//!   (nothing) -----------------------------> available <------------------------------------> in use, not deleted
//!       ^   \                                    |
//!       |    \-- begun and not ended: unfinished | its content names files outside of any pool, or is broken: refused
//!       +------------------ delete --------------+
//! ```
//! What is copied is made under a name that ends with [`UNFINISHED`] and gets its own name when it is whole, so that what was
//! interrupted is recognised, whoever interrupted it.

mod ask;
mod port;
mod usage;

pub use ask::*;
pub use port::{CopySpec, NewVolume, Sink, Source, UploadSpec, VolumePort};
pub use usage::{Attachment, DomainVolume, Landscape, PlacedVolume, VolumeUser, check_empty_pool};

use crate::{Bytes, Epoch, Fault, HypervisorName, Seq};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the name of a volume ends whose copy has not ended, or was interrupted.
pub const UNFINISHED: &str = ".archipel-part";

/// How the name of a volume ends that tells one machine what it is at its first boot.
pub const SEED: &str = "-seed.iso";

/// The largest volume: 1 EiB.
pub const LARGEST: Bytes = Bytes(1 << 60);

/// A volume as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Volume {
    /// `POOL-UUID/NAME`, unique in the cell.
    pub id: String,
    /// The bare JID of its pool.
    pub jid: String,
    /// Its name in the pool.
    pub name: String,
    /// `available`, `refused` when it cannot be a disk, or `unfinished` when a copy to it goes on or was interrupted.
    pub state: String,
    /// The hypervisor its pool is on.
    pub host: HypervisorName,
    /// The epoch of its pool.
    pub epoch: Epoch,
    /// The number of its pool's last event.
    pub seq: Seq,
    /// The rest.
    #[serde(flatten)]
    pub facts: VolumeFacts,
}

/// What libvirt says about a volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeFacts {
    /// `file`, `block`, `dir`, `network` ...
    #[serde(rename = "type")]
    pub volume_type: String,
    /// `raw`, `qcow2`, `iso` ... where libvirt says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Its size as a guest sees it, in bytes.
    pub capacity: Bytes,
    /// What it takes on the pool, in bytes.
    pub allocation: Bytes,
    /// Where it is on the host.
    pub path: String,
    /// The image it is built on, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<String>,
    /// Why it cannot be a disk, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl VolumeFacts {
    /// Refuses what would not grow it, unless it shall shrink.
    pub fn check_growth(&self, name: &str, capacity: Bytes, shrink: bool) -> Result<(), Fault> {
        if capacity < self.capacity && !shrink {
            let now = self.capacity;
            return Err(Fault::invalid(format!(
                "{name} has {now}, and what lies beyond {capacity} would be lost; say --shrink if it may be"
            )));
        }
        Ok(())
    }
}

/// A volume as a hypervisor lists it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VolumeRecord {
    /// Its name in the pool.
    pub name: String,
    /// The rest.
    pub facts: VolumeFacts,
}

impl VolumeRecord {
    /// The word for how it is.
    pub fn state(&self) -> &'static str {
        if self.name.ends_with(UNFINISHED) {
            "unfinished"
        } else if self.facts.refused.is_some() {
            "refused"
        } else {
            "available"
        }
    }
    /// Whether it is a medium rather than a disk.
    pub fn is_iso(&self) -> bool {
        self.facts.format.as_deref() == Some("iso")
    }
}

/// How a volume that is made here is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeFormat {
    /// The bytes themselves.
    Raw,
    /// QEMU's own format: grows as it is written, knows snapshots and backing images.
    #[default]
    Qcow2,
}

impl VolumeFormat {
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            VolumeFormat::Raw => "raw",
            VolumeFormat::Qcow2 => "qcow2",
        }
    }
}

/// What of a new volume is taken from its pool at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preallocation {
    /// Nothing: it grows as it is written.
    #[default]
    None,
    /// The tables of a qcow2 image.
    Metadata,
    /// All of it: the guest never finds the pool full.
    Full,
}

/// Which volumes go with their machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WithVolumes {
    /// None of them.
    #[default]
    None,
    /// All that no other machine uses and that it does not only read.
    All,
}

/// Which volumes to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// All.
    #[default]
    All,
    /// Disks.
    Disk,
    /// Media to install from.
    Iso,
}

/// Checks the name of a volume that is to be made. What others made may be called otherwise and is handled all the same.
pub fn check_volume_name(name: &str) -> Result<(), Fault> {
    let fits = !name.is_empty()
        && name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        && name.as_bytes()[0].is_ascii_alphanumeric();
    let shown: String = name.chars().take(80).collect();
    if !fits {
        return Err(Fault::invalid(format!(
            "{shown:?} cannot be the name of a volume: use letters, digits and . _ + -, begin with a letter or digit, at most 200"
        )));
    }
    if name.ends_with(UNFINISHED) {
        return Err(Fault::invalid(format!("{shown:?} ends like the name of an unfinished copy; choose another ending than {UNFINISHED}")));
    }
    Ok(())
}

/// Checks the size of a volume.
pub fn check_capacity(capacity: Bytes) -> Result<(), Fault> {
    if capacity.0 == 0 {
        return Err(Fault::invalid("a volume of 0 bytes holds nothing; give it a capacity such as 10GiB"));
    }
    if capacity > LARGEST {
        return Err(Fault::invalid(format!("{capacity} is more than a volume can have ({LARGEST}); give a smaller capacity")));
    }
    Ok(())
}

/// Reads `POOL/VOLUME`.
pub fn parse_place(text: &str) -> Result<(String, String), Fault> {
    match text.split_once('/') {
        Some((pool, volume)) if !pool.is_empty() && !volume.is_empty() && !volume.contains('/') && volume != ".." && volume != "." => {
            Ok((pool.to_owned(), volume.to_owned()))
        }
        _ => {
            let shown: String = text.chars().take(80).collect();
            Err(Fault::invalid(format!("{shown:?} does not name a volume; write POOL/VOLUME, for example default/web1.qcow2")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused_with_the_reason() {
        let long = "a".repeat(300);
        for bad in ["", "a/b", "a b", "..", ".hidden", "../x", "w\u{435}b1", "a\0", "a\n", "-rf", "x.archipel-part", long.as_str()] {
            let fault = check_volume_name(bad).unwrap_err();
            assert!(fault.message.len() < 300 && fault.message.contains("choose") || fault.message.contains("use letters"), "{bad:?}");
        }
        for good in ["a", "web1.qcow2", "Debian-12.5_amd64+1.iso", &"a".repeat(200)] {
            assert_eq!(check_volume_name(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        assert!(check_capacity(Bytes(0)).is_err() && check_capacity(Bytes(10 << 60)).is_err());
        assert!(check_capacity(Bytes(1)).is_ok() && check_capacity(LARGEST).is_ok());
    }

    #[test]
    fn a_place_is_a_pool_and_one_name() {
        assert_eq!(parse_place("p/v"), Ok(("p".into(), "v".into())));
        for bad in ["", "p", "p/", "/v", "p/../v", "p/..", "p/a/b", "/etc/passwd"] {
            assert!(parse_place(bad).is_err(), "{bad}");
        }
    }
}
