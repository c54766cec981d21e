"""Clients other people wrote, as they are: slixmpp's own plugins, strophe.js and @xmpp/client under Node.

    slixmpp ── TCP ──┐                       roster, presence, disco, caps, forms, vCard, version, time, resumption
    strophe.js ── WebSocket ──┼─> archipeld  login, feed, roster
    @xmpp/client ── WebSocket, TCP ──┘       login, stream management, resumption
"""

import json
import os
import pathlib
import shutil
import subprocess
import xml.etree.ElementTree as ET

import slixmpp
from slixmpp.exceptions import IqError

from harness.base import ROOT, Seen, until
from harness.daemon import ADMIN, CELL, PASSWORD, VIEWER, Daemon, environment
from harness.proxy import Proxy
from harness.xmpp import COMMANDS, Client

PLUGINS = ("xep_0030", "xep_0050", "xep_0054", "xep_0059", "xep_0092", "xep_0115", "xep_0198", "xep_0199", "xep_0202")
HYPERVISOR = f"hv.alpha@{CELL}"
# Where packages are looked for beside the page's own; what these tests need beyond them is no dependency of ours.
MORE_PACKAGES = os.environ.get("ARCHIPEL_NODE_MODULES")


class Parts:
    pass


def setup(stack, work):
    p = Parts()
    p.work = work
    p.daemon = stack.enter_context(Daemon(work, {"alpha": "test:///default"}))
    p.jid = p.daemon.wait_state("test", "running")["jid"]
    p.client = stack.enter_context(Client(p.daemon, resource="clients"))
    for plugin in PLUGINS:
        p.client.x.register_plugin(plugin)
    p.proxy = stack.enter_context(Proxy(p.daemon.xmpp))
    return p


def ask(p, coroutine, seconds=15):
    return p.client.call(coroutine, seconds)


# ---------------------------------------------------------------- slixmpp: looking around


def test_slixmpp_walks_the_tree_from_the_cell_to_every_command(p):
    disco = p.client.x["xep_0030"]
    seen = {}

    async def walk(jid, node=None):
        if (jid, node) in seen:
            return
        info = (await disco.get_info(jid=jid, node=node, timeout=10))["disco_info"]
        assert (info["node"] or None) == node, f"{jid} {node}: the answer is about {info['node']!r}"
        assert info["identities"], f"{jid} {node} has no identity"
        items = (await disco.get_items(jid=jid, node=node, timeout=10))["disco_items"]
        assert (items["node"] or None) == node, f"{jid} {node}: the items are of {items['node']!r}"
        seen[jid, node] = info
        for child, leaf, _ in items["items"]:
            await walk(str(child), leaf or None)
        if node is None and COMMANDS in info["features"]:
            await walk(jid, COMMANDS)

    ask(p, walk(CELL), 60)
    nodes = {node for _, node in seen}
    assert (HYPERVISOR, None) in seen and (p.jid, None) in seen, sorted(map(str, seen))
    assert {"domain.list", "domain.start", "hypervisor.info", "network.stop", "storage-pool.refresh"} <= nodes, sorted(map(str, nodes))
    return f"{len(seen)} nodes"


def test_slixmpp_believes_the_hash_of_the_capabilities(p):
    caps = p.client.x["xep_0115"]
    p.client.pin(p.jid)

    async def known(jid):
        found = await caps.get_caps(jid)
        return found and COMMANDS in found["features"]

    for jid in (f"{HYPERVISOR}/alpha", f"{p.jid}/alpha"):
        # The plugin keeps only what it verified (XEP-0115 5.4).
        until(lambda j=jid: ask(p, known(j)), 10, f"verified capabilities of {jid}", pause=0.05)


def test_slixmpp_asks_the_small_things(p):
    x = p.client.x

    async def all_of_them():
        card = (await x["xep_0054"].get_vcard(p.jid, timeout=10))["vcard_temp"]
        assert str(card["FN"]) == "test", card
        version = (await x["xep_0092"].get_version(CELL))["software_version"]
        assert version["name"] == "Archipel", version
        # This plugin adds a second Z when it reads the value itself.
        time = (await x["xep_0202"].get_entity_time(CELL)).xml
        assert (time.findtext(".//{urn:xmpp:time}utc") or "").endswith("Z"), ET.tostring(time)
        for jid in (None, CELL, HYPERVISOR, p.jid):
            assert await x["xep_0199"].ping(jid, timeout=10) < 10

    ask(p, all_of_them(), 60)


# ---------------------------------------------------------------- slixmpp: roster and presence


def test_a_roster_changed_by_one_session_is_pushed_to_the_other(p):
    with Client(p.daemon, resource="second") as other:
        pushes = Seen("roster push")
        other.x.add_event_handler("roster_update", lambda iq: pushes.add({str(j): dict(i) for j, i in iq["roster"]["items"].items()}))
        ask(p, _forget(p))
        mark = pushes.mark()
        ask(p, _set(p, "my web", ["Shop"]))
        # The removal before it, if there was one, is told to this session as well.
        _, item = pushes.wait(lambda r: p.jid in r and r[p.jid]["subscription"] != "remove", mark, 10, "the push of the new item")
        assert (item[p.jid]["name"], item[p.jid]["subscription"], item[p.jid]["groups"]) == ("my web", "both", ["Shop"]), item
        mark = pushes.mark()
        ask(p, _forget(p))
        _, item = pushes.wait(lambda r: p.jid in r, mark, 10, "the push of its removal")
        assert item[p.jid]["subscription"] == "remove", item


async def _set(p, name, groups):
    iq = p.client.x.Iq()
    iq["type"] = "set"
    iq["roster"]["items"] = {p.jid: {"name": name, "groups": groups, "subscription": "none"}}
    await iq.send(timeout=10)


async def _forget(p):
    iq = p.client.x.Iq()
    iq["type"] = "set"
    iq["roster"]["items"] = {p.jid: {"subscription": "remove", "name": "", "groups": []}}
    try:
        await iq.send(timeout=10)
    except IqError as e:
        assert e.condition == "item-not-found", e


def test_presence_follows_a_pinned_machine_through_its_states(p):
    p.client.pin(p.jid)
    for verb, show in (("pause", "away"), ("resume", ""), ("force-off", "xa"), ("start", "")):
        mark = p.client.presences.mark()
        p.client.command(p.jid, f"domain.{verb}")
        _, now = p.client.presences.wait(lambda q, s=show: q["from"] == f"{p.jid}/alpha" and q["show"] == s, mark, 10, f"{verb}: show={show!r}")
        assert now["type"] == "available", now
    # And no more of it once it is out of the roster.
    mark = p.client.presences.mark()
    p.client.loop.call_soon_threadsafe(lambda: p.client.x.send_presence(pto=p.jid, ptype="unsubscribe"))
    p.client.presences.wait(lambda q: q["from"].startswith(p.jid) and q["type"] == "unsubscribed", mark, 10, "unsubscribed")
    mark = p.client.presences.mark()
    p.client.command(p.jid, "domain.pause")
    p.client.command(p.jid, "domain.resume")
    # Whatever had been on its way would have come before the answer to a later question.
    ask(p, p.client.x["xep_0199"].ping(CELL, timeout=10))
    assert not [q for q in p.client.presences.since(mark) if q["from"].startswith(p.jid) and q["type"] == "available"]


# ---------------------------------------------------------------- slixmpp: forms


async def _stage(x, jid, node, action="execute", session=None, values=None):
    form = None
    if values is not None:
        form = ET.Element("{jabber:x:data}x", {"type": "submit"})
        for name, value in values.items():
            field = ET.SubElement(form, "{jabber:x:data}field", {"var": name})
            ET.SubElement(field, "{jabber:x:data}value").text = value
    iq = x.Iq()
    iq["type"], iq["to"] = "set", jid
    iq["command"]["node"], iq["command"]["action"] = node, action
    if session:
        iq["command"]["sessionid"] = session
    if form is not None:
        iq["command"].xml.append(form)
    return (await iq.send(timeout=10))["command"]


def test_wrong_values_in_a_form_are_asked_for_again(p):
    x = p.client.x

    async def tries():
        for jid, node, wrong, word in (
            (p.jid, "domain.shutdown", {"timeout": "soon"}, "timeout"),
            (p.jid, "domain.shutdown", {"timeout": "0"}, "timeout"),
            (p.jid, "domain.shutdown", {"timeout": "99999999999999999999"}, "timeout"),
            (HYPERVISOR, "domain.define", {"name": "x", "vcpus": "513"}, "vcpus"),
            (HYPERVISOR, "domain.define", {"name": "x", "graphics": "crt"}, "graphics"),
            (HYPERVISOR, "domain.define", {"name": "x", "memory": "much"}, "memory"),
            (HYPERVISOR, "domain.define", {"vcpus": "1"}, "name"),
        ):
            first = await _stage(x, jid, node)
            assert first["status"] == "executing", (node, first)
            again = await _stage(x, jid, node, "complete", first["sessionid"], wrong)
            assert again["status"] == "executing", (node, wrong, str(again))
            kind, text = again["notes"][0]
            assert kind == "error" and word in text, (node, wrong, kind, text)
            over = await _stage(x, jid, node, "cancel", again["sessionid"])
            assert over["status"] == "canceled", (node, str(over))
            try:
                await _stage(x, jid, node, "complete", again["sessionid"], wrong)
                raise AssertionError("a canceled session went on")
            except IqError as e:
                assert e.condition == "bad-request", e

    ask(p, tries(), 60)


def test_what_destroys_asks_first_and_prev_goes_back(p):
    x = p.client.x

    async def walk():
        first = await _stage(x, p.jid, "domain.force-off")
        assert first["status"] == "executing", str(first)
        session = first["sessionid"]
        back = await _stage(x, p.jid, "domain.force-off", "prev", session)
        assert (back["status"], back["sessionid"]) == ("executing", session), str(back)
        no = await _stage(x, p.jid, "domain.force-off", "complete", session, {"confirm": "0"})
        assert no["status"] == "completed" and no["notes"][0][1] == "nothing was done", str(no)
        return (await _stage(x, p.jid, "domain.force-off"))["sessionid"]

    session = ask(p, walk())
    assert p.daemon.machine("test")["state"] == "running"
    # A session belongs to the one that began it, even for another session of the same account.
    for jid, expected in ((ADMIN, "bad-request"), (VIEWER, "bad-request")):
        with Client(p.daemon, jid=jid, resource="thief") as thief:
            thief.x.register_plugin("xep_0050")
            try:
                thief.call(_stage(thief.x, p.jid, "domain.force-off", "complete", session, {"confirm": "1"}))
                raise AssertionError(f"{jid} went on with somebody else's command")
            except IqError as e:
                assert e.condition == expected, e
    assert p.daemon.machine("test")["state"] == "running"
    done = ask(p, _stage(x, p.jid, "domain.force-off", "complete", session, {"confirm": "1"}))
    assert done["status"] == "completed" and done["notes"][0][0] == "info", str(done)
    p.daemon.wait_state("test", "shutoff")
    p.client.command(p.jid, "domain.start")
    p.daemon.wait_state("test", "running")


def test_every_command_that_only_reads_answers_its_form(p):
    reads = [c for c in json.loads((ROOT / "actors/contract/catalog.json").read_text())["commands"] if c["effect"] == "read"]
    told = 0
    # What a machine without screen and guest agent, and a driver without network filters, answer with a reason.
    wanting = {"domain.console", "domain.screenshot", "domain.guest-info", "domain.usage", "nwfilter.list"}
    for command in reads:
        to = {"cell": CELL, "hypervisor": HYPERVISOR, "domain": p.jid}.get(command["target"])
        # Tasks and the volumes of a pool need something to be asked about.
        if to is None or any(a["required"] for a in command["arguments"]):
            continue
        kind, text = p.client.form_command(to, command["name"])
        assert text and (kind == "info" or (kind == "error" and command["name"] in wanting)), (command["name"], kind, text)
        told += 1
    assert told >= 6, told
    return f"{told} of {len(reads)}"


# ---------------------------------------------------------------- slixmpp: resumption


def test_slixmpp_resumes_by_itself_and_misses_nothing(p):
    chats, events = Seen("chat"), Seen("stream")
    loop = p.client.loop

    async def begin():
        x = slixmpp.ClientXMPP(f"{ADMIN}/resuming", PASSWORD)
        for plugin in ("xep_0030", "xep_0198", "xep_0199"):
            x.register_plugin(plugin)
        for event in ("session_start", "session_resumed", "sm_enabled", "sm_failed", "disconnected"):
            x.add_event_handler(event, lambda e, n=event: events.add(n))
        x.add_event_handler("session_start", lambda _: x.send_presence())
        x.add_event_handler("message", lambda m: chats.add(m["body"]))
        x.connect(("127.0.0.1", p.proxy.port), disable_starttls=True)
        return x

    x = ask(p, begin())
    try:
        events.wait(lambda e: e == "sm_enabled", 0, 20, "stream management")
        events.wait(lambda e: e == "session_start", 0, 20, "a session")
        for n in range(3):
            p.client.loop.call_soon_threadsafe(lambda n=n: p.client.x.send_message(mto=f"{ADMIN}/resuming", mbody=f"before {n}", mtype="chat"))
        chats.wait(lambda b: b == "before 2", 0, 10)
        mark = events.mark()
        p.proxy.cut()
        events.wait(lambda e: e == "disconnected", mark, 10)
        for n in range(20):
            p.client.loop.call_soon_threadsafe(lambda n=n: p.client.x.send_message(mto=f"{ADMIN}/resuming", mbody=f"missed {n}", mtype="chat"))
        ask(p, p.client.x["xep_0199"].ping(CELL, timeout=10))
        p.proxy.mend()
        loop.call_soon_threadsafe(lambda: x.connect(("127.0.0.1", p.proxy.port), disable_starttls=True))
        events.wait(lambda e: e in ("session_resumed", "sm_failed"), mark, 30, "the resumption")
        assert "sm_failed" not in events.since(mark), events.since(mark)
        chats.wait(lambda b: b == "missed 19", 0, 10, "what was said meanwhile")
        assert chats.since() == [f"before {n}" for n in range(3)] + [f"missed {n}" for n in range(20)], chats.since()
    finally:
        p.proxy.mend()

        async def leave():
            x.abort()
        try:
            ask(p, leave(), 5)
        except Exception:
            pass  # It is gone already, which is what we want.


# ---------------------------------------------------------------- JavaScript

STROPHE = """
import { Strophe, $iq, $pres } from 'strophe.js';
const [url, jid, password, cell] = process.argv.slice(2);
const conn = new Strophe.Connection(url);
const say = (what, more = {}) => console.log(JSON.stringify({ what, ...more }));
setTimeout(() => { say('too late'); process.exit(1); }, 20000);
conn.connect(jid, password, (status, why) => {
  if (status === Strophe.Status.AUTHFAIL) { say('refused', { why }); process.exit(2); }
  if (status !== Strophe.Status.CONNECTED) return;
  say('connected', { jid: conn.jid });
  conn.addHandler((m) => { say('push', { from: m.getAttribute('from') }); conn.disconnect('done'); setTimeout(() => process.exit(0), 200); return false; },
    null, 'message', null, null);
  conn.send($pres());
  conn.sendIQ($iq({ type: 'get' }).c('query', { xmlns: 'jabber:iq:roster' }),
    (r) => say('roster', { items: [...r.getElementsByTagName('item')].map((i) => i.getAttribute('jid')) }), (e) => say('no roster'));
  const feed = { xmlns: 'http://jabber.org/protocol/pubsub' };
  conn.sendIQ($iq({ type: 'set', to: cell }).c('pubsub', feed).c('subscribe', { node: 'urn:archipel:feed:0', jid: conn.jid }),
    () => say('subscribed'), () => say('no feed'));
});
"""

XMPP_JS = """
globalThis.WebSocket ??= require('ws');
const { client, xml } = require('@xmpp/client');
const [service, domain, username, password] = process.argv.slice(2);
const say = (what, more = {}) => console.log(JSON.stringify({ what, ...more }));
setTimeout(() => { say('too late'); process.exit(1); }, 25000);
const x = client({ service, domain, username, password, resource: 'xmppjs' });
// Its own patience is 2 s, which a busy machine uses up.
x.timeout = 20000;
x.on('error', (e) => say('error', { why: String(e) }));
let resumed = false;
x.streamManagement.on('resumed', () => { resumed = true; say('resumed'); after().catch((e) => { say('error', { why: String(e) }); process.exit(3); }); });
x.on('online', async (jid) => {
  if (resumed) return;
  say('online', { jid: String(jid), managed: x.streamManagement.enabled });
  const answer = await x.iqCaller.get(xml('ping', 'urn:xmpp:ping'), domain);
  say('pong', { from: answer ? 'payload' : 'empty' });
  // The line is cut as a network would cut it; the library comes back by itself.
  const wait = setInterval(() => {
    if (!x.streamManagement.id) return;
    clearInterval(wait);
    say('managed');
    const line = x.socket.destroy ? x.socket : x.socket.socket;
    (line.destroy ?? line.terminate ?? line.close).call(line);
  }, 20);
});
async function after() {
  await x.iqCaller.get(xml('ping', 'urn:xmpp:ping'), domain);
  say('pong again');
  await x.stop();
  process.exit(0);
}
x.start().catch((e) => { say('refused', { why: String(e) }); process.exit(2); });
"""


def run_node(p, name, script, packages, *arguments, suffix="mjs"):
    """Starts a script under Node; None when Node or a package is missing here."""
    node = shutil.which("node")
    places = [pathlib.Path(m) for m in (MORE_PACKAGES, ROOT / "ui/node_modules") if m]
    place = next((m for m in places if all((m / package).exists() for package in packages)), None)
    if not node or not place:
        return None
    # Packages are looked for beside the script.
    folder = p.work / name
    folder.mkdir()
    (folder / "node_modules").symlink_to(place)
    (folder / f"script.{suffix}").write_text(script)
    # It trusts the cell's own authority, whose certificate is the last that the exchange shows.
    shown = subprocess.run(
        ["openssl", "s_client", "-starttls", "xmpp", "-xmpphost", CELL, "-connect", f"127.0.0.1:{p.daemon.xmpp}", "-showcerts"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    ).stdout
    certificate = folder / "authority.pem"
    certificate.write_text("-----BEGIN" + shown.split("-----BEGIN")[-1].split("-----END")[0] + "-----END CERTIFICATE-----\n")
    return subprocess.Popen(
        [node, str(folder / f"script.{suffix}"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(NODE_EXTRA_CA_CERTS=str(certificate)),
    )


def told_by(process, on=None, seconds=30):
    """What the script printed, to its end; `on` reacts to a line."""
    lines = []
    try:
        for line in process.stdout:
            if not line.startswith("{"):
                continue  # The library's own chatter.
            told = json.loads(line)
            lines.append(told)
            if on:
                on(told)
        process.wait(seconds)
        assert process.returncode == 0, f"exit {process.returncode}: {lines} {process.stderr.read()[-2000:]}"
    finally:
        process.kill()
        process.wait()
    return {told["what"]: told for told in lines}


def test_strophe_signs_in_and_follows_the_feed(p):
    process = run_node(p, "strophe", STROPHE, ("strophe.js", "@xmldom/xmldom", "ws"), f"ws://127.0.0.1:{p.daemon.http}/xmpp-websocket", f"{ADMIN}/strophe", PASSWORD, CELL)
    if not process:
        return "skipped: Node, strophe.js, @xmldom/xmldom or ws is missing (ARCHIPEL_NODE_MODULES may say where they are)"

    def change(told):
        if told["what"] == "subscribed":
            p.client.command(p.jid, "domain.pause")
            p.client.command(p.jid, "domain.resume")

    told = told_by(process, change)
    assert told["connected"]["jid"] == f"{ADMIN}/strophe", told
    assert HYPERVISOR in told["roster"]["items"], told
    assert told["push"]["from"] == CELL, told


def test_xmpp_js_resumes_over_tcp_and_websocket(p):
    notes = []
    for name, service in (("tcp", f"xmpp://127.0.0.1:{p.daemon.xmpp}"), ("web", f"ws://127.0.0.1:{p.daemon.http}/xmpp-websocket")):
        process = run_node(p, f"xmppjs-{name}", XMPP_JS, ("@xmpp/client", "ws"), service, CELL, "admin", PASSWORD, suffix="cjs")
        if not process:
            return "skipped: Node, @xmpp/client or ws is missing (ARCHIPEL_NODE_MODULES may say where it is)"
        told = told_by(process)
        assert {"online", "pong", "managed", "resumed", "pong again"} <= set(told), (name, told)
        notes.append(name)
    return ", ".join(notes)
