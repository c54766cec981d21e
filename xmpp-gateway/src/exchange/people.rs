//! Who is here: the sessions of people, what each of them announced, and which entities each person pinned to their roster.

use crate::server::session::Session;
use archipel_contract::{EntityId, port::RosterEntry};
use minidom::Element;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The most entries of one person's roster beyond the default ones.
pub(crate) const MAX_PINS: usize = 200;
/// The most addresses one session may have sent its presence to directly.
const MAX_DIRECTED: usize = 200;

/// One session of a person.
pub(crate) struct Here {
    pub session: Arc<Session>,
    /// It asked for the roster and is told of changes.
    pub interested: bool,
    /// Its last available presence.
    pub presence: Option<Element>,
    /// It was shown its contacts, so changes may follow.
    pub greeted: bool,
    /// Whom else it told that it is available.
    pub directed: BTreeSet<String>,
}

impl Here {
    /// The priority it announced; `None` when it is not available.
    pub(crate) fn priority(&self) -> Option<i8> {
        let presence = self.presence.as_ref()?;
        Some(presence.get_child("priority", "jabber:client").and_then(|p| p.text().trim().parse().ok()).unwrap_or(0))
    }
}

/// One person.
#[derive(Default)]
pub(crate) struct Person {
    /// Their sessions, by resource.
    pub sessions: BTreeMap<String, Here>,
    /// Their roster entries, once they were read.
    pub roster: Option<BTreeMap<String, RosterEntry>>,
}

impl Person {
    /// Sessions that are told of changes of what this person sees.
    pub(crate) fn watching(&self) -> impl Iterator<Item = &Here> {
        self.sessions.values().filter(|h| h.greeted && h.presence.is_some())
    }
}

/// Everybody.
#[derive(Default)]
pub(crate) struct People {
    persons: HashMap<String, Person>,
    /// Who pinned an entity: the other direction of the rosters, so that a change costs only those who see it.
    pinned: HashMap<EntityId, HashSet<String>>,
}

fn local(session: &Session) -> String {
    session.jid().node().map(|n| n.as_str().to_owned()).unwrap_or_default()
}

impl People {
    pub(crate) fn open(&mut self, session: &Arc<Session>) {
        let here = Here { session: session.clone(), interested: false, presence: None, greeted: false, directed: BTreeSet::new() };
        let person = self.persons.entry(local(session)).or_default();
        person.sessions.insert(session.jid().resource().as_str().to_owned(), here);
    }

    /// Takes a session out. Answers what it was, unless another one has its resource already.
    pub(crate) fn close(&mut self, session: &Session) -> Option<Here> {
        let name = local(session);
        let person = self.persons.get_mut(&name)?;
        let resource = session.jid().resource().as_str();
        person.sessions.get(resource).filter(|h| h.session.id() == session.id())?;
        let here = person.sessions.remove(resource);
        if person.sessions.is_empty() {
            self.forget(&name);
        }
        here
    }

    /// Forgets somebody who is not here any more, and whom they watched.
    fn forget(&mut self, name: &str) {
        self.persons.remove(name);
        self.pinned.retain(|_, who| {
            who.remove(name);
            !who.is_empty()
        });
    }

    pub(crate) fn sessions(&self) -> usize {
        self.persons.values().map(|p| p.sessions.len()).sum()
    }

    pub(crate) fn person(&self, local: &str) -> Option<&Person> {
        self.persons.get(local)
    }

    pub(crate) fn persons(&self) -> impl Iterator<Item = (&String, &Person)> {
        self.persons.iter()
    }

    pub(crate) fn session(&self, local: &str, resource: &str) -> Option<Arc<Session>> {
        self.persons.get(local)?.sessions.get(resource).map(|h| h.session.clone())
    }

    /// What is kept about a session, if it is still here.
    pub(crate) fn here(&mut self, session: &Session) -> Option<&mut Here> {
        let person = self.persons.get_mut(&local(session))?;
        person.sessions.get_mut(session.jid().resource().as_str()).filter(|h| h.session.id() == session.id())
    }

    /// Remembers that a session told this address directly that it is available. `false` when it told too many.
    pub(crate) fn direct(&mut self, session: &Session, to: &str, available: bool) -> bool {
        let Some(here) = self.here(session) else { return false };
        if !available {
            here.directed.remove(to);
            return true;
        }
        if here.directed.len() >= MAX_DIRECTED && !here.directed.contains(to) {
            return false;
        }
        here.directed.insert(to.to_owned());
        true
    }

    /// Sets somebody's roster as it was read, unless it was read already.
    pub(crate) fn set_roster(&mut self, name: &str, entries: Vec<RosterEntry>, entity: impl Fn(&str) -> Option<EntityId>) {
        let Some(person) = self.persons.get_mut(name).filter(|p| p.roster.is_none()) else { return };
        for id in entries.iter().filter_map(|e| entity(&e.jid)) {
            self.pinned.entry(id).or_default().insert(name.to_owned());
        }
        person.roster = Some(entries.into_iter().map(|e| (e.jid.clone(), e)).collect());
    }

    /// Adds or replaces an entry.
    pub(crate) fn pin(&mut self, name: &str, entry: RosterEntry, id: Option<EntityId>) {
        if let Some(roster) = self.persons.get_mut(name).and_then(|p| p.roster.as_mut()) {
            roster.insert(entry.jid.clone(), entry);
            if let Some(id) = id {
                self.pinned.entry(id).or_default().insert(name.to_owned());
            }
        }
    }

    /// Takes an entry out.
    pub(crate) fn unpin(&mut self, name: &str, jid: &str, id: Option<&EntityId>) {
        if let Some(roster) = self.persons.get_mut(name).and_then(|p| p.roster.as_mut()) {
            roster.remove(jid);
        }
        if let Some(id) = id
            && let Some(who) = self.pinned.get_mut(id)
        {
            who.remove(name);
            if who.is_empty() {
                self.pinned.remove(id);
            }
        }
    }

    /// Who pinned this entity and is here.
    pub(crate) fn pinners(&self, id: &EntityId) -> impl Iterator<Item = (&String, &Person)> {
        self.pinned.get(id).into_iter().flatten().filter_map(|name| self.persons.get_key_value(name))
    }
}
