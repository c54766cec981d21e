//! The port that moves machines, over libvirt's managed peer-to-peer migration.
//!
//! | file | holds |
//! |---|---|
//! | `passport` | what a machine needs, read at the source |
//! | `obstacles` `storage` | what stands in its way, read at the target |
//! | `transfer` | the move itself, on a thread and a connection of its own |
//! | `standing` | where the guest is, as far as this libvirt knows |
//! | `raw` | the C that `virt` lacks |

mod obstacles;
mod passport;
pub(crate) mod raw;
mod standing;
mod storage;
mod transfer;

use crate::{
    connection::{Lane, Link, Session, Trouble},
    count::ask,
    domain::{conflict, state, unreadable},
    fault,
    xml::needs,
};
use archipel_contract::{
    BoxFuture, Bytes, DomainId, Fault, Millis,
    migration::{Landing, MigrationPort, Obstacle, Passport, Progress, Room, Standing, Transferred, Way},
};
use standing::{JobNow, job_now};
use transfer::called;
use virt::sys;

impl Session {
    fn progress(&self, id: DomainId) -> Result<Option<Progress>, Trouble> {
        let domain = self.domain(id)?;
        if !ask(|| domain.is_active())? {
            return Ok(None);
        }
        let job = match raw::job(&domain, false) {
            Ok(job) if job.is_leaving() => job,
            Ok(_) => return Ok(None),
            // It went off between the two questions, it arrives here, or the driver knows no jobs.
            Err(error) if fault::may_be_state(&error) || fault::is_unknown_flag(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (_, reason) = state(&domain)?;
        Ok(Some(Progress {
            total: Bytes(job.total),
            processed: Bytes(job.processed),
            remaining: Bytes(job.remaining),
            elapsed: Millis(job.elapsed),
            iteration: u32::try_from(job.iteration).unwrap_or(u32::MAX),
            post_copy: matches!(reason, Some("postcopy" | "postcopy-failed")),
        }))
    }

    /// How far libvirt's job on a machine is, whatever it does: done and whole. `None` when it has none or does not tell.
    pub(crate) fn job_share(&self, id: DomainId) -> Result<Option<(u64, u64)>, Trouble> {
        match raw::job(&self.domain(id)?, false) {
            Ok(job) if job.total > 0 => Ok(Some((job.processed, job.total))),
            Ok(_) => Ok(None),
            Err(error) if fault::may_be_state(&error) || fault::is_unknown_flag(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives libvirt's job on a machine up (`virDomainAbortJob`).
    pub(crate) fn abort_job(&self, id: DomainId) -> Result<(), Trouble> {
        Ok(raw::abort(&self.domain(id)?)?)
    }

    /// QEMU's own word is only asked for, and the machine marked by that in libvirt (`custom-monitor`), when libvirt has given the transfer
    /// up.
    fn free_given_up(&self, id: DomainId) -> Result<bool, Trouble> {
        let domain = self.domain(id)?;
        match raw::job(&domain, false) {
            Ok(job) if job.is_given_up() => {}
            Ok(_) => return Ok(false),
            Err(error) if fault::may_be_state(&error) || fault::is_unknown_flag(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let ask_monitor = |order: &str| ask(|| domain.qemu_monitor_command(order, 0));
        if !hangs(&ask_monitor(r#"{"execute":"query-migrate"}"#)?) {
            return Ok(false);
        }
        let answer = ask_monitor(r#"{"execute":"migrate-continue","arguments":{"state":"cancelling"}}"#)?;
        tracing::warn!(domain = %id, answer, "QEMU hung in giving a transfer up, and was told to go on");
        Ok(true)
    }

    /// Runs `act` on a machine that is on its way from here.
    fn on_the_way(&self, id: DomainId, act: impl FnOnce(&virt::domain::Domain) -> Result<(), virt::error::Error>) -> Result<(), Trouble> {
        let domain = self.domain(id)?;
        let stays = || Fault::wrong_state(format!("{} is not on its way to another host; look where it is", called(&domain, id)));
        if !ask(|| domain.is_active())? || job_now(&domain)? != JobNow::Outgoing {
            return Err(stays().into());
        }
        match act(&domain) {
            // It ended while it was asked.
            Err(error) if fault::may_be_state(&error) && job_now(&domain).is_ok_and(|job| job != JobNow::Outgoing) => {
                Err(stays().because(error.message()).into())
            }
            other => Ok(other?),
        }
    }

    fn landing(&self, peer: Option<&str>, data: Option<&str>) -> Result<Landing, Trouble> {
        let uri = match peer {
            Some(uri) => uri.to_owned(),
            None => format!("{}+tls://{}/system", self.driver()?.to_lowercase(), ask(|| self.connect.hostname())?),
        };
        Ok(Landing { uri: uri.into(), data: data.map(Into::into) })
    }

    fn take_in(&self, id: DomainId, definition: &str) -> Result<(), Trouble> {
        let named = needs::needs(definition)
            .map_err(|e| Fault::invalid("the definition cannot be read; send it as libvirt wrote it").because(e))?;
        if named.uuid.trim().parse::<uuid::Uuid>().ok() != Some(id.0) {
            return Err(Fault::invalid(format!("the definition is not that of {id}; send the one that belongs to it")).into());
        }
        if self.is_taken(&named.name, id)? {
            return Err(conflict(&named.name).into());
        }
        match self.domain(id) {
            Ok(here) if ask(|| here.is_active())? => {
                return Err(Fault::wrong_state(format!("{} is active here; it is defined already", called(&here, id))).into());
            }
            Ok(here) if called(&here, id) != named.name => {
                // libvirt renames nothing by a definition.
                let (old, new) = (called(&here, id), &named.name);
                let text = format!("{id} is defined here as {old} and comes as {new}; rename one of them");
                return Err(Fault::new(archipel_contract::FaultKind::Conflict, text).into());
            }
            Ok(_) => {}
            Err(error) if fault::is_gone(&error) => {}
            Err(error) => return Err(error.into()),
        }
        match ask(|| self.connect.define_domain_xml(definition)) {
            Ok(domain) if domain.uuid()? == id.0 => Ok(()),
            Ok(_) => Err(unreadable("what it defined", "another UUID").into()),
            Err(error) => Err(error.into()),
        }
    }

    fn discard(&self, id: DomainId) -> Result<(), Trouble> {
        let domain = match self.domain(id) {
            Ok(domain) => domain,
            Err(error) if fault::is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let name = called(&domain, id);
        let refuse = |why: String| Err(Fault::wrong_state(why).into());
        if ask(|| domain.is_active())? {
            return refuse(format!("the guest of {name} is here, so its definition stays; stop it or move it first"));
        }
        if ask(|| domain.has_managed_save(0)).unwrap_or(false) {
            return refuse(format!("the memory of {name} is saved here, and would be lost; start it, or remove what is saved"));
        }
        if ask(|| domain.num_snapshots(0)).unwrap_or(0) > 0 {
            return refuse(format!("{name} has snapshots here, and they would be lost; delete them first"));
        }
        // Checkpoints are of no use without the guest they were made of; everything else on disk stays.
        let all = sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
        for flags in [all | sys::VIR_DOMAIN_UNDEFINE_KEEP_TPM, all, sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM, 0] {
            match ask(|| domain.undefine_flags(flags)) {
                Err(error) if flags != 0 && fault::is_unknown_flag(&error) => {}
                Err(error) if fault::is_gone(&error) => return Ok(()),
                other => return Ok(other?),
            }
        }
        Ok(())
    }
}

/// Whether QEMU says that it is about to give up, in its answer to `query-migrate`.
fn hangs(answer: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(answer).is_ok_and(|answer| answer["return"]["status"] == "cancelling")
}

impl MigrationPort for Link {
    fn passport(&self, id: DomainId) -> BoxFuture<'_, Result<Passport, Fault>> {
        let config = self.config().clone();
        self.call(Lane::Read, "reading what a virtual machine needs", move |session| session.passport(&config, id))
    }

    fn obstacles(&self, passport: Passport, way: Way) -> BoxFuture<'_, Result<Vec<Obstacle>, Fault>> {
        let config = self.config().clone();
        self.call(Lane::Read, "looking what stands in the way", move |session| session.obstacles(&config, &passport, &way))
    }

    fn room(&self) -> BoxFuture<'_, Result<Room, Fault>> {
        self.call(Lane::Read, "looking how much is left", Session::room)
    }

    fn landing(&self) -> BoxFuture<'_, Result<Landing, Fault>> {
        let (peer, data) = (self.config().peer_uri.clone(), self.config().data_uri.clone());
        self.call(Lane::Read, "reading the host's own name", move |session| session.landing(peer.as_deref(), data.as_deref()))
    }

    fn transfer(&self, id: DomainId, to: Landing, way: Way) -> BoxFuture<'_, Result<Transferred, Fault>> {
        self.carry(id, to, way, false)
    }

    fn progress(&self, id: DomainId) -> BoxFuture<'_, Result<Option<Progress>, Fault>> {
        self.call(Lane::Read, "reading how far a move is", move |session| session.progress(id))
    }

    fn cancel(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "giving a move up", move |session| session.on_the_way(id, raw::abort))
    }

    fn free_given_up(&self, id: DomainId) -> BoxFuture<'_, Result<bool, Fault>> {
        self.call(Lane::Change, "freeing a transfer that was given up", move |session| session.free_given_up(id))
    }

    fn switch_to_post_copy(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "switching to post-copy", move |session| session.on_the_way(id, raw::start_post_copy))
    }

    fn recover_post_copy(&self, id: DomainId, to: Landing, way: Way) -> BoxFuture<'_, Result<Transferred, Fault>> {
        self.carry(id, to, way, true)
    }

    fn standing(&self, id: DomainId) -> BoxFuture<'_, Result<Standing, Fault>> {
        self.call(Lane::Read, "looking where a virtual machine is", move |session| session.standing(id))
    }

    fn define(&self, id: DomainId, definition: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "taking a definition in", move |session| session.take_in(id, &definition))
    }

    fn discard(&self, id: DomainId) -> BoxFuture<'_, Result<(), Fault>> {
        self.call(Lane::Change, "forgetting a definition", move |session| session.discard(id))
    }

    fn remove_copies(&self, passport: Passport) -> BoxFuture<'_, Result<u32, Fault>> {
        // It lists pools anew, which takes as long as they are large.
        self.call(Lane::Long, "removing what was copied", move |session| session.remove_copies(&passport))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn qemu_hangs_only_while_it_says_that_it_gives_up() {
        let answer = |status: &str| format!(r#"{{"return":{{"status":"{status}","ram":{{"total":1}}}},"id":"libvirt-9"}}"#);
        assert!(super::hangs(&answer("cancelling")));
        assert!(!super::hangs(&answer("cancelled")) && !super::hangs(&answer("active")));
        assert!(!super::hangs(r#"{"error":{"class":"GenericError"}}"#) && !super::hangs("cancelling"));
    }
}
