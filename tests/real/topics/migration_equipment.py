"""What a machine has beside memory and disks, and the network it travels over: firmware with variables of its own, a TPM, the processor and
devices of its host, a second network between the hosts.

While a machine runs, QEMU sends the variables and the TPM along with the memory. While it is off nobody does, and what the new host finds
under the same name may be left from an earlier stay; so that is told beforehand.

    h1: agent + exchange        h2: agent         eth0: everything      eth1: memory, where `data_uri` says so
"""

import pathlib
import shutil

from harness.base import Skipped, until
from harness.cluster import Cluster
from harness.hosts import SECOND

FIRMWARE, VARIABLES = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
# Where the firmware keeps no variables, but libvirt's template has zeros or ones.
MARK = b"what only the first host has"


class Parts:
    pass


def setup(stack, work):
    if not (shutil.which("swtpm") and pathlib.Path(FIRMWARE).exists()):
        raise Skipped("this needs ovmf and swtpm-tools")
    p = Parts()
    p.work = work
    p.cluster = Cluster(stack, work, 2)
    p.cell, p.hosts = p.cluster.cell, p.cluster.hosts
    return p


def moved(p, name, to, *options):
    end = p.cluster.ended(p.cluster.move(name, to, *options))
    assert end["progress_state"] == "done", end
    p.cluster.settled(name)
    p.cluster.clean(name)
    assert p.hosts.running_on(name) in ([to], []), p.hosts.running_on(name)
    return end["message"]


def refused(p, name, to, *words):
    """A move is refused, by the words given; `--trust-storage` is what the cluster always says."""
    refusal = p.cluster.move(name, to, check=False)
    assert not isinstance(refusal, str), f"it was accepted: {refusal}"
    for word in words:
        assert word in refusal.stderr, f"{word!r} is not in {refusal.stderr!r}"
    return refusal.stderr.strip()


# ---------------------------------------------------------------------------------------- firmware


def with_firmware(path):
    def change(xml):
        firmware = f"<loader readonly='yes' type='pflash'>{FIRMWARE}</loader><nvram template='{VARIABLES}'>{path}</nvram></os>"
        return xml.replace("machine='pc'", "machine='q35'").replace("</os>", firmware).replace("dev='hda' bus='ide'", "dev='sda' bus='sata'")
    return change


def variables(node, name):
    return (node.work / "lib/qemu/nvram" / f"{name}.fd").read_bytes()


def test_the_variables_of_the_firmware_travel_with_a_running_machine(p):
    one, two = p.hosts[1], p.hosts[2]
    (one.work / "lib/qemu/nvram").mkdir(exist_ok=True)
    image = bytearray(pathlib.Path(VARIABLES).read_bytes())
    image[-len(MARK):] = MARK
    (one.work / "lib/qemu/nvram/settler.fd").write_bytes(image)
    p.cluster.guest("settler", start=False, memory=128, change=with_firmware("/var/lib/libvirt/qemu/nvram/settler.fd"))
    p.cell.cli("domain", "start", "settler")
    until(lambda: variables(one, "settler") != bytes(image), 30, "the firmware to write its variables")
    said = moved(p, "settler", "h2")
    # The guest goes on writing there, so the files differ by now; libvirt made this one of the template, which has no such mark.
    until(lambda: variables(two, "settler").endswith(MARK), 10, "what it had on h1 to be on h2")
    return said


def test_variables_of_a_machine_that_is_off_are_not_forgotten(p):
    """What is on h1 is from its earlier stay by now, and must not be taken for what it has."""
    p.cell.cli("domain", "force-off", "settler", "--yes")
    p.cell.wait_state("settler", "shutoff")
    done = p.cell.cli("domain", "migrate", "settler", "--to", "h1", check=False)
    assert done.returncode and "settler.fd" in done.stderr and "earlier time" in done.stderr and "while it runs" in done.stderr, done
    (p.hosts[1].work / "lib/qemu/nvram/settler.fd").unlink()
    said = refused(p, "settler", "h1", "settler.fd", "is not on this host")
    p.hosts[2].virsh("undefine", "settler", "--nvram")
    p.cluster.forget("settler")
    return said


# ---------------------------------------------------------------------------------------- a TPM


def with_tpm(xml):
    return xml.replace("</devices>", "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm></devices>")


def held(node, identity):
    """What an emulated TPM has on a host: the keys from which all others are made are in it."""
    return (node.work / "lib/swtpm" / identity / "tpm2/tpm2-00.permall").read_bytes()


def test_a_tpm_travels_with_a_running_machine_and_not_with_one_that_is_off(p):
    one, two = p.hosts[1], p.hosts[2]
    identity = p.cluster.guest("keeper", change=with_tpm)
    before = held(one, identity)
    said = moved(p, "keeper", "h2")
    p.cluster.once("keeper")
    assert held(two, identity) == before, "it is another TPM"
    moved(p, "keeper", "h1")
    p.cluster.once("keeper")
    assert held(one, identity) == before, "it is another TPM after it came back"
    # What h2 still has is of an earlier time, and would be taken.
    assert (two.work / "lib/swtpm" / identity).exists()
    p.cell.cli("domain", "force-off", "keeper", "--yes")
    p.cell.wait_state("keeper", "shutoff")
    refused(p, "keeper", "h2", "what its TPM holds", "while it runs")
    p.cluster.forget("keeper")
    return said


# ---------------------------------------------------------------------------------------- what is of one host alone


def test_devices_of_the_host_are_told_before_all_at_once(p):
    devices = (
        "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='3' slot='0' function='1'/></source></hostdev>"
        "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm></devices>"
    )
    p.cluster.guest("bound", start=False, change=lambda xml: xml.replace("</devices>", devices))
    said = refused(p, "bound", "h2", "pci 0000:03:00.1", "the TPM of its host (/dev/tpm0)")
    p.cluster.forget("bound")
    return said


# ---------------------------------------------------------------------------------------- a second network


def test_memory_travels_over_the_network_that_was_named_for_it(p):
    agent, two = p.cluster.agents["h2"], p.hosts[2]
    p.hosts.second_network()
    p.cluster.guest("walker")
    config = agent.config.read_text()
    agent.config.write_text(config.replace('uri = "qemu:///system"', f'uri = "qemu:///system"\ndata_uri = "tcp://{SECOND}.12"'))
    agent.restart()
    p.cluster.connected()
    first, second = two.received("eth0"), two.received("eth1")
    moved(p, "walker", "h2")
    p.cluster.once("walker")
    first, second = (two.received("eth0") - first) >> 10, (two.received("eth1") - second) >> 10
    # 33 MiB of the guest's memory are no zeros.
    assert second > 32 << 10 and first < 2 << 10, f"{first} KiB came on eth0 and {second} KiB on eth1"
    agent.config.write_text(config)
    agent.restart()
    p.cluster.connected()
    p.cluster.forget("walker")
    return f"{first} KiB came on eth0 and {second} KiB on eth1"
