"""Fifty shells flood and one is typed in: every keystroke is echoed, and every byte of all is in its place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.journeys.program import Program, installation
from tests.journeys.rough import Gone, Record, Rough
from tests.journeys.test_shells import session, shell

pytestmark = pytest.mark.asyncio(loop_scope="module")
SESSIONS, SHELLS = 5, 10
KEYS = 60
LINES = 1_500_000
"""Of the counting that is checked: no flood gets so far while KEYS keys are pressed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    async with installation(demo=False, PILOTHOUSE_RATE_PER_S="0") as (made, _):
        yield made


WAIT = "while [ ! -e go ]; do sleep 0.2; done"
"""A new shell waits for its first viewer a few seconds only, and on a busy machine fifty of them take longer."""


async def test_who_types_is_echoed_while_fifty_flood_and_no_byte_is_out_of_place(program: Program) -> None:
    records: list[Record] = []
    sids = [await session(program) for _ in range(SESSIONS)]
    for sid in sids:
        ids = await asyncio.gather(
            *(shell(program, sid, "sh", "-c", f"{WAIT}; stty -opost; exec seq 1 {LINES}") for _ in range(SHELLS))
        )
        records += [Record(f"/api/sessions/{sid}/shells/{id}") for id in ids]
    sid = await session(program)
    mine = Record(f"/api/sessions/{sid}/shells/{await shell(program, sid, 'cat')}")
    stop, there = asyncio.Event(), asyncio.Semaphore(0)
    floods = [asyncio.create_task(watch(program, record, stop, there)) for record in records]
    line = await Rough.open(program, mine.query)
    try:
        for _ in records:
            await there.acquire()
        for sid in sids:
            (program.own(sid) / "workspace" / "go").touch()
        async with asyncio.timeout(90):
            while not all(record.at for record in records):
                await asyncio.sleep(0.05)
            before = [record.at for record in records]
            for number in range(KEYS):
                await line.type(b"%c" % (97 + number % 26))
                await mine.follow(line, number + 1)
            after = [record.at for record in records]
    finally:
        stop.set()
        await asyncio.gather(*floods)
        line.cut()
    assert bytes(mine.got) == bytes(97 + number % 26 for number in range(KEYS))
    assert sum(late > early for early, late in zip(before, after, strict=True)) == len(records), "not all flooded"
    whole = "".join(f"{n}\n" for n in range(1, LINES + 1)).encode()
    for record in records:
        assert whole.startswith(record.got)


async def watch(program: Program, record: Record, stop: asyncio.Event, there: asyncio.Semaphore) -> None:
    line = await Rough.open(program, record.query)
    there.release()
    with contextlib.suppress(Gone):
        while not stop.is_set() and record.ended is None:
            for frame in await line.frames():
                record.take(frame)
    line.cut()
