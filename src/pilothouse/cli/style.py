"""Colours, or none. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.cli import text
from pilothouse.core import events as ev

_CODES = {"dim": 2, "bold": 1, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


@dataclass(frozen=True, slots=True)
class Style:
    color: bool = False

    def __call__(self, words: str, look: str) -> str:
        return f"\x1b[{_CODES[look]}m{words}\x1b[0m" if self.color and words else words

    def diff(self, diffs: list[ev.Diff], *, every: bool = True) -> str:
        """Unified diffs. `every`: for a decision, so that nothing in it is invisible."""
        safe = text.exact if every else text.plain
        out: list[str] = []
        for diff in diffs:
            out.append(self(f"{diff.kind} {text.exact(diff.path)}", "bold"))
            out += [self._changed(row) for row in safe(diff.patch).rstrip("\n").split("\n")]
        return "\n".join(out)

    def _changed(self, row: str) -> str:
        for start, look in (("+++", "dim"), ("---", "dim"), ("@@", "cyan"), ("+", "green"), ("-", "red")):
            if row.startswith(start):
                return self(row, look)
        return row
