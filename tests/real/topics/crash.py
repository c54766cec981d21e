"""`kill -9` of archipeld with three guests running: the guests do not notice, and the next archipeld knows them all.

Also the hard part of "at most once": killed between the acceptance of an operation and its answer, the daemon finds out from libvirt
what became of it, and says so once and for all.
"""

import os
import signal
import uuid

from harness.base import until
from harness.daemon import ADMIN, CELL, Daemon
from harness.libvirt_host import LibvirtHost
from harness.raw import Raw, Tcp, error_of
from harness.xmpp import Client

GUESTS = ("web1", "web2", "web3")


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.ids = {name: p.host.define(name) for name in GUESTS}
    for name in GUESTS:
        p.host.virsh("start", name)
    for name in GUESTS:
        p.host.booted(name)
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    for name in GUESTS:
        p.daemon.wait_state(name, "running")
    return p


def answer_of(stanza):
    """What a command came to, in a form that can be compared."""
    if stanza.get("type") == "error":
        return error_of(stanza)
    return stanza.findtext(".//{urn:xmpp:json:0}json")


def asked_again(p, machine, operation, resource):
    """The answer to an operation that was broken off, which is the same however often it is asked for."""
    raw = Raw(Tcp(p.daemon.xmpp)).login(resource)
    answers = [answer_of(raw.command(machine, "domain.pause", "{}", operation)) for _ in range(3)]
    raw.close()
    assert answers[0] == answers[1] == answers[2], f"the answer changed: {answers}"
    return answers[0]


def test_guests_survive_kill_9_and_are_adopted_with_the_right_states(p):
    pids = {name: p.host.qemu_pid(name) for name in GUESTS}
    before = {name: p.host.beats(name) for name in GUESTS}
    p.daemon.kill()
    # What happens while nobody looks must be known afterwards.
    p.host.virsh("suspend", "web2")
    for name in ("web1", "web3"):
        until(lambda: p.host.beats(name)[0] > before[name][0] + 3, 10, f"{name} to count on without us")
    p.daemon.start()
    for name, state in (("web1", "running"), ("web2", "paused"), ("web3", "running")):
        p.daemon.wait_state(name, state)
    assert {name: p.host.qemu_pid(name) for name in GUESTS} == pids, "a guest was started anew"
    for name in ("web1", "web3"):
        lines, count = p.host.beats(name)
        assert lines == count + 1, f"{name} began to count anew"
    p.daemon.cli("domain", "resume", "web2")
    p.daemon.wait_state("web2", "running")


def test_numbers_of_events_grow_over_a_crash(p):
    before = p.daemon.machine("web1")
    p.daemon.kill()
    p.daemon.start()
    after = p.daemon.wait_state("web1", "running")
    assert (after["epoch"], after["seq"]) > (before["epoch"], before["seq"]), (before, after)
    assert after["epoch"] == before["epoch"], "a restart is no change of ownership"


def test_the_same_operation_twice_gets_the_first_answer(p):
    machine, operation = f"{p.ids['web1']}@{CELL}", str(uuid.uuid4())
    raw = Raw(Tcp(p.daemon.xmpp)).login("twice")
    first = answer_of(raw.command(machine, "domain.pause", "{}", operation))
    p.daemon.wait_state("web1", "paused")
    p.daemon.cli("domain", "resume", "web1")
    p.daemon.wait_state("web1", "running")
    again = answer_of(raw.command(machine, "domain.pause", "{}", operation))
    raw.close()
    assert again == first, (first, again)
    assert p.host.state("web1") == "running", "the repeated operation was carried out again"


def test_the_same_operation_with_another_content_is_refused(p):
    machine, operation = f"{p.ids['web1']}@{CELL}", str(uuid.uuid4())
    raw = Raw(Tcp(p.daemon.xmpp)).login("twisted")
    assert raw.command(machine, "domain.note", '{"text":"one"}', operation).get("type") == "result"
    condition, kind, _ = error_of(raw.command(machine, "domain.note", '{"text":"two"}', operation))
    raw.close()
    assert kind in ("conflict", "invalid-request"), (condition, kind)
    assert p.daemon.machine("web1")["note"] == "one"


def test_an_operation_interrupted_by_kill_9_is_answered_once(p):
    machine, operation = f"{p.ids['web3']}@{CELL}", str(uuid.uuid4())
    virsh = p.host.watch()
    raw = Raw(Tcp(p.daemon.xmpp)).login("interrupted")
    # libvirt stands still, so the operation is accepted and cannot end.
    p.host.freeze()
    raw.send(f"<iq type='set' id='cut' to='{machine}'>{raw.command_xml('domain.pause', '{}', operation)}</iq>")
    until(lambda: operation_seen(p, operation), 5, "the operation to be written down")
    p.daemon.kill()
    raw.close()
    p.host.thaw()
    p.daemon.start()
    p.daemon.wait_state("web1", "running")
    answer = asked_again(p, machine, operation, "afterwards")
    paused = p.host.state("web3") == "paused"
    said_done = isinstance(answer, str)
    assert paused == said_done, f"the guest is {p.host.state('web3')} and the answer is {answer}"
    times = sum("'web3'" in line and "Suspended" in line for line in virsh.since())
    assert times == int(paused), f"it was carried out {times} times"
    if paused:
        p.host.virsh("resume", "web3")
    p.daemon.wait_state("web3", "running")
    return "it had been done" if paused else "it had not been done"


def test_an_operation_that_libvirt_carried_out_before_kill_9_is_answered_as_done(p):
    machine, operation = f"{p.ids['web2']}@{CELL}", str(uuid.uuid4())
    virsh = p.host.watch()
    raw = Raw(Tcp(p.daemon.xmpp)).login("overtaken")
    # The guest's QEMU stands still, so libvirt has the call and cannot end it. Then we stand still, QEMU goes on, libvirt
    # carries it out, we die: nobody of us has seen the answer.
    qemu = p.host.qemu_pid("web2")
    os.kill(qemu, signal.SIGSTOP)
    raw.send(f"<iq type='set' id='cut' to='{machine}'>{raw.command_xml('domain.pause', '{}', operation)}</iq>")
    until(lambda: p.host.virsh("domcontrol", "web2") != "ok", 5, "libvirt waiting for QEMU")
    p.daemon.process.send_signal(signal.SIGSTOP)
    os.kill(qemu, signal.SIGCONT)
    virsh.wait(lambda line: "'web2'" in line and "Suspended" in line, 0, 10, "libvirt carrying it out")
    p.daemon.kill()
    raw.close()
    p.daemon.start()
    p.daemon.wait_state("web2", "paused")
    answer = asked_again(p, machine, operation, "afterwards2")
    assert isinstance(answer, str), f"it was done, and the answer is {answer}"
    assert sum("'web2'" in line and "Suspended" in line for line in virsh.since()) == 1
    p.host.virsh("resume", "web2")
    p.daemon.wait_state("web2", "running")


def operation_seen(p, operation):
    """Whether the id is on disk; SQLite may keep it as text or as bytes."""
    wanted = operation.encode(), uuid.UUID(operation).bytes
    return any(w in f.read_bytes() for f in p.daemon.data.rglob("*") if f.is_file() for w in wanted)


def test_sigterm_ends_it_soon_and_harms_no_guest(p):
    pids = {name: p.host.qemu_pid(name) for name in GUESTS}
    with Client(p.daemon, ADMIN) as client:
        client.subscribe_feed()
        p.daemon.process.terminate()
        assert p.daemon.process.wait(15) == 0, "an orderly end has exit code 0"
    assert {name: p.host.qemu_pid(name) for name in GUESTS} == pids
    p.daemon.start()
    for name in GUESTS:
        p.daemon.wait_state(name, "running")
