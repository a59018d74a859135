"""What a handler is given: the request, who calls, and the platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core import hosts
from pilothouse.core.access import Principal
from pilothouse.engine.identity import Identity
from pilothouse.engine.kit import Kit
from pilothouse.engine.rules import Rules
from pilothouse.engine.sessions import Session, Sessions
from pilothouse.web.guard import Once
from pilothouse.web.streams import Streams

_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Platform:
    """Everything behind the doors."""

    kit: Kit
    sessions: Sessions
    rules: Rules
    identity: Identity
    version: str
    url: Callable[[], str]
    """Where people open the page."""
    secure: bool
    ready: Callable[[], list[str]]
    """Why the server is not ready; empty when it is."""
    streams: Streams = field(default_factory=Streams)


@dataclass(frozen=True)
class Call:
    request: Request
    platform: Platform
    caller: Principal | None

    @property
    def principal(self) -> Principal:
        assert self.caller is not None, "a public route has no principal"
        return self.caller

    @property
    def base(self) -> str:
        """The sub-path below which the caller sees us; empty, or without a slash at its end."""
        return str(self.request.scope.get("root_path", ""))

    @property
    def secure(self) -> bool:
        """Whether a cookie for the caller is for TLS only."""
        seen = Once.of(self.request).seen.secure
        return self.platform.secure if seen is None else seen

    @property
    def url(self) -> str:
        """The page's address as the caller has it; for a caller on this machine, as people have it. The guard has
        checked `Host`."""
        host, seen, known = self.request.headers["host"], Once.of(self.request).seen.secure, self.platform.url()
        if hosts.of_header(host) in hosts.LOOPBACK and (seen is None or urlsplit(known).hostname not in _HERE):
            return known
        return f"{'http' if seen is False else 'https'}://{host}{self.base}"

    async def session(self) -> Session:
        """The session that the path names. Raises NotFound."""
        return await self.platform.sessions.get(self.request.path_params["id"], self.principal.account)


Handler = Callable[[Call], Awaitable[Response]]
