//! Answering an `iq`: exactly once, to whoever asked, from the address that was asked. And giving back a message that cannot be delivered.

use super::{Exchange, xml::Xml};
use crate::{ns, server::handler::Stanza, server::session::Session, stanza::fault};
use archipel_contract::Fault;
use minidom::Element;
use std::sync::Arc;

/// A stanza error in the words of RFC 6120, for what is wrong with the stanza rather than with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    BadRequest,
    ItemNotFound,
    ServiceUnavailable,
    NotAllowed,
    RemoteServerNotFound,
    FeatureNotImplemented,
    ResourceConstraint,
}

impl Refused {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Refused::BadRequest => ("modify", "bad-request"),
            Refused::ItemNotFound => ("cancel", "item-not-found"),
            Refused::ServiceUnavailable => ("cancel", "service-unavailable"),
            Refused::NotAllowed => ("cancel", "not-allowed"),
            Refused::RemoteServerNotFound => ("cancel", "remote-server-not-found"),
            Refused::FeatureNotImplemented => ("cancel", "feature-not-implemented"),
            Refused::ResourceConstraint => ("wait", "resource-constraint"),
        }
    }

    /// Writes `<error/>` into a stanza.
    pub(crate) fn write(self, xml: &mut Xml, text: Option<&str>) {
        let (kind, condition) = self.words();
        xml.open("error").attr("type", kind).empty(condition, ns::STANZA_ERRORS);
        if let Some(text) = text {
            xml.open_ns("text", ns::STANZA_ERRORS).text(text).close();
        }
        xml.close();
    }
}

/// Where the answer of one `iq` goes.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) session: Arc<Session>,
    id: String,
    /// The address that was asked, as it was written; absent when the server itself was meant.
    from: Option<String>,
}

impl Reply {
    /// The reply to an `iq`, if it has an id.
    pub(crate) fn to(session: &Arc<Session>, iq: &Element) -> Option<Reply> {
        let id = iq.attr("id")?.to_owned();
        Some(Reply { session: session.clone(), id, from: iq.attr("to").map(str::to_owned) })
    }

    fn head(&self, kind: &'static str) -> Xml {
        let mut xml = Xml::stanza("iq");
        xml.attr("type", kind).attr("id", &self.id).attr_opt("from", self.from.as_deref()).attr("to", &self.session.jid().to_string());
        xml
    }

    /// A good answer with this payload.
    pub(crate) fn with(&self, payload: impl FnOnce(&mut Xml)) {
        let mut xml = self.head("result");
        payload(&mut xml);
        self.send(xml);
    }

    /// A good answer with a payload made as a tree.
    pub(crate) fn element(&self, payload: &Element) {
        self.with(|xml| {
            xml.element(payload);
        });
    }

    /// A good answer without a payload.
    pub(crate) fn done(&self) {
        self.with(|_| ());
    }

    /// A stanza error of the plain kind.
    pub(crate) fn refuse(&self, refused: Refused) {
        let mut xml = self.head("error");
        refused.write(&mut xml, None);
        self.send(xml);
    }

    /// A fault as a stanza error.
    pub(crate) fn fault(&self, fault: &Fault) {
        let mut xml = self.head("error");
        xml.element(&fault::print(fault));
        self.send(xml);
    }

    fn send(&self, xml: Xml) {
        if self.session.send(Stanza::from(xml.finish())).is_err() {
            tracing::debug!(session = %self.session.jid(), "an answer was dropped because the queue is full");
        }
    }
}

impl Exchange {
    /// Gives a message back with an error, unless it is one itself.
    pub(super) fn bounce(&self, session: &Session, message: &Element, refused: Refused, text: Option<&str>) {
        if message.attr("type") == Some("error") {
            return;
        }
        let mut xml = Xml::stanza("message");
        xml.attr("type", "error")
            .attr_opt("id", message.attr("id"))
            .attr_opt("from", message.attr("to"))
            .attr("to", &session.jid().to_string());
        refused.write(&mut xml, text);
        if session.send(Stanza::from(xml.finish())).is_err() {
            tracing::debug!(to = %session.jid(), "an error was dropped because the queue is full");
        }
    }
}
