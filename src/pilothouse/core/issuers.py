"""The tables `[[issuers]]` of the configuration, read and checked: what is unknown, missing or open is refused by name.

name            letters, digits and dashes: in addresses and logs                                          needed
issuer          the URL that its tokens carry as `iss`, character by character                             needed
audience        texts, one of which a token's `aud` must be
client_ids      the clients whose tokens are taken; a token without `aud` must name one of them
algorithms      of `core.token.ALGORITHMS`
account_claim, name_claim, groups_claim    where accounts, names and groups stand; `a.b` is a claim inside another
roles           {group = role}
default_role    of who is in none of the groups; without it they are refused
organisation    to which they belong
leeway_s        clocks may differ by so much
discovery_url   where it is not below the issuer
allow_private   the issuer's own host need not have a public address
client_id       ours, for people who sign in; without it they cannot
client_secret   ours, if we have one
label           on the button
scopes          asked for; `openid` is always among them
signin_s        seconds that a sign-in lasts at most
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pilothouse.core.access import ROLES, Role
from pilothouse.core.claims import Issuer
from pilothouse.core.token import ALGORITHMS

ISSUERS_MAX = 20
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")
_ORGANISATION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?\Z")
_SCOPE = re.compile(r"[!#-\[\]-~]{1,100}\Z")


class BadIssuer(ValueError):
    """A table is wrong; the message names table and entry, and repeats no secret."""


def read(tables: object) -> tuple[Issuer, ...]:
    """Raises BadIssuer."""
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise BadIssuer("issuers: expected tables [[issuers]]")
    if len(tables) > ISSUERS_MAX:
        raise BadIssuer(f"issuers: at most {ISSUERS_MAX}")
    made = tuple(_issuer(table, f"issuers[{number}]") for number, table in enumerate(tables))
    for field in ("name", "issuer"):
        every = [getattr(one, field) for one in made]
        twice = next((value for value in every if every.count(value) > 1), None)
        if twice is not None:
            raise BadIssuer(f"issuers: two have the {field} {twice!r}")
    return made


def _issuer(table: Mapping[str, Any], where: str) -> Issuer:
    stray = [key for key in table if key not in _READERS]
    if stray:
        raise BadIssuer(f"{where}: unknown entry {stray[0]!r}; known are {', '.join(_READERS)}")
    for needed in ("name", "issuer"):
        if needed not in table:
            raise BadIssuer(f"{where}: {needed} is missing")
    given = {key: _READERS[key](value, f"{where}.{key}") for key, value in table.items()}
    made = Issuer(**given)
    if not made.bearers and not made.client_id:
        raise BadIssuer(f"{where}: give audience or client_ids (for tokens), or client_id (for people), or both")
    if made.client_secret and not made.client_id:
        raise BadIssuer(f"{where}: client_secret needs client_id")
    if not made.roles and made.default_role is None:
        raise BadIssuer(f"{where}: give roles or default_role, or nobody has a role")
    return made


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > 1000:
        raise BadIssuer(f"{where}: expected a text")
    return value


def _matching(form: re.Pattern[str], what: str) -> Callable[[object, str], str]:
    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or not form.match(value):
            raise BadIssuer(f"{where}: expected {what}")
        return value

    return read


def _texts(value: object, where: str) -> tuple[str, ...]:
    every = [value] if isinstance(value, str) else value
    if not isinstance(every, list) or not every or not all(isinstance(one, str) and one for one in every):
        raise BadIssuer(f"{where}: expected a list of texts")
    return tuple(every)


def _url(value: object, where: str) -> str:
    text = _text(value, where)
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or " " in text or parts.username is not None or parts.query or parts.fragment:
        raise BadIssuer(f"{where}: expected https://, a host and a path at most")
    return text


def _algorithms(value: object, where: str) -> tuple[str, ...]:
    every = _texts(value, where)
    wrong = next((one for one in every if one not in ALGORITHMS), None)
    if wrong is not None:
        raise BadIssuer(f"{where}: {wrong[:20]!r} is none of {', '.join(ALGORITHMS)}")
    return every


def _role(value: object, where: str) -> Role:
    for role in ROLES:
        if value == role:
            return role
    raise BadIssuer(f"{where}: expected one of {', '.join(ROLES)}")


def _roles(value: object, where: str) -> dict[str, Role]:
    if not isinstance(value, dict):
        raise BadIssuer(f"{where}: expected {{group = role}}")
    return {group: _role(role, f"{where}.{group}") for group, role in value.items()}


def _scopes(value: object, where: str) -> tuple[str, ...]:
    every = _texts(value, where)
    if not all(_SCOPE.match(one) for one in every):
        raise BadIssuer(f"{where}: a scope has no spaces")
    return every if "openid" in every else ("openid", *every)


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise BadIssuer(f"{where}: expected true or false")
    return value


def _number(low: int, high: int) -> Callable[[object, str], int]:
    def read(value: object, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadIssuer(f"{where}: expected a whole number from {low} to {high}")
        return value

    return read


_READERS: Mapping[str, Callable[[object, str], Any]] = {
    "name": _matching(_NAME, "1 to 32 of a-z, 0-9 and dashes"),
    "issuer": _url,
    "label": _text,
    "audience": _texts,
    "client_ids": _texts,
    "algorithms": _algorithms,
    "account_claim": _text,
    "name_claim": _text,
    "groups_claim": _text,
    "roles": _roles,
    "default_role": _role,
    "organisation": _matching(_ORGANISATION, "1 to 40 of a-z, 0-9 and dashes"),
    "leeway_s": _number(0, 300),
    "discovery_url": _url,
    "allow_private": _flag,
    "client_id": _text,
    "client_secret": _text,
    "scopes": _scopes,
    "signin_s": _number(1, 30 * 86_400),
}
