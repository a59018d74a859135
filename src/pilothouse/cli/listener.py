"""A subscriber of one channel on the command line: events in order, through cuts and restarts.

A channel with a history is followed by its cursor, so nothing is missed or doubled that is kept; of any other, what is
published while the connection is away is gone, and that is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeAlias

import aiohttp
import msgspec

from pilothouse.cli.client import CONNECT_S, CUT, Client, refused, unreachable
from pilothouse.cli.errors import NoServer, Refused
from pilothouse.cli.viewer import EVENT_MAX, GIVE_UP_S, PAUSE_MAX_S
from pilothouse.client.pause import Pause
from pilothouse.core.appsync import KA_S, PROTOCOL

ID = "sub"
SILENCE_S = 2 * KA_S + 5
"""Without a sign of life the connection is taken for dead."""


class Told(msgspec.Struct, frozen=True):
    """An event."""

    event: str
    seq: int | None = None
    at: str | None = None
    channel: str | None = None


class Hole(msgspec.Struct, frozen=True):
    """What had these numbers is not kept."""

    start: int = msgspec.field(name="from")
    end: int = msgspec.field(name="to")


class _Frame(msgspec.Struct, frozen=True):
    type: str = ""
    seq: int | None = None
    oldest: int | None = None
    epoch: str | None = None
    errors: list[dict[str, Any]] = []


_frame = msgspec.json.Decoder(_Frame)
_told = msgspec.json.Decoder(Told)
_hole = msgspec.json.Decoder(Hole)
Item: TypeAlias = Told | Hole


class _Closed(Exception):
    """The connection ended and may be opened again."""


class Listener:
    def __init__(self, client: Client, channel: str, after: int | None, notice: Callable[[str], None]) -> None:
        self._client = client
        self._channel = channel
        self._notice = notice
        self._after = after
        self._epoch: str | None = None
        self._kept = False
        """The channel has a history."""

    async def follow(self) -> AsyncGenerator[Item, None]:
        """Never ends by itself. Raises `Refused` and `NoServer`."""
        pause, lost_at, ever = Pause(PAUSE_MAX_S), None, False
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async for item in self._once():
                    if item is None:
                        if lost_at is not None:
                            gone = "" if self._kept else "; what was published meanwhile is gone"
                            self._notice(f"connected again{gone}")
                        lost_at, ever = None, True
                        pause.reset()
                    else:
                        yield item
            except (*CUT, aiohttp.ClientError, _Closed, NoServer) as error:
                if not ever and not isinstance(error, _Closed):
                    raise unreachable(self._client.endpoint, error) from None
                if lost_at is None:
                    lost_at = clock()
                    self._notice("connection lost, connecting again …")
                if clock() - lost_at > GIVE_UP_S:
                    raise unreachable(self._client.endpoint, error) from None
            await asyncio.sleep(pause.next_s())
            try:
                await self._client.find_again()
            except NoServer:
                continue

    async def _once(self) -> AsyncIterator[Item | None]:
        """One connection; None when the subscription is live."""
        client = self._client
        url = client.endpoint.url.replace("http", "ws", 1) + "/event/realtime"
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await client.http.ws_connect(
                    url, headers=client.headers, protocols=[PROTOCOL], max_msg_size=EVENT_MAX, ssl=client.endpoint.tls
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status >= 500:
                raise _Closed from None
            raise refused(client.endpoint, error.status, b"") from None
        async with socket:
            await socket.send_json(self._wish())
            while True:
                message = await socket.receive(timeout=SILENCE_S)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise _Closed
                live, item = self._take(message.data)
                if live or item is not None:
                    yield item

    def _wish(self) -> dict[str, Any]:
        said: dict[str, Any] = {"type": "subscribe", "id": ID, "channel": self._channel}
        said["authorization"] = self._client.headers
        if self._after is not None:
            said |= {"after": self._after} | ({"epoch": self._epoch} if self._epoch else {})
        return said

    def _take(self, data: str) -> tuple[bool, Item | None]:
        """Whether it has just become live, and what there is to show. Raises Refused."""
        frame = _frame.decode(data)
        if frame.type == "data":
            told = _told.decode(data)
            if self._kept and told.seq is not None:
                self._after = told.seq
            return False, told
        if frame.type == "gap":
            hole = _hole.decode(data)
            self._after = hole.end
            return False, hole
        if frame.type == "subscribe_success":
            self._kept, self._epoch = frame.epoch is not None, frame.epoch
            if self._kept and self._after is None:
                self._after = frame.seq
            return True, None
        if frame.errors:
            problem = frame.errors[0]
            name, text = str(problem.get("errorType", "")), str(problem.get("message", ""))
            raise Refused(text or name, status=int(problem.get("errorCode") or 0), code=name)
        return False, None
