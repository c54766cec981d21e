//! The C calls of block devices that `virt` lacks. Each function is safe to call; the unsafe blocks say why.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int};
use std::ptr::{null, null_mut};
use virt::{connect::Connect, domain::Domain, error::Error, sys};

fn checked(answer: c_int) -> Result<c_int, Error> {
    if answer < 0 { Err(Error::last_error()) } else { Ok(answer) }
}

/// A list of typed parameters that libvirt allocates and frees.
struct Parameters {
    list: sys::virTypedParameterPtr,
    count: c_int,
    room: c_int,
}

impl Parameters {
    fn of(values: &[(&str, u64)]) -> Result<Parameters, Error> {
        let mut parameters = Parameters { list: null_mut(), count: 0, room: 0 };
        for (name, value) in values {
            let name = CString::new(*name)?;
            // SAFETY: the three places are ours and describe one list that only libvirt's functions ever touch.
            checked(unsafe {
                sys::virTypedParamsAddULLong(&mut parameters.list, &mut parameters.count, &mut parameters.room, name.as_ptr(), *value)
            })?;
        }
        Ok(parameters)
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        // SAFETY: the list came from libvirt (or is null, which it takes), is freed by its own function and not used afterwards.
        unsafe { sys::virTypedParamsFree(self.list, self.count) };
    }
}

/// `virDomainSetBlockIoTune`.
pub(super) fn io_tune(domain: &Domain, disk: &str, values: &[(&'static str, u64)], flags: u32) -> Result<(), Error> {
    let disk = CString::new(disk)?;
    let parameters = Parameters::of(values)?;
    // SAFETY: the handle is live, name and list outlive the call.
    checked(unsafe { sys::virDomainSetBlockIoTune(domain.as_ptr(), disk.as_ptr(), parameters.list, parameters.count, flags) }).map(drop)
}

/// `virDomainBlockCopy` to something that exists already.
pub(super) fn copy(domain: &Domain, disk: &str, to: &str, bandwidth: Option<u64>) -> Result<(), Error> {
    let (disk, to) = (CString::new(disk)?, CString::new(to)?);
    let values: Vec<(&str, u64)> = bandwidth.map(|b| ("bandwidth", b)).into_iter().collect();
    let parameters = Parameters::of(&values)?;
    // Without the second flag libvirt copies no disk of a machine whose definition stays: such a copy does not outlive the guest. It need not.
    let flags = sys::VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | sys::VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB;
    // SAFETY: the handle is live, texts and list outlive the call; libvirt takes a null list with no values.
    checked(unsafe { sys::virDomainBlockCopy(domain.as_ptr(), disk.as_ptr(), to.as_ptr(), parameters.list, parameters.count, flags) })
        .map(drop)
}

/// `virDomainBlockCommit` of the newest layer into the one below.
pub(super) fn commit(domain: &Domain, disk: &str) -> Result<(), Error> {
    let disk = CString::new(disk)?;
    let flags = sys::VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | sys::VIR_DOMAIN_BLOCK_COMMIT_SHALLOW;
    // SAFETY: the handle is live, the name outlives the call; null means the lower layer and the newest one.
    checked(unsafe { sys::virDomainBlockCommit(domain.as_ptr(), disk.as_ptr(), null(), null(), 0, flags) }).map(drop)
}

/// How far a job on a disk is: done and whole. `None`: there is none.
pub(super) fn job(domain: &Domain, disk: &str) -> Result<Option<(u64, u64)>, Error> {
    let disk = CString::new(disk)?;
    let mut info = sys::virDomainBlockJobInfo { type_: 0, bandwidth: 0, cur: 0, end: 0 };
    // SAFETY: the handle is live, the name outlives the call, and the place for the answer is ours.
    let found = checked(unsafe { sys::virDomainGetBlockJobInfo(domain.as_ptr(), disk.as_ptr(), &mut info, 0) })?;
    Ok((found > 0).then_some((info.cur, info.end)))
}

/// Ends a job on a disk: with `pivot` the machine goes on with the copy, else with what it had.
pub(super) fn end_job(domain: &Domain, disk: &str, pivot: bool) -> Result<(), Error> {
    let disk = CString::new(disk)?;
    let flags = if pivot { sys::VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT } else { 0 };
    // SAFETY: the handle is live and the name outlives the call.
    checked(unsafe { sys::virDomainBlockJobAbort(domain.as_ptr(), disk.as_ptr(), flags) }).map(drop)
}

/// `virStorageVolResize` of the volume at that path.
pub(super) fn resize_volume(connect: &Connect, path: &str, size: u64) -> Result<(), Error> {
    let path = CString::new(path)?;
    // SAFETY: the connection is live and the path outlives the call.
    let volume = unsafe { sys::virStorageVolLookupByPath(connect.as_ptr(), path.as_ptr()) };
    if volume.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: the volume is the one just found, and is given back below.
    let answer = checked(unsafe { sys::virStorageVolResize(volume, size, 0) }).map(drop);
    // SAFETY: the handle is ours and not used afterwards.
    unsafe { sys::virStorageVolFree(volume) };
    answer
}
