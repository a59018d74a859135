"""Every viewer ends with exactly the log, however it joins, dawdles or leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import events as ev
from pilothouse.core.ids import SessionId
from pilothouse.engine.log import Gap, Log
from pilothouse.engine.ports import Append, Commit, EventStore, Mark, Op, Page, Purge, Put, Row, StoreFailed
from pilothouse.engine.tail import Tail, TailLimits
from tests.clock import HandClock
from tests.engine.fakes import some_turns

A, B = SessionId("a"), SessionId("b")
TINY = TailLimits(rows=20, size=2000, sessions=2)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    made: EventStore = MemoryStore() if request.param == "memory" else await SqliteStore.open(tmp_path / "s.db")
    yield made
    await made.close()


@pytest.fixture
def log(store: EventStore) -> Log:
    return Log(store, HandClock(), TINY)


def event(n: int) -> ev.Event:
    return ev.Stream(content=str(n), message_id="m")


async def grow(log: Log, upto: int, session: SessionId = A) -> None:
    for n in range(await log.head(session) + 1, upto + 1):
        await log.append(session, [event(n)])


async def take(log: Log, count: int, after: int = 0, session: SessionId = A) -> list[Row | Gap]:
    found: list[Row | Gap] = []
    async with contextlib.aclosing(log.follow(session, after)) as rows:
        async for row in rows:
            found.append(row)
            if len(found) == count:
                return found
    return found


async def watch(log: Log, seen: list[Row | Gap]) -> None:
    async with contextlib.aclosing(log.follow(A, 0)) as rows:
        async for row in rows:
            seen.append(row)


async def test_an_event_is_stamped_and_numbered(log: Log) -> None:
    kept = ev.Stream(content="x", message_id="m", session_id=A, at="2020-01-01T00:00:00.000Z", seq=99)
    first, second = await log.append(A, [event(1), kept])
    assert ev.decode(first.body) == ev.Stream(
        content="1", message_id="m", session_id=A, at="2026-01-01T00:00:00.000Z", seq=1
    )
    assert ev.decode(second.body) == ev.Stream(
        content="x", message_id="m", session_id=A, at="2020-01-01T00:00:00.000Z", seq=2
    )


async def test_an_event_of_another_session_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match="event of session b"):
        await log.append(A, [ev.Stream(content="x", message_id="m", session_id=B)])
    assert await log.head(A) == 0


async def test_what_goes_with_the_events_is_committed_with_them(log: Log, store: EventStore) -> None:
    ops: list[Op] = [Put("k", "1", b"d"), Append(B, b'{"x":1}')]
    assert [row.seq for row in await log.append(A, [event(1)], *ops, mark=Mark("r", 1))] == [1]
    assert await log.append(A, [event(1)], *ops, mark=Mark("r", 1)) == []
    assert await store.get("k", "1") == b"d"
    assert (await log.head(A), await log.head(B), await log.oldest(B)) == (1, 1, 1)


async def test_a_follower_of_another_session_in_the_same_commit_is_woken(log: Log) -> None:
    waiting = asyncio.create_task(take(log, 1, session=B))
    await asyncio.sleep(0.02)
    await log.append(A, [event(1)], Append(B, b'{"x":1}'))
    async with asyncio.timeout(20):
        assert [row.seq for row in await waiting if isinstance(row, Row)] == [1]


class Viewer:
    """Joins in some burst; may be slow, may cut the line again and again and come back by cursor."""

    def __init__(self, own: random.Random, bursts: int) -> None:
        self.own = own
        self.joins = own.randrange(bursts)
        self.seen: list[int] = []
        self.slow = own.random() < 0.3
        self.restless = own.random() < 0.4
        self.batches = own.random() < 0.5

    @property
    def cursor(self) -> int:
        return self.seen[-1] if self.seen else 0

    async def watch(self, log: Log) -> None:
        await asyncio.sleep(self.own.random() * 0.02)
        while True:
            limit = self.own.choice([1, 7, 500])
            line = log.follow_batches(A, self.cursor, limit) if self.batches else log.follow(A, self.cursor)
            async with contextlib.aclosing(line) as items:
                async for item in items:
                    assert not isinstance(item, Gap)
                    self.seen += [row.seq for row in (item if isinstance(item, list) else [item])]
                    if self.slow and self.own.random() < 0.1:
                        await asyncio.sleep(self.own.random() * 0.02)
                    if self.restless and self.own.random() < 0.05:
                        break


@pytest.mark.parametrize("seed", range(2))
async def test_two_hundred_viewers_of_a_busy_session(
    store: EventStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bursts with silence between: a viewer that has missed a wake-up has nothing else to wake it. Another session
    pushes this one out of memory all the time, so that viewers have to ask the store and wait for it."""
    chance = random.Random(seed)
    real = store.read

    async def read(session: SessionId, after: int, limit: int) -> Page:
        page = await real(session, after, limit)
        await asyncio.sleep(chance.random() * 0.01)  # a disk that takes its time
        return page

    monkeypatch.setattr(store, "read", read)
    log = Log(store, HandClock(), TailLimits(rows=20, size=2000, sessions=1))
    bursts, size = 6, 40
    viewers = [Viewer(random.Random(chance.random()), bursts) for _ in range(200)]
    watching: list[asyncio.Task[None]] = []

    async def write(count: int) -> None:
        for n in range(count):
            await log.append(A, [event(n)])
            if chance.random() < 0.7:
                await log.append(B, [event(n)])
            if chance.random() < 0.2:
                await asyncio.sleep(chance.random() * 0.003)

    try:
        for burst in range(bursts):
            here = [viewer for viewer in viewers if viewer.joins <= burst]
            watching += [asyncio.create_task(viewer.watch(log)) for viewer in here if viewer.joins == burst]
            await asyncio.gather(*(write(size // 4) for _ in range(4)))
            async with asyncio.timeout(30):
                while any(viewer.cursor < (burst + 1) * size for viewer in here):
                    await asyncio.sleep(0.005)
        for viewer in viewers:
            assert viewer.seen == list(range(1, bursts * size + 1))
    finally:
        for task in watching:
            task.cancel()
        await asyncio.wait(watching)


async def test_a_row_committed_between_read_and_wait_is_not_missed() -> None:
    """The latch must be older than the read: here the row arrives exactly while the read is being answered."""

    class Sly(MemoryStore):
        between: Callable[[], object] | None = None

        async def read(self, session: SessionId, after: int, limit: int) -> Page:
            page = await super().read(session, after, limit)
            if self.between is not None:
                between, self.between = self.between, None
                await asyncio.ensure_future(between())  # type: ignore[call-overload]
            return page

    store = Sly()
    log = Log(store, HandClock())
    store.between = lambda: log.append(A, [event(1)])
    async with asyncio.timeout(20):
        assert [row.seq for row in await take(log, 1) if isinstance(row, Row)] == [1]


async def test_a_reader_behind_retention_is_told_of_the_gap(log: Log, store: EventStore) -> None:
    await grow(log, 100)
    await store.trim(A, 51)
    assert await take(Log(store, HandClock()), 2, after=10) == [Gap(11, 50), (await log.page(A, 50, 1)).rows[0]]
    await store.trim(A, 101)
    assert await take(Log(store, HandClock()), 1, after=10) == [Gap(11, 100)]
    waiting = asyncio.create_task(take(log, 2, after=10))
    await asyncio.sleep(0.02)
    await log.append(A, [event(101)])
    found = await waiting
    assert found[0] == Gap(11, 100) or isinstance(found[0], Gap)
    assert isinstance(found[1], Row)


async def test_a_viewer_that_dawdles_until_its_rows_are_gone_is_told(log: Log, store: EventStore) -> None:
    await grow(log, 3)
    async with contextlib.aclosing(log.follow_batches(A, 0, 2)) as batches:
        assert [row.seq for row in await anext(batches) if isinstance(row, Row)] == [1, 2]  # type: ignore[union-attr]
        await grow(log, 200)
        await store.trim(A, 150)
        assert await anext(batches) == Gap(3, 149)
        following = await anext(batches)
        assert isinstance(following, list)
        assert following[0].seq == 150


async def test_a_folded_run_is_followed_from_inside(log: Log, store: EventStore) -> None:
    await grow(log, 50)
    await store.fold(A, 50)
    (row,) = await take(Log(store, HandClock()), 1, after=20)
    assert isinstance(row, Row)
    assert (row.first, row.seq) == (1, 50)


async def test_purging_ends_the_followers(log: Log) -> None:
    await grow(log, 5)
    current = asyncio.create_task(take(log, 99))
    new = asyncio.create_task(take(log, 99, session=B))
    dawdling = log.follow_batches(A, 0, 1)
    await anext(dawdling)
    await some_turns()
    await log.append(A, [], Purge(A), Purge(B))
    async with asyncio.timeout(20):
        assert len(await current) == 5
        assert await new == []
        assert [batch async for batch in dawdling] == []


async def test_a_cursor_that_was_never_given_ends_at_once(store: EventStore, log: Log) -> None:
    await grow(log, 5)
    async with asyncio.timeout(20):
        assert await take(Log(store, HandClock()), 1, after=6) == []


async def test_followers_see_what_a_cancelled_caller_appended(log: Log) -> None:
    await grow(log, 1)
    waiting = asyncio.create_task(take(log, 3))
    await asyncio.sleep(0.02)
    append = asyncio.create_task(log.append(A, [event(2)]))
    await asyncio.sleep(0)
    append.cancel()
    await asyncio.gather(append, return_exceptions=True)
    await asyncio.sleep(0.05)
    await log.append(A, [event(3)])
    async with asyncio.timeout(20):
        assert [row.seq for row in await waiting if isinstance(row, Row)] == [1, 2, 3]


async def test_a_cancelled_append_wakes_without_a_later_one() -> None:
    class Slow(MemoryStore):
        async def commit(self, *ops: Op) -> Commit:
            commit = await super().commit(*ops)
            await asyncio.sleep(0.02)
            return commit

    log = Log(Slow(), HandClock())
    waiting = asyncio.create_task(take(log, 1))
    await asyncio.sleep(0)
    append = asyncio.create_task(log.append(A, [event(1)]))
    await asyncio.sleep(0.01)
    append.cancel()
    async with asyncio.timeout(20):
        assert len(await waiting) == 1


async def test_a_failing_store_uses_no_number_and_goes_on() -> None:
    store = MemoryStore()
    log = Log(store, HandClock())
    waiting = asyncio.create_task(take(log, 2))
    await log.append(A, [event(1)])
    store.failing = "disk full"
    with pytest.raises(StoreFailed, match="disk full"):
        await log.append(A, [event(2)])
    assert (await log.page(A, 0, 9)).head == 1
    store.failing = ""
    await log.append(A, [event(3)])
    async with asyncio.timeout(20):
        assert [row.seq for row in await waiting if isinstance(row, Row)] == [1, 2]


async def test_a_full_disk_and_many_viewers(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s.db", max_pages=60)
    log = Log(store, HandClock(), TINY)
    every = [list[Row | Gap]() for _ in range(20)]
    viewers = [asyncio.create_task(watch(log, seen)) for seen in every]
    await log.append(B, [ev.Stream(content="x" * 60_000, message_id="m")])
    failed = written = 0
    for _ in range(600):
        try:
            await log.append(A, [ev.Stream(content="x" * 500, message_id="m")])
            written += 1
        except StoreFailed:
            failed += 1
            if failed == 10:
                await log.append(B, [], Purge(B))
    assert failed >= 10
    assert await log.head(A) == written
    async with asyncio.timeout(30):
        while any(len(seen) < written for seen in every):
            await asyncio.sleep(0.01)
    await log.append(A, [], Purge(A))
    async with asyncio.timeout(30):
        await asyncio.gather(*viewers)
    for seen in every:
        assert [row.seq for row in seen if isinstance(row, Row)] == list(range(1, written + 1))
    await store.close()


async def test_quiet_sessions_hold_no_memory(log: Log) -> None:
    followers = []
    for n in range(50):
        session = SessionId(f"s{n}")
        await log.append(session, [event(1)])
        followers.append(asyncio.create_task(take(log, 2, session=session)))
    async with asyncio.timeout(20):
        while len(log._latches) < 50:
            await asyncio.sleep(0.01)
    assert len(log._latches) == 50
    assert len(log._tails) == TINY.sessions
    for follower in followers:
        follower.cancel()
    await asyncio.wait(followers)  # `gather` would keep the exceptions, and with them the frames
    del follower, followers
    gc.collect()
    assert len(log._latches) == 0


def test_a_tail_is_bounded_and_never_has_a_hole() -> None:
    tail = Tail()
    limits = TailLimits(rows=8, size=100, sessions=1)
    for seq in range(1, 200):
        tail.push(Row(seq, b"x" * 10, seq), limits)
        assert len(tail.rows) <= 8
        assert sum(len(row.body) for row in tail.rows) == tail.size <= 100
        rows = tail.after(max(seq - 2, 0), 9)
        assert rows is not None
        assert [row.seq for row in rows] == ([seq - 1, seq] if seq > 1 else [seq])
    assert tail.after(100, 5) is None
    assert tail.after(199, 5) == []
    tail.push(Row(150, b"late", 150), limits)
    assert tail.last == 199
    tail.push(Row(300, b"after a hole", 300), limits)
    assert tail.after(199, 5) is None
    assert tail.after(299, 5) == [Row(300, b"after a hole", 300)]
    tail.push(Row(301, b"x" * 500, 301), limits)
    assert tail.rows == []
    assert tail.after(300, 5) is None
    assert tail.after(301, 5) == []
