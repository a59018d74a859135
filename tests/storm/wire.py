"""One connection of a subscriber, on plain bytes: a thousand of them and their events fit into one process."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any, Protocol, cast

PATH = "/event/realtime"
ID = "s"
TEXT, CLOSE, PING = 0x81, 0x88, 0x89


class Hears(Protocol):
    """A subscriber."""

    frames: list[bytes]
    """What anybody has heard, by number: the first one writes, all others compare."""
    at: int
    """How many it has."""

    def other(self, payload: bytes) -> None:
        """A message that is not the one that is next in `frames`."""
        ...


class Connection(asyncio.Protocol):
    def __init__(self, who: Hears) -> None:
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._who = who
        self._rest = b""
        self._upgraded = False
        self.transport: asyncio.Transport
        self.began = loop.time()
        self.connected = self.answered = 0.0
        self.live: asyncio.Future[None] = loop.create_future()
        """Done when it is subscribed; raises ConnectionError when that comes to nothing."""
        self.gone: asyncio.Future[str] = loop.create_future()
        """Why it ended: a close code, or `cut`."""
        self._why = "cut"

    def open(self, host: str, key: str, channel: str, after: int, epoch: str | None) -> None:
        """Asks for the upgrade and, without waiting, for the channel."""
        name = base64.b64encode(os.urandom(16)).decode()
        said: dict[str, Any] = {"type": "subscribe", "id": ID, "channel": channel, "after": after}
        said |= {"authorization": {"x-api-key": key}} | ({"epoch": epoch} if epoch else {})
        self._first = frame(TEXT, json.dumps(said).encode())
        head = (
            f"GET {PATH} HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {name}\r\nx-api-key: {key}\r\n\r\n"
        )
        self.transport.write(head.encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.connected = self._now()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.live.done():
            self.live.set_exception(ConnectionError(self._why))
            self.live.exception()  # whoever waited may have gone
        if not self.gone.done():
            self.gone.set_result(self._why)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at = 0
        if not self._upgraded:
            head, found, _ = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = data
                return
            self._upgrade(head)
            at = len(head) + 4
        self._rest = self._take(data, at)

    def _upgrade(self, head: bytes) -> None:
        status = head.split(b" ", 2)[1].decode()
        self._upgraded, self.answered = True, self._now()
        if status != "101":
            self._why = f"refused {status}"
            self.transport.close()
            return
        self.transport.write(self._first)

    def _take(self, data: bytes, at: int) -> bytes:
        """What is left of the last frame, which is not whole yet."""
        who, end = self._who, len(data)
        frames = who.frames
        while end - at >= 4:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
            stop = start + size
            if stop > end:
                break
            payload = data[start:stop]
            if data[at] != TEXT:
                self._control(data[at], payload)
            elif who.at < len(frames) and payload == frames[who.at]:
                who.at += 1
            else:
                who.other(payload)
            at = stop
        return data[at:]

    def _control(self, first: int, payload: bytes) -> None:
        if first == PING:
            self.transport.write(frame(0x8A, payload))
        elif first == CLOSE:
            self._why = str(int.from_bytes(payload[:2]))
            self.transport.write(frame(CLOSE, payload[:2]))
            self.transport.close()


def frame(first: int, payload: bytes) -> bytes:
    """A client's, masked with zeros."""
    size = len(payload)
    head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2)
    return head + b"\0\0\0\0" + payload
