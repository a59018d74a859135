"""The durable store: one SQLite file in WAL mode, one writer thread, readers on connections of their own.

A commit is answered when it is in the file. With `full=False` (synchronous=NORMAL) it survives a killed process; with
`full=True` (synchronous=FULL) a power cut too.

Reading a folded log by a cursor inside a folded run (`first` <= after < `seq`): the folded row comes (again), since it
is the row with the lowest `seq` above the cursor. It stands for all of `first`..`seq`, so a reader puts its text in
the place of whatever it had of that run. There is no gap in such an answer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from pilothouse.adapters.stores.check import check, weight
from pilothouse.adapters.stores.schema import connect, prepare
from pilothouse.adapters.stores.transaction import Transaction
from pilothouse.adapters.stores.writer import Unit, Writer
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Commit, Op, Page, Row, StoreFailed

T = TypeVar("T")

READERS = 2
"""Connections for reading. Reads are short and mostly served from memory; more threads would only contend."""
PAGE_BYTES = 2 * 1024 * 1024
"""A page ends after this many bytes even when `limit` allows more rows, so that no reader holds a whole log."""


class SqliteStore:
    """Made by `SqliteStore.open`, inside the event loop that it will answer to."""

    def __init__(self, path: Path, epoch: str, *, full: bool, max_pages: int) -> None:
        self.epoch = epoch
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(path, self._loop, full=full, max_pages=max_pages)
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(READERS):
            self._readers.put(connect(path, readonly=True))
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, full: bool = False, max_pages: int = 0) -> SqliteStore:
        """Opens or makes the file. Raises `StoreRefused`. `max_pages` bounds its size (0: the disk does)."""
        epoch = await asyncio.to_thread(prepare, path)
        return cls(path, epoch, full=full, max_pages=max_pages)

    async def commit(self, *ops: Op) -> Commit:
        """Is in line before it first waits. Cancelling it stops the waiting, not the commit."""
        check(ops)
        commit: Commit = await self._write(lambda transaction: transaction.apply(ops), weight(ops))
        return commit

    async def read(self, session: SessionId, after: int, limit: int) -> Page:
        return await self._read(lambda db: _page(db, session, after, limit))

    async def get(self, kind: str, id: str) -> bytes | None:
        def find(db: sqlite3.Connection) -> bytes | None:
            row = db.execute("select doc from docs where kind = ? and id = ?", (kind, id)).fetchone()
            return None if row is None else bytes(row[0])

        return await self._read(find)

    async def scan(
        self, kind: str, *, owner: str | None = None, after: str = "", limit: int = 1000, newest: bool = False
    ) -> list[tuple[str, bytes]]:
        return await self._read(lambda db: _scan(db, kind, owner, after, limit, newest))

    async def marked(self, source: str) -> int:
        return await self._read(lambda db: Transaction(db).marked(source))

    async def trim(self, session: SessionId, before: int) -> int:
        gone, more = 0, True
        while more:
            went, more = await self._write(lambda transaction: transaction.trim(session, before), 0)
            gone += went
        return gone

    async def fold(self, session: SessionId, upto: int) -> int:
        gone = 0
        after: int | None = 0
        while after is not None:
            went, after = await self._write(_folding(session, after, upto), 0)
            gone += went
        return gone

    async def close(self) -> None:
        """Everything committed before is in the file; whoever comes later gets `StoreFailed`. Harmless to repeat."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._pool.shutdown()
        while not self._readers.empty():
            self._readers.get().close()
        self._writer.close()

    async def _write(self, work: Callable[[Transaction], Any], size: int) -> Any:
        if self._closed:
            raise StoreFailed("the store is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._writer.put(Unit(work, size, future))
        return await future

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StoreFailed("the store is closed")
        return await self._loop.run_in_executor(self._pool, self._borrow, work)

    def _borrow(self, work: Callable[[sqlite3.Connection], T]) -> T:
        db = self._readers.get()
        try:
            db.execute("begin")  # one snapshot for all that `work` asks
            try:
                return work(db)
            finally:
                db.execute("commit")
        finally:
            self._readers.put(db)


def _folding(session: str, after: int, upto: int) -> Callable[[Transaction], tuple[int, int | None]]:
    return lambda transaction: transaction.fold(session, after, upto)


def _page(db: sqlite3.Connection, session: str, after: int, limit: int) -> Page:
    log = db.execute("select log, head from logs where session = ?", (session,)).fetchone()
    if log is None:
        return Page(oldest=1, head=0, rows=())
    lowest = db.execute("select first from events where log = ? order by seq limit 1", log[:1]).fetchone()
    rows: list[Row] = []
    size = 0
    found = db.execute(
        "select seq, body, first from events where log = ? and seq > ? order by seq limit ?", (log[0], after, limit)
    )
    for seq, body, first in found:
        rows.append(Row(seq, body, first))
        size += len(body)
        if size >= PAGE_BYTES:
            break
    found.close()
    return Page(oldest=lowest[0] if lowest else log[1] + 1, head=log[1], rows=tuple(rows))


def _scan(
    db: sqlite3.Connection, kind: str, owner: str | None, after: str, limit: int, newest: bool
) -> list[tuple[str, bytes]]:
    where, values = ["kind = ?"], [kind]
    if owner is not None:
        where.append("owner = ?")
        values.append(owner)
    if after:
        where.append("id < ?" if newest else "id > ?")
        values.append(after)
    sql = f"select id, doc from docs where {' and '.join(where)} order by id {'desc' if newest else 'asc'} limit ?"  # noqa: S608
    found: Sequence[tuple[str, bytes]] = db.execute(sql, (*values, limit)).fetchall()
    return list(found)
