//! Where something lies, said so that hosts can compare it: two hosts that share a directory know one file by two paths, and two
//! hosts that share nothing know two files by one path. Pure.
//!
//! ```text
//!   one kernel (hosts in namespaces), both see a file -----------------> the same when device and inode are
//!   the same name of a share and of the file in it --------------------> the same
//!   both on devices that say which they are ---------------------------> the same when they say the same
//!   both on file systems of one host alone ----------------------------> two
//!   both with inodes that hold on every host (NFS keeps its server's) --> the same when the inode and a name are
//!   else: nothing is proved --------------------------------------------> the same when the path is, or, where one of the two
//!                                                                         file systems is of an unknown kind, the file's name
//! ```
//! What is not proved to be two places counts as one: a false refusal costs a question, a wrong deletion a machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file as one kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct FileId {
    /// The device its file system is on; says nothing to another kernel.
    pub device: u64,
    /// Its number in the file system.
    pub inode: u64,
}

/// What something lies on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "id")]
pub enum Ground {
    /// A file system that one host alone has mounted.
    Local,
    /// A share, with inodes that are the same wherever it is mounted: its name, and the path in it.
    Share(String),
    /// A share whose inodes each host counts for itself, or something that is reached by its name in the network.
    Named(String),
    /// A device that says which it is, on every host that has it.
    Device(String),
    /// Nobody can tell.
    #[default]
    Unknown,
}

/// Where something lies, as one host sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// Its path there, or its name in the network.
    pub path: String,
    /// The boot of the kernel that sees it; the same on hosts that are namespaces of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The file, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileId>,
    /// What it lies on.
    #[serde(default)]
    pub ground: Ground,
    /// Whether it is certain that no other machine reaches it.
    #[serde(default)]
    pub alone: bool,
}

impl Place {
    /// A place of which nothing is known but its path.
    pub fn unknown(path: impl Into<String>) -> Place {
        Place { path: path.into(), ..Place::default() }
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether this and what another host names may be one and the same. `false` only when they are certainly two, or when nothing
    /// at all speaks for it.
    pub fn may_be(&self, other: &Place) -> bool {
        use Ground::{Device, Local, Named, Share, Unknown};
        let (mine, theirs) = (&self.ground, &other.ground);
        if let (Share(a), Share(b)) | (Named(a), Named(b)) = (mine, theirs)
            && a == b
        {
            return true;
        }
        let files = self.file.zip(other.file);
        if self.kernel.is_some()
            && self.kernel == other.kernel
            && let Some((a, b)) = files
        {
            return a == b;
        }
        let called_alike = self.path == other.path || self.name() == other.name();
        match (mine, theirs) {
            (Device(a), Device(b)) => a == b,
            (Local, Local) if files.is_some() => false,
            // The server of a share counts its files as its clients do.
            (Local | Share(_), Share(_)) | (Share(_), Local) if files.is_some() => {
                files.is_some_and(|(a, b)| a.inode == b.inode) && called_alike
            }
            (Unknown, Unknown | Named(_) | Share(_)) | (Named(_) | Share(_), Unknown) => called_alike,
            _ => self.path == other.path,
        }
    }
}

impl Place {
    /// Whether what another host names may lie in this: below a directory, or on a part of a device.
    pub fn may_hold(&self, other: &Place) -> bool {
        if let (Ground::Share(a), Ground::Share(b)) | (Ground::Named(a), Ground::Named(b)) = (&self.ground, &other.ground)
            && b.strip_prefix(a.as_str()).is_some_and(|rest| rest.starts_with('/'))
        {
            return true;
        }
        if let (Ground::Device(a), Ground::Device(b)) = (&self.ground, &other.ground)
            && b.strip_prefix(a.as_str()).is_some_and(|rest| rest.starts_with(" part "))
        {
            return true;
        }
        let elsewhere = self.kernel.is_some() && other.kernel.is_some() && self.kernel != other.kernel;
        if self.alone && elsewhere {
            return false;
        }
        let Some(rest) = other.path.strip_prefix(self.path.as_str()).filter(|_| self.path.starts_with('/')) else { return false };
        // sdb1 of sdb, nvme0n1p2 of nvme0n1, scsi-x-part1 of scsi-x; a logical volume that is called web1 is no part of one called web.
        let whole = self.path.rsplit_once('/').is_some_and(|(dir, _)| dir == "/dev" || dir.starts_with("/dev/disk/"));
        let number = rest.strip_prefix("-part").or(rest.strip_prefix('p')).unwrap_or(rest);
        let is_part = whole && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        rest.starts_with('/') || is_part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, kernel: &str, inode: u64, ground: Ground) -> Place {
        let file = (inode > 0).then_some(FileId { device: 1, inode });
        Place { path: path.into(), kernel: Some(kernel.into()), file, ground, alone: false }
    }
    fn share(id: &str) -> Ground {
        Ground::Share(id.into())
    }
    fn named(id: &str) -> Ground {
        Ground::Named(id.into())
    }
    fn device(id: &str) -> Ground {
        Ground::Device(id.into())
    }

    #[test]
    fn what_may_be_one_place_counts_as_one() {
        use Ground::{Local, Unknown};
        let cases = [
            // Ordinary hosts, each with its own images under the same path.
            (place("/i/a", "x", 7, Local), place("/i/a", "y", 7, Local), false),
            // A file system that only one of them can have mounted now: what the other misses may be this.
            (place("/i/a", "x", 7, Local), place("/i/a", "y", 0, Local), true),
            (place("/i/a", "x", 7, Local), place("/j/a", "y", 0, Local), false),
            // One export, mounted where each likes.
            (place("/m/a", "x", 7, share("nfs nas:/e/a")), place("/n/a", "y", 8, share("nfs nas:/e/a")), true),
            // The same server called otherwise.
            (place("/m/a", "x", 7, share("nfs nas:/e/a")), place("/n/a", "y", 7, share("nfs 10.0.0.9:/e/a")), true),
            // Each host has its own export under the same path.
            (place("/i/a", "x", 7, share("nfs nas:/h1/a")), place("/i/a", "y", 8, share("nfs nas:/h2/a")), false),
            (place("/i/a", "x", 7, share("nfs nas:/h1/a")), place("/i/a", "y", 0, share("nfs nas:/h2/a")), true),
            // The server of the export is a host too.
            (place("/srv/a", "x", 7, Local), place("/n/a", "y", 7, share("nfs h1:/srv/a")), true),
            (place("/srv/a", "x", 7, Local), place("/srv/a", "y", 9, share("nfs h1:/srv/a")), false),
            // Images in the network.
            (place("vms/a", "x", 0, named("vms/a")), place("vms/a", "y", 0, named("vms/a")), true),
            (place("vms/a", "x", 0, named("vms/a")), place("old/a", "y", 0, named("old/a")), false),
            // Devices: the same volume group, or two that are called alike; one that is not active says nothing.
            (place("/dev/vg/a", "x", 7, device("LVM-1")), place("/dev/vg/a", "y", 8, device("LVM-1")), true),
            (place("/dev/vg/a", "x", 7, device("LVM-1")), place("/dev/vg/a", "y", 7, device("LVM-2")), false),
            (place("/dev/vg/a", "x", 7, device("LVM-1")), place("/dev/vg/a", "y", 0, Unknown), true),
            (place("/dev/vg/a", "x", 7, device("LVM-1")), place("/dev/sdb", "y", 7, device("LVM-1")), true),
            // Nobody knows what it is.
            (place("/m/a", "x", 7, Unknown), place("/n/a", "y", 9, Unknown), true),
            (place("/m/a", "x", 7, Unknown), place("/n/b", "y", 7, Unknown), false),
            (place("/m/a", "x", 7, Unknown), place("/n/a", "y", 9, Local), false),
            // Two hosts of one kernel: it tells exactly.
            (place("/i/a", "x", 7, Local), place("/i/a", "x", 8, Local), false),
            (place("/i/a", "x", 7, Local), place("/j/b", "x", 7, Unknown), true),
            (place("/i/a", "x", 7, Local), place("/i/a", "x", 0, Local), true),
        ];
        for (a, b, one) in cases {
            assert_eq!((a.may_be(&b), b.may_be(&a)), (one, one), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn a_place_is_always_itself() {
        for ground in [Ground::Local, Ground::Unknown, share("s"), named("n"), device("d")] {
            for inode in [0, 7] {
                let mine = place("/i/a", "x", inode, ground.clone());
                assert!(mine.may_be(&mine) && Place::unknown("/i/a").may_be(&Place { kernel: None, ..mine.clone() }), "{mine:?}");
            }
        }
    }

    #[test]
    fn what_lies_in_a_place_counts_as_it() {
        use Ground::Local;
        let alone = |place: Place| Place { alone: true, ..place };
        let cases = [
            (place("/srv/vms", "x", 7, Local), place("/srv/vms/a.qcow2", "x", 9, Local), true),
            (place("/srv/vms", "x", 7, Local), place("/srv/vms2/a.qcow2", "x", 9, Local), false),
            (alone(place("/srv/vms", "x", 7, Local)), place("/srv/vms/a.qcow2", "y", 9, Local), false),
            (place("/m", "x", 7, share("nfs nas:/e")), place("/n/a", "y", 9, share("nfs nas:/e/a")), true),
            (place("/m", "x", 7, share("nfs nas:/e")), place("/n/a", "y", 9, share("nfs nas:/else/a")), false),
            (place("/dev/sdb", "x", 7, device("wwn-1")), place("/dev/sdc2", "y", 9, device("wwn-1 part 2")), true),
            (place("/dev/sdb", "x", 7, Ground::Unknown), place("/dev/sdb1", "x", 9, Ground::Unknown), true),
            (place("/dev/disk/by-id/d", "x", 7, Ground::Unknown), place("/dev/disk/by-id/d-part1", "x", 9, Ground::Unknown), true),
            (place("/dev/vg/web", "x", 7, Ground::Unknown), place("/dev/vg/web1", "x", 9, Ground::Unknown), false),
            (place("/dev/vg", "x", 0, Ground::Unknown), place("/dev/vg/web1", "y", 9, device("LVM-1")), true),
            (place("vms", "x", 0, named("vms")), place("vms/a", "y", 0, named("vms/a")), true),
        ];
        for (whole, part, holds) in cases {
            assert_eq!(whole.may_hold(&part), holds, "{whole:?} and {part:?}");
        }
    }
}
