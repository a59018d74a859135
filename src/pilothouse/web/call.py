"""What a handler is given: the request, who calls, and the platform."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core import access, hosts
from pilothouse.core.access import Principal, Scope
from pilothouse.core.errors import Unauthenticated
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.audit import Who
from pilothouse.engine.authorizer import Ways
from pilothouse.engine.calls import Calls
from pilothouse.engine.channels import Channels
from pilothouse.engine.dialogs import Dialogs
from pilothouse.engine.gate import Gate
from pilothouse.engine.identity import Identity
from pilothouse.engine.keypairs import KeyPairs
from pilothouse.engine.kit import Kit
from pilothouse.engine.metrics import Metrics
from pilothouse.engine.opener import Opener
from pilothouse.engine.origin import Origin
from pilothouse.engine.outgoing import Outgoing
from pilothouse.engine.providers import Providers
from pilothouse.engine.records import ApprovalRecord, JobRecord, QuestionRecord
from pilothouse.engine.repeats import Repeats
from pilothouse.engine.rules import Rules
from pilothouse.engine.secrets import Secrets
from pilothouse.engine.sessions import Session, Sessions
from pilothouse.engine.signins import SignIns
from pilothouse.engine.traces import Traces
from pilothouse.web.guard import Once
from pilothouse.web.peer import peer
from pilothouse.web.streams import Streamed, Streams

TRACE = "pilothouse.trace"
"""Where an ASGI scope has the request's place in its trace, where it has one."""
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
    gate: Gate = field(kw_only=True)
    streams: Streams = field(default_factory=Streams)
    providers: Providers | None = None
    """With whom people sign in, besides the printed link."""
    pairs: KeyPairs = field(kw_only=True)
    secrets: Secrets = field(kw_only=True)
    artifacts: Artifacts | None = None
    """What jobs made. None: nothing is collected."""
    calls: Calls | None = None
    """What programs ask for."""
    repeats: Repeats = field(kw_only=True)
    """Changes that carry a key."""
    outgoing: Outgoing = field(kw_only=True)
    """Webhooks and notifications."""
    opener: Opener | None = None
    """To the shells of sessions."""
    channels: Channels | None = None
    """Of the event API."""
    dialogs: Dialogs | None = None
    """Its channels that the server itself publishes to."""
    ways: Ways = Ways()
    """How its callers may come."""
    metrics: Metrics = field(default_factory=Metrics)
    traces: Traces | None = None

    def left(self, who: Principal, session: Session | None = None, scope: Scope = "read") -> float | None:
        """Seconds for which what is open may stay so: None without end, 0 when the credential, the account's
        membership, or this right in the session is gone."""
        left = self.identity.left(who)
        if who.kind == "custom":  # no account of ours stands behind it
            return left
        try:
            now = self.identity.members.now(who)
        except Unauthenticated:
            return 0.0
        if session is not None:
            session = self.sessions.here(session.live.record.id) or session  # it may have rested meanwhile
            if scope not in access.rights(now, session.live.record):
                return 0.0
        return left


@dataclass(frozen=True)
class Call:
    request: Request
    platform: Platform
    caller: Principal | None
    scope: Scope = "read"
    """What the route needs, of the organisation or of the session that it is about."""
    word: str | None = None
    """Of a change that carries a key: its own, the same with each try (`engine.repeats`)."""

    @property
    def signins(self) -> SignIns:
        kit = self.platform.kit
        return SignIns(kit.store, kit.clock, self.platform.identity.end)

    @property
    def who(self) -> Who:
        """As the audit says it."""
        return Who(self.caller, peer(self.request))

    @property
    def origin(self) -> Origin:
        """Of a job that is asked for now."""
        return Origin.of(self.principal, str(self.request.scope.get(TRACE, "")))

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
        """The session that the path names. Raises NotFound, Forbidden."""
        return await self.platform.sessions.get(self.request.path_params["id"], self.principal, self.scope)

    async def job(self) -> tuple[Session, JobRecord]:
        return await self.platform.sessions.of_job(self.request.path_params["id"], self.principal, self.scope)

    async def approval(self) -> tuple[Session, ApprovalRecord]:
        return await self.platform.sessions.of_approval(self.request.path_params["id"], self.principal, self.scope)

    async def question(self) -> tuple[Session, QuestionRecord]:
        return await self.platform.sessions.of_question(self.request.path_params["id"], self.principal, self.scope)

    def room(self) -> AbstractContextManager[None]:
        """For one more stream. Raises TooMany."""
        return self.platform.gate.connected(self.principal)


Handler = Callable[[Call], Awaitable[Response]]


def streamed(
    call: Call,
    session: Session,
    content: AsyncGenerator[bytes, None],
    media_type: str,
    headers: dict[str, str],
    *,
    endless: bool = False,
    let_go: Callable[[], None] | None = None,
    room: AbstractContextManager[None] | None = None,
    status_code: int = 200,
) -> Streamed:
    """An answer about a session that takes long; it ends when its reader may not look any more. `room`: `Call.room`,
    where it was taken before something was opened. Raises TooMany otherwise."""
    platform, who = call.platform, call.principal
    return Streamed(
        content,
        platform.streams,
        who.credential,
        lambda: platform.left(who, session, call.scope),
        platform.kit.clock.sleep,
        media_type=media_type,
        headers=headers,
        endless=endless,
        let_go=let_go,
        room=room or call.room(),
        status_code=status_code,
    )
