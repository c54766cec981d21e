"""Three hosts of a thousand machines each in one cell, all of them started and paused at once by several people while one looks on.

    exchange  <--- TLS, certificates ---  h1, h2, h3: agents on libvirt's test driver, joined with tokens

`just bench --storm` measures the same with the optimised program; here it is only right or wrong.
"""

import threading
import time

from harness.base import until
from harness.daemon import Daemon
from harness.xmpp import Client
from topics.thousand import node

HOSTS = ["h1", "h2", "h3"]
MACHINES = 1000
ALL = len(HOSTS) * MACHINES
PEOPLE = 4


class Parts:
    pass


def machines_of(number):
    """The machines of one host; names and ids are the cell's own."""
    return node(MACHINES).replace("<name>m", f"<name>h{number}-").replace("00000000-0000-4000-9000-0", f"00000000-0000-4000-9000-{number}")


def setup(stack, work):
    p = Parts()
    p.exchange = stack.enter_context(Daemon(work, {}, name="exchange", roles=["exchange"]))
    p.alone = p.exchange.resident_kib()
    p.agents = []
    for number, name in enumerate(HOSTS, 1):
        file = work / f"{name}.xml"
        file.write_text(machines_of(number))
        agent = Daemon(work, {name: f"test://{file}"}, name=name, accounts=False)
        words = p.exchange.json("cell", "invite")["command"].split()
        joined = agent.run(*words[1:])
        assert joined.returncode == 0, joined.stderr
        p.agents.append(stack.enter_context(agent))
    until(lambda: len(p.exchange.json("domain", "list")) == ALL, 60, "all machines to be listed", pause=0.2)
    p.people = [stack.enter_context(Client(p.exchange, resource=f"person{n}")) for n in range(PEOPLE)]
    p.viewer = stack.enter_context(Client(p.exchange, resource="viewer"))
    p.viewer.subscribe_feed()
    p.picture = machines(p.viewer.snapshot())
    assert len(p.picture) == ALL
    return p


def machines(entities):
    return {jid: e["state"] for jid, e in entities.items() if e["kind"] == "domain"}


def ask_all(p, verb, jids):
    """Each person asks its share, all at once."""
    faults = []
    def share(person, mine):
        for jid in mine:
            try:
                person.command(jid, verb)
            except Exception as e:
                faults.append(f"{verb} {jid}: {e}")
    threads = [threading.Thread(target=share, args=(person, jids[n::PEOPLE])) for n, person in enumerate(p.people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[:3]


def storm(p, verb, topic, becomes):
    """All machines to which it applies; the viewer must have been told of each, and its picture must be the cell's."""
    jids = [jid for jid, state in p.picture.items() if state != becomes]
    mark, began, cpu = p.viewer.events.mark(), time.monotonic(), p.exchange.cpu_seconds()
    ask_all(p, verb, jids)
    told = lambda: {e["entity"] for e in p.viewer.events.since(mark) if e["topic"] == topic}
    until(lambda: told() >= set(jids), 30, f"{topic} of {len(jids)} machines", pause=0.1)
    took, cpu = time.monotonic() - began, p.exchange.cpu_seconds() - cpu
    events = p.viewer.events.since(mark)
    for e in events:
        if e["entity"] in p.picture:
            p.picture[e["entity"]] = e["after"]["state"]
    # Every push has a number; one that is missing would be a hole that the viewer has to ask about.
    assert p.viewer.pushes == list(range(1, len(p.viewer.pushes) + 1)), "something was missed"
    truth = machines(p.people[0].snapshot())
    assert p.picture == truth, [(j, p.picture[j], truth.get(j)) for j in p.picture if truth.get(j) != p.picture[j]][:3]
    assert set(truth.values()) == {becomes}, {s: list(truth.values()).count(s) for s in set(truth.values())}
    return f"{len(jids)} machines, {len(events) / took:.0f} events/s at the viewer, {cpu:.1f} s of CPU in the exchange"


def test_all_are_started(p):
    return storm(p, "domain.start", "domain.started", "running")


def test_all_are_paused(p):
    return storm(p, "domain.pause", "domain.paused", "paused")


def test_the_exchange_stays_small(p):
    # Unoptimised; what the optimised one needs is printed by `just bench --storm`.
    grown = p.exchange.resident_kib() - p.alone
    assert grown / ALL < 16, f"{grown / ALL:.1f} KiB for each machine"
    return f"{p.alone / 1024:.1f} MiB before anybody joined, {grown / ALL:.2f} KiB more for each machine"
