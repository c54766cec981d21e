//! Every limit, at the limit and beyond.

use crate::echo::{self, Told};
use crate::next;
use crate::raw::Raw;
use archipel_xmpp::server::{Limits, Peer, Phase, QueueBounds, QueueFull, Stanza};
use tokio::time::{Duration, Instant};

fn message(n: usize) -> Stanza {
    Stanza::from(format!("<message xmlns='jabber:client'><body>{n}</body></message>"))
}

#[tokio::test(start_paused = true)]
async fn who_does_not_log_in_in_time_is_shown_out() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let began = Instant::now();
    Raw::connect(&server).refused("connection-timeout").await;
    let mut bound_to_be_slow = Raw::connect(&server);
    bound_to_be_slow.login("admin", "secret").await;
    bound_to_be_slow.refused("connection-timeout").await;
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_may_wait_to_log_in() {
    let (server, _tells) = echo::server(Limits { unauthenticated: 2, ..Limits::default() }, None).await;
    let mut bound = Raw::websocket(&server).bound("admin", "secret", "r").await;
    let mut first = Raw::websocket(&server);
    first.open().await;
    let mut second = Raw::websocket(&server);
    second.open().await;
    Raw::websocket(&server).refused("resource-constraint").await;
    // Our own agent comes through a pipe in memory, and in whoever stands before the door.
    Raw::connect(&server).bound("hv.alpha", "node", "agent").await;
    drop(second);
    first.login_again().await;
    Raw::websocket(&server).open().await;
    bound.message("not counted").await;
    bound.echoed().await;
}

#[tokio::test(start_paused = true)]
async fn one_address_does_not_take_all_places() {
    let limits = Limits { unauthenticated: 100, unauthenticated_per_peer: 2, ..Limits::default() };
    let (server, _tells) = echo::server(limits, None).await;
    let mut flood = [Raw::websocket(&server), Raw::websocket(&server)];
    for one in &mut flood {
        one.open().await;
    }
    Raw::websocket(&server).refused("resource-constraint").await;
    Raw::websocket_from(&server, Peer::in_process("elsewhere")).open().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_nobody_came_back_to_make_room_for_new_ones() {
    let (server, _tells) = echo::server(Limits { sessions_per_account: 2, ..Limits::default() }, None).await;
    let mut left = Raw::connect(&server).bound("admin", "secret", "left").await;
    let token = left.enable().await;
    let _stays = Raw::connect(&server).bound("admin", "secret", "stays").await;
    drop(left);
    while !server.sessions_of("admin").iter().any(|s| s.phase() == Phase::Suspended) {
        tokio::task::yield_now().await;
    }
    let _new = Raw::connect(&server).bound("admin", "secret", "new").await;
    // Both are in use now: nobody is thrown out for a third.
    let mut late = Raw::connect(&server);
    late.login("admin", "secret").await;
    late.send(&format!("<resume xmlns='urn:xmpp:sm:3' h='0' previd='{token}'/>")).await;
    late.expect("<item-not-found").await;
    late.expect("</failed>").await;
    late.send("<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>").await;
    assert!(late.expect("</iq>").await.contains("<resource-constraint"));
}

impl Raw {
    async fn login_again(&mut self) {
        assert!(self.scram("viewer", "look").await.starts_with("<success"));
        self.open().await;
        self.bind("r").await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_huge_the_deep_and_the_wide_end_only_their_own_stream() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut other = Raw::connect(&server).bound("viewer", "look", "other").await;
    tells.recv().await.unwrap();
    let wide: String = (0..65).map(|n| format!(" a{n}=''")).collect();
    let cases = [
        format!("<message><body>{}</body></message>", "x".repeat(10_000_000)),
        format!("<message><body>{}</body></message>", "x".repeat(256 * 1024)),
        "<message>".repeat(1000),
        format!("<message{wide}/>"),
        format!("<message>{}</message>", "<a/>".repeat(16 * 1024)),
    ];
    for said in &cases {
        let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
        raw.try_send(said).await;
        raw.refused("policy-violation").await;
        assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
        assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r");
    }
    let mut raw = Raw::websocket(&server).bound("admin", "secret", "r").await;
    raw.send(&format!("<message xmlns='jabber:client'>{}</message>", "x".repeat(256 * 1024))).await;
    raw.refused("policy-violation").await;
    // Before login 10 KiB are enough.
    let mut raw = Raw::connect(&server);
    raw.open().await;
    raw.try_send(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{}</auth>", "x".repeat(10 * 1024))).await;
    raw.refused("policy-violation").await;
    // What is below the limits passes, and an agent's limit is higher.
    let mut raw = Raw::connect(&server).bound("admin", "secret", "s").await;
    raw.message(&"y".repeat(255 * 1024)).await;
    assert_eq!(raw.echoed().await.len(), 255 * 1024);
    let mut node = Raw::connect(&server).bound("hv.alpha", "node", "r").await;
    node.message(&"z".repeat(1000 * 1024)).await;
    assert_eq!(node.echoed().await.len(), 1000 * 1024);
    other.message("alive").await;
    assert_eq!(other.echoed().await, "alive");
}

#[tokio::test(start_paused = true)]
async fn who_talks_too_fast_is_read_later_and_loses_nothing() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut fast = Vec::new();
    for (account, password) in [("admin", "secret"), ("hv.alpha", "node")] {
        let mut raw = Raw::connect(&server).bound(account, password, "r").await;
        let began = Instant::now();
        let flood: String = (0..1400).map(|n| format!("<presence id='{n}'/>")).collect();
        raw.send(&flood).await;
        let mut n = 0;
        while n < 1400 {
            if let Told::Stanza(stanza) = tells.recv().await.unwrap() {
                assert_eq!(stanza.attr("id"), Some(n.to_string().as_str()));
                n += 1;
            }
        }
        fast.push(began.elapsed());
    }
    assert!((1.9..2.2).contains(&fast[0].as_secs_f64()), "1000 at once, then 200 a second: {:?}", fast[0]);
    assert!(fast[1] < Duration::from_millis(100), "agents are exempt: {:?}", fast[1]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_fills_its_own_queue_and_nothing_else() {
    let queue = QueueBounds { stanzas: 100, bytes: 4000 };
    let (server, mut tells) = echo::server(Limits { queue, ..Limits::default() }, None).await;
    let mut slow = Raw::connect_from(&server, archipel_xmpp::server::Peer::in_process("slow"), 1024).bound("admin", "secret", "slow").await;
    let mut other = Raw::connect(&server).bound("viewer", "look", "other").await;
    let session = server.sessions_of("admin").remove(0);
    let mut sent = 0;
    while session.send(message(sent)).is_ok() {
        sent += 1;
        assert!(sent < 200, "the queue is bounded");
    }
    assert!(sent >= 70, "{sent} of 55 bytes are 4000 bytes");
    assert_eq!(session.send(message(0)), Err(QueueFull));
    other.message("unharmed").await;
    assert_eq!(other.echoed().await, "unharmed");
    for n in 0..sent {
        assert_eq!(slow.echoed().await, n.to_string());
    }
    session.send(message(7)).unwrap();
    assert_eq!(slow.echoed().await, "7");
    // One that reads nothing at all is dropped in the end.
    while session.send(message(0)).is_ok() {}
    assert!(session.backlog().0 > 0);
    while !matches!(tells.recv().await.unwrap(), Told::Closed(s) if s.id() == session.id()) {}
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_and_then_given_up() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
    let began = Instant::now();
    let ping = raw.expect("</iq>").await;
    assert!(ping.contains("urn:xmpp:ping") && began.elapsed().as_secs() == 90, "{ping}");
    raw.send("<iq type='result' id='archipel-alive'/>").await;
    raw.expect("</iq>").await;
    raw.refused("connection-timeout").await;
    assert_eq!(began.elapsed().as_secs(), 270);
    assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r", "the answer to the ping is nobody else's business");

    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    raw.enable().await;
    raw.expect("<r xmlns='urn:xmpp:sm:3'/>").await;
    raw.refused("connection-timeout").await;
    assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
    assert_eq!(next(&mut tells).await, "suspended admin@vm.localhost/r");
}

#[tokio::test(start_paused = true)]
async fn an_account_has_only_so_many_sessions() {
    let (server, _tells) = echo::server(Limits { sessions_per_account: 2, ..Limits::default() }, None).await;
    let _a = Raw::connect(&server).bound("admin", "secret", "a").await;
    let b = Raw::connect(&server).bound("admin", "secret", "b").await;
    let mut c = Raw::connect(&server);
    c.login("admin", "secret").await;
    c.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>").await;
    assert!(c.expect("</iq>").await.contains("<resource-constraint"));
    let session = server.sessions_of("admin").into_iter().find(|s| s.jid().resource().as_str() == "b").unwrap();
    session.close(archipel_xmpp::server::StreamCondition::Reset);
    b.refused("reset").await;
    c.bind("c").await;
}

#[tokio::test(start_paused = true)]
async fn questions_without_reading_the_answers_cost_no_memory() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect_from(&server, archipel_xmpp::server::Peer::in_process("mute"), 512).bound("hv.alpha", "node", "r").await;
    raw.enable().await;
    let session = server.sessions_of("hv.alpha").remove(0);
    for _ in 0..5000 {
        raw.send("<r xmlns='urn:xmpp:sm:3'/>").await;
    }
    raw.send("<presence/>").await;
    assert_eq!(next(&mut tells).await, "opened hv.alpha@vm.localhost/r");
    assert_eq!(next(&mut tells).await, "presence from hv.alpha@vm.localhost/r");
    assert_eq!(session.backlog(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_and_what_is_served_is_counted() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server);
    raw.open().await;
    raw.scram("admin", "wrong").await;
    raw.send("<!DOCTYPE a>").await;
    raw.refused("restricted-xml").await;
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    let id = raw.enable().await;
    raw.message("1").await;
    raw.echoed().await;
    drop(raw);
    while !matches!(tells.recv().await.unwrap(), Told::Suspended(_)) {}
    let mut raw = Raw::connect(&server);
    raw.login("admin", "secret").await;
    raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    raw.expect("<resumed").await;
    let names: Vec<String> = prometheus::gather().iter().map(|family| family.name().to_owned()).collect();
    for name in ["sessions", "sessions_suspended", "stanzas_total", "login_failures_total", "resumptions_total", "streams_refused_total"] {
        assert!(names.contains(&format!("archipel_xmpp_{name}")), "{name} is not among {names:?}");
    }
}
