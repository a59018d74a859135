"""The shells of one session, in its holder: between what reads their PTYs (`adapters.shells.holding`) and who starts
programs inside (`inside`). A session that nobody opens a shell in has a listening socket of it, and no more.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pilothouse.adapters.shells.holding import Holding
from pilothouse.adapters.shells.order import Order
from pilothouse.core.shell import Exit, ShellId

_TIOCGPTN = 0x80045430
"""Asks a PTY's master for its number; nothing else knows the answer."""
_KILLED = Exit(0, 9)


class NotStarted(Exception):
    """It cannot be started; the message is for whoever wants it."""


@dataclass(slots=True)
class _Wanted:
    id: ShellId
    opened: bool = False


class Shells:
    def __init__(
        self,
        selector: selectors.BaseSelector,
        listening: socket.socket,
        allowed_uids: tuple[int, ...],
        start: Callable[[Order], int],
        kill: Callable[[int, int], None],
        *,
        lends: bool = False,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`start` asks for a program on a PTY and gives its key, `kill` is for the process group of a key. `start`
        raises NotStarted. `lends`, `ready`: see `Holding`."""
        self._selector = selector
        self._listening = listening
        self._allowed = allowed_uids
        self._start = start
        self._kill = kill
        self._lends = lends
        self._ready = ready
        self._holding: Holding | None = None
        self._keys: dict[int, _Wanted] = {}
        selector.register(listening, selectors.EVENT_READ, self._first)

    def _first(self) -> None:
        """Somebody asks for shells at last."""
        self._selector.unregister(self._listening)
        self._holding = Holding(
            self._selector,
            self._listening,
            self._allowed,
            self._wanted,
            self._signal,
            lends=self._lends,
            ready=self._ready,
        )

    # --- what the holder calls

    @property
    def keys(self) -> tuple[int, ...]:
        """Of those that run."""
        return tuple(self._keys)

    @property
    def held(self) -> int:
        """Those that have ended and were not forgotten among them."""
        return self._holding.held if self._holding else 0

    def pause(self) -> float | None:
        return self._holding.pause() if self._holding else None

    def tick(self) -> None:
        if self._holding:
            self._holding.tick()

    def started(self, key: int, fds: list[int]) -> bool:
        """Whether that program is a shell; then its PTY's master is among `fds`, and is taken out of them."""
        wanted = self._keys.get(key)
        if wanted is None or self._holding is None:
            return False
        if not wanted.opened and fds and _is_master(fds[0]):
            wanted.opened = True
            self._holding.opened(wanted.id, fds.pop(0))
        elif not wanted.opened:
            self._kill(key, 9)
            self._fail(key, "who starts programs inside gave no terminal")
        return True

    def ended(self, key: int, status: str) -> None:
        wanted = self._keys.pop(key, None)
        if wanted is None or self._holding is None:
            return
        if wanted.opened:
            self._holding.exited(wanted.id, _exit(status))
        else:
            self._holding.failed(wanted.id, status)

    def all_ended(self) -> None:
        """With their sandbox. What they wrote can still be read."""
        for key in self.keys:
            wanted = self._keys.pop(key)
            if self._holding and wanted.opened:
                self._holding.exited(wanted.id, _KILLED)
            elif self._holding:
                self._holding.failed(wanted.id, "the sandbox has ended")

    def close(self) -> None:
        """With the session."""
        if self._holding:
            self._holding.close()

    # --- what the holding calls

    def _wanted(self, order: Order) -> None:
        assert self._holding is not None
        try:
            self._keys[self._start(order)] = _Wanted(order.id)
        except NotStarted as error:
            self._holding.failed(order.id, str(error))

    def _signal(self, id: ShellId, number: int) -> None:
        for key, wanted in self._keys.items():
            if wanted.id == id:
                self._kill(key, number)

    def _fail(self, key: int, why: str) -> None:
        wanted = self._keys.pop(key)
        if self._holding:
            self._holding.failed(wanted.id, why)


def _is_master(fd: int) -> bool:
    """What comes from inside is taken as hostile: any other descriptor would block or break whoever reads it."""
    try:
        fcntl.ioctl(fd, _TIOCGPTN, b"\0\0\0\0")
    except OSError:
        return False
    return True


def _exit(status: str) -> Exit:
    """From `inside.status_text`."""
    word, _, number = status.partition(" ")
    value = int(number) if number.isdecimal() and len(number) < 4 else 1
    return Exit(0, value) if word == "signal" and 0 < value < 65 else Exit(value & 0xFF)


def message(key: int, order: Order, env: dict[str, str], cwd: str) -> dict[str, Any]:
    """For `inside`."""
    terminal = [order.size.rows, order.size.cols]
    env = env | order.env | order.secrets
    start = {"start": key, "argv": order.argv, "env": env, "cwd": order.cwd or cwd, "terminal": terminal}
    return start | ({"files": order.files, "shell": order.id} if order.files else {})


def close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
    fds.clear()
