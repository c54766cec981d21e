//! The actor of one virtual network. Networks change rarely, so every report costs one read; what differs is told.

use crate::{
    ask::{Ask, bare, ending},
    board::{Change, Draft},
    domain::in_control,
    life::{Life, Posted},
    scope::{LONG, SHORT, Scope, within},
};
use actix::prelude::*;
use archipel_contract::{
    Command, Condition, Entity, EntityId, Epoch, Facts, Fault, FaultKind, NetworkId, command::Done, event::Cause, host::NetworkChange,
    network::*,
};
use std::rc::Rc;
use std::sync::Arc;

/// Something libvirt reported about this network.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Observed(pub NetworkChange);

/// The actor of one network.
pub struct NetworkActor {
    id: NetworkId,
    scope: Rc<Scope>,
    life: Arc<Life>,
    fresh: bool,
    /// Being read; `true` when it must be read once more.
    reading: Option<bool>,
    /// Whose command the next change follows.
    person: Option<Arc<str>>,
}

/// What a read means for what is known: topic and draft, or nothing when nothing differs.
pub fn compare(before: Option<&Entity>, record: NetworkRecord) -> Option<(&'static str, Draft)> {
    let state = record.facts.state;
    let draft = Draft::new(record.name, Epoch(0), Facts::Network(record.facts));
    let Some(entity) = before else { return Some(("network.added", draft)) };
    let topic = match (&entity.facts, state) {
        (Facts::Network(old), _) if old.state == state || entity.condition != Condition::Ok => "network.changed",
        (_, NetworkState::Active) => "network.started",
        (_, NetworkState::Inactive) => "network.stopped",
    };
    (Draft::of(entity) != draft).then_some((topic, draft))
}

impl NetworkActor {
    /// The actor of this network; `fresh` when an earlier life of it failed.
    pub fn new(id: NetworkId, scope: Rc<Scope>, life: Arc<Life>, fresh: bool) -> NetworkActor {
        NetworkActor { id, scope, life, fresh, reading: None, person: None }
    }

    fn known(&self) -> Option<Arc<Entity>> {
        self.scope.board.get(&EntityId::Network(self.id))
    }

    fn entity(&self) -> Result<Arc<Entity>, Fault> {
        self.known().ok_or_else(|| Fault::not_found(format!("there is no network {}; list them again", self.id)))
    }

    /// What is known, if control and state allow this command.
    fn usable(&self, command: &str) -> Result<Arc<Entity>, Fault> {
        let entity = self.entity()?;
        in_control(&entity)?;
        if let Facts::Network(facts) = &entity.facts {
            may(command, facts).check(&entity.name)?;
        }
        Ok(entity)
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
        let (scope, id) = (self.scope.clone(), self.id);
        let asked_at = self.known().map(|e| e.seq);
        let look = async move { within(SHORT, scope.host.networks.read(id)).await };
        ctx.spawn(look.into_actor(self).map(move |found, this, ctx| {
            let again = this.reading.take() == Some(true);
            // A listing of the whole host came in between and may be newer than this read.
            if found.is_ok() && this.known().map(|e| e.seq) != asked_at {
                return this.read(ctx);
            }
            match found {
                Ok(record) => {
                    if let Some((topic, draft)) = compare(this.known().as_deref(), record) {
                        let cause = this.cause();
                        this.scope.board.publish(Change::to(this.id, topic, cause, draft));
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
                    this.scope.board.publish(Change::gone(this.id, "network.undefined", cause));
                    // Not at once: the command that caused it may still wait for its answer here.
                    this.scope.keeper.stop(&this.id.into());
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

    fn run<C, F>(&mut self, posted: Posted<Ask<C>>, work: F) -> ResponseActFuture<Self, Result<Done, Fault>>
    where
        C: Command<Reply = Done>,
        F: AsyncFnOnce(&dyn NetworkPort, NetworkId, C) -> Result<&'static str, Fault> + 'static,
    {
        let Some(Ask { command, caller }) = posted.take() else { return Box::pin(fut::ready(ending())) };
        let entity = match self.usable(C::NAME) {
            Ok(entity) => entity,
            Err(fault) => return Box::pin(fut::ready(Err(fault))),
        };
        let (scope, id) = (self.scope.clone(), self.id);
        self.person = Some(bare(&caller.jid).into());
        let work = async move { work(&*scope.host.networks, id, command).await.map(|what| Done::new(format!("{} {what}", entity.name))) };
        Box::pin(work.into_actor(self).map(|answer, this, ctx| {
            match &answer {
                Ok(_) => this.read(ctx),
                Err(_) => this.person = None,
            }
            answer
        }))
    }
}

impl Actor for NetworkActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        if !self.life.is_over() && (self.fresh || self.known().is_none()) {
            self.read(ctx);
        }
    }
}

impl Handler<Posted<Observed>> for NetworkActor {
    type Result = ();
    fn handle(&mut self, posted: Posted<Observed>, ctx: &mut Self::Context) {
        if posted.take().is_some() {
            self.read(ctx);
        }
    }
}

impl Handler<Posted<Ask<ShowNetwork>>> for NetworkActor {
    type Result = Result<Entity, Fault>;
    fn handle(&mut self, _: Posted<Ask<ShowNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.entity().map(|e| Entity::clone(&e))
    }
}

impl Handler<Posted<Ask<StartNetwork>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<StartNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |port: &dyn NetworkPort, id, _| within(LONG, port.start(id)).await.map(|()| "is active"))
    }
}

impl Handler<Posted<Ask<StopNetwork>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<StopNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |port: &dyn NetworkPort, id, _| within(LONG, port.stop(id)).await.map(|()| "is not active any more"))
    }
}

impl Handler<Posted<Ask<AutostartNetwork>>> for NetworkActor {
    type Result = ResponseActFuture<Self, Result<Done, Fault>>;
    fn handle(&mut self, posted: Posted<Ask<AutostartNetwork>>, _: &mut Self::Context) -> Self::Result {
        self.run(posted, async |port: &dyn NetworkPort, id, command: AutostartNetwork| {
            within(SHORT, port.set_autostart(id, command.enabled)).await?;
            Ok(if command.enabled { "starts with its host" } else { "does not start with its host" })
        })
    }
}
