//! Copies of volumes.
//!
//! ```text
//!   asked --> NAME.archipel-part --all of it is there--> NAME      (one rename: there is never half a volume of that name)
//!                  |  \-- the same format: byte by byte through two streams, holes as holes; stopped between two pieces
//!                  |   \- another format: libvirt lets qemu-img write it; stopped by ending that
//!                  +-- fails, is stopped: deleted.   The daemon dies: it stays, is shown as unfinished, and the next copy to
//!                      that name removes it
//! ```
//! Where volumes are no files of this host nothing can be renamed: there the copy has its name from the beginning.

use super::{
    change::{directory, find, free, look_again, rename_file},
    landscape::landscape,
    raw::{self, Piece},
};
use crate::{connection::Trouble, count::ask, fault, xml::storage};
use archipel_contract::{
    Bytes, Fault, FaultKind, PoolId,
    volume::{CopySpec, Need, UNFINISHED, Unused, VolumeFacts, VolumeFormat},
    work::{Follower, percent},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use uuid::Uuid;
use virt::{connect::Connect, storage_pool::StoragePool, storage_vol::StorageVol, stream::Stream, sys};

/// A piece of a stream; libvirt's own messages hold no more.
pub(super) const PIECE: usize = 256 * 1024;
/// How often the size of what qemu-img writes is looked at, while it does.
const LOOK: Duration = Duration::from_millis(500);
/// How long libvirt may take to let go of a volume whose stream has ended.
const LET_GO: Duration = Duration::from_secs(10);

pub(super) fn stopped() -> Trouble {
    Fault::busy("it was stopped").into()
}

/// The names that are being made right now, by connection and pool: libvirt would let two write to one.
static MAKING: Mutex<BTreeSet<(String, Uuid, String)>> = Mutex::new(BTreeSet::new());

/// A name that is being made; free again when it is dropped.
pub(crate) struct Claim((String, Uuid, String));

impl Claim {
    /// Takes the name, unless somebody makes it already.
    pub(crate) fn take(uri: &str, pool: &StoragePool, name: &str) -> Result<Claim, Trouble> {
        let key = (uri.to_owned(), pool.uuid()?, name.to_owned());
        if !MAKING.lock().insert(key.clone()) {
            return Err(Fault::busy(format!("{name} is being written already; wait until that has ended, or cancel its task")).into());
        }
        Ok(Claim(key))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        MAKING.lock().remove(&self.0);
    }
}

/// Makes a copy, all of it or nothing.
pub(super) fn copy(
    connect: &Connect,
    uri: &str,
    pool: PoolId,
    name: &str,
    copy: &CopySpec,
    unused: &Unused,
    follower: &Arc<dyn Follower>,
) -> Result<(), Trouble> {
    let (home, original, facts) = find(connect, uri, pool, name)?;
    let there = match &copy.pool {
        Some(other) => ask(|| connect.lookup_storage_pool_by_name(other))?,
        None => home.clone(),
    };
    if !ask(|| there.is_active())? {
        return Err(Fault::wrong_state(format!("{} is not started; start it first", there.name()?)).into());
    }
    let own = facts.format.clone().filter(|f| f != "iso").unwrap_or_else(|| "raw".to_owned());
    let format = match (copy.format, own.as_str()) {
        (Some(format), _) => format,
        (None, "qcow2") => VolumeFormat::Qcow2,
        (None, _) => VolumeFormat::Raw,
    };
    let same = format.name() == own || copy.format.is_none();
    let replaces = there.uuid()? == home.uuid()? && copy.to == name;
    unused.covers(&facts.path, if replaces { Need::Gone } else { Need::Quiet })?;
    check(connect, uri, name, &facts, same, replaces)?;
    if !replaces {
        free(&there, &copy.to)?;
    }
    let dir = directory(&there, uri)?;
    if replaces && dir.is_none() {
        let text = format!(
            "{name} is no file of this host, so nothing can take its place in one step; give what is converted a name of its own with --to, and delete {name} afterwards"
        );
        return Err(Fault::new(FaultKind::Unsupported, text).into());
    }
    let making = if dir.is_some() { format!("{}{UNFINISHED}", copy.to) } else { copy.to.clone() };
    let _claim = Claim::take(uri, &there, &making)?;
    clear(&there, &making)?;
    let made = if same && dir.is_some() && facts.volume_type == "file" {
        byte_by_byte(connect, &original, &facts, &there, &making, follower)
    } else {
        anew(&original, &facts, &there, &making, format, dir.as_deref(), follower)
    };
    // A machine may have been given it, or started with it, while it was copied.
    let still = made.and_then(|()| check(connect, uri, name, &facts, same, replaces));
    let named = still.and_then(|()| if follower.is_cancelled() { Err(stopped()) } else { Ok(()) }).and_then(|()| match &dir {
        Some(dir) => Ok(rename_file(dir, &making, &copy.to, replaces)?),
        None => Ok(()),
    });
    if let Err(trouble) = named {
        remove(&there, &making, dir.as_deref());
        return Err(trouble);
    }
    if dir.is_some() {
        look_again(&there)?;
    }
    Ok(())
}

fn check(connect: &Connect, uri: &str, name: &str, facts: &VolumeFacts, same: bool, replaces: bool) -> Result<(), Trouble> {
    // A copy of the bytes asks nobody to read other files; everything else lets QEMU follow what is written in it.
    if let Some(why) = facts.refused.as_ref().filter(|_| !same) {
        return Err(Fault::invalid(format!("{name} cannot be converted: {why}")).into());
    }
    let all = landscape(connect, uri)?;
    if replaces {
        all.check_free(name, facts, None)?
    } else {
        all.check_quiet(name, facts)?
    }
    Ok(())
}

/// Removes what an earlier copy to this name has left when its daemon died.
pub(super) fn clear(pool: &StoragePool, name: &str) -> Result<(), Trouble> {
    if !name.ends_with(UNFINISHED) {
        return Ok(());
    }
    match ask(|| pool.lookup_storage_vol_by_name(name)) {
        Err(error) if fault::is_gone(&error) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(left) => ask(|| left.delete(0)).map_err(|error| {
            Fault::busy(format!("{name} is being written already; wait until that has ended")).because(error.message()).into()
        }),
    }
}

/// Removes what was made; libvirt lets go of it only when its stream has ended.
pub(super) fn remove(pool: &StoragePool, name: &str, dir: Option<&Path>) {
    let end = Instant::now() + LET_GO;
    loop {
        let gone = match ask(|| pool.lookup_storage_vol_by_name(name)) {
            Ok(volume) => ask(|| volume.delete(0)).is_ok(),
            Err(error) => fault::is_gone(&error),
        };
        if gone && !dir.is_some_and(|dir| dir.join(name).exists()) {
            return;
        }
        if Instant::now() > end {
            tracing::warn!(volume = name, "what was copied by half could not be deleted; it is shown as unfinished");
            return;
        }
        thread::sleep(Duration::from_millis(20));
        if gone {
            // The file is there and libvirt has forgotten it: it looked through the pool at the wrong moment.
            let _ = ask(|| pool.refresh(0));
        }
    }
}

/// Makes the volume that bytes are written to: they bring their own format with them.
pub(super) fn vessel(pool: &StoragePool, name: &str, length: Bytes) -> Result<StorageVol, Trouble> {
    let spec = storage::VolumeSpec { name, capacity: length, allocation: Bytes(0), format: VolumeFormat::Raw, backing: None };
    Ok(ask(|| StorageVol::create_xml(pool, &storage::volume(&spec), 0))?)
}

/// The length of a volume's file or device.
pub(super) fn length(volume: &StorageVol) -> Result<Bytes, Trouble> {
    Ok(Bytes(ask(|| volume.info_flags(sys::VIR_STORAGE_VOL_GET_PHYSICAL))?.allocation))
}

fn byte_by_byte(
    connect: &Connect,
    original: &StorageVol,
    facts: &VolumeFacts,
    pool: &StoragePool,
    name: &str,
    follower: &Arc<dyn Follower>,
) -> Result<(), Trouble> {
    let whole = length(original)?;
    let vessel = vessel(pool, name, whole)?;
    let down = Stream::new(connect, 0)?;
    ask(|| original.download(&down, 0, 0, sys::VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM))?;
    let up = Stream::new(connect, 0)?;
    ask(|| vessel.upload(&up, 0, whole.0, sys::VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM))?;
    let mut buffer = vec![0; PIECE];
    let mut done = 0u64;
    let words = || format!("copying, {} of it taken", facts.allocation);
    follower.advance(percent(0, whole.0), &words());
    let pumped = loop {
        if follower.is_cancelled() {
            break Err(stopped());
        }
        match raw::receive(&down, &mut buffer) {
            Ok(Piece::End) => break Ok(()),
            Ok(Piece::Hole(length)) => {
                done += length;
                if let Err(error) = raw::send_hole(&up, length) {
                    break Err(error.into());
                }
            }
            Ok(Piece::Data(count)) => {
                done += count as u64;
                if let Err(trouble) = send(&up, &buffer[..count]) {
                    break Err(trouble);
                }
            }
            Err(error) => break Err(error.into()),
        }
        // All of it is there only when libvirt has said so.
        follower.advance(percent(done, whole.0).map(|p| p.min(99)), &words());
    };
    match pumped {
        Ok(()) => {
            ask(|| up.finish())?;
            ask(|| down.finish())?;
            Ok(())
        }
        Err(trouble) => {
            // Both ends are told; what they answer is of no use any more.
            let _ = (ask(|| up.abort()), ask(|| down.abort()));
            Err(trouble)
        }
    }
}

/// Sends all of these bytes.
pub(super) fn send(stream: &Stream, mut bytes: &[u8]) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        let count = usize::try_from(stream.send(bytes)?).unwrap_or(0);
        if count == 0 {
            return Err(Fault::internal("libvirt takes no more of the volume; look at the host's libvirt log").into());
        }
        bytes = &bytes[count.min(bytes.len())..];
    }
    Ok(())
}

/// Lets libvirt write it in a format. Its call ends when that is done, so somebody else looks how far it is, and stops it.
fn anew(
    original: &StorageVol,
    facts: &VolumeFacts,
    pool: &StoragePool,
    name: &str,
    format: VolumeFormat,
    dir: Option<&Path>,
    follower: &Arc<dyn Follower>,
) -> Result<(), Trouble> {
    let spec = storage::VolumeSpec { name, capacity: facts.capacity, allocation: Bytes(0), format, backing: None };
    let xml = storage::volume(&spec);
    let file = dir.map(|dir| dir.join(name));
    let ended = AtomicBool::new(false);
    let words = format!("writing it as {}", format.name());
    follower.advance(file.as_ref().map(|_| 0), &words);
    thread::scope(|scope| {
        if let Some(file) = &file {
            let (ended, words, expected) = (&ended, &words, facts.allocation.0.max(1));
            scope.spawn(move || {
                while !ended.load(Ordering::Acquire) {
                    if follower.is_cancelled() {
                        end_of_writer(file);
                    } else if let Some(taken) = taken(file) {
                        // What is zero or was deleted need not be written, so this is a guess; only the end is certain.
                        follower.advance(percent(taken, expected).map(|p| p.min(99)), words);
                    }
                    thread::park_timeout(if follower.is_cancelled() { LOOK / 10 } else { LOOK });
                }
            });
        }
        let watcher = thread::current();
        follower.on_cancel(Box::new(move || watcher.unpark()));
        let answer = ask(|| StorageVol::create_xml_from(pool, &xml, original, 0));
        ended.store(true, Ordering::Release);
        match answer {
            Ok(_) => Ok(()),
            Err(_) if follower.is_cancelled() => Err(stopped()),
            Err(error) => Err(error.into()),
        }
    })
}

/// What a file takes on its file system.
fn taken(file: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata(file).ok()?.blocks().saturating_mul(512))
}

/// Ends the `qemu-img` that writes this very file: libvirt offers no way to stop it, notices its end and removes what it wrote.
fn end_of_writer(file: &Path) {
    let Some(wanted) = file.to_str() else { return };
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let mut words = line.split(|b| *b == 0).map(|w| std::str::from_utf8(w).unwrap_or(""));
        let is_tool = words.next().is_some_and(|w| w.rsplit('/').next() == Some("qemu-img"));
        if is_tool && words.any(|w| w == wanted || w.strip_prefix("file=").or(w.strip_prefix("filename=")) == Some(wanted)) {
            match raw::end(process) {
                Ok(()) => tracing::debug!(process, "stopped what was writing a copy"),
                Err(error) => {
                    tracing::warn!(process, %error, "what writes a copy could not be stopped; it ends by itself and is deleted then")
                }
            }
        }
    }
}
