//! Namespaces of the stream itself. Those of stanzas' payloads are with the stanzas.

/// Ordinary stanzas between a client and its server.
pub const CLIENT: &str = "jabber:client";
/// The stream's own elements.
pub const STREAMS: &str = "http://etherx.jabber.org/streams";
/// Conditions of a stream error.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// STARTTLS.
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL.
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding.
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// The session request of RFC 3921, which old clients still send.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Conditions of a stanza error.
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Stream management, XEP-0198.
pub const SM: &str = "urn:xmpp:sm:3";
/// Framing over WebSocket, RFC 7395.
pub const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
/// Client state indication, XEP-0352.
pub const CSI: &str = "urn:xmpp:csi:0";
/// Ping, XEP-0199.
pub const PING: &str = "urn:xmpp:ping";
