"""The screen and the serial line of a real Linux guest in the page, in Chromium, as `ui/tests/consoles` tells it."""

import json
import re
import shutil
import subprocess

from harness import linux
from harness.base import ROOT, Skipped, until
from harness.daemon import ADMIN, PASSWORD, Daemon, environment
from harness.libvirt_host import LibvirtHost

UI = ROOT / "ui"


class Parts:
    pass


def browser_or_skip():
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout if shutil.which("node") else "v0.0"
    if tuple(int(n) for n in re.findall(r"\d+", version)[:2]) < (20, 19):
        raise Skipped(f"the page's tests need Node 20.19, here is {version.strip()}")
    if not (UI / "node_modules").is_dir():
        raise Skipped("the page's tests need what npm ci in ui/ installs")


def setup(stack, work):
    p = Parts()
    browser_or_skip()
    p.host = stack.enter_context(LibvirtHost(work))
    p.id = linux.define(p.host, "web1")
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    p.daemon.wait_state("web1", "shutoff")
    p.daemon.cli("domain", "start", "web1")
    # Its screen has text once it has booted: the picture gets larger.
    until(lambda: len(p.daemon.json("domain", "screenshot", "web1")["base64"]) > 2500, 60, "text on the screen", pause=0.5)
    return p


def looked_at(p, inside=lambda *command: command):
    """The page's own tests of consoles, with a browser wherever `inside` puts it."""
    script = json.loads((UI / "package.json").read_text())["scripts"]["test:consoles"]
    done = subprocess.run(
        inside("npx", *script.split()), cwd=UI, capture_output=True, text=True, timeout=140,
        env=environment(
            ARCHIPEL_URL=f"http://127.0.0.1:{p.daemon.http}/", ARCHIPEL_JID=ADMIN, ARCHIPEL_PASSWORD=PASSWORD, ARCHIPEL_VM=p.id,
            NO_PROXY="127.0.0.1,localhost", CI="1",
        ),
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"


def test_the_page_shows_the_screen_and_the_serial_line(p):
    looked_at(p)
