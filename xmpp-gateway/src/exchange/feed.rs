//! The cell feed: every change pushed to whoever subscribed, and a snapshot to begin with.
//!
//! ```text
//!   change --> pending (bounded) --> one flush at a time --> one message to each subscriber
//!                  | full                                        | queue full
//!                  +--> dropped: every counter skips             +--> dropped: that counter skips
//!                                                                       | room again
//!                                                                       +--> an empty push shows the hole
//! ```
//! A flush takes what is there and never waits for more, so changes that came together travel together. Each change becomes
//! JSON and XML once, however many subscribers there are.

use super::{Exchange, location::Locations, reply::Reply, xml::escape_into};
use crate::{
    ns,
    server::handler::Stanza,
    server::session::Session,
    stanza::{
        feed::{Ask, PageRequest},
        json,
    },
};
use archipel_contract::{Event, Fault, FaultKind};
use minidom::Element;
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The most changes waiting for the flush.
const MAX_PENDING: usize = 65_536;
/// The most JSON in one push or page, in bytes before escaping.
const MAX_JSON: usize = 128 * 1024;
/// The most entities on one page.
const MAX_PAGE: usize = 500;

struct Subscriber {
    session: Arc<Session>,
    jid: String,
    /// The number of the last push, sent or dropped.
    count: u64,
    /// Something was dropped and somebody waits for room to say so: without it, a cell that falls quiet would leave the
    /// subscriber with what is not true any more.
    owed: bool,
}

#[derive(Default)]
struct State {
    subscribers: Vec<Subscriber>,
    pending: Vec<Event>,
    /// Changes were dropped since the last flush.
    dropped: bool,
    /// A flush is on its way or at work.
    flushing: bool,
}

/// Subscriptions and what waits to be pushed.
#[derive(Default)]
pub(crate) struct Feed {
    state: Mutex<State>,
    /// Whether anybody listens, readable without the lock.
    listened: AtomicBool,
}

impl Feed {
    /// How many subscribe.
    pub(crate) fn subscribers(&self) -> usize {
        self.state.lock().subscribers.len()
    }

    /// Puts changes on their way. Answers whether a flush must be started.
    fn push(&self, events: impl IntoIterator<Item = Event>) -> bool {
        let mut state = self.state.lock();
        if state.subscribers.is_empty() {
            return false;
        }
        for event in events {
            if state.pending.len() >= MAX_PENDING {
                state.dropped = true;
                break;
            }
            state.pending.push(event);
        }
        if state.flushing || state.pending.is_empty() {
            return false;
        }
        state.flushing = true;
        true
    }

    fn subscribe(&self, session: &Arc<Session>) {
        let mut state = self.state.lock();
        if !state.subscribers.iter().any(|s| s.session.id() == session.id()) {
            state.subscribers.push(Subscriber { session: session.clone(), jid: session.jid().to_string(), count: 0, owed: false });
        }
        self.listened.store(true, Ordering::Release);
    }

    /// Ends a session's subscription, if it has one.
    pub(crate) fn unsubscribe(&self, session: u64) {
        let mut state = self.state.lock();
        state.subscribers.retain(|s| s.session.id() != session);
        if state.subscribers.is_empty() {
            self.listened.store(false, Ordering::Release);
            state.pending = Vec::new();
        }
    }
}

impl Exchange {
    /// Tells subscribers of changes, in the order of the calls. Called while the location table is locked.
    pub(super) fn push_feed(self: &Arc<Self>, events: impl IntoIterator<Item = Event>) {
        if !self.feed.listened.load(Ordering::Acquire) {
            return;
        }
        if self.feed.push(events) {
            let exchange = self.clone();
            tokio::spawn(async move {
                while exchange.flush() {
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    /// Pushes what is pending. Answers whether there may be more.
    fn flush(self: &Arc<Self>) -> bool {
        let (events, dropped) = {
            let mut state = self.feed.state.lock();
            if state.pending.is_empty() {
                state.flushing = false;
                return false;
            }
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.dropped))
        };
        for (body, events) in bodies(&events) {
            let body: Arc<str> = body.into();
            let mut state = self.feed.state.lock();
            for subscriber in &mut state.subscribers {
                subscriber.count += 1;
                let stanza = message(self.cell.as_str(), &subscriber.jid, subscriber.count, body.clone());
                match subscriber.session.send(stanza) {
                    Ok(()) => self.metrics.pushed(events),
                    Err(_) => self.owe(subscriber),
                }
            }
        }
        if dropped {
            // Everybody sees the hole in the number of an empty push.
            for subscriber in &mut self.feed.state.lock().subscribers {
                subscriber.count += 1;
                self.owe(subscriber);
            }
        }
        true
    }

    /// A push to this subscriber was dropped: sees to it that they learn of it, even if nothing happens any more.
    fn owe(self: &Arc<Self>, subscriber: &mut Subscriber) {
        self.metrics.hole();
        if std::mem::replace(&mut subscriber.owed, true) {
            return;
        }
        let (exchange, session) = (self.clone(), subscriber.session.clone());
        tokio::spawn(async move {
            loop {
                session.room().await;
                let mut state = exchange.feed.state.lock();
                let Some(subscriber) = state.subscribers.iter_mut().find(|s| s.session.id() == session.id()) else { return };
                subscriber.count += 1;
                let stanza = message(exchange.cell.as_str(), &subscriber.jid, subscriber.count, "[]".into());
                // A session that is ending takes nothing more; its subscription ends with it.
                if session.send(stanza).is_ok() || !session.is_live() {
                    subscriber.owed = false;
                    return;
                }
            }
        });
    }

    /// A stanza for the pubsub service of the cell.
    pub(super) fn on_feed(&self, session: &Arc<Session>, payload: &Element, reply: &Reply) {
        let own = |jid: &str| {
            let bound = session.jid().to_string();
            if jid == bound {
                Ok(())
            } else {
                Err(Fault::new(FaultKind::Forbidden, format!("only {bound} itself can be subscribed here, not {jid}")))
            }
        };
        let outcome = Ask::parse(payload).and_then(|ask| match ask {
            Ask::Subscribe { jid } => {
                own(&jid)?;
                self.feed.subscribe(session);
                reply.element(&crate::stanza::feed::subscribed(&jid));
                Ok(())
            }
            Ask::Unsubscribe { jid } => {
                own(&jid)?;
                self.feed.unsubscribe(session.id());
                reply.done();
                Ok(())
            }
            Ask::Items(request) => {
                let page = page(&self.locations.read(), &request)?;
                reply.with(|xml| {
                    xml.ready(&page);
                });
                Ok(())
            }
        });
        if let Err(fault) = outcome {
            reply.fault(&fault);
        }
    }
}

/// The pushed payloads for these changes: escaped JSON, and how many changes are in it.
fn bodies(events: &[Event]) -> Vec<(String, usize)> {
    let mut bodies = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut size = 0;
    let close = |open: &mut Vec<String>, bodies: &mut Vec<(String, usize)>| {
        if open.is_empty() {
            return;
        }
        let mut body = String::with_capacity(open.iter().map(|t| t.len() + 8).sum());
        if let [only] = &open[..] {
            escape_into(&mut body, only);
        } else {
            list(&mut body, open.iter().map(String::as_str));
        }
        bodies.push((body, open.len()));
        open.clear();
    };
    for event in events {
        let Ok(text) = json::text(event) else { continue };
        if size + text.len() > MAX_JSON {
            close(&mut open, &mut bodies);
            size = 0;
        }
        size += text.len() + 1;
        open.push(text);
    }
    close(&mut open, &mut bodies);
    bodies
}

/// Writes JSON texts as one escaped JSON list.
fn list<'a>(out: &mut String, texts: impl Iterator<Item = &'a str>) {
    out.push('[');
    for (n, text) in texts.enumerate() {
        if n > 0 {
            out.push(',');
        }
        escape_into(out, text);
    }
    out.push(']');
}

/// The pushed message; `body` is escaped already, and shared by all who get it.
fn message(from: &str, to: &str, count: u64, body: Arc<str>) -> Stanza {
    let mut out = String::with_capacity(320);
    out.push_str("<message xmlns='jabber:client' type='headline' from='");
    escape_into(&mut out, from);
    out.push_str("' to='");
    escape_into(&mut out, to);
    out.push_str("'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='urn:archipel:feed:0'><item id='");
    out.push_str(&count.to_string());
    out.push_str("'><json xmlns='urn:xmpp:json:0'>");
    Stanza::sharing(out, body, "</json></item></items></event></message>")
}

/// One page of the snapshot as the payload of the answer.
fn page(table: &Locations, request: &PageRequest) -> Result<String, Fault> {
    let after =
        request.after.as_deref().map(|a| a.parse().map_err(|e: archipel_contract::id::BadId| Fault::invalid(e.to_string()))).transpose()?;
    let max = request.max.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let mut texts: Vec<String> = Vec::new();
    let mut size = 0;
    let (mut first, mut last) = (None, None);
    for entity in table.page(after.as_ref()).take(max) {
        let text = json::text(&**entity)?;
        if !texts.is_empty() && size + text.len() > MAX_JSON {
            break;
        }
        size += text.len() + 1;
        texts.push(text);
        first.get_or_insert(&entity.id);
        last = Some(&entity.id);
    }
    let mut out = String::with_capacity(size + 512);
    out.push_str("<pubsub xmlns='");
    out.push_str(ns::PUBSUB);
    out.push_str("'><items node='");
    out.push_str(ns::FEED);
    out.push_str("'>");
    if !texts.is_empty() {
        out.push_str("<item id='page'><json xmlns='urn:xmpp:json:0'>");
        list(&mut out, texts.iter().map(String::as_str));
        out.push_str("</json></item>");
    }
    out.push_str("</items><set xmlns='http://jabber.org/protocol/rsm'>");
    if let (Some(first), Some(last)) = (first, last) {
        out.push_str(&format!("<first>{first}</first><last>{last}</last>"));
    }
    out.push_str(&format!("<count>{}</count></set></pubsub>", table.len()));
    Ok(out)
}
