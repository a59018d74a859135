"""Chores: old text is joined, what is beyond retention goes, and nobody is left with a silent hole."""

from __future__ import annotations

from dataclasses import replace

from pilothouse.core import events as ev
from pilothouse.engine.log import Gap
from pilothouse.engine.upkeep import Upkeep
from tests.engine.conftest import Bench


async def finished(bench: Bench, texts: int) -> tuple[object, str]:
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.say(*[ev.Stream(content=f"{i} ", message_id="m") for i in range(texts)])
    runner.end_turn(job.id)
    await bench.until(session, ev.Complete)
    return session, session.live.record.id


async def round_of(bench: Bench, **limits: object) -> None:
    kit = replace(bench.sessions.kit, limits=replace(bench.limits, **limits))  # type: ignore[arg-type]
    import asyncio

    task = asyncio.create_task(Upkeep(kit).once())
    while not task.done():
        await bench.clock.wind(0.1)
    await task


async def test_text_of_a_job_is_joined_only_when_it_is_old_enough(bench: Bench) -> None:
    session, _ = await finished(bench, 50)
    before = await bench.events(session)  # type: ignore[arg-type]
    await round_of(bench, fold_after_s=86_400)
    assert await bench.events(session) == before  # type: ignore[arg-type]
    await bench.clock.wind(90_000)
    await round_of(bench, fold_after_s=86_400)
    after = await bench.events(session)  # type: ignore[arg-type]
    joined = [e for e in after if isinstance(e, ev.Stream)]
    assert len(joined) == 1
    assert joined[0].content == "".join(f"{i} " for i in range(50))
    assert joined[0].seq - joined[0].from_ == 49
    assert after[-1] == before[-1]


async def test_beyond_retention_a_reader_is_told_of_the_gap(bench: Bench) -> None:
    _, sid = await finished(bench, 300)
    await round_of(bench, retention_events=100)
    page = await bench.store.read(sid, 0, 1000)  # type: ignore[arg-type]
    assert len(page.rows) == 100
    first = await anext(bench.sessions.kit.log.follow(sid, 0))  # type: ignore[arg-type]
    if not isinstance(first, Gap):  # still whole in memory: then nothing is missing
        assert first.seq == 1
    await bench.restart()
    first = await anext(bench.sessions.kit.log.follow(sid, 0))  # type: ignore[arg-type]
    assert isinstance(first, Gap)
    assert (first.start, first.end) == (1, page.oldest - 1)
