//! Snapshots, and memory saved to disk. All of it may take long and is a task.
//!
//! Going back to a snapshot may start the guest. It takes the machine's turn and the right to run when the work begins, not when
//! it is asked for: between the two the machine may have been given to another host.

use super::{
    After, Answer, DomainActor, command, in_control,
    lifecycle::right_to_run,
    saved,
    turn::{self, Turn},
};
use crate::{
    ask::{Ask, bare, ending},
    board::{Change, Draft},
    life::Posted,
    scope::{SHORT, Scope, within},
    users, work,
};
use actix::prelude::*;
use archipel_contract::{
    Caller, Command, DomainId, EntityId, Fault, FaultKind, RightToRun, backup, command::Started, domain::*, event::Cause, volume::Unused,
};
use std::rc::Rc;

/// Tells everybody that the snapshots of a machine are others now; the machine itself is as it was.
fn tell(scope: &Scope, id: DomainId, caller: &Caller, detail: String) {
    if let Some(entity) = scope.board.get(&EntityId::Domain(id)) {
        let change = Change::to(id, "domain.snapshots", Cause::Person(bare(&caller.jid).into()), Draft::of(&entity));
        scope.board.publish(change.with_detail(Some(detail.into())));
    }
}

/// Begins long work on the machine whose turn it is.
fn begin<C, F, W>(turn: &Turn, words: String, doing: F) -> Started
where
    C: Command,
    F: FnOnce(Rc<Scope>, std::sync::Arc<dyn archipel_contract::work::Follower>) -> W + 'static,
    W: Future<Output = Result<String, Fault>> + 'static,
{
    let scope = turn.scope.clone();
    work::begin(&turn.scope, turn.id.into(), C::NAME, &turn.name(), &turn.caller, words, move |follower| doing(scope, follower))
}

impl Handler<Posted<Ask<ListSnapshots>>> for DomainActor {
    type Result = Answer<ListSnapshots>;
    fn handle(&mut self, posted: Posted<Ask<ListSnapshots>>, _: &mut Self::Context) -> Self::Result {
        if posted.take().is_none() {
            return Box::pin(fut::ready(ending()));
        }
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            in_control(&*entity?)?;
            within(SHORT, scope.host.snapshots.list(id)).await
        };
        Box::pin(look.into_actor(self))
    }
}

command!(CreateSnapshot, Event, [], |turn, command| {
    let running = turn.entity()?.domain().is_some_and(|f| f.state.is_active());
    if !running && !command.external {
        no_checkpoints(&turn.scope, turn.id, "a snapshot inside the disks of a machine that is off").await?;
    }
    let spec = command.spec(turn.scope.clock.now(), running)?;
    let (id, name, machine, caller) = (turn.id, spec.name.clone(), turn.name(), turn.caller.clone());
    Ok(begin::<CreateSnapshot, _, _>(turn, format!("taking the snapshot {name} of {machine}"), async move |scope, follower| {
        scope.host.snapshots.create(id, spec, follower).await?;
        tell(&scope, id, &caller, format!("{name} taken"));
        Ok(format!("the snapshot {name} was taken"))
    }))
});

command!(RevertSnapshot, Event, [], |turn, command| {
    command.check()?;
    known(&turn.scope, turn.id, &command.snapshot).await?;
    no_checkpoints(&turn.scope, turn.id, "going back to a snapshot").await?;
    let (id, machine, caller, now) = (turn.id, turn.name(), turn.caller.clone(), turn.scope.clock.now());
    let words = format!("{machine} goes back to the snapshot {}", command.snapshot);
    Ok(begin::<RevertSnapshot, _, _>(turn, words, async move |scope, follower| {
        let _turn = turn::take(&scope, id).await?;
        turn::not_copied(&scope, id)?;
        let entity = scope.board.get(&id.into()).ok_or_else(|| Fault::not_found("the machine is gone; nothing was done"))?;
        in_control(&entity)?;
        scope.desks.of(id).lets_through(RevertSnapshot::NAME, &entity.name)?;
        no_checkpoints(&scope, id, "going back to a snapshot").await?;
        let facts = entity.domain().ok_or_else(|| Fault::internal("this is not a virtual machine; please report this"))?;
        may(RevertSnapshot::NAME, facts).check(&entity.name)?;
        if let Some(name) = command.keep_as {
            let keep = CreateSnapshot { name: Some(name.clone()), ..CreateSnapshot::default() };
            scope.host.snapshots.create(id, keep.spec(now, facts.state.is_active())?, follower.clone()).await?;
            tell(&scope, id, &caller, format!("{name} taken"));
        }
        if follower.is_cancelled() {
            return Err(Fault::busy("it was cancelled before the machine went back"));
        }
        let right = right_to_run(&scope, id, &entity.name).await?;
        // Without a limit: whoever stops waiting gives the turn back while libvirt may still start the guest.
        scope.host.snapshots.revert(right, command.snapshot.clone()).await?;
        tell(&scope, id, &caller, format!("gone back to {}", command.snapshot));
        Ok(format!("{} is as it was in the snapshot {}", entity.name, command.snapshot))
    }))
});

/// QEMU ends when a snapshot is loaded while it notes for a backup what is written, and libvirt 9.0 does not prevent it.
async fn no_checkpoints(scope: &Scope, id: DomainId, doing: &str) -> Result<(), Fault> {
    backup::check_no_checkpoints(&within(SHORT, scope.host.backups.checkpoints(id)).await.or_else(none_where_unknown)?, doing)
}

/// A hypervisor that knows no checkpoints has none.
fn none_where_unknown(fault: Fault) -> Result<Vec<backup::Checkpoint>, Fault> {
    if fault.kind == FaultKind::Unsupported { Ok(Vec::new()) } else { Err(fault) }
}

command!(DeleteSnapshot, Event, [], |turn, command| {
    let all = known(&turn.scope, turn.id, &command.snapshot).await?;
    let outside = lies_outside(&all, &command.snapshot, command.children);
    if outside {
        no_checkpoints(&turn.scope, turn.id, "merging a snapshot").await?;
    }
    let written_to = merged(turn, &all).await?;
    let (id, machine, caller) = (turn.id, turn.name(), turn.caller.clone());
    let words = format!("deleting the snapshot {} of {machine}", command.snapshot);
    Ok(begin::<DeleteSnapshot, _, _>(turn, words, async move |scope, _| {
        // Others are told of it until libvirt has ended.
        let _written_to = written_to;
        let _right = if outside { rightly(&scope, id).await? } else { None };
        scope.host.snapshots.delete(id, command.snapshot.clone(), command.children).await?;
        tell(&scope, id, &caller, format!("{} deleted", command.snapshot));
        Ok(format!("the snapshot {} was deleted", command.snapshot))
    }))
});

command!(SaveDomain, Event, ["domain.stopped"], |turn, _| {
    let (id, machine) = (turn.id, turn.name());
    let words = format!("saving the memory of {machine}");
    Ok(begin::<SaveDomain, _, _>(turn, words, async move |scope, follower| {
        scope.host.snapshots.save(id, follower).await?;
        saved::forget(&scope, id).await;
        Ok(format!("{machine} is off with its memory saved; its next start goes on from there"))
    }))
});

command!(DiscardSaved, Event, [], |turn, _| {
    within(SHORT, turn.scope.host.snapshots.discard_saved(turn.id)).await?;
    saved::forget(&turn.scope, turn.id).await;
    Ok(turn.done("starts cold next time: its saved memory was thrown away"))
});

/// Whether deleting a snapshot merges files of their own.
fn lies_outside(all: &[Snapshot], name: &str, children: bool) -> bool {
    let mut going = vec![name];
    // Each pass finds those that were made after one that goes.
    while let Some(next) = all.iter().filter(|_| children).find(|s| {
        let after = s.parent.as_deref().is_some_and(|p| going.contains(&p));
        after && !going.contains(&s.name.as_str())
    }) {
        going.push(&next.name);
    }
    all.iter().any(|s| s.external && going.contains(&s.name.as_str()))
}

/// To merge files of a machine that is off, libvirt opens them in a QEMU without the guest. That is like a start: only the host that owns the
/// machine may do it, and nothing else is done with the machine meanwhile. One that runs has its disks already, and may be stopped.
async fn rightly(scope: &Rc<Scope>, id: DomainId) -> Result<Option<(turn::Taken, RightToRun)>, Fault> {
    let turn = turn::take(scope, id).await?;
    turn::not_copied(scope, id)?;
    let entity = scope.board.get(&id.into()).ok_or_else(|| Fault::not_found("the machine is gone; nothing was done"))?;
    in_control(&entity)?;
    if entity.domain().is_some_and(|f| f.state.is_active()) {
        return Ok(None);
    }
    scope.desks.of(id).lets_through(DeleteSnapshot::NAME, &entity.name)?;
    no_checkpoints(scope, id, "merging a snapshot").await?;
    Ok(Some((turn, right_to_run(scope, id, &entity.name).await?)))
}

/// The proofs for the layers that deleting a snapshot may write to: libvirt merges what lies in files of its own, and a clone may be built
/// on what was below it.
async fn merged(turn: &Turn, all: &[Snapshot]) -> Result<Vec<Unused>, Fault> {
    let outside: Vec<&Snapshot> = all.iter().filter(|s| s.external).collect();
    let mut devices: Vec<&String> = outside.iter().flat_map(|s| &s.disks).collect();
    devices.sort();
    devices.dedup();
    let mut proofs = Vec::new();
    for device in devices {
        match users::of_layers(&turn.scope, turn.id, device, outside.len()).await {
            // It was detached since.
            Err(fault) if fault.kind == FaultKind::NotFound => {}
            asked => proofs.extend(asked?),
        }
    }
    Ok(proofs)
}

/// All snapshots. Refuses one that is not there while whoever asked still listens.
async fn known(scope: &Scope, id: DomainId, name: &str) -> Result<Vec<Snapshot>, Fault> {
    let all = within(SHORT, scope.host.snapshots.list(id)).await?;
    if all.iter().any(|s| s.name == name) {
        return Ok(all);
    }
    let shown: String = name.chars().take(80).collect();
    let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
    Err(Fault::not_found(match names.as_slice() {
        [] => format!("there is no snapshot {shown:?}: the machine has none"),
        names => format!("there is no snapshot {shown:?}; there are {}", names.join(", ")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_outside_when_it_or_what_goes_with_it_is() {
        let one = |name: &str, parent: Option<&str>, external| Snapshot {
            name: name.into(),
            parent: parent.map(str::to_owned),
            state: "running".into(),
            current: false,
            memory: false,
            external,
            created: archipel_contract::Timestamp(0),
            disks: Vec::new(),
            description: None,
        };
        // The order of a list says nothing.
        let all = [one("c", Some("b"), true), one("b", Some("a"), false), one("a", None, false), one("d", None, true)];
        for (name, children, outside) in
            [("a", false, false), ("a", true, true), ("b", true, true), ("b", false, false), ("c", false, true), ("d", true, true)]
        {
            assert_eq!(lies_outside(&all, name, children), outside, "{name} {children}");
        }
    }
}
