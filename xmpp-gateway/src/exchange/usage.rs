//! Who looks at what machines take, and the agents that are told to measure as long as somebody does.
//!
//! ```text
//!   viewer: watch ------> wanted: hosts --- tell ---> agent measures every 2 s
//!           unwatch, session over ------- nobody wants it -------> agent rests
//!   agent:  frame --> ledger of its host --> each viewer: what changed since the last frame it took
//! ```
//! A viewer to whom something is still to be written is left out, and gets with a later frame what is the newest then. An agent that comes
//! back is told again; while it is away, nothing is known of its machines.

use super::{Exchange, reply::Reply, xml::Xml, xml::escape_into};
use crate::{
    ns,
    server::handler::Stanza,
    server::session::Session,
    stanza::{json, node, usage::Ask},
};
use archipel_contract::{
    Fault, HypervisorName,
    usage::{Frame, Ledger},
};
use minidom::Element;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

struct Viewer {
    session: Arc<Session>,
    jid: String,
    /// None: all of them.
    hosts: BTreeSet<HypervisorName>,
    /// The number of the last change of each host that was sent.
    seen: HashMap<HypervisorName, u64>,
}

impl Viewer {
    fn wants(&self, host: &HypervisorName) -> bool {
        self.hosts.is_empty() || self.hosts.contains(host)
    }
}

#[derive(Default)]
struct State {
    viewers: Vec<Viewer>,
    ledgers: HashMap<HypervisorName, Ledger>,
    /// On which link an agent was told to measure.
    told: HashMap<HypervisorName, u64>,
}

/// Who looks, and what they are shown.
#[derive(Default)]
pub(crate) struct Watching(Mutex<State>);

impl Watching {
    /// How many look.
    pub(crate) fn viewers(&self) -> usize {
        self.0.lock().viewers.len()
    }
}

impl Exchange {
    /// A person begins to look or looks away.
    pub(super) fn on_watch(&self, session: &Arc<Session>, payload: &Element, reply: &Reply) {
        match Ask::parse(payload) {
            Ok(Ask::Watch(hosts)) => {
                let mut state = self.watching.0.lock();
                state.viewers.retain(|v| v.session.id() != session.id());
                let known: Vec<HypervisorName> = state.ledgers.keys().cloned().collect();
                let (session, jid) = (session.clone(), session.jid().to_string());
                state.viewers.push(Viewer { session, jid, hosts, seen: HashMap::new() });
                // What others are looking at already is shown at once, before anything else waits to be written.
                known.iter().for_each(|host| self.show_usage(&mut state, host));
                drop(state);
                reply.done();
            }
            Ok(Ask::Unwatch) => {
                self.watching.0.lock().viewers.retain(|v| v.session.id() != session.id());
                reply.done();
            }
            Err(fault) => return reply.fault(&fault),
        }
        self.tend_usage();
    }

    /// The session of a person is over.
    pub(super) fn look_away(&self, session: u64) {
        let mut state = self.watching.0.lock();
        let before = state.viewers.len();
        state.viewers.retain(|v| v.session.id() != session);
        let left = state.viewers.len() < before;
        drop(state);
        if left {
            self.tend_usage();
        }
    }

    /// Tells every agent that has to be told to begin or to rest.
    pub(super) fn tend_usage(&self) {
        let links: Vec<(HypervisorName, Arc<Session>)> =
            self.links.state.lock().links.values().map(|l| (l.host.clone(), l.session.clone())).collect();
        let mut state = self.watching.0.lock();
        for (host, session) in links {
            let wanted = state.viewers.iter().any(|v| v.wants(&host));
            let told = state.told.get(&host) == Some(&session.id());
            if wanted == told {
                continue;
            }
            let mut xml = Xml::stanza("message");
            xml.attr("from", self.cell.as_str()).attr("to", &session.jid().to_string()).element(&node::watch(wanted));
            if session.send(Stanza::from(xml.finish())).is_err() {
                // An agent that reads so slowly is lost soon, and told again when it comes back.
                tracing::warn!(%host, wanted, "an agent could not be told whether somebody looks, because its queue is full");
                continue;
            }
            if wanted {
                state.told.insert(host, session.id());
            } else {
                state.told.remove(&host);
                state.ledgers.remove(&host);
                for viewer in &mut state.viewers {
                    viewer.seen.remove(&host);
                }
            }
        }
    }

    /// An agent says what has changed.
    pub(super) fn on_usage(&self, link: &Session, frame: Result<Frame, Fault>) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(fault) => return tracing::warn!(link = %link.jid(), %fault, "figures of usage cannot be read; ignored"),
        };
        let mut state = self.watching.0.lock();
        // Only of itself, and only what somebody wants to know; some may be on their way when the last one looks away.
        if state.told.get(&frame.host) != Some(&link.id()) {
            return;
        }
        let (host, more) = (frame.host.clone(), frame.more);
        state.ledgers.entry(host.clone()).or_default().apply(frame);
        if !more {
            self.show_usage(&mut state, &host);
        }
    }

    /// The agent of a host is gone: nothing is known of its machines.
    pub(super) fn lose_sight(&self, host: &HypervisorName, link: u64) {
        let mut state = self.watching.0.lock();
        if state.told.get(host) != Some(&link) {
            return;
        }
        state.told.remove(host);
        if let Some(ledger) = state.ledgers.get_mut(host) {
            ledger.lose(self.clock.now());
        }
        self.show_usage(&mut state, host);
    }

    /// Sends to everybody who wants to know of a host, and has nothing left to read, what is new to them.
    fn show_usage(&self, state: &mut State, host: &HypervisorName) {
        let State { viewers, ledgers, .. } = state;
        let Some(ledger) = ledgers.get_mut(host) else { return };
        // Nearly all have seen the same, so nearly always there is one body.
        let mut bodies: HashMap<u64, Vec<Arc<str>>> = HashMap::new();
        let mut least = ledger.number();
        for viewer in viewers.iter_mut().filter(|v| v.wants(host)) {
            let seen = viewer.seen.get(host).copied().unwrap_or(0);
            let mut reached = viewer.session.is_idle();
            if reached {
                let bodies = bodies.entry(seen).or_insert_with(|| written(ledger.since(host, seen)));
                reached = bodies.iter().all(|body| {
                    let stanza = message(self.cell.as_str(), &viewer.jid, body.clone());
                    viewer.session.send(stanza).is_ok()
                });
            }
            if reached {
                viewer.seen.insert(host.clone(), ledger.number());
            } else {
                least = least.min(seen);
            }
        }
        ledger.settle(least);
    }
}

/// A frame as escaped JSON, in pieces that fit a stanza.
fn written(frame: Frame) -> Vec<Arc<str>> {
    let pieces = frame.pieces().into_iter().filter_map(|piece| json::text(&piece).ok());
    pieces
        .map(|text| {
            let mut body = String::with_capacity(text.len() + 64);
            escape_into(&mut body, &text);
            body.into()
        })
        .collect()
}

/// The pushed message; `body` is escaped already, and shared by all who get it.
fn message(from: &str, to: &str, body: Arc<str>) -> Stanza {
    let mut out = String::with_capacity(256);
    out.push_str("<message xmlns='jabber:client' type='headline' from='");
    escape_into(&mut out, from);
    out.push_str("' to='");
    escape_into(&mut out, to);
    out.push_str("'><usage xmlns='");
    out.push_str(ns::USAGE);
    out.push_str("'><json xmlns='urn:xmpp:json:0'>");
    Stanza::sharing(out, body, "</json></usage></message>")
}
