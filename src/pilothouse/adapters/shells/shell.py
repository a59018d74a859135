"""One shell as its holder keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.adapters.shells import memory, pty
from pilothouse.core.shell import Exit, ShellId, Size


@dataclass(eq=False)
class Held:
    id: ShellId
    slot: int
    line: pty.Pty
    memory: memory.Memory
    size: Size
    started: float
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

    @property
    def limit(self) -> int:
        return self.grant - self.line.kept.head - self.line.held

    @property
    def room(self) -> int:
        """How far it may be read, what is held back among it."""
        return self.grant - self.line.kept.head

    @property
    def times(self) -> tuple[float, ...]:
        """Output that nobody reads on for is not lost, it waits, and its end with it."""
        reading = self.limit > 0
        ends = (self.end_at, self.release_at) if reading else ()
        return (self.say_at, self.held_until, self.kill_at, *ends)
