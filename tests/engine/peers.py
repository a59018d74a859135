"""A runner that is nothing but a socket: it says what a test tells it to, byte by byte if need be.

The server's end is the real one, from the transport (`adapters.sandboxes.wire`) up to the log.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import wire
from pilothouse.core import link
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxState, Wire
from tests.engine.fakes import FakeSandboxes, ScriptedRunner

Json = dict[str, Any]
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


def frame(opcode: int, data: bytes, *, fin: bool = True, rsv: int = 0, size: int | None = None) -> bytes:
    """As a server sends it: unmasked. `size`: what it claims."""
    length = len(data) if size is None else size
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length < 126:
        head += bytes([length])
    elif length < 1 << 16:
        head += bytes([126]) + length.to_bytes(2)
    else:
        head += bytes([127]) + length.to_bytes(8)
    return head + data


class Talk:
    """One connection, as the runner's side sees it. `number` counts from 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.heard: list[Json] = []
        self._assembler = link.Assembler()

    async def accept(self) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        key = next(
            line.partition(b":")[2].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        answer = base64.b64encode(hashlib.sha1(key + GUID.encode()).digest()).decode()
        self.writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {answer}\r\n\r\n".encode()
        )

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def say(self, message: Json | bytes) -> None:
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        for piece in link.split(raw, f"p{len(raw)}"):
            await self.send(frame(TEXT, piece))

    async def hello(self, runner: str = "liar", **more: Any) -> Json:
        """Greets, and waits for the attach."""
        await self.accept()
        fields = {"proto": 1, "runnerId": runner, "agent": "echo", "agentVersion": "1", "first": 1, "last": 0} | more
        await self.say({"hello": fields})
        while not any("attach" in m for m in self.heard):
            await self.listen()
        return next(m["attach"] for m in self.heard if "attach" in m)

    async def prompted(self) -> str:
        """The id of the prompt that the server gives; it is the turn's too."""
        while True:
            for message in self.heard:
                if (command := message.get("cmd", {})).get("type") == "prompt":
                    return str(command["id"])
            await self.listen()

    async def acked(self, n: int) -> None:
        while not any(m.get("ack", 0) >= n for m in self.heard):
            await self.listen()

    async def listen(self) -> Json | None:
        """The next message, None for a frame that completes none. Raises IncompleteReadError at the end."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
        mask = await self.reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(await self.reader.readexactly(size)))
        if first & 0xF == CLOSE:
            raise asyncio.IncompleteReadError(data, None)
        whole = self._assembler.feed(data) if first & 0xF in (TEXT, BINARY) else None
        if not isinstance(whole, bytes):
            return None
        self.heard.append(json.loads(whole))
        return self.heard[-1]


Script = Callable[[Talk], Awaitable[None]]


@dataclass
class Peer:
    """A listening runner; every connection runs `script`, and is hung up on when it returns."""

    script: Script
    path: Path = field(default_factory=Path)
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self.script(Talk(reader, writer, self.connections))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the server hung up, which is its right
        except AssertionError as error:
            self.failures.append(error)
        finally:
            self._open.discard(task)
            with contextlib.suppress(ConnectionError):
                writer.transport.abort()

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        assert not self.failures, self.failures


class PeerSandboxes(FakeSandboxes):
    """Sessions with a peer have it for a runner; the others have `ScriptedRunner`s."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Peer] = []
        """For the next sessions that start a runner."""
        self.peers: dict[SessionId, Peer] = {}

    async def runner(self, session: SessionId) -> SandboxState:
        if session not in self.runners and self.waiting:
            self.peers[session] = self.waiting.pop(0)
            self.runners[session] = ScriptedRunner()
            self.started.append(session)
        return await super().runner(session)

    async def connect(self, session: SessionId) -> Wire:
        if session in self.peers:
            if session not in self.runners:
                raise Unavailable("no runner")
            return await wire.connect(self.peers[session].path)
        return await super().connect(session)


@contextlib.asynccontextmanager
async def listening(script: Script) -> AsyncIterator[Peer]:
    with tempfile.TemporaryDirectory(prefix="ph-peer-") as folder:
        peer = Peer(script, Path(folder) / "run")
        server = await asyncio.start_unix_server(peer.serve, peer.path)
        try:
            yield peer
        finally:
            server.close()
            await peer.close()


def memory() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
