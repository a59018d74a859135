"""Who is calling and what that may do. Scopes come from the server's records, never from the caller.

In its organisation a member may what its role says. In one session:

| who | may there |
|---|---|
| the owner, from operator on | everything: run, approve, share, hide, delete |
| an admin of the organisation | everything |
| another member | what the role says; nothing when the session is private |
| a member who was given a grant | what the grant says as well, private or not |
| whoever holds a share link | what the link says, in that session alone, and no more than its maker may there now |
| anybody of another organisation | nothing: it does not exist for them |

A credential may narrow all of this and never widens it (`Principal.most`). A viewer who owns a session, having been an
operator once, is a viewer there too: taking a role away must take something away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from pilothouse.core.bucket import Rates
from pilothouse.core.errors import BadRequest, Forbidden, NotFound
from pilothouse.core.ids import SessionId

Scope = Literal["read", "run", "approve", "admin", "metrics"]
IN_SESSIONS: tuple[Scope, ...] = ("read", "run", "approve", "admin")
"""Those that mean something in a session."""
SCOPES: tuple[Scope, ...] = (*IN_SESSIONS, "metrics")
"""`metrics` reads what the server counts of itself and nothing else: a key for whatever collects it."""
DEFAULT_SCOPES: tuple[Scope, ...] = ("read", "run", "approve")
"""Of a key that is made without naming any."""


Role = Literal["viewer", "operator", "approver", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "approver", "admin")
"""Of a member in its organisation."""
SCOPES_OF_ROLE: dict[Role, frozenset[Scope]] = {
    "viewer": frozenset({"read"}),
    "operator": frozenset({"read", "run"}),
    "approver": frozenset({"read", "run", "approve"}),
    "admin": frozenset(SCOPES),
}
Grant = Literal["watch", "run", "approve"]
"""What a member may in one session beyond its role."""
SCOPES_OF_GRANT: dict[Grant, frozenset[Scope]] = {
    "watch": frozenset({"read"}),
    "run": frozenset({"read", "run"}),
    "approve": frozenset({"read", "run", "approve"}),
}
LinkRight = Literal["watch", "approve", "type"]
SCOPES_OF_LINK: dict[LinkRight, frozenset[Scope | Literal["type"]]] = {
    "watch": frozenset({"read"}),
    "approve": frozenset({"read", "approve"}),
    "type": frozenset({"read", "type"}),
}
"""Of a share link. `type` is no scope elsewhere, since who may `run` in a session types in its shells as well: it is
typing in those that are there, and not making any."""
OWN: frozenset[Scope] = frozenset(IN_SESSIONS)
NOTHING: frozenset[Scope] = frozenset()
ORGANISATION = "default"
"""There from the first schema on; who names no other belongs to it. Its admins are the server's."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `credential` names what it showed (not the secret), so that revoking it can end its sockets."""

    kind: Literal["person", "key", "link", "custom"]
    id: str
    name: str
    account: str
    """Of a share link: its maker's, in whose place its bearer acts."""
    scopes: frozenset[str]
    """In its organisation, now."""
    credential: str
    organisation: str = ORGANISATION
    role: Role = "admin"
    """Of the account, when it was asked. A key may do what its scopes and the role of its account both allow."""
    expires_at: float | None = None
    """Seconds since 1970 at which the credential ends by itself, and its sockets with it."""
    session: SessionId | None = None
    """Of a share link: the one session that it opens."""
    issued_at: float | None = None
    """Of a signed token: when its issuer said what its groups are."""
    most: frozenset[str] | None = None
    """What the credential allows at most, whatever its account may. None: `scopes`."""
    rates: Rates | None = None
    """How often it may, where that is not as configured."""

    @property
    def label(self) -> str:
        """As events say it."""
        return self.name if self.kind == "person" else f"{self.kind}:{self.name}"

    def need(self, scope: Scope) -> None:
        """Raises Forbidden."""
        if scope not in self.scopes:
            raise Forbidden(f"This credential lacks the scope {scope!r}.")

    def need_at_most(self, scope: Scope) -> None:
        """The least that is needed where a session's own rights decide the rest. Raises Forbidden."""
        if scope not in (self.scopes if self.most is None else self.most):
            raise Forbidden(f"This credential lacks the scope {scope!r}.")

    @property
    def of_server(self) -> bool:
        """Whether this may manage other organisations."""
        return self.organisation == ORGANISATION and "admin" in self.scopes and self.session is None


class Shared(Protocol):
    """What decides about a session."""

    @property
    def id(self) -> SessionId: ...
    @property
    def organisation(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def private(self) -> bool: ...
    @property
    def grants(self) -> Mapping[str, Grant]: ...


def rights(who: Principal, session: Shared) -> frozenset[str]:
    """What `who` may in this session; nothing: it does not exist for them."""
    return _given(who, session) & (who.scopes if who.most is None else who.most)


def types(who: Principal, session: Shared) -> bool:
    """Whether `who` may type in the session's shells."""
    allowed = who.scopes if who.most is None else who.most
    return "run" in _given(who, session) and bool({"run", "type"} & allowed)


def _given(who: Principal, session: Shared) -> frozenset[str]:
    """What its account may, whatever the credential allows."""
    if who.organisation != session.organisation or (who.session is not None and who.session != session.id):
        return NOTHING
    given: frozenset[str] = NOTHING
    if who.role == "admin" or not session.private:
        given |= SCOPES_OF_ROLE[who.role] & OWN
    if who.account == session.owner:
        given |= SCOPES_OF_ROLE["viewer"] if who.role == "viewer" else OWN
    grant = session.grants.get(who.account)
    if grant is not None:
        given |= SCOPES_OF_GRANT[grant]
    return given


def need(who: Principal, session: Shared, scope: Scope) -> None:
    """Raises NotFound for who may not even look, Forbidden for who may look and no more."""
    given = rights(who, session)
    if "read" not in given and scope not in given:
        raise NotFound
    if scope not in given:
        raise Forbidden(f"You lack the right {scope!r} in this session.")


def beyond(who: Principal, session: Shared) -> bool:
    """Whether an answer of `who` may be remembered for more than this session: a link and a grant are for one."""
    return who.session is None and ("approve" in who.scopes or who.account == session.owner)


def scopes(names: list[str] | None) -> tuple[Scope, ...]:
    """Raises BadRequest naming an unknown scope."""
    if names is None:
        return DEFAULT_SCOPES
    unknown = [n for n in names if n not in SCOPES]
    if unknown or not names:
        raise BadRequest(f"scopes: {unknown[0] if unknown else 'none'!r} is none of {', '.join(SCOPES)}")
    return tuple(s for s in SCOPES if s in names)


def role(name: str) -> Role:
    """Raises BadRequest naming an unknown role."""
    return _one_of(name, ROLES, "role")


def grant(name: str) -> Grant:
    """Raises BadRequest naming an unknown grant."""
    return _one_of(name, tuple(SCOPES_OF_GRANT), "right")


def link_right(name: str) -> LinkRight:
    """Raises BadRequest naming an unknown right of a share link."""
    return _one_of(name, tuple(SCOPES_OF_LINK), "right")


W = TypeVar("W", bound=str)


def _one_of(name: str, words: tuple[W, ...], field: str) -> W:
    for word in words:
        if word == name:
            return word
    raise BadRequest(f"{field}: {name[:50]!r} is none of {', '.join(words)}")
