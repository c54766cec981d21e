//! What comes over carriages and is lost on the way. That whatever comes through is what a client sees of the host itself, is told beside
//! the tests of consoles and volumes, which run both ways.

use super::tests::{CLOSE, receive, send, within};
use super::tests_opened::{GOOD, SECRET, close_code, proof_of, serving};
use super::*;
use archipel_contract::ticket::Proof;
use parking::Parked;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

const BINARY: u8 = 0x82;

/// A value that is taken once.
mod parking {
    pub(super) struct Parked<T>(std::sync::Mutex<Option<T>>);
    impl<T> Parked<T> {
        pub(super) fn new(value: T) -> Parked<T> {
            Parked(std::sync::Mutex::new(Some(value)))
        }
        pub(super) fn take(&self) -> Option<T> {
            self.0.lock().unwrap().take()
        }
    }
}

/// One carriage, or the reason why there is none.
struct Mail(Parked<Result<Carriage, Unopened>>);
impl Carrier for Mail {
    fn takes(&self, _token: &str) -> bool {
        true
    }
    fn carry(&self, _folder: &'static str, token: String, proof: Proof) -> BoxFuture<'static, Result<Carriage, Unopened>> {
        assert_eq!((token.as_str(), proof), (GOOD, proof_of(SECRET)));
        let carriage = self.0.take().unwrap_or(Err(Unopened::Ticket));
        Box::pin(async move { carriage })
    }
}

/// Says when it is dropped.
struct Held(mpsc::UnboundedSender<()>);
impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

struct Bed {
    http: Http,
    /// The end of the carriage at which the host is.
    host: DuplexStream,
    end: oneshot::Sender<String>,
    over: mpsc::UnboundedReceiver<()>,
}

fn bed() -> Bed {
    let (near, host) = tokio::io::duplex(16 * 1024);
    let (end, ended) = oneshot::channel::<String>();
    let (held, over) = mpsc::unbounded_channel();
    let ended: BoxFuture<'static, String> = Box::pin(async move {
        match ended.await {
            Ok(why) => why,
            Err(_) => std::future::pending().await,
        }
    });
    let carriage = Carriage { io: Box::new(near), ended, held: Box::new(Held(held)) };
    Bed { http: serving(None, None, Some(Arc::new(Mail(Parked::new(Ok(carriage)))))), host, end, over }
}

async fn until_blank(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn ask(http: &Http, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(http.addresses()[0]).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

fn console_request() -> String {
    format!(
        "GET /console/{GOOD} HTTP/1.1\r\nhost: vm.test:8080\r\nconnection: upgrade\r\nupgrade: websocket\r\ncookie: theirs\r\n\
         origin: http://vm.test:8080\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         sec-websocket-protocol: binary, archipel.{SECRET}\r\n\r\n"
    )
}

fn volume_request(method: &str, more: &str) -> String {
    format!("{method} /volume/{GOOD} HTTP/1.1\r\nhost: v\r\nauthorization: Bearer {SECRET}\r\nconnection: close\r\n{more}\r\n")
}

/// A console that is open, as a host that speaks for itself would open it.
async fn opened(bed: &mut Bed) -> TcpStream {
    let mut browser = ask(&bed.http, &console_request()).await;
    let asked = until_blank(&mut bed.host).await.to_lowercase();
    assert!(asked.starts_with(&format!("get /console/{GOOD} http/1.1\r\n")), "{asked}");
    assert!(asked.contains(&format!("binary, archipel.{SECRET}")), "{asked}");
    assert!(!asked.contains("theirs") && !asked.contains("vm.test"), "what the host need not know is not passed on: {asked}");
    let said = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: \
                ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\nsec-websocket-protocol: binary\r\n\r\n";
    bed.host.write_all(said.as_bytes()).await.unwrap();
    let head = until_blank(&mut browser).await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("sec-websocket-protocol: binary\r\n"), "{head}");
    browser
}

#[tokio::test]
async fn a_console_whose_host_is_lost_says_so() {
    let mut bed = bed();
    let mut browser = opened(&mut bed).await;
    bed.host.write_all(b"\x82\x03abc").await.unwrap();
    assert_eq!(receive(&mut browser).await, Some((BINARY, b"abc".to_vec())));
    drop(bed.host);
    let (first, payload) = receive(&mut browser).await.unwrap();
    assert_eq!((first, close_code(&payload)), (CLOSE, (CUT, "the connection to the host of the machine is lost")));
    within(bed.over.recv()).await.unwrap();
}

#[tokio::test]
async fn a_console_that_has_to_end_says_why() {
    let mut bed = bed();
    let mut browser = opened(&mut bed).await;
    bed.end.send("another exchange takes over; open it again".into()).unwrap();
    let (first, payload) = receive(&mut browser).await.unwrap();
    assert_eq!((first, close_code(&payload)), (CLOSE, (CUT, "another exchange takes over; open it again")));
    within(bed.over.recv()).await.unwrap();
    assert_eq!(within(bed.host.read(&mut [0; 1])).await.unwrap(), 0, "the host knows");
}

#[tokio::test]
async fn nothing_is_said_in_the_middle_of_a_frame_or_after_the_last_one() {
    for begun in [&b"\x82\x7e\x01"[..], b"\x82\x05abc", b"\x88\x02\x03\xe8"] {
        let mut bed = bed();
        let mut browser = opened(&mut bed).await;
        bed.host.write_all(begun).await.unwrap();
        let mut said = vec![0; begun.len()];
        within(browser.read_exact(&mut said)).await.unwrap();
        drop(bed.host);
        let mut rest = Vec::new();
        // The connection ends, well or badly.
        let _ = within(browser.read_to_end(&mut rest)).await;
        assert_eq!((&said[..], &rest[..]), (begun, &b""[..]));
        within(bed.over.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_browser_that_leaves_ends_the_carriage() {
    let mut bed = bed();
    let mut browser = opened(&mut bed).await;
    send(&mut browser, BINARY, b"typed").await;
    let mut typed = [0; 11];
    within(bed.host.read_exact(&mut typed)).await.unwrap();
    assert_eq!((&typed[..2], &typed[6..]), (&[0x82, 0x85][..], &b"typed"[..]));
    drop(browser);
    within(bed.over.recv()).await.unwrap();
    assert_eq!(within(bed.host.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn why_there_is_no_carriage_is_told_as_the_host_would_tell_it() {
    let none = || Fault::new(FaultKind::Busy, "128 consoles go through this exchange already; end some");
    let mail = |fault| Some(Arc::new(Mail(Parked::new(Err(Unopened::Fault(fault))))) as Arc<dyn Carrier>);
    let http = serving(None, None, mail(none()));
    let mut browser = ask(&http, &console_request()).await;
    assert!(until_blank(&mut browser).await.starts_with("HTTP/1.1 101 "));
    let (first, payload) = receive(&mut browser).await.unwrap();
    assert_eq!((first, close_code(&payload)), (CLOSE, (FAILED, none().message.as_str())));
    let http = serving(None, None, mail(none()));
    let answer = whole(ask(&http, &volume_request("GET", "")).await).await;
    assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("archipel-fault: busy\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{}\n", none().message)), "{answer}");
}

async fn whole(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn an_upload_whose_host_is_lost_is_answered() {
    for by_host in [true, false] {
        let mut bed = bed();
        let mut client = ask(&bed.http, &volume_request("PUT", "content-length: 100\r\ncontent-range: bytes 7-106/107\r\n")).await;
        client.write_all(b"some").await.unwrap();
        let head = until_blank(&mut bed.host).await.to_lowercase();
        assert!(head.contains("content-length: 100\r\n") && head.contains("content-range: bytes 7-106/107\r\n"), "{head}");
        let mut some = [0; 4];
        within(bed.host.read_exact(&mut some)).await.unwrap();
        if by_host {
            drop(bed.host);
        } else {
            bed.end.send("the exchange is stopping".into()).unwrap();
        }
        let answer = whole(client).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("archipel-fault: unavailable\r\n"), "{answer}");
        assert!(answer.contains(if by_host { "went away" } else { "the exchange is stopping" }), "{answer}");
        within(bed.over.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_download_whose_host_is_lost_is_not_taken_for_whole() {
    let mut bed = bed();
    let mut client = ask(&bed.http, &volume_request("GET", "")).await;
    until_blank(&mut bed.host).await;
    bed.host.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfour").await.unwrap();
    let head = until_blank(&mut client).await;
    assert!(head.contains("content-length: 10\r\n"), "{head}");
    let mut four = [0; 4];
    within(client.read_exact(&mut four)).await.unwrap();
    drop(bed.host);
    let mut rest = Vec::new();
    let _ = within(client.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{rest:?}");
    within(bed.over.recv()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_is_cut_off_ends_its_upload_at_the_host() {
    let mut bed = bed();
    let mut client = ask(&bed.http, &volume_request("PUT", "content-length: 100\r\n")).await;
    client.write_all(b"some").await.unwrap();
    until_blank(&mut bed.host).await;
    drop(client);
    let mut came = Vec::new();
    within(bed.host.read_to_end(&mut came)).await.unwrap();
    assert_eq!(came, b"some");
    within(bed.over.recv()).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_read_though_the_client_still_sends() {
    // A real host refuses at once; the client has much more to say than fits anywhere on the way.
    struct Never;
    impl ConsoleAcceptor for Never {
        fn open(&self, _: String, _: String) -> BoxFuture<'static, Result<Console, Unopened>> {
            Box::pin(async { Err(Unopened::Ticket) })
        }
    }
    impl VolumeAcceptor for Never {
        fn download(&self, _: String, _: String, _: Part) -> BoxFuture<'static, Result<Download, Unopened>> {
            Box::pin(async { Err(Unopened::Ticket) })
        }
        fn upload(&self, _: String, _: String, _: Upload) -> BoxFuture<'static, Result<String, Unopened>> {
            Box::pin(async { Err(Fault::new(FaultKind::Conflict, "it is being written already").into()) })
        }
    }
    let there = Carriages::begin(Arc::new(Never), Arc::new(Never)).unwrap();
    let bed = bed();
    tokio::spawn(there.serve(Box::new(bed.host)));
    let mut client = ask(&bed.http, &volume_request("PUT", "content-length: 50000000\r\n")).await;
    let (mut read, mut write) = client.split();
    let sending = async {
        let piece = vec![0; 64 * 1024];
        while write.write_all(&piece).await.is_ok() {}
        std::future::pending::<()>().await
    };
    let head = tokio::select! {
        head = until_blank(&mut read) => head,
        () = sending => unreachable!(),
    };
    assert!(head.starts_with("HTTP/1.1 409 "), "{head}");
}

#[tokio::test]
async fn over_a_carriage_only_what_tickets_open_is_there() {
    struct Never;
    impl ConsoleAcceptor for Never {
        fn open(&self, _: String, _: String) -> BoxFuture<'static, Result<Console, Unopened>> {
            Box::pin(async { Err(Unopened::Ticket) })
        }
    }
    let there = Carriages::begin(Arc::new(Never), Arc::new(super::tests_opened::Ten)).unwrap();
    for path in ["/metrics", "/health", "/", "/xmpp-websocket", "/console/x"] {
        let (mut near, far) = tokio::io::duplex(16 * 1024);
        let over = tokio::spawn(there.serve(Box::new(far)));
        near.write_all(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(near.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("ask for a fresh one\n"), "{path}: {answer}");
        drop(near);
        within(over).await.unwrap();
    }
}
