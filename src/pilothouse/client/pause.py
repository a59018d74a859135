"""How long to wait before a connection is tried again: longer each time, and by chance within that, so that the many
who lost one server do not come back in one instant."""

from __future__ import annotations

import math
import random

FIRST_S = 0.2
HELD_S = 5.0
"""A connection that was answered and then held for so long was a whole one. One that breaks sooner is part of the same
trouble, or a server that dies of the request would be asked for ever."""


class Pause:
    def __init__(self, longest_s: float, first_s: float = FIRST_S) -> None:
        self._first = self._span = first_s
        self._longest = longest_s

    def reset(self) -> None:
        """It is connected again."""
        self._span = self._first

    def next_s(self) -> float:
        """From a quarter of the span to all of it, as in the page (`net/closing.ts`)."""
        span, self._span = self._span, min(self._span * 2, self._longest)
        return random.uniform(span / 4, span)  # noqa: S311 - nobody gains by guessing it


class Patience:
    """How long one request is tried again, and when next: `span_s` from when its connection was lost, however long the
    request had taken until then. Of a connection that was whole again in between, the loss is another one."""

    def __init__(self, span_s: float) -> None:
        self._span = span_s
        self._end = math.inf
        self._pause = Pause(2.0, 0.1)

    def lost(self, now: float, answered: float | None) -> float | None:
        """Seconds to wait before the next try; None: enough. `answered`: since when this connection had an answer."""
        if self._end == math.inf or (answered is not None and now - answered >= HELD_S):
            self._end = now + self._span
            self._pause.reset()
        wait = self._pause.next_s()
        return wait if now + wait <= self._end else None
