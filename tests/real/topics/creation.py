"""Machines that are created on a real libvirtd: from an image with a seed that a Linux guest reads, from a CD that boots, on a disk that is
there, linked, by network boot; and what is left when it goes wrong, is cancelled, or the daemon dies in the middle.

Not here: cloud-init itself, which needs a whole distribution in the guest. The guest mounts the seed as cloud-init does (label cidata,
iso9660), shows what it reads, and takes its name from it.
"""

import json
import os
import re
import select
import struct
import subprocess
import time

from harness import linux
from harness.base import until
from harness.daemon import Daemon
from harness.libvirt_host import TICK, LibvirtHost

MIB = 1 << 20
PART = ".archipel-part"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExam"
NETWORK = "<network><name>{name}</name><bridge name='{name}0'/></network>"


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


def clean(p, **images):
    """What a test before this one left when it failed is no business of this one; these images are there."""
    for one in p.daemon.json("domain", "list"):
        p.host._virsh("destroy", one["name"])
        p.host._virsh("undefine", one["name"], "--nvram")
    for file in p.images.iterdir():
        file.unlink()
    for name, make in images.items():
        make(p.images / name.replace("_", "."))
    p.host.virsh("pool-refresh", "images")
    until(lambda: not p.daemon.json("domain", "list"), 20, "no machines")


def tick(path):
    """An image that boots and counts."""
    path.write_bytes(TICK.read_bytes())


def tick_cd(path):
    """A CD that boots into the same, without emulation (El Torito)."""
    def sector(*parts):
        return b"".join(parts).ljust(2048, b"\0")

    both = lambda n: struct.pack("<I", n) + struct.pack(">I", n)  # noqa: E731
    primary = bytearray(sector(b"\1CD001\1\0", b" " * 64, bytes(8), both(21), bytes(32)))
    primary[120:132] = struct.pack("<H", 1) + struct.pack(">H", 1) + struct.pack("<H", 1) + struct.pack(">H", 1) + struct.pack("<H", 2048) + struct.pack(">H", 2048)
    primary[881] = 1
    record = sector(b"\0CD001\1EL TORITO SPECIFICATION".ljust(71, b"\0"), struct.pack("<I", 19))
    head = bytearray(b"\1\0\0\0".ljust(28, b"\0") + b"\0\0\x55\xaa")
    total = sum(struct.unpack("<16H", head)) & 0xFFFF
    head[28:30] = struct.pack("<H", -total & 0xFFFF)
    catalog = sector(head, b"\x88\0\0\0\0\0", struct.pack("<HI", 4, 20))
    path.write_bytes(bytes(16 * 2048) + bytes(primary) + record + sector(b"\xffCD001\1") + catalog + sector(TICK.read_bytes()[:2048]))


def big(path, mib=1024, kind="raw"):
    """An image whose copy takes a while."""
    block = os.urandom(MIB)
    raw = path.with_suffix(".tmp")
    with open(raw, "wb") as f:
        for n in range(mib):
            f.write(struct.pack("<Q", n) + block[8:])
    if kind == "raw":
        raw.rename(path)
    else:
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, str(raw), str(path)], check=True)
        raw.unlink()


def create(p, *arguments, **more):
    """Creates a machine and waits until it has ended; gives back the task."""
    task = p.daemon.json("domain", "create", *arguments, **more)["task"]
    return ended(p, task)


def ended(p, task, seconds=90):
    def over():
        found = p.daemon.json("task", "show", task)
        return found if found["state"] != "running" else None
    return until(over, seconds, f"the end of {task}", pause=0.05)


def done(p, *arguments):
    end = create(p, *arguments)
    assert end["state"] == "done", end
    return end["message"]


def refused(p, *arguments, code=None):
    """A creation that must be refused at once, and leaves nothing."""
    before = files(p)
    said = p.daemon.cli("domain", "create", *arguments, check=False)
    assert said.returncode != 0, f"{arguments} was not refused: {said.stdout}"
    assert code is None or said.returncode == code, (said.returncode, said.stderr)
    assert files(p) == before, (arguments, files(p))
    return said.stderr.strip()


def files(p):
    return sorted(f.name for f in p.images.iterdir())


def xml(p, name):
    return p.host.virsh("dumpxml", "--inactive", name)


def counts(p, name):
    """Waits until the guest has said something on its serial line: it has booted."""
    line = os.open(p.host.virsh("ttyconsole", name), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    heard = b""

    def booted():
        nonlocal heard
        if select.select([line], [], [], 0.2)[0]:
            heard += os.read(line, 4096)
        return re.search(rb"T[0-9A-F]{4}\r", heard)

    try:
        until(booted, 60, f"the first line of {name}")
    finally:
        os.close(line)


def test_an_image_and_a_name_are_enough_for_a_machine_that_boots(p):
    clean(p, tick_img=tick)
    said = done(p, "web1", "--image", "tick.img", "--memory", "64MiB")
    assert said.startswith("web1 is created and started") and "no network card" in said and "lets you in" in said, said
    counts(p, "web1")
    assert files(p) == ["tick.img", "web1-seed.iso", "web1.qcow2"]
    shown = p.daemon.json("domain", "volumes", "web1")
    assert [(v["volume"], v["read_only"]) for v in shown] == [("web1-seed.iso", True), ("web1.qcow2", False)], shown
    text = xml(p, "web1")
    for part in ("q35", "virtio-scsi", "org.qemu.guest_agent.0", "<rng model='virtio'>", "offset='utc'", "dev='vda' bus='virtio'"):
        assert part in text, part
    p.daemon.cli("domain", "force-off", "web1", "--yes")
    p.daemon.cli("domain", "undefine", "web1", "--with-volumes", "all", "--yes")
    assert files(p) == ["tick.img"], "its disk and its seed go with it"


def test_a_guest_reads_its_seed_and_takes_its_name_from_it(p):
    clean(p, tick_img=tick)
    told = ("--user", "alice", "--ssh-key", f"{KEY} alice@desk\n{KEY} alice@phone", "--password", "hunter2-and-more", "--network-config", "version: 2\n")
    done(p, "web_1", "--image", "images/tick.img", "--memory", "256MiB", "--start", "false", *told)
    # The guest has its kernel beside the image, as the image holds nothing but one sector.
    serial, kept = p.host.work / "web_1.serial", linux.kept()
    boot = f"<kernel>{kept}/vmlinuz</kernel><initrd>{kept}/initrd.gz</initrd><cmdline>console=ttyS0 quiet guest.name=nobody</cmdline></os>"
    text = xml(p, "web_1").replace("</os>", boot)
    text = re.sub(r"<serial type='pty'>", f"<serial type='file'><source path='{serial}'/>", text)
    text = re.sub(r"<console type='pty'>.*?</console>", "", text, flags=re.S)
    (p.host.work / "web_1.xml").write_text(text)
    p.host.virsh("define", str(p.host.work / "web_1.xml"))
    p.daemon.cli("domain", "start", "web_1")
    until(lambda: serial.exists() and b"GUEST READY" in serial.read_bytes(), 120, "the guest")
    lines = serial.read_text(errors="replace").replace("\r", "").splitlines()

    def read(way, name):
        head = f"SEED {way} {name}: "
        return "\n".join(line[len(head):] for line in lines if line.startswith(head))

    for way in ("nojoliet", "norock"):
        user_data = read(way, "user-data")
        assert user_data.startswith("#cloud-config\n"), (way, lines[-40:])
        user = json.loads(user_data.split("\n", 1)[1])["users"][0]
        assert (user["name"], user["ssh_authorized_keys"]) == ("alice", [f"{KEY} alice@desk", f"{KEY} alice@phone"]), user
        assert user["passwd"].startswith("$6$") and user["lock_passwd"] is False, user
        meta = json.loads(read(way, "meta-data"))
        assert meta == {"instance-id": p.host.virsh("domuuid", "web_1"), "local-hostname": "web-1"}, meta
        assert read(way, "network-config").strip() == "version: 2"
    until(lambda: p.daemon.machine("web_1")["agent"], 90, "the agent to answer", pause=0.2)
    assert p.daemon.json("domain", "guest-info", "web_1")["hostname"] == "web-1"
    secret = b"hunter2-and-more"
    found = [str(f) for folder in (p.daemon.data, p.images) for f in folder.rglob("*") if f.is_file() and secret in f.read_bytes()]
    assert not found and secret.decode() not in p.daemon.log.read_text(), f"the password is written down in {found}"


def test_a_cd_boots_and_the_empty_disk_comes_before_it(p):
    clean(p, tick_iso=tick_cd)
    done(p, "inst", "--iso", "tick.iso", "--memory", "64MiB", "--size", "1GiB")
    counts(p, "inst")
    assert files(p) == ["inst.qcow2", "tick.iso"]
    text = xml(p, "inst")
    orders = re.findall(r"<disk type='file' device='(\w+)'>.*?<target dev='(\w+)' bus='(\w+)'.*?<boot order='(\d)'/>", text, re.S)
    assert orders == [("disk", "vda", "virtio", "1"), ("cdrom", "sda", "sata", "2")], text
    p.daemon.cli("domain", "force-off", "inst", "--yes")
    p.daemon.cli("domain", "undefine", "inst", "--with-volumes", "all", "--yes")
    assert files(p) == ["tick.iso"], "the CD is not its own"


def test_other_beginnings(p):
    clean(p, tick_img=tick, spare_img=tick)
    for name in ("one", "two"):
        (p.work / "net.xml").write_text(NETWORK.format(name=name))
        p.host.virsh("net-define", str(p.work / "net.xml"))
        p.host.virsh("net-start", name)
    until(lambda: len(p.daemon.json("network", "list")) == 2, 20, "the networks")
    assert "several networks" in done(p, "linked", "--image", "tick.img", "--linked", "--size", "64MiB", "--memory", "64MiB", "--cloud-init", "false")
    counts(p, "linked")
    info = subprocess.run(["qemu-img", "info", "-U", str(p.images / "linked.qcow2")], capture_output=True, text=True, check=True).stdout
    assert f"backing file: {p.images}/tick.img" in info and "64 MiB" in info, info
    p.daemon.cli("domain", "force-off", "linked", "--yes")

    done(p, "own", "--disk", "spare.img", "--start", "false", "--firmware", "bios", "--note", "an old one")
    assert f"{p.images}/spare.img" in xml(p, "own") and "own.qcow2" not in files(p)
    assert "used by own" in refused(p, "own2", "--disk", "spare.img", code=75)

    assert "--network" in refused(p, "pxe", "--network-boot", "--start", "false")
    done(p, "pxe", "--network-boot", "--network", "two", "--start", "false", "--size", "1GiB")
    text = xml(p, "pxe")
    assert re.search(r"<source network='two'/>.*?<boot order='1'/>", text, re.S) and re.search(r"dev='vda'.*?<boot order='2'/>", text, re.S), text

    name = done(p, "--image", "images/tick.img", "--start", "false", "--network", "none").split(" ")[0]
    assert re.fullmatch(r"[a-z]+-[a-z]+", name) and p.daemon.machine(name)["state"] == "shutoff", name
    for net in ("one", "two"):
        p.host.virsh("net-destroy", net)
        p.host.virsh("net-undefine", net)
    return f"a machine without a name was called {name}"


def test_what_cannot_be_is_refused_with_the_reason_and_leaves_nothing(p):
    clean(p, tick_img=tick, wide_img=lambda f: f.write_bytes(bytes(4 * MIB)), cd_iso=tick_cd, broken_qcow2=lambda f: f.write_bytes(b"QFI\xfb" + bytes(600)), text_qcow2=lambda f: f.write_text("hello"))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/hostname", str(p.images / "outside.qcow2"), "1M"], check=True)
    p.host.virsh("pool-refresh", "images")
    image = ("--image", "tick.img")
    long = "a" * 300
    for name in ("a/b", "a b", "w\u0435b1", "../x", long):
        assert "cannot be a name" in refused(p, name, *image, code=64), name
    for size in ("0", "-1", "11529215046068469760", "10EiB"):
        refused(p, "web1", *image, f"--size={size}", code=64)
    assert "cannot hold it" in refused(p, "web1", "--image", "wide.img", "--size", "1MiB", code=64)
    said = refused(p, "web1", "--image", "debain.img", code=66)
    assert "there are images/" in said and "images/tick.img" in said and "broken" not in said and "cd.iso" not in said, said
    assert "does not name a volume" in refused(p, "web1", "--image", "images/../../etc/passwd", code=64)
    for name in ("broken.qcow2", "text.qcow2"):
        assert "does not begin like one" in refused(p, "web1", "--image", name, code=64), name
    assert "backing file outside of any pool" in refused(p, "web1", "--image", "outside.qcow2", code=64)
    assert "outside of any pool" in refused(p, "web1", "--disk", "outside.qcow2", code=64)
    assert "--iso" in refused(p, "web1", "--image", "cd.iso", code=64)
    assert "private key" in refused(p, "web1", *image, "--ssh-key", "-----BEGIN OPENSSH PRIVATE KEY-----", code=64)
    assert "would not know" in refused(p, "web1", *image, "--user-data", "users: []", code=64)
    assert "there is no network" in refused(p, "web1", *image, "--network", "nowhere", code=66)
    assert "there is no storage pool" in refused(p, "web1", *image, "--pool", "nowhere", code=66)
    assert "say what it begins with" in refused(p, "web1", code=64)
    assert p.daemon.json("domain", "list") == []


def test_a_start_that_fails_takes_everything_with_it(p):
    clean(p, tick_img=tick)
    end = create(p, "web1", "--image", "tick.img", "--memory", "15TiB")
    assert end["state"] == "failed" and "what had been made was removed again" in end["message"], end
    assert files(p) == ["tick.img"] and p.daemon.json("domain", "list") == []
    return end["message"][:100]


def test_a_creation_is_cancelled_within_two_seconds_and_leaves_nothing(p):
    clean(p, big_raw=big)
    task = p.daemon.json("domain", "create", "web1", "--image", "big.raw")["task"]
    part = p.images / f"web1.qcow2{PART}"
    until(lambda: part.exists() and part.stat().st_blocks * 512 > 20 * MIB, 30, "the copy to be under way")
    began = time.monotonic()
    p.daemon.cli("task", "cancel", task)
    end = ended(p, task)
    took = time.monotonic() - began
    assert end["state"] == "cancelled" and took < 2, (took, end)
    assert files(p) == ["big.raw"] and p.daemon.json("domain", "list") == []
    return f"{took:.2f} s"


def test_a_daemon_that_dies_in_the_middle_says_what_became_of_it(p):
    clean(p, big_qcow2=lambda f: big(f, kind="qcow2"))
    task = p.daemon.json("domain", "create", "web1", "--image", "big.qcow2")["task"]
    part = p.images / f"web1.qcow2{PART}"
    until(lambda: part.exists() and part.stat().st_blocks * 512 > 20 * MIB, 30, "the copy to be under way")
    p.daemon.kill()
    p.daemon.start()
    end = ended(p, task)
    assert end["state"] == "failed" and "interrupted by a restart" in end["message"] + str(end["fault"]), end
    said = end["fault"]["message"]
    if "nothing of it is left" in said:
        assert files(p) == ["big.qcow2"], (said, files(p))
    else:
        assert part.name in said, (said, files(p))
    assert p.daemon.json("domain", "list") == []
    for file in files(p):
        assert file in ("big.qcow2", part.name), files(p)
    assert done(p, "web1", "--image", "big.qcow2", "--start", "false").startswith("web1 is created"), "it can be asked again"
    return said
