//! Machines on no host: the definition lies in the cell's documents, under an ownership that gives nobody the right to run.
//!
//! ```text
//!   park:    document written --> authority: parked --> definition here discarded --> gone from this host
//!   unpark:  authority: unpark (one of two wins) --> defined here --> autostart --> document removed
//! ```
//! A crash leaves one of these states, and each says by itself what is left to be done: that is done after the next listing.

use super::request::done;
use crate::{
    ask::bare,
    autostart,
    board::{Change, Draft},
    domain::{past, turn::Turn},
    hypervisor,
    scope::{LONG, SHORT, Scope, within},
};
use archipel_contract::{
    Caller, DomainId, EntityId, Epoch, Facts, Fault, FaultKind, Hold, Ownership, OwnershipStep,
    command::Done,
    domain::Defined,
    event::Cause,
    hypervisor::HypervisorState,
    migration::{Parked, ShelfNote, Standing, UnparkDomain, shelf_key},
};
use std::rc::Rc;

fn read(body: &[u8]) -> Result<ShelfNote, Fault> {
    serde_json::from_slice(body).map_err(|e| Fault::internal("a parked machine's document cannot be read; please report this").because(e))
}

async fn write(scope: &Scope, id: DomainId, note: Option<&ShelfNote>) -> Result<(), Fault> {
    let key = shelf_key(id);
    let body = note.map(serde_json::to_vec).transpose();
    let body = body.map_err(|e| Fault::internal("a parked machine's document cannot be written; please report this").because(e))?;
    let before = within(SHORT, scope.shelf.document(key.clone())).await?;
    if body.is_none() && before.is_none() {
        return Ok(());
    }
    within(SHORT, scope.shelf.write_document(key, before.map(|d| d.version), body)).await.map(drop)
}

/// `domain.park`.
pub(super) async fn park(turn: &Turn) -> Result<Done, Fault> {
    let (scope, id) = (&turn.scope, turn.id);
    let entity = turn.entity()?;
    let person = bare(&turn.caller.jid);
    match within(SHORT, scope.host.migration.standing(id)).await? {
        Standing::Off(_) => {}
        Standing::Departed => {
            return Err(Fault::wrong_state(format!("{} was moved away by libvirt; look where its guest is first", entity.name)));
        }
        _ => return Err(Fault::wrong_state(format!("{} is not off; shut it down first", entity.name))),
    }
    let passport = within(SHORT, scope.host.migration.passport(id)).await?;
    if let Some(device) = passport.devices.first() {
        return Err(Fault::new(FaultKind::Conflict, format!("{} holds {device} of this host; detach it first", entity.name)));
    }
    let parked =
        Parked { id, name: passport.name.clone(), from: scope.host.name.to_string(), by: person.to_owned(), at: scope.clock.now() };
    let note = ShelfNote { parked, definition: passport.definition, autostart: passport.autostart };
    scope.moves.unsettled.set(true);
    write(scope, id, Some(&note)).await?;
    let step = OwnershipStep::Park { by: scope.host.name.clone() };
    within(SHORT, scope.authority.step(id, entity.epoch, step)).await?;
    // From here on it is parked, whatever happens; what is left here is cleared away now or after the next listing.
    put_away(scope, id, Cause::Person(person.into())).await?;
    scope.moves.unsettled.set(false);
    Ok(done(format!("{} is parked; unpark it on any hypervisor", entity.name)))
}

async fn put_away(scope: &Rc<Scope>, id: DomainId, cause: Cause) -> Result<(), Fault> {
    let entity = EntityId::Domain(id);
    // Its definition goes because it is parked, and not because somebody removed it.
    scope.board.publish(Change::gone(entity.clone(), "domain.parked", cause));
    let discarded = within(LONG, scope.host.migration.discard(id)).await;
    scope.keeper.stop(&entity);
    discarded
}

async fn find(scope: &Scope, machine: &str) -> Result<ShelfNote, Fault> {
    let missing = || Fault::not_found(format!("{machine} is not parked; list the parked machines"));
    if let Ok(id) = machine.parse::<DomainId>() {
        let document = within(SHORT, scope.shelf.document(shelf_key(id))).await?.ok_or_else(missing)?;
        return read(&document.body);
    }
    let mut named = Vec::new();
    for (_, document) in within(LONG, scope.shelf.documents("parked/".to_owned())).await? {
        named.extend(read(&document.body).ok().filter(|n| n.parked.name == machine));
    }
    match named.len() {
        0 => Err(missing()),
        1 => Ok(named.remove(0)),
        n => Err(Fault::new(FaultKind::Conflict, format!("{n} parked machines are called {machine}; use the UUID"))),
    }
}

/// `domain.unpark`.
pub(super) async fn unpark(scope: &Rc<Scope>, command: UnparkDomain, caller: Caller) -> Result<Defined, Fault> {
    let me = &scope.host.name;
    if hypervisor::facts(scope).is_none_or(|(_, f)| f.state != HypervisorState::Connected) {
        return Err(Fault::unavailable(format!("libvirt on {me} does not answer; ask again when it does")));
    }
    let note = find(scope, &command.machine).await?;
    let (id, name) = (note.parked.id, note.parked.name.clone());
    let held = within(SHORT, scope.authority.ownership(id)).await?;
    let held = held.ok_or_else(|| Fault::not_found(format!("{name} is not parked; list the parked machines")))?;
    if held.hold != Hold::Parked {
        return Err(Fault::new(FaultKind::Conflict, format!("{name} is not parked any more: {} has it", held.owner)));
    }
    if let Standing::Here(_) = within(SHORT, scope.host.migration.standing(id)).await? {
        return Err(Fault::wrong_state(format!("{name} is parked and its guest is on {me} all the same; look why before it is unparked")));
    }
    scope.moves.unsettled.set(true);
    let step = OwnershipStep::Unpark { by: me.clone() };
    let now = within(SHORT, scope.authority.step(id, held.epoch, step)).await?;
    if let Err(fault) = within(LONG, scope.host.migration.define(id, note.definition.clone())).await {
        // Back on the shelf, where its document still is.
        within(SHORT, scope.authority.step(id, now.epoch, OwnershipStep::Park { by: me.clone() })).await?;
        scope.moves.unsettled.set(false);
        return Err(fault);
    }
    take_down(scope, &note, now.epoch, Cause::Person(bare(&caller.jid).into())).await?;
    scope.moves.unsettled.set(false);
    Ok(Defined { id, message: format!("{name} is on {me} and off") })
}

/// It is defined here: what is left is to let it start with the host again, to show it, and to empty the shelf.
async fn take_down(scope: &Rc<Scope>, note: &ShelfNote, epoch: Epoch, cause: Cause) -> Result<(), Fault> {
    let id = note.parked.id;
    if let Ok(from) = note.parked.from.parse() {
        past::follow(scope, id, from);
    }
    if note.autostart {
        autostart::rearm(scope, id).await?;
    }
    let record = within(SHORT, scope.host.domains.read(id)).await?;
    if scope.board.get(&EntityId::Domain(id)).is_none_or(|e| e.epoch != epoch) {
        let draft = Draft::new(record.name, epoch, Facts::Domain(record.facts));
        scope.board.publish(Change::to(id, "domain.added", cause, draft).with_detail(Some("from the shelf".into())));
    }
    scope.keeper.start(EntityId::Domain(id));
    write(scope, id, None).await
}

/// After a listing: finishes or undoes what was interrupted. `false`: not all of it, yet.
pub(super) async fn settle(scope: &Rc<Scope>) -> bool {
    if !scope.moves.unsettled.get() {
        return true;
    }
    let notes = match within(LONG, scope.shelf.documents("parked/".to_owned())).await {
        Ok(notes) => notes,
        Err(fault) => {
            tracing::debug!(%fault, "the shelf cannot be looked at yet");
            return false;
        }
    };
    let mut all = true;
    for (key, document) in notes {
        let settled = match read(&document.body) {
            Ok(note) => settle_one(scope, &note).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = settled {
            tracing::warn!(%key, %fault, "what was begun with a parked machine is not settled yet");
            all = false;
        }
    }
    scope.moves.unsettled.set(!all);
    all
}

async fn settle_one(scope: &Rc<Scope>, note: &ShelfNote) -> Result<(), Fault> {
    let (me, id) = (&scope.host.name, note.parked.id);
    let Some(held) = within(SHORT, scope.authority.ownership(id)).await? else { return Ok(()) };
    if held.owner != *me {
        return Ok(());
    }
    let Ownership { epoch, hold, .. } = held;
    let standing = within(SHORT, scope.host.migration.standing(id)).await?;
    match (hold, standing) {
        (Hold::Parked, Standing::Off(_)) => put_away(scope, id, Cause::Archipel).await,
        (Hold::Parked, Standing::Here(_)) => {
            // Somebody started it with other tools before its definition was taken away: it is not parked.
            within(SHORT, scope.authority.step(id, epoch, OwnershipStep::Unpark { by: me.clone() })).await?;
            scope.keeper.start(EntityId::Domain(id));
            write(scope, id, None).await
        }
        (Hold::Owned, Standing::Absent) => {
            within(LONG, scope.host.migration.define(id, note.definition.clone())).await?;
            take_down(scope, note, epoch, Cause::Archipel).await
        }
        // It was never parked, or unparked all but for the shelf.
        (Hold::Owned, _) => write(scope, id, None).await,
        _ => Ok(()),
    }
}
