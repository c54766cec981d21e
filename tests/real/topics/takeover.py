"""Two exchanges that stand by for each other over a real etcd of three members, and agents elsewhere.

    one: exchange + agent alpha --+               +-- far: agent of a real libvirt with a guest that runs
                                  +-- etcd x 3    |
    two: exchange + agent beta ---+               +-- many: agent of a thousand machines of the test driver

A person lists and follows events with both addresses in ARCHIPEL_SERVER.
"""

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
import uuid

from harness.base import Late, tail, until
from harness.daemon import CELL, Daemon, EventStream
from harness.etcd import Etcd
from harness.libvirt_host import LibvirtHost
from harness.raw import Raw, Tcp
from topics.crash import answer_of
from topics.thousand import node

MACHINES = 1000
SECRET = "one secret for an agent"
WITHIN = 20  # Seconds, on a busy machine and without optimisation; what it took is printed.


class Parts:
    def server(self):
        return ",".join(f"127.0.0.1:{d.xmpp}" for d in (self.one, self.two))

    def roles(self):
        return {d: health(d).get("exchange", {}).get("role") for d in (self.one, self.two)}

    def active(self):
        found = [d for d, role in self.roles().items() if role == "active"]
        return found[0] if len(found) == 1 else None

    def other(self, daemon):
        return self.two if daemon is self.one else self.one

    def machines(self):
        """What the person sees of the hosts that are not under test, by name."""
        done = self.one.cli("--json", "domain", "list", server=self.server(), check=False, timeout=30)
        if done.returncode != 0:
            return {}
        return {m["name"]: m["state"] for m in json.loads(done.stdout) if m["host"] in ("far", "many")}

    def complete(self):
        found = self.machines()
        return len(found) == MACHINES + 1 and "unknown" not in found.values()

    def change(self):
        """A change of a machine; it is started and paused in turn."""
        self.step = getattr(self, "step", 0) + 1
        verb = "resume" if self.step % 2 == 0 else "pause"
        return self.one.cli("domain", verb, "m0001", server=self.server(), check=False, timeout=30)


def health(daemon):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.http}/health", timeout=2) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
    except OSError:
        return {}


def setup(stack, work):
    p = Parts()
    p.etcd = stack.enter_context(Etcd(work))
    p.host = stack.enter_context(LibvirtHost(work, "host1"))
    p.guest = f"{p.host.define('guest')}@{CELL}"
    tiny = work / "tiny.xml"
    tiny.write_text(node(0))
    full = work / "full.xml"
    full.write_text(node(MACHINES))
    secret = work / "agent.secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    urls = ", ".join(f'"{url}"' for url in p.etcd.urls)
    for name, host in (("one", "alpha"), ("two", "beta")):
        daemon = Daemon(work, {host: f"test://{tiny}"}, name=name, accounts=False, more={"cluster": f"etcd = [{urls}]\nlease_seconds = 2"})
        setattr(p, name, daemon)
    # The pages know each other.
    pages = ", ".join(f'"http://127.0.0.1:{d.http}"' for d in (p.one, p.two))
    for daemon in (p.one, p.two):
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace(f"etcd = [{urls}]", f"etcd = [{urls}]\npages = [{pages}]"))
    p.one.account("add", f"admin@{CELL}", "--role", "admin")
    for name in ("far", "many"):
        p.one.account("add", f"hv.{name}", "--role", "node", password=SECRET)
    stack.enter_context(p.one)
    until(lambda: p.active() is p.one, 20, "the first exchange to lead")
    stack.enter_context(p.two)
    servers = ", ".join(f'"127.0.0.1:{d.xmpp}"' for d in (p.one, p.two))
    for name, uri in (("far", p.host.uri), ("many", f"test://{full}")):
        agent = Daemon(
            work, {name: uri}, name=name, roles=["agent"], accounts=False,
            more={"exchange": f'server = [{servers}]\npassword_file = "{secret}"'},
        )
        stack.enter_context(agent)
    until(p.complete, 30, "all machines to be listed", pause=0.1)
    p.one.cli("domain", "start", "guest", server=p.server())
    p.host.booted("guest")
    p.pid = p.host.qemu_pid("guest")
    p.events = stack.enter_context(EventStream(p.one, p.change, server=p.server()))
    return p


def taken_over(p, before, began):
    """Waits until the other exchange serves and the person sees everything; in words how long that took."""
    until(lambda: health(p.other(before)).get("exchange", {}).get("role") == "active", 15, "the other to lead", pause=0.02)
    led = time.monotonic() - began
    until(p.complete, 20, f"everything to be seen again\n{tail(p.other(before).log)}", pause=0.02)
    seen = time.monotonic() - began
    mark = p.events.seen.mark()
    def told():
        # Whoever follows events may come back a moment later than whoever asks, and is then shown the change in its snapshot.
        assert p.change().returncode == 0
        try:
            return p.events.seen.wait(lambda e: e["entity"].startswith("00000000-0000-4000-9000-000000000001@"), mark, 1)
        except Late:
            return None
    until(told, 10, "an event after the takeover")
    assert p.host.qemu_pid("guest") == p.pid, "the guest was touched"
    assert seen < WITHIN, f"it took {seen:.1f} s"
    return f"{MACHINES + 1} machines; the other led after {led:.1f} s, all was seen again after {seen:.1f} s"


def test_a_standby_has_no_port_says_who_leads_and_its_agent_is_in_the_cell(p):
    assert p.active() is p.one
    standby = health(p.two)["exchange"]
    assert standby["role"] == "standby", standby
    assert f"127.0.0.1:{p.one.xmpp}" == until(lambda: health(p.two)["exchange"]["active"], 10, "who leads")["address"]
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", p.two.xmpp)) != 0, "a standby must not take connections"
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{p.two.http}/", timeout=5)
        raise AssertionError("a standby shows the page")
    except urllib.error.HTTPError as error:
        assert error.code == 503 and f"http://127.0.0.1:{p.one.http}" in error.read().decode()
    assert "archipel_exchange_active 0" in p.two.get("/metrics") and "archipel_exchange_active 1" in p.one.get("/metrics")
    hosts = {h["name"] for h in p.one.json("hypervisor", "list", server=p.server())}
    assert hosts == {"alpha", "beta", "far", "many"}, hosts
    links = p.one.get("/.well-known/host-meta.json")
    assert f"ws://127.0.0.1:{p.two.http}/xmpp-websocket" in links, links


def test_a_killed_exchange_is_succeeded(p):
    began = time.monotonic()
    p.one.kill()
    said = taken_over(p, p.one, began)
    p.one.start()
    until(lambda: p.roles()[p.one] == "standby", 20, "the one that was killed to stand by")
    return said


def test_a_stopped_exchange_is_succeeded_and_steps_down_when_it_wakes_up(p):
    before = p.active()
    began = time.monotonic()
    before.process.send_signal(signal.SIGSTOP)
    try:
        said = taken_over(p, before, began)
    finally:
        before.process.send_signal(signal.SIGCONT)
    until(lambda: p.roles()[before] == "standby", 10, "the sleeper to stand by")
    assert "steps down" in before.log.read_text()
    assert p.active() is p.other(before) and p.complete()
    return said


def test_an_acknowledged_operation_is_neither_lost_nor_run_twice(p):
    before, machine, operation = p.active(), p.guest, str(uuid.uuid4())
    raw = Raw(Tcp(before.xmpp)).login("twice")
    first = answer_of(raw.command(machine, "domain.pause", "{}", operation))
    raw.close()
    before.kill()
    until(lambda: p.active() is p.other(before), 15, "the other to lead", pause=0.02)
    until(p.complete, 20, "everything to be seen again", pause=0.02)
    p.one.cli("domain", "resume", "guest", server=p.server())
    until(lambda: p.host.state("guest") == "running", 10, "the guest to run")
    raw = Raw(Tcp(p.active().xmpp)).login("twice")
    again = answer_of(raw.command(machine, "domain.pause", "{}", operation))
    raw.close()
    assert again == first, (first, again)
    assert p.host.state("guest") == "running", "the repeated operation was carried out again"
    assert p.host.qemu_pid("guest") == p.pid
    before.start()
    until(lambda: p.roles()[before] == "standby", 20, "it to stand by")


def test_an_orderly_end_hands_over_at_once(p):
    before = p.active()
    began = time.monotonic()
    before.process.terminate()
    said = taken_over(p, before, began)
    before.process.wait(20)
    before.start()
    until(lambda: p.roles()[before] == "standby", 20, "it to stand by")
    return said


def test_etcds_leader_and_the_active_exchange_die_together(p):
    before = p.active()
    until(lambda: p.etcd.leader() is not None, 10, "a leader of etcd")
    lost = p.etcd.leader()
    began = time.monotonic()
    p.etcd.processes[lost].kill()
    before.process.kill()
    p.etcd.kill(lost)
    before.process.wait(20)
    said = taken_over(p, before, began)
    p.etcd.start(lost)
    p.etcd.well()
    before.start()
    until(lambda: p.roles()[before] == "standby", 20, "it to stand by")
    return said


def test_one_member_of_etcd_lost_is_not_noticed(p):
    before, epoch = p.active(), health(p.active())["exchange"]["epoch"]
    lost = until(p.etcd.leader, 10, "a leader of etcd") if p.etcd.leader() is None else p.etcd.leader()
    p.etcd.kill(lost)
    end, changes, slowest = time.monotonic() + 6, 0, 0
    while time.monotonic() < end:
        began = time.monotonic()
        done = p.change()
        slowest = max(slowest, time.monotonic() - began)
        assert done.returncode == 0, f"a change was refused: {done.stderr}"
        changes += 1
    assert (p.active(), health(before)["exchange"]["epoch"]) == (before, epoch)
    p.etcd.start(lost)
    p.etcd.well()
    return f"{changes} changes meanwhile, the slowest in {slowest:.1f} s"


def test_etcd_without_majority_freezes_changes_and_harms_no_guest(p):
    before = p.active()
    for member in (0, 1):
        p.etcd.kill(member)
    def refused():
        done = p.change()
        return done if done.returncode != 0 else None
    done = until(refused, 30, "changes to be refused")
    assert done.returncode == 69 and "changes are frozen" in done.stderr and "guests run on" in done.stderr, (done.returncode, done.stderr)
    assert p.complete(), "what is known is not shown any more"
    assert any("frozen" in reason for reason in health(before)["reasons"]), health(before)
    assert p.host.qemu_pid("guest") == p.pid
    os.kill(p.pid, 0)
    for member in (0, 1):
        p.etcd.start(member)
    p.etcd.well()
    began = time.monotonic()
    until(lambda: p.change().returncode == 0, 30, "changes to be taken again")
    until(p.complete, 20, "everything to be seen", pause=0.05)
    assert p.host.qemu_pid("guest") == p.pid
    return f"changes were taken {time.monotonic() - began:.1f} s after etcd was back"
