//! The contents of a volume from a file, or into one.
//!
//! ```text
//!   volume.upload (proof) --> ticket, bytes that are there --> PUT from there on --all taken--> done
//!         ^                                                         | cut
//!         +------ the same with `resume`, if something more had arrived +-- nothing more had: the fault, and how to go on
//! ```
//! A download is the same with GET. It is written beside the file and gets its name when it is whole.

use crate::console::{proof, secret};
use crate::follow::say;
use crate::login::Login;
use crate::page;
use archipel_contract::{Bytes, Fault, FaultKind, OperationId, volume::VolumeTicket};
use archipel_xmpp::client::{Client, DEADLINE};
use bytes::{Bytes as Piece, BytesMut};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// How much is read from a file at once.
const CHUNK: usize = 256 * 1024;
/// Pieces that wait between file and network.
const QUEUE: usize = 4;
/// How long an upload that was cut may take until the pool has noticed, and how often that is asked.
const NOTICED: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// Standard input or output.
const STANDARD: &str = "-";

/// A command with its target, for which tickets are asked, one after the other.
pub(crate) struct Transfer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) login: &'a Login,
    pub(crate) target: &'a str,
    pub(crate) arguments: Map<String, Value>,
    pub(crate) file: PathBuf,
}

impl Transfer<'_> {
    async fn ticket(&self, command: &str, resume: bool) -> Result<(VolumeTicket, String), Fault> {
        let secret = secret()?;
        let mut arguments = self.arguments.clone();
        arguments.insert("proof".to_owned(), proof(&secret).into());
        if resume {
            arguments.insert("resume".to_owned(), true.into());
        }
        // Each ticket is another operation, and asking for one to fetch with is none.
        let operation = (command == "volume.upload").then(OperationId::fresh);
        let reply = self.client.command(self.target, command, Value::Object(arguments), operation, DEADLINE).await?;
        let ticket = serde_json::from_value(reply).map_err(|e| Fault::internal("the answer is no ticket").because(e))?;
        Ok((ticket, secret))
    }

    /// Sends the file, and answers what the host says of it.
    pub(crate) async fn upload(self) -> Result<Value, Fault> {
        let file = File::open(&self.file).await;
        let standard = self.file == Path::new(STANDARD);
        let (mut source, size): (Option<File>, Option<u64>) = match (standard, file) {
            (true, _) => (None, None),
            (false, Ok(file)) => {
                let size = file.metadata().await.map_err(|e| self.unreadable(&e))?.len();
                (Some(file), Some(size))
            }
            (false, Err(error)) => return Err(self.unreadable(&error)),
        };
        let mut resume = self.arguments.get("resume").and_then(Value::as_bool).unwrap_or_default();
        let mut before: Option<(u64, Fault)> = None;
        loop {
            let (VolumeTicket { ticket, bytes: Bytes(from), .. }, secret) = self.resumed(resume, before.is_some()).await?;
            if let Some((_, fault)) = before.take_if(|(stood, _)| from <= *stood) {
                return Err(self.going_on(fault));
            }
            if size.is_some_and(|size| from > size) {
                let message =
                    format!("{} there already, and the file has {}: it is another one", Bytes(from), Bytes(size.unwrap_or_default()));
                return Err(Fault::new(FaultKind::Conflict, message));
            }
            let mut progress = Progress::new("sent", from, size);
            let (give, mut pieces) = mpsc::channel(QUEUE);
            let body = StreamBody::new(futures::stream::poll_fn(move |cx| pieces.poll_recv(cx)));
            let mut headers = HeaderMap::new();
            if let Some(size) = size {
                headers.insert(CONTENT_LENGTH, (size - from).into());
                if from > 0 {
                    headers.insert(CONTENT_RANGE, header(format!("bytes {from}-{}/{size}", size.saturating_sub(1)))?);
                }
            } else if from > 0 {
                return Err(Fault::invalid("standard input cannot be gone on with; give the file"));
            }
            let reading = async {
                match &mut source {
                    Some(file) => {
                        file.seek(SeekFrom::Start(from)).await?;
                        read(&mut file.take(size.unwrap_or(u64::MAX) - from), give, &mut progress).await
                    }
                    None => read(&mut tokio::io::stdin(), give, &mut progress).await,
                }
            };
            let asking = page::ask(&self.login.page, Method::PUT, &ticket.path, &secret, headers, body);
            let outcome = {
                tokio::pin!(asking, reading);
                tokio::select! {
                    // Whoever refuses need not have read all of it.
                    answer = &mut asking => (answer, Ok(())),
                    read = &mut reading => (asking.await, read),
                }
            };
            let fault = match outcome {
                (Ok(answer), Ok(())) => return Ok(json!({ "message": page::sentence(answer).await? })),
                (Ok(_), Err(error)) => return Err(self.unreadable(&error)),
                (Err(fault), _) if fault.kind != FaultKind::Unavailable || standard => return Err(fault),
                (Err(fault), _) => fault,
            };
            if progress.at == from {
                return Err(fault);
            }
            drop(progress);
            say(&format!("{fault}; going on from where it stands"));
            (resume, before) = (true, Some((from, fault)));
        }
    }

    /// A ticket for the rest. What was cut off may be still being noticed.
    async fn resumed(&self, resume: bool, again: bool) -> Result<(VolumeTicket, String), Fault> {
        let end = Instant::now() + NOTICED;
        loop {
            match self.ticket("volume.upload", resume).await {
                Err(fault) if again && matches!(fault.kind, FaultKind::Busy | FaultKind::Conflict) && Instant::now() < end => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(fault) if again => return Err(self.going_on(fault)),
                other => return other,
            }
        }
    }

    fn cut_off(&self, at: u64) -> Fault {
        self.going_on(Fault::unavailable(format!("it was cut off with {} there", Bytes(at))))
    }

    fn going_on(&self, fault: Fault) -> Fault {
        let message = format!("{}; go on with the same command and --resume", fault.message);
        Fault { message, ..fault }
    }

    fn unreadable(&self, error: &std::io::Error) -> Fault {
        Fault::invalid(format!("cannot read {}", self.file.display())).because(error)
    }

    /// Fetches into the file, and answers how much came.
    pub(crate) async fn download(self, resume: bool) -> Result<Value, Fault> {
        if self.file == Path::new(STANDARD) {
            let (VolumeTicket { ticket, bytes, .. }, secret) = self.ticket("volume.download", false).await?;
            let mut progress = Progress::new("fetched", 0, Some(bytes.0));
            self.fetch(&ticket.path, &secret, 0, &mut tokio::io::stdout(), &mut progress).await?;
            return Ok(Value::Null);
        }
        let unwritable = |e: std::io::Error| Fault::invalid(format!("cannot write {}", self.file.display())).because(e);
        if tokio::fs::try_exists(&self.file).await.map_err(unwritable)? {
            return Err(Fault::wrong_state(format!("{} is there already; remove it, or choose another name", self.file.display())));
        }
        let mut name = self.file.clone().into_os_string();
        name.push(".part");
        let part = PathBuf::from(name);
        let mut file = File::options().create(true).append(true).open(&part).await.map_err(unwritable)?;
        if !resume {
            file.set_len(0).await.map_err(unwritable)?;
        }
        let mut from = file.metadata().await.map_err(unwritable)?.len();
        loop {
            let (VolumeTicket { ticket, bytes: Bytes(size), .. }, secret) =
                self.ticket("volume.download", false).await.map_err(|f| if from > 0 { self.going_on(f) } else { f })?;
            if from > size {
                return Err(Fault::new(FaultKind::Conflict, format!("{} has more than the volume; remove it", part.display())));
            }
            let mut progress = Progress::new("fetched", from, Some(size));
            let outcome = if from == size { Ok(()) } else { self.fetch(&ticket.path, &secret, from, &mut file, &mut progress).await };
            file.flush().await.map_err(unwritable)?;
            let (came, stood) = (progress.at, std::mem::replace(&mut from, progress.at));
            match outcome {
                Ok(()) if came == size => break,
                Ok(()) if came > stood => say("the web server sent less than it said; going on from where it stands"),
                Ok(()) => return Err(self.cut_off(came)),
                Err(fault) if fault.kind == FaultKind::Unavailable && came > stood => {
                    say(&format!("{fault}; going on from where it stands"))
                }
                Err(fault) if fault.kind == FaultKind::Unavailable => return Err(self.going_on(fault)),
                Err(fault) => return Err(fault),
            }
        }
        file.sync_all().await.map_err(unwritable)?;
        tokio::fs::rename(&part, &self.file).await.map_err(unwritable)?;
        Ok(json!({ "message": format!("{} is there, {}", self.file.display(), Bytes(from)) }))
    }

    async fn fetch(
        &self,
        path: &str,
        secret: &str,
        from: u64,
        to: &mut (impl AsyncWrite + Unpin),
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        let mut headers = HeaderMap::new();
        if from > 0 {
            headers.insert(RANGE, header(format!("bytes={from}-"))?);
        }
        let mut answer = page::ask(&self.login.page, Method::GET, path, secret, headers, Empty::<Piece>::new()).await?;
        if from > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            return Err(Fault::internal("the web server does not go on where it was told to; fetch the whole"));
        }
        while let Some(frame) = answer.frame().await {
            if let Ok(piece) = frame.map_err(page::lost)?.into_data() {
                to.write_all(&piece).await.map_err(|e| Fault::internal("what came cannot be written").because(e))?;
                progress.more(piece.len() as u64);
            }
        }
        to.flush().await.map_err(|e| Fault::internal("what came cannot be written").because(e))
    }
}

fn header(text: String) -> Result<HeaderValue, Fault> {
    HeaderValue::try_from(text).map_err(|e| Fault::internal("a header cannot be written").because(e))
}

type Pieces = mpsc::Sender<Result<Frame<Piece>, std::io::Error>>;

/// Reads to the end, or until nobody takes it any more. What cannot be read cuts the upload off.
async fn read(from: &mut (impl AsyncRead + Unpin), give: Pieces, progress: &mut Progress) -> Result<(), std::io::Error> {
    loop {
        let mut piece = BytesMut::with_capacity(CHUNK);
        match from.read_buf(&mut piece).await {
            Ok(0) => return Ok(()),
            Ok(length) => {
                if give.send(Ok(Frame::data(piece.freeze()))).await.is_err() {
                    return Ok(());
                }
                progress.more(length as u64);
            }
            Err(error) => {
                // Whoever takes it has gone as well, perhaps.
                let _ = give.send(Err(std::io::Error::from(error.kind()))).await;
                return Err(error);
            }
        }
    }
}

/// How far it is, on standard error: one line that changes on a terminal, else a line each tenth.
struct Progress {
    verb: &'static str,
    at: u64,
    size: Option<u64>,
    told: u64,
    terminal: bool,
}

impl Progress {
    fn new(verb: &'static str, at: u64, size: Option<u64>) -> Progress {
        let mut progress = Progress { verb, at, size, told: u64::MAX, terminal: std::io::stderr().is_terminal() };
        if at > 0 {
            progress.more(0);
        }
        progress
    }

    /// Which line it is: a hundredth or a tenth of the whole, or so many MiB of what has no known end.
    fn line(&self) -> u64 {
        match self.size {
            Some(size) => {
                let parts = if self.terminal { 100 } else { 10 };
                (u128::from(self.at) * parts / u128::from(size.max(1))) as u64
            }
            None => self.at >> if self.terminal { 22 } else { 30 },
        }
    }

    fn more(&mut self, bytes: u64) {
        self.at += bytes;
        let line = self.line();
        if self.told != line {
            self.told = line;
            self.tell();
        }
    }

    fn words(&self) -> String {
        match self.size {
            Some(size) => {
                let percent = u128::from(self.at) * 100 / u128::from(size.max(1));
                format!("{} of {} {}, {percent} %", Bytes(self.at), Bytes(size), self.verb)
            }
            None => format!("{} {}", Bytes(self.at), self.verb),
        }
    }

    fn tell(&self) {
        if self.terminal {
            // Nobody may be looking any more.
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", self.words());
        } else {
            say(&self.words());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.told != u64::MAX {
            let _ = writeln!(std::io::stderr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_for_each_tenth_and_the_end() {
        let mut progress = Progress { verb: "sent", at: 0, size: Some(1000), told: u64::MAX, terminal: false };
        let mut lines = Vec::new();
        for _ in 0..1000 {
            progress.at += 1;
            if progress.told != progress.line() {
                progress.told = progress.line();
                lines.push(progress.words());
            }
        }
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert_eq!((&*lines[5], &*lines[10]), ("500 B of 1000 B sent, 50 %", "1000 B of 1000 B sent, 100 %"));
        let unknown = Progress { verb: "sent", at: 3 << 20, size: None, told: u64::MAX, terminal: false };
        assert_eq!(unknown.words(), "3 MiB sent");
        let nothing = Progress { verb: "sent", at: 0, size: Some(0), told: u64::MAX, terminal: false };
        assert_eq!(nothing.words(), "0 B of 0 B sent, 0 %");
    }
}
