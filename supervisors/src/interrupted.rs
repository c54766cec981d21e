//! Operations that a crash interrupted: each is settled once its hypervisor was listed, and never run again.

use archipel_actors::{
    board::{Change, Draft},
    scope::Scope,
    settle::{Interruption, settle},
    task,
};
use archipel_contract::{
    EntityId, Epoch, Facts, Fault, HypervisorName,
    event::Cause,
    port::Operation,
    task::{TaskFacts, TaskState},
};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

/// The operations that wait to be settled.
pub(crate) struct Interrupted {
    open: RefCell<Vec<Operation>>,
    listed: RefCell<HashSet<HypervisorName>>,
    hosts: usize,
}

impl Interrupted {
    /// These operations, of an agent with that many hypervisors.
    pub(crate) fn new(open: Vec<Operation>, hosts: usize) -> Interrupted {
        Interrupted { open: RefCell::new(open), listed: RefCell::default(), hosts }
    }

    /// Everything on this hypervisor was listed: settles what belongs to it, and what belongs to none once all were listed.
    pub(crate) async fn host_listed(&self, scope: &Rc<Scope>) {
        self.listed.borrow_mut().insert(scope.host.name.clone());
        let all = self.listed.borrow().len() >= self.hosts;
        let (ours, others) = self.open.borrow_mut().drain(..).partition(|o| all || belongs(scope, o));
        *self.open.borrow_mut() = others;
        for operation in ours {
            let outcome = match &operation.target {
                EntityId::Task(_) => Ok(interrupt_task(scope, &operation)),
                _ => settle(&scope.host, &scope.board, &operation, Interruption::Restart).await,
            };
            let written = match outcome {
                Ok(outcome) => {
                    let settled = outcome.as_ref().map_or_else(|f| f.to_string(), |v| v["message"].as_str().unwrap_or_default().to_owned());
                    tracing::info!(target: "archipel::audit", who = %operation.caller, what = %operation.command, target_entity = %operation.target,
                        operation = %operation.id, outcome = %settled, "interrupted change settled");
                    scope.journal.complete(operation.caller.clone(), operation.id, outcome, scope.clock.now()).await
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = written {
                tracing::warn!(operation = %operation.id, %fault, "not settled; tried again after the next listing");
                self.open.borrow_mut().push(operation);
            }
        }
    }
}

fn belongs(scope: &Scope, operation: &Operation) -> bool {
    match &operation.target {
        EntityId::Hypervisor(name) => *name == scope.host.name,
        EntityId::Task(_) => operation.arguments.get("host").and_then(Value::as_str) == Some(scope.host.name.as_str()),
        other => scope.board.get(other).is_some(),
    }
}

/// A task that ran when the daemon ended is shown as failed.
fn interrupt_task(scope: &Scope, operation: &Operation) -> Result<Value, Fault> {
    let fault = Fault::unavailable("interrupted by a restart of the daemon; look at the target before asking again");
    let EntityId::Task(id) = operation.target else { return Err(fault) };
    let target: Option<EntityId> = operation.arguments.get("target").and_then(Value::as_str).and_then(|t| t.parse().ok());
    let target = target.unwrap_or(EntityId::Task(id));
    let name = scope.board.get(&target).map_or_else(|| target.to_string(), |e| e.name.to_string());
    let facts = TaskFacts {
        state: TaskState::Failed,
        command: operation.command.as_str().into(),
        target,
        caller: operation.caller.as_str().into(),
        percent: None,
        message: "interrupted".into(),
        fault: Some(fault.clone()),
        started: operation.accepted,
        ended: Some(scope.clock.now()),
    };
    let draft = Draft::new(format!("{} {name}", operation.command).into(), Epoch(0), Facts::Task(facts));
    scope.board.publish(Change::to(id, "task.finished", Cause::Archipel, draft));
    scope.keeper.start(EntityId::Task(id));
    task::remember(scope, id);
    Err(fault)
}
