"""The newest output of a shell in a fixed piece of memory, every byte by its absolute offset: how many came before it
since the shell began. The offset is the only name that a byte has.

    oldest          head
      |  kept bytes  |          head - oldest <= capacity
      +--------------+
    the byte at offset n is at n % capacity

Nothing is allocated or moved per byte: whoever reads the shell reads into `room()` and then says `took(n)`. The memory
is given from outside; a holder gives some that the server can see as well.
"""

from __future__ import annotations

from pilothouse.core.seam import GRAIN, Seams

_STEP = 512
"""A seam is looked for in steps of so many bytes: no replay is shorter for more than that."""


class Gone(Exception):
    """The offset lies before the oldest byte that is kept."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"offset {asked} is not kept any more; the oldest is {oldest}")
        self.oldest = oldest


class Ahead(Exception):
    """The offset lies after the newest byte."""

    def __init__(self, asked: int, head: int) -> None:
        super().__init__(f"offset {asked} has not been written yet; the newest is {head}")
        self.head = head


class Window:
    """The reading side: bytes of some memory by offset. `head` is moved by who knows it."""

    __slots__ = ("_view", "capacity", "head", "start")

    def __init__(self, memory: bytearray | memoryview, head: int = 0, start: int = 0) -> None:
        """`start`: the first offset that was ever written into this memory."""
        self._view = memory if isinstance(memory, memoryview) else memoryview(memory)
        self.capacity = len(self._view)
        self.head = head
        self.start = start

    @property
    def oldest(self) -> int:
        return max(self.start, self.head - self.capacity)

    def read(self, offset: int, limit: int, prefix: bytes = b"") -> bytes:
        """At most `limit` bytes from the offset on, after `prefix`, in one copy. Raises Gone, Ahead."""
        head, capacity = self.head, self.capacity
        if offset < self.start or offset < head - capacity:
            raise Gone(offset, self.oldest)
        if offset > head:
            raise Ahead(offset, head)
        at, length = offset % capacity, min(limit, head - offset)
        first = self._view[at : at + length]
        if len(first) == length:
            return b"".join((prefix, first)) if prefix else bytes(first)
        return b"".join((prefix, first, self._view[: length - len(first)]))

    def release(self) -> None:
        """Lets go of the memory, so that it can be unmapped."""
        self._view.release()


class Scrollback(Window):
    """The writing side, which also knows where a replay may begin."""

    __slots__ = ("_seams",)

    def __init__(self, memory: bytearray | memoryview, head: int = 0, start: int = 0) -> None:
        super().__init__(memory, head, start)
        self._seams = Seams(head)

    def room(self, limit: int, skip: int = 0) -> list[memoryview]:
        """Where the next bytes go, at most `limit`, for `readv`; after `skip` bytes that `took` has not been told of.
        Both together are at most the capacity."""
        at, limit = (self.head + skip) % self.capacity, min(limit, self.capacity - skip)
        first = self._view[at : at + limit]
        rest = limit - len(first)
        return [first, self._view[:rest]] if rest else [first]

    def took(self, count: int) -> None:
        """So many bytes have been written into the room."""
        before, self.head = self.head, self.head + count
        self._seams.feed(self.read(before, count))
        self._seams.forget(self.oldest)

    def moved(self, head: int, known: list[int]) -> None:
        """Somebody else has written up to there, and found these seams, ascending, and others."""
        self.head = head
        if self._seams.end < self.oldest:
            place = next((place for place in known if place >= self.oldest), None)
            self._seams = Seams(head, [], within=True) if place is None else Seams(place)
        while self._seams.end < head:
            self._seams.feed(self.read(self._seams.end, GRAIN))
        self._seams.forget(self.oldest)

    def mask(self, start: int, end: int, byte: bytes) -> None:
        """Overwrites what stands there, as far as it is kept; of what `took` has not been told of as well."""
        at = max(start, self.oldest)
        while at < end:
            place = at % self.capacity
            count = min(end - at, self.capacity - place)
            self._view[place : place + count] = byte * count
            at += count

    def append(self, data: bytes) -> None:
        for at in range(0, len(data), self.capacity):
            piece, done = memoryview(data)[at : at + self.capacity], 0
            for room in self.room(len(piece)):
                room[:] = piece[done : done + len(room)]
                done += len(room)
            self.took(len(piece))

    def seam(self, offset: int) -> int | None:
        """The first place at or after the offset, and kept, where a terminal may begin. None: in the middle of
        something long whose end has not come."""
        return begin(self, self._seams, offset, self.oldest)

    @property
    def latest(self) -> int | None:
        """The newest seam."""
        return self._seams.latest

    def seams(self, most: int | None = None) -> list[int]:
        """At most so many of them."""
        return self._seams.places(most)


def begin(window: Window, seams: Seams, offset: int, oldest: int) -> int | None:
    """The first place at or after `offset` and `oldest` where a terminal may begin. The seams that are remembered lie
    apart; from the one before, the bytes themselves are looked at."""
    offset = max(offset, oldest)
    known, before = seams.after(offset), seams.before(offset)
    if known is None or known == offset or before is None or before < oldest:
        return known  # the newest is always among them: where none is known there is none, however much was written
    probe, end = Seams(before), known
    probe.feed(window.read(before, offset - before))
    while (found := probe.after(offset)) is None and probe.end < end:
        probe.feed(window.read(probe.end, min(_STEP, end - probe.end)))
    return known if found is None else found
