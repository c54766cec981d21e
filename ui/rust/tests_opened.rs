//! Consoles and volumes as a client sees them.

use super::tests::{Answer, CLOSE, receive, send, within};
use super::*;
use archipel_contract::ticket::Proof;
use bytes::Bytes;
use parking::Slot;
use sha2::Digest as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc as blocking;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

const BINARY: u8 = 0x82;
pub(super) const GOOD: &str = "alpha~aaaaaaaaaaaaaaaaaaaaaa";
pub(super) const SECRET: &str = "01234567890123456789012345678901";

/// A value that is taken once.
mod parking {
    pub(super) struct Slot<T>(std::sync::Mutex<Option<T>>);
    impl<T> Slot<T> {
        pub(super) fn new(value: T) -> Slot<T> {
            Slot(std::sync::Mutex::new(Some(value)))
        }
        pub(super) fn take(&self) -> Option<T> {
            self.0.lock().unwrap().take()
        }
    }
}

/// Says when it is dropped.
struct Held(blocking::Sender<()>);
impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// One console, behind one ticket.
struct One(Slot<Result<Console, Fault>>);
impl ConsoleAcceptor for One {
    fn open(&self, token: String, secret: String) -> BoxFuture<'static, Result<Console, Unopened>> {
        let good = (token == GOOD && secret == SECRET).then(|| self.0.take()).flatten();
        Box::pin(async move { good.ok_or(Unopened::Ticket)?.map_err(Unopened::Fault) })
    }
}

/// A volume of ten bytes.
pub(super) struct Ten;
impl VolumeAcceptor for Ten {
    fn download(&self, token: String, secret: String, part: Part) -> BoxFuture<'static, Result<Download, Unopened>> {
        Box::pin(async move {
            if token != GOOD || secret != SECRET {
                return Err(Unopened::Ticket);
            }
            let (from, length) = match part {
                Part::Whole => (0, 10),
                Part::From(from, _) if from > 9 => return Err(Fault::invalid("it has 10 bytes").into()),
                Part::From(from, to) => (from, to.map_or(10, |to| to.min(9) + 1) - from),
                Part::Last(n) => (10 - n, n),
            };
            let (give, pieces) = mpsc::channel(1);
            tokio::spawn(async move {
                for at in from..from + length {
                    give.send(Ok(Bytes::from(vec![b'0' + at as u8]))).await.unwrap();
                }
            });
            Ok(Download { name: "disk \"1\".img".into(), size: 10, from, length, pieces })
        })
    }
    fn upload(&self, token: String, secret: String, mut upload: Upload) -> BoxFuture<'static, Result<String, Unopened>> {
        Box::pin(async move {
            if token != GOOD || secret != SECRET {
                return Err(Unopened::Ticket);
            }
            let mut all = Vec::new();
            while let Some(piece) = upload.pieces.recv().await {
                all.extend_from_slice(&piece?);
            }
            Ok(format!("{} of {:?} from {}: {}", all.len(), upload.size, upload.from, String::from_utf8(all).unwrap()))
        })
    }
}

struct Bed {
    http: Http,
    guest: UnixStream,
    take_over: oneshot::Sender<String>,
    dropped: blocking::Receiver<()>,
}

/// Makes a bed with one console, or with the reason why it cannot be opened.
type Make = fn(Option<Fault>) -> Bed;

fn console(outcome: Option<Fault>) -> (Arc<One>, UnixStream, oneshot::Sender<String>, blocking::Receiver<()>) {
    let (stream, guest) = UnixStream::pair().unwrap();
    guest.set_read_timeout(Some(super::tests::PATIENCE)).unwrap();
    let (take_over, taken_over) = oneshot::channel::<String>();
    let (held, dropped) = blocking::channel();
    let ended: BoxFuture<'static, String> = Box::pin(async move {
        match taken_over.await {
            Ok(who) => who,
            Err(_) => std::future::pending().await,
        }
    });
    let console = match outcome {
        None => Ok(Console { stream, ended, held: Box::new(Held(held)) }),
        Some(fault) => Err(fault),
    };
    (Arc::new(One(Slot::new(console))), guest, take_over, dropped)
}

pub(super) fn serving(
    consoles: Option<Arc<dyn ConsoleAcceptor>>,
    volumes: Option<Arc<dyn VolumeAcceptor>>,
    carrier: Option<Arc<dyn Carrier>>,
) -> Http {
    let hooks = Hooks {
        websocket: None,
        consoles,
        volumes,
        carrier,
        metrics: Arc::new(|| Box::pin(async { String::new() })),
        health: Arc::new(|| Box::pin(async { Health { healthy: true, details: serde_json::json!({}) } })),
    };
    serve(HttpConfig { listen: "127.0.0.1:0".into(), ..HttpConfig::default() }, hooks).unwrap()
}

/// Everything in one process.
fn direct(outcome: Option<Fault>) -> Bed {
    let (one, guest, take_over, dropped) = console(outcome);
    Bed { http: serving(Some(one), Some(Arc::new(Ten)), None), guest, take_over, dropped }
}

/// The page here, consoles and volumes at the other end of a carriage.
fn carried(outcome: Option<Fault>) -> Bed {
    let (one, guest, take_over, dropped) = console(outcome);
    let there = Arc::new(Carriages::begin(one, Arc::new(Ten)).unwrap());
    Bed { http: serving(None, None, Some(Arc::new(Mail(there)))), guest, take_over, dropped }
}

/// Another host knows the ticket.
struct Mail(Arc<Carriages>);
impl Carrier for Mail {
    fn takes(&self, token: &str) -> bool {
        token.starts_with("alpha~")
    }
    fn carry(&self, _folder: &'static str, token: String, proof: Proof) -> BoxFuture<'static, Result<Carriage, Unopened>> {
        let there = self.0.clone();
        Box::pin(async move {
            if token != GOOD || proof != proof_of(SECRET) {
                return Err(Unopened::Ticket);
            }
            let (near, far) = tokio::io::duplex(16 * 1024);
            tokio::spawn(there.serve(Box::new(far)));
            Ok(Carriage { io: Box::new(near), ended: Box::pin(std::future::pending()), held: Box::new(()) })
        })
    }
}

pub(super) fn proof_of(secret: &str) -> Proof {
    use base64::Engine as _;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(secret)).parse().unwrap()
}

/// Each of these holds for what is here and for what is on another host.
macro_rules! both {
    ($($name:ident)*) => {
        mod here { $(#[tokio::test] async fn $name() { super::$name(super::direct).await })* }
        mod elsewhere { $(#[tokio::test] async fn $name() { super::$name(super::carried).await })* }
    };
}
both! {
    a_console_carries_bytes_both_ways_and_only_the_plain_protocol_is_named
    a_machine_that_stops_closes_the_console
    whoever_is_sent_away_is_told_by_whom
    a_browser_that_leaves_closes_the_console
    a_browser_that_reads_nothing_stops_the_guests_output
    all_tickets_that_open_nothing_get_one_answer
    a_console_that_cannot_be_opened_says_why_when_it_closes
    a_volume_is_sent_whole_or_in_part
    a_volume_is_taken_from_where_it_stands
}

impl Bed {
    async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.http.addresses()[0]).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        within(stream.read_to_end(&mut bytes)).await.unwrap();
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
    }
    async fn open(&self, token: &str, secret: &str, more: &str) -> (u16, String, TcpStream) {
        let mut stream = TcpStream::connect(self.http.addresses()[0]).await.unwrap();
        let request = format!(
            "GET /console/{token} HTTP/1.1\r\nhost: vm.test:8080\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             sec-websocket-protocol: binary, archipel.{secret}\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head, stream)
    }
}

pub(super) fn close_code(payload: &[u8]) -> (u16, &str) {
    (u16::from_be_bytes([payload[0], payload[1]]), std::str::from_utf8(&payload[2..]).unwrap())
}

async fn a_console_carries_bytes_both_ways_and_only_the_plain_protocol_is_named(bed: Make) {
    let mut bed = bed(None);
    let (status, head, mut browser) = bed.open(GOOD, SECRET, "").await;
    assert_eq!(status, 101, "{head}");
    assert!(head.to_lowercase().contains("sec-websocket-protocol: binary\r\n"), "{head}");
    assert!(!head.contains(SECRET), "the secret is not sent back");
    bed.guest.write_all(b"login: \xff").unwrap();
    assert_eq!(receive(&mut browser).await, Some((BINARY, b"login: \xff".to_vec())));
    send(&mut browser, BINARY, b"root\r").await;
    send(&mut browser, 0x81, "é".as_bytes()).await;
    let mut typed = [0; 7];
    bed.guest.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"root\r\xc3\xa9");
}

async fn a_machine_that_stops_closes_the_console(bed: Make) {
    let Bed { http, guest, dropped, take_over } = bed(None);
    let kept = (http, take_over);
    let bed = Bed { http: kept.0, guest: guest.try_clone().unwrap(), dropped, take_over: kept.1 };
    let (_, _, mut browser) = bed.open(GOOD, SECRET, "").await;
    guest.shutdown(std::net::Shutdown::Both).unwrap();
    let (first, payload) = receive(&mut browser).await.unwrap();
    assert_eq!((first, close_code(&payload)), (CLOSE, (1000, "the machine has closed it")));
    bed.dropped.recv_timeout(super::tests::PATIENCE).unwrap();
}

async fn whoever_is_sent_away_is_told_by_whom(bed: Make) {
    let Bed { http, guest, dropped, take_over } = bed(None);
    let bed = Bed { http, guest, dropped, take_over: oneshot::channel().0 };
    let (_, _, mut browser) = bed.open(GOOD, SECRET, "").await;
    take_over.send("ada@vm.test has taken it over".into()).unwrap();
    let (first, payload) = receive(&mut browser).await.unwrap();
    assert_eq!((first, close_code(&payload)), (CLOSE, (TAKEN_OVER, "ada@vm.test has taken it over")));
    bed.dropped.recv_timeout(super::tests::PATIENCE).unwrap();
}

async fn a_browser_that_leaves_closes_the_console(bed: Make) {
    let mut bed = bed(None);
    let (_, _, browser) = bed.open(GOOD, SECRET, "").await;
    drop(browser);
    assert_eq!(bed.guest.read(&mut [0; 1]).unwrap(), 0);
    bed.dropped.recv_timeout(super::tests::PATIENCE).unwrap();
}

async fn a_browser_that_reads_nothing_stops_the_guests_output(bed: Make) {
    let mut bed = bed(None);
    let (_, _, browser) = bed.open(GOOD, SECRET, "").await;
    bed.guest.set_nonblocking(true).unwrap();
    let (mut taken, mut still) = (0usize, 0);
    // Until nothing more is taken for half a second.
    while still < 50 {
        match bed.guest.write(&[b'x'; 65536]) {
            Ok(n) => (taken, still) = (taken + n, 0),
            Err(_) => {
                still += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(taken < 64 << 20, "it takes and takes");
    }
    drop(browser);
}

async fn all_tickets_that_open_nothing_get_one_answer(bed: Make) {
    let bed = bed(None);
    let mut answers = Vec::new();
    for (token, secret) in [("x", SECRET), (GOOD, "wrong"), ("alpha~bbbbbbbbbbbbbbbbbbbbbb", SECRET), ("alpha~%00", "")] {
        let (status, head, mut stream) = bed.open(token, secret, "").await;
        assert_eq!(status, 404);
        let mut text = vec![0; 53];
        within(stream.read_exact(&mut text)).await.unwrap();
        let head: Vec<&str> = head.lines().filter(|l| !l.starts_with("date")).collect();
        answers.push((head.join("\n"), text));
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:?}");
    let (status, ..) = bed.open(GOOD, SECRET, "origin: https://evil.test\r\n").await;
    assert_eq!(status, 403);
    let (status, ..) = bed.open(GOOD, SECRET, "").await;
    assert_eq!(status, 101, "a page of another origin has not used it up");
    let (status, ..) = bed.open(GOOD, SECRET, "").await;
    assert_eq!(status, 404, "it is used up");
}

async fn a_console_that_cannot_be_opened_says_why_when_it_closes(bed: Make) {
    let bed = bed(Some(Fault::wrong_state("web1 is off; start it first")));
    let (status, _, mut browser) = bed.open(GOOD, SECRET, "").await;
    assert_eq!(status, 101);
    let (first, payload) = receive(&mut browser).await.unwrap();
    assert_eq!((first, close_code(&payload)), (CLOSE, (FAILED, "web1 is off; start it first")));
}

async fn a_volume_is_sent_whole_or_in_part(bed: Make) {
    let bed = bed(None);
    let get = |range: &str| {
        format!("GET /volume/{GOOD} HTTP/1.1\r\nhost: v\r\nconnection: close\r\nauthorization: Bearer {SECRET}\r\n{range}\r\n")
    };
    let whole = bed.ask(&get("")).await;
    assert_eq!((whole.status, whole.text(), whole.header("content-length")), (200, "0123456789", Some("10")));
    assert_eq!(whole.header("content-disposition"), Some("attachment; filename=\"disk1.img\""));
    for (range, text, said) in [("bytes=2-4", "234", "bytes 2-4/10"), ("bytes=8-", "89", "bytes 8-9/10"), ("bytes=-1", "9", "bytes 9-9/10")]
    {
        let part = bed.ask(&get(&format!("range: {range}\r\n"))).await;
        assert_eq!((part.status, part.text(), part.header("content-range")), (206, text, Some(said)));
    }
    let beyond = bed.ask(&get("range: bytes=10-\r\n")).await;
    assert_eq!((beyond.status, beyond.text(), beyond.header("archipel-fault")), (400, "it has 10 bytes\n", Some("invalid-request")));
    let stolen = bed.ask(&format!("GET /volume/{GOOD} HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(stolen.status, 404);
}

async fn a_volume_is_taken_from_where_it_stands(bed: Make) {
    let bed = bed(None);
    let put = |secret: &str, range: &str| {
        format!(
            "PUT /volume/{GOOD} HTTP/1.1\r\nhost: v\r\nconnection: close\r\nauthorization: bearer {secret}\r\ncontent-length: 5\r\n\
             {range}\r\nhello"
        )
    };
    let answer = bed.ask(&put(SECRET, "")).await;
    assert_eq!((answer.status, answer.text()), (200, "5 of None from 0: hello\n"));
    let answer = bed.ask(&put(SECRET, "content-range: bytes 7-11/12\r\n")).await;
    assert_eq!((answer.status, answer.text()), (200, "5 of Some(12) from 7: hello\n"));
    assert_eq!(bed.ask(&put(SECRET, "content-range: from 7\r\n")).await.status, 400);
    assert_eq!(bed.ask(&put("wrong", "")).await.status, 404);
    let mut cut = TcpStream::connect(bed.http.addresses()[0]).await.unwrap();
    let refused = format!("PUT /volume/{GOOD} HTTP/1.1\r\nhost: v\r\ncontent-length: 500000\r\n\r\n");
    cut.write_all(refused.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    within(cut.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 404", "refused before the body came");
}
