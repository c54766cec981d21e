//! A cell, its clock and its clients.

use super::CELL;
use crate::{
    exchange::{Exchange, ExchangeConfig},
    server::{for_tests, handler::SessionHandler, session::Session},
    stanza::{addressed, fault, node, set_attr},
};
use archipel_contract::{
    Entity, Epoch, Event, Role,
    catalog::Catalog,
    fake::{FakeClock, MemoryAccounts, MemoryAuthority, MemoryDocuments},
    port::{AccountKind, Accounts, Request},
};
use minidom::Element;
use parking_lot::Mutex;
use rxml::xml_ncname;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub(super) struct World {
    pub exchange: Arc<Exchange>,
    pub clock: Arc<FakeClock>,
    pub accounts: Arc<MemoryAccounts>,
    pub authority: Arc<MemoryAuthority>,
    pub documents: Arc<MemoryDocuments>,
}

/// Somebody connected to the cell.
pub(super) struct Client {
    pub session: Arc<Session>,
    exchange: Arc<Exchange>,
    inbox: Mutex<VecDeque<Element>>,
}

static IDS: AtomicU64 = AtomicU64::new(1);

impl World {
    pub(super) async fn new() -> World {
        let clock = Arc::new(FakeClock::default());
        let accounts = Arc::new(MemoryAccounts::default());
        for (name, role) in [("admin", Role::Admin), ("eve", Role::Viewer)] {
            accounts.add(crate::accounts::account(name, "secret", AccountKind::Person(role), 4096).unwrap()).await.unwrap();
        }
        let (authority, documents) = (Arc::<MemoryAuthority>::default(), Arc::<MemoryDocuments>::default());
        let cell = CELL.parse().unwrap();
        let config = ExchangeConfig::new(cell, accounts.clone(), authority.clone(), documents.clone(), clock.clone(), Epoch(3));
        assert!(!Catalog::shipped().commands.is_empty(), "the catalog is generated");
        World { exchange: Exchange::new(config), clock, accounts, authority, documents }
    }

    fn open(&self, jid: &str, kind: AccountKind) -> Client {
        let session = for_tests::session(jid, kind);
        self.exchange.opened(&session);
        Client { session, exchange: self.exchange.clone(), inbox: Mutex::default() }
    }

    pub(super) fn admin(&self, resource: &str) -> Client {
        self.open(&format!("admin@{CELL}/{resource}"), AccountKind::Person(Role::Admin))
    }

    pub(super) fn viewer(&self) -> Client {
        self.open(&format!("eve@{CELL}/web"), AccountKind::Person(Role::Viewer))
    }

    pub(super) fn agent(&self, host: &str) -> Client {
        self.open(&format!("hv.{host}@{CELL}/agent"), AccountKind::Node)
    }

    /// An agent that has said hello and asserted its hypervisor and these.
    pub(super) async fn host(&self, host: &str, mut entities: Vec<Entity>) -> Client {
        let agent = self.agent(host);
        entities.push(super::hypervisor(host));
        agent.join(host, 1, entities).await;
        agent
    }
}

impl Client {
    pub(super) fn jid(&self) -> String {
        self.session.jid().to_string()
    }

    /// Sends a stanza as the server would hand it over.
    pub(super) fn send(&self, mut stanza: Element) {
        set_attr(&mut stanza, xml_ncname!("from"), &self.jid());
        self.exchange.stanza(&self.session, stanza);
    }

    /// Sends what is written here.
    pub(super) fn write(&self, text: &str) {
        let at = text.find([' ', '/', '>']).unwrap_or_else(|| panic!("not an element: {text}"));
        let text = format!("{} xmlns='jabber:client'{}", &text[..at], &text[at..]);
        self.send(text.parse().unwrap_or_else(|e| panic!("{e}: {text}")));
    }

    pub(super) fn close(&self) {
        self.exchange.closed(&self.session);
    }

    /// What was received and not looked at yet.
    pub(super) fn received(&self) -> Vec<Element> {
        let mut inbox = self.inbox.lock();
        inbox.extend(for_tests::taken(&self.session));
        inbox.drain(..).collect()
    }

    /// The next stanza that fits; the others stay.
    pub(super) async fn wait(&self, fits: impl Fn(&Element) -> bool) -> Element {
        loop {
            {
                let mut inbox = self.inbox.lock();
                inbox.extend(for_tests::taken(&self.session));
                if let Some(at) = inbox.iter().position(&fits) {
                    return inbox.remove(at).unwrap();
                }
            }
            for_tests::wake(&self.session).await;
        }
    }

    /// Sends an `iq` and waits for its answer.
    pub(super) async fn ask(&self, kind: &str, to: Option<&str>, payload: Element) -> Element {
        let id = format!("t{}", IDS.fetch_add(1, Ordering::Relaxed));
        let mut iq = Element::bare("iq", "jabber:client");
        set_attr(&mut iq, xml_ncname!("type"), kind);
        set_attr(&mut iq, xml_ncname!("id"), &id);
        if let Some(to) = to {
            iq = addressed(iq, to);
        }
        iq.append_child(payload);
        self.send(iq);
        let answer = self.wait(|e| e.name() == "iq" && e.attr("id") == Some(&id)).await;
        assert_eq!(answer.attr("from"), to, "an answer comes from where the question went");
        answer
    }

    /// The same with a payload as text.
    pub(super) async fn ask_text(&self, kind: &str, to: Option<&str>, payload: &str) -> Element {
        self.ask(kind, to, payload.parse().unwrap_or_else(|e| panic!("{e}: {payload}"))).await
    }

    /// Says hello and asserts everything, as an agent.
    pub(super) async fn join(&self, host: &str, incarnation: u64, entities: Vec<Entity>) {
        let hello = node::Hello {
            version: "1".into(),
            host: host.parse().unwrap(),
            incarnation,
            entities: entities.len(),
            instance: None,
            now: None,
        };
        let answer = self.ask("set", Some(CELL), node::Ask::Hello(hello).print()).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
        for page in entities.chunks(node::PAGE_ENTITIES) {
            let page = page.iter().cloned().map(Arc::new).collect();
            let answer = self.ask("set", Some(CELL), node::Ask::Assert(page).print()).await;
            let refused = answer.attr("type") == Some("error") && fault::of_stanza(&answer).message.contains("held by");
            assert!(refused || answer.attr("type") == Some("result"), "{answer:?}");
        }
        let answer = self.ask("set", Some(CELL), node::Ask::Asserted.print()).await;
        assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    }

    /// Announces events, as an agent.
    pub(super) fn announce(&self, events: &[Event]) {
        let mut message = Element::bare("message", "jabber:client");
        message.append_child(node::announce(events));
        self.send(addressed(message, CELL));
    }

    /// Waits for a request, as an agent.
    pub(super) async fn request(&self) -> (Element, Request) {
        let iq = self.wait(|e| e.name() == "iq" && e.attr("type") == Some("set")).await;
        match node::Ask::parse(iq.children().next().unwrap()) {
            Ok(node::Ask::Request(request)) => (iq, *request),
            other => panic!("not a request: {other:?}"),
        }
    }

    /// Answers a request, as an agent.
    pub(super) fn reply(&self, iq: &Element, value: &serde_json::Value) {
        let answer = crate::stanza::iq(crate::stanza::IqKind::Result, iq.attr("id").unwrap(), Some(node::reply(value)));
        self.send(addressed(answer, CELL));
    }
}
