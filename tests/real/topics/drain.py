"""A host of ten machines is emptied and filled again while three people look on, each on another host.

    h1: the page, in Chromium       h2: a chat client, slixmpp       h3: `archipel events`
          \\___________________________|_________________________________/
                       each sees all ten machines change their host, in the same order,
                       and none of them unknown, off or unavailable on the way

    SCREENSHOTS     a folder for pictures of the page in the middle of it
"""

import ctypes
import json
import os
import re
import shutil
import subprocess

from harness.base import ROOT, Skipped, until
from harness.cluster import Cluster, HostEvents
from harness.daemon import ADMIN, CELL, PASSWORD, environment
from harness.hosts import NET
from harness.xmpp import Client

UI = ROOT / "ui"
MACHINES = [f"m{n:02}" for n in range(10)]
AWAY = "h1"
TOGETHER = 2  # How many at a time: the machine that runs this has few processors.
CLONE_NEWNET = 0x40000000


class Parts:
    pass


class ChatOn(Client):
    """A chat client whose sockets are those of a host: its thread enters that host's network."""

    def __init__(self, node, daemon, **more):
        # The certificate of the cell's own authority is what this host got when it joined.
        super().__init__(daemon, resource=node.name, tls=True, **more)
        self.address = (f"{NET}.11", daemon.xmpp)
        self.node = node

    def _run(self):
        with open(f"/proc/{self.node.keeper.pid}/ns/net") as net:
            assert ctypes.CDLL(None, use_errno=True).setns(net.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        super()._run()


class PageOn:
    """The page in Chromium in the network of a host; what it showed is in `rows` at the end."""

    def __init__(self, node, daemon, folder):
        self.folder = folder
        folder.mkdir()
        self.out = open(folder / "log", "w+")
        self.process = subprocess.Popen(
            ["nsenter", "-t", str(node.keeper.pid), "-n", "npx", "vitest", "run", "--config", "tests/drain/vitest.config.ts"],
            cwd=UI, stdout=self.out, stderr=self.out, stdin=subprocess.DEVNULL, start_new_session=True,
            env=environment(
                ARCHIPEL_URL=f"http://127.0.0.1:{daemon.http}/", ARCHIPEL_JID=ADMIN, ARCHIPEL_PASSWORD=PASSWORD, ARCHIPEL_AWAY=AWAY,
                ARCHIPEL_FOLDER=str(folder), ARCHIPEL_MACHINES=str(len(MACHINES)), NO_PROXY="127.0.0.1,localhost", CI="1",
            ),
        )

    def said(self, name, seconds):
        """Waits until the page has come to that point."""
        def there():
            assert (self.folder / name).exists() or self.process.poll() is None, f"the page ended before {name}:\n{self.log()}"
            return (self.folder / name).exists()
        until(there, seconds, f"the page to be {name}", pause=0.05)

    def log(self):
        return (self.folder / "log").read_text()[-4000:]

    def rows(self):
        assert self.process.wait(60) == 0, self.log()
        return json.loads((self.folder / "rows.json").read_text())

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, 15)
            self.process.wait(10)
        self.out.close()


def setup(stack, work):
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout if shutil.which("node") else "v0.0"
    if tuple(int(n) for n in re.findall(r"\d+", version)[:2]) < (20, 19) or not (UI / "node_modules").is_dir():
        raise Skipped("the page needs Node 20.19 and what npm ci in ui/ installs")
    p = Parts()
    p.cluster = Cluster(stack, work)
    p.cell, p.hosts = p.cluster.cell, p.cluster.hosts
    p.jids = {}
    for name in MACHINES:
        p.jids[f"{p.cluster.guest(name, kind='tick', memory=32)}@{CELL}"] = name
    p.chat = stack.enter_context(ChatOn(p.hosts[2], p.cell, authority=p.cluster.agents["h2"].data / "membership" / "authority.pem"))
    for jid in p.jids:
        p.chat.pin(jid)
    p.events = HostEvents(p.cell, p.hosts[3], HOME=str(work / "home-of-h3"), XDG_CONFIG_HOME=str(work / "home-of-h3"))
    stack.callback(p.events.close)
    p.page = PageOn(p.hosts[1], p.cell, work / "page")
    stack.callback(p.page.close)
    p.page.said("ready", 60)
    # The stream of events says nothing by itself: a note that changes tells that it is up.
    def arrived():
        p.cell.cli("domain", "note", MACHINES[0], "--text", "looked at")
        p.cell.cli("domain", "note", MACHINES[0], "--text", "")
        return p.events.seen.mark()
    until(arrived, 15, "the first event on h3", pause=0.2)
    return p


def moves_of(p, events):
    """The machines in the order in which the command line told of their new places: (name, host)."""
    return [(p.jids[e["entity"]], e["after"]["host"]) for e in events if e["topic"] == "domain.migrated" and e["entity"] in p.jids]


def arrivals(p, presences):
    """The same by presence. Fails when a machine was out of sight for a moment."""
    where, told = {}, []
    for presence in presences:
        jid, _, host = presence["from"].partition("/")
        if jid not in p.jids or presence["type"] not in ("available", "unavailable"):
            continue
        here = where.setdefault(jid, [])
        if presence["type"] == "unavailable":
            here[:] = [h for h in here if h != host]
            assert here, f"{p.jids[jid]} was out of sight when it left {host}"
        else:
            assert presence["show"] in ("", "chat"), f"{p.jids[jid]}: {presence}"
            if host not in here:
                told.append((p.jids[jid], host))
                here.append(host)
    assert all(len(h) == 1 for h in where.values()), {p.jids[j]: h for j, h in where.items() if len(h) != 1}
    return told


def only_good_news(p, events):
    """Nothing that the command line saw of the machines is a loss, and each one's numbers rise."""
    last = {}
    for e in events:
        if e["entity"] not in p.jids:
            continue
        name, number = p.jids[e["entity"]], (e["epoch"], e["seq"])
        assert number > last.get(name, (0, 0)), f"{name}: {number} after {last[name]}"
        last[name] = number
        assert e["topic"] not in ("domain.stopped", "domain.crashed", "domain.undefined", "domain.lost", "domain.removed"), e
        assert e["after"] and e["after"]["state"] == "running", e


def everything_runs_once(p, hosts):
    for name in MACHINES:
        assert p.cluster.once(name) in hosts, name
    p.cluster.settled(*MACHINES, seconds=15)
    p.cluster.clean(*MACHINES)


def test_the_plan_says_where_each_machine_would_go(p):
    plan = p.cell.json("hypervisor", "drain-plan", AWAY, "--trust-storage")
    assert sorted(m["name"] for m in plan) == MACHINES and all(m["to"] in ("h2", "h3") for m in plan), plan
    assert all(p.cell.machine(name)["host"] == AWAY for name in MACHINES), "a plan moves nothing"
    return ", ".join(f"{m['name']} to {m['to']}" for m in plan)


def test_three_people_on_three_hosts_follow_the_drain(p):
    p.before = p.events.seen.mark()
    task = p.cell.json("hypervisor", "drain", AWAY, "--trust-storage", "--at-a-time", str(TOGETHER))["task"]
    end = p.cluster.ended(task, 70)
    assert end["progress_state"] == "done", end
    p.page.said("gone", 10)
    everything_runs_once(p, ("h2", "h3"))
    shown = next(h for h in p.cell.json("hypervisor", "list") if h["name"] == AWAY)
    p.drained = moves_of(p, p.events.seen.since(p.before))
    assert sorted(name for name, _ in p.drained) == MACHINES, p.drained
    progress = [e["after"].get("percent") for e in p.events.seen.since(p.before) if e["entity"].startswith(f"task.{task}") and e["after"]]
    known = [n for n in progress if n is not None]
    assert known == sorted(known) and len(set(known)) >= 5, f"the drain's own progress: {progress}"
    return f"{end['message']}; the host is {shown['state']}/{shown.get('condition')}: {shown.get('why')}"


def test_the_machines_come_back(p):
    task = p.cell.json("hypervisor", "undrain", AWAY)["task"]
    end = p.cluster.ended(task, 70)
    assert end["progress_state"] == "done", end
    everything_runs_once(p, (AWAY,))
    return end["message"]


def test_all_three_saw_the_same_in_the_same_order(p):
    events = p.events.seen.since(p.before)
    only_good_news(p, events)
    moves = moves_of(p, events)
    assert len(moves) == 2 * len(MACHINES), moves
    # The chat client was told where they were when it asked for them; what follows are moves.
    assert arrivals(p, p.chat.presences.since())[len(MACHINES):] == moves
    seen, painted = {}, []
    for frame in p.page.rows():
        now = []
        for row in frame:
            host, _, to = row["host"].partition(" → ")
            assert row["state"] == "running" and host in ("h1", "h2", "h3") and to in ("", "h1", "h2", "h3"), f"the page showed {row}"
            if row["name"] in MACHINES and seen.get(row["name"], host) != host:
                now.append((row["name"], host))
            seen[row["name"]] = host
        painted.append(now)
    flat = [move for frame in painted for move in frame]
    assert sorted(flat) == sorted(moves), f"the page showed {flat}, and these moved: {moves}"
    # Several changes may be painted at once; the order between the pictures is the order of the moves.
    for frame in painted:
        assert sorted(moves[: len(frame)]) == sorted(frame), (frame, moves)
        moves = moves[len(frame):]
    mark = p.chat.say(next(iter(p.jids)), "status")
    return f"{len(flat)} changes of place each; the machine itself says: {p.chat.answer(next(iter(p.jids)), mark)!r}"
