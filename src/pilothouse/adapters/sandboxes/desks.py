"""The keeper's table of file desks: at most one per session, DESKS_MAX in all. One that is asked for anew replaces the
one before, which may hang.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from pilothouse.adapters.sandboxes import desk

DESKS_MAX = 64
"""A megabyte each; the server lets go of those that it does not need long before."""
END_MS = 500
"""A killed process is gone at once; one that the kernel holds (a device does not answer) shall not hold the keeper."""
_OWN = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DeskRefused(Exception):
    """No desk; the message is for the caller."""


class Desks:
    """`let_go` closes, in a forked child, what is the keeper's own."""

    def __init__(self, selector: selectors.BaseSelector, let_go: Callable[[], None]) -> None:
        self._selector = selector
        self._let_go = let_go
        self._pidfds: dict[str, int] = {}

    def open(self, session: str, own: Path, directory: str | None, root: bool) -> socket.socket | None:
        """The server's end of a new desk. None: the session has no workspace. Raises DeskRefused, OSError."""
        self.end(session)
        if len(self._pidfds) >= DESKS_MAX:
            raise DeskRefused("too many workspaces are being read at the same time")
        try:
            uid = (own / "home").lstat().st_uid
            held = os.open(own, _OWN)
        except FileNotFoundError:
            return None
        if root and not uid:
            os.close(held)
            raise DeskRefused("the session's files belong to root")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                self._let_go()
                ours.close()
                desk.run(theirs, held, directory, uid if root else None)
            finally:
                os._exit(0)
        os.close(held)
        theirs.close()
        self._watch(session, os.pidfd_open(pid))
        return ours

    def _watch(self, session: str, pidfd: int) -> None:
        self._pidfds[session] = pidfd
        self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._ended(session, pidfd))

    def _ended(self, session: str, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        if self._pidfds.get(session) == pidfd:
            del self._pidfds[session]

    def end(self, session: str) -> None:
        """The session's desk, if it has one, ends now, so that nothing of its files is held open any more."""
        pidfd = self._pidfds.get(session)
        if pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            gone = select.poll()
            gone.register(pidfd, select.POLLIN)
            gone.poll(END_MS)
            self._ended(session, pidfd)

    def end_all(self) -> None:
        for session in list(self._pidfds):
            self.end(session)
