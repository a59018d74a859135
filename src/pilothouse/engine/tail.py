"""The hot tail: the newest rows of the busiest sessions in memory, for viewers that are nearly current."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Row


@dataclass(frozen=True, slots=True)
class TailLimits:
    """Together at most `sessions * size` bytes: 32 MiB by default."""

    rows: int = 512
    """Per session: a viewer further behind than this reads pages from the store anyway."""
    size: int = 512 * 1024
    """Bytes per session."""
    sessions: int = 64
    """The least recently written one goes when another session is written."""


class Tail:
    """Rows of one session without a hole. `seq` of `rows[0]` is `last - len(rows) + 1`."""

    __slots__ = ("last", "rows", "size")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.last = 0
        self.size = 0

    def push(self, row: Row, limits: TailLimits) -> None:
        if row.seq <= self.last:
            return  # its writer woke up after a later one's; the store serves it
        if row.seq != self.last + 1:
            self.rows.clear()
            self.size = 0
        self.rows.append(row)
        self.last = row.seq
        self.size += len(row.body)
        if len(self.rows) > limits.rows or self.size > limits.size:
            self._shrink(limits)

    def after(self, cursor: int, limit: int) -> list[Row] | None:
        """Rows after the cursor, or None when the first of them is not here."""
        start = cursor + 1 - (self.last - len(self.rows) + 1)
        if start < 0:
            return None
        return self.rows[start : start + limit]

    def _shrink(self, limits: TailLimits) -> None:
        """Down to three quarters, so that the list is moved once per quarter and not for every row."""
        drop = 0
        while drop < len(self.rows) and (
            len(self.rows) - drop > limits.rows * 3 // 4 or self.size > limits.size * 3 // 4
        ):
            self.size -= len(self.rows[drop].body)
            drop += 1
        del self.rows[:drop]


class Tails:
    def __init__(self, limits: TailLimits) -> None:
        self._limits = limits
        self._tails: OrderedDict[SessionId, Tail] = OrderedDict()

    def push(self, session: SessionId, rows: Sequence[Row]) -> None:
        tail = self._tails.get(session)
        if tail is None:
            tail = self._tails[session] = Tail()
            if len(self._tails) > self._limits.sessions:
                self._tails.popitem(last=False)
        else:
            self._tails.move_to_end(session)
        for row in rows:
            tail.push(row, self._limits)

    def after(self, session: SessionId, cursor: int, limit: int) -> list[Row] | None:
        tail = self._tails.get(session)
        return None if tail is None else tail.after(cursor, limit)

    def drop(self, session: SessionId) -> None:
        self._tails.pop(session, None)

    def __len__(self) -> int:
        return len(self._tails)
