"""Text messages of a WebSocket that go to many readers, each with a beginning of its own: written once for all.

    message of a reader    its prefix + a rest that all share
    frame                  0x81, the size (7, 7+16 or 7+64 bits), the message; RFC 6455, a server's, not masked

For prefixes of one length the frames differ in nothing but the prefix, so `[h0, r0+h1, r1+h2, … rk]` is made once for
that length, and a reader's frames are `prefix.join` of it: one copy for any number of messages.
"""

from __future__ import annotations

from collections.abc import Sequence

TEXT, BINARY = 1, 2
"""Opcodes."""


def header(opcode: int, size: int) -> bytes:
    """Of an unfragmented, unmasked frame."""
    first = 0x80 | opcode
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2)
    return bytes((first, 127)) + size.to_bytes(8)


class Run:
    __slots__ = ("ahead", "rests", "segments")

    def __init__(self, rests: Sequence[bytes]) -> None:
        self.rests = rests
        self.ahead = -1
        self.segments: list[bytes] = []
        """For prefixes of length `ahead`."""

    def frames(self, prefix: bytes) -> bytes:
        """What goes on the wire for this prefix."""
        return prefix.join(self.segments if len(prefix) == self.ahead else self.cut(len(prefix)))

    def cut(self, ahead: int) -> list[bytes]:
        """The segments for prefixes of another length, which the next ones will mostly have too."""
        heads = [header(TEXT, ahead + len(rest)) for rest in self.rests]
        between = [rest + after for rest, after in zip(self.rests, heads[1:], strict=False)]
        self.segments = [heads[0], *between, self.rests[-1]]
        self.ahead = ahead
        return self.segments
