//! The actor of one virtual machine.
//!
//! ```text
//!                     +-- command (one at a time, in order) --> port; the answer is small
//!   libvirt --change--+
//!                     +-- told, or read and told
//! ```
//! What is known of the machine stands on the board, not here: a restarted actor reads it anew. What libvirt reports is
//! what announces a change; if it follows our own command, the cause is the person who asked.
//!
//! | file | holds |
//! |---|---|
//! | `lifecycle` | start, shutdown, reboot, reset, pause ...: what brings it up and down |
//! | `definition` | its XML, name, note, autostart, undefine: what stays when it is off |
//! | `edit` | its processors, memory, disks, cards ...: one change at a time, now and at the next boot |
//! | `history` | the versions of its definition, and the way back; raw XML |
//! | `past` | those versions follow their machine to its next host |
//! | `clone` | copies of it, and templates |
//! | `reading` | how what libvirt says gets onto the board |
//! | `backup` | backups of it, the way back to one, checkpoints |
//! | `saved` | saved memory that is older than what its disks hold |
//! | `stall` | why it stands still when a disk cannot be written |
//! | [`change`] | what a report of libvirt means: pure |
//! | `turn` | commands of one machine run one after the other |
//! | `migration/request` | moving, parking |

mod backup;
pub mod change;
mod clone;
mod console;
mod definition;
mod edit;
mod export;
mod guest;
mod history;
pub(crate) mod lifecycle;
pub(crate) mod past;
mod reading;
pub(crate) mod saved;
mod snapshot;
mod stall;
pub(crate) mod turn;

pub(crate) use reading::MIGRATED;
pub use reading::{compare, forget};

use crate::{
    ask::{Ask, ending},
    life::{Life, Posted},
    scope::Scope,
};
use actix::prelude::*;
use archipel_contract::{Command, Condition, DomainId, Entity, EntityId, Fault, Millis, domain::*, host::DomainChange};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use turn::{Desk, Turn, outliving};

/// Messages that may wait for one machine. What does not fit makes the machine be read again.
const MAILBOX: usize = 64;
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

    /// Runs a command when its turn comes, if the machine's state allows it then.
    pub(crate) fn run<C, F>(&mut self, ask: Posted<Ask<C>>, after: After, topics: &'static [&'static str], work: F) -> Answer<C>
    where
        C: Command,
        F: AsyncFnOnce(&Turn, C) -> Result<C::Reply, Fault> + 'static,
    {
        let Some(Ask { command, caller }) = ask.take() else { return Box::pin(fut::ready(ending())) };
        let desk = self.desk.get_or_insert_with(|| self.scope.desks.of(self.id)).clone();
        let turn = Turn { id: self.id, scope: self.scope.clone(), desk, caller };
        let wanted = serde_json::to_value(&command).unwrap_or_default();
        let begun = async move {
            let queued = turn.queue()?;
            let place = turn.desk.turn.clone().lock_owned().await;
            // Whoever still waits for their turn goes with this actor; whoever has it keeps it until libvirt has ended.
            let carried_out = async move {
                turn.check(C::NAME)?;
                turn.expect(topics, Millis(u64::MAX));
                let answer = work(&turn, command).await;
                match &answer {
                    Ok(_) => turn.still_expect(if C::NAME == ShutdownDomain::NAME { Millis::seconds(3600) } else { CONSEQUENCE }),
                    Err(_) => turn.expect_nothing(),
                }
                let reply = answer?;
                // Answered at once; the next command's turn comes when everybody can see what this one did.
                actix_rt::spawn(async move {
                    let _place = (queued, place);
                    turn.settled(C::NAME, &wanted).await;
                });
                Ok(reply)
            };
            outliving(carried_out).await
        };
        Box::pin(begun.into_actor(self).map(move |done, this: &mut Self, ctx| {
            let reply = done?;
            if after == After::Read {
                this.observe(DomainChange::Changed("asked"), ctx);
            }
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

/// A command that is carried out in the machine's turn: its type, what follows it, the events it will cause, and the work.
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
use command;

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
