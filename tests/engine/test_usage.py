"""What was used agrees with the ledger: after a kill at any point, with records that come again, and of jobs that were
not metered."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.tally import FIELDS, Row, Sums
from pilothouse.engine import records, tallies
from pilothouse.engine.kit import Kit, Limits
from pilothouse.engine.log import Log
from pilothouse.engine.ports import Commit, Delete, EventStore, Mark, Op, Purge, Put, UsageRecord
from pilothouse.engine.records import JobRecord, SessionRecord
from pilothouse.engine.rules import Rules
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.tallies import KIND, Tallies
from pilothouse.engine.usage import UsageIntake
from tests.engine.conftest import Bench
from tests.engine.fakes import FakeModels, FakeSandboxes, HandClock

NOON = 1795348800.0
"""2026-11-22T12:00:00Z."""
DAY = 86_400.0
STAMP = records.stamp(NOON)


class Metered(FakeModels):
    """A proxy that has these records, and no more after them."""

    def __init__(self, every: Sequence[UsageRecord]) -> None:
        super().__init__()
        self.every = every
        self.done = asyncio.Event()

    async def usage(self, marks: Sequence[tuple[str, int]]) -> AsyncIterator[UsageRecord]:
        known = dict(marks)
        for record in self.every:
            if record.n > known.get(record.proxy_id, 0):
                yield record
        self.done.set()
        await asyncio.Event().wait()


def record(n: int, **more: object) -> UsageRecord:
    made = UsageRecord("p", n, SessionId("s"), JobId("j"), "m", 200, n, 2, 3, 4, n / 1000, at=NOON, ms=5)
    return replace(made, **more)  # type: ignore[arg-type]


def session(id: str = "s", **more: object) -> Put:
    made = SessionRecord(
        id=SessionId(id), owner="olga", agent="echo", isolation="none", created_at=STAMP, last_active_at=STAMP,
        permission_mode="manual", state="stopped",
    )  # fmt: skip
    return records.put(records.copy(made, **more))


def job(id: str = "j", of: str = "s", **more: object) -> Put:
    made = JobRecord(
        id=JobId(id), session_id=SessionId(of), state="done", prompt="x", by="ann", created_at=STAMP, ended_at=STAMP,
        permission_mode="manual", askers=["ann", "bob"],
    )  # fmt: skip
    return records.put(records.copy(made, **more))


async def taken(store: EventStore, every: Sequence[UsageRecord]) -> UsageIntake:
    """An intake that has taken all."""
    clock, models = HandClock(NOON), Metered(every)
    kit = Kit(store, Log(store, clock), FakeSandboxes(), models, clock, Limits())
    sessions = Sessions(kit, Rules(store, clock, kit.audit), await kit.sandboxes.probe())
    intake = UsageIntake(kit, sessions)
    intake.start()
    await models.done.wait()
    await intake.close()
    return intake


async def ledger(store: EventStore) -> list[UsageRecord]:
    out: list[UsageRecord] = []
    after = ""
    while rows := await store.scan("usage", after=after):
        out += [msgspec.json.decode(doc, type=UsageRecord) for _, doc in rows]
        after = rows[-1][0]
    return out


async def told(store: EventStore, by: str = "day", person: str | None = None) -> tuple[list[Row], Sums]:
    fields = tuple(f for f in FIELDS if f in by.split(","))
    table = await Tallies(store).table("default", "2026-01-01", "2026-12-31", fields, person)
    return table.rows(), table.total


def agree(total: Sums, every: Sequence[UsageRecord]) -> None:
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"):
        assert getattr(total, name) == sum(getattr(r, name) for r in every), name
    assert total.calls == sum(not r.refused for r in every)
    assert total.refused == sum(bool(r.refused) for r in every)
    assert total.cost_usd == pytest.approx(sum(r.cost_usd for r in every))


async def test_sums_by_day_person_key_session_and_model() -> None:
    store = MemoryStore()
    await store.commit(
        session(), session("t"), job(), job("k", "t", by="key:ci", key="0123", askers=["bob"]),
    )  # fmt: skip
    every = [
        record(1),
        record(2, at=NOON - DAY, model="n", price_guessed=True),
        record(3, session=SessionId("t"), job=JobId("k"), tokens_guessed=True),
        record(4, session=SessionId("t"), job=None, refused="budget", status=402),
    ]
    await taken(store, every)
    agree((await told(store))[1], every)
    by = {name: {getattr(r, name): r.input_tokens for r in (await told(store, name))[0]} for name in FIELDS}
    assert by == {
        "day": {"2026-11-21": 2, "2026-11-22": 8},
        "person": {"ann": 3, "bob": 3, "olga": 4},
        "key": {"": 7, "0123": 3},
        "session": {"s": 3, "t": 7},
        "model": {"m": 8, "n": 2},
    }
    rows, total = await told(store, "key,person")
    assert {(r.key, r.key_name, r.person) for r in rows} == {("", "", "ann"), ("", "", "olga"), ("0123", "ci", "bob")}
    assert (total.guessed_cost_usd, total.guessed_tokens) == (0.002, 3 + 2 + 3 + 4)
    assert (await told(store, person="bob"))[1].input_tokens == 3


async def test_records_that_come_again_count_once() -> None:
    store = MemoryStore()
    await store.commit(session(), job())
    every = [record(n) for n in range(1, 50)]
    for upto in (10, 30, 49):
        await taken(store, every[:upto])
        agree((await told(store))[1], every[:upto])
    await store.commit(Delete("proxy", "p"))  # nobody knows any more where to go on: all come again
    await taken(store, every)
    agree((await told(store))[1], every)


class Dies(MemoryStore):
    """Its caller is gone after the n-th commit, before or after that has happened."""

    at, after = 0, False

    async def commit(self, *ops: Op) -> Commit:
        self.at -= 1
        if self.at == 0 and not self.after:
            raise RuntimeError
        done = await super().commit(*ops)
        if self.at == 0:
            raise RuntimeError
        return done


@pytest.mark.parametrize("after", [False, True])
async def test_a_commit_whose_answer_nobody_heard_is_not_counted_twice(after: bool) -> None:
    store = Dies()
    await store.commit(session(), job(), session("t"), Put("counter", tallies.MADE, b"1"))
    every = [record(n) for n in range(1, 20)]
    store.at, store.after = 7, after
    clock, models = HandClock(NOON), Metered(every)
    kit = Kit(store, Log(store, clock), FakeSandboxes(), models, clock, Limits())
    intake = UsageIntake(kit, Sessions(kit, Rules(store, clock, kit.audit), await kit.sandboxes.probe()))
    intake.start()  # the same one goes on, with what it has in memory
    while not models.done.is_set():
        await clock.wind(1)
    await intake.close()
    agree((await told(store))[1], every)
    assert len(await ledger(store)) == len(every)


async def test_a_store_without_sums_is_added_up_once() -> None:
    store = MemoryStore()
    before = [replace(record(n), at=None, ms=None) for n in range(1, 30)]
    docs = [Put("usage", f"p:{r.n:012d}", msgspec.json.encode(r), "s") for r in before]
    await store.commit(session(), job(created_at=records.stamp(NOON - 3 * DAY)), *docs, Mark("p:p", 29))
    await store.commit(Put("proxy", "p", b"{}"), Mark("proxy:p", 29))
    # Cut off in the middle: some sums are there, and the word that all are is not.
    stale = tallies.of_record(before[0], None, None, NOON)
    await store.commit(Put(KIND, stale.id, msgspec.json.encode(stale)))
    await store.commit(Delete(KIND, stale.id))
    await Tallies(store).make(NOON)
    await store.commit(Delete("counter", tallies.MADE))
    await taken(store, [*before, record(30)])
    agree((await told(store))[1], [*before, record(30)])
    assert {r.day for r in (await told(store))[0]} == {"2026-11-19", "2026-11-22"}


async def test_a_session_that_is_deleted_has_been_used_all_the_same() -> None:
    store = MemoryStore()
    await store.commit(session(organisation="default"), job())
    every = [record(n) for n in range(1, 5)]
    await taken(store, every)
    await store.commit(Purge(SessionId("s")), Delete("session", "s"))
    assert await ledger(store) == []
    agree((await told(store, "session"))[1], every)


async def test_the_agents_word_counts_where_nothing_is_metered() -> None:
    store = MemoryStore()
    await store.commit(session(), job())
    doc = await store.get("session", "s")
    known = await store.get("job", "j")
    assert doc is not None
    assert known is not None
    usage = ev.Usage(
        input_tokens=100, output_tokens=10, cache_read_tokens=0, cache_write_tokens=0, total_cost=0.5, measured="agent"
    )
    await store.commit(tallies.of_agent(records.load(doc, SessionRecord), records.load(known, JobRecord), usage, STAMP))
    total = (await told(store))[1]
    assert (total.input_tokens, total.agent_tokens, total.agent_cost_usd, total.calls) == (100, 110, 0.5, 0)
    every = [record(1)]
    await taken(store, every)  # the proxy had metered it: it could not be asked at the job's end
    total = (await told(store))[1]
    agree(total, every)
    assert total.agent_tokens == 0


class Away(Metered):
    """Its records came; it cannot be asked for a total."""

    def __init__(self) -> None:
        super().__init__([])
        self.come: asyncio.Queue[UsageRecord] = asyncio.Queue()

    async def usage(self, marks: Sequence[tuple[str, int]]) -> AsyncIterator[UsageRecord]:
        while True:
            yield await self.come.get()

    async def spent(self, session: SessionId, job: JobId) -> UsageRecord | None:
        raise Unavailable


@pytest.fixture
async def away() -> AsyncIterator[tuple[Bench, Away]]:
    models = Away()
    bench = Bench(models=models, clock=HandClock(NOON))
    await bench.start()
    intake = UsageIntake(bench.sessions.kit, bench.sessions)
    intake.start()
    yield bench, models
    await intake.close()
    await bench.close()


def of(job: JobRecord) -> UsageRecord:
    return record(1, session=job.session_id, job=job.id)


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_agents_word_does_not_count_beside_records_that_came_before_it(
    away: tuple[Bench, Away], restarted: bool
) -> None:
    bench, models = away
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.say(link.AgentUsage(input_tokens=100, output_tokens=10, total_cost=0.5))
    models.come.put_nowait(of(job))
    while not await ledger(bench.store):
        await asyncio.sleep(0)
    if restarted:
        await bench.restart()
        session = bench.sessions.every()[0]
        runner.say(link.AgentUsage(input_tokens=100, output_tokens=10, total_cost=0.5))
    runner.end_turn(job.id)
    assert any(e.measured == "agent" for e in await bench.until(session, ev.Complete) if isinstance(e, ev.Usage))
    total = (await told(bench.store))[1]
    agree(total, await ledger(bench.store))
    assert (total.calls, total.agent_tokens, total.agent_cost_usd) == (1, 0, 0)


async def test_an_agents_price_for_the_demo_model_is_nothing(away: tuple[Bench, Away]) -> None:
    bench, _ = away
    costs = []
    for bench.models.demo in (True, False):
        session = await bench.session()
        job, runner = await bench.run(session)
        runner.say(link.AgentUsage(input_tokens=100, output_tokens=10, total_cost=0.5))
        runner.end_turn(job.id)
        costs += [
            e.total_cost for e in await bench.until(session, ev.Complete) if isinstance(e, ev.Usage | ev.Complete)
        ]
    assert costs == [0.0, 0.0, 0.5, 0.5]


@pytest.mark.parametrize("ends", ["before", "meanwhile"])
async def test_a_record_that_is_taken_as_its_job_ends_replaces_the_agents_word(
    away: tuple[Bench, Away], ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, models = away
    session = await bench.session()
    job, runner = await bench.run(session)
    runner.say(link.AgentUsage(input_tokens=100, output_tokens=10, total_cost=0.5))
    commit = bench.store.commit

    async def late(*ops: Op) -> Commit:
        if any(isinstance(op, Put) and op.kind == "usage" for op in ops):
            runner.end_turn(job.id)  # the record was looked at, and is not written yet
            for _ in range(200):
                await asyncio.sleep(0)
        return await commit(*ops)

    if ends == "before":
        runner.end_turn(job.id)
        await session.jobs.end_of(job)
        assert (await told(bench.store))[1].agent_tokens == 110
    else:
        monkeypatch.setattr(bench.store, "commit", late)
    models.come.put_nowait(of(job))
    await session.jobs.end_of(job)
    while not await ledger(bench.store):
        await asyncio.sleep(0)
    total = (await told(bench.store))[1]
    agree(total, await ledger(bench.store))
    assert (total.calls, total.agent_tokens) == (1, 0)


CHILD = """
import asyncio, os, signal, sys, threading
from pathlib import Path
from pilothouse.adapters.stores.sqlite import SqliteStore
from tests.engine.test_usage import record, session, job, taken

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    await store.commit(session(), job())
    if len(sys.argv) > 3:
        threading.Timer(float(sys.argv[3]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    await taken(store, [record(n, model=f"m{n % 7}") for n in range(1, int(sys.argv[2]) + 1)])
    await store.close()

asyncio.run(main())
"""


async def test_it_agrees_with_the_ledger_after_kills_at_any_point(tmp_path: Path) -> None:
    path, many = tmp_path / "log.sqlite", 1500
    every = [record(n, model=f"m{n % 7}") for n in range(1, many + 1)]
    seen: list[int] = []
    delays: list[float | None] = [0.02, 0.05, 0.1]
    while delays:
        delay = delays.pop(0)
        words = [sys.executable, "-c", CHILD, str(path), str(many), *([] if delay is None else [str(delay)])]
        child = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": "src:."})
        assert await asyncio.to_thread(child.wait) == (0 if delay is None else -signal.SIGKILL)
        store = await SqliteStore.open(path)
        there = await ledger(store)
        agree((await told(store, "model"))[1], there)
        seen.append(len(there))
        await store.close()
        if not delays and delay is not None:  # a busy machine may have done nothing yet
            delays = [None] if seen[-1] or delay > 5 else [delay * 2]
    assert seen == sorted(seen)
    assert any(0 < n < many for n in seen), seen
    assert seen[-1] == many
    assert len(every) == many
