//! The exchange's side of the node links: it takes what agents assert and announce, and sends them requests.
//!
//! ```text
//!   request:  waiting --reply--> answered
//!                |------- timeout -------> timeout (the outcome is unknown)
//!                +------- link closed ---> timeout (the outcome is unknown)
//! ```
//! Each link may have [`MAX_WAITING`] requests under way; beyond that callers are told `busy`.

use super::{Exchange, location::Refusal, reply::Reply, xml::Xml};
use crate::{
    ns,
    server::handler::Stanza,
    server::session::{Session, Transport},
    stanza::{IqKind, authority::Ask, fault, node},
};
use archipel_contract::{
    EntityId, Epoch, Fault, FaultKind, HypervisorName, Millis, Role,
    port::{Address, Dispatcher as _, Request},
};
use minidom::Element;
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::oneshot;

/// The most requests under way on one link.
pub(crate) const MAX_WAITING: usize = 1024;
/// How long one agent may take to answer another. The one that asks may give up earlier.
const PEER_PATIENCE: Millis = Millis::seconds(120);

pub(super) struct Link {
    pub(super) session: Arc<Session>,
    pub(super) host: HypervisorName,
    /// Which of perhaps several that have its identity this one is.
    pub(super) instance: Option<String>,
    waiting: usize,
}

struct Waiting {
    link: u64,
    answer: oneshot::Sender<Result<Value, Fault>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) links: HashMap<u64, Link>,
    waiting: HashMap<u64, Waiting>,
}

/// The links and what is under way on them.
#[derive(Default)]
pub(crate) struct Links {
    pub(super) state: Mutex<State>,
    /// Where all exchanges of the cell are, as agents are told.
    pub(super) exchanges: Mutex<Vec<String>>,
    next: AtomicU64,
}

/// Takes a request off the books when its caller stops waiting, however that happens.
struct Ticket<'a> {
    links: &'a Links,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.links.forget(self.id);
    }
}

impl Links {
    pub(super) fn open(&self, session: &Arc<Session>, host: HypervisorName, instance: Option<String>) {
        // A second hello begins a new assertion; what is under way on the link stays on the books.
        let link = || Link { session: session.clone(), host, instance, waiting: 0 };
        self.state.lock().links.entry(session.id()).or_insert_with(link);
    }

    pub(super) fn host(&self, link: u64) -> Option<HypervisorName> {
        self.state.lock().links.get(&link).map(|l| l.host.clone())
    }

    fn forget(&self, id: u64) {
        let mut state = self.state.lock();
        if let Some(waiting) = state.waiting.remove(&id)
            && let Some(link) = state.links.get_mut(&waiting.link)
        {
            link.waiting -= 1;
        }
    }

    /// How many links there are, and how many requests are under way.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.links.len(), state.waiting.len())
    }

    /// Sends a request over a link and waits for its answer.
    async fn ask(&self, cell: &str, epoch: Epoch, link: u64, to: &str, request: &Request, within: Millis) -> Result<Value, Fault> {
        let payload = node::stamp(node::Ask::Request(Box::new(request.clone())).print(), epoch);
        self.send(epoch, link, within, |xml, id| {
            xml.attr("type", "set").attr("id", id).attr("from", cell).attr("to", to).element(&payload);
        })
        .await
    }

    /// Asks the agent itself something over its link.
    pub(super) async fn ask_agent(&self, cell: &str, epoch: Epoch, link: u64, ask: &node::Ask, within: Millis) -> Result<Value, Fault> {
        let payload = node::stamp(ask.print(), epoch);
        let write = |xml: &mut Xml, id: &str| {
            xml.attr("type", "set").attr("id", id).attr("from", cell).element(&payload);
        };
        self.send(epoch, link, within, write).await
    }

    /// Whether whoever is at the other end of a link gives a sign of life.
    pub(super) async fn is_alive(&self, cell: &str, epoch: Epoch, link: u64, within: Millis) -> bool {
        let asked = self.send(epoch, link, within, |xml, id| {
            xml.attr("type", "get").attr("id", id).attr("from", cell).empty("ping", ns::PING);
        });
        asked.await.is_ok()
    }

    async fn send(&self, epoch: Epoch, link: u64, within: Millis, write: impl FnOnce(&mut Xml, &str)) -> Result<Value, Fault> {
        let (answer, answered) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (session, host) = {
            let mut state = self.state.lock();
            let Some(entry) = state.links.get_mut(&link) else { return Err(gone_before(None)) };
            if entry.waiting >= MAX_WAITING {
                return Err(Fault::busy(format!("too much is asked of {} at once; try again in a moment", entry.host)));
            }
            entry.waiting += 1;
            let found = (entry.session.clone(), entry.host.clone());
            state.waiting.insert(id, Waiting { link, answer });
            found
        };
        let _ticket = Ticket { links: self, id };
        let mut xml = Xml::stanza("iq");
        // With the epoch, so that a late answer to another exchange's request is nobody's here.
        write(&mut xml, &format!("r{}-{id}", epoch.0));
        if session.send(Stanza::from(xml.finish())).is_err() {
            return Err(Fault::busy(format!("the queue to {host} is full; try again in a moment")));
        }
        match tokio::time::timeout(within.duration(), answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Fault::new(
                FaultKind::Timeout,
                format!("the agent on {host} went away before it answered; look at the state before asking again"),
            )),
            Err(_) => Err(Fault::new(
                FaultKind::Timeout,
                format!("the agent on {host} did not answer within {} s; look at the state before asking again", within.0.div_ceil(1000)),
            )),
        }
    }
}

fn gone_before(host: Option<&HypervisorName>) -> Fault {
    match host {
        Some(host) => Fault::unavailable(format!("the agent on {host} cannot be reached; try again when it is back")),
        None => Fault::unavailable("its agent cannot be reached; try again when it is back"),
    }
}

/// The hypervisor whose agent this session is.
pub(super) fn host_of(session: &Session) -> Option<HypervisorName> {
    session.jid().node().and_then(|n| n.as_str().strip_prefix("hv.")).and_then(|n| n.parse().ok())
}

impl Exchange {
    /// A stanza of a node's session. Answers whether it was one of the link.
    pub(super) fn on_node_stanza(self: &Arc<Self>, session: &Arc<Session>, stanza: &Element) -> bool {
        match (stanza.name(), stanza.attr("type")) {
            ("message", _) if stanza.has_child("usage", ns::NODE) => {
                if let Some(frame) = node::usage_of(stanza) {
                    self.on_usage(session, frame);
                }
                true
            }
            ("message", _) => match node::announced(stanza) {
                Some(Ok(events)) => {
                    if let Some(host) = self.links.host(session.id()) {
                        self.change(|table, _| table.announce(&host, session.id(), events));
                    } else {
                        tracing::warn!(link = %session.jid(), "announced before hello; ignored");
                    }
                    true
                }
                Some(Err(fault)) => {
                    tracing::warn!(link = %session.jid(), %fault, "an announcement cannot be read; ignored");
                    true
                }
                None => false,
            },
            ("iq", Some("result" | "error")) => self.on_answer(session, stanza),
            ("iq", Some(kind @ ("get" | "set"))) if stanza.children().next().is_some_and(Ask::is) => {
                let (Some(payload), Some(reply)) = (stanza.children().next(), Reply::to(session, stanza)) else { return true };
                let kind = if kind == "get" { IqKind::Get } else { IqKind::Set };
                self.on_authority(session, kind, stanza, payload, reply);
                true
            }
            ("iq", Some("set")) => {
                let Some(payload) = stanza.children().next().filter(|p| p.ns() == ns::NODE) else { return false };
                let Some(reply) = Reply::to(session, stanza) else { return true };
                match node::Ask::parse(payload) {
                    Ok(ask) => self.on_ask(session, stanza.attr("to"), ask, reply),
                    Err(fault) => reply.fault(&fault),
                }
                true
            }
            _ => false,
        }
    }

    fn on_ask(self: &Arc<Self>, session: &Arc<Session>, to: Option<&str>, ask: node::Ask, reply: Reply) {
        let link = session.id();
        match ask {
            node::Ask::Hello(hello) => self.on_hello(session, hello, reply),
            node::Ask::Renew(renewal) => self.on_renewal(session, renewal, reply),
            node::Ask::Leave => self.on_leave(session, reply),
            node::Ask::Carry(_) => reply.fault(&Fault::invalid("only the exchange asks for a carriage")),
            node::Ask::Assert(entities) => {
                let Some(host) = self.links.host(link) else { return reply.fault(&no_lease()) };
                let refused = self.change(|table, now| table.assert(&host, link, entities, now));
                answer_assertion(&reply, &refused);
            }
            node::Ask::Asserted => {
                let Some(host) = self.links.host(link) else { return reply.fault(&no_lease()) };
                let refused = self.change(|table, now| table.asserted(&host, link, now));
                self.settling.asserted(&host, session.transport() == Transport::Memory);
                answer_assertion(&reply, &refused);
                self.tell_expelled(&host);
            }
            node::Ask::Request(request) => {
                // From one agent to another. Whom it says it asks for is not believed: an agent asks in its own name, and may look and
                // say what only agents say to each other.
                if self.links.host(link).is_none() {
                    return reply.fault(&no_lease());
                }
                let mut request = request;
                request.caller.jid = session.jid().to_string();
                request.caller.role = Role::Node;
                let exchange = self.clone();
                if to == Some(self.cell.as_str()) {
                    request.target = Address::Cell;
                    tokio::spawn(async move {
                        match exchange.call(*request).await {
                            Ok(value) => reply.element(&node::reply(&value)),
                            Err(fault) => reply.fault(&fault),
                        }
                    });
                    return;
                }
                let peer = to.and_then(|to| self.cell.entity(to).ok());
                let Some(EntityId::Hypervisor(peer)) = peer else {
                    reply.fault(&Fault::invalid("an agent may ask only the cell or another hypervisor of it"));
                    return;
                };
                tokio::spawn(async move {
                    let to = exchange.cell.jid(&EntityId::Hypervisor(peer.clone()));
                    let asked = async {
                        exchange.vouch(&mut request).await?;
                        exchange.ask_host(&peer, &to, &request, PEER_PATIENCE).await
                    };
                    match asked.await {
                        Ok(value) => reply.element(&node::reply(&value)),
                        Err(fault) => reply.fault(&fault),
                    }
                });
            }
        }
    }

    fn on_answer(&self, session: &Arc<Session>, stanza: &Element) -> bool {
        let ours = format!("r{}-", self.epoch.0);
        let Some(id) = stanza.attr("id").and_then(|id| id.strip_prefix(&*ours)?.parse::<u64>().ok()) else { return false };
        let mut state = self.links.state.lock();
        if state.waiting.get(&id).is_none_or(|w| w.link != session.id()) {
            return false;
        }
        let Some(waiting) = state.waiting.remove(&id) else { return false };
        if let Some(link) = state.links.get_mut(&session.id()) {
            link.waiting -= 1;
        }
        drop(state);
        let answer = if stanza.attr("type") == Some("result") {
            stanza.children().next().map_or_else(|| Ok(Value::Null), node::replied::<Value>)
        } else {
            Err(fault::of_stanza(stanza))
        };
        // Whoever asked may have stopped waiting; then nobody minds.
        let _ = waiting.answer.send(answer);
        true
    }

    /// A node's session is gone for good.
    pub(super) fn on_link_closed(self: &Arc<Self>, session: &Arc<Session>) {
        let host = {
            let mut state = self.links.state.lock();
            // Dropping the senders tells everybody who waits.
            state.waiting.retain(|_, w| w.link != session.id());
            state.links.remove(&session.id()).map(|l| l.host)
        };
        self.carriages.on_link_closed(session.id());
        if let Some(host) = host {
            tracing::warn!(%host, "the agent's link is gone; what it spoke for is unreachable");
            if self.locations.read().link(&host) == Some(session.id()) {
                self.roll.part(&host);
            }
            self.change(|table, now| table.lost(&host, session.id(), now));
            self.lose_sight(&host, session.id());
        }
    }

    /// Asks the agent of a host, wherever it is.
    pub(super) async fn ask_host(&self, host: &HypervisorName, to: &str, request: &Request, within: Millis) -> Result<Value, Fault> {
        let Some(link) = self.locations.read().link(host) else { return Err(gone_before(Some(host))) };
        self.links.ask(self.cell.as_str(), self.epoch, link, to, request, within).await
    }
}

pub(super) fn no_lease() -> Fault {
    Fault::new(FaultKind::Conflict, "this link does not speak for its host; say hello first, or stop because another link took over")
}

/// The most refused entities that are named in an answer.
const MAX_NAMED: usize = 5;

/// Refusals of single entities do no harm to the others: all that could be taken was taken, and the answer says what was not.
fn answer_assertion(reply: &Reply, refused: &[Refusal]) {
    if refused.contains(&Refusal::NoLease) {
        return reply.fault(&no_lease());
    }
    let held: Vec<String> = refused
        .iter()
        .filter_map(|r| match r {
            Refusal::Held(id, host) | Refusal::Late(id, host) => Some(format!("{id} (held by {host})")),
            Refusal::OtherHost(id, host) => Some(format!("{id} (said to be on {host})")),
            Refusal::Stale(_) | Refusal::NoLease => None,
        })
        .collect();
    if held.is_empty() {
        return reply.done();
    }
    let more = if held.len() > MAX_NAMED { format!(" and {} more", held.len() - MAX_NAMED) } else { String::new() };
    reply.fault(&Fault::new(
        FaultKind::Conflict,
        format!(
            "not taken, while all others were: {}{more}; one entity can be on one host only",
            held[..held.len().min(MAX_NAMED)].join(", ")
        ),
    ));
}
