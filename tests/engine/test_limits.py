"""A limit that a session has hit is in its log once, with the job that ran, whatever is told again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pilothouse.core import events as ev
from pilothouse.core.ids import SessionId
from pilothouse.engine.limits import LimitIntake
from pilothouse.engine.ports import LimitHit
from pilothouse.engine.sessions import Session
from tests.engine.conftest import Bench


@pytest.fixture
async def intake(bench: Bench) -> AsyncIterator[LimitIntake]:
    made = LimitIntake(bench.sessions.kit, bench.sessions)
    made.start()
    yield made
    await made.close()


def hit(session: Session, n: int, name: str = "memory", source: str = "holder") -> LimitHit:
    return LimitHit(session.live.record.id, source, n, name, f"{name} {source} {n}")


async def test_each_hit_is_told_once_with_its_job(bench: Bench, intake: LimitIntake) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    for told in (
        hit(session, 1),
        hit(session, 1),
        hit(session, 2, "files"),
        hit(session, 1),
        hit(session, 1, "processes", "next"),
    ):
        bench.sandboxes.hit.put_nowait(told)
    seen = [e for e in await bench.until(session, ev.ErrorEvent, 3) if isinstance(e, ev.ErrorEvent)]
    assert [(e.code, e.message, e.job_id) for e in seen] == [
        ("limit_memory", "memory holder 1", job.id),
        ("limit_disk", "files holder 2", job.id),
        ("limit_processes", "processes next 1", job.id),
    ]
    runner.end_turn(job.id)
    await bench.until(session, ev.Complete)
    assert sum(isinstance(e, ev.ErrorEvent) for e in await bench.events(session)) == 3


async def test_again_after_a_restart_is_not_told_again(bench: Bench, intake: LimitIntake) -> None:
    session = await bench.session()
    bench.sandboxes.hit.put_nowait(hit(session, 1))
    await bench.until(session, ev.ErrorEvent)
    await intake.close()
    await bench.restart()
    again = LimitIntake(bench.sessions.kit, bench.sessions)
    again.start()
    bench.sandboxes.hit.put_nowait(hit(session, 1))
    bench.sandboxes.hit.put_nowait(hit(session, 2))
    seen = [e for e in await bench.until(session, ev.ErrorEvent, 2) if isinstance(e, ev.ErrorEvent)]
    assert [(e.message, e.job_id) for e in seen] == [("memory holder 1", None), ("memory holder 2", None)]
    await again.close()


async def test_what_is_nobodys_or_unknown_harms_nobody(bench: Bench, intake: LimitIntake) -> None:
    session = await bench.session()
    stranger = SessionId("00000000-0000-4000-8000-000000000000")
    bench.sandboxes.hit.put_nowait(LimitHit(stranger, "holder", 1, "memory", "x"))
    bench.sandboxes.hit.put_nowait(hit(session, 1, "luck"))
    bench.sandboxes.hit.put_nowait(hit(session, 2))
    await asyncio.wait_for(bench.until(session, ev.ErrorEvent), 10)


async def test_limits_of_its_own_reach_the_sandbox_and_take_no_spare(bench: Bench) -> None:
    session = await bench.sessions.create(owner="local", agent="echo", limits={"memory": 1 << 30})
    assert session.live.record.limits == {"memory": 1 << 30}
    await bench.run(session)
    assert bench.sandboxes.specs[session.live.record.id].limits == {"memory": 1 << 30}
