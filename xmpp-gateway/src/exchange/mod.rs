//! The exchange: the cell itself. It knows where every entity is, shows people an ordinary XMPP server full of machines, and
//! passes what they ask to the agents.
//!
//! ```text
//!   people's sessions                      nodes' sessions
//!        | iq, message, presence                | hello, assert, announce, replies
//!        v                                      v
//!   roster presence disco adhoc chat feed      node
//!        |             |                        |
//!        |          dispatch ----requests---->  |
//!        +----------- location table <----------+
//! ```
//!
//! | file | service |
//! |---|---|
//! | `location`, `handed`, `marks`, `graves`, `topic`, `interned` | where every entity is, or was, and who may speak for it (pure) |
//! | `node`, `vouch` | the links to the agents; what a person may do in whose name they ask each other |
//! | `term`, `proof` | which of several exchanges serves (pure), and whether it may change anything now |
//! | `carriages` | requests for what tickets of other hosts open, over connections that those make |
//! | `heirs` | hosts with a copy of a machine that is gone look again |
//! | `audit` | on how many hosts each machine runs, and the alarm when it is more than one |
//! | `authority` | who owns what and what is on the shelf, for agents on other machines |
//! | `settling` | the first moments after a takeover, in which the agents tell what there is |
//! | `members` | who belongs to the cell, and what is wrong with them |
//! | `dispatch` | carrying out requests: authorise, answer or forward |
//! | `feed` | the cell feed |
//! | `usage` | who looks at what machines take |
//! | `adhoc`, `stage` | commands with forms or JSON; their stages (pure) |
//! | `chat`, `line` | commands as chat; what a line means (pure) |
//! | `people`, `roster`, `presence`, `look` | who is here, whom they see, and how an entity looks (pure) |
//! | `health`, `metrics` | how it is, in numbers |
//! | `disco`, `services` | what clients ask at login |
//!
//! Locks are taken in the order location table, audit, people, feed, usage; none is held across an await.
//! Everything that reads the table and then tells somebody holds the table's lock meanwhile, so that nobody hears of two changes
//! in the wrong order.

pub(crate) mod adhoc;
mod audit;
mod authority;
pub mod carriages;
pub(crate) mod chat;
pub(crate) mod disco;
pub(crate) mod dispatch;
pub(crate) mod expelled;
mod feed;
mod graves;
mod handed;
mod health;
mod heirs;
mod interned;
pub(crate) mod line;
pub(crate) mod location;
pub(crate) mod look;
mod marks;
mod members;
pub(crate) mod metrics;
pub(crate) mod node;
pub(crate) mod people;
pub(crate) mod presence;
pub mod proof;
pub(crate) mod reply;
pub(crate) mod roster;
pub(crate) mod services;
pub mod settling;
pub(crate) mod stage;
pub mod term;
#[cfg(test)]
mod tests;
mod topic;
mod usage;
mod vouch;
pub(crate) mod words;
pub(crate) mod xml;

use crate::{
    membership::{Membership, Roll},
    ns,
    server::handler::{Berth, SessionHandler, Stanza, StreamCondition},
    server::session::Session,
    stanza::{adhoc::Command, set_attr},
};
use archipel_contract::{
    BoxFuture, CellName, Entity, EntityId, Epoch, Fault, Millis, Role, Timestamp,
    catalog::Catalog,
    port::{AccountKind, Accounts, Authority, Clock, Documents, Journal},
};
pub use health::Health;
use location::{Locations, Outcome, Refusal};
use minidom::Element;
use parking_lot::{Mutex, RwLock};
use reply::{Refused, Reply};
use rxml::xml_ncname;
use std::sync::{Arc, Weak};

/// What an exchange is made of.
#[derive(Clone)]
pub struct ExchangeConfig {
    /// The cell it serves.
    pub cell: CellName,
    /// Accounts and their rosters.
    pub accounts: Arc<dyn Accounts>,
    /// Who owns which machine; agents on other machines ask it through their links.
    pub authority: Arc<dyn Authority>,
    /// The cell's documents; agents reach the shelf and their own.
    pub documents: Arc<dyn Documents>,
    /// Who belongs to the cell by certificate. Without it nobody can be invited.
    pub members: Option<Arc<Membership>>,
    /// Where changes that are the cell's own are written down, so that each runs once. Without it none is carried out.
    pub journal: Option<Arc<dyn Journal>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The fencing number of its leadership, told to agents.
    pub epoch: Epoch,
    /// Whether changes may be taken; without rivals they always may.
    pub proof: Arc<proof::Proof>,
    /// Whom it waits for before it lets people in.
    pub settling: Arc<settling::Settling>,
    /// The version of the program, told to whoever asks.
    pub version: String,
    /// How long an agent may take to answer.
    pub answer_within: Millis,
    /// The commands there are.
    pub catalog: &'static Catalog,
}

impl ExchangeConfig {
    /// The usual configuration: ten seconds to answer, the shipped catalog.
    pub fn new(
        cell: CellName,
        accounts: Arc<dyn Accounts>,
        authority: Arc<dyn Authority>,
        documents: Arc<dyn Documents>,
        clock: Arc<dyn Clock>,
        epoch: Epoch,
    ) -> ExchangeConfig {
        ExchangeConfig {
            cell,
            accounts,
            authority,
            documents,
            members: None,
            journal: None,
            proof: proof::Proof::for_ever(clock.clone()),
            settling: settling::Settling::none(),
            clock,
            epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            answer_within: Millis::seconds(10),
            catalog: Catalog::shipped(),
        }
    }
}

/// The cell. It implements [`SessionHandler`] for the server and [`archipel_contract::port::Dispatcher`] for everybody else.
pub struct Exchange {
    me: Weak<Exchange>,
    cell: CellName,
    accounts: Arc<dyn Accounts>,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    proof: Arc<proof::Proof>,
    settling: Arc<settling::Settling>,
    version: String,
    answer_within: Millis,
    catalog: &'static Catalog,
    locations: RwLock<Locations>,
    links: node::Links,
    carriages: carriages::Carriages,
    roll: Arc<Roll>,
    membership: Option<Arc<Membership>>,
    journal: Option<Arc<dyn Journal>>,
    told: members::Told,
    desk: authority::Desk,
    audit: Mutex<audit::Auditor>,
    auditing: audit::Room,
    people: Mutex<people::People>,
    feed: feed::Feed,
    watching: usage::Watching,
    commands: Mutex<stage::Sessions>,
    chat: Mutex<chat::Talks>,
    metrics: metrics::Metrics,
    untold: Mutex<expelled::Untold>,
}

/// Where a stanza of a person goes.
enum Place {
    /// Their own account: no address, or their own bare JID.
    Account,
    /// The cell itself.
    Cell,
    /// An entity of the cell.
    Entity(Arc<Entity>),
    /// Something that looks like an entity and is not there.
    NoEntity(EntityId),
    /// An account of the cell, with the resource if one was given.
    Person(String, Option<String>),
    /// Another domain.
    Elsewhere,
}

impl Exchange {
    /// A cell nobody is in yet.
    pub fn new(config: ExchangeConfig) -> Arc<Exchange> {
        Arc::new_cyclic(|me| Exchange {
            me: me.clone(),
            locations: RwLock::new(Locations::new(config.cell.clone())),
            cell: config.cell,
            accounts: config.accounts,
            clock: config.clock,
            epoch: config.epoch,
            proof: config.proof,
            settling: config.settling,
            version: config.version,
            answer_within: config.answer_within,
            catalog: config.catalog,
            links: node::Links::default(),
            carriages: carriages::Carriages::default(),
            roll: config.members.as_ref().map(|m| m.roll.clone()).unwrap_or_default(),
            membership: config.members,
            journal: config.journal,
            told: members::Told::default(),
            desk: authority::Desk::new(config.authority, config.documents),
            audit: Mutex::default(),
            auditing: audit::Room::default(),
            people: Mutex::default(),
            feed: feed::Feed::default(),
            watching: usage::Watching::default(),
            commands: Mutex::default(),
            chat: Mutex::default(),
            metrics: metrics::Metrics::default(),
            untold: Mutex::default(),
        })
    }

    /// What the cell knows of an entity now.
    pub fn look_up(&self, id: &EntityId) -> Option<Arc<Entity>> {
        self.entity(id)
    }

    /// Changes the location table and tells everybody, in one breath. Answers what was refused.
    fn change(self: &Arc<Self>, act: impl FnOnce(&mut Locations, Timestamp) -> Outcome) -> Vec<Refusal> {
        let mut table = self.locations.write();
        let now = self.clock.now();
        let mut outcome = act(&mut table, now);
        let suspects = self.audit.lock().follow(&mut table, &mut outcome.changes, now);
        if !outcome.changes.is_empty() {
            self.tell_presence(&table, &outcome.changes);
            self.tell_heirs(&table, &outcome.changes);
            self.push_feed(outcome.changes.into_iter().map(|c| c.event));
        }
        drop(table);
        for id in suspects {
            tokio::spawn(self.clone().look_at(id));
        }
        for refusal in &outcome.refused {
            match refusal {
                Refusal::Held(id, holder) => {
                    tracing::warn!(entity = %id, %holder, "refused: another host holds it with at least this epoch")
                }
                Refusal::Late(id, holder) => tracing::debug!(entity = %id, %holder, "its last host tells of it late; ignored"),
                Refusal::OtherHost(id, host) => tracing::warn!(entity = %id, %host, "refused: an agent may speak only for its own host"),
                Refusal::NoLease => tracing::warn!("refused: the link does not speak for its host"),
                Refusal::Stale(id) => tracing::debug!(entity = %id, "older than what is known; ignored"),
            }
        }
        outcome.refused
    }

    fn place(&self, session: &Session, to: Option<&str>) -> Place {
        let Some(to) = to else { return Place::Account };
        // Addresses are compared in their prepared form; nearly all come in it.
        let prepared;
        let to = if to.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii()) {
            let Ok(jid) = jid::Jid::new(to) else { return Place::Elsewhere };
            prepared = jid.to_string();
            &prepared
        } else {
            to
        };
        let (bare, resource) = to.split_once('/').map_or((to, None), |(b, r)| (b, Some(r.to_owned())));
        let Some((local, domain)) = bare.split_once('@') else {
            return if bare == self.cell.as_str() { Place::Cell } else { Place::Elsewhere };
        };
        if domain != self.cell.as_str() {
            return Place::Elsewhere;
        }
        if session.jid().node().is_some_and(|n| n.as_str() == local) && resource.is_none() {
            return Place::Account;
        }
        match local.parse::<EntityId>() {
            Ok(id) => self.entity(&id).map_or(Place::NoEntity(id), Place::Entity),
            Err(_) => Place::Person(local.to_owned(), resource),
        }
    }

    fn on_iq(self: &Arc<Self>, session: &Arc<Session>, role: Role, iq: Element) {
        let kind = iq.attr("type").unwrap_or_default().to_owned();
        let place = self.place(session, iq.attr("to"));
        if matches!(kind.as_str(), "result" | "error") {
            if let Place::Person(local, Some(resource)) = place {
                self.pass_on(session, &local, &resource, iq);
            }
            return;
        }
        // Without an id there is nothing an answer could be matched with.
        let Some(reply) = Reply::to(session, &iq) else { return };
        let mut children = iq.children();
        let (Some(payload), None) = (children.next(), children.next()) else { return reply.refuse(Refused::BadRequest) };
        let set = match kind.as_str() {
            "get" => false,
            "set" => true,
            _ => return reply.refuse(Refused::BadRequest),
        };
        match place {
            Place::Elsewhere => reply.refuse(Refused::RemoteServerNotFound),
            Place::NoEntity(id) if Command::is(payload) && set => self.on_command_of_absent(session, role, &id, payload, reply),
            Place::NoEntity(id) => reply.fault(&dispatch::missing(&self.locations.read(), &id)),
            // A roster push comes from one's own server only.
            Place::Person(..) if payload.is("query", "jabber:iq:roster") => reply.refuse(Refused::NotAllowed),
            Place::Person(local, Some(resource)) => {
                if !self.pass_on(session, &local, &resource, iq.clone()) {
                    reply.refuse(Refused::ServiceUnavailable);
                }
            }
            // Nothing about other people's accounts, whether they exist or not.
            Place::Person(_, None) => reply.refuse(Refused::ServiceUnavailable),
            Place::Account if payload.is("query", "jabber:iq:roster") => self.on_roster(session, set, payload, reply),
            place => {
                let entity = match &place {
                    Place::Entity(entity) => Some(entity),
                    _ => None,
                };
                let account = matches!(place, Place::Account);
                if payload.is("query", disco::INFO) || payload.is("query", disco::ITEMS) {
                    let full = iq.attr("to").is_some_and(|to| to.contains('/'));
                    self.on_disco(role, account, entity, full, payload, &reply);
                } else if Command::is(payload) && set && !account {
                    self.on_command(session, role, entity.cloned(), payload, reply);
                } else if payload.is("pubsub", ns::PUBSUB) && matches!(place, Place::Cell) {
                    self.on_feed(session, payload, &reply);
                } else if set && crate::stanza::usage::Ask::is(payload) && matches!(place, Place::Cell) {
                    self.on_watch(session, payload, &reply);
                } else {
                    self.on_service(account, entity, set, payload, &reply);
                }
            }
        }
    }

    /// Passes a stanza on to another session of the cell. Answers whether there is one.
    fn pass_on(&self, from: &Session, local: &str, resource: &str, mut stanza: Element) -> bool {
        let target = self.people.lock().session(local, resource);
        let Some(target) = target else { return false };
        set_attr(&mut stanza, xml_ncname!("from"), &from.jid().to_string());
        if target.send(Stanza::from(&stanza)).is_err() {
            tracing::debug!(to = %target.jid(), "a stanza between people was dropped because the queue is full");
        }
        true
    }

    fn on_message(self: &Arc<Self>, session: &Arc<Session>, role: Role, message: Element) {
        match self.place(session, message.attr("to")) {
            Place::Cell => self.on_chat(session, role, None, &message),
            Place::Entity(entity) => self.on_chat(session, role, Some(entity), &message),
            Place::Account => self.route_message(session, None, None, message),
            Place::Person(local, resource) => self.route_message(session, Some(local), resource, message),
            Place::NoEntity(id) => {
                let why = dispatch::missing(&self.locations.read(), &id).message;
                self.bounce(session, &message, Refused::ItemNotFound, Some(&why));
            }
            Place::Elsewhere => self.bounce(session, &message, Refused::RemoteServerNotFound, None),
        }
    }
}

impl SessionHandler for Exchange {
    fn opened(&self, session: &Arc<Session>) {
        if let AccountKind::Person(_) = session.kind() {
            self.people.lock().open(session);
        }
    }

    fn stanza(&self, session: &Arc<Session>, stanza: Element) {
        let Some(me) = self.me.upgrade() else { return };
        let role = match session.kind() {
            AccountKind::Person(role) => role,
            AccountKind::Node => {
                if me.on_node_stanza(session, &stanza) {
                    return;
                }
                // An agent may also ask what any client asks (ping, disco); it changes nothing that way.
                match stanza.attr("type") {
                    Some("set") if stanza.name() == "iq" => {
                        if let Some(reply) = Reply::to(session, &stanza) {
                            reply.refuse(Refused::NotAllowed);
                        }
                    }
                    _ if stanza.name() == "iq" => me.on_iq(session, Role::Viewer, stanza),
                    _ => tracing::debug!(link = %session.jid(), element = stanza.name(), "not a stanza of a link; ignored"),
                }
                return;
            }
        };
        match stanza.name() {
            "iq" => me.on_iq(session, role, stanza),
            "message" => me.on_message(session, role, stanza),
            "presence" => me.on_presence(session, stanza),
            other => tracing::debug!(element = other, "not a stanza; ignored"),
        }
    }

    fn ready(&self, session: &Arc<Session>) -> BoxFuture<'static, ()> {
        match session.kind() {
            AccountKind::Person(_) => Box::pin(self.settling.settled()),
            AccountKind::Node => Box::pin(std::future::ready(())),
        }
    }

    fn suspended(&self, _session: &Arc<Session>) {}

    fn resumed(&self, _session: &Arc<Session>) {}

    fn berth(&self, node: &str, carriage: &str) -> Option<Berth> {
        self.carriages.berth(node, carriage)
    }

    fn dismissed(&self, why: StreamCondition) {
        self.carriages.on_dismissed(why);
    }

    fn closed(&self, session: &Arc<Session>) {
        let Some(me) = self.me.upgrade() else { return };
        me.feed.unsubscribe(session.id());
        me.look_away(session.id());
        me.commands.lock().close(session.jid());
        match session.kind() {
            AccountKind::Node => me.on_link_closed(session),
            AccountKind::Person(_) => {
                // A question asked of this session must not be answered by another one, perhaps with fewer rights.
                me.chat.lock().close(&session.jid().to_string());
                me.leave(session);
            }
        }
    }
}

/// A fault in one sentence for people, the cause included.
pub(crate) fn sentence(fault: &Fault) -> String {
    fault.to_string()
}
