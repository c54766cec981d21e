"""XMPP by hand, over TCP or WebSocket: for what no well-behaved client does (malformed XML, floods), and for XEP-0198 where the test
itself must hold the counters."""

import base64
import hashlib
import hmac
import json
import os
import queue
import re
import socket
import struct
import threading
import time
import xml.etree.ElementTree as ET

from .base import Late
from .daemon import ADMIN, CELL, PASSWORD

CLIENT, STREAMS, FRAMING = "jabber:client", "http://etherx.jabber.org/streams", "urn:ietf:params:xml:ns:xmpp-framing"
SASL, SM = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:xmpp:sm:3"
JSON, FEED = "urn:xmpp:json:0", "urn:archipel:feed:0"
STANZAS = {f"{{{CLIENT}}}{name}" for name in ("iq", "message", "presence")}


class Tcp:
    """A stream over TCP: one document whose children are the elements."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def open(self, cell=CELL):
        self.parser, self.depth = ET.XMLPullParser(["start", "end"]), 0
        self.send(f"<?xml version='1.0'?><stream:stream to='{cell}' version='1.0' xmlns='{CLIENT}' xmlns:stream='{STREAMS}'>")

    def send(self, text):
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def elements(self):
        """The elements that arrive, until the stream ends."""
        while data := self._receive():
            parser = self.parser
            parser.feed(data)
            for kind, element in parser.read_events():
                self.depth += 1 if kind == "start" else -1
                if kind == "end" and self.depth == 1:
                    yield element
                if self.parser is not parser:
                    break

    def _receive(self):
        try:
            return self.socket.recv(65536)
        except OSError:
            return b""

    def close(self):
        self.socket.close()


class WebSocket:
    """A stream over WebSocket (RFC 6455, RFC 7395): each message is one element."""

    def __init__(self, port, origin=None):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            (
                f"GET /xmpp-websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Origin: {origin or f'http://127.0.0.1:{port}'}\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
            ).encode()
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            data = self.socket.recv(4096)
            if not data:
                break
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.status = int(head.split()[1]) if head else 0
        if self.status == 101:
            accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
            assert accept in head, "the server did not prove that it speaks WebSocket"
            assert re.search(rb"sec-websocket-protocol: *xmpp", head, re.I), "the server did not choose the subprotocol xmpp"

    def open(self, cell=CELL):
        self.send(f"<open xmlns='{FRAMING}' to='{cell}' version='1.0'/>")

    def send(self, text, opcode=1):
        data = text.encode() if isinstance(text, str) else text
        mask = os.urandom(4)
        size = len(data)
        head = bytes([0x80 | opcode])
        head += bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size) if size < 65536 else b"\xff" + struct.pack(">Q", size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        masked = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big") if size else b""
        self.socket.sendall(head + mask + masked)

    def _take(self, count):
        while len(self.buffer) < count:
            try:
                data = self.socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise EOFError
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def elements(self):
        message = b""
        try:
            while True:
                first, size = self._take(2)
                size &= 0x7F
                if size == 126:
                    size = struct.unpack(">H", self._take(2))[0]
                elif size == 127:
                    size = struct.unpack(">Q", self._take(8))[0]
                data = self._take(size)
                opcode = first & 0x0F
                if opcode == 9:
                    self.send(data, 10)
                elif opcode == 8:
                    return
                elif opcode in (0, 1):
                    message += data
                    if first & 0x80:
                        yield ET.fromstring(message)
                        message = b""
        except EOFError:
            return

    def close(self):
        self.socket.close()


class Raw:
    """One stream by hand. `h` counts what arrived since XEP-0198 was enabled."""

    def __init__(self, transport, jid=ADMIN, password=PASSWORD):
        self.t, self.jid, self.password = transport, jid, password
        self.arrived = queue.Queue()
        self.kept = []
        self.counting, self.h, self.ids = False, 0, 0
        self.events, self.pushes = [], []
        self.t.open()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for element in self.t.elements():
                if self.counting and element.tag in STANZAS:
                    self.h += 1
                if element.tag == f"{{{SM}}}enabled":
                    self.counting = True
                self._collect(element)
                self.arrived.put(element)
        except (ET.ParseError, AssertionError) as e:
            self.arrived.put(e)
        self.arrived.put(None)

    def _collect(self, element):
        for item in element.iterfind(f"{{http://jabber.org/protocol/pubsub#event}}event//*[@node='{FEED}']/*"):
            self.pushes.append(int(item.get("id")))
            for document in item.iterfind(f"{{{JSON}}}json"):
                value = json.loads(document.text)
                self.events += value if isinstance(value, list) else [value]

    def send(self, text):
        self.t.send(text)

    def next(self, fits, seconds=10, what="an element"):
        """The next element that fits; others are passed over. None stands for the end of the stream."""
        end = time.monotonic() + seconds
        passed = []
        while (left := end - time.monotonic()) > 0:
            try:
                element = self.arrived.get(timeout=left)
            except queue.Empty:
                break
            if element is None or isinstance(element, Exception):
                if fits(None):
                    return None
                raise AssertionError(f"the stream ended while waiting for {what}; before that: {passed[-4:]}")
            if fits(element):
                return element
            passed.append(ET.tostring(element, encoding="unicode")[:300])
        raise Late(f"{what} did not arrive within {seconds} s; arrived: {passed[-4:]}")

    def tag(self, tag, seconds=10):
        return self.next(lambda e: e is not None and e.tag == tag, seconds, tag)

    def ended(self, seconds=10):
        """Waits for the end of the stream; gives back the name of the stream error, if there was one."""
        error = []

        def fits(e):
            if e is not None and e.tag == f"{{{STREAMS}}}error":
                error.append(e[0].tag.split("}")[1])
            return e is None

        self.next(fits, seconds, "the end of the stream")
        return error[0] if error else None

    # ------------------------------------------------------------ signing in

    def authenticate(self):
        """SCRAM-SHA-256; gives back the features after it, or raises PermissionError with the condition."""
        features = self.tag(f"{{{STREAMS}}}features")
        offered = [m.text for m in features.iter(f"{{{SASL}}}mechanism")]
        assert "SCRAM-SHA-256" in offered, f"offered are only {offered}"
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = f"n={self.jid.split('@')[0]},r={nonce}"
        self.send(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{base64.b64encode(('n,,' + first).encode()).decode()}</auth>")
        challenge = self._sasl("challenge")
        given = dict(part.split("=", 1) for part in challenge.split(","))
        assert given["r"].startswith(nonce), "the server did not keep our nonce"
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(given["s"]), int(given["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={given['r']}"
        signed = f"{first},{challenge},{final}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
        self.send(f"<response xmlns='{SASL}'>{base64.b64encode(f'{final},p={proof}'.encode()).decode()}</response>")
        success = self._sasl("success")
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        assert success == "v=" + base64.b64encode(server).decode(), "the server does not know the password either"
        self.t.open()
        return self.tag(f"{{{STREAMS}}}features")

    def _sasl(self, name):
        element = self.next(lambda e: e is not None and e.tag.startswith(f"{{{SASL}}}"), 10, f"SASL {name}")
        if element.tag.endswith("}failure"):
            raise PermissionError(element[0].tag.split("}")[1])
        assert element.tag.endswith("}" + name), element.tag
        return base64.b64decode(element.text or "").decode()

    def bind(self, resource="raw", present=False):
        answer = self.iq("set", None, f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>")
        # The server may choose another resource, for example while a suspended stream still holds this one.
        self.full = answer.findtext(".//{urn:ietf:params:xml:ns:xmpp-bind}jid")
        if present:
            self.send("<presence/>")
        return self

    def login(self, resource="raw"):
        self.authenticate()
        return self.bind(resource)

    # ------------------------------------------------------------ requests

    def iq(self, kind, to, payload, seconds=15):
        """Sends a request and gives back the answer, an error too."""
        self.ids += 1
        number = f"raw{self.ids}"
        target = f" to='{to}'" if to else ""
        self.send(f"<iq xmlns='{CLIENT}' type='{kind}' id='{number}'{target}>{payload}</iq>")
        return self.next(lambda e: e is not None and e.tag == f"{{{CLIENT}}}iq" and e.get("id") == number, seconds, f"the answer to {payload[:100]}")

    def command_xml(self, name, arguments="{}", operation=None):
        op = f"<op xmlns='urn:archipel:op:0' id='{operation}'/>" if operation else ""
        return (
            f"<command xmlns='http://jabber.org/protocol/commands' node='{name}' action='execute'>{op}"
            f"<json xmlns='{JSON}'>{arguments}</json></command>"
        )

    def command(self, to, name, arguments="{}", operation=None, seconds=15):
        return self.iq("set", to, self.command_xml(name, arguments, operation), seconds)

    def subscribe_feed(self):
        answer = self.iq(
            "set", CELL, f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='{FEED}' jid='{self.full}'/></pubsub>"
        )
        assert answer.get("type") == "result", ET.tostring(answer)

    # ------------------------------------------------------------ XEP-0198

    def enable(self):
        """Switches on acknowledgements and resumption; gives back (id, seconds it can be resumed)."""
        self.send(f"<enable xmlns='{SM}' resume='true'/>")
        enabled = self.tag(f"{{{SM}}}enabled")
        assert enabled.get("resume") in ("true", "1") and enabled.get("id"), "the server does not offer resumption"
        return enabled.get("id"), int(enabled.get("max") or 0)

    def resume(self, previous, token):
        """Takes up where `previous` stopped; True when the server still knew it. What was missed arrives after it."""
        self.authenticate()
        self.h, self.full, self.counting = previous.h, previous.full, True
        self.events, self.pushes = previous.events, previous.pushes
        self.send(f"<resume xmlns='{SM}' h='{previous.h}' previd='{token}'/>")
        answer = self.next(lambda e: e is not None and e.tag in (f"{{{SM}}}resumed", f"{{{SM}}}failed"), 10, "resumed or failed")
        return answer.tag.endswith("}resumed")

    def close(self):
        self.t.close()


def error_of(stanza):
    """(defined condition, fault kind, text) of an error stanza."""
    assert stanza.get("type") == "error", ET.tostring(stanza, encoding="unicode")
    error = stanza.find(f"{{{CLIENT}}}error")
    names = [e.tag.split("}")[1] for e in error if e.tag.startswith("{urn:ietf:params:xml:ns:xmpp-stanzas}")]
    condition = next(n for n in names if n != "text")
    fault = error.find("{urn:archipel:fault:0}fault")
    return condition, fault.get("kind") if fault is not None else None, error.findtext("{urn:ietf:params:xml:ns:xmpp-stanzas}text") or ""
