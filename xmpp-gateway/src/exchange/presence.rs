//! Presence: people see the entities in their roster, and the other sessions of their own account.
//!
//! ```text
//!   session:  bound --initial presence--> (roster is read) --> greeted --unavailable, closed--> gone
//! ```
//! A greeted session is told of a change only when an entity *looks* different (`look.rs`), and only about hypervisors and what
//! its person pinned. The resource of an entity is the host it is on.

use super::{
    Exchange, Place, disco,
    location::{Change, Locations},
    look::{Look, look},
    people::{Here, People},
    reply::Refused,
    roster::{self, local},
    xml::Xml,
};
use crate::{server::handler::Stanza, server::session::Session, stanza::set_attr};
use archipel_contract::{Entity, EntityId, Kind, port::RosterEntry};
use minidom::Element;
use rxml::xml_ncname;
use std::sync::Arc;

fn send(session: &Session, xml: Xml) {
    if session.send(Stanza::from(xml.finish())).is_err() {
        tracing::debug!(to = %session.jid(), "a presence was dropped because the queue is full");
    }
}

fn full(entity: &Entity) -> String {
    format!("{}/{}", entity.jid(), entity.host)
}

fn write(session: &Session, entity: &Entity, look: &Look) {
    let mut xml = Xml::stanza("presence");
    xml.attr("from", &full(entity)).attr("to", &session.jid().to_string());
    if !look.available {
        xml.attr("type", "unavailable");
    }
    if let Some(show) = look.show {
        xml.leaf("show", show);
    }
    xml.leaf("status", &look.status);
    if look.available {
        xml.leaf("priority", &look.priority.to_string());
        disco::write_caps(&mut xml, Some(entity.kind()));
    }
    send(session, xml);
}

/// A presence of one of the plain types (`subscribed`, `unavailable` ...).
fn plain(session: &Session, from: &str, to: &str, kind: &str) {
    let mut xml = Xml::stanza("presence");
    xml.attr("from", from).attr("to", to).attr("type", kind);
    send(session, xml);
}

impl Exchange {
    /// Shows an entity to a session as it is now.
    pub(super) fn show(&self, session: &Session, entity: &Entity) {
        write(session, entity, &look(entity));
    }

    /// Tells a session that an entity is not shown any more.
    pub(super) fn hide(&self, session: &Session, entity: &Entity) {
        plain(session, &full(entity), &session.jid().to_string(), "unavailable");
    }

    /// Tells whoever sees them of changed entities. Called while the location table is locked.
    pub(super) fn tell_presence(&self, _table: &Locations, changes: &[Change]) {
        let people = self.people.lock();
        if people.sessions() == 0 {
            return;
        }
        for change in changes {
            let id = &change.event.entity;
            // Nearly every change is about something nobody pinned.
            if id.kind() != Kind::Hypervisor && people.pinners(id).next().is_none() {
                continue;
            }
            let (before, after) = (change.before.as_deref(), change.event.after.as_deref());
            let renamed = before.zip(after).is_some_and(|(b, a)| b.name != a.name);
            let looks = (before.map(look), after.map(look));
            let moved = before.zip(after).is_some_and(|(b, a)| b.host != a.host);
            if looks.0 == looks.1 && !renamed && !moved {
                continue;
            }
            if id.kind() == Kind::Hypervisor {
                for (_, person) in people.persons() {
                    if before.is_none() || after.is_none() || renamed {
                        self.push_change(
                            person.sessions.values(),
                            person.roster.as_ref().and_then(|r| r.get(&self.cell.jid(id))),
                            id,
                            after,
                        );
                    }
                    self.tell(person.watching(), before, after, looks.1.as_ref());
                }
            } else {
                for (_, person) in people.pinners(id) {
                    if before.is_none() || after.is_none() || renamed {
                        self.push_change(
                            person.sessions.values(),
                            person.roster.as_ref().and_then(|r| r.get(&self.cell.jid(id))),
                            id,
                            after,
                        );
                    }
                    self.tell(person.watching(), before, after, looks.1.as_ref());
                }
            }
        }
    }

    fn tell<'a>(&self, sessions: impl Iterator<Item = &'a Here>, before: Option<&Entity>, after: Option<&Entity>, look: Option<&Look>) {
        for here in sessions {
            if let (Some(after), Some(look)) = (after, look) {
                write(&here.session, after, look);
            }
            // The new place first, so that the contact never seems to be away in between.
            if let Some(before) = before.filter(|b| after.is_none_or(|a| a.host != b.host)) {
                self.hide(&here.session, before);
            }
        }
    }

    fn push_change<'a>(
        &self,
        sessions: impl Iterator<Item = &'a Here>,
        entry: Option<&RosterEntry>,
        id: &EntityId,
        after: Option<&Entity>,
    ) {
        let jid = self.cell.jid(id);
        for here in sessions.filter(|h| h.interested) {
            roster::push(&here.session, |xml| match after {
                Some(entity) => roster::item(xml, &jid, Some(entity), entry),
                // What somebody added stays in their roster, to be seen again should it come back.
                None if entry.is_some() && id.kind() != Kind::Hypervisor => roster::item(xml, &jid, None, entry),
                None => {
                    xml.open("item").attr("jid", &jid).attr("subscription", "remove").close();
                }
            });
        }
    }

    /// A presence stanza of a person.
    pub(super) fn on_presence(self: &Arc<Self>, session: &Arc<Session>, presence: Element) {
        let to = presence.attr("to").map(str::to_owned);
        let kind = presence.attr("type").map(str::to_owned);
        match (to, kind.as_deref()) {
            (None, None) => self.arrive(session, presence),
            (None, Some("unavailable")) => self.depart(session, &presence),
            (None, _) => {}
            (Some(to), None) => self.directed(session, &to, presence, true),
            (Some(to), Some("unavailable")) => self.directed(session, &to, presence, false),
            (Some(to), Some("probe")) => {
                if let Place::Entity(entity) = self.place(session, Some(&to)) {
                    self.show(session, &entity);
                }
            }
            (Some(to), Some("subscribe")) => self.subscribe(session, &to),
            (Some(to), Some("unsubscribe")) => self.unsubscribe(session, &to),
            // Entities do not watch people, so what people grant or refuse them changes nothing.
            (Some(_), _) => {}
        }
    }

    /// Initial or changed presence: tell the own sessions, and at first greet with everything that is seen.
    fn arrive(self: &Arc<Self>, session: &Arc<Session>, mut presence: Element) {
        set_attr(&mut presence, xml_ncname!("from"), &session.jid().to_string());
        let first = {
            let mut people = self.people.lock();
            let Some(here) = people.here(session) else { return };
            let first = here.presence.replace(presence.clone()).is_none();
            let Some(person) = people.person(&local(session)) else { return };
            for other in person.sessions.values().filter(|o| o.presence.is_some()) {
                forward(&other.session, &presence);
                if first
                    && other.session.id() != session.id()
                    && let Some(theirs) = &other.presence
                {
                    forward(session, theirs);
                }
            }
            first
        };
        if first {
            let (exchange, session) = (self.clone(), session.clone());
            tokio::spawn(async move {
                if let Err(fault) = exchange.load_roster(&session).await {
                    tracing::warn!(account = %session.jid(), %fault, "the roster cannot be read; only the default one is shown");
                }
                exchange.greet(&session);
            });
        }
    }

    fn greet(&self, session: &Arc<Session>) {
        let table = self.locations.read();
        let mut people = self.people.lock();
        match people.here(session) {
            Some(here) if here.presence.is_some() => here.greeted = true,
            _ => return,
        }
        for hypervisor in table.of_kind(Kind::Hypervisor) {
            self.show(session, hypervisor);
        }
        let roster = people.person(&local(session)).and_then(|p| p.roster.as_ref());
        for jid in roster.into_iter().flat_map(|r| r.keys()) {
            match roster::entity_of(&self.cell, jid) {
                Some(EntityId::Hypervisor(_)) | None => {}
                Some(id) => {
                    if let Some(entity) = table.get(&id) {
                        self.show(session, entity);
                    }
                }
            }
        }
    }

    fn depart(&self, session: &Arc<Session>, presence: &Element) {
        let mut people = self.people.lock();
        let Some(here) = people.here(session) else { return };
        if here.presence.take().is_none() {
            return;
        }
        here.greeted = false;
        let directed = std::mem::take(&mut here.directed);
        self.farewell(&people, session, directed.iter(), Some(presence));
    }

    /// A session is gone for good, with or without goodbye.
    pub(super) fn leave(&self, session: &Arc<Session>) {
        let mut people = self.people.lock();
        let Some(here) = people.close(session) else { return };
        if here.presence.is_some() || !here.directed.is_empty() {
            self.farewell(&people, session, here.directed.iter(), None);
        }
    }

    /// Tells the other sessions, and whoever was told directly, that this one is away.
    fn farewell<'a>(&self, people: &People, session: &Session, directed: impl Iterator<Item = &'a String>, presence: Option<&Element>) {
        let from = session.jid().to_string();
        let mut targets: Vec<Arc<Session>> = Vec::new();
        if let Some(person) = people.person(&local(session)) {
            targets.extend(person.sessions.values().filter(|h| h.presence.is_some()).map(|h| h.session.clone()));
        }
        for to in directed {
            targets.extend(self.sessions_of(people, to));
        }
        for target in targets {
            let mut xml = Xml::stanza("presence");
            xml.attr("from", &from).attr("to", &target.jid().to_string()).attr("type", "unavailable");
            if let Some(status) = presence.and_then(|p| p.get_child("status", "jabber:client")) {
                xml.leaf("status", &status.text());
            }
            send(&target, xml);
        }
    }

    fn sessions_of(&self, people: &People, to: &str) -> Vec<Arc<Session>> {
        let Ok(jid) = to.parse::<jid::Jid>() else { return Vec::new() };
        let Some(person) = jid.node().filter(|_| jid.domain().as_str() == self.cell.as_str()).and_then(|n| people.person(n.as_str()))
        else {
            return Vec::new();
        };
        match jid.resource() {
            Some(resource) => person.sessions.get(resource.as_str()).map(|h| h.session.clone()).into_iter().collect(),
            None => person.sessions.values().filter(|h| h.presence.is_some()).map(|h| h.session.clone()).collect(),
        }
    }

    /// Presence sent to one address only. An entity or the cell answers with its own.
    fn directed(&self, session: &Arc<Session>, to: &str, mut presence: Element, available: bool) {
        match self.place(session, Some(to)) {
            Place::Entity(entity) => {
                if available {
                    self.show(session, &entity);
                }
            }
            Place::Cell => {
                if available {
                    let mut xml = Xml::stanza("presence");
                    xml.attr("from", self.cell.as_str()).attr("to", &session.jid().to_string());
                    disco::write_caps(&mut xml, None);
                    send(session, xml);
                }
            }
            Place::Person(..) | Place::Account => {
                set_attr(&mut presence, xml_ncname!("from"), &session.jid().to_string());
                let mut people = self.people.lock();
                if people.direct(session, to, available) {
                    for target in self.sessions_of(&people, to) {
                        forward(&target, &presence);
                    }
                }
            }
            Place::NoEntity(_) | Place::Elsewhere => {
                let mut xml = Xml::stanza("presence");
                xml.attr("type", "error").attr("from", to).attr("to", &session.jid().to_string()).attr_opt("id", presence.attr("id"));
                let refused = if to.contains(self.cell.as_str()) { Refused::ItemNotFound } else { Refused::RemoteServerNotFound };
                refused.write(&mut xml, None);
                send(session, xml);
            }
        }
    }

    /// Whoever has an account may see everything, so a request to see an entity is granted at once.
    fn subscribe(self: &Arc<Self>, session: &Arc<Session>, to: &str) {
        let bare = session.jid().to_bare().to_string();
        match self.place(session, Some(to)) {
            Place::Entity(entity) => {
                let (exchange, session) = (self.clone(), session.clone());
                tokio::spawn(async move {
                    let jid = entity.jid();
                    let done = async {
                        exchange.load_roster(&session).await?;
                        let known = {
                            let people = exchange.people.lock();
                            people.person(&local(&session)).and_then(|p| p.roster.as_ref()).is_some_and(|r| r.contains_key(&jid))
                        };
                        if entity.kind() == Kind::Hypervisor || known {
                            exchange.show(&session, &entity);
                            return Ok(());
                        }
                        exchange.pin(&session, RosterEntry { jid: jid.clone(), name: None, groups: Vec::new() }).await
                    };
                    let answer = match done.await {
                        Ok(()) => "subscribed",
                        Err(fault) => {
                            tracing::info!(account = %bare, %jid, %fault, "a subscription was refused");
                            "unsubscribed"
                        }
                    };
                    plain(&session, &jid, &bare, answer);
                });
            }
            Place::Cell => {
                plain(session, to, &bare, "subscribed");
                self.directed(session, to, Element::bare("presence", "jabber:client"), true);
            }
            Place::NoEntity(_) | Place::Elsewhere | Place::Account => plain(session, to, &bare, "unsubscribed"),
            // People who use one cell talk to each other by address; who is online is nobody else's business.
            Place::Person(..) => plain(session, to, &bare, "unsubscribed"),
        }
    }

    fn unsubscribe(self: &Arc<Self>, session: &Arc<Session>, to: &str) {
        let bare = session.jid().to_bare().to_string();
        let Ok(id) = self.cell.entity(to) else { return plain(session, to, &bare, "unsubscribed") };
        let (exchange, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            let jid = exchange.cell.jid(&id);
            let done = async {
                exchange.load_roster(&session).await?;
                exchange.unpin(&session, &jid).await
            };
            if let Err(fault) = done.await {
                tracing::debug!(account = %bare, %jid, %fault, "nothing to unsubscribe from");
            }
            plain(&session, &jid, &bare, "unsubscribed");
        });
    }
}

fn forward(to: &Session, presence: &Element) {
    let mut presence = presence.clone();
    set_attr(&mut presence, xml_ncname!("to"), &to.jid().to_string());
    if to.send(Stanza::from(&presence)).is_err() {
        tracing::debug!(to = %to.jid(), "a presence was dropped because the queue is full");
    }
}
