"""What one transaction of the writer can do to the SQLite file. Rows are gathered and written in one go at the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse.core.events import seal
from pilothouse.core.fold import fold
from pilothouse.engine.ports import Append, Commit, Delete, Mark, Op, Purge, Put, Row

CHUNK = 1000
"""Rows that retention and folding touch in one transaction, so that appends never wait long behind them."""


@dataclass(slots=True)
class _Log:
    log: int
    head: int
    written: int


class Transaction:
    """Lives from `begin` to `commit` and knows the heads that it has moved; thrown away with a rollback."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._logs: dict[str, _Log] = {}
        self._rows: list[tuple[int, int, int, bytes]] = []

    def apply(self, ops: Sequence[Op]) -> Commit:
        marks = [op for op in ops if isinstance(op, Mark)]
        if any(self.marked(mark.source) >= mark.n for mark in marks):
            return Commit((), repeated=True)
        rows: list[Row] = []
        for op in ops:
            match op:
                case Append(session, body):
                    rows.append(self._append(session, body))
                case Put(kind, id, doc, owner):
                    self._db.execute(
                        "insert into docs(kind, id, owner, doc) values (?, ?, ?, ?)"
                        " on conflict(kind, id) do update set owner = excluded.owner, doc = excluded.doc",
                        (kind, id, owner, doc),
                    )
                case Delete(kind, id):
                    self._db.execute("delete from docs where kind = ? and id = ?", (kind, id))
                case Mark(source, n):
                    self._db.execute("insert or replace into marks(source, n) values (?, ?)", (source, n))
                case Purge(session):
                    self._purge(session)
        return Commit(tuple(rows))

    def marked(self, source: str) -> int:
        row = self._db.execute("select n from marks where source = ?", (source,)).fetchone()
        return int(row[0]) if row else 0

    def trim(self, session: str, before: int) -> tuple[int, bool]:
        """Drop a chunk of the rows below `before`. How many went, and whether more are left."""
        log = self._find(session)
        if log is None:
            return 0, False
        self.flush()
        rows = self._db.execute(
            "select seq from events where log = ? and seq < ? order by seq limit ?", (log.log, before, CHUNK)
        ).fetchall()
        if rows:
            self._db.execute("delete from events where log = ? and seq <= ?", (log.log, rows[-1][0]))
        return len(rows), len(rows) == CHUNK

    def fold(self, session: str, after: int, upto: int) -> tuple[int, int | None]:
        """Fold a chunk of the rows in (`after`, `upto`]. How many went, and where to go on (None at the end): one row
        back, since the next chunk may go on with the last run of this one."""
        log = self._find(session)
        if log is None:
            return 0, None
        self.flush()
        rows = self._db.execute(
            "select first, seq, body from events where log = ? and seq > ? and seq <= ? order by seq limit ?",
            (log.log, after, upto, CHUNK),
        ).fetchall()
        kept = list(fold(rows))
        self._db.executemany(
            "delete from events where log = ? and seq >= ? and seq < ?",
            [(log.log, row.first, row.seq) for row in kept if row.body is not None],
        )
        self._db.executemany(
            "update events set first = ?, body = ? where log = ? and seq = ?",
            [(row.first, row.body, log.log, row.seq) for row in kept if row.body is not None],
        )
        return len(rows) - len(kept), kept[-1].first - 1 if len(rows) == CHUNK else None

    def flush(self) -> None:
        """Write what was gathered. The last step before the commit, or before reading one's own rows."""
        if self._rows:
            self._db.executemany("insert into events(log, seq, first, body) values (?, ?, ?, ?)", self._rows)
            self._rows.clear()
        moved = [(log.head, log.log) for log in self._logs.values() if log.head != log.written]
        if moved:
            self._db.executemany("update logs set head = ? where log = ?", moved)
            for log in self._logs.values():
                log.written = log.head

    def _append(self, session: str, body: bytes) -> Row:
        log = self._find(session)
        if log is None:
            made = self._db.execute("insert into logs(session, head) values (?, 0)", (session,)).lastrowid
            log = self._logs[session] = _Log(int(made or 0), 0, 0)
        log.head += 1
        sealed = seal(body, log.head)
        self._rows.append((log.log, log.head, log.head, sealed))
        return Row(log.head, sealed, log.head)

    def _find(self, session: str) -> _Log | None:
        log = self._logs.get(session)
        if log is None:
            row = self._db.execute("select log, head from logs where session = ?", (session,)).fetchone()
            if row is None:
                return None
            log = self._logs[session] = _Log(row[0], row[1], row[1])
        return log

    def _purge(self, session: str) -> None:
        log = self._find(session)
        if log is not None:
            self.flush()
            self._db.execute("delete from events where log = ?", (log.log,))
            self._db.execute("delete from logs where log = ?", (log.log,))
            del self._logs[session]
        self._db.execute("delete from docs where owner = ?", (session,))
