"""What nobody should send: each gets its clear error, and nothing else changes.

Every test ends by looking whether everybody else is still served and whether the machines are as they were.
"""

import itertools
import socket

from harness.base import until
from harness.daemon import CELL, PASSWORD, VIEWER, Daemon
from harness.raw import Raw, Tcp, WebSocket, error_of
from harness.xmpp import Client


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.daemon = stack.enter_context(Daemon(work, {"alpha": "test:///default"}))
    p.machine = p.daemon.wait_state("test", "running")
    p.bystander = stack.enter_context(Client(p.daemon, resource="bystander"))
    p.bystander.subscribe_feed()
    p.before = p.bystander.snapshot()
    p.numbers = itertools.count()
    p.pid = p.daemon.process.pid
    return p


def login(p, jid=None, web=False):
    transport = WebSocket(p.daemon.http) if web else Tcp(p.daemon.xmpp)
    raw = Raw(transport, **({"jid": jid} if jid else {}))
    return raw.login(f"bad{next(p.numbers)}")


def nothing_changed(p):
    assert p.daemon.process.poll() is None, "archipeld is gone"
    assert p.bystander.snapshot() == p.before, "something changed"
    assert p.bystander.command(p.machine["jid"], "domain.info")["state"] == "running"


def send_in_pieces(raw, text):
    """Sends until the server has had enough."""
    try:
        for start in range(0, len(text), 65536):
            raw.send(text[start : start + 65536])
    except OSError:
        pass


def test_malformed_xml_ends_only_its_own_stream(p):
    for bad in ("<iq type='get'><a></b></iq>", "<message to=>", "<iq type='set' type='get' id='1'/>", "<a>&undefined;</a>", "<x:y/>", "\x00"):
        raw = login(p)
        raw.send(bad)
        assert raw.ended() in ("not-well-formed", "bad-format", "bad-namespace-prefix", "invalid-xml", "restricted-xml"), bad
        raw.close()
    nothing_changed(p)


def test_doctypes_comments_and_processing_instructions_are_refused(p):
    for bad in ("<!DOCTYPE x [<!ENTITY a 'b'>]>", "<!-- hello -->", "<?php x ?>"):
        raw = login(p)
        raw.send(bad)
        assert raw.ended() in ("restricted-xml", "not-well-formed", "bad-format"), bad
        raw.close()
    nothing_changed(p)


def test_malformed_xml_over_websocket_ends_only_its_own_stream(p):
    for bad in ("<iq type='get'><a></b></iq>", "no xml at all", "<iq/><iq/>"):
        raw = login(p, web=True)
        raw.send(bad)
        raw.ended()
        raw.close()
    nothing_changed(p)


def test_a_stanza_of_ten_megabytes_is_refused(p):
    memory = p.daemon.resident_kib()
    raw = login(p)
    send_in_pieces(raw, f"<message to='{p.machine['jid']}'><body>" + "x" * 10_000_000 + "</body></message>")
    try:
        assert raw.ended() in ("policy-violation", None)
    finally:
        raw.close()
    grown = p.daemon.resident_kib() - memory
    assert grown < 8 * 1024, f"archipeld grew by {grown} KiB"
    nothing_changed(p)
    return f"memory grew by {grown} KiB"


def test_a_thousand_levels_of_nesting_are_refused(p):
    for web in (False, True):
        raw = login(p, web=web)
        raw.send(f"<message to='{CELL}'>" + "<a xmlns='x'>" * 1000 + "</a>" * 1000 + "</message>")
        assert raw.ended() in ("policy-violation", "not-well-formed", None)
        raw.close()
    nothing_changed(p)


def test_a_thousand_attributes_are_refused(p):
    raw = login(p)
    raw.send(f"<message to='{CELL}' " + " ".join(f"a{n}='x'" for n in range(1000)) + "/>")
    assert raw.ended() in ("policy-violation", None)
    raw.close()
    nothing_changed(p)


def test_big_things_before_login_are_refused(p):
    transport = Tcp(p.daemon.xmpp)
    raw = Raw(transport)
    send_in_pieces(raw, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>" + "A" * 1_000_000 + "</auth>")
    assert raw.ended() in ("policy-violation", None)
    raw.close()
    with socket.create_connection(("127.0.0.1", p.daemon.xmpp)) as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until(lambda: s.recv(4096) == b"", 10, "the end of a stream that is no XMPP")
    nothing_changed(p)


def test_stanzas_before_login_are_refused(p):
    raw = Raw(Tcp(p.daemon.xmpp))
    raw.send(f"<iq type='set' id='1' to='{p.machine['jid']}'>{raw.command_xml('domain.force-off')}</iq>")
    assert raw.ended() in ("not-authorized", "policy-violation")
    raw.close()
    nothing_changed(p)


def test_an_unknown_command_is_named(p):
    raw = login(p)
    condition, kind, text = error_of(raw.command(p.machine["jid"], "domain.explode"))
    assert condition in ("item-not-found", "bad-request") and "domain.explode" in text, (condition, kind, text)
    condition, kind, text = error_of(raw.command(p.machine["jid"], "network.stop"))
    assert condition in ("item-not-found", "bad-request"), "a command of another noun"
    raw.close()
    done = p.daemon.cli("domain", "explode", "test", check=False)
    assert done.returncode == 64 and "explode" in done.stderr, done
    nothing_changed(p)


def test_wrong_types_unknown_arguments_and_broken_json_are_named(p):
    raw = login(p)
    hypervisor = f"hv.alpha@{CELL}"
    for name, arguments, expected in (
        ("domain.start", '{"paused":"maybe"}', "paused"),
        ("domain.start", '{"pausedd":true}', "pausedd"),
        ("domain.start", "[]", "domain.start"),
        ("domain.start", "{", "json"),
        ("domain.rename", "{}", "to"),
        ("domain.define", '{"name":"../../etc/passwd"}', "name"),
        ("domain.define", '{"name":"x","disk":"images/../../etc/passwd"}', "POOL/VOLUME"),
        ("domain.define", '{"name":"x","memory":"much"}', "memory"),
        ("domain.define", '{"name":"x","vcpus":0}', "512"),
        ("domain.define", '{"name":"x","graphics":"crt"}', "crt"),
        ("domain.shutdown", '{"timeout":-1}', "timeout"),
        ("domain.note", '{"text":"' + "x" * 5000 + '"}', "4096"),
    ):
        to = hypervisor if name == "domain.define" else p.machine["jid"]
        condition, kind, text = error_of(raw.command(to, name, arguments))
        assert (condition, kind) == ("bad-request", "invalid-request"), (name, arguments, condition, kind, text)
        assert expected.lower() in text.lower(), f"{name} {arguments}: {text!r} does not name {expected!r}"
    raw.close()
    nothing_changed(p)


def test_who_is_nobody_is_not_found(p):
    raw = login(p)
    for to in (f"00000000-0000-4000-8000-00000000dead@{CELL}", f"no-such-thing@{CELL}", f"hv.nobody@{CELL}"):
        condition, _, _ = error_of(raw.command(to, "domain.start"))
        assert condition in ("item-not-found", "service-unavailable"), (to, condition)
    raw.close()
    done = p.daemon.cli("domain", "start", "nobody", check=False)
    assert done.returncode == 66 and "nobody" in done.stderr, done
    nothing_changed(p)


def test_a_viewer_sees_and_cannot_touch(p):
    raw = login(p, VIEWER)
    for name in ("domain.pause", "domain.force-off", "domain.undefine", "domain.note"):
        condition, kind, text = error_of(raw.command(p.machine["jid"], name))
        assert (condition, kind) == ("forbidden", "forbidden") and name in text and "admin" in text, (condition, kind, text)
    assert raw.command(p.machine["jid"], "domain.info").get("type") == "result"
    raw.close()
    done = p.daemon.cli("domain", "pause", "test", jid=VIEWER, check=False)
    assert done.returncode == 77, done
    nothing_changed(p)


def test_a_stanza_that_claims_to_be_from_somebody_else_does_not_help(p):
    raw = login(p, VIEWER)
    raw.send(f"<iq type='set' id='spoof' from='admin@{CELL}/web' to='{p.machine['jid']}'>{raw.command_xml('domain.force-off')}</iq>")
    answer = raw.next(lambda e: e is None or e.get("id") == "spoof" or e.tag.endswith("}error"), 10, "a refusal")
    assert answer is None or answer.tag.endswith("}error") or error_of(answer)[0] == "forbidden"
    raw.close()
    nothing_changed(p)


def test_the_wrong_state_is_named_with_what_to_do(p):
    raw = login(p)
    condition, kind, text = error_of(raw.command(p.machine["jid"], "domain.start"))
    assert (condition, kind) == ("unexpected-request", "wrong-state") and text == "test is running already", (condition, kind, text)
    condition, kind, text = error_of(raw.command(p.machine["jid"], "domain.undefine"))
    assert kind == "wrong-state" and "shut it down first" in text, text
    raw.close()
    done = p.daemon.cli("domain", "start", "test", check=False)
    assert done.returncode == 65 and "running already" in done.stderr, done
    kind, text = p.bystander.form_command(p.machine["jid"], "domain.start")
    assert kind == "error" and "running already" in text, (kind, text)
    nothing_changed(p)


def test_ten_wrong_passwords_lock_the_door_for_who_guesses_only(p):
    p.daemon.account("add", f"guessed@{CELL}", "--role", "viewer")
    answers = []
    for n in range(10):
        raw = Raw(Tcp(p.daemon.xmpp), jid=f"guessed@{CELL}", password=f"guess {n}")
        try:
            raw.authenticate()
            raise AssertionError("a wrong password was taken")
        except PermissionError as e:
            answers.append(str(e))
        raw.close()
    assert set(answers) <= {"not-authorized", "temporary-auth-failure"}, answers
    raw = Raw(Tcp(p.daemon.xmpp), jid=f"guessed@{CELL}", password=PASSWORD)
    try:
        raw.authenticate()
        raise AssertionError("after ten wrong passwords the right one was taken at once")
    except PermissionError as e:
        assert str(e) in ("temporary-auth-failure", "not-authorized"), e
    raw.close()
    # Nobody else suffers, and an account that does not exist looks the same.
    login(p, VIEWER).close()
    raw = Raw(Tcp(p.daemon.xmpp), jid=f"nobody@{CELL}", password="x")
    try:
        raw.authenticate()
        raise AssertionError("an account that does not exist was let in")
    except PermissionError as e:
        assert str(e) == "not-authorized", e
    raw.close()
    done = p.daemon.cli("domain", "list", password="wrong", jid=f"other@{CELL}", check=False)
    assert done.returncode == 77 and done.stderr.strip(), done
    nothing_changed(p)


def test_http_knows_its_paths_only(p):
    def status(head):
        with socket.create_connection(("127.0.0.1", p.daemon.http), 10) as s:
            s.sendall(head.encode() + b"\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return int(s.makefile().readline().split()[1])
    assert status("GET / HTTP/1.1") == 200
    assert status("GET /assets/../../../../etc/passwd HTTP/1.1") in (400, 404)
    assert status("GET /assets/no-such.js HTTP/1.1") == 404
    assert status("DELETE /health HTTP/1.1") in (404, 405)
    assert status("GET /xmpp-websocket HTTP/1.1") in (400, 426)
    nothing_changed(p)
