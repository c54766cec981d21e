"""Consoles and volumes of a host that nobody can reach, through the page of the exchange.

    browser, CLI --> h1: archipeld (agent h1 + exchange) <--XMPP port, twice--- h2: archipeld (agent); its HTTP port is on its own loopback
                                        '---- HTTP, over the second one -----^
"""

import hashlib
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import time

from harness import linux
from harness.base import BIN, Skipped, until
from harness.cluster import Cluster
from harness.daemon import ADMIN
from harness.hosts import NET
from topics import console_page
from topics.console import Socket, base64url, refusal, ticket

MIB = 1 << 20
SIZE = 100 * MIB
CUT = 4003


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.cluster = Cluster(stack, work, count=2)
    p.work, p.daemon, p.h1, p.h2 = work, p.cluster.cell, p.cluster.hosts[1], p.cluster.hosts[2]
    p.agent = p.cluster.agents["h2"]
    p.id = linux.define(p.h2, "web1")
    p.daemon.wait_state("web1", "shutoff", 20)
    p.daemon.cli("domain", "start", "web1")
    p.own = p.h2.work / "own"
    p.content = work / "content"
    p.content.write_bytes(os.urandom(SIZE))
    return p


def serial(p):
    s = Socket(p, *ticket(p, "serial"))
    assert s.status == 101 and b"sec-websocket-protocol: binary" in s.head.lower(), s.head
    s.send(b"\r")
    s.until(rb"guest# ", 90)
    return s


def nobody(p):
    until(lambda: p.daemon.json("domain", "viewers", "web1") == [] and p.daemon.metric("archipel_carriages") == 0, 30, "everybody to have left", pause=0.1)


def test_the_serial_line_answers_though_its_host_cannot_be_reached(p):
    for address in (f"{NET}.12:{p.agent.http}", f"127.0.0.1:{p.agent.http}"):
        knocked = subprocess.run(p.h1.inside("curl", "-s", "-m", "5", f"http://{address}/health"), capture_output=True)
        assert knocked.returncode != 0, f"h1 reaches the HTTP port of h2 at {address}"
    s = serial(p)
    s.send(b"echo $((6*7))-answers\r")
    s.until(rb"42-answers")
    (one,) = p.daemon.json("domain", "viewers", "web1")
    assert (one["person"], one["kind"]) == (ADMIN, "serial"), one
    assert p.daemon.metric("archipel_carriages") == 1
    p.early = (*ticket(p, "vnc"), time.monotonic())
    # Much at once, so that what waits anywhere is passed on whole and in order.
    s.send(b"seq -s, 1 20000\r")
    s.until(rb"19998,19999,20000")
    assert b",".join(b"%d" % n for n in range(1, 20001)) in re.sub(rb"\s", b"", s.said)
    s.close()
    nobody(p)


def test_the_screen_speaks_rfb(p):
    s = Socket(p, *ticket(p, "vnc"))
    s.until(rb"RFB 003\.00\d\n")
    s.close()
    nobody(p)


def page(p):
    return {**p.daemon.login(), "ARCHIPEL_PAGE": f"http://127.0.0.1:{p.daemon.http}"}


def archipel(p, *arguments, stdin=b"", check=True):
    done = subprocess.run(p.h1.inside(BIN / "archipel", *arguments), input=stdin, capture_output=True, timeout=100, env=page(p))
    assert not check or done.returncode == 0, (arguments, done.returncode, done.stderr.decode())
    return done


def test_the_console_of_the_command_line_needs_no_other_address(p):
    done = archipel(p, "domain", "console", "web1", "--take-over", stdin=b"\recho $((6*7))-in-the-terminal\r")
    assert b"42-in-the-terminal" in done.stdout, done
    nobody(p)


def test_a_volume_is_sent_and_fetched_by_the_command_line(p):
    sent = archipel(p, "volume", "upload", "own", "sent.raw", "--host", "h2", "--file", p.content)
    assert b"sent.raw is there" in sent.stdout and b"100 MiB of 100 MiB sent, 100 %" in sent.stderr, sent
    assert (p.own / "sent.raw").read_bytes() == p.content.read_bytes()
    back = p.work / "back"
    fetched = archipel(p, "volume", "download", "own", "sent.raw", "--host", "h2", "--file", back)
    assert b"100 MiB of 100 MiB fetched, 100 %" in fetched.stderr, fetched
    assert back.read_bytes() == p.content.read_bytes() and not back.with_name("back.part").exists()
    again = archipel(p, "volume", "download", "own", "sent.raw", "--host", "h2", "--file", back, check=False)
    assert again.returncode == 65 and b"is there already" in again.stderr, again
    back.with_name("other.part").write_bytes(p.content.read_bytes()[: 99 * MIB])
    rest = archipel(p, "volume", "download", "own", "sent.raw", "--host", "h2", "--file", p.work / "other", "--resume")
    assert (p.work / "other").read_bytes() == p.content.read_bytes() and b"99 MiB of 100 MiB" in rest.stderr, rest
    piped = archipel(p, "volume", "download", "own", "sent.raw", "--host", "h2", "--file", "-")
    assert piped.stdout == p.content.read_bytes()
    small = archipel(p, "--json", "volume", "upload", "own", "piped.raw", "--host", "h2", "--file", "-", stdin=b"x" * 1000)
    assert "is there" in json.loads(small.stdout)["message"] and (p.own / "piped.raw").read_bytes() == b"x" * 1000
    taken = archipel(p, "volume", "upload", "own", "sent.raw", "--host", "h2", "--file", p.content, check=False)
    assert taken.returncode == 73, taken
    nobody(p)


def volume_ticket(p, verb, volume, *options):
    secret = secrets.token_urlsafe(32)
    proof = base64url(hashlib.sha256(secret.encode()).digest())
    answer = p.daemon.json("volume", verb, "own", volume, f"--proof={proof}", "--host", "h2", *options)
    return answer["ticket"]["path"], secret, answer["bytes"]


def begin_sending(p, path, secret, first):
    """Sends the head and the first bytes of the content, and leaves the line open."""
    line = http.client.HTTPConnection("h1", timeout=60)
    line.sock = p.daemon.connect()
    line.putrequest("PUT", path)
    line.putheader("Authorization", f"Bearer {secret}")
    line.putheader("Content-Length", str(SIZE))
    line.endheaders()
    line.send(first)
    return line


def arrived(p, name, size):
    part = p.own / f"{name}.archipel-part"
    until(lambda: part.exists() and part.stat().st_size == size, 30, "what was sent to arrive")


def test_an_upload_that_was_cut_off_is_gone_on_with(p):
    path, secret, there = volume_ticket(p, "upload", "cut.raw")
    assert there == 0
    half = SIZE // 2
    line = begin_sending(p, path, secret, p.content.read_bytes()[:half])
    arrived(p, "cut.raw", half)
    line.close()
    nobody(p)
    done = archipel(p, "volume", "upload", "own", "cut.raw", "--host", "h2", "--file", p.content, "--resume")
    assert b"50 MiB of 100 MiB" in done.stderr and b"100 %" in done.stderr, done
    assert (p.own / "cut.raw").read_bytes() == p.content.read_bytes()


def test_a_used_stolen_expired_or_made_up_ticket_is_refused_as_at_its_own_host(p):
    path, secret = ticket(p, "vnc")
    stolen = refusal(p, path, base64url(secrets.token_bytes(32)))
    without = refusal(p, path, "")
    foreign_page = Socket(p, path, secret, origin="https://evil.example")
    assert foreign_page.status == 403
    owner = Socket(p, path, secret)
    assert owner.status == 101, "being stolen has not used it up"
    replayed = refusal(p, path, secret)
    owner.close()
    # Of the host of the page, of the one that is carried, of none, and no token at all.
    made_up = [refusal(p, f"/console/{token}", secret) for token in ("h1~" + "a" * 22, "h2~" + "a" * 22, "h9~" + "a" * 22, "x")]
    path, secret, since = p.early
    # Nothing tells when a ticket expires but its own time; most of it went by meanwhile.
    until(lambda: time.monotonic() > since + 31, 40, "the end of the ticket", pause=0.2)
    expired = refusal(p, path, secret)
    assert stolen[0] == 404
    assert len({stolen, without, replayed, expired, *made_up}) == 1, (stolen, without, replayed, expired, made_up)
    assert p.daemon.metric("archipel_carriages") == 0
    there, here = (re.sub(r"\x1b\[[0-9;]*m", "", d.log.read_text()) for d in (p.agent, p.daemon))
    for why in ("somebody else's", "was used already", "has expired", "is not known"):
        assert why in there, f"the log of h2 does not say {why!r}"
    assert "there is no link to that host" in here and "passes on to another host" in here
    for log in (there, here):
        assert secret not in log and path.rsplit("/", 1)[1] not in log, "a log tells how to open it"


def test_a_host_that_dies_is_told_to_the_browser_and_opens_again(p):
    s = serial(p)
    path, secret, _ = volume_ticket(p, "upload", "dead.raw")
    line = begin_sending(p, path, secret, p.content.read_bytes()[: 3 * MIB])
    arrived(p, "dead.raw", 3 * MIB)
    p.agent.kill(signal.SIGKILL)
    code, reason = s.ended()
    assert code == CUT and "lost" in reason, (code, reason)
    answer = line.getresponse()
    assert answer.status == 503 and b"went away" in answer.read(), answer.status
    p.agent.start()
    p.cluster.connected()
    p.daemon.wait_state("web1", "running", 30)
    serial(p).close()
    done = archipel(p, "volume", "upload", "own", "dead.raw", "--host", "h2", "--file", p.content, "--resume")
    assert (p.own / "dead.raw").read_bytes() == p.content.read_bytes(), done.stderr


def test_an_exchange_that_stops_says_so(p):
    s = serial(p)
    p.daemon.process.send_signal(signal.SIGTERM)
    code, reason = s.ended()
    assert code == CUT and reason == "the exchange is stopping; open it again when it is back", (code, reason)
    p.daemon.process.wait(20)
    p.daemon.start()
    p.cluster.connected()
    p.daemon.wait_state("web1", "running", 30)
    serial(p).close()


def test_the_page_of_the_exchange_shows_the_other_hosts_screen_and_serial_line(p):
    try:
        console_page.browser_or_skip()
    except Skipped as e:
        return f"not looked at: {e}"
    until(lambda: len(p.daemon.json("domain", "screenshot", "web1")["base64"]) > 2500, 60, "text on the screen", pause=0.5)
    # In the network of h1, and in nothing else of it.
    console_page.looked_at(p, lambda *command: ["nsenter", "-t", str(p.h1.keeper.pid), "-n", "--", *command])
    nobody(p)
