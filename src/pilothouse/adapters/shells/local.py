"""Shells that are children of this process, for one machine without a keeper, and for tests: what a holder does, in the
server's own loop. They end with it."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import time
from collections.abc import Callable, Sequence

from pilothouse.adapters.shells import hidden, pty
from pilothouse.adapters.shells.spawn import spawn
from pilothouse.core.errors import Conflict, TooMany, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.redact import Masks
from pilothouse.core.scrollback import Gone, Scrollback
from pilothouse.core.shell import SHELLS_MAX, WINDOW, Exit, ShellId, Size, beginning
from pilothouse.engine.shells import Shell, ShellSpec

KILL_S = 3.0
"""From a hang-up to a kill."""


class LocalShell:
    def __init__(self, spec: ShellSpec, pid: int, master: int) -> None:
        self.id = spec.id
        self.started = time.time()
        self.command = beginning(spec.argv) if spec.command else []
        self.size = spec.size
        self.resized: Sequence[tuple[int, Size]] = ()
        """Nobody asks who has not been here from the beginning."""
        self.ended: Exit | None = None
        self.seen = 0
        self._pid = pid
        self._memory = mmap.mmap(-1, spec.scrollback + WINDOW)
        """Costs nothing until it is written on."""
        self._kept = Scrollback(memoryview(self._memory))
        self._pty = pty.Pty(master, self._kept)
        self._granted = 0
        self.typed_in = False
        self._changed: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._reading = self._writing = False
        self._exit: Exit | None = None
        self._kill: asyncio.TimerHandle | None = None
        self._release: asyncio.TimerHandle | None = None
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._reaped)

    # --- the port

    @property
    def head(self) -> int:
        return self._kept.head

    @property
    def oldest(self) -> int:
        return max(0, self._granted - self._kept.capacity)

    @property
    def capacity(self) -> int:
        return self._kept.capacity

    @property
    def backlog(self) -> int:
        return self._pty.typing.backlog

    def read(self, offset: int, limit: int, prefix: bytes = b"") -> bytes:
        if offset < self.oldest:
            raise Gone(offset, self.oldest)
        return self._kept.read(offset, limit, prefix)

    def seam(self, offset: int) -> int | None:
        return self._kept.seam(max(offset, self.oldest))

    def grant(self, upto: int, *, typed_in: bool) -> None:
        self._granted, self.typed_in = max(self._granted, upto), typed_in
        self._watch()

    def note_seen(self, offset: int) -> None:
        self.seen = offset

    def write(self, typist: int, offset: int, data: bytes) -> int:
        if self.ended is None:
            self._pty.typing.take(typist, offset, data)
            self._write()
        return self.backlog

    def typed(self, typist: int) -> int:
        return self._pty.typing.counts.get(typist, 0)

    def resize(self, size: Size) -> None:
        self.size = size
        if self.ended is None:
            pty.resize(self._pty.fd, size)

    def signal(self, number: int) -> None:
        if self._exit is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, number)
        if number == signal.SIGHUP and self._kill is None:
            self._kill = self._loop.call_later(KILL_S, self.signal, signal.SIGKILL)

    def listen(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    # ---

    def close(self) -> None:
        """Ends it at once."""
        self.signal(signal.SIGKILL)
        if self._exit is None:
            os.waitpid(self._pid, 0)
            self._gone(Exit(0, signal.SIGKILL))
        self._close()

    def hide(self, masks: Masks) -> None:
        if not self._pty.eof:
            self._pty.hide(masks)

    def _watch(self) -> None:
        reading = not self._pty.eof and self.ended is None and self._granted > self.head + self._pty.held
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._pty.fd, self._read)
            else:
                self._loop.remove_reader(self._pty.fd)
        writing = not self._pty.eof and self.ended is None and self.backlog > 0
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._pty.fd, self._write)
            else:
                self._loop.remove_writer(self._pty.fd)

    def _read(self) -> None:
        if self._release is not None:
            self._release.cancel()
            self._release = None
        count = self._pty.read(min(pty.PASS, self._granted - self.head))
        if self._pty.held:
            self._release = self._loop.call_later(hidden.wait(self._pty.begun), self._released)
        self._watch()
        self._end()
        if count and self.ended is None:
            self._changed()

    def _released(self) -> None:
        self._release = None
        self._pty.release()
        self._watch()
        self._changed()

    def _write(self) -> None:
        try:
            self._pty.typing.write(self._pty.fd)
        except OSError:
            self._pty.typing.clear()
        self._watch()
        self._changed()

    def _reaped(self) -> None:
        _, status = os.waitpid(self._pid, 0)
        self._gone(Exit.of(os.waitstatus_to_exitcode(status)))
        self._end()

    def _gone(self, exit: Exit) -> None:
        self._exit = exit
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._kill is not None:
            self._kill.cancel()

    def _end(self) -> None:
        if self._exit is not None and self._pty.eof and self.ended is None:
            self._close()
            self._changed()

    def _close(self) -> None:
        if self.ended is None:
            self.ended = self._exit
            if self._release is not None:
                self._release.cancel()
            self._watch()
            self._pty.close()


class LocalShells:
    def __init__(self) -> None:
        self._shells: dict[SessionId, dict[ShellId, LocalShell]] = {}
        self._hidden: dict[SessionId, hidden.Hidden] = {}

    async def start(self, spec: ShellSpec) -> Shell:
        shells = self._shells.setdefault(spec.session, {})
        if spec.id in shells:
            raise Conflict("shell: there is one of this id")
        if sum(shell.ended is None for shell in shells.values()) >= SHELLS_MAX:
            raise TooMany(f"a session has at most {SHELLS_MAX} shells")
        if any(one.file for one in spec.secrets):
            raise Unavailable("secrets: these shells have no memory of their own to keep files in")
        given = {one.name: one.value for one in spec.secrets}
        try:
            pid, master = spawn(spec.argv, spec.env | given, spec.cwd, spec.size)
        except OSError as error:
            raise Unavailable(f"shell: {error.strerror or error}") from None
        shells[spec.id] = LocalShell(spec, pid, master)
        await self.hide(spec.session, [*given.values(), *spec.hidden])
        return shells[spec.id]

    async def hide(self, session: SessionId, values: Sequence[str]) -> None:
        known = self._hidden.setdefault(session, hidden.Hidden())
        known.add(values)
        if known.masks is not None:
            for shell in self._shells.get(session, {}).values():
                shell.hide(known.masks)

    async def find(self, session: SessionId) -> Sequence[Shell]:
        return list(self._shells.get(session, {}).values())

    async def forget(self, session: SessionId, id: ShellId) -> None:
        shell = self._shells.get(session, {}).get(id)
        if shell is not None and shell.ended is not None:
            del self._shells[session][id]

    async def drop(self, session: SessionId) -> None:
        self._hidden.pop(session, None)
        for shell in self._shells.pop(session, {}).values():
            shell.close()

    async def close(self) -> None:
        for shells in self._shells.values():
            for shell in shells.values():
                shell.close()
        self._shells.clear()
