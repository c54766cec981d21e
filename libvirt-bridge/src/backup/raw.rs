//! The C calls of backups and checkpoints that `virt` lacks. Each function is safe to call; the unsafe blocks say why.
#![allow(unsafe_code)]

use crate::count::ask;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::{null, null_mut};
use virt::{domain::Domain, error::Error, sys};

fn checked(answer: c_int) -> Result<c_int, Error> {
    if answer < 0 { Err(Error::last_error()) } else { Ok(answer) }
}

/// A text that libvirt allocated for us.
fn owned(text: *mut c_char) -> Result<String, Error> {
    if text.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt's texts end with a NUL.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: it is ours to free, as libvirt's manual says, and is not used afterwards.
    unsafe { libc::free(text.cast()) };
    Ok(copy)
}

/// `virDomainBackupBegin`.
pub(super) fn begin(domain: &Domain, backup: &str, checkpoint: Option<&str>) -> Result<(), Error> {
    let (backup, checkpoint) = (CString::new(backup)?, checkpoint.map(CString::new).transpose()?);
    let checkpoint = checkpoint.as_ref().map_or(null(), |c| c.as_ptr());
    // SAFETY: the handle is live and the texts outlive the call; null means no checkpoint.
    ask(|| checked(unsafe { sys::virDomainBackupBegin(domain.as_ptr(), backup.as_ptr(), checkpoint, 0) })).map(drop)
}

/// What the backup that goes on is (`virDomainBackupGetXMLDesc`).
pub(super) fn under_way(domain: &Domain) -> Result<String, Error> {
    // SAFETY: the handle is live as long as the reference; there are no flags.
    ask(|| owned(unsafe { sys::virDomainBackupGetXMLDesc(domain.as_ptr(), 0) }))
}

/// How many bytes a second the job on a disk may copy (`virDomainBlockJobSetSpeed`).
pub(super) fn limit(domain: &Domain, disk: &str, bytes: u64) -> Result<(), Error> {
    let disk = CString::new(disk)?;
    let flags = sys::VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES;
    let bytes = std::ffi::c_ulong::try_from(bytes).unwrap_or(std::ffi::c_ulong::MAX);
    // SAFETY: the handle is live and the name outlives the call.
    ask(|| checked(unsafe { sys::virDomainBlockJobSetSpeed(domain.as_ptr(), disk.as_ptr(), bytes, flags) })).map(drop)
}

/// How many seconds libvirt waits for the guest's agent at most; -2 is for ever (`virDomainAgentSetResponseTimeout`).
pub(super) fn patience(domain: &Domain, seconds: c_int) -> Result<(), Error> {
    // SAFETY: the handle is live as long as the reference; there are no flags.
    ask(|| checked(unsafe { sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), seconds, 0) })).map(drop)
}

/// A checkpoint that libvirt handed out; given back when it is dropped.
pub(super) struct Checkpoint(sys::virDomainCheckpointPtr);

impl Checkpoint {
    /// The one with that name (`virDomainCheckpointLookupByName`).
    pub(super) fn named(domain: &Domain, name: &str) -> Result<Checkpoint, Error> {
        let name = CString::new(name)?;
        let found = ask(|| {
            // SAFETY: the handle is live and the name outlives the call.
            let found = unsafe { sys::virDomainCheckpointLookupByName(domain.as_ptr(), name.as_ptr(), 0) };
            if found.is_null() { Err(Error::last_error()) } else { Ok(found) }
        })?;
        Ok(Checkpoint(found))
    }

    /// All of a machine, parents first (`virDomainListAllCheckpoints`).
    pub(super) fn all(domain: &Domain) -> Result<Vec<Checkpoint>, Error> {
        let mut list: *mut sys::virDomainCheckpointPtr = null_mut();
        let count = ask(|| {
            let flags = sys::VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL;
            // SAFETY: the handle is live and the place is ours; libvirt allocates the list, which is freed below.
            checked(unsafe { sys::virDomainListAllCheckpoints(domain.as_ptr(), &mut list, flags) })
        })?;
        let mut found = Vec::new();
        for n in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: libvirt answered that many pointers at this address, each of them ours to give back.
            found.push(Checkpoint(unsafe { *list.add(n) }));
        }
        // SAFETY: the list itself came from libvirt and is not used afterwards; null is allowed.
        unsafe { libc::free(list.cast()) };
        Ok(found)
    }

    /// Its description, without that of the machine (`virDomainCheckpointGetXMLDesc`).
    pub(super) fn xml(&self) -> Result<String, Error> {
        // SAFETY: the handle is ours and live.
        ask(|| owned(unsafe { sys::virDomainCheckpointGetXMLDesc(self.0, sys::VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN) }))
    }

    /// Deletes it; with `metadata_only` only what libvirt knows of it (`virDomainCheckpointDelete`).
    pub(super) fn delete(&self, metadata_only: bool) -> Result<(), Error> {
        let flags = if metadata_only { sys::VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY } else { 0 };
        // SAFETY: the handle is ours and live.
        ask(|| checked(unsafe { sys::virDomainCheckpointDelete(self.0, flags) })).map(drop)
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and not used afterwards.
        unsafe { sys::virDomainCheckpointFree(self.0) };
    }
}

/// Lets a process that is not begun yet end with the thread that begins it: whoever writes half a backup must not outlive this daemon.
pub(super) fn mortal(command: &mut Command) {
    let parent = std::process::id();
    let die_with_us = move || {
        // SAFETY: the calls take and give back numbers and may be made between fork and exec.
        let answer = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the same. The parent may have died before that was asked for.
        if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(die_with_us) };
}
