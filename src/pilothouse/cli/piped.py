"""A pipe through a PTY, byte for byte: the PTY's line discipline is told to change nothing, and what goes in is written
so that it says the same again.

Lines stay lines. A byte that would mean something (end of file, "literally") is quoted; a line too long for the
kernel's buffer is handed over in pieces by an end of file that is not at the beginning of one, which ends nothing
(termios(3)).
"""

from __future__ import annotations

import re

END = b"\x04"
QUOTE = b"\x16"
PIECE = 1024
"""Bytes of a line until it is handed over; the kernel's buffer holds 4095."""
READY = b"\x06"
"""Written when the PTY is set up, before anything of the command's: what came earlier would be changed and echoed."""
_CHANGES = "-isig -icrnl -inlcr -igncr -istrip -iuclc -ixon -ixoff -ixany -imaxbel -parmrk -inpck -iutf8"
_KEYS = "erase undef kill undef werase undef rprnt undef eol undef eol2 undef"
_SETUP = (
    f"stty -echo -echonl -opost {_CHANGES} icanon iexten {_KEYS} eof '^D' lnext '^V' && printf '\\006' && exec \"$@\""
)
_MEANS = re.compile(b"[\x04\x16]")


def wrapped(command: list[str]) -> list[str]:
    """`command` on a PTY that changes nothing. One that is not there ends with 127, as anywhere."""
    return ["/bin/sh", "-c", _SETUP, "sh", *command]


class Piped:
    """What is read from a pipe, as it goes to the PTY."""

    def __init__(self) -> None:
        self._since = 0

    def take(self, data: bytes) -> bytes:
        out = bytearray()
        first, *others = data.split(b"\n")
        self._line(first, out)
        for line in others:
            out += b"\n"
            self._since = 0
            self._line(line, out)
        return bytes(out)

    def end(self) -> bytes:
        """One hands over what is there, the next one ends."""
        return END * 2 if self._since else END

    def _line(self, line: bytes, out: bytearray) -> None:
        at = 0
        while at < len(line):
            piece = line[at : at + PIECE - self._since]
            out += _MEANS.sub(lambda found: QUOTE + found[0], piece)
            at += len(piece)
            self._since += len(piece)
            if self._since == PIECE:
                out += END
                self._since = 0
