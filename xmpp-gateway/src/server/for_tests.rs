//! A session without a connection, so that a handler can be tested without a wire.

use super::session::{Out, QueueBounds, Session, Transport};
use archipel_contract::port::AccountKind;
use minidom::Element;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

static NEXT: AtomicU64 = AtomicU64::new(1 << 32);

/// A live session bound to this address.
pub(crate) fn session(jid: &str, kind: AccountKind) -> Arc<Session> {
    session_with(jid, kind, QueueBounds::default())
}

/// The same with other bounds of its queue.
pub(crate) fn session_with(jid: &str, kind: AccountKind, bounds: QueueBounds) -> Arc<Session> {
    let jid = jid.parse().unwrap_or_else(|e| panic!("{jid}: {e}"));
    Arc::new(Session::new(NEXT.fetch_add(1, Ordering::Relaxed), jid, kind, bounds, Transport::Memory, "test".into()))
}

/// Takes what was sent to a session so far, parsed as its client would.
pub(crate) fn taken(session: &Session) -> Vec<Element> {
    texts(session).iter().map(|text| text.parse().unwrap_or_else(|e| panic!("not well-formed ({e}): {text}"))).collect()
}

/// Takes what was sent to a session so far.
pub(crate) fn texts(session: &Session) -> Vec<String> {
    let mut batch = Vec::new();
    if session.drain(0, usize::MAX, &mut batch).is_err() {
        panic!("the session has ended");
    }
    batch.into_iter().filter_map(|out| if let Out::Stanza(s) = out { Some(s.to_text()) } else { None }).collect()
}

/// Waits until something is there to be written.
pub(crate) async fn wake(session: &Session) {
    if tokio::time::timeout(Duration::from_secs(30), session.wake.notified()).await.is_err() {
        panic!("nothing was sent to {} within 30 s", session.jid());
    }
}
