"""`archipeld` and `archipel` as a user runs them: a configuration file, a data directory, accounts, a process."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import urllib.request

from . import coverage
from .base import BIN, Late, Seen, free_port, tail, until

CELL = "vm.localhost"
ADMIN, VIEWER = f"admin@{CELL}", f"viewer@{CELL}"
PASSWORD = "correct horse battery"


def environment(**more):
    """The environment without whatever the caller's own says about Archipel."""
    clean = {k: v for k, v in os.environ.items() if not k.upper().startswith("ARCHIPEL")}
    return {**clean, "RUST_BACKTRACE": "1", "NO_COLOR": "1", **more}


class Daemon:
    """One archipeld with a configuration of its own."""

    # What stands before it on its command line.
    before = ()

    def __init__(self, work, uris, name="cell", more=None, roles=None, accounts=True, level="info", hypervisor=""):
        self.work = pathlib.Path(work) / name
        self.data = self.work / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.config = self.work / "archipel.toml"
        self.log = self.work / "log"
        self.xmpp, self.http = free_port(), free_port()
        self.level = level
        self.real = coverage.on_qemu(uris)
        self.process = None
        more = dict(more or {})  # Further lines by section; "" is the top of the file.
        text = f'cell = "{CELL}"\ndata_dir = "{self.data}"\n{more.pop("", "")}\n'
        if roles:
            text += f"roles = {json.dumps(roles)}\n"
        for host, uri in uris.items():
            text += f'\n[[hypervisor]]\nname = "{host}"\nuri = "{uri}"\n{hypervisor}\n'
        text += f'\n[xmpp]\nlisten = "127.0.0.1:{self.xmpp}"\n{more.pop("xmpp", "")}\n'
        text += f'\n[http]\nlisten = "127.0.0.1:{self.http}"\n{more.pop("http", "")}\n'
        text += "".join(f"\n[{section}]\n{lines}\n" for section, lines in more.items())
        self.config.write_text(text)
        if accounts:
            self.account("add", ADMIN, "--role", "admin")
            self.account("add", VIEWER, "--role", "viewer")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"archipeld did not end within 20 s of SIGTERM; its log:\n{tail(self.log)}") from None

    # ------------------------------------------------------------ the process

    def account(self, verb, jid, *options, password=PASSWORD):
        done = self.run("account", verb, jid, *options, "--password-stdin", stdin=password + "\n")
        assert done.returncode == 0, f"account {verb} {jid}: {done.stderr}"

    def run(self, *arguments, stdin="", **env):
        """Runs archipeld to its end with other arguments."""
        command = [str(BIN / "archipeld"), "--config", str(self.config), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=environment(**env))

    def start(self, ready=True):
        log = open(self.log, "a")
        command = [*self.before, str(BIN / "archipeld"), "--config", str(self.config), "run"]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(RUST_LOG=self.level))
        if ready:
            self.ready()
        return self

    def ready(self):
        """Waits until it serves and every hypervisor has been listed."""
        def healthy():
            assert self.process.poll() is None, f"archipeld ended with {self.process.returncode}:\n{tail(self.log)}"
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{self.http}/health", timeout=2).status == 200
            except OSError:
                return False
        until(healthy, 30, f"archipeld's /health\n{tail(self.log)}", pause=0.02)

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(20)

    def restart(self):
        self.kill(signal.SIGTERM)
        return self.start()

    # ------------------------------------------------------------ what it says of itself

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10) as answer:
            return answer.read().decode()

    def connect(self):
        """A connection to its HTTP port."""
        return socket.create_connection(("127.0.0.1", self.http), 60)

    def metric(self, name):
        """The sum of a metric over its labels."""
        values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$", self.get("/metrics"), re.M)
        assert values, f"/metrics has no {name}"
        return sum(float(v) for v in values)

    def resident_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # ------------------------------------------------------------ its command line

    def cli(self, *arguments, jid=ADMIN, password=PASSWORD, server=None, check=True, stdin="", timeout=60):
        """Runs the CLI; with `check` it must succeed."""
        done = subprocess.run(
            [str(BIN / "archipel"), *arguments],
            input=stdin, capture_output=True, text=True, timeout=timeout, env=self.login(jid, password, server),
        )
        assert not check or done.returncode == 0, f"archipel {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}"
        if self.real and done.returncode == 0:
            coverage.note(*arguments)
        return done

    def json(self, *arguments, **more):
        """Runs the CLI and reads its one JSON document."""
        return json.loads(self.cli("--json", *arguments, **more).stdout)

    def login(self, jid=ADMIN, password=PASSWORD, server=None):
        return environment(
            ARCHIPEL_JID=jid, ARCHIPEL_PASSWORD=password, ARCHIPEL_SERVER=server or f"127.0.0.1:{self.xmpp}", HOME=str(self.work),
            XDG_CONFIG_HOME=str(self.work / "no-config"),
        )

    def machine(self, name):
        """One machine as the CLI shows it, or None."""
        return next((m for m in self.json("domain", "list") if m["name"] == name), None)

    def wait_state(self, name, state, seconds=10):
        found = {}
        def there():
            found["m"] = self.machine(name)
            return found["m"] and found["m"]["state"] == state
        try:
            until(there, seconds, f"{name} to be {state}", pause=0.05)
        except Late as e:
            raise Late(f"{e}; it is {found.get('m')}") from None
        return found["m"]


class EventStream:
    """`archipel events --json`, line by line, with times of arrival."""

    def __init__(self, daemon, probe, jid=ADMIN, server=None):
        """`probe` causes some event; it is called until one arrives, as only that proves that the stream is up."""
        self.seen = Seen("archipel events")
        self.probe = probe
        self.process = subprocess.Popen(
            [str(BIN / "archipel"), "--json", "events"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=daemon.login(jid, server=server),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if line.strip():
                self.seen.add(json.loads(line))

    def __enter__(self):
        def arrived():
            assert self.process.poll() is None, f"archipel events ended: {self.process.stderr.read()}"
            self.probe()
            return self.seen.mark()
        until(arrived, 15, "the first event of archipel events", pause=0.2)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)

    def topic(self, entity, topic, mark=0, seconds=10):
        """Waits for one event of one entity (its bare JID)."""
        return self.seen.wait(lambda e: e["entity"] == entity and e["topic"] == topic, mark, seconds, f"{topic} of {entity}")
