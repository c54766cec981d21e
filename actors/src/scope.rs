//! What all actors of one hypervisor share, and the port through which they ask for children.

use crate::{
    board::Board, consoles::Consoles, directory::Directory, domain::turn::Desks, migration::Moves, task::Plan, tickets::Tickets,
    usage::Usage, users::Changing,
};
use archipel_contract::{
    CellName, EntityId, Fault, FaultKind, TaskId,
    host::Host,
    port::{Authority, Clock, Documents, Journal, Peers},
};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Whoever keeps the actors of one hypervisor alive. Workers do not supervise: they ask for a child and for its end.
pub trait Keeper {
    /// Begins the actor of this entity, unless it lives. One whose restarts were used up gets a fresh budget.
    fn start(&self, id: EntityId);
    /// Ends the actor of this entity, if there is one.
    fn stop(&self, id: &EntityId);
}

/// Everything the actors of one hypervisor share. They live on one thread.
pub struct Scope {
    /// The cell.
    pub cell: CellName,
    /// The hypervisor's ports.
    pub host: Host,
    /// What is known of its entities.
    pub board: Arc<Board>,
    /// Where actors are found.
    pub directory: Arc<Directory>,
    /// Who may run what.
    pub authority: Arc<dyn Authority>,
    /// What was accepted and must be answered.
    pub journal: Arc<dyn Journal>,
    /// The other agents of the cell, and the cell itself.
    pub peers: Arc<dyn Peers>,
    /// What this agent writes down for itself: its moves.
    pub local: Arc<dyn Documents>,
    /// What the cell keeps: machines that are parked.
    pub shelf: Arc<dyn Documents>,
    /// Whose turn it is on each machine.
    pub desks: Desks,
    /// What is being done with volumes right now.
    pub changing: Changing,
    /// Who has a screen or serial line open.
    pub consoles: Arc<Consoles>,
    /// What its machines take, while somebody looks.
    pub usage: Arc<Usage>,
    /// Whether it was looked whether the host has booted since the agent ran last.
    pub boot_seen: Cell<bool>,
    /// Who may open what once over HTTP.
    pub tickets: Arc<Tickets>,
    /// Machines that come and go.
    pub moves: Moves,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who keeps the children alive.
    pub keeper: Rc<dyn Keeper>,
    /// Tasks that were asked for and not begun.
    pub plans: RefCell<HashMap<TaskId, Plan>>,
    /// Tasks that ended, oldest first.
    pub ended: RefCell<VecDeque<TaskId>>,
    /// Who defines a machine with this name right now: its first event is theirs.
    pub expected: RefCell<HashMap<String, Arc<str>>>,
    /// Actors that are being told to read everything again, because reports did not fit their mailbox.
    pub catching_up: RefCell<HashSet<EntityId>>,
    /// Called whenever everything was listed.
    pub listed: Box<dyn Fn()>,
}

impl Scope {
    /// Waits until an actor has room for the message that makes it read everything again; once at a time for each.
    pub fn catch_up(self: &Rc<Self>, id: EntityId, told: impl Future<Output = Option<()>> + 'static) {
        if self.catching_up.borrow_mut().insert(id.clone()) {
            let scope = self.clone();
            actix_rt::spawn(async move {
                told.await;
                scope.catching_up.borrow_mut().remove(&id);
            });
        }
    }
}

/// How long a short call of libvirt may take.
pub const SHORT: Duration = Duration::from_secs(30);
/// How long a call that starts, stops or defines something may take.
pub const LONG: Duration = Duration::from_secs(120);

/// The answer of a port, or a timeout fault: whoever waits must not wait for ever.
pub async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::new(
            FaultKind::Timeout,
            format!("libvirt did not answer within {} s; it may or may not have done it: look before asking again", limit.as_secs()),
        )),
    }
}
