"""Shells of sessions, as people ask for them: the session is woken if it sleeps, and the audit says whose they are.

Shells of a server before this one are found when this one starts, so that they end when they are due. A session with a
shell in it is not put to rest; its shells have an idle time of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence

from pilothouse.core.chain import Value
from pilothouse.core.errors import BadRequest, NotFound, PilothouseError
from pilothouse.core.ids import SessionId
from pilothouse.core.shell import SCROLLBACK, USUAL, ShellId, Size
from pilothouse.engine.audit import Entry, Who
from pilothouse.engine.kit import Kit
from pilothouse.engine.live import whole
from pilothouse.engine.ports import Budget, StoreFailed
from pilothouse.engine.secrets import Secrets
from pilothouse.engine.sessions import Session, Sessions
from pilothouse.engine.shells import ShellSpec
from pilothouse.engine.terminal import Terminal
from pilothouse.engine.terminals import Terminals

SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash; exec sh")
"""What a shell runs that nobody said anything else of."""
STARTUP = (
    "/bin/sh",
    "-c",
    r"""command -v bash >/dev/null || { eval "unset PILOTHOUSE_STARTUP
$PILOTHOUSE_STARTUP"; exec sh; }
exec bash -c 'exec bash --rcfile <(cat <<"END"
[ -r ~/.bashrc ] && . ~/.bashrc
eval "unset PILOTHOUSE_STARTUP
$PILOTHOUSE_STARTUP"
END
)'""",
)
"""The same, with a command to begin with: run by the shell that stays, so that what it sets is set. Its text is in the
environment and part of no command line."""
STARTUP_MAX = 4096
"""Bytes of it: more is a script, and belongs into a file."""
TEND_S = 5.0
"""How often it is looked for shells whose time is up."""


class Opener:
    def __init__(
        self, sessions: Sessions, terminals: Terminals, scrollback: int = SCROLLBACK, *, secrets: Secrets
    ) -> None:
        self._sessions = sessions
        self._secrets = secrets
        self._kit: Kit = sessions.kit
        self.terminals = terminals
        self._scrollback = scrollback
        self._tending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Finds what a server before this one left."""
        left = [state.session for state in await self._kit.sandboxes.list() if state.alive and state.shells]
        await asyncio.gather(*map(self._found, left))  # one that hangs costs its patience once, and not before others
        self._secrets.on_change.append(self._hide)
        self._sessions.watched = self.terminals.running
        self._sessions.on_end.append(self.terminals.drop)
        self._tending = asyncio.create_task(self._tend(), name="shells")

    async def _found(self, session: SessionId) -> None:
        try:
            await self.terminals.list(session)
        except PilothouseError as error:
            self._kit.note("shells_not_found", session=session, error=error.message[:200])

    async def close(self) -> None:
        """The shells go on."""
        if self._tending is not None:
            self._tending.cancel()
        await self.terminals.close()

    @whole
    async def open(
        self,
        session: Session,
        id: ShellId,
        who: Who,
        *,
        argv: Sequence[str] = (),
        cwd: str = "",
        size: Size = USUAL,
        startup: str = "",
    ) -> tuple[Terminal, bool]:
        """The shell of this id, whether it is new. Who asks and leaves has it opened all the same: who comes back shall
        not begin a long opening anew. `startup`: what a new one begins with. Raises TooMany, Conflict, Unavailable,
        BadRequest."""
        with contextlib.suppress(NotFound):
            found = await self.find(session, id)
            if not found.closing:
                return found, False
        live, sid = session.live, session.live.record.id
        await self._check(session, argv, startup)
        secrets = tuple(one for one in await self._secrets.given(live.record) if one.shells)
        hidden = tuple(await self._secrets.hidden(live.record))
        await live.shelter()
        if not session.jobs.busy:
            await self._kit.models.admit(sid, None, Budget(session_max_cost_usd=self._kit.limits.session_max_cost_usd))
        details: dict[str, Value] = {"shell": id}
        names = [one.name for one in secrets]
        if names:
            details["secrets"] = [*names]
        if startup:
            details["startup"] = hashlib.sha256(startup.encode()).hexdigest()
        await self._kit.audit.commit(who, [Entry("shell.open", f"session:{sid}", details=details)])
        env = {"PILOTHOUSE_STARTUP": startup} if startup else {}
        words = tuple(argv) or (STARTUP if startup else SHELL)
        spec = ShellSpec(sid, id, words, env, cwd, size, self._scrollback, bool(argv), secrets, hidden)
        opened = await self.terminals.open(spec)
        await self._secrets.used(live.record, names)
        return opened

    async def _check(self, session: Session, argv: Sequence[str], startup: str) -> None:
        """Raises BadRequest, Unavailable."""
        if startup and argv:
            raise BadRequest("startup: for a shell of its own, not beside a command")
        if "\0" in startup or len(startup.encode("utf-8", "surrogatepass")) > STARTUP_MAX:
            raise BadRequest(f"startup: at most {STARTUP_MAX} bytes, no NUL")
        await self._secrets.no_value(session.live.record, "startup", startup)
        await self._secrets.no_value(session.live.record, "command", *argv)

    async def find(self, session: Session, id: ShellId) -> Terminal:
        """Raises NotFound, Unavailable."""
        for terminal in await self.list(session):
            if terminal.shell.id == id:
                return terminal
        raise NotFound("shell: this session has none of this id")

    async def list(self, session: Session) -> Sequence[Terminal]:
        """Raises Unavailable."""
        sid = session.live.record.id
        state = await self._kit.sandboxes.state(sid)
        if not state.shells:  # where none was ever opened nobody is asked for them
            return []
        return await self.terminals.list(sid)

    async def end(self, session: Session, id: ShellId, who: Who) -> None:
        """Raises NotFound, Unavailable."""
        terminal = await self.find(session, id)
        sid = session.live.record.id
        await self._kit.audit.commit(who, [Entry("shell.end", f"session:{sid}", details={"shell": id})])
        terminal.hang_up()

    def touched(self, session: SessionId) -> None:
        """Somebody is there."""
        here = self._sessions.here(session)
        if here is not None:
            here.live.touched = self._kit.clock.now()

    async def _hide(self) -> None:
        """Secrets have changed: shells that run do not have the new ones, and may read them all the same."""
        for sid in self.terminals.sessions:
            session = self._sessions.here(sid)
            if session is not None:
                with contextlib.suppress(PilothouseError):
                    await self.terminals.hide(sid, await self._secrets.hidden(session.live.record))

    async def _tend(self) -> None:
        while True:
            await self._kit.clock.sleep(TEND_S)
            try:
                await self.terminals.tend()
            except (PilothouseError, StoreFailed, OSError) as error:
                self._kit.note("shells_not_tended", error=repr(error)[:500])
