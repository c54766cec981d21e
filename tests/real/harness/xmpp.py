"""An ordinary XMPP client: Debian's slixmpp, in a thread of its own, with calls that block."""

import asyncio
import json
import logging
import threading
import xml.etree.ElementTree as ET

from . import coverage
from .base import Seen
from .daemon import ADMIN, CELL, PASSWORD

logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
logging.getLogger("slixmpp.stringprep").setLevel(logging.CRITICAL)
import slixmpp  # noqa: E402  (it logs while it is imported)
from slixmpp.exceptions import IqError  # noqa: E402

JSON = "urn:xmpp:json:0"
FEED = "urn:archipel:feed:0"
COMMANDS = "http://jabber.org/protocol/commands"
FAULT = "urn:archipel:fault:0"


class Fault(Exception):
    """What a command failed with: the kind and the text."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


class _Slix(slixmpp.ClientXMPP):
    def __init__(self, jid, password, owner):
        super().__init__(jid, password)
        for plugin in ("xep_0004", "xep_0030", "xep_0050", "xep_0059", "xep_0060", "xep_0092", "xep_0115", "xep_0199"):
            self.register_plugin(plugin)
        self.ready, self.failed = asyncio.Event(), None
        self.add_event_handler("session_start", self._start)
        for event in ("failed_auth", "connection_failed", "failed_all_auth"):
            self.add_event_handler(event, lambda e, n=event: self._fail(f"{n}: {e}"))
        for kind in ("presence", "message"):
            self.register_handler(
                slixmpp.xmlstream.handler.Callback(
                    f"record {kind}",
                    slixmpp.xmlstream.matcher.MatchXPath(f"{{jabber:client}}{kind}"),
                    lambda s: owner.record(s.xml),
                )
            )

    def _fail(self, why):
        self.failed = why
        self.ready.set()

    async def _start(self, _):
        self.send_presence()
        self.roster_answer = await self.get_roster()
        self.ready.set()


class Client:
    """One signed-in client. `presences`, `chats` and `events` keep what arrived."""

    def __init__(self, daemon, jid=ADMIN, password=PASSWORD, resource="slixmpp", port=None, tls=False, authority=None):
        self.real = daemon.real
        self.presences, self.chats, self.events = Seen("presence"), Seen("chat"), Seen("feed")
        self.pushes = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.address, self.tls = ("127.0.0.1", port or daemon.xmpp), tls
        self.authority = authority  # Whose certificates are believed, as a file; with `tls` it is needed.
        self.jid, self.password = f"{jid}/{resource}", password

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def __enter__(self):
        self.thread.start()
        try:
            self.call(self._connect(), 20)
        except BaseException:
            self.__exit__()
            raise
        return self

    async def _connect(self):
        self.x = _Slix(self.jid, self.password, self)
        self.x.ca_certs = self.authority
        self.x.connect(self.address, force_starttls=self.tls, disable_starttls=not self.tls)
        await asyncio.wait_for(self.x.ready.wait(), 15)
        assert not self.x.failed, self.x.failed

    def __exit__(self, *_):
        async def leave():
            await asyncio.wait_for(self.x.disconnect(wait=0.5), 5)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        try:
            self.call(leave(), 6)
        except Exception:
            pass  # It is gone already, which is what we want.
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    def call(self, coroutine, seconds=15):
        """Carries out something on the client's thread and waits for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    def record(self, xml):
        """Sorts what arrived; runs on the client's thread."""
        sender = xml.get("from", "")
        if xml.tag.endswith("presence"):
            text = lambda name: xml.findtext(f"{{jabber:client}}{name}") or ""
            self.presences.add({"from": sender, "type": xml.get("type", "available"), "show": text("show"), "status": text("status")})
            return
        for item in xml.iterfind(f".//{{http://jabber.org/protocol/pubsub#event}}items[@node='{FEED}']/*"):
            if item.get("id", "").isdigit():
                self.pushes.append(int(item.get("id")))
            for document in item.iterfind(f"{{{JSON}}}json"):
                value = json.loads(document.text)
                for event in value if isinstance(value, list) else [value]:
                    self.events.add(event)
        body = xml.findtext("{jabber:client}body")
        if body and xml.get("type") != "headline":
            self.chats.add({"from": sender, "body": body})

    # ------------------------------------------------------------ requests

    def iq(self, kind, to, payload, seconds=15):
        """Sends a request; gives back the answer's XML or raises `Fault`."""
        async def ask():
            iq = self.x.Iq()
            iq["type"], iq["to"] = kind, to
            iq.xml.append(payload if isinstance(payload, ET.Element) else ET.fromstring(payload))
            try:
                return (await iq.send(timeout=seconds)).xml
            except IqError as e:
                error = e.iq.xml
                fault = error.find(f".//{{{FAULT}}}fault")
                kind_name = fault.get("kind") if fault is not None else e.condition
                raise Fault(kind_name, e.text) from None
        return self.call(ask(), seconds + 1)

    def command(self, to, name, arguments=None, operation=None, seconds=15):
        """Runs a command with JSON arguments, as our own clients do; gives back the JSON answer."""
        command = ET.Element(f"{{{COMMANDS}}}command", {"node": name, "action": "execute"})
        if operation:
            ET.SubElement(command, "{urn:archipel:op:0}op", {"id": operation})
        ET.SubElement(command, f"{{{JSON}}}json").text = json.dumps(arguments or {})
        answer = self.iq("set", to, command, seconds)
        if self.real:
            coverage.note(*name.split("."))
        return json.loads(answer.find(f".//{{{JSON}}}json").text)

    def form_command(self, to, name, fields=None, seconds=15):
        """Runs a command as a person with an ordinary client does: stage by stage through its forms (XEP-0050).

        Gives back the type and text of the last note."""
        async def walk():
            adhoc = self.x["xep_0050"]
            answer = await adhoc.send_command(to, name, timeout=seconds)
            for _ in range(4):
                command = answer["command"]
                if command["status"] != "executing":
                    break
                form = self.x["xep_0004"].make_form(ftype="submit")
                offered = command["form"]
                for var, field in offered.get_fields().items():
                    # Whoever asks for confirmation gets it.
                    value = True if var == "confirm" else (fields or {}).get(var, field.get_value())
                    if var and value not in (None, "", []):
                        form.add_field(var=var, ftype=field["type"] or None, value=value)
                answer = await adhoc.send_command(
                    to, name, action="complete", payload=form, sessionid=command["sessionid"], timeout=seconds
                )
            command = answer["command"]
            assert command["status"] == "completed", f"{name} ended as {command['status']}"
            notes = command["notes"]
            return notes[-1] if notes else ("info", "")
        return self.call(walk(), 4 * seconds)

    def subscribe_feed(self):
        """Subscribes to everything that changes in the cell."""
        bound = self.x.boundjid.full
        self.iq("set", CELL, f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='{FEED}' jid='{bound}'/></pubsub>")

    def snapshot(self, page=200):
        """Reads the whole feed page by page; gives back the entities by bare JID."""
        found, after = {}, None
        for _ in range(1000):
            place = f"<after>{after}</after>" if after else ""
            answer = self.iq(
                "get", CELL,
                f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{FEED}'/>"
                f"<set xmlns='http://jabber.org/protocol/rsm'><max>{page}</max>{place}</set></pubsub>",
            )
            before = len(found)
            for document in answer.iterfind(f".//{{{JSON}}}json"):
                value = json.loads(document.text)
                for entity in value if isinstance(value, list) else [value]:
                    found[entity["jid"]] = entity
            last = answer.findtext(".//{http://jabber.org/protocol/rsm}last")
            if not last or len(found) == before:
                return found
            after = last
        raise AssertionError("the snapshot has no end")

    def pin(self, jid):
        """Puts a machine into the roster, so that its presence comes."""
        mark = self.presences.mark()
        self.loop.call_soon_threadsafe(lambda: self.x.send_presence_subscription(jid))
        self.presences.wait(lambda p: p["from"].startswith(jid), mark, 10, f"any presence of {jid}")

    def say(self, jid, text):
        """Says something to a machine; gives back the place from which to wait for the answer."""
        mark = self.chats.mark()
        self.loop.call_soon_threadsafe(lambda: self.x.send_message(mto=jid, mbody=text, mtype="chat"))
        return mark

    def answer(self, jid, mark, seconds=10):
        return self.chats.wait(lambda c: c["from"].startswith(jid), mark, seconds, f"an answer of {jid}")[1]["body"]
