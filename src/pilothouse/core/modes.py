"""How a caller of the event API shows who it is, in AppSync's words.

| mode | what is shown | here |
|---|---|---|
| `API_KEY` | `x-api-key`, or `Authorization: Bearer KEY` | a key of this server |
| `AWS_IAM` | `Authorization: AWS4-HMAC-SHA256 …` and what it signs | a key pair of this server |
| `AMAZON_COGNITO_USER_POOLS` | `Authorization`, a signed token, with `Bearer` or without | an issuer that is a pool |
| `OPENID_CONNECT` | likewise | any other configured issuer |
| `AWS_LAMBDA` | `Authorization`, anything else | whatever the custom authorizer makes of it |

The form decides which one it is, and what is wrong in that form is refused: nothing is tried as something else. A
signed token of an unknown issuer is `AWS_LAMBDA`'s only where no issuer is configured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pilothouse.core import bearer
from pilothouse.core.token import BadToken, looks_like, parse

Mode = Literal["API_KEY", "AWS_IAM", "AMAZON_COGNITO_USER_POOLS", "OPENID_CONNECT", "AWS_LAMBDA"]
MODES: tuple[Mode, ...] = get_args(Mode)
COGNITO = "https://cognito-idp."


@dataclass(frozen=True, slots=True)
class Shown:
    mode: Mode
    text: str = field(default="", repr=False)
    """The key or token; empty for a signature."""


class NothingShown(ValueError):
    """No credential, or two."""


def shown(headers: Iterable[tuple[str, Any]], issuers: frozenset[str] = frozenset(), *, custom: bool = False) -> Shown:
    """`headers` in any case. Raises NothingShown."""
    every = [(name.lower(), value) for name, value in headers]
    keys = [value for name, value in every if name == "x-api-key"]
    given = [
        value for name, value in every if name == "authorization" and (type(value) is not str or bearer.ours(value))
    ]
    if len(keys) + len(given) != 1 or not isinstance((keys + given)[0], str):
        raise NothingShown
    if keys:
        return Shown("API_KEY", keys[0])
    text = given[0].strip()
    if text.upper().startswith("AWS4-"):
        return Shown("AWS_IAM")
    token = bearer.of_header(text)
    bare = text if token is None else token
    if looks_like(bare) and (issuers or not custom):
        return Shown("AMAZON_COGNITO_USER_POOLS" if _issuer(bare).startswith(COGNITO) else "OPENID_CONNECT", bare)
    if token is not None and token.startswith("ph_"):
        return Shown("API_KEY", token)
    return Shown("AWS_LAMBDA", given[0])


def _ours(value: object) -> bool:
    return not isinstance(value, str) or bearer.ours(value)


def _issuer(token: str) -> str:
    """As the token says it, which nobody believes yet."""
    try:
        return parse(token).issuer
    except BadToken:
        return ""
