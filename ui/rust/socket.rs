//! The XMPP WebSocket (RFC 7395): text frames to and from two bounded queues.
//!
//! ```text
//!   browser --frame--> reader --incoming (bounded)--> acceptor
//!   browser <--frame-- writer <--outgoing (bounded)-- acceptor
//! ```
//! Whoever is slow is waited for: a full `incoming` stops reading from TCP, and a browser that does not read fills `outgoing`, where the
//! acceptor's own policy decides. Either side ends the other: the reader by dropping `incoming`, the acceptor by dropping `outgoing`.

use crate::{Shared, Standby, origin};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, ProtocolError, Session};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The longest message taken from a browser, in bytes.
pub const MAX_FRAME: usize = 256 * 1024;

/// How many messages wait on each side.
const QUEUE: usize = 64;

/// After this silence the browser is pinged; after twice as long it is taken for gone.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// How long one message may wait for a browser that does not read. Then whatever waits is dropped: a browser that keeps the
/// connection open and reads nothing must not keep our memory, too. Longer than the acceptor's own patience.
pub(crate) const STALL: Duration = Duration::from_secs(90);

/// One open WebSocket. Each text is one frame: one whole element, or `<open/>` and `<close/>`.
#[derive(Debug)]
pub struct Socket {
    /// Who is on the other end, as TCP knows it.
    pub peer: Option<SocketAddr>,
    /// What the browser sends. Ends when it is gone.
    pub incoming: mpsc::Receiver<String>,
    /// What it gets. Dropping it closes the socket after what was sent.
    pub outgoing: mpsc::Sender<String>,
}

/// Whoever speaks XMPP over a WebSocket.
pub trait SocketAcceptor: Send + Sync {
    /// Takes a socket and returns at once; the work happens elsewhere.
    fn accept(&self, socket: Socket);
    /// Whether, for now, another process takes them.
    fn standby(&self) -> Option<Standby> {
        None
    }
}

fn refuse(mut status: actix_web::HttpResponseBuilder, why: &str) -> actix_web::Result<HttpResponse> {
    Ok(status.content_type("text/plain; charset=utf-8").body(format!("{why}\n")))
}

pub(crate) async fn upgrade(request: HttpRequest, body: web::Payload, shared: web::Data<Shared>) -> actix_web::Result<HttpResponse> {
    let Some(acceptor) = shared.hooks.websocket.clone() else {
        return refuse(HttpResponse::NotFound(), "this process is no exchange; ask the one that is");
    };
    if let Err(origin) = origin::check(&request, &[&shared.config.allowed_origins[..], &shared.config.pages].concat()) {
        tracing::warn!(%origin, "a page of another origin wanted a socket");
        return refuse(HttpResponse::Forbidden(), "pages of this origin may not connect; list it in http.allowed_origins");
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|v| v.to_str().ok());
    if !offered.flat_map(|v| v.split(',')).any(|protocol| protocol.trim() == "xmpp") {
        return refuse(HttpResponse::BadRequest(), "this is a WebSocket of the sub-protocol xmpp (RFC 7395)");
    }
    if let Some(standby) = acceptor.standby() {
        return refuse(HttpResponse::ServiceUnavailable(), &standby.sentence());
    }
    let (response, session, stream) = actix_ws::handle_with_protocols(&request, body, &["xmpp"])?;
    let stream = stream.max_frame_size(MAX_FRAME).aggregate_continuations().max_continuation_size(MAX_FRAME);
    let (to_acceptor, incoming) = mpsc::channel(QUEUE);
    let (outgoing, from_acceptor) = mpsc::channel(QUEUE);
    actix_web::rt::spawn(read(stream, session.clone(), to_acceptor));
    actix_web::rt::spawn(write(session, from_acceptor));
    acceptor.accept(Socket { peer: request.peer_addr(), incoming, outgoing });
    Ok(response)
}

async fn read(mut stream: AggregatedMessageStream, mut session: Session, incoming: mpsc::Sender<String>) {
    let mut pinged = false;
    let reason = loop {
        let message = tokio::select! {
            message = timeout(SILENCE, stream.recv()) => message,
            // The acceptor is done with it; what it sent last is the writer's to deliver.
            () = incoming.closed() => return,
        };
        let message = match message {
            Ok(message) => message,
            Err(_) if pinged => break None,
            Err(_) => {
                pinged = true;
                if stalls(session.ping(b"")).await {
                    break None;
                }
                continue;
            }
        };
        pinged = false;
        match message {
            Some(Ok(AggregatedMessage::Text(text))) => {
                if incoming.send(text.to_string()).await.is_err() {
                    return;
                }
            }
            Some(Ok(AggregatedMessage::Ping(bytes))) => {
                if stalls(session.pong(&bytes)).await {
                    break None;
                }
            }
            Some(Ok(AggregatedMessage::Pong(_))) => {}
            Some(Ok(AggregatedMessage::Binary(_))) => break Some(closing(CloseCode::Unsupported, "only text is spoken here")),
            Some(Ok(AggregatedMessage::Close(reason))) => break reason,
            Some(Err(ProtocolError::Overflow)) => break Some(closing(CloseCode::Size, "a message may have 256 KiB")),
            Some(Err(_)) => break Some(closing(CloseCode::Protocol, "this is not WebSocket")),
            None => break None,
        }
    };
    // It may be closed from the other side already.
    let _ = timeout(STALL, session.close(reason)).await;
}

/// Whether something could not be said: the socket is closed, or its browser does not read.
pub(crate) async fn stalls(said: impl Future<Output = Result<(), Closed>>) -> bool {
    !matches!(timeout(STALL, said).await, Ok(Ok(())))
}

async fn write(mut session: Session, mut outgoing: mpsc::Receiver<String>) {
    while let Some(text) = outgoing.recv().await {
        match timeout(STALL, session.text(text)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!("a browser reads nothing; its socket is given up");
                return;
            }
        }
    }
    let _ = timeout(STALL, session.close(Some(closing(CloseCode::Normal, "")))).await;
}

pub(crate) fn closing(code: CloseCode, description: &str) -> CloseReason {
    CloseReason { code, description: (!description.is_empty()).then(|| description.to_owned()) }
}
