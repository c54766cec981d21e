//! What a ticket of another host opens, through this page's own origin: the request is passed on over a connection that host has made.
//!
//! ```text
//!   browser <--HTTP--> exchange: [console], [volume] <--HTTP over a carriage--> agent: [Carriages] --> console.rs, volume.rs
//! ```
//! What a request means is the agent's to say: here nothing is known of consoles and volumes but the way there, and, of a console, where
//! one frame ends, so that a browser can be told why it is over. Each direction holds one piece; a full one stops TCP.

use crate::console::{self, CUT};
use crate::frames::{self, Frames};
use crate::socket::STALL;
use crate::ticket::{self, Unopened};
use actix_web::body::BodyStream;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use archipel_contract::{BoxFuture, Fault, ticket::Proof};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The most that is read from a carriage at once.
const CHUNK: usize = 32 * 1024;
/// What of a request is passed on.
const PASSED_ON: [header::HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::RANGE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
    header::UPGRADE,
];
/// What of an answer is this side's own.
const OWN: [&str; 5] = ["connection", "content-length", "date", "transfer-encoding", "upgrade"];

/// Anything bytes go through.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// A connection to the host of a ticket, which expects one request.
pub struct Carriage {
    /// The bytes.
    pub io: Box<dyn Pipe>,
    /// Answers, with the reason for people, when it has to end.
    pub ended: BoxFuture<'static, String>,
    /// Dropped when it is over.
    pub held: Box<dyn Send>,
}

/// Whoever reaches other hosts.
pub trait Carrier: Send + Sync {
    /// Whether what this token opens is on another host.
    fn takes(&self, token: &str) -> bool;
    /// Asks that host for a carriage, for a request with this token and the secret of that proof.
    fn carry(&self, folder: &'static str, token: String, proof: Proof) -> BoxFuture<'static, Result<Carriage, Unopened>>;
}

async fn carriage(carrier: &dyn Carrier, folder: &'static str, token: &str, secret: Option<String>) -> Result<Carriage, Unopened> {
    let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(secret.unwrap_or_default()));
    let proof = digest.parse().map_err(|_| Unopened::Ticket)?;
    carrier.carry(folder, token.to_owned(), proof).await
}

fn lost(e: impl std::fmt::Display) -> Fault {
    Fault::unavailable("the host that has it went away; try again when it is back").because(e)
}

/// The request as the host gets it.
fn passed_on<B>(request: &HttpRequest, folder: &str, token: &str, body: B) -> Result<hyper::Request<B>, Fault> {
    let mut passed =
        hyper::Request::builder().method(request.method().as_str()).uri(format!("/{folder}/{token}")).header("host", "carriage");
    for name in PASSED_ON {
        for value in request.headers().get_all(&name) {
            passed = passed.header(name.as_str(), value.as_bytes());
        }
    }
    passed.body(body).map_err(|e| Fault::invalid("this request cannot be passed on to the host that has it").because(e))
}

/// A request under way; the carriage ends when this is dropped.
struct Way(JoinHandle<()>);

impl Drop for Way {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send<B>(io: Box<dyn Pipe>, request: hyper::Request<B>) -> Result<(hyper::Response<Incoming>, Way), Fault>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(lost)?;
    let way = Way(actix_web::rt::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a carriage broke");
        }
    }));
    let answer = sender.send_request(request).await.map_err(lost)?;
    Ok((answer, way))
}

/// The host's answer with this side's own headers; `None` when nothing is behind the token there, which looks the same wherever it is so.
fn answered(answer: &hyper::Response<Incoming>) -> Option<actix_web::HttpResponseBuilder> {
    if answer.status() == hyper::StatusCode::NOT_FOUND && !answer.headers().contains_key(ticket::FAULT) {
        return None;
    }
    let mut built = HttpResponse::build(StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY));
    for (name, value) in answer.headers().iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
        built.append_header((name.as_str(), value.as_bytes()));
    }
    Some(built)
}

/// The body of an answer as it comes. An error cuts the connection, so that nobody takes what came for the whole.
fn body(
    answer: hyper::Response<Incoming>,
    rest: (Way, BoxFuture<'static, String>, Box<dyn Send>),
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::unfold((answer.into_body(), rest), async |(mut body, mut rest)| {
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame?,
                why = &mut rest.1 => return Some((Err(std::io::Error::other(why)), (body, rest))),
            };
            match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => return Some((Ok(bytes), (body, rest))),
                // Trailers, which nobody sends.
                Ok(Err(_)) => {}
                Err(error) => return Some((Err(std::io::Error::other(error)), (body, rest))),
            }
        }
    })
}

/// The contents of a volume of another host, to or from it.
pub(crate) async fn volume(request: HttpRequest, token: String, payload: Option<web::Payload>, carrier: Arc<dyn Carrier>) -> HttpResponse {
    let Carriage { io, mut ended, held } = match carriage(&*carrier, "volume", &token, ticket::of_request(request.headers())).await {
        Ok(carriage) => carriage,
        Err(Unopened::Ticket) => return ticket::refused(),
        Err(Unopened::Fault(fault)) => return ticket::failed(&fault),
    };
    let going = async {
        match payload {
            None => send(io, passed_on(&request, "volume", &token, Empty::<Bytes>::new())?).await,
            Some(payload) => {
                let pieces = payload.map(|piece| piece.map(Frame::data).map_err(|e| std::io::Error::other(e.to_string())));
                send(io, passed_on(&request, "volume", &token, StreamBody::new(pieces))?).await
            }
        }
    };
    let outcome = tokio::select! {
        outcome = going => outcome,
        why = &mut ended => Err(Fault::unavailable(why)),
    };
    let (answer, way) = match outcome {
        Ok(answer) => answer,
        Err(fault) => return ticket::failed(&fault),
    };
    let Some(mut built) = answered(&answer) else { return ticket::refused() };
    if let Some(length) = answer.body().size_hint().exact() {
        built.no_chunking(length);
    }
    built.streaming(body(answer, (way, ended, held)))
}

/// The console of a machine of another host.
pub(crate) async fn console(
    request: HttpRequest,
    token: String,
    payload: web::Payload,
    carrier: Arc<dyn Carrier>,
) -> actix_web::Result<HttpResponse> {
    let Carriage { io, mut ended, held } = match carriage(&*carrier, "console", &token, ticket::of_socket(request.headers())).await {
        Ok(carriage) => carriage,
        Err(Unopened::Ticket) => return Ok(ticket::refused()),
        Err(Unopened::Fault(fault)) => return console::failed(&request, payload, &fault),
    };
    let going = async { send(io, passed_on(&request, "console", &token, Empty::<Bytes>::new())?).await };
    let outcome = tokio::select! {
        outcome = going => outcome,
        why = &mut ended => Err(Fault::unavailable(why)),
    };
    let (mut answer, way) = match outcome {
        Ok(answer) => answer,
        Err(fault) => return console::failed(&request, payload, &fault),
    };
    let Some(mut built) = answered(&answer) else { return Ok(ticket::refused()) };
    if answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(built.streaming(body(answer, (way, ended, held))));
    }
    let line = match hyper::upgrade::on(&mut answer).await {
        Ok(line) => line,
        Err(error) => return console::failed(&request, payload, &lost(error)),
    };
    let (give, pieces) = mpsc::channel(1);
    actix_web::rt::spawn(async move {
        bridge(payload, give, line, ended).await;
        drop((way, held));
    });
    let pieces = futures::stream::unfold(pieces, async |mut pieces| Some((Ok::<Bytes, std::io::Error>(pieces.recv().await?), pieces)));
    Ok(built.upgrade("websocket").message_body(BodyStream::new(pieces))?.map_into_boxed_body())
}

/// Who ended a console.
enum End {
    Browser,
    Host,
    Us(String),
}

async fn bridge(mut payload: web::Payload, give: mpsc::Sender<Bytes>, line: Upgraded, ended: BoxFuture<'static, String>) {
    let (mut from_host, mut to_host) = tokio::io::split(TokioIo::new(line));
    let mut frames = Frames::default();
    let up = async {
        while let Some(Ok(bytes)) = payload.next().await {
            if to_host.write_all(&bytes).await.is_err() || to_host.flush().await.is_err() {
                return End::Host;
            }
        }
        End::Browser
    };
    let down = async {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = match from_host.read(&mut chunk).await {
                Ok(0) | Err(_) => return End::Host,
                Ok(length) => length,
            };
            frames.see(&chunk[..length]);
            if !matches!(timeout(STALL, give.send(Bytes::copy_from_slice(&chunk[..length]))).await, Ok(Ok(()))) {
                return End::Browser;
            }
        }
    };
    let end = tokio::select! {
        end = up => end,
        end = down => end,
        why = ended => End::Us(why),
    };
    let why = match end {
        End::Browser => return,
        End::Host => "the connection to the host of the machine is lost".to_owned(),
        End::Us(why) => why,
    };
    if frames.may_close() {
        // The browser may have gone as well.
        let _ = timeout(STALL, give.send(frames::close(CUT, &why))).await;
    }
}
