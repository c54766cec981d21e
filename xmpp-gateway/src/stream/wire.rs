//! A stream's two directions over bytes (TCP, TLS, a pipe in memory) or over frames (WebSocket), behind one face.

use super::condition::StreamError;
use super::decode::{Bounds, Decoder, Piece};
use super::encode::Stanza;
use bytes::BytesMut;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// Anything bytes go through.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
/// One of them, whichever.
pub type BoxedIo = Box<dyn Io>;

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The peer sent something it must not; it is to be told.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The connection ended without a word.
    #[error("the connection ended")]
    End,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
}

const CHUNK: usize = 4096;

/// The reading direction.
pub enum Reader {
    /// Over bytes.
    Bytes {
        /// The half read from.
        io: ReadHalf<BoxedIo>,
        /// What was read and not yet decoded.
        buffer: BytesMut,
        /// The decoder of the current stream.
        decoder: Box<Decoder>,
    },
    /// Over frames.
    Frames {
        /// Frames from the peer.
        incoming: mpsc::Receiver<String>,
        /// What one frame may cost.
        bounds: Bounds,
        /// The size of the last one.
        last: usize,
    },
}

/// The writing direction.
pub enum Writer {
    /// Over bytes.
    Bytes(WriteHalf<BoxedIo>),
    /// Over frames.
    Frames(mpsc::Sender<String>),
}

/// Both directions over bytes.
pub fn over_bytes(io: BoxedIo, bounds: Bounds) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(io);
    (Reader::Bytes { io: read, buffer: BytesMut::new(), decoder: Box::new(Decoder::stream(bounds)) }, Writer::Bytes(write))
}

/// Both directions over frames.
pub fn over_frames(incoming: mpsc::Receiver<String>, outgoing: mpsc::Sender<String>, bounds: Bounds) -> (Reader, Writer) {
    (Reader::Frames { incoming, bounds, last: 0 }, Writer::Frames(outgoing))
}

/// Puts both directions over bytes together again, for TLS. `None` for frames, and when the peer sent something that was not
/// yet read: that would be plain text taken for protected.
pub fn reunite(reader: Reader, writer: Writer) -> Option<BoxedIo> {
    match (reader, writer) {
        (Reader::Bytes { io, buffer, .. }, Writer::Bytes(write)) if buffer.is_empty() => Some(io.unsplit(write)),
        _ => None,
    }
}

/// The bytes themselves, after the last piece that was read; whatever came behind it is read first. `None` for frames.
pub fn release(reader: Reader, writer: Writer) -> Option<BoxedIo> {
    match (reader, writer) {
        (Reader::Bytes { io, buffer, .. }, Writer::Bytes(write)) => {
            let io = io.unsplit(write);
            Some(if buffer.is_empty() { io } else { Box::new(Begun { first: buffer, io }) })
        }
        _ => None,
    }
}

/// Bytes some of which were read already.
struct Begun {
    first: BytesMut,
    io: BoxedIo,
}

impl AsyncRead for Begun {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, into);
        }
        let length = self.first.len().min(into.remaining());
        into.put_slice(&self.first.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Reader {
    /// The next piece. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Result<Piece, ReadError> {
        match self {
            Reader::Bytes { io, buffer, decoder } => loop {
                if !buffer.is_empty() {
                    let mut input: &[u8] = buffer;
                    let before = input.len();
                    let piece = decoder.feed(&mut input)?;
                    let used = before - input.len();
                    let _ = buffer.split_to(used);
                    if let Some(piece) = piece {
                        return Ok(piece);
                    }
                }
                buffer.reserve(CHUNK);
                if io.read_buf(buffer).await? == 0 {
                    return Err(ReadError::End);
                }
            },
            Reader::Frames { incoming, bounds, last } => loop {
                let frame = incoming.recv().await.ok_or(ReadError::End)?;
                // Some clients send white space in a frame of its own to keep the connection open.
                if frame.trim_ascii().is_empty() {
                    continue;
                }
                *last = frame.len();
                return Ok(Decoder::frame(&frame, *bounds)?);
            },
        }
    }

    /// The size in bytes of the piece last returned.
    pub fn last_len(&self) -> usize {
        match self {
            Reader::Bytes { decoder, .. } => decoder.last_len(),
            Reader::Frames { last, .. } => *last,
        }
    }

    /// Expects a new stream header, as after SASL. Bytes that already came belong to the new stream.
    pub fn restart(&mut self, bounds: Bounds) {
        match self {
            Reader::Bytes { decoder, .. } => **decoder = Decoder::stream(bounds),
            Reader::Frames { bounds: old, .. } => *old = bounds,
        }
    }

    /// Other bounds from the next piece on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        match self {
            Reader::Bytes { decoder, .. } => decoder.set_bounds(bounds),
            Reader::Frames { bounds: old, .. } => *old = bounds,
        }
    }

    /// Whether this is a WebSocket.
    pub fn is_framed(&self) -> bool {
        matches!(self, Reader::Frames { .. })
    }
}

impl Writer {
    /// Writes one element or header at once.
    pub async fn write(&mut self, text: &str) -> std::io::Result<()> {
        match self {
            Writer::Bytes(io) => {
                io.write_all(text.as_bytes()).await?;
                io.flush().await
            }
            Writer::Frames(outgoing) => outgoing.send(text.to_owned()).await.map_err(|_| std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Writes many elements: in one write over bytes, one by one over frames. `scratch` is reused from call to call.
    pub async fn write_batch<'a>(&mut self, batch: impl Iterator<Item = &'a Stanza> + Send, scratch: &mut String) -> std::io::Result<()> {
        match self {
            Writer::Bytes(_) => {
                scratch.clear();
                for stanza in batch {
                    stanza.write_to(scratch);
                }
                let written = if scratch.is_empty() { Ok(()) } else { self.write(scratch).await };
                // One large batch must not be paid for as long as the session lives.
                if scratch.capacity() > 64 * 1024 {
                    *scratch = String::new();
                }
                written
            }
            Writer::Frames(outgoing) => {
                for stanza in batch {
                    outgoing.send(stanza.to_text()).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
                }
                Ok(())
            }
        }
    }

    /// Tells the peer's transport that nothing more comes.
    pub async fn shutdown(&mut self) {
        if let Writer::Bytes(io) = self {
            // The peer may be gone already; there is nobody left to tell.
            let _ = io.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns;

    #[tokio::test]
    async fn what_came_behind_the_last_piece_is_read_first() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut reader, writer) = over_bytes(Box::new(near), Bounds::BEFORE_LOGIN);
        let header = format!("<stream:stream xmlns='{}' xmlns:stream='{}' version='1.0'>", ns::CLIENT, ns::STREAM);
        far.write_all(format!("{header}<carried xmlns='{}'/>GET / HTTP/1.1", ns::CARRIAGE).as_bytes()).await.unwrap();
        assert!(matches!(reader.next().await, Ok(Piece::Open(_))));
        assert!(matches!(reader.next().await, Ok(Piece::Element(e)) if e.is("carried", ns::CARRIAGE)));
        let mut io = release(reader, writer).unwrap();
        let mut word = [0; 3];
        io.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"GET");
        far.write_all(b"\r\n").await.unwrap();
        let mut rest = [0; 13];
        io.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b" / HTTP/1.1\r\n");
        io.write_all(b"back").await.unwrap();
        io.shutdown().await.unwrap();
        let mut said = String::new();
        far.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "back");
    }
}
