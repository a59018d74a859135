"""The server's ear at each running session's holder: what limits were hit, those of before it came first."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import client, fdpass
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import LimitHit

WAITING_MAX = 1000
"""Hits that nobody has taken: holders tell few, so that more means that the store does not take them."""


class Watching:
    """A connection and a task for each session. `control`: the path of its holder's socket."""

    def __init__(self, control: Callable[[str], Path]) -> None:
        self._control = control
        self._tasks: dict[SessionId, asyncio.Task[None]] = {}
        self._hits: asyncio.Queue[LimitHit] = asyncio.Queue(WAITING_MAX)

    def follow(self, session: SessionId) -> None:
        """Until its holder goes. Harmless to repeat."""
        task = self._tasks.get(session)
        if task is None or task.done():
            self._tasks[session] = asyncio.create_task(self._follow(session), name="limits")

    async def hits(self) -> AsyncIterator[LimitHit]:
        while True:
            yield await self._hits.get()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, session: SessionId) -> None:
        with contextlib.suppress(OSError, ValueError, fdpass.Broken):
            reader, writer = await asyncio.open_unix_connection(self._control(session), limit=fdpass.LINE_MAX)
            try:
                for request in ({"verb": "hello", "proto": client.PROTO, "watch": True}, {"verb": "hits"}):
                    writer.write(json.dumps(request).encode() + b"\n")
                while line := await reader.readline():
                    await self._heard(session, fdpass.parse(line))
            finally:
                writer.close()
        if self._tasks.get(session) is asyncio.current_task():
            del self._tasks[session]

    async def _heard(self, session: SessionId, message: dict[str, Any]) -> None:
        for notice in [*message.get("hits", ()), message.get("limit")]:
            if notice is not None:
                hit = LimitHit(session, notice["from"], int(notice["n"]), notice["name"], notice["text"])
                await self._hits.put(hit)
