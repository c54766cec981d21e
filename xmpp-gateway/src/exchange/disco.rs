//! Discovery (XEP-0030) and capabilities (XEP-0115).
//!
//! The hash of the capabilities is the same for all entities of a kind: what differs between entities (their facts) is in a form
//! under a node of its own, so that a client asks once for each kind and not once for each machine.

use super::{
    Exchange,
    dispatch::no_such,
    reply::{Refused, Reply},
    words,
    xml::Xml,
};
use crate::{ns, stanza::feed::PageRequest};
use archipel_contract::{Entity, Kind, Role, Target, catalog::CommandEntry};
use base64::Engine;
use minidom::Element;
use sha1::{Digest, Sha1};
use std::sync::{Arc, OnceLock};

pub(super) const INFO: &str = "http://jabber.org/protocol/disco#info";
pub(super) const ITEMS: &str = "http://jabber.org/protocol/disco#items";
const CAPS: &str = "http://jabber.org/protocol/caps";
/// The node of an entity's facts.
const FACTS: &str = "urn:archipel:info:0";
/// What capabilities are announced under.
const CAPS_NODE: &str = "urn:archipel:caps:0";
/// The most items in one answer.
const MAX_ITEMS: usize = 1000;

type Identity = (&'static str, &'static str);

const ENTITY_FEATURES: [&str; 9] = [INFO, ITEMS, CAPS, ns::COMMANDS, ns::DATA_FORMS, ns::JSON, ns::PING, "urn:xmpp:receipts", "vcard-temp"];
const CELL_FEATURES: [&str; 16] = [
    INFO,
    ITEMS,
    CAPS,
    ns::COMMANDS,
    ns::DATA_FORMS,
    ns::JSON,
    ns::PING,
    ns::RSM,
    ns::FEED,
    "http://jabber.org/protocol/pubsub#retrieve-items",
    "http://jabber.org/protocol/pubsub#subscribe",
    "jabber:iq:last",
    "jabber:iq:version",
    "urn:xmpp:receipts",
    "urn:xmpp:time",
    "vcard-temp",
];
const ACCOUNT_FEATURES: [&str; 3] = [INFO, ITEMS, ns::PING];

/// What an address is: the cell (`None`) or a kind of entity.
fn identities(kind: Option<Kind>) -> &'static [Identity] {
    match kind {
        None => &[("component", "generic"), ("pubsub", "service"), ("server", "im")],
        Some(Kind::Hypervisor) => &[("client", "bot"), ("hierarchy", "branch")],
        Some(Kind::Domain | Kind::Network | Kind::StoragePool | Kind::Task) => &[("client", "bot"), ("hierarchy", "leaf")],
    }
}

fn features(kind: Option<Kind>) -> &'static [&'static str] {
    if kind.is_some() { &ENTITY_FEATURES } else { &CELL_FEATURES }
}

/// The verification string's hash (XEP-0115 5.1). Names are left out of it on purpose.
fn hash(identities: &[Identity], features: &[&str]) -> String {
    let mut text = String::new();
    let mut sorted = identities.to_vec();
    sorted.sort_unstable();
    for (category, kind) in sorted {
        text.push_str(&format!("{category}/{kind}//<"));
    }
    let mut sorted = features.to_vec();
    sorted.sort_unstable();
    for feature in sorted {
        text.push_str(feature);
        text.push('<');
    }
    base64::engine::general_purpose::STANDARD.encode(Sha1::digest(text.as_bytes()))
}

fn ver(kind: Option<Kind>) -> &'static str {
    static HASHES: OnceLock<[String; 3]> = OnceLock::new();
    let all = HASHES.get_or_init(|| [None, Some(Kind::Hypervisor), Some(Kind::Domain)].map(|k| hash(identities(k), features(k))));
    match kind {
        None => &all[0],
        Some(Kind::Hypervisor) => &all[1],
        Some(Kind::Domain | Kind::Network | Kind::StoragePool | Kind::Task) => &all[2],
    }
}

/// `<c/>` of a presence.
pub(super) fn write_caps(xml: &mut Xml, kind: Option<Kind>) {
    xml.open_ns("c", CAPS).attr("hash", "sha-1").attr("node", CAPS_NODE).attr("ver", ver(kind)).close();
}

fn write_info(xml: &mut Xml, node: Option<&str>, identities: &[Identity], name: Option<&str>, features: &[&str]) {
    xml.open_ns("query", INFO).attr_opt("node", node);
    for (category, kind) in identities {
        xml.open("identity").attr("category", category).attr("type", kind).attr_opt("name", name).close();
    }
    for feature in features {
        xml.open("feature").attr("var", feature).close();
    }
}

/// To whom commands are sent at such an address.
pub(super) fn target_of(kind: Option<Kind>) -> Target {
    match kind {
        None => Target::Cell,
        Some(Kind::Hypervisor) => Target::Hypervisor,
        Some(Kind::Domain) => Target::Domain,
        Some(Kind::Network) => Target::Network,
        Some(Kind::StoragePool) => Target::StoragePool,
        Some(Kind::Task) => Target::Task,
    }
}

impl Exchange {
    /// The commands somebody with this role may use on such an address.
    pub(super) fn commands(&self, role: Role, kind: Option<Kind>) -> impl Iterator<Item = &'static CommandEntry> {
        self.catalog.of_target(target_of(kind)).filter(move |c| role.covers(c.access))
    }

    /// A disco query to an own account, the cell (`entity` is `None`) or an entity.
    pub(super) fn on_disco(&self, role: Role, account: bool, entity: Option<&Arc<Entity>>, full: bool, query: &Element, reply: &Reply) {
        let node = query.attr("node").filter(|n| !n.is_empty());
        if query.ns() == INFO {
            self.info(role, account, entity, full, node, reply);
        } else {
            self.items(role, account, entity, node, query, reply);
        }
    }

    fn info(&self, role: Role, account: bool, entity: Option<&Arc<Entity>>, full: bool, node: Option<&str>, reply: &Reply) {
        let kind = entity.map(|e| e.kind());
        if account {
            return match node {
                None => reply.with(|xml| write_info(xml, None, &[("account", "registered")], None, &ACCOUNT_FEATURES)),
                Some(_) => reply.refuse(Refused::ItemNotFound),
            };
        }
        let name = entity.map_or("Archipel", |e| &*e.name);
        match node {
            None => {
                let own = identities(kind);
                // A bare address is an account, a full one is what is running there.
                let bare = [("account", "registered")];
                let all: Vec<Identity> = if entity.is_some() && !full { bare.iter().chain(own).copied().collect() } else { own.to_vec() };
                reply.with(|xml| write_info(xml, None, &all, Some(name), features(kind)));
            }
            Some(node) if node.strip_prefix(CAPS_NODE).and_then(|r| r.strip_prefix('#')) == Some(ver(kind)) => {
                reply.with(|xml| write_info(xml, Some(node), identities(kind), None, features(kind)));
            }
            Some(ns::COMMANDS) => reply.with(|xml| {
                write_info(xml, Some(ns::COMMANDS), &[("automation", "command-list")], Some("commands"), &[ns::COMMANDS, ns::DATA_FORMS]);
            }),
            Some(FACTS) => match entity.and_then(|e| words::result_form(FACTS, &e.name, &e.to_json())) {
                Some(form) => reply.with(|xml| {
                    write_info(xml, Some(FACTS), identities(kind), Some(name), &[ns::DATA_FORMS]);
                    xml.element(&form.print());
                }),
                None => reply.refuse(Refused::ItemNotFound),
            },
            Some(ns::FEED) if entity.is_none() => {
                reply.with(|xml| {
                    write_info(xml, Some(ns::FEED), &[("pubsub", "leaf")], Some("everything that changes"), &[ns::PUBSUB, ns::RSM])
                });
            }
            Some(node) => match self.commands(role, kind).find(|c| c.name == node) {
                Some(command) => reply.with(|xml| {
                    let features = [ns::COMMANDS, ns::DATA_FORMS, ns::JSON];
                    write_info(xml, Some(node), &[("automation", "command-node")], Some(&command.title), &features);
                }),
                None => reply.fault(&no_such(node)),
            },
        }
    }

    fn items(&self, role: Role, account: bool, entity: Option<&Arc<Entity>>, node: Option<&str>, query: &Element, reply: &Reply) {
        let request = match PageRequest::parse(query.get_child("set", ns::RSM)) {
            Ok(request) => request,
            Err(fault) => return reply.fault(&fault),
        };
        let kind = entity.map(|e| e.kind());
        match node {
            _ if account && node.is_none() => reply.with(|xml| {
                xml.open_ns("query", ITEMS);
            }),
            Some(ns::COMMANDS) if !account => {
                let jid = entity.map_or_else(|| self.cell.to_string(), |e| e.jid());
                reply.with(|xml| {
                    xml.open_ns("query", ITEMS).attr("node", ns::COMMANDS);
                    for command in self.commands(role, kind) {
                        xml.open("item").attr("jid", &jid).attr("node", &command.name).attr("name", &command.title).close();
                    }
                });
            }
            None => {
                let table = self.locations.read();
                let found: Vec<&Arc<Entity>> = match entity {
                    None => [Kind::Hypervisor, Kind::Network, Kind::StoragePool].into_iter().flat_map(|k| table.of_kind(k)).collect(),
                    Some(e) if e.kind() == Kind::Hypervisor => {
                        table.on_host(&e.host).filter(|o| o.id != e.id && o.kind() != Kind::Task).collect()
                    }
                    Some(_) => Vec::new(),
                };
                let total = found.len();
                let start = match request.after.as_deref() {
                    None => 0,
                    // Beginning anew would send a client that reads page by page in circles (XEP-0059 2.2).
                    Some(after) => match found.iter().position(|e| e.id.to_string() == after) {
                        Some(at) => at + 1,
                        None => return reply.refuse(Refused::ItemNotFound),
                    },
                };
                let page = &found[start..total.min(start + request.max.unwrap_or(MAX_ITEMS).min(MAX_ITEMS))];
                reply.with(|xml| {
                    xml.open_ns("query", ITEMS);
                    for entity in page {
                        xml.open("item").attr("jid", &entity.jid()).attr("name", &entity.name).close();
                    }
                    if page.len() < total {
                        xml.open_ns("set", ns::RSM);
                        if let (Some(first), Some(last)) = (page.first(), page.last()) {
                            xml.leaf("first", &first.id.to_string()).leaf("last", &last.id.to_string());
                        }
                        xml.leaf("count", &total.to_string()).close();
                    }
                });
            }
            Some(FACTS | ns::FEED) => reply.with(|xml| {
                xml.open_ns("query", ITEMS).attr_opt("node", node);
            }),
            Some(node) => {
                if self.commands(role, kind).any(|c| c.name == node) {
                    reply.with(|xml| {
                        xml.open_ns("query", ITEMS).attr("node", node);
                    });
                } else {
                    reply.refuse(Refused::ItemNotFound);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_specification() {
        // The simple example of XEP-0115 5.2, without its identity's name.
        let features = [
            "http://jabber.org/protocol/disco#info",
            "http://jabber.org/protocol/disco#items",
            "http://jabber.org/protocol/muc",
            "http://jabber.org/protocol/caps",
        ];
        let by_hand = Sha1::digest(
            b"client/pc//<http://jabber.org/protocol/caps<http://jabber.org/protocol/disco#info<http://jabber.org/protocol/disco#items<http://jabber.org/protocol/muc<",
        );
        assert_eq!(hash(&[("client", "pc")], &features), base64::engine::general_purpose::STANDARD.encode(by_hand));
    }

    #[test]
    fn capabilities_depend_on_the_kind_only() {
        assert_eq!(ver(Some(Kind::Domain)), ver(Some(Kind::Network)));
        assert_ne!(ver(Some(Kind::Domain)), ver(Some(Kind::Hypervisor)));
        assert_ne!(ver(None), ver(Some(Kind::Domain)));
    }
}
