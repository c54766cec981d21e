//! TLS and SASL.

use crate::echo;
use crate::raw::{HEADER, Raw, loopback, remote};
use archipel_xmpp::server::{Limits, Peer};
use archipel_xmpp::tls::Tls;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::sync::Arc;
use tokio::time::{Duration, Instant, advance};

fn tls() -> Option<Arc<Tls>> {
    let directory = tempfile::tempdir().unwrap();
    Some(Arc::new(Tls::load_or_create(directory.path(), echo::CELL).unwrap()))
}

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

#[tokio::test(start_paused = true)]
async fn an_open_network_needs_tls_before_anything_else() {
    let (server, _tells) = echo::server(Limits::default(), tls()).await;
    let mut raw = Raw::connect_from(&server, remote(), 4096);
    let features = raw.open().await;
    assert!(features.contains("<required/>") && !features.contains("<mechanisms"), "{features}");
    raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>biws</auth>").await;
    raw.refused("not-authorized").await;

    let (bare, _tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect_from(&bare, remote(), 4096);
    raw.send(HEADER).await;
    raw.refused("policy-violation").await;
}

#[tokio::test(start_paused = true)]
async fn this_machine_may_do_without_tls_but_not_send_its_password() {
    let (server, _tells) = echo::server(Limits::default(), tls()).await;
    let mut raw = Raw::connect_from(&server, loopback(), 4096);
    let features = raw.open().await;
    assert!(features.contains(":xmpp-tls'></starttls>") && features.contains("SCRAM-SHA-256") && !features.contains("PLAIN"), "{features}");
    let plain = BASE64.encode("\0admin\0secret");
    raw.send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>")).await;
    assert!(raw.expect("</failure>").await.contains("<invalid-mechanism/>"));
    assert!(raw.scram("admin", "secret").await.starts_with("<success"));
}

#[tokio::test(start_paused = true)]
async fn plain_text_behind_starttls_is_not_taken_for_protected() {
    let (server, _tells) = echo::server(Limits::default(), tls()).await;
    let mut raw = Raw::connect_from(&server, loopback(), 64 * 1024);
    raw.open().await;
    raw.send(&format!("{STARTTLS}{HEADER}")).await;
    let text = raw.ended().await;
    assert_eq!(text, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "the connection ends at once");
}

#[tokio::test(start_paused = true)]
async fn plain_works_where_nobody_listens() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server);
    assert!(raw.open().await.contains("<mechanism>PLAIN</mechanism>"));
    for (message, answer) in [
        ("\0admin\0wrong", "<not-authorized/>"),
        ("\0nobody\0secret", "<not-authorized/>"),
        ("viewer@vm.localhost\0admin\0secret", "<invalid-authzid/>"),
        ("admin\0secret", "<malformed-request/>"),
    ] {
        raw.send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{}</auth>", BASE64.encode(message))).await;
        let text = raw.expect("</failure>").await;
        assert!(text.contains(answer), "{message:?}: {text}");
    }
    raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>no base64</auth>").await;
    assert!(raw.expect("</failure>").await.contains("<incorrect-encoding/>"));
    raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>").await;
    raw.expect("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    raw.send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    assert!(raw.expect("</failure>").await.contains("<aborted/>"));
    let message = BASE64.encode("admin@vm.localhost\0admin\0secret");
    raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>").await;
    raw.expect("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    raw.send(&format!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{message}</response>")).await;
    raw.expect("</success>").await;
    raw.open().await;
    assert_eq!(raw.bind("r").await, "admin@vm.localhost/r");
}

#[tokio::test(start_paused = true)]
async fn ten_wrong_passwords_lock_that_account_for_that_peer_only() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server);
    raw.open().await;
    let began = Instant::now();
    let mut last = Duration::ZERO;
    for n in 0..10 {
        let before = Instant::now();
        let answer = raw.scram("admin", "wrong").await;
        assert!(answer.contains("<not-authorized/>"), "{answer}");
        let took = before.elapsed();
        assert!(took >= last && took >= Duration::from_millis(100), "answer {n} took {took:?}");
        last = took;
    }
    assert!(began.elapsed() > Duration::from_secs(10));
    let answer = raw.scram("admin", "secret").await;
    assert!(answer.contains("<temporary-auth-failure/>") && answer.contains("too many wrong passwords"), "{answer}");
    // Somebody else from here, and the same from elsewhere.
    assert!(raw.scram("viewer", "look").await.starts_with("<success"));
    let mut elsewhere = Raw::connect_from(&server, Peer::in_process("elsewhere"), 4096);
    elsewhere.open().await;
    assert!(elsewhere.scram("admin", "secret").await.starts_with("<success"));
    advance(Duration::from_secs(301)).await;
    let mut later = Raw::connect(&server);
    later.open().await;
    assert!(later.scram("admin", "secret").await.starts_with("<success"));
}

#[tokio::test(start_paused = true)]
async fn accounts_that_do_not_exist_look_like_those_that_do() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let mut salts = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(&server);
        raw.open().await;
        let first = BASE64.encode("n,,n=nobody,r=abc");
        raw.send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>{first}</auth>")).await;
        let answer = raw.expect("</challenge>").await;
        let challenge = String::from_utf8(BASE64.decode(answer.split(['<', '>']).nth(2).unwrap()).unwrap()).unwrap();
        salts.push(challenge.split(",s=").nth(1).unwrap().to_owned());
        raw.send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
        raw.expect("</failure>").await;
        let unknown = raw.scram("nobody", "secret").await;
        let wrong = raw.scram("viewer", "secret").await;
        assert_eq!(unknown, wrong);
    }
    assert_eq!(salts[0], salts[1], "the salt of an unknown account stays the same");
}

#[tokio::test(start_paused = true)]
async fn logins_begun_before_the_lock_are_no_way_around_it() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let mut early = Raw::connect(&server);
    early.open().await;
    let begun = early.challenged("admin").await.unwrap();
    let mut guesser = Raw::connect(&server);
    guesser.open().await;
    for _ in 0..10 {
        guesser.scram("admin", "wrong").await;
    }
    let answer = early.prove(begun, "secret").await;
    assert!(answer.contains("<temporary-auth-failure/>"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_and_a_token_are_taken_in_tls_1_3_only() {
    use archipel_contract::fake::{FakeClock, MemoryAccounts, MemoryDocuments};
    use archipel_xmpp::membership::Membership;
    let documents = Arc::<MemoryDocuments>::default();
    let members = Membership::open(
        echo::CELL.parse().unwrap(),
        documents,
        Arc::<MemoryAccounts>::default(),
        Arc::<FakeClock>::default(),
        "192.0.2.1:5222",
    );
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::of_cell(directory.path(), members.await.unwrap(), &[echo::CELL.to_owned()]).unwrap();
    let (server, _tells) = echo::server(Limits::default(), Some(Arc::new(tls))).await;

    // Without TLS, even on this machine, there is neither.
    let mut raw = Raw::connect_from(&server, loopback(), 4096);
    let features = raw.open().await;
    assert!(!features.contains("EXTERNAL") && !features.contains("urn:archipel:join:0"), "{features}");
    raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>").await;
    assert!(raw.expect("</failure>").await.contains("<invalid-mechanism/>"));
    raw.send("<iq xmlns='jabber:client' type='set' id='j'><join xmlns='urn:archipel:join:0'/></iq>").await;
    raw.refused("not-authorized").await;

    for (version, offered) in [(&rustls::version::TLS12, false), (&rustls::version::TLS13, true)] {
        let mut raw = Raw::connect_from(&server, remote(), 64 * 1024).starttls(version).await;
        let features = raw.open().await;
        assert!(features.contains("SCRAM-SHA-256") && features.contains("urn:archipel:join:0") == offered, "{features}");
        assert_eq!(features.contains("EXTERNAL"), offered, "the peer showed a certificate: {features}");
    }
}
