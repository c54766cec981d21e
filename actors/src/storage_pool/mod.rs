//! The actor of one storage pool, and of the volumes in it: what a pool is to the [`crate::noun`] actor, and its commands.
//! Listing the volumes again may take long and is a task.

use crate::{
    ask::{Ask, ending},
    board::Draft,
    life::Posted,
    noun::{Noun, NounActor, Topics},
    scope::{LONG, SHORT, within},
    task::{self, Plan},
};
use actix::prelude::*;
use archipel_contract::{
    BoxFuture, Command, Condition, Entity, Epoch, Facts, Fault, PoolId, Verdict,
    command::{Done, Started},
    host::{Host, PoolChange},
    storage_pool::*,
    volume::{ListVolumes, ShowVolume, Volume, VolumeRecord},
};

/// A storage pool.
pub enum Pool {}

/// The actor of one storage pool.
pub type PoolActor = NounActor<Pool>;

impl Noun for Pool {
    type Id = PoolId;
    type Record = PoolRecord;
    type Change = PoolChange;
    const WORD: &'static str = "storage pool";
    const TOPICS: Topics = Topics { added: "storage-pool.added", changed: "storage-pool.changed", undefined: "storage-pool.undefined" };
    const AGAIN: PoolChange = PoolChange::Defined;

    fn read(host: &Host, id: PoolId) -> BoxFuture<'_, Result<PoolRecord, Fault>> {
        host.pools.read(id)
    }
    fn id(record: &PoolRecord) -> PoolId {
        record.id
    }
    fn draft(record: PoolRecord) -> Draft {
        Draft::new(record.name, Epoch(0), Facts::StoragePool(record.facts))
    }
    fn topic(before: &Entity, after: &Facts) -> &'static str {
        match (&before.facts, after) {
            (Facts::StoragePool(old), Facts::StoragePool(new)) if before.condition == Condition::Ok && old.state != new.state => {
                match (old.state, new.state) {
                    (_, PoolState::Inactive) => "storage-pool.stopped",
                    (PoolState::Inactive, _) => "storage-pool.started",
                    _ => Self::TOPICS.changed,
                }
            }
            _ => Self::TOPICS.changed,
        }
    }
    fn may(command: &str, facts: &Facts) -> Verdict {
        if let Facts::StoragePool(facts) = facts { may(command, facts) } else { Verdict::Allowed }
    }
    fn begins(change: &PoolChange) -> bool {
        *change != PoolChange::Undefined
    }
    fn deed(change: &PoolChange) -> Option<&'static str> {
        (*change == PoolChange::Refreshed).then_some("storage-pool.refreshed")
    }
}

impl Handler<Posted<Ask<ShowPool>>> for PoolActor {
    type Result = Result<Entity, Fault>;
    fn handle(&mut self, _: Posted<Ask<ShowPool>>, _: &mut Self::Context) -> Self::Result {
        self.show()
    }
}

impl Handler<Posted<Ask<StartPool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<StartPool>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, _| within(LONG, host.pools.start(id)).await.map(|()| "is started"))
    }
}

impl Handler<Posted<Ask<StopPool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<StopPool>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, _| {
            within(LONG, host.pools.stop(id)).await.map(|()| "is stopped; nothing in it was deleted")
        })
    }
}

impl Handler<Posted<Ask<AutostartPool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<AutostartPool>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, command: AutostartPool| {
            within(SHORT, host.pools.set_autostart(id, command.enabled)).await?;
            Ok(if command.enabled { "starts with its host" } else { "does not start with its host" })
        })
    }
}

impl Handler<Posted<Ask<RefreshPool>>> for PoolActor {
    type Result = Result<Started, Fault>;
    fn handle(&mut self, posted: Posted<Ask<RefreshPool>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return ending() };
        let entity = self.usable(RefreshPool::NAME)?;
        self.expect(ask.person());
        let plan = Plan::Refresh { pool: self.id() };
        let task = task::begin(self.scope(), plan, self.id().into(), RefreshPool::NAME, &entity.name, &ask.caller);
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
        let (scope, id, entity) = (self.scope().clone(), self.id(), self.usable(ListVolumes::NAME));
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
        let (scope, id, entity) = (self.scope().clone(), self.id(), self.usable(ShowVolume::NAME));
        let look = async move {
            let entity = entity?;
            Ok(volume(&entity, within(SHORT, scope.host.volumes.read(id, ask.command.volume)).await?))
        };
        Box::pin(look.into_actor(self))
    }
}
