//! The small services clients ask for when they log in, and messages between people. What is not offered is refused in the
//! words of RFC 6120, so that no client waits.

use super::{
    Exchange,
    reply::{Refused, Reply},
    roster::local,
    words,
};
use crate::{ns, server::handler::Stanza, server::session::Session, stanza::set_attr};
use archipel_contract::Entity;
use minidom::Element;
use rxml::xml_ncname;
use std::sync::Arc;

impl Exchange {
    /// An `iq` that none of the larger services took. `entity` is `None` for the cell and for the own account.
    pub(super) fn on_service(&self, account: bool, entity: Option<&Arc<Entity>>, set: bool, payload: &Element, reply: &Reply) {
        let space = payload.ns();
        match (payload.name(), &*space, set) {
            ("ping", ns::PING, false) => reply.done(),
            ("session", "urn:ietf:params:xml:ns:xmpp-session", true) if entity.is_none() => reply.done(),
            ("query", "jabber:iq:version", false) if !account => reply.with(|xml| {
                xml.open_ns("query", "jabber:iq:version").leaf("name", "Archipel").leaf("version", &self.version);
            }),
            ("time", "urn:xmpp:time", false) if !account => reply.with(|xml| {
                let now = self.clock.now().to_string();
                xml.open_ns("time", "urn:xmpp:time").leaf("tzo", "+00:00").leaf("utc", &now);
            }),
            ("query", "jabber:iq:last", false) if !account => reply.with(|xml| {
                // For an entity: how long it has been in its state. For the cell: how long its process runs.
                let seconds = match entity {
                    Some(entity) => self.clock.now().0.saturating_sub(entity.since.0) / 1000,
                    None => self.clock.monotonic().0 / 1000,
                };
                xml.open_ns("query", "jabber:iq:last").attr("seconds", &seconds.to_string());
            }),
            ("vCard", "vcard-temp", false) => reply.with(|xml| {
                xml.open_ns("vCard", "vcard-temp");
                match entity {
                    Some(entity) => {
                        xml.leaf("FN", &entity.name).leaf("NICKNAME", &entity.name).leaf("DESC", &words::about(entity));
                    }
                    None if !account => {
                        xml.leaf("FN", &format!("Archipel cell {}", self.cell));
                    }
                    None => {}
                }
            }),
            // Nothing is kept for people, and clients take an empty answer better than none.
            ("query", "jabber:iq:private", false) if account => reply.with(|xml| {
                xml.open_ns("query", "jabber:iq:private");
                for wanted in payload.children().take(1) {
                    let mut empty = wanted.clone();
                    empty.take_nodes();
                    xml.element(&empty);
                }
            }),
            ("blocklist", "urn:xmpp:blocking", false) if account => reply.with(|xml| {
                xml.empty("blocklist", "urn:xmpp:blocking");
            }),
            // One's own chats go to the session that wrote, so there is nothing to copy; clients ask without looking.
            ("enable" | "disable", "urn:xmpp:carbons:2", true) if account => reply.done(),
            ("pubsub", ns::PUBSUB, false) if account => reply.refuse(Refused::ItemNotFound),
            ("pubsub", ns::PUBSUB, true) if account => reply.refuse(Refused::FeatureNotImplemented),
            _ => reply.refuse(Refused::ServiceUnavailable),
        }
    }

    /// A message from one person to another, or to oneself (`to` is `None`), by the rules of RFC 6121 8.5.
    pub(super) fn route_message(&self, session: &Session, to: Option<String>, resource: Option<String>, mut message: Element) {
        // Pushes of the feed come from the cell alone; a client that forgets to look at the sender must not be fooled.
        if message.has_child("event", ns::PUBSUB_EVENT) {
            return self.bounce(session, &message, Refused::NotAllowed, None);
        }
        let name = to.unwrap_or_else(|| local(session));
        set_attr(&mut message, xml_ncname!("from"), &session.jid().to_string());
        let kind = message.attr("type").unwrap_or("normal").to_owned();
        let targets: Vec<Arc<Session>> = {
            let people = self.people.lock();
            let person = people.person(&name);
            let exact = resource.as_deref().and_then(|r| person?.sessions.get(r)).map(|h| h.session.clone());
            match (exact, kind.as_str()) {
                (Some(session), _) => vec![session],
                // A resource that is gone: only a chat goes on to the others.
                (None, "normal" | "headline" | "groupchat" | "error") if resource.is_some() => Vec::new(),
                (None, "groupchat" | "error") => Vec::new(),
                (None, _) => person
                    .into_iter()
                    .flat_map(|p| p.sessions.values())
                    .filter(|h| h.priority().is_some_and(|p| p >= 0))
                    .map(|h| h.session.clone())
                    .collect(),
            }
        };
        if targets.is_empty() && !matches!(kind.as_str(), "headline" | "error") {
            return self.bounce(session, &message, Refused::ServiceUnavailable, None);
        }
        let stanza = Stanza::from(&message);
        let mut taken = false;
        for target in &targets {
            taken |= target.send(stanza.clone()).is_ok();
        }
        if !taken && !targets.is_empty() {
            self.bounce(session, &message, Refused::ResourceConstraint, None);
        }
    }
}
