"""What an issuer that is configured may say, and what its words come to here: claims -> who somebody is -> Principal.

Pure: the signature has been verified before (`engine.bearers`, `engine.signin`), and the time is an argument.

| claim | must |
|---|---|
| `iss` | be the issuer's, character by character |
| `sub` | be a text of 1 to 255 printable characters |
| `exp`, `iat` | be there; `exp` ahead, `iat` not, both within the leeway |
| `nbf` | if there, not be ahead |
| `aud` | name us. Where there is none (Cognito's access tokens), `client_id` must be one of `client_ids` |
| `client_id` or `azp` | if there and `client_ids` is configured, be one of them |
| `token_use` | if there, be `access` or `id` |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilothouse.core.access import ORGANISATION, ROLES, SCOPES, Principal, Role
from pilothouse.core.token import BadToken

SUBJECT_MAX = 255
"""As OpenID Connect has it."""
NAME_MAX = 100
GROUPS_MAX = 1000
"""Groups looked at; a directory that names more in one token names them elsewhere."""
FAR = 1e11
"""Seconds since 1970 beyond which a time is no time."""
NAME_CLAIMS = ("name", "preferred_username", "cognito:username", "username", "email")
"""Looked at in this order, where `name_claim` is not configured."""
ID_HEX = 24
"""Digits of the hash in an account's id: 96 bits, so that nobody finds a subject that has another's id."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One `[[issuers]]` of the configuration."""

    name: str
    """Short, for addresses and logs."""
    issuer: str
    label: str = ""
    """On the button."""
    audience: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    account_claim: str = "sub"
    name_claim: str = ""
    groups_claim: str = "groups"
    roles: Mapping[str, Role] = field(default_factory=dict)
    default_role: Role | None = None
    """Of somebody in none of the groups; None: refused."""
    organisation: str = ORGANISATION
    leeway_s: int = 60
    discovery_url: str = ""
    allow_private: bool = False
    """The issuer's own host may have an address that is not public."""
    client_id: str = ""
    """For people who sign in; empty: they cannot."""
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    signin_s: int = 43_200

    @property
    def discovery(self) -> str:
        return self.discovery_url or self.issuer.rstrip("/") + "/.well-known/openid-configuration"

    @property
    def bearers(self) -> bool:
        """Whether its tokens are credentials of the API."""
        return bool(self.audience or self.client_ids)


class NotAdmitted(ValueError):
    """The token is good, and who it names may not come in."""


def check(claims: Mapping[str, Any], issuer: Issuer, now: float) -> float:
    """When the token ends. Raises BadToken naming the claim."""
    ends = check_times(claims, issuer, now)
    if claims.get("iss") != issuer.issuer:
        raise BadToken("iss: not the configured issuer")
    if claims.get("token_use", "access") not in ("access", "id"):
        raise BadToken("token_use: expected access or id")
    client = claims.get("client_id", claims.get("azp"))
    named = _texts(claims, "aud")
    if named is None:
        if not isinstance(client, str) or client not in issuer.client_ids:
            raise BadToken("aud: missing, and client_id is none of the configured")
    elif not named & {*issuer.audience, *issuer.client_ids}:
        raise BadToken("aud: the token is meant for somebody else")
    if client is not None and issuer.client_ids and client not in issuer.client_ids:
        raise BadToken("client_id: none of the configured")
    return ends


def check_signin(claims: Mapping[str, Any], issuer: Issuer, nonce: str, now: float) -> None:
    """The same for the ID token of a sign-in that we began with `nonce`. Raises BadToken naming the claim."""
    check_times(claims, issuer, now)
    if claims.get("iss") != issuer.issuer:
        raise BadToken("iss: not the configured issuer")
    named = _texts(claims, "aud") or frozenset()
    party = claims.get("azp")
    if issuer.client_id not in named:
        raise BadToken("aud: the token is meant for somebody else")
    if party not in (None, issuer.client_id) or (len(named) > 1 and party is None):
        raise BadToken("azp: the token was made for somebody else")
    if claims.get("token_use", "id") != "id":
        raise BadToken("token_use: expected id")
    if claims.get("nonce") != nonce:
        raise BadToken("nonce: not that of this sign-in")


def check_times(claims: Mapping[str, Any], issuer: Issuer, now: float) -> float:
    """`exp`. Raises BadToken."""
    ends, issued, begins = (_time(claims, name) for name in ("exp", "iat", "nbf"))
    if ends is None or issued is None:
        raise BadToken(f"{'exp' if ends is None else 'iat'}: missing")
    if ends + issuer.leeway_s <= now:
        raise BadToken("exp: the token has ended")
    if issued - issuer.leeway_s > now:
        raise BadToken("iat: the token was made in the future")
    if begins is not None and begins - issuer.leeway_s > now:
        raise BadToken("nbf: the token is not good yet")
    return ends


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < FAR:
        raise BadToken(f"{name}: no time")
    return float(value)


def _texts(claims: Mapping[str, Any], name: str) -> frozenset[str] | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    every = [value] if isinstance(value, str) else value
    if not isinstance(every, list) or not every or not all(isinstance(one, str) for one in every):
        raise BadToken(f"{name}: expected a text or a list of texts")
    return frozenset(every)


# --- who it is ---


@dataclass(frozen=True, slots=True)
class Who:
    """What verified claims say of somebody, in our words."""

    issuer: str
    subject: str
    account: str
    name: str
    email: str
    groups: frozenset[str]
    role: Role
    organisation: str


def who(claims: Mapping[str, Any], issuer: Issuer) -> Who:
    """Raises BadToken for claims without a subject, NotAdmitted for somebody without a role."""
    subject = _at(claims, issuer.account_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_MAX or not subject.isprintable():
        raise BadToken(f"{issuer.account_claim}: expected a text of 1 to {SUBJECT_MAX} printable characters")
    verified = claims.get("email_verified")
    if issuer.account_claim == "email" and verified is not True and verified != "true":
        raise BadToken("email: the issuer has not verified it")
    groups = groups_of(claims, issuer)
    role = role_of(groups, issuer)
    if role is None:
        raise NotAdmitted("Nobody has given you a role here: none of your groups is configured.")
    email = claims.get("email")
    return Who(
        issuer=issuer.issuer,
        subject=subject,
        account=account_of(issuer.issuer, subject),
        name=_name(claims, issuer) or subject[:NAME_MAX],
        email=email if isinstance(email, str) and email.isprintable() and len(email) <= SUBJECT_MAX else "",
        groups=groups,
        role=role,
        organisation=issuer.organisation,
    )


def principal_of(claims: Mapping[str, Any], issuer: Issuer, *, digest: str, expires_at: float) -> Principal:
    """The caller who showed a bearer token with these verified claims; `digest` tells it from the account's others.
    Raises BadToken, NotAdmitted."""
    found = who(claims, issuer)
    jti = claims.get("jti")
    mark = jti if isinstance(jti, str) and 0 < len(jti) <= 64 and jti.isprintable() else digest
    return Principal(
        "person",
        found.account,
        found.name,
        found.account,
        frozenset(SCOPES),  # as a sign-in: the account's role says what it may, not the token
        credential=f"jwt:{found.issuer}#{found.subject}#{mark}",
        organisation=found.organisation,
        role=found.role,
        expires_at=expires_at,
        issued_at=_time(claims, "iat"),
    )


def account_of(issuer: str, subject: str) -> str:
    """Stable, and another one for the same subject of another issuer; its beginning helps who reads it."""
    digest = hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()[:ID_HEX]
    readable = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:24].rstrip("-")
    return f"{readable or 'account'}.{digest}"


def groups_of(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    """What is no list of texts is no group: no role comes from what was not understood."""
    value = _at(claims, issuer.groups_claim)
    every = [value] if isinstance(value, str) else value
    if not isinstance(every, list):
        return frozenset()
    return frozenset(one for one in every[:GROUPS_MAX] if isinstance(one, str))


def role_of(groups: frozenset[str], issuer: Issuer) -> Role | None:
    """The highest of those that the groups give."""
    given = {issuer.roles[group] for group in groups if group in issuer.roles}
    return max(given, key=ROLES.index) if given else issuer.default_role


def _name(claims: Mapping[str, Any], issuer: Issuer) -> str:
    for claim in (issuer.name_claim,) if issuer.name_claim else NAME_CLAIMS:
        value = _at(claims, claim)
        if isinstance(value, str) and value.strip() and value.isprintable():
            return value.strip()[:NAME_MAX]
    return ""


def _at(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name; where there is none of that name, by its parts (`realm_access.roles`)."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found
