"""Waiting for conditions, ports, places. Nothing here knows libvirt or XMPP."""

import os
import pathlib
import socket
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("ARCHIPEL_BIN_DIR") or pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "debug")


class Late(AssertionError):
    """A condition did not come true before its deadline."""


class Skipped(Exception):
    """A topic that cannot run here; the reason is printed, and nothing counts as passed."""


# Deadlines are written for a quiet machine; a busy one is given so many times as long. What holds is seen at once on either.
PATIENCE = 4


def until(condition, seconds=10.0, what="the condition", pause=0.01):
    """Looks at the condition again and again until it is true, and gives back what it gave."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise Late(f"{what} did not come true within {seconds} s")
        time.sleep(pause)


# Where QEMU waits for memory and disks that come from other hosts.
ARRIVALS = range(49152, 49216)


def free_port():
    """A TCP port of loopback that is free at the moment, and where nobody takes us for a QEMU that was left behind."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            if s.getsockname()[1] not in ARRIVALS:
                return s.getsockname()[1]


class Seen:
    """What arrived so far, each with its time of arrival; threads add, tests wait."""

    def __init__(self, what):
        self.what = what
        self.items = []
        self.changed = threading.Condition()

    def add(self, item):
        at = time.monotonic()
        with self.changed:
            self.items.append((at, item))
            self.changed.notify_all()

    def mark(self):
        """The place from which a later wait looks."""
        with self.changed:
            return len(self.items)

    def since(self, mark=0):
        with self.changed:
            return [item for _, item in self.items[mark:]]

    def wait(self, predicate, mark=0, seconds=10.0, what=None):
        """The first item from `mark` on that fits, as (time of arrival, item)."""
        seconds *= PATIENCE
        end = time.monotonic() + seconds
        with self.changed:
            place = mark
            while True:
                while place < len(self.items):
                    at, item = self.items[place]
                    if predicate(item):
                        return at, item
                    place += 1
                left = end - time.monotonic()
                if left <= 0:
                    shown = [str(i)[:200] for _, i in self.items[mark:]][-8:]
                    raise Late(f"{self.what}: {what or 'what was awaited'} did not arrive within {seconds} s; arrived: {shown}")
                self.changed.wait(left)


def tail(path, lines=30):
    """The last lines of a log, for reports of failures."""
    try:
        return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-lines:])
    except OSError as e:
        return f"(no log: {e})"
