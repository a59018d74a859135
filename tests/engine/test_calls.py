"""The whole of a job's result, which its record has the beginning of: from the log, and from nobody else's end."""

from __future__ import annotations

import pytest

from pilothouse.core.bucket import Rates
from pilothouse.engine import calls
from pilothouse.engine.calls import Calls, EndMissing
from pilothouse.engine.gate import Gate
from pilothouse.engine.jobs import RESULT_KEPT
from pilothouse.engine.records import JobRecord, copy
from pilothouse.engine.sessions import Session
from tests.engine.conftest import Bench

LONG = "0123456789" * (RESULT_KEPT // 10 + 7)
OTHER = LONG[::-1]


async def ended(bench: Bench, session: Session, result: str) -> JobRecord:
    job, runner = await bench.run(session)
    runner.end_turn(job.id, result=result)
    return await session.jobs.end_of(job)


@pytest.fixture
def asked(bench: Bench) -> Calls:
    return Calls(bench.sessions, Gate(bench.store, bench.clock, Rates(0, 1, 0), connections_max=10))


async def test_retention_leaves_the_beginning_and_gives_nobody_else_s_text(bench: Bench, asked: Calls) -> None:
    session = await bench.session()
    first, second = await ended(bench, session, LONG), await ended(bench, session, OTHER)
    assert await asked.result(first) == LONG
    assert await asked.result(second) == OTHER
    assert second.last_seq is not None
    await bench.store.trim(session.live.record.id, second.last_seq)
    assert await asked.result(first) == LONG[:RESULT_KEPT]
    assert await asked.result(second) == OTHER
    await bench.sessions.delete(session)
    assert await asked.result(second) == OTHER[:RESULT_KEPT]


async def test_an_end_is_found_where_the_record_is_a_few_rows_behind(
    bench: Bench, asked: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await bench.session()
    first, second = await ended(bench, session, LONG), await ended(bench, session, OTHER)
    assert first.last_seq is not None
    assert second.last_seq is not None
    assert await asked.result(copy(first, last_seq=first.last_seq - 2)) == LONG
    assert await asked.result(copy(second, last_seq=first.last_seq)) == OTHER
    for wrong in (copy(first, last_seq=second.last_seq), copy(first, last_seq=first.last_seq + 1)):
        with pytest.raises(EndMissing, match=str(first.id)):
            await asked.result(wrong)
    monkeypatch.setattr(calls, "LOOK", 2)
    with pytest.raises(EndMissing):
        await asked.result(copy(second, last_seq=first.last_seq))
