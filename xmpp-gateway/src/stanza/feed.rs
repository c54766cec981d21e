//! The cell feed: subscribe, read the snapshot page by page, and apply what is pushed meanwhile by `(epoch, seq)`.
//!
//! ```text
//!   viewer                      exchange
//!   subscribe          ----->   subscribed; from now on events are pushed with ids 1, 2, 3 ...
//!   items              ----->   page of entities, last = A
//!   items after A      ----->   page of entities, last = B
//!   items after B      ----->   page without entities: that was all
//! ```

use super::{json, set_attr, text_element};
use crate::ns;
use archipel_contract::{Entity, Event, Fault};
use minidom::Element;
use rxml::xml_ncname;
use std::sync::Arc;

/// What a viewer asks of the feed's pubsub service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Push every change to this full JID.
    Subscribe {
        /// Who.
        jid: String,
    },
    /// Push nothing more.
    Unsubscribe {
        /// Who.
        jid: String,
    },
    /// One page of the snapshot.
    Items(PageRequest),
}

/// Which page of the snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// How many entities at most; the server's own limit when missing.
    pub max: Option<usize>,
    /// Only those after this local part.
    pub after: Option<String>,
}

impl Ask {
    /// As the payload of an `iq` (`set` to subscribe, `get` for items).
    pub fn print(&self) -> Element {
        let mut pubsub = Element::bare("pubsub", ns::PUBSUB);
        let verb = |name: &str| {
            let mut verb = Element::bare(name, ns::PUBSUB);
            set_attr(&mut verb, xml_ncname!("node"), ns::FEED);
            verb
        };
        match self {
            Ask::Subscribe { jid } | Ask::Unsubscribe { jid } => {
                let mut verb = verb(if matches!(self, Ask::Subscribe { .. }) { "subscribe" } else { "unsubscribe" });
                set_attr(&mut verb, xml_ncname!("jid"), jid);
                pubsub.append_child(verb);
            }
            Ask::Items(page) => {
                pubsub.append_child(verb("items"));
                let mut set = Element::bare("set", ns::RSM);
                if let Some(max) = page.max {
                    set.append_child(text_element("max", ns::RSM, &max.to_string()));
                }
                if let Some(after) = &page.after {
                    set.append_child(text_element("after", ns::RSM, after));
                }
                pubsub.append_child(set);
            }
        }
        pubsub
    }

    /// Reads a `<pubsub/>` payload. Another node is `not-found`; what the feed does not do is `unsupported`.
    pub fn parse(pubsub: &Element) -> Result<Ask, Fault> {
        if !pubsub.is("pubsub", ns::PUBSUB) {
            return Err(Fault::invalid(format!("<{}/> is not a <pubsub xmlns='{}'/>", pubsub.name(), ns::PUBSUB)));
        }
        let verb = pubsub
            .children()
            .find(|c| c.ns() == ns::PUBSUB && matches!(c.name(), "subscribe" | "unsubscribe" | "items"))
            .ok_or_else(|| Fault::new(archipel_contract::FaultKind::Unsupported, "the feed can be subscribed, unsubscribed and read"))?;
        match verb.attr("node") {
            Some(ns::FEED) => {}
            other => return Err(Fault::not_found(format!("there is no node {:?}; the feed is {}", other.unwrap_or_default(), ns::FEED))),
        }
        let jid = || verb.attr("jid").map(str::to_owned).ok_or_else(|| Fault::invalid(format!("<{}/> needs a jid", verb.name())));
        match verb.name() {
            "subscribe" => Ok(Ask::Subscribe { jid: jid()? }),
            "unsubscribe" => Ok(Ask::Unsubscribe { jid: jid()? }),
            _ => Ok(Ask::Items(PageRequest::parse(pubsub.get_child("set", ns::RSM))?)),
        }
    }
}

impl PageRequest {
    /// Reads a `<set/>` (XEP-0059) of a request; without one, the first page.
    pub fn parse(set: Option<&Element>) -> Result<PageRequest, Fault> {
        let Some(set) = set else { return Ok(PageRequest::default()) };
        let max = set.get_child("max", ns::RSM).map(Element::text);
        let max = max
            .map(|m| m.trim().parse::<usize>().map_err(|_| Fault::invalid(format!("{m:?} is not a number of entities in <max/>"))))
            .transpose()?;
        Ok(PageRequest { max, after: set.get_child("after", ns::RSM).map(Element::text).filter(|a| !a.is_empty()) })
    }
}

/// The answer to a subscription (XEP-0060 6.1.2).
pub fn subscribed(jid: &str) -> Element {
    let mut subscription = Element::bare("subscription", ns::PUBSUB);
    set_attr(&mut subscription, xml_ncname!("node"), ns::FEED);
    set_attr(&mut subscription, xml_ncname!("jid"), jid);
    set_attr(&mut subscription, xml_ncname!("subscription"), "subscribed");
    let mut pubsub = Element::bare("pubsub", ns::PUBSUB);
    pubsub.append_child(subscription);
    pubsub
}

/// Reads the containers of all `<item/>`s. A value that looks like a list is one; untagged reading would hide what is wrong.
fn values<T: serde::de::DeserializeOwned>(items: &Element) -> Result<Vec<T>, Fault> {
    let mut all = Vec::new();
    for item in items.children().filter(|c| c.name() == "item") {
        let Some(container) = item.get_child("json", ns::JSON) else { continue };
        if container.text().trim_start().starts_with('[') {
            all.extend(json::parse::<Vec<T>>(container)?);
        } else {
            all.push(json::parse::<T>(container)?);
        }
    }
    Ok(all)
}

/// One page of the snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The entities, ordered by the local part of their address. None: the snapshot ends here.
    pub entities: Vec<Arc<Entity>>,
    /// How many there are in all, as far as known.
    pub count: Option<usize>,
}

impl Page {
    /// The local part to ask on from.
    pub fn last(&self) -> Option<String> {
        self.entities.last().map(|e| e.id.to_string())
    }

    /// As the payload of the answer. All entities travel in one item.
    pub fn print(&self) -> Element {
        let mut items = Element::bare("items", ns::PUBSUB);
        set_attr(&mut items, xml_ncname!("node"), ns::FEED);
        let mut set = Element::bare("set", ns::RSM);
        if let (Some(first), Some(last)) = (self.entities.first(), self.entities.last()) {
            let mut item = Element::bare("item", ns::PUBSUB);
            set_attr(&mut item, xml_ncname!("id"), "page");
            item.append_child(json::print(&self.entities));
            items.append_child(item);
            set.append_child(text_element("first", ns::RSM, &first.id.to_string()));
            set.append_child(text_element("last", ns::RSM, &last.id.to_string()));
        }
        if let Some(count) = self.count {
            set.append_child(text_element("count", ns::RSM, &count.to_string()));
        }
        let mut pubsub = Element::bare("pubsub", ns::PUBSUB);
        pubsub.append_child(items);
        pubsub.append_child(set);
        pubsub
    }

    /// Reads the payload of the answer: entities in one item each, or in one list.
    pub fn parse(pubsub: &Element) -> Result<Page, Fault> {
        let items = pubsub.get_child("items", ns::PUBSUB).ok_or_else(|| Fault::invalid("a page of the snapshot has no <items/>"))?;
        let count = pubsub.get_child("set", ns::RSM).and_then(|s| s.get_child("count", ns::RSM)).and_then(|c| c.text().parse().ok());
        Ok(Page { entities: values(items)?, count })
    }
}

/// One pushed message: what changed, and its number within the subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// Counts up by one; a hole means that the server had to drop something.
    pub id: u64,
    /// What changed, in order.
    pub events: Vec<Event>,
}

impl Push {
    /// As the `<event/>` payload of a message.
    pub fn print(&self) -> Element {
        Push::print_json(self.id, json::text(&self.events).unwrap_or_else(|_| "[]".to_owned()))
    }

    /// The same of JSON text made earlier: one text serves every subscriber.
    pub fn print_json(id: u64, events: String) -> Element {
        let mut item = Element::bare("item", ns::PUBSUB_EVENT);
        set_attr(&mut item, xml_ncname!("id"), &id.to_string());
        item.append_child(json::of_text(events));
        let mut items = Element::bare("items", ns::PUBSUB_EVENT);
        set_attr(&mut items, xml_ncname!("node"), ns::FEED);
        items.append_child(item);
        let mut event = Element::bare("event", ns::PUBSUB_EVENT);
        event.append_child(items);
        event
    }

    /// Reads a message; `None` when it is not a push of the feed.
    pub fn parse(message: &Element) -> Option<Result<Push, Fault>> {
        let items = message.get_child("event", ns::PUBSUB_EVENT)?.get_child("items", ns::PUBSUB_EVENT)?;
        if items.attr("node") != Some(ns::FEED) {
            return None;
        }
        let id = items.get_child("item", ns::PUBSUB_EVENT).and_then(|i| i.attr("id")).and_then(|i| i.parse().ok());
        let Some(id) = id else { return Some(Err(Fault::invalid("a push of the feed has no number"))) };
        Some(values(items).map(|events| Push { id, events }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::stanza::tests::over_the_wire;
    use archipel_contract::{Cause, Condition, EntityId, Epoch, Facts, Seq, Timestamp, domain::DomainFacts, domain::DomainState};

    /// A running machine with that number in its UUID.
    pub(crate) fn machine(n: u128, seq: u64) -> Arc<Entity> {
        Arc::new(Entity {
            id: EntityId::Domain(archipel_contract::DomainId(uuid::Uuid::from_u128(n))),
            cell: "vm.localhost".parse().expect("a cell"),
            name: format!("web{n}").into(),
            host: "alpha".parse().expect("a host"),
            epoch: Epoch(1),
            seq: Seq(seq),
            since: Timestamp(0),
            condition: Condition::Ok,
            why: None,
            facts: Facts::Domain(DomainFacts {
                state: DomainState::Running,
                reason: Some("booted".into()),
                vcpus: 1,
                memory: archipel_contract::Bytes::mib(256),
                persistent: true,
                autostart: false,
                agent: false,
                virtualization: "qemu".into(),
                note: Some("a < b & c".into()),
                template: false,
                moving_to: None,
                autostart_order: None,
                autostart_delay: None,
            }),
        })
    }

    /// An event of that machine.
    pub(crate) fn event(n: u128, seq: u64) -> Event {
        let after = machine(n, seq);
        Event {
            entity: after.id.clone(),
            cell: after.cell.clone(),
            topic: "domain.started".into(),
            epoch: after.epoch,
            seq: after.seq,
            at: Timestamp(1_795_363_200_123),
            cause: Cause::Person("admin@vm.localhost".into()),
            detail: None,
            after: Some(after),
        }
    }

    #[test]
    fn what_a_viewer_asks_survives_the_wire() {
        for ask in [
            Ask::Subscribe { jid: "admin@vm.localhost/web".into() },
            Ask::Unsubscribe { jid: "admin@vm.localhost/web".into() },
            Ask::Items(PageRequest::default()),
            Ask::Items(PageRequest { max: Some(200), after: Some("net.1".into()) }),
        ] {
            assert_eq!(Ask::parse(&over_the_wire(&ask.print())), Ok(ask));
        }
    }

    #[test]
    fn other_nodes_and_verbs_are_refused() {
        use archipel_contract::FaultKind;
        for (text, kind) in [
            ("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='x'/></pubsub>", FaultKind::NotFound),
            ("<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:archipel:feed:0'/></pubsub>", FaultKind::Unsupported),
            (
                "<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='urn:archipel:feed:0'/></pubsub>",
                FaultKind::InvalidRequest,
            ),
            (
                "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:archipel:feed:0'/><set xmlns='http://jabber.org/protocol/rsm'><max>many</max></set></pubsub>",
                FaultKind::InvalidRequest,
            ),
            ("<query xmlns='jabber:iq:roster'/>", FaultKind::InvalidRequest),
        ] {
            assert_eq!(Ask::parse(&text.parse().expect("it is XML")).expect_err(text).kind, kind, "{text}");
        }
    }

    #[test]
    fn a_page_survives_the_wire_and_an_empty_one_ends_the_snapshot() {
        let page = Page { entities: vec![machine(1, 5), machine(2, 6)], count: Some(9) };
        let back = Page::parse(&over_the_wire(&page.print())).expect("it is a page");
        assert_eq!(back, page);
        assert_eq!(back.last(), Some(machine(2, 0).id.to_string()));
        let empty = Page { entities: vec![], count: Some(0) };
        assert_eq!(Page::parse(&over_the_wire(&empty.print())), Ok(empty));
    }

    #[test]
    fn a_page_with_one_item_for_each_entity_is_read_too() {
        let text = format!(
            "<pubsub xmlns='{}'><items node='{}'><item id='a'><json xmlns='{}'>{}</json></item></items></pubsub>",
            ns::PUBSUB,
            ns::FEED,
            ns::JSON,
            crate::stanza::clean(&json::text(&machine(1, 1)).expect("JSON")).replace('&', "&amp;").replace('<', "&lt;")
        );
        let page = Page::parse(&text.parse().expect("it is XML")).expect("it is a page");
        assert_eq!(page.entities, vec![machine(1, 1)]);
    }

    #[test]
    fn a_push_survives_the_wire() {
        let push = Push { id: 17, events: vec![event(1, 3), event(2, 4)] };
        let mut message = Element::bare("message", ns::CLIENT);
        message.append_child(push.print());
        assert_eq!(Push::parse(&over_the_wire(&message)), Some(Ok(push)));
        assert_eq!(Push::parse(&Element::bare("message", ns::CLIENT)), None);
    }
}
