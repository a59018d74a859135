"""The port to shells that live in their session's holder: they outlive the server, and the next one finds them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence

from pilothouse.adapters.shells.heldshell import LastRead
from pilothouse.adapters.shells.line import Line
from pilothouse.core.errors import PilothouseError, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.shell import ShellId
from pilothouse.engine.shells import Shell, ShellSpec

Dial = Callable[[SessionId], Awaitable[socket.socket]]
"""A connected unix stream socket to the holder's shells. Raises Unavailable."""


class HeldShells:
    """The port. One connection per session, made when it is first needed."""

    def __init__(self, dial: Dial, *, lend: bool = False) -> None:
        """`lend`: holders are asked for the PTYs (see `lending`)."""
        self._dial = dial
        self._lend = lend
        self._last = LastRead()
        self._lines: dict[SessionId, asyncio.Task[Line]] = {}

    async def start(self, spec: ShellSpec) -> Shell:
        return await (await self._line(spec.session)).start(spec)

    async def find(self, session: SessionId) -> Sequence[Shell]:
        return list((await self._line(session)).shells.values())

    async def hide(self, session: SessionId, values: Sequence[str]) -> None:
        with contextlib.suppress(Unavailable):
            (await self._line(session)).hide(values)

    async def forget(self, session: SessionId, id: ShellId) -> None:
        with contextlib.suppress(Unavailable):
            line = await self._line(session)
            for shell in [s for s in line.shells.values() if s.id == id and s.ended is not None]:
                line.forget(shell)

    async def drop(self, session: SessionId) -> None:
        task = self._lines.pop(session, None)
        if task is not None:
            await self._let_go(task)

    async def close(self) -> None:
        for session in list(self._lines):
            await self.drop(session)

    async def _let_go(self, task: asyncio.Task[Line]) -> None:
        with contextlib.suppress(PilothouseError):
            line = await task
            line.close()
            for shell in line.shells.values():
                shell.close()

    async def _line(self, session: SessionId) -> Line:
        task = self._lines.get(session)
        if task is None:
            task = self._lines[session] = asyncio.create_task(self._open(session))
            task.add_done_callback(lambda done: self._opened(session, done))
        return await asyncio.shield(task)

    def _opened(self, session: SessionId, task: asyncio.Task[Line]) -> None:
        """The next one who asks dials again, if it failed. Whoever waited for this one has no say in that: there may
        be another by then, and dialling beside it would cut it off."""
        if (task.cancelled() or task.exception() is not None) and self._lines.get(session) is task:
            del self._lines[session]

    async def _open(self, session: SessionId) -> Line:
        me = asyncio.current_task()
        line = Line(await self._dial(session), lambda: self._gone(session, me), lend=self._lend, last=self._last)
        await line.greet()
        return line

    def _gone(self, session: SessionId, line: asyncio.Task[Line] | None) -> None:
        """There may be another one by now."""
        if self._lines.get(session) is line:
            del self._lines[session]
