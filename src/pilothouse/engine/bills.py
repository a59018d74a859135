"""What a job has used: as the proxy metered it, or as its agent says, where the proxy cannot be asked."""

from __future__ import annotations

import asyncio

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import PilothouseError
from pilothouse.core.ids import JobId
from pilothouse.engine.live import Live
from pilothouse.engine.ports import UsageRecord
from pilothouse.engine.records import JobRecord

SPENT_S = 3.0
"""The proxy answers with a job's total within this, or the agent's own figure counts."""
COST_MAX = 1e6
"""USD in one word of an agent's: more is none."""


class Bills:
    """Of the jobs of one session that are not done."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._said: dict[JobId, link.AgentUsage] = {}

    def say(self, job: JobId, more: link.AgentUsage) -> None:
        """By the agent, of the job that it works on."""
        if not 0 <= more.total_cost < COST_MAX:
            return
        before = self._said.get(job, link.AgentUsage())
        self._said[job] = link.AgentUsage(
            input_tokens=before.input_tokens + more.input_tokens,
            output_tokens=before.output_tokens + more.output_tokens,
            cache_read_tokens=before.cache_read_tokens + more.cache_read_tokens,
            cache_write_tokens=before.cache_write_tokens + more.cache_write_tokens,
            total_cost=before.total_cost + more.total_cost,
        )

    async def metered(self, job: JobRecord) -> UsageRecord | None:
        """What the proxy metered; None when the job made no call or the proxy cannot be asked."""
        if job.started_at is None:
            return None
        try:
            async with asyncio.timeout(SPENT_S):
                return await self._live.kit.models.spent(self._live.record.id, job.id)
        except (TimeoutError, PilothouseError):
            return None

    def usage(self, job: JobRecord, total: UsageRecord | None) -> ev.Usage | None:
        """The job's totals as the proxy metered them, else the agent's own figures. An agent reckons by a price list of
        its own, in which it finds a price for the demo model too: of that one its cost is nothing."""
        if total is not None:
            return totals(job.id, total)
        own = self._said.get(job.id)
        if own is None:
            return None
        return ev.Usage(
            job_id=job.id, input_tokens=own.input_tokens, output_tokens=own.output_tokens,
            cache_read_tokens=own.cache_read_tokens, cache_write_tokens=own.cache_write_tokens,
            total_cost=0.0 if job.demo else own.total_cost, measured="agent",
        )  # fmt: skip

    def close(self, job: JobId) -> None:
        """It has ended."""
        self._said.pop(job, None)


def totals(job: JobId, total: UsageRecord) -> ev.Usage:
    return ev.Usage(
        job_id=job,
        input_tokens=total.input_tokens,
        output_tokens=total.output_tokens,
        cache_read_tokens=total.cache_read_tokens,
        cache_write_tokens=total.cache_write_tokens,
        total_cost=total.cost_usd,
        measured="proxy",
    )
