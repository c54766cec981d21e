//! Rosters (RFC 6121). Everybody's roster holds the hypervisors; whatever else somebody wants to watch, they add: a machine, a
//! network, a pool, another person. What they added is kept with their account.

use super::{
    Exchange,
    people::MAX_PINS,
    reply::{Refused, Reply},
    xml::Xml,
};
use crate::{server::handler::Stanza, server::session::Session};
use archipel_contract::{CellName, Entity, EntityId, Fault, FaultKind, Kind, port::RosterEntry};
use minidom::Element;
use std::{collections::BTreeMap, sync::Arc};

const ROSTER: &str = "jabber:iq:roster";
/// The group hypervisors are shown in.
const HYPERVISORS: &str = "Hypervisors";
/// The longest name and group, in characters.
const MAX_NAME: usize = 200;
const MAX_GROUPS: usize = 8;

/// One `<item/>` as somebody sees it.
pub(super) fn item(xml: &mut Xml, jid: &str, entity: Option<&Entity>, entry: Option<&RosterEntry>) {
    let name = entry.and_then(|e| e.name.as_deref()).or(entity.map(|e| &*e.name));
    let subscription = if entity.is_some() { "both" } else { "none" };
    xml.open("item").attr("jid", jid).attr_opt("name", name).attr("subscription", subscription);
    match entry.filter(|e| !e.groups.is_empty()) {
        Some(entry) => {
            for group in &entry.groups {
                xml.leaf("group", group);
            }
        }
        None => {
            if entity.is_some_and(|e| e.kind() == Kind::Hypervisor) {
                xml.leaf("group", HYPERVISORS);
            }
        }
    }
    xml.close();
}

/// A roster push to one session.
pub(super) fn push(session: &Session, write: impl FnOnce(&mut Xml)) {
    let mut xml = Xml::stanza("iq");
    xml.attr("type", "set").attr("id", &format!("push-{}", uuid::Uuid::new_v4())).attr("to", &session.jid().to_string());
    xml.open_ns("query", ROSTER);
    write(&mut xml);
    if session.send(Stanza::from(xml.finish())).is_err() {
        tracing::debug!(to = %session.jid(), "a roster push was dropped because the queue is full");
    }
}

/// What somebody wants with one item.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Put(RosterEntry),
    Remove(String),
}

/// Reads a roster set: exactly one item.
fn wish(query: &Element) -> Result<Wish, Fault> {
    let mut items = query.children().filter(|c| c.is("item", ROSTER));
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(Fault::invalid("a roster is changed one item at a time"));
    };
    let jid = item.attr("jid").and_then(|j| j.parse::<jid::Jid>().ok()).ok_or_else(|| Fault::invalid("the item needs a jid"))?;
    let jid = jid.to_bare().to_string();
    if item.attr("subscription") == Some("remove") {
        return Ok(Wish::Remove(jid));
    }
    let groups: Vec<String> = item.children().filter(|c| c.is("group", ROSTER)).map(Element::text).collect();
    let name = item.attr("name").filter(|n| !n.is_empty()).map(str::to_owned);
    let long = |t: &String| t.chars().count() > MAX_NAME;
    if groups.len() > MAX_GROUPS || groups.iter().any(|g| g.is_empty() || long(g)) || name.as_ref().is_some_and(long) {
        return Err(Fault::invalid(format!("names and groups have 1 to {MAX_NAME} characters, and an item at most {MAX_GROUPS} groups")));
    }
    let mut sorted = groups.clone();
    sorted.sort();
    sorted.dedup();
    if sorted.len() != groups.len() {
        return Err(Fault::invalid("a group is named twice"));
    }
    Ok(Wish::Put(RosterEntry { jid, name, groups }))
}

/// The local part of a session's account.
pub(super) fn local(session: &Session) -> String {
    session.jid().node().map(|n| n.as_str().to_owned()).unwrap_or_default()
}

/// The entity a roster entry is about.
pub(super) fn entity_of(cell: &CellName, jid: &str) -> Option<EntityId> {
    cell.entity(jid).ok()
}

impl Exchange {
    /// A roster query of somebody about their own roster.
    pub(super) fn on_roster(self: &Arc<Self>, session: &Arc<Session>, set: bool, query: &Element, reply: Reply) {
        let wish = match set.then(|| wish(query)).transpose() {
            Ok(wish) => wish,
            Err(fault) => return reply.fault(&fault),
        };
        let (exchange, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            if let Err(fault) = exchange.load_roster(&session).await {
                return reply.fault(&fault);
            }
            match wish {
                None => exchange.answer_roster(&session, &reply),
                Some(Wish::Put(entry)) => match exchange.pin(&session, entry).await {
                    Ok(()) => reply.done(),
                    Err(fault) => reply.fault(&fault),
                },
                Some(Wish::Remove(jid)) => match exchange.unpin(&session, &jid).await {
                    Ok(()) => reply.done(),
                    Err(fault) if fault.kind == FaultKind::Forbidden => reply.refuse(Refused::NotAllowed),
                    Err(fault) => reply.fault(&fault),
                },
            }
        });
    }

    /// Reads somebody's roster from their account, once while they are here.
    pub(super) async fn load_roster(&self, session: &Session) -> Result<(), Fault> {
        let name = local(session);
        if self.people.lock().person(&name).is_some_and(|p| p.roster.is_some()) {
            return Ok(());
        }
        let entries = self.accounts.roster(name.clone()).await?;
        self.people.lock().set_roster(&name, entries, |jid| entity_of(&self.cell, jid));
        Ok(())
    }

    fn answer_roster(&self, session: &Arc<Session>, reply: &Reply) {
        let table = self.locations.read();
        let mut people = self.people.lock();
        if let Some(here) = people.here(session) {
            here.interested = true;
        }
        let none = BTreeMap::new();
        let pins = people.person(&local(session)).and_then(|p| p.roster.as_ref()).unwrap_or(&none);
        // Sent with the lock held, so that no push overtakes the answer.
        reply.with(|xml| {
            xml.open_ns("query", ROSTER);
            for hypervisor in table.of_kind(Kind::Hypervisor) {
                let jid = hypervisor.jid();
                item(xml, &jid, Some(hypervisor), pins.get(&jid));
            }
            for (jid, entry) in pins {
                let id = entity_of(&self.cell, jid);
                if matches!(id, Some(EntityId::Hypervisor(_))) {
                    continue;
                }
                item(xml, jid, id.as_ref().and_then(|id| table.get(id)).map(|e| &**e), Some(entry));
            }
        });
    }

    /// Adds something to somebody's roster, tells their sessions, and shows them how it looks.
    pub(super) async fn pin(&self, session: &Session, entry: RosterEntry) -> Result<(), Fault> {
        let name = local(session);
        let id = entity_of(&self.cell, &entry.jid);
        if let Some(id) = &id
            && self.entity(id).is_none()
        {
            return Err(super::dispatch::no_such(&id.plain()));
        }
        {
            let people = self.people.lock();
            let full =
                people.person(&name).and_then(|p| p.roster.as_ref()).is_some_and(|r| r.len() >= MAX_PINS && !r.contains_key(&entry.jid));
            if full {
                return Err(Fault::busy(format!("a roster holds {MAX_PINS} entries; remove some first, or look at the list of the cell")));
            }
        }
        self.accounts.put_roster(name.clone(), entry.clone()).await?;
        let table = self.locations.read();
        let mut people = self.people.lock();
        people.pin(&name, entry.clone(), id.clone());
        let entity = id.as_ref().and_then(|id| table.get(id));
        let Some(person) = people.person(&name) else { return Ok(()) };
        for here in person.sessions.values().filter(|h| h.interested) {
            push(&here.session, |xml| item(xml, &entry.jid, entity.map(|e| &**e), Some(&entry)));
        }
        if let Some(entity) = entity {
            for here in person.watching() {
                self.show(&here.session, entity);
            }
        }
        Ok(())
    }

    /// Takes something out of somebody's roster. Hypervisors stay; only what was chosen for them is forgotten.
    pub(super) async fn unpin(&self, session: &Session, jid: &str) -> Result<(), Fault> {
        let name = local(session);
        let id = entity_of(&self.cell, jid);
        let known = self.people.lock().person(&name).and_then(|p| p.roster.as_ref()).is_some_and(|r| r.contains_key(jid));
        if !known {
            return Err(match id {
                Some(EntityId::Hypervisor(_)) => Fault::new(FaultKind::Forbidden, "hypervisors are in everybody's roster"),
                _ => Fault::not_found(format!("{jid} is not in the roster")),
            });
        }
        self.accounts.remove_roster(name.clone(), jid.to_owned()).await?;
        let table = self.locations.read();
        let mut people = self.people.lock();
        people.unpin(&name, jid, id.as_ref());
        let Some(person) = people.person(&name) else { return Ok(()) };
        let entity = id.as_ref().and_then(|id| table.get(id));
        let stays = entity.is_some_and(|e| e.kind() == Kind::Hypervisor);
        for here in person.sessions.values().filter(|h| h.interested) {
            push(&here.session, |xml| {
                if stays {
                    item(xml, jid, entity.map(|e| &**e), None);
                } else {
                    xml.open("item").attr("jid", jid).attr("subscription", "remove").close();
                }
            });
        }
        if let Some(entity) = entity.filter(|_| !stays) {
            for here in person.watching() {
                self.hide(&here.session, entity);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(item: &str) -> Result<Wish, Fault> {
        wish(&format!("<query xmlns='jabber:iq:roster'>{item}</query>").parse().unwrap())
    }

    #[test]
    fn an_item_is_read_as_a_bare_address() {
        assert_eq!(
            read("<item jid='a@c/r' name='A'><group>G</group></item>"),
            Ok(Wish::Put(RosterEntry { jid: "a@c".into(), name: Some("A".into()), groups: vec!["G".into()] }))
        );
        assert_eq!(read("<item jid='a@c' subscription='remove'/>"), Ok(Wish::Remove("a@c".into())));
    }

    #[test]
    fn wrong_items_are_refused() {
        for wrong in [
            "",
            "<item/>",
            "<item jid='a@c'/><item jid='b@c'/>",
            "<item jid='a@c'><group/></item>",
            "<item jid='a@c'><group>G</group><group>G</group></item>",
            "<item jid='a b@c@d'/>",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
