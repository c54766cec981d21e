//! A small XMPP client: for the command line, for tests and benchmarks, and under the node link.
//!
//! ```text
//!               attach                       cut, resumable
//!   offline ------------> online ------------------------------> suspended
//!      ^ ^                  |                                        |  |
//!      | |  cut, not to be  |                 resumed: nothing lost  |  |
//!      | +---- resumed -----+ <--------------------------------------+  |
//!      |                                                                |
//!      +--------------- not resumed: what waited fails <----------------+
//! ```
//! Requests wait by id with a deadline each; everything that is no answer goes to [`Incoming`]. Its queue is bounded: what does
//! not fit is dropped (an `iq` is answered with `resource-constraint`), so that nobody who is slow stops the answers.

mod auth;
mod driver;
mod feed;
mod login;
mod pause;
mod pending;
mod round;
pub mod tls;
mod transport;

pub(crate) use login::{ask_before_login, carriage};

pub use feed::{Change, Feed, Origin};
pub use pause::Pauses;
pub use transport::{Connected, Connector, InMemory, Tcp};

use crate::stanza::{self, IqKind, adhoc, fault, feed as feed_stanza};
use crate::stream::{Bounds, Stanza};
use archipel_contract::{Entity, Fault, FaultKind, OperationId};
use minidom::Element;
use parking_lot::Mutex;
use pending::Pending;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long a request waits for its answer unless told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What to do when the connection cannot be made or is cut.
#[derive(Debug, Clone)]
pub enum Retry {
    /// Nothing: the client is over.
    Never,
    /// Try again for ever with these pauses; a refused login waits at least a minute, as the next attempt will hardly differ.
    Forever(Pauses),
}

/// How soon a server that hangs is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vigil {
    /// After how much silence it is asked for a sign of life.
    pub silence: Duration,
    /// How long it then has to give one.
    pub answer: Duration,
}

impl Vigil {
    /// For a server without others: there is nothing to be won by haste.
    pub const PATIENT: Vigil = Vigil { silence: Duration::from_secs(60), answer: Duration::from_secs(15) };
    /// For one of several: another may be serving already.
    pub const QUICK: Vigil = Vigil { silence: Duration::from_secs(1), answer: Duration::from_secs(2) };
}

/// Who logs in where, and how.
pub struct Config {
    /// The local part of the account's JID.
    pub user: String,
    /// Its domain.
    pub domain: String,
    /// Its password.
    pub password: String,
    /// The resource to ask for; the server chooses one otherwise.
    pub resource: Option<String>,
    /// How the server is reached.
    pub connector: Arc<dyn Connector>,
    /// Other servers of the same domain, of which one serves at a time: they are tried in turn.
    pub others: Vec<Arc<dyn Connector>>,
    /// More of them, as they become known.
    pub learned: Option<watch::Receiver<Vec<Arc<dyn Connector>>>>,
    /// Whether to use stream management (XEP-0198), so that a cut is survived. One-shot commands save the round trip.
    pub managed: bool,
    /// When a server that says nothing is given up. Only with stream management.
    pub vigil: Vigil,
    /// What to do when the connection is lost.
    pub retry: Retry,
    /// What one stanza from the server may cost.
    pub bounds: Bounds,
    /// How many stanzas that are no answers may wait to be taken from [`Incoming`].
    pub queue: usize,
    /// How many stanzas may wait to be written; whoever sends more waits.
    pub outgoing: usize,
}

impl Config {
    /// A person's client with no second thoughts: one connection, no stream management.
    pub fn once(user: impl Into<String>, domain: impl Into<String>, password: impl Into<String>, connector: Arc<dyn Connector>) -> Config {
        Config {
            user: user.into(),
            domain: domain.into(),
            password: password.into(),
            resource: None,
            connector,
            others: Vec::new(),
            learned: None,
            managed: false,
            vigil: Vigil::PATIENT,
            retry: Retry::Never,
            bounds: Bounds::ANSWER,
            queue: 4096,
            outgoing: 1024,
        }
    }

    /// A person's client that stays: resumes, and reconnects after 1, 2, 4 ... 30 seconds.
    pub fn lasting(
        user: impl Into<String>,
        domain: impl Into<String>,
        password: impl Into<String>,
        connector: Arc<dyn Connector>,
    ) -> Config {
        Config {
            managed: true,
            retry: Retry::Forever(Pauses::new(Duration::from_secs(1), Duration::from_secs(30))),
            ..Config::once(user, domain, password, connector)
        }
    }

    /// The same with other servers of the domain, which makes it watchful, and quick to try again.
    #[must_use]
    pub fn with_others(self, others: Vec<Arc<dyn Connector>>) -> Config {
        if others.is_empty() {
            return self;
        }
        let retry = match self.retry {
            Retry::Forever(_) => Retry::Forever(Pauses::new(Duration::from_millis(250), Duration::from_secs(1))),
            Retry::Never => Retry::Never,
        };
        Config { others, vigil: Vigil::QUICK, retry, ..self }
    }
}

/// How a client stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No connection yet, or not any more, and why.
    Offline(Option<Fault>),
    /// Bound to this full JID.
    Online(String),
}

/// What comes to a client without having been asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// The stream is up. If `resumed`, nothing was lost; otherwise it is a new session and subscriptions are gone.
    Online {
        /// Whether the session before went on.
        resumed: bool,
        /// The full JID.
        jid: String,
    },
    /// The stream is down, or could not be made.
    Offline(Fault),
    /// A stanza that answers nothing of ours.
    Stanza(Element),
}

/// Everything that comes without having been asked for, in order. It ends with the client.
pub type Incoming = mpsc::Receiver<Happening>;

enum Out {
    Stanza(u64, Stanza),
    Leave(Fault),
    Close,
}

/// A handle on a client. It ends when the last handle is dropped or [`Client::close`] is called.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Out>,
    state: watch::Receiver<State>,
}

struct Shared {
    domain: String,
    pending: Pending,
    /// How the server it is connected to is reached.
    via: Mutex<Option<Arc<dyn Connector>>>,
}

impl Client {
    /// Begins, without waiting for the connection. Must be called within a tokio runtime.
    pub fn start(config: Config) -> (Client, Incoming) {
        let (outgoing, commands) = mpsc::channel(config.outgoing.max(1));
        let (happen, incoming) = mpsc::channel(config.queue.max(16));
        let (tell, state) = watch::channel(State::Offline(None));
        let shared = Arc::new(Shared { domain: config.domain.clone(), pending: Pending::new(), via: Mutex::default() });
        let driver = driver::Driver::new(config, shared.clone(), commands, happen, tell);
        tokio::spawn(driver.run());
        (Client { shared, outgoing, state }, incoming)
    }

    /// Begins and waits until the first connection stands or has failed.
    pub async fn connect(config: Config) -> Result<(Client, Incoming), Fault> {
        let (client, incoming) = Client::start(config);
        client.online().await?;
        Ok((client, incoming))
    }

    /// Waits until it is online; the fault if it is not and an attempt has failed.
    pub async fn online(&self) -> Result<String, Fault> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|s| *s != State::Offline(None)).await;
        match settled.as_deref() {
            Ok(State::Online(jid)) => Ok(jid.clone()),
            Ok(State::Offline(Some(fault))) => Err(fault.clone()),
            Ok(State::Offline(None)) | Err(_) => Err(Fault::unavailable("the connection was closed")),
        }
    }

    /// Waits until it is online, however many attempts that takes. Ends as well when the client does.
    pub async fn online_again(&self) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|s| matches!(s, State::Online(_))).await;
    }

    /// How it stands, to be watched.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Which session this is: another number means that a session ended for good and what belonged to it is lost.
    pub(crate) fn session(&self) -> u64 {
        self.shared.pending.generation()
    }

    /// How the server it is connected to is reached, or was when it last was.
    pub(crate) fn via(&self) -> Option<Arc<dyn Connector>> {
        self.shared.via.lock().clone()
    }

    /// The domain of the account.
    pub fn domain(&self) -> &str {
        &self.shared.domain
    }

    /// Sends a stanza. Waits while the queue is full; a stanza queued for a session that ends is dropped.
    pub async fn send(&self, stanza: &Element) -> Result<(), Fault> {
        let generation = self.shared.pending.generation();
        self.push(Out::Stanza(generation, Stanza::from(stanza))).await
    }

    /// Leaves the server it is connected to, for this reason, and tries the others first.
    pub(crate) async fn leave(&self, why: Fault) {
        // A client that has ended has left.
        let _ = self.push(Out::Leave(why)).await;
    }

    async fn push(&self, out: Out) -> Result<(), Fault> {
        self.outgoing.send(out).await.map_err(|_| Fault::unavailable("the connection is closed"))
    }

    /// Asks and waits for the answer's payload (`None` when the answer is empty), at most for `deadline`.
    pub async fn request(&self, kind: IqKind, to: Option<&str>, payload: Element, deadline: Duration) -> Result<Option<Element>, Fault> {
        let mut ticket = self.shared.pending.open(to)?;
        let mut iq = stanza::iq(kind, &ticket.id, Some(payload));
        if let Some(to) = to {
            iq = stanza::addressed(iq, to);
        }
        let out = Out::Stanza(ticket.generation, Stanza::from(iq));
        let answer = tokio::time::timeout(deadline, async {
            self.push(out).await?;
            ticket.wait().await
        })
        .await;
        match answer {
            Ok(answer) => {
                let mut answer = answer?;
                if IqKind::of(&answer) == Some(IqKind::Error) {
                    return Err(fault::of_stanza(&answer));
                }
                Ok(answer.unshift_child())
            }
            Err(_) => Err(Fault::new(
                FaultKind::Timeout,
                format!(
                    "no answer from {} within {} s; it may still be carried out, so look before you repeat it",
                    to.unwrap_or(&self.shared.domain),
                    deadline.as_secs()
                ),
            )),
        }
    }

    /// Runs a command on `target` (an entity's address or the cell) and answers its JSON reply. The same `operation` runs at
    /// most once, however often it is sent.
    pub async fn command(
        &self,
        target: &str,
        name: &str,
        arguments: Value,
        operation: Option<OperationId>,
        deadline: Duration,
    ) -> Result<Value, Fault> {
        let command = adhoc::Command::request(name, arguments, operation);
        let payload = self.request(IqKind::Set, Some(target), command.print(), deadline).await?;
        let payload = payload.ok_or_else(|| Fault::internal(format!("{target} answered {name} with nothing")))?;
        let answer = adhoc::Command::parse(&payload)?;
        if let Some(value) = answer.json {
            return Ok(value);
        }
        match answer.notes.iter().find(|n| n.kind == adhoc::NoteKind::Error) {
            Some(note) => Err(Fault::internal(note.text.clone())),
            None => Err(Fault::internal(format!("{target} answered {name} without JSON; it may be of another version"))),
        }
    }

    /// Everything in the cell, page by page.
    pub async fn snapshot(&self, cell: &str) -> Result<Vec<Arc<Entity>>, Fault> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let ask = feed_stanza::Ask::Items(feed_stanza::PageRequest { max: None, after: after.clone() });
            let payload = self.request(IqKind::Get, Some(cell), ask.print(), DEADLINE).await?;
            let page = feed_stanza::Page::parse(&payload.ok_or_else(|| Fault::internal("a page of the snapshot is empty"))?)?;
            let last = page.last();
            // A page that does not go on would never end.
            if last.is_none() || last == after {
                return Ok(all);
            }
            all.extend(page.entities);
            after = last;
        }
    }

    /// Follows every change of the cell, with a snapshot at the beginning and whenever something was missed.
    pub fn follow(self, incoming: Incoming, cell: impl Into<String>) -> Feed {
        Feed::new(self, incoming, cell.into())
    }

    /// Says good-bye and waits until it is done, at most a second.
    pub async fn close(self) {
        let Client { shared: _shared, outgoing, mut state } = self;
        if outgoing.send(Out::Close).await.is_ok() {
            drop(outgoing);
            let gone = async { while state.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
        }
    }
}
