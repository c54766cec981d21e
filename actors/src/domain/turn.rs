//! A command's turn on a machine: commands of one machine run one after the other, each checked when its turn comes, and each
//! is answered only when what it did is known here.
//!
//! ```text
//!   asked --> waiting (at most TURNS) --> checked against the policy --> carried out --> settled --> the next one's turn
//!                                                                             \--> written down and settled --> answered
//! ```
//! While a machine is copied, which takes long, its turn is free and commands are refused when theirs comes: nobody waits for hours.
//!
//! libvirt goes on with a call when the actor that asked for it dies. So what is carried out outlives the actor and keeps the turn ([`outliving`]);
//! a start that nobody waits for any more keeps the machine occupied until libvirt has ended it ([`Turn::bring_up`]).
//!
//! What is no command and must not meet one half-way takes the turn as well: giving a machine up, and telling the authority that it
//! leaves. Else a start that was found rightful could reach libvirt when the right is another host's already.
//!
//! libvirt answers a call before its event has come round. Without waiting for that, whoever pauses a machine and resumes it at
//! once would be told that it is running already. The actor itself answers at once, so that the dispatcher can write the end
//! down meanwhile; it is the dispatcher who waits for [`known`] before it tells anybody.

use super::in_control;
use crate::board::Board;
use crate::scope::{SHORT, Scope, within};
use archipel_contract::{
    Caller, Command, DomainId, Entity, EntityId, Fault, Millis,
    command::Done,
    domain::{CloneDomain, DomainRecord, ForceOffDomain, Settled, may, settle},
    event::Cause,
    port::Operation,
};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

/// Commands that may wait for their turn on one machine.
const TURNS: usize = 16;
/// How long an answer waits at most for the event of what was done.
const SETTLE: Duration = Duration::from_secs(2);

/// What commands of one machine share; made with the first command.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) turn: Arc<Mutex<()>>,
    waiting: Cell<usize>,
    /// How many copies of it are being made. Meanwhile it is not changed, but copied once more it can be.
    copies: Cell<usize>,
    /// Something about the machine was told.
    pub(crate) news: Notify,
    pub(crate) consequence: RefCell<Option<Consequence>>,
    occupied: RefCell<Option<Occupation>>,
}

/// Long work that must not be met half-way by some commands, and lets others through.
struct Occupation {
    /// What goes on: "is being backed up".
    words: &'static str,
    lets_through: fn(&str) -> bool,
}

/// A machine that is occupied, until this is dropped.
pub(crate) struct Occupied(Rc<Desk>);

impl Drop for Occupied {
    fn drop(&mut self) {
        *self.0.occupied.borrow_mut() = None;
    }
}

impl Desk {
    /// Refuses a command that must not meet what goes on.
    pub(crate) fn lets_through(&self, command: &str, name: &str) -> Result<(), Fault> {
        match &*self.occupied.borrow() {
            Some(now) if !(now.lets_through)(command) => {
                Err(Fault::busy(format!("{name} {}; wait until that has ended, or cancel its task", now.words)))
            }
            _ => Ok(()),
        }
    }
}

/// The desks of one hypervisor's machines. They outlive an actor that fails while somebody else has the turn.
#[derive(Default)]
pub struct Desks(RefCell<HashMap<DomainId, Weak<Desk>>>);

impl Desks {
    /// The desk of a machine.
    pub(crate) fn of(&self, id: DomainId) -> Rc<Desk> {
        let mut desks = self.0.borrow_mut();
        if let Some(desk) = desks.get(&id).and_then(Weak::upgrade) {
            return desk;
        }
        if desks.len() == desks.capacity() {
            desks.retain(|_, desk| desk.strong_count() > 0);
        }
        let desk = Rc::<Desk>::default();
        desks.insert(id, Rc::downgrade(&desk));
        desk
    }
}

/// The machine's turn: while it is held, no command is carried out on it.
pub(crate) struct Taken {
    _place: OwnedMutexGuard<()>,
    /// Others find the same desk for as long as it is held.
    _desk: Rc<Desk>,
}

/// The machine is being copied: until this is dropped, commands that come to their turn are refused at once instead of waiting.
pub(crate) struct Copied(Rc<Desk>);

impl Drop for Copied {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get().saturating_sub(1));
    }
}

/// Refuses while the machine is being copied.
pub(crate) fn not_copied(scope: &Scope, id: DomainId) -> Result<(), Fault> {
    if scope.desks.of(id).copies.get() > 0 {
        return Err(Fault::busy("it is being copied; wait until the task has ended, or cancel it"));
    }
    Ok(())
}

/// Waits for the machine's turn.
pub(crate) async fn take(scope: &Scope, id: DomainId) -> Result<Taken, Fault> {
    let desk = scope.desks.of(id);
    match tokio::time::timeout(SHORT, desk.turn.clone().lock_owned()).await {
        Ok(place) => Ok(Taken { _place: place, _desk: desk }),
        Err(_) => Err(Fault::busy("a command is being carried out on this machine; ask again when it has ended")),
    }
}

/// Goes on when whoever waits for it is gone: libvirt does not stop because an actor of ours died, and what is held (a turn, a machine that is
/// occupied) is held until it has ended. A panic in it is that of whoever waits.
pub(crate) async fn outliving<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    match actix_rt::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and everybody with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// What goes through while libvirt has not ended a call that brings the machine up: only what stops it.
fn may_while_it_comes_up(command: &str) -> bool {
    command == ForceOffDomain::NAME
}

/// The event that a command will cause, so that it can be told who caused it.
pub(crate) struct Consequence {
    pub(crate) cause: Cause,
    pub(crate) topics: &'static [&'static str],
    pub(crate) until: Millis,
}

/// One command's turn on a machine.
pub(crate) struct Turn {
    pub(crate) id: DomainId,
    pub(crate) scope: Rc<Scope>,
    pub(crate) desk: Rc<Desk>,
    pub(crate) caller: Caller,
}

/// A place in the queue, given back when the command ends, however it ends.
pub(crate) struct Queued(Rc<Desk>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}

impl Turn {
    pub(crate) fn queue(&self) -> Result<Queued, Fault> {
        if self.desk.waiting.get() >= TURNS {
            return Err(Fault::busy("too many commands wait for this machine; ask again when they are done"));
        }
        self.desk.waiting.set(self.desk.waiting.get() + 1);
        Ok(Queued(self.desk.clone()))
    }

    pub(crate) fn entity(&self) -> Result<Arc<Entity>, Fault> {
        let known = self.scope.board.get(&EntityId::Domain(self.id));
        known.ok_or_else(|| Fault::not_found(format!("there is no virtual machine {}; list them again", self.id)))
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.entity().map_or_else(|_| self.id.to_string().into(), |e| e.name.clone())
    }

    /// From now on it is being copied. Whoever asks has its turn.
    pub(crate) fn copied(&self) -> Copied {
        self.desk.copies.set(self.desk.copies.get() + 1);
        Copied(self.desk.clone())
    }

    /// Keeps commands away that must not meet what now begins. Whoever asks has the turn, and it is occupied until this is dropped.
    pub(crate) fn occupy(&self, words: &'static str, lets_through: fn(&str) -> bool) -> Occupied {
        *self.desk.occupied.borrow_mut() = Some(Occupation { words, lets_through });
        Occupied(self.desk.clone())
    }

    /// The answer of a call that brings the machine up. Whoever waited longer than that is told so, and has the turn no more; but until libvirt
    /// has ended the call, nothing that must not meet it begins.
    pub(crate) async fn bring_up<T, C>(&self, limit: Duration, words: &'static str, call: C) -> Result<T, Fault>
    where
        T: 'static,
        C: Future<Output = Result<T, Fault>> + 'static,
    {
        let occupied = self.occupy(words, may_while_it_comes_up);
        let call = async move {
            let _occupied = occupied;
            call.await
        };
        within(limit, outliving(call)).await
    }

    pub(crate) fn check(&self, command: &str) -> Result<(), Fault> {
        let entity = self.entity()?;
        self.desk.lets_through(command, &entity.name)?;
        in_control(&entity)?;
        if command != CloneDomain::NAME && self.desk.copies.get() > 0 {
            let text = format!("{} is being copied; wait until the task has ended, or cancel it", entity.name);
            return Err(Fault::busy(text));
        }
        match entity.domain() {
            Some(facts) => may(command, facts).check(&entity.name),
            None => Err(Fault::internal(format!("{} is not a virtual machine; please report this", self.id))),
        }
    }

    pub(crate) fn expect(&self, topics: &'static [&'static str], time: Millis) {
        if !topics.is_empty() {
            let until = Millis(self.scope.clock.monotonic().0.saturating_add(time.0));
            let cause = crate::ask::cause(&self.caller);
            *self.desk.consequence.borrow_mut() = Some(Consequence { cause, topics, until });
        }
    }

    /// The command is done: if its event has not come yet, it is taken for its consequence that much longer.
    pub(crate) fn still_expect(&self, time: Millis) {
        if let Some(consequence) = self.desk.consequence.borrow_mut().as_mut() {
            consequence.until = Millis(self.scope.clock.monotonic().0.saturating_add(time.0));
        }
    }

    pub(crate) fn expect_nothing(&self) {
        *self.desk.consequence.borrow_mut() = None;
    }

    /// Waits until what the command wanted is known to be so, or cannot be told apart, or long enough.
    pub(crate) async fn settled(&self, command: &str, wanted: &Value) {
        let so = async {
            loop {
                let mut news = std::pin::pin!(self.desk.news.notified());
                news.as_mut().enable();
                let known = self.scope.board.get(&EntityId::Domain(self.id));
                if shows(known.as_deref(), self.id, command, wanted) {
                    return;
                }
                news.await;
            }
        };
        if tokio::time::timeout(SETTLE, so).await.is_err() {
            tracing::debug!(domain = %self.id, command, "the next command's turn came before the event of this one");
        }
    }

    pub(crate) fn done(&self, what: &str) -> Done {
        Done::new(format!("{} {what}", self.name()))
    }
}

/// Whether what is known of the machine is what the command wanted, or cannot be told apart from it.
fn shows(known: Option<&Entity>, id: DomainId, command: &str, wanted: &Value) -> bool {
    let record = known.and_then(|e| e.domain().map(|f| DomainRecord { id, name: e.name.clone(), facts: f.clone() }));
    settle(command, wanted, record.as_ref()) != Settled::NoEffect
}

/// Waits until everybody who looks at the board can see what the operation did, or long enough.
pub(crate) async fn known(board: &Board, operation: &Operation) {
    let EntityId::Domain(id) = operation.target else { return };
    let fits = |known: Option<&Entity>| shows(known, id, &operation.command, &operation.arguments);
    if fits(board.get(&operation.target).as_deref()) {
        return;
    }
    if tokio::time::timeout(SETTLE, board.until(&operation.target, fits)).await.is_err() {
        tracing::debug!(domain = %id, command = operation.command, "answered before its event came");
    }
}
