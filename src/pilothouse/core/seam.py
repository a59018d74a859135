"""Where in a shell's output a terminal that has seen nothing before may begin: not inside an escape sequence, nor
inside a UTF-8 character.

A terminal's parser is in the ground state after

    ESC (0x20-0x2F)* (0x30-0x7E)                a short sequence
    ESC [ (0x20-0x3F)* (0x40-0x7E)              CSI
    ESC ] ... (BEL | ESC \\)                     OSC
    ESC (P | X | ^ | _) ... ESC \\               DCS, SOS, PM, APC
    CAN or SUB                                  anywhere

with control characters and DEL allowed within. An ESC begins a sequence wherever it stands, so what came before the
last ESC of a piece of output does not matter: it is looked for from behind, and only the little after it is parsed.
What a terminal might take for the inside of a sequence counts as inside. Such a place is a seam; an ESC is one too.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

GRAIN = 4096
"""Seams are remembered at least so far apart: a few hundred numbers for the largest replay."""
_ESC = b"\x1b"
_WITHIN = rb"\x00-\x17\x19\x1c-\x1f\x7f-\xff"
"""Does not end a sequence; of bytes above 0x7F terminals differ, so we wait for a clear end."""
_OPEN = re.compile(
    rb"\x1b["
    + _WITHIN
    + rb"]*(?:(?P<escape>)|(?P<short>[ -/][ -/"
    + _WITHIN
    + rb"]*)|(?P<csi>\[["
    + _WITHIN
    + rb" -?]*)|(?P<osc>\][^\x07\x18\x1a]*)|(?P<string>[PX^_][^\x18\x1a]*))\Z"
)
"""A sequence without its end, from its ESC to the end of what there is."""
_BEGUN = {"escape": b"\x1b", "short": b"\x1b ", "csi": b"\x1b[", "osc": b"\x1b]", "string": b"\x1bP"}
"""The shortest beginning that leaves a parser in the same state."""


class Seams:
    """Feeds on the output in order, remembers where its seams are."""

    __slots__ = ("_begun", "_carry", "_places", "end")

    def __init__(self, at: int = 0, places: Iterable[int] | None = None, *, within: bool = False) -> None:
        """`at`: where the next byte stands, itself a seam unless others are given. `within`: it is known to stand in
        something long; of what is as long as that, BEL ends one kind and stands in no other."""
        self.end = at
        self._places = [at] if places is None else list(places)
        """Ascending."""
        self._begun = _BEGUN["osc"] if within else b""
        """The beginning of a sequence that has not ended."""
        self._carry = b""

    @property
    def latest(self) -> int | None:
        return self._places[-1] if self._places else None

    def feed(self, data: bytes) -> None:
        if not data:
            return
        last = data.rfind(_ESC)
        if last >= 0:
            self.note(self.end + last)
            tail = data[last:]
        else:
            tail = self._begun + data if self._begun else b""
        self.end += len(data)
        found = _OPEN.match(tail) if tail else None
        self._begun = _BEGUN[str(found.lastgroup)] if found else b""
        self._carry = data[-3:] if len(data) >= 3 else (self._carry + data)[-3:]
        if not found:
            self.note(self.end - _unfinished(self._carry))

    def after(self, offset: int) -> int | None:
        """The first seam at or after the offset, if one is known."""
        at = bisect_left(self._places, offset)
        return self._places[at] if at < len(self._places) else None

    def before(self, offset: int) -> int | None:
        """The last one known at or before the offset."""
        at = bisect_right(self._places, offset)
        return self._places[at - 1] if at else None

    def forget(self, before: int) -> None:
        """Those that are not kept any more."""
        if self._places and self._places[0] < before:
            del self._places[: bisect_left(self._places, before)]

    def places(self, most: int | None = None) -> list[int]:
        """At most so many, evenly spread, the newest among them."""
        step = 1 if most is None else max(1, -(-len(self._places) // most))
        return self._places[::-1][::step][::-1]

    def note(self, offset: int) -> None:
        """The newest is always known; the ones before it lie GRAIN apart."""
        places = self._places
        if places and offset <= places[-1]:
            return
        if len(places) > 1 and places[-1] - places[-2] < GRAIN:
            places[-1] = offset
        else:
            places.append(offset)


def _unfinished(tail: bytes) -> int:
    """How many of the last bytes begin a UTF-8 character that has not ended."""
    for back in range(1, len(tail) + 1):
        byte = tail[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < length else 0
        if byte < 0x80:
            return 0
    return 0
