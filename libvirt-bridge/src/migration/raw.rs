//! The C calls of migration that `virt` lacks, or has in a form that cannot be used: its `job_stats` makes a `Vec` of the
//! null pointer that libvirt answers when there is no job. Each function is safe to call; the unsafe blocks say why.
#![allow(unsafe_code)]

use crate::count::ask;
use std::ffi::{CStr, CString, c_int};
use std::ptr::{null, null_mut};
use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// libvirt answers -1 when a call failed; its error is then kept for the calling thread.
fn checked(answer: c_int) -> Result<c_int, Error> {
    if answer < 0 { Err(Error::last_error()) } else { Ok(answer) }
}

/// `virDomainAbortJob`.
pub(crate) fn abort(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the handle is live as long as the reference.
    ask(|| checked(unsafe { sys::virDomainAbortJob(domain.as_ptr()) })).map(drop)
}

/// `virDomainMigrateStartPostCopy`.
pub(super) fn start_post_copy(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the handle is live as long as the reference; there are no flags.
    ask(|| checked(unsafe { sys::virDomainMigrateStartPostCopy(domain.as_ptr(), 0) })).map(drop)
}

/// Whether this host can give a guest that processor (`virConnectCompareHypervisorCPU`).
pub(super) fn can_give_cpu(connect: &Connect, arch: &str, machine: &str, kind: &str, cpu: &str) -> Result<bool, Error> {
    let [arch, machine, kind, cpu] = [arch, machine, kind, cpu].map(|text| CString::new(text).unwrap_or_default());
    let or_null = |text: &CStr| if text.is_empty() { null() } else { text.as_ptr() };
    let answer = ask(|| {
        // SAFETY: the connection is live as long as the reference, the strings outlive the call, and libvirt takes null for
        // whatever it shall choose itself.
        let answer = unsafe {
            sys::virConnectCompareHypervisorCPU(
                connect.as_ptr(),
                null(),
                or_null(&arch),
                or_null(&machine),
                or_null(&kind),
                cpu.as_ptr(),
                0,
            )
        };
        checked(answer)
    })?;
    Ok(answer != sys::VIR_CPU_COMPARE_INCOMPATIBLE as c_int)
}

/// Memory of the host in bytes: what guests could have, free or only holding what can be read again, and all of it
/// (`virNodeGetMemoryStats`).
pub(super) fn memory(connect: &Connect) -> Result<(u64, u64), Error> {
    const ALL: c_int = sys::VIR_NODE_MEMORY_STATS_ALL_CELLS;
    let mut count: c_int = 0;
    // SAFETY: the connection is live; without a buffer libvirt only tells how many values there are.
    ask(|| checked(unsafe { sys::virNodeGetMemoryStats(connect.as_ptr(), ALL, null_mut(), &mut count, 0) }))?;
    let mut values = vec![sys::virNodeMemoryStats { field: [0; 80], value: 0 }; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the buffer has room for as many values as libvirt said and is told; it fills in at most so many.
    ask(|| checked(unsafe { sys::virNodeGetMemoryStats(connect.as_ptr(), ALL, values.as_mut_ptr(), &mut count, 0) }))?;
    let (mut available, mut total) = (0u64, 0u64);
    for value in values {
        let name: Vec<u8> = value.field.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        match name.as_slice() {
            b"free" | b"buffers" | b"cached" => available = available.saturating_add(value.value),
            b"total" => total = value.value,
            _ => {}
        }
    }
    Ok((available.saturating_mul(1024), total.saturating_mul(1024)))
}

/// What libvirt tells of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Job {
    /// `VIR_DOMAIN_JOB_NONE` ...
    pub(crate) kind: u32,
    /// `VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT` ...
    pub(crate) operation: u32,
    /// Milliseconds.
    pub(crate) elapsed: u64,
    /// Milliseconds, where it was measured.
    pub(crate) downtime: Option<u64>,
    pub(crate) total: u64,
    pub(crate) processed: u64,
    pub(crate) remaining: u64,
    pub(crate) iteration: u64,
    /// Bytes of disks: done and whole. Only backups tell.
    pub(crate) disk: (u64, u64),
    /// Why it failed, where libvirt says.
    pub(crate) error: String,
}

impl Job {
    /// Whether it is an outgoing migration that goes on.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.kind, sys::VIR_DOMAIN_JOB_BOUNDED | sys::VIR_DOMAIN_JOB_UNBOUNDED)
            && self.operation == sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    }

    /// Whether it is an outgoing migration that libvirt has given up and not ended yet.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.kind, sys::VIR_DOMAIN_JOB_FAILED | sys::VIR_DOMAIN_JOB_CANCELLED)
            && self.operation == sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    }
}

/// The job that goes on, or with `completed` the one that was last completed (`virDomainGetJobStats`).
pub(crate) fn job(domain: &Domain, completed: bool) -> Result<Job, Error> {
    let (mut kind, mut count): (c_int, c_int) = (0, 0);
    let mut values: sys::virTypedParameterPtr = null_mut();
    let flags = if completed { sys::VIR_DOMAIN_JOB_STATS_COMPLETED | sys::VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED } else { 0 };
    // SAFETY: the handle is live and the three places are ours; libvirt allocates the list, which is freed below.
    ask(|| checked(unsafe { sys::virDomainGetJobStats(domain.as_ptr(), &mut kind, &mut values, &mut count, flags) }))?;
    let mut job = Job { kind: u32::try_from(kind).unwrap_or(0), ..Job::default() };
    if !values.is_null() {
        // SAFETY: libvirt answered `count` values at this address, and nobody else has it.
        let list = unsafe { std::slice::from_raw_parts(values, usize::try_from(count).unwrap_or(0)) };
        for value in list {
            // SAFETY: libvirt ends the name with a NUL within its 80 bytes.
            let name = unsafe { CStr::from_ptr(value.field.as_ptr()) };
            if value.type_ as u32 == sys::VIR_TYPED_PARAM_STRING && name.to_bytes() == b"errmsg" {
                // SAFETY: the type says which member of the union is set; libvirt's texts end with a NUL.
                job.error = unsafe { CStr::from_ptr(value.value.s) }.to_string_lossy().into_owned();
            }
            let number = match value.type_ as u32 {
                // SAFETY: the type says which member of the union is set.
                sys::VIR_TYPED_PARAM_ULLONG => unsafe { value.value.ul },
                // SAFETY: the same.
                sys::VIR_TYPED_PARAM_INT => u64::try_from(unsafe { value.value.i }).unwrap_or(0),
                _ => continue,
            };
            match name.to_bytes() {
                b"operation" => job.operation = number as u32,
                b"time_elapsed" => job.elapsed = number,
                b"downtime" => job.downtime = Some(number),
                b"data_total" => job.total = number,
                b"data_processed" => job.processed = number,
                b"data_remaining" => job.remaining = number,
                b"disk_processed" => job.disk.0 = number,
                b"disk_total" => job.disk.1 = number,
                b"memory_iteration" => job.iteration = number,
                _ => {}
            }
        }
        // SAFETY: the list came from libvirt, is freed by its own function and not used afterwards.
        unsafe { sys::virTypedParamsFree(values, count) };
    }
    Ok(job)
}
