"""A host as it is: what it is made of and which devices it has, compared with virsh and the kernel; maintenance; its agent's log; what
starts when it boots."""

import os
import pathlib
import platform
import signal
import time
import xml.etree.ElementTree as ElementTree

from harness.base import until
from harness.daemon import PASSWORD, VIEWER, Daemon
from harness.libvirt_host import LibvirtHost


class Parts:
    def alpha(self):
        return next(h for h in self.daemon.json("hypervisor", "list") if h["name"] == "alpha")


class OfABoot(Daemon):
    """An archipeld that sees the kernel's boot that stands in a file: what it is told is nobody else's business."""

    def boot(self, number):
        file = self.work / "boot_id"
        file.write_text(f"00000000-0000-4000-8000-{number:012}\n")
        self.before = ("unshare", "-m", "sh", "-c", f'mount --bind {file} /proc/sys/kernel/random/boot_id && exec "$@"', "sh")


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.daemon = OfABoot(work, {"alpha": p.host.uri})
    p.daemon.boot(1)
    stack.enter_context(p.daemon)
    return p


def test_what_it_is_made_of_is_what_virsh_says(p):
    told = p.daemon.json("hypervisor", "capabilities", "alpha", jid=VIEWER)
    node = dict(line.split(":", 1) for line in p.host.virsh("nodeinfo").splitlines() if ":" in line)
    assert told["cpus"] == int(node["CPU(s)"]) and told["memory"] == int(node["Memory size"].split()[0]) * 1024, (told, node)
    said = ElementTree.fromstring(p.host.virsh("capabilities"))
    cpu = said.find("host/cpu")
    assert told["architecture"] == cpu.findtext("arch") and told["cpu_model"] == (cpu.findtext("model") or ""), told
    assert sorted(told["cpu_features"]) == sorted(f.get("name") for f in cpu.findall("feature")), told
    cells = [int(c.findtext("memory")) * 1024 for c in said.findall("host/topology/cells/cell")]
    assert [c["memory"] for c in told["numa"]] == cells, (told["numa"], cells)
    machines = {m.text for m in said.findall("guest/arch[@name='x86_64']/machine")}
    assert set(told["machine_types"]) == machines and machines, (told["machine_types"], machines)
    assert told["kernel"] == platform.release() and told["archipel_version"] == p.daemon.cli("--version").stdout.split()[-1], told
    assert abs(told["uptime"] - time.clock_gettime(time.CLOCK_BOOTTIME)) < 120, told
    version = p.host.virsh("version")
    assert told["libvirt_version"] in version and told["hypervisor_version"] in version, (told, version)
    assert "cpu model" in p.daemon.cli("hypervisor", "capabilities", "alpha").stdout


def test_its_devices_are_those_virsh_lists(p):
    told = p.daemon.json("hypervisor", "devices", "alpha", jid=VIEWER)
    for kind, cap in (("pci", "pci"), ("usb", "usb_device"), ("net", "net"), ("storage", "storage")):
        listed = sorted(p.host.virsh("nodedev-list", "--cap", cap).split())
        assert sorted(d["name"] for d in told if d["kind"] == kind) == listed, (kind, listed)
    assert not any(d["allowed"] or d["held_by"] for d in told), "nothing is handed out unless the configuration says so"
    nets = p.daemon.json("hypervisor", "devices", "alpha", "--kind", "net")
    assert {d["kind"] for d in nets} <= {"net"}, nets
    return f"{len(told)} devices"


def test_maintenance_is_shown_and_survives_a_restart(p):
    p.daemon.cli("hypervisor", "maintenance", "alpha")
    until(lambda: p.alpha().get("closed"), 30, "the host to be closed")
    p.daemon.restart()
    until(lambda: p.alpha().get("closed") and p.alpha()["state"] == "connected", 60, "the host to be closed still", pause=0.2)
    assert p.daemon.cli("hypervisor", "maintenance", "alpha", "--enabled", "false", jid=VIEWER, check=False).returncode == 77
    p.daemon.cli("hypervisor", "maintenance", "alpha", "--enabled", "false")
    until(lambda: not p.alpha().get("closed"), 30, "the host to be open")


def test_the_log_is_for_administrators_and_holds_no_secret(p):
    wrong = PASSWORD[::-1]
    assert p.daemon.cli("hypervisor", "list", password=wrong, check=False).returncode
    lines = p.daemon.json("hypervisor", "log", "alpha", "--lines", "1000", "--level", "debug")
    assert lines and all(set(line) == {"at", "level", "part", "text"} for line in lines), lines
    assert any("connected" in line["text"] for line in lines), lines
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert not any(secret in line["text"] for line in lines for secret in (PASSWORD, wrong)), "a password is in the log"
    assert len(p.daemon.json("hypervisor", "log", "alpha", "--lines", "1")) == 1
    assert p.daemon.cli("hypervisor", "log", "alpha", jid=VIEWER, check=False).returncode == 77
    assert os.path.exists(p.daemon.log)


def boots(p, number):
    """The host boots: no guest runs, libvirt knows of no end of any, and its kernel says another boot."""
    p.daemon.kill(signal.SIGTERM)
    for name in p.host.virsh("list", "--name").split():
        p.host.virsh("destroy", name)
    p.host.stop()
    p.host.start()
    p.daemon.boot(number)
    p.daemon.start()


def starts_ended(p):
    """Waits until nothing is being started any more; gives back how the starts ended, in their order."""
    def ended():
        tasks = [t for t in p.daemon.json("task", "list") if t["command"] == "domain.autostart"]
        return not any(t["state"] == "running" for t in tasks) and sorted(tasks, key=lambda t: t["started"])
    return until(ended, 60, "the end of the starts", pause=0.2)


def test_machines_start_in_their_order_when_their_host_boots(p):
    for name in ("late", "early", "free"):
        p.host.define(name)
        p.daemon.wait_state(name, "shutoff")
    p.host.virsh("autostart", "late")
    p.daemon.cli("domain", "autostart", "late", "--order", "20")
    p.daemon.cli("domain", "autostart", "early", "--order", "3", "--delay", "1")
    assert not p.host.virsh("list", "--all", "--autostart", "--name").split(), "libvirt must not start what has an order"
    assert "urn:archipel:autostart:0" in p.host.virsh("dumpxml", "early", "--inactive")
    boots(p, 2)
    for name in ("late", "early"):
        p.daemon.wait_state(name, "running")
    end = starts_ended(p)[-1]
    assert end["state"] == "done" and end["message"] == "2 of 2 machines were started", end
    begun = {name: int(pathlib.Path(f"/proc/{p.host.qemu_pid(name)}/stat").read_text().rsplit(")", 1)[1].split()[19]) for name in ("late", "early")}
    assert begun["early"] < begun["late"], begun
    assert p.daemon.json("domain", "info", "free")["state"] == "shutoff"
    # A restart of the agent and of libvirt is no boot, and what a person stopped stays off.
    p.daemon.cli("domain", "force-off", "late", "--yes")
    p.daemon.wait_state("late", "shutoff")
    p.daemon.kill(signal.SIGTERM)
    p.host.stop()
    p.host.start()
    p.daemon.start()
    p.daemon.wait_state("early", "running")
    assert p.daemon.json("domain", "info", "late")["state"] == "shutoff"
    # The next boot starts both: that it would have been seen is known now.
    boots(p, 3)
    for name in ("late", "early"):
        p.daemon.wait_state(name, "running")
