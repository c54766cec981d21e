"""A cell over real libvirt hosts: one exchange with an agent on h1, an agent on each of the others, every one inside the
namespaces of its host, so that its sockets, names and cables are those of that host.

    h1: archipeld (agent h1 + exchange)  <--- TLS over the same cable that machines move over --->  h2, h3: archipeld (agent)
"""

import json
import os
import signal
import subprocess
import threading
import time

from . import coverage
from .base import BIN, Late, Seen, tail, until
from .daemon import ADMIN, CELL, PASSWORD, Daemon, environment
from .hosts import NET, Hosts


class HostDaemon(Daemon):
    """archipeld inside a host. Its command line client runs there too, as the ports are that host's."""

    def __init__(self, node, work, **more):
        self.node = node
        super().__init__(work, {node.name: "qemu:///system"}, name=f"agent-{node.name}", **more)
        self.config.write_text(self.config.read_text().replace(f"127.0.0.1:{self.xmpp}", f"0.0.0.0:{self.xmpp}"))

    def run(self, *arguments, stdin="", **env):
        command = self.node.inside(BIN / "archipeld", "--config", self.config, *arguments)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=environment(**env))

    def start(self, ready=True):
        log = open(self.log, "a")
        command = self.node.inside(BIN / "archipeld", "--config", self.config, "run")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(RUST_LOG=self.level))
        if ready:
            self.ready()
        return self

    def ready(self):
        def healthy():
            assert self.process.poll() is None, f"archipeld ended with {self.process.returncode}:\n{tail(self.log)}"
            asked = self.node.inside("curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{self.http}/health")
            return subprocess.run(asked, capture_output=True, text=True).stdout == "200"
        until(healthy, 30, f"archipeld's /health on {self.node.name}\n{tail(self.log)}", pause=0.05)

    def connect(self):
        return self.node.within(super().connect)

    def get(self, path):
        asked = self.node.inside("curl", "-s", "-m", "10", f"http://127.0.0.1:{self.http}{path}")
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    def cli(self, *arguments, jid=ADMIN, password=PASSWORD, server=None, check=True, stdin="", timeout=60):
        command = self.node.inside(BIN / "archipel", *arguments)
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, env=self.login(jid, password, server))
        assert not check or done.returncode == 0, f"archipel {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}"
        if done.returncode == 0:
            coverage.note(*arguments)
        return done


class HostEvents:
    """`archipel events --json` on h1, or on another host with a home of its own, until it is closed."""

    def __init__(self, daemon, node=None, **login):
        self.seen = Seen("archipel events")
        server = f"{NET}.11:{daemon.xmpp}" if node else None
        command = (node or daemon.node).inside(BIN / "archipel", "--json", "events")
        env = {**daemon.login(server=server), **login}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if line.strip():
                self.seen.add(json.loads(line))

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class Cluster:
    """Use it as a context manager: hosts, daemons and guests go at the end, whatever happened."""

    def __init__(self, stack, work, count=3):
        self.hosts = stack.enter_context(Hosts(work, count))
        one = self.hosts[1]
        self.cell = stack.enter_context(HostDaemon(one, work, more={"xmpp": "resume_seconds = 30"}))
        self.agents = {one.name: self.cell}
        for node in self.hosts.nodes[1:]:
            agent = HostDaemon(node, work, accounts=False)
            token = self.cell.json("cell", "invite", "--name", node.name)["token"]
            joined = agent.run("join", f"{NET}.11:{self.cell.xmpp}", token, "--name", node.name)
            assert joined.returncode == 0, f"{node.name} could not join: {joined.stderr}"
            self.agents[node.name] = stack.enter_context(agent)
        self.connected()

    def connected(self, seconds=40):
        """Waits until every host is in the cell and its libvirt is listed."""
        wanted = {node.name: "connected" for node in self.hosts.nodes}
        found = {}
        def there():
            listed = self.cell.cli("--json", "hypervisor", "list", check=False)
            found["now"] = listed.stderr if listed.returncode else {h["name"]: h["state"] for h in json.loads(listed.stdout)}
            return found["now"] == wanted
        try:
            until(there, seconds, "all hosts to be connected", pause=0.2)
        except Late as e:
            raise Late(f"{e}: {found.get('now')}") from None

    def restore(self):
        """Mends everything that may have been broken: cables, libvirt daemons, agents."""
        for node in self.hosts.nodes:
            node.up()
            agent = self.agents[node.name]
            if agent.process.poll() is None:
                agent.process.send_signal(signal.SIGCONT)
            else:
                agent.start(ready=False)
        self.connected()

    # ------------------------------------------------------------ guests and moves

    def guest(self, name, host=1, start=True, **how):
        """A writer on a host, known to the cell; running and owned by it when it is started by our own command."""
        identity = self.hosts.guest(name, host=host, **how)
        self.cell.wait_state(name, "shutoff", 15)
        if start:
            self.cell.cli("domain", "start", name)
            self.cell.wait_state(name, "running", 15)
            self.hosts.speaks(name)
        return identity

    def move(self, name, to, *options, check=True):
        """Asks for a move. Gives back the id of its task, or the refusal."""
        done = self.cell.cli("--json", "domain", "migrate", name, "--to", to, "--trust-storage", *options, check=False)
        if done.returncode:
            assert not check, f"archipel domain migrate {name} --to {to}: exit {done.returncode}: {done.stderr.strip()}"
            return done
        return json.loads(done.stdout)["task"]

    def task(self, task):
        """How a task stands, as the cell shows it; None while nobody can tell."""
        done = self.cell.cli("--json", "task", "show", task, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def ended(self, task, seconds=60, forgotten=lambda: False):
        """Waits for the end of a task. None: nobody knows it any more, and that is right."""
        found = {}
        def over():
            found["t"] = self.task(task)
            return found["t"]["progress_state"] != "running" if found["t"] else forgotten()
        try:
            until(over, seconds, f"the end of task {task}", pause=0.1)
        except Late as e:
            raise Late(f"{e}; it stands {found.get('t')}; libvirt says {self.hosts.standing()}") from None
        return found["t"]

    def arrived(self, name, source, to):
        """Whether the cell has both hosts again and shows the machine at its target, not on its way."""
        asked = [self.cell.cli("--json", noun, "list", check=False) for noun in ("hypervisor", "domain")]
        if any(done.returncode for done in asked):
            return False
        hosts, machines = (json.loads(done.stdout) for done in asked)
        connected = {h["name"] for h in hosts if h["state"] == "connected"}
        return {source, to} <= connected and any(m["name"] == name and m["host"] == to and not m.get("moving_to") for m in machines)

    def under_way(self, name, seconds=20):
        """Waits until QEMU really sends memory, so that a break hits the transfer; gives back the source's host."""
        def sending():
            for node in self.hosts.nodes:
                said = node._virsh("domjobinfo", name)
                if "Outgoing migration" in said.stdout and "Iteration:" in said.stdout:
                    return node
            return None
        return until(sending, seconds, f"the transfer of {name}", pause=0.02)

    # ------------------------------------------------------------ judging

    def settled(self, *names, seconds=5):
        """Our state equals libvirt's on every host, within that time, for these machines."""
        trouble = {}
        def equal():
            listed = {}
            for m in self.cell.json("domain", "list"):
                listed.setdefault(m["name"], []).append(m)
            trouble["now"] = []
            for name in names:
                real = {n.name: s[0] for n in self.hosts.nodes for s in [n.states().get(name)] if s}
                active = {h: s for h, s in real.items() if s not in ("shutoff", "crashed")}
                ours = [(m["host"], m["state"]) for m in listed.get(name, [])]
                wanted = list(active.items()) or None
                same = ours == wanted if wanted else len(ours) == 1 and real.get(ours[0][0]) == ours[0][1]
                if not same:
                    trouble["now"].append(f"{name}: libvirt says {real}, we say {ours}")
            return not trouble["now"]
        try:
            until(equal, seconds, "our state to equal libvirt's", pause=0.1)
        except Late as e:
            raise AssertionError(f"{e}: {trouble['now']}") from None

    def once(self, name):
        """Exactly one copy runs: by libvirt, by the processes, by the guest's own history."""
        running = self.hosts.running_on(name)
        assert len(running) == 1, f"{name} runs on {running}"
        # An emulator that libvirt has told to end takes a moment; one that executed meanwhile would show in the history.
        wanted, found = {n.name: int(n.name == running[0]) for n in self.hosts.nodes}, {}
        def alone():
            found.update({n.name: len(n.qemus(name)) for n in self.hosts.nodes})
            return found == wanted
        try:
            until(alone, 5, "the end of the others", pause=0.05)
        except Late:
            raise AssertionError(f"{name} runs on {running[0]}, and emulators are there: {found}") from None
        self.hosts.speaks(name)
        self.hosts.history(name)
        return running[0]

    def ended_by_qemu(self, name):
        """Where the guest ended because its emulator found itself wrong and aborted, and runs nowhere; None if that is not so. QEMU 7.2 does it
        when a move is given up in the moment of handing over: the guest goes on before its disks are opened again."""
        if self.hosts.running_on(name):
            return None
        ended = [n.name for n in self.hosts.nodes if n.states().get(name) == ("shutoff", "crashed") and "Assertion" in n.last_words(name)]
        return ended[0] if len(ended) == 1 else None

    def clean(self, *names, seconds=10):
        """Nothing is left behind: no half-received QEMU, no job, no port of a migration, no definition but one."""
        def nothing():
            left = []
            for node in self.hosts.nodes:
                states = node.states()
                for name in names:
                    if len(node.qemus(name)) != int(states.get(name, ("absent",))[0] in ("running", "paused")):
                        left.append(f"an emulator of {name} on {node.name} that is {states.get(name)}")
                    if "migration" in node._virsh("domjobinfo", name).stdout:
                        left.append(f"a job of {name} on {node.name}")
                if node.listeners():
                    left.append(f"ports {node.listeners()} on {node.name}")
            for name in names:
                known = [n.name for n in self.hosts.nodes if name in n.states()]
                if len(known) != 1:
                    left.append(f"{name} is defined on {known}")
            self.left = left
            return not left
        try:
            until(nothing, seconds, "nothing to be left behind", pause=0.2)
        except Late:
            raise AssertionError(f"left behind after {seconds} s: {self.left}; libvirt says {self.hosts.standing()}") from None

    def forget(self, name):
        """Ends a machine everywhere, by libvirt itself, so that the next test begins afresh."""
        for node in self.hosts.nodes:
            node._virsh("destroy", name)
            node._virsh("undefine", name)
        until(lambda: self.cell.machine(name) is None, 15, f"the end of {name}", pause=0.1)
        for path in (self.hosts.shared / f"{name}.img", self.hosts.serial(name)):
            path.unlink(missing_ok=True)


def pick(random, items):
    """One of them, by the seeded generator."""
    return items[random.randrange(len(items))]


def wait_gap(seconds):
    """Time itself is what some breaks are made of (a cable that is out for three seconds); nothing is judged by it."""
    time.sleep(seconds)


def pid_of(path):
    return int(path.read_text())


def alive(pid):
    try:
        os.kill(pid, 0)
        return True
    except OSError:
        return False


__all__ = ["CELL", "Cluster", "HostDaemon", "HostEvents", "alive", "pick", "pid_of", "wait_gap"]
