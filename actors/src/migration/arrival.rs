//! The target's side of a move: holds a place, claims the machine once it is here, and lets its people see it.
//!
//! ```text
//!   reserve --> held --guest seen here, or receive--> claimed (authority: epoch + 1) --> shown, autostart set --> source told
//!                 +---unreserve, or the authority says that it stayed or is elsewhere--> given back (and swept: sweep.rs)
//! ```
//! A place is given back only on the word of the source or of the authority; time alone says nothing about where a guest is.

use super::{adoption, asker, done, forbidden, origin, rights, sweep};
use crate::{
    autostart,
    board::{Change, Draft},
    domain::past,
    hypervisor,
    scope::{LONG, SHORT, Scope, within},
    strangers,
};
use archipel_contract::{
    Caller, DomainId, EntityId, Epoch, Facts, Fault, FaultKind, Hold, HypervisorName, Millis, MoveId, OwnershipStep,
    command::Done,
    event::Cause,
    hypervisor::HypervisorState,
    migration::{
        AskStanding, Obstacle, ObstacleKind, Passport, Receive, Received, Release, Reservation, Reserve, Room, Standing, Unreserve, Way,
    },
    port::DoneOperation,
};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Duration;

/// How long a machine waits for a place at most.
const QUEUE: Duration = Duration::from_secs(60);

/// How long a place is held before its source is taken for one that will not come, unless the authority or libvirt knows better.
const FORSAKEN: Millis = Millis::seconds(300);
/// How many moves whose place was given back are remembered.
const GIVEN_BACK: usize = 256;

/// What is written down of a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The move.
    pub saga: MoveId,
    /// The machine's epoch at its source.
    pub epoch: Epoch,
    /// What it needs.
    pub passport: Passport,
    /// How it travels.
    pub way: Way,
    /// Who asked for the move.
    pub caller: String,
    /// This libvirt did not know the machine when the place was asked for: a definition found later is the transfer's.
    #[serde(default)]
    pub unknown_before: bool,
    /// Nobody comes any more; what the transfer made here is still to be swept.
    #[serde(default)]
    pub given_back: bool,
}

/// A place held for a machine.
pub struct Arrival {
    held: Held,
    /// Since when it is held, or was found written down.
    since: Millis,
}

impl Arrival {
    /// What is written down of it.
    pub fn held(&self) -> &Held {
        &self.held
    }
    /// For which machine.
    pub fn domain(&self) -> DomainId {
        self.held.passport.domain
    }
}

/// A machine that shall be claimed.
#[derive(Debug)]
pub struct Wish {
    /// The move under which the authority says that it comes here.
    pub saga: MoveId,
    /// The machine.
    pub domain: DomainId,
    /// Its epoch at the source.
    pub epoch: Epoch,
    /// The source.
    pub from: HypervisorName,
    /// The definition of one that is off.
    pub definition: Option<String>,
    /// It shall start with this host.
    pub autostart: bool,
    /// What was done on it lately.
    pub operations: Vec<DoneOperation>,
    /// Who caused it.
    pub cause: Cause,
}

fn prefix(scope: &Scope) -> String {
    format!("agent/{}/arrival/", scope.host.name)
}

fn key(scope: &Scope, saga: MoveId) -> String {
    format!("{}{saga}", prefix(scope))
}

fn body(held: &Held) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(held).map_err(|e| Fault::internal("a place cannot be written down; please report this").because(e))
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, Fault> {
    serde_json::from_str(text)
        .map_err(|e| Fault::invalid(format!("the {what} cannot be read; compare the versions of both hosts")).because(e))
}

/// Everything that stands in the way here, and how much is left.
async fn look(scope: &Scope, passport: &Passport, way: &Way) -> Result<(Vec<Obstacle>, Room), Fault> {
    let (me, port) = (&scope.host.name, &scope.host.migration);
    // Both only read, so neither waits for the other: every move goes through here, and the machine's owner waits for it.
    let (mut found, room) = futures::try_join!(within(LONG, port.obstacles(passport.clone(), way.clone())), within(SHORT, port.room()))?;
    if scope.moves.closed.get() {
        found.push(Obstacle::new(ObstacleKind::Host, format!("{me} is closed: it was emptied; open it with hypervisor.undrain")));
    }
    if let Some(to) = scope.moves.to(passport.domain) {
        found.push(Obstacle::new(ObstacleKind::State, format!("it is still being moved from {me} to {to}; wait until that ends")));
    }
    // What is promised to others is not free, though no guest has it yet.
    let promised: u64 = {
        let arrivals = scope.moves.arrivals.borrow();
        let others = arrivals.values().filter(|a| a.domain() != passport.domain && a.held.passport.state.is_active());
        others.map(|a| a.held.passport.memory.0).sum()
    };
    let free = room.memory_free;
    let known = found.iter().any(|o| o.kind == ObstacleKind::Memory);
    if passport.state.is_active() && promised > 0 && !known && passport.memory.0 > free.0.saturating_sub(promised) {
        let message = format!("{me} has promised the memory it has left to machines that are on their way; wait, or stop something there");
        found.push(Obstacle::new(ObstacleKind::Memory, message));
    }
    found.sort();
    found.dedup();
    Ok((found, room))
}

/// `hypervisor.reserve`.
pub async fn reserve(scope: &Rc<Scope>, command: Reserve, caller: Caller) -> Result<Reservation, Fault> {
    let from = asker(scope, &caller)?;
    let (passport, way): (Passport, Way) = (parse("passport", &command.passport)?, parse("way", &command.way)?);
    if passport.from != from {
        return Err(forbidden("a host asks for machines of its own only"));
    }
    if hypervisor::facts(scope).is_none_or(|(_, f)| f.state != HypervisorState::Connected) {
        return Err(Fault::unavailable(format!("libvirt on {} does not answer; try again when it does", scope.host.name)));
    }
    let (mut obstacles, room) = look(scope, &passport, &way).await?;
    obstacles.extend(rights::obstacle(&command.on_behalf_of, command.role, command.saga.is_none()));
    obstacles.sort();
    let Some(saga) = command.saga.filter(|_| obstacles.is_empty()) else { return Ok(Reservation { obstacles, room, landing: None }) };
    let port = &scope.host.migration;
    let (landing, before) = futures::try_join!(within(SHORT, port.landing()), within(SHORT, port.standing(passport.domain)))?;
    if scope.moves.arrivals.borrow().contains_key(&saga) {
        return Ok(Reservation { obstacles, room, landing: Some(landing) });
    }
    let unknown_before = before == Standing::Absent;
    let held = Held { saga, epoch: command.epoch, passport, way, caller: command.on_behalf_of, unknown_before, given_back: false };
    let arrival = place(scope, held).await;
    if scope.moves.given_back.borrow().contains(&saga) {
        vacate(scope, saga);
        return Err(Fault::wrong_state("the place was given back before it was held; ask for another"));
    }
    let Some(arrival) = arrival else {
        let (me, limit, waited) = (&scope.host.name, scope.moves.limits.come, QUEUE.as_secs());
        let message = format!("{me} receives {limit} machines already, and none was done within {waited} s; try again");
        obstacles.push(Obstacle::new(ObstacleKind::Host, message));
        return Ok(Reservation { obstacles, room, landing: None });
    };
    if let Err(fault) = scope.local.write_document(key(scope, saga), None, Some(body(&arrival.held)?)).await {
        vacate(scope, saga);
        return Err(fault);
    }
    Ok(Reservation { obstacles, room, landing: Some(landing) })
}

/// A place for it, as soon as there is one.
async fn place(scope: &Rc<Scope>, held: Held) -> Option<Rc<Arrival>> {
    prune(scope).await;
    let arrival = Rc::new(Arrival { held, since: scope.clock.monotonic() });
    let free = async {
        loop {
            let mut news = std::pin::pin!(scope.moves.vacated.notified());
            news.as_mut().enable();
            if scope.moves.given_back.borrow().contains(&arrival.held.saga) {
                return;
            }
            {
                let mut arrivals = scope.moves.arrivals.borrow_mut();
                // An earlier move of the same machine that this one's source gave up holds no place.
                let others = arrivals.values().filter(|a| a.domain() != arrival.domain()).count();
                if others < scope.moves.limits.come {
                    arrivals.insert(arrival.held.saga, arrival.clone());
                    return;
                }
            }
            news.await;
        }
    };
    tokio::time::timeout(QUEUE, free).await.is_ok().then_some(arrival)
}

fn vacate(scope: &Scope, saga: MoveId) -> Option<Rc<Arrival>> {
    let arrival = scope.moves.arrivals.borrow_mut().remove(&saga);
    scope.moves.vacated.notify_waiters();
    arrival
}

/// Gives a place back, on the disk as well.
async fn give_back(scope: &Scope, saga: MoveId) -> Result<Option<Rc<Arrival>>, Fault> {
    if let Some(found) = scope.local.document(key(scope, saga)).await? {
        scope.local.write_document(key(scope, saga), Some(found.version), None).await?;
    }
    Ok(vacate(scope, saga))
}

/// `hypervisor.unreserve`.
pub async fn unreserve(scope: &Rc<Scope>, command: Unreserve, caller: Caller) -> Result<Done, Fault> {
    let from = asker(scope, &caller)?;
    if scope.moves.arrivals.borrow().get(&command.saga).is_some_and(|a| a.held.passport.from != from) {
        return Err(forbidden("only the host that asked for a place gives it back"));
    }
    remember(scope, command.saga);
    let place = scope.moves.arrivals.borrow().get(&command.saga).cloned();
    let Some(place) = place else {
        give_back(scope, command.saga).await?;
        return done("the place is given back");
    };
    // What its transfer left is swept also if this agent dies now.
    let place = given_back(scope, &place).await?;
    vacate(scope, command.saga);
    sweep::begin(scope, place).await;
    done("the place is given back")
}

/// Writes down that nobody comes to a place any more.
async fn given_back(scope: &Scope, place: &Arrival) -> Result<Rc<Arrival>, Fault> {
    let held = Held { given_back: true, ..place.held.clone() };
    // Read, as the answer to an earlier write may have been lost: whoever asks again would be refused for ever.
    let before = scope.local.document(key(scope, held.saga)).await?.map(|found| found.version);
    scope.local.write_document(key(scope, held.saga), before, Some(body(&held)?)).await?;
    Ok(Rc::new(Arrival { held, since: place.since }))
}

/// Removes what is written down of a place. Whether that is done.
pub(super) async fn erase(scope: &Scope, saga: MoveId) -> bool {
    let erased = give_back(scope, saga).await;
    if let Err(fault) = &erased {
        tracing::warn!(%saga, %fault, "a place that nobody needs is still written down");
    }
    erased.is_ok()
}

/// The request for that place may still be on its way, or wait in the queue.
fn remember(scope: &Scope, saga: MoveId) {
    let mut given_back = scope.moves.given_back.borrow_mut();
    given_back.push_back(saga);
    if given_back.len() > GIVEN_BACK {
        given_back.pop_front();
    }
    drop(given_back);
    scope.moves.vacated.notify_waiters();
}

/// `hypervisor.standing`.
pub async fn standing(scope: &Rc<Scope>, command: AskStanding, caller: Caller) -> Result<Standing, Fault> {
    asker(scope, &caller)?;
    within(SHORT, scope.host.migration.standing(command.domain)).await
}

/// `hypervisor.release`.
pub async fn release(scope: &Rc<Scope>, command: Release, caller: Caller) -> Result<Done, Fault> {
    let to = asker(scope, &caller)?;
    match scope.moves.departure(command.domain).filter(|d| d.id() == command.saga) {
        Some(departure) if departure.to() == to => departure.claimed(),
        Some(_) => return Err(forbidden("only the host it goes to may say that it has claimed it")),
        None => adoption::claimed(scope, command.domain, &to).await?,
    }
    done("released")
}

/// `hypervisor.receive`.
pub async fn receive(scope: &Rc<Scope>, command: Receive, caller: Caller) -> Result<Received, Fault> {
    let from = asker(scope, &caller)?;
    let place = scope.moves.arrivals.borrow().get(&command.saga).cloned();
    if place.as_ref().is_some_and(|a| a.held.passport.from != from || a.domain() != command.domain) {
        return Err(forbidden("that place was asked for by another host, or for another machine"));
    }
    let operations = match &command.operations {
        Some(text) => parse("list of operations", text)?,
        None => Vec::new(),
    };
    let person = place.as_ref().map(|a| a.held.caller.as_str().into());
    let wish = Wish {
        saga: command.saga,
        domain: command.domain,
        epoch: command.epoch,
        from,
        definition: command.definition,
        autostart: command.autostart,
        operations,
        cause: person.map_or(Cause::Archipel, Cause::Person),
    };
    let epoch = claim(scope, wish).await?;
    let standing = within(SHORT, scope.host.migration.standing(command.domain)).await?;
    Ok(Received { epoch, standing })
}

/// Claims a machine that is here, or whose definition was given; answers its epoch here. May be repeated.
pub async fn claim(scope: &Rc<Scope>, wish: Wish) -> Result<Epoch, Fault> {
    let (me, id) = (&scope.host.name, wish.domain);
    // One at a time: the source's request and what was seen here may come together.
    let _turn = scope.moves.claims.lock().await;
    let now = within(SHORT, scope.authority.ownership(id)).await?;
    let now = now.ok_or_else(|| Fault::not_found(format!("nobody owns {id}; look at both hosts")))?;
    let epoch = if now.owner == *me && now.epoch > wish.epoch {
        now.epoch
    } else {
        match &now.hold {
            Hold::Moving { saga, to } if *saga == wish.saga && to == me && now.owner == wish.from => {}
            _ => {
                return Err(Fault::new(
                    FaultKind::Conflict,
                    format!("{} does not move {id} to {me} under that move; look at it again", now.owner),
                ));
            }
        }
        is_here(scope, &wish).await?;
        let step = OwnershipStep::Claim { by: me.clone(), saga: wish.saga };
        let claimed = within(SHORT, scope.authority.step(id, now.epoch, step)).await?;
        tracing::info!(domain = %id, from = %wish.from, host = %me, epoch = claimed.epoch.0, "claimed");
        past::follow(scope, id, wish.from.clone());
        claimed.epoch
    };
    origin::note(scope, id, &wish.from, epoch).await;
    if wish.autostart
        && let Err(fault) = autostart::rearm(scope, id).await
    {
        tracing::warn!(domain = %id, %fault, "a machine that came here does not start with this host");
    }
    if let Err(fault) = scope.journal.adopt(wish.operations).await {
        tracing::warn!(domain = %id, %fault, "what was done on a machine before it came here was not taken over");
    }
    show(scope, id, epoch, &wish.from, wish.cause).await;
    if let Err(fault) = give_back(scope, wish.saga).await {
        tracing::warn!(saga = %wish.saga, %fault, "a place that is not needed any more stays written down until the next start");
        vacate(scope, wish.saga);
    }
    Ok(epoch)
}

async fn is_here(scope: &Scope, wish: &Wish) -> Result<(), Fault> {
    let (me, id) = (&scope.host.name, wish.domain);
    let standing = within(SHORT, scope.host.migration.standing(id)).await?;
    match (standing, &wish.definition) {
        (Standing::Off(_) | Standing::Absent | Standing::Departed, Some(definition)) => {
            within(LONG, scope.host.migration.define(id, definition.clone())).await
        }
        (Standing::Here(_) | Standing::Leaving | Standing::Off(_) | Standing::Departed | Standing::Split, _) => Ok(()),
        (Standing::Arriving, _) => Err(Fault::busy(format!("{me} has not received all of it yet; ask again"))),
        (Standing::Absent, None) => Err(Fault::unavailable(format!("libvirt on {me} does not have it; look where it is"))),
    }
}

/// Lets everybody see a machine that was claimed.
async fn show(scope: &Rc<Scope>, id: DomainId, epoch: Epoch, from: &HypervisorName, cause: Cause) {
    strangers::forget(scope, id);
    match within(SHORT, scope.host.domains.read(id)).await {
        Ok(record) => {
            let known = scope.board.get(&EntityId::Domain(id)).is_some_and(|e| e.epoch == epoch);
            let draft = Draft::new(record.name, epoch, Facts::Domain(record.facts));
            if !known {
                let detail = Some(format!("from {from}").into());
                scope.board.publish(Change::to(id, "domain.migrated", cause, draft).with_detail(detail));
            }
        }
        // The actor reads it again, and shows it then.
        Err(fault) => tracing::warn!(domain = %id, %fault, "a machine that was claimed cannot be read yet"),
    }
    scope.keeper.start(EntityId::Domain(id));
}

/// Reads the places an earlier life of this agent held.
pub(super) async fn load(scope: &Rc<Scope>) -> Result<(), Fault> {
    for (key, document) in scope.local.documents(prefix(scope)).await? {
        match serde_json::from_slice::<Held>(&document.body) {
            Ok(held) => {
                let arrival = Rc::new(Arrival { held, since: scope.clock.monotonic() });
                if arrival.held.given_back {
                    sweep::keep(scope, arrival);
                } else {
                    scope.moves.arrivals.borrow_mut().insert(arrival.held.saga, arrival);
                }
            }
            Err(error) => tracing::error!(%key, %error, "a place that was held cannot be read; it is given up"),
        }
    }
    Ok(())
}

/// After a listing: what of the places held is still meant. `false`: that could not be found out for all of them.
pub(super) async fn settle(scope: &Rc<Scope>) -> bool {
    sweep::settle(scope);
    let mut all = true;
    let held: Vec<Rc<Arrival>> = scope.moves.arrivals.borrow().values().cloned().collect();
    for arrival in held {
        let (id, saga) = (arrival.domain(), arrival.held.saga);
        let Ok(now) = within(SHORT, scope.authority.ownership(id)).await else {
            all = false;
            continue;
        };
        let me = &scope.host.name;
        match now {
            Some(now) if now.owner == *me && now.epoch > arrival.held.epoch => {
                // It was claimed; the rest of it may not have been done.
                let wish = wish_of(&arrival);
                if let Err(fault) = claim(scope, wish).await {
                    tracing::warn!(domain = %id, %fault, "a machine that was claimed is not settled yet");
                    all = false;
                }
            }
            Some(now) if matches!(&now.hold, Hold::Moving { saga: s, .. } if *s == saga) => adoption::noticed(scope, id),
            // The source has not told the authority yet, or has given it up and will say so.
            Some(now) if now.owner == arrival.held.passport.from && now.epoch == arrival.held.epoch => {}
            _ => {
                if let Err(fault) = give_back(scope, saga).await {
                    tracing::warn!(%saga, %fault, "a place nobody needs is still written down");
                }
            }
        }
    }
    all
}

/// Gives back places whose source has said nothing for long: the authority knows of no move, and nothing of the machine is here.
async fn prune(scope: &Rc<Scope>) {
    let now = scope.clock.monotonic();
    let old = |a: &&Rc<Arrival>| now.0.saturating_sub(a.since.0) > FORSAKEN.0;
    let forsaken: Vec<Rc<Arrival>> = scope.moves.arrivals.borrow().values().filter(old).cloned().collect();
    for arrival in forsaken {
        let id = arrival.domain();
        let Ok(held) = within(SHORT, scope.authority.ownership(id)).await else { continue };
        let moves = held.is_some_and(|h| matches!(h.hold, Hold::Moving { saga, .. } if saga == arrival.held.saga));
        if !moves && within(SHORT, scope.host.migration.standing(id)).await.is_ok_and(|s| s == Standing::Absent) {
            tracing::warn!(domain = %id, from = %arrival.held.passport.from, "a place is given up: its source has not begun to move");
            if let Err(fault) = give_back(scope, arrival.held.saga).await {
                tracing::warn!(%fault, "a place nobody needs is still written down");
            }
        }
    }
}

/// What a place was held for.
pub(super) fn wish_of(arrival: &Arrival) -> Wish {
    let held = &arrival.held;
    Wish {
        saga: held.saga,
        domain: held.passport.domain,
        epoch: held.epoch,
        from: held.passport.from.clone(),
        definition: None,
        autostart: held.passport.autostart,
        operations: Vec::new(),
        cause: Cause::Person(held.caller.as_str().into()),
    }
}
