//! The actor of one task: work that goes on after its command was answered.
//!
//! ```text
//!   begin --> running --+--> done
//!                       +--> failed      (also when an earlier life of its actor failed: work is never run twice)
//!                       +--> cancelled
//! ```
//! The actor stays for as long as the task is remembered, so that it can be shown and waited for; the oldest ended tasks
//! are forgotten. The journal knows of a running task, so that a restart of the daemon can say that it was interrupted.

use crate::{
    ask::{Ask, bare, cause, ending},
    board::{Change, Draft},
    life::Posted,
    migration::{
        departure::{self, Departure, Ending},
        drain,
    },
    scope::Scope,
    work::{Doing, Reins, drive},
};
use actix::prelude::*;
use archipel_contract::{
    Caller, DomainId, Entity, EntityId, Epoch, Facts, Fault, FaultKind, Millis, OperationId, PoolId, TaskId,
    command::Done,
    event::Cause,
    port::{DoneOperation, Operation},
    task::{CancelTask, REMEMBERED, ShowTask, TaskFacts, TaskState, WaitTask, may},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a task does.
pub enum Plan {
    /// Follow a guest that was asked to power off until it has.
    Shutdown {
        /// The machine.
        domain: DomainId,
        /// How long to wait for it.
        timeout: Millis,
    },
    /// Move a machine to another host; what is to be done is written down.
    Migrate,
    /// Empty or fill a host; what is to be done is written down.
    Drain,
    /// List the volumes of a pool again.
    Refresh {
        /// The pool.
        pool: PoolId,
    },
    /// Long work of a port, which tells how far it is and can be stopped.
    Work {
        /// What goes on at first.
        words: String,
        /// The work itself.
        doing: Doing,
    },
}

/// Tells of a new task and begins its actor.
pub fn begin(scope: &Scope, plan: Plan, target: EntityId, command: &'static str, name: &str, caller: &Caller) -> TaskId {
    let id = TaskId::fresh();
    let person: Arc<str> = bare(&caller.jid).into();
    let facts = TaskFacts {
        state: TaskState::Running,
        command: command.into(),
        target,
        caller: person,
        percent: None,
        message: match &plan {
            Plan::Work { words, .. } => words.as_str().into(),
            Plan::Shutdown { .. } => "waiting for the guest to power off".into(),
            Plan::Refresh { .. } => "listing the volumes".into(),
            Plan::Migrate | Plan::Drain => "beginning".into(),
        },
        fault: None,
        started: scope.clock.now(),
        ended: None,
    };
    let draft = Draft::new(format!("{command} {name}").into(), Epoch(0), Facts::Task(facts));
    scope.plans.borrow_mut().insert(id, plan);
    scope.board.publish(Change::to(id, "task.started", cause(caller), draft));
    scope.keeper.start(EntityId::Task(id));
    id
}

/// Tells of a task whose work is written down elsewhere, new or of an earlier life of this agent.
pub fn introduce(scope: &Scope, id: TaskId, facts: TaskFacts) {
    let name = scope.board.get(&facts.target).map_or_else(|| facts.target.to_string(), |e| e.name.to_string());
    let cause = Cause::Person(facts.caller.clone());
    let draft = Draft::new(format!("{} {name}", facts.command).into(), Epoch(0), Facts::Task(facts));
    scope.board.publish(Change::to(id, "task.started", cause, draft));
}

/// Tells how far a task is, if that is news.
pub fn progress(scope: &Scope, id: TaskId, percent: Option<u8>, message: String) {
    let Some(entity) = scope.board.get(&EntityId::Task(id)) else { return };
    let Facts::Task(before) = &entity.facts else { return };
    if before.state != TaskState::Running || (before.percent == percent && *before.message == *message) {
        return;
    }
    let facts = TaskFacts { percent, message: message.into(), ..before.clone() };
    let mut draft = Draft::of(&entity);
    draft.facts = Facts::Task(facts);
    scope.board.publish(Change::to(id, "task.progressed", Cause::Archipel, draft));
}

/// What a task does whose work is written down: it goes on however often its actor begins.
fn written_down(scope: &Scope, id: TaskId) -> Option<Plan> {
    if scope.moves.by_task(id).is_some() {
        return Some(Plan::Migrate);
    }
    scope.moves.drain.borrow().as_ref().filter(|d| d.task() == id && d.is_open()).map(|_| Plan::Drain)
}

/// Remembers that a task ended, and forgets the oldest ones beyond the limit.
pub fn remember(scope: &Scope, id: TaskId) {
    let mut forgotten = Vec::new();
    {
        let mut ended = scope.ended.borrow_mut();
        if !ended.contains(&id) {
            ended.push_back(id);
        }
        while ended.len() > REMEMBERED {
            forgotten.extend(ended.pop_front());
        }
    }
    for old in forgotten {
        scope.board.publish(Change::gone(old, "task.removed", Cause::Archipel));
        scope.keeper.stop(&EntityId::Task(old));
    }
}

/// Puts the tasks of earlier lives of this agent that ended on the board, given the newest first. Nobody is told: it is no news.
pub fn recall(scope: &Scope, ended: &[DoneOperation]) {
    let mine = |d: &&DoneOperation| d.operation.arguments.get("host").and_then(Value::as_str) == Some(scope.host.name.as_str());
    for (id, draft) in ended.iter().filter(mine).rev().filter_map(of_ended) {
        scope.board.restore(id.into(), draft);
        scope.keeper.start(EntityId::Task(id));
        remember(scope, id);
    }
}

/// An ended task as the journal knows it.
fn of_ended(DoneOperation { operation, outcome, at }: &DoneOperation) -> Option<(TaskId, Draft)> {
    let EntityId::Task(id) = operation.target else { return None };
    let said = |key: &str| operation.arguments.get(key).and_then(Value::as_str);
    let (state, message) = match outcome {
        Ok(answer) => {
            let state = answer.get("state").and_then(|s| TaskState::deserialize(s).ok());
            (state.unwrap_or(TaskState::Done), answer.get("message").and_then(Value::as_str).unwrap_or("ended"))
        }
        Err(fault) => (TaskState::Failed, fault.message.as_str()),
    };
    let target: Option<EntityId> = said("target").and_then(|t| t.parse().ok());
    let target = target.unwrap_or(EntityId::Task(id));
    let facts = TaskFacts {
        state,
        command: operation.command.as_str().into(),
        caller: operation.caller.as_str().into(),
        percent: (state == TaskState::Done).then_some(100),
        message: message.into(),
        fault: outcome.as_ref().err().cloned(),
        started: operation.accepted,
        ended: Some(*at),
        target: target.clone(),
    };
    let name = said("name").map_or_else(|| format!("{} {target}", operation.command), str::to_owned);
    Some((id, Draft::new(name.into(), Epoch(0), Facts::Task(facts))))
}

/// The operation under which the journal knows a running task.
fn operation(scope: &Scope, id: TaskId, name: &str, facts: &TaskFacts) -> Operation {
    Operation {
        id: OperationId(id.0),
        caller: facts.caller.to_string(),
        role: archipel_contract::Role::Admin,
        command: facts.command.to_string(),
        target: EntityId::Task(id),
        arguments: json!({ "host": scope.host.name, "target": facts.target, "name": name }),
        accepted: facts.started,
    }
}

/// The actor of one task.
pub struct TaskActor {
    id: TaskId,
    scope: Rc<Scope>,
    life: Arc<crate::life::Life>,
    work: Option<SpawnHandle>,
    /// Whether what it does can be stopped half-way.
    cancellable: bool,
    /// Whether it ends by itself once it was asked to stop, when it has cleaned up.
    stops_by_itself: bool,
    /// The move it drives, to be forgotten when its end is written down.
    departure: Option<Rc<Departure>>,
    /// By which long work of a port is stopped.
    reins: Arc<Reins>,
}

impl TaskActor {
    /// The actor of this task. Its plan stands in the scope, once.
    pub fn new(id: TaskId, scope: Rc<Scope>, life: Arc<crate::life::Life>) -> TaskActor {
        TaskActor { id, scope, life, work: None, cancellable: true, stops_by_itself: false, departure: None, reins: Reins::new() }
    }

    fn known(&self) -> Option<(Arc<Entity>, TaskFacts)> {
        let entity = self.scope.board.get(&EntityId::Task(self.id))?;
        let facts = if let Facts::Task(f) = &entity.facts { f.clone() } else { return None };
        Some((entity, facts))
    }

    fn entity(&self) -> Result<Arc<Entity>, Fault> {
        self.known().map(|(e, _)| e).ok_or_else(|| Fault::not_found(format!("there is no task {}; list them again", self.id)))
    }

    fn finish(&mut self, state: TaskState, outcome: Result<String, Fault>, cause: Cause) {
        let Some((entity, mut facts)) = self.known().filter(|(_, f)| f.state == TaskState::Running) else { return };
        self.work = None;
        facts.state = state;
        facts.ended = Some(self.scope.clock.now());
        facts.percent = (state == TaskState::Done).then_some(100);
        facts.message = match &outcome {
            Ok(message) => message.as_str().into(),
            Err(fault) => fault.message.as_str().into(),
        };
        facts.fault = outcome.as_ref().err().cloned();
        let (id, caller) = (OperationId(self.id.0), facts.caller.to_string());
        let mut draft = Draft::of(&entity);
        draft.facts = Facts::Task(facts);
        self.scope.board.publish(Change::to(self.id, "task.finished", cause, draft));
        let (journal, at) = (self.scope.journal.clone(), self.scope.clock.now());
        let (scope, over) = (self.scope.clone(), self.departure.take());
        actix_rt::spawn(async move {
            let answer = outcome.map(|message| json!({ "message": message, "state": state }));
            if let Err(fault) = journal.complete(caller, id, answer, at).await {
                tracing::warn!(task = %id, %fault, "the end of a task was not written down");
            }
            if let Some(departure) = over {
                departure::clear(scope, departure).await;
            }
        });
        remember(&self.scope, self.id);
    }
}

/// Does what is planned, after the journal knows of it.
async fn carry_out(scope: Rc<Scope>, id: TaskId, (entity, facts): (Arc<Entity>, TaskFacts), plan: Plan, reins: Arc<Reins>) -> Ending {
    if let Err(fault) = scope.journal.accept(operation(&scope, id, &entity.name, &facts)).await {
        // What is written down goes on without the journal.
        if !matches!(plan, Plan::Migrate | Plan::Drain) {
            return (TaskState::Failed, Err(fault));
        }
        // One that goes on after a restart was written down by the life that began it, which may have called it otherwise.
        if fault.kind != FaultKind::Conflict {
            tracing::warn!(task = %id, %fault, "the beginning of a task was not written down");
        }
    }
    let drain = scope.moves.drain.borrow().clone();
    match (plan, scope.moves.by_task(id), drain) {
        (Plan::Work { doing, .. }, ..) => drive(scope, id, reins, doing).await,
        (Plan::Migrate, Some(departure), _) => departure::drive(scope, departure).await,
        (Plan::Drain, _, Some(drain)) => drain::carry_out(scope, drain).await,
        (Plan::Migrate | Plan::Drain, ..) => (TaskState::Failed, Err(Fault::internal("its work is not known any more"))),
        (plan, ..) => {
            let outcome = work(scope, plan).await;
            (if outcome.is_ok() { TaskState::Done } else { TaskState::Failed }, outcome)
        }
    }
}

async fn work(scope: Rc<Scope>, plan: Plan) -> Result<String, Fault> {
    match plan {
        Plan::Migrate | Plan::Drain | Plan::Work { .. } => Err(Fault::internal("this is not done here; please report this")),
        Plan::Refresh { pool } => {
            scope.host.pools.refresh(pool).await?;
            Ok("the volumes were listed again".to_owned())
        }
        Plan::Shutdown { domain, timeout } => {
            let entity = EntityId::Domain(domain);
            let off = scope.board.until(&entity, |e| match e {
                None => true,
                Some(e) => e.state() != "unknown" && e.domain().is_some_and(|f| !f.state.is_active()),
            });
            match tokio::time::timeout(timeout.duration(), off).await {
                Ok(_) => Ok("the guest is off".to_owned()),
                // Nobody may say that it runs on when nobody can see it.
                Err(_) if scope.board.get(&entity).is_some_and(|e| e.state() == "unknown") => Err(Fault::unavailable(
                    "control over the machine is lost, so nobody knows whether the guest powered off; look when control is back",
                )),
                Err(_) => Err(Fault::new(
                    FaultKind::Timeout,
                    format!("the guest did not power off within {} s; ask it again, or use force-off", timeout.0 / 1000),
                )),
            }
        }
    }
}

impl Actor for TaskActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.life.is_over() {
            return;
        }
        let Some(known) = self.known().filter(|(_, f)| f.state == TaskState::Running) else { return };
        let planned = self.scope.plans.borrow_mut().remove(&self.id);
        let Some(plan) = planned.or_else(|| written_down(&self.scope, self.id)) else {
            let fault = Fault::internal("its actor failed and the work was not run again; look at the target before asking again");
            return self.finish(TaskState::Failed, Err(fault), Cause::Archipel);
        };
        self.cancellable = matches!(plan, Plan::Shutdown { .. } | Plan::Work { .. });
        self.stops_by_itself = matches!(plan, Plan::Work { .. });
        self.departure = self.scope.moves.by_task(self.id);
        let work = carry_out(self.scope.clone(), self.id, known, plan, self.reins.clone());
        self.work = Some(ctx.spawn(work.into_actor(self).map(|(state, outcome), this, _| {
            this.finish(state, outcome, Cause::Archipel);
        })));
    }
}

impl Handler<Posted<Ask<ShowTask>>> for TaskActor {
    type Result = Result<Entity, Fault>;
    fn handle(&mut self, _: Posted<Ask<ShowTask>>, _: &mut Self::Context) -> Self::Result {
        self.entity().map(|e| Entity::clone(&e))
    }
}

impl Handler<Posted<Ask<CancelTask>>> for TaskActor {
    type Result = ResponseFuture<Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<CancelTask>>, ctx: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return Box::pin(std::future::ready(ending())) };
        if let Some(departure) = self.scope.moves.by_task(self.id) {
            return Box::pin(async move {
                departure.cancel().await?;
                Ok(Done::new("it is being called off; the task ends when it is known where the machine is"))
            });
        }
        let drain = self.scope.moves.drain.borrow().clone();
        if let Some(drain) = drain.filter(|d| d.task() == self.id && d.is_open()) {
            drain.cancel();
            let done = Done::new("no further machine is moved; those on their way end as they end");
            return Box::pin(std::future::ready(Ok(done)));
        }
        let answer = self.cancel(&ask, ctx);
        Box::pin(std::future::ready(answer))
    }
}

impl TaskActor {
    fn cancel(&mut self, ask: &Ask<CancelTask>, ctx: &mut Context<Self>) -> Result<Done, Fault> {
        let (entity, facts) = self.known().ok_or_else(|| Fault::not_found(format!("there is no task {}; list them again", self.id)))?;
        may("task.cancel", &facts).check(&entity.name)?;
        if !self.cancellable {
            return Err(Fault::new(FaultKind::Unsupported, "libvirt offers no way to stop this; wait until it ends"));
        }
        if self.stops_by_itself {
            self.reins.stop();
            return Ok(Done::new("it is being stopped; the task ends when nothing half done is left"));
        }
        if let Some(work) = self.work.take() {
            ctx.cancel_future(work);
        }
        let person = ask.person().into();
        self.finish(TaskState::Cancelled, Ok("cancelled; what was done stays done".to_owned()), Cause::Person(person));
        Ok(Done::new("the task is cancelled; what it has done stays done"))
    }
}

impl Handler<Posted<Ask<WaitTask>>> for TaskActor {
    type Result = ResponseFuture<Result<Entity, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<WaitTask>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return Box::pin(std::future::ready(ending())) };
        let (board, id, now) = (self.scope.board.clone(), EntityId::Task(self.id), self.entity());
        Box::pin(async move {
            let now = now?;
            let limit = Duration::from_secs(u64::from(ask.command.timeout));
            let ended = board.until(&id, |e| e.is_none_or(|e| !matches!(&e.facts, Facts::Task(f) if f.state == TaskState::Running)));
            let then = tokio::time::timeout(limit, ended).await.ok().flatten().or_else(|| board.get(&id));
            Ok(Entity::clone(&then.unwrap_or(now)))
        })
    }
}
