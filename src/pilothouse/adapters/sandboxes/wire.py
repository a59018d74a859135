"""A link to a runner: a WebSocket to `/ws` over the unix socket that the holder keeps for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from pilothouse.core.errors import Unavailable
from pilothouse.core.link import MESSAGE_MAX

CONNECT_MAX_S = 20.0
"""A runner that has just been started imports its agent first; the connection waits in the listener's queue."""
_MARGIN = 1024
"""A message over MESSAGE_MAX is refused by the codec with a reason, one far over it by the transport."""


class SocketWire:
    def __init__(self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._http = http
        self._socket = socket

    async def send(self, message: bytes) -> None:
        """Raises Unavailable when the link has ended."""
        try:
            await self._socket.send_frame(message, aiohttp.WSMsgType.TEXT)
        except (ConnectionError, aiohttp.ClientError) as error:
            raise Unavailable(f"the runner's link has ended: {error}") from None

    async def receive(self) -> bytes | None:
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data).encode()
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        return None

    async def close(self) -> None:
        await self._socket.close()
        await self._http.close()


async def connect(path: Path) -> SocketWire:
    """Raises Unavailable."""
    http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)))
    try:
        async with asyncio.timeout(CONNECT_MAX_S):
            socket = await http.ws_connect("http://runner/ws", max_msg_size=MESSAGE_MAX + _MARGIN, compress=0)
    except (TimeoutError, OSError, aiohttp.ClientError) as error:
        await http.close()
        raise Unavailable(f"the runner does not take the link: {error or 'time-out'}") from None
    except asyncio.CancelledError:
        await http.close()
        raise
    return SocketWire(http, socket)
