//! What can be said in Archipel, and nothing about who says it or over which wire.
//!
//! This crate is the vocabulary: ids, one file per noun (state, spec, commands, events, pure policy, port), the closed
//! fault list and the ports of no single noun. It knows no actix, no tokio, no XML and no libvirt; everything else in the
//! workspace depends on it and it depends on none of it.
//!
//! | file | holds |
//! |---|---|
//! | [`command`] | the [`Command`] trait: what one thing a person may ask is made of |
//! | [`event`] | the [`Event`] envelope: what is pushed when something changed |
//! | [`entity`] | the [`Entity`] everybody sees, whatever its noun |
//! | [`fault`] | the closed list of ways a request can fail |
//! | [`id`], [`mod@unit`] | names, addresses, sizes and times, each a type of its own |
//! | [`access`] | the one place where a role is compared with what a command needs |
//! | [`catalog`] | the generated list of all commands, read by every surface |
//! | [`port`] | what the inside needs from the outside that belongs to no single noun |
//! | [`migration`], [`mod@ownership`] | moving a machine, and who may run it |
//! | [`cell`] | the cell itself: who belongs to it |
//! | [`hypervisor`] [`domain`] [`backup`] [`storage_pool`] [`volume`] [`network`] [`task`] | the nouns |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod access;
pub mod backup;
pub mod catalog;
pub mod cell;
pub mod command;
pub mod domain;
pub mod entity;
pub mod event;
pub mod fault;
pub mod host;
pub mod hypervisor;
pub mod id;
pub mod migration;
pub mod network;
pub mod ownership;
pub mod policy;
pub mod port;
pub mod storage_pool;
pub mod task;
pub mod ticket;
pub mod unit;
pub mod usage;
pub mod volume;
pub mod work;

#[cfg(feature = "fake")]
pub mod conformance;
#[cfg(feature = "fake")]
pub mod fake;

pub use access::{Caller, Role};
pub use command::{Command, Effect, Target};
pub use entity::{Condition, Entity, Facts, Kind};
pub use event::{Cause, Event};
pub use fault::{Fault, FaultKind};
pub use id::{CellName, DomainId, EntityId, HypervisorName, MoveId, NetworkId, OperationId, PoolId, TaskId};
pub use ownership::{Epoch, Hold, Ownership, OwnershipStep, RightToRun, Seq};
pub use policy::Verdict;
pub use unit::{Bytes, Millis, Timestamp};

/// A boxed future, so that ports need no runtime of their own.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
