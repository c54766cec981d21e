//! The move itself, apart from all other calls. libvirt's own daemons do the moving (peer to peer), so it goes on when this
//! process ends.

use super::raw;
use crate::{
    connection::{Link, Trouble},
    count::ask,
};
use archipel_contract::{
    BoxFuture, Bytes, DomainId, Fault, FaultKind, Millis,
    migration::{Landing, Transferred, Transport, Way},
};
use std::time::Instant;
use virt::{
    connect::Connect,
    domain::{Domain, MigrateParameters},
    sys,
};

const DOING: &str = "moving a virtual machine";
const STILL_RUNS: &str = "libvirt takes the transfer for one that still runs, and it may heal by itself; if it does not within a minute, \
                          end the dead connection at the target, as the runbook of migration says";

impl Link {
    /// Moves a machine; with `resuming` it goes on with a post-copy that broke.
    pub(super) fn carry(&self, id: DomainId, to: Landing, way: Way, resuming: bool) -> BoxFuture<'_, Result<Transferred, Fault>> {
        let moving = self.apart(DOING, move |connect| transfer(connect, id, &to, &way, resuming));
        Box::pin(async move {
            // libvirt calls most of what breaks on the way an internal error, which says nothing to anybody.
            moving.await.map_err(|fault| match fault.kind {
                // Its QEMU takes the connection for alive: it is, and goes on sending, or the source alone has noticed its end.
                FaultKind::WrongState if resuming && fault.cause.is_some() => Fault { message: STILL_RUNS.to_owned(), ..fault },
                FaultKind::Internal => {
                    Fault { message: "libvirt gave the transfer up; see the cause and look where the machine is".to_owned(), ..fault }
                }
                _ => fault,
            })
        })
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
