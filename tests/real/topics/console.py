"""The screen and the serial line of a real Linux guest: through the daemon's WebSocket, in the terminal, in Chromium. A ticket that is used,
expired, stolen or made up opens nothing, and the agent's log says which it was.

    archipel domain console ──┐
    page in Chromium ─────────┼── ticket (XMPP) ──> /console/<token> ──> archipeld ──> libvirt ──> QEMU: serial line, screen
    a WebSocket by hand ──────┘
"""

import base64
import hashlib
import os
import pty
import re
import secrets
import select
import struct
import subprocess
import time

from harness import linux
from harness.base import BIN, until
from harness.daemon import ADMIN, CELL, VIEWER, Daemon, EventStream
from harness.libvirt_host import LibvirtHost

BOB = f"bob@{CELL}"
TAKEN_OVER, FAILED = 4001, 4002


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.jid = f"{linux.define(p.host, 'web1')}@{CELL}"
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    p.daemon.account("add", BOB, "--role", "admin")
    p.daemon.wait_state("web1", "shutoff")
    p.events = stack.enter_context(EventStream(p.daemon, p.host.probe))
    off = p.daemon.cli("domain", "console", "web1", check=False)
    assert off.returncode == 65 and "is off" in off.stderr, off
    p.daemon.cli("domain", "start", "web1")
    return p


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def ticket(p, kind, *options, jid=ADMIN, secret=None):
    """Asks for a ticket; gives back its path and the secret."""
    secret = secret or base64url(secrets.token_bytes(32))
    proof = base64url(hashlib.sha256(secret.encode()).digest())
    offer = p.daemon.json("domain", "console", "web1", "--kind", kind, f"--proof={proof}", *options, jid=jid)
    return offer["ticket"]["path"], secret


class Socket:
    """A console's WebSocket by hand."""

    def __init__(self, p, path, secret, origin=None):
        self.tcp = p.daemon.connect()
        more = f"Origin: {origin}\r\n" if origin else ""
        self.tcp.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{p.daemon.http}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: binary, archipel.{secret}\r\n\r\n".encode()
        )
        self.bytes = b""
        while b"\r\n\r\n" not in self.bytes:
            self._more()
        self.head, self.bytes = self.bytes.split(b"\r\n\r\n", 1)
        self.status = int(self.head.split()[1])
        self.said, self.code, self.reason = b"", None, None

    def _more(self):
        got = self.tcp.recv(65536)
        if not got:
            raise EOFError
        self.bytes += got

    def send(self, data):
        self.tcp.sendall(bytes([0x82, 0x80 | len(data)]) + bytes(4) + data)

    def step(self):
        """Takes one frame; False at the end."""
        while True:
            if len(self.bytes) >= 2:
                length, at = self.bytes[1], 2
                if length == 126 and len(self.bytes) >= 4:
                    length, at = struct.unpack(">H", self.bytes[2:4])[0], 4
                elif length == 127 and len(self.bytes) >= 10:
                    length, at = struct.unpack(">Q", self.bytes[2:10])[0], 10
                if (length < 126 or at > 2) and len(self.bytes) >= at + length:
                    first, payload, self.bytes = self.bytes[0], self.bytes[at:at + length], self.bytes[at + length:]
                    if first & 15 == 8:
                        self.code, self.reason = struct.unpack(">H", payload[:2])[0], payload[2:].decode()
                        return False
                    self.said += payload
                    return True
            try:
                self._more()
            except EOFError:
                return False

    def until(self, pattern, seconds=60):
        end = time.monotonic() + seconds
        self.tcp.settimeout(seconds)
        while not re.search(pattern, self.said):
            assert time.monotonic() < end and self.step(), f"{pattern} did not come: {self.said[-400:]} {self.code} {self.reason}"
        return self.said

    def ended(self):
        self.tcp.settimeout(20)
        while self.step():
            pass
        return self.code, self.reason

    def close(self):
        self.tcp.close()


def test_the_serial_prompt_answers_through_the_websocket(p):
    s = Socket(p, *ticket(p, "serial"))
    assert s.status == 101 and b"sec-websocket-protocol: binary" in s.head.lower(), s.head
    s.send(b"\r")
    s.until(rb"guest# ", 90)
    s.send(b"echo $((6*7))-answers\r")
    s.until(rb"42-answers")
    (one,) = p.daemon.json("domain", "viewers", "web1")
    assert (one["person"], one["kind"]) == (ADMIN, "serial"), one
    p.events.topic(p.jid, "domain.console-opened")
    mark = p.events.seen.mark()
    s.close()
    p.events.topic(p.jid, "domain.console-closed", mark)
    assert p.daemon.json("domain", "viewers", "web1") == []


def test_the_screen_speaks_rfb_without_any_listener(p):
    s = Socket(p, *ticket(p, "vnc"))
    s.until(rb"RFB 003\.00\d\n")
    assert b"<listen type='none'/>" in p.host.virsh("dumpxml", "web1").encode()
    # Another may look at the same time, and both are named.
    other = Socket(p, *ticket(p, "vnc", jid=BOB))
    other.until(rb"RFB ")
    assert sorted(w["person"] for w in p.daemon.json("domain", "viewers", "web1")) == [ADMIN, BOB]
    s.close()
    other.close()
    until(lambda: p.daemon.json("domain", "viewers", "web1") == [], 10, "both to have left", pause=0.1)


def test_a_serial_line_has_one_user_until_it_is_taken_over(p):
    first = Socket(p, *ticket(p, "serial"))
    assert first.status == 101
    busy = Socket(p, *ticket(p, "serial", jid=BOB))
    code, reason = busy.ended()
    assert code == FAILED and ADMIN in reason and "take it over" in reason, (code, reason)
    second = Socket(p, *ticket(p, "serial", "--take-over", jid=BOB))
    assert first.ended() == (TAKEN_OVER, f"{BOB} has taken it over")
    second.send(b"\recho still-$((1+1))\r")
    second.until(rb"still-2")
    second.close()
    until(lambda: p.daemon.json("domain", "viewers", "web1") == [], 10, "everybody to have left", pause=0.1)


def refusal(p, path, secret):
    s = Socket(p, path, secret)
    while True:
        try:
            s._more()
            if s.bytes.endswith(b"\n"):
                break
        except EOFError:
            break
    head = b"\n".join(line for line in s.head.splitlines() if not line.lower().startswith(b"date"))
    s.close()
    return s.status, head, s.bytes


def test_a_used_stolen_expired_or_made_up_ticket_opens_nothing(p):
    path, secret = ticket(p, "vnc")
    # Another person has seen the token, and has a secret of their own.
    stolen = refusal(p, path, base64url(secrets.token_bytes(32)))
    without = refusal(p, path, "")
    foreign_page = Socket(p, path, secret, origin="https://evil.example")
    assert foreign_page.status == 403
    owner = Socket(p, path, secret)
    assert owner.status == 101, "being stolen has not used it up"
    replayed = refusal(p, path, secret)
    owner.close()
    made_up = refusal(p, "/console/alpha~aaaaaaaaaaaaaaaaaaaaaa", secret)
    nonsense = refusal(p, "/console/x", secret)
    path, secret = ticket(p, "vnc")
    # Nothing tells when a ticket expires but its own time.
    end = time.monotonic() + 31
    while time.monotonic() < end:
        time.sleep(1)
    expired = refusal(p, path, secret)
    assert stolen[0] == 404
    assert len({stolen, without, replayed, made_up, nonsense, expired}) == 1, "one can be told from another"
    log = re.sub(r"\x1b\[[0-9;]*m", "", p.daemon.log.read_text())
    for why in ("somebody else's", "was used already", "has expired", "is not known"):
        assert why in log, f"the log does not say {why!r}"
    assert secret not in log and path.rsplit("/", 1)[1] not in log, "the log tells how to open it"


def test_a_viewer_may_look_at_a_picture_and_open_nothing(p):
    done = p.daemon.cli("domain", "console", "web1", "--kind", "vnc", "--proof", "a" * 43, jid=VIEWER, check=False)
    assert done.returncode == 77, done
    shot = p.daemon.json("domain", "screenshot", "web1", jid=VIEWER)
    png = base64.b64decode(shot["base64"])
    assert png.startswith(b"\x89PNG") and shot["width"] >= 640 and len(png) > 1000, (shot["width"], shot["height"], len(png))
    (p.host.work / "screen.png").write_bytes(png)
    small = p.daemon.json("domain", "screenshot", "web1", "--thumbnail", jid=VIEWER)
    assert small["width"] == 192 and len(small["base64"]) < len(shot["base64"]), small["width"]


def test_keys_and_text_arrive_on_the_screen(p):
    before = p.daemon.json("domain", "screenshot", "web1")["base64"]
    p.daemon.cli("domain", "send-key", "web1", "enter")
    p.daemon.cli("domain", "paste", "web1", "echo Pasted-{A..z}/~ > /dev/ttyS0", "--enter", "--wait")
    s = Socket(p, *ticket(p, "serial"))
    s.send(b"\r")
    s.until(rb"guest# ")
    # What went to the line before anybody listened is lost; so it is typed again now.
    p.daemon.cli("domain", "paste", "web1", "echo Pasted-{A..z}/~ > /dev/ttyS0", "--enter", "--wait")
    s.until(rb"Pasted-\{A\.\.z\}/~")
    s.close()
    assert p.daemon.json("domain", "screenshot", "web1")["base64"] != before
    wrong = p.daemon.cli("domain", "send-key", "web1", "anykey", check=False)
    assert wrong.returncode == 64 and "is no key" in wrong.stderr, wrong


def test_the_console_in_the_terminal_answers_and_ctrl_bracket_leaves(p):
    master, slave = pty.openpty()
    page = f"http://127.0.0.1:{p.daemon.http}"
    process = subprocess.Popen(
        [str(BIN / "archipel"), "domain", "console", "web1", "--take-over"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**p.daemon.login(), "ARCHIPEL_PAGE": page},
    )
    os.close(slave)
    said = b""

    def until_said(pattern):
        nonlocal said
        end = time.monotonic() + 30
        while not re.search(pattern, said):
            assert time.monotonic() < end, said
            if not select.select([master], [], [], 1)[0]:
                continue
            try:
                said += os.read(master, 4096)
            except OSError:
                raise AssertionError(f"it ended: {said}") from None

    try:
        until_said(rb"Ctrl-\] leaves")
        os.write(master, b"\r")
        until_said(rb"guest# ")
        os.write(master, b"echo from-the-$((3*3))-terminal\r")
        until_said(rb"from-the-9-terminal")
        # Ctrl-C goes to the guest and not to us. What says that it sleeps is what is to be interrupted: a shell that has not come so far yet
        # would swallow the key and sleep on.
        os.write(master, b"sh -c 'echo sleeps-$((1+1)); exec sleep 1000'\r")
        until_said(rb"sleeps-2")
        os.write(master, b"\x03echo still-$((2+2))-here\r")
        until_said(rb"still-4-here")
        os.write(master, b"\x1d")
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


def test_consoles_end_when_the_machine_stops(p):
    screen, line = Socket(p, *ticket(p, "vnc")), Socket(p, *ticket(p, "serial"))
    screen.until(rb"RFB ")
    p.daemon.cli("domain", "force-off", "web1", "--yes")
    assert screen.ended()[0] == 1000 and line.ended()[0] == 1000
    until(lambda: p.daemon.json("domain", "viewers", "web1") == [], 10, "nobody to watch", pause=0.1)
