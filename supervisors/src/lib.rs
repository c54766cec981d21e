//! Who keeps it alive: restart policy, supervisor, the tree, shutdown.
//!
//! | file | holds |
//! |---|---|
//! | [`tree`] | the one picture of who is under whom; [`tree::start`] |
//! | [`policy`] | when to restart: pure |
//! | [`supervisor`] | a factory and a watched task per actor |
//! | [`restarts`] | every restart with its cause |
//! | `health` | how an agent is |
//! | `usage` | what machines take, as other threads see it |
//! | `interrupted` | operations that a crash interrupted |
//! | `shutdown` | the order in which an agent ends |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod health;
mod interrupted;
pub mod policy;
pub use archipel_actors::{consoles, diary, tickets, transfers};
pub mod restarts;
mod shutdown;
pub mod supervisor;
pub mod tree;
mod usage;
