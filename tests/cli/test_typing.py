"""What is typed while a connection is taken up again: once, and in its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from pilothouse.cli.attach import Attached
from pilothouse.core import frames


class Slow:
    """A connection that takes a message now and then."""

    closed = False

    def __init__(self, broken_after: int = 1000) -> None:
        self.got = bytearray()
        self._left = broken_after

    async def send_bytes(self, frame: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            await asyncio.sleep(0.01)
            raise ConnectionResetError
        if frame[0] == frames.STDIN:
            self.got += frame[1:]
        await asyncio.sleep(0.002)


class Typed:
    """A terminal of which nothing is read but what is typed there."""

    screen = False
    size = None

    def __init__(self) -> None:
        self.keys: asyncio.Queue[bytes] = asyncio.Queue()

    async def typed(self) -> AsyncIterator[bytes]:
        while data := await self.keys.get():
            yield data


def attached(raw: Typed) -> Attached:
    return Attached(cast(Any, None), "s", "s", cast(Any, raw), lambda words: None, escapes=None)


STATUS = {"metadata": {"shellId": "s", "offset": 0, "live": 0, "typed": 0}}


async def test_what_is_typed_while_what_waited_is_sent_comes_behind_it() -> None:
    raw, socket = Typed(), Slow()
    one = attached(raw)
    typing = asyncio.create_task(one._type())
    waited = b"".join(b"%07d\n" % n for n in range(32 * 1024))
    for at in range(0, len(waited), 65536):
        raw.keys.put_nowait(waited[at : at + 65536])
    while len(one._kept) < len(waited):
        await asyncio.sleep(0)
    coming = asyncio.create_task(one._status(STATUS, cast(Any, socket)))
    await asyncio.sleep(0.003)
    raw.keys.put_nowait(b"last")
    await coming
    async with asyncio.timeout(5):
        while len(socket.got) < len(waited) + 4:
            await asyncio.sleep(0.001)
    typing.cancel()
    assert bytes(socket.got) == waited + b"last"


async def test_a_paste_that_is_cut_off_in_its_middle_is_not_typed_twice() -> None:
    raw, first, second = Typed(), Slow(broken_after=1), Slow()
    one = attached(raw)
    one._socket = cast(Any, first)
    typing = asyncio.create_task(one._type())
    paste = b"".join(b"%07d\n" % n for n in range(8 * 1024))
    assert len(paste) > frames.CHUNK
    raw.keys.put_nowait(paste)
    await asyncio.sleep(0.005)
    await one._status(STATUS, cast(Any, second))
    raw.keys.put_nowait(b"last")
    async with asyncio.timeout(5):
        while not second.got.endswith(b"last"):
            await asyncio.sleep(0.001)
    typing.cancel()
    assert bytes(second.got) == paste + b"last"
