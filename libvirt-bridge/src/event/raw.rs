//! The C side of events: one thread for libvirt's event loop, and a table of (event id, callback) that is registered on
//! each connection. This is the only unsafe code.
//!
//! Rules every callback keeps: it copies what it needs out of libvirt's memory, calls nothing of libvirt that talks to a
//! daemon, never blocks, and lets no panic through to C. An event that this libvirt or this driver does not know is
//! skipped: libvirt 9.0 refuses ids above 26, the test driver knows few.
#![allow(unsafe_code)]

use crate::connection::Hook;
use archipel_contract::{
    DomainId, NetworkId, PoolId,
    host::{DeviceChange, DomainChange, HostChange, NetworkChange, PoolChange},
};
use std::{
    ffi::{CStr, c_char, c_int, c_void},
    mem::transmute,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::null_mut,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};
use uuid::Uuid;
use virt::{
    connect::Connect,
    error::Error,
    event::{event_add_timeout, event_register_default_impl, event_run_default_impl},
    sys,
};

/// Starts libvirt's event loop on a thread of its own, once per process and before the first connection: a connection
/// made earlier would never report anything.
pub(crate) fn start_event_loop() -> Result<(), Error> {
    static STARTED: OnceLock<Result<(), Error>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            // Otherwise libvirt prints every error to stderr.
            virt::error::clear_error_callback();
            event_register_default_impl()?;
            // The loop is woken by everything that is added to it; this is for the case that one wake-up is ever missed.
            event_add_timeout(30_000, |_, _| {}, null_mut())?;
            let run = || {
                loop {
                    if let Err(error) = event_run_default_impl() {
                        // Cannot happen with a healthy loop; the pause keeps a sick one from eating a core.
                        tracing::error!(error = error.message(), "libvirt's event loop failed");
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            };
            if let Err(error) = thread::Builder::new().name("lv-events".into()).spawn(run) {
                tracing::error!(%error, "cannot start libvirt's event thread; no changes will be reported");
            }
            Ok(())
        })
        .clone()
}

/// All events registered on one connection; dropping it takes them back.
pub(crate) struct Registrations {
    connect: Connect,
    domain: Vec<c_int>,
    network: Vec<c_int>,
    pool: Vec<c_int>,
    device: Vec<c_int>,
    close: bool,
}

type Erased = unsafe extern "C" fn();

/// Registers everything this connection can report. Each registration owns a hook of its own, freed by libvirt.
pub(crate) fn register(connect: &Connect, hook: &dyn Fn() -> Hook) -> Registrations {
    // SAFETY: each function has exactly the C signature that libvirt documents for the event id beside it (the
    // `virConnect*Event*Callback` types of virt-sys); libvirt casts it back to that type before calling it. Function
    // pointers of different signatures have the same size, and the erased form is never called.
    let (domain, network, pool, device) = unsafe {
        (
            [
                (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, erase(on_lifecycle as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_REBOOT, erase(on_reboot as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_WATCHDOG, erase(on_watchdog as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_IO_ERROR, erase(on_io_error as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_GRAPHICS, erase(on_graphics as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, erase(on_device_removed as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, erase(on_block_job as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, erase(on_agent as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, erase(on_device_added as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, erase(on_migration_pass as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, erase(on_job_completed as *const ())),
                (sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, erase(on_metadata as *const ())),
            ],
            [(sys::VIR_NETWORK_EVENT_ID_LIFECYCLE, erase(on_network as *const ()))],
            [
                (sys::VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE, erase(on_pool as *const ())),
                (sys::VIR_STORAGE_POOL_EVENT_ID_REFRESH, erase(on_pool_refreshed as *const ())),
            ],
            [
                (sys::VIR_NODE_DEVICE_EVENT_ID_LIFECYCLE, erase(on_device as *const ())),
                (sys::VIR_NODE_DEVICE_EVENT_ID_UPDATE, erase(on_device_updated as *const ())),
            ],
        )
    };
    // SAFETY: the pointer stays valid as long as `connect`, of which `Registrations` keeps a reference of its own.
    let raw = unsafe { connect.as_ptr() };
    let each = |kind: &str, id: u32, register: &dyn Fn(*mut c_void) -> c_int| {
        let opaque = Box::into_raw(Box::new(hook())).cast::<c_void>();
        match crate::count::ask(|| Ok::<_, Error>(register(opaque))) {
            Ok(number) if number >= 0 => Some(number),
            _ => {
                // SAFETY: libvirt refused, so it keeps no copy; the box was made just above.
                unsafe { free_hook(opaque) };
                tracing::debug!(kind, id, error = Error::last_error().message(), "this event cannot be had here");
                None
            }
        }
    };
    let domain = domain.iter().filter_map(|(id, callback)| {
        // SAFETY: connection and callback as above; `free_hook` undoes exactly the box that made the opaque pointer.
        each("domain", *id, &|opaque| unsafe {
            sys::virConnectDomainEventRegisterAny(
                raw,
                null_mut(),
                *id as c_int,
                transmute::<Erased, sys::virConnectDomainEventGenericCallback>(*callback),
                opaque,
                Some(free_hook),
            )
        })
    });
    let network = network.iter().filter_map(|(id, callback)| {
        // SAFETY: as for domains.
        each("network", *id, &|opaque| unsafe {
            sys::virConnectNetworkEventRegisterAny(
                raw,
                null_mut(),
                *id as c_int,
                transmute::<Erased, sys::virConnectNetworkEventGenericCallback>(*callback),
                opaque,
                Some(free_hook),
            )
        })
    });
    let pool = pool.iter().filter_map(|(id, callback)| {
        // SAFETY: as for domains.
        each("storage pool", *id, &|opaque| unsafe {
            sys::virConnectStoragePoolEventRegisterAny(
                raw,
                null_mut(),
                *id as c_int,
                transmute::<Erased, sys::virConnectStoragePoolEventGenericCallback>(*callback),
                opaque,
                Some(free_hook),
            )
        })
    });
    let device = device.iter().filter_map(|(id, callback)| {
        // SAFETY: as for domains.
        each("node device", *id, &|opaque| unsafe {
            sys::virConnectNodeDeviceEventRegisterAny(
                raw,
                null_mut(),
                *id as c_int,
                transmute::<Erased, sys::virConnectNodeDeviceEventGenericCallback>(*callback),
                opaque,
                Some(free_hook),
            )
        })
    });
    let (domain, network, pool, device) = (domain.collect(), network.collect(), pool.collect(), device.collect());
    // SAFETY: `on_close` has the signature of virConnectCloseFunc; the rest as above.
    let close = each("close", 0, &|opaque| unsafe { sys::virConnectRegisterCloseCallback(raw, Some(on_close), opaque, Some(free_hook)) });
    Registrations { connect: connect.clone(), domain, network, pool, device, close: close.is_some() }
}

impl Drop for Registrations {
    fn drop(&mut self) {
        // SAFETY: `self.connect` holds a reference, so the pointer is valid.
        let raw = unsafe { self.connect.as_ptr() };
        // On a dead connection these fail, which is as good: nothing comes from it any more.
        let take_back = |ids: &[c_int], take: unsafe extern "C" fn(sys::virConnectPtr, c_int) -> c_int| {
            for id in ids {
                // SAFETY: the ids were given out by this connection for this kind of event, and are taken back once.
                let _ = crate::count::ask(|| Ok::<_, Error>(unsafe { take(raw, *id) }));
            }
        };
        take_back(&self.domain, sys::virConnectDomainEventDeregisterAny);
        take_back(&self.network, sys::virConnectNetworkEventDeregisterAny);
        take_back(&self.pool, sys::virConnectStoragePoolEventDeregisterAny);
        take_back(&self.device, sys::virConnectNodeDeviceEventDeregisterAny);
        if self.close {
            // SAFETY: it was registered on this connection with this function.
            let _ = crate::count::ask(|| Ok::<_, Error>(unsafe { sys::virConnectUnregisterCloseCallback(raw, Some(on_close)) }));
        }
    }
}

/// # Safety
/// `callback` must be a function item's address.
unsafe fn erase(callback: *const ()) -> Erased {
    // SAFETY: by contract it is a function's address, so neither null nor data.
    unsafe { transmute::<*const (), Erased>(callback) }
}

/// # Safety
/// `opaque` must come from `Box::into_raw` of a `Hook`, and must not be used afterwards.
unsafe extern "C" fn free_hook(opaque: *mut c_void) {
    // SAFETY: by contract.
    let hook = unsafe { Box::from_raw(opaque.cast::<Hook>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(hook)));
}

/// Runs a callback's body: finds the hook, and keeps panics away from C.
///
/// # Safety
/// `opaque` must be a live `Hook`, as it is in every callback registered above until `free_hook`.
unsafe fn with(opaque: *mut c_void, body: impl FnOnce(&Hook)) {
    // SAFETY: by contract.
    let hook = unsafe { &*opaque.cast::<Hook>() };
    if catch_unwind(AssertUnwindSafe(|| body(hook))).is_err() {
        tracing::error!("a libvirt event callback panicked; the event is lost");
    }
}

/// # Safety
/// `text` must be null or a C string that lives through the call.
unsafe fn text(text: *const c_char) -> Arc<str> {
    if text.is_null() {
        return "".into();
    }
    // SAFETY: by contract and the check above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into()
}

macro_rules! uuid_of {
    ($name:ident, $pointer:ty, $get:path, $id:path) => {
        /// # Safety
        /// The pointer must be a live handle, as libvirt passes it to a callback. Reading its UUID is a copy in memory.
        unsafe fn $name(handle: $pointer) -> Option<$id> {
            let mut bytes = [0u8; sys::VIR_UUID_BUFLEN as usize];
            // SAFETY: a live handle, and a buffer of the length libvirt asks for.
            (unsafe { $get(handle, bytes.as_mut_ptr()) } == 0).then(|| $id(Uuid::from_bytes(bytes)))
        }
    };
}
uuid_of!(domain_id, sys::virDomainPtr, sys::virDomainGetUUID, DomainId);
uuid_of!(network_id, sys::virNetworkPtr, sys::virNetworkGetUUID, NetworkId);
uuid_of!(pool_id, sys::virStoragePoolPtr, sys::virStoragePoolGetUUID, PoolId);

/// # Safety
/// As for `with` and `domain_id`.
unsafe fn tell_domain(domain: sys::virDomainPtr, opaque: *mut c_void, change: impl FnOnce() -> Option<DomainChange>) {
    // SAFETY: by contract.
    unsafe {
        with(opaque, |hook| {
            if let (Some(id), Some(change)) = (domain_id(domain), change()) {
                hook.changed(HostChange::Domain(id, change));
            }
        })
    }
}

// ---------------------------------------------------------------- the callbacks
// Each is called by libvirt only, with live handles and with the hook it was registered with.

type C = sys::virConnectPtr;
type D = sys::virDomainPtr;

unsafe extern "C" fn on_lifecycle(_: C, domain: D, event: c_int, detail: c_int, opaque: *mut c_void) -> c_int {
    // SAFETY: called by libvirt as described above.
    unsafe { tell_domain(domain, opaque, || super::domain_lifecycle(event as u32, detail as u32)) };
    0
}

unsafe extern "C" fn on_reboot(_: C, domain: D, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::Rebooted)) }
}

unsafe extern "C" fn on_watchdog(_: C, domain: D, action: c_int, opaque: *mut c_void) {
    let word = match action as u32 {
        sys::VIR_DOMAIN_EVENT_WATCHDOG_PAUSE => "pause",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_RESET => "reset",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF => "poweroff",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN => "shutdown",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_DEBUG => "debug",
        sys::VIR_DOMAIN_EVENT_WATCHDOG_INJECTNMI => "inject-nmi",
        _ => "none",
    };
    // SAFETY: called by libvirt as described above.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::Watchdog(word))) }
}

unsafe extern "C" fn on_io_error(_: C, domain: D, path: *const c_char, _alias: *const c_char, action: c_int, opaque: *mut c_void) {
    let word = match action as u32 {
        sys::VIR_DOMAIN_EVENT_IO_ERROR_PAUSE => "pause",
        sys::VIR_DOMAIN_EVENT_IO_ERROR_REPORT => "report",
        _ => "none",
    };
    // SAFETY: called by libvirt as described above; the strings live through the call.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::IoError(text(path), word))) }
}

unsafe extern "C" fn on_graphics(
    _: C,
    domain: D,
    phase: c_int,
    _local: *const sys::virDomainEventGraphicsAddress,
    remote: *const sys::virDomainEventGraphicsAddress,
    _scheme: *const c_char,
    _subject: *const sys::virDomainEventGraphicsSubject,
    opaque: *mut c_void,
) {
    let word = match phase as u32 {
        sys::VIR_DOMAIN_EVENT_GRAPHICS_CONNECT => "connect",
        sys::VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE => "initialize",
        _ => "disconnect",
    };
    // SAFETY: called by libvirt as described above; the address and its strings live through the call, or are null.
    unsafe {
        tell_domain(domain, opaque, || {
            let peer = remote.as_ref().map(|r| format!("{}:{}", text(r.node), text(r.service))).unwrap_or_default();
            Some(DomainChange::Graphics(word, peer.into()))
        })
    }
}

unsafe extern "C" fn on_device_added(_: C, domain: D, alias: *const c_char, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above; the string lives through the call.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::DeviceAdded(text(alias)))) }
}

unsafe extern "C" fn on_device_removed(_: C, domain: D, alias: *const c_char, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above; the string lives through the call.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::DeviceRemoved(text(alias)))) }
}

unsafe extern "C" fn on_block_job(_: C, domain: D, disk: *const c_char, _type: c_int, status: c_int, opaque: *mut c_void) {
    let word = match status as u32 {
        sys::VIR_DOMAIN_BLOCK_JOB_COMPLETED => "completed",
        sys::VIR_DOMAIN_BLOCK_JOB_CANCELED => "canceled",
        sys::VIR_DOMAIN_BLOCK_JOB_READY => "ready",
        _ => "failed",
    };
    // SAFETY: called by libvirt as described above; the string lives through the call.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::BlockJob(text(disk), word))) }
}

unsafe extern "C" fn on_agent(_: C, domain: D, state: c_int, _reason: c_int, opaque: *mut c_void) {
    let answers = state as u32 == sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED;
    // SAFETY: called by libvirt as described above.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::Agent(answers))) }
}

unsafe extern "C" fn on_migration_pass(_: C, domain: D, pass: c_int, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::Job(format!("migration pass {pass}").into()))) }
}

unsafe extern "C" fn on_job_completed(_: C, domain: D, params: sys::virTypedParameterPtr, count: c_int, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above; `params` are `count` parameters that live through the call.
    unsafe {
        tell_domain(domain, opaque, || {
            let params = if params.is_null() { &[] } else { std::slice::from_raw_parts(params, usize::try_from(count).unwrap_or(0)) };
            let operation = params.iter().find_map(|p| {
                let is = p.type_ as u32 == sys::VIR_TYPED_PARAM_INT && CStr::from_ptr(p.field.as_ptr()).to_bytes() == b"operation";
                if is { Some(p.value.i as u32) } else { None }
            });
            Some(DomainChange::Job(job(operation.unwrap_or(0)).into()))
        })
    }
}

/// What a finished job was, in `virDomainJobOperation`'s words.
fn job(operation: u32) -> &'static str {
    match operation {
        sys::VIR_DOMAIN_JOB_OPERATION_START => "start completed",
        sys::VIR_DOMAIN_JOB_OPERATION_SAVE => "save completed",
        sys::VIR_DOMAIN_JOB_OPERATION_RESTORE => "restore completed",
        sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN => "incoming migration completed",
        sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT => "outgoing migration completed",
        sys::VIR_DOMAIN_JOB_OPERATION_SNAPSHOT => "snapshot completed",
        sys::VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT => "snapshot revert completed",
        sys::VIR_DOMAIN_JOB_OPERATION_DUMP => "dump completed",
        sys::VIR_DOMAIN_JOB_OPERATION_BACKUP => "backup completed",
        _ => "job completed",
    }
}

unsafe extern "C" fn on_metadata(_: C, domain: D, _type: c_int, _uri: *const c_char, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above.
    unsafe { tell_domain(domain, opaque, || Some(DomainChange::Changed("metadata"))) }
}

unsafe extern "C" fn on_network(_: C, network: sys::virNetworkPtr, event: c_int, _detail: c_int, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above.
    unsafe {
        with(opaque, |hook| {
            if let Some(id) = network_id(network) {
                let change: NetworkChange = super::network_lifecycle(event as u32);
                hook.changed(HostChange::Network(id, change));
            }
        })
    }
}

unsafe extern "C" fn on_pool(_: C, pool: sys::virStoragePoolPtr, event: c_int, _detail: c_int, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above.
    unsafe {
        with(opaque, |hook| {
            if let Some(id) = pool_id(pool) {
                hook.changed(HostChange::StoragePool(id, super::pool_lifecycle(event as u32)));
            }
        })
    }
}

unsafe extern "C" fn on_pool_refreshed(_: C, pool: sys::virStoragePoolPtr, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above.
    unsafe {
        with(opaque, |hook| {
            if let Some(id) = pool_id(pool) {
                hook.changed(HostChange::StoragePool(id, PoolChange::Refreshed));
            }
        })
    }
}

unsafe extern "C" fn on_device(_: C, device: sys::virNodeDevicePtr, event: c_int, _detail: c_int, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above; the name is part of the live handle.
    unsafe {
        with(opaque, |hook| {
            let name = text(sys::virNodeDeviceGetName(device));
            hook.changed(HostChange::NodeDevice(name, super::device_lifecycle(event as u32)));
        })
    }
}

unsafe extern "C" fn on_device_updated(_: C, device: sys::virNodeDevicePtr, opaque: *mut c_void) {
    // SAFETY: called by libvirt as described above; the name is part of the live handle.
    unsafe {
        with(opaque, |hook| {
            let name = text(sys::virNodeDeviceGetName(device));
            hook.changed(HostChange::NodeDevice(name, DeviceChange::Updated));
        })
    }
}

unsafe extern "C" fn on_close(_: C, reason: c_int, opaque: *mut c_void) {
    let why = match reason as u32 {
        sys::VIR_CONNECT_CLOSE_REASON_EOF => "libvirtd closed the connection",
        sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => "libvirtd gave no sign of life",
        sys::VIR_CONNECT_CLOSE_REASON_CLIENT => "the connection was closed from this side",
        _ => "the connection broke",
    };
    // SAFETY: called by libvirt as described above.
    unsafe { with(opaque, |hook| hook.lost(why)) }
}
