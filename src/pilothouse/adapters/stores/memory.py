"""The store that forgets: the same answers as the SQLite one, kept in dictionaries. For tests and trials."""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from pilothouse.adapters.stores.check import check
from pilothouse.core.events import seal
from pilothouse.core.fold import fold
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Append, Commit, Delete, Mark, Op, Page, Purge, Put, Row, StoreFailed


@dataclass(slots=True)
class _Log:
    head: int = 0
    rows: list[Row] = field(default_factory=list)


class MemoryStore:
    """`failing` set to a reason makes every write raise `StoreFailed` with it, as a full disk would; reads go on."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(8)
        self.failing = ""
        self._logs: dict[str, _Log] = {}
        self._docs: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._marks: dict[str, int] = {}
        self._closed = False

    async def commit(self, *ops: Op) -> Commit:
        check(ops)
        self._writable()
        if any(self._marks.get(op.source, 0) >= op.n for op in ops if isinstance(op, Mark)):
            return Commit((), repeated=True)
        return Commit(tuple(self._apply(ops)))

    async def read(self, session: SessionId, after: int, limit: int) -> Page:
        self._open()
        log = self._logs.get(session)
        if log is None:
            return Page(oldest=1, head=0, rows=())
        start = bisect_right(log.rows, after, key=_seq)
        oldest = log.rows[0].first if log.rows else log.head + 1
        return Page(oldest, log.head, tuple(log.rows[start : start + limit]))

    async def get(self, kind: str, id: str) -> bytes | None:
        self._open()
        found = self._docs.get((kind, id))
        return None if found is None else found[1]

    async def scan(
        self, kind: str, *, owner: str | None = None, after: str = "", limit: int = 1000, newest: bool = False
    ) -> list[tuple[str, bytes]]:
        self._open()
        found = [
            (key[1], doc)
            for key, (whose, doc) in self._docs.items()
            if key[0] == kind
            and (owner is None or whose == owner)
            and (not after or (key[1] < after if newest else key[1] > after))
        ]
        return sorted(found, reverse=newest)[:limit]

    async def marked(self, source: str) -> int:
        self._open()
        return self._marks.get(source, 0)

    async def trim(self, session: SessionId, before: int) -> int:
        self._writable()
        log = self._logs.get(session)
        if log is None:
            return 0
        kept = [row for row in log.rows if row.seq >= before]
        gone = len(log.rows) - len(kept)
        log.rows = kept
        return gone

    async def fold(self, session: SessionId, upto: int) -> int:
        self._writable()
        log = self._logs.get(session)
        if log is None:
            return 0
        old = {row.seq: row for row in log.rows}
        folded = fold((row.first, row.seq, row.body) for row in log.rows if row.seq <= upto)
        rows = [Row(row.seq, row.body or old[row.seq].body, row.first) for row in folded]
        rows += [row for row in log.rows if row.seq > upto]
        gone = len(log.rows) - len(rows)
        log.rows = rows
        return gone

    async def close(self) -> None:
        self._closed = True

    def _apply(self, ops: Sequence[Op]) -> list[Row]:
        rows: list[Row] = []
        for op in ops:
            match op:
                case Append(session, body):
                    log = self._logs.setdefault(session, _Log())
                    log.head += 1
                    row = Row(log.head, seal(body, log.head), log.head)
                    log.rows.append(row)
                    rows.append(row)
                case Put(kind, id, doc, owner):
                    self._docs[kind, id] = (owner, doc)
                case Delete(kind, id):
                    self._docs.pop((kind, id), None)
                case Mark(source, n):
                    self._marks[source] = n
                case Purge(session):
                    self._logs.pop(session, None)
                    for key in [key for key, (owner, _) in self._docs.items() if owner == session]:
                        del self._docs[key]
        return rows

    def _open(self) -> None:
        if self._closed:
            raise StoreFailed("the store is closed")

    def _writable(self) -> None:
        self._open()
        if self.failing:
            raise StoreFailed(self.failing)


def _seq(row: Row) -> int:
    return row.seq
