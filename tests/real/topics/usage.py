"""What machines take, measured on real QEMU and compared with virsh: a guest that spins and one that sleeps, what a guest writes and sends, its
balloon, the host; and that nothing is measured any more when nobody looks.
"""

import json
import os
import time

from harness import linux
from harness.base import until
from harness.daemon import CELL, VIEWER, Daemon
from harness.libvirt_host import LibvirtHost
from harness.xmpp import Client

DISK = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/><target dev='vda' bus='virtio'/></disk>"
CARD = "<interface type='network'><source network='quiet'/><model type='virtio'/></interface>"
QUIET = "<network><name>quiet</name><bridge name='quiet1'/><ip address='192.0.2.1' netmask='255.255.255.0'/></network>"
NS = "urn:archipel:usage:0"


class Parts:
    def run(self, command):
        """Lets the guest do something, for as long as it takes."""
        ask = {"execute": "guest-exec", "arguments": {"path": "/bin/sh", "arg": ["-c", command]}}
        self.host.virsh("qemu-agent-command", "web1", json.dumps(ask))

    def usage(self, name="web1"):
        return self.daemon.json("domain", "usage", name, jid=VIEWER)

    def calls(self):
        return self.daemon.metric("archipel_libvirt_calls_total")

    def rest(self):
        """Waits until libvirt was asked nothing for longer than two samples are apart; gives back how often it was asked by then."""

        def quiet():
            before, began = self.calls(), time.monotonic()
            until(lambda: time.monotonic() - began > 5, 6, "five seconds", pause=0.5)
            return self.calls() == before

        until(quiet, 60, "libvirt to be left alone")
        return self.calls()


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    (p.host.work / "quiet.xml").write_text(QUIET)
    p.host.virsh("net-define", str(p.host.work / "quiet.xml"))
    p.host.virsh("net-start", "quiet")
    disk = p.host.images / "data.img"
    with open(disk, "wb") as file:
        file.truncate(64 << 20)
    linux.define(p.host, "web1", ip="192.0.2.7/24", more=CARD + DISK.format(file=disk))
    p.host.define("idle")
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}, more={"usage": "history = false"}))
    p.daemon.wait_state("web1", "shutoff")
    for name in ("web1", "idle"):
        p.daemon.cli("domain", "start", name)
    until(lambda: p.daemon.machine("web1")["agent"], 90, "the agent to answer", pause=0.2)
    p.host.booted("idle")
    return p


def cpu_time(p, name):
    told = p.host.virsh("domstats", "--cpu-total", name)
    return int(next(line.split("=")[1] for line in told.splitlines() if "cpu.time" in line))


def test_a_guest_that_spins_is_busy_and_one_that_sleeps_is_not(p):
    p.run("while :; do :; done")

    def judged():
        before, began = cpu_time(p, "web1"), time.monotonic()
        ours = p.usage()["cpu"] / 1000
        theirs = (cpu_time(p, "web1") - before) / 1e9 / (time.monotonic() - began)
        # Other programs share these CPUs, so a guest that spins need not get a whole one; but both must see the same.
        return (ours, theirs) if theirs > 0.05 and 0.4 < ours / theirs < 2.5 else None

    ours, theirs = until(judged, 120, "libvirt and us to agree about a busy guest")
    idle = p.usage("idle")["cpu"] / 1000
    assert idle < ours, f"the one that sleeps takes {idle}, the busy one {ours}"
    return f"busy: {ours * 100:.0f} % of a CPU, by virsh {theirs * 100:.0f} %; asleep: {idle * 100:.1f} %"


def test_what_a_guest_writes_and_sends_is_seen(p):
    p.run("while :; do dd if=/dev/zero of=/data/file bs=64k count=32 conv=fsync; sleep 1; done")
    p.run("while :; do ping -c 1 -s 1000 192.0.2.1; sleep 1; done")
    until(lambda: p.usage().get("disk_written", 0) > 0, 60, "what it writes", pause=0.2)
    until(lambda: p.usage().get("net_sent", 0) > 0, 60, "what it sends", pause=0.2)
    assert p.usage()["disk_read"] >= 0


def test_the_balloon_is_what_virsh_says(p):
    def virsh():
        return int(next(line.split()[1] for line in p.host.virsh("dommemstat", "web1").splitlines() if line.startswith("actual"))) * 1024

    found = p.usage()
    assert found["memory"] == virsh() == 192 << 20, (found, virsh())
    assert found["memory_maximum"] == 192 << 20 and found["memory_resident"] > 0, found


def test_the_host_and_all_its_machines(p):
    told = p.daemon.json("hypervisor", "usage", "alpha", jid=VIEWER)
    assert {m["name"] for m in told["machines"]} == {"web1", "idle"} and told["cpus"] == os.cpu_count(), told
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    assert told["memory"] == total and 0 < told["memory_used"] < total and 0 < told["cpu"] <= 1000 * told["cpus"], told
    table = p.daemon.cli("hypervisor", "usage", "alpha").stdout
    assert "web1" in table and "CPU" in table and " %" in table, table


def test_one_that_is_off_takes_nothing(p):
    p.host.define("off")
    p.daemon.wait_state("off", "shutoff")
    done = p.daemon.cli("domain", "usage", "off", check=False)
    assert done.returncode == 65 and "is off" in done.stderr, done


def test_a_viewer_that_leaves_ends_the_measuring(p):
    before = p.rest()
    shown = [json.loads(line) for line in p.daemon.cli("--json", "top", "--count", "3").stdout.splitlines()]
    assert [{m["name"] for m in s["machines"]} for s in shown] == [{"web1", "idle"}] * 3, shown
    made = p.rest() - before
    # Three tables take four samples, and more if this machine is too busy to show them all.
    assert 4 <= made <= 30, f"{made:.0f} calls of libvirt for three tables"
    with Client(p.daemon) as client:
        client.iq("set", CELL, f"<watch xmlns='{NS}'><host>alpha</host></watch>")
        looked = p.calls()
        until(lambda: p.calls() > looked + 2, 30, "samples while somebody looks", pause=0.2)
    p.rest()
    return f"{made:.0f} calls for three tables, none afterwards"


def test_prometheus_sees_what_was_measured(p):
    p.usage()
    text = p.daemon.get("/metrics")
    for name in ("cpu_seconds_total", "memory_bytes", "disk_written_bytes_total", "net_sent_bytes_total"):
        assert any(line.startswith(f"archipel_domain_{name}{{") and 'name="web1"' in line for line in text.splitlines()), name


def test_the_history_begins_anew_with_the_daemon_and_is_empty_at_first(p):
    assert p.daemon.json("domain", "usage-history", "web1") == []
    assert p.daemon.json("hypervisor", "usage-history", "alpha") == []
