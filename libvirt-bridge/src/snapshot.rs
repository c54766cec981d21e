//! The port for snapshots and saved memory.

use crate::{
    apart::followed,
    connection::{Lane, Link, Trouble},
    count::ask,
    fault,
    xml::{read, tree::Element, tree::write},
};
use archipel_contract::{
    BoxFuture, DomainId, Fault, FaultKind, RightToRun,
    domain::{Snapshot, SnapshotPort, SnapshotSpec},
    work::Follower,
};
use std::sync::Arc;
use virt::{connect::Connect, domain::Domain, error::ErrorNumber, sys};

fn machine(connect: &Connect, id: DomainId) -> Result<Domain, Trouble> {
    Ok(ask(|| connect.lookup_domain_by_uuid(id.0))?)
}

/// The definition of a snapshot. Which disks and whether with memory follows from the flags.
fn definition(spec: &SnapshotSpec) -> String {
    let plain = |name: &str, text: &str| Element::new(name).saying(text);
    let root = Element::new("domainsnapshot").holding(plain("name", &spec.name));
    write(&root.holding_all(spec.description.as_deref().map(|d| plain("description", d))))
}

/// The flags for a new snapshot. Disks are taken all or none.
fn flags(spec: &SnapshotSpec) -> u32 {
    let mut flags = 0;
    if spec.external {
        flags |= sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC;
    }
    if spec.quiesce {
        flags |= sys::VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE;
    }
    flags
}

fn list(domain: &Domain) -> Result<Vec<Snapshot>, Trouble> {
    let current = match ask(|| domain.current_snapshot(0)) {
        Ok(snapshot) => Some(snapshot.name()?),
        Err(error) if fault::is_gone(&error) => None,
        Err(error) => return Err(error.into()),
    };
    let mut all = Vec::new();
    for snapshot in ask(|| domain.list_all_snapshots(sys::VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL))? {
        // It may have been deleted between the listing and the look at it.
        let xml = match ask(|| snapshot.xml_desc(0)) {
            Err(error) if fault::is_gone(&error) => continue,
            told => told?,
        };
        let mut told = read::snapshot(&xml).map_err(|e| crate::domain::unreadable("a snapshot", e))?;
        told.current = current.as_ref() == Some(&told.name);
        all.push(told);
    }
    // Parents come first already; among others, time decides.
    all.sort_by_key(|s| s.created);
    Ok(all)
}

impl SnapshotPort for Link {
    fn list(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Snapshot>, Fault>> {
        self.call(Lane::Read, "listing snapshots", move |session| list(&session.domain(id)?))
    }

    fn create(&self, id: DomainId, spec: SnapshotSpec, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>> {
        let words = format!("taking the snapshot {}", spec.name);
        let taking = self.apart("taking a snapshot", move |connect| {
            let domain = machine(connect, id)?;
            // libvirt calls a name that is taken an internal error or a wrong state, as the driver likes.
            if ask(|| Domain::lookup_snapshot_by_name(&domain, &spec.name, 0)).is_ok() {
                let text = format!("there is a snapshot {} already; choose another name", spec.name);
                return Err(Fault::new(FaultKind::Conflict, text).into());
            }
            ask(|| domain.create_snapshot_xml(&definition(&spec), flags(&spec)))?;
            Ok(())
        });
        followed(self, id, follower, words, taking)
    }

    fn revert(&self, right: RightToRun, name: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.apart("going back to a snapshot", move |connect| {
            let domain = machine(connect, right.domain())?;
            let snapshot = ask(|| Domain::lookup_snapshot_by_name(&domain, &name, 0))?;
            Ok(ask(|| snapshot.revert(0))?)
        })
    }

    fn delete(&self, id: DomainId, name: String, children: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.apart("deleting a snapshot", move |connect| {
            let domain = machine(connect, id)?;
            let snapshot = ask(|| Domain::lookup_snapshot_by_name(&domain, &name, 0))?;
            let flags = if children { sys::VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN } else { 0 };
            Ok(ask(|| snapshot.delete(flags))?)
        })
    }

    fn save(&self, id: DomainId, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>> {
        let saving = self.apart("saving the memory of a virtual machine", move |connect| {
            let domain = machine(connect, id)?;
            Ok(ask(|| domain.managed_save(0))?)
        });
        followed(self, id, follower, "saving the memory".to_owned(), saving)
    }

    fn is_saved(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>> {
        self.call(Lane::Read, "looking for saved memory", move |session| match ask(|| session.domain(id)?.has_managed_save(0)) {
            // A driver that saves nothing has nothing saved.
            Err(error) if error.code().known() == Some(ErrorNumber::NoSupport) => Ok(false),
            told => Ok(told?),
        })
    }

    fn discard_saved(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "throwing saved memory away", move |session| {
            let domain = session.domain(id)?;
            if !ask(|| domain.has_managed_save(0))? {
                return Err(Fault::wrong_state("it has no saved memory; its next start is a cold one").into());
            }
            Ok(ask(|| domain.managed_save_remove(0))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_stays_in_its_place() {
        let spec = SnapshotSpec { name: "a".into(), description: Some("<x>&".into()), external: true, quiesce: true };
        let root = crate::xml::tree::parse(&definition(&spec)).unwrap();
        assert_eq!((root.elements().count(), root.child("description").unwrap().text().as_str()), (2, "<x>&"));
        assert_ne!(flags(&spec) & sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC, 0, "disks are taken all or none");
        assert_ne!(flags(&spec) & sys::VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE, 0);
        assert_eq!(flags(&SnapshotSpec { external: false, quiesce: false, ..spec }), 0);
    }
}
