"""Who is calling and what that may do. Scopes come from the server's record of a credential, never from the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilothouse.core.bucket import Rates
from pilothouse.core.errors import BadRequest, Forbidden
from pilothouse.core.ids import SessionId

Scope = Literal["read", "run", "approve", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "run", "approve", "admin")
DEFAULT_SCOPES: tuple[Scope, ...] = ("read", "run", "approve")
"""Of a key that is made without naming any."""


Role = Literal["viewer", "operator", "approver", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "approver", "admin")
"""Of a member in its organisation."""
ORGANISATION = "default"
"""There from the first schema on; who names no other belongs to it."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `credential` names what it showed (not the secret), so that revoking it can end its sockets."""

    kind: Literal["person", "key", "link"]
    id: str
    name: str
    account: str
    scopes: frozenset[str]
    credential: str
    organisation: str = ORGANISATION
    role: Role = "admin"
    """Of the account, when it was asked. A key may do what its scopes and the role of its account both allow."""
    expires_at: float | None = None
    """Seconds since 1970 at which the credential ends by itself, and its sockets with it."""
    session: SessionId | None = None
    """Of a share link: the one session that it opens."""
    rates: Rates | None = None
    """How often it may, where that is not as configured."""

    @property
    def label(self) -> str:
        """As events say it."""
        return f"{self.kind}:{self.name}" if self.kind == "key" else self.name

    def need(self, scope: Scope) -> None:
        """Raises Forbidden."""
        if scope not in self.scopes:
            raise Forbidden(f"This credential lacks the scope {scope!r}.")


def scopes(names: list[str] | None) -> tuple[Scope, ...]:
    """Raises BadRequest naming an unknown scope."""
    if names is None:
        return DEFAULT_SCOPES
    unknown = [n for n in names if n not in SCOPES]
    if unknown or not names:
        raise BadRequest(f"scopes: {unknown[0] if unknown else 'none'!r} is none of {', '.join(SCOPES)}")
    return tuple(s for s in SCOPES if s in names)
