"""Doors as ordinary ASGI WebSocket applications: the way without picows.

    Starlette:  WebSocketRoute("/ws", PlainDoor(door, limits))

Message size, pings and UTF-8 are the ASGI server's part: give it `plain_options(limits)`. Two things cannot be done
from here: a connection whose client reads nothing is given up (after `Limits.silence_s`) but not aborted, and while the
inbox is full nobody learns that the client has gone (for as long at most).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pilothouse.core.run import Run
from pilothouse.engine.viewing import GONE
from pilothouse.web.access import WHO
from pilothouse.web.front import SEEN, Seen
from pilothouse.web.head import Doors, Quick, Upgraded, http
from pilothouse.web.socket import (
    Accept,
    Door,
    Frames,
    Inbox,
    Limits,
    Listener,
    Message,
    Refuse,
    UpgradeRequest,
    Valve,
    ask,
    reason_bytes,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)


def plain_options(limits: Limits, quick: Quick | None = None, doors: Doors | None = None) -> dict[str, Any]:
    """For `uvicorn.Config`: the limits that the server has to keep for requests and for plain doors."""
    return {
        "http": http(limits.handshake_s, limits.body_s, quick, doors),
        "ws": Upgraded,
        "proxy_headers": False,  # uvicorn believes them of any program on this machine; `web.front` has its own rules
        "ws_max_size": limits.message,
        "ws_ping_interval": limits.ping_s,
        "ws_ping_timeout": limits.silence_s - limits.ping_s,
        "ws_per_message_deflate": False,
    }


class PlainDoor:
    """An ASGI application that serves one door."""

    def __init__(self, door: Door, limits: Limits | None = None) -> None:
        self._door = door
        self._limits = limits or Limits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _request(scope)
        answer = await ask(self._door, request, self._limits)
        await receive()  # websocket.connect
        if isinstance(answer, Refuse):
            await _refuse(answer, scope, send)
            return
        scope[WHO] = answer.principal
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
        await send({"type": "websocket.accept", "subprotocol": answer.subprotocol, "headers": headers})
        await PlainSocket(self._limits, receive, send).run(answer)


class PlainSocket:
    """A `Socket` over ASGI. Two tasks beside the door's: one reads, one writes."""

    def __init__(self, limits: Limits, receive: Receive, send: Send) -> None:
        self.closed = False
        self._limits = limits
        self._receive = receive
        self._send = send
        self._room = asyncio.Event()
        self._room.set()
        self._inbox = Inbox(limits.inbox, self._room.clear, self._room.set)
        self._out: deque[MutableMapping[str, Any]] = deque()
        self._size = 0
        self._more = asyncio.Event()
        self._below = asyncio.Event()
        self._below.set()

    def send_text(self, data: bytes) -> None:
        self._put({"type": "websocket.send", "text": data.decode()}, len(data))

    def send_binary(self, data: bytes) -> None:
        self._put({"type": "websocket.send", "bytes": data}, len(data))

    def send_frames(self, frames: Frames) -> None:
        for message in frames.messages:
            self.send_text(message)

    def send_run(self, prefix: bytes, run: Run) -> bool:
        if not self._below.is_set():
            return False
        for rest in run.rests:
            self.send_text(prefix + rest)
        return True

    def attach(self, valve: Valve) -> None:
        """Its server makes the frames: nothing can be written past it."""

    def detach(self, valve: Valve) -> None: ...

    def buffered(self) -> int:
        return self._size

    def underway(self) -> int:
        return GONE if self.closed else self._size

    async def writable(self) -> bool:
        await self._below.wait()
        return not self.closed

    async def receive(self) -> Message | None:
        return await self._inbox.get()

    def listen(self, on_message: Listener) -> None:
        self._inbox.listen(on_message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._put({"type": "websocket.close", "code": code, "reason": reason_bytes(reason).decode()}, 0)
        self._end()

    async def run(self, accept: Accept) -> None:
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        serving = asyncio.create_task(self._serve(accept))
        try:
            await asyncio.wait((reading, serving), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((serving,), timeout=self._limits.grace_s)
            await asyncio.wait((writing,), timeout=self._limits.close_s)
        finally:
            for task in (serving, reading, writing):
                task.cancel()
            await asyncio.gather(serving, reading, writing, return_exceptions=True)

    async def _serve(self, accept: Accept) -> None:
        try:
            await accept.serve(self)
        except Exception:  # noqa: BLE001 - the last one who can say so; the connection ends with it
            _log.exception("a door failed")
            self.close(1011)
        else:
            self.close(1000)

    async def _read(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.silence_s):
                    await self._room.wait()  # ASGI tells of the client's leaving only to those who go on receiving
            except TimeoutError:
                self.close(1008, "messages not taken")
                return
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                self._out.clear()
                self._end()
                self._more.set()
                return
            text = event.get("text")
            data = event["bytes"] if text is None else text.encode()
            self._inbox.put(data, text is not None)

    async def _write(self) -> None:
        """Ends with the connection, however that ends: the server raises OSError to a sender without a client."""
        while True:
            while self._out:
                event = self._out.popleft()
                try:
                    async with asyncio.timeout(self._limits.silence_s):
                        await self._send(event)
                except TimeoutError:  # pings wait behind what it does not read, and so would whoever waits for it
                    self._out.clear()
                    self._end()
                    return
                except (OSError, RuntimeError):
                    pass
                if event["type"] == "websocket.close":
                    return
                self._size -= len(event.get("bytes") or event.get("text") or b"")
                if self._size <= self._limits.high_water:
                    self._below.set()
            if self.closed:
                return
            self._more.clear()
            await self._more.wait()

    def _put(self, event: MutableMapping[str, Any], size: int) -> None:
        if self.closed:
            return
        self._out.append(event)
        self._size += size
        self._more.set()
        if self._size > self._limits.high_water:
            self._below.clear()
        if self._size > self._limits.cut:
            self._out.clear()
            self._size = 0
            self.close(1008, "too slow")

    def _end(self) -> None:
        self.closed = True
        self._below.set()
        self._room.set()
        self._inbox.end()


def _request(scope: Scope) -> UpgradeRequest:
    seen = scope.get(SEEN) or Seen(scope["scheme"] == "wss")
    return UpgradeRequest(
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=[(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]],
        client=scope.get("client"),
        secure=seen.secure,
        received=seen.received,
    )


async def _refuse(answer: Refuse, scope: Scope, send: Send) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})  # a server that can only say 403
        return
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})
