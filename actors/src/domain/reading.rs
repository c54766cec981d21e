//! How what libvirt has of a machine gets onto the board: from its reports, and from reading it.
//!
//! ```text
//!   libvirt --change--> state: told from the event itself
//!                  \--> definition, fact: one read, told if something differs
//!
//!   reading: changes wait until the read is done, then are applied in order
//! ```

use super::{
    DomainActor,
    change::{self, Reaction},
    saved,
};
use crate::{
    board::{Change, Draft},
    hypervisor,
    migration::{adoption, origin},
    scope::{SHORT, Scope, within},
    strangers,
};
use actix::prelude::*;
use archipel_contract::{
    Condition, DomainId, Entity, EntityId, Epoch, Facts, Fault, FaultKind, Hold, Ownership,
    domain::{DomainRecord, DomainState},
    event::Cause,
    host::DomainChange,
    hypervisor::HypervisorState,
};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Changes kept while the machine is being read; more than these make it be read once more.
const BUFFERED: usize = 256;
/// The pause before a read is tried again that libvirt had no time for.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// The pause before the cell is asked again whose a machine is.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// libvirt's word, in events and lists alike, for what a migration took away or brought.
pub(crate) const MIGRATED: &str = "migrated";

/// Why a template that runs is not well. Nobody can keep other tools from starting one.
const RUNNING_TEMPLATE: &str = "is a template and runs: what it writes breaks every machine that is built on it; force it off";

/// What must not be is told for as long as it is so.
fn judged(mut draft: Draft) -> Draft {
    let Facts::Domain(facts) = &draft.facts else { return draft };
    let (is_so, told) = (facts.template && facts.state.is_active(), draft.why.as_deref() == Some(RUNNING_TEMPLATE));
    match draft.condition {
        Condition::Ok if is_so => draft.in_condition(Condition::Degraded, Some(RUNNING_TEMPLATE.into())),
        Condition::Degraded if told && !is_so => {
            draft.why = None;
            draft.in_condition(Condition::Ok, None)
        }
        _ => draft,
    }
}

/// What a read found out: the epoch when the machine was not known before, and the machine.
type Found = Result<(Epoch, DomainRecord), Fault>;

/// What a read means for what is known: topic and draft, or nothing when nothing differs.
///
/// The words for the reason of a state differ between libvirt's events and its lists, so they alone are no news, but for the one that
/// says that a guest came from another host or went there: whether a machine may be started hangs on it.
pub fn compare(before: Option<&Entity>, epoch: Epoch, mut record: DomainRecord) -> Option<(&'static str, Draft)> {
    let Some((entity, old)) = before.and_then(|e| e.domain().map(|f| (e, f))) else {
        return Some(("domain.added", judged(Draft::new(record.name, epoch, Facts::Domain(record.facts)))));
    };
    let state = record.facts.state;
    if old.state == state && record.facts.reason.as_deref() != Some(MIGRATED) {
        record.facts.reason.clone_from(&old.reason);
    }
    let reason = record.facts.reason.clone();
    let draft = judged(Draft::new(record.name, epoch, Facts::Domain(record.facts)));
    let topic = if entity.condition != Condition::Ok && entity.why.as_deref() != Some(RUNNING_TEMPLATE) {
        "domain.known"
    } else if old.state != state {
        change::topic(old.state, state, reason.as_deref())
    } else {
        "domain.changed"
    };
    (Draft::of(entity) != draft).then_some((topic, draft))
}

impl DomainActor {
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
                let cause = c.cause.clone();
                // Going down is only the first half of what a shutdown causes.
                if topic != "domain.shutting-down" {
                    *slot = None;
                }
                cause
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

    pub(super) fn observe(&mut self, change: DomainChange, ctx: &mut Context<Self>) {
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
        if change == DomainChange::Defined("updated") {
            self.notice_definition(ctx);
        }
        match change::react(facts, &change) {
            Reaction::Nothing => {}
            Reaction::Read => self.read(ctx),
            Reaction::Gone => self.gone(&entity),
            Reaction::Tell { topic, facts, detail, vanishes } => {
                let cause = self.cause(topic, Cause::Libvirt);
                let mut draft = Draft::of(&entity);
                draft.facts = Facts::Domain(facts);
                self.scope.board.publish(Change::to(self.id, topic, cause, judged(draft)).with_detail(detail));
                self.told();
                if super::stall::stalls(&change) {
                    self.explain(ctx);
                }
                if matches!(change, DomainChange::State(DomainState::Shutoff, "saved")) {
                    let (scope, id) = (self.scope.clone(), self.id);
                    ctx.spawn(async move { saved::forget(&scope, id).await }.into_actor(self));
                }
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

    pub(super) fn read(&mut self, ctx: &mut Context<Self>) {
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
                // libvirt answers, so it is the cell that does not: whose a machine is that came meanwhile is asked until it does.
                let lists_again = hypervisor::facts(&this.scope).is_none_or(|(_, f)| f.state != HypervisorState::Connected);
                match known {
                    Some(_) => {}
                    None if lists_again => ctx.stop(),
                    None => {
                        this.reading = Some(buffered);
                        ctx.run_later(ASK_AGAIN, |this, ctx| this.read(ctx));
                    }
                }
            }
            Err(fault) if fault.kind == FaultKind::Conflict => {
                // A machine that a place is held for comes with its move, which claims it when it is here.
                if this.scope.moves.awaited(this.id).is_none() && !strangers::is_known(&this.scope, this.id) {
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
        let (scope, epoch) = (scope.clone(), entity.epoch);
        actix_rt::spawn(async move {
            if let Err(fault) = scope.authority.forget(id, epoch).await {
                tracing::debug!(domain = %id, %fault, "ownership not forgotten");
            }
            origin::erase(&scope, id, epoch).await;
            saved::forget(&scope, id).await;
        });
    }
}
