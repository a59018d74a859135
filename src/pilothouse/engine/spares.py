"""Spare sandboxes: opened, their runner started, belonging to nobody yet. A new session takes one and is ready at once.

What costs is the runner's start (it imports the agent's SDK: over a second); it happens here, before anybody waits. A
spare has an empty workspace and a UUID of its own, and nothing in the store: what a killed server left is removed by
the next one, as is every other sandbox without a session.

Sessions are listed by their ids, which say when they were made. So a spare waits only as long as no session is made
beside it: taken afterwards, it would be listed as the older one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from pilothouse.core.errors import PilothouseError
from pilothouse.core.ids import SessionId
from pilothouse.engine import records
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import SandboxSpec

AGAIN_S = 30.0
"""After a spare could not be made."""
PAUSE_S = 2.0
"""Before the next is made: whoever took the last one is being served now."""


class Spares:
    def __init__(self, kit: Kit, agent: str, count: int) -> None:
        self._kit = kit
        self._agent = agent
        self._count = count
        self._ready: deque[SessionId] = deque()
        self._old: list[SessionId] = []
        """What nobody may take any more."""
        self._passes = 0
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._count > 0:
            self._task = asyncio.create_task(self._fill(), name="spares")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._set_aside()
        await self._clear()

    def take(self, agent: str) -> SessionId | None:
        """A spare's id for a new session of this agent without a source; None when there is none."""
        if agent != self._agent or not self._ready:
            return None
        self._wanted.set()
        return self._ready.popleft()

    def passed_by(self) -> None:
        """A session with another id was made at this moment."""
        self._passes += 1
        self._set_aside()
        self._wanted.set()

    def _set_aside(self) -> None:
        self._old += self._ready
        self._ready.clear()

    async def _clear(self) -> None:
        while self._old:
            with contextlib.suppress(PilothouseError):
                await self._kit.sandboxes.delete(self._old.pop())

    async def _fill(self) -> None:
        while True:
            await self._clear()
            if len(self._ready) >= self._count:
                self._wanted.clear()
                await self._wanted.wait()
                await self._kit.clock.sleep(PAUSE_S)
                continue
            passes, spare = self._passes, SessionId(records.new_id())
            try:
                await self._kit.sandboxes.open(SandboxSpec(spare, self._agent))
                await self._kit.sandboxes.runner(spare)
                if passes == self._passes:
                    self._ready.append(spare)
                else:
                    self._old.append(spare)
                    await self._kit.clock.sleep(PAUSE_S)
            except PilothouseError as error:
                self._kit.note("no_spare", why=error.message[:200])
                await self._kit.clock.sleep(AGAIN_S)
            except asyncio.CancelledError:
                with contextlib.suppress(PilothouseError):
                    await self._kit.sandboxes.delete(spare)
                raise
