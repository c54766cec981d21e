//! The namespaces we speak, ours and other people's.

/// Stanzas of a stream between a client and a server.
pub const CLIENT: &str = "jabber:client";
/// The stream itself: its header, features and errors.
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Stream errors (RFC 6120 4.9).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Stanza errors (RFC 6120 8.3).
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// STARTTLS (RFC 6120 5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding (RFC 6120 7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Stream management (XEP-0198).
pub const SM: &str = "urn:xmpp:sm:3";
/// Ad-hoc commands (XEP-0050).
pub const COMMANDS: &str = "http://jabber.org/protocol/commands";
/// Data forms (XEP-0004).
pub const DATA_FORMS: &str = "jabber:x:data";
/// JSON containers (XEP-0335).
pub const JSON: &str = "urn:xmpp:json:0";
/// Publish and subscribe (XEP-0060).
pub const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// What pubsub pushes (XEP-0060).
pub const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// Pages of a long list (XEP-0059).
pub const RSM: &str = "http://jabber.org/protocol/rsm";
/// Ping (XEP-0199).
pub const PING: &str = "urn:xmpp:ping";

/// The operation a command belongs to (ours).
pub const OP: &str = "urn:archipel:op:0";
/// A fault word for word (ours).
pub const FAULT: &str = "urn:archipel:fault:0";
/// The link between an agent and the exchange (ours).
pub const NODE: &str = "urn:archipel:node:0";
/// Coming into the cell with a token, before any login (ours).
pub const JOIN: &str = "urn:archipel:join:0";
/// A connection of an agent that carries what tickets open, instead of stanzas (ours).
pub const CARRIAGE: &str = "urn:archipel:carriage:0";
/// The cell's authority and documents, as agents ask them (ours).
pub const AUTHORITY: &str = "urn:archipel:authority:0";
/// What machines take, for whoever looks (ours).
pub const USAGE: &str = "urn:archipel:usage:0";
/// The pubsub node with everything that changes in the cell (ours).
pub const FEED: &str = "urn:archipel:feed:0";
