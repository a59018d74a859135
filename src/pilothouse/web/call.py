"""What a handler is given: the request, who calls, and the platform."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core.access import Principal
from pilothouse.engine.identity import Identity
from pilothouse.engine.keypairs import KeyPairs
from pilothouse.engine.kit import Kit
from pilothouse.engine.providers import Providers
from pilothouse.engine.rules import Rules
from pilothouse.engine.sessions import Session, Sessions
from pilothouse.engine.signins import SignIns
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
    streams: Streams = field(default_factory=Streams)
    providers: Providers | None = None
    """With whom people sign in, besides the printed link."""
    pairs: KeyPairs = field(kw_only=True)


@dataclass(frozen=True)
class Call:
    request: Request
    platform: Platform
    caller: Principal | None

    @property
    def signins(self) -> SignIns:
        kit = self.platform.kit
        return SignIns(kit.store, kit.clock, self.platform.identity.end)

    @property
    def principal(self) -> Principal:
        assert self.caller is not None, "a public route has no principal"
        return self.caller

    async def session(self) -> Session:
        """The session that the path names. Raises NotFound."""
        return await self.platform.sessions.get(self.request.path_params["id"], self.principal.account)


Handler = Callable[[Call], Awaitable[Response]]
