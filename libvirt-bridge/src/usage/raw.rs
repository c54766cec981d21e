//! The C calls that count. `virt` has the bulk one in a form that never frees what libvirt allocated. Each function is safe to call;
//! the unsafe blocks say why.
#![allow(unsafe_code)]

use crate::count::ask;
use archipel_contract::{
    Bytes, DomainId,
    usage::{Counters, CpuTime},
};
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr::null_mut;
use virt::{connect::Connect, error::Error, sys};

const GROUPS: c_uint =
    sys::VIR_DOMAIN_STATS_CPU_TOTAL | sys::VIR_DOMAIN_STATS_BALLOON | sys::VIR_DOMAIN_STATS_INTERFACE | sys::VIR_DOMAIN_STATS_BLOCK;

/// What libvirt hands out, until it is freed.
struct Records(*mut sys::virDomainStatsRecordPtr, usize);

impl Drop for Records {
    fn drop(&mut self) {
        // SAFETY: the list came from libvirt, is freed by its own function once, and nothing of it is used afterwards.
        unsafe { sys::virDomainStatsRecordListFree(self.0) };
    }
}

/// Every active machine (`virConnectGetAllDomainStats`). `patient`: waits for machines that are busy with something else, where the driver
/// knows no other way.
pub(super) fn machines(connect: &Connect, patient: bool) -> Result<Vec<(DomainId, Counters)>, Error> {
    let mut flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE;
    if !patient {
        flags |= sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    }
    let records = ask(|| {
        let mut list: *mut sys::virDomainStatsRecordPtr = null_mut();
        // SAFETY: the handle is live as long as the reference and the place is ours; libvirt allocates the list, which `Records` frees.
        let count = unsafe { sys::virConnectGetAllDomainStats(connect.as_ptr(), GROUPS, &mut list, flags) };
        usize::try_from(count).map(|count| Records(list, count)).map_err(|_| Error::last_error())
    })?;
    let mut all = Vec::with_capacity(records.1);
    for at in 0..records.1 {
        // SAFETY: libvirt answered so many entries, each of which is live until the list is freed.
        let record = unsafe { **records.0.add(at) };
        let mut uuid = [0u8; 16];
        // SAFETY: the record's machine is live until the list is freed, and the place has the size of a UUID. Neither call asks libvirtd.
        let (failed, run) = unsafe { (sys::virDomainGetUUID(record.dom, uuid.as_mut_ptr()) < 0, sys::virDomainGetID(record.dom)) };
        if failed {
            continue;
        }
        let params = match (record.params.is_null(), usize::try_from(record.nparams)) {
            // SAFETY: libvirt says that there are so many at this address; they are live until the list is freed.
            (false, Ok(count)) => unsafe { std::slice::from_raw_parts(record.params, count) },
            _ => &[],
        };
        all.push((DomainId(uuid::Uuid::from_bytes(uuid)), counters(i64::from(run as c_int), params)));
    }
    Ok(all)
}

/// A name that ends within its place, as libvirt's always do.
fn name(field: &[c_char; 80]) -> &[u8] {
    // SAFETY: the same 80 bytes read as unsigned ones.
    let bytes = unsafe { std::slice::from_raw_parts(field.as_ptr().cast::<u8>(), field.len()) };
    CStr::from_bytes_until_nul(bytes).map(CStr::to_bytes).unwrap_or_default()
}

fn number(param: &sys::virTypedParameter) -> Option<u64> {
    // SAFETY: the type says which member of the union is set.
    unsafe {
        match param.type_ as u32 {
            sys::VIR_TYPED_PARAM_ULLONG => Some(param.value.ul),
            sys::VIR_TYPED_PARAM_UINT => Some(u64::from(param.value.ui)),
            sys::VIR_TYPED_PARAM_LLONG => u64::try_from(param.value.l).ok(),
            sys::VIR_TYPED_PARAM_INT => u64::try_from(param.value.i).ok(),
            _ => None,
        }
    }
}

fn counters(run: i64, params: &[sys::virTypedParameter]) -> Counters {
    super::counters(run, params.iter().filter_map(|p| Some((name(&p.field), number(p)?))))
}

/// The named numbers of a call of the node that first says how many there are.
fn node<T: Copy>(empty: T, call: impl Fn(*mut T, *mut c_int) -> c_int) -> Result<Vec<T>, Error> {
    let checked = |answer: c_int| if answer < 0 { Err(Error::last_error()) } else { Ok(()) };
    let mut count: c_int = 0;
    ask(|| checked(call(null_mut(), &mut count)))?;
    let mut values = vec![empty; usize::try_from(count).unwrap_or(0)];
    ask(|| checked(call(values.as_mut_ptr(), &mut count)))?;
    values.truncate(usize::try_from(count).unwrap_or(0));
    Ok(values)
}

/// The processors of a host elsewhere (`virNodeGetCPUStats`): time they worked, and all their time.
pub(super) fn processors(connect: &Connect) -> Result<(CpuTime, CpuTime), Error> {
    let empty = sys::virNodeCPUStats { field: [0; 80], value: 0 };
    let values = node(empty, |values, count| {
        // SAFETY: the handle is live; null asks for the number, and otherwise so many places are there as `count` says.
        unsafe { sys::virNodeGetCPUStats(connect.as_ptr(), sys::VIR_NODE_CPU_STATS_ALL_CPUS, values, count, 0) }
    })?;
    let of = |names: &[&[u8]]| values.iter().filter(|v| names.contains(&name(&v.field))).fold(0u64, |sum, v| sum.saturating_add(v.value));
    let busy = of(&[b"kernel", b"user"]);
    Ok((CpuTime(busy), CpuTime(busy.saturating_add(of(&[b"idle", b"iowait"])))))
}

/// The memory of a host elsewhere (`virNodeGetMemoryStats`): all of it, and what could be given away.
pub(super) fn memory(connect: &Connect) -> Result<(Bytes, Bytes), Error> {
    let empty = sys::virNodeMemoryStats { field: [0; 80], value: 0 };
    let values = node(empty, |values, count| {
        // SAFETY: the handle is live; null asks for the number, and otherwise so many places are there as `count` says.
        unsafe { sys::virNodeGetMemoryStats(connect.as_ptr(), sys::VIR_NODE_MEMORY_STATS_ALL_CELLS, values, count, 0) }
    })?;
    let of = |names: &[&[u8]]| values.iter().filter(|v| names.contains(&name(&v.field))).fold(0u64, |sum, v| sum.saturating_add(v.value));
    Ok((Bytes::kib(of(&[b"total"])), Bytes::kib(of(&[b"free", b"buffers", b"cached"]))))
}
