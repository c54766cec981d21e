"""Snapshots, saved memory and going back, on a real QEMU guest with a qcow2 disk; what virsh says is the measure."""

import json
import re
import subprocess

from harness.base import until
from harness.daemon import Daemon
from harness.libvirt_host import DOMAIN, TICK, LibvirtHost


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    disk, xml = p.host.images / "web1.qcow2", p.host.work / "web1.xml"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", TICK, disk], check=True)
    text = DOMAIN.format(name="web1", disk=disk, serial=p.host.work / "web1.serial")
    xml.write_text(text.replace("type='raw'", "type='qcow2'"))
    p.host.virsh("define", str(xml))
    p.daemon.wait_state("web1", "shutoff")
    return p


def counter(p):
    """How far the guest has counted; it goes back when the guest does."""
    return p.host.beats("web1")[1]


def done(p, *command, state="done", **more):
    """Asks, follows the task to its end, and gives it back."""
    task = p.daemon.json(*command, **more)["task"]
    ended = json.loads(p.daemon.cli("--json", "task", "wait", task, "--timeout", "60", check=False).stdout)
    assert ended["state"] == state, f"{' '.join(command)}: {ended}"
    return ended


def names(p):
    return {s["name"]: s for s in p.daemon.json("snapshot", "list", "web1")}


def test_a_running_guest_goes_back_in_time(p):
    p.daemon.cli("domain", "start", "web1")
    p.host.booted("web1")
    done(p, "snapshot", "create", "web1", "--name", "early", "--description", "while it counts")
    taken = counter(p)
    until(lambda: counter(p) > taken + 5, 20, "the guest counts on")
    shown = names(p)["early"]
    assert shown["memory"] and not shown["external"] and shown["current"] and shown["state"] == "running", shown
    assert p.host.virsh("snapshot-list", "web1", "--name").split() == ["early"]

    refused = p.daemon.cli("snapshot", "revert", "web1", "early", "--yes", check=False)
    assert refused.returncode == 64 and "would be lost" in refused.stderr, refused
    before = counter(p)
    done(p, "snapshot", "revert", "web1", "early", "--keep-as", "late", "--yes")
    assert p.host.state("web1") == "running"
    until(lambda: 0 < counter(p) < before, 20, f"the guest counts from before {before} again")
    assert set(names(p)) == {"early", "late"} and names(p)["early"]["current"]
    done(p, "snapshot", "delete", "web1", "late", "--yes")
    assert p.host.virsh("snapshot-list", "web1", "--name").split() == ["early"] and p.host.state("web1") == "running"


def test_memory_is_saved_and_the_start_goes_on_from_there(p):
    p.daemon.wait_state("web1", "running")
    done(p, "domain", "save", "web1")
    assert p.host.state("web1") == "shut off"
    assert "yes" in p.host.virsh("dominfo", "web1").split("Managed save:")[1].split("\n")[0]
    held = counter(p)
    p.daemon.cli("domain", "start", "web1")
    until(lambda: counter(p) > held, 20, "it goes on where it was")
    done(p, "domain", "save", "web1")
    p.daemon.cli("domain", "discard-saved", "web1", "--yes")
    again = p.daemon.cli("domain", "discard-saved", "web1", "--yes", check=False)
    assert again.returncode != 0 and "no saved memory" in again.stderr, again
    assert "no" in p.host.virsh("dominfo", "web1").split("Managed save:")[1].split("\n")[0]


def test_an_external_snapshot_leaves_the_old_disk_alone(p):
    p.daemon.wait_state("web1", "shutoff")
    p.daemon.cli("domain", "start", "web1")
    p.daemon.wait_state("web1", "running")
    done(p, "snapshot", "create", "web1", "--name", "apart", "--external")
    shown = names(p)["apart"]
    assert shown["external"] and not shown["memory"] and shown["disks"], shown
    source = re.search(r"\S+\.apart", p.host.virsh("domblklist", "web1"))
    assert source, "the guest goes on in a new file"
    failed = done(p, "snapshot", "create", "web1", "--external", "--quiesce", state="failed")
    assert "agent" in str(failed["fault"]), failed


def test_wrong_names_and_names_that_are_taken_change_nothing(p):
    before = set(names(p))
    for name in ("a/b", "..", "", "x" * 300, "nàme", "a b"):
        refused = p.daemon.cli("snapshot", "create", "web1", "--name", name, check=False)
        assert refused.returncode == 64, (name, refused)
    taken = done(p, "snapshot", "create", "web1", "--name", "apart", "--external", state="failed")
    assert taken["fault"]["kind"] == "conflict", taken
    assert p.daemon.cli("snapshot", "delete", "web1", "none", "--yes", check=False).returncode != 0
    assert set(names(p)) == before
