"""A TCP proxy that can be cut, for lost connections that nobody says goodbye to."""

import socket
import struct
import threading

from .base import free_port


class Proxy:
    """Passes everything on to `target` (a port of loopback) until it is cut."""

    def __init__(self, target):
        self.target, self.port = target, free_port()
        self.pairs, self.is_cut, self.lock = [], False, threading.Lock()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.cut()
        self.listener.close()

    def cut(self):
        """Ends all connections hard and lets no new one through."""
        with self.lock:
            self.is_cut = True
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for s in pair:
                self._abort(s)

    def mend(self):
        with self.lock:
            self.is_cut = False

    @staticmethod
    def _abort(s):
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()

    def _accept(self):
        while True:
            try:
                inner, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                if self.is_cut:
                    self._abort(inner)
                    continue
                try:
                    outer = socket.create_connection(("127.0.0.1", self.target), 5)
                except OSError:
                    self._abort(inner)
                    continue
                for s in (inner, outer):
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.pairs.append((inner, outer))
            for a, b in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._pass_on, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass_on(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass
