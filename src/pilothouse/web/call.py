"""What a handler is given: the request, who calls, and the platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core.access import Principal
from pilothouse.engine.audit import Who
from pilothouse.engine.gate import Gate
from pilothouse.engine.identity import Identity
from pilothouse.engine.kit import Kit
from pilothouse.engine.rules import Rules
from pilothouse.engine.sessions import Session, Sessions
from pilothouse.web.peer import peer
from pilothouse.web.streams import Streams


@dataclass(frozen=True)
class Platform:
    """Everything behind the doors."""

    kit: Kit
    sessions: Sessions
    rules: Rules
    identity: Identity
    version: str
    url: Callable[[], str]
    secure: bool
    ready: Callable[[], list[str]]
    """Why the server is not ready; empty when it is."""
    gate: Gate = field(kw_only=True)
    streams: Streams = field(default_factory=Streams)


@dataclass(frozen=True)
class Call:
    request: Request
    platform: Platform
    caller: Principal | None

    @property
    def who(self) -> Who:
        """As the audit says it."""
        return Who(self.caller, peer(self.request))

    @property
    def principal(self) -> Principal:
        assert self.caller is not None, "a public route has no principal"
        return self.caller

    async def session(self) -> Session:
        """The session that the path names. Raises NotFound."""
        return await self.platform.sessions.get(self.request.path_params["id"], self.principal.account)

    def room(self) -> AbstractContextManager[None]:
        """For one more stream. Raises TooMany."""
        return self.platform.gate.connected(self.principal)


Handler = Callable[[Call], Awaitable[Response]]
