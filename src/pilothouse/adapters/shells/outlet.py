"""A holder's way to the server that is there: records in order, descriptors with them, and never more waiting than was
asked for. Nothing is lost when a server goes: the next one is told how things stand."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable


class Outlet:
    def __init__(self, selector: selectors.BaseSelector, heard: Callable[[], None], read: Callable[[], None]) -> None:
        """`heard`: the server has sent something, or has gone. `read`: it reads again, after it did not."""
        self._selector = selector
        self._heard = heard
        self._read = read
        self._out: list[tuple[bytes, tuple[int, ...]]] = []
        self.sock: socket.socket | None = None
        self.stuck = False
        """It does not read: what it would be told anyway later is not worth a record."""

    @property
    def waiting(self) -> int:
        return len(self._out)

    def open(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._selector.register(sock, selectors.EVENT_READ, self._ready)

    def close(self) -> None:
        if self.sock is not None:
            self._selector.unregister(self.sock)
            self.sock.close()
            self.sock = None
        self._out.clear()
        self.stuck = False

    def part(self) -> None:
        """Nothing more is said; that it has heard so is seen when it closes its end."""
        if self.sock is not None:
            self._out.clear()
            self._watch(stuck=False)
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def tell(self, record: bytes, *fds: int) -> None:
        """`fds`: go with it, and stay ours."""
        if self.sock is not None:
            self._out.append((record, fds))
            if not self.stuck:
                self._flush()

    def _ready(self) -> None:
        if self.stuck and self._flush():
            self._read()
        if self.sock is not None:
            self._heard()

    def _flush(self) -> bool:
        """Whether everything went."""
        sock = self.sock
        while sock is not None and self._out:
            record, fds = self._out[0]
            try:
                sent = socket.send_fds(sock, [record], fds) if fds else sock.send(record)
            except BlockingIOError:
                self._watch(stuck=True)
                return False
            except OSError:
                return False  # its end is heard as well
            if sent < len(record):
                self._out[0] = (record[sent:], ())
            else:
                self._out.pop(0)
        self._watch(stuck=False)
        return True

    def _watch(self, *, stuck: bool) -> None:
        if self.sock is not None and stuck != self.stuck:
            self.stuck = stuck
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if stuck else 0)
            self._selector.modify(self.sock, events, self._ready)
