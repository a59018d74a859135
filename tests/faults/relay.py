"""A TCP relay between viewers and the server: what goes through it can be cut, stopped, delayed and torn to bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field

CHUNK = 64 * 1024
BYTEWISE = 400
"""Bytes of a chunk that are sent one by one; the rest of it in small pieces."""


@dataclass(eq=False)
class _Pair:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    open: asyncio.Event = field(default_factory=asyncio.Event)
    torn: random.Random | None = None
    delay: float = 0.0
    ended: list[asyncio.StreamWriter] = field(default_factory=list)
    """Directions that were closed before their time."""


class Relay:
    def __init__(self) -> None:
        self.port = 0
        self.upstream = 0
        self.calm = 0.0
        """When the last disturbance ended (loop time); in the future while one lasts."""
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, upstream: int) -> None:
        self.upstream = upstream
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream, limit=CHUNK)
        for end in (writer, back):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(writer, back)
        pair.open.set()
        self._pairs.add(pair)
        pumps = [asyncio.create_task(self._pump(pair, *way)) for way in ((reader, back), (there, writer))]
        try:
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pairs.discard(pair)
            back.close()

    async def _pump(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await pair.open.wait()
            if pair.delay:
                await asyncio.sleep(pair.delay)
            for piece in _torn(data, pair.torn):
                if writer.transport.is_closing() or writer in pair.ended:
                    return
                writer.write(piece)
                await writer.drain()
                if pair.torn is not None:
                    await asyncio.sleep(0)  # each is a segment of its own
        with contextlib.suppress(OSError):
            writer.write_eof()

    # --- what goes wrong

    def _some(self, dice: random.Random) -> list[_Pair]:
        return [pair for pair in sorted(self._pairs, key=id) if dice.random() < 0.7]

    def cut(self, dice: random.Random) -> int:
        """Reset, without a word."""
        pairs = self._some(dice)
        for pair in pairs:
            for writer in (pair.client, pair.server):
                sock = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        return len(pairs)

    def half(self, dice: random.Random) -> int:
        """One direction ends, the other goes on."""
        pairs = self._some(dice)
        for pair in pairs:
            writer = dice.choice((pair.client, pair.server))
            pair.ended.append(writer)
            with contextlib.suppress(OSError):
                writer.write_eof()
        return len(pairs)

    async def stall(self, dice: random.Random, seconds: float) -> int:
        pairs = self._some(dice)
        for pair in pairs:
            pair.open.clear()
        await self._disturbed(seconds)
        for pair in pairs:
            pair.open.set()
        return len(pairs)

    async def dribble(self, dice: random.Random, seconds: float) -> int:
        pairs = self._some(dice)
        for pair in pairs:
            pair.torn = random.Random(dice.random())
        await self._disturbed(seconds)
        for pair in pairs:
            pair.torn = None
        return len(pairs)

    async def late(self, dice: random.Random, seconds: float) -> int:
        pairs = self._some(dice)
        for pair in pairs:
            pair.delay = dice.uniform(0.02, 0.3)
        await self._disturbed(seconds)
        for pair in pairs:
            pair.delay = 0.0
        return len(pairs)

    async def _disturbed(self, seconds: float) -> None:
        self.calm = max(self.calm, asyncio.get_running_loop().time() + seconds)
        await asyncio.sleep(seconds)


def _torn(data: bytes, dice: random.Random | None) -> list[bytes]:
    if dice is None:
        return [data]
    pieces = [data[at : at + 1] for at in range(min(BYTEWISE, len(data)))]
    at = BYTEWISE
    while at < len(data):
        size = dice.randint(1, 4000)
        pieces.append(data[at : at + size])
        at += size
    return pieces
