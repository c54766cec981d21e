//! A machine's console as a WebSocket: binary frames to and from the socket that libvirt or the serial line is behind.
//!
//! ```text
//!   browser --frame--> reader --write--> console      a console that takes nothing stops the reader, and so TCP
//!   browser <--frame-- writer <--read--- console      a browser that takes nothing stops the writer, and so the guest's output
//! ```
//! Nothing is kept here but one frame each way. It ends when the browser leaves, the machine closes it, or somebody takes it over.

use crate::socket::{SILENCE, STALL, closing, stalls};
use crate::ticket::{self, Unopened};
use crate::{Shared, carriage, origin};
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Session};
use archipel_contract::{BoxFuture, Fault};
use bytes::Bytes;
use std::os::unix::net::UnixStream as StdStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// The longest message taken from a browser, in bytes. Pasted text into a guest comes in as few bytes.
const MAX_MESSAGE: usize = 64 * 1024;
/// The most that is read from a console at once.
const CHUNK: usize = 32 * 1024;
/// The closing code of a console that somebody else has taken over; the reason says who.
pub const TAKEN_OVER: u16 = 4001;
/// The closing code of a console that could not be opened although the ticket was good; the reason says why.
pub const FAILED: u16 = 4002;

/// The closing code of a console of another host when the way there is lost; the reason says how.
pub const CUT: u16 = 4003;

/// A console that was opened.
pub struct Console {
    /// Its bytes.
    pub stream: StdStream,
    /// Answers, with the reason for people, when somebody ends it from elsewhere.
    pub ended: BoxFuture<'static, String>,
    /// Dropped when the socket is closed.
    pub held: Box<dyn Send>,
}

/// Whoever opens consoles.
pub trait ConsoleAcceptor: Send + Sync {
    /// Opens what the ticket is for.
    fn open(&self, token: String, secret: String) -> BoxFuture<'static, Result<Console, Unopened>>;
}

pub(crate) async fn upgrade(
    request: HttpRequest,
    token: web::Path<String>,
    body: web::Payload,
    shared: web::Data<Shared>,
) -> actix_web::Result<HttpResponse> {
    if let Err(origin) = origin::check(&request, &[&shared.config.allowed_origins[..], &shared.config.pages].concat()) {
        tracing::warn!(%origin, "a page of another origin wanted a console");
        let why = "pages of this origin may not connect; list it in http.allowed_origins";
        return Ok(ticket::plain(HttpResponse::Forbidden(), why));
    }
    let token = token.into_inner();
    if let Some(carrier) = shared.elsewhere(&token) {
        return carriage::console(request, token, body, carrier).await;
    }
    let Some(acceptor) = shared.hooks.consoles.clone() else { return Ok(ticket::refused()) };
    let secret = ticket::of_socket(request.headers()).unwrap_or_default();
    let opened = match acceptor.open(token, secret).await {
        Ok(console) => Ok(console),
        Err(Unopened::Ticket) => return Ok(ticket::refused()),
        Err(Unopened::Fault(fault)) => Err(fault),
    };
    let (response, session, stream) = actix_ws::handle_with_protocols(&request, body, &["binary"])?;
    let stream = stream.max_frame_size(MAX_MESSAGE).aggregate_continuations().max_continuation_size(MAX_MESSAGE);
    // A browser tells a page nothing of a refused socket, so what went wrong is said by closing an accepted one.
    match opened.and_then(|console| Ok((into_tokio(&console)?, console))) {
        Ok((line, console)) => drop(actix_web::rt::spawn(bridge(stream, session, line, console))),
        Err(fault) => say_failed(session, &fault),
    }
    Ok(response)
}

/// Accepts a socket only to say why there is no console.
pub(crate) fn failed(request: &HttpRequest, body: web::Payload, fault: &Fault) -> actix_web::Result<HttpResponse> {
    let (response, session, _) = actix_ws::handle_with_protocols(request, body, &["binary"])?;
    say_failed(session, fault);
    Ok(response)
}

fn say_failed(session: Session, fault: &Fault) {
    let reason = reason(FAILED, &fault.to_string());
    actix_web::rt::spawn(async move {
        let _ = timeout(STALL, session.close(Some(reason))).await;
    });
}

fn into_tokio(console: &Console) -> Result<UnixStream, Fault> {
    let broken = |e: std::io::Error| Fault::internal("the console's socket cannot be used; please report this").because(e);
    let stream = console.stream.try_clone().map_err(broken)?;
    stream.set_nonblocking(true).map_err(broken)?;
    UnixStream::from_std(stream).map_err(broken)
}

/// A closing reason has room for 123 bytes.
fn reason(code: u16, text: &str) -> CloseReason {
    let mut text = text.to_owned();
    while text.len() > 120 {
        text.pop();
    }
    closing(CloseCode::Other(code), &text)
}

async fn bridge(stream: AggregatedMessageStream, session: Session, line: UnixStream, console: Console) {
    let Console { stream: own, ended, held } = console;
    let (from_machine, to_machine) = line.into_split();
    let end = tokio::select! {
        end = read(stream, session.clone(), to_machine) => end,
        end = write(session.clone(), from_machine) => end,
        who = ended => Some(reason(TAKEN_OVER, &who)),
    };
    drop(held);
    // Whoever still reads or writes the other end learns that nobody is here.
    let _ = own.shutdown(std::net::Shutdown::Both);
    // It may be closed from the other side already.
    let _ = timeout(STALL, session.close(end)).await;
}

async fn read(mut stream: AggregatedMessageStream, mut session: Session, mut machine: OwnedWriteHalf) -> Option<CloseReason> {
    let mut pinged = false;
    loop {
        let message = match timeout(SILENCE, stream.recv()).await {
            Ok(message) => message,
            Err(_) if pinged => return None,
            Err(_) => {
                pinged = true;
                if stalls(session.ping(b"")).await {
                    return None;
                }
                continue;
            }
        };
        pinged = false;
        let bytes = match message {
            Some(Ok(AggregatedMessage::Binary(bytes))) => bytes,
            Some(Ok(AggregatedMessage::Text(text))) => text.into_bytes(),
            Some(Ok(AggregatedMessage::Ping(bytes))) if !stalls(session.pong(&bytes)).await => continue,
            Some(Ok(AggregatedMessage::Pong(_))) => continue,
            Some(Ok(AggregatedMessage::Close(reason))) => return reason,
            Some(Err(actix_ws::ProtocolError::Overflow)) => return Some(closing(CloseCode::Size, "a message may have 64 KiB")),
            Some(Err(_)) => return Some(closing(CloseCode::Protocol, "this is not WebSocket")),
            Some(Ok(AggregatedMessage::Ping(_))) | None => return None,
        };
        if machine.write_all(&bytes).await.is_err() {
            return Some(closing(CloseCode::Normal, "the machine has closed it"));
        }
    }
}

async fn write(mut session: Session, mut machine: OwnedReadHalf) -> Option<CloseReason> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match machine.read(&mut chunk).await {
            Ok(0) | Err(_) => return Some(closing(CloseCode::Normal, "the machine has closed it")),
            Ok(length) => {
                if stalls(session.binary(Bytes::copy_from_slice(&chunk[..length]))).await {
                    tracing::info!("a browser reads nothing of a console; it is given up");
                    return None;
                }
            }
        }
    }
}
