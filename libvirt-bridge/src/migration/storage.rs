//! Whether the disks of a machine are here, or could be copied to here; and what is left of a copy that was given up.

use crate::{
    connection::{Session, Trouble},
    count::ask,
    domain::unreadable,
    fault,
    hypervisor::is_local_qemu,
    xml::read,
};
use archipel_contract::{
    Bytes, Fault,
    migration::{DiskNeed, Obstacle, ObstacleKind, Passport, Way},
};
use std::path::{Path, PathBuf};
use virt::{storage_pool::StoragePool, sys};

/// File systems that libvirt takes for shared ones (`virFileIsSharedFS`), as the kernel names them.
const SHARED: [&str; 13] =
    ["nfs", "nfs4", "gfs2", "ocfs2", "afs", "cifs", "smb3", "smbfs", "ceph", "fuse.ceph", "gpfs", "fuse.glusterfs", "fuse.quobyte"];

impl Session {
    /// What stands in the way of its disks.
    pub(super) fn disk_obstacles(&self, passport: &Passport, way: &Way) -> Result<Vec<Obstacle>, Trouble> {
        let mut found = Vec::new();
        let mut pools = None;
        for disk in &passport.disks {
            let is_copied = way.copy_storage && passport.state.is_active() && !disk.read_only;
            let trouble = match disk.kind.as_str() {
                "file" if is_copied => {
                    if pools.is_none() {
                        pools = Some(self.pools()?);
                    }
                    self.copy_trouble(disk, pools.as_deref().unwrap_or_default())?
                }
                _ if is_copied => Some(format!("is a {} disk, which libvirt does not copy to a pool; move it without copying", disk.kind)),
                "file" | "block" | "dir" => self.path_trouble(disk, passport, way),
                "volume" => self.volume_trouble(disk)?,
                "loader" if self.is_missing(disk) => Some("is not on this host; install the same firmware here".to_owned()),
                "nvram" => self.variables_trouble(disk, way),
                // An old one may well be here; it would be taken, and the guest would find that its keys do not open anything any more.
                "tpm" => Some("stays where it is while the machine is off; start it and move it while it runs".to_owned()),
                // What is reached over the network is reached from here too, or libvirt says so.
                _ => None,
            };
            let what = match disk.kind.as_str() {
                "loader" => format!("its firmware ({})", disk.source),
                "nvram" => format!("the file of its firmware's variables ({})", disk.source),
                "tpm" => "what its TPM holds".to_owned(),
                _ => format!("the disk {} ({})", disk.device, disk.source),
            };
            let message = |trouble| Obstacle::new(ObstacleKind::Disk, format!("{what} {trouble}"));
            found.extend(trouble.map(message));
        }
        Ok(found)
    }

    /// A disk that is to be there already, by its path.
    fn path_trouble(&self, disk: &DiskNeed, passport: &Passport, way: &Way) -> Option<String> {
        if self.is_missing(disk) {
            return Some("is not on this host; put it on storage that both hosts have, or copy its disks with the move".to_owned());
        }
        let matters = disk.kind == "file" && !disk.read_only && !way.trust_storage && passport.state.is_active();
        local(self.sees_files() && matters, &disk.source).map(|fs| {
            format!(
                "lies on a file system of one host ({fs}), so libvirt does not believe that both hosts have the same file; copy its \
                 disks with the move, or say that its storage is to be trusted if you know that they have"
            )
        })
    }

    /// Whether it is certain that a path is not here. Where the host is elsewhere and the path in none of its pools, only libvirt can
    /// tell, when it is tried.
    fn is_missing(&self, disk: &DiskNeed) -> bool {
        self.sees_files() && !Path::new(&disk.source).exists() && ask(|| self.connect.lookup_storage_vol_by_path(&disk.source)).is_err()
    }

    /// The variables of a machine that is off: nobody brings them, and those that are here may be left from an earlier stay.
    fn variables_trouble(&self, disk: &DiskNeed, way: &Way) -> Option<String> {
        const THEN: &str = "start it and move it while it runs";
        if self.is_missing(disk) {
            return Some(format!("is not on this host; {THEN}, or put it on storage that both hosts have"));
        }
        local(self.sees_files() && !way.trust_storage, &disk.source).map(|fs| {
            format!("lies on a file system of one host ({fs}), so what is here may be of an earlier time; {THEN}, or say that its storage is to be trusted")
        })
    }

    fn volume_trouble(&self, disk: &DiskNeed) -> Result<Option<String>, Trouble> {
        let (pool, volume) = disk.source.split_once('/').unwrap_or((&disk.source, ""));
        Ok(match ask(|| self.connect.lookup_storage_pool_by_name(pool)) {
            Err(error) if fault::is_gone(&error) => {
                Some(format!("needs the storage pool {pool}, which this host does not have; define it"))
            }
            Err(error) => return Err(error.into()),
            Ok(found) if !ask(|| found.is_active())? => Some(format!("needs the storage pool {pool}, which is stopped here; start it")),
            Ok(found) => match ask(|| found.lookup_storage_vol_by_name(volume)) {
                Ok(_) => None,
                Err(error) if fault::is_gone(&error) => {
                    Some(format!("is not in the storage pool {pool} here; refresh the pool if it was made just now"))
                }
                Err(error) => return Err(error.into()),
            },
        })
    }

    /// A disk that is to be copied: libvirt makes the file only in a running pool of that very directory.
    fn copy_trouble(&self, disk: &DiskNeed, pools: &[(StoragePool, PathBuf)]) -> Result<Option<String>, Trouble> {
        let path = Path::new(&disk.source);
        let dir = path.parent().unwrap_or(Path::new("/"));
        let Some((pool, _)) = pools.iter().find(|(_, target)| target == dir) else {
            let text =
                format!("can be copied only to a storage pool at {}, and this host has none that runs; define or start one", dir.display());
            return Ok(Some(text));
        };
        let name = pool.name()?;
        let is_there = ask(|| self.connect.lookup_storage_vol_by_path(&disk.source)).is_ok() || (self.sees_files() && path.exists());
        if is_there {
            let text = "exists here already, and copying would overwrite it; if it is left over from an earlier move, delete it, and if both \
                        hosts have the same file, move it without copying";
            return Ok(Some(text.to_owned()));
        }
        let available = Bytes(ask(|| pool.info())?.available);
        Ok(disk.capacity.filter(|need| *need > available).map(|need| {
            format!("needs {need} in the storage pool {name}, which has {available} left; make room there or choose another host")
        }))
    }

    /// The running pools with a path.
    fn pools(&self) -> Result<Vec<(StoragePool, PathBuf)>, Trouble> {
        let mut found = Vec::new();
        for pool in ask(|| self.connect.list_all_storage_pools(sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE))? {
            let xml = match ask(|| pool.xml_desc(0)) {
                Err(error) if fault::is_gone(&error) => continue,
                other => other?,
            };
            let (_, path) = read::pool(&xml).map_err(|e| unreadable("a storage pool", e))?;
            found.extend(path.map(|path| (pool, PathBuf::from(path))));
        }
        Ok(found)
    }

    /// Whether the files of that libvirt are the files this process sees.
    pub(super) fn sees_files(&self) -> bool {
        is_local_qemu(&self.uri)
    }

    /// Removes what libvirt made here for a copy that was given up: libvirt itself leaves it. Only what the machine named as a
    /// writable disk, only volumes of a running pool of that directory, and nothing while the machine is known here. The caller
    /// knows that none of it was here before ([`Session::disk_obstacles`] with `copy_storage`).
    pub(super) fn remove_copies(&self, passport: &Passport) -> Result<u32, Trouble> {
        match self.domain(passport.domain) {
            Ok(_) => {
                let name = &passport.name;
                return Err(Fault::wrong_state(format!("{name} is known here, so its disks stay; undefine it first")).into());
            }
            Err(error) if fault::is_gone(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let pools = self.pools()?;
        let mut removed = 0;
        for disk in passport.disks.iter().filter(|d| d.kind == "file" && !d.read_only) {
            let path = Path::new(&disk.source);
            let Some((pool, _)) = pools.iter().find(|(_, target)| Some(target.as_path()) == path.parent()) else { continue };
            // libvirt may have made it behind the pool's back, and finds it only after looking again.
            ask(|| pool.refresh(0))?;
            match ask(|| self.connect.lookup_storage_vol_by_path(&disk.source)).and_then(|volume| ask(|| volume.delete(0))) {
                Ok(()) => removed += 1,
                Err(error) if fault::is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }
}

/// The file system a path lies on, if that matters and it is one of this host alone.
fn local(matters: bool, path: &str) -> Option<String> {
    matters.then(|| file_system(path)).flatten().filter(|fs| !SHARED.contains(&fs.as_str()))
}

/// The kernel's name of the file system a path lies on.
fn file_system(path: &str) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    mounted_as(&std::fs::read_to_string("/proc/self/mountinfo").ok()?, &path)
}

/// The same from the text of `mountinfo`: `ID PARENT DEV ROOT MOUNTPOINT OPTIONS ... - TYPE SOURCE OPTIONS`. Later lines cover
/// earlier ones.
fn mounted_as(table: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else { continue };
        let point = point.replace("\\040", " ");
        if path.starts_with(&point) && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let table = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n30 21 0:40 / /srv rw - nfs4 nas:/srv rw\n\
                     31 30 8:2 / /srv/with\\040space rw - xfs /dev/sdb rw\n32 21 0:5 / /srv rw - ceph mon:/ rw\n";
        let kind = |path: &str| mounted_as(table, Path::new(path));
        assert_eq!(kind("/var/lib/x.img").as_deref(), Some("ext4"));
        assert_eq!(kind("/srv/x.img").as_deref(), Some("ceph"), "the later mount covers the earlier one");
        assert_eq!(kind("/srv/with space/x").as_deref(), Some("xfs"));
        assert_eq!(kind("/srvother/x").as_deref(), Some("ext4"));
        assert_eq!(mounted_as("", Path::new("/x")), None);
    }
}
