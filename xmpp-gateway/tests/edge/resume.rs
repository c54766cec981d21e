//! XEP-0198 over broken connections.

use crate::echo::{self, Told};
use crate::next;
use crate::raw::Raw;
use archipel_xmpp::server::{Limits, Phase, QueueBounds, Server, Session, Stanza};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Duration, Instant};

fn message(n: usize) -> Stanza {
    Stanza::from(format!("<message xmlns='jabber:client'><body>{n}</body></message>"))
}

fn connect(server: &Arc<Server>, websocket: bool) -> Raw {
    if websocket { Raw::websocket(server) } else { Raw::connect(server) }
}

async fn suspended(tells: &mut UnboundedReceiver<Told>) -> Arc<Session> {
    loop {
        if let Told::Suspended(session) = tells.recv().await.unwrap() {
            return session;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_missed_and_nothing_doubled_over_a_cut_on_any_transport() {
    for (first, second) in [(false, false), (true, true), (false, true), (true, false)] {
        let (server, mut tells) = echo::server(Limits::default(), None).await;
        let mut raw = connect(&server, first).bound("admin", "secret", "r").await;
        let id = raw.enable().await;
        let session = server.sessions_of("admin").remove(0);
        // Three handled by the client, of which the server knows only one; two written and lost; two sent while away.
        for n in 0..5 {
            session.send(message(n)).unwrap();
        }
        for n in 0..3 {
            assert_eq!(raw.echoed().await, n.to_string());
            if n == 0 {
                raw.send("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
            }
        }
        raw.send("<presence xmlns='jabber:client'/>").await;
        raw.send("<r xmlns='urn:xmpp:sm:3'/>").await;
        raw.expect("<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
        drop(raw);
        assert_eq!(suspended(&mut tells).await.phase(), Phase::Suspended);
        session.send(message(5)).unwrap();
        session.send(message(6)).unwrap();

        let mut raw = connect(&server, second);
        raw.login("admin", "secret").await;
        raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='3'/>")).await;
        assert_eq!(raw.expect("/>").await, format!("<resumed xmlns='urn:xmpp:sm:3' previd='{id}' h='1'/>"));
        for n in 3..7 {
            assert_eq!(raw.echoed().await, n.to_string(), "{first} {second}");
        }
        assert_eq!(next(&mut tells).await, "resumed admin@vm.localhost/r");
        raw.message("after").await;
        assert_eq!(raw.echoed().await, "after");
        assert!(session.is_live());
        // The count goes on: 3 + 4 of before and the echo.
        raw.send("<a xmlns='urn:xmpp:sm:3' h='8'/><r xmlns='urn:xmpp:sm:3'/>".split_inclusive("/>").next().unwrap()).await;
        raw.send("<r xmlns='urn:xmpp:sm:3'/>").await;
        raw.expect("<a xmlns='urn:xmpp:sm:3' h='2'/>").await;
        assert_eq!(session.backlog().0, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_over_to_a_new_connection_while_the_old_one_still_hangs() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut old = Raw::connect(&server).bound("admin", "secret", "r").await;
    let id = old.enable().await;
    let mut new = Raw::connect(&server);
    new.login("admin", "secret").await;
    new.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    new.expect("<resumed").await;
    old.refused("conflict").await;
    new.message("over here").await;
    assert_eq!(new.echoed().await, "over here");
    assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
    assert_eq!(next(&mut tells).await, "resumed admin@vm.localhost/r");
    assert_eq!(next(&mut tells).await, "message from admin@vm.localhost/r");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_stuck_in_a_write_does_not_keep_its_session() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let peer = archipel_xmpp::server::Peer::in_process("stuck");
    let mut stuck = Raw::connect_from(&server, peer, 600).bound("admin", "secret", "r").await;
    let id = stuck.enable().await;
    let session = server.sessions_of("admin").remove(0);
    for n in 0..100 {
        session.send(message(n)).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let mut raw = Raw::connect(&server);
    raw.login("admin", "secret").await;
    raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    raw.expect("<resumed").await;
    for n in 0..100 {
        assert_eq!(raw.echoed().await, n.to_string());
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(!stuck.ended().await.contains("stream:error"), "nothing is said in the middle of a stanza");
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_while_resuming_leaves_nothing_behind() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    let id = raw.enable().await;
    drop(raw);
    suspended(&mut tells).await;
    for _ in 0..3 {
        let mut raw = Raw::connect(&server);
        raw.login("admin", "secret").await;
        raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    }
    while next(&mut tells).await != "closed admin@vm.localhost/r" {}
    assert!(server.sessions_of("admin").is_empty());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_window_a_session_is_gone() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    let id = raw.enable().await;
    drop(raw);
    let session = suspended(&mut tells).await;
    let began = Instant::now();
    assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r");
    assert_eq!(began.elapsed().as_secs(), 300);
    assert!(session.send(message(0)).is_err());
    let mut raw = Raw::connect(&server);
    raw.login("admin", "secret").await;
    raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    assert!(raw.expect("</failed>").await.contains("<item-not-found"));
    // The same stream may still bind.
    assert_eq!(raw.bind("r").await, "admin@vm.localhost/r");
}

#[tokio::test(start_paused = true)]
async fn a_window_begins_anew_with_every_cut() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    let id = raw.enable().await;
    for _ in 0..3 {
        drop(raw);
        suspended(&mut tells).await;
        tokio::time::sleep(Duration::from_secs(200)).await;
        raw = Raw::connect(&server);
        raw.login("admin", "secret").await;
        raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
        raw.expect("<resumed").await;
        assert_eq!(next(&mut tells).await, "resumed admin@vm.localhost/r");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_resumes_what_is_not_theirs_or_never_was() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    let id = raw.enable().await;
    drop(raw);
    let session = suspended(&mut tells).await;
    for (user, password, resume) in [
        ("viewer", "look", format!("previd='{id}' h='0'")),
        ("admin", "secret", "previd='0123' h='0'".to_owned()),
        ("admin", "secret", format!("previd='{id}'")),
        ("admin", "secret", format!("previd='{id}' h='x'")),
    ] {
        let mut raw = Raw::connect(&server);
        raw.login(user, password).await;
        raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' {resume}/>")).await;
        assert!(raw.expect("</failed>").await.contains("<item-not-found"), "{resume}");
        assert_eq!(session.phase(), Phase::Suspended, "{resume}");
    }
    // A count of what was never sent cannot be made good: both must begin afresh.
    let mut raw = Raw::connect(&server);
    raw.login("admin", "secret").await;
    raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='9'/>")).await;
    assert!(raw.expect("</failed>").await.contains("<item-not-found"));
    assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r");
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_for_an_absent_peer_is_bounded_and_then_the_session_ends() {
    let queue = QueueBounds { stanzas: 10, bytes: 10_000 };
    let (server, mut tells) = echo::server(Limits { queue, ..Limits::default() }, None).await;
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    let id = raw.enable().await;
    drop(raw);
    let session = suspended(&mut tells).await;
    for n in 0..10 {
        session.send(message(n)).unwrap();
    }
    assert!(session.send(message(10)).is_err());
    assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r");
    let mut raw = Raw::connect(&server);
    raw.login("admin", "secret").await;
    raw.send(&format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
    assert!(raw.expect("</failed>").await.contains("<item-not-found"));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_asked_for_and_let_the_queue_shrink() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    raw.enable().await;
    let session = server.sessions_of("admin").remove(0);
    for n in 0..20 {
        session.send(message(n)).unwrap();
    }
    raw.expect("<r xmlns='urn:xmpp:sm:3'/>").await;
    assert_eq!(session.backlog().0, 20);
    raw.send("<a xmlns='urn:xmpp:sm:3' h='20'/>").await;
    raw.message("in order").await;
    raw.echoed().await;
    assert!(session.backlog().0 <= 1);
    raw.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
    assert!(raw.expect("</failed>").await.contains("<unexpected-request"));
}

#[tokio::test(start_paused = true)]
async fn without_stream_management_a_broken_connection_is_the_end() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    drop(Raw::connect(&server).bound("admin", "secret", "r").await);
    assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
    assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r");
    let mut raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    raw.enable().await;
    raw.send("</stream:stream>").await;
    raw.ended().await;
    assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
    assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r", "who closes does not come back");
}
