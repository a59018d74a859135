"""A shell in words: its name, its size, how it ended, and the bounds of what is asked of it. Standard library only: the
holders use it too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType

from pilothouse.core.errors import BadRequest

ShellId = NewType("ShellId", str)
"""1-128 of `[A-Za-z0-9_-]`, the first a letter or digit; made by the caller or the server, unique in its session."""

SHELL_ID_MAX = 128
"""As AWS's clients check it."""
EDGE_MAX = 1000
"""Columns or rows; the Shell API's bound, and more than any screen has."""
SHELLS_MAX = 10
"""Per session; the Shell API's bound."""
SCROLLBACK = 2 * 1024 * 1024
"""Bytes of output kept per shell by default: some ten thousand lines."""
SCROLLBACK_MIN = 256 * 1024
"""What a plain client of the Shell API is replayed; less could not serve it."""
SCROLLBACK_MAX = 64 * 1024 * 1024
"""Ten shells of it are what a small session's memory can bear."""
WINDOW = 256 * 1024
"""How far a shell is read ahead of what its slowest typist has been given: some rounds of reading, one under way and
others granted. A shell's memory is this much larger than its scrollback, so that what may be overwritten is never what
is kept."""
MEMORY_MAX = SCROLLBACK_MAX + WINDOW
REPLAY = 256 * 1024
"""The newest output that a plain client of the Shell API gets when it comes back; the Shell API's figure."""

COMMAND_SHOWN = 2048
"""Characters of its command that are kept to be shown."""

_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{SHELL_ID_MAX - 1}}}\Z")
_SIGNALLED = 128
"""A shell's own way to say "killed by": 128 and the signal."""


def shell_id(text: object) -> ShellId:
    """Raises BadRequest."""
    if not isinstance(text, str) or not _ID.match(text):
        raise BadRequest(f"shellId: expected 1 to {SHELL_ID_MAX} letters, digits, _ and -, the first a letter or digit")
    return ShellId(text)


def beginning(command: Sequence[str]) -> list[str]:
    """Its words, as many as are shown."""
    words: list[str] = []
    room = COMMAND_SHOWN
    for word in command:
        if len(word) + 1 > room:
            return [*words, word[: room - 1] + "…"]
        words.append(word)
        room -= len(word) + 1
    return words


@dataclass(frozen=True, slots=True)
class Size:
    cols: int
    rows: int

    def smaller(self, other: Size) -> Size:
        return Size(min(self.cols, other.cols), min(self.rows, other.rows))


USUAL = Size(80, 24)
"""Until a viewer has said its own."""


def size(cols: object, rows: object) -> Size:
    """Raises BadRequest naming the edge."""
    for name, value in (("width", cols), ("height", rows)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadRequest(f"{name}: expected a whole number")
        if not 1 <= value <= EDGE_MAX:
            raise BadRequest(f"{name}: expected 1 to {EDGE_MAX}")
    return Size(int(cols), int(rows))  # type: ignore[call-overload]  # seen to be ints


@dataclass(frozen=True, slots=True)
class Exit:
    """How a shell ended: by itself with a code, or by a signal."""

    code: int
    signal: int = 0

    @property
    def status(self) -> int:
        """As a shell says it in `$?`."""
        return _SIGNALLED + self.signal if self.signal else self.code

    @classmethod
    def of(cls, waited: int) -> Exit:
        """From what `os.waitstatus_to_exitcode` gives: negative for a signal."""
        return cls(0, -waited) if waited < 0 else cls(waited)


LOST = Exit(0, 1)
"""Of a shell whose session went away without telling: as if its line had hung up (SIGHUP)."""
