"""Bearer tokens of configured issuers: verified first, then read. What a token claims chooses only which of the
configured issuers must have signed it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from pilothouse.core import claims, token
from pilothouse.core.access import Principal
from pilothouse.core.claims import Issuer, NotAdmitted
from pilothouse.core.errors import Forbidden, Unauthenticated
from pilothouse.core.token import BadToken, Token
from pilothouse.engine.ports import Clock

UNKNOWN = "The token is not from an issuer of this server."


class Signatures(Protocol):
    """Whether an issuer signed a token: port, of which `adapters.identity.keys` is the real one."""

    async def check(self, issuer: Issuer, found: Token) -> None:
        """Raises BadToken, and Unavailable where the issuer's keys cannot be had."""
        ...


class Bearers:
    def __init__(self, issuers: Sequence[Issuer], signatures: Signatures, clock: Clock) -> None:
        self._issuers = {one.issuer: one for one in issuers if one.bearers}
        self._signatures = signatures
        self._clock = clock

    async def principal(self, text: str) -> Principal:
        """Who shows this token. Raises Unauthenticated, Forbidden (somebody without a role), Unavailable."""
        try:
            found = token.parse(text)
            issuer = self._issuers.get(found.issuer)
            if issuer is None:
                raise Unauthenticated(UNKNOWN, code="bad_token")
            await verify(found, issuer, self._signatures)
            ends = claims.check(found.claims, issuer, self._clock.now())
            digest = hashlib.sha256(found.signed).hexdigest()[:16]
            return claims.principal_of(found.claims, issuer, digest=digest, expires_at=ends + issuer.leeway_s)
        except BadToken as error:
            raise Unauthenticated(f"The token is refused: {error}.", code="bad_token") from None
        except NotAdmitted as error:
            raise Forbidden(str(error)) from None


async def verify(found: Token, issuer: Issuer, signatures: Signatures) -> None:
    """Raises BadToken, Unavailable."""
    if found.alg not in issuer.algorithms:
        raise BadToken("alg: none of those configured for the issuer")
    await signatures.check(issuer, found)
