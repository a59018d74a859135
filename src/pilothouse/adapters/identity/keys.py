"""Issuers' keys: from discovery (`jwks_uri`), kept by issuer and key id, and asked for again seldom.

A key id that is not known may be a new key or somebody's invention: it causes at most one look per REFRESH_S. Keys that
are older than FRESH_S are used while they are looked for again; when the issuer does not answer, until STALE_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jwt
from jwt.algorithms import AllowedPublicKeys, get_default_algorithms

from pilothouse.adapters.identity.documents import NotFetched
from pilothouse.core.claims import Issuer
from pilothouse.core.errors import Unavailable
from pilothouse.core.token import BadToken, Token
from pilothouse.engine.kit import Note, silent, worth_noting
from pilothouse.engine.ports import Clock

REFRESH_S = 60.0
"""Between two looks while there are keys: a new key is accepted a minute late at worst."""
RETRY_S = 5.0
"""While there are none, since nobody can come in."""
FRESH_S = 3600.0
"""A key that the issuer has taken back is refused after this, and after the next look."""
STALE_S = 86_400.0
"""So long an issuer may be away."""
KEYS_MAX = 100
RSA_BITS_MIN = 2048
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
_FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class Fetch(Protocol):
    """`adapters.identity.documents`; tests have one of their own."""

    async def get(self, issuer: Issuer, url: str) -> dict[str, Any]: ...


@dataclass
class _Known:
    """Of one issuer."""

    keys: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: Mapping[str, Any] = field(default_factory=dict)
    at: float | None = None
    """When they came."""
    looked: float | None = None
    failures: int = 0
    looking: asyncio.Task[None] | None = None

    def forget(self) -> None:
        self.keys, self.endpoints, self.at = {}, {}, None


class IssuerKeys:
    """`engine.bearers.Signatures` with keys from the issuers. `close` it."""

    def __init__(self, fetch: Fetch, clock: Clock, note: Note = silent) -> None:
        self._fetch = fetch
        self._clock = clock
        self._note = note
        self._known: dict[str, _Known] = {}
        self._algorithms = get_default_algorithms()

    async def check(self, issuer: Issuer, found: Token) -> None:
        """Raises BadToken, Unavailable."""
        known = await self._fresh(issuer)
        if found.kid not in known.keys and self._may_look(known):
            await self._look(issuer, known)
        jwk = known.keys.get(found.kid)
        if jwk is None:
            raise BadToken("kid: the issuer has no such key")
        key = usable(jwk, found.alg)
        try:
            good = self._algorithms[found.alg].verify(found.signed, key, found.signature)
        except (ValueError, TypeError, jwt.PyJWTError):
            good = False
        if not good:
            raise BadToken("the signature is not the issuer's")

    async def endpoints(self, issuer: Issuer) -> Mapping[str, Any]:
        """The issuer's discovery document. Raises Unavailable."""
        return (await self._fresh(issuer)).endpoints

    async def close(self) -> None:
        tasks = [one.looking for one in self._known.values() if one.looking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fresh(self, issuer: Issuer) -> _Known:
        """Keys that may be used: new ones, or old ones while new ones are looked for."""
        known = self._known.setdefault(issuer.issuer, _Known())
        age = None if known.at is None else self._clock.now() - known.at
        if age is not None and age < FRESH_S:
            return known
        if age is not None and age < STALE_S:
            if self._may_look(known):
                self._begin(issuer, known)  # nobody waits for it
            return known
        known.forget()
        if self._may_look(known):
            await self._look(issuer, known)
        if not known.endpoints:
            raise Unavailable("The issuer does not answer; try again.")
        return known

    def _may_look(self, known: _Known) -> bool:
        if known.looking is not None:
            return True  # one look serves all who wait
        pause = REFRESH_S if known.at is not None else RETRY_S
        return known.looked is None or self._clock.now() - known.looked >= pause

    async def _look(self, issuer: Issuer, known: _Known) -> None:
        await asyncio.shield(self._begin(issuer, known))  # who gives up does not end it for the others

    def _begin(self, issuer: Issuer, known: _Known) -> asyncio.Task[None]:
        if known.looking is None:
            known.looked = self._clock.now()
            known.looking = asyncio.create_task(self._load(issuer, known), name="issuer keys")
            known.looking.add_done_callback(lambda _: setattr(known, "looking", None))
        return known.looking

    async def _load(self, issuer: Issuer, known: _Known) -> None:
        try:
            endpoints = await self._fetch.get(issuer, issuer.discovery)
            if endpoints.get("issuer") != issuer.issuer:
                raise NotFetched("the discovery document names another issuer")
            where = endpoints.get("jwks_uri")
            if not isinstance(where, str):
                raise NotFetched("the discovery document has no jwks_uri")
            keys = key_set(await self._fetch.get(issuer, where))
        except NotFetched as error:
            known.failures += 1
            if worth_noting(known.failures):
                self._note("issuer_away", issuer=issuer.name, why=str(error), failures=known.failures)
            return
        known.keys, known.endpoints, known.at, known.failures = keys, endpoints, self._clock.now(), 0


def key_set(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Keys by id. Those that verify no token of ours are left out, as is an id that comes twice: it names no key.
    Raises NotFetched for what is no key set."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise NotFetched("the key set has no keys")
    found: dict[str, dict[str, Any]] = {}
    doubled: set[str] = set()
    for one in listed[:KEYS_MAX]:
        if not isinstance(one, dict) or one.get("kty") not in _FAMILIES.values() or one.get("use", "sig") != "sig":
            continue
        operations = one.get("key_ops")
        if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
            continue
        kid = one.get("kid")
        if not isinstance(kid, str) or not kid:
            continue
        if kid in found:
            doubled.add(kid)
        found[kid] = one
    return {kid: one for kid, one in found.items() if kid not in doubled}


def usable(jwk: Mapping[str, Any], alg: str) -> AllowedPublicKeys:
    """The public key, if it is one for this algorithm. Raises BadToken."""
    fits = jwk["kty"] == _FAMILIES[alg[:2]] and jwk.get("alg", alg) == alg and jwk.get("crv") == CURVES.get(alg)
    if not fits:
        raise BadToken("alg: not that of the issuer's key")
    public = {name: value for name, value in jwk.items() if name in {"kty", "n", "e", "crv", "x", "y"}}
    try:
        key = jwt.PyJWK(public, alg).key
    except (jwt.PyJWTError, ValueError, TypeError):
        raise BadToken("kid: the issuer's key cannot be read") from None
    if jwk["kty"] == "RSA" and key.key_size < RSA_BITS_MIN:
        raise BadToken(f"kid: the issuer's key has less than {RSA_BITS_MIN} bits")
    return key  # type: ignore[no-any-return]
