"""A soak with a seed: commands with operation ids on real guests, while archipeld is killed again and again, and libvirtd is killed,
restarted and made to stand still. What must hold, whatever happens:

- an operation has one outcome: once it was answered, every repetition gets the same answer;
- a command that was answered "done" took effect, and no operation took effect twice: QEMU's own logs tell how often each guest began and
  how often its power was cut, and that must lie between what was answered "done" and what was answered "done" or "unknown";
- no guest ends but by our own command;
- while libvirt is away machines are `unknown`, never `shutoff`;
- when all is quiet, our list is libvirt's list.

ARCHIPEL_SOAK_SEED repeats the choices of a run, ARCHIPEL_SOAK_SECONDS makes it longer.
"""

import json
import os
import pathlib
import random
import re
import signal
import threading
import time
import uuid

from harness.base import Late, until
from harness.daemon import CELL, Daemon
from harness.libvirt_host import LibvirtHost
from harness.raw import Raw, Tcp, error_of

MACHINES = ("one", "two", "three")
SECONDS = float(os.environ.get("ARCHIPEL_SOAK_SECONDS") or 30)
SEED = int(os.environ.get("ARCHIPEL_SOAK_SEED") or random.randrange(1 << 32))
# After these nobody knows whether it happened.
UNSURE = ("unavailable", "timeout", "internal")


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    print(f"     soak: seed {SEED}, {SECONDS:.0f} s", flush=True)
    p.host = stack.enter_context(LibvirtHost(work))
    p.ids = {name: p.host.define(name) for name in MACHINES}
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    p.faults = []
    return p


def log_of(p, name):
    file = pathlib.Path(p.host.work) / f"log/qemu/{name}.log"
    return file.read_text(errors="replace") if file.exists() else ""


def starts(p, name):
    return len(re.findall(r": starting up libvirt version", log_of(p, name)))


def ends(p, name):
    """Why the guest ended, each time."""
    return re.findall(r": shutting down, reason=([a-z]+)", log_of(p, name))


def listed(raw):
    """Our own list: state by name."""
    answer = raw.command(CELL, "domain.list", "{}", seconds=5)
    return {m["name"]: m["state"] for m in json.loads(answer.findtext(".//{urn:xmpp:json:0}json"))}


class Operation:
    def __init__(self, command, arguments):
        self.id, self.command, self.arguments, self.answer = str(uuid.uuid4()), command, arguments, None

    def kind(self):
        """`done`, or the kind of its fault."""
        return "done" if isinstance(self.answer, str) else self.answer[1] or self.answer[0]

    def __str__(self):
        return f"{self.command} {self.arguments} {self.id}: {self.answer}"


class Worker:
    """Sends random commands to one machine, each until it has an outcome, and old ones again."""

    def __init__(self, p, name):
        self.p, self.name, self.jid = p, name, f"{p.ids[name]}@{CELL}"
        self.dice = random.Random(f"{SEED}/{name}")
        self.raw, self.resources, self.done, self.resent = None, 0, [], 0

    def choose(self):
        kind = self.dice.choice(("start", "start", "force-off", "pause", "resume", "reset", "autostart", "note", "start", "force-off"))
        yes, number = self.dice.random() < 0.3, self.dice.randrange(1000)
        arguments = {"autostart": {"enabled": yes}, "note": {"text": f"note {number}"}, "start": {"paused": True} if yes else {}}
        return Operation(f"domain.{kind}", json.dumps(arguments.get(kind, {})))

    def ask(self, operation, deadline):
        """Asks until there is an answer other than `ask again`; gives it back, or None when time is up."""
        first = True
        while time.monotonic() < deadline:
            try:
                if self.raw is None:
                    self.resources += 1
                    self.raw = Raw(Tcp(self.p.daemon.xmpp)).login(f"{self.name}{self.resources}")
                self.resent += not first
                first = False
                answer = answer_of(self.raw.command(self.jid, operation.command, operation.arguments, operation.id, seconds=4))
                if isinstance(answer, str) or not not_begun(answer):
                    return answer
            except (OSError, AssertionError, PermissionError):
                if self.raw:
                    self.raw.close()
                self.raw = None
            # What refuses us at once must not be asked a thousand times a second.
            self.p.pulse.wait(0.02)
        return None

    def run(self):
        try:
            while not self.p.over.is_set():
                operation = self.choose()
                self.done.append(operation)
                operation.answer = self.ask(operation, time.monotonic() + 90)
                assert operation.answer, f"no answer within 90 s: {operation}"
                # Where control is lost nothing can be tried.
                self.p.pulse.wait(self.dice.random() * (0.5 if operation.kind() == "unavailable" else 0.1))
                if self.dice.random() < 0.5:
                    self.repeat(self.dice.choice(self.done[-8:]))
        except BaseException as e:
            self.p.faults.append(f"{self.name}: {e!r}")

    def repeat(self, operation):
        again = self.ask(operation, time.monotonic() + 90)
        if again != operation.answer:
            self.p.faults.append(f"{self.name}: another answer to {operation}\n  afterwards: {again}")


def answer_of(stanza):
    return error_of(stanza) if stanza.get("type") == "error" else stanza.findtext(".//{urn:xmpp:json:0}json")


def not_begun(answer):
    """Whether it is no outcome: the first one is under way still, or the cell does not have its agent or its list yet."""
    _, kind, text = answer
    return kind in ("busy", None) or any(t in text for t in ("is not known here, but", "the agent on", "its agent", "shutting down"))


def kill_archipeld(p, dice):
    p.daemon.kill()
    if dice.random() < 0.3:
        p.pulse.wait(dice.random() * 2)
    p.daemon.start(ready=False)
    return "archipeld killed"


def kill_libvirtd(p, dice):
    p.host.stop(signal.SIGKILL)
    away(p, 5)
    p.pulse.wait(dice.random() * 2)
    away(p, 5)
    p.host.start()
    return "libvirtd killed"


def freeze_libvirtd(p, dice):
    p.host.freeze()
    p.pulse.wait(1 + dice.random() * 3)
    if dice.random() < 0.5:
        p.daemon.kill()
        p.host.thaw() if dice.random() < 0.5 else None
        p.daemon.start(ready=False)
        p.pulse.wait(dice.random())
    p.host.thaw()
    return "libvirtd stood still"


def away(p, seconds):
    """While libvirt is away nothing may be told that nobody knows."""
    def unknown():
        try:
            raw = Raw(Tcp(p.daemon.xmpp)).login("observer")
            try:
                return [set(listed(raw).values())]
            finally:
                raw.close()
        except (OSError, AssertionError, PermissionError):
            return []
    # Right after its own start archipeld knows no machine, which is honest too.
    until(lambda: any(states <= {"unknown"} for states in unknown()), seconds, "every machine to be unknown while libvirt is away", 0.05)


def test_no_fault_of_ours_or_of_libvirt_harms_a_guest_or_repeats_an_operation(p):
    signal.alarm(int(SECONDS) + 180)
    dice = random.Random(f"{SEED}/chaos")
    # `pulse` is never set: waiting for it is how the chaos keeps its random pace.
    p.over, p.pulse = threading.Event(), threading.Event()
    workers = [Worker(p, name) for name in MACHINES]
    threads = [threading.Thread(target=w.run, daemon=True) for w in workers]
    for thread in threads:
        thread.start()
    happened, end = [], time.monotonic() + SECONDS
    try:
        while time.monotonic() < end and not p.faults:
            p.pulse.wait(dice.random() * 2.5)
            wrong = dice.choices((kill_archipeld, kill_libvirtd, freeze_libvirtd), (6, 2, 2))[0]
            happened.append(wrong(p, dice))
    finally:
        p.host.thaw()
        p.over.set()
        for thread in threads:
            thread.join(120)
    assert not p.faults, "\n".join([f"seed {SEED}"] + p.faults)
    assert p.daemon.process.poll() is None, f"archipeld ended by itself with {p.daemon.process.returncode}"
    p.daemon.ready()
    quiet(p)
    for worker in workers:
        for operation in worker.done:
            worker.repeat(operation)
        counts(p, worker)
    assert not p.faults, "\n".join([f"seed {SEED}"] + p.faults)
    operations = [o for w in workers for o in w.done]
    kinds = [o.kind() for o in operations]
    assert kinds.count("done") >= 5, f"too little happened to prove anything: {kinds}"
    tally = " ".join(f"{k}:{kinds.count(k)}" for k in sorted(set(kinds)))
    return f"seed {SEED}: {len(happened)} mishaps, {len(operations)} operations ({tally}), {sum(w.resent for w in workers)} sent again, " \
        f"{sum(starts(p, n) for n in MACHINES)} starts"


def test_a_libvirtd_that_stands_still_is_lost_and_neither_ends_us_nor_holds_up_our_end(p):
    p.host.freeze()
    try:
        # It takes connections and answers nothing; keepalive finds out. Machines are never called off meanwhile.
        away(p, 40)
        assert p.daemon.process.poll() is None, "archipeld ended because libvirtd stands still"
        p.daemon.process.terminate()
        assert p.daemon.process.wait(15) == 0, "an orderly end has exit code 0, whatever libvirtd does"
        p.daemon.start(ready=False)

        def told():
            try:
                raw = Raw(Tcp(p.daemon.xmpp)).login("reasons")
            except (OSError, AssertionError, PermissionError):
                return None
            answer = raw.command(CELL, "hypervisor.list", "{}", seconds=5)
            raw.close()
            return "not answered" in json.dumps([h.get("why") for h in json.loads(answer.findtext(".//{urn:xmpp:json:0}json"))])

        until(told, 15, "the reason why no machine is shown", 0.1)
        machine = answer_of(Raw(Tcp(p.daemon.xmpp)).login("asks").command(f"{p.ids['one']}@{CELL}", "domain.info"))
        assert machine[1] == "unavailable", f"a machine nobody has looked for yet was called gone: {machine}"
    finally:
        p.host.thaw()
    p.daemon.ready()
    quiet(p)


def quiet(p):
    """When nothing happens any more, our list is libvirt's list."""
    raw = Raw(Tcp(p.daemon.xmpp)).login("quiet")
    compared = {}

    def same():
        compared["libvirt"] = {name: p.host.state(name).replace("shut off", "shutoff") for name in MACHINES}
        compared["ours"] = listed(raw)
        return compared["libvirt"] == compared["ours"]

    try:
        until(same, 5, "our list to be libvirt's", 0.1)
    except Late as e:
        raise Late(f"seed {SEED}: {e}: {compared}") from None
    finally:
        raw.close()


def counts(p, worker):
    """No more happened than was asked for, and whatever was answered `done` did happen."""
    why = ends(p, worker.name)
    begun = starts(p, worker.name)
    for command, least, most in (("domain.start", begun, begun), ("domain.force-off", why.count("destroyed"), len(why))):
        asked = [o for o in worker.done if o.command == command]
        sure, perhaps = sum(map(sure_of, asked)), sum(map(perhaps_of, asked))
        if most < sure or least > perhaps:
            told = "\n  ".join(str(o) for o in worker.done if o.command in ("domain.start", "domain.force-off") and perhaps_of(o))
            p.faults.append(f"{worker.name}: {command} happened {least} to {most} times, not {sure} to {perhaps}; {why}:\n  {told}")
    # A libvirtd that is killed while it starts or ends a guest finds other words for the end when it is back.
    unfinished = sum(o.command in ("domain.start", "domain.force-off") and perhaps_of(o) and not sure_of(o) for o in worker.done)
    if len(why) - why.count("destroyed") > unfinished:
        p.faults.append(f"{worker.name} ended although nobody asked for it: {why}")


def perhaps_of(operation):
    """Whether it may have happened: it was answered `done`, or with a fault that does not promise that nothing was done."""
    promised = ("control over", "it is tried again by itself", "before this was begun", "so nothing was done")
    return operation.kind() == "done" or operation.kind() in UNSURE and not any(p in operation.answer[2] for p in promised)


def sure_of(operation):
    """Whether it was answered `done` by whoever did it. "Had taken effect" was found so after a crash; whether by this operation or by
    an earlier unknown one cannot be told."""
    return operation.kind() == "done" and "had taken effect" not in operation.answer
