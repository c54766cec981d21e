//! Everything XMPP: streams, the embedded server, the exchange, the node link, the client and its command line.
//!
//! | module | is |
//! |---|---|
//! | [`ns`] | namespaces |
//! | [`stanza`] | what stanzas carry, as types |
//! | [`stream`] | XML over bytes and over frames, strictly bounded |
//! | [`sasl`], [`tls`], [`accounts`] | who may come in, and how |
//! | [`membership`] | which hosts belong to the cell: authority, tokens, certificates |
//! | [`sm`] | what was received and what was not, over broken connections |
//! | [`server`] | connections and sessions of the embedded server |
//! | [`exchange`] | the cell: who is where, who may what, and who is told |
//! | [`client`] | a client for the command line, tests and the link |
//! | [`link`] | the agent's side of the node link |
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod accounts;
pub mod client;
pub mod exchange;
pub mod link;
pub mod membership;
pub mod ns;
pub mod sasl;
pub mod server;
pub mod sm;
pub mod stanza;
pub mod stream;
pub mod tls;
