"""The port to shells: what the engine needs of whoever holds them. It stands beside `ports` and is of its kind.

Two implementations from the start: `adapters/shells/held`, whose shells live in their session's holder and outlive the
server, and `adapters/shells/local`, whose shells are this process's own children.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pilothouse.core.ids import SessionId
from pilothouse.core.secret import Given
from pilothouse.core.shell import SCROLLBACK, USUAL, Exit, ShellId, Size


@dataclass(frozen=True, slots=True)
class ShellSpec:
    session: SessionId
    id: ShellId
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    """"": where the session's work is."""
    size: Size = USUAL
    scrollback: int = SCROLLBACK
    command: bool = False
    """Somebody's program, not the session's own shell."""
    secrets: tuple[Given, ...] = field(default=(), repr=False)
    """What it finds in its environment or in files."""
    hidden: tuple[str, ...] = field(default=(), repr=False)
    """Values that nobody shall read in the output of this session's shells, from now on."""


class Shell(Protocol):
    """One shell. Its output is bytes by absolute offset, from `oldest` to `head`; verbs do not wait."""

    @property
    def id(self) -> ShellId: ...

    @property
    def started(self) -> float:
        """Seconds since the epoch."""
        ...

    @property
    def command(self) -> Sequence[str]:
        """The beginning of somebody's program, under a former server too; nothing: it is the session's own shell."""
        ...

    @property
    def size(self) -> Size: ...

    @property
    def resized(self) -> Sequence[tuple[int, Size]]:
        """Where in its output it got which size, ascending, as far as it is known; under a former server too."""
        ...

    @property
    def head(self) -> int: ...

    @property
    def oldest(self) -> int: ...

    @property
    def capacity(self) -> int:
        """Bytes before what was granted that are kept."""
        ...

    @property
    def ended(self) -> Exit | None:
        """Set once `head` is the last."""
        ...

    @property
    def seen(self) -> int:
        """What was last noted by `note_seen`, by a former server too."""
        ...

    @property
    def typed_in(self) -> bool:
        """Somebody typed in it when it was last granted something, under a former server too."""
        ...

    @property
    def backlog(self) -> int:
        """Bytes of input that the shell has not taken yet."""
        ...

    def read(self, offset: int, limit: int, prefix: bytes = b"") -> bytes:
        """At most `limit` bytes after `prefix`. Raises scrollback.Gone, scrollback.Ahead."""
        ...

    def seam(self, offset: int) -> int | None:
        """The first place at or after the offset where a terminal may begin; None: not known yet."""
        ...

    def grant(self, upto: int, *, typed_in: bool) -> None:
        """Read on to there. What stands further back than scrollback from there is not kept. `typed_in`: should the
        server go, the output shall wait for a while."""
        ...

    def note_seen(self, offset: int) -> None:
        """The viewers have been given everything before it. Survives the server, and costs nothing."""
        ...

    def write(self, typist: int, offset: int, data: bytes) -> int:
        """Input, at most 64 KiB. `offset`: all that the typist has typed before. What is known already is not typed
        again. The backlog, as it is then."""
        ...

    def typed(self, typist: int) -> int:
        """All that the typist has typed, as far as the shell has it."""
        ...

    def resize(self, size: Size) -> None: ...

    def signal(self, number: int) -> None:
        """To its process group. SIGHUP is followed by SIGKILL, should it not end."""
        ...

    def listen(self, changed: Callable[[], None]) -> None:
        """`changed` is called after `head`, `ended`, `typed` or `backlog` has changed, at once."""
        ...


class Shells(Protocol):
    async def start(self, spec: ShellSpec) -> Shell:
        """Raises Conflict, TooMany, Unavailable."""
        ...

    async def find(self, session: SessionId) -> Sequence[Shell]:
        """Those that are there already, ended ones that were not forgotten among them. Raises Unavailable."""
        ...

    async def hide(self, session: SessionId, values: Sequence[str]) -> None:
        """Nobody shall read these values in what its shells write from now on."""
        ...

    async def forget(self, session: SessionId, id: ShellId) -> None:
        """It has ended, and its output is of no more use."""
        ...

    async def drop(self, session: SessionId) -> None:
        """The session's processes have ended, and its shells with them."""
        ...

    async def close(self) -> None:
        """Let go. Shells that can outlive us go on."""
        ...
