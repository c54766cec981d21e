"""Clones, templates, and machines from elsewhere, on real QEMU: guests keep a history on their disks, so that whoever reads them later
can tell whose writing reached whom."""

import hashlib
import io
import json
import os
import re
import struct
import subprocess
import tarfile
import time

from harness.base import until
from harness.daemon import Daemon
from harness.hosts import WRITER
from harness.libvirt_host import LibvirtHost
from topics import storage
from topics.storage import PART, image, refused

MIB = 1 << 20
SIZE = 8 * MIB

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>40</memory><vcpu>1</vcpu><genid/>
<metadata><x:mark xmlns:x='urn:example:x'>kept</x:mark></metadata>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{images}/{name}.qcow2'/><target dev='hda' bus='ide'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{images}/{name}-data.raw'/><target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{images}/cd.iso'/><target dev='hdc' bus='ide'/><readonly/></disk>
<interface type='user'><mac address='52:54:00:0c:0c:0c'/><model type='virtio'/></interface>
<serial type='file'><source path='{work}/{name}.serial'/><target port='0'/></serial>
<channel type='unix'><source mode='bind' path='{work}/{name}.agent'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<graphics type='vnc' port='5990' autoport='no' listen='127.0.0.1'/>
</devices></domain>"""

OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References><File ovf:href="{disk}" ovf:id="file1"/></References>
<DiskSection><Info>disks</Info><Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d1" ovf:fileRef="file1"/></DiskSection>
<VirtualSystem ovf:id="away"><Info>a machine</Info><VirtualHardwareSection><Info>hardware</Info>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>44</rasd:VirtualQuantity></Item>
<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
<Item><rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:ElementName>a lamp</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceType>77</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>"""


class Parts:
    pass


def sh(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"
    return done.stdout


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    p.work, p.images = p.host.work, p.host.images
    sh("as", "--32", "-o", p.work / "writer.o", WRITER)
    p.writer = p.work / "writer.raw"
    sh("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-e", "start", "-o", p.writer, p.work / "writer.o")
    os.truncate(p.writer, SIZE)
    sh("qemu-img", "convert", "-f", "raw", "-O", "qcow2", p.writer, p.images / "web1.qcow2")
    (p.images / "web1-data.raw").write_bytes(os.urandom(2 * MIB))
    (p.images / "cd.iso").write_bytes(bytes(MIB))
    xml = p.work / "web1.xml"
    xml.write_text(DOMAIN.format(name="web1", images=p.images, work=p.work))
    p.host.virsh("pool-refresh", "images")
    p.host.virsh("define", str(xml))
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    p.daemon.wait_state("web1", "shutoff")
    return p


def ended(p, task):
    return json.loads(p.daemon.cli("--json", "task", "wait", task, "--timeout", "100", check=False, timeout=120).stdout)


def done(p, *command, state="done"):
    """Asks, follows the task to its end, and gives it back."""
    end = ended(p, p.daemon.json(*command)["task"])
    assert end["state"] == state, f"{' '.join(command)}: {end}"
    return end


def fails(p, *command):
    """A task that must fail; gives back why."""
    return done(p, *command, state="failed")["fault"]["message"]


def files(p):
    return sorted(f.name for f in p.images.iterdir())


def listing(p):
    """Everything a making could leave behind: files, volumes as libvirt lists them, machines."""
    p.host.virsh("pool-refresh", "images")
    return files(p), p.host.virsh("vol-list", "images"), p.host.virsh("list", "--all", "--name")


def xml(p, name):
    return p.host.virsh("dumpxml", "--inactive", "--security-info", name)


def writes(p, name, device):
    """How often the guest has written to that disk since it was started."""
    found = re.search(r"wr_req (\d+)", p.host.virsh("domblkstat", name, device))
    return int(found[1]) if found else 0


def lives(p, *guests):
    """Starts guests beside each other, waits until each has written some blocks, and cuts their power."""
    for name, _ in guests:
        p.daemon.cli("domain", "start", name)
    for name, device in guests:
        until(lambda: writes(p, name, device) >= 4, 60, f"the writing of {name}", pause=0.05)
    for name, _ in guests:
        p.daemon.cli("domain", "force-off", name, "--yes")
        p.daemon.wait_state(name, "shutoff")


def history(p, path):
    """All blocks that guests have written to that disk, as (run, counter, nonce)."""
    raw = p.work / "read.raw"
    sh("qemu-img", "convert", "-O", "raw", path, raw)
    data, blocks, past = raw.read_bytes(), [], 0
    for at in range(512, len(data), 512):
        magic, _, run, counter, nonce, before = struct.unpack_from("<4s5I", data, at)
        if magic != b"ARCH":
            break
        assert before == past, f"block {at // 512} of {path.name} does not go on from the one before it: two guests wrote to it"
        past = nonce
        blocks.append((run, counter, nonce))
    return blocks


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def gone(p, *names):
    for name in names:
        p.daemon.cli("domain", "undefine", name, "--with-volumes", "all", "--yes")


# ---------------------------------------------------------------- clones


def test_a_full_clone_lives_beside_its_original(p):
    lives(p, ("web1", "hda"))
    first = history(p, p.images / "web1.qcow2")
    done(p, "domain", "clone", "web1", "--to", "web2", "--note", "a copy")
    own, theirs = xml(p, "web2"), xml(p, "web1")
    for what in (r"<uuid>(.*?)</uuid>", r"<mac address='(.*?)'", r"<genid>(.*?)</genid>"):
        mine, original = re.findall(what, own), re.findall(what, theirs)
        assert len(mine) == len(original) and not set(mine) & set(original), (what, mine, original)
    for unique in ("5990", "web1.serial", "web1.agent", "web1.qcow2", "web1-data.raw"):
        assert unique not in own, f"{unique} is in {own}"
    assert "urn:example:x" in own and "cd.iso" in own and "a copy" in own
    assert history(p, p.images / "web2.qcow2") == first
    assert digest(p.images / "web2-vdb.raw") == digest(p.images / "web1-data.raw")
    users = {u["name"] for u in p.daemon.json("volume", "users", "images", "web2.qcow2")}
    assert users == {"web2"}, users
    lives(p, ("web1", "hda"), ("web2", "hda"))
    a, b = (history(p, p.images / f"{name}.qcow2") for name in ("web1", "web2"))
    assert a[: len(first)] == b[: len(first)] == first
    assert a[-1][0] == b[-1][0] == 2 and not set(a[len(first):]) & set(b[len(first):]), "one wrote what the other wrote"
    gone(p, "web2")
    assert files(p) == ["cd.iso", "web1-data.raw", "web1.qcow2"]


def test_a_template_is_never_started_and_linked_clones_live_on_it(p):
    assert "no template" in refused(p, "domain", "clone", "web1", "--to", "link1", "--linked")
    p.daemon.cli("domain", "autostart", "web1")
    p.daemon.cli("domain", "template", "web1")
    shown = until(lambda: (m := p.daemon.machine("web1")).get("template") and m, 10, "the mark")
    assert not shown["autostart"], shown
    assert "urn:archipel:template:0" in xml(p, "web1")
    before = digest(p.images / "web1.qcow2"), digest(p.images / "web1-data.raw")
    for name in ("link1", "link2"):
        done(p, "domain", "clone", "web1", "--to", name, "--linked")
        assert not p.daemon.machine(name).get("template"), "a clone is a machine like any other"
    assert f"backing file: {p.images}/web1.qcow2" in sh("qemu-img", "info", p.images / "link1.qcow2")
    lives(p, ("link1", "hda"), ("link2", "hda"))
    base, a, b = (history(p, p.images / f"{name}.qcow2") for name in ("web1", "link1", "link2"))
    assert a[: len(base)] == b[: len(base)] == base and len(a) > len(base) and len(b) > len(base)
    assert not set(a[len(base):]) & set(b[len(base):])
    assert (digest(p.images / "web1.qcow2"), digest(p.images / "web1-data.raw")) == before, "a linked clone wrote to its template"

    for command in (("start",), ("resize-disk", "hda", "1GiB"), ("detach-disk", "hda", "--yes"), ("autostart",)):
        assert "is a template" in refused(p, "domain", command[0], "web1", *command[1:]), command
    assert "built on" in refused(p, "volume", "delete", "images", "web1.qcow2", "--yes")
    assert "link1" in refused(p, "domain", "undefine", "web1", "--with-volumes", "all", "--yes")
    assert "link1" in refused(p, "domain", "template", "web1", "--enabled", "false")

    # Other tools know nothing of templates: that one runs is told.
    p.host.virsh("start", "web1")
    told = until(lambda: (m := p.daemon.machine("web1"))["condition"] == "degraded" and m, 10, "the alarm")
    assert "is a template and runs" in told["why"], told
    p.daemon.cli("domain", "force-off", "web1", "--yes")
    until(lambda: p.daemon.machine("web1")["condition"] == "ok", 10, "the end of the alarm")

    gone(p, "link1", "link2")
    p.daemon.cli("domain", "template", "web1", "--enabled", "false")
    assert files(p) == ["cd.iso", "web1-data.raw", "web1.qcow2"]
    until(lambda: not p.daemon.machine("web1").get("template"), 10, "the end of the mark")


def test_what_cannot_be_cloned_is_refused_and_leaves_nothing(p):
    before = listing(p)
    outside = p.work / "outside.raw"
    outside.write_bytes(bytes(MIB))
    p.host.virsh("attach-disk", "web1", str(outside), "vdc", "--config", "--sourcetype", "file")
    assert "no storage pool" in refused(p, "domain", "clone", "web1", "--to", "web2")
    p.host.virsh("detach-disk", "web1", "vdc", "--config")
    assert "exists already" in refused(p, "domain", "clone", "web1", "--to", "web1")
    assert "no storage pool" in refused(p, "domain", "clone", "web1", "--to", "web2", "--pool", "nowhere")
    for name in ("a/b", "../x", "a" * 300):
        refused(p, "domain", "clone", "web1", "--to", name, code=64)
    (p.images / "web2-vdb.raw").write_bytes(b"x")
    p.host.virsh("pool-refresh", "images")
    assert "already" in refused(p, "domain", "clone", "web1", "--to", "web2")
    (p.images / "web2-vdb.raw").unlink()
    p.daemon.cli("domain", "start", "web1")
    assert "is not off" in refused(p, "domain", "clone", "web1", "--to", "web2")
    p.daemon.cli("domain", "force-off", "web1", "--yes")
    p.daemon.wait_state("web1", "shutoff")
    assert listing(p) == before


def cancelled(p, part, *command):
    """Begins something long, stops it when that part of it is being written, and looks that nothing is left; says how long the stop took."""
    before = listing(p)
    task = p.daemon.json(*command)["task"]
    until((p.images / part).exists, 60, f"the first bytes of {part}", pause=0.01)
    began = time.monotonic()
    p.daemon.cli("task", "cancel", task)
    end = ended(p, task)
    took = time.monotonic() - began
    assert end["state"] == "cancelled" and "nothing half done" in end["message"], end
    assert listing(p) == before
    return f"cancelled in {took:.1f} s"


def test_a_clone_that_is_cancelled_leaves_nothing(p):
    storage.big(p, 1024)
    p.daemon.cli("domain", "attach-disk", "web1", "images/big.raw", "--device", "vdd")
    took = cancelled(p, f"web2-vdd.raw{PART}", "domain", "clone", "web1", "--to", "web2")
    p.daemon.cli("domain", "detach-disk", "web1", "vdd", "--yes")
    return took


def test_an_import_that_is_cancelled_leaves_nothing(p):
    if not (p.images / "big.raw").exists():
        storage.big(p, 1024)
    took = cancelled(p, f"big.qcow2{PART}", "domain", "import", "--source", "images/big.raw")
    (p.images / "big.raw").unlink()
    p.host.virsh("pool-refresh", "images")
    return took


# ---------------------------------------------------------------- machines from elsewhere


def imported(p, source, name, *options):
    end = done(p, "domain", "import", "--source", f"images/{source}", "--name", name, "--memory", "40MiB", *options)
    return end["message"]


def test_images_of_every_format_become_machines_that_boot(p):
    before = files(p)
    formats = {"qcow2": (), "raw": (), "vmdk": ("-o", "subformat=streamOptimized"), "vhdx": (), "vdi": (), "vpc": ()}
    for kind, options in formats.items():
        sh("qemu-img", "convert", "-f", "raw", "-O", kind, *options, p.writer, p.images / f"away.{kind}")
    p.host.virsh("pool-refresh", "images")
    guests = []
    for kind in formats:
        said = imported(p, f"away.{kind}", f"from-{kind}")
        assert f"the image is {kind}" in said, said
        assert digest(p.images / f"away.{kind}"), "what was uploaded stays"
        compared = subprocess.run(["qemu-img", "compare", p.writer, p.images / f"from-{kind}.qcow2"], capture_output=True, text=True)
        assert "Images are identical" in compared.stdout, (kind, compared)
        device = re.search(r"<target dev='(\w+)'", xml(p, f"from-{kind}"))[1]
        guests.append((f"from-{kind}", device))
    lives(p, *guests)
    for name, _ in guests:
        assert history(p, p.images / f"{name}.qcow2")[0][:2] == (1, 0), f"{name} did not boot from its beginning"
        gone(p, name)
    for kind in formats:
        (p.images / f"away.{kind}").unlink()
    p.host.virsh("pool-refresh", "images")
    assert files(p) == before


def ova(p, name, members, manifest=None):
    """Packs an appliance; members are (name, bytes) or ready TarInfos."""
    with tarfile.open(p.images / name, "w") as tar:
        for member in members:
            info, body = (member, b"") if isinstance(member, tarfile.TarInfo) else (tarfile.TarInfo(member[0]), member[1])
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        if manifest is not None:
            info = tarfile.TarInfo("away.mf")
            info.size = len(manifest)
            tar.addfile(info, io.BytesIO(manifest))
    p.host.virsh("pool-refresh", "images")


def stream(p):
    """The writer's disk as VMware sends it."""
    sh("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", p.writer, p.work / "stream.vmdk")
    return (p.work / "stream.vmdk").read_bytes()


def sums(*members):
    return "".join(f"SHA256({name})= {hashlib.sha256(body).hexdigest()}\n" for name, body in members).encode()


def test_an_appliance_becomes_a_machine_that_boots(p):
    before = files(p)
    description, disk = ("away.ovf", OVF.format(disk="away-disk1.vmdk").encode()), ("away-disk1.vmdk", stream(p))
    ova(p, "away.ova", [description, disk], manifest=sums(description, disk))
    end = done(p, "domain", "import", "--source", "images/away.ova", "--start")
    assert "a lamp" in end["message"] and "SATA" in end["message"], end
    shown = p.daemon.wait_state("away", "running")
    assert shown["memory"] == 44 * MIB, shown
    until(lambda: writes(p, "away", "sda") >= 4, 60, "the writing of the guest", pause=0.05)
    p.daemon.cli("domain", "force-off", "away", "--yes")
    p.daemon.wait_state("away", "shutoff")
    assert history(p, p.images / "away.qcow2")[0][:2] == (1, 0)
    gone(p, "away")
    (p.images / "away.ova").unlink()
    p.host.virsh("pool-refresh", "images")
    assert files(p) == before


def test_a_machine_that_is_exported_boots_again_from_its_appliance(p):
    before = listing(p)
    end = done(p, "domain", "export", "web1", "images")
    assert "images/web1.ova is there" in end["message"] and "--portable" in end["message"], end
    with tarfile.open(p.images / "web1.ova") as archive:
        names = archive.getnames()
        assert names == ["web1.ovf", "web1.mf", "web1-disk1.vmdk", "web1-disk2.vmdk"], names
        promised = archive.extractfile("web1.mf").read().decode()
        assert promised == "".join(f"SHA256({n})= {hashlib.sha256(archive.extractfile(n).read()).hexdigest()}\n" for n in names if n != "web1.mf")
        (p.work / "packed.vmdk").write_bytes(archive.extractfile("web1-disk1.vmdk").read())
    info = json.loads(sh("qemu-img", "info", "--output", "json", p.work / "packed.vmdk"))
    assert info["format"] == "vmdk" and info["format-specific"]["data"]["create-type"] == "streamOptimized", info
    assert sh("qemu-img", "compare", p.work / "packed.vmdk", p.images / "web1.qcow2").startswith("Images are identical")
    assert "already" in refused(p, "domain", "export", "web1", "images")
    end = done(p, "domain", "import", "--source", "images/web1.ova", "--name", "back")
    assert "checksum" not in end["message"], end
    shown = p.daemon.json("domain", "info", "back")
    assert (shown["memory"], shown["vcpus"]) == (40 * MIB, 1), shown
    assert "dev='hda' bus='ide'" in xml(p, "back") and "bus='virtio'" in xml(p, "back"), xml(p, "back")
    for left, right in (("back.qcow2", "web1.qcow2"), ("back-2.qcow2", "web1-data.raw")):
        assert sh("qemu-img", "compare", p.images / left, p.images / right).startswith("Images are identical"), left
    lives(p, ("back", "hda"))
    runs = {run for run, _, _ in history(p, p.images / "back.qcow2")}
    assert max(runs) >= 1, runs
    gone(p, "back")
    p.daemon.cli("volume", "delete", "images", "web1.ova", "--yes")
    assert listing(p) == before


def test_an_export_that_is_cancelled_leaves_nothing(p):
    """The disk cannot be packed, so that there is something to stop."""
    wide = p.images / "wide.raw"
    with open(wide, "wb") as file:
        for _ in range(256):
            file.write(os.urandom(MIB))
    p.host.virsh("pool-refresh", "images")
    p.daemon.cli("domain", "attach-disk", "web1", "images/wide.raw", "--device", "vdc")
    took = cancelled(p, f"web1.ova.disk3{PART}", "domain", "export", "web1", "images")
    p.daemon.cli("domain", "detach-disk", "web1", "vdc", "--yes")
    wide.unlink()
    p.host.virsh("pool-refresh", "images")
    return took


def test_what_runs_is_not_exported(p):
    p.daemon.cli("domain", "start", "web1")
    p.daemon.wait_state("web1", "running")
    assert "is not off" in refused(p, "domain", "export", "web1", "images")
    p.daemon.cli("domain", "force-off", "web1", "--yes")
    p.daemon.wait_state("web1", "shutoff")


def test_what_leads_elsewhere_is_broken_or_lies_is_refused_and_leaves_nothing(p):
    good, disk = ("away.ovf", OVF.format(disk="away-disk1.vmdk").encode()), ("away-disk1.vmdk", stream(p))
    link = tarfile.TarInfo("away-disk1.vmdk")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    image(p.work / "broken.qcow2", size="8M")
    broken = bytearray((p.work / "broken.qcow2").read_bytes())
    broken[40:48] = struct.pack(">Q", 1 << 50)
    flat = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 16384 FLAT "/etc/passwd" 0\n'
    torn = bytearray(disk[1])
    torn[len(torn) // 2] ^= 0xFF
    image(p.work / "child.qcow2", "-b", "/etc/passwd", "-F", "raw", size="8M")
    cases = {
        "up.ova": ([good, ("../../../../etc/cron.d/x", b"x"), disk], None, "leads elsewhere"),
        "absolute.ova": ([good, ("/etc/cron.d/x", b"x"), disk], None, "leads elsewhere"),
        "link.ova": ([good, link], None, "a link"),
        "twice.ova": ([good, disk, disk], None, "two members"),
        "none.ova": ([disk], None, "no description"),
        "missing.ova": ([good], None, "is not in it"),
        "lying.ova": ([good, ("away-disk1.vmdk", bytes(torn))], sums(good, disk), "checksum"),
        "unsummed.ova": ([good, disk], b"SHA256(other)= " + b"0" * 64, "which is not in it"),
        "corrupt.ova": ([good, ("away-disk1.vmdk", bytes(broken))], None, "broken"),
        "flat.ova": ([good, ("away-disk1.vmdk", flat)], None, "other files"),
        "child.ova": ([good, ("away-disk1.vmdk", (p.work / "child.qcow2").read_bytes())], None, "built on another"),
        "gzip.ova": ([good, ("away-disk1.vmdk", b"\x1f\x8b\x08" + bytes(1000))], None, "compressed"),
        "entity.ova": ([("away.ovf", b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><Envelope>&a;</Envelope>"), disk], None, "cannot be read"),
        "elsewhere.ova": ([("away.ovf", OVF.format(disk="/etc/passwd").encode()), disk], None, "elsewhere"),
    }
    for name, (members, manifest, _) in cases.items():
        ova(p, name, members, manifest)
    whole = (p.images / "up.ova").read_bytes()
    (p.images / "cut.ova").write_bytes(whole[: len(whole) // 2])
    (p.images / "flat.vmdk").write_bytes(flat)
    (p.images / "broken.qcow2").write_bytes(broken)
    (p.images / "leads-out.qcow2").write_bytes((p.work / "child.qcow2").read_bytes())
    (p.images / "torn.vhdx").write_bytes(b"vhdxfile" + os.urandom(2 * MIB))
    (p.images / "empty.raw").write_bytes(b"")
    alone = {
        "cut.ova": "", "flat.vmdk": "other files", "broken.qcow2": "broken", "leads-out.qcow2": "outside of any pool", "torn.vhdx": "broken",
        "empty.raw": "empty", "nothing": "",
    }
    p.host.virsh("pool-refresh", "images")
    before = listing(p)
    for name, word in {**{n: c[2] for n, c in cases.items()}, **alone}.items():
        said = fails(p, "domain", "import", "--source", f"images/{name}", "--name", "bad")
        assert word in said, (name, said)
    for source in ("images", "images/../x", "/etc/passwd"):
        refused(p, "domain", "import", "--source", source, "--name", "bad", code=64)
    # What is found out only when all of it is written: the disk of the second one is torn, and the first is removed again.
    assert listing(p) == before
    for name in [*cases, *alone]:
        (p.images / name).unlink(missing_ok=True)
    p.host.virsh("pool-refresh", "images")
