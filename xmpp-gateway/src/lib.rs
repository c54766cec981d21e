//! Everything XMPP: streams, the embedded server, the exchange, the node link, the client and its command line.
//!
//! | module | is |
//! |---|---|
//! | [`ns`] | namespaces |
//! | [`stanza`] | what stanzas carry, as types |
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod ns;
pub mod stanza;
pub mod server;
pub mod sm;
pub mod stream;
pub mod client;
pub mod sasl;
pub mod link;
pub mod tls;
pub mod accounts;
pub mod exchange;
