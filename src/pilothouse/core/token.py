"""A signed token (JWT, RFC 7519, in the compact form of RFC 7515) taken apart. Nothing here is believed yet.

    base64url(header) "." base64url(claims) "." base64url(signature)

header   a JSON object: `alg`, one of `ALGORITHMS`; `kid`, a text; `typ` absent or one of `TYPES`. `crit` is refused,
         since no extension is known here; what names or brings a key (`jku`, `x5u`, `jwk`, `x5c`) is not looked at
claims   a JSON object

base64url has no padding, no spaces and no spare bits; JSON has no name twice in an object and no NaN. So two readers
cannot understand one token in two ways.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a key pair. One secret for both sides (HS256 …) or none at all can be forged by who verifies."""
TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""In lower case. Others (`logout+jwt`, `dpop+jwt` …) are signed by the same keys and say something else."""
TOKEN_MAX = 16 * 1024
"""Characters: what common servers take as one header."""
KID_MAX = 256
_FORM = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\Z")


class BadToken(ValueError):
    """It is refused; the message says why and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Token:
    alg: str
    kid: str
    claims: dict[str, Any]
    signed: bytes
    """What the signature is about."""
    signature: bytes

    @property
    def issuer(self) -> str:
        """As claimed: good for choosing whose key must have signed it, for nothing else. "" when it is no text."""
        found = self.claims.get("iss")
        return found if isinstance(found, str) else ""


def looks_like(text: str) -> bool:
    """Whether it has the form of a signed token, so that it is no key of ours."""
    return text.count(".") == 2


def parse(text: str) -> Token:
    """Raises BadToken."""
    if len(text) > TOKEN_MAX:
        raise BadToken(f"the token is longer than {TOKEN_MAX} characters")
    if not _FORM.match(text):
        raise BadToken("expected three parts of base64url")
    head, body, tail = text.split(".")
    header = _object(head, "header")
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise BadToken("alg: not a signature by a key pair that is known here")
    if "crit" in header:
        raise BadToken("crit: names extensions that are not known here")
    if not isinstance(typ, str) or typ.lower() not in TYPES:
        raise BadToken("typ: not a token that says who somebody is")
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_MAX:
        raise BadToken(f"kid: expected a text of 1 to {KID_MAX} characters")
    return Token(alg, kid, _object(body, "claims"), f"{head}.{body}".encode(), decode(tail))


def decode(text: str) -> bytes:
    """base64url without padding, in its one form. Raises BadToken."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise BadToken("a part is no base64url") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != text.encode("ascii", "replace"):
        raise BadToken("a part is no base64url in its one form")
    return raw


def strict_object(raw: bytes) -> dict[str, Any]:
    """A JSON object without a name twice, in UTF-8. Raises ValueError."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands in it twice")
        return found

    def never(text: str) -> Any:
        raise ValueError("not a number")

    try:
        found = json.loads(raw.decode(), object_pairs_hook=once, parse_constant=never)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _object(part: str, name: str) -> dict[str, Any]:
    try:
        return strict_object(decode(part))
    except BadToken:
        raise
    except ValueError:
        raise BadToken(f"{name}: no JSON object, or one with a name twice") from None
