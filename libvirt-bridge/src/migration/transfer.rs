//! The move itself: a thread and a connection of its own for each, as it takes as long as it takes.
//!
//! ```text
//!   asked --> thread --> connected --> begun ------> libvirt answers --> told
//!                |            |
//!                +-- 30 s ----+--> withdrawn: nothing was done
//! ```
//! A connection of its own, because libvirtd answers five calls of one client at a time: a few transfers on the common
//! connection, and every other call, signs of life included, would wait for the first of them to end. libvirt's own
//! daemons do the moving (peer to peer), so it goes on when this process ends.

use super::raw;
use crate::{
    LinkConfig,
    connection::{Link, Trouble},
    count::{self, ask},
    event::raw::start_event_loop,
    fault,
};
use archipel_contract::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind, Millis,
    migration::{Landing, Transferred, Transport, Way},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};
use tokio::sync::oneshot;
use virt::{
    connect::Connect,
    domain::{Domain, MigrateParameters},
    error::Error,
    sys,
};

const DOING: &str = "moving a virtual machine";

/// One of the transfers that may be under way; dropping it makes room.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(link: &Link) -> Result<Slot, Fault> {
        let most = link.config().transfers;
        let slot = Slot(link.transfers.clone());
        if slot.0.fetch_add(1, Ordering::AcqRel) >= most {
            let name = &link.config().name;
            return Err(Fault::busy(format!("{most} machines are on their way from {name} already; wait until one has arrived")));
        }
        Ok(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Link {
    /// Moves a machine; with `resuming` it goes on with a post-copy that broke.
    pub(super) fn carry(&self, id: DomainId, to: Landing, way: Way, resuming: bool) -> BoxFuture<'_, Result<Transferred, Fault>> {
        Box::pin(async move {
            self.reachable()?;
            let slot = Slot::take(self)?;
            let config = self.config().clone();
            let patience = config.deadline;
            let (begin, begun) = oneshot::channel::<()>();
            let (send, receive) = oneshot::channel();
            let given_up = Arc::new(AtomicBool::new(false));
            let withdrawn = given_up.clone();
            let body = move || {
                let answer = catch_unwind(AssertUnwindSafe(|| {
                    let connect = connect(&config)?;
                    // Exactly one side gets to say how it goes on: the caller who waited too long, or this thread.
                    if withdrawn.swap(true, Ordering::AcqRel) {
                        return Err(Fault::unavailable("nobody waits for this any more"));
                    }
                    let _ = begin.send(());
                    transfer(&connect, id, &to, &way, resuming).map_err(|trouble| told(&config, &connect, trouble))
                }));
                drop(slot);
                let defect = || Fault::internal(format!("a defect in the libvirt bridge showed while {DOING}; please report it"));
                // A receiver that is gone wants no answer; that is its own affair.
                let _ = send.send(answer.unwrap_or_else(|_| Err(defect())));
            };
            if let Err(error) = thread::Builder::new().name("lv-move".to_owned()).stack_size(1 << 20).spawn(body) {
                return Err(Fault::busy("the host has no thread left to move a machine with; try again later").because(error));
            }
            let late = tokio::time::timeout(patience, begun).await.is_err();
            if late && !given_up.swap(true, Ordering::AcqRel) {
                count::TIMEOUTS.fetch_add(1, Ordering::Relaxed);
                let (name, seconds) = (&self.config().name, patience.as_secs_f32());
                let text = format!("{name} did not answer for {seconds} s, so nothing was done while {DOING}; ask again later");
                return Err(Fault::new(FaultKind::Timeout, text));
            }
            receive
                .await
                .unwrap_or_else(|_| Err(Fault::internal(format!("the thread that was {DOING} ended without a word; look where it is"))))
        })
    }
}

fn connect(config: &LinkConfig) -> Result<Connect, Fault> {
    let open = || {
        start_event_loop()?;
        let connect = ask(|| Connect::open(Some(&config.uri)))?;
        if config.keepalive_seconds > 0 {
            // A driver that knows no signs of life works without.
            let _ = ask(|| connect.set_keep_alive(i32::from(config.keepalive_seconds), u32::from(config.keepalive_count)));
        }
        Ok(connect)
    };
    open().map_err(|error: Error| fault::fault(&error, DOING))
}

fn told(config: &LinkConfig, connect: &Connect, trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Ours(fault) => fault,
        Trouble::Libvirt(error) if fault::may_mean_dead(&error) && !matches!(ask(|| connect.is_alive()), Ok(true)) => {
            let text = format!("the connection to {} was lost while {DOING}; it may go on, look where the machine is", config.name);
            Fault::unavailable(text).because(error.message())
        }
        // libvirt calls most of what breaks on the way an internal error, which says nothing to anybody.
        Trouble::Libvirt(error) => match fault::fault(&error, DOING) {
            fault if fault.kind == FaultKind::Internal => {
                Fault { message: "libvirt gave the transfer up; see the cause and look where the machine is".to_owned(), ..fault }
            }
            fault => fault,
        },
    }
}

fn transfer(connect: &Connect, id: DomainId, to: &Landing, way: &Way, resuming: bool) -> Result<Transferred, Trouble> {
    let domain = ask(|| connect.lookup_domain_by_uuid(id.0))?;
    if !ask(|| domain.is_active())? {
        let name = domain.name()?;
        return Err(Fault::wrong_state(format!("{name} is off, so there is nothing to transfer; define it on the other host")).into());
    }
    let flags = flags(way, ask(|| domain.is_persistent())?, resuming);
    let began = Instant::now();
    ask(|| domain.migrate_to_uri3(Some(&to.uri), parameters(to, way), flags))?;
    let took = Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    // A transient machine is gone from here, and its figures with it; that costs only the figures.
    let job = raw::job(&domain, true).ok().filter(|job| job.operation == sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT);
    Ok(Transferred {
        downtime: job.as_ref().and_then(|job| job.downtime).map(Millis),
        took,
        sent: Bytes(job.map_or(0, |job| job.processed)),
    })
}

/// Never `VIR_MIGRATE_UNDEFINE_SOURCE`: libvirt sends no event for it, and the saga releases explicitly.
fn flags(way: &Way, persistent: bool, resuming: bool) -> u32 {
    let mut flags = sys::VIR_MIGRATE_LIVE | sys::VIR_MIGRATE_PEER2PEER;
    let wishes = [
        (persistent, sys::VIR_MIGRATE_PERSIST_DEST),
        (way.transport == Transport::Tls, sys::VIR_MIGRATE_TLS),
        (way.transport == Transport::Tunnelled, sys::VIR_MIGRATE_TUNNELLED),
        (way.copy_storage, sys::VIR_MIGRATE_NON_SHARED_DISK),
        (way.auto_converge, sys::VIR_MIGRATE_AUTO_CONVERGE),
        (way.parallel.is_some(), sys::VIR_MIGRATE_PARALLEL),
        (way.post_copy || resuming, sys::VIR_MIGRATE_POSTCOPY),
        (way.trust_storage, sys::VIR_MIGRATE_UNSAFE),
        (resuming, sys::VIR_MIGRATE_POSTCOPY_RESUME),
    ];
    for (wish, flag) in wishes {
        if wish {
            flags |= flag;
        }
    }
    flags
}

/// `virt` keeps a copy of each text for ever; there is at most one, of some dozens of bytes, for each move.
fn parameters(to: &Landing, way: &Way) -> MigrateParameters {
    let bandwidth = way.bandwidth_mib.map(u64::from);
    MigrateParameters {
        bandwidth,
        // Without it the second half of a post-copy knows no limit.
        bandwidth_postcopy: bandwidth.filter(|_| way.post_copy),
        parallel_connections: way.parallel.and_then(|n| i32::try_from(n).ok()),
        uri: to.data.as_deref().filter(|_| way.transport != Transport::Tunnelled).map(str::to_owned),
        ..MigrateParameters::default()
    }
}

/// The name of a machine for messages; its id where it has none.
pub(super) fn called(domain: &Domain, id: DomainId) -> String {
    domain.name().unwrap_or_else(|_| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_ever_undefined_behind_our_back_and_every_wish_has_its_flag() {
        let plain = flags(&Way::default(), true, false);
        assert_eq!(plain, sys::VIR_MIGRATE_LIVE | sys::VIR_MIGRATE_PEER2PEER | sys::VIR_MIGRATE_PERSIST_DEST);
        assert_eq!(flags(&Way::default(), false, false) & sys::VIR_MIGRATE_PERSIST_DEST, 0, "what is transient stays transient");
        let all = Way {
            transport: Transport::Tls,
            copy_storage: true,
            auto_converge: true,
            bandwidth_mib: Some(5),
            parallel: Some(2),
            post_copy: true,
            trust_storage: true,
        };
        let wishes = sys::VIR_MIGRATE_TLS
            | sys::VIR_MIGRATE_NON_SHARED_DISK
            | sys::VIR_MIGRATE_AUTO_CONVERGE
            | sys::VIR_MIGRATE_PARALLEL
            | sys::VIR_MIGRATE_POSTCOPY
            | sys::VIR_MIGRATE_UNSAFE;
        assert_eq!(flags(&all, true, false), plain | wishes);
        assert_eq!(flags(&all, true, false) & (sys::VIR_MIGRATE_UNDEFINE_SOURCE | sys::VIR_MIGRATE_POSTCOPY_RESUME), 0);
        let resumed = sys::VIR_MIGRATE_POSTCOPY | sys::VIR_MIGRATE_POSTCOPY_RESUME;
        assert_eq!(flags(&Way::default(), true, true), plain | resumed);
        let to = Landing { uri: "qemu+tls://b/system".into(), data: Some("tcp://10.0.0.2".into()) };
        let given = parameters(&to, &all);
        assert_eq!((given.bandwidth, given.bandwidth_postcopy, given.parallel_connections), (Some(5), Some(5), Some(2)));
        assert_eq!(given.uri.as_deref(), Some("tcp://10.0.0.2"));
        let tunnelled = Way { transport: Transport::Tunnelled, ..Way::default() };
        assert_eq!(flags(&tunnelled, true, false), plain | sys::VIR_MIGRATE_TUNNELLED);
        assert_eq!(parameters(&to, &tunnelled).uri, None, "a tunnel has no way of its own");
    }
}
