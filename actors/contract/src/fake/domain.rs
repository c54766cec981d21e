//! The machines of the fake hypervisor.

use super::host::{FakeHost, Model};
use crate::{
    BoxFuture, DomainId, Fault, FaultKind, RightToRun,
    domain::{DomainFacts, DomainPort, DomainRecord, DomainSpec, DomainState, Firmware, StartOrder},
    host::DomainChange,
    volume::Unused,
};
use uuid::Uuid;

fn find(model: &mut Model, id: DomainId) -> Result<&mut DomainRecord, Fault> {
    let absent = || Fault::not_found(format!("there is no virtual machine {id}; list them again"));
    if model.forgetful { Err(absent()) } else { model.domains.get_mut(&id).ok_or_else(absent) }
}

/// A machine that arrives, or is at its hand-over, belongs to libvirt's job: only cutting its power is possible then.
fn no_job(model: &mut Model, id: DomainId) -> Result<(), Fault> {
    let name = find(model, id)?.name.clone();
    if model.arriving.contains_key(&id) || (model.leaving.contains_key(&id) && model.standing_still.contains(&id)) {
        return Err(Fault::busy(format!("{name} is being moved; wait for that")).because("cannot acquire state change lock"));
    }
    Ok(())
}

/// libvirt's own check of the state, which stands beside our policy: whoever acts on old knowledge is refused.
fn in_state(model: &mut Model, id: DomainId, fits: impl Fn(DomainState) -> bool, otherwise: &str) -> Result<(), Fault> {
    let record = find(model, id)?;
    if fits(record.facts.state) {
        return Ok(());
    }
    Err(Fault::wrong_state(format!("{} {otherwise}", record.name)).because("Requested operation is not valid"))
}

fn free(model: &Model, name: &str) -> Result<(), Fault> {
    if model.domains.values().any(|r| *r.name == *name) {
        return Err(Fault::new(FaultKind::Conflict, format!("there is a virtual machine {name} already; choose another name")));
    }
    Ok(())
}

fn undefine(model: &mut Model, id: DomainId) -> Result<(), Fault> {
    no_job(model, id)?;
    let record = find(model, id)?;
    if record.facts.state.is_active() {
        record.facts.persistent = false;
    } else {
        model.domains.remove(&id);
    }
    model.tell_domain(id, DomainChange::Undefined);
    Ok(())
}

impl DomainPort for FakeHost {
    fn list(&self) -> BoxFuture<'_, Result<Vec<DomainRecord>, Fault>> {
        self.call("domain.list", String::new(), |model| {
            let known = model.domains.values().filter(|_| !model.forgetful);
            Ok(known.cloned().collect())
        })
    }

    fn read(&self, id: DomainId) -> BoxFuture<'_, Result<DomainRecord, Fault>> {
        self.call("domain.read", id.to_string(), move |model| find(model, id).map(|r| r.clone()))
    }

    fn xml(&self, id: DomainId, _inactive: bool) -> BoxFuture<'_, Result<String, Fault>> {
        self.call("domain.xml", id.to_string(), move |model| {
            let record = find(model, id)?.clone();
            let (kind, disks) = (record.facts.virtualization, super::volume::lines_of(model, id));
            Ok(format!("<domain type='{kind}'><name>{}</name><uuid>{id}</uuid>{disks}</domain>", record.name))
        })
    }

    fn define(&self, spec: DomainSpec, disks: Vec<Unused>) -> BoxFuture<'_, Result<DomainId, Fault>> {
        self.call("domain.define", spec.name.clone(), move |model| {
            free(model, &spec.name)?;
            let id = spec.id.unwrap_or_else(|| DomainId(Uuid::new_v4()));
            super::volume::attach(model, id, &spec, &disks)?;
            if matches!(spec.firmware, Some(Firmware::Uefi | Firmware::SecureBoot)) {
                model.variables.insert(id);
            }
            let facts = DomainFacts {
                state: DomainState::Shutoff,
                reason: None,
                vcpus: spec.vcpus,
                memory: spec.memory,
                persistent: true,
                autostart: false,
                agent: false,
                virtualization: "test".into(),
                note: spec.note.map(Into::into),
                template: false,
                moving_to: None,
                autostart_order: None,
                autostart_delay: None,
            };
            model.domains.insert(id, DomainRecord { id, name: spec.name.into(), facts });
            model.tell_domain(id, DomainChange::Defined("added"));
            Ok(id)
        })
    }

    fn undefine(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.undefine", id.to_string(), move |model| undefine(model, id))
    }

    fn undefine_with_variables(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.undefine", id.to_string(), move |model| {
            undefine(model, id)?;
            model.variables.remove(&id);
            Ok(())
        })
    }

    fn has_variables(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>> {
        self.call("domain.has-variables", id.to_string(), move |model| {
            find(model, id)?;
            Ok(model.variables.contains(&id))
        })
    }

    fn start(&self, right: RightToRun, paused: bool) -> BoxFuture<'_, Result<(), Fault>> {
        let id = right.domain();
        self.call("domain.start", id.to_string(), move |model| {
            in_state(model, id, |s| !s.is_active(), "is running already")?;
            model.album.started(id);
            if paused {
                model.enter(id, DomainState::Paused, "starting up");
            } else {
                model.enter(id, DomainState::Running, "booted");
            }
            Ok(())
        })
    }

    fn shutdown(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.shutdown", id.to_string(), move |model| {
            no_job(model, id)?;
            in_state(model, id, |s| s == DomainState::Running, "cannot hear it")?;
            if model.guests_listen {
                model.enter(id, DomainState::Shutdown, "finished");
                model.enter(id, DomainState::Shutoff, "shutdown");
            }
            Ok(())
        })
    }

    fn reboot(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.reboot", id.to_string(), move |model| {
            no_job(model, id)?;
            in_state(model, id, |s| s == DomainState::Running, "cannot hear it")?;
            model.tell_domain(id, DomainChange::Rebooted);
            Ok(())
        })
    }

    fn force_off(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.force-off", id.to_string(), move |model| {
            in_state(model, id, DomainState::is_active, "is off")?;
            model.enter(id, DomainState::Shutoff, "destroyed");
            Ok(())
        })
    }

    fn reset(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.reset", id.to_string(), move |model| {
            no_job(model, id)?;
            in_state(model, id, DomainState::is_active, "is off")?;
            model.tell_domain(id, DomainChange::Rebooted);
            Ok(())
        })
    }

    fn pause(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.pause", id.to_string(), move |model| {
            no_job(model, id)?;
            in_state(model, id, |s| s == DomainState::Running, "is not running")?;
            model.enter(id, DomainState::Paused, "paused");
            Ok(())
        })
    }

    fn resume(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.resume", id.to_string(), move |model| {
            no_job(model, id)?;
            in_state(model, id, |s| matches!(s, DomainState::Paused | DomainState::Pmsuspended), "is not paused")?;
            model.enter(id, DomainState::Running, "unpaused");
            Ok(())
        })
    }

    fn set_autostart(&self, id: DomainId, enabled: bool) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.set-autostart", id.to_string(), move |model| {
            let facts = &mut find(model, id)?.facts;
            facts.autostart = enabled || facts.autostart_order.is_some();
            Ok(())
        })
    }

    fn set_start_order(&self, id: DomainId, order: Option<StartOrder>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.set-start-order", id.to_string(), move |model| {
            let facts = &mut find(model, id)?.facts;
            if order.is_some() || facts.autostart_order.is_some() {
                facts.autostart = order.is_some();
            }
            facts.ordered(order);
            model.tell_domain(id, DomainChange::Changed("metadata"));
            Ok(())
        })
    }

    fn rename(&self, id: DomainId, to: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.rename", id.to_string(), move |model| {
            no_job(model, id)?;
            in_state(model, id, |s| !s.is_active(), "can only be renamed while it is off")?;
            free(model, &to)?;
            find(model, id)?.name = to.into();
            model.tell_domain(id, DomainChange::Defined("renamed"));
            Ok(())
        })
    }

    fn set_note(&self, id: DomainId, note: Option<String>) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("domain.set-note", id.to_string(), move |model| {
            find(model, id)?.facts.note = note.map(Into::into);
            model.tell_domain(id, DomainChange::Changed("metadata"));
            Ok(())
        })
    }
}
