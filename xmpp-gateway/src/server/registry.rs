//! Which sessions there are.

use super::session::{Phase, QueueBounds, Session, Transport};
use crate::sasl::Identity;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

#[derive(Default)]
struct Tables {
    last: u64,
    /// By account, then by resource.
    bound: HashMap<String, HashMap<String, Arc<Session>>>,
    /// By the id to come back with.
    resumable: HashMap<String, Arc<Session>>,
}

/// All sessions that are not closed.
#[derive(Default)]
pub(super) struct Registry(Mutex<Tables>);

/// What came of an attempt to bind.
pub(super) enum Bind {
    /// The resource is bound to this new session, whose attachment is the caller's from the beginning.
    Bound(Arc<Session>, OwnedMutexGuard<()>),
    /// Somebody has it.
    Taken(Arc<Session>),
    /// The account has too many, of which this one has waited longest for its peer to come back.
    Crowded(Arc<Session>),
    /// The account has too many, and all of them are in use.
    TooMany,
}

impl Registry {
    /// Binds the resource if nobody has it.
    pub(super) fn bind(
        &self,
        who: &Identity,
        jid: &jid::FullJid,
        most: usize,
        bounds: QueueBounds,
        transport: Transport,
        peer: &str,
    ) -> Bind {
        let mut tables = self.0.lock();
        let tables = &mut *tables;
        let resources = tables.bound.entry(who.local.clone()).or_default();
        if let Some(holder) = resources.get(jid.resource().as_str()) {
            return Bind::Taken(holder.clone());
        }
        if resources.len() >= most {
            let waiting = resources.values().filter(|s| s.phase() == Phase::Suspended).min_by_key(|s| s.id());
            return waiting.map_or(Bind::TooMany, |oldest| Bind::Crowded(oldest.clone()));
        }
        tables.last += 1;
        let session = Arc::new(Session::new(tables.last, jid.clone(), who.kind, bounds, transport, peer.to_owned()));
        // Nobody else knows the session yet, so nobody holds its attachment. Taken before it can be found, so that nobody
        // ends it before it began.
        let Ok(attachment) = session.attachment.clone().try_lock_owned() else { return Bind::TooMany };
        resources.insert(jid.resource().as_str().to_owned(), session.clone());
        Bind::Bound(session, attachment)
    }

    /// The session can be come back to by that id.
    pub(super) fn make_resumable(&self, id: String, session: Arc<Session>) {
        self.0.lock().resumable.insert(id, session);
    }

    /// The session with that id, if it belongs to that account.
    pub(super) fn find_resumable(&self, id: &str, who: &Identity) -> Option<Arc<Session>> {
        let session = self.0.lock().resumable.get(id).cloned()?;
        let own = session.jid().node().is_some_and(|n| n.as_str() == who.local) && session.kind() == who.kind;
        own.then_some(session)
    }

    /// Forgets a session.
    pub(super) fn remove(&self, session: &Arc<Session>) {
        let mut tables = self.0.lock();
        if let Some(id) = session.resumption() {
            tables.resumable.remove(&id);
        }
        let Some(local) = session.jid().node().map(|n| n.as_str().to_owned()) else { return };
        if let Some(resources) = tables.bound.get_mut(&local) {
            let resource = session.jid().resource().as_str();
            if resources.get(resource).is_some_and(|holder| Arc::ptr_eq(holder, session)) {
                resources.remove(resource);
            }
            if resources.is_empty() {
                tables.bound.remove(&local);
            }
        }
    }

    pub(super) fn sessions_of(&self, local: &str) -> Vec<Arc<Session>> {
        self.0.lock().bound.get(local).map(|r| r.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.0.lock().bound.values().flat_map(|r| r.values().cloned()).collect()
    }
}
