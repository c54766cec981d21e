//! A backup that is made.
//!
//! ```text
//!   draft --running--> (frozen) libvirt begins, checkpoint with it (thawed) --job followed--> written
//!     \-----off------> qemu-img copies each disk ------------------------------------------> written
//!   written --> each file says on what it is built --> read back --> commit: it is a backup
//!   whatever fails, or is cancelled: the job is given up, checkpoint, files and draft go
//! ```
//! QEMU keeps what the disks held when libvirt began, so the guest goes on at once; that is also why it is frozen for that moment only.

use super::{
    archive::{Place, digest, part},
    drop_checkpoint, raw, tool,
};
use crate::{
    connection::Trouble,
    count::ask,
    definition, domain, guest, migration,
    xml::backup::{self as xml, Taking, Target},
};
use archipel_contract::{
    Bytes, DomainId, Fault, HypervisorName,
    backup::{BackupDisk, BackupKind, BackupOrder, MANIFEST_VERSION, Manifest, backup_name, disk_kind},
    domain::DomainState,
    volume::{UNFINISHED, VolumeFormat},
    work::Follower,
};
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};
use virt::{
    connect::Connect,
    domain::Domain,
    error::{Error, ErrorNumber},
    sys,
};

/// How often the progress of a job is read while it is followed.
const LOOK: Duration = Duration::from_millis(200);
/// How long a guest that goes down may take until it is off. QEMU is left alone meanwhile.
const GOING_DOWN: Duration = Duration::from_secs(120);
/// How long the guest's agent may take to freeze or thaw, in seconds.
const AGENT: i32 = 20;
/// libvirt's word for waiting for the agent for ever, which is what it does by default.
const FOR_EVER: i32 = -2;
/// Which part of the work is writing, and which reading back, in percent.
const WRITING: (u64, u64) = (0, 80);
const READING: (u64, u64) = (80, 99);

/// One backup on its way.
struct Making<'a> {
    place: &'a Place,
    domain: &'a Domain,
    order: &'a BackupOrder,
    taking: Taking,
    follower: &'a dyn Follower,
}

pub(super) fn take(
    connect: &Connect,
    uri: &str,
    host: &HypervisorName,
    id: DomainId,
    order: &BackupOrder,
    follower: &dyn Follower,
) -> Result<Manifest, Trouble> {
    let domain = ask(|| connect.lookup_domain_by_uuid(id.0))?;
    let place = Place::open(connect, uri, order.pool)?;
    let running = ask(|| domain.is_active())?;
    let name = domain.name()?;
    if running && job(&domain)?.is_some() {
        return Err(Fault::busy(format!("{name} is being backed up or moved already; wait until that has ended")).into());
    }
    // Of what runs, its disks as they are now; the definition that stays is what comes back.
    let root = definition::tree(&ask(|| domain.xml_desc(0))?)?;
    let definition = ask(|| domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))?;
    let taking = xml::taking(&root);
    if taking.disks.is_empty() {
        return Err(Fault::wrong_state(format!("{name} has no disk that could be backed up: {}", taking.left_out.join("; "))).into());
    }
    if let Some(disk) = taking.disks.iter().find(|d| !running && !d.local) {
        let text = format!("{} is on {}, which can only be backed up while the machine runs; start it first", disk.device, disk.source);
        return Err(Fault::wrong_state(text).into());
    }
    let making = Making { place: &place, domain: &domain, order, taking, follower };
    let base = match &order.base {
        Ok(_) if !running => Err("the machine is off, and what was written while it is off is not noted".to_owned()),
        Ok(base) => Ok(base),
        Err(why) => Err(why.clone()),
    };
    let plan = |base: Result<&Manifest, String>| making.plan(base, host, id, &name, running, &definition);
    let draft = plan(base)?;
    match making.make(draft) {
        Err(Trouble::Libvirt(error)) if is_inconsistent(&error) && !order.strict => {
            let why = format!("the notes of the last checkpoint are of no use any more, as after a crash ({})", error.message());
            making.make(plan(Err(why))?)
        }
        Err(Trouble::Libvirt(error)) if is_inconsistent(&error) => {
            Err(Fault::wrong_state("the notes of the last checkpoint are of no use any more, as after a crash; make a full backup")
                .because(error.message())
                .into())
        }
        made => made,
    }
}

/// Whether QEMU has not noted what was written since the checkpoint.
fn is_inconsistent(error: &Error) -> bool {
    matches!(error.code().known(), Some(ErrorNumber::CheckpointInconsistent | ErrorNumber::NoDomainCheckpoint))
}

/// The job that is under way on a machine.
pub(super) fn job(domain: &Domain) -> Result<Option<migration::raw::Job>, Error> {
    let job = migration::raw::job(domain, false)?;
    Ok(if job.kind == sys::VIR_DOMAIN_JOB_NONE { None } else { Some(job) })
}

impl Making<'_> {
    /// What is going to be made. Refused when it had to be an incremental one and cannot.
    fn plan(
        &self,
        base: Result<&Manifest, String>,
        host: &HypervisorName,
        id: DomainId,
        machine: &str,
        running: bool,
        definition: &str,
    ) -> Result<Manifest, Trouble> {
        let mut sizes = Vec::new();
        for disk in &self.taking.disks {
            sizes.push(Bytes(ask(|| self.domain.block_info(&disk.device, 0))?.capacity));
        }
        let kinds: Vec<BackupKind> = self
            .taking
            .disks
            .iter()
            .zip(&sizes)
            .map(|(disk, size)| disk_kind(base.as_ref().ok().copied(), &disk.device, &disk.source, *size, disk.format))
            .collect();
        let base = match base {
            Ok(_) if !kinds.contains(&BackupKind::Incremental) => {
                Err("none of its disks can be taken in part: they are raw, or other or larger ones than before".to_owned())
            }
            other => other,
        };
        if let (true, Err(why)) = (self.order.strict, &base) {
            return Err(Fault::wrong_state(format!("no incremental backup can be made: {why}; make a full one")).into());
        }
        let kind = if base.is_ok() { BackupKind::Incremental } else { BackupKind::Full };
        let name = backup_name(machine, self.order.at, kind);
        self.place.free(&name)?;
        for disk in &self.taking.disks {
            self.place.unwritten(&format!("{name}.{}.qcow2", disk.device))?;
        }
        let noted = running && self.taking.disks.iter().any(|d| d.format == VolumeFormat::Qcow2);
        let mut left_out = self.taking.left_out.clone();
        for (disk, kind) in self.taking.disks.iter().zip(&kinds) {
            if base.is_ok() && *kind == BackupKind::Full {
                left_out.push(format!("nothing of {}: it is taken whole, as it is raw, or another or larger one than before", disk.device));
            }
        }
        let disks = self.taking.disks.iter().zip(sizes).zip(kinds).map(|((disk, capacity), kind)| BackupDisk {
            device: disk.device.clone(),
            file: format!("{name}.{}.qcow2", disk.device),
            kind,
            capacity,
            format: disk.format,
            source: disk.source.clone(),
            length: Bytes(0),
            sha256: String::new(),
        });
        Ok(Manifest {
            version: MANIFEST_VERSION,
            machine: machine.to_owned(),
            uuid: id,
            host: host.clone(),
            at: self.order.at,
            kind,
            because: base.as_ref().map_or_else(Clone::clone, |b| format!("it builds on {}", b.name)),
            parent: base.as_ref().ok().map(|b| b.name.clone()),
            checkpoint: noted.then(|| name.clone()),
            running,
            quiesced: self.order.quiesce,
            disks: disks.collect(),
            left_out,
            definition: definition.to_owned(),
            name,
        })
    }

    /// Makes it, all of it or nothing.
    fn make(&self, mut draft: Manifest) -> Result<Manifest, Trouble> {
        self.place.write_draft(&draft)?;
        let made = if draft.running { self.of_running(&draft) } else { self.of_off(&draft) };
        let whole = made.and_then(|()| self.finish(&mut draft));
        match whole {
            Ok(()) => {
                self.place.look();
                self.drop_older(&draft);
                Ok(draft)
            }
            Err(trouble) => {
                if let Some(checkpoint) = &draft.checkpoint {
                    drop_checkpoint(self.domain, checkpoint);
                }
                self.place.discard(&draft);
                Err(trouble)
            }
        }
    }

    fn part_of(&self, disk: &BackupDisk) -> std::path::PathBuf {
        self.place.path(&format!("{}{UNFINISHED}", disk.file))
    }

    /// Of a machine that is off each disk is copied.
    fn of_off(&self, draft: &Manifest) -> Result<(), Trouble> {
        let count = draft.disks.len() as u64;
        for (n, (disk, from)) in draft.disks.iter().zip(&self.taking.disks).enumerate() {
            let words = format!("copying {}", disk.device);
            let progress = |share: u32| {
                self.follower.advance(part(n as u64 * 10_000 + u64::from(share), count * 10_000, WRITING), &words);
            };
            let limit = self.order.limit.map(|l| l.0);
            let image = (from.source.as_str(), Some(from.format.name()));
            tool::convert(image, &self.part_of(disk), tool::Written::Volume(VolumeFormat::Qcow2), limit, self.follower, &progress)?;
        }
        Ok(())
    }

    /// Of a running machine libvirt makes it.
    fn of_running(&self, draft: &Manifest) -> Result<(), Trouble> {
        let noted = |device: &str| self.taking.disks.iter().any(|d| d.device == device && d.format == VolumeFormat::Qcow2);
        let target = |disk: &BackupDisk| Target {
            device: disk.device.clone(),
            kind: disk.kind,
            noted: noted(&disk.device),
            file: self.part_of(disk).to_string_lossy().into_owned(),
        };
        let targets: Vec<Target> = draft.disks.iter().map(target).collect();
        let since = self.order.base.as_ref().ok().and_then(|b| b.checkpoint.as_deref());
        let backup = xml::backup(&targets, &self.taking.others, since);
        let note = format!("backup {} in pool {}", draft.name, self.place.name);
        let checkpoint = draft.checkpoint.as_ref().and_then(|name| xml::checkpoint(name, &note, &targets, &self.taking.others));
        {
            let _frozen = if self.order.quiesce { Some(Frozen::of(self.domain)?) } else { None };
            raw::begin(self.domain, &backup, checkpoint.as_deref())?;
        }
        if let Some(limit) = self.order.limit {
            for target in &targets {
                // The job may have ended already.
                let share = limit.0 / targets.len() as u64;
                if let Err(error) = raw::limit(self.domain, &target.device, share) {
                    tracing::debug!(disk = target.device, %error, "a backup could not be slowed down");
                }
            }
        }
        self.follow()
    }

    /// Follows libvirt's job to its end.
    fn follow(&self) -> Result<(), Trouble> {
        let gone = |why: &str| -> Trouble {
            Fault::wrong_state(format!("the guest ended before its backup was whole ({why}); make it again")).into()
        };
        let mut given_up = false;
        loop {
            match domain::state(self.domain)?.0 {
                // QEMU is clearing up and hears nobody any more.
                DomainState::Shutdown => {
                    self.until_off()?;
                    return Err(gone("it powered off"));
                }
                state if !state.is_active() => return Err(gone("it is off")),
                _ => {}
            }
            if self.follower.is_cancelled() && !given_up {
                given_up = true;
                if let Err(error) = migration::raw::abort(self.domain) {
                    tracing::debug!(%error, "a backup could not be given up; it may have ended");
                }
            }
            match job(self.domain) {
                Ok(None) => break,
                Ok(Some(job)) => {
                    let (done, whole) = job.disk;
                    let words = format!("copying, {} of {}", Bytes(done), Bytes(whole));
                    self.follower.advance(part(done, whole, WRITING), &words);
                }
                Err(error) if crate::fault::may_be_state(&error) || crate::fault::is_gone(&error) => {
                    if ask(|| self.domain.is_active())? {
                        self.until_off()?;
                    }
                    return Err(gone("QEMU does not answer"));
                }
                Err(error) => return Err(error.into()),
            }
            thread::sleep(LOOK);
        }
        if self.follower.is_cancelled() {
            return Err(tool::stopped().into());
        }
        let ended = migration::raw::job(self.domain, true)?;
        if ended.operation == sys::VIR_DOMAIN_JOB_OPERATION_BACKUP && ended.kind == sys::VIR_DOMAIN_JOB_COMPLETED {
            return Ok(());
        }
        if ended.operation == sys::VIR_DOMAIN_JOB_OPERATION_BACKUP && ended.kind == sys::VIR_DOMAIN_JOB_CANCELLED {
            return Err(Fault::busy("somebody else gave the backup up; nothing of it is left").into());
        }
        Err(self.why(&ended.error))
    }

    /// Why QEMU gave up. libvirt 9.0 often does not say; then the room that is left speaks.
    fn why(&self, said: &str) -> Trouble {
        let place = &self.place.name;
        let pool = ask(|| self.place.pool.refresh(0)).and_then(|()| ask(|| self.place.pool.info()));
        let needed: u64 =
            self.taking.disks.iter().filter_map(|d| ask(|| self.domain.block_info(&d.device, 0)).ok()).map(|i| i.allocation).sum();
        let room = pool.map(|p| Bytes(p.available)).unwrap_or_default();
        let text = if room.0 < needed {
            format!(
                "the backup could not be written: {place} is full, it has {room} left and the disks hold {}; make room there or choose another pool",
                Bytes(needed)
            )
        } else {
            format!("the backup could not be written to {place}; see the cause and the log of QEMU on the host")
        };
        let fault = Fault::wrong_state(text);
        let cause = if said.is_empty() { "libvirt's job failed" } else { said };
        fault.because(cause).into()
    }

    fn until_off(&self) -> Result<(), Trouble> {
        let end = Instant::now() + GOING_DOWN;
        while ask(|| self.domain.is_active())? && Instant::now() < end {
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The files are written: each says on what it is built, and is read back.
    fn finish(&self, draft: &mut Manifest) -> Result<(), Trouble> {
        let base = self.order.base.as_ref().ok();
        for disk in &draft.disks {
            let below =
                base.filter(|_| disk.kind == BackupKind::Incremental).and_then(|b| b.disks.iter().find(|d| d.device == disk.device));
            // libvirt has built it on the disk itself, which would then be opened with it.
            tool::build_on(&self.part_of(disk), below.map(|d| d.file.as_str()), self.follower)?;
        }
        let parts: Vec<std::path::PathBuf> = draft.disks.iter().map(|d| self.part_of(d)).collect();
        let lengths: Vec<u64> = parts.iter().map(|p| length(p)).collect::<Result<_, _>>()?;
        let (whole, mut before) = (lengths.iter().sum(), 0);
        for ((disk, file), length) in draft.disks.iter_mut().zip(&parts).zip(lengths) {
            let words = format!("reading {} back", disk.file);
            let found = digest(file, self.follower, &mut |read| self.follower.advance(part(before + read, whole, READING), &words))?;
            before += length;
            (disk.length, disk.sha256) = (Bytes(found.0), found.1);
            std::fs::File::open(file).and_then(|f| f.sync_all()).map_err(|e| super::archive::io("writing", file, &e))?;
        }
        if self.follower.is_cancelled() {
            return Err(tool::stopped().into());
        }
        self.place.commit(draft)
    }

    /// The checkpoints of earlier backups in this pool are of no use any more: the next one begins at the new one.
    fn drop_older(&self, made: &Manifest) {
        if made.checkpoint.is_none() {
            return;
        }
        let older = self.place.archive().map(|archive| archive.manifests).unwrap_or_default();
        for checkpoint in older.iter().filter(|m| m.uuid == made.uuid && m.name != made.name).filter_map(|m| m.checkpoint.as_ref()) {
            drop_checkpoint(self.domain, checkpoint);
        }
    }
}

fn length(file: &Path) -> Result<u64, Trouble> {
    Ok(std::fs::metadata(file).map_err(|e| super::archive::io("reading", file, &e))?.len())
}

/// A guest whose file systems stand still; they go on when this is dropped, whatever happened.
struct Frozen<'a>(&'a Domain);

impl<'a> Frozen<'a> {
    fn of(domain: &'a Domain) -> Result<Frozen<'a>, Trouble> {
        // Without a limit libvirt would wait for an agent that hangs, and the guest would stand still as long.
        raw::patience(domain, AGENT)?;
        let frozen = Frozen(domain);
        match guest::raw::freeze(domain) {
            Ok(_) => Ok(frozen),
            Err(error) => {
                let text = "the guest's agent did not stop its file systems, so there is no quiesced backup; start qemu-guest-agent in the guest, or leave quiesce away";
                Err(Fault::wrong_state(text).because(error.message()).into())
            }
        }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // Some of them may stand still although freezing failed.
        if let Err(error) = guest::raw::thaw(self.0).or_else(|_| guest::raw::thaw(self.0)) {
            tracing::warn!(%error, "the file systems of a guest may stand still; thaw them with domain guest-thaw");
        }
        if let Err(error) = raw::patience(self.0, FOR_EVER) {
            tracing::debug!(%error, "the time limit for a guest's agent could not be taken back");
        }
    }
}
