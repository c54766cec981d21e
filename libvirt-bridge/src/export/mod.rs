//! Machines for elsewhere: the disks of one that is off, packed, described and summed up in one file.
//!
//! ```text
//!   each disk --qemu-img--> NAME.ova.diskN.archipel-part --read through: length, SHA-256--> all --> description, checksums
//!   NAME.ova.archipel-part: description, checksums, disk (its part goes), disk ... , end --> NAME.ova
//!   whatever fails, or is stopped: all parts go
//! ```
//! A description comes first and knows how long everything is, so each disk lies there twice for a while.
//!
//! | file | holds |
//! |---|---|
//! | `describe` | the description (OVF) and the checksums: pure |
//! | `tar` | the archive: pure |

mod describe;
mod tar;

use crate::{
    backup::{
        archive::{digest, part},
        tool::{self, Written},
    },
    connection::{Link, Trouble},
    count::ask,
    definition,
    volume::{
        change::{directory, free, look_again, rename_file},
        copy::Claim,
    },
    xml::{backup::taking, tree::Element},
};
use archipel_contract::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind, PoolId,
    domain::{ExportPort, Exported},
    volume::{Need, UNFINISHED, Unused},
    work::Follower,
};
use describe::{Packed, checksums, describe};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use virt::{connect::Connect, domain::Domain, sys};

/// Which parts of the work are packing, summing up and writing, in percent.
const PACKING: (u64, u64) = (0, 75);
const SUMMING: (u64, u64) = (75, 85);
const WRITING: (u64, u64) = (85, 99);
/// How much is copied at once.
const PIECE: usize = 1 << 20;

fn failed(path: &Path, error: &io::Error) -> Trouble {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Fault::new(FaultKind::Forbidden, format!("this agent may not write {path}; let it run as root")),
        _ => {
            Fault::wrong_state(format!("writing {path} failed; see the cause, make room if the pool is full, and ask again")).because(error)
        }
    }
    .into()
}

/// Files that are being written. What is still there when this is dropped is removed.
#[derive(Default)]
struct Parts(Vec<PathBuf>);

impl Drop for Parts {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = std::fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a part of an export could not be deleted; it is shown as unfinished");
            }
        }
    }
}

impl Parts {
    /// A new file, in the place of what an earlier life may have left.
    fn begin(&mut self, path: &Path) -> Result<File, Trouble> {
        let _ = std::fs::remove_file(path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| failed(path, &e))?;
        self.0.push(path.to_owned());
        Ok(file)
    }
}

/// One export on its way.
struct Export<'a> {
    dir: PathBuf,
    name: &'a str,
    portable: bool,
    follower: &'a dyn Follower,
}

impl Export<'_> {
    fn part_of(&self, what: &str) -> PathBuf {
        self.dir.join(format!("{}{what}{UNFINISHED}", self.name))
    }

    fn stem(&self) -> &str {
        self.name.trim_end_matches(".ova")
    }

    fn make(&self, domain: &Domain, disks: &[Unused]) -> Result<Exported, Trouble> {
        let machine = domain.name()?;
        if ask(|| domain.is_active())? {
            return Err(Fault::wrong_state(format!("{machine} runs; shut it down first")).into());
        }
        let root = definition::tree(&ask(|| domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))?)?;
        let mut parts = Parts::default();
        let (mut packed, left_out) = self.pack(domain, &machine, &root, disks, &mut parts)?;
        let whole: u64 = packed.iter().map(|disk| disk.length).sum();
        let mut before = 0;
        for disk in &mut packed {
            let words = format!("summing up {}", disk.device);
            let mut told = |read| self.follower.advance(part(before + read, whole, SUMMING), &words);
            (disk.length, disk.sha256) = digest(&disk.lies, self.follower, &mut told)?;
            before += disk.length;
        }
        let described = describe(&root, &machine, &packed, self.portable);
        let path = self.part_of("");
        let archive = parts.begin(&path)?;
        let size = self.write(archive, &described.text, &packed, whole).map_err(|error| match error.kind() {
            _ if self.follower.is_cancelled() => tool::stopped().into(),
            _ => failed(&path, &error),
        })?;
        rename_file(&self.dir, &format!("{}{UNFINISHED}", self.name), self.name, false)?;
        let mut remarks = described.remarks;
        remarks.extend(left_out.into_iter().map(|left| format!("not in it: {left}")));
        Ok(Exported { size, remarks })
    }

    /// Writes each disk packed, beside where the appliance will be. Also says what of the machine is left out.
    fn pack(
        &self,
        domain: &Domain,
        machine: &str,
        root: &Element,
        disks: &[Unused],
        parts: &mut Parts,
    ) -> Result<(Vec<Packed>, Vec<String>), Trouble> {
        let taking = taking(root);
        if taking.disks.is_empty() {
            return Err(Fault::wrong_state(format!("{machine} has no disk, so there is nothing to take elsewhere")).into());
        }
        let mut packed = Vec::new();
        let count = taking.disks.len() as u64;
        for (n, disk) in taking.disks.iter().enumerate() {
            if !disk.local {
                let text = format!(
                    "{} is on {}, which cannot be read while the machine is off; copy it to a pool first",
                    disk.device, disk.source
                );
                return Err(Fault::wrong_state(text).into());
            }
            Unused::among(disks, &disk.source, Need::Quiet)?;
            let lies = self.part_of(&format!(".disk{}", n + 1));
            drop(parts.begin(&lies)?);
            let words = format!("packing {}", disk.device);
            let progress = |share: u32| {
                self.follower.advance(part(n as u64 * 10_000 + u64::from(share), count * 10_000, PACKING), &words);
            };
            tool::convert((&disk.source, Some(disk.format.name())), &lies, Written::Streamed, None, self.follower, &progress)?;
            let capacity = Bytes(ask(|| domain.block_info(&disk.device, 0))?.capacity);
            let length = lies.metadata().map_err(|e| failed(&lies, &e))?.len();
            let file = format!("{}-disk{}.vmdk", self.stem(), n + 1);
            packed.push(Packed { device: disk.device.clone(), lies, file, capacity, length, sha256: String::new() });
        }
        Ok((packed, taking.left_out))
    }

    /// Writes the archive. Each disk's own file goes as soon as it is in it.
    fn write(&self, mut archive: File, description: &str, disks: &[Packed], whole: u64) -> io::Result<Bytes> {
        let name = format!("{}.ovf", self.stem());
        let sums = checksums(&name, description, disks);
        for (name, text) in [(name.as_str(), description), (&format!("{}.mf", self.stem()), &sums)] {
            archive.write_all(&tar::member(name, text.len() as u64))?;
            archive.write_all(text.as_bytes())?;
            archive.write_all(tar::rest(text.len() as u64))?;
        }
        let (mut piece, mut done) = (vec![0; PIECE], 0);
        for disk in disks {
            archive.write_all(&tar::member(&disk.file, disk.length))?;
            let (mut from, mut left) = (File::open(&disk.lies)?, disk.length);
            while left > 0 {
                if self.follower.is_cancelled() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let count = from.read(&mut piece)?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                archive.write_all(&piece[..count])?;
                left = left.saturating_sub(count as u64);
                done += count as u64;
                self.follower.advance(part(done, whole, WRITING), "writing the appliance");
            }
            archive.write_all(tar::rest(disk.length))?;
            let _ = std::fs::remove_file(&disk.lies);
        }
        archive.write_all(&tar::END)?;
        archive.sync_all()?;
        Ok(Bytes(archive.metadata()?.len()))
    }
}

fn export(
    connect: &Connect,
    uri: &str,
    id: DomainId,
    to: (PoolId, &str),
    disks: &[Unused],
    portable: bool,
    follower: &dyn Follower,
) -> Result<Exported, Trouble> {
    let pool = ask(|| connect.lookup_storage_pool_by_uuid(to.0.0))?;
    free(&pool, to.1)?;
    let Some(dir) = directory(&pool, uri)? else {
        let text = "appliances go to pools whose volumes are files of the host (dir, fs, netfs); choose such a pool";
        return Err(Fault::new(FaultKind::Unsupported, text).into());
    };
    let _claim = Claim::take(uri, &pool, &format!("{}{UNFINISHED}", to.1))?;
    let domain = ask(|| connect.lookup_domain_by_uuid(id.0))?;
    let made = Export { dir, name: to.1, portable, follower }.make(&domain, disks);
    // Also when it failed: libvirt may have seen a part.
    if let Err(error) = look_again(&pool) {
        tracing::debug!(%error, "a pool could not be looked through after an export");
    }
    made
}

impl ExportPort for Link {
    fn export(
        &self,
        domain: DomainId,
        to: (PoolId, String),
        disks: Vec<Unused>,
        portable: bool,
        follower: Arc<dyn Follower>,
    ) -> BoxFuture<'_, Result<Exported, Fault>> {
        let uri = self.config().uri.clone();
        self.apart("exporting a machine", move |connect| export(connect, &uri, domain, (to.0, &to.1), &disks, portable, &*follower))
    }
}
