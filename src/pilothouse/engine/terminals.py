"""All terminals: opened, found again after a restart, watched, ended.

A shell lives as long as it wants, within bounds: it ends when nobody has looked at it and nothing was written or typed
for `idle_s`, and at the latest after `life_s`. An ended one that nobody looked at is kept for `ended_s`, so that its
last words and its exit status can be fetched. What time has to do with it happens in `tend`, which the server calls
every few seconds.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pilothouse.core.audience import Viewer
from pilothouse.core.errors import Conflict, NotFound, TooMany, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.shell import SHELLS_MAX, ShellId
from pilothouse.engine.live import whole
from pilothouse.engine.ports import Clock
from pilothouse.engine.shells import Shell, Shells, ShellSpec
from pilothouse.engine.terminal import Terminal
from pilothouse.engine.turns import Turns
from pilothouse.engine.viewing import Sink, Viewing

CLOSED_S = 6.0
"""So long a shell that was closed for good keeps its name: it is killed when it does not listen, which takes half."""


@dataclass(frozen=True, slots=True)
class TerminalLimits:
    idle_s: float = 4 * 3600.0
    """Half a working day that nobody came back to it."""
    life_s: float = 8 * 3600.0
    """As long as a session of AgentCore may live."""
    ended_s: float = 300.0
    """For the page to be reloaded, or a script to come back."""
    ahead: int = 1024 * 1024
    """Bytes that a viewer has not taken yet, above which it is sent no more; where its socket's `writable` waits."""


class Terminals:
    def __init__(self, shells: Shells, clock: Clock, limits: TerminalLimits | None = None) -> None:
        self._shells = shells
        self._clock = clock
        self._limits = limits or TerminalLimits()
        self._turns = Turns()
        self._sessions: dict[SessionId, dict[ShellId, Terminal]] = {}
        self._locks: defaultdict[SessionId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ended: dict[tuple[SessionId, ShellId], float] = {}
        """Since when it is known that a shell has ended and nobody looks at it."""
        self._idle: dict[tuple[SessionId, ShellId], tuple[float, float]] = {}
        """Since when nothing has happened, and the terminal's own word for that moment."""
        self._forgetting: set[asyncio.Task[None]] = set()

    @whole
    async def open(self, spec: ShellSpec) -> tuple[Terminal, bool]:
        """The shell of this id, started if there is none; whether it is new. Two who ask at the same instant get the
        same one, and who asks and leaves has it started all the same: a shell that runs is known here. Raises TooMany,
        Conflict, Unavailable, BadRequest."""
        while True:
            async with self._locks[spec.session]:
                terminals = await self._known(spec.session)
                found = terminals.get(spec.id)
                if found is None:
                    if sum(t.shell.ended is None for t in terminals.values()) >= SHELLS_MAX:
                        raise TooMany(f"a session has at most {SHELLS_MAX} shells: end one of them first")
                    return await self._start(spec)
                if not found.closing:
                    return found, False
            try:
                async with asyncio.timeout(CLOSED_S):
                    await found.going()  # it was closed for good: the next of its name is another one
            except TimeoutError:
                raise Conflict("shell: the one of this id is being closed") from None

    async def find(self, session: SessionId, id: ShellId) -> Terminal:
        """Raises NotFound, Unavailable."""
        async with self._locks[session]:
            found = (await self._known(session)).get(id)
        if found is None:
            raise NotFound("shell: this session has none of this id")
        return found

    async def list(self, session: SessionId) -> Sequence[Terminal]:
        """Raises Unavailable."""
        async with self._locks[session]:
            return list((await self._known(session)).values())

    def attach(
        self,
        terminal: Terminal,
        viewer: Viewer,
        sink: Sink,
        *,
        new: bool,
        after: int | None = None,
        typist: int | None = None,
    ) -> Viewing:
        """`new`: as `open` said. `after`: how much of the output the viewer has. `typist`: who it was when it typed
        before, so that it is told what has been typed. Raises NotFound for one that ended after it was found,
        BadRequest, TooMany, Conflict."""
        if terminal.gone:
            raise NotFound("shell: it has ended")
        return terminal.attach(viewer, sink, secrets.randbits(64) if typist is None else typist, new=new, after=after)

    async def end(self, session: SessionId, id: ShellId) -> None:
        """Raises NotFound, Unavailable."""
        (await self.find(session, id)).hang_up()

    def known(self, session: SessionId, id: ShellId) -> Terminal | None:
        """If it is in memory."""
        return self._sessions.get(session, {}).get(id)

    def running(self, session: SessionId) -> bool:
        """Whether one of its shells, as far as they are in memory, has not ended."""
        return any(t.shell.ended is None for t in self._sessions.get(session, {}).values())

    async def hide(self, session: SessionId, values: Sequence[str]) -> None:
        """In what its shells, as far as they are in memory, write from now on."""
        if self.running(session):
            await self._shells.hide(session, values)

    @property
    def sessions(self) -> Sequence[SessionId]:
        """Those whose shells are in memory."""
        return list(self._sessions)

    def every(self) -> Iterator[Terminal]:
        """Those in memory."""
        for terminals in self._sessions.values():
            yield from terminals.values()

    async def tend(self) -> None:
        """What is due by now."""
        now = self._clock.now()
        for session, terminals in list(self._sessions.items()):
            for id, terminal in list(terminals.items()):
                key = (session, id)
                if terminal.shell.ended is not None:
                    if not terminal.viewers and now - self._ended.setdefault(key, now) >= self._limits.ended_s:
                        await self._forget(session, terminal)
                elif now - terminal.shell.started >= self._limits.life_s or self._unused(key, terminal, now):
                    terminal.hang_up()

    async def drop(self, session: SessionId) -> None:
        """The session is stopped or deleted, and its shells with it."""
        for id, terminal in list(self._sessions.pop(session, {}).items()):
            terminal.session_ended()
            self._left(session, id, terminal)
        await self._shells.drop(session)
        self._locks.pop(session, None)

    async def close(self) -> None:
        """The server goes; the shells go on."""
        for terminals in self._sessions.values():
            for terminal in terminals.values():
                terminal.send_all_away()
        for task in list(self._forgetting):
            await task
        await self._shells.close()

    # ---

    async def _known(self, session: SessionId) -> dict[ShellId, Terminal]:
        """Those of a former server among them."""
        terminals = self._sessions.get(session)
        if terminals is None:
            found = await self._shells.find(session)
            terminals = self._sessions.setdefault(session, {})
            for shell in found:
                self._take(session, shell)
        return terminals

    async def _start(self, spec: ShellSpec) -> tuple[Terminal, bool]:
        """Or the one that runs and had been given up, when the connection to it broke off and was made again."""
        try:
            return self._take(spec.session, await self._shells.start(spec), new=True), True
        except Conflict:
            for shell in await self._shells.find(spec.session):
                if shell.id == spec.id:
                    return self._take(spec.session, shell), False
            raise

    def _take(self, session: SessionId, shell: Shell, *, new: bool = False) -> Terminal:
        terminals = self._sessions.get(session)
        if terminals is None:
            raise Unavailable("shell: its session has ended")
        if shell.id in terminals:
            raise Conflict("shell: there is one of this id")
        terminal = terminals[shell.id] = Terminal(shell, self._turns, self._limits.ahead, self._over, new=new)
        return terminal

    def _over(self, terminal: Terminal) -> None:
        """It has ended and every viewer has been told."""
        for session, terminals in self._sessions.items():
            if terminals.get(terminal.shell.id) is terminal:
                task = asyncio.create_task(self._forget(session, terminal))
                self._forgetting.add(task)
                task.add_done_callback(self._forgetting.discard)
                return

    async def _forget(self, session: SessionId, terminal: Terminal) -> None:
        async with self._locks[session]:
            terminals = self._sessions.get(session, {})
            id = terminal.shell.id
            if terminals.get(id) is terminal and not terminal.viewers:
                del terminals[id]
                self._left(session, id, terminal)
                await self._shells.forget(session, id)

    def _left(self, session: SessionId, id: ShellId, terminal: Terminal) -> None:
        """It is not among those that are known any more."""
        self._ended.pop((session, id), None)
        self._idle.pop((session, id), None)
        terminal.forgotten()

    def _unused(self, key: tuple[SessionId, ShellId], terminal: Terminal, now: float) -> bool:
        """By the clock: what counts is that nothing happened since we first looked."""
        since, word = self._idle.get(key, (now, -1.0))
        if terminal.viewers or word != terminal.active_at:
            self._idle[key] = (now, terminal.active_at)
            return False
        return now - since >= self._limits.idle_s
