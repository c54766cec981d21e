//! The actor of one storage pool, and of the volumes in it. Pools change rarely, so every report costs one read; what differs
//! is told. Listing the volumes again may take long and is a task.

use crate::{
    ask::{Ask, bare, ending},
    board::{Change, Draft},
    domain::in_control,
    life::{Life, Posted},
    scope::{LONG, SHORT, Scope, within},
    task::{self, Plan},
};
use actix::prelude::*;
use archipel_contract::{
    Command, Condition, Entity, EntityId, Epoch, Facts, Fault, FaultKind, PoolId,
    command::{Done, Started},
    event::Cause,
    host::PoolChange,
    storage_pool::*,
    volume::{ListVolumes, ShowVolume, Volume, VolumeRecord},
};
use std::rc::Rc;
use std::sync::Arc;

/// Something libvirt reported about this storage pool.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Observed(pub PoolChange);

/// The actor of one storage pool.
pub struct PoolActor {
    id: PoolId,
    scope: Rc<Scope>,
    life: Arc<Life>,
    fresh: bool,
    /// Being read; `true` when it must be read once more.
    reading: Option<bool>,
    /// Its volumes were listed again, which is told even when nothing differs.
    refreshed: bool,
    /// Whose command the next change follows.
    person: Option<Arc<str>>,
}

/// What a read means for what is known: topic and draft, or nothing when nothing differs.
pub fn compare(before: Option<&Entity>, record: PoolRecord) -> Option<(&'static str, Draft)> {
    let state = record.facts.state;
    let draft = Draft::new(record.name, Epoch(0), Facts::StoragePool(record.facts));
    let Some(entity) = before else { return Some(("storage-pool.added", draft)) };
    let topic = match (&entity.facts, state) {
        (Facts::StoragePool(old), _) if old.state == state || entity.condition != Condition::Ok => "storage-pool.changed",
        (_, PoolState::Inactive) => "storage-pool.stopped",
        (Facts::StoragePool(old), _) if old.state == PoolState::Inactive => "storage-pool.started",
        _ => "storage-pool.changed",
    };
    (Draft::of(entity) != draft).then_some((topic, draft))
}

impl PoolActor {
    /// The actor of this storage pool; `fresh` when an earlier life of it failed.
    pub fn new(id: PoolId, scope: Rc<Scope>, life: Arc<Life>, fresh: bool) -> PoolActor {
        PoolActor { id, scope, life, fresh, reading: None, refreshed: false, person: None }
    }

    fn known(&self) -> Option<Arc<Entity>> {
        self.scope.board.get(&EntityId::StoragePool(self.id))
    }

    fn entity(&self) -> Result<Arc<Entity>, Fault> {
        self.known().ok_or_else(|| Fault::not_found(format!("there is no storage pool {}; list them again", self.id)))
    }

    /// What is known, if control and state allow this command.
    fn usable(&self, command: &str) -> Result<Arc<Entity>, Fault> {
        let entity = self.entity()?;
        in_control(&entity)?;
        if let Facts::StoragePool(facts) = &entity.facts {
            may(command, facts).check(&entity.name)?;
        }
        Ok(entity)
    }

    fn cause(&mut self) -> Cause {
        match self.person.take() {
            Some(person) => Cause::Person(person),
            None if self.fresh => Cause::Archipel,
            None => Cause::Libvirt,
        }
    }

    fn read(&mut self, ctx: &mut Context<Self>) {
        if let Some(again) = &mut self.reading {
            *again = true;
            return;
        }
        self.reading = Some(false);
        let (scope, id) = (self.scope.clone(), self.id);
        let asked_at = self.known().map(|e| e.seq);
        let look = async move { within(SHORT, scope.host.pools.read(id)).await };
        ctx.spawn(look.into_actor(self).map(move |found, this, ctx| {
            let again = this.reading.take() == Some(true);
            // A listing of the whole host came in between and may be newer than this read.
            if found.is_ok() && this.known().map(|e| e.seq) != asked_at {
                return this.read(ctx);
            }
            match found {
                Ok(record) => {
                    let refreshed = std::mem::take(&mut this.refreshed);
                    let known = this.known();
                    let told = Draft::new(record.name.clone(), Epoch(0), Facts::StoragePool(record.facts.clone()));
                    let news = compare(known.as_deref(), record).or_else(|| refreshed.then_some(("storage-pool.refreshed", told)));
                    if let Some((mut topic, draft)) = news {
                        if refreshed && topic == "storage-pool.changed" {
                            topic = "storage-pool.refreshed";
                        }
                        let cause = this.cause();
                        this.scope.board.publish(Change::to(this.id, topic, cause, draft));
                    } else if !again {
                        this.person = None;
                    }
                    this.fresh = false;
                    if again {
                        this.read(ctx);
                    }
                }
                Err(fault) if fault.kind == FaultKind::NotFound => {
                    let cause = this.cause();
                    this.scope.board.publish(Change::gone(this.id, "storage-pool.undefined", cause));
                    // Not at once: the command that caused it may still wait for its answer here.
                    this.scope.keeper.stop(&this.id.into());
                }
                // The whole host is silent; its actor lists everything again when it is back.
                Err(fault) if fault.kind == FaultKind::Unavailable => {}
                Err(fault) => {
                    this.life.fail(fault);
                    ctx.stop();
                }
            }
        }));
    }

    fn run<C, F>(&mut self, posted: Posted<Ask<C>>, work: F) -> ResponseActFuture<Self, Result<Done, Fault>>
    where
        C: Command<Reply = Done>,
        F: AsyncFnOnce(&dyn PoolPort, PoolId, C) -> Result<&'static str, Fault> + 'static,
    {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let entity = match self.usable(C::NAME) {
            Ok(entity) => entity,
            Err(fault) => return Box::pin(fut::ready(Err(fault))),
        };
        let (scope, id) = (self.scope.clone(), self.id);
        self.person = Some(bare(&caller.jid).into());
        let work = async move { work(&*scope.host.pools, id, command).await.map(|what| Done::new(format!("{} {what}", entity.name))) };
        Box::pin(work.into_actor(self).map(|answer, this, ctx| {
            match &answer {
                Ok(_) => this.read(ctx),
                Err(_) => this.person = None,
            }
            answer
        }))
    }
}

impl Actor for PoolActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        if !self.life.is_over() && (self.fresh || self.known().is_none()) {
            self.read(ctx);
        }
    }
}

impl Handler<Posted<Observed>> for PoolActor {
    type Result = ();
    fn handle(&mut self, posted: Posted<Observed>, ctx: &mut Self::Context) {
        if let Some(Observed(change)) = posted.take() {
            self.refreshed |= change == PoolChange::Refreshed;
            self.read(ctx);
        }
    }
}

impl Handler<Posted<Ask<ShowPool>>> for PoolActor {
    type Result = Result<Entity, Fault>;
    fn handle(&mut self, _: Posted<Ask<ShowPool>>, _: &mut Self::Context) -> Self::Result {
        self.entity().map(|e| Entity::clone(&e))
    }
}

impl Handler<Posted<Ask<StartPool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<StartPool>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |port: &dyn PoolPort, id, _| within(LONG, port.start(id)).await.map(|()| "is started"))
    }
}

impl Handler<Posted<Ask<StopPool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<StopPool>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |port: &dyn PoolPort, id, _| {
            within(LONG, port.stop(id)).await.map(|()| "is stopped; nothing in it was deleted")
        })
    }
}

impl Handler<Posted<Ask<AutostartPool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<AutostartPool>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |port: &dyn PoolPort, id, command: AutostartPool| {
            within(SHORT, port.set_autostart(id, command.enabled)).await?;
            Ok(if command.enabled { "starts with its host" } else { "does not start with its host" })
        })
    }
}

impl Handler<Posted<Ask<RefreshPool>>> for PoolActor {
    type Result = Result<Started, Fault>;
    fn handle(&mut self, posted: Posted<Ask<RefreshPool>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return ending() };
        let entity = self.usable(RefreshPool::NAME)?;
        self.person = Some(ask.person().into());
        let plan = Plan::Refresh { pool: self.id };
        let task = task::begin(&self.scope, plan, self.id.into(), RefreshPool::NAME, &entity.name, &ask.caller);
        Ok(Started { task, message: format!("the volumes of {} are being listed again", entity.name) })
    }
}

fn volume(entity: &Entity, record: VolumeRecord) -> Volume {
    Volume {
        id: format!("{}/{}", entity.id.plain(), record.name),
        jid: entity.jid(),
        name: record.name,
        state: "available".to_owned(),
        host: entity.host.clone(),
        epoch: entity.epoch,
        seq: entity.seq,
        facts: record.facts,
    }
}

impl Handler<Posted<Ask<ListVolumes>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Vec<Volume>, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<ListVolumes>>, _: &mut Self::Context) -> Self::Result {
        if posted.take().is_none() {
            return Box::pin(fut::ready(ending()));
        }
        let (scope, id, entity) = (self.scope.clone(), self.id, self.usable(ListVolumes::NAME));
        let look = async move {
            let entity = entity?;
            let found = within(SHORT, scope.host.volumes.list(id)).await?;
            Ok(found.into_iter().map(|v| volume(&entity, v)).collect())
        };
        Box::pin(look.into_actor(self))
    }
}

impl Handler<Posted<Ask<ShowVolume>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Volume, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<ShowVolume>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope.clone(), self.id, self.usable(ShowVolume::NAME));
        let look = async move {
            let entity = entity?;
            Ok(volume(&entity, within(SHORT, scope.host.volumes.read(id, ask.command.volume)).await?))
        };
        Box::pin(look.into_actor(self))
    }
}
