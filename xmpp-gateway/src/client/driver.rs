//! The task behind a client: keeps the stream, moves stanzas both ways, and decides what a cut means.

use super::login::{self, Attached, Managed};
use super::round::Round;
use super::{Config, Happening, Out, Retry, Shared, State, Vigil};
use crate::ns;
use crate::sm::Ledger;
use crate::stanza::{IqKind, fault, set_attr};
use crate::stream::wire::{ReadError, Reader, Writer};
use crate::stream::{Piece, Stanza, write_element};
use archipel_contract::{Fault, FaultKind};
use minidom::Element;
use parking_lot::Mutex;
use rxml::xml_ncname;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// How long a login may take, TLS included.
const LOGIN_DEADLINE: Duration = Duration::from_secs(20);
/// The same when there are other servers to try.
const LOGIN_DEADLINE_OF_ONE: Duration = Duration::from_secs(5);
/// An attempt that took longer to fail was at a server that hangs.
const SLOW: Duration = Duration::from_secs(1);
/// A connection that held so long was a good one: the next server is tried without a pause.
const HELD: Duration = Duration::from_secs(1);
/// The longest pause between two rounds of several servers, some of which were learned.
const PAUSE_OF_SEVERAL: Duration = Duration::from_millis(500);
/// How long a refused login rests before the next attempt.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// How much may be written without the server having acknowledged it.
const UNACKED_STANZAS: usize = 2048;
const UNACKED_BYTES: usize = 16 * 1024 * 1024;
/// How many stanzas go into one write.
const BATCH: usize = 64;

pub(super) struct Driver {
    config: Config,
    round: Round,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Out>,
    happen: mpsc::Sender<Happening>,
    state: watch::Sender<State>,
    managed: Option<Managed>,
    jid: String,
}

/// Why a stream ended.
enum End {
    /// It was cut, or the server ended it.
    Cut(Fault),
    /// We left it for another server.
    Left(Fault),
    /// We wanted it.
    Closed,
}

/// What the two directions tell each other.
struct Signals {
    ledger: Option<Arc<Mutex<Ledger>>>,
    /// The server wants our count.
    ack: Notify,
    /// It is quiet: ask for a sign of life.
    ask: Notify,
    /// There is room for more unacknowledged stanzas.
    room: Notify,
}

impl Driver {
    pub(super) fn new(
        mut config: Config,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Out>,
        happen: mpsc::Sender<Happening>,
        state: watch::Sender<State>,
    ) -> Driver {
        let round = Round::new(config.connector.clone(), std::mem::take(&mut config.others));
        Driver { config, round, shared, commands, happen, state, managed: None, jid: String::new() }
    }

    pub(super) async fn run(mut self) {
        let last = self.live().await;
        let fault = last.unwrap_or_else(|| Fault::unavailable("the connection was closed"));
        self.shared.pending.fail(&fault, true);
        let _ = self.state.send(State::Offline(Some(fault)));
    }

    /// Takes in servers that became known meanwhile.
    fn learn(&mut self) {
        if let Some(learned) = &mut self.config.learned {
            self.round.learn(&learned.borrow_and_update());
        }
    }

    /// One connection after the other. Answers the fault that ended it, or `None` when it was closed.
    async fn live(&mut self) -> Option<Fault> {
        // Whether every server of this round refused us: the next attempt will hardly differ.
        let mut refused = true;
        loop {
            self.learn();
            let began = Instant::now();
            let mut held = None;
            let mut left = false;
            let fault = match self.attach().await {
                Ok(attached) => {
                    if let Retry::Forever(pauses) = &mut self.config.retry {
                        pauses.reset();
                    }
                    self.round.settled();
                    let since = Instant::now();
                    let end = self.online(attached).await;
                    held = Some(since.elapsed());
                    match end {
                        End::Closed => return None,
                        End::Cut(fault) => fault,
                        End::Left(fault) => {
                            left = true;
                            self.managed = None;
                            fault
                        }
                    }
                }
                Err(fault) => fault,
            };
            if self.managed.as_ref().is_none_or(|m| m.id.is_none()) {
                self.lose_session(&fault);
            }
            // Somebody else with our identity is refused to be thrown out: trying at once would only be throwing each other out.
            refused &= matches!(fault.kind, FaultKind::Forbidden | FaultKind::Conflict);
            let name = self.config.connector.name().to_owned();
            let hung = left || fault.kind == FaultKind::Timeout || (held.is_none() && began.elapsed() > SLOW);
            self.learn();
            let around = self.round.failed(hung, Instant::now());
            self.config.connector = self.round.current();
            let Retry::Forever(pauses) = &mut self.config.retry else {
                if held.is_none() && !around {
                    continue;
                }
                self.tell(Happening::Offline(fault.clone())).await;
                return Some(fault);
            };
            let at_once = match held {
                None => !around,
                Some(held) => self.round.has_others() && held >= HELD,
            };
            if held.is_none() && at_once {
                tracing::debug!(server = name, %fault, "offline; trying the next");
                continue;
            }
            let mut pause = if at_once { Duration::ZERO } else { pauses.next_pause() };
            if knows_others(&self.config) {
                // One of them is about to serve.
                pause = pause.min(PAUSE_OF_SEVERAL);
            }
            if refused {
                pause = pause.max(REFUSED_PAUSE);
            }
            refused = true;
            tracing::debug!(server = name, %fault, ?pause, "offline");
            let _ = self.state.send(State::Offline(Some(fault.clone())));
            self.tell(Happening::Offline(fault)).await;
            if self.pause(pause).await {
                return None;
            }
        }
    }

    async fn attach(&mut self) -> Result<Attached, Fault> {
        let before = self.managed.as_ref().map(|m| (m, self.jid.as_str()));
        let deadline = if self.round.has_others() { LOGIN_DEADLINE_OF_ONE } else { LOGIN_DEADLINE };
        match tokio::time::timeout(deadline, login::attach(&self.config, before)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::new(
                FaultKind::Timeout,
                format!("{} did not finish the login within {} s", self.config.connector.name(), deadline.as_secs()),
            )),
        }
    }

    /// Whatever belonged to the session is gone: whoever waits is told, what is queued is dropped when it is taken.
    fn lose_session(&mut self, fault: &Fault) {
        self.managed = None;
        let lost = Fault::new(
            FaultKind::Unavailable,
            "the connection was lost before the answer came; it may still be carried out, so look before you repeat it",
        );
        let fault = if self.jid.is_empty() { fault.clone() } else { lost.because(fault) };
        self.shared.pending.fail(&fault, false);
    }

    async fn tell(&self, happening: Happening) {
        // Nobody listening is fine: a one-shot client needs only the answers.
        let _ = self.happen.send(happening).await;
    }

    /// Rests. Answers whether the client was closed meanwhile. Stanzas that come wait for the resumption or, when there is
    /// no session to go on with, are dropped.
    async fn pause(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let resumable = self.managed.is_some();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                out = self.commands.recv(), if !resumable => match out {
                    None | Some(Out::Close) => return true,
                    Some(Out::Leave(_)) => {}
                    // Whoever asks while there is no session is told at once, and nothing is sent late.
                    Some(Out::Stanza(..)) => {
                        let offline = Fault::unavailable(format!("there is no connection to {} at the moment", self.config.connector.name()));
                        self.shared.pending.fail(&offline, false);
                    }
                },
                // What is queued stays, because it will be sent after the resumption.
                () = self.state.closed(), if resumable => return true,
            }
        }
    }

    async fn online(&mut self, attached: Attached) -> End {
        let Attached { mut reader, mut writer, jid, managed, resumed } = attached;
        if !resumed && self.managed.is_some() {
            // A session that could not be resumed ends here and not at the cut: until now it might have gone on.
            self.lose_session(&Fault::unavailable("the connection was cut and the session could not be resumed"));
        }
        self.managed = managed;
        self.jid = jid.clone();
        *self.shared.via.lock() = Some(self.config.connector.clone());
        let _ = self.state.send(State::Online(jid.clone()));
        self.tell(Happening::Online { resumed, jid }).await;
        let signals = Signals {
            ledger: self.managed.as_ref().map(|m| m.ledger.clone()),
            ack: Notify::new(),
            ask: Notify::new(),
            room: Notify::new(),
        };
        let (overflow, overflowed) = mpsc::channel(64);
        let server = self.config.connector.name();
        let config = &self.config;
        let vigil = || if knows_others(config) { Vigil::QUICK } else { config.vigil };
        let end = tokio::select! {
            end = read(server, vigil, &mut reader, &self.shared, &self.happen, &signals, overflow) => end,
            end = write(server, &mut writer, &self.shared, &mut self.commands, &signals, overflowed) => end,
        };
        if matches!(end, End::Closed | End::Left(_)) {
            writer.shutdown().await;
        }
        end
    }
}

/// Whether other servers were learned of.
fn knows_others(config: &Config) -> bool {
    config.learned.as_ref().is_some_and(|learned| !learned.borrow().is_empty())
}

async fn read(
    server: &str,
    vigil: impl Fn() -> Vigil,
    reader: &mut Reader,
    shared: &Shared,
    happen: &mpsc::Sender<Happening>,
    signals: &Signals,
    overflow: mpsc::Sender<Stanza>,
) -> End {
    let mut asked = false;
    loop {
        let vigil = vigil();
        let patience = if asked { vigil.answer } else { vigil.silence };
        let piece = match tokio::time::timeout(patience, reader.next()).await {
            Ok(piece) => piece,
            // Without stream management nobody answers; white space makes TCP find out.
            Err(_) if asked && signals.ledger.is_none() => {
                asked = false;
                continue;
            }
            Err(_) if asked => {
                return End::Cut(Fault::new(
                    FaultKind::Timeout,
                    format!("{server} has not said anything for {} s", (vigil.silence + vigil.answer).as_secs()),
                ));
            }
            Err(_) => {
                asked = true;
                signals.ask.notify_one();
                continue;
            }
        };
        asked = false;
        let element = match piece {
            Ok(Piece::Element(element)) => element,
            Ok(Piece::Open(_)) => continue,
            Ok(Piece::Close) => return End::Cut(Fault::unavailable(format!("{server} closed the stream"))),
            Err(error @ (ReadError::End | ReadError::Io(_) | ReadError::Stream(_))) => return End::Cut(login::ended(server, &error)),
        };
        if element.is("error", ns::STREAM) {
            return End::Cut(login::stream_error(server, &element));
        }
        if element.has_ns(ns::SM) {
            match element.name() {
                "r" => signals.ack.notify_one(),
                "a" => {
                    let count = element.attr("h").and_then(|h| h.parse().ok());
                    let counted = count.zip(signals.ledger.as_ref()).map(|(h, ledger)| ledger.lock().acked(h));
                    if !matches!(counted, Some(Ok(_))) {
                        return End::Cut(Fault::internal(format!("{server} counted stanzas that were never sent")));
                    }
                    signals.room.notify_one();
                }
                _ => {}
            }
            continue;
        }
        stanza(element, shared, happen, &overflow);
        if let Some(ledger) = &signals.ledger {
            ledger.lock().received();
        }
    }
}

/// Hands a stanza to whoever it is for. Never waits.
fn stanza(element: Element, shared: &Shared, happen: &mpsc::Sender<Happening>, overflow: &mpsc::Sender<Stanza>) {
    let kind = IqKind::of(&element);
    if matches!(kind, Some(IqKind::Result | IqKind::Error)) {
        let (id, from) = (element.attr("id").unwrap_or_default().to_owned(), element.attr("from").map(str::to_owned));
        if !shared.pending.answer(&id, from.as_deref(), Ok(element)) {
            tracing::debug!(id, from, "an answer nobody waits for");
        }
        return;
    }
    let ping = element.has_child("ping", ns::PING) && kind == Some(IqKind::Get);
    if ping {
        // The one question every client must answer by itself.
        let mut pong = Element::bare("iq", ns::CLIENT);
        set_attr(&mut pong, xml_ncname!("type"), "result");
        for (name, from) in [(xml_ncname!("to"), "from"), (xml_ncname!("id"), "id")] {
            if let Some(value) = element.attr(from) {
                set_attr(&mut pong, name, value);
            }
        }
        let _ = overflow.try_send(Stanza::from(pong));
        return;
    }
    match happen.try_send(Happening::Stanza(element)) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(Happening::Stanza(element))) if matches!(kind, Some(IqKind::Get | IqKind::Set)) => {
            let mut answer = fault::answer(&element, &Fault::busy("too many requests wait already; try again in a moment"));
            // The server stamps who we are.
            if let Some(to) = element.attr("from") {
                set_attr(&mut answer, xml_ncname!("to"), to);
            }
            let _ = overflow.try_send(Stanza::from(answer));
        }
        Err(mpsc::error::TrySendError::Full(_)) => tracing::warn!("the queue of incoming stanzas is full; a stanza was dropped"),
        // Nobody listens for anything but answers.
        Err(mpsc::error::TrySendError::Closed(_)) => {}
    }
}

async fn write(
    server: &str,
    writer: &mut Writer,
    shared: &Shared,
    commands: &mut mpsc::Receiver<Out>,
    signals: &Signals,
    mut overflowed: mpsc::Receiver<Stanza>,
) -> End {
    let mut scratch = String::new();
    let mut taken: Vec<Out> = Vec::with_capacity(BATCH);
    let mut batch: Vec<Stanza> = Vec::with_capacity(BATCH);
    let mut closing = false;
    let mut left = None;
    loop {
        let full = signals.ledger.as_ref().is_some_and(|ledger| {
            let ledger = ledger.lock();
            ledger.outstanding() >= UNACKED_STANZAS || ledger.outstanding_bytes() >= UNACKED_BYTES
        });
        batch.clear();
        let mut quiet = false;
        tokio::select! {
            biased;
            () = signals.ack.notified() => {
                if let Some(ledger) = &signals.ledger {
                    let handled = ledger.lock().handled();
                    let mut ack = Element::bare("a", ns::SM);
                    set_attr(&mut ack, xml_ncname!("h"), &handled.to_string());
                    if let Err(end) = put(server, writer, &ack).await {
                        return end;
                    }
                }
                continue;
            }
            () = signals.room.notified() => continue,
            () = signals.ask.notified() => quiet = true,
            Some(stanza) = overflowed.recv() => batch.push(stanza),
            count = commands.recv_many(&mut taken, BATCH), if !full => {
                closing = count == 0;
                let generation = shared.pending.generation();
                for out in taken.drain(..) {
                    match out {
                        Out::Stanza(of, stanza) if of == generation => batch.push(stanza),
                        Out::Stanza(..) => {}
                        Out::Leave(why) => left = Some(why),
                        Out::Close => closing = true,
                    }
                }
            }
        }
        // Counted before they are written: a cut in between sends them again, and never loses them.
        let ask = match &signals.ledger {
            Some(ledger) => {
                let mut ledger = ledger.lock();
                for stanza in &batch {
                    ledger.sent(stanza.clone());
                }
                ledger.take_request(quiet) || quiet
            }
            None => false,
        };
        if let Err(error) = writer.write_batch(batch.iter(), &mut scratch).await {
            return End::Cut(broke(server, &error));
        }
        if ask && let Err(end) = put(server, writer, &Element::bare("r", ns::SM)).await {
            return end;
        }
        if quiet && signals.ledger.is_none() {
            // White space tells a dead connection from a quiet one as well, as TCP must have it acknowledged.
            if let Err(error) = writer.write(" ").await {
                return End::Cut(broke(server, &error));
            }
        }
        if let Some(why) = left {
            let _ = writer.write("</stream:stream>").await;
            return End::Left(why);
        }
        if closing {
            let _ = writer.write("</stream:stream>").await;
            return End::Closed;
        }
    }
}

async fn put(server: &str, writer: &mut Writer, element: &Element) -> Result<(), End> {
    let mut text = String::new();
    write_element(&mut text, element);
    writer.write(&text).await.map_err(|e| End::Cut(broke(server, &e)))
}

fn broke(server: &str, error: &std::io::Error) -> Fault {
    Fault::unavailable(format!("the connection to {server} broke")).because(error)
}
