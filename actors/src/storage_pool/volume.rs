//! The commands of volumes. libvirt tells nothing of them, so after each change the pool is read, which tells everybody.
//!
//! ```text
//!   change --> port --> pool is read --> storage-pool.volumes-changed
//!   long   --> task --> port, followed --> the same for every pool concerned
//! ```

use super::{Pool, PoolActor};
use crate::{
    ask::{Ask, ending},
    life::Posted,
    noun,
    scope::{LONG, SHORT, Scope, within},
    users, work,
};
use actix::prelude::*;
use archipel_contract::{
    Command, Entity, Fault, PoolId,
    command::{Done, Started},
    host::{Host, PoolChange},
    storage_pool::ListOrphans,
    volume::*,
    work::Follower,
};
use futures::future::LocalBoxFuture;
use std::rc::Rc;
use std::sync::Arc;

pub(super) type Answer<C> = ResponseActFuture<PoolActor, Result<<C as Command>::Reply, Fault>>;

fn shown(entity: &Entity, record: VolumeRecord) -> Volume {
    Volume {
        id: format!("{}/{}", entity.id.plain(), record.name),
        jid: entity.jid(),
        state: record.state().to_owned(),
        name: record.name,
        host: entity.host.clone(),
        epoch: entity.epoch,
        seq: entity.seq,
        facts: record.facts,
    }
}

/// Looks something up, if the pool can be looked at.
pub(super) fn look<C, F>(this: &mut PoolActor, posted: Posted<Ask<C>>, find: F) -> Answer<C>
where
    C: Command,
    F: AsyncFnOnce(&Host, &Entity, PoolId, C) -> Result<C::Reply, Fault> + 'static,
{
    let Some(Ask { command, .. }) = posted.take() else { return Box::pin(fut::ready(ending())) };
    let (scope, id, entity) = (this.scope().clone(), this.id(), this.usable(C::NAME));
    let look = async move { find(&scope.host, &*entity?, id, command).await };
    Box::pin(look.into_actor(this))
}

/// Changes something, and lets everybody know.
pub(super) fn change<C, F>(this: &mut PoolActor, posted: Posted<Ask<C>>, work: F) -> Answer<C>
where
    C: Command<Reply = Done>,
    F: AsyncFnOnce(&Scope, PoolId, C) -> Result<String, Fault> + 'static,
{
    let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
    if let Err(fault) = this.usable(C::NAME) {
        return Box::pin(fut::ready(Err(fault)));
    }
    this.expect(ask.person());
    let (scope, id) = (this.scope().clone(), this.id());
    let work = async move {
        let message = work(&scope, id, ask.command).await?;
        noun::reported::<Pool>(&scope, id, PoolChange::Volumes);
        Ok(Done::new(message))
    };
    Box::pin(work.into_actor(this))
}

/// Begins something long, which ends as a task.
pub(super) fn begin<C, F>(this: &mut PoolActor, posted: Posted<Ask<C>>, plan: F) -> Result<Started, Fault>
where
    C: Command<Reply = Started>,
    F: FnOnce(&Entity, C) -> Result<Plan, Fault>,
{
    let Some(ask) = posted.take() else { return ending() };
    let entity = this.usable(C::NAME)?;
    let (scope, id, caller) = (this.scope().clone(), this.id(), ask.caller.clone());
    this.expect(ask.person());
    let Plan { words, name, there, doing } = plan(&entity, ask.command)?;
    let mine = scope.clone();
    let work = move |follower| async move {
        let outcome = doing(&mine, id, follower).await;
        // Told even when it failed: something may have been there for a while.
        noun::reported::<Pool>(&mine, id, PoolChange::Volumes);
        if let Some(there) = there {
            tell(&mine, &there).await;
        }
        outcome
    };
    Ok(work::begin(&scope, id.into(), C::NAME, &name, &caller, words, work))
}

/// Lets everybody know that something changed in another pool of this host.
async fn tell(scope: &Rc<Scope>, name: &str) {
    match within(SHORT, scope.host.pools.list()).await {
        Ok(pools) => {
            if let Some(pool) = pools.into_iter().find(|p| *p.name == *name) {
                noun::reported::<Pool>(scope, pool.id, PoolChange::Volumes);
            }
        }
        Err(fault) => tracing::debug!(pool = name, %fault, "nobody could be told of a new volume"),
    }
}

/// What a port is asked to do for a task, and what it said in the end.
pub(super) type Deed = Box<dyn for<'a> FnOnce(&'a Scope, PoolId, Arc<dyn Follower>) -> LocalBoxFuture<'a, Result<String, Fault>>>;

pub(super) struct Plan {
    /// What goes on.
    pub(super) words: String,
    /// What it is done to, for the task's name.
    pub(super) name: String,
    /// The other pool it changes.
    pub(super) there: Option<String>,
    pub(super) doing: Deed,
}

impl Handler<Posted<Ask<ListVolumes>>> for PoolActor {
    type Result = Answer<ListVolumes>;
    fn handle(&mut self, posted: Posted<Ask<ListVolumes>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, entity: &Entity, id, command: ListVolumes| {
            let found = within(SHORT, host.volumes.list(id)).await?.into_iter();
            let wanted = found.filter(|v| match command.kind {
                VolumeKind::All => true,
                VolumeKind::Disk => !v.is_iso(),
                VolumeKind::Iso => v.is_iso(),
            });
            Ok(wanted.map(|v| shown(entity, v)).collect())
        })
    }
}

impl Handler<Posted<Ask<ShowVolume>>> for PoolActor {
    type Result = Answer<ShowVolume>;
    fn handle(&mut self, posted: Posted<Ask<ShowVolume>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, entity: &Entity, id, command: ShowVolume| {
            Ok(shown(entity, within(SHORT, host.volumes.read(id, command.volume)).await?))
        })
    }
}

impl Handler<Posted<Ask<ListVolumeUsers>>> for PoolActor {
    type Result = Answer<ListVolumeUsers>;
    fn handle(&mut self, posted: Posted<Ask<ListVolumeUsers>>, _: &mut Self::Context) -> Self::Result {
        let scope = self.scope().clone();
        look(self, posted, async move |_: &Host, _: &Entity, id, command: ListVolumeUsers| {
            users::everywhere(&scope, id, &command.volume).await
        })
    }
}

impl Handler<Posted<Ask<ListOrphans>>> for PoolActor {
    type Result = Answer<ListOrphans>;
    fn handle(&mut self, posted: Posted<Ask<ListOrphans>>, _: &mut Self::Context) -> Self::Result {
        look(self, posted, async |host: &Host, entity: &Entity, id, _: ListOrphans| {
            let all = within(SHORT, host.volumes.landscape()).await?;
            // A backup is used by nobody, and is what it is for.
            let kept = within(SHORT, host.backups.archive(id)).await?;
            let orphans = all.orphans(id).into_iter().filter(|v| !kept.holds(&v.name));
            Ok(orphans.map(|v| shown(entity, v.clone())).collect())
        })
    }
}

impl Handler<Posted<Ask<CreateVolume>>> for PoolActor {
    type Result = Answer<CreateVolume>;
    fn handle(&mut self, posted: Posted<Ask<CreateVolume>>, _: &mut Self::Context) -> Self::Result {
        change(self, posted, async |scope: &Scope, id, command: CreateVolume| {
            let volume = command.spec()?;
            let name = volume.name.clone();
            if let Some((pool, base)) = &volume.backing {
                users::of_named(scope, &format!("{pool}/{base}"), Need::Base, None).await?;
            }
            within(LONG, scope.host.volumes.create(id, volume)).await?;
            Ok(format!("{name} is made"))
        })
    }
}

impl Handler<Posted<Ask<ResizeVolume>>> for PoolActor {
    type Result = Answer<ResizeVolume>;
    fn handle(&mut self, posted: Posted<Ask<ResizeVolume>>, _: &mut Self::Context) -> Self::Result {
        change(self, posted, async |scope: &Scope, id, command: ResizeVolume| {
            let ResizeVolume { volume, capacity, shrink } = command;
            check_capacity(capacity)?;
            let still = users::of_volume(scope, id, &volume, Need::Still, None).await?;
            within(LONG, scope.host.volumes.resize(id, volume.clone(), capacity, shrink, still)).await?;
            Ok(format!("{volume} has {capacity} now; the guest grows its file system itself"))
        })
    }
}

impl Handler<Posted<Ask<RenameVolume>>> for PoolActor {
    type Result = Answer<RenameVolume>;
    fn handle(&mut self, posted: Posted<Ask<RenameVolume>>, _: &mut Self::Context) -> Self::Result {
        change(self, posted, async |scope: &Scope, id, command: RenameVolume| {
            let RenameVolume { volume, to } = command;
            check_volume_name(&to)?;
            let free = users::of_volume(scope, id, &volume, Need::Gone, None).await?;
            within(LONG, scope.host.volumes.rename(id, volume.clone(), to.clone(), free)).await?;
            Ok(format!("{volume} is called {to} now"))
        })
    }
}

impl Handler<Posted<Ask<DeleteVolume>>> for PoolActor {
    type Result = Answer<DeleteVolume>;
    fn handle(&mut self, posted: Posted<Ask<DeleteVolume>>, _: &mut Self::Context) -> Self::Result {
        change(self, posted, async |scope: &Scope, id, command: DeleteVolume| {
            let free = users::of_volume(scope, id, &command.volume, Need::Gone, None).await?;
            within(LONG, scope.host.volumes.delete(id, command.volume.clone(), free)).await?;
            Ok(format!("{} is deleted", command.volume))
        })
    }
}

impl Handler<Posted<Ask<CloneVolume>>> for PoolActor {
    type Result = Result<Started, Fault>;
    fn handle(&mut self, posted: Posted<Ask<CloneVolume>>, _: &mut Self::Context) -> Self::Result {
        begin(self, posted, |_, command: CloneVolume| {
            let CloneVolume { volume, to, pool } = command;
            check_volume_name(&to)?;
            if pool.is_none() && to == volume {
                return Err(Fault::invalid("a copy in the same pool needs another name"));
            }
            let copy = CopySpec { pool: pool.clone(), to: to.clone(), format: None };
            Ok(Plan {
                words: format!("copying {volume} to {to}"),
                name: volume.clone(),
                there: pool,
                doing: Box::new(move |scope, id, follower| {
                    Box::pin(async move {
                        users::copy(scope, id, volume.clone(), copy, follower).await?;
                        Ok(format!("{volume} is copied to {to}"))
                    })
                }),
            })
        })
    }
}

impl Handler<Posted<Ask<ConvertVolume>>> for PoolActor {
    type Result = Result<Started, Fault>;
    fn handle(&mut self, posted: Posted<Ask<ConvertVolume>>, _: &mut Self::Context) -> Self::Result {
        begin(self, posted, |_, command: ConvertVolume| {
            let ConvertVolume { volume, format, to } = command;
            if let Some(to) = &to {
                check_volume_name(to)?;
            }
            let replaces = to.as_ref().is_none_or(|to| *to == volume);
            let to = to.unwrap_or_else(|| volume.clone());
            let copy = CopySpec { pool: None, to: to.clone(), format: Some(format) };
            let format = format.name();
            Ok(Plan {
                words: format!("writing {volume} anew as {format}"),
                name: volume.clone(),
                there: None,
                doing: Box::new(move |scope, id, follower| {
                    Box::pin(async move {
                        users::copy(scope, id, volume.clone(), copy, follower).await?;
                        Ok(if replaces {
                            format!("{volume} is {format} now: a copy in that format has taken its place")
                        } else {
                            format!("{to} is a copy of {volume} as {format}")
                        })
                    })
                }),
            })
        })
    }
}

impl Handler<Posted<Ask<WipeVolume>>> for PoolActor {
    type Result = Result<Started, Fault>;
    fn handle(&mut self, posted: Posted<Ask<WipeVolume>>, _: &mut Self::Context) -> Self::Result {
        begin(self, posted, |_, command: WipeVolume| {
            let volume = command.volume;
            Ok(Plan {
                words: format!("overwriting {volume}"),
                name: volume.clone(),
                there: None,
                doing: Box::new(move |scope, id, _| {
                    Box::pin(async move {
                        let free = users::of_volume(scope, id, &volume, Need::Gone, None).await?;
                        scope.host.volumes.wipe(id, volume.clone(), free).await?;
                        Ok(format!("{volume} is overwritten; nothing of it can be read any more"))
                    })
                }),
            })
        })
    }
}
