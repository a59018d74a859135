"""The server that is connected to a holder's shells. The newest connection is the one that counts; but who has borrowed
something has it until its own end of the connection is closed, and whoever comes next waits for that."""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Callable

from pilothouse.adapters.shells.outlet import Outlet
from pilothouse.core import shellwire as wire
from pilothouse.core.errors import BadRequest

_READ = 64 * 1024
"""More would be mapped and unmapped for every keystroke."""


class Caller:
    def __init__(
        self,
        selector: selectors.BaseSelector,
        listening: socket.socket,
        allowed_uids: tuple[int, ...],
        obey: Callable[[wire.Record], None],
        gone: Callable[[], None],
        catch_up: Callable[[], None],
        borrows: Callable[[], bool],
    ) -> None:
        """`obey` raises what a record can be wrong in; `gone` is called when a server has left; `borrows`: it has
        something that must come back first."""
        self._selector = selector
        self._listening = listening
        self._allowed = allowed_uids
        self._obey = obey
        self._gone = gone
        self._borrows = borrows
        self.outlet = Outlet(selector, self._heard, catch_up)
        self.greeted = False
        self._records = wire.Records()
        self._parting = False
        self._next: socket.socket | None = None
        listening.setblocking(False)
        selector.register(listening, selectors.EVENT_READ, self._accept)

    def tell(self, record: bytes, *fds: int) -> None:
        """Who is still to come is told how things stand then."""
        if self.greeted and record:
            self.outlet.tell(record, *fds)

    def close(self) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None
        self._left()
        self._selector.unregister(self._listening)
        self._listening.close()

    # ---

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII")))
        if uid not in self._allowed:
            sock.close()
            return
        if self._next is not None:
            self._next.close()
        self._next = sock
        self._hang_up()
        self._welcome()

    def _welcome(self) -> None:
        if self._next is not None and self.outlet.sock is None:
            self.outlet.open(self._next)
            self._next = None
            self._records = wire.Records()

    def _hang_up(self) -> None:
        if self.outlet.sock is not None and self._borrows():
            self.greeted, self._parting = False, True
            self.outlet.part()
        else:
            self._left()

    def _left(self) -> None:
        if self.outlet.sock is None:
            return
        self.outlet.close()
        self.greeted = self._parting = False
        self._gone()
        self._welcome()

    def _heard(self) -> None:
        sock = self.outlet.sock
        if sock is None:
            return
        try:
            data = sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._left()
        if not data or self._parting:
            return
        try:
            for record in self._records.feed(data):
                self._obey(record)
        except (wire.Broken, BadRequest, KeyError, TypeError, ValueError):
            self._hang_up()
