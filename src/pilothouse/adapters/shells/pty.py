"""The master side of one PTY with its scrollback: reads as much as is there, writes as much as goes. No loop of its
own: whoever owns it says when it can be read or written. Standard library only."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections import OrderedDict, deque
from collections.abc import Mapping

from pilothouse.adapters.shells.lending import Settled, emptied, waiting
from pilothouse.core.redact import MASK, Masks, Seen
from pilothouse.core.scrollback import Scrollback
from pilothouse.core.shell import Size

PASS = 63 * 1024
"""Read in one go: about what the kernel holds for a PTY, 16 reads of 4 KB, and no more than one frame takes. Fewer
passes mean fewer wake-ups, longer ones let the others wait."""
SHARED_PASS = 16 * 1024
"""The same, when another one was read before: so long an echo waits for each of the others."""
FLOOD = 8 * 1024
"""Read at once, that is no echo and no line but a flood, or a screen drawn anew."""
SHORT = 64
"""A read that gave less is an echo, and there is no more: asking again would cost every one of them a call."""
TYPISTS_MAX = 512
"""Remembered per shell; the one that has not typed for longest is forgotten first. That must be nobody who is still
there: what it types next would be taken for the rest of something lost. Ten times the viewers that a shell has."""


def resize(fd: int, size: Size) -> None:
    """The foreground processes hear of it (SIGWINCH) if it is another one."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.cols, 0, 0))


class Typing:
    """What has been typed into one shell, and how much of it came from whom."""

    __slots__ = ("_waiting", "backlog", "counts", "touched")

    def __init__(self) -> None:
        self.counts: OrderedDict[int, int] = OrderedDict()
        """Bytes per typist, those that wait included."""
        self.touched: list[int] = []
        """Typists who may want to know how things stand, each once."""
        self._waiting: deque[tuple[int, bytes]] | None = None
        """None for nothing: that is the rule, and an empty deque takes 600 bytes."""
        self.backlog = 0
        """Bytes that the shell has not taken yet."""

    def take(self, typist: int, offset: int, data: bytes) -> None:
        """What is known already is dropped, as is what would leave a gap."""
        self._touch(typist)
        known = self.counts.get(typist, 0)
        fresh = data[known - offset :] if offset <= known else b""
        if not fresh:
            return
        self.counts[typist] = known + len(fresh)
        self.counts.move_to_end(typist)
        if len(self.counts) > TYPISTS_MAX:
            self.counts.popitem(last=False)
        self._wait(typist, fresh)

    def resume(self, counts: Mapping[int, int], last: int | None, data: bytes) -> None:
        """Somebody else has taken so much, of which `data` waits; `last` was the last to type."""
        for typist, count in counts.items():
            if count > self.counts.get(typist, 0):
                self.counts[typist] = count
                self.counts.move_to_end(typist)
        while len(self.counts) > TYPISTS_MAX:
            self.counts.popitem(last=False)
        if last is not None and data:
            self._touch(last)
            self._wait(last, data)

    def write(self, fd: int) -> None:
        """As much as goes. Raises OSError when the shell is gone."""
        while self._waiting:
            typist, data = self._waiting[0]
            try:
                count = os.write(fd, data)
            except BlockingIOError:
                return
            self._touch(typist)
            self.backlog -= count
            if count == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = (typist, data[count:])
        self._waiting = None

    def _wait(self, typist: int, data: bytes) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((typist, data))
        self.backlog += len(data)

    def _touch(self, typist: int) -> None:
        if typist not in self.touched:
            self.touched.append(typist)

    def clear(self) -> None:
        """The shell takes nothing any more."""
        self._waiting = None
        self.backlog = 0


class Pty:
    """With `seen`, what nobody shall read is masked here, before it is output of any offset: what is held back lies in
    the memory after the head, and viewers, replays and the next server see masked bytes alone."""

    __slots__ = ("eof", "fd", "kept", "seen", "typing")

    def __init__(self, fd: int, kept: Scrollback) -> None:
        """`fd` is the master; it becomes ours."""
        os.set_blocking(fd, False)
        self.fd = fd
        self.kept = kept
        self.typing = Typing()
        self.eof = False
        """Nobody has the other side open any more, and everything has been read."""
        self.seen: Seen | None = None
        """None: there is nothing to be masked."""

    @property
    def held(self) -> int:
        """Bytes that have been read and may be the beginning of something: they are not output yet."""
        return self.seen.held if self.seen else 0

    @property
    def begun(self) -> int:
        """Of how many of the last bytes that is so, those that are output already among them."""
        return self.seen.begun if self.seen else 0

    def hide(self, masks: Masks) -> None:
        """From now on."""
        if self.seen is not None and self.seen.masks is masks:
            return
        self.release()
        self.seen = Seen(masks, self.kept.head)

    def release(self) -> int:
        """What was held is output now. How many bytes."""
        count = self.held
        if self.seen is not None and count:
            span = self.seen.release()
            if span is not None:
                self.kept.mask(*span, MASK)
            self.kept.took(count)
        return count

    def read(self, limit: int) -> int:
        """Until it is empty or `limit` bytes have come, those held among them. How many were read."""
        held = self.held
        total, limit = 0, min(limit, self.kept.capacity) - held
        while total < limit:
            try:
                count = os.readv(self.fd, self.kept.room(limit - total, held + total))
            except BlockingIOError:
                break
            except OSError:  # EIO; after any other there is no more to be had either
                count = 0
            if count == 0:
                self.eof = True
                break
            total += count
            if count < SHORT:
                break
        if total and self.seen is not None:
            self._look(self.seen, held, total)
        elif total:
            self.kept.took(total)
        if self.eof:
            self.release()
        return total

    def end(self) -> None:
        """Nothing more is read."""
        self.eof = True
        self.release()

    def resume(self, settled: Settled, output: int, input: int) -> None:
        """It was read and typed into by somebody else, with these pipes between; both are empty then."""
        head = max(settled.head, self.kept.head)
        while room := waiting(output):
            self.kept.head = head
            head += os.readv(output, self.kept.room(room))
        self.kept.moved(head, settled.seams)
        self.typing.resume(settled.typed, settled.last, emptied(input))

    def _look(self, seen: Seen, held: int, total: int) -> None:
        fresh = b"".join(self.kept.room(total, held))
        for start, end in seen.feed(fresh):
            self.kept.mask(start, end, MASK)
        self.kept.took(held + total - seen.held)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
