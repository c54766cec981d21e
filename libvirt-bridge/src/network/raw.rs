//! The one C call of networks that `virt` lacks. The function is safe to call; the unsafe blocks say why.
#![allow(unsafe_code)]

use crate::count::ask;
use archipel_contract::{Timestamp, network::Lease};
use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};
use virt::{error::Error, network::Network, sys};

fn owned(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: libvirt's texts end with a NUL; they are read before they are freed.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // What a guest tells of itself is shown to people.
    Some(text.chars().filter(|c| !c.is_control()).take(256).collect::<String>()).filter(|t| !t.is_empty())
}

/// All addresses that a network has given out (`virNetworkGetDHCPLeases`).
pub(super) fn leases(network: &Network) -> Result<Vec<Lease>, Error> {
    let mut list: *mut sys::virNetworkDHCPLeasePtr = null_mut();
    let count = ask(|| {
        // SAFETY: the handle is live as long as the reference, null means every MAC, and the place is ours.
        let count = unsafe { sys::virNetworkGetDHCPLeases(network.as_ptr(), null(), &mut list, 0) };
        usize::try_from(count).map_err(|_| Error::last_error())
    })?;
    let mut found = Vec::new();
    for at in 0..count {
        // SAFETY: libvirt answered so many entries, each of which is live until it is freed here, once.
        unsafe {
            let entry = *list.add(at);
            let seconds = u64::try_from((*entry).expirytime).unwrap_or(0);
            found.push(Lease {
                mac: owned((*entry).mac).unwrap_or_default(),
                address: format!("{}/{}", owned((*entry).ipaddr).unwrap_or_default(), (*entry).prefix),
                name: owned((*entry).hostname),
                expires: (seconds > 0).then(|| Timestamp(seconds.saturating_mul(1000))),
            });
            sys::virNetworkDHCPLeaseFree(entry);
        }
    }
    // SAFETY: the list itself was allocated by libvirt with malloc, and is not used afterwards.
    unsafe { libc::free(list.cast()) };
    Ok(found)
}
