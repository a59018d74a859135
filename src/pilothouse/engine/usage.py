"""What the proxy metered, into the ledger with its sums and, while the job runs, into its log. Each record is taken
once."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from pilothouse.core.errors import PilothouseError
from pilothouse.core.ids import SessionId
from pilothouse.engine import records
from pilothouse.engine.bills import totals
from pilothouse.engine.kit import Kit
from pilothouse.engine.metrics import Metrics
from pilothouse.engine.ports import Mark, Put, StoreFailed, UsageRecord
from pilothouse.engine.records import JobRecord
from pilothouse.engine.sessions import Session, Sessions
from pilothouse.engine.tallies import Tallies
from pilothouse.engine.traces import Traces

AGAIN_S = 1.0
"""Pause before asking a proxy again that went away."""


class UsageIntake:
    def __init__(
        self, kit: Kit, sessions: Sessions, metrics: Metrics | None = None, traces: Traces | None = None
    ) -> None:
        self._kit = kit
        self._sessions = sessions
        self._metrics = metrics or Metrics()
        self._traces = traces
        self._tallies = Tallies(kit.store)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="usage")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                self._tallies.forget()
                await self._tallies.make(self._kit.clock.now())
                known = await self._kit.store.scan("proxy")
                marks = [(key, await self._kit.store.marked(f"proxy:{key}")) for key, _ in known]
                async for record in self._kit.models.usage(marks):
                    await self._take(record)
            except (PilothouseError, StoreFailed) as error:
                self._kit.note("usage_waits", why=str(error)[:200])
            except Exception as error:  # noqa: BLE001  an intake that died in silence would lose every later record
                self._kit.note("usage_failed", error=repr(error)[:500])
            await self._kit.clock.sleep(AGAIN_S)

    async def _take(self, record: UsageRecord) -> None:
        session = self._sessions.here(SessionId(record.session))
        runs = session is not None and record.job in session.jobs.known
        # The lock: a job that ended in the middle would not know of the record, and the record not of its end.
        async with session.live.lock if session is not None and runs else contextlib.nullcontext():
            job, repeated = await self._add(record, session)
        if not repeated:
            self._metrics.called(record)
            if self._traces is not None:
                await self._traces.called(record, job)
        if session is not None and record.job in session.jobs.known:
            await self._tell(session, record)

    async def _add(self, record: UsageRecord, session: Session | None) -> tuple[JobRecord | None, bool]:
        """To the ledger. Its job, and whether it had been taken before."""
        running = session.jobs.known.get(record.job) if session is not None and record.job is not None else None
        job = running
        if job is None and record.job is not None:
            job = await self._tallies.job(record.job)
        whose = session.live.record if session is not None else await self._tallies.session(record.session)
        counted = await self._tallies.taking(record, whose, job, self._kit.clock.now())
        ops = list(counted.ops)
        if running is not None and session is not None and not (running.metered or session.live.removed):
            ops.append(records.put(records.copy(running, metered=True)))
        taken = await self._kit.store.commit(
            Mark(f"proxy:{record.proxy_id}", record.n),
            Put("usage", f"{record.proxy_id}:{record.n:012d}", msgspec.json.encode(record), record.session),
            Put("proxy", record.proxy_id, b"{}"),
            *ops,
        )
        if running is not None:
            running.metered = True
        if not taken.repeated:
            self._tallies.took(counted)
        return job, taken.repeated

    async def _tell(self, session: Session, record: UsageRecord) -> None:
        """The job's log, while it runs."""
        assert record.job is not None
        total = await self._kit.models.spent(record.session, record.job)
        if total is None:
            return
        async with session.live.lock:
            job = session.jobs.known.get(record.job)
            if job is not None and job.state == "running":
                job.total_cost = total.cost_usd
                await session.live.commit([totals(record.job, total)], insist=True)
