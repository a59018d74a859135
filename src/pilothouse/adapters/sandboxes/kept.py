"""Sessions through the keeper: what `bubblewrap` and `host` have in common. The server may die; none of this does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from pilothouse.adapters.sandboxes import client, readers, sources, wire
from pilothouse.adapters.sandboxes.files import WorkspaceFiles
from pilothouse.adapters.sandboxes.layout import Layout
from pilothouse.adapters.sandboxes.notes import Notes
from pilothouse.adapters.sandboxes.presence import Presence
from pilothouse.adapters.sandboxes.watching import Watching
from pilothouse.core import limits
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId
from pilothouse.core.limits import Caps
from pilothouse.core.limits import State as LimitState
from pilothouse.core.places import USUAL, Place
from pilothouse.engine.ports import LimitHit, Probe, SandboxSpec, SandboxState, Wire, Workspace

CLONE_MAX_S = 600.0
"""A large repository over a slow line; then the words say so."""
CLONE_DEPTH = 50
"""Enough history to read and to compare with, without a decade of it."""
_FIRST_HUMAN_UID = 1000
_WORDS_MAX = 2000
_SAID_MAX = 200

KEEPER = (sys.executable, "-P", "-m", "pilothouse", "keeper")
Admit = Callable[[SessionId], Awaitable[None]]


def _people() -> tuple[Path, ...]:
    """The home directories of people and of root."""
    homes = {Path(p.pw_dir) for p in pwd.getpwall() if p.pw_uid == 0 or p.pw_uid >= _FIRST_HUMAN_UID}
    return tuple(h.resolve() for h in homes if h.is_absolute() and h.is_dir() and h != Path("/"))


def _clone(url: str) -> list[str]:
    """Run inside: the repository may be hostile to git, and git then is inside as well."""
    safe = ["-c", "credential.helper=", "-c", "core.hooksPath=/dev/null", "-c", "http.lowSpeedLimit=100"]
    safe += ["-c", "http.lowSpeedTime=60"]
    return ["git", *safe, "clone", "--quiet", "--depth", str(CLONE_DEPTH), "--no-recurse-submodules", "--", url, "."]


class KeptSandboxes:
    """`argv` is the keeper's command, unless `start` brings it up. `admit` is awaited before a clone, so that the
    session's egress is served."""

    sandbox = ""

    def __init__(
        self,
        home: Path,
        runtime: Path,
        argv: Sequence[str],
        *,
        git_schemes: tuple[str, ...] = ("https",),
        admit: Admit | None = None,
        start: client.Start | None = None,
        caps: Caps | None = None,
        image: bool = True,
    ) -> None:
        self._layout = Layout(home.absolute(), runtime.absolute())
        self._start: client.Start = start or partial(client.start, argv=tuple(argv))
        self._schemes = git_schemes
        self.admit = admit
        self.level: dict[str, Any] = {"sandbox": self.sandbox}
        """How sandboxes are opened, as the keeper is told."""
        self._presence = Presence(lambda: self._keeper({"verb": "status"}))
        self._root = False
        self._caps = caps or Caps()
        self._image = image
        self._watching = Watching(self._layout.control)
        self._notes = Notes(self._layout)
        self._readers = readers.Readers(self._desk)

    @classmethod
    async def connect_keeper(
        cls,
        home: Path,
        runtime: Path,
        *,
        git_schemes: tuple[str, ...] = ("https",),
        argv: Sequence[str] = KEEPER,
        admit: Admit | None = None,
        start: client.Start | None = None,
        caps: Caps | None = None,
        image: bool = True,
    ) -> Self:
        """With a keeper that answers. Raises Unavailable."""
        made = cls(home, runtime, argv, git_schemes=git_schemes, admit=admit, start=start, caps=caps, image=image)
        await made._keeper({"verb": "status"})
        return made

    async def probe(self) -> Probe:
        raise NotImplementedError

    async def _usable(self) -> None:
        """Raises Unavailable when this host cannot isolate sessions."""

    # --- the keeper

    async def _keeper(self, message: dict[str, Any]) -> dict[str, Any]:
        """Asked again if it dies under the request: every verb is harmless to repeat. Raises Unavailable."""
        with contextlib.suppress(client.Away, OSError):
            return await self._asked(message)
        try:
            return await self._asked(message)
        except (client.Away, OSError) as error:
            raise Unavailable(f"the keeper went away: {error}") from None

    async def _asked(self, message: dict[str, Any]) -> dict[str, Any]:
        await client.ensure_keeper(self._layout.home, self._layout.runtime, self._start)
        if not self._presence.here:
            hello = await client.ask(self._layout.keeper, {"verb": "hello", "proto": client.PROTO})
            self._root = hello.get("root") is True
            await self._presence.open(self._layout.keeper)
        return await client.ask(self._layout.keeper, message)

    async def open(self, spec: SandboxSpec) -> SandboxState:
        await self._usable()
        opened = await self._open(spec)
        self._watching.follow(spec.session)
        return opened

    async def open_anyway(self, spec: SandboxSpec) -> SandboxState:
        """Whatever the probe says: for who wants to see what such a session could do."""
        return await self._open(spec)

    def check(self, source: Source) -> Source:
        """As it may be kept and shown. Raises BadRequest."""
        if (source.git is None) == (source.dir is None):
            raise BadRequest("source: either git or dir")
        if source.git is not None:
            return Source(git=sources.git_url(source.git, self._schemes))
        assert source.dir is not None
        return Source(dir=str(self._directory(source.dir)))

    def _directory(self, path: str) -> Path:
        """A host directory that a session may work in. Raises BadRequest."""
        uid: int | None = 0 if self._root else os.geteuid()
        if self._root and self.sandbox != "host":
            uid = None  # each session has one of its own
        return sources.directory(path, uid, self._layout.home, self._layout.runtime, _people())

    async def _open(self, spec: SandboxSpec) -> SandboxState:
        source, cloned = self._source(spec)
        request: dict[str, Any] = {"verb": "open", "session": spec.session, **self.level}
        request |= {"agent": spec.agent, "env": spec.env, "image": self._image}
        request["limits"] = self._caps.changed(spec.limits).values()
        if source.dir is not None:
            source = Source(dir=str(self._directory(source.dir)))
            request["dir"] = source.dir
        elif source.git is not None:
            sources.git_url(source.git, self._schemes)
        await self._keeper(request)
        if source.git is not None and not cloned:
            await self._fetch(spec.session, source.git)
        self._notes.write(spec.session, source)
        return await self.state(spec.session)

    def _source(self, spec: SandboxSpec) -> tuple[Source, bool]:
        """The workspace's source, and whether it has been fetched. The first one given stays."""
        noted = self._notes.read(spec.session)
        if noted is not None:
            return noted, True
        source = spec.source or Source()
        if source.git is not None and source.dir is not None:
            raise BadRequest("source: either git or dir")
        return source, False

    async def _fetch(self, session: SessionId, url: str) -> None:
        if self.level["sandbox"] == "reduced":
            await self.stop(session)
            raise BadRequest("source.git: sessions with reduced isolation have no network to clone from")
        if self.admit is not None:
            await self.admit(session)
        allowed = ":".join(s for s in self._schemes if s not in sources.NEVER)
        env = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": allowed, "GIT_CONFIG_NOSYSTEM": "1"}
        await self.run(session, ["find", ".", "-mindepth", "1", "-delete"], {}, CLONE_MAX_S)  # an interrupted clone
        done = await self.run(session, _clone(url), env, CLONE_MAX_S)
        if done.get("exit") != "exit 0":
            await self.stop(session)
            words = str(done.get("output", "")).strip()[-_WORDS_MAX:]
            raise BadRequest(f"source.git: git could not clone it: {words or done.get('exit')}")

    # --- the holders

    async def _holder(
        self, session: SessionId, message: dict[str, Any], patience: float = client.ANSWER_MAX_S
    ) -> dict[str, Any]:
        try:
            return await client.ask(self._layout.control(session), message, patience)
        except client.Away:
            raise Unavailable("the session's sandbox is not running") from None

    async def run(self, session: SessionId, argv: list[str], env: dict[str, str], timeout: float) -> dict[str, Any]:  # noqa: ASYNC109
        """A program inside to its end: {"exit": "exit 0", "output": the last 16 KiB}."""
        message = {"verb": "run", "argv": argv, "env": env, "timeout": timeout}
        return await self._holder(session, message, timeout + 10)

    async def run_module(
        self,
        session: SessionId,
        module: str,
        argv: list[str],
        env: dict[str, str],
        timeout: float,  # noqa: ASYNC109
    ) -> dict[str, Any]:
        """The same for a module of this package, by the session's own Python."""
        message = {"verb": "run", "module": module, "argv": argv, "env": env, "timeout": timeout}
        return await self._holder(session, message, timeout + 10)

    async def runner(self, session: SessionId) -> SandboxState:
        return _state(session, await self._holder(session, {"verb": "runner"}))

    async def connect(self, session: SessionId) -> Wire:
        if not (await self.state(session)).runner:
            raise Unavailable("the session has no runner")
        return await wire.connect(self._layout.runner(session))

    async def shells(self, session: SessionId) -> socket.socket:
        """A connection to what holds the session's shells. Raises Unavailable."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(str(self._layout.shells(session)))
        except OSError:
            sock.close()
            raise Unavailable("the session's sandbox is not running, or is older than this server") from None
        return sock

    async def list(self) -> list[SandboxState]:
        found = [SessionId(name) for name in self._layout.found()]
        states = await asyncio.gather(*map(self._as_far_as_known, found))
        for state in states:
            if state.alive:
                self._watching.follow(state.session)
        return list(states)

    async def state(self, session: SessionId) -> SandboxState:
        path = self._layout.control(session)
        try:
            return _state(session, await client.ask(path, {"verb": "state"}))
        except client.Away:
            return SandboxState(session, False, False, 0, "holder lost" if path.exists() else "")

    async def _as_far_as_known(self, session: SessionId) -> SandboxState:
        """One that hangs, or says nonsense, is not in the way of all others."""
        try:
            return await self.state(session)
        except Unavailable as error:
            return SandboxState(session, False, False, 0, error.message[:_SAID_MAX])

    async def limits(self, session: SessionId, asked: Mapping[str, float]) -> Sequence[LimitState]:
        try:
            said = (await client.ask(self._layout.control(session), {"verb": "limits"}))["limits"]
        except (client.Away, Unavailable):  # it does not run: what would hold it
            enforced = (await self._keeper({"verb": "status"}))["limits"]["enforced"]
            return limits.planned(self._caps.changed(asked), enforced)
        return [LimitState(**row) for row in said]

    def hits(self) -> AsyncIterator[LimitHit]:
        return self._watching.hits()

    async def lacks(self) -> tuple[str, ...]:
        """Which limits cannot be held here, and how that is mended."""
        return tuple((await self._keeper({"verb": "status"}))["limits"]["lacks"])

    def files(self, session: SessionId) -> Workspace:
        return WorkspaceFiles(self._readers, session)

    async def _desk(self, session: SessionId) -> socket.socket:
        """The line to a process that reads the session's files (see `desk`). Raises NotFound, Unavailable."""
        message: dict[str, Any] = {"verb": "files", "session": session}
        noted = self._notes.read(session)
        if noted and noted.dir:
            message["dir"] = noted.dir
        try:
            return await readers.fetch(self._layout.keeper, message)
        except client.Away:
            await self._keeper({"verb": "status"})
        try:
            return await readers.fetch(self._layout.keeper, message)
        except client.Away as error:
            raise Unavailable(str(error)) from None

    async def stop(self, session: SessionId) -> None:
        with contextlib.suppress(client.Away):
            await client.ask(self._layout.control(session), {"verb": "stop"})
        self._layout.control(session).unlink(missing_ok=True)  # what is left without a holder counts as lost
        self._layout.runner(session).unlink(missing_ok=True)
        self._layout.shells(session).unlink(missing_ok=True)

    async def delete(self, session: SessionId) -> None:
        await self.stop(session)
        self._readers.drop(session)
        await self._keeper({"verb": "delete", "session": session})
        self._notes.remove(session)

    async def close(self) -> None:
        self._readers.close()
        await self._watching.close()
        await self._presence.close()


def _state(session: SessionId, said: dict[str, Any]) -> SandboxState:
    """Raises Unavailable for nonsense."""
    try:
        return SandboxState(
            session=session,
            alive=said.get("alive") is True,
            runner=said.get("runner") is True,
            runner_started=int(said.get("runnerStarted", 0)),
            exit=str(said.get("exit", "")),
            shells=int(said.get("shells", 0)),
            place=Place(*map(str, said["place"])) if said.get("place") else USUAL,
        )
    except (TypeError, ValueError, OverflowError):
        raise Unavailable("the session's holder says what cannot be") from None
