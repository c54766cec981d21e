"""A host's certificate is renewed while its daemon runs, over the link that it keeps: two daemons, and an exchange whose clock is moved
forward at its start (libfaketime), as nobody waits sixty days.

    alpha: agent + exchange, today, in 61 days, in 100 days  <--- link --->  beta: agent, never restarted; its certificate holds 90 days
"""

import contextlib
import os
import pathlib

from harness.base import Skipped, tail, until
from harness.daemon import Daemon
from topics.join import host, host_uri, invited, member, on

LIBRARY = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
LINKED = "linked to the exchange"


class Parts:
    pass


def setup(stack, work):
    if not LIBRARY.exists():
        raise Skipped("this needs libfaketime")
    p = Parts()
    p.work, p.stack = work, stack
    p.cell = stack.enter_context(Daemon(work, {"alpha": host_uri(p, "alpha")}, more={"xmpp": "resume_seconds = 2"}))
    p.beta = host(p, "beta")
    where, token = invited(p)
    done = p.beta.run("join", where, token)
    assert done.returncode == 0, done.stderr
    stack.enter_context(p.beta)
    p.identity = p.beta.data / "membership" / "identity.pem"
    until(lambda: linked(p), 20, "beta to be linked")
    return p


@contextlib.contextmanager
def later(days):
    """What is started meanwhile lives so many days later; how long something takes stays what it is."""
    os.environ.update(LD_PRELOAD=str(LIBRARY), FAKETIME=f"+{days}d", FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1")
    try:
        yield
    finally:
        for name in ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC"):
            del os.environ[name]


def linked(p):
    return (member(p, "beta") or {}).get("state") == "linked"


def obeys(p):
    for verb, state in (("pause", "paused"), ("resume", "running")):
        p.cell.cli("domain", verb, "on-beta")
        p.cell.wait_state("on-beta", state)


def exchange_in(p, days):
    """The exchange ends and comes back so many days from now; gives back what beta's log says from then on."""
    before = len(p.beta.log.read_text())
    p.cell.kill(15)
    with later(days):
        p.cell.start()
    until(lambda: LINKED in p.beta.log.read_text()[before:] and linked(p), 40, f"beta to be linked again\n{tail(p.beta.log)}")
    return lambda: p.beta.log.read_text()[before:]


def test_a_certificate_is_renewed_and_the_link_stays(p):
    p.first, until_when = p.identity.read_text(), member(p, "beta")["expires"]
    said = exchange_in(p, 61)
    until(lambda: "certificate was renewed" in said(), 20, f"the renewal\n{tail(p.beta.log)}")
    assert p.identity.read_text() != p.first and p.identity.stat().st_mode & 0o777 == 0o600
    assert member(p, "beta")["expires"] > until_when
    obeys(p)
    after = said().split("certificate was renewed")[1]
    assert LINKED not in after and "no link" not in after, after
    return f"{until_when[:10]}, then {member(p, 'beta')['expires'][:10]}"


def test_the_new_certificate_logs_in_when_the_first_is_over(p):
    said = exchange_in(p, 100)
    assert "good until" not in said(), said()
    assert on(p, "beta")["state"] == "running" and member(p, "beta")["login"] == "certificate"
    obeys(p)


def test_the_first_one_does_not(p):
    p.beta.kill(15)
    new = p.identity.read_text()
    p.identity.write_text(p.first)
    before = len(p.beta.log.read_text())
    p.beta.start(ready=False)
    until(lambda: "the certificate was good until" in p.beta.log.read_text()[before:], 20, f"the refusal\n{tail(p.beta.log)}")
    p.beta.kill(15)
    p.identity.write_text(new)
    p.beta.start()
    until(lambda: linked(p), 20, "beta to be linked with the new one")
