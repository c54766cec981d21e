//! As much of a WebSocket client (RFC 6455) as a console needs: binary messages both ways, pings, the closing reason.

use crate::page::{self, PATIENCE, lost};
use archipel_contract::{Fault, ticket::SUB_PROTOCOL};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest head of an answer, and the longest message.
const HEAD: usize = 16 * 1024;
const MESSAGE: u64 = 1 << 20;

/// What arrives.
pub(crate) enum Message {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The other side has closed it, with these words.
    Closed(String),
}

/// An open WebSocket.
pub(crate) struct WebSocket {
    read: BufReader<ReadHalf<TcpStream>>,
    write: WriteHalf<TcpStream>,
    /// A message that has come in part: reading must not lose it when something else happens first.
    partly: Vec<u8>,
}

fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Fault::internal("the system gives no random numbers").because(e))?;
    Ok(bytes)
}

impl WebSocket {
    /// Opens `path` of the page at `http://host:port`, presenting the secret.
    pub(crate) async fn open(page: &str, path: &str, secret: &str) -> Result<WebSocket, Fault> {
        let (mut stream, authority) = page::connect(page).await?;
        let key = BASE64_STANDARD.encode(random::<16>()?);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: binary, {SUB_PROTOCOL}{secret}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(lost)?;
        let (read, write) = tokio::io::split(stream);
        let mut read = BufReader::new(read);
        let head = timeout(PATIENCE, head(&mut read)).await.map_err(lost)??;
        let status = head.split(' ').nth(1).unwrap_or_default();
        let expected = BASE64_STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
        let accepted = head
            .lines()
            .filter_map(|l| l.split_once(':'))
            .any(|(n, v)| n.eq_ignore_ascii_case("sec-websocket-accept") && v.trim() == expected);
        match status {
            "101" if accepted => Ok(WebSocket { read, write, partly: Vec::new() }),
            "404" => Err(page::nothing(page)),
            other => Err(Fault::unavailable(format!("the web server at {page} answered {other} instead of a WebSocket"))),
        }
    }

    async fn say(&mut self, first: u8, payload: &[u8]) -> Result<(), Fault> {
        let mut frame = vec![first];
        match payload.len() {
            n @ 0..126 => frame.push(0x80 | n as u8),
            n @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((n as u16).to_be_bytes());
            }
            n => {
                frame.push(0x80 | 127);
                frame.extend((n as u64).to_be_bytes());
            }
        }
        let mask: [u8; 4] = random()?;
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        timeout(PATIENCE, self.write.write_all(&frame)).await.map_err(lost)?.map_err(lost)
    }

    /// Sends bytes as one message.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() { Ok(()) } else { self.say(0x82, bytes).await }
    }

    /// Says good-bye.
    pub(crate) async fn close(&mut self) {
        // The connection ends with the program anyway.
        let _ = self.say(0x88, &1000u16.to_be_bytes()).await;
    }

    /// The next message. May be given up at any time and called again.
    pub(crate) async fn receive(&mut self) -> Result<Message, Fault> {
        loop {
            if let Some((first, payload, used)) = parse(&self.partly)? {
                self.partly.drain(..used);
                match first & 0x0f {
                    0x0..=0x2 => return Ok(Message::Bytes(payload)),
                    0x8 => return Ok(Message::Closed(String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned())),
                    0x9 => self.say(0x8a, &payload).await?,
                    _ => {}
                }
                continue;
            }
            let mut chunk = [0; 16 * 1024];
            match self.read.read(&mut chunk).await {
                Ok(0) => return Ok(Message::Closed("the connection to the web server was lost".to_owned())),
                Ok(length) => self.partly.extend_from_slice(&chunk[..length]),
                Err(error) => return Err(lost(error)),
            }
        }
    }
}

/// The first frame of these bytes, if all of it is there: its first byte, its payload, and how many bytes it took.
fn parse(bytes: &[u8]) -> Result<Option<(u8, Vec<u8>, usize)>, Fault> {
    let (Some(first), Some(second)) = (bytes.first(), bytes.get(1)) else { return Ok(None) };
    let (length, at) = match (second & 0x7f, bytes.get(2..4), bytes.get(2..10)) {
        (126, Some(two), _) => (u64::from(u16::from_be_bytes([two[0], two[1]])), 4),
        (127, _, Some(eight)) => (eight.iter().fold(0, |n, b| n << 8 | u64::from(*b)), 10),
        (126 | 127, ..) => return Ok(None),
        (short, ..) => (u64::from(short), 2),
    };
    if length > MESSAGE || second & 0x80 != 0 {
        return Err(Fault::unavailable("the web server does not speak WebSocket as it should"));
    }
    let end = at + length as usize;
    Ok(bytes.get(at..end).map(|payload| (*first, payload.to_vec(), end)))
}

async fn head(read: &mut BufReader<ReadHalf<TcpStream>>) -> Result<String, Fault> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(read.read_u8().await.map_err(lost)?);
        if head.len() > HEAD {
            return Err(Fault::unavailable("the web server answers too much"));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_when_all_of_them_is_there() {
        let mut long = vec![0x82, 126, 1, 0];
        long.extend([7; 256]);
        for length in 0..long.len() {
            assert!(parse(&long[..length]).unwrap().is_none(), "{length}");
        }
        assert_eq!(parse(&long).unwrap(), Some((0x82, vec![7; 256], 260)));
        assert_eq!(parse(&[0x88, 2, 3, 232, 9]).unwrap(), Some((0x88, vec![3, 232], 4)));
        assert!(parse(&[0x82, 127, 255, 0, 0, 0, 0, 0, 0, 0]).is_err(), "too long");
        assert!(parse(&[0x82, 0x81]).is_err(), "servers do not mask");
    }
}
