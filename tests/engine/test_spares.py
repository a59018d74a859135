"""Spare sandboxes are taken by new sessions and never outlive their use."""

from __future__ import annotations

import asyncio

from pilothouse.core import link
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId
from pilothouse.engine.kit import Limits
from tests.engine.conftest import Bench
from tests.engine.fakes import ScriptedRunner


async def bench_with_spares() -> Bench:
    bench = Bench(limits=Limits(agent="echo", spares=1))
    await bench.start()
    while not bench.sandboxes.started:
        await asyncio.sleep(0)
    return bench


async def test_a_new_session_takes_the_spare_and_another_is_made() -> None:
    bench = await bench_with_spares()
    spare = bench.sandboxes.started[0]
    session = await bench.session()
    assert session.live.record.id == spare
    await bench.run(session)
    assert bench.sandboxes.started == [spare]
    await bench.clock.wind(3)
    assert len(bench.sandboxes.started) == 2
    await bench.sessions.close()


async def test_a_session_with_a_source_or_another_agent_takes_none() -> None:
    bench = await bench_with_spares()
    spare = bench.sandboxes.started[0]
    made = await bench.sessions.create(owner="local", agent="echo", source=Source(git="https://example.org/x.git"))
    assert made.live.record.id != spare
    other = await bench.sessions.create(owner="local", agent="claude")
    assert other.live.record.id != spare
    await bench.sessions.close()
    assert spare in bench.sandboxes.deleted


async def test_who_is_made_later_is_listed_as_the_later_one() -> None:
    bench = await bench_with_spares()
    spare = bench.sandboxes.started[0]
    source = Source(git="https://example.org/x.git")
    first = await bench.sessions.create(owner="local", agent="echo", source=source)
    await bench.clock.wind(0.01)
    second = await bench.sessions.create(owner="local", agent="echo")
    assert second.live.record.id not in bench.sandboxes.started
    await bench.clock.wind(3)
    assert bench.sandboxes.deleted == [spare]
    later = bench.sandboxes.started[-1]
    third = await bench.sessions.create(owner="local", agent="echo")
    assert third.live.record.id == later
    ids = [one.live.record.id for one in (first, second, third)]
    assert ids == sorted(ids)
    await bench.sessions.close()


async def test_a_spare_that_is_being_made_while_a_session_is_is_not_taken() -> None:
    bench = await bench_with_spares()
    await bench.session()
    opening = bench.sandboxes.runner
    made: list[SessionId] = []

    async def while_it_starts(session: SessionId) -> object:
        runner = await opening(session)
        if not made:
            other = await bench.sessions.create(owner="local", agent="claude")
            made.append(other.live.record.id)
        return runner

    bench.sandboxes.runner = while_it_starts  # type: ignore[method-assign,assignment]
    await bench.clock.wind(3)
    assert made
    dropped = bench.sandboxes.started[-1]
    assert dropped < made[0]
    later = await bench.session()
    assert later.live.record.id > made[0]
    await bench.clock.wind(3)
    assert dropped in bench.sandboxes.deleted
    await bench.sessions.close()


async def test_what_a_killed_server_left_without_a_session_is_removed(bench: Bench) -> None:
    session = await bench.session()
    job, runner = await bench.run(session)
    orphan = SessionId("01a1fcb5-6533-7196-97e1-3dd6d8f2da6a")
    bench.sandboxes.runners[orphan] = ScriptedRunner()
    await bench.restart()
    assert bench.sandboxes.deleted == [orphan]
    assert isinstance(await runner.command(link.Prompt), link.Prompt)
    assert session.live.record.id in bench.sandboxes.runners
    assert job.state == "running"
