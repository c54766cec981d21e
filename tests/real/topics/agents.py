"""A second archipeld that is only an agent, with its own libvirt, joins the cell over TCP.

    alpha: agent + exchange  <--- c2s stream, account hv.beta, XEP-0198 --->  beta: agent
"""

import os

from harness.base import until
from harness.daemon import CELL, Daemon, EventStream
from harness.libvirt_host import LibvirtHost

SECRET = "one secret for beta"
WINDOW = 2


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.one = stack.enter_context(LibvirtHost(work, "host1"))
    p.two = stack.enter_context(LibvirtHost(work, "host2"))
    p.near = p.one.define("near")
    p.far = f"{p.two.define('far')}@{CELL}"
    p.cell = stack.enter_context(Daemon(work, {"alpha": p.one.uri}, more={"xmpp": f"resume_seconds = {WINDOW}"}))
    p.cell.account("add", "hv.beta", "--role", "node", password=SECRET)
    secret = work / "beta.secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    p.agent = Daemon(
        work, {"beta": p.two.uri}, name="beta", roles=["agent"], accounts=False,
        more={"exchange": f'server = "127.0.0.1:{p.cell.xmpp}"\npassword_file = "{secret}"'},
    )
    stack.enter_context(p.agent)
    p.events = stack.enter_context(EventStream(p.cell, p.one.probe))
    return p


def test_its_machines_appear(p):
    machine = p.cell.wait_state("far", "shutoff", 20)
    assert machine["host"] == "beta" and machine["jid"] == p.far, machine
    assert {h["name"]: h["state"] for h in p.cell.json("hypervisor", "list")} == {"alpha": "connected", "beta": "connected"}


def test_its_machines_work(p):
    for verb, state in (("start", "running"), ("pause", "paused"), ("resume", "running")):
        p.cell.cli("domain", verb, "far")
        p.cell.wait_state("far", state)
    p.two.booted("far")
    mark = p.events.seen.mark()
    p.two.virsh("suspend", "far")
    p.events.topic(p.far, "domain.paused", mark)
    p.two.virsh("resume", "far")
    p.events.topic(p.far, "domain.resumed", mark)
    assert p.cell.wait_state("near", "shutoff")["host"] == "alpha"


def test_they_become_unreachable_when_it_is_killed_and_come_back(p):
    pid, mark = p.two.qemu_pid("far"), p.events.seen.mark()
    p.agent.kill()
    p.events.topic(p.far, "domain.unknown", mark, WINDOW + 20)
    machine = p.cell.wait_state("far", "unknown")
    assert machine["condition"] == "unreachable" and machine["why"], machine
    assert p.cell.wait_state("near", "shutoff")["condition"] == "ok", "the machines of the others do not care"
    assert p.cell.cli("domain", "pause", "far", check=False).returncode == 69, "a command to it must be 'unavailable'"
    os.kill(pid, 0)
    assert not [e for e in p.events.seen.since(mark) if e["entity"] == p.far and e["topic"] in ("domain.stopped", "domain.undefined")]
    p.two.virsh("suspend", "far")
    p.agent.start()
    machine = p.cell.wait_state("far", "paused", 20)
    assert machine["condition"] == "ok", machine
    assert p.two.qemu_pid("far") == pid
    p.cell.cli("domain", "resume", "far")
    p.cell.wait_state("far", "running")


def test_a_machine_removed_while_it_was_away_disappears(p):
    p.two.define("gone")
    p.cell.wait_state("gone", "shutoff")
    p.agent.kill()
    p.cell.wait_state("gone", "unknown", WINDOW + 20)
    p.two.virsh("undefine", "gone")
    mark = p.events.seen.mark()
    p.agent.start()
    p.events.seen.wait(lambda e: e["topic"] == "domain.undefined", mark, 20, "the end of what is gone")
    p.cell.wait_state("far", "running", 20)
    assert p.cell.machine("gone") is None


def test_the_agent_outlives_the_exchange(p):
    pid = p.two.qemu_pid("far")
    p.cell.kill()
    p.two.virsh("suspend", "far")
    p.cell.start()
    p.cell.wait_state("far", "paused", 30)
    assert p.two.qemu_pid("far") == pid and p.agent.process.poll() is None
    p.cell.cli("domain", "resume", "far")
    p.cell.wait_state("far", "running")


def test_a_wrong_secret_does_not_join(p):
    secret = p.agent.work / "wrong.secret"
    secret.write_text("not it\n")
    secret.chmod(0o600)
    p.cell.account("add", "hv.gamma", "--role", "node", password=SECRET)
    stranger = Daemon(
        p.agent.work.parent, {"gamma": "test:///default"}, name="gamma", roles=["agent"], accounts=False,
        more={"exchange": f'server = "127.0.0.1:{p.cell.xmpp}"\npassword_file = "{secret}"'},
    )
    stranger.start(ready=False)
    try:
        until(lambda: "password" in stranger.log.read_text() or stranger.process.poll() is not None, 15, "the refusal in the log")
        assert [h["name"] for h in p.cell.json("hypervisor", "list")].count("gamma") == 0
    finally:
        stranger.__exit__()
