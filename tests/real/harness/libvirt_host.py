"""A libvirt of our own: libvirtd with QEMU in private mount, network and host-name namespaces.

Nothing of the machine's own libvirt is touched. Guests are emulated (/dev/kvm is hidden: on machines without real hardware
virtualization it opens and is useless), QEMU runs under a sub-reaper so that the end of a guest is noticed at once, and from
outside everything is reached by the socket file.

    keeper (owns the namespaces) --- libvirtd (may be stopped, killed, started again) --- QEMU of each guest
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import uuid

from .base import ROOT, Seen, tail, until

TICK = ROOT / "ops" / "demo" / "tick.img"

KEEPER = """
hostname {name}
ip link set lo up
for d in {places}; do
    mkdir -p "${{d#*:}}" && mount --bind "{work}/${{d%%:*}}" "${{d#*:}}" || exit 1
done
# A regular file nobody may open as a device: with /dev/null there libvirt would probe QEMU again at every definition.
if [ -e /dev/kvm ]; then
    : >"{work}/no-kvm"; mount --bind "{work}/no-kvm" /dev/kvm; mount -o remount,ro,bind /dev/kvm
fi
[ ! -d /sys/fs/cgroup ] || mount -t tmpfs none /sys/fs/cgroup
touch "{work}/ready"
exec sleep infinity
"""

LIBVIRTD_CONF = """
host_uuid = "{uuid}"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_dir = "/run/libvirt"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""

QEMU_CONF = """
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='hda' bus='ide'/></disk>
<serial type='file'><source path='{serial}'/><target port='0'/></serial>
</devices></domain>"""


class LibvirtHost:
    """One private libvirt host. Use it as a context manager: it cleans up whatever happened."""

    # What a kind of host has more: lines of its files, options of its daemon, the pools that are started.
    LIBVIRTD_MORE = QEMU_MORE = ""
    LIBVIRTD_OPTIONS = ()

    def __init__(self, work, name="host1"):
        self.work = pathlib.Path(work) / name
        self.name = name
        self.uri = f"qemu:///system?socket={self.work}/run/libvirt-sock"
        self.images = self.work / "images"
        # Directories of ours, each with the place where libvirtd sees it.
        self.places = {
            "etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "run": "/run/libvirt", "log": "/var/log/libvirt", "cache": "/var/cache/libvirt",
            "swtpm": "/var/log/swtpm",
        }
        self.pools = {"images": self.images}
        self.keeper = self.libvirtd = None
        self.watchers = []

    def __enter__(self):
        for d in ("etc/qemu/networks", "lib/images", "lib/qemu", "log/qemu", "images", *self.places):
            (self.work / d).mkdir(parents=True, exist_ok=True)
        (self.work / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=uuid.uuid4()) + self.LIBVIRTD_MORE)
        (self.work / "etc/qemu.conf").write_text(QEMU_CONF + self.QEMU_MORE)
        places = " ".join(f'"{ours}:{theirs}"' for ours, theirs in self.places.items())
        script = KEEPER.format(name=self.name, work=self.work, places=places)
        log = open(self.work / "log/keeper", "w")
        self.keeper = subprocess.Popen(["unshare", "-m", "-n", "-u", "sh", "-c", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            until(lambda: (self.work / "ready").exists() or self.keeper.poll() is not None, 10, "the namespaces")
            assert self.keeper.poll() is None, f"the namespaces could not be made: {tail(self.work / 'log/keeper')}"
            self.connect()
            self.start()
            for pool, path in self.pools.items():
                self.virsh("pool-define-as", pool, "dir", "--target", str(path))
                self.virsh("pool-start", pool)
                self.virsh("pool-autostart", pool)
        except BaseException:
            self.__exit__()
            raise
        return self

    def connect(self):
        """Puts in the cables, before libvirtd starts. A host alone has none."""

    def __exit__(self, *_):
        for w in self.watchers:
            w.kill()
            w.wait()
        for file in (self.work / "run/qemu").glob("*.pid"):
            self._kill(file, signal.SIGKILL)
        if self.libvirtd:
            self.thaw()
            self.stop()
        if self.keeper:
            self.keeper.kill()
            self.keeper.wait()

    # ------------------------------------------------------------ the daemon

    def start(self):
        """Starts libvirtd and waits until it answers."""
        (self.work / "run/libvirtd.pid").unlink(missing_ok=True)
        log = open(self.work / "log/stdout", "a")
        daemon = self.inside("tini", "-s", "--", "libvirtd", *self.LIBVIRTD_OPTIONS, "--pid-file", "/run/libvirt/libvirtd.pid")
        self.libvirtd = subprocess.Popen(daemon, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(self.answers, 60, f"libvirtd of {self.name} (its log: {self.work}/log/libvirtd.log)", pause=0.05)

    def inside(self, *command):
        """The command line that runs something on this host, in all its namespaces."""
        return ["nsenter", "-t", str(self.keeper.pid), "-m", "-n", "-u", "--", *map(str, command)]

    def answers(self):
        ended = self.libvirtd.poll()
        assert ended is None, f"libvirtd of {self.name} ended with {ended}: {tail(self.work / 'log/stdout', 5)}\n{tail(self.work / 'log/libvirtd.log', 8)}"
        if not (self.work / "run/libvirt-sock").exists():
            return False
        try:
            return self._virsh("version", timeout=5).returncode == 0
        except subprocess.TimeoutExpired:
            self.wake_probes()
            return False

    def wake_probes(self):
        """libvirtd asks QEMU what it can do, and now and then (one start of 500 on a busy machine) QEMU 7.2 stands still before it answers: its
        main thread accepts a connection that its monitor's thread has taken already. A second connection lets it go on."""
        for directory in (self.work / "lib/qemu").glob("qmp-*"):
            try:
                # The whole path may be too long for the address of a socket.
                place = os.open(directory, os.O_PATH)
                with socket.socket(socket.AF_UNIX) as second:
                    second.settimeout(1)
                    second.connect(f"/proc/self/fd/{place}/qmp.monitor")
                os.close(place)
            except OSError:
                pass

    def stop(self, how=signal.SIGTERM):
        """Stops libvirtd; guests run on."""
        self._kill(self.work / "run/libvirtd.pid", how)
        try:
            self.libvirtd.wait(20)
        except subprocess.TimeoutExpired:
            self.libvirtd.kill()
            self.libvirtd.wait()

    def freeze(self):
        """libvirtd stands still: calls neither fail nor return."""
        self._kill(self.work / "run/libvirtd.pid", signal.SIGSTOP)

    def thaw(self):
        self._kill(self.work / "run/libvirtd.pid", signal.SIGCONT)

    @staticmethod
    def _kill(pid_file, how):
        try:
            os.kill(int(pathlib.Path(pid_file).read_text()), how)
        except (OSError, ValueError):
            pass

    # ------------------------------------------------------------ virsh

    def _virsh(self, *arguments, timeout=60):
        return subprocess.run(["virsh", "-q", "-c", self.uri, *arguments], capture_output=True, text=True, timeout=timeout)

    def virsh(self, *arguments):
        """Runs virsh and gives back what it says."""
        done = self._virsh(*arguments)
        assert done.returncode == 0, f"virsh {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout.strip()

    def state(self, name):
        return self.virsh("domstate", name)

    def watch(self):
        """virsh's own stream of events, line by line, with times of arrival: the measure for all others."""
        seen = Seen("virsh event")
        command = ["stdbuf", "-oL", "virsh", "-c", self.uri, "event", "--all", "--loop"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.watchers.append(process)
        threading.Thread(target=lambda: [seen.add(line.rstrip()) for line in process.stdout], daemon=True).start()
        # It does not say when it is ready: an event that we cause ourselves tells.
        until(lambda: self.probe() or seen.mark(), 10, "virsh event", pause=0.05)
        return seen

    def probe(self):
        """Causes two events that mean nothing: a machine appears and goes."""
        xml = self.work / "probe.xml"
        xml.write_text("<domain type='qemu'><name>probe</name><memory unit='MiB'>16</memory><os><type arch='x86_64'>hvm</type></os></domain>")
        self.virsh("define", str(xml))
        self.virsh("undefine", "probe")

    # ------------------------------------------------------------ guests

    def volume(self, name):
        """A bootable volume in the pool `images`."""
        path = self.images / f"{name}.img"
        shutil.copy(TICK, path)
        self.virsh("pool-refresh", "images")
        return path

    def define(self, name):
        """Defines a guest that boots in a fraction of a second; gives back its UUID."""
        disk = self.volume(name)
        xml = self.work / f"{name}.xml"
        xml.write_text(DOMAIN.format(name=name, disk=disk, serial=self.work / f"{name}.serial"))
        self.virsh("define", str(xml))
        return self.virsh("domuuid", name)

    def booted(self, name):
        """Waits until the guest itself has said something on its serial port."""
        serial = self.work / f"{name}.serial"
        until(lambda: serial.exists() and re.search(rb"T[0-9A-F]{4}\r", serial.read_bytes()), 20, f"the first line of {name}")

    def beats(self, name):
        """How far the guest has counted."""
        found = re.findall(rb"T([0-9A-F]{4})\r", (self.work / f"{name}.serial").read_bytes())
        return (len(found), int(found[-1], 16)) if found else (0, 0)

    def qemu_pid(self, name):
        return int((self.work / f"run/qemu/{name}.pid").read_text())
