"""The log: append first, then wake; every viewer is a cursor.

Replay and live are one loop. Each turn of it takes the session's latch BEFORE it reads: a row that is committed after
the read wakes the latch that is already held, so no wake-up can fall between reading and waiting. There is no queue
per viewer: one that is slow simply comes back later with an older cursor, and is told with a `Gap` when what it has
not seen is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import WeakValueDictionary

import msgspec

from pilothouse.core import events as ev
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Append, Clock, EventStore, Mark, Op, Page, Purge, Row, StoreFailed
from pilothouse.engine.tail import TailLimits, Tails

BATCH = 500
"""Rows that a follower is handed at once."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The rows `start` to `end` are gone: retention was faster than this reader. On the wire `from` and `to`."""

    start: int
    end: int


class _Latch(asyncio.Event):
    """Set once, when the session has grown or ended; the next turn takes a new one."""

    ended = False


class Log:
    def __init__(self, store: EventStore, clock: Clock, limits: TailLimits | None = None) -> None:
        self._store = store
        self._clock = clock
        self._tails = Tails(limits or TailLimits())
        self._latches: WeakValueDictionary[SessionId, _Latch] = WeakValueDictionary()
        # A latch lives as long as a follower holds it; a quiet session keeps none.
        self.failing = ""
        """Why the store did not take the last append; empty when it did."""
        self._settling: set[asyncio.Task[None]] = set()
        self.on_rows: list[Callable[[SessionId, Sequence[Row]], None]] = []
        """Called after each commit, at once."""

    @property
    def epoch(self) -> str:
        return self._store.epoch

    async def append(
        self, session: SessionId, events: Sequence[ev.Event], *ops: Op, mark: Mark | None = None
    ) -> list[Row]:
        """Commit the events, and `ops` with them, then wake the followers. Raises `StoreFailed`: nothing was kept.
        An empty answer to some events means that `mark` had been taken before. If the caller is cancelled the commit
        may still happen; followers then see it all the same."""
        at = timestamp(self._clock.now())
        appends = [Append(session, ev.encode(_stamp(event, session, at))) for event in events]
        every: list[Op] = [*appends, *ops] if mark is None else [mark, *appends, *ops]
        try:
            commit = await self._store.commit(*every)
        except asyncio.CancelledError:
            self._settle_later(every)
            raise
        except StoreFailed as error:
            self.failing = str(error) or "the store cannot write"
            raise
        self.failing = ""
        self._publish(every, commit.rows)
        return list(commit.rows[: len(appends)])

    async def follow(self, session: SessionId, after: int = 0) -> AsyncGenerator[Row | Gap, None]:
        """Every row with `seq` > `after`, then live, for ever. Ends when the session is purged, and at once for a
        cursor that this log has never given (the caller compares epochs first)."""
        async with aclosing(self.follow_batches(session, after)) as batches:
            async for batch in batches:
                if isinstance(batch, Gap):
                    yield batch
                    continue
                for row in batch:
                    yield row

    async def follow_batches(
        self, session: SessionId, after: int = 0, limit: int = BATCH
    ) -> AsyncGenerator[list[Row] | Gap, None]:
        """As `follow`, in lists of all that is there (never empty), for a door that joins them in one write."""
        after = max(after, 0)
        while True:
            latch = self._latch(session)  # before the read, or a wake-up is lost
            rows = self._tails.after(session, after, limit)
            if rows is None:
                page = await self._store.read(session, after, limit)
                if page.head < after:
                    return  # purged since, or a cursor of some other log
                rows = list(page.rows)
                if after + 1 < page.oldest:
                    yield Gap(after + 1, page.oldest - 1)  # said, never hidden
                    after = page.oldest - 1
            if rows:
                after = rows[-1].seq
                yield rows
                continue
            await latch.wait()
            if latch.ended:
                return

    async def page(self, session: SessionId, after: int, limit: int) -> Page:
        """A page of the log as the store has it. Fewer rows than `limit` do not mean the end; `head` tells."""
        return await self._store.read(session, after, limit)

    async def head(self, session: SessionId) -> int:
        return (await self._store.read(session, 0, 0)).head

    async def oldest(self, session: SessionId) -> int:
        return (await self._store.read(session, 0, 0)).oldest

    def _latch(self, session: SessionId) -> _Latch:
        latch = self._latches.get(session)
        if latch is None:
            latch = self._latches[session] = _Latch()
        return latch

    def _publish(self, ops: Iterable[Op], rows: Sequence[Row]) -> None:
        """After the commit, never before. `rows` answer the appends in `ops` in their order."""
        grown: dict[SessionId, list[Row]] = {}
        row = iter(rows)
        for op in ops:
            match op:
                case Append(session) if rows:
                    grown.setdefault(session, []).append(next(row))
                case Purge(session):
                    grown.pop(session, None)
                    self._end(session)
        for session, new in grown.items():
            self._tails.push(session, new)
            self._wake(session)
            for told in self.on_rows:
                told(session, new)

    def _wake(self, session: SessionId) -> None:
        latch = self._latches.pop(session, None)
        if latch is not None:
            latch.set()

    def _end(self, session: SessionId) -> None:
        self._tails.drop(session)
        latch = self._latches.get(session)
        if latch is not None:
            latch.ended = True
        self._wake(session)

    def _settle_later(self, ops: Sequence[Op]) -> None:
        """The caller left before its commit was answered. Commits are done in order, so an empty one marks the time
        when that one has happened or failed; then its followers look for themselves."""
        task = asyncio.ensure_future(self._settle(ops))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, ops: Sequence[Op]) -> None:
        with suppress(StoreFailed):  # followers look in any case
            await self._store.commit()
        for op in ops:
            if isinstance(op, Append | Purge):
                self._tails.drop(op.session)
                self._wake(op.session)


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(event: ev.Event, session: SessionId, at: str) -> ev.Event:
    if event.session_id == session and event.at and not event.seq:
        return event
    if event.session_id not in ("", session):
        raise ValueError(f"event of session {event.session_id} for the log of {session}")
    return msgspec.structs.replace(event, session_id=session, at=event.at or at, seq=0)
