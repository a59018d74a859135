"""What every part of the engine works with: the ports, the log and the limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from pilothouse.core.limits import Caps
from pilothouse.core.policy import Pattern
from pilothouse.core.reach import Reach
from pilothouse.engine.attendance import Attendance
from pilothouse.engine.audit import Audit
from pilothouse.engine.bells import Bells
from pilothouse.engine.log import Log
from pilothouse.engine.ports import Clock, EventStore, ModelProxy, Sandboxes


@dataclass(frozen=True)
class Limits:
    """Settings of the engine. Times in seconds, money in USD."""

    approval_timeout_s: float = 300.0
    restart_grace_s: float = 60.0
    """A person gets at least this long after a restart, whatever `expiresAt` said."""
    job_timeout_s: int = 3600
    idle_s: float = 900.0
    sessions_max: int = 60
    queue_max: int = 20
    """Jobs waiting in one session: more is a loop, not a person."""
    prompt_max: int = 1024 * 1024
    """Bytes of a prompt."""
    job_max_cost_usd: float | None = None
    session_max_cost_usd: float | None = None
    spares: int = 0
    """Sandboxes kept ready for new sessions."""
    permission_mode: str = "acceptEdits"
    agent: str = "claude"
    caps: Caps = field(default_factory=Caps)
    """What a session may use of the machine, at most unless an administrator says otherwise."""
    fold_after_s: float = 86_400.0
    retention_events: int = 200_000
    egress: Reach = Reach()
    """What sessions reach that say nothing of their own."""
    second_approver: tuple[Pattern, ...] = ()
    """Tool calls that somebody other than whoever asked has to approve."""


class Note(Protocol):
    """The server's own log: a word for what happened and its fields, never a secret, a prompt or an input."""

    def __call__(self, what: str, /, **fields: object) -> None: ...


def silent(what: str, /, **fields: object) -> None:
    """Says nothing."""


def worth_noting(count: int, first: int = 1) -> bool:
    """The first ones, then the tenth, the hundredth…: what a runner causes without end fills no log of the server."""
    return count <= first or str(count).strip("0") == "1"


@dataclass(frozen=True)
class Kit:
    store: EventStore
    log: Log
    sandboxes: Sandboxes
    models: ModelProxy
    clock: Clock
    limits: Limits
    agents: tuple[str, ...] = ("claude", "echo")
    note: Note = silent
    bells: Bells = field(default_factory=Bells)
    attendance: Attendance = field(default_factory=Attendance)
    serial: int = 1
    """How many times a server has started on this store: what makes `fence` grow over restarts."""

    @cached_property
    def audit(self) -> Audit:
        """One for all that write to the store: two would fork its chains."""
        return Audit(self.store, self.clock)
