"""The page in Chromium drives a real QEMU guest through its life, as `ui/tests/journeys` tells it, and other surfaces see it."""

import json
import re
import shutil
import subprocess

from harness.base import ROOT, Skipped
from harness.daemon import ADMIN, CELL, PASSWORD, Daemon, EventStream, environment
from harness.libvirt_host import LibvirtHost

UI = ROOT / "ui"


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout if shutil.which("node") else "v0.0"
    if tuple(int(n) for n in re.findall(r"\d+", version)[:2]) < (20, 19):
        raise Skipped(f"the journeys need Node 20.19, here is {version.strip()}")
    if not (UI / "node_modules").is_dir():
        raise Skipped("the journeys need what npm ci in ui/ installs")
    p.host = stack.enter_context(LibvirtHost(work))
    p.jid = f"{p.host.define('web1')}@{CELL}"
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    p.daemon.wait_state("web1", "shutoff")
    p.events = stack.enter_context(EventStream(p.daemon, p.host.probe))
    return p


def test_the_page_drives_a_guest_and_everybody_sees_it(p):
    script = json.loads((UI / "package.json").read_text())["scripts"]["test:journey"]
    done = subprocess.run(
        ["npx", *script.split()], cwd=UI, capture_output=True, text=True, timeout=140,
        env=environment(
            ARCHIPEL_URL=f"http://127.0.0.1:{p.daemon.http}/", ARCHIPEL_JID=ADMIN, ARCHIPEL_PASSWORD=PASSWORD, ARCHIPEL_VM="web1",
            NO_PROXY="127.0.0.1,localhost", CI="1",
        ),
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    mine = [(e["topic"], e["cause"]) for e in p.events.seen.since() if e["entity"] == p.jid]
    for topic in ("domain.started", "domain.paused", "domain.resumed", "domain.stopped"):
        assert (topic, {"person": ADMIN}) in mine, f"{topic} by {ADMIN} did not reach archipel events: {mine}"
    figures = re.findall(r"^(.+?: .*\d+ ms.*)$", done.stdout, re.M)
    return "; ".join(f.strip() for f in figures[:4]) or None
