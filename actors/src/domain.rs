//! The actor of one virtual machine.
//!
//! ```text
//!                     +-- command (one at a time, in order) --> port; the answer is small
//!   libvirt --change--+
//!                     +-- state: told from the event itself
//!                     +-- definition, fact: one read, told if something differs
//!
//!   reading: changes wait until the read is done, then are applied in order
//! ```
//! What is known of the machine stands on the board, not here: a restarted actor reads it anew. What libvirt reports is
//! what announces a change; if it follows our own command, the cause is the person who asked.

use crate::{
    ask::{Ask, ending},
    board::{Change, Draft},
    domain_change::{self, Reaction},
    domain_turn::{Desk, Turn},
    hypervisor,
    life::{Life, Posted},
    migration::{adoption, no_right, not_elsewhere, rightful},
    scope::{LONG, SHORT, Scope, within},
    strangers,
    task::{self, Plan},
};
use actix::prelude::*;
use archipel_contract::{
    Command, Condition, DomainId, Entity, EntityId, Epoch, Facts, Fault, FaultKind, Hold, Millis, Ownership,
    command::{Document, Done, Started},
    domain::*,
    event::Cause,
    host::DomainChange,
};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Messages that may wait for one machine. What does not fit makes the machine be read again.
const MAILBOX: usize = 64;
/// Changes kept while the machine is being read; more than these make it be read once more.
const BUFFERED: usize = 256;
/// The pause before a read is tried again that libvirt had no time for.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// How long after a command its event is still taken for its consequence.
const CONSEQUENCE: Millis = Millis::seconds(5);

/// Something libvirt reported about this machine.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Observed(pub DomainChange);

/// The actor of one virtual machine.
pub struct DomainActor {
    id: DomainId,
    scope: Rc<Scope>,
    life: Arc<Life>,
    fresh: bool,
    reading: Option<VecDeque<DomainChange>>,
    desk: Option<Rc<Desk>>,
    missed: bool,
}

/// What a read found out: the epoch when the machine was not known before, and the machine.
type Found = Result<(Epoch, DomainRecord), Fault>;

/// What a read means for what is known: topic and draft, or nothing when nothing differs.
///
/// The words for the reason of a state differ between libvirt's events and its lists, so they alone are no news.
pub fn compare(before: Option<&Entity>, epoch: Epoch, mut record: DomainRecord) -> Option<(&'static str, Draft)> {
    let Some((entity, old)) = before.and_then(|e| e.domain().map(|f| (e, f))) else {
        return Some(("domain.added", Draft::new(record.name, epoch, Facts::Domain(record.facts))));
    };
    let state = record.facts.state;
    if old.state == state {
        record.facts.reason.clone_from(&old.reason);
    }
    let reason = record.facts.reason.clone();
    let draft = Draft::new(record.name, epoch, Facts::Domain(record.facts));
    let topic = if entity.condition != Condition::Ok {
        "domain.known"
    } else if old.state != state {
        domain_change::topic(old.state, state, reason.as_deref())
    } else {
        "domain.changed"
    };
    (Draft::of(entity) != draft).then_some((topic, draft))
}

impl DomainActor {
    /// The actor of this machine; `fresh` when an earlier life of it failed and everything must be read again.
    pub fn new(id: DomainId, scope: Rc<Scope>, life: Arc<Life>, fresh: bool) -> DomainActor {
        DomainActor { id, scope, life, fresh, reading: None, desk: None, missed: false }
    }

    pub(crate) fn scope(&self) -> &Rc<Scope> {
        &self.scope
    }

    pub(crate) fn id(&self) -> DomainId {
        self.id
    }

    fn known(&self) -> Option<Arc<Entity>> {
        self.scope.board.get(&EntityId::Domain(self.id))
    }

    pub(crate) fn entity(&self) -> Result<Arc<Entity>, Fault> {
        self.known().ok_or_else(|| Fault::not_found(format!("there is no virtual machine {}; list them again", self.id)))
    }

    /// Who caused an event of this topic: whoever's command is expected to, else the given one.
    fn cause(&self, topic: &str, otherwise: Cause) -> Cause {
        let Some(desk) = &self.desk else { return otherwise };
        let mut slot = desk.consequence.borrow_mut();
        let now = self.scope.clock.monotonic();
        match slot.as_ref() {
            Some(c) if c.until < now => {
                *slot = None;
                otherwise
            }
            Some(c) if c.topics.contains(&topic) => {
                let person = c.person.clone();
                // Going down is only the first half of what a shutdown causes.
                if topic != "domain.shutting-down" {
                    *slot = None;
                }
                Cause::Person(person)
            }
            _ => otherwise,
        }
    }

    /// Wakes the commands that wait for what they did to be known.
    fn told(&self) {
        if let Some(desk) = &self.desk {
            desk.news.notify_waiters();
        }
    }

    // ------------------------------------------------------------ changes

    fn observe(&mut self, change: DomainChange, ctx: &mut Context<Self>) {
        if let Some(buffered) = &mut self.reading {
            if buffered.len() < BUFFERED {
                buffered.push_back(change);
            } else {
                buffered.clear();
                buffered.push_back(DomainChange::Changed("too many changes at once"));
            }
            return;
        }
        let Some(entity) = self.known() else { return self.read(ctx) };
        let Some(facts) = entity.domain() else { return };
        match domain_change::react(facts, &change) {
            Reaction::Nothing => {}
            Reaction::Read => self.read(ctx),
            Reaction::Gone => self.gone(&entity),
            Reaction::Tell { topic, facts, detail, vanishes } => {
                let cause = self.cause(topic, Cause::Libvirt);
                let mut draft = Draft::of(&entity);
                draft.facts = Facts::Domain(facts);
                self.scope.board.publish(Change::to(self.id, topic, cause, draft).with_detail(detail));
                self.told();
                if vanishes {
                    self.gone(&entity);
                }
            }
        }
    }

    fn gone(&mut self, entity: &Entity) {
        // What libvirt has left of a machine that leaves is the business of its move.
        if self.scope.moves.to(self.id).is_some() {
            return;
        }
        let cause = self.cause("domain.undefined", Cause::Libvirt);
        forget(&self.scope, entity, cause);
        self.told();
        // Not at once: the command that caused it may still wait for its answer here.
        self.scope.keeper.stop(&entity.id);
    }

    fn read(&mut self, ctx: &mut Context<Self>) {
        self.reading.get_or_insert_default();
        let (scope, id, known) = (self.scope.clone(), self.id, self.known());
        let asked_at = known.as_ref().map(|e| e.seq);
        let look = async move {
            let epoch = match known {
                Some(entity) => entity.epoch,
                None => claim(&scope, id).await?,
            };
            Ok((epoch, within(SHORT, scope.host.domains.read(id)).await?))
        };
        ctx.spawn(look.into_actor(self).map(move |found: Found, this, ctx| {
            // A listing of the whole host came in between and may be newer than this read.
            if found.is_ok() && this.known().map(|e| e.seq) != asked_at { this.read(ctx) } else { Self::has_read(found, this, ctx) }
        }));
    }

    fn has_read(found: Found, this: &mut Self, ctx: &mut Context<Self>) {
        let buffered = this.reading.take().unwrap_or_default();
        let (known, missed) = (this.known(), std::mem::take(&mut this.missed));
        match found {
            Ok((epoch, mut record)) => {
                let name = record.name.clone();
                record.facts.moving_to = this.scope.moves.to(this.id);
                if known.is_none() {
                    strangers::forget(&this.scope, this.id);
                }
                if let Some((topic, draft)) = compare(known.as_deref(), epoch, record) {
                    let otherwise = if this.fresh { Cause::Archipel } else { Cause::Libvirt };
                    let cause = match this.scope.expected.borrow_mut().remove(&*name) {
                        Some(person) if topic == "domain.added" => Cause::Person(person),
                        _ => this.cause(topic, otherwise),
                    };
                    this.scope.board.publish(Change::to(this.id, topic, cause, draft));
                }
                this.told();
                this.fresh = false;
                for change in buffered {
                    this.observe(change, ctx);
                }
            }
            // A libvirt that is going down knows no machine any more, a moment before it is lost: it is asked twice.
            Err(fault) if fault.kind == FaultKind::NotFound && known.is_some() && !missed => {
                this.missed = true;
                this.reading = Some(buffered);
                ctx.run_later(READ_AGAIN, |this, ctx| this.read(ctx));
            }
            Err(fault) if fault.kind == FaultKind::NotFound => match known {
                Some(entity) => this.gone(&entity),
                None => {
                    strangers::forget(&this.scope, this.id);
                    ctx.stop();
                }
            },
            // The whole host is silent: its actor says so, and lists everything again when it is back.
            Err(fault) if fault.kind == FaultKind::Unavailable => {
                if known.is_none() {
                    ctx.stop();
                }
            }
            Err(fault) if fault.kind == FaultKind::Conflict => {
                if !strangers::is_known(&this.scope, this.id) {
                    tracing::warn!(domain = %this.id, host = %this.scope.host.name, %fault, "not shown: another hypervisor owns it");
                }
                adoption::noticed(&this.scope, this.id);
                this.look_at_stranger(ctx);
            }
            // Too much at once, or libvirt is slow: no defect of ours, so no restart. What was reported waits for the read.
            Err(fault) if matches!(fault.kind, FaultKind::Busy | FaultKind::Timeout) => {
                if fault.kind == FaultKind::Timeout {
                    hypervisor::degrade(
                        &this.scope,
                        &this.id.into(),
                        &format!("it could not be read ({fault}); it is tried again by itself"),
                    );
                }
                this.reading = Some(buffered);
                ctx.run_later(READ_AGAIN, |this, ctx| this.read(ctx));
            }
            Err(fault) => {
                this.life.fail(fault);
                ctx.stop();
            }
        }
    }

    /// It is another host's: it is told of on the hypervisor, and this ends.
    fn look_at_stranger(&mut self, ctx: &mut Context<Self>) {
        self.reading = Some(VecDeque::new());
        let (scope, id) = (self.scope.clone(), self.id);
        let look = async move { within(SHORT, scope.host.domains.read(id)).await };
        ctx.spawn(look.into_actor(self).map(|found, this, ctx| {
            match found {
                // One that is expected, or still leaves, is no stranger.
                Ok(record) if this.scope.moves.awaited(this.id).is_none() && this.scope.moves.to(this.id).is_none() => {
                    strangers::note(&this.scope, &record);
                }
                Ok(_) => {}
                Err(fault) if fault.kind == FaultKind::NotFound => strangers::forget(&this.scope, this.id),
                Err(fault) => tracing::debug!(domain = %this.id, %fault, "a stranger could not be read"),
            }
            // What was reported meanwhile may be newer than what was read.
            if this.reading.take().is_some_and(|reported| !reported.is_empty()) { this.read(ctx) } else { ctx.stop() }
        }));
    }

    /// Runs a command when its turn comes, if the machine's state allows it then.
    pub(crate) fn run<C, F>(&mut self, ask: Posted<Ask<C>>, after: After, topics: &'static [&'static str], work: F) -> Answer<C>
    where
        C: Command,
        F: AsyncFnOnce(&Turn, C) -> Result<C::Reply, Fault> + 'static,
    {
        let Some(Ask { command, caller }) = ask.take() else { return Box::pin(fut::ready(ending())) };
        let desk = self.desk.get_or_insert_default().clone();
        let turn = Turn { id: self.id, scope: self.scope.clone(), desk, caller };
        let wanted = serde_json::to_value(&command).unwrap_or_default();
        let begun = async move {
            let queued = turn.queue()?;
            let place = turn.desk.turn.clone().lock_owned().await;
            turn.check(C::NAME)?;
            turn.expect(topics, Millis(u64::MAX));
            let answer = work(&turn, command).await;
            match &answer {
                Ok(_) => turn.still_expect(if C::NAME == ShutdownDomain::NAME { Millis::seconds(3600) } else { CONSEQUENCE }),
                Err(_) => turn.expect_nothing(),
            }
            answer.map(|reply| (reply, turn, (queued, place)))
        };
        Box::pin(begun.into_actor(self).map(move |done, this: &mut Self, ctx| {
            let (reply, turn, place) = done?;
            if after == After::Read {
                this.observe(DomainChange::Changed("asked"), ctx);
            }
            // Answered at once; the next command's turn comes when everybody can see what this one did.
            let settled = async move {
                let _place = place;
                turn.settled(C::NAME, &wanted).await;
            };
            ctx.spawn(settled.into_actor(this));
            Ok(reply)
        }))
    }
}

/// What happens once a command was done: most are reported by libvirt, a few must be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Event,
    Read,
}

pub(crate) type Answer<C> = ResponseActFuture<DomainActor, Result<<C as Command>::Reply, Fault>>;

/// Refuses while libvirt does not answer: the machine may well be running.
pub fn in_control(entity: &Entity) -> Result<(), Fault> {
    match entity.condition {
        Condition::Ok | Condition::Degraded => Ok(()),
        Condition::ControlLost | Condition::Unreachable => Err(Fault::unavailable(format!(
            "control over {} is lost: libvirt on {} does not answer; it may well be running, ask again when control is back",
            entity.name, entity.host
        ))),
    }
}

/// The epoch in which this host owns the machine; `conflict` when another one does.
async fn claim(scope: &Scope, id: DomainId) -> Result<Epoch, Fault> {
    let owned = within(SHORT, scope.authority.claim_unowned(vec![id], scope.host.name.clone())).await?;
    match owned.into_iter().next() {
        Some(Ownership { hold: Hold::Moving { to, .. }, .. }) if scope.moves.yielded.borrow().contains(&id) => {
            Err(Fault::new(FaultKind::Conflict, format!("{id} was given up to {to}; act there")))
        }
        Some(o) if o.owner == scope.host.name => Ok(o.epoch),
        Some(o) => Err(Fault::new(FaultKind::Conflict, format!("{} owns {id}; act there", o.owner))),
        None => Err(Fault::internal(format!("the authority did not answer about {id}; please report this"))),
    }
}

/// A machine is gone: tells so, and lets its ownership go.
pub fn forget(scope: &Rc<Scope>, entity: &Entity, cause: Cause) {
    scope.board.publish(Change::gone(entity.id.clone(), "domain.undefined", cause));
    if let EntityId::Domain(id) = entity.id {
        let (authority, epoch) = (scope.authority.clone(), entity.epoch);
        actix_rt::spawn(async move {
            if let Err(fault) = authority.forget(id, epoch).await {
                tracing::debug!(domain = %id, %fault, "ownership not forgotten");
            }
        });
    }
}

impl Actor for DomainActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.life.is_over() {
            return;
        }
        ctx.set_mailbox_capacity(MAILBOX);
        if self.fresh || self.known().is_none() {
            self.read(ctx);
        }
    }
}

impl Handler<Posted<Observed>> for DomainActor {
    type Result = ();
    fn handle(&mut self, posted: Posted<Observed>, ctx: &mut Self::Context) {
        if let Some(Observed(change)) = posted.take() {
            self.observe(change, ctx);
        }
    }
}

impl Handler<Posted<Ask<ShowDomain>>> for DomainActor {
    type Result = Result<Entity, Fault>;
    fn handle(&mut self, _: Posted<Ask<ShowDomain>>, _: &mut Self::Context) -> Self::Result {
        self.entity().map(|e| Entity::clone(&e))
    }
}

impl Handler<Posted<Ask<ShowDomainXml>>> for DomainActor {
    type Result = Answer<ShowDomainXml>;
    fn handle(&mut self, posted: Posted<Ask<ShowDomainXml>>, _: &mut Self::Context) -> Self::Result {
        let Some(ask) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let (scope, id, entity) = (self.scope.clone(), self.id, self.entity());
        let look = async move {
            in_control(&*entity?)?;
            let text = within(SHORT, scope.host.domains.xml(id, ask.command.inactive)).await?;
            Ok(Document { media_type: "application/xml".to_owned(), text })
        };
        Box::pin(look.into_actor(self))
    }
}

macro_rules! command {
    ($command:ty, $after:ident, [$($topic:literal),*], |$turn:ident, $ask:pat_param| $work:expr) => {
        impl Handler<Posted<Ask<$command>>> for DomainActor {
            type Result = Answer<$command>;
            fn handle(&mut self, posted: Posted<Ask<$command>>, _: &mut Self::Context) -> Self::Result {
                self.run(posted, After::$after, &[$($topic),*], async |$turn: &Turn, $ask: $command| $work)
            }
        }
    };
}

command!(StartDomain, Event, ["domain.started", "domain.paused"], |turn, command| {
    // A machine undefined and defined anew at once may have lost its owner after it was claimed; then it is claimed here.
    let held = within(SHORT, turn.scope.authority.claim_unowned(vec![turn.id], turn.scope.host.name.clone())).await?;
    let held = held
        .into_iter()
        .next()
        .ok_or_else(|| Fault::internal(format!("the authority did not answer about {}; please report this", turn.id)))?;
    let held = rightful(&turn.scope, held).await?;
    let right = held.right_to_run(&turn.scope.host.name).ok_or_else(|| no_right(&turn.name(), &held))?;
    not_elsewhere(&turn.scope, turn.id, &turn.name()).await?;
    within(LONG, turn.scope.host.domains.start(right, command.paused)).await?;
    Ok(turn.done(if command.paused { "is started and paused" } else { "is started" }))
});

command!(ShutdownDomain, Event, ["domain.shutting-down", "domain.stopped"], |turn, command| {
    within(SHORT, turn.scope.host.domains.shutdown(turn.id)).await?;
    let plan = Plan::Shutdown { domain: turn.id, timeout: Millis::seconds(u64::from(command.timeout)) };
    let name = turn.name();
    let task = task::begin(&turn.scope, plan, turn.id.into(), ShutdownDomain::NAME, &name, &turn.caller);
    Ok(Started { task, message: format!("{name} was asked to power off") })
});

command!(RebootDomain, Event, ["domain.rebooted"], |turn, _| {
    within(SHORT, turn.scope.host.domains.reboot(turn.id)).await?;
    Ok(turn.done("was asked to reboot"))
});

command!(ForceOffDomain, Event, ["domain.stopped", "domain.crashed"], |turn, _| {
    within(LONG, turn.scope.host.domains.force_off(turn.id)).await?;
    Ok(turn.done("is off"))
});

command!(ResetDomain, Event, ["domain.rebooted"], |turn, _| {
    within(SHORT, turn.scope.host.domains.reset(turn.id)).await?;
    Ok(turn.done("was reset"))
});

command!(PauseDomain, Event, ["domain.paused"], |turn, _| {
    within(SHORT, turn.scope.host.domains.pause(turn.id)).await?;
    Ok(turn.done("is paused"))
});

command!(ResumeDomain, Event, ["domain.resumed"], |turn, _| {
    within(SHORT, turn.scope.host.domains.resume(turn.id)).await?;
    Ok(turn.done("goes on"))
});

command!(UndefineDomain, Event, ["domain.undefined"], |turn, _| {
    let name = turn.name();
    within(SHORT, turn.scope.host.domains.undefine(turn.id)).await?;
    Ok(Done::new(format!("{name} is forgotten; its disks stay")))
});

command!(AutostartDomain, Read, ["domain.changed"], |turn, command| {
    within(SHORT, turn.scope.host.domains.set_autostart(turn.id, command.enabled)).await?;
    Ok(turn.done(if command.enabled { "starts with its host" } else { "does not start with its host" }))
});

command!(RenameDomain, Read, ["domain.changed"], |turn, command| {
    check_name(&command.to)?;
    let name = turn.name();
    within(SHORT, turn.scope.host.domains.rename(turn.id, command.to.clone())).await?;
    Ok(Done::new(format!("{name} is called {} now", command.to)))
});

command!(NoteDomain, Read, ["domain.changed"], |turn, command| {
    check_note(&command.text)?;
    let note = Some(command.text).filter(|t| !t.is_empty());
    let message = if note.is_some() { "has a note now" } else { "has no note any more" };
    within(SHORT, turn.scope.host.domains.set_note(turn.id, note)).await?;
    Ok(turn.done(message))
});
