"""What a holder is to hold, and what it holds once its sandbox runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from pilothouse.adapters.sandboxes import fdpass, meter, profile


class LaunchFailed(Exception):
    """The sandbox did not start; the message is what bwrap or the first process said."""


@dataclass(frozen=True)
class Order:
    """What a holder is to hold. Paths are as the session's uid reaches them."""

    session: str
    sandbox: str
    """bubblewrap, reduced or host"""
    agent: str
    env: dict[str, str]
    place: profile.Place
    interpreter: profile.Interpreter
    """With the host side of `binds` as the session's uid reaches it."""
    bwrap: str
    uid: int | None
    """The session's own uid when the keeper is root, None to stay who we are."""
    control: str
    runner: str
    shells: str
    allowed_uids: tuple[int, ...]
    """Who may use the sockets of control and shells."""
    owner: tuple[int, int] | None = None
    """Whose the sockets are, when not whose process makes them."""
    userns: bool = True
    first: tuple[str, ...] = ()
    """What bwrap starts (see enter.first)."""
    bounds: meter.Bounds = field(default_factory=meter.Bounds)


@dataclass
class Running:
    pid: int
    """bwrap's, or the first process's own without a sandbox."""
    control: socket.socket
    lines: fdpass.Lines
    stderr: int
    listeners: list[socket.socket]
    """For the model and, where there is a network, for egress."""
    env: dict[str, str]
    cwd: str
    command: profile.Interpreter
    first: int
    """A pidfd of the first process."""
    enter: Callable[[], int] | None = None
    """Forks who starts the programs, where that is not the first process, and gives its pid."""
    entered: Callable[[], None] = lambda: None
    """Nothing more of ours goes into the sandbox."""
    starter: int = 0
    said: dict[str, object] = field(default_factory=dict)
    """The first process's own first word, where it is ours."""
    namespaces: list[int] = field(default_factory=list)
    """Descriptors, until they are entered: they keep alive what is mounted there."""
    rooms: dict[str, int] = field(default_factory=dict)
    """Descriptors of the file systems in memory, by the names of their limits: to look at, not to enter."""

    def begin(self) -> None:
        """Before the first program is started: a session that only waits does without. Raises OSError."""
        if self.enter is not None and not self.starter:
            self.starter = self.enter()
            self._leave()
            self.entered()

    def _leave(self) -> None:
        for fd in self.namespaces:
            os.close(fd)
        self.namespaces.clear()

    def end(self) -> None:
        """The sandbox has ended."""
        self._leave()
        for fd in self.rooms.values():
            os.close(fd)
        self.rooms.clear()
        if self.starter:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.starter, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.starter, 0)
