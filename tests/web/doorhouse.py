"""A real uvicorn on a free port with a few doors, and a WebSocket client made of bytes for saying what must not be."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from pilothouse.core.errors import Unauthenticated
from pilothouse.web.certificate import Pair
from pilothouse.web.listener import TlsServer
from pilothouse.web.plain import PlainDoor, plain_options
from pilothouse.web.socket import Accept, Door, Frames, Limits, Refuse, Socket, UpgradeRequest, attend
from pilothouse.web.switch import hot_options


@dataclass
class Echo(Door):
    """Says back what it hears; some words make it do something else."""

    seen: list[UpgradeRequest] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    flooded: int = 0
    heard: list[bytes] = field(default_factory=list)

    def at_once(self, request: UpgradeRequest) -> Accept | Refuse | None:
        if request.query == "raise":
            raise Unauthenticated
        if request.query == "later":
            raise ZeroDivisionError
        if not request.query.startswith("once"):
            return None
        self.seen.append(request)
        if request.query == "once-refuse":
            return Refuse(403, [("x-why", "at once")], b"not you")
        hearer = Hears(self, request.query)
        return Accept(lambda socket: attend(hearer, socket), [("x-door", "hears")], hearer=hearer)

    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse:
        if request.query.startswith("once"):  # where nobody asks for less
            return self.at_once(request) or Refuse(500)
        self.seen.append(request)
        if request.query == "raise":
            raise Unauthenticated
        if request.query == "refuse":
            return Refuse(403, [("x-why", "because")], b"not you")
        if request.query == "hang":
            await asyncio.sleep(3600)
        sub = "two" if "two" in request.subprotocols else None
        return Accept(self.listen if request.query == "listen" else self.serve, [("x-door", "echo")], sub)

    async def serve(self, socket: Socket) -> None:
        while (message := await socket.receive()) is not None:
            if message.data == b"fail":
                raise RuntimeError("on purpose")
            if message.data == b"bye":
                socket.close(4001, "grüße " * 40)
            elif message.data == b"return":
                return
            elif message.data == b"many":
                socket.send_frames(Frames.of([b"1", b"2" * 200, b"3" * 70000]))
            elif message.data == b"flood":
                while await socket.writable():
                    socket.send_binary(b"x" * 65536)
                    self.flooded = max(self.flooded, socket.buffered())
            elif message.data == b"pieces":
                for piece in pieces():
                    if not await socket.writable():
                        break
                    socket.send_binary(piece)
            elif message.data == b"rudely":
                while not socket.closed:
                    socket.send_binary(b"x" * 65536)
                    await asyncio.sleep(0)
            elif message.data == b"sleep":
                await asyncio.sleep(3600)
            elif message.text:
                socket.send_text(message.data)
            else:
                socket.send_binary(message.data)
        self.ended.append("received the end")

    async def listen(self, socket: Socket) -> None:
        """After `halt` the next message is received, and then it listens again."""

        def heard(data: bytes, _: bool) -> bool:
            if data == b"fail":
                raise RuntimeError("on purpose")
            socket.send_binary(b"heard " + data)
            return data != b"halt"

        socket.listen(heard)
        while (message := await socket.receive()) is not None:
            socket.send_text(b"received " + message.data)
            socket.listen(heard)


class Hears:
    """A hearer; some words have it wait, fail, or write much."""

    def __init__(self, echo: Echo, query: str) -> None:
        self._echo = echo
        self._query = query
        self.socket: Socket

    def opened(self, socket: Socket) -> Coroutine[Any, Any, None] | None:
        self.socket = socket
        if self._query == "once-fail":
            raise RuntimeError("on purpose")
        return self._wait() if self._query == "once-wait" else None

    def heard(self, data: bytes, text: bool) -> Coroutine[Any, Any, None] | None:
        if data == b"fail":
            raise RuntimeError("on purpose")
        if data == b"bye":
            self.socket.close(4001, "grüße")
        elif data == b"much":
            self.socket.send_binary(b"x" * 1_500_000)
        elif data == b"rudely":
            while not self.socket.closed:
                self.socket.send_binary(b"x" * 65536)
        elif data in {b"wait", b"fail later", b"sleep"}:
            return getattr(self, "_" + data.decode().replace(" ", "_"))()  # type: ignore[no-any-return]
        else:
            self._echo.heard.append(data)
            self.socket.send_text(b"heard " + data)
        return None

    def ended(self) -> None:
        self._echo.ended.append("hearer")

    async def _wait(self) -> None:
        await asyncio.sleep(0.05)
        self.socket.send_text(b"waited")

    async def _fail_later(self) -> None:
        await asyncio.sleep(0.05)
        raise RuntimeError("on purpose")

    async def _sleep(self) -> None:
        await asyncio.sleep(3600)


def pieces() -> Iterator[bytes]:
    """Some 15 MB of messages of many lengths, no two alike: more than waits anywhere on the way."""
    for number in range(600):
        yield b"%06d" % number * (1 + number * 7919 % 8500)


@dataclass
class House:
    port: int
    echo: Echo
    server: uvicorn.Server


@contextlib.asynccontextmanager
async def house(kind: str, limits: Limits, tls: Pair | None = None) -> AsyncIterator[House]:
    """`kind` is `hot` or `plain`."""
    echo = Echo()
    doors: dict[str, Door] = {"/door": echo}
    options = hot_options(doors.get, limits) if kind == "hot" else plain_options(limits)
    app = Starlette(
        routes=[
            Route("/page", _page),
            WebSocketRoute("/other", _other),
            *[WebSocketRoute(path, PlainDoor(door, limits)) for path, door in doors.items()],
        ]
    )
    options |= {"log_level": "critical", "lifespan": "off", "timeout_graceful_shutdown": 3}
    config = uvicorn.Config(app, **options)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    server = TlsServer(config, lambda: tls.context, limits.handshake_s) if tls else uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listening]))
    while not server.started:
        await asyncio.sleep(0.005)
    try:
        yield House(listening.getsockname()[1], echo, server)
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 20)


async def _page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("page")


async def _other(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("other " + await websocket.receive_text())
    await websocket.close()


class Raw:
    """Sends exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> Raw:
        name = "localhost" if tls is not None else None
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name))

    @classmethod
    async def open(cls, port: int, target: str = "/door", tls: ssl.SSLContext | None = None) -> Raw:
        raw = await cls.connect(port, tls)
        raw.writer.write(request(target))
        head = await raw.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return raw

    def frame(
        self, opcode: int, data: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = True, size: int | None = None
    ) -> Raw:
        length = len(data) if size is None else size
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        bit = 0x80 if masked else 0
        if length < 126:
            head += bytes([bit | length])
        elif length < 1 << 16:
            head += bytes([bit | 126]) + length.to_bytes(2)
        else:
            head += bytes([bit | 127]) + length.to_bytes(8)
        if masked:
            mask = os.urandom(4)
            head += mask
            data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.writer.write(head + data)
        return self

    async def read(self) -> tuple[int, bytes]:
        """The next frame, its opcode and data."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2))
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8))
        return first & 0xF, await self.reader.readexactly(size)

    async def closed_with(self) -> int:
        """The close code that the server sends, whatever else it says before; then it must hang up."""
        while True:
            opcode, data = await self.read()
            if opcode == 8:
                break
        self.frame(8, data[:2])
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.writer.close()
        return int.from_bytes(data[:2])


def request(target: str, **changes: str | None) -> bytes:
    headers: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode()
