"""One shell as the server has it: what it wrote is in memory that its holder sees too, and its PTY is read by the
holder or, while it is lent (`lending`), from here. What the holder says is taken as hostile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any, Protocol

from pilothouse.adapters.shells import pty
from pilothouse.adapters.shells.lending import RESIZES, Borrowed, Loan
from pilothouse.adapters.shells.memory import Memory, Unfit
from pilothouse.core import shellwire as wire
from pilothouse.core.resizes import SIZES_MAX
from pilothouse.core.scrollback import Gone, Window, begin
from pilothouse.core.seam import Seams
from pilothouse.core.shell import (
    COMMAND_SHOWN,
    LOST,
    MEMORY_MAX,
    SCROLLBACK_MIN,
    Exit,
    Size,
    shell_id,
    size,
)

TYPISTS_MAX = 1024
"""Remembered per shell: at least those whom a holder does."""
LATEST = 1e11
"""A moment that no shell was started after: the year 5138."""
OFFSET_MAX = 1 << 53
"""No shell writes or is typed as much; above it neither the wire nor a browser could count on."""
FLOOD_S = 0.005
"""After a flood has been read, for so long what follows counts as more of it."""
GATHER = 48 * 1024
"""Of a flood viewers are sent more when so much has come: larger frames, fewer calls;"""
GATHER_S = 0.001
"""or after so long."""
SHARED_PASS = 4096
"""Read at once where another one was read before. A second read finds a PTY empty, as a rule, and then the kernel waits
for its worker: a holder may, here it would be everybody's echo."""
UNSEEN_MAX = 1024
"""Of what was read, how much is not yet looked at for places where a replay may begin: whoever asks next looks, as does
the holder."""
UNTOLD_MAX = 4096
"""Typed without an echo; who has typed it keeps it until it is told."""


class LastRead:
    """Whose PTY was read last: who is alone is read longer at once."""

    shell: object = None


class Way(Protocol):
    """To the holder."""

    def send(self, record: bytes) -> None: ...
    def end(self) -> None: ...


def _sizes(said: Any, head: int) -> list[tuple[int, Size]]:
    """Raises wire.Broken, BadRequest, TypeError, ValueError."""
    if not isinstance(said, list) or len(said) > SIZES_MAX:
        raise wire.Broken("sizes")
    found = [(int(offset), size(cols, rows)) for offset, cols, rows in said]
    offsets = [offset for offset, _ in found]
    if offsets != sorted(set(offsets)) or any(not 0 <= offset <= head for offset in offsets):
        raise wire.Broken("sizes")
    return found


def _command(said: Any) -> list[str]:
    """Raises wire.Broken."""
    if not isinstance(said, list) or len(said) > COMMAND_SHOWN or not all(isinstance(word, str) for word in said):
        raise wire.Broken("command")
    if sum(map(len, said)) > COMMAND_SHOWN + 1:
        raise wire.Broken("command")
    return said


class HeldShell(Window):
    """One shell, which is a window on its memory. The port's verbs; what the holder says comes in by `take`."""

    __slots__ = (
        "_borrowed",
        "_changed",
        "_flood_until",
        "_floor",
        "_granted",
        "_last",
        "_line",
        "_loop",
        "_memory",
        "_reading",
        "_resizes",
        "_seams",
        "_sent",
        "_taken",
        "_telling",
        "_told",
        "_unread",
        "_untold",
        "command",
        "ended",
        "id",
        "resized",
        "size",
        "slot",
        "started",
        "typed_in",
    )

    def __init__(self, line: Way, record: wire.Record, fd: int, last: LastRead) -> None:
        """Raises wire.Broken, BadRequest, KeyError, TypeError, ValueError, OverflowError, Unfit."""
        body = wire.said(record.payload)
        capacity, oldest = int(body["capacity"]), int(body["oldest"])
        numbers = int(body.get("numbers", wire.PAGE))
        if numbers not in (wire.NUMBERS, wire.PAGE):
            raise wire.Broken("numbers")
        if not SCROLLBACK_MIN <= capacity <= MEMORY_MAX:
            raise wire.Broken("capacity")
        if not record.offset - capacity <= oldest <= record.offset <= OFFSET_MAX:
            raise wire.Broken("oldest")
        seams = sorted(int(n) for n in body["seams"])
        if seams and not 0 <= seams[0] <= seams[-1] <= record.offset:
            raise wire.Broken("seams")
        self.id = shell_id(body["id"])
        self.slot = record.slot
        self.started = float(body["started"])
        if not 0 <= self.started <= LATEST:
            raise wire.Broken("started")
        self.size = size(body["cols"], body["rows"])
        self.resized = _sizes(body.get("sizes", []), record.offset)
        self.ended: Exit | None = None
        if "ended" in body:
            code, number = body["ended"]
            self.ended = Exit(*wire.as_exited(wire.exited(int(code), int(number))))
        self._taken = {int(who, 16): _counted(int(n)) for who, n in dict(body["typists"]).items()}
        """What the holder has, per typist."""
        self.typed_in = body.get("typedIn") is True
        self.command = _command(body.get("command", []))
        self._sent: dict[int, int] = {}
        """What it was sent, where that is more."""
        self._unread = 0
        """What it has and the shell has not read."""
        self._line = line
        self._memory = Memory(fd, capacity, numbers)
        super().__init__(self._memory.output, record.offset)
        self._granted = record.offset
        self._floor = oldest
        self._seams = Seams(record.offset, seams)
        self._changed: Callable[[], None] = lambda: None
        self._borrowed: Borrowed | None = None
        self._reading = False
        self._resizes = 0
        """Asked for; how many of them were done is with what is lent."""
        self._last = last
        self._loop = asyncio.get_running_loop()
        self._told = record.offset
        self._untold = 0
        """Of what was typed, without anything else that there was to tell."""
        self._flood_until = 0.0
        self._telling: asyncio.TimerHandle | None = None

    # --- the port

    @property
    def oldest(self) -> int:
        return max(self._floor, self._granted - self.capacity)

    @property
    def seen(self) -> int:
        return self._memory.seen

    @property
    def backlog(self) -> int:
        if not self._sent:
            return self._unread
        return self._unread + sum(sent - self._taken.get(who, 0) for who, sent in self._sent.items())

    def read(self, offset: int, limit: int, prefix: bytes = b"") -> bytes:
        """What may be overwritten before the next grant is not given."""
        if offset < self._floor or offset < self._granted - self.capacity:
            raise Gone(offset, self.oldest)
        return super().read(offset, limit, prefix)

    def seam(self, offset: int) -> int | None:
        if self._borrowed:
            self._borrowed.look()
        return begin(self, self._seams, offset, self.oldest)

    def grant(self, upto: int, *, typed_in: bool) -> None:
        if self.ended is not None:
            return
        self._granted, self.typed_in = max(self._granted, upto), typed_in
        self._seams.forget(self.oldest)
        if self._borrowed:
            self._borrowed.note(typed_in=typed_in)
            self._watch()
        else:
            self._say_grant()

    def _say_grant(self) -> None:
        flags = wire.TYPED_IN if self.typed_in else 0
        self._line.send(wire.record(wire.GRANT, self.slot, flags, self._granted))

    def note_seen(self, offset: int) -> None:
        self._memory.seen = offset

    def write(self, typist: int, offset: int, data: bytes) -> int:
        if self.ended is not None:
            return 0
        if self._borrowed and self._borrowed.page[RESIZES] != self._resizes:
            self.give_back()  # who types has seen the new size: it comes first
        if self._borrowed and not self._unread and not self._sent:
            data, offset = self._type(self._borrowed, typist, offset, data)
            if not data:
                return self._unread
        if data:
            self._sent[typist] = max(self._sent.get(typist, 0), offset + len(data))
            self._line.send(wire.record(wire.INPUT, self.slot, 0, offset, wire.number(typist) + data))
        return self.backlog

    def typed(self, typist: int) -> int:
        return self._taken.get(typist, 0)

    def resize(self, size: Size) -> None:
        self.size = size
        self._resizes += 1
        self._line.send(wire.record(wire.RESIZE, self.slot, 0, 0, wire.pair(size.cols, size.rows)))

    def signal(self, number: int) -> None:
        self._line.send(wire.record(wire.SIGNAL, self.slot, int(signal.Signals(number))))

    def listen(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    # --- what the holder says

    def take(self, record: wire.Record) -> None:
        """Raises wire.Broken."""
        if self._borrowed and record.kind != wire.TYPED:
            raise wire.Broken("it was lent")
        if record.kind == wire.TYPED:
            typist, self._unread = wire.as_taken(record.payload)
            self._note(typist, max(_counted(record.offset), self.typed(typist)))
        else:
            if not self.head <= record.offset <= self._granted:
                raise wire.Broken("a head that cannot be")
            if record.kind == wire.ENDED:
                self.ended = Exit(*wire.as_exited(record.payload))
            elif record.payload:
                self._seams.note(min(wire.as_number(record.payload), record.offset))
            self.head = self._told = record.offset

    def _note(self, typist: int, taken: int) -> None:
        self._taken.pop(typist, None)
        self._taken[typist] = taken
        if taken >= self._sent.get(typist, 0):
            self._sent.pop(typist, None)
        if len(self._taken) > TYPISTS_MAX:
            del self._taken[next(iter(self._taken))]

    def changed(self) -> None:
        """Everything that arrived with it has been taken."""
        self._changed()

    # --- while its PTY is lent

    @property
    def lent(self) -> bool:
        return self._borrowed is not None

    def borrow(self, record: wire.Record, loan: Loan) -> None:
        """LENT. Raises wire.Broken, Unfit, OSError, Gone, Ahead; `loan` becomes ours if it does not."""
        head, seam = record.offset, wire.as_number(record.payload)
        if self._borrowed or self.ended or not self.head <= head <= self._granted or seam > head:
            raise wire.Broken("a PTY that cannot be lent")
        self.head = head
        seams = Seams(seam, [*(place for place in self._seams.places() if place < seam), seam])
        seams.feed(super().read(seam, head - seam))
        self._borrowed = Borrowed(self._memory, loan, self, seams)
        self._seams, self._unread = seams, 0
        self._borrowed.note(typed_in=self.typed_in)
        self._watch()

    def give_back(self, flags: int = 0) -> None:
        """To the holder, which reads on from here."""
        if self._borrowed:
            self.let_go()
            self._line.send(wire.record(wire.RETURN, self.slot, flags))
            self._say_grant()
            self._tell()

    def let_go(self) -> None:
        """It is the holder's from now on, or nobody's."""
        if self._borrowed:
            borrowed, self._borrowed = self._borrowed, None
            if self._reading:
                self._reading = False
                self._loop.remove_reader(borrowed.fd)
            try:
                borrowed.look()
            finally:
                borrowed.close()

    def _watch(self) -> None:
        if self._borrowed and (self._granted > self.head) is not self._reading:
            if self._reading:
                self._loop.remove_reader(self._borrowed.fd)
            else:
                try:
                    self._loop.add_reader(self._borrowed.fd, self._read)
                except OSError:  # more cannot be watched
                    self.give_back(wire.KEEP)
                    return
            self._reading = not self._reading

    def _read(self) -> None:
        borrowed = self._borrowed
        if borrowed is None:
            return
        alone, self._last.shell = self._last.shell is self, self
        try:
            count = borrowed.read(min(pty.PASS if alone else SHARED_PASS, self._granted - self.head))
        except Unfit:
            self._line.end()
            return
        except OSError:
            self.give_back(wire.KEEP)
            return
        now = self._loop.time()
        if count >= pty.FLOOD:
            self._flood_until = now + FLOOD_S
        if borrowed.over:
            self.give_back(wire.KEEP)  # its end is the holder's affair
        elif now < self._flood_until and self.head - self._told < GATHER and self._granted > self.head:
            if self._telling is None:
                self._telling = self._loop.call_later(GATHER_S, self._tell)
        elif count and self._telling is None:
            self._told = self.head
            self._changed()
        elif count:
            self._tell()
        if self._borrowed and self.head - self._seams.end > UNSEEN_MAX:  # the echo is on its way
            self._borrowed.look()
        if self._granted <= self.head:
            self._watch()

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._told = self.head
        self._changed()

    def _type(self, borrowed: Borrowed, typist: int, offset: int, data: bytes) -> tuple[bytes, int]:
        """What must go by way of the holder, and its offset. What is known already is dropped, as is what would leave
        a gap."""
        known = self._taken.get(typist, 0)
        fresh = data
        if offset != known:
            fresh = data[known - offset :] if offset < known else b""
            if not fresh:
                return b"", offset
        done = borrowed.type(typist, known, fresh)
        if done is None:  # the holder notes who has typed what, and lends it again
            self.give_back()
            return fresh, known
        count, gone = done
        self._taken.pop(typist, None)
        self._taken[typist] = known + count
        if len(self._taken) > TYPISTS_MAX:
            del self._taken[next(iter(self._taken))]
        if gone < len(fresh):
            self._unread = count - gone
            self.give_back()
        self._untold += count
        if self._untold >= UNTOLD_MAX:
            self._untold = 0
            self._loop.call_soon(self._tell)
        return fresh[count:], known + count

    def lost(self) -> None:
        self.let_go()
        if self._telling is not None:
            self._telling.cancel()
        if self.ended is None:
            self.ended = LOST
            self._changed()
        self._changed = lambda: None

    def close(self) -> None:
        self.let_go()
        if self._telling is not None:
            self._telling.cancel()
        self._changed = lambda: None
        self.release()
        self._memory.close()


def _counted(typed: int) -> int:
    """How much a typist has typed. Raises wire.Broken."""
    if not 0 <= typed <= OFFSET_MAX:
        raise wire.Broken("typed")
    return typed
