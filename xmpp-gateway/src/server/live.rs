//! A connection that has a session: two loops, one reading and one writing, until either has a reason to end.
//!
//! ```text
//!   reading: iq, message, presence -> handler        writing: queue -> one write per batch
//!            r -> answer due, a -> ledger                     ending -> error and footer
//!            enable -> managed                                superseded -> conflict and footer
//!   peer closed, or broke a rule ----> the queue is written, then the footer: closed for good
//!   connection broke, or fell silent -> suspended if it may come back, else closed
//! ```

use super::metrics::{METRICS, kind_label};
use super::negotiate::Bound;
use super::opening::{failed, footer, random_hex};
use super::rate::Bucket;
use super::session::{Detached, Ending, Out, Session};
use super::{Server, StreamCondition};
use crate::stream::wire::{ReadError, Reader, Writer};
use crate::stream::{Piece, StreamError, escape_into, ns};
use archipel_contract::EntityId;
use archipel_contract::port::AccountKind;
use minidom::Element;
use rxml::{Namespace, NcName};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout};

/// Why a loop ended.
#[derive(Debug)]
enum End {
    /// The peer closed the stream.
    Closed,
    /// A stream error is due, and the session is over.
    Error(StreamError),
    /// The connection is no good any more; the session may be.
    Broken,
    /// The peer fell silent: as broken, but it is told, should it hear.
    Silent,
    /// Another connection has the session.
    Superseded,
    /// All that was queued is written.
    Written,
}

/// What the writing loop and its connection tell each other. They share a task, so this is only for the compiler atomic.
#[derive(Default)]
struct Progress {
    /// No more than what is queued now is to be written.
    last: AtomicBool,
    /// A write has begun and is not done.
    writing: AtomicBool,
}

/// Ends when the session says that this connection has to go: at once for a successor, and after a while, in which the
/// writer may write what is queued, for an ending. The writer notices both itself unless it is stuck.
async fn kicked(session: &Session, number: u64, farewell: Duration) -> End {
    loop {
        match session.verdict(number) {
            Some(Ending::Superseded) => return End::Superseded,
            Some(Ending::Error(error)) => match timeout(farewell, session.kick.notified()).await {
                Ok(()) => {}
                Err(_) => return End::Error(error),
            },
            None => session.kick.notified().await,
        }
    }
}

/// About so much goes into one write.
const BATCH: usize = 64 * 1024;

/// Serves the session until the connection ends, and settles what becomes of it then.
pub(super) async fn run(server: &Arc<Server>, bound: Bound, stopping: watch::Receiver<bool>) {
    let Bound { session, number, attachment, mut reader, mut writer, transport } = bound;
    let framed = reader.is_framed();
    let gauge = METRICS.sessions.with_label_values(&[kind_label(session.kind()), transport.name()]);
    gauge.inc();
    // A shutdown that began between login and now has not seen this session.
    if *stopping.borrow() {
        session.close(StreamCondition::SystemShutdown);
    }
    let progress = Progress::default();
    let farewell = server.config.limits.farewell;
    let end = {
        let mut write = std::pin::pin!(write_loop(server, &session, number, &mut writer, &progress));
        let mut read = std::pin::pin!(read_loop(server, &session, &mut reader));
        let mut kicked = std::pin::pin!(kicked(&session, number, farewell));
        let (end, by_reader) = tokio::select! {
            end = &mut read => (end, true),
            end = &mut write => (end, false),
            end = &mut kicked => (end, false),
        };
        // What the peer asked for before it closed is still answered.
        if by_reader && matches!(end, End::Closed | End::Error(_)) {
            progress.last.store(true, Ordering::Relaxed);
            session.wake.notify_one();
            match timeout(farewell, write).await {
                Ok(End::Written | End::Error(_)) => end,
                _ => End::Broken,
            }
        } else {
            end
        }
    };
    // Half a stanza was written: nothing can be said any more that the peer would understand.
    let torn = progress.writing.load(Ordering::Relaxed);
    let error = match &end {
        End::Error(error) => Some(error.clone()),
        End::Superseded => Some(StreamError::new(StreamCondition::Conflict, "this session goes on over another connection")),
        End::Silent => Some(StreamError::new(StreamCondition::ConnectionTimeout, "no sign of life")),
        _ => None,
    };
    let for_good = matches!(end, End::Closed | End::Error(_));
    // Settled before the goodbye, which may take its time: a peer in a hurry to come back must not wait for it.
    settle(server, &session, number, for_good);
    gauge.dec();
    drop(attachment);
    if let Some(error) = &error {
        server.refused(error.condition);
        tracing::info!(session = session.id(), jid = %session.jid(), %error, "stream ended by the server");
    }
    if !matches!(end, End::Broken) && !torn {
        // A peer that does not read its goodbye is left alone.
        let _ = timeout(farewell, say_goodbye(&mut writer, error, framed)).await;
    }
    drop(stopping);
}

async fn say_goodbye(writer: &mut Writer, error: Option<StreamError>, framed: bool) -> std::io::Result<()> {
    let mut text = String::new();
    if let Some(error) = error {
        text = error.to_xml();
        if framed {
            writer.write(&std::mem::take(&mut text)).await?;
        }
    }
    text.push_str(footer(framed));
    writer.write(&text).await?;
    writer.shutdown().await;
    Ok(())
}

/// What becomes of the session now that connection `number` is done.
fn settle(server: &Arc<Server>, session: &Arc<Session>, number: u64, for_good: bool) {
    if for_good {
        if session.finish(Some(number)) {
            server.retire(session);
        }
        return;
    }
    match session.detach(number) {
        Detached::Waiting => {
            tracing::info!(session = session.id(), jid = %session.jid(), "session suspended");
            server.handler.suspended(session);
            tokio::spawn(guard(server.clone(), session.clone(), number));
        }
        Detached::Ended => server.retire(session),
        Detached::Superseded | Detached::Gone => {}
    }
}

/// Waits beside a suspended session until it is resumed or its time is up.
async fn guard(server: Arc<Server>, session: Arc<Session>, number: u64) {
    // Held so that a shutdown waits for this goodbye too.
    let mut stopping = server.stopping.subscribe();
    let gauge = METRICS.suspended.with_label_values(&[kind_label(session.kind())]);
    gauge.inc();
    let deadline = Instant::now() + server.config.limits.resume_window;
    while session.waits(number) {
        tokio::select! {
            () = session.change.notified() => {}
            _ = stopping.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep_until(deadline) => break,
        }
    }
    // Does nothing when a successor has announced itself.
    if session.finish(Some(number)) {
        server.retire(&session);
    }
    gauge.dec();
}

async fn write_loop(server: &Server, session: &Session, number: u64, writer: &mut Writer, progress: &Progress) -> End {
    let mut batch: Vec<Out> = Vec::new();
    let mut scratch = String::new();
    let written = METRICS.stanzas.with_label_values(&["out"]);
    loop {
        batch.clear();
        // Read before the queue is: what was queued before the last batch was announced is then surely seen.
        let finishing = progress.last.load(Ordering::Relaxed);
        match session.drain(number, BATCH, &mut batch) {
            Ok(()) => {}
            Err(Ending::Error(error)) => return End::Error(error),
            Err(Ending::Superseded) => return End::Superseded,
        }
        if batch.is_empty() {
            if finishing {
                return End::Written;
            }
            batch.shrink_to(16);
            session.wake.notified().await;
            continue;
        }
        written.inc_by(batch.iter().filter(|out| matches!(out, Out::Stanza(_))).count() as u64);
        progress.writing.store(true, Ordering::Relaxed);
        match timeout(server.config.limits.write_stall, writer.write_batch(batch.iter().map(Out::stanza), &mut scratch)).await {
            Ok(Ok(())) => progress.writing.store(false, Ordering::Relaxed),
            Ok(Err(_)) => return End::Broken,
            Err(_) => {
                tracing::info!(session = session.id(), jid = %session.jid(), "the peer reads nothing; its connection is dropped");
                return End::Broken;
            }
        }
    }
}

async fn read_loop(server: &Server, session: &Arc<Session>, reader: &mut Reader) -> End {
    server.handler.ready(session).await;
    let person = matches!(session.kind(), AccountKind::Person(_));
    let began = Instant::now();
    let mut bucket = person.then(|| Bucket::new(server.config.limits.rate, began.elapsed()));
    let read = METRICS.stanzas.with_label_values(&["in"]);
    let mut probed = false;
    loop {
        let piece = match timeout(server.config.limits.silence, reader.next()).await {
            Ok(piece) => piece,
            Err(_) if probed => return End::Silent,
            Err(_) => {
                probed = true;
                probe(server, session);
                continue;
            }
        };
        probed = false;
        let element = match piece {
            Ok(Piece::Element(element)) => element,
            Ok(Piece::Close) => return End::Closed,
            Ok(Piece::Open(_)) => return End::Error(StreamError::new(StreamCondition::BadFormat, "the stream is open already")),
            Err(ReadError::Stream(error)) => return End::Error(error),
            Err(ReadError::End | ReadError::Io(_)) => return End::Broken,
        };
        let stanza = element.has_ns(ns::CLIENT) && matches!(element.name(), "iq" | "message" | "presence");
        if stanza {
            read.inc();
            accept(server, session, element);
            session.received();
        } else if let Err(error) = nonza(server, session, &element) {
            return End::Error(error);
        }
        if let Some(bucket) = &mut bucket {
            let wait = bucket.take(reader.last_len(), began.elapsed());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Asks for a sign of life: by stream management, or by a ping, whose answer nobody misses.
fn probe(server: &Server, session: &Session) {
    if !session.probe() {
        let mut xml = String::from("<iq xmlns='jabber:client' type='get' id='");
        xml.push_str(PROBE);
        xml.push_str("' from='");
        escape_into(&mut xml, &server.config.cell);
        xml.push_str("' to='");
        escape_into(&mut xml, session.jid().as_str());
        xml.push_str(&format!("'><ping xmlns='{}'/></iq>", ns::PING));
        session.plain(xml);
    }
}

const PROBE: &str = "archipel-alive";

/// One stanza: stamped, and given to the handler, unless it is the edge's own business.
fn accept(server: &Server, session: &Arc<Session>, mut stanza: Element) {
    if stanza.name() == "iq" {
        let kind = stanza.attr("type");
        if stanza.attr("id") == Some(PROBE) && matches!(kind, Some("result" | "error")) {
            return;
        }
        if kind == Some("set") && stanza.has_child("session", ns::SESSION) {
            let mut xml = String::from("<iq xmlns='jabber:client' type='result' id='");
            escape_into(&mut xml, stanza.attr("id").unwrap_or_default());
            xml.push_str("'/>");
            // Full means that the peer does not read; it would not read this either.
            let _ = session.send(xml.into());
            return;
        }
    }
    let keeps = session.kind() == AccountKind::Node && stanza.attr("from").is_some_and(|from| is_entity(from, &server.config.cell));
    if !keeps && let Ok(name) = NcName::try_from("from") {
        stanza.attrs_mut().insert(Namespace::NONE, name, session.jid().to_string());
    }
    server.handler.stanza(session, stanza);
}

/// Whether an agent may use this as a sender at all: an entity of the cell. Whether it leased it, the handler knows.
fn is_entity(from: &str, cell: &str) -> bool {
    let Ok(jid) = jid::Jid::new(from) else { return false };
    jid.domain().as_str() == cell && jid.node().is_some_and(|n| n.as_str().parse::<EntityId>().is_ok())
}

fn nonza(server: &Server, session: &Arc<Session>, element: &Element) -> Result<(), StreamError> {
    let bad = |condition, text: &str| Err(StreamError::new(condition, text));
    match element.name() {
        "r" if element.has_ns(ns::SM) => session.answer_request(),
        "a" if element.has_ns(ns::SM) => {
            let Some(h) = element.attr("h").and_then(|h| h.parse().ok()) else {
                return bad(StreamCondition::BadFormat, "an <a/> without a count");
            };
            if let Err(error) = session.acked(h) {
                return Err(StreamError::new(StreamCondition::PolicyViolation, error.to_string()));
            }
        }
        "enable" if element.has_ns(ns::SM) => {
            let wants = matches!(element.attr("resume"), Some("true" | "1"));
            let id = match wants.then(|| random_hex(16)).transpose() {
                Ok(id) => id,
                Err(_) => return bad(StreamCondition::InternalServerError, "no random numbers"),
            };
            let answer = match &id {
                Some(id) => {
                    format!("<enabled xmlns='{}' id='{id}' resume='true' max='{}'/>", ns::SM, server.config.limits.resume_window.as_secs())
                }
                None => format!("<enabled xmlns='{}'/>", ns::SM),
            };
            if !session.manage(id.clone(), answer) {
                session.plain(failed("unexpected-request"));
            } else if let Some(id) = id {
                server.registry.make_resumable(id, session.clone());
            }
        }
        "resume" if element.has_ns(ns::SM) => session.plain(failed("unexpected-request")),
        // The exchange sends nothing that could wait for an inattentive client.
        "active" | "inactive" if element.has_ns(ns::CSI) => {}
        _ => return bad(StreamCondition::UnsupportedStanzaType, "neither a stanza nor anything negotiated"),
    }
    Ok(())
}
