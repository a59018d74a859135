"""Signs of life on the event API's sockets, and their longest life: one timer for all."""

from __future__ import annotations

import asyncio

from pilothouse.core.appsync import KA, KA_S
from pilothouse.web.socket import Socket

TICK_S = 5.0
"""How late a sign of life may come. A client waits for five of them (`core.appsync.TIMEOUT_MS`)."""
LIFE_S = 86_400.0
"""AppSync's bound; a client comes back at once."""
AWAY = 1001


TOGETHER_S = 1.0
"""Who came within this time has one clock for all."""


class _Clock:
    __slots__ = ("opened", "told")

    def __init__(self, now: float) -> None:
        self.opened = self.told = now


class Pulse:
    def __init__(self) -> None:
        self._open: dict[Socket, _Clock] = {}
        """When each was opened, and last given a sign."""
        self._newest = _Clock(0.0)
        self._timer: asyncio.TimerHandle | None = None

    def add(self, socket: Socket) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._newest.opened > TOGETHER_S or self._newest.told > self._newest.opened:
            self._newest = _Clock(now)
        self._open[socket] = self._newest
        self._arm()

    def remove(self, socket: Socket) -> None:
        self._open.pop(socket, None)

    def _arm(self) -> None:
        if self._timer is None and self._open:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.look(asyncio.get_running_loop().time())
        self._arm()

    def look(self, now: float) -> None:
        due = {clock for clock in self._open.values() if now - clock.told > KA_S - TICK_S}
        for clock in due:
            clock.told = now
        for socket, clock in list(self._open.items()):
            if now - clock.opened > LIFE_S:
                socket.close(AWAY, "the connection has lived its time; come back")
            elif clock in due:
                socket.send_text(KA)
