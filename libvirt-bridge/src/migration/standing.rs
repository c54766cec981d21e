//! How a machine stands with this libvirt, from three answers: its state with the reason, whether it is active, its job.
//!
//! ```text
//!   state, reason                    job                 standing
//!   shutoff (migrated)               -                   Departed
//!   not active                       -                   Off
//!   running (postcopy-failed)        any                 Here: libvirt says so only at the target, of a guest that it has started;
//!                                                        it executes as far as the memory goes that it has
//!   otherwise (postcopy-failed)      any                 Split
//!   active                           outgoing            Leaving, in post-copy as well: it is over there and not yet whole
//!   paused (postcopy)                none                Split: libvirt lost the job, and the memory is on both sides
//!   paused                           incoming            Arriving
//!   active                           other or none       Here; paused (migration) too: whether it goes on over there is
//!                                                        for whoever moves it to ask, before anything is done to it
//! ```
//! The three are asked one after the other and the machine goes on meanwhile, so the state is asked again at the end, and all
//! once more if it changed.

use super::raw;
use crate::{
    connection::{Session, Trouble},
    count::ask,
    domain::state,
    fault,
};
use archipel_contract::{DomainId, domain::DomainState, migration::Standing};
use virt::{domain::Domain, error::Error, error::ErrorNumber, sys};

/// What libvirt tells of the job of an active machine, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobNow {
    None,
    Incoming,
    Outgoing,
}

/// How often the state may change under a look at it before the last look counts.
const LOOKS: usize = 5;

impl Session {
    pub(super) fn standing(&self, id: DomainId) -> Result<Standing, Trouble> {
        match self.look(id) {
            Err(error) if fault::is_gone(&error) => Ok(Standing::Absent),
            other => Ok(other?),
        }
    }

    fn look(&self, id: DomainId) -> Result<Standing, Error> {
        let domain = self.domain(id)?;
        let mut now = state(&domain)?;
        for _ in 1..LOOKS {
            let active = ask(|| domain.is_active())?;
            let job = if active { job_now(&domain)? } else { JobNow::None };
            let after = state(&domain)?;
            if after == now {
                return Ok(standing(now.0, now.1, active, job));
            }
            now = after;
        }
        // It changes faster than it can be asked; what was seen last is as true as anything.
        let active = ask(|| domain.is_active())?;
        Ok(standing(now.0, now.1, active, if active { job_now(&domain)? } else { JobNow::None }))
    }
}

/// The target of a migration refuses to tell about the job (operation unsupported, in other versions invalid), which the source
/// and a machine without a job do not.
pub(super) fn job_now(domain: &Domain) -> Result<JobNow, Error> {
    match raw::job(domain, false) {
        Ok(job) if job.is_leaving() => Ok(JobNow::Outgoing),
        Ok(job) if job.operation == sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN => Ok(JobNow::Incoming),
        Ok(_) => Ok(JobNow::None),
        Err(error) => match error.code().known() {
            Some(ErrorNumber::OperationUnsupported | ErrorNumber::OperationInvalid) => Ok(JobNow::Incoming),
            // A driver without jobs moves nothing.
            Some(ErrorNumber::NoSupport) => Ok(JobNow::None),
            _ => Err(error),
        },
    }
}

fn standing(state: DomainState, reason: Option<&str>, active: bool, job: JobNow) -> Standing {
    match (reason, job) {
        (Some("migrated"), _) if !active && state == DomainState::Shutoff => Standing::Departed,
        _ if !active => Standing::Off(state),
        (Some("postcopy-failed"), _) if state == DomainState::Running => Standing::Here(state),
        (Some("postcopy-failed"), _) => Standing::Split,
        (_, JobNow::Outgoing) => Standing::Leaving,
        (_, JobNow::Incoming) if state == DomainState::Paused => Standing::Arriving,
        (Some("postcopy"), JobNow::None) if state == DomainState::Paused => Standing::Split,
        _ => Standing::Here(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DomainState::{Crashed, Paused, Running, Shutdown, Shutoff};

    #[test]
    fn only_what_is_certain_may_execute() {
        let at = |state, reason, job| standing(state, Some(reason), true, job);
        assert_eq!(standing(Shutoff, Some("migrated"), false, JobNow::None), Standing::Departed);
        assert_eq!(standing(Shutoff, Some("destroyed"), false, JobNow::None), Standing::Off(Shutoff));
        assert_eq!(standing(Crashed, Some("panicked"), false, JobNow::None), Standing::Off(Crashed));
        assert_eq!(at(Running, "booted", JobNow::Outgoing), Standing::Leaving);
        assert_eq!(at(Paused, "migration", JobNow::Outgoing), Standing::Leaving, "the moment of handing over");
        assert_eq!(at(Paused, "migration", JobNow::Incoming), Standing::Arriving);
        assert_eq!(at(Paused, "migration", JobNow::None), Standing::Here(Paused), "handed over or not: its memory is whole here");
        assert_eq!(at(Paused, "postcopy", JobNow::None), Standing::Split);
        assert_eq!(at(Running, "migrated", JobNow::Incoming), Standing::Here(Running), "it executes, though the job is not over");
        assert_eq!(at(Running, "postcopy", JobNow::Incoming), Standing::Here(Running));
        assert_eq!(at(Running, "postcopy-failed", JobNow::Incoming), Standing::Here(Running), "the target, where it was started");
        assert_eq!(at(Running, "postcopy-failed", JobNow::None), Standing::Here(Running), "libvirtd was started anew since");
        assert_eq!(at(Paused, "postcopy-failed", JobNow::Outgoing), Standing::Split);
        assert_eq!(at(Paused, "user", JobNow::None), Standing::Here(Paused));
        assert_eq!(at(Paused, "user", JobNow::Outgoing), Standing::Leaving);
        assert_eq!(at(Paused, "starting-up", JobNow::None), Standing::Here(Paused));
        assert_eq!(at(Shutdown, "user", JobNow::None), Standing::Here(Shutdown));
    }
}
