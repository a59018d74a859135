"""What counting costs: meters, the tap on the log, deliveries of the event API, a scrape; usage over 100 000 records.

    python bench/counting.py

Times are of the processor, per call; no sockets and no agent are in it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import events as ev
from pilothouse.core import tally
from pilothouse.core.exposition import encode
from pilothouse.core.ids import SessionId
from pilothouse.core.meters import Counter, Histogram
from pilothouse.core.run import Run
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.fanout import Fanout, Feed, Subscriber
from pilothouse.engine.metrics import Metrics
from pilothouse.engine.ports import Put, Row, UsageRecord
from pilothouse.engine.tallies import MADE, Tallies, of_record, put
from pilothouse.engine.tap import Tap
from pilothouse.engine.timed import TimedStore

CALLS = 200_000
RECORDS = 100_000
DAY_S = 86_400.0
NOW = 1_795_348_800.0


def each(name: str, work: Callable[[], object], calls: int = CALLS, per: int = 1) -> None:
    """The best of five."""
    best = float("inf")
    for _ in range(5):
        since = time.perf_counter()
        for _ in range(calls):
            work()
        best = min(best, time.perf_counter() - since)
    print(f"{name:<52} {best / calls / per * 1e9:9.0f} ns")


class Takes:
    """A connection that takes everything."""

    def send_run(self, prefix: bytes, run: Run) -> bool:
        return True

    async def writable(self) -> bool:
        return True

    def close(self, code: int = 1000, reason: str = "") -> None: ...


def meters() -> None:
    count, spread = Counter("c", "", "a", "b"), Histogram("h", "", "a", "b")
    values = ("GET", "/api/jobs/{id}")
    each("counter, one more", lambda: count.add(values))
    each("histogram, one more", lambda: spread.add(0.003, values))
    tap = Tap(Metrics(), SystemClock(), lambda _: "echo")
    row = Row(1, ev.seal(ev.encode(ev.Stream(session_id="s", job_id="j", content="x" * 200, message_id="m")), 1))
    rows = [row] * 50
    each("tap, a row of text", lambda: tap.rows(SessionId("s"), rows), CALLS // 50, 50)


async def deliveries() -> None:
    """The addition that a group of 32 deliveries has more, beside the whole of it."""
    fanout = Fanout()
    feed = Feed(fanout)
    group = None
    for _ in range(32):
        who = Subscriber(Takes(), b'{"id":"x"')
        feed.join(who)
        group = who.group
    assert group is not None
    members, run = group.members, Run([b"x"])

    def whole() -> None:
        feed.push([(feed.head + 1, b',"event":1}')])
        feed.write(group)
        fanout._due.clear()

    def addition() -> None:
        fanout.delivered += len(members) * len(run.rests)

    each("event API, a delivery, all of it", whole, 20_000, 32)
    each("event API, of that counting", addition, CALLS, 32)


async def commits() -> None:
    plain = MemoryStore()
    timed = TimedStore(plain, Metrics())
    for name, store in (("commit in memory, not timed", plain), ("commit in memory, timed", timed)):
        best = float("inf")
        for _ in range(5):
            since = time.perf_counter()
            for _ in range(20_000):
                await store.commit(Put("x", "y", b""))
            best = min(best, time.perf_counter() - since)
        print(f"{name:<52} {best / 20_000 * 1e9:9.0f} ns")


def record(n: int, alone: bool) -> UsageRecord:
    """100 days of 1000 calls, 25 in a session by two models; or each in a session of its own."""
    session = SessionId(f"s{n if alone else n // 25:06d}")
    at = NOW - (n // 1000 % 100) * DAY_S
    return UsageRecord("p", n, session, None, f"model-{n % 2}", 200, n, 2, 3, 4, 0.01, at=at, ms=900)


async def usage(alone: bool) -> None:
    print("each call in a session of its own:" if alone else "25 calls in a session:")
    with tempfile.TemporaryDirectory() as name:
        store = await SqliteStore.open(Path(name, "log.sqlite"))
        since = time.perf_counter()
        for start in range(1, RECORDS, 1000):
            every = [record(n, alone) for n in range(start, start + 1000)]
            await store.commit(*[Put("usage", f"p:{r.n:012d}", msgspec.json.encode(r), r.session) for r in every])
        said(f"{RECORDS} records written", since)
        since = time.perf_counter()
        await Tallies(store).make(NOW)
        said("all added up for the first time", since)
        sums = len(await store.scan("tally", limit=10**6))
        print(f"{'sums that came of it':<52} {sums:9d}")
        first, last = tally.day(NOW - 99 * DAY_S), tally.day(NOW)
        for by in (("day",), ("model", "person"), ("day",) if alone else ("day", "session")):
            since = time.perf_counter()
            table = await Tallies(store).table("default", first, last, by, None)
            said(f"usage by {','.join(by)}: {len(table.rows())} rows of {table.total.calls} calls", since)
        since = time.perf_counter()
        week = await Tallies(store).table("default", tally.day(NOW - 6 * DAY_S), last, ("day",), None)
        said(f"usage of the last week: {week.total.calls} calls", since)
        since, tallies = time.perf_counter(), Tallies(store)
        for n in range(RECORDS + 1, RECORDS + 1001):
            taken = await tallies.taking(record(n, alone), None, None, NOW)
            await store.commit(*taken.ops)
            tallies.took(taken)
        print(f"{'a sum more in the commit of a record':<52} {(time.perf_counter() - since) * 1e6 / 1000:9.0f} us")
        assert await store.get("counter", MADE) is not None
        await store.close()
        each("a record's own sum", lambda: put(of_record(record(7, alone), None, None, NOW)), 20_000)


def said(what: str, since: float) -> None:
    print(f"{what:<52} {(time.perf_counter() - since) * 1e3:9.0f} ms")


def scrape() -> None:
    metrics = Metrics()
    for n in range(400):
        metrics.requests.add(("GET", f"/{n}", "200"))
        metrics.request_s.add(0.1, ("GET", f"/{n}"))
    text = encode(metrics.families())
    each(f"a scrape of 400 routes, {len(text) // 1024} KB", lambda: encode(metrics.families()), 20)


async def main() -> None:
    meters()
    await deliveries()
    await commits()
    scrape()
    await usage(alone=False)
    await usage(alone=True)


if __name__ == "__main__":
    asyncio.run(main())
