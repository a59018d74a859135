"""Which size a shell had where in its output. A terminal that is given the output again has to have the size of then:
programs rely on what a change of size does to it, such as undoing the margins of its scrolling. Standard library only:
the holders use it too."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from pilothouse.core.shell import Size

SIZES_MAX = 200
"""Remembered of one shell; of older ones the output is shown in the oldest that is known."""


class Sizes:
    __slots__ = ("_known", "latest", "since")

    def __init__(self, size: Size, known: Iterable[tuple[int, Size]] = ()) -> None:
        """`size`: of the first byte on, if nothing is `known`, which is ascending."""
        self._known = list(known)[-SIZES_MAX:] or [(0, size)]
        self.since, self.latest = self._known[-1]

    def note(self, offset: int, size: Size) -> None:
        """From there on, which is not before what is known."""
        known = self._known
        if known[-1][0] >= offset:
            known.pop()
        if not known or known[-1][1] != size:
            known.append((offset, size))
        del known[:-SIZES_MAX]
        self.since, self.latest = known[-1]

    def at(self, offset: int) -> tuple[Size, int | None]:
        """The size there, and where the next one begins."""
        if offset >= self.since:  # as a rule
            return self.latest, None
        after = bisect_right(self._known, offset, key=lambda one: one[0])
        return self._known[max(0, after - 1)][1], self._known[after][0] if after < len(self._known) else None

    def forget(self, before: int) -> None:
        """Those that only concern what is not kept any more."""
        del self._known[: max(0, bisect_right(self._known, before, key=lambda one: one[0]) - 1)]

    def all(self) -> list[tuple[int, Size]]:
        return list(self._known)
