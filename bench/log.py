"""The log against the obvious way to do it, in one interleaved run.

    python bench/log.py [--rounds 3] [--seconds 1.5] [--viewers 100] [--writers 16]

ours   `Log` on `SqliteStore`: group commit by one writer, every viewer a cursor
naive  SQLite as well (WAL, synchronous=NORMAL, the same table), but one commit per event, and a queue per viewer

Both commit before they deliver, both encode each event once. The ratios are what to read: figures of single runs move
with whatever else the machine does. CPU is the whole process's, the viewers' own loop included.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvloop

from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import events as ev
from pilothouse.core.ids import SessionId
from pilothouse.engine.log import Gap, Log

SESSION = SessionId("00000000-0000-4000-8000-000000000000")
TEXT = "the quick brown fox jumps over the lazy dog " * 2

Count = Callable[[int], None]
"""Told how many rows came together."""


class Clock:
    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Contender(Protocol):
    async def append(self) -> None: ...

    async def view(self, count: Count) -> None: ...

    async def close(self) -> None: ...


class Ours:
    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._log = Log(store, Clock())

    @classmethod
    async def open(cls, directory: Path) -> Ours:
        return cls(await SqliteStore.open(directory / "ours.db"))

    async def append(self) -> None:
        await self._log.append(SESSION, [ev.Stream(content=TEXT, message_id="m")])

    async def view(self, count: Count) -> None:
        async for batch in self._log.follow_batches(SESSION):
            assert not isinstance(batch, Gap)
            count(len(batch))

    async def close(self) -> None:
        await self._store.close()


class Naive:
    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.execute("create table e(log integer, seq integer, body blob, primary key(log, seq)) without rowid")
        self._thread = ThreadPoolExecutor(1)
        self._queues: list[asyncio.Queue[bytes]] = []
        self._seq = 0

    @classmethod
    async def open(cls, directory: Path) -> Naive:
        return cls(directory / "naive.db")

    async def append(self) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        event = ev.Stream(content=TEXT, message_id="m", session_id=SESSION, at=now)
        body = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, ev.encode(event))
        for queue in self._queues:
            queue.put_nowait(body)

    def _write(self, body: bytes) -> bytes:
        self._seq += 1
        sealed = ev.seal(body, self._seq)
        self._db.execute("begin immediate")
        self._db.execute("insert into e values (1, ?, ?)", (self._seq, sealed))
        self._db.execute("commit")
        return sealed

    async def view(self, count: Count) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.append(queue)
        while True:
            await queue.get()
            count(1)

    async def close(self) -> None:
        self._thread.shutdown()
        self._db.close()


@dataclass
class Figures:
    appends: float
    """Per second."""
    deliveries: float
    """Per second."""
    cpu_append: float
    """Microseconds per append, deliveries included."""
    cpu_delivery: float
    """Microseconds per delivery, appends included."""


Open = Callable[[Path], Awaitable[Contender]]


async def measure(opens: Open, viewers: int, writers: int, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        contender = await opens(Path(directory))
        appended = delivered = 0

        def count(rows: int) -> None:
            nonlocal delivered
            delivered += rows

        async def write() -> None:
            nonlocal appended
            while time.perf_counter() < end:
                await contender.append()
                appended += 1

        watching = [asyncio.create_task(contender.view(count)) for _ in range(viewers)]
        await asyncio.sleep(0.05)
        start, cpu = time.perf_counter(), time.process_time()
        end = start + seconds
        await asyncio.gather(*(write() for _ in range(writers)))
        while delivered < appended * viewers:
            await asyncio.sleep(0)
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await contender.close()
    return Figures(appended / took, delivered / took, cpu / appended * 1e6, cpu / max(delivered, 1) * 1e6)


def table(viewers: int, ours: list[Figures], naive: list[Figures]) -> None:
    lines = [("appends/s", "appends"), ("CPU us per append", "cpu_append")]
    if viewers:
        lines += [("deliveries/s", "deliveries"), ("CPU us per delivery", "cpu_delivery")]
    print(f"\n{viewers} viewers")
    print(f"{'':24}{'ours':>14}{'naive':>14}   ours / naive, median of rounds")
    for label, name in lines:
        mine = [getattr(figures, name) for figures in ours]
        theirs = [getattr(figures, name) for figures in naive]
        ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
        print(f"{label:24}{statistics.median(mine):14,.2f}{statistics.median(theirs):14,.2f}   {ratio:.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--writers", type=int, default=16)
    given = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {given.writers} writers in flight")
    for viewers in (0, given.viewers):
        ours: list[Figures] = []
        naive: list[Figures] = []
        for _ in range(given.rounds):
            ours.append(uvloop.run(measure(Ours.open, viewers, given.writers, given.seconds)))
            naive.append(uvloop.run(measure(Naive.open, viewers, given.writers, given.seconds)))
        table(viewers, ours, naive)


if __name__ == "__main__":
    main()
