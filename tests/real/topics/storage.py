"""Pools and volumes on a real libvirtd, by the command line: made, copied, converted, taken by nobody, and nothing left half made.

Not here: pools of the types netfs, logical, iscsi, rbd, zfs and scsi are defined and forgotten but never started. This kernel has no
NFS, CIFS, device-mapper or iSCSI initiator, and there is no Ceph, ZFS or SCSI adapter to ask.
"""

import os
import re
import struct
import subprocess
import time

from harness.base import until
from harness.daemon import Daemon, EventStream
from harness.libvirt_host import LibvirtHost

MIB = 1 << 20
PART = ".archipel-part"


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.work = work
    p.host = stack.enter_context(LibvirtHost(work))
    p.images = p.host.images
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    until(lambda: p.daemon.json("storage-pool", "list"), 20, "the pool")
    return p


def volumes(p, pool="images"):
    return {v["name"]: v for v in p.daemon.json("volume", "list", pool)}


def refused(p, *arguments, code=None):
    """Runs a command that must fail; gives back what it says."""
    done = p.daemon.cli(*arguments, check=False)
    assert done.returncode != 0, f"archipel {' '.join(arguments)} was not refused: {done.stdout}"
    assert code is None or done.returncode == code, (done.returncode, done.stderr)
    return done.stderr.strip()


def image(path, *options, size="8M", kind="qcow2"):
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(path), size], check=True)


def clean(p):
    """What a test before this one left when it failed is no business of this one."""
    for name in p.daemon.json("domain", "list"):
        p.host._virsh("destroy", name["name"])
        p.host._virsh("undefine", name["name"])
    for file in p.images.iterdir():
        file.unlink()
    p.host.virsh("pool-refresh", "images")


def qemu_img_info(path):
    return subprocess.run(["qemu-img", "info", "-U", str(path)], capture_output=True, text=True, check=True).stdout


def fill(path, mib, hole_mib=0):
    """A file of bytes that do not compress into nothing, with a hole behind them."""
    block = os.urandom(MIB)
    with open(path, "wb") as f:
        for n in range(mib):
            f.write(struct.pack("<Q", n) + block[8:])
        f.truncate((mib + hole_mib) * MIB)


def big(p, mib, hole_mib=0):
    """A volume that takes a while."""
    fill(p.images / "big.raw", mib, hole_mib)
    p.daemon.cli("storage-pool", "refresh", "images", "--wait")


def task_of(p, *arguments):
    return p.daemon.json(*arguments)["task"]


def ended(p, task, seconds=60):
    def over():
        found = p.daemon.json("task", "show", task)
        return found if found["state"] != "running" else None
    return until(over, seconds, f"the end of {task}", pause=0.05)


def test_a_volume_is_made_grown_renamed_and_deleted(p):
    clean(p)
    p.daemon.cli("volume", "create", "images", "one.qcow2", "--capacity", "64MiB")
    assert "compat: 1.1" in qemu_img_info(p.images / "one.qcow2")
    p.daemon.cli("volume", "create", "images", "two.raw", "--capacity", "2MiB", "--format", "raw", "--preallocation", "full")
    assert (p.images / "two.raw").stat().st_blocks * 512 >= 2 * MIB
    p.daemon.cli("volume", "create", "images", "top.qcow2", "--backing", "images/one.qcow2")
    assert f"backing file: {p.images}/one.qcow2" in qemu_img_info(p.images / "top.qcow2")
    assert "top.qcow2 is built on one.qcow2" in refused(p, "volume", "delete", "images", "one.qcow2", "--yes", code=75)
    p.daemon.cli("volume", "delete", "images", "top.qcow2", "--yes")
    p.daemon.cli("volume", "resize", "images", "one.qcow2", "128MiB")
    assert volumes(p)["one.qcow2"]["capacity"] == 128 * MIB
    assert "--shrink" in refused(p, "volume", "resize", "images", "one.qcow2", "1MiB", code=64)
    p.daemon.cli("volume", "create", "images", "three.raw", "--capacity", "2MiB", "--format", "raw")
    p.daemon.cli("volume", "resize", "images", "three.raw", "1MiB", "--shrink")
    p.daemon.cli("volume", "rename", "images", "one.qcow2", "first.qcow2")
    assert sorted(volumes(p)) == ["first.qcow2", "three.raw", "two.raw"]
    shown = p.daemon.json("storage-pool", "info", "images")
    assert shown["provisioned"] >= 129 * MIB and shown["capacity"] > shown["available"] > 0, shown
    p.daemon.cli("volume", "wipe", "images", "two.raw", "--yes", "--wait")
    for name in ("first.qcow2", "two.raw", "three.raw"):
        p.daemon.cli("volume", "delete", "images", name, "--yes")
    assert not list(p.images.iterdir())


def test_what_cannot_be_is_refused_with_the_reason_and_leaves_nothing(p):
    clean(p)
    make = ("volume", "create", "images")
    for size, word in (("0", "0 bytes"), ("-1", ""), ("11529215046068469760", "more than"), ("10EiB", "size"), ("nonsense", "size")):
        said = refused(p, *make, "bad.qcow2", f"--capacity={size}")
        assert word in said, (size, said)
    for name in ("a/b", "a b", "..", "../up", "/etc/passwd", "w\u0435b1", "a" * 300, ".hidden", "x" + PART):
        said = refused(p, *make, name, "--capacity", "1MiB", code=64)
        assert "name" in said, (name, said)
    assert "left" in refused(p, *make, "huge.raw", "--capacity", "900TiB", "--format", "raw", "--preallocation", "full", code=65)
    assert "raw volume" in refused(p, *make, "bad.raw", "--capacity", "1MiB", "--format", "raw", "--preallocation", "metadata", code=64)
    refused(p, *make, "bad.qcow2", "--backing", "images/../../etc/passwd", code=64)
    refused(p, *make, "bad.qcow2", "--backing", "images/nothing", code=66)
    refused(p, "volume", "clone", "images", "nothing", "copy", "--wait")
    refused(p, "volume", "info", "images", "../../../etc/passwd", code=66)
    assert not list(p.images.iterdir()), list(p.images.iterdir())


def test_an_image_that_leads_out_of_its_pool_or_is_broken_is_no_disk(p):
    clean(p)
    image(p.images / "leads-out.qcow2", "-b", "/etc/passwd", "-F", "raw", size="1M")
    image(p.images / "inner.qcow2", "-b", "/etc/hostname", "-F", "raw", size="1M")
    image(p.images / "outer.qcow2", "-b", str(p.images / "inner.qcow2"), "-F", "qcow2", size="1M")
    image(p.images / "elsewhere.qcow2", "-o", f"data_file={p.images}/data.raw,data_file_raw=on", size="1M")
    image(p.images / "broken.qcow2", size="1M")
    with open(p.images / "broken.qcow2", "r+b") as f:
        f.seek(40)
        f.write(struct.pack(">Q", 1 << 50))
    image(p.images / "good.qcow2", size="1M")
    p.daemon.cli("storage-pool", "refresh", "images", "--wait")
    found = volumes(p)
    for name, word in (
        ("leads-out.qcow2", "backing file outside of any pool"),
        ("inner.qcow2", "backing file outside of any pool"),
        ("outer.qcow2", "backing file outside of any pool"),
        ("elsewhere.qcow2", "data is in another file"),
        ("broken.qcow2", "header is broken"),
    ):
        assert found[name]["state"] == "refused" and word in found[name]["refused"], found[name]
        # What another image is built on is refused as a disk before anybody looks at what it is itself.
        below = name == "inner.qcow2"
        said = refused(p, "domain", "define", "victim", "--disk", f"images/{name}", code=75 if below else 64)
        assert ("outer.qcow2 is built on" if below else word) in said, said
        assert word in refused(p, "volume", "create", "images", "on-it.qcow2", "--backing", f"images/{name}", code=64)
        task = ended(p, task_of(p, "volume", "convert", "images", name, "raw", "--to", "converted.raw"))
        assert task["state"] == "failed" and word in task["message"], task
    assert found["good.qcow2"]["state"] == "available"
    assert not p.daemon.machine("victim") and not {"on-it.qcow2", "converted.raw"} & set(volumes(p))
    for name in ("outer.qcow2", "inner.qcow2", "leads-out.qcow2", "elsewhere.qcow2", "data.raw", "broken.qcow2", "good.qcow2"):
        p.daemon.cli("volume", "delete", "images", name, "--yes")


def test_nothing_is_taken_from_a_machine_and_what_goes_with_it_is_said(p):
    clean(p)
    p.daemon.cli("volume", "create", "images", "base.qcow2", "--capacity", "8MiB")
    for name in ("web1", "web2"):
        p.daemon.cli("volume", "create", "images", f"{name}.qcow2", "--backing", "images/base.qcow2")
        p.daemon.cli("domain", "define", name, "--disk", f"images/{name}.qcow2", "--memory", "64MiB")
    p.daemon.cli("volume", "create", "images", "alone.raw", "--capacity", "1MiB", "--format", "raw")
    users = p.daemon.json("volume", "users", "images", "base.qcow2")
    assert [(u["name"], u["through"]) for u in users] == [(n, str(p.images / f"{n}.qcow2")) for n in ("web1", "web2")]
    orphans = [v["name"] for v in p.daemon.json("storage-pool", "orphans", "images")]
    assert orphans == ["alone.raw"], orphans
    assert "web1" in refused(p, "volume", "delete", "images", "web1.qcow2", "--yes", code=75)
    wiped = ended(p, task_of(p, "volume", "wipe", "images", "web1.qcow2", "--yes"))
    assert wiped["state"] == "failed" and "web1" in wiped["message"], wiped
    assert "web1" in refused(p, "volume", "rename", "images", "web1.qcow2", "other.qcow2", code=75)
    p.daemon.cli("domain", "start", "web1")
    assert "runs" in refused(p, "volume", "resize", "images", "web1.qcow2", "16MiB", code=75)
    torn = ended(p, task_of(p, "volume", "clone", "images", "web1.qcow2", "copy.qcow2"))
    assert torn["state"] == "failed" and "torn" in torn["message"], torn
    p.daemon.cli("domain", "force-off", "web1", "--yes")
    shown = p.daemon.json("domain", "volumes", "web1")
    assert [(v["volume"], v["others"]) for v in shown] == [("web1.qcow2", [])], shown
    assert "none of its volumes" in refused(p, "domain", "undefine", "web1", "--yes", "--delete-volumes", "images/alone.raw", code=64)
    p.daemon.cli("domain", "undefine", "web1", "--yes", "--with-volumes", "all")
    assert sorted(volumes(p)) == ["alone.raw", "base.qcow2", "web2.qcow2"]
    # Nobody else gets the disk of the second one from us; with other tools they do.
    assert "is a disk of web2" in refused(p, "domain", "define", "web3", "--disk", "images/web2.qcow2", code=73)
    xml = p.host.work / "web3.xml"
    xml.write_text(re.sub(r"<uuid>.*</uuid>|<mac .*/>", "", p.host.virsh("dumpxml", "web2")).replace("<name>web2<", "<name>web3<"))
    p.host.virsh("define", str(xml))
    until(lambda: p.daemon.machine("web3"), 10, "web3 to be known")
    assert "web3" in refused(p, "domain", "undefine", "web2", "--yes", "--with-volumes", "all", code=75)
    assert p.daemon.machine("web2") and "web2.qcow2" in volumes(p)
    p.daemon.cli("domain", "undefine", "web3", "--yes")
    p.daemon.cli("domain", "undefine", "web2", "--yes", "--delete-volumes", "images/web2.qcow2")
    for name in ("base.qcow2", "alone.raw"):
        p.daemon.cli("volume", "delete", "images", name, "--yes")
    assert not list(p.images.iterdir())


def progress(events, task, mark):
    """When the task said something, and what."""
    with events.seen.changed:
        news = [(at, e) for at, e in events.seen.items[mark:] if task in e["entity"] and e["topic"].startswith("task.")]
    return news


def test_a_sparse_gigabyte_is_copied_whole_with_progress_and_stays_sparse(p):
    clean(p)
    big(p, 300, hole_mib=724)
    with EventStream(p.daemon, lambda: p.host.probe()) as events:
        mark = events.seen.mark()
        task = task_of(p, "volume", "clone", "images", "big.raw", "copy.raw")
        assert ended(p, task)["state"] == "done"
        until(lambda: any(e["topic"] == "task.finished" for _, e in progress(events, task, mark)), 10, "the end among the events")
        news = progress(events, task, mark)
    gaps = [b[0] - a[0] for a, b in zip(news, news[1:])]
    assert len(news) > 3 and max(gaps) < 1, (len(news), gaps)
    subprocess.run(["cmp", str(p.images / "big.raw"), str(p.images / "copy.raw")], check=True)
    assert (p.images / "copy.raw").stat().st_blocks * 512 < 400 * MIB, "a hole was written out"
    assert sorted(volumes(p)) == ["big.raw", "copy.raw"]
    p.daemon.cli("volume", "delete", "images", "copy.raw", "--yes")
    return f"{len(news)} news, longest silence {max(gaps) * 1000:.0f} ms"


def stop_in_the_middle(p, *command):
    """Begins long work, stops it when it is under way; gives back how long the stop took."""
    task = task_of(p, *command)
    parts = lambda: [f for f in p.images.iterdir() if f.name.endswith(PART)]

    def under_way():
        state = p.daemon.json("task", "show", task)
        assert state["state"] == "running", state
        return any(f.stat().st_blocks * 512 > 20 * MIB for f in parts())

    until(under_way, 30, "the copy to be under way")
    began = time.monotonic()
    p.daemon.cli("task", "cancel", task)
    state = ended(p, task)
    took = time.monotonic() - began
    assert state["state"] == "cancelled", state
    assert took < 2, f"{took:.1f} s"
    assert not parts(), parts()
    return took


def test_a_copy_and_a_conversion_are_stopped_within_two_seconds_and_leave_nothing(p):
    clean(p)
    big(p, 1024)
    took = [stop_in_the_middle(p, "volume", "clone", "images", "big.raw", "copy.raw")]
    took.append(stop_in_the_middle(p, "volume", "convert", "images", "big.raw", "qcow2"))
    assert sorted(volumes(p)) == ["big.raw"] and volumes(p)["big.raw"]["format"] == "raw"
    return ", ".join(f"{t:.2f} s" for t in took)


def test_a_conversion_takes_the_place_of_its_original_in_one_step(p):
    clean(p)
    big(p, 100, hole_mib=924)
    task = task_of(p, "volume", "convert", "images", "big.raw", "qcow2")
    assert ended(p, task, 120)["state"] == "done"
    found = volumes(p)
    assert sorted(found) == ["big.raw"] and (found["big.raw"]["format"], found["big.raw"]["capacity"]) == ("qcow2", 1024 * MIB), found
    assert "compat: 1.1" in qemu_img_info(p.images / "big.raw")


def test_what_a_dead_daemon_left_of_a_copy_is_shown_and_removed_by_the_next_one(p):
    clean(p)
    big(p, 1024)
    task = task_of(p, "volume", "clone", "images", "big.raw", "copy.raw")
    part = p.images / f"copy.raw{PART}"
    until(lambda: part.exists() and part.stat().st_blocks * 512 > 20 * MIB, 30, "the copy to be under way")
    p.daemon.kill()
    p.daemon.start()
    assert volumes(p)[part.name]["state"] == "unfinished"
    told = [t for t in p.daemon.json("task", "list") if t["id"] == task]
    assert all(t["state"] == "failed" for t in told), told
    assert ended(p, task_of(p, "volume", "clone", "images", "big.raw", "copy.raw"), 120)["state"] == "done"
    assert sorted(volumes(p)) == ["big.raw", "copy.raw"]
    subprocess.run(["cmp", str(p.images / "big.raw"), str(p.images / "copy.raw")], check=True)
    for name in ("big.raw", "copy.raw"):
        p.daemon.cli("volume", "delete", "images", name, "--yes")
    return "told as failed" if told else "forgotten"


def test_a_pool_is_defined_built_started_emptied_and_forgotten(p):
    clean(p)
    place = p.work / "made"
    p.daemon.cli("storage-pool", "define", "made", "--path", str(place), "--build", "--start", "--autostart")
    shown = p.daemon.json("storage-pool", "info", "made")
    assert (shown["state"], shown["autostart"], shown["path"]) == ("running", True, str(place))
    refused(p, "storage-pool", "define", "made", "--path", str(place), code=73)
    p.daemon.cli("volume", "create", "made", "a.qcow2", "--capacity", "1MiB")
    p.daemon.cli("volume", "create", "images", "there.qcow2", "--capacity", "1MiB")
    p.daemon.cli("volume", "clone", "images", "there.qcow2", "b.qcow2", "--pool", "made", "--wait")
    assert sorted(volumes(p, "made")) == ["a.qcow2", "b.qcow2"]
    p.daemon.cli("volume", "delete", "images", "there.qcow2", "--yes")
    assert "--with-volumes" in refused(p, "storage-pool", "delete", "made", "--yes", code=65)
    p.daemon.cli("domain", "define", "user", "--disk", "made/a.qcow2")
    assert "user" in refused(p, "storage-pool", "delete", "made", "--yes", "--with-volumes", code=75)
    assert sorted(volumes(p, "made")) == ["a.qcow2", "b.qcow2"]
    p.daemon.cli("domain", "undefine", "user", "--yes")
    p.daemon.cli("storage-pool", "delete", "made", "--yes", "--with-volumes")
    assert not place.exists()
    p.daemon.cli("storage-pool", "undefine", "made", "--yes")
    until(lambda: [x["name"] for x in p.daemon.json("storage-pool", "list")] == ["images"], 10, "the pool to be forgotten")


def test_pools_where_they_must_not_be_are_refused_and_leave_nothing(p):
    clean(p)
    for path in ("/", "/etc", "/usr/share", "relative", "/var/../etc", "/dev/shm/x"):
        refused(p, "storage-pool", "define", "bad", "--path", path, code=64)
    said = refused(p, "storage-pool", "define", "bad", "--type", "netfs", code=64)
    assert all(word in said for word in ("source_host", "source_dir", "path")), said
    # What is defined and cannot be started is forgotten again.
    refused(p, "storage-pool", "define", "bad", "--path", str(p.work / "not-there"), "--start")
    assert [x["name"] for x in p.daemon.json("storage-pool", "list")] == ["images"]


def test_libvirt_accepts_the_definition_of_every_type_it_was_built_with(p):
    clean(p)
    types = {
        "fs": ("--source-device", "/dev/loop7", "--path", str(p.work / "fs"), "--source-format", "ext4"),
        "netfs": ("--source-host", "nas.example", "--source-dir", "/export", "--path", str(p.work / "nfs"), "--source-format", "nfs"),
        "logical": ("--source-name", "vg0", "--source-device", "/dev/loop7"),
        "iscsi": ("--source-host", "san.example:3260", "--source-device", "iqn.2026-01.example:p"),
        "scsi": ("--source-name", "host0"),
        "rbd": ("--source-host", "mon.example:6789", "--source-name", "vms"),
        "zfs": ("--source-name", "tank"),
    }
    missing = []
    for kind, options in types.items():
        done = p.daemon.cli("storage-pool", "define", f"a-{kind}", "--type", kind, *options, check=False)
        if done.returncode:
            assert kind in ("rbd", "zfs") and "missing backend" in done.stderr, done.stderr
            missing.append(kind)
            continue
        assert f"<pool type='{kind}'" in p.host.virsh("pool-dumpxml", f"a-{kind}")
        until(lambda: any(x["name"] == f"a-{kind}" for x in p.daemon.json("storage-pool", "list")), 10, f"the pool of type {kind}")
        p.daemon.cli("storage-pool", "undefine", f"a-{kind}", "--yes")
    return f"libvirt was built without {missing}" if missing else None


def test_a_file_system_on_a_device_is_built_mounted_and_left(p):
    clean(p)
    file = p.work / "disk"
    with open(file, "wb") as f:
        f.truncate(64 * MIB)
    done = subprocess.run(["losetup", "--find", "--show", str(file)], capture_output=True, text=True)
    if done.returncode:
        return f"not here: {done.stderr.strip()}"
    device = done.stdout.strip()
    try:
        p.daemon.cli(
            "storage-pool", "define", "mounted", "--type", "fs", "--source-device", device, "--source-format", "ext4",
            "--path", str(p.work / "mounted"), "--build", "--start",
        )
        p.daemon.cli("volume", "create", "mounted", "a.qcow2", "--capacity", "1MiB")
        assert p.daemon.json("storage-pool", "info", "mounted")["capacity"] < 64 * MIB
        p.daemon.cli("storage-pool", "stop", "mounted", "--yes")
        p.daemon.cli("storage-pool", "undefine", "mounted", "--yes")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
