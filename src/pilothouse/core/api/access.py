"""Who one is, what lets somebody in, and what was done."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Raw

from pilothouse.core import chain
from pilothouse.core.api.base import Answer, Body, Name, Role, Scope, Time
from pilothouse.core.api.sessions import Caps, Isolation

KeyKind: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["key", "sigv4"]})]


class Shown(Body, kw_only=True):
    """One of the two."""

    ticket: Annotated[str | None, Meta(description="Of a sign-in link; it is used up.")] = None
    link: Annotated[str | None, Meta(description="What a share link has in its fragment.")] = None

    def __repr__(self) -> str:
        return "Shown()"


class Followed(Answer, frozen=True, kw_only=True):
    """Where a share link leads."""

    session: str


class Provider(Answer, frozen=True, kw_only=True):
    id: str
    label: str


class Out(Body, kw_only=True):
    everywhere: Annotated[bool, Meta(description="All sign-ins of the account end, with their sockets.")] = False


class SignIn(Answer, frozen=True, kw_only=True):
    """Somebody who is signed in."""

    id: str
    account: str
    name: str
    via: Annotated[str | None, Meta(description="With which provider; null: by the printed link.")]
    created_at: Time
    last_seen_at: Time
    expires_at: Time
    address: str
    agent: Annotated[str, Meta(description="What the browser says it is.")]
    own: bool
    current: bool


class Principal(Answer, frozen=True, kw_only=True):
    """Who is calling. Of a share link there is a `session` instead of account, organisation and role."""

    kind: Annotated[str, Meta(extra_json_schema={"enum": ["person", "key", "link", "custom"]})]
    id: str
    name: str
    scopes: list[Annotated[str, Meta(description="`read`, `run`, `approve`, `admin`; of links also `type`.")]]
    account: str | None = None
    organisation: str | None = None
    role: Role | None = None
    session: str | None = None


class Agent(Answer, frozen=True, kw_only=True):
    id: str
    label: str


class Rates(Answer, frozen=True, kw_only=True):
    """How often somebody may."""

    rate_per_s: Annotated[float, Meta(description="Requests a second; 0: no limit.")]
    rate_burst: Annotated[int, Meta(description="Requests at once.")]
    quota_per_day: Annotated[int, Meta(description="Jobs a day; 0: no limit.")]


class Server(Answer, frozen=True, kw_only=True):
    """What this server is and does. Who follows a share link is not told of the host."""

    version: str
    isolation: Isolation
    isolation_summary: str
    isolation_findings: list[str]
    provider: str
    demo: Annotated[bool, Meta(description="The model is the built-in stand-in.")]
    model: str
    ready: bool
    agents: list[Agent]
    default_agent: str
    permission_modes: list[str]
    default_permission_mode: str
    prompt_max: Annotated[int, Meta(description="Bytes.")]
    approval_timeout_s: Annotated[float, Meta(description="Seconds.")]
    limits: Annotated[Caps, Meta(description="Of a session that asks for none.")]
    rates: Annotated[Rates | None, Meta(description="Of a key that has none of its own.")] = None


class Me(Answer, frozen=True, kw_only=True):
    principal: Principal
    csrf: Annotated[str | None, Meta(description="For `X-CSRF-Token`; null where there is no cookie.")]
    server: Server


class Ticket(Answer, frozen=True, kw_only=True):
    """A sign-in link: used once, within ten minutes."""

    ticket: str
    url: str
    expires_at: Time

    def __repr__(self) -> str:
        return "Ticket()"


class NewKey(Body, kw_only=True):
    """A key, or with `sigv4` a key pair that signs requests as clients of AWS do."""

    name: Name = "key"
    scopes: Annotated[
        list[Scope] | None, Meta(description="`read`, `run`, `approve` if left out.", extra_json_schema={"minItems": 1})
    ] = None
    account: Annotated[str | None, Meta(description="Whose it is; the caller's, if left out.")] = None
    kind: Literal["key", "sigv4"] = "key"
    expires_in_s: Annotated[
        float | None,
        Meta(description="Seconds; for `sigv4` only.", extra_json_schema={"minimum": 60, "maximum": 366 * 86_400}),
    ] = None
    session_token: Annotated[bool, Meta(description="For `sigv4` only.")] = False
    rate_per_s: Annotated[float | None, Meta(description="Requests a second; 0: no limit.")] = None
    rate_burst: Annotated[int | None, Meta(description="Requests at once.")] = None
    quota_per_day: Annotated[int | None, Meta(description="Jobs a day; 0: no limit.")] = None


class Key(Answer, frozen=True, kw_only=True):
    """A key or a key pair, without its secret; rates where they are not as configured."""

    id: str
    kind: KeyKind
    name: str
    scopes: list[Scope]
    account: str
    created_at: Time
    last_used_at: Time | None = None
    expires_at: Time | None = None
    rate_per_s: float | None = None
    rate_burst: int | None = None
    quota_per_day: int | None = None


class MadeKey(Key, frozen=True, kw_only=True):
    """With its secret, shown this once: `key`, or for `sigv4` the other three."""

    key: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"MadeKey(id={self.id!r})"


class AuditPage(Answer, frozen=True, kw_only=True):
    """Records of the organisation's chain."""

    items: list[chain.Record]
    next: Annotated[int | None, Meta(description="The number to go on from; null where there is no more.")]


class SealedPage(Answer, frozen=True, kw_only=True):
    """The same, each record as it was sealed: one that is written out again is another one."""

    items: list[Raw]
    next: int | None


class AuditHead(Answer, frozen=True, kw_only=True):
    """The newest record's number and hash, the oldest one's number."""

    seq: int
    hash: str
    oldest: int
