"""Chores of the audit: counted refusals are written down, old records go, and the heads are told to the server's log.

Whoever can write to the store can make a whole chain anew; a head that stands in a log elsewhere shows it.
"""

from __future__ import annotations

import asyncio
import contextlib

from pilothouse.core.bucket import DAY_S, day
from pilothouse.core.errors import Unavailable
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import StoreFailed

EVERY_S = 60.0


class AuditUpkeep:
    def __init__(self, kit: Kit, days: int) -> None:
        self._kit = kit
        self._days = days
        self._done = -1
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="audit")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._kit.audit.flush(every=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.once()
            except (StoreFailed, Unavailable):
                pass  # the store says so elsewhere; the next round tries again
            except Exception as error:  # noqa: BLE001  chores that end in silence fill the disk
                self._kit.note("audit_failed", error=repr(error)[:500])
            await self._kit.clock.sleep(EVERY_S)

    async def once(self) -> None:
        audit = self._kit.audit
        await audit.flush()
        now = self._kit.clock.now()
        if day(now) == self._done:
            return
        for org in await audit.organisations():
            if self._days:
                await audit.trim(org, now - self._days * DAY_S)
            head = await audit.head(org)
            self._kit.note("audit_head", organisation=org, seq=head.seq, hash=head.hash)
        self._done = day(now)
