//! The embedded XMPP server: streams of people and of agents, up to the bound resource. What stanzas mean is the handler's.

pub mod handler;
pub mod session;

pub use handler::{SessionHandler, Stanza, StreamCondition};
pub use session::{Phase, QueueBounds, QueueFull, Session, Transport};
