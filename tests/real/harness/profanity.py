"""Profanity, the terminal client, in tmux: what a person types and what they see."""

import pathlib
import subprocess
import uuid

from .base import Late, until
from .daemon import ADMIN, PASSWORD


class Profanity:
    """One Profanity, signed in."""

    def __init__(self, daemon):
        self.daemon, self.home = daemon, pathlib.Path(daemon.work) / "profanity"
        self.socket, self.log = f"archipel-{uuid.uuid4().hex[:8]}", self.home / "tmux"
        self.home.mkdir(exist_ok=True)

    def tmux(self, *arguments):
        done = subprocess.run(["tmux", "-L", self.socket, *arguments], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"tmux {arguments[0]}: {done.stderr}"
        return done.stdout

    def __enter__(self):
        try:
            return self._sign_in()
        except BaseException:
            self.__exit__()
            raise

    def _sign_in(self):
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "180", "-y", "50", f"env HOME={self.home} TERM=screen LANG=C.UTF-8 profanity -l ERROR")
        self.sees("Profanity")
        # Splash and notices aside, a client of this age signs in like this; loopback needs no TLS.
        self.type(f"/connect {ADMIN} server 127.0.0.1 port {self.daemon.xmpp} tls disable")
        self.sees("Enter password")
        self.type(PASSWORD)
        self.sees("logged in successfully", seconds=20)
        return self

    def __exit__(self, *_):
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], capture_output=True, timeout=20)

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def type(self, line):
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def sees(self, *texts, seconds=10):
        """Waits until one of the texts is on the screen; gives it back."""
        def found():
            screen = self.screen()  # Once: between two looks the screen may change.
            return next((t for t in texts if t in screen), None)
        try:
            return until(found, seconds, f"Profanity showing {texts}", pause=0.03)
        except Late as e:
            raise Late(f"{e}; it shows:\n{self.screen()}") from None

    def execute(self, command, jid):
        """Runs an ad-hoc command to its end, leaving every argument as offered and confirming what is asked."""
        # A form opens a window of its own; a result is a form that cannot be submitted.
        done, ask, result = f"{command} completed", "Use '/form submit'", "Use '/form cancel'"
        self.type("/win 1")
        self.type("/clear")
        until(lambda: not any(t in self.screen() for t in (f"{command} ", result)), 5, "an empty first window")
        self.type(f"/cmd exec {command} {jid}")
        if self.sees(ask, done, result) == ask:
            if "are you sure" in self.screen():
                self.type("/field1 on")
                self.sees("TRUE")
            self.type("/form submit")
            until(lambda: ask not in self.screen(), 10, f"the end of the form of {command}")
            self.sees(done, result)
        self.shown = self.screen()
        if result in self.shown:
            self.type("/close")
            until(lambda: result not in self.screen(), 5, "the end of the result's window")
