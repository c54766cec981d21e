//! The port for backups and checkpoints.
//!
//! | file | holds |
//! |---|---|
//! | `archive` | backups as they lie in a pool |
//! | `take` | one that is made |
//! | `restore` | one that comes back |
//! | `tool` | `qemu-img` |
//! | `raw` | the C that `virt` lacks |

pub(crate) mod archive;
mod raw;
mod restore;
mod take;
pub(crate) mod tool;

use crate::{
    connection::{Lane, Link, Trouble},
    count::ask,
    definition, domain, fault, migration,
    volume::landscape::landscape,
    xml::backup as xml,
};
use archipel_contract::{
    BoxFuture, DomainId, Fault, PoolId,
    backup::{Archive, BackupDisk, BackupOrder, BackupPort, Checkpoint, Manifest, RestoreOrder, Restored},
    volume::{Unused, VolumeFormat},
    work::Follower,
};
use archive::Place;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use virt::{domain::Domain, sys};

/// How long libvirt may take to end a job that was given up.
const END: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(50);

fn checkpoints(domain: &Domain) -> Result<Vec<Checkpoint>, Trouble> {
    let mut all = Vec::new();
    for checkpoint in raw::Checkpoint::all(domain)? {
        // It may have been deleted between the listing and the look at it.
        let text = match checkpoint.xml() {
            Err(error) if fault::is_gone(&error) => continue,
            told => told?,
        };
        all.push(xml::read_checkpoint(&text).map_err(|e| domain::unreadable("a checkpoint", e))?);
    }
    all.sort_by_key(|c| c.created);
    Ok(all)
}

/// Deletes a checkpoint. Of a machine that is off, or whose images have lost their notes, libvirt can only forget it; then the notes are
/// taken out of the images here.
fn delete_checkpoint(domain: &Domain, name: &str) -> Result<(), Trouble> {
    let checkpoint = raw::Checkpoint::named(domain, name)?;
    let whole = checkpoint.delete(false);
    if whole.is_ok() {
        return Ok(());
    }
    checkpoint.delete(true)?;
    if ask(|| domain.is_active())? {
        return Ok(());
    }
    let root = definition::tree(&ask(|| domain.xml_desc(0))?)?;
    for disk in xml::taking(&root).disks.iter().filter(|d| d.local && d.format == VolumeFormat::Qcow2) {
        // Not every disk was part of it.
        if let Err(Trouble::Ours(fault)) = tool::forget_bitmap(&disk.source, name) {
            tracing::debug!(disk = disk.device, %fault, "an image had no notes of a checkpoint");
        }
    }
    Ok(())
}

/// The same for one that may be gone, and whose staying harms nobody.
fn drop_checkpoint(domain: &Domain, name: &str) {
    match delete_checkpoint(domain, name) {
        Ok(()) => {}
        Err(Trouble::Libvirt(error)) if fault::is_gone(&error) => {}
        Err(Trouble::Libvirt(error)) => tracing::warn!(checkpoint = name, %error, "a checkpoint that nobody needs could not be deleted"),
        Err(Trouble::Ours(fault)) => tracing::warn!(checkpoint = name, %fault, "a checkpoint that nobody needs could not be deleted"),
    }
}

/// Gives a backup up that nobody follows any more: its job, its checkpoint and its files.
fn clear_up(domain: &Domain, place: &Place, draft: &Manifest) -> Result<Vec<String>, Trouble> {
    if ask(|| domain.is_active())? {
        let ours = |text: String| draft.disks.iter().any(|d| text.contains(&d.file));
        if take::job(domain)?.is_some_and(|job| job.operation == sys::VIR_DOMAIN_JOB_OPERATION_BACKUP)
            && raw::under_way(domain).is_ok_and(ours)
        {
            migration::raw::abort(domain)?;
            let end = Instant::now() + END;
            while take::job(domain)?.is_some() {
                if Instant::now() > end {
                    return Err(Fault::busy("libvirt has not ended a backup that was given up; ask again in a moment").into());
                }
                thread::sleep(LOOK);
            }
        }
    }
    if let Some(checkpoint) = &draft.checkpoint {
        drop_checkpoint(domain, checkpoint);
    }
    Ok(place.discard(draft))
}

impl BackupPort for Link {
    fn archive(&self, pool: PoolId) -> BoxFuture<'_, Result<Archive, Fault>> {
        self.call(Lane::Read, "listing backups", move |session| match Place::maybe(&session.connect, &session.uri, pool)? {
            Some(place) => place.archive(),
            None => Ok(Archive::default()),
        })
    }

    fn take(&self, id: DomainId, order: BackupOrder, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Manifest, Fault>> {
        let (uri, host) = (self.config().uri.clone(), self.config().name.clone());
        self.apart("backing up a virtual machine", move |connect| take::take(connect, &uri, &host, id, &order, &*follower))
    }

    fn verify(&self, pool: PoolId, chain: Vec<Manifest>, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<(), Fault>> {
        let uri = self.config().uri.clone();
        self.apart("verifying a backup", move |connect| {
            let place = Place::open(connect, &uri, pool)?;
            let disks: Vec<&BackupDisk> = chain.iter().flat_map(|m| &m.disks).collect();
            archive::verify(&place, &disks, &*follower, (0, 100))
        })
    }

    fn restore(&self, order: RestoreOrder, disks: Vec<Unused>, follower: Arc<dyn Follower>) -> BoxFuture<'_, Result<Restored, Fault>> {
        let uri = self.config().uri.clone();
        self.apart("restoring a backup", move |connect| restore::restore(connect, &uri, &order, &disks, &*follower))
    }

    fn remove(&self, pool: PoolId, manifest: Manifest, unused: Vec<Unused>) -> BoxFuture<'_, Result<(), Fault>> {
        let uri = self.config().uri.clone();
        self.apart("deleting a backup", move |connect| {
            let place = Place::open(connect, &uri, pool)?;
            place.free_of_users(&landscape(connect, &uri)?, &manifest, &unused)?;
            place.remove(&manifest)
        })
    }

    fn abandon(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        let (uri, host) = (self.config().uri.clone(), self.config().name.clone());
        self.apart("clearing up after a backup", move |connect| {
            let domain = ask(|| connect.lookup_domain_by_uuid(id.0))?;
            let mut gone = Vec::new();
            for place in Place::all(connect, &uri)? {
                // On a pool that hosts share, another may be at work on a machine of its own.
                for draft in place.drafts()?.iter().filter(|d| d.uuid == id && d.host == host) {
                    gone.extend(clear_up(&domain, &place, draft)?);
                }
            }
            Ok(gone)
        })
    }

    fn checkpoints(&self, id: DomainId) -> BoxFuture<'_, Result<Vec<Checkpoint>, Fault>> {
        self.call(Lane::Read, "listing checkpoints", move |session| checkpoints(&session.domain(id)?))
    }

    fn delete_checkpoint(&self, id: DomainId, name: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "deleting a checkpoint", move |session| delete_checkpoint(&session.domain(id)?, &name))
    }
}
