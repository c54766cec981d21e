//! The server as a client sees it: real sockets, bytes written by hand.

use super::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Hands every socket to the test.
struct Taken(mpsc::UnboundedSender<Socket>);
impl SocketAcceptor for Taken {
    fn accept(&self, socket: Socket) {
        let _ = self.0.send(socket);
    }
}

struct Bed {
    http: Http,
    sockets: mpsc::UnboundedReceiver<Socket>,
}

fn bed_with(allowed: &[&str], healthy: bool) -> Bed {
    let (taken, sockets) = mpsc::unbounded_channel();
    let config =
        HttpConfig { listen: "127.0.0.1:0".into(), allowed_origins: allowed.iter().map(|s| s.to_string()).collect(), pages: Vec::new() };
    let hooks = Hooks {
        websocket: Some(Arc::new(Taken(taken))),
        consoles: None,
        volumes: None,
        carrier: None,
        metrics: Arc::new(|| Box::pin(async { "answer 42\n".to_owned() })),
        health: Arc::new(move || Box::pin(async move { Health { healthy, details: serde_json::json!({"reasons": ["libvirt is away"]}) } })),
    };
    Bed { http: serve(config, hooks).unwrap(), sockets }
}

fn bed() -> Bed {
    bed_with(&[], true)
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("nothing happened within the deadline")
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()))
    }
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Bed {
    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.http.addresses()[0]).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: vm.test:8080\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        within(stream.read_to_end(&mut bytes)).await.unwrap();
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: bytes[end + 4..].to_vec() }
    }
    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }
    async fn open(&self, headers: &str) -> (Answer, TcpStream) {
        let mut stream = TcpStream::connect(self.http.addresses()[0]).await.unwrap();
        let request = format!(
            "GET /xmpp-websocket HTTP/1.1\r\nhost: vm.test:8080\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        (Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: Vec::new() }, stream)
    }
    async fn opened(&mut self) -> (TcpStream, Socket) {
        let (answer, stream) = self.open("sec-websocket-protocol: xmpp\r\n").await;
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("xmpp")));
        (stream, within(self.sockets.recv()).await.unwrap())
    }
}

/// A client's frame: masked, with a mask of zeros.
pub(crate) async fn send(stream: &mut TcpStream, first: u8, payload: &[u8]) {
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
    frame.extend([0; 4]);
    frame.extend(payload);
    stream.write_all(&frame).await.unwrap();
}

/// A server's frame: its first byte and its payload; `None` at the end of the stream.
pub(crate) async fn receive(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let first = within(stream.read_u8()).await.ok()?;
    let length = match within(stream.read_u8()).await.unwrap() {
        126 => usize::from(within(stream.read_u16()).await.unwrap()),
        127 => within(stream.read_u64()).await.unwrap() as usize,
        n => usize::from(n),
    };
    let mut payload = vec![0; length];
    within(stream.read_exact(&mut payload)).await.unwrap();
    Some((first, payload))
}

const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

#[tokio::test]
async fn the_page_is_served_for_the_root_and_for_paths_of_its_own_router() {
    let bed = bed();
    let root = bed.get("/").await;
    assert_eq!((root.status, root.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(root.text().to_lowercase().starts_with("<!doctype html>"), "{}", root.text());
    let deep = bed.get("/machines/4dea22b3-1d52-4d8f-9f3b-0a8c1c0e6a11").await;
    assert_eq!((deep.status, &deep.body), (200, &root.body));
    for missing in ["/assets/nothing.js", "/assets/nothing", "/favicon.gif", "/../etc/passwd.txt"] {
        assert_eq!(bed.get(missing).await.status, 404, "{missing}");
    }
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again() {
    let bed = bed();
    let first = bed.get("/").await;
    let etag = first.header("etag").unwrap().to_owned();
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    for tags in [etag.clone(), format!("\"other\", W/{etag}")] {
        let again = bed.ask("GET", "/", &format!("if-none-match: {tags}\r\n")).await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(etag.as_str())));
    }
    assert_eq!(bed.ask("GET", "/", "if-none-match: \"other\"\r\n").await.status, 200);
}

#[tokio::test]
async fn gzip_is_sent_to_whoever_takes_it() {
    let bed = bed();
    let plain = bed.get("/").await;
    assert_eq!(plain.header("content-encoding"), None);
    let packed = bed.ask("GET", "/", "accept-encoding: br, gzip;q=0.8\r\n").await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed.body.as_slice()), &mut text).unwrap();
    assert_eq!(text, plain.body);
    assert_eq!(bed.ask("GET", "/", "accept-encoding: gzip;q=0\r\n").await.header("content-encoding"), None);
}

#[tokio::test]
async fn a_head_request_gets_no_body_and_other_methods_nothing() {
    let bed = bed();
    let head = bed.ask("HEAD", "/", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(bed.ask("POST", "/", "content-length: 0\r\n").await.status, 405);
}

#[tokio::test]
async fn the_page_may_reach_only_where_it_came_from() {
    let bed = bed();
    let root = bed.get("/").await;
    let policy = root.header("content-security-policy").unwrap();
    assert!(policy.contains("connect-src 'self' ws://vm.test:8080 wss://vm.test:8080;"), "{policy}");
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.split(';').any(|d| d.contains("script-src") && d.contains("unsafe")), "{policy}");
    assert_eq!(root.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn metrics_and_health_come_from_the_process() {
    let bed = bed_with(&[], true);
    let metrics = bed.get("/metrics").await;
    assert_eq!((metrics.status, metrics.text()), (200, "answer 42\n"));
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(bed.get("/health").await.status, 200);
    let ill = bed_with(&[], false).get("/health").await;
    assert_eq!((ill.status, ill.header("content-type")), (503, Some("application/json")));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&ill.body).unwrap()["reasons"][0], "libvirt is away");
}

#[tokio::test]
async fn clients_find_the_socket_by_the_domain_alone() {
    let bed = bed();
    let xml = bed.get("/.well-known/host-meta").await;
    assert_eq!(xml.header("content-type"), Some("application/xrd+xml"));
    assert!(xml.text().contains("href='ws://vm.test:8080/xmpp-websocket'"), "{}", xml.text());
    let json = bed.ask("GET", "/.well-known/host-meta.json", "x-forwarded-proto: https\r\n").await;
    let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(json["links"][0]["href"], "wss://vm.test:8080/xmpp-websocket");
    assert_eq!(json["links"][0]["rel"], "urn:xmpp:alt-connections:websocket");
}

#[tokio::test]
async fn an_unknown_console_token_is_refused() {
    assert_eq!(bed().get("/console/abcdef").await.status, 404);
}

#[tokio::test]
async fn texts_pass_in_both_directions_and_pings_are_answered() {
    let mut bed = bed();
    let (mut stream, mut socket) = bed.opened().await;
    send(&mut stream, TEXT, "<open to='ü'/>".as_bytes()).await;
    assert_eq!(within(socket.incoming.recv()).await.as_deref(), Some("<open to='ü'/>"));
    socket.outgoing.send("<open from='cell'/>".into()).await.unwrap();
    assert_eq!(receive(&mut stream).await, Some((TEXT, b"<open from='cell'/>".to_vec())));
    send(&mut stream, PING, b"you?").await;
    assert_eq!(receive(&mut stream).await, Some((PONG, b"you?".to_vec())));
    // In two fragments.
    send(&mut stream, 0x01, b"<a").await;
    send(&mut stream, 0x80, b"/>").await;
    assert_eq!(within(socket.incoming.recv()).await.as_deref(), Some("<a/>"));
}

#[tokio::test]
async fn the_end_of_either_side_ends_the_other() {
    let mut bed = bed();
    let (mut stream, socket) = bed.opened().await;
    socket.outgoing.send("<close/>".into()).await.unwrap();
    drop(socket);
    assert_eq!(receive(&mut stream).await, Some((TEXT, b"<close/>".to_vec())));
    assert_eq!(receive(&mut stream).await.map(|f| f.0), Some(CLOSE));
    let (stream, mut socket) = bed.opened().await;
    drop(stream);
    assert_eq!(within(socket.incoming.recv()).await, None);
    let (mut stream, mut socket) = bed.opened().await;
    send(&mut stream, CLOSE, &1000u16.to_be_bytes()).await;
    assert_eq!(within(socket.incoming.recv()).await, None);
    assert_eq!(receive(&mut stream).await.map(|f| f.0), Some(CLOSE));
}

#[tokio::test]
async fn a_message_that_is_too_long_or_binary_ends_the_socket() {
    let mut bed = bed();
    let (mut stream, mut socket) = bed.opened().await;
    send(&mut stream, TEXT, &vec![b'x'; MAX_FRAME]).await;
    assert_eq!(within(socket.incoming.recv()).await.map(|t| t.len()), Some(MAX_FRAME));
    send(&mut stream, TEXT, &vec![b'x'; MAX_FRAME + 1]).await;
    assert_eq!(within(socket.incoming.recv()).await, None);
    let (first, reason) = receive(&mut stream).await.unwrap();
    assert_eq!((first, &reason[..2]), (CLOSE, 1009u16.to_be_bytes().as_slice()));
    let (mut stream, mut socket) = bed.opened().await;
    send(&mut stream, 0x82, b"\0").await;
    assert_eq!(within(socket.incoming.recv()).await, None);
    assert_eq!(receive(&mut stream).await.map(|(f, r)| (f, r[..2].to_vec())), Some((CLOSE, 1003u16.to_be_bytes().to_vec())));
}

#[tokio::test]
async fn a_slow_acceptor_makes_the_browser_wait_and_nothing_is_lost() {
    let mut bed = bed();
    let (mut stream, mut socket) = bed.opened().await;
    let (mut reading, mut writing) = stream.split();
    let sending = async {
        for n in 0..2000u32 {
            let text = format!("{n:0>120}");
            let mut frame = vec![TEXT, 0x80 | 120];
            frame.extend([0; 4]);
            frame.extend(text.as_bytes());
            writing.write_all(&frame).await.unwrap();
        }
    };
    let receiving = async {
        for n in 0..2000u32 {
            assert_eq!(within(socket.incoming.recv()).await, Some(format!("{n:0>120}")));
        }
    };
    within(async { tokio::join!(sending, receiving) }).await;
    drop(socket);
    assert_eq!(within(reading.read_u8()).await.unwrap(), CLOSE);
}

#[tokio::test]
async fn a_page_of_somebody_else_may_not_connect() {
    let bed = bed_with(&["https://panel.example.org"], true);
    let protocol = "sec-websocket-protocol: xmpp\r\n";
    for (origin, status) in [
        ("http://vm.test:8080", 101),
        ("https://vm.test:8080", 101),
        ("https://panel.example.org", 101),
        ("https://evil.example", 403),
        ("http://vm.test", 403),
        ("http://vm.test:8080.evil.example", 403),
        ("null", 403),
    ] {
        let (answer, _) = bed.open(&format!("{protocol}origin: {origin}\r\n")).await;
        assert_eq!(answer.status, status, "{origin}");
    }
}

#[tokio::test]
async fn another_protocol_or_plain_http_is_refused_at_the_socket() {
    let bed = bed();
    assert_eq!(bed.open("").await.0.status, 400);
    assert_eq!(bed.open("sec-websocket-protocol: mqtt\r\n").await.0.status, 400);
    assert_eq!(bed.ask("GET", "/xmpp-websocket", "sec-websocket-protocol: xmpp\r\n").await.status, 400);
}

#[tokio::test]
async fn an_occupied_port_is_named_with_its_key() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let bed = bed();
    let config = HttpConfig { listen: address.clone(), allowed_origins: vec![], pages: vec![] };
    let hooks = Hooks {
        websocket: None,
        consoles: None,
        volumes: None,
        carrier: None,
        metrics: Arc::new(|| Box::pin(async { String::new() })),
        health: Arc::new(|| unreachable!()),
    };
    let fault = serve(config, hooks).err().unwrap();
    assert!(fault.message.contains(&address) && fault.message.contains("http.listen"), "{fault}");
    bed.http.stop().await;
    assert!(TcpStream::connect(bed.http.addresses()[0]).await.is_err());
}

/// An exchange that stands by for another.
struct Waiting(Standby);
impl SocketAcceptor for Waiting {
    fn accept(&self, _socket: Socket) {
        panic!("a standby takes no socket");
    }
    fn standby(&self) -> Option<Standby> {
        Some(self.0.clone())
    }
}

#[tokio::test]
async fn a_standby_says_where_the_active_exchange_is_and_takes_no_socket() {
    let active = Standby { page: Some("https://b.test/<x>".into()), address: Some("b.test:5222".into()) };
    let mut bed = bed();
    let hooks = Hooks {
        websocket: Some(Arc::new(Waiting(active))),
        consoles: None,
        volumes: None,
        carrier: None,
        metrics: Arc::new(|| Box::pin(async { String::new() })),
        health: Arc::new(|| Box::pin(async { Health { healthy: true, details: serde_json::json!({}) } })),
    };
    bed.http = serve(HttpConfig { listen: "127.0.0.1:0".into(), ..HttpConfig::default() }, hooks).unwrap();
    for path in ["/", "/machines"] {
        let answer = bed.get(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.text().contains("<a href=\"https://b.test/&lt;x&gt;\">"), "{}", answer.text());
    }
    assert_eq!(bed.get("/health").await.status, 200);
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-protocol: xmpp\r\n";
    let refused = bed.ask("GET", "/xmpp-websocket", upgrade).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("stands by"), "{}", refused.text());
}

#[tokio::test]
async fn the_pages_of_all_exchanges_may_connect_and_are_named() {
    let mut bed = bed();
    let (taken, sockets) = mpsc::unbounded_channel();
    let hooks = Hooks {
        websocket: Some(Arc::new(Taken(taken))),
        consoles: None,
        volumes: None,
        carrier: None,
        metrics: Arc::new(|| Box::pin(async { String::new() })),
        health: Arc::new(|| Box::pin(async { Health { healthy: true, details: serde_json::json!({}) } })),
    };
    let pages = vec!["https://b.test".to_owned(), "http://vm.test:8080".to_owned()];
    bed.http = serve(HttpConfig { listen: "127.0.0.1:0".into(), pages, ..HttpConfig::default() }, hooks).unwrap();
    bed.sockets = sockets;
    let meta = bed.get("/.well-known/host-meta.json").await;
    let meta: serde_json::Value = serde_json::from_slice(&meta.body).unwrap();
    let named: Vec<_> = meta["links"].as_array().unwrap().iter().map(|l| l["href"].as_str().unwrap()).collect();
    assert_eq!(named, ["ws://vm.test:8080/xmpp-websocket", "wss://b.test/xmpp-websocket"]);
    let page = bed.get("/").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains(" wss://b.test") && policy.contains(" ws://vm.test:8080"), "{policy}");
    let upgrade = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-protocol: xmpp\r\norigin: ";
    let foreign = bed.ask("GET", "/xmpp-websocket", &format!("{upgrade}https://c.test\r\n")).await;
    assert_eq!(foreign.status, 403);
    // One that may connect gets past the origin; without the sub-protocol it is refused for that.
    let peer = bed.ask("GET", "/xmpp-websocket", "origin: https://b.test\r\n").await;
    assert_eq!(peer.status, 400);
}
