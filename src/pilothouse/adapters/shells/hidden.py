"""What no shell of one session may show: what one was given another can read, so they hide the same values."""

from __future__ import annotations

from collections.abc import Iterable

from pilothouse.core.redact import Masks

VALUES_MAX = 500
"""Of those that came first the oldest are shown again: each is memory of the holder's."""
QUIET_S = 0.02
"""What may be the beginning of a value waits for so long: an echo that late is not felt, and a program that writes a
value in two pieces has written the second."""
LONG = 6
"""Bytes in common with a value that are hardly chance;"""
PAUSE_S = 0.25
"""those wait for so long: it is likely that the rest comes, and it may come over a network."""


class Hidden:
    def __init__(self) -> None:
        self._values: dict[str, None] = {}
        self.masks: Masks | None = None
        """None: there is nothing to hide."""

    def add(self, values: Iterable[str]) -> bool:
        """Whether they are others now."""
        before = len(self._values)
        for value in values:
            self._values.setdefault(value)
        if len(self._values) == before:
            return False
        while len(self._values) > VALUES_MAX:
            del self._values[next(iter(self._values))]
        self.masks = Masks(self._values) or None
        return self.masks is not None


def wait(begun: int) -> float:
    """How long the last bytes wait, `begun` of which may be the beginning of something."""
    return PAUSE_S if begun >= LONG else QUIET_S
