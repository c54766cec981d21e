//! Backups as they lie in a pool: manifests, the files they name, and drafts of what is not whole yet.
//!
//! ```text
//!   draft written --> files written as FILE.archipel-part --> files named --> draft becomes the manifest: now it is a backup
//!        \------------------ whoever finds a draft removes all it names -----------------/
//! ```

use super::tool;
use crate::{
    connection::Trouble,
    count::ask,
    qcow2,
    volume::change::{directory, look_again, rename_file},
};
use archipel_contract::{
    Bytes, Fault, FaultKind, PoolId,
    backup::{Archive, BackupDisk, MANIFEST, MANIFEST_BYTES, Manifest},
    volume::{self, Inquiry, Landscape, Need, UNFINISHED, Unused, VolumeFormat},
    work::{Follower, percent},
};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};
use virt::{connect::Connect, storage_pool::StoragePool};

/// A piece of a file that is read through.
const PIECE: usize = 1 << 20;

/// A text that was found: what stands before the ending of its name, and what it says or why it cannot be read.
type Found = (String, Result<Vec<u8>, String>);

/// A pool whose volumes are files that this process sees.
pub(super) struct Place {
    pub(super) pool: StoragePool,
    pub(super) name: String,
    pub(super) dir: PathBuf,
}

pub(super) fn io(doing: &str, file: &Path, error: &std::io::Error) -> Trouble {
    let kind = if error.kind() == ErrorKind::PermissionDenied { FaultKind::Forbidden } else { FaultKind::Internal };
    let text = format!("{doing} {} failed; see the cause, and make room if the pool is full", file.display());
    Fault::new(kind, text).because(error).into()
}

impl Place {
    fn of(pool: StoragePool, uri: &str) -> Result<Option<Place>, Trouble> {
        let name = pool.name()?;
        if !ask(|| pool.is_active())? {
            return Err(Fault::wrong_state(format!("{name} is not started; start it first")).into());
        }
        Ok(directory(&pool, uri)?.map(|dir| Place { pool, name, dir }))
    }

    fn required(found: Option<Place>) -> Result<Place, Trouble> {
        let text = "backups go to pools whose volumes are files of the host (dir, fs, netfs); choose such a pool";
        found.ok_or_else(|| Fault::new(FaultKind::Unsupported, text).into())
    }

    pub(super) fn open(connect: &Connect, uri: &str, pool: PoolId) -> Result<Place, Trouble> {
        Place::required(Place::of(ask(|| connect.lookup_storage_pool_by_uuid(pool.0))?, uri)?)
    }

    pub(super) fn named(connect: &Connect, uri: &str, pool: &str) -> Result<Place, Trouble> {
        Place::required(Place::of(ask(|| connect.lookup_storage_pool_by_name(pool))?, uri)?)
    }

    /// The same, `None` where there can be no backups.
    pub(super) fn maybe(connect: &Connect, uri: &str, pool: PoolId) -> Result<Option<Place>, Trouble> {
        Place::of(ask(|| connect.lookup_storage_pool_by_uuid(pool.0))?, uri)
    }

    /// All that are started.
    pub(super) fn all(connect: &Connect, uri: &str) -> Result<Vec<Place>, Trouble> {
        let pools = ask(|| connect.list_all_storage_pools(virt::sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE))?;
        // One that was stopped meanwhile has nothing to look through.
        Ok(pools.into_iter().filter_map(|pool| Place::of(pool, uri).ok().flatten()).collect())
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}{MANIFEST}"))
    }

    fn draft(&self, name: &str) -> String {
        format!("{name}{MANIFEST}{UNFINISHED}")
    }

    /// The backups here.
    pub(super) fn archive(&self) -> Result<Archive, Trouble> {
        let mut archive = Archive::default();
        for (name, text) in self.texts(MANIFEST)? {
            match text.and_then(|text| Manifest::read(&name, &text)) {
                Ok(manifest) => archive.manifests.push(manifest),
                Err(why) => archive.unreadable.push((name, why)),
            }
        }
        for disk in archive.manifests.iter().flat_map(|m| &m.disks) {
            if let Ok(found) = fs::symlink_metadata(self.path(&disk.file))
                && found.is_file()
            {
                archive.files.insert(disk.file.clone(), Bytes(found.len()));
            }
        }
        archive.manifests.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
        Ok(archive)
    }

    /// What was begun here and is not whole.
    pub(super) fn drafts(&self) -> Result<Vec<Manifest>, Trouble> {
        let found = self.texts(&format!("{MANIFEST}{UNFINISHED}"))?;
        Ok(found.into_iter().filter_map(|(name, text)| Manifest::read(&name, &text.ok()?).ok()).collect())
    }

    /// The texts whose names end so, by what stands before.
    fn texts(&self, ending: &str) -> Result<Vec<Found>, Trouble> {
        let list = fs::read_dir(&self.dir).map_err(|e| io("looking through", &self.dir, &e))?;
        let mut found = Vec::new();
        for entry in list.flatten() {
            let Some(name) = entry.file_name().to_str().and_then(|n| n.strip_suffix(ending)).map(str::to_owned) else { continue };
            if !entry.file_type().is_ok_and(|t| t.is_file()) {
                continue;
            }
            let text = File::open(entry.path()).and_then(|file| {
                let mut text = Vec::new();
                file.take(MANIFEST_BYTES + 1).read_to_end(&mut text).map(|_| text)
            });
            let text = text.map_err(|e| format!("its manifest cannot be read: {e}"));
            found.push((
                name,
                text.and_then(|t| if t.len() as u64 > MANIFEST_BYTES { Err("its manifest is too large".into()) } else { Ok(t) }),
            ));
        }
        Ok(found)
    }

    /// Writes down what is going to be made, or how it has become.
    pub(super) fn write_draft(&self, manifest: &Manifest) -> Result<(), Trouble> {
        let file = self.path(&self.draft(&manifest.name));
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|e| Fault::internal("a manifest could not be written; please report this").because(e))?;
        fs::write(&file, text).and_then(|()| File::open(&file)?.sync_all()).map_err(|e| io("writing", &file, &e))
    }

    /// All files of a draft are written and read back: they get their names, and it becomes a backup.
    pub(super) fn commit(&self, manifest: &Manifest) -> Result<(), Trouble> {
        for disk in &manifest.disks {
            rename_file(&self.dir, &format!("{}{UNFINISHED}", disk.file), &disk.file, false)?;
        }
        self.write_draft(manifest)?;
        rename_file(&self.dir, &self.draft(&manifest.name), &format!("{}{MANIFEST}", manifest.name), false)?;
        // The names are on the disk before anybody is told.
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(|e| io("writing", &self.dir, &e))?;
        Ok(())
    }

    /// Refuses a name that something has.
    pub(super) fn free(&self, name: &str) -> Result<(), Trouble> {
        let taken = self.manifest(name).exists() || self.path(&self.draft(name)).exists();
        if taken {
            return Err(Fault::new(FaultKind::Conflict, format!("there is a backup {name} already; ask again in a second")).into());
        }
        Ok(())
    }

    /// Refuses a name of a file that is there, whoever it belongs to.
    pub(super) fn unwritten(&self, file: &str) -> Result<(), Trouble> {
        // A link that leads nowhere is there too.
        match fs::symlink_metadata(self.path(file)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => {
                let text = format!("there is a file {file} in {} already, which nothing is written over; move it away", self.name);
                Err(Fault::new(FaultKind::Conflict, text).into())
            }
        }
    }

    /// Refuses to delete files of a backup that somebody on this host uses, or of whom the cell was not asked.
    pub(super) fn free_of_users(&self, all: &Landscape, manifest: &Manifest, unused: &[Unused]) -> Result<(), Trouble> {
        for disk in &manifest.disks {
            let path = self.path(&disk.file);
            let text = path.to_string_lossy().into_owned();
            if fs::symlink_metadata(&path).is_ok() {
                Unused::among(unused, &text, Need::Gone)?;
                let place = volume::Place::unknown(text);
                Inquiry { name: disk.file.clone(), place, need: Need::Gone, but: None, above: Vec::new() }.check_here(all)?;
            }
        }
        Ok(())
    }

    /// Removes the files of a draft and the draft; what became a backup meanwhile stays. Says what was removed.
    pub(super) fn discard(&self, draft: &Manifest) -> Vec<String> {
        let mut gone = Vec::new();
        let mut remove = |name: String| {
            if fs::remove_file(self.path(&name)).is_ok() {
                gone.push(name);
            }
        };
        for disk in &draft.disks {
            let part = format!("{}{UNFINISHED}", disk.file);
            // As long as ours is there, what has the name is somebody else's.
            if !self.path(&part).exists() && !self.manifest(&draft.name).exists() {
                remove(disk.file.clone());
            }
            remove(part);
        }
        remove(self.draft(&draft.name));
        self.look();
        gone
    }

    /// Deletes a backup: first it is none any more, then its files go.
    pub(super) fn remove(&self, manifest: &Manifest) -> Result<(), Trouble> {
        let text = self.manifest(&manifest.name);
        fs::remove_file(&text).map_err(|e| io("deleting", &text, &e))?;
        for disk in &manifest.disks {
            let file = self.path(&disk.file);
            match fs::remove_file(&file) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(io("deleting", &file, &e)),
                _ => {}
            }
        }
        self.look();
        Ok(())
    }

    /// Lets libvirt see what is there now.
    pub(super) fn look(&self) {
        if let Err(error) = look_again(&self.pool) {
            tracing::debug!(pool = self.name, %error, "a pool could not be looked through after its files changed");
        }
    }
}

/// The length and SHA-256 of a file. `read` hears how many bytes were read in all.
pub(crate) fn digest(file: &Path, follower: &dyn Follower, read: &mut dyn FnMut(u64)) -> Result<(u64, String), Trouble> {
    let failed = |e: std::io::Error| io("reading", file, &e);
    let mut source = File::open(file).map_err(failed)?;
    let (mut hash, mut piece, mut length) = (Sha256::new(), vec![0; PIECE], 0u64);
    loop {
        if follower.is_cancelled() {
            return Err(tool::stopped().into());
        }
        match source.read(&mut piece).map_err(failed)? {
            0 => break,
            count => {
                hash.update(&piece[..count]);
                length += count as u64;
                read(length);
            }
        }
    }
    let text = hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    Ok((length, text))
}

/// Reads files through and compares them with what was written. `within` is the part of the whole work that this is, in percent.
pub(super) fn verify(place: &Place, disks: &[&BackupDisk], follower: &dyn Follower, within: (u64, u64)) -> Result<(), Trouble> {
    let whole: u64 = disks.iter().map(|d| d.length.0).sum();
    let mut before = 0;
    for disk in disks {
        let file = place.path(&disk.file);
        let damaged = |what: String| {
            let text = format!(
                "{} is not what was written ({what}); it and what builds on it cannot be brought back, take an older backup",
                disk.file
            );
            Trouble::from(Fault::wrong_state(text))
        };
        let words = format!("reading {} through", disk.file);
        let found = digest(&file, follower, &mut |read| follower.advance(part(before + read, whole, within), &words));
        let (length, sha256) = match found {
            Err(_) if !file.exists() => return Err(damaged("it is missing".to_owned())),
            other => other?,
        };
        before += length;
        if length != disk.length.0 {
            return Err(damaged(format!("it has {length} bytes and should have {}", disk.length.0)));
        }
        if sha256 != disk.sha256 {
            return Err(damaged("its SHA-256 is another".to_owned()));
        }
        let mut head = Vec::new();
        File::open(&file).and_then(|f| f.take(qcow2::HEAD as u64).read_to_end(&mut head)).map_err(|e| io("reading", &file, &e))?;
        if let Some(why) = qcow2::trouble(&head, length) {
            return Err(damaged(why));
        }
        follower.advance(part(before, whole, within), &format!("checking {}", disk.file));
        tool::check(&file, VolumeFormat::Qcow2, follower)?;
    }
    Ok(())
}

/// How far the whole work is when `done` of `whole` of one part of it is.
pub(crate) fn part(done: u64, whole: u64, (from, to): (u64, u64)) -> Option<u8> {
    let share = u64::from(percent(done, whole).unwrap_or(0));
    u8::try_from(from + share * to.saturating_sub(from) / 100).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipel_contract::work::Unfollowed;

    #[test]
    fn a_digest_is_that_of_the_common_tool() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("abc");
        fs::write(&file, b"abc").unwrap();
        let (length, text) = digest(&file, &Unfollowed, &mut |_| {}).map_err(|_| "it could not be read").unwrap();
        assert_eq!((length, text.as_str()), (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    }

    #[test]
    fn a_part_of_the_work_moves_within_its_bounds() {
        assert_eq!((part(0, 10, (80, 99)), part(5, 10, (80, 99)), part(10, 10, (80, 99))), (Some(80), Some(89), Some(99)));
        assert_eq!(part(0, 0, (0, 50)), Some(0));
    }
}
