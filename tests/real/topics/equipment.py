"""What a machine is made of, seen from inside a real Linux guest: disks that grow, are copied and merged while it writes; processors, memory and
cards that come while it runs; firmware, machine type and devices that are there at its next boot.

Not here: handing over a device of the host. This kernel has no IOMMU, so nothing of PCI can leave it, and neither USB nor its dummy_hcd;
`topics/devices.py` sees that what is not on the host's list is refused.
"""

import hashlib
import json
import pathlib
import subprocess
import xml.etree.ElementTree as ElementTree

from harness import linux
from harness.base import until
from harness.daemon import CELL, Daemon
from harness.libvirt_host import LibvirtHost

MIB = 1 << 20
RAW = f"raw@{CELL}"
NETWORK = "<network><name>{name}</name><bridge name='{name}0'/></network>"
CARD = "<interface type='network'><source network='quiet'/><model type='virtio'/></interface>"
DISK = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{file}'/><target dev='vda' bus='virtio'/></disk>"
WRITER = """(n=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); dd if=/dev/urandom of=/data/new$((n % 8)) bs=64k count=2 conv=fsync
echo $n >/tmp/rounds; done) >/dev/null 2>&1 &"""


class Host(LibvirtHost):
    """A host with an address besides loopback: QEMU's SPICE looks up its own and finds none on a host without."""

    def connect(self):
        for command in ("link add out0 type bridge", "addr add 192.0.2.1/24 dev out0", "link set out0 up"):
            subprocess.run(self.inside("ip", *command.split()), check=True)


class Parts:
    def do(self, verb, *options, **more):
        return self.daemon.json("domain", verb, "web1", *options, **more)

    def refused(self, words, verb, *options, code=None):
        done = self.daemon.cli("domain", verb, "web1", *options, check=False)
        assert done.returncode and words in done.stderr and code in (None, done.returncode), (verb, options, done)

    def guest(self, script):
        """What a line of shell says inside the guest."""
        ran = self.do("guest-run", "sh", "--arguments", "-c '{}'".format(script.replace("'", "'\\''")), "--timeout", "60", jid=RAW)
        assert ran["exit_code"] == 0, (script, ran)
        return ran["output"].strip()

    def begin(self, verb, *options):
        return self.do(verb, *options)["task"]

    def ended(self, task, state="done"):
        ended = json.loads(self.daemon.cli("--json", "task", "wait", task, "--timeout", "90", check=False, timeout=110).stdout)
        assert ended["state"] == state, ended
        return ended

    def live(self):
        return ElementTree.fromstring(self.host.virsh("dumpxml", "web1"))

    def source(self):
        return pathlib.Path(self.live().find("devices/disk[@device='disk']/source").get("file"))

    def boot(self):
        self.daemon.cli("domain", "start", "web1")
        until(lambda: self.daemon.machine("web1")["agent"], 120, "the agent to answer", pause=0.2)


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(Host(work))
    for name in ("quiet", "other"):
        file = p.host.work / f"{name}.xml"
        file.write_text(NETWORK.format(name=name))
        p.host.virsh("net-define", str(file))
        p.host.virsh("net-start", name)
    p.other = p.host.work / "other-pool"
    p.other.mkdir()
    p.host.virsh("pool-define-as", "other", "dir", "--target", str(p.other))
    p.host.virsh("pool-start", "other")
    disk = p.host.images / "web1.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "48M"], check=True)
    linux.define(p.host, "web1", more=CARD + DISK.format(file=disk))
    p.daemon = Daemon(work, {"alpha": p.host.uri})
    p.daemon.account("add", RAW, "--role", "admin-raw")
    stack.enter_context(p.daemon)
    p.daemon.wait_state("web1", "shutoff")
    p.do("set-vcpus", "--vcpus", "1", "--maximum", "2")
    p.boot()
    return p


def test_a_disk_that_grows_is_larger_in_the_guest_at_once(p):
    assert p.guest("cat /sys/block/vda/size") == str(48 * MIB // 512)
    p.do("resize-disk", "--disk", "vda", "--size", "64MiB")
    until(lambda: p.guest("cat /sys/block/vda/size") == str(64 * MIB // 512), 30, "the guest to see it")
    p.refused("can only grow", "resize-disk", "--disk", "vda", "--size", "48MiB", code=64)
    for size in ("0", "-1", "10EiB", "1048577"):
        p.refused("", "resize-disk", "--disk", "vda", f"--size={size}", code=64)
    assert p.guest("cat /sys/block/vda/size") == str(64 * MIB // 512)


def content(p):
    """The sum of the disk as the guest reads it, once it has stopped to write."""
    p.guest("touch /tmp/stop; while pidof dd; do :; done >/dev/null; umount /data; sync")
    return p.guest("md5sum </dev/vda").split()[0]


def on_host(path):
    """The sum of what is in an image, as a disk."""
    flat = path.with_suffix(".flat")
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", str(path), str(flat)], check=True)
    try:
        return hashlib.md5(flat.read_bytes()).hexdigest()
    finally:
        flat.unlink()


def test_a_copy_that_is_stopped_leaves_the_guest_where_it_was(p):
    p.guest("dd if=/dev/urandom of=/data/old bs=1M count=24 && sync")
    p.daemon.cli("volume", "create", "other", "slow.qcow2", "--capacity", "64MiB")
    before = p.source()
    task = p.begin("copy-disk", "--disk", "vda", "--to", "other/slow.qcow2", "--bandwidth", "1MiB")
    until(lambda: 0 < (p.daemon.json("task", "show", task).get("percent") or 0) < 100, 60, "progress", pause=0.1)
    p.daemon.cli("task", "cancel", task)
    p.ended(task, "cancelled")
    until(lambda: p.live().find("devices/disk/mirror") is None, 30, "the end of the copy")
    assert p.source() == before
    p.daemon.cli("volume", "delete", "other", "slow.qcow2", "--yes")


def test_a_disk_moves_to_another_pool_while_the_guest_writes(p):
    p.daemon.cli("volume", "create", "other", "web1.qcow2", "--capacity", "64MiB")
    p.daemon.cli("volume", "create", "other", "small.qcow2", "--capacity", "1MiB")
    small = p.ended(p.begin("copy-disk", "--disk", "vda", "--to", "other/small.qcow2"), "failed")
    assert "make it larger first" in small["message"], small
    p.guest(WRITER)
    until(lambda: p.guest("cat /tmp/rounds 2>/dev/null || echo 0") != "0", 30, "the guest to write")
    before, began = p.source(), int(p.guest("cat /tmp/rounds"))
    p.ended(p.begin("copy-disk", "--disk", "vda", "--to", "other/web1.qcow2"))
    assert p.source() == p.other / "web1.qcow2", "the guest goes on with the copy"
    assert f"{p.other}/web1.qcow2" in p.host.virsh("dumpxml", "--inactive", "web1"), "and so does the definition"
    until(lambda: int(p.guest("cat /tmp/rounds")) > began + 3, 60, "the guest to write on")
    there = content(p)
    assert on_host(p.other / "web1.qcow2") == there and on_host(before) != there
    p.guest("rm /tmp/stop /tmp/rounds; mount /dev/vda /data && ls /data/old")


def test_the_layer_of_a_snapshot_is_merged_while_the_guest_writes(p):
    base = p.source()
    p.refused("one layer only", "commit-disk", "--disk", "vda")
    p.ended(p.daemon.json("snapshot", "create", "web1", "--name", "layer", "--external")["task"])
    top = p.source()
    assert top != base
    p.guest(WRITER)
    until(lambda: p.guest("cat /tmp/rounds 2>/dev/null || echo 0") not in "012", 60, "the guest to write")
    p.ended(p.begin("commit-disk", "--disk", "vda"))
    assert p.source() == base, "the guest goes on with what was below"
    there = content(p)
    assert on_host(base) == there and on_host(top) != there
    p.guest("mount /dev/vda /data && ls /data/old /data/new1")


def test_the_guest_sees_a_processor_that_is_plugged_in(p):
    assert p.guest("cat /sys/devices/system/cpu/present") == "0"
    assert p.do("set-vcpus", "--vcpus", "2")["applies"] == "both"
    until(lambda: p.guest("cat /sys/devices/system/cpu/present") == "0-1", 60, "the guest to see it")
    pinned = p.do("set-cpu", "--pin", "0", "--vcpu", "0")
    assert pinned["applies"] == "both" and p.live().find("cputune/vcpupin").get("cpuset") == "0", pinned


def test_the_guest_gives_memory_back_and_gets_it_again(p):
    total = lambda: int(p.guest("grep MemTotal /proc/meminfo").split()[1])
    whole = total()
    assert p.do("set-memory", "--memory", "160MiB")["applies"] == "both"
    until(lambda: total() < whole - 28 * 1024, 60, "the balloon to be blown up")
    p.do("set-memory", "--memory", "192MiB")
    until(lambda: total() > whole - 1024, 60, "the balloon to be empty")


def test_the_guest_sees_the_cable_pulled_and_a_card_come_and_go(p):
    mac = p.live().find("devices/interface/mac").get("address")
    carrier = lambda: p.guest("cat /sys/class/net/eth0/carrier")
    assert carrier() == "1"
    p.do("set-nic", "--mac", mac, "--link", "down")
    until(lambda: carrier() == "0", 30, "the cable to be pulled")
    p.do("set-nic", "--mac", mac, "--link", "up")
    until(lambda: carrier() == "1", 30, "the cable to be in")
    card = p.do("attach-nic", "--network", "other")["device"]
    until(lambda: card in p.guest("cat /sys/class/net/*/address"), 60, "the second card")
    p.do("detach-nic", "--mac", card, "--yes")
    until(lambda: card not in p.guest("cat /sys/class/net/*/address"), 60, "the second card to go")
    until(lambda: card not in p.host.virsh("dumpxml", "web1"), 30, "libvirt to know it")


def test_a_disk_comes_with_limits_and_goes(p):
    p.daemon.cli("volume", "create", "images", "more.raw", "--capacity", "8MiB", "--format", "raw")
    name = p.do("attach-disk", "--volume", "images/more.raw", "--bus", "virtio", "--bandwidth", "4MiB")["device"]
    until(lambda: p.guest(f"cat /sys/block/{name}/size 2>/dev/null || echo") == str(8 * MIB // 512), 60, "the guest to see it")
    tune = lambda: dict(line.split(":") for line in p.host.virsh("blkdeviotune", "web1", name).replace(" ", "").split("\n"))
    assert tune()["total_bytes_sec"] == str(4 * MIB), tune()
    p.do("set-disk", "--disk", name, "--iops", "40")
    assert tune()["total_iops_sec"] == "40" and tune()["total_bytes_sec"] == str(4 * MIB), tune()
    p.do("detach-disk", "--disk", name, "--yes")
    until(lambda: p.guest(f"ls /sys/block/{name} 2>/dev/null || echo gone") == "gone", 60, "the guest to let it go")


def test_plain_devices_come_while_it_runs(p):
    p.do("add-device", "--kind", "rng")
    until(lambda: "virtio_rng" in p.guest("cat /sys/class/misc/hw_random/rng_available"), 60, "the guest to see the random numbers")
    devices = lambda: p.guest("cat /sys/bus/pci/devices/*/device")
    p.do("add-device", "--kind", "watchdog")
    until(lambda: "0x25ab" in devices(), 60, "the guest to see the watchdog")
    p.refused("already", "add-device", "--kind", "watchdog", code=73)
    p.do("remove-device", "--kind", "rng")
    until(lambda: p.live().find("devices/rng") is None, 60, "the guest to let it go")


def test_everything_else_is_there_at_the_next_boot(p):
    for verb, *options in (
        ("set-firmware", "--firmware", "uefi", "--tpm", "true"),
        ("set-boot", "--machine", "q35", "--menu", "true"),
        ("set-cpu", "--model", "Nehalem", "--topology", "1:2:1"),
        ("set-memory", "--maximum", "256MiB", "--memory", "256MiB"),
        ("set-graphics", "--screen", "vnc", "--socket", "true", "--video", "virtio", "--keymap", "de-ch"),
        ("set-lifecycle", "--clock", "localtime", "--on-crash", "restart"),
        ("add-device", "--kind", "sound"),
        ("add-device", "--kind", "serial"),
        ("add-device", "--kind", "tablet", "--when", "next-boot"),
        ("add-device", "--kind", "cdrom"),
    ):
        answer = p.do(verb, *options)
        assert answer["applies"] in ("next-boot", "both"), (verb, answer)
    p.daemon.cli("domain", "shutdown", "web1", "--mode", "agent", "--wait")
    p.boot()
    assert p.guest("ls -d /sys/firmware/efi") and p.guest("cat /sys/class/tpm/tpm0/tpm_version_major") == "2"
    assert "Nehalem" in p.guest("grep -m 1 'model name' /proc/cpuinfo")
    assert p.guest("cat /sys/devices/system/cpu/present") == "0-1"
    assert int(p.guest("grep MemTotal /proc/meminfo").split()[1]) > 200 * 1024
    classes = p.guest("cat /sys/bus/pci/devices/*/class").split()
    assert "0x040300" in classes, "no sound card"
    assert "0x29c0" in p.guest("cat /sys/bus/pci/devices/0000:00:00.0/device"), "the host bridge is not the Q35's"
    assert "0x1050" in p.guest("cat /sys/bus/pci/devices/*/device"), "no virtio screen"
    assert p.guest("cat /sys/class/tty/ttyS1/type") == "4"
    machine = p.live()
    assert machine.find("devices/graphics/listen").get("type") == "socket"
    assert "\0-k\0de-ch\0" in pathlib.Path(f"/proc/{p.host.qemu_pid('web1')}/cmdline").read_text()
    p.refused("QEMU knows no keyboard", "set-graphics", "--keymap", "../de", code=64)
    assert machine.find("devices/input[@type='tablet']") is not None and machine.find("devices/disk[@device='cdrom']") is not None
    assert machine.find("clock").get("offset") == "localtime" and machine.find("on_crash").text == "restart"
    assert machine.find("os/bootmenu").get("enable") == "yes"


def test_a_screen_may_be_spice_and_the_firmware_may_want_signatures(p):
    p.daemon.cli("domain", "force-off", "web1", "--yes")
    p.do("set-graphics", "--screen", "spice", "--socket", "false")
    p.do("set-firmware", "--firmware", "secure-boot")
    p.do("set-boot", "--order", "vda")
    p.daemon.cli("domain", "start", "web1")
    arguments = pathlib.Path(f"/proc/{p.host.qemu_pid('web1')}/cmdline").read_text()
    assert "OVMF_CODE_4M.ms.fd" in arguments or "OVMF_CODE_4M.secboot.fd" in arguments, "firmware without Secure Boot"
    assert "property=secure,value=on" in arguments and "-spice" in arguments, arguments
    until(lambda: p.daemon.machine("web1")["agent"], 120, "the agent to answer", pause=0.2)
    assert "Secure boot enabled" in p.guest("dmesg"), "the variables are those of the firmware without keys"
    assert "urn:archipel:firmware" not in p.host.virsh("dumpxml", "web1") + p.host.virsh("dumpxml", "--inactive", "web1")
    offer = p.do("console", "--kind", "spice")
    assert "[virt-viewer]" in str(offer["file"]), offer
    p.daemon.cli("domain", "force-off", "web1", "--yes")
    p.do("set-firmware", "--firmware", "bios", "--tpm", "false")
    p.do("set-graphics", "--screen", "none")
    inactive = p.host.virsh("dumpxml", "--inactive", "web1")
    assert "efi" not in inactive and "<nvram" not in inactive and "<tpm" not in inactive and "<graphics" not in inactive, inactive


def test_a_machine_with_all_of_that_is_forgotten_with_its_disks(p):
    p.do("set-firmware", "--firmware", "uefi", "--tpm", "true")
    p.daemon.cli("domain", "undefine", "web1", "--yes", "--with-volumes", "all")
    until(lambda: not p.daemon.machine("web1"), 10, "it to be forgotten")
    assert not (p.other / "web1.qcow2").exists()
