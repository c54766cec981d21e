"""Hot changes on a real QEMU guest, by the command line, each judged by virsh: what runs now and what the definition says for the
next boot.
"""

import json
import random
import subprocess
import xml.etree.ElementTree as ElementTree

from harness.base import until
from harness.daemon import Daemon
from harness.libvirt_host import LibvirtHost

NETWORK = "<network><name>{name}</name><bridge name='{bridge}'/></network>"
MACHINE = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu current='1'>3</vcpu>
<metadata><x:y xmlns:x='urn:x'>kept</x:y></metadata>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='hda' bus='ide'/></disk>
<disk type='file' device='cdrom'><target dev='hdb' bus='ide'/><readonly/></disk>
<controller type='scsi' index='0' model='virtio-scsi'/>
<interface type='network'><mac address='{mac}'/><source network='one'/><model type='virtio'/></interface>
<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1' passwd='anfang'/>
<serial type='file'><source path='{serial}'/><target port='0'/></serial>
</devices></domain>"""


class Parts:
    def live(self, name="web1"):
        return ElementTree.fromstring(self.host.virsh("dumpxml", name))

    def config(self, name="web1"):
        return ElementTree.fromstring(self.host.virsh("dumpxml", "--inactive", name))

    def do(self, verb, *options, name="web1", **more):
        """One change; gives back the answer."""
        yes = ["--yes"] if verb.startswith("detach") else []
        return self.daemon.json("domain", verb, name, *options, *yes, **more)

    def refused(self, words, verb, *options, name="web1"):
        """A change that must not be made: nothing in libvirt differs afterwards."""
        before = [self.host.virsh("dumpxml", "--security-info", *f, name) for f in ([], ["--inactive"])]
        yes = ["--yes"] if verb.startswith("detach") else []
        done = self.daemon.cli("domain", verb, name, *options, *yes, check=False)
        assert done.returncode and words in done.stderr, f"{verb} {options}: {done.returncode} {done.stdout} {done.stderr}"
        assert before == [self.host.virsh("dumpxml", "--security-info", *f, name) for f in ([], ["--inactive"])], f"{verb} changed something"
        return done.returncode


def disk(root, target):
    return next((d for d in root.iter("disk") if d.find("target").get("dev") == target), None)


def card(root, mac):
    return next((d for d in root.iter("interface") if d.find("mac").get("address") == mac), None)


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    for number, name in enumerate(("one", "two")):
        file = p.host.work / f"{name}.xml"
        file.write_text(NETWORK.format(name=name, bridge=f"vbr{number}"))
        p.host.virsh("net-define", str(file))
        p.host.virsh("net-start", name)
    for name, kind, size in (("data.qcow2", "qcow2", "64M"), ("more.raw", "raw", "16M"), ("copy.qcow2", "qcow2", "64M"), ("install.iso", "raw", "1M")):
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, str(p.host.images / name), size], check=True)
    p.mac = {}
    for name in ("web1", "web2"):
        p.mac[name] = "52:54:00:%02x:%02x:%02x" % tuple(random.randbytes(3))
        file = p.host.work / f"{name}.xml"
        serial = p.host.work / f"{name}.serial"
        file.write_text(MACHINE.format(name=name, disk=p.host.volume(name), mac=p.mac[name], serial=serial))
        p.host.virsh("define", str(file))
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    p.daemon.wait_state("web1", "shutoff")
    p.daemon.cli("domain", "start", "web1")
    p.daemon.wait_state("web1", "running")
    p.host.booted("web1")
    return p


def test_vcpus_grow_now_and_shrink_at_the_next_boot(p):
    answer = p.do("set-vcpus", "--vcpus", "2")
    assert answer["applies"] == "both", answer
    assert p.live().find("vcpu").get("current") == "2" and p.config().find("vcpu").get("current") == "2"
    answer = p.do("set-vcpus", "--vcpus", "1")
    assert answer["applies"] == "next-boot" and "software emulation" in answer["message"], answer
    assert p.live().find("vcpu").get("current") == "2" and p.config().find("vcpu").get("current") == "1"
    p.refused("software emulation", "set-vcpus", "--vcpus", "1", "--when", "now")
    answer = p.do("set-vcpus", "--vcpus", "5")
    assert answer["applies"] == "next-boot" and "at most 3" in answer["message"], answer
    assert p.config().find("vcpu").text == "5" and p.live().find("vcpu").text == "3"
    assert p.do("set-vcpus", "--vcpus", "5", "--when", "next-boot")["applies"] == "nothing"
    p.refused("1..=512", "set-vcpus", "--vcpus", "0")


def test_memory_is_the_balloon_now_and_the_maximum_later(p):
    answer = p.do("set-memory", "--memory", "48MiB")
    assert answer["applies"] == "both", answer
    assert p.config().find("currentMemory").text == str(48 * 1024)
    stats = p.host.virsh("dommemstat", "web1")
    assert "actual" in stats, stats
    answer = p.do("set-memory", "--memory", "128MiB")
    assert answer["applies"] == "next-boot" and "64 MiB" in answer["message"], answer
    assert p.config().find("memory").text == str(128 * 1024) and p.live().find("memory").text == str(64 * 1024)
    for size in ("0", "-1", "11529215046068469760"):
        p.refused("", "set-memory", f"--memory={size}")


def test_what_archipel_does_not_know_stays(p):
    p.do("set-lifecycle", "--on-crash", "preserve")
    assert p.config().find("on_crash").text == "preserve" and p.live().find("on_crash").text == "preserve"
    assert "kept" in p.host.virsh("dumpxml", "--inactive", "web1")


def test_a_disk_is_attached_limited_and_detached(p):
    answer = p.do("attach-disk", "--volume", "images/data.qcow2", "--bus", "scsi", "--cache", "none", "--iops", "100")
    name = answer["device"]
    assert answer["applies"] == "both" and name == "sda", answer
    for root in (p.live(), p.config()):
        found = disk(root, name)
        assert found.find("driver").get("type") == "qcow2" and found.find("driver").get("cache") == "none"
        assert found.find("source").get("file") == str(p.host.images / "data.qcow2")
        assert found.find("iotune/total_iops_sec").text == "100"
    answer = p.do("set-disk", "--disk", name, "--read-iops", "50", "--write-iops", "60")
    assert answer["applies"] == "both", answer
    for root in (p.live(), p.config()):
        tune = {e.tag: e.text for e in disk(root, name).find("iotune")}
        assert tune == {"read_iops_sec": "50", "write_iops_sec": "60"}, tune
    answer = p.do("set-disk", "--disk", name, "--discard", "true")
    assert answer["applies"] == "next-boot" and disk(p.config(), name).find("driver").get("discard") == "unmap", answer
    p.refused("is a disk of web1", "attach-disk", "--volume", "images/data.qcow2", name="web2")
    rows = {d["name"]: d for d in p.daemon.json("domain", "devices", "web1", "--kind", "disk")}
    assert rows[name]["applies"] == "both" and rows[name]["model"] == "scsi", rows
    answer = p.do("detach-disk", "--disk", name)
    assert answer["applies"] == "both", answer
    until(lambda: disk(p.live(), name) is None, 10, "the end of the disk")
    assert disk(p.config(), name) is None


def test_a_disk_is_refused_with_the_reason_and_nothing_is_half_made(p):
    p.refused("no such volume", "attach-disk", "--volume", "images/nothing.qcow2")
    p.refused("POOL/VOLUME", "attach-disk", "--volume", "images/../../etc/passwd")
    p.refused("not the name of a disk", "attach-disk", "--volume", "images/more.raw", "--device", "../x")
    p.refused("it has no disk vdz", "detach-disk", "--disk", "vdz")
    p.refused("next boot", "attach-disk", "--volume", "images/more.raw", "--bus", "ide", "--when", "now")
    p.refused("is a disk of web2", "attach-disk", "--volume", "images/web2.img")


def test_media_come_and_go(p):
    answer = p.do("change-media", "--volume", "images/install.iso")
    assert answer["applies"] == "both" and answer["device"] == "hdb", answer
    for root in (p.live(), p.config()):
        assert disk(root, "hdb").find("source").get("file") == str(p.host.images / "install.iso")
    answer = p.do("change-media", "--drive", "hdb", "--force")
    assert answer["applies"] == "both", answer
    for root in (p.live(), p.config()):
        source = disk(root, "hdb").find("source")
        assert source is None or not source.get("file"), ElementTree.tostring(disk(root, "hdb"))


def test_a_card_is_attached_changed_and_detached(p):
    answer = p.do("attach-nic", "--network", "one")
    mac = answer["device"]
    assert mac.startswith("52:54:00:") and answer["applies"] == "both", answer
    answer = p.do("set-nic", "--mac", mac, "--link", "down")
    assert answer["applies"] == "both", answer
    for root in (p.live(), p.config()):
        assert card(root, mac).find("link").get("state") == "down"
    answer = p.do("set-nic", "--mac", mac, "--network", "two", "--link", "up")
    assert answer["applies"] == "both", answer
    for root in (p.live(), p.config()):
        assert card(root, mac).find("source").get("network") == "two" and card(root, mac).find("link").get("state") == "up"
    answer = p.do("set-nic", "--mac", mac, "--model", "e1000")
    assert answer["applies"] == "next-boot", answer
    assert card(p.live(), mac).find("model").get("type") == "virtio" and card(p.config(), mac).find("model").get("type") == "e1000"
    p.refused("has a card", "attach-nic", "--network", "one", "--mac", p.mac["web2"])
    p.refused("it has a card", "attach-nic", "--network", "one", "--mac", mac.upper())
    p.refused("for groups", "attach-nic", "--network", "one", "--mac", "01:00:5e:00:00:01")
    # A guest without an operating system never lets go of a PCI card: that is said, and the next boot is without it.
    answer = p.do("detach-nic", "--mac", mac)
    assert answer["applies"] == "both" and "has not yet" in answer["message"], answer
    assert card(p.live(), mac) is not None and card(p.config(), mac) is None
    found = p.daemon.json("hypervisor", "find-mac", "alpha", "--mac", p.mac["web2"])
    assert found["name"] == "web2", found


def test_a_device_for_the_next_boot_only_leaves_the_guest_alone(p):
    answer = p.do("attach-nic", "--network", "one", "--when", "next-boot")
    assert answer["applies"] == "next-boot" and card(p.live(), answer["device"]) is None, answer
    rows = {d["name"]: d for d in p.daemon.json("domain", "devices", "web1")}
    assert rows[answer["device"]]["applies"] == "next-boot", rows
    assert p.do("detach-nic", "--mac", answer["device"])["applies"] == "next-boot"


def test_devices_of_the_host_come_from_a_list_only(p):
    assert p.refused("not among the devices", "attach-host-device", "--device", "1d6b:0002") == 77
    assert p.refused("address of a device", "attach-host-device", "--device", "/dev/sda") == 64


def test_a_viewer_sees_devices_and_changes_none(p):
    viewer = {"jid": "viewer@vm.localhost"}
    assert p.daemon.json("domain", "devices", "web1", **viewer)
    done = p.daemon.cli("domain", "set-vcpus", "web1", "--vcpus", "2", check=False, **viewer)
    assert done.returncode == 77, done.stderr


def test_a_password_of_the_screen_is_in_no_definition_that_people_see(p):
    answer = p.do("set-screen-password", "--password", "geheim12")
    assert answer["applies"] == "both", answer
    assert "geheim12" in p.host.virsh("dumpxml", "--security-info", "web1")
    assert "geheim12" in p.host.virsh("dumpxml", "--security-info", "--inactive", "web1")
    for option in ([], ["--inactive"]):
        assert "geheim12" not in p.daemon.cli("--json", "domain", "xml", "web1", *option).stdout
    assert "geheim12" not in json.dumps(answer)
    # Another change does not lose it.
    p.do("set-lifecycle", "--on-crash", "restart")
    assert "geheim12" in p.host.virsh("dumpxml", "--security-info", "--inactive", "web1")
