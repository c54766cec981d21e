"""A Linux guest, made from Debian's packages alone: the kernel for clouds, busybox, the QEMU guest agent. It boots without a disk in some
seconds, has a prompt on its serial line and on its screen, and an agent that answers. A disk, if there is one, is mounted at /data; an empty one
gets a file system first.

Built once and kept under target/guest; a build takes about half a minute, most of it the download of the kernel.
"""

import gzip
import io
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from .base import ROOT, Skipped

KEPT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "guest"
# Changed whenever what is built changes.
VERSION = "7"
MODULES = (
    "virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "virtio_balloon", "virtiofs", "button", "evdev", "crc32c_generic",
    "ext4",
)

INIT = """#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run /tmp; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /tmp
for m in $(cat /modules/order); do insmod /modules/$m 2>/dev/null; done
opt() { for w in $(cat /proc/cmdline); do case $w in $1=*) echo "${w#*=}";; esac; done; }
hostname "$(opt guest.name)"
ip link set lo up
for d in /sys/class/net/*; do d=${d##*/}; [ $d = lo ] || { ip link set $d up; ip addr add $(opt guest.ip) dev $d; }; done
disk() { mount -t ext4 /dev/vda /data 2>/dev/null || mount -t ext2 /dev/vda /data 2>/dev/null; }
[ -b /dev/vda ] && mkdir /data && { disk || { mke2fs /dev/vda >/dev/null && disk; }; }
mkdir -p /dev/virtio-ports
for p in /sys/class/virtio-ports/*; do [ -e $p/name ] && ln -sf ../${p##*/} /dev/virtio-ports/$(cat $p/name); done
[ -e /dev/virtio-ports/org.qemu.guest_agent.0 ] && qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run &
acpid -f >/dev/null 2>&1 &
echo "GUEST READY" | tee /dev/ttyS0 >/dev/tty1
(while :; do getty -n -l /bin/prompt -L 38400 tty1 linux; sleep 1; done) &
while :; do getty -n -l /bin/prompt -L 115200 ttyS0 vt100; sleep 1; done
"""

FILES = {
    "init": INIT,
    "bin/prompt": "#!/bin/sh\nexport PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='guest# '\nexec sh\n",
    "etc/acpi/PWRF/00000080": "#!/bin/sh\nsync; poweroff -f\n",
    # Debian's busybox has none; what the agent tells it is kept for the test to read.
    "bin/chpasswd": "#!/bin/sh\ncat >/tmp/told-chpasswd\n",
    "sbin/shutdown": "#!/bin/sh\nfor a; do case $a in -r) M=reboot;; esac; done\nsync; exec ${M:-poweroff} -f\n",
}

DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{kept}/vmlinuz</kernel><initrd>{kept}/initrd.gz</initrd>
<cmdline>console=tty1 console=ttyS0 quiet guest.name={name} guest.ip={ip}</cmdline></os><features><acpi/></features>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<serial type='pty'><target port='0'/></serial><console type='pty'><target type='serial' port='0'/></console>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<graphics type='vnc'><listen type='none'/></graphics><video><model type='vga' vram='16384'/></video>
</devices></domain>"""


def _run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, **more).stdout


def _kernel(work):
    """Debian's kernel for clouds, unpacked."""
    depends = _run("apt-cache", "depends", "linux-image-cloud-amd64", text=True)
    package = re.search(r"Depends: (linux-image-\S+)", depends)
    if not package:
        raise Skipped("apt knows no linux-image-cloud-amd64; run apt-get update")
    _run("apt-get", "download", "-q", package[1], cwd=work)
    (archive,) = work.glob("linux-image-*.deb")
    _run("dpkg-deb", "-x", str(archive), str(work / "kernel"))
    return work / "kernel"


def _modules(kernel, into):
    into.mkdir(parents=True)
    all_of_them = {m.name.split(".")[0].replace("-", "_"): m for m in kernel.rglob("*.ko*")}
    order = []

    def add(name):
        module = all_of_them.get(name)
        if module is None or module.name in order:
            return
        for wanted in _run("modinfo", "-F", "depends", str(module), text=True).strip().split(","):
            add(wanted.replace("-", "_"))
        shutil.copy(module, into)
        order.append(module.name)

    for name in MODULES:
        add(name)
    (into / "order").write_text("\n".join(order) + "\n")


def _build(into):
    for tool in ("busybox", "qemu-ga", "cpio", "apt-get", "modinfo"):
        if not shutil.which(tool) and not pathlib.Path("/usr/sbin", tool).exists():
            raise Skipped(f"the Linux guest needs {tool}; ops/test installs it")
    with tempfile.TemporaryDirectory(dir=into.parent) as work:
        work = pathlib.Path(work)
        os.chmod(work, 0o755)
        kernel, root = _kernel(work), work / "root"
        for folder in ("bin", "sbin", "usr/bin", "etc/acpi/PWRF", "proc", "sys", "dev", "run", "tmp", "root", "var/run", "var/log"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        busybox = shutil.which("busybox")
        shutil.copy(busybox, root / "bin/busybox")
        for name in _run(busybox, "--list", text=True).split():
            if name != "busybox":
                (root / "bin" / name).symlink_to("busybox")
        _modules(kernel, root / "modules")
        for path, text in FILES.items():
            (root / path).unlink(missing_ok=True)
            (root / path).write_text(text)
            (root / path).chmod(0o755)
        # Without it the agent says that it cannot set the time.
        (root / "sbin/hwclock").symlink_to("../bin/busybox")
        (root / "etc/passwd").write_text("root::0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
        agent = shutil.which("qemu-ga") or "/usr/sbin/qemu-ga"
        shutil.copy(agent, root / "usr/bin/qemu-ga")
        for library in re.findall(r"(/\S+\.so\S*)", _run("ldd", agent, text=True)):
            (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / library[1:])
        names = b"\0".join(str(p.relative_to(root)).encode() for p in sorted(root.rglob("*"))) + b"\0"
        archive = _run("cpio", "-o", "-0", "-H", "newc", "-R", "0:0", "--quiet", input=names, cwd=root)
        into.mkdir()
        with gzip.GzipFile(into / "initrd.gz", "wb", 1) as out:
            shutil.copyfileobj(io.BytesIO(archive), out)
        (image,) = (kernel / "boot").glob("vmlinuz-*")
        shutil.copy(image, into / "vmlinuz")


def kept():
    """Where kernel and initial file system are; builds them the first time."""
    folder = KEPT / VERSION
    if not (folder / "vmlinuz").exists():
        shutil.rmtree(KEPT, ignore_errors=True)
        KEPT.mkdir(parents=True)
        _build(folder)
    return folder


def define(host, name, ip="192.0.2.7/24", more=""):
    """Defines a Linux guest on a host; gives back its UUID."""
    xml = host.work / f"{name}.xml"
    xml.write_text(DOMAIN.format(name=name, kept=kept(), ip=ip).replace("</devices>", f"{more}</devices>"))
    host.virsh("define", str(xml))
    return host.virsh("domuuid", name)
