//! The agents in the guests of the fake hypervisor: they answer where the facts say so.

use super::host::{FakeHost, Model};
use crate::{
    BoxFuture, DomainId, Fault,
    domain::{GuestInfo, GuestInterface, GuestPort, Program, ProgramEnd, ShutdownMode},
};
use std::collections::BTreeSet;

/// Machines whose file systems stand still.
pub(super) type Frozen = BTreeSet<DomainId>;

fn answers(model: &Model, id: DomainId) -> Result<(), Fault> {
    let Some(record) = model.domains.get(&id) else {
        return Err(Fault::not_found(format!("there is no virtual machine {id}; list them again")));
    };
    if !record.facts.state.is_active() {
        return Err(Fault::wrong_state(format!("{} is off; start it first", record.name)));
    }
    if !record.facts.agent {
        return Err(Fault::wrong_state(format!("the agent in {} does not answer; start it in the guest", record.name)));
    }
    Ok(())
}

impl FakeHost {
    /// Whether a guest's file systems stand still.
    pub fn is_frozen(&self, id: DomainId) -> bool {
        super::lock(&self.model).frozen.contains(&id)
    }
}

impl GuestPort for FakeHost {
    fn info(&self, id: DomainId) -> BoxFuture<'_, Result<GuestInfo, Fault>> {
        self.call("guest.info", id.to_string(), move |model| {
            answers(model, id)?;
            let card = GuestInterface { name: "eth0".into(), mac: "52:54:00:00:00:01".into(), addresses: vec!["192.0.2.7/24".into()] };
            Ok(GuestInfo { hostname: Some("guest".into()), interfaces: vec![card], source: "agent".into(), ..GuestInfo::default() })
        })
    }
    fn sync_time(&self, id: DomainId, _: crate::Timestamp) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("guest.sync-time", id.to_string(), move |model| answers(model, id))
    }
    fn freeze(&self, id: DomainId) -> BoxFuture<'_, Result<u32, Fault>> {
        self.call("guest.freeze", id.to_string(), move |model| {
            answers(model, id)?;
            if model.frozen.insert(id) { Ok(1) } else { Err(Fault::wrong_state("its file systems stand still already")) }
        })
    }
    fn thaw(&self, id: DomainId) -> BoxFuture<'_, Result<u32, Fault>> {
        self.call("guest.thaw", id.to_string(), move |model| {
            answers(model, id)?;
            Ok(u32::from(model.frozen.remove(&id)))
        })
    }
    fn shutdown(&self, id: DomainId, mode: ShutdownMode) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            if mode == ShutdownMode::Agent {
                self.call("guest.shutdown", id.to_string(), move |model| answers(model, id)).await?;
            }
            crate::domain::DomainPort::shutdown(self, id).await
        })
    }
    fn run(&self, id: DomainId, program: Program, _: std::time::Duration) -> BoxFuture<'_, Result<ProgramEnd, Fault>> {
        self.call("guest.run", id.to_string(), move |model| {
            answers(model, id)?;
            // It says what it was told, and ends with what it was told to end with.
            let code = program.arguments.iter().find_map(|a| a.strip_prefix("--exit=")?.parse().ok()).unwrap_or(0);
            let output = program.arguments.join("|") + &program.input.unwrap_or_default();
            Ok(ProgramEnd { exit_code: Some(code), output: output.into_bytes(), ..ProgramEnd::default() })
        })
    }
    fn set_password(&self, id: DomainId, _: String, _: String) -> BoxFuture<'_, Result<(), Fault>> {
        self.call("guest.set-password", id.to_string(), move |model| answers(model, id))
    }
}
