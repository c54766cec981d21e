"""A cell with one exchange and its store on one disk gets a second exchange and an etcd, and keeps everything it has.

    one: exchange + agent alpha   first alone, then with [cluster] --+
                                                                     +-- etcd x 3
    two: exchange + agent beta    new ---------------------------- --+
    gamma, delta: agents that join with a token; gamma while there is only one exchange
"""

import json
import time

from harness.base import tail, until
from harness.daemon import ADMIN, CELL, VIEWER, Daemon
from harness.etcd import Etcd
from harness.raw import Raw, Tcp
from topics.join import NODE
from topics.takeover import health

PARKED = "on-park"


class Parts:
    def server(self):
        return ",".join(f"127.0.0.1:{d.xmpp}" for d in (self.one, self.two))

    def role(self, daemon):
        return health(daemon).get("exchange", {}).get("role")

    def member(self, name):
        done = self.one.cli("--json", "cell", "members", server=self.server(), check=False)
        return next((m for m in json.loads(done.stdout) if m["name"] == name), {}) if done.returncode == 0 else {}

    def linked(self, name):
        return self.member(name).get("state") == "linked"


def uri(p, name, number):
    file = p.work / f"{name}.xml"
    file.write_text(NODE.format(name=name, number=number))
    return f"test://{file}"


def clustered(daemon, etcd, more=""):
    """Adds [cluster] to a configuration, as an administrator does."""
    urls = ", ".join(f'"{url}"' for url in etcd.urls)
    daemon.config.write_text(daemon.config.read_text() + f"\n[cluster]\netcd = [{urls}]\n{more}\n")


def setup(stack, work):
    p = Parts()
    p.work, p.stack = work, stack
    p.etcd = stack.enter_context(Etcd(work))
    p.one = stack.enter_context(Daemon(work, {"alpha": uri(p, "park", 1)}, name="one"))
    p.gamma = Daemon(work, {"gamma": uri(p, "gamma", 2)}, name="gamma", accounts=False)
    shown = p.one.json("cell", "invite")
    p.fingerprint = shown["fingerprint"]
    joined = p.gamma.run("join", shown["exchange"], shown["token"])
    assert joined.returncode == 0, joined.stderr
    stack.enter_context(p.gamma)
    until(lambda: any(m["name"] == "gamma" and m["state"] == "linked" for m in p.one.json("cell", "members")), 20, "gamma to link")
    p.one.cli("domain", "force-off", PARKED, "--yes")
    p.one.wait_state(PARKED, "shutoff")
    p.one.cli("domain", "park", PARKED)
    until(lambda: [m["name"] for m in p.one.json("domain", "parked")] == [PARKED], 10, "the machine to be parked")
    p.accounts = p.one.run("account", "list").stdout
    return p


def test_a_cell_with_one_exchange_keeps_everything_when_it_gets_etcd(p):
    p.one.__exit__()
    # The test driver begins with what its file says, and the machine is parked.
    (p.work / "park.xml").write_text(NODE.format(name="stays", number=9))
    clustered(p.one, p.etcd)
    p.one.start()
    until(lambda: p.role(p.one) == "active", 20, f"the exchange to lead\n{tail(p.one.log)}")
    assert "was carried over to etcd" in p.one.log.read_text()
    assert p.one.run("account", "list").stdout == p.accounts
    assert p.one.json("cell", "invite")["fingerprint"] == p.fingerprint, "the cell's authority is another one"
    assert [m["name"] for m in p.one.json("domain", "parked")] == [PARKED]
    until(lambda: any(m["name"] == "gamma" and m["state"] == "linked" for m in p.one.json("cell", "members")), 40, "gamma to come back by its certificate")
    return p.one.log.read_text().split("was carried over to etcd")[1].split("\n")[0].strip()


def test_it_is_carried_over_once_and_a_second_exchange_overwrites_nothing(p):
    p.one.account("add", f"late@{CELL}")
    p.one.run("account", "remove", "late")
    p.two = Daemon(p.work, {"beta": uri(p, "beta", 3)}, name="two", accounts=False)
    clustered(p.two, p.etcd)
    p.stack.enter_context(p.two)
    until(lambda: p.role(p.two) == "standby", 20, f"the second to stand by\n{tail(p.two.log)}")
    p.one.restart()
    until(lambda: "active" in (p.role(p.one), p.role(p.two)), 20, "one to lead")
    assert p.one.log.read_text().count("was carried over to etcd") == 1 and "was carried over" not in p.two.log.read_text()
    names = {line.split("@")[0] for line in p.two.run("account", "list").stdout.splitlines()}
    assert {"admin", "viewer", "hv.alpha", "hv.beta"} <= names and "late" not in names, names


def test_another_cell_is_refused_and_can_be_left_alone(p):
    other = Daemon(p.work, {"omega": uri(p, "omega", 4)}, name="other")
    with other:
        pass
    clustered(other, p.etcd)
    p.stack.callback(other.__exit__)
    other.start(ready=False)
    assert other.process.wait(30) != 0, "it goes on"
    log = other.log.read_text()
    for words in ("has a cell of its own and etcd has another one", "document/ca/authority", 'carry_over = \\"never\\"'):
        assert words in log or words.replace("\\", "") in log, f"{words}\n{tail(other.log)}"
    assert f"admin@{CELL}" in p.two.run("account", "list").stdout
    other.config.write_text(other.config.read_text() + 'carry_over = "never"\n')
    other.start()
    until(lambda: p.role(other) == "standby", 20, f"it to stand by\n{tail(other.log)}")
    other.__exit__()


def test_an_account_removed_beside_a_standby_is_logged_out_of_the_active_exchange(p):
    active, standby = (p.one, p.two) if p.role(p.one) == "active" else (p.two, p.one)
    assert (p.role(active), p.role(standby)) == ("active", "standby")
    kept, gone = Raw(Tcp(active.xmpp)).login("kept"), Raw(Tcp(active.xmpp), jid=VIEWER).login("gone")
    began = time.monotonic()
    assert standby.run("account", "remove", VIEWER).returncode == 0
    assert gone.ended(10) == "not-authorized"
    took = time.monotonic() - began
    kept.iq("get", CELL, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    standby.account("passwd", ADMIN)
    assert kept.ended(10) == "reset"
    return f"the session ended {took:.1f} s after the command began"


def test_a_host_that_joined_one_exchange_finds_the_others(p):
    config = (p.gamma.data / "membership" / "archipel.toml").read_text()
    assert str(p.one.xmpp) in config and str(p.two.xmpp) not in config, config
    until(lambda: f"127.0.0.1:{p.two.xmpp}" in p.gamma.log.read_text(), 20, f"gamma to be told\n{tail(p.gamma.log)}")
    until(lambda: p.linked("gamma"), 20, "gamma to be linked")
    p.one.kill()
    until(lambda: p.role(p.two) == "active", 20, "the second to lead")
    began = time.monotonic()
    until(lambda: p.linked("gamma"), 20, f"gamma to find it\n{tail(p.gamma.log)}")
    took = time.monotonic() - began
    p.gamma.restart()
    until(lambda: p.linked("gamma"), 20, f"gamma to remember it\n{tail(p.gamma.log)}")
    return f"linked {took:.1f} s after the other led"


def test_a_host_joins_through_whichever_exchange_of_the_list_answers(p):
    assert p.one.process.poll() is not None, "the first of the list is down"
    shown = p.two.json("cell", "invite")
    where = f"127.0.0.1:{p.one.xmpp},127.0.0.1:{p.two.xmpp}"
    assert sorted(shown["exchange"].split(",")) != [], shown
    delta = Daemon(p.work, {"delta": uri(p, "delta", 5)}, name="delta", accounts=False)
    joined = delta.run("join", where, shown["token"])
    assert joined.returncode == 0 and "delta joined the cell" in joined.stdout, joined.stderr
    p.stack.enter_context(delta)
    until(lambda: p.linked("delta"), 20, f"delta to link\n{tail(delta.log)}")
    p.one.start()
    until(lambda: p.role(p.one) == "standby", 20, "the first to stand by")
    p.two.kill()
    until(lambda: p.role(p.one) == "active", 20, "the first to lead")
    until(lambda: p.linked("delta") and p.linked("gamma"), 20, f"both to be with it\n{tail(delta.log)}")
