"""Hosts join the cell with a token, are cloned, are thrown out, leave, and come back: two daemons and more, all commands by hand.

    alpha: agent + exchange  <--- TLS 1.3, certificate hv.beta, XEP-0198 --->  beta: agent, on libvirt's test driver
"""

import shutil
import stat

from harness.base import free_port, tail, until
from harness.daemon import Daemon


class Parts:
    pass


NODE = (
    "<node><domain type='test'><name>on-{name}</name><uuid>00000000-0000-4000-9000-{number:012x}</uuid><memory>65536</memory>"
    "<vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain></node>"
)
NAMES = ["alpha", "beta", "delta", "omega", "poor"]


def host_uri(p, name):
    file = p.work / f"{name}.xml"
    file.write_text(NODE.format(name=name, number=NAMES.index(name)))
    return f"test://{file}"


def host(p, name, hypervisor=None, folder=None):
    """A host with the configuration of a fresh installation: nothing in it says which cell it will belong to."""
    return Daemon(p.work, {name: hypervisor or host_uri(p, name)}, name=folder or name, accounts=False)


def on(p, name):
    """The one machine of a host as the cell shows it."""
    found = p.cell.json("domain", "list", "--host", name)
    assert len(found) == 1 and found[0]["name"] == f"on-{name}", found
    return found[0]


def setup(stack, work):
    p = Parts()
    p.work, p.stack = work, stack
    p.cell = stack.enter_context(Daemon(work, {"alpha": host_uri(p, "alpha")}, more={"xmpp": "resume_seconds = 2"}))
    p.beta = host(p, "beta")
    return p


def invited(p, *options):
    """The token and where to go with it, from the line that the administrator is shown."""
    shown = p.cell.json("cell", "invite", *options)
    words = shown["command"].split()
    assert words[:2] == ["archipeld", "join"] and words[2] == shown["exchange"] and words[3] == shown["token"], shown
    return words[2:]


def member(p, name):
    return next((m for m in p.cell.json("cell", "members") if m["name"] == name), None)


def refused(done, code, *words):
    assert done.returncode == code, f"exit {done.returncode}, not {code}: {done.stderr}"
    for word in words:
        assert word in done.stderr, f"{word!r} is not in {done.stderr!r}"


def nothing_left(daemon):
    left = sorted(str(f.relative_to(daemon.data)) for f in daemon.data.rglob("*") if "membership" in str(f))
    assert not left, left


def leave_running(p, daemon):
    p.stack.callback(daemon.__exit__)
    return daemon.start(ready=False)


def test_what_is_no_good_token_leaves_nothing_behind(p):
    where, token = invited(p)
    half = token[:40]
    refused(p.beta.run("join", where, half), 64, "copy the whole line")
    refused(p.beta.run("join", f"127.0.0.1:{free_port()}", token), 69, "cannot connect")
    short = "7" if token[-20] != "7" else "6"
    refused(p.beta.run("join", where, token[:-20] + short + token[-19:]), 64, "copy the whole line")
    other = p.stack.enter_context(Daemon(p.work, {"omega": host_uri(p, "omega")}, name="other"))
    foreign = other.json("cell", "invite")["token"]
    refused(p.beta.run("join", where, foreign), 77, "does not belong to the cell")
    other.__exit__()
    refused(p.beta.run("join", where, token, "--name", "gamma"), 64, "names this hypervisor beta")
    where, for_gamma, *_ = invited(p, "--name", "gamma")
    refused(p.beta.run("join", where, for_gamma), 77, "is for gamma and not for beta")
    nothing_left(p.beta)
    assert member(p, "beta") is None


def test_a_host_joins_and_its_machines_appear(p):
    where, token = invited(p)
    p.token = token
    done = p.beta.run("join", where, token)
    assert done.returncode == 0 and "beta joined the cell" in done.stdout, done.stderr
    key = p.beta.data / "membership" / "identity.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and "PRIVATE KEY" in key.read_text()
    assert "PRIVATE KEY" not in (p.beta.data / "membership" / "authority.pem").read_text()
    p.stack.enter_context(p.beta)
    until(lambda: {h["name"]: h["state"] for h in p.cell.json("hypervisor", "list")} == {"alpha": "connected", "beta": "connected"}, 20)
    assert (on(p, "alpha")["state"], on(p, "beta")["state"]) == ("running", "running")
    one = member(p, "beta")
    assert (one["state"], one["login"], one["warnings"]) == ("linked", "certificate", []), one
    table = p.cell.cli("cell", "members").stdout.splitlines()
    assert table[0].split() == ["NAME", "STATE", "LOGIN", "JOINED", "EXPIRES", "VERSION", "CLOCK", "WARNINGS"], table
    assert member(p, "alpha")["login"] == "account"


def test_its_machines_obey(p):
    for verb, state in (("pause", "paused"), ("resume", "running")):
        p.cell.cli("domain", verb, "on-beta")
        p.cell.wait_state("on-beta", state)


def test_a_token_works_once_and_a_name_is_one_hosts(p):
    late = host(p, "delta")
    where, token = invited(p)
    refused(late.run("join", where, p.token), 77, "was used by beta")
    nothing_left(late)
    twin = host(p, "beta", folder="twin")
    refused(twin.run("join", where, token), 73, "linked at this moment")
    again = p.beta.run("join", where, token)
    refused(again, 73, "already")
    refused(p.cell.cli("cell", "invite", "--name", "alpha", check=False), 73, "logs in by password")
    refused(p.beta.run("leave"), 75, "stop it first")


def test_two_hosts_with_one_identity_are_both_told(p):
    clone = host(p, "beta", folder="clone")
    for file in (p.beta.data / "membership").iterdir():
        (clone.data / "membership").mkdir(exist_ok=True)
        shutil.copy(file, clone.data / "membership" / file.name)
    config = clone.data / "membership" / "archipel.toml"
    config.write_text(config.read_text().replace(str(p.beta.data), str(clone.data)))
    clone.start(ready=False)
    try:
        words = "two hosts use one identity"
        until(lambda: words in clone.log.read_text(), 20, f"the clone's log to say so\n{tail(clone.log)}")
        until(lambda: words in p.beta.log.read_text(), 20, f"the first one's log to say so\n{tail(p.beta.log)}")
        assert words in member(p, "beta")["warnings"][0]
        shown = next(h for h in p.cell.json("hypervisor", "list") if h["name"] == "beta")
        assert shown["condition"] == "degraded" and words in shown["why"], shown
        assert on(p, "beta")["state"] == "running", "the first one serves on"
        assert clone.log.read_text().count("linked to the exchange") == 1, "it does not try again and again"
    finally:
        clone.kill()
    done = clone.run("leave", "--here-only")
    assert done.returncode == 0, done.stderr
    nothing_left(clone)
    p.beta.restart()
    until(lambda: member(p, "beta")["warnings"] == [], 20, "the warning to go with the next start")


def test_a_revoked_host_is_cut_at_once_and_joins_again_only_with_a_new_token(p):
    done = p.cell.cli("cell", "revoke", "beta", "--yes")
    assert "does not belong to the cell any more" in done.stdout, done.stdout
    until(lambda: on(p, "beta")["state"] == "unknown", 10, "its machines to be unknown")
    until(lambda: "taken back" in p.beta.log.read_text(), 10, f"the host to be told\n{tail(p.beta.log)}")
    assert member(p, "beta") is None
    p.beta.__exit__()
    done = p.beta.run("leave")
    assert done.returncode == 0 and "does not know this host any more" in done.stdout, done
    nothing_left(p.beta)
    where, token = invited(p)
    assert p.beta.run("join", where, token).returncode == 0
    p.beta.start()
    until(lambda: on(p, "beta")["state"] == "running", 20, "its machines to be known again")


def test_the_cell_keeps_its_authority_over_a_restart(p):
    before = p.cell.json("cell", "invite")["fingerprint"]
    p.cell.restart()
    assert p.cell.json("cell", "invite")["fingerprint"] == before
    until(lambda: (member(p, "beta") or {}).get("state") == "linked", 40, "beta to come back by its certificate")


def test_without_its_libvirt_a_host_joins_and_says_that_it_waits(p):
    poor = host(p, "poor", "qemu+unix:///system?socket=/nonexistent")
    where, token, *_ = invited(p, "--name", "poor")
    done = poor.run("join", where, token)
    assert done.returncode == 0, done.stderr
    leave_running(p, poor)
    until(lambda: (member(p, "poor") or {}).get("state") == "linked", 20, f"poor to link\n{tail(poor.log)}")
    shown = next(h for h in p.cell.json("hypervisor", "list") if h["name"] == "poor")
    assert shown["link"] == "connecting" and shown["why"], shown


def test_a_host_that_leaves_is_not_shown_any_more(p):
    p.beta.__exit__()
    done = p.beta.run("leave")
    assert done.returncode == 0 and "left the cell" in done.stdout, done.stderr
    nothing_left(p.beta)
    assert "beta" not in [h["name"] for h in p.cell.json("hypervisor", "list")] and member(p, "beta") is None
    refused(p.beta.run("leave"), 65, "joined no cell")
    log = p.cell.log.read_text()
    assert "PRIVATE" not in log and p.token not in log, "no secret is in the log"
