//! The C calls to guest agents that `virt` lacks, or has in a form that leaks. Each function is safe to call; the unsafe blocks say why.
#![allow(unsafe_code)]

use crate::count::ask;
use archipel_contract::domain::GuestInterface;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null_mut;
use virt::{domain::Domain, error::Error, sys};

fn checked(answer: c_int) -> Result<u32, Error> {
    u32::try_from(answer).map_err(|_| Error::last_error())
}

fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: libvirt's texts end with a NUL; they are read before they are freed.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// `virDomainFSFreeze` of all file systems.
pub(crate) fn freeze(domain: &Domain) -> Result<u32, Error> {
    // SAFETY: the handle is live as long as the reference; null means all of them.
    ask(|| checked(unsafe { sys::virDomainFSFreeze(domain.as_ptr(), null_mut(), 0, 0) }))
}

/// `virDomainFSThaw` of all file systems.
pub(crate) fn thaw(domain: &Domain) -> Result<u32, Error> {
    // SAFETY: the handle is live as long as the reference; null means all of them.
    ask(|| checked(unsafe { sys::virDomainFSThaw(domain.as_ptr(), null_mut(), 0, 0) }))
}

/// Everything the agent tells, by libvirt's names (`virDomainGetGuestInfo`). What this agent cannot tell is left out.
pub(super) fn info(domain: &Domain) -> Result<HashMap<String, String>, Error> {
    let (mut values, mut count): (sys::virTypedParameterPtr, c_int) = (null_mut(), 0);
    // SAFETY: the handle is live and the two places are ours; libvirt allocates the list, which is freed below.
    ask(|| checked(unsafe { sys::virDomainGetGuestInfo(domain.as_ptr(), 0, &mut values, &mut count, 0) }))?;
    let mut told = HashMap::new();
    if values.is_null() {
        return Ok(told);
    }
    // SAFETY: libvirt answered `count` values at this address, and nobody else has it.
    let list = unsafe { std::slice::from_raw_parts(values, usize::try_from(count).unwrap_or(0)) };
    for value in list {
        let name = owned(value.field.as_ptr());
        let text = match value.type_ as u32 {
            // SAFETY: the type says which member of the union is set.
            sys::VIR_TYPED_PARAM_STRING => owned(unsafe { value.value.s }),
            // SAFETY: the same.
            sys::VIR_TYPED_PARAM_UINT => unsafe { value.value.ui }.to_string(),
            // SAFETY: the same.
            sys::VIR_TYPED_PARAM_INT => unsafe { value.value.i }.to_string(),
            // SAFETY: the same.
            sys::VIR_TYPED_PARAM_ULLONG => unsafe { value.value.ul }.to_string(),
            _ => continue,
        };
        told.insert(name, text);
    }
    // SAFETY: the list came from libvirt, is freed by its own function and not used afterwards.
    unsafe { sys::virTypedParamsFree(values, count) };
    Ok(told)
}

/// One order to the agent and its answer, both JSON (`virDomainQemuAgentCommand`).
pub(super) fn order(domain: &Domain, order: &str) -> Result<String, Error> {
    let order = CString::new(order)?;
    let patience = sys::VIR_DOMAIN_QEMU_AGENT_COMMAND_DEFAULT;
    ask(|| {
        // SAFETY: the handle is live and the text outlives the call.
        let answer = unsafe { sys::virDomainQemuAgentCommand(domain.as_ptr(), order.as_ptr(), patience, 0) };
        if answer.is_null() {
            return Err(Error::last_error());
        }
        let text = owned(answer);
        // SAFETY: libvirt allocated the answer with malloc and gave it to us; it is not used afterwards.
        unsafe { libc::free(answer.cast()) };
        Ok(text)
    })
}

/// The addresses that libvirt's networks gave to the machine (`virDomainInterfaceAddresses`).
pub(super) fn leases(domain: &Domain) -> Result<Vec<GuestInterface>, Error> {
    let mut list: *mut sys::virDomainInterfacePtr = null_mut();
    let source = sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE;
    // SAFETY: the handle is live and the place is ours; libvirt allocates the list, which is freed below.
    let count = ask(|| checked(unsafe { sys::virDomainInterfaceAddresses(domain.as_ptr(), &mut list, source, 0) }))?;
    let mut found = Vec::new();
    for at in 0..count as usize {
        // SAFETY: libvirt answered so many entries, each of which is live until it is freed here, once.
        unsafe {
            let entry = *list.add(at);
            let addresses = match (*entry).addrs.is_null() {
                true => &[][..],
                false => std::slice::from_raw_parts((*entry).addrs, (*entry).naddrs as usize),
            };
            found.push(GuestInterface {
                name: owned((*entry).name),
                mac: owned((*entry).hwaddr),
                addresses: addresses.iter().map(|a| format!("{}/{}", owned(a.addr), a.prefix)).collect(),
            });
            sys::virDomainInterfaceFree(entry);
        }
    }
    // SAFETY: the list itself was allocated by libvirt with malloc, and is not used afterwards.
    unsafe { libc::free(list.cast()) };
    Ok(found)
}
