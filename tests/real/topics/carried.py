"""Consoles and volumes of a host that nobody can reach, through the page of the exchange.

    browser, CLI --> h1: archipeld (agent h1 + exchange) <--XMPP port, twice--- h2: archipeld (agent); its HTTP port is on its own loopback
                                        '---- HTTP, over the second one -----^
"""

import base64
import hashlib
import http.client
import os
import re
import secrets
import signal
import subprocess
import time

from harness import linux
from harness.base import BIN, until
from harness.cluster import Cluster
from harness.daemon import ADMIN, CELL
from harness.hosts import NET
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
    p.jid = f"{linux.define(p.h2, 'web1')}@{CELL}"
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
