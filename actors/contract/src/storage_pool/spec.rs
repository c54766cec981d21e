//! What a storage pool is defined from. Which arguments a type needs, and which it cannot use, is said all at once.

use crate::{
    Effect, Fault, PoolId, Role, Target,
    command::{Command, declare},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of place a storage pool is, in libvirt's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolType {
    /// A directory of the host.
    #[default]
    Dir,
    /// A file system on a device of the host, mounted by libvirt.
    Fs,
    /// A file system of another host: NFS, CIFS or GlusterFS.
    Netfs,
    /// A volume group of LVM.
    Logical,
    /// A target of iSCSI; its volumes are its LUNs.
    Iscsi,
    /// A pool of Ceph.
    Rbd,
    /// A pool or data set of ZFS.
    Zfs,
    /// A SCSI or Fibre Channel adapter of the host.
    Scsi,
}

impl PoolType {
    /// All types.
    pub const ALL: [PoolType; 8] =
        [PoolType::Dir, PoolType::Fs, PoolType::Netfs, PoolType::Logical, PoolType::Iscsi, PoolType::Rbd, PoolType::Zfs, PoolType::Scsi];
    /// libvirt's word.
    pub fn name(self) -> &'static str {
        match self {
            PoolType::Dir => "dir",
            PoolType::Fs => "fs",
            PoolType::Netfs => "netfs",
            PoolType::Logical => "logical",
            PoolType::Iscsi => "iscsi",
            PoolType::Rbd => "rbd",
            PoolType::Zfs => "zfs",
            PoolType::Scsi => "scsi",
        }
    }
    /// Whether its volumes are files in a directory.
    pub fn holds_files(name: &str) -> bool {
        matches!(name, "dir" | "fs" | "netfs")
    }
}

/// Define a new storage pool on a hypervisor. Nothing is made or mounted, unless you ask for that too.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefinePool {
    /// Its name: letters, digits and . _ + - (at most 64).
    pub name: String,
    /// What kind of place it is.
    #[serde(default, rename = "type")]
    pub pool_type: PoolType,
    /// Where it is on the host: the directory, or where a file system is mounted.
    #[serde(default)]
    pub path: Option<String>,
    /// The other host it comes from: netfs, iscsi, and a monitor of Ceph for rbd; with :PORT if need be.
    #[serde(default)]
    pub source_host: Option<String>,
    /// The directory it comes from on the other host (netfs).
    #[serde(default)]
    pub source_dir: Option<String>,
    /// The device it lies on (fs), the devices to make it of, with commas (logical, zfs), or the target's name (iscsi).
    #[serde(default)]
    pub source_device: Option<String>,
    /// The volume group (logical), Ceph's pool (rbd), the data set (zfs) or the adapter such as host0 (scsi).
    #[serde(default)]
    pub source_name: Option<String>,
    /// The format: ext4, xfs and others (fs), nfs, cifs or glusterfs (netfs).
    #[serde(default)]
    pub source_format: Option<String>,
    /// The user it is opened as (rbd, iscsi); the secret is libvirt's.
    #[serde(default)]
    pub auth_user: Option<String>,
    /// The UUID of libvirt's secret for that user.
    #[serde(default)]
    pub auth_secret: Option<String>,
    /// Make its place too.
    #[serde(default)]
    pub build: bool,
    /// Start it too.
    #[serde(default)]
    pub start: bool,
    /// Let it start with its host.
    #[serde(default)]
    pub autostart: bool,
}
declare!(DefinePool, "storage-pool.define", Change, Admin, Hypervisor, DefinedPool);

/// The answer of `storage-pool.define`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DefinedPool {
    /// The new pool's UUID.
    pub id: PoolId,
    /// What was done.
    pub message: String,
}

/// A checked definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its name.
    pub name: String,
    /// Its type.
    pub pool_type: PoolType,
    /// Where it is on the host, if it is somewhere.
    pub target: Option<String>,
    /// The other host, and its port.
    pub host: Option<(String, Option<u16>)>,
    /// The directory on the other host.
    pub dir: Option<String>,
    /// Its devices.
    pub devices: Vec<String>,
    /// What it is called at its source.
    pub source_name: Option<String>,
    /// Its format.
    pub format: Option<String>,
    /// User and secret.
    pub auth: Option<(String, uuid::Uuid)>,
}

/// Where no pool may be: everything there belongs to the host itself, and a volume would be a file of it.
const FORBIDDEN: [&str; 12] =
    ["/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/proc", "/sys", "/root", "/run/systemd", "/dev"];

const HOST: &str = "source_host";
const DIR: &str = "source_dir";
const DEVICE: &str = "source_device";
const NAME: &str = "source_name";
const FORMAT: &str = "source_format";
const PATH: &str = "path";
const AUTH: &str = "auth_user";

/// What a type needs, and what it may have beside that.
fn fields(pool_type: PoolType) -> (&'static [&'static str], &'static [&'static str]) {
    match pool_type {
        PoolType::Dir => (&[PATH], &[]),
        PoolType::Fs => (&[DEVICE, PATH], &[FORMAT]),
        PoolType::Netfs => (&[HOST, DIR, PATH], &[FORMAT]),
        PoolType::Logical => (&[NAME], &[DEVICE, PATH]),
        PoolType::Iscsi => (&[HOST, DEVICE], &[PATH, AUTH]),
        PoolType::Rbd => (&[HOST, NAME], &[AUTH]),
        PoolType::Zfs => (&[NAME], &[DEVICE]),
        PoolType::Scsi => (&[NAME], &[PATH]),
    }
}

fn formats(pool_type: PoolType) -> &'static [&'static str] {
    match pool_type {
        PoolType::Fs => &["auto", "ext2", "ext3", "ext4", "xfs", "vfat", "ufs", "iso9660", "udf", "gfs", "gfs2", "hfs+", "ocfs2", "vmfs"],
        PoolType::Netfs => &["auto", "nfs", "glusterfs", "cifs"],
        _ => &[],
    }
}

impl DefinePool {
    /// The definition, checked; every mistake is named at once.
    pub fn spec(&self) -> Result<PoolSpec, Fault> {
        crate::domain::check_name(&self.name)?;
        let given = [
            (HOST, &self.source_host),
            (DIR, &self.source_dir),
            (DEVICE, &self.source_device),
            (NAME, &self.source_name),
            (FORMAT, &self.source_format),
            (PATH, &self.path),
            (AUTH, &self.auth_user),
        ];
        let kind = self.pool_type.name();
        let (needed, possible) = fields(self.pool_type);
        let mut wrong = Vec::new();
        for (field, value) in &given {
            match value.as_deref().map(str::trim) {
                None | Some("") if needed.contains(field) => wrong.push(format!("{field} is missing")),
                Some(text) if !text.is_empty() && !needed.contains(field) && !possible.contains(field) => {
                    wrong.push(format!("{field} means nothing for it"));
                }
                Some(text) if text.len() > 1000 || text.chars().any(char::is_control) => {
                    wrong.push(format!("{field} is too long or has control characters"));
                }
                _ => {}
            }
        }
        for (field, value) in [(PATH, &self.path), (DIR, &self.source_dir)] {
            wrong.extend(value.as_deref().and_then(|path| bad_path(path)).map(|why| format!("{field} {why}")));
        }
        let device_is_path = !matches!(self.pool_type, PoolType::Iscsi);
        let devices: Vec<String> =
            self.source_device.iter().flat_map(|d| d.split(',')).map(|d| d.trim().to_owned()).filter(|d| !d.is_empty()).collect();
        if device_is_path && devices.iter().any(|d| !d.starts_with("/dev/") || d.split('/').any(|part| part == "..")) {
            wrong.push(format!("{DEVICE} must be in /dev"));
        }
        if let Some(format) = self.source_format.as_deref().filter(|f| !formats(self.pool_type).contains(f)) {
            wrong.push(format!("{FORMAT} {format:?} is none of {}", formats(self.pool_type).join(", ")));
        }
        if self.source_name.as_deref().is_some_and(|n| n.contains("..") || n.starts_with('/')) {
            wrong.push(format!("{NAME} is no name"));
        }
        let secret = self.auth_secret.as_deref().map(str::parse::<uuid::Uuid>);
        let auth = match (self.auth_user.clone(), secret) {
            (None, None) => None,
            (Some(user), Some(Ok(secret))) => Some((user, secret)),
            _ => {
                wrong.push("auth_user and auth_secret go together, and the secret is a UUID".to_owned());
                None
            }
        };
        let host = self.source_host.as_deref().map(host_and_port);
        if host.as_ref().is_some_and(|h| h.is_none()) {
            wrong.push(format!("{HOST} is no HOST or HOST:PORT"));
        }
        if !wrong.is_empty() {
            return Err(Fault::invalid(format!("a pool of type {kind} cannot be defined so: {}", wrong.join("; "))));
        }
        Ok(PoolSpec {
            name: self.name.clone(),
            pool_type: self.pool_type,
            target: self.path.clone(),
            host: host.flatten(),
            dir: self.source_dir.clone(),
            devices,
            source_name: self.source_name.clone(),
            format: self.source_format.clone(),
            auth,
        })
    }
}

fn bad_path(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') || path.split('/').any(|part| part == ".." || part == ".") {
        return Some("must begin with / and cannot have . or .. in it");
    }
    let plain = path.trim_end_matches('/');
    let inside = |dir: &str| plain == dir || plain.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    // Where device nodes of LVM, iSCSI and SCSI appear is a place of the host by its nature.
    let devices = inside("/dev/disk") || (inside("/dev") && plain.matches('/').count() == 2 && !inside("/dev/shm"));
    if plain.is_empty() || (FORBIDDEN.iter().any(|dir| inside(dir)) && !devices) {
        return Some("belongs to the host itself; choose a directory of its own, such as /var/lib/libvirt/images/NAME");
    }
    None
}

fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let named = |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            port.parse().ok().filter(|_| named(host)).map(|port| (host.to_owned(), Some(port)))
        }
        _ => named(text).then(|| (text.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pool_type: PoolType) -> DefinePool {
        let text = |s: &str| Some(s.to_owned());
        let (needed, _) = fields(pool_type);
        let when = |field: &str, value: &str| if needed.contains(&field) { text(value) } else { None };
        DefinePool {
            name: "p".into(),
            pool_type,
            path: when(PATH, "/srv/p"),
            source_host: when(HOST, "nas.example:3260"),
            source_dir: when(DIR, "/export/p"),
            source_device: when(DEVICE, "/dev/sdb1"),
            source_name: when(NAME, "vg0"),
            source_format: None,
            auth_user: None,
            auth_secret: None,
            build: false,
            start: false,
            autostart: false,
        }
    }

    #[test]
    fn each_type_needs_its_own_and_says_all_that_is_wrong() {
        for pool_type in PoolType::ALL {
            assert!(of(pool_type).spec().is_ok(), "{pool_type:?}: {:?}", of(pool_type).spec());
        }
        let nothing = DefinePool { path: None, source_host: None, source_dir: None, ..of(PoolType::Netfs) };
        let said = nothing.spec().unwrap_err().message;
        assert!(said.contains("source_host is missing; source_dir is missing; path is missing"), "{said}");
        let too_much = DefinePool { source_host: Some("h".into()), ..of(PoolType::Dir) }.spec().unwrap_err().message;
        assert!(too_much.contains("source_host means nothing"), "{too_much}");
        assert_eq!(of(PoolType::Iscsi).spec().unwrap().host, Some(("nas.example".into(), Some(3260))));
    }

    #[test]
    fn no_pool_is_where_the_host_lives() {
        for bad in ["/", "/etc", "/etc/libvirt", "/usr/share/../x", "relative", "/proc/1", "/dev", "/dev/shm", "/root", "/a/./b"] {
            assert!(DefinePool { path: Some(bad.into()), ..of(PoolType::Dir) }.spec().is_err(), "{bad}");
        }
        assert!(DefinePool { path: Some("/etcetera".into()), ..of(PoolType::Dir) }.spec().is_ok());
        assert!(DefinePool { path: Some("/dev/vg0".into()), ..of(PoolType::Logical) }.spec().is_ok());
        assert!(DefinePool { path: Some("/dev/disk/by-path".into()), ..of(PoolType::Scsi) }.spec().is_ok());
    }

    #[test]
    fn a_device_is_a_device() {
        for bad in ["/etc/passwd", "sdb", "/dev/../etc/passwd"] {
            assert!(DefinePool { source_device: Some(bad.into()), ..of(PoolType::Fs) }.spec().is_err(), "{bad}");
        }
        let two = DefinePool { source_device: Some("/dev/sdb, /dev/sdc".into()), ..of(PoolType::Logical) }.spec().unwrap();
        assert_eq!(two.devices, ["/dev/sdb", "/dev/sdc"]);
        let iqn = DefinePool { source_device: Some("iqn.2026-01.example:p".into()), ..of(PoolType::Iscsi) };
        assert!(iqn.spec().is_ok());
        let half = DefinePool { auth_user: Some("admin".into()), ..of(PoolType::Rbd) };
        assert!(half.spec().unwrap_err().message.contains("go together"));
        assert!(DefinePool { source_format: Some("ntfs".into()), ..of(PoolType::Fs) }.spec().is_err());
    }
}
