"""A client of the event API that is made of bytes, and a server with handlers that do all that handlers should not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.core import bearer
from pilothouse.core.namespaces import Namespace
from pilothouse.engine.handlers import Handlers
from pilothouse.engine.hooks import Bounded
from tests.fuzz.cases import Packet
from tests.issuer import FakeIssuer
from tests.security import raw
from tests.web.serving import Served, serving

HOUSE = FakeIssuer()
BAD, NO = "BadRequestException", "UnauthorizedException"
PUB = {"type": "publish", "id": "p", "channel": "default/a", "events": ["1"]}
SUB = {"type": "subscribe", "id": "s", "channel": "default/a"}


async def odd(event: Any, context: Any) -> Any:
    match event["info"]["channel"]["segments"][-1]:
        case "raises":
            raise ValueError("a secret reason")
        case "leaves":
            raise SystemExit(1)
        case "hangs":
            await asyncio.sleep(20)
        case "rubbish":
            return [object()]
        case "half":
            return {"events": [{"id": "not one of them", "payload": 1}]}
        case "says-no":
            return {"error": "a secret reason"}
    return {"events": event["events"]} if event["events"] else None


NAMESPACES = (
    Namespace("default"),
    Namespace("kept", history=5),
    Namespace("signed", publish_modes=frozenset({"AWS_IAM"}), subscribe_modes=frozenset({"AWS_IAM"})),
    Namespace("odd", on_publish="odd", on_subscribe="odd"),
)


@contextlib.asynccontextmanager
async def refusing(*, hot: bool) -> AsyncIterator[Served]:
    made = Handlers({"odd": Bounded(PythonHook("odd", odd), 1.0)})
    async with serving(hot=hot, namespaces=NAMESPACES, handlers=made, houses=[HOUSE]) as running:
        yield running
    await made.close()


class Bytes:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def hear(self) -> dict[str, Any] | int:
        """The next frame, or the code that it ends with."""
        async with asyncio.timeout(20):
            first, size = await self._reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
            data = await self._reader.readexactly(size)
        if first & 15 == 8:
            return int.from_bytes(data[:2], "big")
        said: dict[str, Any] = json.loads(data)
        return said

    async def brief(self) -> tuple[str, str | None, str] | int:
        said = await self.hear()
        if isinstance(said, int):
            return said
        [problem] = said.get("errors", [{"errorType": "", "message": "x"}])
        assert problem["message"]
        assert "secret" not in problem["message"]
        return said["type"], said.get("id"), problem["errorType"]

    def say(self, *packets: Packet) -> None:
        self._writer.write(b"".join(packet.encode() for packet in packets))

    async def dribble(self, *packets: Packet) -> None:
        for byte in b"".join(packet.encode() for packet in packets):
            self._writer.write(bytes([byte]))
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def opened(served: Served, given: dict[str, str] | None = None) -> AsyncIterator[Bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    shown = {"x-api-key": await served.key()} if given is None else given
    offer = f"aws-appsync-event-ws, header-{bearer.encoded(json.dumps(shown))}"
    headers = {"host": f"127.0.0.1:{served.port}", "sec-websocket-protocol": offer}
    writer.write(raw.upgrade("/event/realtime", headers))
    head = await reader.readuntil(b"\r\n\r\n")
    assert raw.status(head) == 101, head
    assert b"header-" not in head.lower(), "what carries the credential is never said back"
    try:
        yield Bytes(reader, writer)
    finally:
        writer.transport.abort()


def text(frame: Any) -> Packet:
    return Packet(frame if isinstance(frame, bytes) else json.dumps(frame).encode())


async def ask(served: Served, request: bytes) -> bytes:
    """What comes until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.transport.abort()


async def post(served: Served, body: bytes | Any, *headers: tuple[str, str]) -> tuple[int, dict[str, str], Any]:
    """Status, headers and what was said."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ["POST /event HTTP/1.1", f"host: 127.0.0.1:{served.port}", "connection: close"]
    lines += [f"content-length: {len(data)}", *(f"{name}: {value}" for name, value in headers)]
    answer = await ask(served, "\r\n".join([*lines, "", ""]).encode("latin-1") + data)
    head, _, said = answer.partition(b"\r\n\r\n")
    pairs = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:]]
    return raw.status(answer), {name.lower(): value for name, value in pairs}, json.loads(said)
