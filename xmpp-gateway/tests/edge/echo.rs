//! A handler for tests: it answers pings, returns messages to their sender and tells everything it was told.

use archipel_contract::Role;
use archipel_contract::fake::MemoryAccounts;
use archipel_contract::port::{AccountKind, Accounts};
use archipel_xmpp::accounts::account;
use archipel_xmpp::server::{Limits, Server, ServerConfig, Session, SessionHandler, Stanza};
use archipel_xmpp::tls::Tls;
use minidom::Element;
use rxml::{Namespace, NcName};
use std::sync::Arc;
use tokio::sync::mpsc;

pub(crate) const CELL: &str = "vm.localhost";

/// What the handler was told.
#[derive(Debug)]
pub(crate) enum Told {
    Opened(Arc<Session>),
    Stanza(Element),
    Suspended(Arc<Session>),
    Resumed(Arc<Session>),
    Closed(Arc<Session>),
}

pub(crate) struct Echo(pub(crate) mpsc::UnboundedSender<Told>);

impl Echo {
    fn tell(&self, told: Told) {
        let _ = self.0.send(told);
    }
}

impl SessionHandler for Echo {
    fn opened(&self, session: &Arc<Session>) {
        self.tell(Told::Opened(session.clone()));
    }
    fn stanza(&self, session: &Arc<Session>, stanza: Element) {
        let mut answer = stanza.clone();
        let to = stanza.attr("from").unwrap().to_owned();
        let attribute = |name: &str| NcName::try_from(name).unwrap();
        answer.attrs_mut().insert(Namespace::NONE, attribute("to"), to);
        answer.attrs_mut().insert(Namespace::NONE, attribute("from"), CELL.into());
        match (stanza.name(), stanza.attr("type")) {
            ("iq", Some("get" | "set")) => {
                answer.take_nodes();
                answer.attrs_mut().insert(Namespace::NONE, attribute("type"), "result".into());
                let _ = session.send(Stanza::from(answer));
            }
            ("message", _) => {
                let _ = session.send(Stanza::from(answer));
            }
            _ => {}
        }
        self.tell(Told::Stanza(stanza));
    }
    fn suspended(&self, session: &Arc<Session>) {
        self.tell(Told::Suspended(session.clone()));
    }
    fn resumed(&self, session: &Arc<Session>) {
        self.tell(Told::Resumed(session.clone()));
    }
    fn closed(&self, session: &Arc<Session>) {
        self.tell(Told::Closed(session.clone()));
    }
}

/// A server with the accounts `admin` (password `secret`), `viewer` (`look`) and `hv.alpha` (`node`).
pub(crate) async fn server(limits: Limits, tls: Option<Arc<Tls>>) -> (Arc<Server>, mpsc::UnboundedReceiver<Told>) {
    let accounts = MemoryAccounts::default();
    for (local, password, kind) in [
        ("admin", "secret", AccountKind::Person(Role::Admin)),
        ("viewer", "look", AccountKind::Person(Role::Viewer)),
        ("hv.alpha", "node", AccountKind::Node),
    ] {
        accounts.add(account(local, password, kind, 4096).unwrap()).await.unwrap();
    }
    let (told, tells) = mpsc::unbounded_channel();
    let config = ServerConfig { cell: CELL.into(), accounts: Arc::new(accounts), tls, limits, features: Vec::new() };
    (Server::new(config, Arc::new(Echo(told))).unwrap(), tells)
}
