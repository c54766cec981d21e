//! One life of an actor, as seen from outside: how much was sent to it, how much it took, and how it ended.
//!
//! An address dies with its actor, and actix tells nobody why. So every life has a [`Life`] that the actor, its senders and
//! its supervisor share. Senders count what they send, the message counts itself when the actor takes it. A supervisor that
//! sees messages waiting and none taken for a while knows that the actor is frozen. Nothing runs while nothing is sent.

use actix::prelude::*;
use archipel_contract::Fault;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Shared by one incarnation of an actor, those who send to it and its supervisor.
#[derive(Default)]
pub struct Life {
    sent: AtomicU32,
    taken: AtomicU32,
    over: AtomicBool,
    error: Mutex<Option<Box<Fault>>>,
}

impl Life {
    /// How many messages were sent and not yet taken, and how many were taken.
    pub fn progress(&self) -> (u32, u32) {
        let taken = self.taken.load(Ordering::Acquire);
        (self.sent.load(Ordering::Acquire).wrapping_sub(taken), taken)
    }
    /// The actor says why it cannot go on; it stops right after.
    pub fn fail(&self, fault: Fault) {
        *self.error.lock() = Some(Box::new(fault));
    }
    /// The reason the actor gave, if it gave one.
    pub fn error(&self) -> Option<Fault> {
        self.error.lock().take().map(|b| *b)
    }
    /// Nothing may begin any more. actix polls a dying actor once more; that must not run a command nobody waits for.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }
    /// Whether the life is over.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// Counts one message as sent when made and as taken when dropped.
pub struct Beat(Arc<Life>);

impl Beat {
    /// One message is on its way.
    pub fn sent(life: &Arc<Life>) -> Beat {
        life.sent.fetch_add(1, Ordering::AcqRel);
        Beat(life.clone())
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.taken.fetch_add(1, Ordering::AcqRel);
    }
}

/// A message on its way, with its beat. Handlers take the message with [`Posted::take`], which drops the beat.
pub struct Posted<M: Message> {
    message: M,
    beat: Beat,
}

impl<M: Message> Message for Posted<M> {
    type Result = M::Result;
}

impl<M: Message> Posted<M> {
    /// The message, or `None` when the actor's life is over and nothing may begin any more.
    pub fn take(self) -> Option<M> {
        (!self.beat.0.is_over()).then_some(self.message)
    }
}

/// The way to one life of an actor. Cloned freely, never kept for long: it dies with the actor.
pub struct Post<A: Actor> {
    address: Addr<A>,
    life: Arc<Life>,
    nudge: Nudge,
}

impl<A: Actor> Clone for Post<A> {
    fn clone(&self) -> Self {
        Post { address: self.address.clone(), life: self.life.clone(), nudge: self.nudge.clone() }
    }
}

/// Wakes whoever checks for frozen actors, after the first message to any of them. Cheap to pull when already pulled.
#[derive(Clone, Default)]
pub struct Nudge(Arc<(AtomicBool, tokio::sync::Notify)>);

impl Nudge {
    /// Something was sent.
    pub fn pull(&self) {
        if !self.0.0.swap(true, Ordering::AcqRel) {
            self.0.1.notify_one();
        }
    }
    /// Waits until something was sent since the last [`Nudge::rest`].
    pub async fn pulled(&self) {
        while !self.0.0.load(Ordering::Acquire) {
            self.0.1.notified().await;
        }
    }
    /// Nothing is under way any more.
    pub fn rest(&self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Why a message could not be posted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// The mailbox is full.
    Full,
    /// That life is over; ask the directory for the next one.
    Gone,
}

impl<A: Actor<Context = Context<A>>> Post<A> {
    /// The way to an actor that is about to begin.
    pub fn new(address: Addr<A>, life: Arc<Life>, nudge: Nudge) -> Post<A> {
        Post { address, life, nudge }
    }
    /// Whether this is the way to that life.
    pub fn is_of(&self, life: &Arc<Life>) -> bool {
        Arc::ptr_eq(&self.life, life)
    }
    fn posted<M: Message>(&self, message: M) -> Posted<M> {
        let posted = Posted { message, beat: Beat::sent(&self.life) };
        self.nudge.pull();
        posted
    }
    /// Posts a message if there is room for it now.
    pub fn tell<M>(&self, message: M) -> Result<(), Undelivered>
    where
        A: Handler<Posted<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.address.try_send(self.posted(message)).map_err(|e| match e {
            SendError::Full(_) => Undelivered::Full,
            SendError::Closed(_) => Undelivered::Gone,
        })
    }
    /// Posts a message, waiting for room, and waits for the answer. `None`: the actor ended before it answered.
    pub fn ask<M>(&self, message: M) -> impl Future<Output = Option<M::Result>> + Send + use<A, M>
    where
        A: Handler<Posted<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let request = self.address.send(self.posted(message));
        async move { request.await.ok() }
    }
}
