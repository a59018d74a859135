"""One event to many connections. There is no queue per subscriber and no task per message.

A *feed* is what one channel (or one wildcard) gives: a tail of numbered rests of frames (`core.run`), and subscribers
in groups of `SLICE`. A group has a cursor. Whatever is pushed makes the groups of the feed due; the stepper takes them
in turn, writes each one up to the feed's head, and lets the event loop look around after `SLICE` deliveries. What is
pushed meanwhile joins the writes of the groups that are still due: nothing waits when there is time, and more is
written together when there is not.

A subscriber that does not read leaves its group and keeps a cursor of its own. When it reads again it is
given what it has missed: from the tail, of which up to `TAIL_MAX` bytes are kept while somebody is behind, else from
the feed's `Past`, if it has one. One whose cursor has fallen out of both, or that reads nothing for `SLOW_S`, is sent
away with 1001 and comes back: a silent hole is worse. So a subscriber costs what its socket buffers, and a feed
its tail, however many are slow.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pilothouse.core.run import Run
from pilothouse.engine.ports import StoreFailed

SLICE = 8
"""Deliveries in one pass of the event loop, after which others have their turn. A publisher among them: the fewer it
waits for, the more groups have what it published in the same write as what came before. Of 8, 16 and 32 the fewest took
the least: 2.2, 2.3 and 2.8 us for a delivery to a hundred, 1.17, 1.22 and 1.27 to a thousand (`bench/fanout.py`)."""
TAIL_MAX = 2 * 1024 * 1024
"""Bytes of a feed's tail that are kept for those behind: a hundred busy feeds may have them at one time."""
AHEAD_MAX = 2 * 1024 * 1024
"""Bytes pushed and not yet written to all: above it publishers wait (`Feed.room`)."""
SLOW_S = 30.0
"""How long a subscriber may leave its socket full. Below the minute in which its client looks for a sign of life."""
AWAY = 1001
"""Every client comes back after it."""
CATCH_UP = 500
"""Rows that somebody behind is given at once,"""
CATCH_UP_BYTES = 1024 * 1024
"""and bytes, one event more than that: so much one who reads slowly costs beside what its socket buffers."""


class Sink(Protocol):
    """A connection."""

    def send_run(self, prefix: bytes, run: Run) -> bool:
        """False: it has not read what was written before, and nothing was added."""
        ...

    async def writable(self) -> bool:
        """Waits until it takes more. False: it has gone."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Lost:
    """What had these numbers is not kept."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some of what was published after a cursor."""

    rows: Sequence[tuple[int, bytes]]
    upto: int
    """Everything up to here has been looked at."""
    lost: Lost | None = None


class Past(Protocol):
    """What a feed no longer has in its tail."""

    async def after(self, cursor: int, upto: int) -> Stretch:
        """It gets further than the cursor, and not beyond `upto`. Raises StoreFailed."""
        ...


class Subscriber:
    __slots__ = ("group", "late", "open", "prefix", "sink", "write")

    def __init__(self, sink: Sink, prefix: bytes) -> None:
        self.sink = sink
        self.prefix = prefix
        self.open = False
        """Set by the sink, if it likes: `write` does as well as `send_run`, and is one call less."""
        self.write: Callable[[bytes], object]
        self.group: Group | None = None
        self.late: asyncio.Task[None] | None = None
        """While it is behind."""

    def missed(self, lost: Lost) -> None:
        """It will not get these."""


class Group:
    __slots__ = ("cursor", "due", "members")

    def __init__(self, cursor: int) -> None:
        self.cursor = cursor
        self.due = False
        self.members: dict[Subscriber, None] = {}


class Fanout:
    """The stepper: one for all feeds."""

    def __init__(self) -> None:
        self._due: deque[tuple[Feed, Group]] = deque()
        self._stepping = False
        self.delivered = 0
        """Events written, to all subscribers together."""
        self.slow = 0
        """Subscribers that were sent away."""

    def due(self, feed: Feed, group: Group) -> None:
        self._due.append((feed, group))
        if not self._stepping:
            self._stepping = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        room = SLICE
        while self._due and room > 0:
            feed, group = self._due.popleft()
            room -= len(group.members) + 1
            feed.write(group)
        if self._due:
            asyncio.get_running_loop().call_soon(self._step)
        else:
            self._stepping = False


class Feed:
    """Numbers only grow; they may have holes (a job's events in its session's log)."""

    def __init__(self, fanout: Fanout, head: int = 0, past: Past | None = None) -> None:
        self.head = head
        self._fanout = fanout
        self._past = past
        self._floor = head
        """What has a higher number is in the tail."""
        self._numbers: list[int] = []
        self._rests: list[bytes] = []
        self._size = 0
        self._groups: list[Group] = []
        self._behind: dict[Subscriber, int] = {}
        self._run: tuple[int, int, Run] | None = None
        self._due = 0
        self._room = asyncio.Event()

    def __len__(self) -> int:
        return sum(len(group.members) for group in self._groups) + len(self._behind)

    def __bool__(self) -> bool:
        """Whether anybody is there: asked whenever one goes, of those who may be thousands."""
        return bool(self._behind) or any(group.members for group in self._groups)

    # --- publishers ---

    def push(self, rests: Sequence[tuple[int, bytes]]) -> None:
        """What is published now, by number."""
        if not rests:
            return
        for number, rest in rests:
            self._numbers.append(number)
            self._rests.append(rest)
            self._size += len(rest)
        self.head = rests[-1][0]
        for group in self._groups:
            if not group.due:
                group.due = True
                self._due += 1
                self._fanout.due(self, group)
        if not self._due:
            self._trim()

    @property
    def crowded(self) -> bool:
        return self._size > AHEAD_MAX and self._due > 0

    async def room(self) -> None:
        """Waits while too much is not written yet."""
        while self.crowded:
            self._room.clear()
            await self._room.wait()

    # --- subscribers ---

    def join(self, who: Subscriber, after: int | None = None) -> None:
        """From now on, or from a cursor on."""
        if after is not None and after < self.head:
            self._fall_behind(who, after)
            return
        group = self._groups[-1] if self._groups else None
        if group is None or group.cursor != self.head or len(group.members) >= SLICE:
            self._groups.append(group := Group(self.head))
        group.members[who] = None
        who.group = group

    def leave(self, who: Subscriber) -> None:
        """Nothing is written to it any more."""
        if who.group is not None:
            who.group.members.pop(who, None)
            if not who.group.members and not who.group.due:
                self._groups.remove(who.group)
            who.group = None
        self._behind.pop(who, None)
        if who.late is not None:
            late, who.late = who.late, None
            late.cancel()

    def close(self) -> None:
        """The feed ends: nobody is left waiting."""
        for who in list(self._behind):
            self.leave(who)
        self._room.set()

    # --- writing ---

    def write(self, group: Group) -> None:
        """One group, up to the head."""
        start, group.cursor, group.due = group.cursor, self.head, False
        self._due -= 1
        if group.members and start < self.head:
            run = self._run_from(start)
            for who in self._write(group, run):
                del group.members[who]
                who.group = None
                self._fall_behind(who, start)
            self._fanout.delivered += len(group.members) * len(run.rests)
        if not group.members:
            self._groups.remove(group)
        if not self._due:
            self._settle()

    def _write(self, group: Group, run: Run) -> list[Subscriber]:
        """Those that take nothing now. The busiest lines of the server, without a call that can be spared."""
        stuck: list[Subscriber] = []
        segments, ahead = run.segments, run.ahead
        for who in group.members:
            prefix = who.prefix
            if who.open:
                if len(prefix) != ahead:
                    segments, ahead = run.cut(len(prefix)), len(prefix)
                write = who.write  # called as `who.write(…)` it would be looked up as a method, which takes longer
                write(prefix.join(segments))
            elif not who.sink.send_run(prefix, run):
                stuck.append(who)
        return stuck

    def _run_from(self, cursor: int) -> Run:
        known = self._run
        if known is None or known[:2] != (cursor, self.head):
            known = (cursor, self.head, Run(self._rests[bisect_right(self._numbers, cursor) :]))
            self._run = known
        return known[2]

    def _settle(self) -> None:
        """All groups are at the head."""
        self._run = None
        if len(self._groups) > 2 * (sum(len(group.members) for group in self._groups) // SLICE + 1):
            everybody = [who for group in self._groups for who in group.members]
            self._groups = []
            for who in everybody:
                self.join(who)
        self._trim()
        self._room.set()

    def _trim(self) -> None:
        low = min(self._behind.values(), default=self.head)
        drop = bisect_right(self._numbers, low)
        size = self._size - sum(map(len, self._rests[:drop]))
        while size > TAIL_MAX:  # then they read the past, or have none
            size -= len(self._rests[drop])
            drop += 1
        if drop:
            self._floor = self._numbers[drop - 1]
            del self._numbers[:drop], self._rests[:drop]
            self._size = size

    # --- those behind ---

    def _fall_behind(self, who: Subscriber, cursor: int) -> None:
        self._behind[who] = cursor
        who.late = asyncio.get_running_loop().create_task(self._catch_up(who), name="catch up")

    async def _catch_up(self, who: Subscriber) -> None:
        try:
            while True:
                async with asyncio.timeout(SLOW_S):
                    if not await who.sink.writable():
                        return
                if self._behind[who] >= self.head:
                    del self._behind[who]
                    who.late = None
                    self.join(who)
                    return
                await self._more(who)
                await asyncio.sleep(0)
        except (TimeoutError, _Gone, StoreFailed):
            self._fanout.slow += 1
            who.sink.close(AWAY, "too slow; come back")
        finally:
            self._behind.pop(who, None)

    async def _more(self, who: Subscriber) -> None:
        """Writes some of what it has missed. Raises _Gone, StoreFailed."""
        rows: Sequence[tuple[int, bytes]]
        cursor = self._behind[who]
        if cursor >= self._floor:
            start = bisect_right(self._numbers, cursor)
            numbers = self._numbers[start : start + CATCH_UP]
            rows = list(zip(numbers, self._rests[start : start + CATCH_UP], strict=True))
            upto = numbers[-1] if numbers else self.head
        elif self._past is None:
            raise _Gone
        else:
            found = await self._past.after(cursor, self.head)
            if found.lost is not None:
                who.missed(found.lost)
                self._behind[who] = found.lost.end
            rows, upto = found.rows, found.upto
        some = _at_once(rows)
        if len(some) < len(rows):
            upto = some[-1][0]
        if not some or who.sink.send_run(who.prefix, Run([rest for _, rest in some])):
            self._behind[who] = upto
            self._fanout.delivered += len(some)


def _at_once(rows: Sequence[tuple[int, bytes]]) -> Sequence[tuple[int, bytes]]:
    size = 0
    for count, (_, rest) in enumerate(rows):
        if size >= CATCH_UP_BYTES:
            return rows[:count]
        size += len(rest)
    return rows


class _Gone(Exception):
    """What somebody behind has missed is not kept."""
