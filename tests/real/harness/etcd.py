"""A cluster of etcd members on loopback, with their data in the test's folder and the settings of the runbook."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request

from .base import ROOT, Skipped, free_port, tail, until


def documented():
    """What the runbook says belongs into /etc/default/etcd."""
    block = re.search(r"```ini\n(.*?)```", (ROOT / "ops" / "runbooks" / "etcd.md").read_text(), re.S)[1]
    return dict(line.split("=", 1) for line in block.splitlines())


class Etcd:
    """As many members as asked for; each can be killed, stopped and started again."""

    def __init__(self, work, count=3, settings=None):
        if not shutil.which("etcd"):
            raise Skipped("etcd-server is not installed")
        self.work = work / "etcd"
        self.work.mkdir(parents=True, exist_ok=True)
        self.ports = [(free_port(), free_port()) for _ in range(count)]
        self.urls = [f"http://127.0.0.1:{client}" for client, _ in self.ports]
        self.processes = [None] * count
        self.settings = documented() if settings is None else settings

    def start(self, member):
        client, peer = self.ports[member]
        cluster = ",".join(f"m{n}=http://127.0.0.1:{p}" for n, (_, p) in enumerate(self.ports))
        log = open(self.work / "log", "a")
        self.processes[member] = subprocess.Popen(
            ["etcd", "--name", f"m{member}", "--data-dir", str(self.work / f"m{member}"),
             "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}",
             "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
             "--initial-cluster", cluster, "--initial-cluster-state", "new", "--log-level", "warn", "--unsafe-no-fsync"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "ETCD_LOG_OUTPUTS": "stderr", **self.settings},
        )

    def answers(self, member):
        try:
            with urllib.request.urlopen(f"{self.urls[member]}/health", timeout=2) as answer:
                return json.load(answer).get("health") == "true"
        except OSError:
            return False

    def well(self):
        until(lambda: all(self.answers(n) for n, p in enumerate(self.processes) if p.poll() is None), 60, f"etcd\n{tail(self.work / 'log')}", pause=0.1)

    def leader(self):
        """The member that leads the others."""
        for member, url in enumerate(self.urls):
            asked = urllib.request.Request(f"{url}/v3/maintenance/status", data=b"{}", headers={"content-type": "application/json"})
            try:
                with urllib.request.urlopen(asked, timeout=2) as answer:
                    status = json.load(answer)
            except OSError:
                continue
            if status["leader"] == status["header"]["member_id"]:
                return member
        return None

    def kill(self, member):
        self.processes[member].kill()
        self.processes[member].wait()

    def __enter__(self):
        for member in range(len(self.ports)):
            self.start(member)
        self.well()
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
