//! The port for virtual machines.

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    definition::check_start,
    fault,
    xml::{
        create, domain as build,
        edit::{self, NOTED},
        read,
        read::STARTS,
        tree,
    },
};
use archipel_contract::{
    BoxFuture, DomainId, Fault, FaultKind, RightToRun,
    domain::{self as policy, DomainFacts, DomainPort, DomainRecord, DomainSpec, DomainState, StartOrder},
    volume::{Need, Unused},
};
use std::{collections::HashSet, sync::Arc};
use uuid::Uuid;
use virt::{
    domain::{Domain, DomainRunningReason as R, DomainState as V, DomainStateReason},
    domain::{DomainCrashedReason, DomainPausedReason as P, DomainShutdownReason, DomainShutoffReason as O},
    enumutil::Enum,
    error::Error,
    sys,
};

impl Session {
    pub(crate) fn domain(&self, id: DomainId) -> Result<Domain, Error> {
        ask(|| self.connect.lookup_domain_by_uuid(id.0))
    }

    /// A machine as it is now; flags known from a filtered listing need not be asked for.
    fn record(&self, domain: &Domain, flags: Option<(bool, bool)>) -> Result<DomainRecord, Trouble> {
        let id = DomainId(domain.uuid()?);
        let (state, reason) = state(domain)?;
        let xml = ask(|| domain.xml_desc(0))?;
        let told = read::domain(&xml).map_err(|e| unreadable("a virtual machine", e))?;
        let (persistent, autostart) = match flags {
            Some(flags) => flags,
            None => (ask(|| domain.is_persistent())?, ask(|| domain.autostart())?),
        };
        Ok(DomainRecord {
            id,
            name: domain.name()?.into(),
            facts: DomainFacts {
                state,
                reason: reason.map(Arc::from),
                vcpus: told.vcpus,
                memory: told.memory,
                persistent,
                autostart: autostart || told.start_order.is_some(),
                autostart_order: told.start_order.map(|o| o.order),
                autostart_delay: told.start_order.map(|o| o.delay),
                agent: told.agent,
                virtualization: told.virtualization.into(),
                note: told.note.map(Arc::from),
                template: told.template,
                moving_to: None,
            },
        })
    }

    /// Which machines libvirt lists under a filter.
    fn filtered(&self, filter: u32) -> Result<HashSet<Uuid>, Error> {
        ask(|| self.connect.list_all_domains(filter))?.iter().map(Domain::uuid).collect()
    }

    /// Three listings and two calls a machine: persistence and autostart come from libvirt's own filters.
    fn records(&self) -> Result<Vec<DomainRecord>, Trouble> {
        let persistent = self.filtered(sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT)?;
        let autostart = self.filtered(sys::VIR_CONNECT_LIST_DOMAINS_AUTOSTART)?;
        let domains = ask(|| self.connect.list_all_domains(0))?;
        let mut records = Vec::with_capacity(domains.len());
        for domain in &domains {
            let id = domain.uuid()?;
            match self.record(domain, Some((persistent.contains(&id), autostart.contains(&id)))) {
                Ok(record) => records.push(record),
                // It went away between the listing and the look at it.
                Err(Trouble::Libvirt(error)) if fault::is_gone(&error) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(records)
    }

    /// `conflict` if that name is taken: libvirt says it in words only, and words are translated.
    fn taken(&self, name: &str, error: Error) -> Trouble {
        match ask(|| self.connect.lookup_domain_by_name(name)) {
            Ok(_) => conflict(name).because(error.message()).into(),
            Err(_) => error.into(),
        }
    }

    fn define(&self, spec: &DomainSpec, disks: &[Unused]) -> Result<DomainId, Trouble> {
        if ask(|| self.connect.lookup_domain_by_name(&spec.name)).is_ok() {
            return Err(conflict(&spec.name).into());
        }
        let found = |place: &Option<(String, String)>| place.as_ref().map(|(pool, volume)| self.volume_for_disk(pool, volume)).transpose();
        let volumes = create::Volumes { disk: found(&spec.disk)?, iso: found(&spec.iso)?, seed: found(&spec.seed)? };
        if let Some(disk) = &volumes.disk {
            Unused::among(disks, &disk.path, Need::Sole)?;
        }
        let id = spec.id.unwrap_or_else(|| DomainId(Uuid::new_v4()));
        // A definition with the UUID of another machine would replace that one.
        if spec.id.is_some() && self.domain(id).is_ok() {
            return Err(Fault::new(FaultKind::Conflict, format!("there is a virtual machine {id} already; ask again")).into());
        }
        let xml = match spec.modern {
            true => create::definition(id, spec, &volumes, &self.kind()?),
            false => build::definition(id, spec, volumes.disk.as_ref(), &self.kind()?),
        };
        match ask(|| self.connect.define_domain_xml(&xml)) {
            Ok(domain) => Ok(DomainId(domain.uuid()?)),
            Err(error) => Err(self.taken(&spec.name, error)),
        }
    }

    fn set_start_order(&self, id: DomainId, order: Option<StartOrder>) -> Result<(), Trouble> {
        let domain = self.domain(id)?;
        let text = order.map(|o| format!("<autostart order='{}' delay='{}'/>", o.order, o.delay));
        let element = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
        let both =
            [(ask(|| domain.is_active())?, sys::VIR_DOMAIN_AFFECT_LIVE), (ask(|| domain.is_persistent())?, sys::VIR_DOMAIN_AFFECT_CONFIG)];
        let flags = both.into_iter().filter(|(is, _)| *is).fold(0, |flags, (_, flag)| flags | flag);
        match ask(|| domain.set_metadata(element, text.as_deref(), text.is_some().then_some("archipel"), Some(STARTS), flags)) {
            Ok(_) => Ok(()),
            // What is not there need not be taken away.
            Err(error) if order.is_none() && error.code().known() == Some(virt::error::ErrorNumber::NoDomainMetadata) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn set_note(&self, id: DomainId, note: Option<&str>) -> Result<(), Trouble> {
        if note.is_some_and(|n| n.contains('\0')) {
            return Err(Fault::invalid("a note cannot hold control characters").into());
        }
        let domain = self.domain(id)?;
        let mut flags = 0;
        if ask(|| domain.is_active())? {
            flags |= sys::VIR_DOMAIN_AFFECT_LIVE;
        }
        if ask(|| domain.is_persistent())? {
            flags |= sys::VIR_DOMAIN_AFFECT_CONFIG;
        }
        ask(|| domain.set_metadata(sys::VIR_DOMAIN_METADATA_DESCRIPTION as i32, note, None, None, flags))?;
        Ok(())
    }
}

/// A failure that its state explains is told as the policy tells it: drivers differ in the number they give, and the
/// policy's words name the way out. libvirt's words stay as the cause.
fn explained<T>(session: &Session, domain: &Domain, command: &str, answer: Result<T, Error>) -> Result<T, Trouble> {
    answer.map_err(|error| {
        if fault::may_be_state(&error)
            && let Ok(record) = session.record(domain, None)
            && let Err(refusal) = policy::may(command, &record.facts).check(&record.name)
        {
            return refusal.because(error.message()).into();
        }
        error.into()
    })
}

/// Forgets a definition. What libvirt keeps beside it goes too, but not a saved memory image (then libvirt refuses) and
/// the firmware's variables only if they shall; drivers that know fewer of these flags are asked with fewer.
fn undefine(domain: &Domain, variables_too: bool) -> Result<(), Error> {
    let metadata = sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
    let variables = if variables_too { sys::VIR_DOMAIN_UNDEFINE_NVRAM } else { sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM };
    let all = metadata | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | variables;
    for flags in [all, metadata] {
        match ask(|| domain.undefine_flags(flags)) {
            Err(error) if fault::is_unknown_flag(&error) => {}
            other => return other,
        }
    }
    ask(|| domain.undefine())
}

/// Whether the firmware was changed since the last start, so that its variables must be new. A guest that goes on from its saved memory has
/// the firmware it had.
fn wants_fresh_variables(domain: &Domain) -> Result<bool, Error> {
    let noted = ask(|| domain.is_persistent())? && ask(|| domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))?.contains(NOTED);
    Ok(noted && !ask(|| domain.has_managed_save(0))?)
}

/// The variables are new: the note of it goes. If it stayed, the next start would only make them new once more.
fn forget_note(domain: &Domain) {
    let both = sys::VIR_DOMAIN_AFFECT_LIVE | sys::VIR_DOMAIN_AFFECT_CONFIG;
    let element = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
    if let Err(error) = ask(|| domain.set_metadata(element, None, None, Some(NOTED), both)) {
        tracing::warn!(%error, "the note that a firmware's variables shall be new could not be taken away");
    }
}

pub(crate) fn conflict(name: &str) -> Fault {
    Fault::new(FaultKind::Conflict, format!("a virtual machine named {name} exists already; choose another name"))
}

/// libvirt sent something that is not its own format.
pub(crate) fn unreadable(what: &str, error: impl std::fmt::Display) -> Fault {
    Fault::internal(format!("libvirt described {what} in a way that cannot be read; please report it")).because(error)
}

/// State and reason. A state of a later libvirt counts as running: the machine is there and must not be called off.
pub(crate) fn state(domain: &Domain) -> Result<(DomainState, Option<&'static str>), Error> {
    let (state, reason) = ask(|| {
        let answer = domain.state()?;
        // virt 0.5.0 answers Ok with the state -1 when the call failed.
        if answer.0.is_unknown_and(|raw| raw == u32::MAX) { Err(Error::last_error()) } else { Ok(answer) }
    })?;
    let state = match state.known() {
        Some(V::NoState | V::Running | V::Blocked) | None => DomainState::Running,
        Some(V::Paused) => DomainState::Paused,
        Some(V::Shutdown) => DomainState::Shutdown,
        Some(V::Shutoff) => DomainState::Shutoff,
        Some(V::Crashed) => DomainState::Crashed,
        Some(V::PMSuspended) => DomainState::Pmsuspended,
    };
    let reason = match reason {
        Enum::Known(reason) => word(reason),
        Enum::Unknown(_) => None,
    };
    Ok((state, reason))
}

/// libvirt's word for a reason; `None` where it says that it does not know.
fn word(reason: DomainStateReason) -> Option<&'static str> {
    match reason {
        DomainStateReason::NoState(_) | DomainStateReason::Blocked(_) | DomainStateReason::PMSuspended(_) => None,
        DomainStateReason::Running(reason) => Some(match reason.known()? {
            R::Unknown => return None,
            R::Booted => "booted",
            R::Migrated => "migrated",
            R::Restored => "restored",
            R::FromSnapshot => "from-snapshot",
            R::Unpaused => "unpaused",
            R::MigrationCancelled => "migration-canceled",
            R::SaveCancelled => "save-canceled",
            R::Wakeup => "wakeup",
            R::Crashed => "crashed",
            R::PostCopy => "postcopy",
            R::PostCopyFailed => "postcopy-failed",
        }),
        DomainStateReason::Paused(reason) => Some(match reason.known()? {
            P::Unknown => return None,
            P::User => "user",
            P::Migration => "migration",
            P::Save => "save",
            P::Dump => "dump",
            P::IOError => "ioerror",
            P::Watchdog => "watchdog",
            P::FromSnapshot => "from-snapshot",
            P::ShuttingDown => "shutting-down",
            P::Snapshot => "snapshot",
            P::Crashed => "crashed",
            P::StartingUp => "starting-up",
            P::PostCopy => "postcopy",
            P::PostCopyFailed => "postcopy-failed",
            P::APIError => "api-error",
        }),
        DomainStateReason::Shutdown(reason) => match reason.known()? {
            DomainShutdownReason::Unknown => None,
            DomainShutdownReason::User => Some("user"),
        },
        DomainStateReason::Shutoff(reason) => Some(match reason.known()? {
            O::Unknown => return None,
            O::Shutdown => "shutdown",
            O::Destroyed => "destroyed",
            O::Crashed => "crashed",
            O::Migrated => "migrated",
            O::Saved => "saved",
            O::Failed => "failed",
            O::FromSnapshot => "from-snapshot",
            O::Daemon => "daemon",
        }),
        DomainStateReason::Crashed(reason) => match reason.known()? {
            DomainCrashedReason::Unknown => None,
            DomainCrashedReason::Panicked => Some("panicked"),
        },
    }
}

impl Link {
    /// Runs `command` on one machine, unless its state forbids it.
    fn on(
        &self,
        id: DomainId,
        command: &'static str,
        doing: &'static str,
        act: impl FnOnce(&Domain, DomainState) -> Result<(), Error> + Send + 'static,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, doing, move |session| {
            let domain = session.domain(id)?;
            let now = state(&domain)?.0;
            // libvirt itself would silently accept these three: it pauses what is paused, makes a running machine one
            // without a definition, and drivers differ about resuming what runs.
            let refused = match command {
                "domain.pause" => now == DomainState::Paused,
                "domain.resume" => now == DomainState::Running,
                "domain.undefine" => now.is_active(),
                _ => false,
            };
            if refused {
                let record = session.record(&domain, None)?;
                policy::may(command, &record.facts).check(&record.name)?;
            }
            explained(session, &domain, command, act(&domain, now))
        })
    }
}

impl DomainPort for Link {
    fn list(&self) -> BoxFuture<'_, Result<Vec<DomainRecord>, Fault>> {
        self.call(Lane::Read, "listing virtual machines", Session::records)
    }

    fn read(&self, id: DomainId) -> BoxFuture<'_, Result<DomainRecord, Fault>> {
        self.call(Lane::Read, "reading a virtual machine", move |session| session.record(&session.domain(id)?, None))
    }

    fn xml(&self, id: DomainId, inactive: bool) -> BoxFuture<'_, Result<String, Fault>> {
        let flags = if inactive { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 };
        self.call(Lane::Read, "reading a definition", move |session| {
            let domain = session.domain(id)?;
            Ok(ask(|| domain.xml_desc(flags))?)
        })
    }

    fn define(&self, spec: DomainSpec, disks: Vec<Unused>) -> BoxFuture<'_, Result<DomainId, Fault>> {
        self.call(Lane::Change, "defining a virtual machine", move |session| session.define(&spec, &disks))
    }

    fn undefine(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.undefine", "forgetting a definition", |domain, _| undefine(domain, false))
    }

    fn undefine_with_variables(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.undefine", "forgetting a definition", |domain, _| undefine(domain, true))
    }

    fn has_variables(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>> {
        self.call(Lane::Read, "reading a firmware", move |session| {
            let domain = session.domain(id)?;
            let xml = ask(|| domain.xml_desc(if domain.is_persistent()? { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 }))?;
            Ok(edit::has_variables(&tree::parse(&xml).map_err(|e| unreadable("a virtual machine", e))?))
        })
    }

    fn start(&self, right: RightToRun, paused: bool) -> BoxFuture<'_, Result<(), Fault>> {
        // The right moves into the call and is gone afterwards, whatever comes of it.
        let config = self.config().clone();
        self.call(Lane::Change, "starting a virtual machine", move |session| {
            let domain = session.domain(right.domain())?;
            check_start(&config, &ask(|| domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE))?)?;
            // The test driver has no guest whose first instruction could matter, and does not know the flag.
            let by_hand = paused && matches!(session.kind()?, build::Kind::Test);
            let mut flags = if paused && !by_hand { sys::VIR_DOMAIN_START_PAUSED } else { 0 };
            let fresh = wants_fresh_variables(&domain)?;
            if fresh {
                flags |= sys::VIR_DOMAIN_START_RESET_NVRAM;
            }
            explained(session, &domain, "domain.start", ask(|| domain.create_with_flags(flags)))?;
            if fresh {
                forget_note(&domain);
            }
            if by_hand {
                ask(|| domain.suspend())?;
            }
            Ok(())
        })
    }

    fn shutdown(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.shutdown", "asking a guest to power off", |domain, _| ask(|| domain.shutdown()))
    }

    fn reboot(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.reboot", "asking a guest to reboot", |domain, _| ask(|| domain.reboot(0)))
    }

    fn force_off(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.force-off", "cutting the power", |domain, _| ask(|| domain.destroy()))
    }

    fn reset(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.reset", "pressing reset", |domain, _| ask(|| domain.reset()))
    }

    fn pause(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.pause", "pausing a virtual machine", |domain, _| ask(|| domain.suspend()))
    }

    fn resume(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.resume", "resuming a virtual machine", |domain, now| match now {
            DomainState::Pmsuspended => ask(|| domain.pm_wakeup(0)),
            _ => ask(|| domain.resume()),
        })
    }

    fn set_autostart(&self, id: DomainId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.on(id, "domain.autostart", "setting autostart", move |domain, _| ask(|| domain.set_autostart(enabled)))
    }

    fn set_start_order(&self, id: DomainId, order: Option<StartOrder>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "writing a start order", move |session| session.set_start_order(id, order))
    }

    fn rename(&self, id: DomainId, to: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "renaming a virtual machine", move |session| {
            let domain = session.domain(id)?;
            if let Ok(other) = ask(|| session.connect.lookup_domain_by_name(&to)) {
                // It may have that name already: then what was asked for is so.
                return if other.uuid()? == id.0 { Ok(()) } else { Err(conflict(&to).into()) };
            }
            match explained(session, &domain, "domain.rename", ask(|| domain.rename(&to, 0))) {
                Err(Trouble::Libvirt(error)) => Err(session.taken(&to, error)),
                other => other,
            }
        })
    }

    fn set_note(&self, id: DomainId, note: Option<String>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "writing a note", move |session| session.set_note(id, note.as_deref()))
    }
}
