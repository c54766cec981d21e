//! One bound resource, for as long as it is remembered: over one connection, or over several with resumption in between.
//!
//! ```text
//!             attach                 detach (broken, resumable)
//!   created ---------> Live(connection n) -------------> Suspended --- window over, or full ---> Closed
//!                        |    ^                             |
//!                        |    +----- attach (n + 1) --------+
//!                        +--- closed, or broken and not resumable ----------------------------> Closed
//! ```
//! The session owns the queue of what is to be written and the ledger of stream management; a connection only empties the
//! queue. That is why nothing is lost between two connections. All of it is behind one lock that is never held across a wait.

pub use super::config::QueueBounds;
use crate::sm::{AskAfter, Ledger, TooHigh};
use crate::stream::{Stanza, StreamCondition, StreamError};
use archipel_contract::port::AccountKind;
use jid::FullJid;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Notify;

/// The session takes no more: its peer reads too slowly, or it is gone. The sender decides what to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session's queue is full; drop what can be asked for again")]
pub struct QueueFull;

/// By what a session is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP, with or without TLS.
    Tcp,
    /// A WebSocket.
    WebSocket,
    /// A pipe inside this process.
    Memory,
}

impl Transport {
    /// The label in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::WebSocket => "websocket",
            Transport::Memory => "memory",
        }
    }
}

/// In which state a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A connection is attached.
    Live,
    /// Waiting for its peer to come back.
    Suspended,
    /// Gone for good.
    Closed,
}

/// Something to be written.
#[derive(Debug, Clone)]
pub(super) enum Out {
    /// Counted by stream management.
    Stanza(Stanza),
    /// Not counted, and meaningless to a later connection.
    Plain(Stanza),
}

impl Out {
    /// What is written.
    pub(super) fn stanza(&self) -> &Stanza {
        match self {
            Out::Stanza(s) | Out::Plain(s) => s,
        }
    }
}

/// How a connection's share in the session ends when the session says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The stream is closed with this error.
    Error(StreamError),
    /// Another connection has taken the session over.
    Superseded,
}

struct State {
    phase: Phase,
    /// Counts connections; a connection with an older number has been superseded.
    connection: u64,
    transport: Transport,
    peer: String,
    queue: VecDeque<Out>,
    stanzas: usize,
    bytes: usize,
    ledger: Option<Ledger>,
    resumption: Option<String>,
    /// The peer asked for our count; one answer serves any number of questions.
    answer: bool,
    ending: Option<StreamError>,
}

impl State {
    fn outstanding(&self) -> (usize, usize) {
        self.ledger.as_ref().map_or((0, 0), |l| (l.outstanding(), l.outstanding_bytes()))
    }
}

/// One bound resource.
pub struct Session {
    id: u64,
    jid: FullJid,
    kind: AccountKind,
    bounds: QueueBounds,
    state: Mutex<State>,
    /// There is something to write, or the session ends. Awaited by the attached connection's writer.
    pub(super) wake: Notify,
    /// The attached connection has to go. Awaited beside its loops, since its writer may be stuck in a write.
    pub(super) kick: Notify,
    /// The phase changed. Awaited by whoever guards a suspended session.
    pub(super) change: Notify,
    /// Something was taken from the queue or acknowledged, or the session ended. Awaited by whoever had to drop something.
    lighter: Notify,
    /// Held by the attached connection until it has done its last deed: a successor waits for it, so that two connections
    /// never handle stanzas of one session at once.
    pub(super) attachment: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({} {})", self.id, self.jid)
    }
}

impl Session {
    pub(super) fn new(id: u64, jid: FullJid, kind: AccountKind, bounds: QueueBounds, transport: Transport, peer: String) -> Session {
        let state = State {
            phase: Phase::Live,
            connection: 0,
            transport,
            peer,
            queue: VecDeque::new(),
            stanzas: 0,
            bytes: 0,
            ledger: None,
            resumption: None,
            answer: false,
            ending: None,
        };
        Session {
            id,
            jid,
            kind,
            bounds,
            state: Mutex::new(state),
            wake: Notify::new(),
            kick: Notify::new(),
            change: Notify::new(),
            lighter: Notify::new(),
            attachment: Arc::default(),
        }
    }

    /// Unique among all sessions of this process.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// The address it is bound to.
    pub fn jid(&self) -> &FullJid {
        &self.jid
    }
    /// Who its account is for.
    pub fn kind(&self) -> AccountKind {
        self.kind
    }
    /// From where it is connected, or was last.
    pub fn peer(&self) -> String {
        self.state.lock().peer.clone()
    }
    /// By what it is connected, or was last.
    pub fn transport(&self) -> Transport {
        self.state.lock().transport
    }
    /// Its state at this moment.
    pub fn phase(&self) -> Phase {
        self.state.lock().phase
    }
    /// Whether a connection is attached and not ending.
    pub fn is_live(&self) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Live && state.ending.is_none()
    }
    /// Whether a connection is attached and everything was handed to it: whoever has only the newest to say waits for that.
    pub fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Live && state.ending.is_none() && state.queue.is_empty()
    }
    /// Stanzas and bytes that wait, those not yet acknowledged included.
    pub fn backlog(&self) -> (usize, usize) {
        let state = self.state.lock();
        let (stanzas, bytes) = state.outstanding();
        (state.stanzas + stanzas, state.bytes + bytes)
    }

    /// Queues a stanza. Never blocks. A suspended session that takes no more ends for good: its peer then begins afresh
    /// instead of waiting for something incomplete.
    pub fn send(&self, stanza: Stanza) -> Result<(), QueueFull> {
        {
            let mut state = self.state.lock();
            if state.phase == Phase::Closed || state.ending.is_some() {
                return Err(QueueFull);
            }
            let (unacked, unacked_bytes) = state.outstanding();
            if state.stanzas + unacked >= self.bounds.stanzas || state.bytes + unacked_bytes + stanza.len() > self.bounds.bytes {
                if state.phase == Phase::Suspended {
                    state.ending = Some(StreamError::new(StreamCondition::ResourceConstraint, "too much was queued while you were away"));
                    drop(state);
                    self.lighter.notify_waiters();
                    self.change.notify_one();
                }
                return Err(QueueFull);
            }
            state.stanzas += 1;
            state.bytes += stanza.len();
            state.queue.push_back(Out::Stanza(stanza));
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Waits until half of the queue is free again, for whoever dropped something and wants to say so. Ends as well when the
    /// session does.
    pub async fn room(&self) {
        loop {
            let mut lighter = std::pin::pin!(self.lighter.notified());
            lighter.as_mut().enable();
            {
                let state = self.state.lock();
                let (unacked, unacked_bytes) = state.outstanding();
                let full = state.stanzas + unacked > self.bounds.stanzas / 2 || state.bytes + unacked_bytes > self.bounds.bytes / 2;
                if !full || state.phase == Phase::Closed || state.ending.is_some() {
                    return;
                }
            }
            lighter.await;
        }
    }

    /// Ends the session for good, with a stream error. What is queued is still written first.
    pub fn close(&self, condition: StreamCondition) {
        self.end(StreamError::from(condition));
    }

    /// The same with a sentence for whoever is at the other end.
    pub fn close_because(&self, condition: StreamCondition, text: impl Into<String>) {
        self.end(StreamError::new(condition, text));
    }

    pub(super) fn end(&self, error: StreamError) {
        {
            let mut state = self.state.lock();
            if state.phase == Phase::Closed {
                return;
            }
            state.ending.get_or_insert(error);
        }
        self.lighter.notify_waiters();
        self.wake.notify_one();
        self.kick.notify_one();
        self.change.notify_one();
    }

    /// Queues something that is no stanza, for the attached connection only. A peer that provokes these without reading
    /// them gets no more of them.
    pub(super) fn plain(&self, xml: impl Into<Stanza>) {
        {
            let mut state = self.state.lock();
            if state.queue.len() >= self.bounds.stanzas + 64 {
                return;
            }
            let xml = xml.into();
            state.bytes += xml.len();
            state.queue.push_back(Out::Plain(xml));
        }
        self.wake.notify_one();
    }

    /// Takes up to about `budget` bytes to be written by connection `number`. `Err` when that connection is to end.
    pub(super) fn drain(&self, number: u64, budget: usize, batch: &mut Vec<Out>) -> Result<(), Ending> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.connection != number {
            return Err(Ending::Superseded);
        }
        let mut taken = 0;
        while taken < budget {
            let Some(out) = state.queue.pop_front() else { break };
            taken += out.stanza().len();
            if let Out::Stanza(stanza) = &out {
                state.stanzas -= 1;
                if let Some(ledger) = &mut state.ledger {
                    ledger.sent(stanza.clone());
                }
            }
            batch.push(out);
        }
        state.bytes -= taken;
        // They look again when this is done and the lock is free.
        self.lighter.notify_waiters();
        if state.queue.is_empty() && state.queue.capacity() > 64 {
            state.queue = VecDeque::new();
        }
        if let Some(ledger) = &mut state.ledger {
            if std::mem::take(&mut state.answer) {
                batch.push(Out::Plain(Stanza::from(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", ledger.handled()))));
            }
            if ledger.take_request(false) {
                batch.push(Out::Plain(Stanza::from(REQUEST.to_owned())));
            }
        }
        match &state.ending {
            Some(error) if batch.is_empty() => Err(Ending::Error(error.clone())),
            _ => Ok(()),
        }
    }

    /// Why connection `number` has to go, if it has to.
    pub(super) fn verdict(&self, number: u64) -> Option<Ending> {
        let state = self.state.lock();
        if state.connection != number {
            return Some(Ending::Superseded);
        }
        state.ending.clone().map(Ending::Error)
    }

    /// Asks the peer for a sign of life. `false` if there is no stream management to ask with.
    pub(super) fn probe(&self) -> bool {
        let managed = self.state.lock().ledger.is_some();
        if managed {
            self.plain(REQUEST.to_owned());
        }
        managed
    }

    /// Begins stream management. `resumption` is the id to come back with, if the peer asked for one. `false` if it is on.
    pub(super) fn manage(&self, resumption: Option<String>, answer: String) -> bool {
        let mut state = self.state.lock();
        if state.ledger.is_some() {
            return false;
        }
        // What is queued already will be counted, since it is written after the answer: the answer goes to the front.
        state.bytes += answer.len();
        state.queue.push_front(Out::Plain(Stanza::from(answer)));
        state.ledger = Some(Ledger::new(AskAfter::default()));
        state.resumption = resumption;
        drop(state);
        self.wake.notify_one();
        true
    }

    /// The id to come back with.
    pub(super) fn resumption(&self) -> Option<String> {
        self.state.lock().resumption.clone()
    }

    /// A stanza of the peer was handled.
    pub(super) fn received(&self) {
        if let Some(ledger) = &mut self.state.lock().ledger {
            ledger.received();
        }
    }

    /// The peer asks how many were handled.
    pub(super) fn answer_request(&self) {
        self.state.lock().answer = true;
        self.wake.notify_one();
    }

    /// The peer has handled `h`.
    pub(super) fn acked(&self, h: u32) -> Result<(), TooHigh> {
        let mut state = self.state.lock();
        match &mut state.ledger {
            Some(ledger) => ledger.acked(h).map(drop)?,
            None => return Ok(()),
        }
        drop(state);
        self.lighter.notify_waiters();
        Ok(())
    }

    /// Tells the attached connection, if any, to make room for its successor, and answers the successor's number. `None` if
    /// the session is gone.
    pub(super) fn supersede(&self) -> Option<u64> {
        let number = {
            let mut state = self.state.lock();
            if state.phase == Phase::Closed || state.ending.is_some() {
                return None;
            }
            state.connection += 1;
            state.connection
        };
        self.wake.notify_one();
        self.kick.notify_one();
        self.change.notify_one();
        Some(number)
    }

    /// The successor is there and holds the attachment: what the peer has not got is queued again, after `<resumed/>`.
    /// `None` when it must not go on: closed meanwhile, superseded itself, or `h` is impossible.
    pub(super) fn attach(&self, number: u64, h: u32, transport: Transport, peer: String) -> Option<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.phase == Phase::Closed || state.ending.is_some() || state.connection != number {
            return None;
        }
        let id = state.resumption.clone()?;
        let ledger = state.ledger.as_mut()?;
        let again = ledger.resume(h).ok()?;
        let resumed = Stanza::from(format!("<resumed xmlns='urn:xmpp:sm:3' previd='{id}' h='{}'/>", ledger.handled()));
        let mut queue = VecDeque::with_capacity(1 + again.len() + state.queue.len());
        queue.push_back(Out::Plain(resumed));
        queue.extend(again.into_iter().map(Out::Stanza));
        queue.extend(state.queue.drain(..).filter(|out| matches!(out, Out::Stanza(_))));
        state.stanzas = queue.iter().filter(|out| matches!(out, Out::Stanza(_))).count();
        state.bytes = queue.iter().map(|out| out.stanza().len()).sum();
        state.queue = queue;
        state.phase = Phase::Live;
        state.transport = transport;
        state.peer = peer;
        self.wake.notify_one();
        Some(())
    }

    /// Connection `number` broke.
    pub(super) fn detach(&self, number: u64) -> Detached {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed {
            return Detached::Gone;
        }
        if state.connection != number {
            return Detached::Superseded;
        }
        if state.resumption.is_some() && state.ending.is_none() {
            state.phase = Phase::Suspended;
            Detached::Waiting
        } else {
            state.phase = Phase::Closed;
            state.queue = VecDeque::new();
            state.ledger = None;
            self.lighter.notify_waiters();
            Detached::Ended
        }
    }

    /// Whether the session, suspended since connection `number`, still waits: nobody came back and nobody ended it.
    pub(super) fn waits(&self, number: u64) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Suspended && state.ending.is_none() && state.connection == number
    }

    /// Ends a session that nobody is attached to. `true` for the one caller that did it.
    pub(super) fn finish(&self, number: Option<u64>) -> bool {
        let mut state = self.state.lock();
        if state.phase == Phase::Closed || number.is_some_and(|n| n != state.connection) {
            return false;
        }
        state.phase = Phase::Closed;
        state.queue = VecDeque::new();
        state.ledger = None;
        self.lighter.notify_waiters();
        true
    }
}

/// What became of a session when its connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detached {
    /// It waits for another connection.
    Waiting,
    /// Another connection has it, or is about to.
    Superseded,
    /// It ended just now; the caller tells the handler.
    Ended,
    /// It had ended before.
    Gone,
}

const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
