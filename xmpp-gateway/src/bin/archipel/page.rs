//! The web server that opens what tickets are for, over HTTP/1.1: how it is reached, and one request at a time.

use archipel_contract::{Fault, FaultKind};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The longest sentence that is read of an answer.
const SENTENCE: usize = 16 * 1024;

/// The connection broke, or the web server says that the one behind it did.
pub(crate) fn lost(e: impl std::fmt::Display) -> Fault {
    Fault::unavailable("the connection to the web server was lost").because(e)
}

/// Connects to the page at `http://host:port`. Answers what goes into `Host` as well.
pub(crate) async fn connect(page: &str) -> Result<(TcpStream, &str), Fault> {
    let authority = page.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).ok_or_else(|| {
        Fault::new(
            FaultKind::Unsupported,
            format!("{page} cannot be opened from the command line, only http:// can; use an SSH tunnel or the page"),
        )
    })?;
    let unreachable = |e: &dyn std::fmt::Display| {
        Fault::unavailable(format!("cannot connect to the web server at {page}; set ARCHIPEL_PAGE to where it listens")).because(e)
    };
    let connecting = timeout(PATIENCE, TcpStream::connect(authority)).await.map_err(|e| unreachable(&e))?;
    let stream = connecting.map_err(|e| unreachable(&e))?;
    if !stream.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return Err(Fault::new(
            FaultKind::Unsupported,
            format!("{page} is not on this machine, and what goes there would travel in the clear; use an SSH tunnel or the page"),
        ));
    }
    stream.set_nodelay(true).map_err(lost)?;
    Ok((stream, authority))
}

/// Presents a ticket and its secret. What is not a good answer is its fault.
pub(crate) async fn ask<B>(
    page: &str,
    method: Method,
    path: &str,
    secret: &str,
    headers: HeaderMap,
    body: B,
) -> Result<Response<Incoming>, Fault>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (stream, authority) = connect(page).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    // Its end is told by the answer, or by the lack of one.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, authority).header(AUTHORIZATION, format!("Bearer {secret}"));
    let mut request = request.body(body).map_err(|e| Fault::internal("the request cannot be written").because(e))?;
    request.headers_mut().extend(headers);
    let answer = sender.send_request(request).await.map_err(lost)?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let kind = answer.headers().get("archipel-fault").and_then(|name| FaultKind::from_name(name.to_str().ok()?));
    let text = sentence(answer).await.unwrap_or_default();
    Err(match kind {
        Some(kind) => Fault::new(kind, text),
        None if status.as_u16() == 404 => nothing(page),
        None => Fault::unavailable(format!("the web server at {page} answered {status}")).because(text),
    })
}

/// Nothing waits behind a ticket that was given out a moment ago.
pub(crate) fn nothing(page: &str) -> Fault {
    Fault::not_found(format!("{page} does not open it; set ARCHIPEL_PAGE to the web server of the exchange, or of the host that has it"))
}

/// The sentence that an answer is.
pub(crate) async fn sentence(answer: Response<Incoming>) -> Result<String, Fault> {
    let limited = http_body_util::Limited::new(answer.into_body(), SENTENCE);
    let bytes = limited.collect().await.map_err(lost)?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
