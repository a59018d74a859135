"""Slow chores of the log: old text deltas are joined, what is beyond retention goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from pilothouse.core.ids import SessionId
from pilothouse.engine import records
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import StoreFailed
from pilothouse.engine.records import JobRecord

EVERY_S = 600.0
PAUSE_S = 0.05
"""Between two sessions: people come first."""


class Upkeep:
    def __init__(self, kit: Kit, *more: Callable[[], Awaitable[None]]) -> None:
        """`more`: what else is to be done in each round."""
        self._kit = kit
        self._more = more
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="upkeep")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await self._kit.clock.sleep(EVERY_S)
            try:
                await self.once()
            except StoreFailed:
                continue
            except Exception as error:  # noqa: BLE001  chores that end in silence fill the disk
                self._kit.note("upkeep_failed", error=repr(error)[:500])

    async def once(self) -> None:
        """One round over all sessions."""
        for chore in self._more:
            await chore()
        store = self._kit.store
        after = ""
        while found := await store.scan("session", after=after, limit=200):
            for key, _ in found:
                after = key
                sid = SessionId(key)
                upto = await self._folds_to(sid)
                if upto:
                    await store.fold(sid, upto)
                page = await store.read(sid, 0, 0)
                if page.head - page.oldest >= self._kit.limits.retention_events:
                    await store.trim(sid, page.head - self._kit.limits.retention_events + 1)
                await self._kit.clock.sleep(PAUSE_S)

    async def _folds_to(self, session: SessionId) -> int:
        """The last `seq` of the newest job that ended long enough ago."""
        before = self._kit.clock.now() - self._kit.limits.fold_after_s
        jobs = await self._kit.store.scan("job", owner=session, limit=200, newest=True)
        for _, doc in jobs:
            job = records.load(doc, JobRecord)
            if job.ended_at is not None and job.last_seq is not None and records.seconds(job.ended_at) <= before:
                return job.last_seq
        return 0
