"""A connection to the keeper that says nothing: the keeper stays while it lasts, and its end is the keeper's.

A keeper that has died is replaced at once, not when the next session is opened: nobody else starts a proxy that dies,
and until there is one, every agent waits for its model.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from pilothouse.core.errors import Unavailable

AGAIN_S = 0.2
"""Before each try to have a keeper again."""


class Presence:
    """`again` brings a keeper up, and opens this anew. Raises Unavailable, OSError."""

    def __init__(self, again: Callable[[], Awaitable[object]]) -> None:
        self._again = again
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        """One for each connection that was; those of ended ones may still be trying to have a keeper again."""

    @property
    def here(self) -> bool:
        return self._writer is not None

    async def open(self, keeper: Path) -> None:
        """Raises OSError."""
        reader, writer = await asyncio.open_unix_connection(keeper)
        if self._writer is not None:  # somebody else was faster
            writer.close()
            return
        self._writer = writer
        task = asyncio.create_task(self._mind(reader, writer), name="presence")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _mind(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()
        self._writer = None
        while self._writer is None:
            await asyncio.sleep(AGAIN_S)
            with contextlib.suppress(Unavailable, OSError):
                await self._again()
