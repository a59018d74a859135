"""One shell as its holder keeps it."""

from __future__ import annotations

import os
import selectors
from dataclasses import dataclass, field
from typing import Any

from pilothouse.adapters.shells import hidden, lending, memory, pty
from pilothouse.core import shellwire as wire
from pilothouse.core.resizes import Sizes
from pilothouse.core.shell import Exit, ShellId, Size


@dataclass(eq=False, slots=True)
class Held:
    id: ShellId
    slot: int
    line: pty.Pty
    memory: memory.Memory
    size: Size
    sizes: Sizes
    started: float
    command: list[str] = field(default_factory=list)
    """The beginning of somebody's program."""
    grant: int = 0
    typed_in: bool = False
    held_until: float = 0.0
    """No server: its output waits till then."""
    kill_at: float = 0.0
    exit: Exit | None = None
    end_at: float = 0.0
    """Its process has ended: what has not come by then does not come."""
    ended: bool = False
    events: int = 0
    said: int = -1
    """The head that the server knows."""
    flood_until: float = 0.0
    """It floods: what comes before then may wait a little."""
    release_at: float = 0.0
    """When what is held back goes, if nothing comes that shows what it is."""
    say_at: float = 0.0
    """When it is told of more at the latest."""
    loan: lending.Loan | None = None
    """The server reads it and types into it: neither is done here."""
    lend_at: float = 0.0
    """It came back, and may be lent again."""
    resizes: int = 0
    """Asked for by the server that is there."""

    def greet(self) -> None:
        """A server has come; from here on it says how far."""
        self.held_until, self.grant, self.resizes = 0.0, self.line.kept.head, 0

    @property
    def head(self) -> int:
        return self.memory.page[lending.HEAD] if self.loan else self.line.kept.head

    @property
    def lendable(self) -> bool:
        """Not what is masked here, nor what ends or has something to be typed; nor if it is not known where a terminal
        may begin, for whoever reads on must know."""
        line = self.line
        busy = self.loan or self.ended or self.exit or line.eof or line.seen or line.typing.backlog
        return not busy and line.kept.latest is not None and line.kept.latest >= line.kept.oldest

    def lend(self) -> tuple[bytes, lending.Loan]:
        """LENT, and what goes with it. Raises OSError, Unfit."""
        kept = self.line.kept
        assert kept.latest is not None
        self.loan = lending.lend(self.memory, self.line.fd, kept.head)
        self.memory.page[lending.RESIZES] = self.resizes
        self.lend_at = 0.0
        return wire.record(wire.LENT, self.slot, 0, kept.head, wire.number(kept.latest)), self.loan

    @property
    def recall(self) -> bytes:
        """RECALL, if it is lent."""
        return wire.record(wire.RECALL, self.slot) if self.loan else b""

    def back(self) -> bool:
        """Nobody else has it any more. Whether there is more output than they knew of."""
        told = self.head
        if self.loan is not None:
            loan, self.loan = self.loan, None
            settled = lending.settle(self.memory, loan, self.line.kept.capacity)
            self.line.resume(settled, loan.output, loan.input)
            self.typed_in = self.typed_in if settled.typed_in is None else settled.typed_in
            self.grant = self.line.kept.head
            os.close(loan.output)
            os.close(loan.input)
        return self.head > told

    @property
    def typed(self) -> bytes:
        """TYPED for those who may want to know."""
        typing, said = self.line.typing, b""
        for typist in typing.touched:
            body = wire.taken(typist, typing.backlog)
            said += wire.record(wire.TYPED, self.slot, 0, typing.counts.get(typist, 0), body)
        typing.touched.clear()
        return said

    @property
    def limit(self) -> int:
        return self.grant - self.line.kept.head - self.line.held

    @property
    def wanted(self) -> int:
        """What its PTY is to be watched for."""
        if self.ended or self.line.eof:
            return 0
        reads = selectors.EVENT_READ if self.limit > 0 and not self.loan else 0
        return reads | (selectors.EVENT_WRITE if self.line.typing.backlog else 0)

    def resize(self, size: Size) -> None:
        self.size = size
        self.sizes.note(self.head, size)
        if not self.ended:
            pty.resize(self.line.fd, size)
        self.resizes += 1
        if self.loan:
            self.memory.page[lending.RESIZES] = self.resizes

    @property
    def room(self) -> int:
        """How far it may be read, what is held back among it."""
        return self.grant - self.line.kept.head

    def hold(self, now: float) -> bool:
        """It has been read: what may be the beginning of a secret waits. Whether that is all there is."""
        self.release_at = now + hidden.wait(self.line.begun) if self.line.held else 0.0
        return not self.line.eof and self.line.kept.head == self.said

    def release(self, now: float) -> None:
        """Nothing came that would show what it is, unless it came at this moment."""
        if not self.line.eof and self.line.read(min(pty.PASS, self.room)):
            self.hold(now)
        else:
            self.release_at = 0.0
            self.line.release()

    def hide(self, values: hidden.Hidden) -> None:
        """From now on; when it has come back, if it is lent."""
        if values.masks is not None and not self.ended and not self.loan:
            self.line.hide(values.masks)

    @property
    def record(self) -> bytes:
        """SHELL."""
        kept = self.line.kept
        self.sizes.forget(kept.oldest)
        body: dict[str, Any] = {
            "id": self.id,
            "started": self.started,
            "cols": self.size.cols,
            "rows": self.size.rows,
            "capacity": kept.capacity,
            "numbers": wire.NUMBERS,
            "oldest": kept.oldest,
            "seams": kept.seams(wire.SEAMS_MAX),
            "sizes": [[offset, size.cols, size.rows] for offset, size in self.sizes.all()],
            "typists": {f"{who:x}": n for who, n in self.line.typing.counts.items()},
        }
        if self.typed_in:
            body["typedIn"] = True
        if self.command:
            body["command"] = self.command
        if self.ended and self.exit:
            body["ended"] = [self.exit.code, self.exit.signal]
        return wire.say(wire.SHELL, body, self.slot, kept.head)

    @property
    def times(self) -> tuple[float, ...]:
        """Output that nobody reads on for is not lost, it waits, and its end with it."""
        reading = self.limit > 0 and not self.loan
        ends = (self.end_at, self.release_at) if reading else ()
        return (self.say_at, self.held_until, self.kill_at, self.lend_at, *ends)
