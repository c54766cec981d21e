"""One to three libvirt hosts on this machine, which move machines to each other.

    switch (a network namespace with a bridge)
      |  p1            |  p2            |  p3        cut() takes one of these down, mend() brings it back
    host h1          host h2          host h3        each: own network, mounts, host name, UUID, certificates, libvirtd (TCP, TLS)

Below the working directory, `shared` is the same for all and the storage pool `shared` of each; `own` is a different directory
on each host under one name, and its pool `own`: what is there must be copied. From outside a host is reached by its socket, from
another host as `qemu+tls://h2/system`. Nothing touches the network of the machine itself, and everything goes at the end.
Several of these may run at once.
"""

import concurrent.futures
import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import uuid

from .base import ARRIVALS, tail, until
from .libvirt_host import TICK, LibvirtHost

NET, SECOND = "10.98.0", "10.98.1"
WRITER = pathlib.Path(__file__).with_name("writer.S")
# libvirt's own default is 5 s x 5 between daemons; nobody wants to wait half a minute for each cut cable.
SIGNS_OF_LIFE = "keepalive_interval = 2\nkeepalive_count = 3\n"

GUEST = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw' cache='writethrough'/><source file='{disk}'/><target dev='hda' bus='ide'/></disk>
{card}<serial type='file'><source path='{serial}' append='on'/><target port='0'/></serial>
</devices></domain>"""


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"
    return done.stdout


class Node(LibvirtHost):
    """One of the hosts. It is entered by `Hosts`, which makes its certificates first."""

    LIBVIRTD_MORE = 'listen_tcp = 1\nlisten_tls = 1\nauth_tcp = "none"\nauth_tls = "none"\n' + SIGNS_OF_LIFE
    QEMU_MORE = 'migrate_tls_x509_cert_dir = "/etc/pki/qemu"\ndefault_tls_x509_verify = 1\n' + SIGNS_OF_LIFE
    LIBVIRTD_OPTIONS = ("--listen",)

    def __init__(self, hosts, number):
        super().__init__(hosts.work, f"h{number}")
        self.hosts, self.number = hosts, number
        self.address = f"{NET}.1{number}"
        self.images = hosts.shared
        self.places |= {"pki": "/etc/pki", "own": hosts.own}
        self.pools = {"shared": hosts.shared, "own": hosts.own}

    def connect(self):
        (self.work / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{NET}.1{n} h{n}\n" for n in range(1, 4)))
        run(*self.inside("mount", "--bind", self.work / "hosts", "/etc/hosts"))
        self.plug("eth0", "p", "br0", self.address)

    def within(self, act):
        """Does something in the network of this host, on a thread of its own: a socket made there stays there."""
        def there():
            with open(f"/proc/{self.keeper.pid}/ns/net") as network:
                assert ctypes.CDLL(None, use_errno=True).setns(network.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())
            return act()
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(there).result(60)

    def plug(self, card, port, bridge, address):
        """A cable from a card of this host to a port of the switch."""
        switch, me, port = str(self.hosts.switch.pid), str(self.keeper.pid), f"{port}{self.number}"
        run("ip", "link", "add", card, "netns", me, "type", "veth", "peer", "name", port, "netns", switch)
        run("nsenter", "-t", switch, "-n", "ip", "link", "set", port, "master", bridge, "up")
        run(*self.inside("ip", "addr", "add", f"{address}/24", "dev", card))
        run(*self.inside("ip", "link", "set", card, "up"))

    def up(self):
        """Brings it back into order after whatever was broken: not stopped, running, its cable in place."""
        self.mend()
        self.thaw()
        if not self.libvirtd or self.libvirtd.poll() is not None or not self.alive():
            self.stop(signal.SIGKILL)
            self.start()

    def alive(self):
        try:
            os.kill(int((self.work / "run/libvirtd.pid").read_text()), 0)
            return True
        except (OSError, ValueError):
            return False

    def kill_libvirtd(self):
        """The daemon dies at once; its guests run on, adopted by the sub-reaper until that ends."""
        self._kill(self.work / "run/libvirtd.pid", signal.SIGKILL)
        until(lambda: not self.alive(), 10, f"the end of libvirtd of {self.name}")

    def cut(self):
        self._cable("down")

    def mend(self):
        self._cable("up")

    def _cable(self, how):
        run("nsenter", "-t", str(self.hosts.switch.pid), "-n", "ip", "link", "set", f"p{self.number}", how)

    def received(self, card):
        """Bytes that came in on a card."""
        return int(run(*self.inside("cat", "/proc/net/dev")).split(f"{card}:")[1].split()[0])

    def lose_transfers(self):
        """This host's kernel gives up the connections on which memory comes or goes, as by itself after a quarter of an hour without
        an answer. The other end is told only if there is a cable."""
        ports = " or ".join(f"( {end} >= :{ARRIVALS.start} and {end} < :{ARRIVALS.stop} )" for end in ("sport", "dport"))
        lost = run(*self.inside("ss", "-K", "-Htn", "state", "established", ports)).splitlines()
        assert lost, f"no memory comes to {self.name} or goes from it"

    # ------------------------------------------------------------ what is really there

    def qemus(self, name):
        """Process ids of the emulators of that machine on this host, from the processes themselves and not from libvirt."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                same = os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{self.keeper.pid}/ns/net")
                if same and b"qemu-system" in line.split(b"\0")[0] and f"guest={name},".encode() in line:
                    found.append(int(pid))
        return found

    def kill_qemu(self, name):
        """The emulator of a machine dies, here only. Whether there was one."""
        pids = self.qemus(name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    def states(self):
        """What libvirt says of every machine: name to (state, reason)."""
        found = {}
        for name in self.virsh("list", "--all", "--name").split():
            said = self._virsh("domstate", name, "--reason")
            words = re.match(r"(.+) \((.+)\)", said.stdout.strip()) if said.returncode == 0 else None
            if words:
                found[name] = (words[1].replace("shut off", "shutoff"), words[2])
        return found

    def told(self, name):
        """What the job of a machine says, and its emulator of a migration."""
        asked = (self._virsh("domjobinfo", name), self._virsh("qemu-monitor-command", name, "--hmp", "info migrate"))
        return [" ".join((done.stdout or done.stderr).split())[:300] for done in asked]

    def last_words(self, name):
        """What the last emulator of a machine on this host has said."""
        log = self.work / "log/qemu" / f"{name}.log"
        return log.read_text(errors="replace").rsplit(": starting up", 1)[-1] if log.exists() else ""

    def listeners(self):
        """TCP ports on which a migration could still be waited for (memory from 49152 on, disks too)."""
        said = run("nsenter", "-t", str(self.keeper.pid), "-n", "ss", "-Hltn")
        ports = {int(line.split()[3].rsplit(":", 1)[1]) for line in said.splitlines()}
        return sorted(p for p in ports if p in ARRIVALS)


class Hosts:
    """Use it as a context manager: it cleans up whatever happened."""

    def __init__(self, work, count=2):
        self.work = pathlib.Path(work) / "hosts"
        self.shared, self.own = self.work / "shared", self.work / "own"
        self.count = count
        self.switch = None
        self.nodes = []
        self.stack = contextlib.ExitStack()

    def __getitem__(self, number):
        """Host `number`, counted from 1 as their names are."""
        return self.nodes[number - 1]

    def __enter__(self):
        for d in (self.shared, self.own):
            d.mkdir(parents=True, exist_ok=True)
        try:
            self._switch()
            self._certificates()
            self._writer()
            for number in range(1, self.count + 1):
                self.nodes.append(self.stack.enter_context(Node(self, number)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            with contextlib.suppress(AssertionError):
                node.thaw()
        self.stack.close()
        for node in self.nodes:
            for name in list(self._all_guests()):
                node.kill_qemu(name)
        if self.switch:
            self.switch.kill()
            self.switch.wait()
        # The empty /etc/pki that was made as a place to mount on stays: removing it would unmount it under other hosts that run.

    def _all_guests(self):
        return {p.stem for p in self.work.glob("*.xml")}

    def _switch(self):
        ready = self.work / "switch-ready"
        script = f"ip link set lo up && ip link add br0 type bridge && ip addr add {NET}.1/24 dev br0 && ip link set br0 up && touch {ready} && exec sleep infinity"
        self.switch = subprocess.Popen(["unshare", "-n", "sh", "-c", script], stdin=subprocess.DEVNULL)
        until(lambda: ready.exists() or self.switch.poll() is not None, 10, "the switch")
        assert self.switch.poll() is None, "the bridge between the hosts could not be made"

    def _certificates(self):
        """A certificate authority for this run, and one certificate for each host that serves libvirt and QEMU, both ways."""
        ca = self.work / "ca"
        ca.mkdir()
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3")
        run("openssl", "req", "-x509", *key, "-subj", "/CN=tests", "-keyout", ca / "ca.key", "-out", ca / "ca.pem",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        for n in range(1, self.count + 1):
            (ca / f"h{n}.ext").write_text(
                f"subjectAltName=DNS:h{n},IP:{NET}.1{n}\nextendedKeyUsage=serverAuth,clientAuth\nkeyUsage=digitalSignature,keyEncipherment\n"
            )
            run("openssl", "req", "-new", *key[:-2], "-subj", f"/O=tests/CN=h{n}", "-keyout", ca / f"h{n}.key", "-out", ca / f"h{n}.csr")
            run("openssl", "x509", "-req", "-in", ca / f"h{n}.csr", "-CA", ca / "ca.pem", "-CAkey", ca / "ca.key", "-CAcreateserial",
                "-days", "3", "-extfile", ca / f"h{n}.ext", "-out", ca / f"h{n}.pem")
            pki = self.work / f"h{n}" / "pki"
            for d in ("CA", "libvirt/private", "qemu"):
                (pki / d).mkdir(parents=True)
            shutil.copy(ca / "ca.pem", pki / "CA/cacert.pem")
            shutil.copy(ca / "ca.pem", pki / "qemu/ca-cert.pem")
            for role in ("server", "client"):
                shutil.copy(ca / f"h{n}.pem", pki / f"libvirt/{role}cert.pem")
                shutil.copy(ca / f"h{n}.key", pki / f"libvirt/private/{role}key.pem")
                shutil.copy(ca / f"h{n}.pem", pki / f"qemu/{role}-cert.pem")
                shutil.copy(ca / f"h{n}.key", pki / f"qemu/{role}-key.pem")

    def _writer(self):
        run("as", "--32", "-o", self.work / "writer.o", WRITER)
        run("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-e", "start", "-o", self.work / "writer.img", self.work / "writer.o")

    def second_network(self):
        """A card eth1 for each host, on a switch of its own: for what shall not travel with everything else."""
        run("nsenter", "-t", str(self.switch.pid), "-n", "sh", "-c", "ip link add br1 type bridge && ip link set br1 up")
        for node in self.nodes:
            node.plug("eth1", "q", "br1", f"{SECOND}.1{node.number}")

    # ------------------------------------------------------------ guests

    def guest(self, name, host=1, kind="writer", memory=64, where=None, network=None, define=True, change=lambda xml: xml):
        """Defines a guest on a host, its disk in `shared` or (where="own") in the host's own directory; gives back its UUID.
        `change` may do what it likes to the definition."""
        node, identity = self[host], str(uuid.uuid4())
        seen_as = (self.own if where == "own" else self.shared) / f"{name}.img"
        image = node.work / "own" / f"{name}.img" if where == "own" else seen_as
        if kind == "writer":
            code = bytearray((self.work / "writer.img").read_bytes())
            code[506:510] = uuid.UUID(identity).bytes[:4]
            image.write_bytes(bytes(code))
            os.truncate(image, 8 << 20)
        else:
            shutil.copy(TICK, image)
        card = f"<interface type='network'><source network='{network}'/><model type='virtio'/></interface>" if network else ""
        xml = self.work / f"{name}.xml"
        xml.write_text(change(GUEST.format(name=name, uuid=identity, memory=memory, disk=seen_as, serial=self.serial(name), card=card)))
        if define:
            node.virsh("define", str(xml))
        return identity

    def serial(self, name):
        return self.shared / f"{name}.serial"

    def spoken(self, name):
        """How many lines the guest has said on its serial port, on whichever host."""
        serial = self.serial(name)
        return len(re.findall(rb"W[0-9A-F]{4}:|T[0-9A-F]{4}\r", serial.read_bytes())) if serial.exists() else 0

    def speaks(self, name, seconds=20):
        """Waits until the guest says something new: it executes, somewhere."""
        before = self.spoken(name)
        until(lambda: self.spoken(name) > before, seconds, f"a new line of {name}")

    def running_on(self, name):
        """Hosts whose libvirt says that the machine is running, for the auditor: never more than one."""
        return [n.name for n in self.nodes if n.states().get(name, ("absent",))[0] == "running"]

    def standing(self):
        """For whoever looks at a test that failed: what libvirt says of each machine, and the emulators of those that are active."""
        return {n.name: {name: (*state, *(n.told(name) if state[0] != "shutoff" else ())) for name, state in n.states().items()} for n in self.nodes}

    def history(self, name, path=None):
        """Reads the writer's disk and judges it: no block may belong to another past than the one before it. Gives back (runs, blocks)."""
        data = pathlib.Path(path or self.shared / f"{name}.img").read_bytes()
        machine, before, runs = struct.unpack_from("<I", data, 506)[0], (0, -1, 0), []
        for at in range(512, len(data), 512):
            magic, number, run_, counter, nonce, past = struct.unpack_from("<4s5I", data, at)
            if magic != b"ARCH":
                assert not any(data[i:i + 4] == b"ARCH" for i in range(at, len(data), 512)), f"{name}: a hole at block {at // 512}"
                break
            assert number == machine, f"{name}: block {at // 512} was written by another machine"
            assert past == before[2], f"{name}: block {at // 512} does not go on from the one before it: two copies ran"
            goes_on = (run_, counter) == (before[0], before[1] + 1)
            begins = (run_, counter) == (before[0] + 1, 0)
            assert goes_on or begins, f"{name}: block {at // 512} is {run_}:{counter} after {before[0]}:{before[1]}"
            before = (run_, counter, nonce)
            runs.append(run_)
        said = self.serial(name).read_bytes() if self.serial(name).exists() else b""
        assert b"!" not in said, f"{name} itself found a block on its disk that it had not written: two copies ran"
        return len(set(runs)), len(runs)
