//! The contents of volumes over HTTP, to and from bounded queues of pieces.
//!
//! ```text
//!   GET /volume/<token>   Range: bytes=FROM-TO            200 or 206, the pieces as they come
//!   PUT /volume/<token>   Content-Range: bytes FROM-TO/ALL    200 when all of it is there
//! ```
//! A ticket is for one request: whoever was cut off asks for another and goes on from where it stands. A full queue stops TCP; whoever
//! takes or gives nothing for a minute and a half is given up.

use crate::ticket::{self, Unopened};
use crate::{Shared, carriage, socket::STALL};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use archipel_contract::{BoxFuture, Fault};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Pieces that wait between the network and the volume.
const QUEUE: usize = 8;

/// Which part of a volume is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// From this byte to that one, both included; without the second to the end.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

/// The contents of a volume on their way out.
pub struct Download {
    /// What a browser shall call the file.
    pub name: String,
    /// All bytes of the volume.
    pub size: u64,
    /// The first byte that is sent.
    pub from: u64,
    /// How many are sent.
    pub length: u64,
    /// The pieces in order; after an error the connection is cut, so that nobody takes what came for the whole.
    pub pieces: mpsc::Receiver<Result<Bytes, Fault>>,
}

/// The contents of a volume on their way in.
pub struct Upload {
    /// Where the first byte goes.
    pub from: u64,
    /// How many bytes come, if the client says so.
    pub length: Option<u64>,
    /// How many bytes the whole has, if the client says so.
    pub size: Option<u64>,
    /// The pieces in order. Whoever takes them stops when it is dropped; an error means that the client was cut off.
    pub pieces: mpsc::Receiver<Result<Bytes, Fault>>,
}

/// Whoever reads and writes volumes.
pub trait VolumeAcceptor: Send + Sync {
    /// Begins to send what the ticket is for.
    fn download(&self, token: String, secret: String, part: Part) -> BoxFuture<'static, Result<Download, Unopened>>;
    /// Takes what the ticket is for, and answers, with a sentence for people, when all of it is written.
    fn upload(&self, token: String, secret: String, upload: Upload) -> BoxFuture<'static, Result<String, Unopened>>;
}

pub(crate) async fn download(request: HttpRequest, token: web::Path<String>, shared: web::Data<Shared>) -> HttpResponse {
    let token = token.into_inner();
    if let Some(carrier) = shared.elsewhere(&token) {
        return carriage::volume(request, token, None, carrier).await;
    }
    let Some(acceptor) = shared.hooks.volumes.clone() else { return ticket::refused() };
    let secret = ticket::of_request(request.headers()).unwrap_or_default();
    let wanted = request.headers().get(header::RANGE).and_then(|v| v.to_str().ok());
    let part = wanted.and_then(part).unwrap_or(Part::Whole);
    let Download { name, size, from, length, pieces } = match acceptor.download(token, secret, part).await {
        Ok(download) => download,
        Err(Unopened::Ticket) => return ticket::refused(),
        Err(Unopened::Fault(fault)) => return ticket::failed(&fault),
    };
    let mut answer = if part == Part::Whole { HttpResponse::Ok() } else { HttpResponse::PartialContent() };
    if part != Part::Whole {
        answer.insert_header((header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", (from + length).saturating_sub(1))));
    }
    let plain: String = name.chars().filter(|c| c.is_ascii_graphic() && !"\"\\/;".contains(*c)).collect();
    answer
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{plain}\"")))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("application/octet-stream")
        .no_chunking(length);
    answer.streaming(futures::stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((piece.map_err(|fault| std::io::Error::other(fault.to_string())), pieces))
    }))
}

pub(crate) async fn upload(
    request: HttpRequest,
    token: web::Path<String>,
    mut body: web::Payload,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let token = token.into_inner();
    if let Some(carrier) = shared.elsewhere(&token) {
        return carriage::volume(request, token, Some(body), carrier).await;
    }
    let Some(acceptor) = shared.hooks.volumes.clone() else { return ticket::refused() };
    let secret = ticket::of_request(request.headers()).unwrap_or_default();
    let text = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
    let (from, size) = match text(header::CONTENT_RANGE).map(content_range) {
        None => (0, None),
        Some(Some(said)) => said,
        Some(None) => return ticket::plain(HttpResponse::BadRequest(), "Content-Range is written bytes FROM-TO/ALL"),
    };
    let length = text(header::CONTENT_LENGTH).and_then(|v| v.parse().ok());
    let (give, pieces) = mpsc::channel(QUEUE);
    let taking = acceptor.upload(token, secret, Upload { from, length, size, pieces });
    let giving = async move {
        loop {
            let piece = match timeout(STALL, body.next()).await {
                Ok(None) => return,
                Ok(Some(Ok(piece))) => Ok(piece),
                Ok(Some(Err(error))) => Err(Fault::unavailable("the upload was cut off; go on from where it stands").because(error)),
                Err(_) => Err(Fault::unavailable("nothing came any more; go on from where it stands")),
            };
            let over = piece.is_err();
            if give.send(piece).await.is_err() || over {
                return;
            }
        }
    };
    // Whoever refuses has an answer at once, however much of the body is still to come.
    tokio::pin!(taking);
    let outcome = tokio::select! {
        outcome = &mut taking => outcome,
        () = giving => taking.await,
    };
    match outcome {
        Ok(words) => ticket::plain(HttpResponse::Ok(), &words),
        Err(Unopened::Ticket) => ticket::refused(),
        Err(Unopened::Fault(fault)) => ticket::failed(&fault),
    }
}

/// One range of RFC 9110; of several, or of other units, all is sent.
fn part(text: &str) -> Option<Part> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (from.trim(), to.trim()) {
        ("", last) => Some(Part::Last(last.parse().ok()?)),
        (from, "") => Some(Part::From(from.parse().ok()?, None)),
        (from, to) => {
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            (from <= to).then_some(Part::From(from, Some(to)))
        }
    }
}

/// Where it begins, and the size of the whole if it is known.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let size = if size == "*" { None } else { Some(size.parse().ok()?) };
    let from = range.split_once('-')?.0.parse().ok()?;
    Some((from, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood_or_all_is_sent() {
        let table = [
            ("bytes=0-9", Some(Part::From(0, Some(9)))),
            ("bytes=7-", Some(Part::From(7, None))),
            ("bytes=-5", Some(Part::Last(5))),
            ("bytes=9-1", None),
            ("bytes=1-2,4-5", None),
            ("lines=1-2", None),
            ("bytes=-", None),
        ];
        for (text, expected) in table {
            assert_eq!(part(text), expected, "{text}");
        }
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-*/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
    }
}
