//! Backups of a machine, the way back to one, and checkpoints.
//!
//! ```text
//!   backup.create --> machine occupied --> which one it builds on --> port: made and read back --> told
//!   domain.restore -> machine occupied, off --> port: new volumes, then the definition --> told
//! ```
//! Either may take hours, so the turn is given back; what would meet it half-way is refused until it has ended. A guest that runs can
//! always be stopped.

use super::{
    After, Answer, DomainActor, command,
    edit::{and_unasked, nobody_has_those_of},
    in_control,
    turn::{Occupied, Turn},
};
use crate::{
    ask::{Ask, bare, ending},
    board::{Change, Draft},
    life::Posted,
    noun,
    scope::{LONG, SHORT, Scope, within},
    storage_pool::{Pool, listed_backups},
    users, work,
};
use actix::prelude::*;
use archipel_contract::{
    Caller, Command, DomainId, EntityId, Fault, PoolId,
    backup::*,
    command::{Done, Started},
    event::Cause,
    host::PoolChange,
    work::Follower,
};
use std::rc::Rc;
use std::sync::Arc;

/// Tells everybody that there is another backup of a machine, or that it was taken back to one.
fn tell(scope: &Scope, id: DomainId, caller: &Caller, detail: String) {
    if let Some(entity) = scope.board.get(&EntityId::Domain(id)) {
        let change = Change::to(id, "domain.backups", Cause::Person(bare(&caller.jid).into()), Draft::of(&entity));
        scope.board.publish(change.with_detail(Some(detail.into())));
    }
}

/// The pool of this host with that name.
async fn pool_named(scope: &Scope, name: &str) -> Result<PoolId, Fault> {
    let found = within(SHORT, scope.host.pools.list()).await?.into_iter().find(|p| *p.name == *name);
    let shown: String = name.chars().take(80).collect();
    found
        .map(|p| p.id)
        .ok_or_else(|| Fault::not_found(format!("there is no storage pool {shown:?} on {}; list them again", scope.host.name)))
}

/// The pool with that backup, and what is in it.
async fn place_of(scope: &Scope, pool: Option<&str>, backup: &str) -> Result<(PoolId, Archive), Fault> {
    if let Some(pool) = pool {
        let pool = pool_named(scope, pool).await?;
        return Ok((pool, within(SHORT, scope.host.backups.archive(pool)).await?));
    }
    let mut found = Vec::new();
    for pool in within(SHORT, scope.host.pools.list()).await? {
        // One that is stopped has none to show.
        let Ok(archive) = within(SHORT, scope.host.backups.archive(pool.id)).await else { continue };
        if archive.find(backup).is_ok() {
            found.push((pool.name, pool.id, archive));
        }
    }
    let shown: String = backup.chars().take(100).collect();
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(name, ..)| &**name).collect();
        return Err(Fault::invalid(format!("there is a backup {shown:?} in several pools ({}); say which with --pool", names.join(", "))));
    }
    let none = || Fault::not_found(format!("no started pool of {} has a backup {shown:?}; list them (domain backups)", scope.host.name));
    found.pop().map(|(_, pool, archive)| (pool, archive)).ok_or_else(none)
}

/// Begins long work on a machine that is occupied until it ends.
fn begin<C, F, W>(turn: &Turn, occupied: Occupied, words: String, doing: F) -> Started
where
    C: Command,
    F: FnOnce(Rc<Scope>, Arc<dyn Follower>) -> W + 'static,
    W: Future<Output = Result<String, Fault>> + 'static,
{
    let scope = turn.scope.clone();
    work::begin(&turn.scope, turn.id.into(), C::NAME, &turn.name(), &turn.caller, words, move |follower| async move {
        let _occupied = occupied;
        doing(scope, follower).await
    })
}

command!(CreateBackup, Event, [], |turn, command| {
    let running = turn.entity()?.domain().is_some_and(|f| f.state.is_active());
    command.check(running)?;
    let pool = pool_named(&turn.scope, &command.pool).await?;
    let (id, machine, caller, at) = (turn.id, turn.name(), turn.caller.clone(), turn.scope.clock.now());
    let occupied = turn.occupy("is being backed up", if running { may_while_running } else { may_while_off });
    let words = format!("backing {machine} up to {}", command.pool);
    Ok(begin::<CreateBackup, _, _>(turn, occupied, words, async move |scope, follower| {
        // What an earlier life of this agent had begun and did not end.
        scope.host.backups.abandon(id).await?;
        forget_outlived(&scope, id).await?;
        let base = base(&scope, id, pool, command.kind).await?;
        let strict = command.kind == WantedKind::Incremental;
        let order = BackupOrder { pool, at, base, strict, quiesce: command.quiesce, limit: command.limit };
        let made = scope.host.backups.take(id, order, follower).await;
        // Told even when it failed: something may have been there for a while.
        noun::reported::<Pool>(&scope, pool, PoolChange::Volumes);
        let made = made?;
        tell(&scope, id, &caller, format!("{} made", made.name));
        let kind = match made.kind {
            BackupKind::Full => "a full backup",
            BackupKind::Incremental => "an incremental backup",
        };
        let mut message = format!("{} is {kind} of {machine} ({}), {}; {}", made.name, made.size(), command.pool, made.because);
        if !made.left_out.is_empty() {
            message.push_str(&format!("; not in it: {}", made.left_out.join(", ")));
        }
        Ok(message)
    }))
});

/// Forgets checkpoints of images that the machine has no more. They are there when a daemon died after it had taken the machine back to a
/// backup, and before they were forgotten.
async fn forget_outlived(scope: &Scope, id: DomainId) -> Result<(), Fault> {
    let port = &scope.host.backups;
    let checkpoints = within(SHORT, port.checkpoints(id)).await?;
    if checkpoints.is_empty() {
        return Ok(());
    }
    let mut manifests = Vec::new();
    for pool in within(SHORT, scope.host.pools.list()).await? {
        // One that is stopped has none to show.
        let Ok(archive) = within(SHORT, port.archive(pool.id)).await else { continue };
        manifests.extend(archive.manifests.into_iter().filter(|m| m.uuid == id));
    }
    let xml = within(SHORT, scope.host.domains.xml(id, false)).await?;
    let disks = within(SHORT, scope.host.volumes.named(xml)).await?;
    for name in outlived(&checkpoints, &manifests, &disks) {
        tracing::info!(domain = %id, checkpoint = name, "of images that the machine has no more; it is forgotten");
        within(LONG, port.delete_checkpoint(id, name.to_owned())).await?;
    }
    Ok(())
}

/// What the next backup builds on, or why on nothing.
async fn base(scope: &Scope, id: DomainId, pool: PoolId, kind: WantedKind) -> Result<Result<Manifest, String>, Fault> {
    if kind == WantedKind::Full {
        return Ok(Err("a full one was asked for".to_owned()));
    }
    let archive = within(SHORT, scope.host.backups.archive(pool)).await?;
    let checkpoints: Vec<String> = within(SHORT, scope.host.backups.checkpoints(id)).await?.into_iter().map(|c| c.name).collect();
    Ok(archive.base(id, &checkpoints).cloned())
}

command!(RestoreDomain, Event, [], |turn, command| {
    let (pool, archive) = place_of(&turn.scope, command.pool.as_deref(), &command.backup).await?;
    if let Some(into) = &command.into {
        pool_named(&turn.scope, into).await?;
    }
    archive.layers(&command.backup)?;
    let chain: Vec<Manifest> = archive.chain(&command.backup)?.into_iter().cloned().collect();
    let (id, machine, caller, now) = (turn.id, turn.name(), turn.caller.clone(), turn.scope.clock.now());
    let occupied = turn.occupy("is being taken back to a backup", may_while_off);
    let words = format!("taking {machine} back to {}", command.backup);
    Ok(begin::<RestoreDomain, _, _>(turn, occupied, words, async move |scope, follower| {
        let (mut disks, mut unasked) = (Vec::new(), Vec::new());
        if let Some(newest) = chain.last() {
            disks = users::of_backup(&scope, newest, Some(id)).await?;
            unasked = nobody_has_those_of(&scope, id, &newest.definition).await?;
        }
        let order = RestoreOrder { pool, chain, into: command.into.clone(), restore_as: RestoreAs::InPlace(id), now };
        let restored = scope.host.backups.restore(order, disks, follower).await;
        let there = match &command.into {
            Some(into) => pool_named(&scope, into).await.unwrap_or(pool),
            None => pool,
        };
        noun::reported::<Pool>(&scope, there, PoolChange::Volumes);
        let restored = restored?;
        tell(&scope, id, &caller, format!("taken back to {}", command.backup));
        let message = format!(
            "{machine} is what it was in {}, on {}; what it had before is not used any more and stays until you delete it: {}",
            command.backup,
            restored.made.join(", "),
            restored.before.join(", ")
        );
        Ok(and_unasked(message, &unasked))
    }))
});

impl Handler<Posted<Ask<ListDomainBackups>>> for DomainActor {
    type Result = Answer<ListDomainBackups>;
    fn handle(&mut self, posted: Posted<Ask<ListDomainBackups>>, _: &mut Self::Context) -> Self::Result {
        if posted.take().is_none() {
            return Box::pin(fut::ready(ending()));
        }
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            in_control(&*entity?)?;
            let mut all = Vec::new();
            for pool in within(SHORT, scope.host.pools.list()).await? {
                let Some(entity) = scope.board.get(&pool.id.into()) else { continue };
                // One that is stopped has none to show.
                let Ok(archive) = within(SHORT, scope.host.backups.archive(pool.id)).await else { continue };
                all.extend(listed_backups(&entity, &archive).into_iter().filter(|b| b.uuid == Some(id)));
            }
            all.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
            Ok(all)
        };
        Box::pin(look.into_actor(self))
    }
}

impl Handler<Posted<Ask<ListCheckpoints>>> for DomainActor {
    type Result = Answer<ListCheckpoints>;
    fn handle(&mut self, posted: Posted<Ask<ListCheckpoints>>, _: &mut Self::Context) -> Self::Result {
        if posted.take().is_none() {
            return Box::pin(fut::ready(ending()));
        }
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            in_control(&*entity?)?;
            within(SHORT, scope.host.backups.checkpoints(id)).await
        };
        Box::pin(look.into_actor(self))
    }
}

command!(DeleteCheckpoint, Event, [], |turn, command| {
    let (scope, id) = (&turn.scope, turn.id);
    let all: Vec<String> = within(SHORT, scope.host.backups.checkpoints(id)).await?.into_iter().map(|c| c.name).collect();
    let going = match command.which()? {
        None => all,
        Some(name) if all.contains(&name) => vec![name],
        Some(name) => {
            let shown: String = name.chars().take(100).collect();
            return Err(Fault::not_found(format!("there is no checkpoint {shown:?}; list them again")));
        }
    };
    for name in &going {
        within(LONG, scope.host.backups.delete_checkpoint(id, name.clone())).await?;
    }
    Ok(Done::new(match going.as_slice() {
        [] => format!("{} has no checkpoints", turn.name()),
        going => format!("deleted: {}; if one was that of the last backup, the next is a full one", going.join(", ")),
    }))
});
