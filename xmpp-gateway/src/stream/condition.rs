//! Why a stream ends.

use super::ns;

/// The conditions of RFC 6120 section 4.9.3 that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamCondition {
    /// Well-formed, but not what belongs there.
    BadFormat,
    /// Another stream took this one's place.
    Conflict,
    /// The peer did not answer, or did not log in, in time.
    ConnectionTimeout,
    /// The stream's `to` is not a domain served here.
    HostUnknown,
    /// Something inside the server failed.
    InternalServerError,
    /// A `from` that is not the stream's own.
    InvalidFrom,
    /// The stream or its content is in a namespace not served here.
    InvalidNamespace,
    /// Not XML.
    NotWellFormed,
    /// Something that needs a login came before it.
    NotAuthorized,
    /// A limit of ours was crossed.
    PolicyViolation,
    /// The stream is reset because what it rests on changed (for example, the account was removed).
    Reset,
    /// Too many connections, or too much queued.
    ResourceConstraint,
    /// XML that XMPP forbids: a DTD, an entity, a comment, a processing instruction.
    RestrictedXml,
    /// The server stops.
    SystemShutdown,
    /// A top-level element that is no stanza and no negotiation.
    UnsupportedStanzaType,
    /// A stream of another version than 1.0.
    UnsupportedVersion,
}

impl StreamCondition {
    /// The element's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            StreamCondition::BadFormat => "bad-format",
            StreamCondition::Conflict => "conflict",
            StreamCondition::ConnectionTimeout => "connection-timeout",
            StreamCondition::HostUnknown => "host-unknown",
            StreamCondition::InternalServerError => "internal-server-error",
            StreamCondition::InvalidFrom => "invalid-from",
            StreamCondition::InvalidNamespace => "invalid-namespace",
            StreamCondition::NotWellFormed => "not-well-formed",
            StreamCondition::NotAuthorized => "not-authorized",
            StreamCondition::PolicyViolation => "policy-violation",
            StreamCondition::Reset => "reset",
            StreamCondition::ResourceConstraint => "resource-constraint",
            StreamCondition::RestrictedXml => "restricted-xml",
            StreamCondition::SystemShutdown => "system-shutdown",
            StreamCondition::UnsupportedStanzaType => "unsupported-stanza-type",
            StreamCondition::UnsupportedVersion => "unsupported-version",
        }
    }
}

/// A condition with a sentence for whoever reads the log at the other end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", condition.name())]
pub struct StreamError {
    /// The condition.
    pub condition: StreamCondition,
    /// The sentence.
    pub text: String,
}

impl StreamError {
    /// A condition and its sentence.
    pub fn new(condition: StreamCondition, text: impl Into<String>) -> StreamError {
        StreamError { condition, text: text.into() }
    }

    /// The `<stream:error/>` element, complete with its namespace declarations.
    pub fn to_xml(&self) -> String {
        let mut xml = format!("<stream:error xmlns:stream='{}'><{} xmlns='{}'/>", ns::STREAMS, self.condition.name(), ns::STREAM_ERRORS);
        if !self.text.is_empty() {
            xml.push_str("<text xmlns='");
            xml.push_str(ns::STREAM_ERRORS);
            xml.push_str("' xml:lang='en'>");
            super::escape_into(&mut xml, &self.text);
            xml.push_str("</text>");
        }
        xml.push_str("</stream:error>");
        xml
    }
}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> StreamError {
        StreamError { condition, text: String::new() }
    }
}
