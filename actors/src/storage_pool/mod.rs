//! The actor of one storage pool, and of the volumes in it: what a pool is to the [`crate::noun`] actor, and its commands.
//! Listing the volumes again may take long and is a task. The commands of volumes are in `volume`, defining a pool in `define`.

mod backup;
mod define;
mod transfer;
mod volume;

pub(crate) use backup::listed_backups;

use crate::{
    ask::{Ask, ending},
    board::Draft,
    life::Posted,
    noun::{Noun, NounActor, Topics},
    scope::{LONG, SHORT, within},
    task::{self, Plan},
    users,
};
use actix::prelude::*;
use archipel_contract::{
    BoxFuture, Bytes, Command, Condition, Entity, Epoch, Facts, Fault, PoolId, Verdict,
    command::{Done, Started},
    host::{Host, PoolChange},
    storage_pool::*,
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
        !matches!(change, PoolChange::Undefined | PoolChange::Volumes)
    }
    fn deed(change: &PoolChange) -> Option<&'static str> {
        match change {
            PoolChange::Refreshed => Some("storage-pool.refreshed"),
            PoolChange::Volumes => Some("storage-pool.volumes-changed"),
            _ => None,
        }
    }
}

impl Handler<Posted<Ask<ShowPool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Entity, Fault>>;
    fn handle(&mut self, _: Posted<Ask<ShowPool>>, _: &mut Self::Context) -> Self::Result {
        let (scope, id, shown, usable) = (self.scope().clone(), self.id(), self.show(), self.usable("volume.list"));
        let look = async move {
            let mut entity = shown?;
            // One listing, and only because somebody looks; without control, or stopped, it shows what is known.
            if let (Ok(_), Facts::StoragePool(facts)) = (usable, &mut entity.facts)
                && let Ok(volumes) = within(SHORT, scope.host.volumes.list(id)).await
            {
                let sizes = volumes.iter().map(|v| v.facts.capacity.0.max(v.facts.allocation.0));
                facts.provisioned = Some(Bytes(sizes.fold(0, u64::saturating_add)));
            }
            Ok(entity)
        };
        Box::pin(look.into_actor(self))
    }
}

impl Handler<Posted<Ask<BuildPool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<BuildPool>>, _: &mut Self::Context) -> Self::Result {
        let scope = self.scope().clone();
        self.run(posted, async move |host: &Host, id, command: BuildPool| {
            let unused = if command.overwrite { users::of_ground(&scope, id).await? } else { Vec::new() };
            within(LONG, host.pools.build(id, command.overwrite, unused)).await.map(|()| "has its place now; start it to use it")
        })
    }
}

impl Handler<Posted<Ask<DeletePool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<DeletePool>>, _: &mut Self::Context) -> Self::Result {
        let scope = self.scope().clone();
        self.run(posted, async move |host: &Host, id, command: DeletePool| {
            let mut proofs = Vec::new();
            if command.with_volumes {
                let all = within(SHORT, host.volumes.list(id)).await?.into_iter().map(|v| (id, v.name)).collect::<Vec<_>>();
                proofs = users::of_volumes(&scope, &all, None).await?;
            }
            within(LONG, host.pools.delete(id, command.with_volumes, proofs))
                .await
                .map(|()| "is stopped and its place is gone; its definition stays")
        })
    }
}

impl Handler<Posted<Ask<UndefinePool>>> for PoolActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<UndefinePool>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |host: &Host, id, _| {
            within(SHORT, host.pools.undefine(id)).await.map(|()| "is forgotten; nothing in it was deleted")
        })
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
