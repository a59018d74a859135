"""Limits that sessions have hit, into their logs: each once, however often it is told."""

from __future__ import annotations

import asyncio
import contextlib

from pilothouse.core import events as ev
from pilothouse.core.errors import PilothouseError
from pilothouse.engine.kit import Kit
from pilothouse.engine.ports import LimitHit, Mark, StoreFailed
from pilothouse.engine.sessions import Sessions

CODES = {"memory": "limit_memory", "processes": "limit_processes", "disk": "limit_disk", "files": "limit_disk"}


class LimitIntake:
    def __init__(self, kit: Kit, sessions: Sessions) -> None:
        self._kit = kit
        self._sessions = sessions
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="limits")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        async for hit in self._kit.sandboxes.hits():
            try:
                await self._take(hit)
            except (PilothouseError, StoreFailed) as error:
                self._kit.note("limit_untold", session=hit.session, why=str(error)[:200])
            except Exception as error:  # noqa: BLE001  an intake that died in silence would tell nobody any more
                self._kit.note("limit_failed", session=hit.session, error=repr(error)[:500])

    async def _take(self, hit: LimitHit) -> None:
        session = await self._sessions.found(hit.session)
        code = CODES.get(hit.name)
        if session is None or code is None:
            return
        async with session.live.lock:
            job = session.jobs.running
            event = ev.ErrorEvent(job_id=job.id if job else None, code=code, message=hit.text)
            await session.live.commit([event], mark=Mark(f"limits:{hit.source}", hit.n), insist=True)
