"""Backups and checkpoints on real QEMU guests: what was written before comes back, and what is half made never counts.

`web1` is a Linux guest with a file system on its disk; `tick` counts on its serial line and has enough on its disk to last a while.
"""

import base64
import json
import os
import re
import signal
import subprocess

from harness import linux
from harness.base import ROOT, until
from harness.daemon import Daemon
from harness.libvirt_host import DOMAIN, TICK, LibvirtHost

MIB = 1 << 20
DISK = "<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{path}'/><target dev='{name}' bus='virtio'/></disk>"
RUNBOOK = ROOT / "ops" / "runbooks" / "backup.md"


class Parts:
    pass


class Host(LibvirtHost):
    """With a pool for backups, and one that is full at once."""

    def __init__(self, work):
        super().__init__(work)
        self.pools |= {"backups": self.work / "backups", "small": self.work / "small"}


def setup(stack, work):
    p = Parts()
    host = Host(work)
    for path in host.pools.values():
        path.mkdir(parents=True, exist_ok=True)
    # Before the host has a mount namespace of its own: the daemon sees it too.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", host.pools["small"]], check=True)
    stack.callback(subprocess.run, ["umount", "-l", host.pools["small"]], check=True)
    p.host = stack.enter_context(host)
    p.backups = host.pools["backups"]
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    qemu_img("create", "-q", "-f", "qcow2", host.images / "web1.qcow2", "64M")
    qemu_img("create", "-q", "-f", "raw", host.images / "web1.raw", "1M")
    disks = DISK.format(kind="qcow2", path=host.images / "web1.qcow2", name="vda") + DISK.format(kind="raw", path=host.images / "web1.raw", name="vdb")
    linux.define(host, "web1", more=disks)
    big = host.images / "tick.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", TICK, big)
    qemu_img("resize", "-q", big, "1G")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 2M 800M", big], check=True, capture_output=True)
    xml = host.work / "tick.xml"
    xml.write_text(DOMAIN.format(name="tick", disk=big, serial=host.work / "tick.serial").replace("type='raw'", "type='qcow2'"))
    host.virsh("define", str(xml))
    host.virsh("pool-refresh", "images")
    for name in ("web1", "tick"):
        p.daemon.wait_state(name, "shutoff")
    return p


def qemu_img(*arguments):
    return subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def done(p, *command, state="done"):
    """Asks, follows the task to its end, and gives it back."""
    return ended(p, p.daemon.json(*command)["task"], state)


def ended(p, task, state):
    end = json.loads(p.daemon.cli("--json", "task", "wait", task, "--timeout", "90", check=False, timeout=120).stdout)
    assert end["state"] == state, end
    return end


def listed(p, pool="backups", *more):
    return p.daemon.json("backup", "list", pool, *more)


def latest(p, machine="web1"):
    return [b for b in listed(p) if b["machine"] == machine][-1]


def checkpoints(p, name):
    return [c["name"] for c in p.daemon.json("checkpoint", "list", name)]


def start(p, name):
    p.daemon.cli("domain", "start", name)
    p.daemon.wait_state(name, "running")
    until(lambda: p.host._virsh("qemu-agent-command", name, '{"execute":"guest-ping"}').returncode == 0, 90, f"the agent of {name}")


def off(p, name):
    p.daemon.cli("domain", "force-off", name, "--yes")
    p.daemon.wait_state(name, "shutoff")


def guest(p, name, line):
    """Runs a line in the guest's shell; gives back what it says."""
    def agent(what, **arguments):
        return json.loads(p.host.virsh("qemu-agent-command", name, json.dumps({"execute": what, "arguments": arguments})))["return"]
    pid = agent("guest-exec", path="/bin/sh", arg=["-c", line], **{"capture-output": True})["pid"]
    found = {}
    def over():
        found.update(agent("guest-exec-status", pid=pid))
        return found["exited"]
    until(over, 30, f"the end of {line!r} in {name}")
    return base64.b64decode(found.get("out-data", "")).decode()


def parts(p):
    """Whatever is not a whole backup."""
    return sorted(f.name for f in p.backups.iterdir() if f.name.endswith(".archipel-part"))


def nothing_of_it(p, name, before):
    """Nothing of a backup that did not come to be is left, and the guest runs."""
    assert sorted(f.name for f in p.backups.iterdir()) == before, "files of it are left"
    assert p.host.virsh("checkpoint-list", name, "--name") == "", "its checkpoint is left"
    assert "None" in p.host.virsh("domjobinfo", name)
    assert p.host.state(name) == "running"


def slowly(p, name, *more):
    """Begins a backup that lasts, and waits until it is under way."""
    task = p.daemon.json("backup", "create", name, "backups", "--limit", "5MiB", *more)["task"]
    until(lambda: (p.daemon.json("task", "show", task).get("percent") or 0) > 0, 60, "the first progress", pause=0.05)
    return task


def test_a_file_written_before_an_incremental_backup_comes_back(p):
    start(p, "web1")
    guest(p, "web1", "echo first > /data/a; sync")
    full = done(p, "backup", "create", "web1", "backups", "--quiesce")
    assert "a full backup" in full["message"] and "first backup" in full["message"], full
    guest(p, "web1", "echo second > /data/b; sync")
    part = done(p, "backup", "create", "web1", "backups")
    assert "an incremental backup" in part["message"] and "vdb: it is taken whole" in part["message"], part

    first, second = listed(p)
    assert (first["kind"], first["quiesced"], second["kind"], second["parent"]) == ("full", True, "incremental", first["name"])
    assert first["state"] == second["state"] == "whole" and second["size"] < first["size"], (first, second)
    assert checkpoints(p, "web1") == [second["name"]], "the next one begins at the last"
    assert p.daemon.json("domain", "backups", "web1") == [first, second]
    assert listed(p, "backups", "--machine", "nobody") == []
    assert "BUILDS ON" in p.daemon.cli("backup", "list", "backups").stdout
    assert p.daemon.json("storage-pool", "orphans", "backups") == [], "a backup is no orphan"

    guest(p, "web1", "rm -f /data/a /data/b; echo lost > /data/c; sync")
    refused = p.daemon.cli("domain", "restore", "web1", second["name"], "--yes", check=False)
    assert refused.returncode != 0 and "not off" in refused.stderr, refused
    off(p, "web1")
    back = done(p, "domain", "restore", "web1", second["name"], "--into", "images", "--yes")
    assert "web1.qcow2" in back["message"], f"what it had before is named: {back}"
    assert (p.host.images / "web1.qcow2").exists() and checkpoints(p, "web1") == []
    start(p, "web1")
    assert guest(p, "web1", "cat /data/a /data/b; ls /data/c 2>&1").startswith("first\nsecond\n")

    done(p, "backup", "restore", "backups", first["name"], "web2", "--into", "images")
    made = p.daemon.wait_state("web2", "shutoff")
    assert made["id"] != p.daemon.machine("web1")["id"]
    start(p, "web2")
    assert guest(p, "web2", "cat /data/a; cat /data/b 2>&1").startswith("first\ncat: "), "the full one alone does not know the second file"
    off(p, "web2")
    p.daemon.cli("domain", "undefine", "web2", "--with-volumes", "all", "--yes")


def test_plain_qemu_img_reads_a_backup(p):
    name = [b for b in listed(p) if b["kind"] == "incremental"][-1]["name"]
    out = p.host.work / "by-hand.qcow2"
    (block,) = re.findall(r"```sh\n# without archipel\n(.*?)```", RUNBOOK.read_text(), re.S)
    text = block.replace("/srv/backups", str(p.backups)).replace("web1.20261123T041500Z.inc", name)
    text = text.replace("/var/lib/libvirt/images/web1.qcow2", str(out))
    ran = subprocess.run(["sh", "-ec", text], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    (restored,) = p.host.images.glob("web1-*-vda.qcow2")
    # The guest that was taken back has run since; a new copy has not.
    done(p, "backup", "restore", "backups", name, "web3", "--into", "images")
    assert "identical" in qemu_img("compare", out, p.host.images / "web3-vda.qcow2"), restored
    p.daemon.cli("domain", "undefine", "web3", "--with-volumes", "all", "--yes")


def test_a_damaged_backup_is_noticed_and_never_comes_back(p):
    first, second = listed(p)
    done(p, "backup", "verify", "backups", second["name"])
    file = p.backups / f"{first['name']}.vda.qcow2"
    whole = file.read_bytes()
    at = len(whole) * 2 // 3
    before = sorted(os.listdir(p.host.images))
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
    for command in (("verify", "backups", second["name"]), ("restore", "backups", second["name"], "web4", "--into", "images")):
        failed = done(p, "backup", *command, state="failed")
        assert "not what was written" in str(failed["fault"]) and file.name in str(failed["fault"]), failed
    assert p.daemon.machine("web4") is None and sorted(os.listdir(p.host.images)) == before
    file.write_bytes(whole[:-1])
    assert {b["name"]: b["state"] for b in listed(p)} == {first["name"]: "broken", second["name"]: "broken"}
    file.write_bytes(whole)
    done(p, "backup", "verify", "backups", second["name"])
    assert all(b["state"] == "whole" for b in listed(p))
    refused = p.daemon.cli("backup", "delete", "backups", first["name"], "--yes", check=False)
    assert refused.returncode == 75 and second["name"] in refused.stderr, refused


def test_a_crash_of_qemu_makes_the_next_backup_a_full_one(p):
    done(p, "backup", "create", "web1", "backups", "--kind", "full")
    os.kill(p.host.qemu_pid("web1"), signal.SIGKILL)
    until(lambda: p.host.state("web1") == "shut off", 20, "the end of web1")
    start(p, "web1")
    refused = done(p, "backup", "create", "web1", "backups", "--kind", "incremental", state="failed")
    assert "crash" in refused["fault"]["message"], refused
    made = done(p, "backup", "create", "web1", "backups")
    assert "a full backup" in made["message"] and "crash" in made["message"], made
    assert checkpoints(p, "web1") == [latest(p)["name"]] and parts(p) == []


def test_a_snapshot_is_not_gone_back_to_while_qemu_notes_what_is_written(p):
    assert checkpoints(p, "web1")
    # The raw disk could have no snapshot inside it.
    p.daemon.cli("domain", "detach-disk", "web1", "vdb", "--yes")
    until(lambda: "vdb" not in p.host.virsh("domblklist", "web1"), 30, "vdb to go")
    done(p, "snapshot", "create", "web1", "--name", "before")
    refused = p.daemon.cli("snapshot", "revert", "web1", "before", "--discard", "--yes", check=False)
    assert refused.returncode != 0 and "checkpoint delete" in refused.stderr, refused
    assert p.host.state("web1") == "running"
    p.daemon.cli("checkpoint", "delete", "web1", "--all")
    done(p, "snapshot", "revert", "web1", "before", "--discard", "--yes")
    made = done(p, "backup", "create", "web1", "backups")
    assert "a full backup" in made["message"] and "checkpoint" in made["message"], made
    off(p, "web1")
    refused = done(p, "domain", "restore", "web1", latest(p)["name"], "--yes", state="failed")
    assert "snapshots" in str(refused["fault"]), refused


def test_backups_outlive_their_machine(p):
    assert checkpoints(p, "web1"), "they do not keep it from going"
    last = latest(p)["name"]
    p.daemon.cli("domain", "undefine", "web1", "--yes")
    until(lambda: p.daemon.machine("web1") is None, 20, "web1 to go")
    assert latest(p)["name"] == last
    done(p, "backup", "restore", "backups", last, "web1", "--into", "images")
    p.daemon.wait_state("web1", "shutoff")
    p.daemon.cli("domain", "undefine", "web1", "--with-volumes", "all", "--yes")
    for backup in [b["name"] for b in listed(p) if b["kind"] == "full"]:
        p.daemon.cli("backup", "delete", "backups", backup, "--with-later", "--yes")
    assert list(p.backups.iterdir()) == []


def test_a_machine_that_is_off_is_copied_and_does_not_start_meanwhile(p):
    made = done(p, "backup", "create", "tick", "backups")
    assert "a full backup" in made["message"] and latest(p, "tick")["disks"] == ["hda"], made
    refused = done(p, "backup", "create", "tick", "backups", "--kind", "incremental", state="failed")
    assert "off" in refused["fault"]["message"], refused
    before = sorted(f.name for f in p.backups.iterdir())
    task = slowly(p, "tick")
    refused = p.daemon.cli("domain", "start", "tick", check=False)
    assert refused.returncode == 75 and "being backed up" in refused.stderr, refused
    p.daemon.cli("task", "cancel", task)
    ended(p, task, "cancelled")
    assert sorted(f.name for f in p.backups.iterdir()) == before
    p.daemon.cli("domain", "start", "tick")
    p.daemon.wait_state("tick", "running")


def test_a_long_backup_shows_how_far_it_is_and_cancels_without_a_trace(p):
    before = sorted(f.name for f in p.backups.iterdir())
    task = slowly(p, "tick")
    seen = set()
    def moves():
        seen.add(p.daemon.json("task", "show", task)["message"])
        return len(seen) > 3
    until(moves, 60, "four words of progress", pause=0.05)
    assert parts(p), "what is half made is called so"
    assert [b["machine"] for b in listed(p)] == ["tick"], "and is no backup"
    for command in (("domain", "undefine", "tick", "--yes"), ("backup", "create", "tick", "backups"), ("snapshot", "create", "tick")):
        refused = p.daemon.cli(*command, check=False)
        assert refused.returncode != 0, command
    p.daemon.cli("task", "cancel", task)
    ended(p, task, "cancelled")
    nothing_of_it(p, "tick", before)


def test_a_guest_that_ends_meanwhile_has_no_backup(p):
    before = sorted(f.name for f in p.backups.iterdir())
    task = slowly(p, "tick")
    p.daemon.cli("domain", "force-off", "tick", "--yes")
    failed = ended(p, task, "failed")
    assert "the guest ended" in failed["fault"]["message"], failed
    p.daemon.cli("domain", "start", "tick")
    p.daemon.wait_state("tick", "running")
    nothing_of_it(p, "tick", before)


def test_what_a_killed_daemon_left_is_given_up_and_said(p):
    before = sorted(f.name for f in p.backups.iterdir())
    task = slowly(p, "tick")
    p.daemon.kill()
    assert "Backup" in p.host.virsh("domjobinfo", "tick"), "libvirt goes on with it"
    p.daemon.start()
    failed = until(lambda: next((t for t in p.daemon.json("task", "list") if t["id"] == task and t["state"] == "failed"), None), 60, "the end of the task")
    assert "given up" in str(failed["fault"]), failed
    nothing_of_it(p, "tick", before)


def test_a_full_pool_is_said_and_harms_nobody(p):
    counted = p.host.beats("tick")[1]
    failed = done(p, "backup", "create", "tick", "small", state="failed")
    assert "small is full" in failed["fault"]["message"], failed
    assert p.host.state("tick") == "running" and list(p.host.pools["small"].iterdir()) == []
    assert p.host.virsh("checkpoint-list", "tick", "--name") == ""
    until(lambda: p.host.beats("tick")[1] != counted, 20, "the guest counts on")
