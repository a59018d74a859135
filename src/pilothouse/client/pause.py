"""How long to wait before a connection is tried again: longer each time, and by chance within that, so that the many
who lost one server do not come back in one instant."""

from __future__ import annotations

import random

FIRST_S = 0.2


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
