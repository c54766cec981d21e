"""`ops/quickstart` from nothing: no libvirtd, no configuration, no account. It runs in namespaces of its own (processes, mounts, network), so
that it really starts libvirt by hand, and everything ends with them.
"""

import re
import subprocess
import time

from harness.base import BIN, ROOT, tail

QUICKSTART = ROOT / "ops" / "quickstart"

# What a bare machine is: empty directories of state, loopback, no systemd, no libvirtd.
BARE = """
set -e
ip link set lo up
cp -a /etc/libvirt "$W/etc-libvirt"
mount --bind "$W/etc-libvirt" /etc/libvirt
rm -rf /etc/libvirt/qemu/networks/autostart/* /etc/libvirt/storage /etc/libvirt/qemu/*.xml /etc/libvirt/qemu/autostart
for d in /run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
    mkdir -p "$W/state$d" && chmod 755 "$W/state$d" && mount --bind "$W/state$d" "$d"
done
# A node of our own, as the real one's owner must not change.
[ ! -c /dev/kvm ] || { mknod -m 600 "$W/kvm" c 10 232 && mount --bind "$W/kvm" /dev/kvm; }
exec sh "$W/script"
"""


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.work = work
    work.chmod(0o755)  # QEMU's own user must reach the images.
    return p


def bare(p, name, script, seconds=120):
    """Runs a shell script on a bare machine; gives back what it says."""
    work = p.work / name
    work.mkdir()
    work.chmod(0o755)
    (work / "script").write_text(f'Q="{QUICKSTART} --bin-dir {BIN}"\nexport ARCHIPEL_PREFIX="$W/prefix"\nA="$W/prefix/bin/archipel"\n{script}')
    done = subprocess.run(
        ["unshare", "-m", "-n", "-p", "--fork", "--kill-child", "--mount-proc", "sh", "-c", BARE],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(work), "W": str(work), "LANG": "C.UTF-8"},
        capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL,
    )
    log = tail(work / "prefix" / "archipeld.log")
    assert done.returncode == 0, f"it ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{log}"
    return done.stdout


def examples():
    """The lines of the README that call the CLI and end by themselves."""
    lines = re.findall(r"^ +archipel (.+)$", (ROOT / "README.md").read_text(), re.M)
    return [line for line in lines if not line.startswith(("events", "chat"))]


def test_from_nothing_to_three_running_guests_and_again(p):
    began = time.monotonic()
    said = bare(p, "demo", """
set -e
$Q --demo || { cat /var/log/libvirt/libvirtd.out; exit 1; }
echo "=== again"
$Q --demo
echo "=== works"
export ARCHIPEL_JID=admin@vm.localhost ARCHIPEL_PASSWORD_FILE=$W/prefix/cli/password ARCHIPEL_SERVER=127.0.0.1:5222
$A domain list
$A domain pause demo-1 && $A domain info demo-1
virsh -q -c qemu:///system resume demo-1
$A domain shutdown demo-2 --wait
echo "=== readme"
""" + "\n".join(f"$A {line} || exit 1" for line in examples()) + """
echo "=== stopped"
$Q --stop
virsh -q -c qemu:///system list --name
$Q --stop
echo "=== back"
$Q
$A --json domain list | tr -d ' \\n'
echo "=== end"
$Q --stop
for g in $(virsh -q -c qemu:///system list --name); do virsh -q -c qemu:///system destroy $g; done
""")
    first, rest = said.split("=== again")
    again, rest = rest.split("=== works")
    works, rest = rest.split("=== readme")
    readme, rest = rest.split("=== stopped")
    stopped, rest = rest.split("=== back")
    assert "http://127.0.0.1:8080/" in first and "admin@vm.localhost" in first, first
    password = re.search(r"password +(\S{15,})", first)[1]
    assert password in again, "the second run must keep the password"
    assert "kept as it is" in again and "it answers" in again and again.count("is there already") == 3, again
    assert all(re.search(rf"demo-{n}.*running", works) for n in (1, 2, 3)), works
    assert "paused" in works
    assert len(examples()) >= 8 and "demo-1" in readme, readme
    assert "mine is created and started" in readme and re.search(r"mine.qcow2", readme), readme
    assert "demo-1" in stopped and "demo-3" in stopped, f"stopping it must not stop guests: {stopped}"
    assert "archipeld is not running" in stopped, "stopping twice is no error"
    assert rest.count('"state":"running"') >= 2, rest
    return f"{time.monotonic() - began:.0f} s in all"


def test_a_dry_run_changes_nothing(p):
    said = bare(p, "dry", """
$Q --demo --dry-run || exit 1
[ ! -e "$W/prefix" ] || { echo "it made $W/prefix"; find "$W/prefix"; exit 1; }
[ ! -e /run/libvirt/libvirt-sock ] || { echo "it started libvirt"; exit 1; }
""")
    assert "nothing was changed" in said and "would" in said


def test_it_says_clearly_what_it_cannot_do(p):
    said = bare(p, "errors", """
fails() { if "$@" 2>&1; then echo "SUCCEEDED: $*"; fi; }
fails $Q --nonsense
fails $Q --bin-dir /nowhere
fails $Q --http
mkdir -p "$W/prefix/etc/archipel" && echo 'colour = "red"' >"$W/prefix/etc/archipel/archipel.toml"
fails $Q
rm -r "$W/prefix/etc"
python3 -c 'import socket, time; s = socket.create_server(("127.0.0.1", 8080)); print("up", flush=True); time.sleep(60)' >"$W/listener" &
until grep -q up "$W/listener"; do sleep 0.05; done
fails $Q
[ ! -e "$W/prefix/etc/archipel/archipel.toml" ] || echo "SUCCEEDED: it wrote a configuration that cannot work"
kill $!
mkdir "$W/old" && printf '#!/bin/sh\necho "rustc 1.63.0 (old)"\n' >"$W/old/rustc" && printf '#!/bin/sh\nexit 1\n' >"$W/old/cargo" && chmod +x "$W"/old/*
export PATH="$W/old:$PATH"
fails ${Q% --bin-dir*}
""")
    assert "SUCCEEDED" not in said, said
    for words in ("unknown option --nonsense", "no directory /nowhere", "--http needs a value", "colour", "the configuration has mistakes",
                  "something listens on 127.0.0.1:8080 already", "found: 1.63.0) and https://sh.rustup.rs cannot be reached"):
        assert words in said, f"{words!r} is not in:\n{said}"


def test_a_daemon_that_ended_unreaped_counts_as_stopped(p):
    # In a container whose process 1 reaps nothing, an ended daemon stays in the list of processes.
    said = bare(p, "unreaped", """
mkdir -p "$W/prefix/run" && cp /bin/true "$W/archipeld"
python3 -c "
import subprocess, sys, time
child = subprocess.Popen([sys.argv[1]])
print(child.pid, flush=True)
time.sleep(60)" "$W/archipeld" >"$W/prefix/run/archipeld.pid" &
until grep -q '^State:.*Z' "/proc/$(cat "$W/prefix/run/archipeld.pid")/status" 2>/dev/null; do sleep 0.05; done
grep -q archipeld "/proc/$(cat "$W/prefix/run/archipeld.pid")/comm" || exit 1
$Q --stop
kill $!
""", seconds=15)
    assert "archipeld is not running" in said, said
