//! Who does it: one actor per noun on actix, and the routes by which every surface reaches them.
//!
//! The actors know the contract's ports and nothing of libvirt, XMPP or the database. They are thin: what they know stands
//! on the [`board`], what a report means is pure ([`domain::change`]), and a request comes only through [`dispatch`].
//!
//! | file | holds |
//! |---|---|
//! | [`routes`] | THE list of commands, and the catalog made from it |
//! | [`dispatch`] | the way of a request: authorise, check, journal, run once, answer |
//! | [`ask`] [`life`] | any command as a message; one life of an actor as seen from outside |
//! | [`directory`] | from an id to the way to its actor |
//! | [`board`] | what is known of each entity; the only way to tell of a change |
//! | [`hypervisor`] [`domain`] [`storage_pool`] [`network`] [`task`] | the actors |
//! | [`noun`] | what the actors of nouns that change rarely have in common: reading, comparing, telling |
//! | [`reconcile`] | makes the board equal to what libvirt lists |
//! | [`autostart`] | machines that are started in their order after a boot of their host |
//! | [`making`] | machines that are made in several steps, of which all are left or none |
//! | `import` | machines from elsewhere |
//! | [`diary`] | the last lines of the log |
//! | [`consoles`] | who has a screen or serial line open |
//! | [`usage`] | what machines and host take, while somebody looks |
//! | [`tickets`] | who may open what once over HTTP |
//! | [`users`] | who in the whole cell uses a volume; asked before anything is taken from one |
//! | [`settle`] | what became of an operation whose end nobody saw |
//! | [`scope`] | what the actors of one hypervisor share; the port for children |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod ask;
pub mod autostart;
pub mod board;
pub mod consoles;
mod creation;
pub mod diary;
pub mod directory;
pub mod dispatch;
pub mod domain;
mod glue;
pub mod hypervisor;
mod import;
pub mod life;
pub mod making;
pub mod metrics;
pub mod migration;
pub mod network;
pub mod noun;
pub mod reconcile;
pub mod routes;
pub mod scope;
pub mod settle;
pub mod storage_pool;
pub mod strangers;
pub mod task;
pub mod tickets;
pub mod transfers;
pub mod usage;
pub mod users;
pub mod work;

pub use life::Life;
