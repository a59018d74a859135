"""Bytes both ways between a session and a far end, until both have ended or nothing has moved for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

PIECE = 64 * 1024
Moved = Callable[[int, int], None]
"""(bytes into the session, bytes out of it)"""


async def join(
    near: asyncio.StreamReader,
    near_out: asyncio.StreamWriter,
    far: asyncio.StreamReader,
    far_out: asyncio.StreamWriter,
    idle_s: float,
    moved: Moved,
) -> None:
    last = [asyncio.get_running_loop().time()]

    def alive(into: int, out: int) -> None:
        last[0] = asyncio.get_running_loop().time()
        moved(into, out)

    async def both() -> None:
        await asyncio.gather(
            _pump(near, far_out, lambda n: alive(0, n)),
            _pump(far, near_out, lambda n: alive(n, 0)),
        )

    await until_idle(both(), idle_s, lambda: last[0])


async def until_idle(work: Coroutine[Any, Any, None], idle_s: float, last: Callable[[], float]) -> None:
    """`work` to its end, or until `last` lies `idle_s` back."""
    now = asyncio.get_running_loop().time

    async def watch() -> None:
        while (left := last() + idle_s - now()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)  # the time that is left, not a poll

    tasks = [asyncio.create_task(work), asyncio.create_task(watch())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, moved: Callable[[int], None]) -> None:
    while data := await source.read(PIECE):
        sink.write(data)
        await sink.drain()
        moved(len(data))
    with suppress(OSError, NotImplementedError):
        sink.write_eof()
