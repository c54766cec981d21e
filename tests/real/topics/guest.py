"""The agent in a real Linux guest: what it tells, its clock, a freeze that thaws by itself, programs, and a shutdown by the agent."""

import subprocess
import time

from harness import linux
from harness.base import until
from harness.daemon import CELL, VIEWER, Daemon
from harness.libvirt_host import LibvirtHost

DISK = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/><target dev='vda' bus='virtio'/></disk>"
RAW = f"raw@{CELL}"
CARD = "<interface type='network'><source network='quiet'/><model type='virtio'/></interface>"
QUIET = "<network><name>quiet</name><bridge name='quiet0'/></network>"


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.host = stack.enter_context(LibvirtHost(work))
    (p.host.work / "quiet.xml").write_text(QUIET)
    p.host.virsh("net-define", str(p.host.work / "quiet.xml"))
    p.host.virsh("net-start", "quiet")
    disk = p.host.images / "data.img"
    with open(disk, "wb") as file:
        file.truncate(16 << 20)
    p.jid = f"{linux.define(p.host, 'web1', ip='192.0.2.7/24', more=CARD + DISK.format(file=disk))}@{CELL}"
    p.shared = p.host.work / "shared"
    p.shared.mkdir()
    p.daemon = Daemon(work, {"alpha": p.host.uri}, hypervisor=f'shared_directories = ["{p.shared}"]')
    p.daemon.account("add", RAW, "--role", "admin-raw")
    stack.enter_context(p.daemon)
    p.daemon.wait_state("web1", "shutoff")
    told = p.daemon.json("domain", "attach-filesystem", "web1", str(p.shared), "data")
    assert told["applies"] == "next-boot" and "its memory is shared" in told["message"], told
    p.daemon.cli("domain", "start", "web1")
    until(lambda: p.daemon.machine("web1")["agent"], 90, "the agent to answer", pause=0.2)
    return p


def test_the_agent_returns_the_name_the_system_and_the_address(p):
    told = p.daemon.json("domain", "guest-info", "web1", jid=VIEWER)
    assert told["hostname"] == "web1" and told["source"] == "agent", told
    cards = {i["name"]: i for i in told["interfaces"]}
    assert "192.0.2.7/24" in cards["eth0"]["addresses"] and cards["eth0"]["mac"].startswith("52:54:00"), told
    assert told["kernel"], told


def test_the_clock_is_set_to_the_hosts(p):
    assert "time" in p.daemon.cli("domain", "guest-time-sync", "web1").stdout


def test_a_viewer_may_ask_and_change_nothing(p):
    for verb in ("guest-time-sync", "guest-freeze", "guest-thaw"):
        assert p.daemon.cli("domain", verb, "web1", jid=VIEWER, check=False).returncode == 77


def test_a_freeze_thaws_by_itself(p):
    began = time.monotonic()
    frozen = p.daemon.json("domain", "guest-freeze", "web1", "--deadline", "3")
    assert "1 file systems" in frozen["message"], frozen
    again = p.daemon.cli("domain", "guest-freeze", "web1", check=False)
    assert again.returncode != 0, again
    ended = p.daemon.json("task", "wait", frozen["task"])
    assert ended["state"] == "done" and "1 file systems" in ended["message"] and time.monotonic() - began > 2.5, ended
    assert "was not frozen" in p.daemon.cli("domain", "guest-thaw", "web1").stdout


def test_a_frozen_guest_is_thawed_when_somebody_asks(p):
    frozen = p.daemon.json("domain", "guest-freeze", "web1", "--deadline", "600")
    assert "1 file systems" in p.daemon.cli("domain", "guest-thaw", "web1").stdout
    p.daemon.cli("task", "cancel", frozen["task"])


def test_a_password_is_written_down_nowhere(p):
    p.daemon.cli("domain", "set-guest-password", "web1", "--user", "root", "--password", "hunter2-and-more")
    told = p.daemon.json("domain", "guest-run", "web1", "cat", "--arguments", "/tmp/told-chpasswd", jid=RAW)
    assert told["output"] == "root:hunter2-and-more\n", told
    found = [f.name for f in p.daemon.data.rglob("*") if f.is_file() and b"hunter2-and-more" in f.read_bytes()]
    assert not found and "hunter2-and-more" not in p.daemon.log.read_text(), found


def run(p, program, *options, **more):
    return p.daemon.json("domain", "guest-run", "web1", program, *options, jid=RAW, **more)


def test_the_guest_mounts_a_directory_of_the_host(p):
    (p.shared / "hello").write_text("from the host\n")
    script = "mkdir /tmp/m && mount -t virtiofs data /tmp/m && cat /tmp/m/hello && echo back >/tmp/m/back; umount /tmp/m"
    told = run(p, "sh", "--arguments", f"-c '{script}'")
    assert told["output"] == "from the host\n", told
    assert (p.shared / "back").read_text() == "back\n"
    # The one that runs is left alone.
    (p.shared / "more").mkdir()
    assert p.daemon.json("domain", "attach-filesystem", "web1", str(p.shared / "more"), "more")["applies"] == "next-boot"
    assert "shared/more" not in p.host.virsh("dumpxml", "web1") and "shared/more" in p.host.virsh("dumpxml", "--inactive", "web1")
    p.daemon.cli("domain", "detach-filesystem", "web1", "more")
    assert "shared/more" not in p.host.virsh("dumpxml", "--inactive", "web1")


def test_only_what_the_host_lists_is_shared_wherever_a_link_leads(p):
    (p.shared / "out").symlink_to("/etc")
    before = p.host.virsh("dumpxml", "--inactive", "web1")
    for directory, tag, more, words, code in (
        ("/etc", "etc", (), "shared_directories", 77),
        (f"{p.shared}2", "two", (), "shared_directories", 77),
        (p.shared / "out", "out", (), "leads out", 77),
        (f"{p.shared}/../..", "up", (), "without ..", 64),
        (p.shared / "nothing", "none", (), "make it first", 66),
        (p.shared, "data", (), "another tag", 73),
        (p.shared, "still", ("--read-only",), "mount it once more", 69),
    ):
        done = p.daemon.cli("domain", "attach-filesystem", "web1", str(directory), tag, *more, check=False)
        assert done.returncode == code and words in done.stderr, (directory, done)
    assert p.host.virsh("dumpxml", "--inactive", "web1") == before
    # Whoever writes there may put a link in the place of a directory that another machine shares.
    linux.define(p.host, "web2")
    p.daemon.wait_state("web2", "shutoff")
    (p.shared / "web2").mkdir()
    p.daemon.cli("domain", "attach-filesystem", "web2", str(p.shared / "web2"), "data")
    (p.shared / "web2").rmdir()
    (p.shared / "web2").symlink_to("/etc")
    done = p.daemon.cli("domain", "start", "web2", check=False)
    assert done.returncode == 77 and "leads out" in done.stderr, done
    assert p.host.virsh("domstate", "web2") == "shut off"


def test_a_merged_snapshot_keeps_what_was_written_before_and_after_it(p):
    before, on_top, built = p.host.images / "data.img", p.host.images / "data.apart", p.host.images / "built.qcow2"
    write = lambda what: run(p, "sh", "--arguments", f"-c 'echo {what} >/data/{what} && sync'")
    delete = ("snapshot", "delete", "web1", "apart", "--yes")
    write("early")
    task = p.daemon.json("snapshot", "create", "web1", "--name", "apart", "--external")["task"]
    assert p.daemon.json("task", "wait", task)["state"] == "done" and on_top.exists()
    write("late")
    # What is built on the disk as it was would break by what is written to it.
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(before), str(built)], check=True)
    p.host.virsh("pool-refresh", "images")
    done = p.daemon.cli(*delete, check=False)
    assert done.returncode == 75 and "built.qcow2 is built on" in done.stderr and on_top.exists(), done
    built.unlink()
    p.host.virsh("pool-refresh", "images")
    ended = p.daemon.json("task", "wait", p.daemon.json(*delete)["task"])
    assert ended["state"] == "done", ended
    assert p.daemon.json("snapshot", "list", "web1") == [] and not on_top.exists()
    for options in ((), ("--inactive",)):
        xml = p.host.virsh("dumpxml", "web1", *options)
        assert str(before) in xml and "data.apart" not in xml, xml
    told = run(p, "sh", "--arguments", "-c 'echo 3 >/proc/sys/vm/drop_caches; cat /data/early /data/late'")
    assert told["output"] == "early\nlate\n", told


def run_refused(p, program, *options, jid=RAW):
    done = p.daemon.cli("domain", "guest-run", "web1", program, *options, jid=jid, check=False)
    assert done.returncode != 0, done
    return done.returncode, done.stderr


def test_a_program_runs_in_the_guest_without_a_shell(p):
    ran = run(p, "id", "--arguments=-u")
    assert (ran["exit_code"], ran["output"], ran["errors"], ran["truncated"]) == (0, "0\n", "", False), ran
    assert run(p, "echo", "--arguments", "'two words' $HOME *")["output"] == "two words $HOME *\n"
    assert run(p, "cat", "--input", "told\n")["output"] == "told\n"
    failed = run(p, "ls", "--arguments", "/not-there")
    assert failed["exit_code"] not in (0, None) and "/not-there" in failed["errors"], failed
    assert run(p, "sh", "--arguments", "-c 'kill -9 $$'")["signal"] == 9
    much = run(p, "head", "--arguments", "-c 100000 /dev/zero")
    assert len(much["output"]) == 64 << 10 and much["truncated"], (len(much["output"]), much["truncated"])
    done = p.daemon.cli("domain", "guest-run", "web1", "id", jid=RAW)
    assert "uid=0" in done.stdout and "id ended with 0" in done.stderr, done


def test_what_a_program_cannot_do_is_said(p):
    code, said = run_refused(p, "no-such-program")
    assert code == 64 and "could not be begun" in said, said
    assert "closing '" in run_refused(p, "id", "--arguments", "'")[1]
    began = time.monotonic()
    code, said = run_refused(p, "sleep", "--arguments", "40", "--timeout", "1")
    assert code == 75 and "goes on in the guest as process" in said, said
    # Meanwhile the machine listens to others.
    assert time.monotonic() - began < 30 and run(p, "pidof", "--arguments", "sleep")["exit_code"] == 0
    for jid in (VIEWER, f"admin@{CELL}"):
        assert run_refused(p, "id", jid=jid)[0] == 77


def test_what_a_program_was_told_and_wrote_is_written_down_nowhere(p):
    run(p, "cat", "--arguments=-", "--input", "hunter3-the-secret")
    run(p, "echo", "--arguments", "hunter3-the-secret")
    found = [f.name for f in p.daemon.data.rglob("*") if f.is_file() and b"hunter3-the-secret" in f.read_bytes()]
    assert not found and "hunter3-the-secret" not in p.daemon.log.read_text(), found
    kept = b"".join(f.read_bytes() for f in p.daemon.data.rglob("*") if f.is_file())
    assert b'"program":"echo"' in kept, "which program it was is written down"


def test_an_agent_that_runs_no_programs_says_so(p):
    agent = "qemu-ga -b guest-exec -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run"
    script = f"(sleep 1; kill $(pidof qemu-ga); while pidof qemu-ga; do sleep 0.1; done; exec {agent}) >/dev/null 2>&1 &"
    assert run(p, "sh", "--arguments", f"-c '{script}'")["exit_code"] == 0

    def disabled():
        done = p.daemon.cli("domain", "guest-run", "web1", "true", jid=RAW, check=False)
        return "guest-exec is disabled" in done.stderr and done.returncode

    assert until(disabled, 60, "the agent without guest-exec", pause=0.3) == 69
    assert p.daemon.json("domain", "guest-info", "web1")["hostname"] == "web1"


def test_the_agent_powers_off(p):
    p.daemon.cli("domain", "shutdown", "web1", "--mode", "agent", "--wait")
    assert p.daemon.machine("web1")["state"] == "shutoff"
    off = p.daemon.cli("domain", "guest-info", "web1", check=False)
    assert off.returncode == 65 and "is off" in off.stderr, off
