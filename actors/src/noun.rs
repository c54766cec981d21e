//! The actor of a noun that changes rarely: a network, a storage pool. Every report costs one read; what differs is told.
//!
//! ```text
//!                               reported meanwhile: once more
//!                              +--------------------------+
//!   begin, report, command --> reading --> as known: nothing is told
//!                                  +-----> differs: told, with the person who asked as the cause
//!                                  +-----> not found: told as gone, and this ends
//!                                  +-----> libvirt is silent: the hypervisor's actor says so and lists everything later
//! ```
//! A noun says in [`Noun`] what it is called, how it is read and what a difference is called; its commands are handlers of its
//! [`NounActor`]. A noun whose changes come often and must be told without reading (a virtual machine) has an actor of its own.

use crate::{
    ask::{Ask, bare, ending},
    board::{Change, Draft},
    directory::Resident,
    domain::in_control,
    hypervisor::reach,
    life::{Life, Posted, Undelivered},
    scope::{SHORT, Scope, within},
};
use actix::prelude::*;
use archipel_contract::{BoxFuture, Command, Entity, EntityId, Facts, Fault, FaultKind, Verdict, command::Done, event::Cause, host::Host};
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

/// What the events of a noun are called that every noun has.
pub struct Topics {
    /// It is known from now on.
    pub added: &'static str,
    /// Something about it differs.
    pub changed: &'static str,
    /// It is gone.
    pub undefined: &'static str,
}

/// A noun that is read anew whenever libvirt reports something about it.
pub trait Noun: Unpin + 'static {
    /// Its id.
    type Id: Clone + Display + Into<EntityId> + Unpin + 'static;
    /// What libvirt lists.
    type Record: 'static;
    /// What libvirt reports.
    type Change: Send + 'static;
    /// How people call it: `storage pool`.
    const WORD: &'static str;
    /// What its events are called.
    const TOPICS: Topics;
    /// A report that says nothing but that it must be read.
    const AGAIN: Self::Change;

    /// One of them as it is now.
    fn read(host: &Host, id: Self::Id) -> BoxFuture<'_, Result<Self::Record, Fault>>;
    /// Its id.
    fn id(record: &Self::Record) -> Self::Id;
    /// As it is told.
    fn draft(record: Self::Record) -> Draft;
    /// What the step from what is known to these facts is called.
    fn topic(before: &Entity, after: &Facts) -> &'static str;
    /// Whether the command may run on one with these facts.
    fn may(command: &str, facts: &Facts) -> Verdict;
    /// Whether one that nobody knew begins with this report.
    fn begins(change: &Self::Change) -> bool;
    /// What is told after this report even when nothing differs.
    fn deed(_: &Self::Change) -> Option<&'static str> {
        None
    }
}

/// What a record means for what is known: topic and draft, or nothing when nothing differs and nothing was done.
pub fn compare<N: Noun>(before: Option<&Entity>, record: N::Record, deed: Option<&'static str>) -> Option<(&'static str, Draft)> {
    let draft = N::draft(record);
    let Some(entity) = before else { return Some((N::TOPICS.added, draft)) };
    let topic = match (N::topic(entity, &draft.facts), deed) {
        (topic, Some(deed)) if topic == N::TOPICS.changed => deed,
        (topic, _) => topic,
    };
    (deed.is_some() || Draft::of(entity) != draft).then_some((topic, draft))
}

/// What a listing means: for each that it holds, topic and draft if that is news.
pub fn listed<N: Noun>(scope: &Scope, records: Vec<N::Record>) -> Vec<(EntityId, Option<(&'static str, Draft)>)> {
    let news = |record| {
        let id: EntityId = N::id(&record).into();
        let news = compare::<N>(scope.board.get(&id).as_deref(), record, None);
        (id, news)
    };
    records.into_iter().map(news).collect()
}

/// libvirt reported something about one of them: its actor reads it.
pub(crate) fn reported<N: Noun>(scope: &Rc<Scope>, id: N::Id, change: N::Change)
where
    NounActor<N>: Resident,
{
    let id: EntityId = id.into();
    let Some(post) = reach::<NounActor<N>>(scope, &id, N::begins(&change)) else { return };
    if post.tell(Observed::<N>(change)) == Err(Undelivered::Full) {
        scope.catch_up(id, post.ask(Observed::<N>(N::AGAIN)));
    }
}

/// Something libvirt reported about it.
pub struct Observed<N: Noun>(pub N::Change);

impl<N: Noun> Message for Observed<N> {
    type Result = ();
}

/// The actor of one of them.
pub struct NounActor<N: Noun> {
    id: N::Id,
    scope: Rc<Scope>,
    life: Arc<Life>,
    fresh: bool,
    /// Being read; `true` when it must be read once more.
    reading: Option<bool>,
    /// What is told after the next read even when nothing differs.
    deed: Option<&'static str>,
    /// Whose command the next change follows.
    person: Option<Arc<str>>,
}

impl<N: Noun> NounActor<N> {
    /// The actor of this one; `fresh` when an earlier life of it failed.
    pub fn new(id: N::Id, scope: Rc<Scope>, life: Arc<Life>, fresh: bool) -> NounActor<N> {
        NounActor { id, scope, life, fresh, reading: None, deed: None, person: None }
    }

    pub(crate) fn id(&self) -> N::Id {
        self.id.clone()
    }

    pub(crate) fn scope(&self) -> &Rc<Scope> {
        &self.scope
    }

    fn known(&self) -> Option<Arc<Entity>> {
        self.scope.board.get(&self.id().into())
    }

    /// What is known.
    pub(crate) fn entity(&self) -> Result<Arc<Entity>, Fault> {
        self.known().ok_or_else(|| Fault::not_found(format!("there is no {} {}; list them again", N::WORD, self.id)))
    }

    /// The answer to its `info`.
    pub(crate) fn show(&self) -> Result<Entity, Fault> {
        self.entity().map(|e| Entity::clone(&e))
    }

    /// What is known, if control and state allow this command.
    pub(crate) fn usable(&self, command: &str) -> Result<Arc<Entity>, Fault> {
        let entity = self.entity()?;
        in_control(&entity)?;
        N::may(command, &entity.facts).check(&entity.name)?;
        Ok(entity)
    }

    /// The next change follows this person's command.
    pub(crate) fn expect(&mut self, person: &str) {
        self.person = Some(person.into());
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
        let (scope, id) = (self.scope.clone(), self.id());
        let asked_at = self.known().map(|e| e.seq);
        let look = async move { within(SHORT, N::read(&scope.host, id)).await };
        ctx.spawn(look.into_actor(self).map(move |found, this, ctx| {
            let again = this.reading.take() == Some(true);
            // A listing of the whole host came in between and may be newer than this read.
            if found.is_ok() && this.known().map(|e| e.seq) != asked_at {
                return this.read(ctx);
            }
            match found {
                Ok(record) => {
                    let deed = this.deed.take();
                    if let Some((topic, draft)) = compare::<N>(this.known().as_deref(), record, deed) {
                        let cause = this.cause();
                        this.scope.board.publish(Change::to(this.id(), topic, cause, draft));
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
                    this.scope.board.publish(Change::gone(this.id(), N::TOPICS.undefined, cause));
                    // Not at once: the command that caused it may still wait for its answer here.
                    this.scope.keeper.stop(&this.id().into());
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

    /// Carries out a command that is allowed now, and reads what it did. The work says what people are told of it.
    pub(crate) fn run<C, F>(&mut self, posted: Posted<Ask<C>>, work: F) -> ResponseActFuture<Self, Result<Done, Fault>>
    where
        C: Command<Reply = Done>,
        F: AsyncFnOnce(&Host, N::Id, C) -> Result<&'static str, Fault> + 'static,
    {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let entity = match self.usable(C::NAME) {
            Ok(entity) => entity,
            Err(fault) => return Box::pin(fut::ready(Err(fault))),
        };
        let (scope, id) = (self.scope.clone(), self.id());
        self.expect(bare(&caller.jid));
        let work = async move { work(&scope.host, id, command).await.map(|what| Done::new(format!("{} {what}", entity.name))) };
        Box::pin(work.into_actor(self).map(|answer, this, ctx| {
            match &answer {
                Ok(_) => this.read(ctx),
                Err(_) => this.person = None,
            }
            answer
        }))
    }
}

impl<N: Noun> Actor for NounActor<N> {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        if !self.life.is_over() && (self.fresh || self.known().is_none()) {
            self.read(ctx);
        }
    }
}

impl<N: Noun> Handler<Posted<Observed<N>>> for NounActor<N> {
    type Result = ();
    fn handle(&mut self, posted: Posted<Observed<N>>, ctx: &mut Self::Context) {
        if let Some(Observed(change)) = posted.take() {
            self.deed = N::deed(&change).or(self.deed);
            self.read(ctx);
        }
    }
}
