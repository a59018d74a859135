"""Who is calling and what that may do. Scopes come from the server's record of a credential, never from the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilothouse.core.errors import BadRequest, Forbidden

Scope = Literal["read", "run", "approve", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "run", "approve", "admin")
DEFAULT_SCOPES: tuple[Scope, ...] = ("read", "run", "approve")
"""Of a key that is made without naming any."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `credential` names what it showed (not the secret), so that revoking it can end its sockets."""

    kind: Literal["person", "key"]
    id: str
    name: str
    account: str
    scopes: frozenset[str]
    credential: str

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
