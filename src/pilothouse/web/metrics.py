"""`GET /metrics`: what the server counts, as Prometheus reads it (`core.exposition`). For keys with the scope `metrics`
of the organisation that the server belongs to: the numbers are everybody's together.
"""

from __future__ import annotations

import asyncio
import platform as machine
import time
from collections.abc import Awaitable, Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core.access import ORGANISATION
from pilothouse.core.errors import Forbidden, PilothouseError
from pilothouse.core.exposition import MEDIA_TYPE, Family, encode, gauge, split
from pilothouse.engine import gauges
from pilothouse.engine.metrics import Metrics
from pilothouse.web.call import Call, Platform
from pilothouse.web.hub import Hub
from pilothouse.web.socket import Accept, Door, Refuse, UpgradeRequest

DOORS = ("chat", "terminal", "runtime", "events")
UNKNOWN = "unknown"
"""The route of what no route answers."""


async def metrics(call: Call) -> Response:
    if call.principal.organisation != ORGANISATION:
        raise Forbidden("The server's metrics are for the organisation that it belongs to.")
    sessions = call.platform.sessions
    families = [*call.platform.metrics.families(), *gauges.of_sessions(sessions, await sessions.resting.count())]
    parts: list[bytes] = []
    for family in families:
        parts.append(encode([family]))
        await asyncio.sleep(0)  # the longest take some ms: others have their turn between them
    return Response(b"".join(parts), headers={"content-type": MEDIA_TYPE, "cache-control": "no-store"})


def sources(platform: Platform, hub: Hub) -> None:
    """What the doors know joins what is told."""
    platform.metrics.sources.append(lambda: _now(platform, hub))


def _now(platform: Platform, hub: Hub) -> Iterator[Family]:
    build = (("version", platform.version), ("python", machine.python_version()))
    yield gauge("pilothouse_build_info", "What runs.", 1, *build)
    yield gauge("pilothouse_ready", "Whether the server is ready.", int(not platform.ready()))
    open_now = hub.doors()
    counts = [(door, open_now[door]) for door in DOORS]
    yield split("pilothouse_websocket_connections", "WebSockets open.", "door", counts)
    yield gauge("pilothouse_session_viewers", "Subscriptions to sessions on chat sockets.", hub.viewers)
    yield gauge("pilothouse_streams", "Answers under way: events without end, downloads.", len(platform.streams))
    if platform.opener is not None:
        yield from gauges.of_terminals(platform.opener.terminals)
    if platform.channels is not None:
        yield from gauges.of_channels(platform.channels, platform.dialogs)


def counting(
    metrics: Metrics, method: str, route: str, endpoint: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """The same, and how it was answered. `route` is the table's, not the request's."""

    async def counted(request: Request) -> Response:
        since = time.perf_counter()
        status = "500"
        try:
            answer = await endpoint(request)
            status = str(answer.status_code)
            return answer
        finally:
            metrics.requests.add((method, route, status))
            metrics.request_s.add(time.perf_counter() - since, (method, route))

    return counted


class CountedDoor(Door):
    """A door, and how it was answered."""

    def __init__(self, door: Door, name: str, metrics: Metrics) -> None:
        self._door = door
        self._name = name
        self._upgrades = metrics.upgrades

    def at_once(self, request: UpgradeRequest) -> Accept | Refuse | None:
        answer = self._door.at_once(request)
        if answer is not None:
            self._upgrades.add((self._name, "101" if isinstance(answer, Accept) else str(answer.status)))
        return answer

    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse:
        status = "500"
        try:
            answer = await self._door.authorize(request)
            status = "101" if isinstance(answer, Accept) else str(answer.status)
            return answer
        except PilothouseError as error:
            status = str(error.status)
            raise
        finally:
            self._upgrades.add((self._name, status))
