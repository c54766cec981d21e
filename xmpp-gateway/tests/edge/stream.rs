//! Opening, closing, errors.

use crate::echo;
use crate::next;
use crate::raw::{HEADER, Raw};
use archipel_xmpp::server::{Limits, StreamCondition};
use tokio::time::Duration;

#[tokio::test(start_paused = true)]
async fn each_mistake_before_login_has_its_stream_error_and_ends_only_its_stream() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let mut other = Raw::connect(&server).bound("admin", "secret", "other").await;
    let opened = |rest: &str| format!("{HEADER}{rest}");
    for (said, condition) in [
        (HEADER.replace("vm.localhost", "example.org"), "host-unknown"),
        (HEADER.replace("jabber:client", "jabber:server"), "invalid-namespace"),
        (HEADER.replace("etherx", "other"), "invalid-namespace"),
        (HEADER.replace("stream:stream", "stream:flood"), "bad-format"),
        (HEADER.replace(" version='1.0'>", ">"), "unsupported-version"),
        ("GET / HTTP/1.1\r\n\r\n".into(), "not-well-formed"),
        (opened("<a></b>"), "not-well-formed"),
        (opened("<a x='1' x='2'/>"), "not-well-formed"),
        (opened("text<a/>"), "bad-format"),
        (opened("<!DOCTYPE a>"), "restricted-xml"),
        (opened("<?php?>"), "restricted-xml"),
        (opened("<!-- hidden -->"), "restricted-xml"),
        (opened("<auth>&lol;</auth>"), "restricted-xml"),
        (opened("<iq type='get' id='1'/>"), "not-authorized"),
        (opened("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), "not-authorized"),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(&said).await;
        let text = raw.refused(condition).await;
        assert!(text.starts_with("<?xml version='1.0'?><stream:stream "), "the header comes first: {text}");
    }
    other.message("alive").await;
    assert_eq!(other.echoed().await, "alive");
}

#[tokio::test(start_paused = true)]
async fn headers_have_the_cell_a_version_and_an_id_of_their_own() {
    let (server, _tells) = echo::server(Limits::default(), None).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..3 {
        let header = Raw::connect(&server).open().await;
        assert!(header.contains("from='vm.localhost'") && header.contains("version='1.0'"), "{header}");
        ids.insert(header.split(" id='").nth(1).unwrap().split('\'').next().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_closing_is_answered_and_the_footer_comes_last() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    for websocket in [false, true] {
        let raw = if websocket { Raw::websocket(&server) } else { Raw::connect(&server) };
        let mut raw = raw.bound("admin", "secret", "r").await;
        raw.send(" \n ").await;
        raw.message("last").await;
        let (bye, footer) = match websocket {
            false => ("</stream:stream>", "</stream:stream>"),
            true => ("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>", "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"),
        };
        raw.send(bye).await;
        let text = raw.ended().await;
        assert!(text.contains("<body>last</body>") && text.ends_with(footer), "{text}");
        assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
        assert_eq!(next(&mut tells).await, "message from admin@vm.localhost/r");
        assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_stanza_ends_the_session_for_good() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    for (said, condition) in [
        ("<surprise xmlns='jabber:client'/>", "unsupported-stanza-type"),
        ("<iq xmlns='jabber:server' id='1' type='get'/>", "unsupported-stanza-type"),
        ("<a xmlns='urn:xmpp:sm:3'/>", "bad-format"),
        ("<a xmlns='urn:xmpp:sm:3' h='7'/>", "policy-violation"),
    ] {
        for websocket in [false, true] {
            let raw = if websocket { Raw::websocket(&server) } else { Raw::connect(&server) };
            let mut raw = raw.bound("admin", "secret", "r").await;
            raw.enable().await;
            raw.send(said).await;
            raw.refused(condition).await;
            assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
            assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn senders_are_stamped_and_agents_may_speak_for_entities() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let machine = "6ff6bd56-1b2c-4d5e-8f90-0123456789ab@vm.localhost/alpha";
    let mut person = Raw::connect(&server).bound("admin", "secret", "r").await;
    let mut node = Raw::connect(&server).bound("hv.alpha", "node", "r").await;
    assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
    assert_eq!(next(&mut tells).await, "opened hv.alpha@vm.localhost/r");
    for (from, person_is, node_is) in [
        ("", "admin@vm.localhost/r", "hv.alpha@vm.localhost/r"),
        (machine, "admin@vm.localhost/r", machine),
        ("viewer@vm.localhost/x", "admin@vm.localhost/r", "hv.alpha@vm.localhost/r"),
        ("vm.localhost", "admin@vm.localhost/r", "hv.alpha@vm.localhost/r"),
        ("6ff6bd56-1b2c-4d5e-8f90-0123456789ab@example.org", "admin@vm.localhost/r", "hv.alpha@vm.localhost/r"),
    ] {
        let stanza = format!("<presence from='{from}'/>");
        person.send(&stanza).await;
        assert_eq!(next(&mut tells).await, format!("presence from {person_is}"));
        node.send(&stanza).await;
        assert_eq!(next(&mut tells).await, format!("presence from {node_is}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_taken_resource_gives_a_person_another_one_and_an_agent_its_own_back() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let mut first = Raw::connect(&server).bound("admin", "secret", "web").await;
    let mut second = Raw::connect(&server);
    second.login("admin", "secret").await;
    let jid = second.bind("web").await;
    assert!(jid.starts_with("admin@vm.localhost/web-") && jid.len() > 26, "{jid}");
    first.message("still here").await;
    assert_eq!(first.echoed().await, "still here");
    for _ in 0..3 {
        tells.recv().await.unwrap();
    }

    // Once while the old connection is there, once while the old session waits to be resumed.
    let mut old = Raw::connect(&server).bound("hv.alpha", "node", "agent").await;
    old.enable().await;
    assert_eq!(next(&mut tells).await, "opened hv.alpha@vm.localhost/agent");
    let mut new = Raw::connect(&server).bound("hv.alpha", "node", "agent").await;
    old.refused("conflict").await;
    assert_eq!(next(&mut tells).await, "closed hv.alpha@vm.localhost/agent");
    assert_eq!(next(&mut tells).await, "opened hv.alpha@vm.localhost/agent");
    new.enable().await;
    drop(new);
    assert_eq!(next(&mut tells).await, "suspended hv.alpha@vm.localhost/agent");
    let mut newest = Raw::connect(&server).bound("hv.alpha", "node", "agent").await;
    assert_eq!(next(&mut tells).await, "closed hv.alpha@vm.localhost/agent");
    assert_eq!(next(&mut tells).await, "opened hv.alpha@vm.localhost/agent");
    newest.message("works").await;
    assert_eq!(newest.echoed().await, "works");
    assert_eq!(server.sessions_of("hv.alpha").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_every_stream_in_every_state() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let live = Raw::connect(&server).bound("admin", "secret", "live").await;
    let socket = Raw::websocket(&server).bound("admin", "secret", "socket").await;
    let mut suspended = Raw::connect(&server).bound("viewer", "look", "suspended").await;
    suspended.enable().await;
    drop(suspended);
    let mut waiting = Raw::connect(&server);
    waiting.open().await;
    for _ in 0..4 {
        tells.recv().await.unwrap();
    }
    let (_, a, b, c) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(1), server.shutdown()),
        live.refused("system-shutdown"),
        socket.refused("system-shutdown"),
        waiting.refused("system-shutdown"),
    );
    assert!(!a.is_empty() && !b.is_empty() && !c.is_empty());
    let mut closed = vec![next(&mut tells).await, next(&mut tells).await, next(&mut tells).await];
    closed.sort();
    assert_eq!(closed, ["closed admin@vm.localhost/live", "closed admin@vm.localhost/socket", "closed viewer@vm.localhost/suspended"]);
    Raw::connect(&server).refused("system-shutdown").await;
}

#[tokio::test(start_paused = true)]
async fn the_handler_can_close_a_session_after_what_it_sent() {
    let (server, mut tells) = echo::server(Limits::default(), None).await;
    let raw = Raw::connect(&server).bound("admin", "secret", "r").await;
    let session = server.sessions_of("admin").remove(0);
    session.send("<message xmlns='jabber:client'><body>bye</body></message>".to_owned().into()).unwrap();
    session.close(StreamCondition::Reset);
    assert!(!session.is_live());
    assert!(session.send("<message xmlns='jabber:client'/>".to_owned().into()).is_err());
    let text = raw.refused("reset").await;
    assert!(text.contains("<body>bye</body>"), "{text}");
    assert_eq!(next(&mut tells).await, "opened admin@vm.localhost/r");
    assert_eq!(next(&mut tells).await, "closed admin@vm.localhost/r");
    assert!(server.sessions_of("admin").is_empty());
}
