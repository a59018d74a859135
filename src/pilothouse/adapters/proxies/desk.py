"""The proxy's sessions: whom it serves, on which sockets, for which job."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

from pilothouse.adapters.proxies import egress
from pilothouse.adapters.proxies.asks import Asks
from pilothouse.adapters.proxies.contacts import Contacts
from pilothouse.adapters.proxies.heads import HEAD_MAX
from pilothouse.adapters.proxies.ledger import Ledger
from pilothouse.adapters.proxies.listeners import Fetch
from pilothouse.adapters.proxies.model import Limits, ModelDoor, Seat
from pilothouse.adapters.proxies.outside import Outside
from pilothouse.core.errors import BadRequest
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.reach import BadTarget, Reach
from pilothouse.engine.ports import Budget
from pilothouse.engine.upstream import EgressSettings, ModelSettings, Upstream

AGAIN_S = 0.5
"""Until a session's holder is asked again that did not answer."""
LOOK_S = 5.0
"""Between looks whether a session has been started anew, with new sockets."""


@dataclass(slots=True)
class _Place:
    seat: Seat
    life: str = ""
    servers: list[asyncio.Server] = field(default_factory=list)
    doors: list[web.Server] = field(default_factory=list)
    egress: egress.EgressDoor | None = None
    tending: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Desk:
    def __init__(
        self,
        ledger: Ledger,
        contacts: Contacts,
        fetch: Fetch,
        connect: Callable[[ModelSettings], Upstream],
        limits: Limits | None = None,
        outside: Outside | None = None,
    ) -> None:
        self.ledger = ledger
        self.contacts = contacts
        self.asks = Asks()
        self._fetch = fetch
        self._connect = connect
        self._outside = outside or Outside()
        self._settings: ModelSettings | None = None
        self._reaches: dict[SessionId, Reach] = {}
        self._places: dict[SessionId, _Place] = {}
        self.upstream: Upstream | None = None
        self._retired: list[Upstream] = []
        self._door = ModelDoor(ledger, lambda: self.upstream, limits)

    async def configure(self, model: ModelSettings, reach: EgressSettings) -> None:
        """Calls under way go on with what they began with."""
        try:
            self._outside.private = reach.allow_private
        except BadTarget as error:
            raise BadRequest(f"allow_private: {error}") from None
        if model != self._settings or self.upstream is None:
            fresh = self._connect(model)
            if self.upstream is not None:
                self._retired.append(self.upstream)
            self.upstream, self._settings = fresh, model
        self._door.configured.set()

    async def admit(self, session: SessionId, job: JobId | None, budget: Budget) -> None:
        place = self._places.get(session)
        if place is None:
            place = self._places[session] = _Place(Seat(session, job, budget))
        place.seat.job, place.seat.budget = job, budget
        with suppress(OSError, ValueError):
            await self._look(place)
        if place.tending is None:
            place.tending = asyncio.create_task(self._tend(place), name=f"tend {session}")

    def reach(self, session: SessionId, reach: Reach) -> None:
        """Also of one that is not admitted yet. Connections that it refuses end."""
        self._reaches[session] = reach
        place = self._places.get(session)
        if place is not None and place.egress is not None:
            place.egress.changed()

    async def drop(self, session: SessionId) -> None:
        self._reaches.pop(session, None)
        self.asks.drop(session)
        place = self._places.pop(session, None)
        if place is None:
            return
        if place.tending is not None:
            place.tending.cancel()
            await asyncio.gather(place.tending, return_exceptions=True)
        await _shut(place)

    async def _tend(self, place: _Place) -> None:
        while True:
            await asyncio.sleep(LOOK_S if place.life else AGAIN_S)
            with suppress(OSError, ValueError):
                await self._look(place)

    async def _look(self, place: _Place) -> None:
        async with place.lock:
            fetched = await asyncio.to_thread(self._fetch, place.seat.session, place.life)
            if fetched.life == place.life:
                return
            await _shut(place)
            place.life = fetched.life
            for name, sock in fetched.sockets.items():
                await self._serve(place, name, sock)

    async def _serve(self, place: _Place, name: str, sock: socket.socket) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        if name == "model":
            door = self._door.server(place.seat)
            place.doors.append(door)
            place.servers.append(await loop.create_server(door, sock=sock))
        elif name == "egress":
            session = place.seat.session
            place.egress = egress.EgressDoor(
                session, lambda: self._reaches.get(session, Reach()), self._outside, self.contacts, self.asks
            )
            place.servers.append(await asyncio.start_server(place.egress.connected, sock=sock, limit=HEAD_MAX))
        else:
            sock.close()

    def busy(self) -> int:
        return sum(place.seat.calls for place in self._places.values())

    def stop_accepting(self) -> None:
        """Connections wait in the sockets' backlogs, which the holders keep open."""
        for place in self._places.values():
            if place.tending is not None:
                place.tending.cancel()
            for server in place.servers:
                server.close()

    async def close(self) -> None:
        for session in list(self._places):
            await self.drop(session)
        for upstream in (*self._retired, self.upstream):
            if upstream is not None:
                await upstream.close()
        self._outside.close()
        self.contacts.close()
        self.ledger.close()


async def _shut(place: _Place) -> None:
    for server in place.servers:
        server.close()
    if place.egress is not None:
        place.egress.close()
        place.egress = None
    for door in place.doors:
        await door.shutdown(0.1)
    place.servers.clear()
    place.doors.clear()
