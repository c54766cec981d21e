"""A host as it is: what it is made of and which devices it has, compared with virsh and the kernel; maintenance; its agent's log."""

import os
import platform
import time
import xml.etree.ElementTree as ElementTree

from harness.base import until
from harness.daemon import PASSWORD, VIEWER, Daemon
from harness.libvirt_host import LibvirtHost


class Parts:
    def alpha(self):
        return next(h for h in self.daemon.json("hypervisor", "list") if h["name"] == "alpha")


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
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
