//! What may be asked about volumes. All of it goes to their pool.

use super::{NewVolume, Preallocation, Volume, VolumeFormat, VolumeKind, VolumeUser, check_capacity, check_volume_name, parse_place};
use crate::{
    Bytes, Effect, Fault, Role, Target,
    command::{Command, Done, Started, declare},
    ticket::{Proof, Ticket},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// List the volumes of a storage pool.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListVolumes {
    /// Which ones: all, disks, or media to install from.
    pub kind: VolumeKind,
}
declare!(ListVolumes, "volume.list", Read, Viewer, StoragePool, Vec<Volume>);

/// Show everything known about a volume of a storage pool.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowVolume {
    /// Its name in the pool.
    pub volume: String,
}
declare!(ShowVolume, "volume.info", Read, Viewer, StoragePool, Volume);

/// List the virtual machines that use a volume, on whichever host they are; those included whose disks are built on it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListVolumeUsers {
    /// Its name in the pool.
    pub volume: String,
}
declare!(ListVolumeUsers, "volume.users", Read, Viewer, StoragePool, Vec<VolumeUser>);

/// Make a new, empty volume in a storage pool.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVolume {
    /// Its name in the pool: letters, digits and . _ + - (at most 200).
    pub volume: String,
    /// Its size as the guest sees it, for example 20GiB; without one it is as large as the volume it is built on.
    #[serde(default)]
    pub capacity: Option<Bytes>,
    /// How it is written.
    #[serde(default)]
    pub format: VolumeFormat,
    /// What of it is taken from the pool at once.
    #[serde(default)]
    pub preallocation: Preallocation,
    /// The volume it is built on, as POOL/VOLUME; it holds only what differs from that (qcow2 only).
    #[serde(default)]
    pub backing: Option<String>,
}
declare!(CreateVolume, "volume.create", Change, Admin, StoragePool, Done);

impl CreateVolume {
    /// The request, checked as far as nobody need be asked.
    pub fn spec(&self) -> Result<NewVolume, Fault> {
        check_volume_name(&self.volume)?;
        if let Some(capacity) = self.capacity {
            check_capacity(capacity)?;
        }
        let backing = self.backing.as_deref().map(parse_place).transpose()?;
        match (self.format, self.preallocation, &backing) {
            (VolumeFormat::Raw, _, Some(_)) => Err(Fault::invalid("a raw volume cannot be built on another; use the format qcow2")),
            (VolumeFormat::Raw, Preallocation::Metadata, _) => {
                Err(Fault::invalid("a raw volume has no tables to allocate; choose the preallocation none or full"))
            }
            (_, Preallocation::Metadata | Preallocation::Full, Some(_)) => {
                Err(Fault::invalid("what is built on another volume takes only what differs; leave the preallocation away"))
            }
            (_, _, None) if self.capacity.is_none() => Err(Fault::invalid("say how large it shall be, for example --capacity 20GiB")),
            _ => Ok(NewVolume {
                name: self.volume.clone(),
                capacity: self.capacity,
                format: self.format,
                preallocation: self.preallocation,
                backing,
            }),
        }
    }
}

/// Change the size of a volume that no running machine uses. The guest's file system does not grow by itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeVolume {
    /// Its name in the pool.
    pub volume: String,
    /// Its new size, for example 40GiB.
    pub capacity: Bytes,
    /// Let it become smaller: whatever the guest has written beyond the new size is lost.
    #[serde(default)]
    pub shrink: bool,
}
declare!(ResizeVolume, "volume.resize", Change, Admin, StoragePool, Done);

/// Copy a volume within its pool, or to another pool of the same host, and follow it until it is whole.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneVolume {
    /// Its name in the pool.
    pub volume: String,
    /// The name of the copy.
    pub to: String,
    /// The pool the copy shall be in; its own when not given.
    #[serde(default)]
    pub pool: Option<String>,
}
declare!(CloneVolume, "volume.clone", Change, Admin, StoragePool, Started);

/// Write a volume anew in another format, and follow it. libvirt cannot change a format: it is copied, and the copy takes its place
/// when it is whole.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvertVolume {
    /// Its name in the pool.
    pub volume: String,
    /// The format it shall have.
    pub format: VolumeFormat,
    /// Leave it as it is and give what is converted this name.
    #[serde(default)]
    pub to: Option<String>,
}
declare!(ConvertVolume, "volume.convert", Change, Admin, StoragePool, Started);

/// Overwrite the content of a volume that no machine uses, so that nobody can read it any more. A sparse file is emptied, not
/// overwritten. It cannot be stopped half-way.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WipeVolume {
    /// Its name in the pool.
    pub volume: String,
}
declare!(WipeVolume, "volume.wipe", Destroy, Admin, StoragePool, Started);

/// Give a volume that no machine uses another name in its pool.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameVolume {
    /// Its name in the pool.
    pub volume: String,
    /// Its new name.
    pub to: String,
}
declare!(RenameVolume, "volume.rename", Change, Admin, StoragePool, Done);

/// Delete a volume that no machine uses, and all that is on it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteVolume {
    /// Its name in the pool.
    pub volume: String,
}
declare!(DeleteVolume, "volume.delete", Destroy, Admin, StoragePool, Done);

/// Ask for a ticket to send the contents of a new volume over HTTP. What comes is kept as it is, whatever its format; what is cut off
/// can be gone on with.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadVolume {
    /// Its name in the pool: letters, digits and . _ + - (at most 200).
    pub volume: String,
    /// The SHA-256 of a secret of the client, in base64url; the ticket opens only together with that secret.
    pub proof: Proof,
    /// Go on with an upload that was cut off, instead of beginning anew.
    #[serde(default)]
    pub resume: bool,
}
declare!(UploadVolume, "volume.upload", Change, Admin, StoragePool, VolumeTicket);

/// Ask for a ticket to fetch the contents of a volume over HTTP.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DownloadVolume {
    /// Its name in the pool.
    pub volume: String,
    /// The SHA-256 of a secret of the client, in base64url; the ticket opens only together with that secret.
    pub proof: Proof,
}
declare!(DownloadVolume, "volume.download", Read, Admin, StoragePool, VolumeTicket);

/// The answer of `volume.upload` and `volume.download`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumeTicket {
    /// What opens it.
    pub ticket: Ticket,
    /// How many bytes are there already, when an upload is gone on with, or how many there are to fetch.
    pub bytes: Bytes,
    /// What it is. Lower case, no full stop.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create() -> CreateVolume {
        CreateVolume {
            volume: "a".into(),
            capacity: Some(Bytes::MIB),
            format: VolumeFormat::Qcow2,
            preallocation: Preallocation::None,
            backing: None,
        }
    }

    #[test]
    fn what_cannot_be_made_is_said_before_anybody_is_asked() {
        assert!(create().spec().is_ok());
        let backed = || Some("default/base.qcow2".to_owned());
        assert!(CreateVolume { backing: backed(), capacity: None, ..create() }.spec().is_ok());
        let bad = [
            CreateVolume { capacity: None, ..create() },
            CreateVolume { capacity: Some(Bytes(0)), ..create() },
            CreateVolume { capacity: Some(Bytes(10 << 60)), ..create() },
            CreateVolume { volume: "../a".into(), ..create() },
            CreateVolume { format: VolumeFormat::Raw, backing: backed(), ..create() },
            CreateVolume { format: VolumeFormat::Raw, preallocation: Preallocation::Metadata, ..create() },
            CreateVolume { preallocation: Preallocation::Full, backing: backed(), ..create() },
            CreateVolume { backing: Some("/etc/passwd".into()), ..create() },
        ];
        for wrong in bad {
            assert_eq!(wrong.spec().unwrap_err().kind, crate::FaultKind::InvalidRequest, "{wrong:?}");
        }
    }
}
