//! Where something lies, told so that other hosts can compare it: what the kernel says of its file system or device.

use archipel_contract::volume::{FileId, Ground, Place};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::hypervisor::is_local_qemu;

/// File systems that one kernel alone has mounted.
const LOCAL: [&str; 16] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "reiserfs", "tmpfs", "ramfs", "vfat", "exfat", "ntfs3",
    "squashfs",
];
/// Shares whose inodes are the same on every host that mounts them.
const SHARES: [&str; 9] = ["nfs", "nfs4", "ceph", "gfs2", "ocfs2", "gpfs", "lustre", "beegfs", "fuse.glusterfs"];
/// Shares whose inodes each host may count for itself.
const NAMED: [&str; 8] = ["cifs", "smb3", "9p", "virtiofs", "afs", "fuse.ceph", "fuse.quobyte", "fuse.sshfs"];
/// What `exportfs` has told the kernel to export, and what it was to.
const EXPORTS: [&str; 2] = ["/var/lib/nfs/etab", "/etc/exports"];

/// The boot of the kernel below this libvirt, if this process runs on the same.
pub(crate) fn kernel(uri: &str) -> Option<String> {
    let boot = || Some(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned());
    match uri {
        _ if is_local_qemu(uri) => boot(),
        // What libvirt's test driver has is in this process.
        _ if uri.starts_with("test:") => Some(format!("{} {} {uri}", boot().unwrap_or_default(), std::process::id())),
        _ => None,
    }
}

/// What of this host decides where something lies.
struct Terrain {
    kernel: Option<String>,
    mounts: String,
    exports: Vec<String>,
}

/// Where each of these lies.
pub(super) fn places(uri: &str, paths: Vec<String>) -> Vec<Place> {
    let kernel = kernel(uri);
    if !is_local_qemu(uri) {
        return paths.into_iter().map(|path| elsewhere(path, kernel.clone())).collect();
    }
    let exports = EXPORTS.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let exports = exports.flat_map(|text| exported(&text)).collect();
    let terrain = Terrain { kernel, mounts: std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), exports };
    paths.into_iter().map(|path| terrain.place(path)).collect()
}

/// A path that this process cannot look at; with a kernel, one of the test driver's, which nobody else has.
fn elsewhere(path: String, kernel: Option<String>) -> Place {
    if kernel.is_none() {
        return Place::unknown(path);
    }
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    Place { path, kernel, file: Some(FileId { device: 0, inode: hasher.finish() }), ground: Ground::Local, alone: true }
}

impl Terrain {
    fn place(&self, path: String) -> Place {
        let unknown = Place { kernel: self.kernel.clone(), ..Place::unknown(path) };
        if !unknown.path.starts_with('/') {
            return Place { ground: Ground::Named(unknown.path.clone()), ..unknown };
        }
        let real = nearest(Path::new(&unknown.path));
        let Ok(there) = std::fs::metadata(&real) else {
            return Place { ground: ground(&self.mounts, &real), ..unknown };
        };
        if there.file_type().is_block_device() {
            let (id, alone) = device(&PathBuf::from(format!("/sys/dev/block/{}:{}", major(there.rdev()), minor(there.rdev()))));
            let file = Some(FileId { device: there.rdev(), inode: 0 });
            return Place { file, ground: id.map_or(Ground::Unknown, Ground::Device), alone, ..unknown };
        }
        let ground = ground(&self.mounts, &real);
        let alone = ground == Ground::Local && !self.exports.iter().any(|dir| real.starts_with(dir));
        Place { file: Some(FileId { device: there.dev(), inode: there.ino() }), ground, alone, ..unknown }
    }
}

/// The path without links, as far down as it exists.
fn nearest(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (std::fs::canonicalize(above), path.strip_prefix(above)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

/// The innermost mount of a path, from the text of `mountinfo`: `ID PARENT DEV ROOT MOUNTPOINT OPTIONS ... - TYPE SOURCE OPTIONS`.
/// Later lines cover earlier ones.
fn ground(table: &str, path: &Path) -> Ground {
    let mut best: Option<(usize, &str, String)> = None;
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
        let (Some(root), Some(point)) = (left.next().map(unescaped), left.next().map(unescaped)) else { continue };
        let (Some(kind), Some(source)) = (right.next(), right.next().map(unescaped)) else { continue };
        if let Ok(rest) = path.strip_prefix(&point)
            && best.as_ref().is_none_or(|(length, ..)| point.len() >= *length)
        {
            let within = format!("{source}/{root}/{}", rest.display());
            best = Some((point.len(), kind, within));
        }
    }
    let Some((_, kind, within)) = best else { return Ground::Unknown };
    let name = within.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    match kind {
        _ if LOCAL.contains(&kind) => Ground::Local,
        _ if SHARES.contains(&kind) => Ground::Share(format!("{} {name}", if kind == "nfs4" { "nfs" } else { kind })),
        _ if NAMED.contains(&kind) => Ground::Named(format!("{kind} {name}")),
        _ => Ground::Unknown,
    }
}

fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// The directories that a list of exports names.
fn exported(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let first = |line: &str| line.trim_matches('"').split(['\t', ' ', '"']).next().map(unescaped);
    lines.filter_map(first).filter(|dir| dir.starts_with('/')).collect()
}

/// How a device calls itself on every host that has it, and whether only this host can have it: by its directory below `/sys`.
fn device(sys: &Path) -> (Option<String>, bool) {
    let Ok(real) = std::fs::canonicalize(sys) else { return (None, false) };
    let read = |dir: &Path, name: &str| {
        let text = std::fs::read_to_string(dir.join(name)).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let (whole, part) = match read(&real, "partition") {
        Some(number) => (real.parent().unwrap_or(&real).to_owned(), format!(" part {number}")),
        None => (real.clone(), String::new()),
    };
    let id = ["dm/uuid", "md/uuid", "wwid", "device/wwid"].iter().find_map(|name| read(&whole, name));
    // What it is made of decides; what hangs on SATA or on this machine's own PCI bus hangs on no other.
    let below: Vec<PathBuf> = std::fs::read_dir(whole.join("slaves")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    let alone = if below.is_empty() {
        let is_sata = whole.components().any(|c| c.as_os_str().to_str().is_some_and(|c| c.starts_with("ata")));
        is_sata || read(&whole, "device/transport").as_deref() == Some("pcie")
    } else {
        below.iter().all(|part| device(part).1)
    };
    (id.map(|id| format!("{id}{part}")), alone)
}

/// The kernel's numbers of a device as the C library takes them apart.
fn major(device: u64) -> u64 {
    ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff)
}
fn minor(device: u64) -> u64 {
    (device & 0xff) | ((device >> 12) & !0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_says_what_a_path_lies_on() {
        let table = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n30 21 0:40 / /srv rw - nfs4 nas:/export/ rw\n\
                     31 30 0:41 /vms /srv/with\\040space rw - nfs nas:/export rw\n33 21 0:43 / /mnt rw - fuse.strange x rw\n\
                     34 21 0:44 / /win rw - cifs //nas/vms rw\n35 21 0:45 / /old rw - nfs nas:/a rw\n36 21 8:2 / /old rw - xfs /dev/sdb rw\n";
        let on = |path: &str| ground(table, Path::new(path));
        assert_eq!(on("/var/lib/x.img"), Ground::Local);
        assert_eq!(on("/srvother/x"), Ground::Local);
        assert_eq!(on("/srv/vms/x"), Ground::Share("nfs nas:/export/vms/x".into()));
        assert_eq!(on("/srv/with space/x"), on("/srv/vms/x"), "the same file, mounted deeper and with an older protocol");
        assert_eq!(on("/mnt/x"), Ground::Unknown);
        assert_eq!(on("/win/x"), Ground::Named("cifs nas/vms/x".into()));
        assert_eq!(on("/old/x"), Ground::Local, "the later mount covers the earlier one");
        assert_eq!(ground("", Path::new("/x")), Ground::Unknown);
    }

    #[test]
    fn what_is_exported_is_not_this_hosts_alone() {
        let text = "# none\n/srv/vm\t10.0.0.0/8(rw,sync)\n\"/srv/with\\040space\" *(ro)\n\nnonsense\n";
        assert_eq!(exported(text), ["/srv/vm", "/srv/with space"]);
        let dir = tempfile::tempdir().unwrap();
        let (path, terrain) = (dir.path().join("a.img"), |exports: Vec<String>| Terrain {
            kernel: None,
            mounts: "1 0 8:1 / / rw - ext4 /dev/sda rw".into(),
            exports,
        });
        std::fs::write(&path, "x").unwrap();
        let place = |exports| terrain(exports).place(path.to_str().unwrap().to_owned());
        assert!(place(vec![]).alone && place(vec![]).file.is_some());
        let real = std::fs::canonicalize(dir.path()).unwrap();
        assert!(!place(vec![real.to_str().unwrap().to_owned()]).alone);
        std::fs::remove_file(&path).unwrap();
        let gone = place(vec![]);
        assert_eq!((gone.file, gone.ground, gone.alone), (None, Ground::Local, false));
    }

    #[test]
    fn one_file_is_one_place_by_whatever_path() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "x").unwrap();
        std::os::unix::fs::symlink(&a, &b).unwrap();
        std::fs::write(dir.path().join("c"), "x").unwrap();
        let paths = ["a", "b", "c", "d"].map(|n| dir.path().join(n).to_str().unwrap().to_owned());
        let found = places("qemu:///system", paths.to_vec());
        assert!(found[0].may_be(&found[1]) && !found[0].may_be(&found[2]) && !found[0].may_be(&found[3]), "{found:?}");
        let (net, far) = (&places("qemu:///system", vec!["vms/a".into()])[0], &places("qemu+ssh://h/system", vec!["/i/a".into()])[0]);
        assert_eq!((net.ground.clone(), far.clone()), (Ground::Named("vms/a".into()), Place::unknown("/i/a")));
        let test = places("test:///default", vec!["/p/a".into(), "/p/b".into()]);
        assert!(test[0].may_be(&test[0]) && !test[0].may_be(&test[1]) && test[0].alone);
    }

    #[test]
    fn a_device_is_known_by_what_it_calls_itself() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("ata1/sda/device/wwid", "naa.1\n");
        put("ata1/sda/sda1/partition", "1\n");
        put("rport-1/sdb/device/wwid", "naa.2\n");
        put("dm-0/dm/uuid", "LVM-abc\n");
        put("dm-0/slaves/none/x", "");
        std::os::unix::fs::symlink(dir.path().join("ata1/sda/sda1"), dir.path().join("dm-0/slaves/sda1")).unwrap();
        let of = |path: &str| device(&dir.path().join(path));
        assert_eq!(of("ata1/sda"), (Some("naa.1".into()), true));
        assert_eq!(of("ata1/sda/sda1"), (Some("naa.1 part 1".into()), true));
        assert_eq!(of("rport-1/sdb"), (Some("naa.2".into()), false));
        assert_eq!(of("dm-0"), (Some("LVM-abc".into()), false), "one of its parts may be elsewhere too");
        std::fs::remove_dir_all(dir.path().join("dm-0/slaves/none")).unwrap();
        assert_eq!(of("dm-0"), (Some("LVM-abc".into()), true));
        assert_eq!(of("none"), (None, false));
        assert_eq!((major(0x0803), minor(0x0803)), (8, 3));
    }
}
