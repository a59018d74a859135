"""Signing people in with an issuer: OpenID Connect's authorization code flow with PKCE.

What the browser is sent off with comes from one secret that stays behind in its cookie: `state`, `nonce` and the
verifier of PKCE are hashes of it and of the provider's name. So an answer counts only

* in the browser that began (the cookie is there), within BEGUN_S,
* for the provider that was asked (its name is in the hash, and has an address of its own; `iss`, where it is sent, must
  agree),
* once,
* with an ID token that this issuer signed for this client and this `nonce`.

Nothing is written before all of that holds: a page of somebody else can begin any number and leave nothing here.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

from pilothouse.core import claims, token
from pilothouse.core.claims import Issuer, NotAdmitted
from pilothouse.core.errors import Forbidden, NotFound, Unauthenticated
from pilothouse.core.token import BadToken
from pilothouse.engine.audit import Who
from pilothouse.engine.bearers import Signatures, verify
from pilothouse.engine.identity import Identity
from pilothouse.engine.ports import Clock
from pilothouse.engine.signins import SignIn, Visit, principal

BEGUN_S = 600
"""A person finds a password and a second factor in that time."""
CODE_MAX = 4096
SPENT_MAX = 10_000
"""Answers remembered so that none counts twice. Beyond it the oldest go, and the provider refuses their codes alone."""
_SECRET = re.compile(r"([0-9]{10})\.[A-Za-z0-9_-]{43}\Z")
_ERROR = re.compile(r"[a-z_]{1,40}\Z")
STRANGE = "This sign-in was not begun in this browser, or too long ago. Begin again."


class Provider(Protocol):
    """The issuer's own addresses: port, of which `adapters.identity.oidc` is the real one."""

    async def authorization(self, issuer: Issuer) -> tuple[str, bool]:
        """Where browsers are sent, and whether answers say `iss`. Raises Unavailable."""
        ...

    async def exchange(self, issuer: Issuer, code: str, verifier: str, redirect: str) -> str:
        """The ID token for a code. Raises Unauthenticated, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Begun:
    url: str
    """Where the browser goes."""
    secret: str
    """What it keeps."""


class Providers:
    def __init__(
        self, issuers: Sequence[Issuer], provider: Provider, signatures: Signatures, identity: Identity, clock: Clock
    ) -> None:
        self._issuers = {one.name: one for one in issuers if one.client_id}
        self._provider = provider
        self._signatures = signatures
        self._identity = identity
        self._clock = clock
        self._spent: dict[str, float] = {}

    def all(self) -> list[Issuer]:
        return list(self._issuers.values())

    async def begin(self, name: str, redirect: str) -> Begun:
        """Raises NotFound, Unavailable."""
        issuer = self._find(name)
        where, _ = await self._provider.authorization(issuer)
        secret = f"{int(self._clock.now())}.{secrets.token_urlsafe(32)}"
        challenge = hashlib.sha256(_derived(secret, name, "verifier").encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": issuer.client_id,
            "redirect_uri": redirect,
            "scope": " ".join(issuer.scopes),
            "state": _derived(secret, name, "state"),
            "nonce": _derived(secret, name, "nonce"),
            "code_challenge": _b64(challenge),
            "code_challenge_method": "S256",
        }
        return Begun(f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}", secret)

    async def finish(
        self, name: str, answer: Mapping[str, str], secret: str, redirect: str, visit: Visit
    ) -> tuple[str, SignIn]:
        """A cookie for the provider's answer, and what it stands for. Raises NotFound, Unauthenticated, Forbidden,
        Unavailable."""
        issuer = self._find(name)
        state = answer.get("state", "")
        self._check_state(name, state, secret)
        _, says_iss = await self._provider.authorization(issuer)
        if answer.get("iss", "" if says_iss else issuer.issuer) != issuer.issuer:
            raise Unauthenticated("The answer comes from another provider than the one that was asked.")
        if "error" in answer:
            why = answer["error"] if _ERROR.match(answer["error"]) else "an error"
            raise Unauthenticated(f"The provider did not sign you in ({why}).")
        code = answer.get("code", "")
        if not 0 < len(code) <= CODE_MAX or not code.isprintable():
            raise Unauthenticated("The provider's answer has no code.")
        self._spend(state)
        raw = await self._provider.exchange(issuer, code, _derived(secret, name, "verifier"), redirect)
        entry = await self._entry(issuer, raw, _derived(secret, name, "nonce"), visit)
        return await self._identity.adopt(entry), entry

    def _find(self, name: str) -> Issuer:
        issuer = self._issuers.get(name)
        if issuer is None:
            raise NotFound("There is no such provider.")
        return issuer

    def _check_state(self, name: str, state: str, secret: str) -> None:
        match = _SECRET.match(secret)
        if match is None or not -60 <= self._clock.now() - int(match[1]) <= BEGUN_S:
            raise Unauthenticated(STRANGE)
        if not hmac.compare_digest(state.encode(), _derived(secret, name, "state").encode()):
            raise Unauthenticated(STRANGE)

    def _spend(self, state: str) -> None:
        """Raises Unauthenticated the second time."""
        now = self._clock.now()
        if state in self._spent:
            raise Unauthenticated("This answer of the provider was used already. Begin again.")
        for old in [one for one, at in self._spent.items() if now - at > BEGUN_S + 60]:
            del self._spent[old]
        while len(self._spent) >= SPENT_MAX:
            del self._spent[next(iter(self._spent))]
        self._spent[state] = now

    async def _entry(self, issuer: Issuer, raw: str, nonce: str, visit: Visit) -> SignIn:
        now = self._clock.now()
        try:
            found = token.parse(raw)
            await verify(found, issuer, self._signatures)
            claims.check_signin(found.claims, issuer, nonce, now)
            who = claims.who(found.claims, issuer)
        except BadToken as error:
            raise Unauthenticated(f"The provider's ID token is refused: {error}.", code="bad_token") from None
        except NotAdmitted as error:
            raise Forbidden(str(error)) from None
        entry = SignIn(
            account=who.account,
            organisation=who.organisation,
            name=who.name,
            via=issuer.name,
            expires_at=now + issuer.signin_s,
            address=visit.address,
            agent=visit.agent,
        )
        person = dataclasses.replace(principal("", entry, who.name), credential=f"issuer:{issuer.name}")
        coming = Who(person, visit.address)
        await self._identity.members.seen(
            who.organisation, who.account, role=who.role, name=who.name, at=now, who=coming
        )
        return entry


def _derived(secret: str, name: str, use: str) -> str:
    return _b64(hashlib.sha256(f"{use}:{name}:{secret}".encode()).digest())


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
