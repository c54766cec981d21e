"""Networks on a real libvirtd, by the command line: made, started, leases given to a real guest, taken from nobody, and nothing left half made.

Not here, only their XML in the bridge's own tests: VLANs (this libvirt puts none on a plain bridge, and the kernel has no 8021q) and Open vSwitch
(neither its kernel module nor its daemon is there). A network with a bandwidth is defined but not started: libvirt's limits need the queue
discipline sfq, which this kernel lacks.
"""

import subprocess

from harness.base import until
from harness.daemon import Daemon
from harness.libvirt_host import LibvirtHost

# Its firmware asks for an address before anything else: a guest with DHCP that needs no disk.
PXE = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='network'/></os><features><acpi/></features>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<interface type='network'><source network='{network}'/><mac address='{mac}'/><model type='virtio'/></interface>
</devices></domain>"""


class NetHost(LibvirtHost):
    """A host that sees its own interfaces, with a bridge."""

    def connect(self):
        subprocess.run(self.inside("mount", "-t", "sysfs", "sysfs", "/sys"), check=True)
        subprocess.run(self.inside("ip", "link", "add", "br0", "type", "bridge"), check=True)
        subprocess.run(self.inside("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "nic1"), check=True)
        subprocess.run(self.inside("ip", "link", "set", "nic0", "master", "br0"), check=True)

    def stop_networks(self):
        """What libvirtd leaves running for its networks is stopped with them."""
        for domain in self._virsh("list", "--name").stdout.split():
            self._virsh("destroy", domain)
        for network in self._virsh("net-list", "--name").stdout.split():
            self._virsh("net-destroy", network)


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.work = work
    p.host = stack.enter_context(NetHost(work))
    stack.callback(p.host.stop_networks)
    p.daemon = stack.enter_context(Daemon(work, {"alpha": p.host.uri}))
    until(lambda: p.daemon.json("storage-pool", "list"), 20, "the first listing")
    return p


def refused(p, *arguments, code=None):
    """Runs a command that must fail; gives back what it says."""
    done = p.daemon.cli(*arguments, check=False)
    assert done.returncode != 0, f"archipel {' '.join(arguments)} was not refused: {done.stdout}"
    assert code is None or done.returncode == code, (done.returncode, done.stderr)
    return done.stderr.strip()


def names(p):
    return sorted(p.host.virsh("net-list", "--all", "--name").split())


def shown(p, name):
    return next((n for n in p.daemon.json("network", "list") if n["name"] == name), None)


def define(p, name, *options):
    p.daemon.cli("network", "define", name, *options)
    return until(lambda: shown(p, name), 10, f"the network {name}")


def guest(p, name, network, mac):
    xml = p.work / f"{name}.xml"
    xml.write_text(PXE.format(name=name, network=network, mac=mac))
    p.host.virsh("define", str(xml))


def test_a_guest_gets_an_address_and_keeps_its_network(p):
    define(p, "lab", "--address", "10.77.1.1/24", "--dhcp-start", "10.77.1.10", "--dhcp-end", "10.77.1.20", "--domain", "lab.example", "--start")
    until(lambda: shown(p, "lab")["state"] == "active", 10, "it to be active")
    assert shown(p, "lab")["forward"] == "nat", shown(p, "lab")
    mac, other = "52:54:00:77:00:01", "52:54:00:77:00:02"
    p.daemon.cli("network", "add-host", "lab", "--mac", other, "--address", "10.77.1.77", "--name", "fixed")
    assert [h["name"] for h in p.daemon.json("network", "hosts", "lab")] == ["fixed"]
    guest(p, "any", "lab", mac)
    guest(p, "fixed", "lab", other)
    p.host.virsh("start", "any")
    p.host.virsh("start", "fixed")
    leases = until(lambda: (found := {x["mac"]: x for x in p.daemon.json("network", "leases", "lab")}) and len(found) == 2 and found, 90, "two leases")
    assert leases[other]["address"] == "10.77.1.77/24", leases
    assert leases[mac]["address"].startswith("10.77.1.1") and leases[mac]["expires"], leases
    on = {c["mac"]: c for c in p.daemon.json("network", "attached", "lab")}
    assert {c["name"] for c in on.values()} == {"any", "fixed"} and all(c["running"] and c["interface"] for c in on.values()), on

    # What a machine has is not taken from it, unless that is asked for. A guest that comes later gets one of the new addresses; the network was never down.
    new = ("network", "set-range", "lab", "10.77.1.150", "10.77.1.155")
    said = refused(p, *new, code=75)
    assert leases[mac]["address"].split("/")[0] in said and "10.77.1.77" not in said, said
    assert "10.77.1.10 to 10.77.1.20" in refused(p, "network", "set-range", "lab", "10.77.1.5", "10.77.1.15", "--add", code=73)
    p.daemon.cli(*new, "--drop-leases")
    for xml in (p.host.virsh("net-dumpxml", "lab"), p.host.virsh("net-dumpxml", "lab", "--inactive")):
        assert xml.count("<range") == 1 and "<range start='10.77.1.150' end='10.77.1.155'/>" in xml, xml
    guest(p, "late", "lab", "52:54:00:77:00:03")
    p.host.virsh("start", "late")
    late = lambda: next((x["address"] for x in p.daemon.json("network", "leases", "lab") if x["mac"] == "52:54:00:77:00:03"), None)
    assert until(late, 90, "a lease of the new range").startswith("10.77.1.15")
    p.host.virsh("destroy", "late")
    p.host.virsh("undefine", "late")

    said = refused(p, "network", "undefine", "lab", "--yes", code=75)
    assert "any, fixed" in said, said
    for name in ("any", "fixed"):
        p.host.virsh("destroy", name)
    assert not any(c["running"] for c in p.daemon.json("network", "attached", "lab"))
    assert "any, fixed" in refused(p, "network", "undefine", "lab", "--yes", code=75), "what is off needs it too"
    assert shown(p, "lab")["state"] == "active", "a refusal changes nothing"
    for name in ("any", "fixed"):
        p.host.virsh("undefine", name)
    p.daemon.cli("network", "remove-host", "lab", "fixed")
    assert p.daemon.json("network", "hosts", "lab") == []
    assert "10.77.1.77" not in p.host.virsh("net-dumpxml", "lab") + p.host.virsh("net-dumpxml", "lab", "--inactive"), "now and at the next start"
    p.daemon.cli("network", "undefine", "lab", "--yes")
    until(lambda: not shown(p, "lab"), 10, "it to be gone")
    assert "lab" not in names(p)


# Asks the name server at the address one question, and prints what it answers, byte for byte.
ASK = """import socket, sys
name, kind = sys.argv[2], int(sys.argv[3])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
s.sendto(b"\\x12\\x34\\x01\\x00\\x00\\x01" + bytes(6) + labels + b"\\0" + bytes([0, kind, 0, 1]), (sys.argv[1], 53))
sys.stdout.write(s.recv(4096).hex())"""
A, TXT, SRV = 1, 16, 33


def answered(p, name, kind):
    """What the network's name server says, and how many answers that are; -1 while it does not speak (libvirt restarts it for some changes)."""
    done = subprocess.run(p.host.inside("python3", "-c", ASK, "10.85.1.1", name, str(kind)), capture_output=True, text=True)
    told = bytes.fromhex(done.stdout)
    return told, int.from_bytes(told[6:8], "big") if told else -1


def test_names_are_answered_at_once_and_forgotten_at_once(p):
    define(p, "named", "--address", "10.85.1.1/24", "--domain", "lab.example", "--start")
    until(lambda: shown(p, "named")["state"] == "active", 30, "it to be active")
    add, remove = ("network", "add-name", "named"), ("network", "remove-name", "named")
    p.daemon.cli(*add, "git.lab.example", "10.85.1.60")
    p.daemon.cli(*add, "www.lab.example", "10.85.1.60")
    p.daemon.cli(*add, "_sip._tcp", "pbx.lab.example:5060", "--kind", "srv")
    p.daemon.cli(*add, "about.lab.example", "a <b> & c, #d", "--kind", "txt")
    for name in ("git", "www"):
        until(lambda: bytes([10, 85, 1, 60]) in answered(p, f"{name}.lab.example", A)[0], 30, f"the address of {name}")
    until(lambda: b"a <b> & c, #d" in answered(p, "about.lab.example", TXT)[0], 30, "the text")
    until(lambda: answered(p, "_sip._tcp.lab.example", SRV)[1] == 1, 30, "the service")
    assert sorted(n["kind"] for n in p.daemon.json("network", "names", "named")) == ["host", "host", "srv", "txt"]
    assert "answers git.lab.example" in refused(p, *add, "git.lab.example", "10.85.1.61", code=73)
    for name, value, kind in (("a b", "10.85.1.61", "host"), ("x", "nonsense", "host"), ("sip", "pbx:1", "srv"), ("'/><x y='", "a", "txt")):
        refused(p, *add, name, value, "--kind", kind, code=64)
    p.daemon.cli(*remove, "git.lab.example")
    until(lambda: answered(p, "git.lab.example", A)[1] == 0, 30, "the name to be forgotten")
    until(lambda: answered(p, "www.lab.example", A)[1] == 1, 30, "the other name of its address")
    refused(p, *remove, "git.lab.example", code=66)
    for start, end in (("10.85.1.9", "10.85.1.5"), ("10.86.1.5", "10.86.1.9"), ("10.85.1.1", "10.85.1.9")):
        refused(p, "network", "set-range", "named", start, end, code=64)
    both = p.host.virsh("net-dumpxml", "named") + p.host.virsh("net-dumpxml", "named", "--inactive")
    assert both.count("about.lab.example") == 2 and "git.lab" not in both and "<range" not in both, both
    p.daemon.cli("network", "undefine", "named", "--yes")


def test_each_mode_starts(p):
    define(p, "alone", "--mode", "isolated", "--start", "--autostart")
    xml = p.daemon.json("network", "xml", "alone")["text"]
    assert "<forward" not in xml and "<ip" not in xml, xml
    assert "yes" in p.host.virsh("net-info", "alone").split("Autostart:")[1].split("\n")[0]
    define(p, "routed", "--mode", "route", "--address", "10.78.1.1/24", "--bridge", "virbr-r", "--start")
    assert shown(p, "routed")["bridge"] == "virbr-r"
    define(p, "opened", "--mode", "open", "--address", "10.79.1.1/24", "--start")
    define(p, "bridged", "--mode", "bridge", "--bridge", "br0", "--start")
    define(p, "slow", "--address", "10.80.1.1/24", "--inbound", "1MiB", "--outbound", "512KiB")
    assert "<inbound average='1024'/>" in p.host.virsh("net-dumpxml", "slow"), p.host.virsh("net-dumpxml", "slow")
    for name in ("alone", "routed", "opened", "bridged", "slow"):
        if name != "slow":
            until(lambda: shown(p, name)["state"] == "active", 10, f"{name} to be active")
        p.daemon.cli("network", "undefine", name, "--yes")
    assert names(p) == []


def test_what_cannot_be_is_refused_with_the_reason_and_leaves_nothing(p):
    define(p, "first", "--address", "10.81.1.1/24", "--bridge", "virbr-f")
    before = names(p)
    make = ("network", "define")
    for options, word, code in (
        (("first", "--mode", "isolated"), "already", None),
        (("bad", "--address", "10.81.0.1/16"), "overlaps with 10.81.1.0/24 of the network first", None),
        (("bad", "--address", "10.82.1.1/33"), "prefix", 64),
        (("bad", "--address", "10.82.1.0/24"), "of the subnet itself", 64),
        (("bad", "--address", "nonsense"), "address", 64),
        (("bad",), "address is missing", 64),
        (("bad", "--address", "10.82.1.1/24", "--dhcp-start", "10.83.1.5", "--dhcp-end", "10.83.1.9"), "outside of 10.82.1.0/24", 64),
        (("bad", "--address", "10.82.1.1/24", "--dhcp-start", "10.82.1.9", "--dhcp-end", "10.82.1.5"), "before", 64),
        (("bad", "--mode", "bridge", "--bridge", "br77"), "no bridge br77", 64),
        (("bad", "--mode", "isolated", "--bridge", "br0"), "already", None),
        (("bad", "--mode", "isolated", "--bridge", "virbr-f"), "already", None),
        (("bad", "--mode", "isolated", "--vlan", "5"), "vlan means nothing", 64),
        (("bad", "--mode", "ovs", "--bridge", "br0", "--vlan", "4095"), "1 to 4094", 64),
        (("a/b", "--mode", "isolated"), "name", 64),
        (("bad", "--mode", "isolated", "--bridge", "x'/><y"), "bridge", 64),
    ):
        said = refused(p, *make, *options, code=code)
        assert word in said, (options, said)
    # One whose start fails is forgotten again: the host has that address already.
    subprocess.run(p.host.inside("ip", "addr", "add", "10.84.1.9/24", "dev", "br0"), check=True)
    subprocess.run(p.host.inside("ip", "link", "set", "br0", "up"), check=True)
    said = refused(p, *make, "bad", "--address", "10.84.1.1/24", "--start")
    assert names(p) == before, (names(p), said)
    assert "outside of" in refused(p, "network", "add-host", "first", "--mac", "52:54:00:77:00:01", "--address", "10.9.9.9", code=64)
    refused(p, "network", "remove-host", "first", "nobody", code=66)
    p.daemon.cli("network", "undefine", "first", "--yes")


def test_the_hosts_bridges_and_filters_are_listed(p):
    found = {i["name"]: i for i in p.daemon.json("interface", "list")}
    assert found["br0"]["kind"] == "bridge" and found["br0"]["members"] == ["nic0"], found
    assert found["br0"]["source"] == "libvirt", found
    assert [i["name"] for i in p.daemon.json("interface", "list", "--kind", "bridge") if not i["name"].startswith("virbr")] == ["br0"]
    xml = p.work / "filter.xml"
    xml.write_text("<filter name='no-mac-spoof' chain='root'><rule action='drop' direction='out'><mac match='no' srcmacaddr='$MAC'/></rule></filter>")
    p.host.virsh("nwfilter-define", str(xml))
    filters = {f["name"] for f in p.daemon.json("nwfilter", "list")}
    assert filters == {"no-mac-spoof"}, filters
    assert "name='no-mac-spoof'" in p.daemon.json("nwfilter", "xml", "no-mac-spoof")["text"]
    refused(p, "nwfilter", "xml", "no-such-filter", code=66)
