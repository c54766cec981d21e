"""Starts that cannot succeed: each says what is wrong and what to do, at once, and leaves nothing behind."""

import socket
import subprocess

from harness.base import BIN, free_port, until
from harness.daemon import Daemon

CONFIGURATION = 78


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.work = work
    return p


def fresh(p, name, **more):
    return Daemon(p.work, {"alpha": "test:///default"}, name=name, accounts=False, **more)


def refused(daemon, *words, code=None, verb="run", **env):
    done = daemon.run(verb, **env)
    assert done.returncode not in (0, 101), f"it ended with {done.returncode}: {done.stderr}"
    assert code is None or done.returncode == code, f"exit code {done.returncode}, not {code}: {done.stderr}"
    said = done.stderr + done.stdout
    for word in words:
        assert word in said, f"{word!r} is not in: {said}"
    assert "panicked" not in said, said
    return said


def test_all_mistakes_of_a_configuration_are_named_together(p):
    daemon = fresh(p, "mistakes", more={"": 'colour = "red"', "xmpp": "lisen = 5", "http": "", "loging": "x = 1"})
    for verb in ("run", "check-config"):
        refused(daemon, "colour", "lisen", "loging", str(daemon.config), code=CONFIGURATION, verb=verb)


def test_mistakes_in_the_environment_are_named(p):
    daemon = fresh(p, "environment")
    refused(daemon, "ARCHIPEL__HTTP__LISTEN", code=CONFIGURATION, verb="check-config", ARCHIPEL__HTTP__LISTEN="everywhere")


def test_a_file_that_is_missing_or_not_toml_is_named(p):
    daemon = fresh(p, "not-toml")
    daemon.config.write_text("cell = [")
    refused(daemon, str(daemon.config), code=CONFIGURATION)
    daemon.config.unlink()
    refused(daemon, str(daemon.config), code=CONFIGURATION)


def test_a_good_configuration_is_called_good(p):
    done = fresh(p, "good").run("check-config")
    assert done.returncode == 0, done.stderr


def test_an_occupied_port_is_named(p):
    for section in ("xmpp", "http"):
        daemon = fresh(p, f"occupied-{section}")
        with socket.create_server(("127.0.0.1", getattr(daemon, section))):
            refused(daemon, str(getattr(daemon, section)), "use")


def test_a_data_directory_that_cannot_be_written_is_named(p):
    daemon = fresh(p, "read-only")
    # Root may write everywhere, so the file system itself must be read-only.
    script = 'mount -t tmpfs -o ro none "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(daemon.data), *command(daemon)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode not in (0, 101), done.stderr
    assert str(daemon.data) in done.stderr and ("read-only" in done.stderr.lower() or "write" in done.stderr.lower()), done.stderr
    daemon = fresh(p, "a-file")
    daemon.data.rmdir()
    daemon.data.write_text("not a directory")
    refused(daemon, str(daemon.data))


def command(daemon):
    return [str(BIN / "archipeld"), "--config", str(daemon.config), "run"]


def test_two_daemons_do_not_share_one_data_directory(p):
    first = fresh(p, "first")
    second = fresh(p, "second")
    second.config.write_text(second.config.read_text().replace(str(second.data), str(first.data)))
    with first:
        refused(second, str(first.data))
        assert first.process.poll() is None


def test_without_libvirt_it_runs_says_so_and_waits(p):
    nowhere = f"qemu:///system?socket={p.work}/no-such-socket"
    daemon = Daemon(p.work, {"alpha": nowhere}, name="no-libvirt")
    daemon.start(ready=False)
    try:
        def listed():
            assert daemon.process.poll() is None, "without libvirt it must wait, not end"
            done = daemon.cli("--json", "hypervisor", "list", check=False)
            return done.returncode == 0 and '"alpha"' in done.stdout
        until(listed, 20, "the hypervisor without libvirt", pause=0.1)
        one = daemon.json("hypervisor", "list")[0]
        assert one["state"] in ("unknown", "lost", "connecting") and one["condition"] != "ok", one
        assert "no-such-socket" in one["why"], one
    finally:
        daemon.__exit__()


def test_the_cli_says_when_nobody_is_there(p):
    daemon = fresh(p, "nobody")
    done = daemon.cli("domain", "list", server=f"127.0.0.1:{free_port()}", check=False)
    assert done.returncode == 69 and "127.0.0.1" in done.stderr, done


def test_the_cli_without_a_login_says_how_to_give_one(p):
    daemon = fresh(p, "nologin")
    env = {k: v for k, v in daemon.login().items() if not k.startswith("ARCHIPEL")}
    done = subprocess.run([str(BIN / "archipel"), "domain", "list"], capture_output=True, text=True, timeout=30, env=env)
    assert done.returncode == 64 and "ARCHIPEL_JID" in done.stderr, done
