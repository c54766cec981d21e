//! What the embedded server tells the exchange, and nothing else: who is here, and what they said.
//!
//! ```text
//!            opened            stanza*           closed
//!   (bound) --------> live ------------------------------> gone
//!                     | ^                          ^
//!           suspended | | resumed                  | the window is over, or too much queued
//!                     v |                          |
//!                   suspended ---------------------+
//! ```
//! For one session these calls never overlap and never change their order. For different sessions they come from different threads.

use super::session::Session;
use crate::stream::wire::BoxedIo;
use std::sync::Arc;
use tokio::sync::oneshot;

pub use super::session::QueueFull;
pub use crate::stream::{Stanza, StreamCondition};

/// Where the connection of a node is handed over that became a carriage.
pub type Berth = oneshot::Sender<BoxedIo>;

/// Whoever serves the sessions. No method may block; each may spawn.
pub trait SessionHandler: Send + Sync + 'static {
    /// A resource was bound.
    fn opened(&self, session: &Arc<Session>);
    /// Ends when the session's stanzas may be read; until then they wait.
    fn ready(&self, _session: &Arc<Session>) -> archipel_contract::BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    /// An `iq`, `message` or `presence`, in the order sent. `from` is stamped already: the session's full JID. A node's session
    /// keeps the `from` it gave when that is an address of the cell and no person's; the handler checks the lease.
    fn stanza(&self, session: &Arc<Session>, stanza: minidom::Element);
    /// The connection broke. What is sent to the session now waits, within bounds, for its return.
    fn suspended(&self, session: &Arc<Session>);
    /// It came back; nothing is missing.
    fn resumed(&self, session: &Arc<Session>);
    /// Gone for good: closed, replaced, or not back in time. Nothing comes after this.
    fn closed(&self, session: &Arc<Session>);
    /// A node asks for a carriage instead of a resource. Where its connection is handed over, once, if that node was asked for it.
    fn berth(&self, _node: &str, _carriage: &str) -> Option<Berth> {
        None
    }
    /// All streams end for this reason, and whatever else the server carries ends, too.
    fn dismissed(&self, _why: StreamCondition) {}
}
