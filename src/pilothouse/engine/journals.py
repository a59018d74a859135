"""The history of one channel: a log of its own in the store, as sessions have theirs. Append first, then push.

Commits of several publishers may be answered in another order than they were made; what is pushed goes by number,
without a hole. A publisher that leaves in the middle changes nothing: its events are committed and pushed, or neither.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

from pilothouse.core import publish
from pilothouse.core.channels import Channel
from pilothouse.core.ids import SessionId
from pilothouse.core.namespaces import Namespace
from pilothouse.engine.fanout import CATCH_UP, Lost, Stretch
from pilothouse.engine.live import whole
from pilothouse.engine.log import timestamp
from pilothouse.engine.ports import Append, Clock, EventStore, Op, Page, Row, StoreFailed

SPARE = 64
"""Rows beyond the history that are kept until it is trimmed: not at every event."""
TRIM_S = 60.0
"""How often age is looked at."""
Push = Callable[[Sequence[tuple[int, bytes]]], None]


def log_id(organisation: str, channel: Channel) -> SessionId:
    """No session's: theirs are UUIDs."""
    return SessionId(f"channel:{organisation}:{channel.path}")


class Journal:
    def __init__(
        self, store: EventStore, clock: Clock, organisation: str, channel: Channel, namespace: Namespace, push: Push
    ) -> None:
        self.channel = channel
        self.organisation = organisation
        self.head = 0
        """What has been pushed."""
        self.users = 0
        """Who is in the middle of something with it."""
        self._oldest = 1
        self._store = store
        self._clock = clock
        self._namespace = namespace
        self._push = push
        self._log = log_id(organisation, channel)
        self._early: dict[int, bytes] = {}
        self._sizes: deque[int] = deque()
        """Of what is kept, where that is bounded."""
        self._bytes = 0
        self._trimmed_at = 0.0
        self._opening = asyncio.Lock()
        self._opened = False

    async def open(self) -> None:
        """Once, before anything else. Raises StoreFailed."""
        if not self._opened:
            async with self._opening:
                await self._open()

    async def _open(self) -> None:
        if self._opened:
            return
        page = await self._store.read(self._log, 0, 0)
        self.head, self._oldest = page.head, page.oldest
        if self._namespace.history_bytes:
            await self._weigh()
        self._opened = True

    async def append(self, bodies: Sequence[bytes], *ops: Op) -> None:
        """Raises StoreFailed: nothing was kept."""
        await self._append(bodies, *ops)
        with contextlib.suppress(StoreFailed):  # it is published: nobody may be told that it is not
            await self._trim()

    @whole
    async def _append(self, bodies: Sequence[bytes], *ops: Op) -> None:
        self.users += 1
        try:
            done = await self._store.commit(*[Append(self._log, body) for body in bodies], *ops)
            self._arrived(done.rows)
        finally:
            self.users -= 1

    def _arrived(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._early[row.seq] = publish.rest_of_row(row.body)
        ready: list[tuple[int, bytes]] = []
        while (rest := self._early.pop(self.head + 1, None)) is not None:
            self.head += 1
            ready.append((self.head, rest))
            if self._namespace.history_bytes:
                self._weighed(len(rest))
        self._push(ready)

    # --- reading ---

    async def after(self, cursor: int, upto: int) -> Stretch:
        """As `fanout.Past`. Raises StoreFailed."""
        page = await self._store.read(self._log, max(cursor, self._wanted() - 1), CATCH_UP)
        oldest, rows = self._young(page)
        lost = Lost(cursor + 1, min(oldest - 1, upto)) if cursor + 1 < oldest else None
        found = [(row.seq, publish.rest_of_row(row.body)) for row in rows if row.seq <= upto]
        last = found[-1][0] if found else min(max(oldest - 1, cursor + len(page.rows)), upto)
        return Stretch(found, max(last, min(cursor + 1, upto)), lost)

    async def page(self, after: int, limit: int) -> Page:
        """Raises StoreFailed."""
        page = await self._store.read(self._log, max(after, self._wanted() - 1), limit)
        oldest, rows = self._young(page)
        return Page(oldest, page.head, tuple(rows))

    async def oldest(self) -> int:
        """The lowest number that a reader gets. Raises StoreFailed."""
        await self._trim()
        return self._wanted()

    def _young(self, page: Page) -> tuple[int, Sequence[Row]]:
        """Without what is too much or too old and not trimmed yet."""
        oldest, limit = max(page.oldest, self._wanted()), self._limit()
        rows = [row for row in page.rows if row.seq >= oldest]
        while limit and rows and _at(rows[0].body) < limit:
            oldest = rows.pop(0).seq + 1
        return oldest, rows

    def _wanted(self) -> int:
        """The first number that number and size of the history leave."""
        by_number = max(self._oldest, self.head - self._namespace.history + 1)
        return max(by_number, self.head - len(self._sizes) + 1) if self._namespace.history_bytes else by_number

    def _limit(self) -> bytes:
        seconds = self._namespace.history_s
        return timestamp(self._clock.now() - seconds).encode() if seconds else b""

    # --- keeping no more than is wanted ---

    async def _trim(self) -> None:
        """Raises StoreFailed."""
        wanted = self._wanted()
        now = self._clock.now()
        if self._namespace.history_s and not 0 <= now - self._trimmed_at < TRIM_S:
            self._trimmed_at = now
            wanted = max(wanted, await self._first_young(wanted))
            await self._cut(wanted)
        elif wanted - self._oldest > SPARE:
            await self._cut(wanted)

    async def _cut(self, before: int) -> None:
        if before > self._oldest:
            await self._store.trim(self._log, before)
            self._oldest = max(self._oldest, before)

    async def _first_young(self, low: int) -> int:
        """The first number that is young enough; one beyond the head when none is."""
        limit, high = self._limit(), self.head + 1
        while low < high:
            middle = (low + high) // 2
            page = await self._store.read(self._log, middle - 1, 1)
            if page.rows and _at(page.rows[0].body) < limit:
                low = page.rows[0].seq + 1
            else:
                high = middle
        return low

    async def _weigh(self) -> None:
        cursor = 0
        while rows := (await self._store.read(self._log, cursor, CATCH_UP)).rows:
            for row in rows:
                self._weighed(len(row.body))
            cursor = rows[-1].seq

    def _weighed(self, size: int) -> None:
        self._sizes.append(size)
        self._bytes += size
        while self._bytes > self._namespace.history_bytes and len(self._sizes) > 1:
            self._bytes -= self._sizes.popleft()


def _at(body: bytes) -> bytes:
    """When it was published, as its row says: `publish.kept` writes it behind the event."""
    start = body.rindex(b'"at":"') + 6
    return body[start : start + 24]
