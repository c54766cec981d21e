//! A client nobody here wrote, against the embedded server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "edge/echo.rs"]
#[allow(dead_code)]
mod echo;

use archipel_xmpp::server::Limits;
use archipel_xmpp::tls::Tls;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::{Duration, timeout};

async fn run(script: &str, mode: &str) {
    let directory = tempfile::tempdir().unwrap();
    let tls = Arc::new(Tls::load_or_create(directory.path(), echo::CELL).unwrap());
    let (server, _tells) = echo::server(Limits::default(), Some(tls)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(server.clone().serve_tcp(listener));
    let client = Command::new("/usr/bin/python3")
        .args(["-c", script, &port.to_string(), mode])
        .arg(directory.path().join("xmpp-certificate.pem"))
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(60), client).await.expect("the client ends").unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    server.shutdown().await;
}

const SCRIPT: &str = r#"
import sys, asyncio, slixmpp, logging
logging.basicConfig(level=logging.DEBUG)
port, mode = int(sys.argv[1]), sys.argv[2]

class Client(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__('admin@vm.localhost/slix', 'secret', sasl_mech=None if mode in ('tls', 'plain-tcp') else mode)
        self.register_plugin('xep_0199')
        self.register_plugin('xep_0198')
        self.done = asyncio.get_event_loop().create_future()
        self.add_event_handler('session_start', self.start)
        self.add_event_handler('failed_auth', lambda e: self.done.set_exception(Exception('failed auth')))
        self.add_event_handler('message', self.on_message)
        self.got = []
    async def start(self, event):
        rtt = await self['xep_0199'].ping('vm.localhost', timeout=10)
        for n in range(50):
            self.send_message(mto='vm.localhost', mbody='m%d \u00fc <&>' % n)
    def on_message(self, message):
        self.got.append(message['body'])
        if len(self.got) == 50:
            self.done.set_result(self.got == ['m%d \u00fc <&>' % n for n in range(50)])

async def main():
    c = Client()
    plain = mode == 'plain-tcp'
    c.ca_certs = sys.argv[3]
    if plain:
        c['feature_mechanisms'].unencrypted_scram = True
    c.connect(('127.0.0.1', port), use_ssl=False, force_starttls=not plain, disable_starttls=plain)
    ok = await asyncio.wait_for(c.done, 30)
    assert ok, c.got
    assert c.boundjid.full == 'admin@vm.localhost/slix', c.boundjid
    assert c['xep_0198'].enabled_in and c['xep_0198'].enabled_out
    await asyncio.wait_for(c.disconnect(), 10)
asyncio.run(main())
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3-slixmpp"]
async fn slixmpp_talks_over_tls() {
    run(SCRIPT, "tls").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3-slixmpp"]
async fn slixmpp_talks_with_every_mechanism() {
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"] {
        run(SCRIPT, mechanism).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3-slixmpp"]
async fn slixmpp_talks_without_tls_on_this_machine() {
    run(SCRIPT, "plain-tcp").await;
}
