"""Whose output goes next. A quiet terminal is served at once; one that floods waits for its turn among those that do,
so that a keystroke's echo in one is not behind the output of fifty others.

Reading whatever is there as soon as it is there is what makes an echo late: with fifty floods it took 100 ms. The turns
are short, and while somebody types there is a rest between them, in which the processor belongs to whoever typed. The
output of the very shell that was typed in is what was asked for: alone it rests for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pilothouse.core.frames import CHUNK

HOT = 32 * 1024
"""Bytes at once after which a terminal waits for its turn: more than a full screen redrawn."""
COOL = 128 * 1024
"""Bytes a second that are forgiven: more than anybody reads, less than any flood gets even among a hundred."""
SLICE = CHUNK
"""What one terminal sends in its turn: a frame, about one round of reading a PTY."""
BUDGET_S = 0.0005
"""One pass over those who wait; then the loop looks at everything else."""
TYPING_S = 0.5
"""A key was pressed less than this ago: somebody types."""
TYPING_SLICE = 8 * 1024
TYPING_TURNS = 3
"""In one pass: what they send is read anew elsewhere, which costs more than the sending that we see."""
REST_S = 0.001
"""Between two passes while somebody types. Floods then still get some 20 MB/s, more than any screen shows."""


class Turn(Protocol):
    def turn(self, limit: int) -> bool:
        """Send about `limit` bytes to each viewer; whether there is more."""
        ...


class Turns:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.clock: Callable[[], float] = self._loop.time
        self._queue: deque[Turn] = deque()
        self._queued: set[Turn] = set()
        self._planned = False
        self._typed_in: Turn | None = None
        self._typed_at = self._elsewhere_at = -TYPING_S
        """When a key was last pressed there, and when in any other."""

    @property
    def now(self) -> float:
        return self.clock()

    def typed(self, terminal: Turn, now: float) -> None:
        """Somebody pressed a key there, now."""
        if terminal is not self._typed_in:
            self._typed_in, self._elsewhere_at = terminal, self._typed_at
        self._typed_at = now

    def add(self, terminal: Turn) -> None:
        """It has something to send. Harmless to repeat."""
        if terminal in self._queued:
            return
        self._queued.add(terminal)
        self._queue.append(terminal)
        if not self._planned:
            self._plan(resting=False)

    def _disturbs(self, terminal: Turn, now: float) -> bool:
        """Whether somebody types in another one."""
        typed_at = self._elsewhere_at if terminal is self._typed_in else self._typed_at
        return now - typed_at < TYPING_S

    def _plan(self, *, resting: bool) -> None:
        self._planned = True
        if resting:
            self._loop.call_later(REST_S, self._pass)
        else:
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        now = self._loop.time()
        typing = any(self._disturbs(terminal, now) for terminal in self._queue)
        end = now + BUDGET_S
        limit, turns = (TYPING_SLICE, TYPING_TURNS) if typing else (SLICE, len(self._queue))
        self._planned = False
        while self._queue and turns:
            turns -= 1
            terminal = self._queue.popleft()
            self._queued.discard(terminal)
            if terminal.turn(limit):
                self._queued.add(terminal)
                self._queue.append(terminal)
            if self._loop.time() >= end:
                break
        if self._queue and not self._planned:
            self._plan(resting=typing)
