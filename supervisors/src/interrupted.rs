//! Operations that a crash interrupted: each is settled once its hypervisor was listed, and never run again.

use archipel_actors::{
    board::{Change, Draft},
    making, migration,
    scope::Scope,
    settle::{Interruption, settle},
    task,
};
use archipel_contract::{
    Command, EntityId, Epoch, Facts, Fault, FaultKind, HypervisorName, Timestamp,
    backup::CreateBackup,
    domain::AutostartDomain,
    event::Cause,
    port::{DoneOperation, Journal, Operation},
    task::{REMEMBERED, REMEMBERED_FOR, TaskFacts, TaskState},
};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

/// The pause before what could not be settled is tried again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the journal knows of earlier lives of the agent.
pub(crate) struct Past {
    /// Accepted and not done.
    pub(crate) open: Vec<Operation>,
    /// Tasks that ended, newest first.
    pub(crate) ended: Vec<DoneOperation>,
}

impl Past {
    pub(crate) async fn read(journal: &dyn Journal, now: Timestamp) -> Result<Past, Fault> {
        let since = Timestamp(now.0.saturating_sub(REMEMBERED_FOR.0));
        Ok(Past { open: journal.interrupted().await?, ended: journal.ended_tasks(since, REMEMBERED).await? })
    }
}

/// The operations that wait to be settled.
pub(crate) struct Interrupted {
    open: RefCell<Vec<Operation>>,
    listed: RefCell<HashMap<HypervisorName, Weak<Scope>>>,
    serves: Vec<HypervisorName>,
    /// Somebody tries again after a pause.
    patient: Cell<bool>,
}

/// Where an operation must be looked for: the libvirt of another hypervisor would say that its target is gone.
enum Home {
    At(Rc<Scope>),
    /// That hypervisor was not listed yet.
    Later,
    /// On none of this agent's.
    Nowhere,
}

impl Interrupted {
    /// These operations, of an agent with these hypervisors.
    pub(crate) fn new(open: Vec<Operation>, serves: Vec<HypervisorName>) -> Interrupted {
        Interrupted { open: RefCell::new(open), listed: RefCell::default(), serves, patient: Cell::new(false) }
    }

    /// Everything on this hypervisor was listed: settles what belongs to it, and what belongs to none once all were listed.
    pub(crate) async fn host_listed(&self, scope: &Rc<Scope>) {
        self.listed.borrow_mut().insert(scope.host.name.clone(), Rc::downgrade(scope));
        let mut pause = FIRST_PAUSE;
        while self.settle_all(scope).await && !self.patient.replace(true) {
            tokio::time::sleep(pause).await;
            self.patient.set(false);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Settles what can be; answers whether something failed that is worth trying again.
    async fn settle_all(&self, scope: &Rc<Scope>) -> bool {
        let open: Vec<Operation> = self.open.borrow_mut().drain(..).collect();
        let mut again = false;
        for operation in open {
            let outcome = match self.home(scope, &operation).await {
                Ok(Home::Later) => {
                    self.open.borrow_mut().push(operation);
                    continue;
                }
                // Its work is written down and goes on.
                Ok(Home::At(home)) if goes_on(&home, &operation) => continue,
                Ok(Home::At(home)) if migration::continued(&home, &operation).is_some() => {
                    migration::continued(&home, &operation).map_or_else(|| Err(Fault::internal("a move ended meanwhile")), Ok)
                }
                Ok(Home::At(home)) if matches!(operation.target, EntityId::Task(_)) => interrupt_task(&home, &operation).await,
                Ok(Home::At(home)) => settle(&home.host, &home.board, &operation, Interruption::Restart).await,
                Ok(Home::Nowhere) => Ok(Err(Fault::unavailable(format!(
                    "{} of {} was interrupted by a restart and its hypervisor is not served here any more, so nobody knows whether it took \
                     effect; look there before asking again",
                    operation.command, operation.target
                )))),
                Err(fault) => Err(fault),
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
                tracing::warn!(operation = %operation.id, %fault, "not settled yet; it is tried again");
                self.open.borrow_mut().push(operation);
                again = true;
            }
        }
        again
    }

    fn at(&self, host: &HypervisorName) -> Home {
        match self.listed.borrow().get(host).and_then(Weak::upgrade) {
            Some(scope) => Home::At(scope),
            None if self.serves.contains(host) => Home::Later,
            None => Home::Nowhere,
        }
    }

    async fn home(&self, scope: &Rc<Scope>, operation: &Operation) -> Result<Home, Fault> {
        let target = match &operation.target {
            EntityId::Hypervisor(name) => return Ok(self.at(name)),
            EntityId::Task(_) => {
                let host = operation.arguments.get("host").and_then(Value::as_str).and_then(|h| h.parse().ok());
                return Ok(match host.map(|h| self.at(&h)) {
                    // Whoever asks for the task must find it, wherever it ran.
                    Some(Home::Nowhere) | None => Home::At(scope.clone()),
                    Some(home) => home,
                });
            }
            other => other,
        };
        let scopes: Vec<Rc<Scope>> = self.listed.borrow().values().filter_map(Weak::upgrade).collect();
        let all = scopes.len() >= self.serves.len();
        match (scopes.into_iter().find(|s| s.board.get(target).is_some()), target) {
            (Some(home), _) => Ok(Home::At(home)),
            (None, _) if !all => Ok(Home::Later),
            // It is gone, or on a hypervisor that was taken out of the configuration: its owner tells.
            (None, EntityId::Domain(id)) => {
                Ok(scope.authority.ownership(*id).await?.map_or_else(|| Home::At(scope.clone()), |o| self.at(&o.owner)))
            }
            (None, _) => Ok(Home::At(scope.clone())),
        }
    }
}

/// Whether it is a task whose work is written down, and goes on.
fn goes_on(scope: &Scope, operation: &Operation) -> bool {
    let EntityId::Task(id) = operation.target else { return false };
    let drains = scope.moves.drain.borrow().as_ref().is_some_and(|d| d.task() == id && d.is_open());
    drains || scope.moves.by_task(id).is_some()
}

/// What is left of a task's work that belongs to no making: starts after a boot go on by themselves. libvirt goes on with a backup when
/// whoever asked for it has died. Nobody would ever read it back, so it is given up.
async fn abandon(scope: &Scope, operation: &Operation) -> Result<Option<String>, Fault> {
    if operation.command == AutostartDomain::NAME {
        return Ok(Some("what it had not started yet is started by another task".to_owned()));
    }
    if operation.command != CreateBackup::NAME {
        return Ok(None);
    }
    let target = operation.arguments.get("target").and_then(Value::as_str).and_then(|t| t.parse().ok());
    let Some(EntityId::Domain(id)) = target else { return Ok(None) };
    match scope.host.backups.abandon(id).await {
        Ok(gone) if gone.is_empty() => {
            Ok(Some("nothing of it is left; look whether the backup is in its pool before asking again".to_owned()))
        }
        Ok(gone) => Ok(Some(format!("it was given up and nothing of it is left (removed: {}); ask again", gone.join(", ")))),
        // The machine went meanwhile; what is left is shown as unfinished.
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// A task that ran when the daemon ended is shown as failed, unless it had ended and only that was not written down.
async fn interrupt_task(scope: &Rc<Scope>, operation: &Operation) -> Result<Result<Value, Fault>, Fault> {
    let left = match operation.target {
        EntityId::Task(id) => {
            let given_up = abandon(scope, operation).await?;
            given_up.or(making::left_behind(scope, id).await?)
        }
        _ => None,
    };
    Ok(interrupted_task(scope, operation, left))
}

fn interrupted_task(scope: &Scope, operation: &Operation, left: Option<String>) -> Result<Value, Fault> {
    let told = if let EntityId::Task(id) = operation.target { scope.moves.told.borrow_mut().remove(&id) } else { None };
    if let Some(outcome) = told {
        return outcome.map(|message| serde_json::json!({ "message": message }));
    }
    let next = left.unwrap_or_else(|| "look at the target before asking again".to_owned());
    let fault = Fault::unavailable(format!("interrupted by a restart of the daemon; {next}"));
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
