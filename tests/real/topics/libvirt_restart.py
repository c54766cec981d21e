"""libvirtd goes and comes back: control is lost and says so, nothing is called off, and events flow again afterwards."""

import os
import signal

from harness.daemon import CELL, Daemon, EventStream
from harness.libvirt_host import LibvirtHost


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.id = p.host.define("web1")
    p.host.define("web2")
    p.jid = f"{p.id}@{CELL}"
    p.host.virsh("start", "web1")
    p.host.booted("web1")
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    p.daemon.wait_state("web1", "running")
    p.events = stack.enter_context(EventStream(p.daemon, p.host.probe))
    return p


def hypervisor(p):
    return next(h for h in p.daemon.json("hypervisor", "list") if h["name"] == "alpha")


def back(p, mark):
    """Everything is right again and events flow."""
    p.events.seen.wait(lambda e: e["topic"] == "hypervisor.connected", mark, 30, "hypervisor.connected")
    assert p.daemon.wait_state("web1", "running")["condition"] == "ok"
    assert p.daemon.wait_state("web2", "shutoff")["condition"] == "ok"
    assert hypervisor(p)["state"] == "connected"
    for act, topic in (("suspend", "domain.paused"), ("resume", "domain.resumed")):
        mark = p.events.seen.mark()
        p.host.virsh(act, "web1")
        p.events.topic(p.jid, topic, mark)


def lost(p, mark):
    """Machines are unknown and nobody says that they are off."""
    p.events.seen.wait(lambda e: e["topic"] == "hypervisor.lost", mark, 10, "hypervisor.lost")
    known = set()
    for name in ("web1", "web2"):
        machine = p.daemon.wait_state(name, "unknown")
        known.add(machine["jid"])
        assert machine["condition"] == "control-lost", machine
        assert machine["why"], "the reason is missing"
    # The machine that proved that events flow may go only now.
    said = [e for e in p.events.seen.since(mark) if e["entity"] in known and e["topic"] in ("domain.stopped", "domain.crashed", "domain.undefined")]
    assert not said, f"a machine was called off although nothing is known: {said}"


def test_a_restart_of_libvirtd_loses_control_and_regains_it(p):
    pid, mark = p.host.qemu_pid("web1"), p.events.seen.mark()
    p.host.stop()
    lost(p, mark)
    fault = p.daemon.cli("domain", "pause", "web1", check=False)
    assert fault.returncode == 69, f"a command without libvirt must be 'unavailable': {fault}"
    p.host.start()
    back(p, mark)
    assert p.host.qemu_pid("web1") == pid


def test_a_killed_libvirtd_loses_control_and_regains_it(p):
    mark = p.events.seen.mark()
    p.host.stop(signal.SIGKILL)
    lost(p, mark)
    p.host.start()
    back(p, mark)


def test_what_happened_while_libvirt_was_away_is_known_afterwards(p):
    mark, pid = p.events.seen.mark(), p.host.qemu_pid("web1")
    p.host.stop()
    lost(p, mark)
    os.kill(pid, signal.SIGKILL)
    p.host.start()
    p.events.seen.wait(lambda e: e["topic"] == "hypervisor.connected", mark, 30)
    machine = p.daemon.wait_state("web1", "crashed", 15) if p.host.virsh("domstate", "--reason", "web1").startswith("crashed") else p.daemon.wait_state("web1", "shutoff", 15)
    p.daemon.cli("domain", "start", "web1")
    p.host.booted("web1")
    p.daemon.wait_state("web1", "running")
    return f"it was found {machine['state']}"


def test_a_killed_guest_is_seen_at_once(p):
    mark = p.events.seen.mark()
    os.kill(p.host.qemu_pid("web1"), signal.SIGKILL)
    p.events.seen.wait(
        lambda e: e["entity"] == p.jid and e["topic"] in ("domain.crashed", "domain.stopped"), mark, 10, "the end of web1"
    )
    assert p.daemon.machine("web1")["state"] in ("crashed", "shutoff")
