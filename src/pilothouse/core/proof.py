"""Whether a signed request's claim (`core.sigv4`) is true.

string to sign   AWS4-HMAC-SHA256 \\n time \\n date/region/service/aws4_request \\n SHA-256 of the canonical request
signing key      HMAC over date, region, service and "aws4_request" in turn, beginning with "AWS4" + secret
signature        HMAC of the string to sign, in hex
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from pilothouse.core.sigv4 import ALGORITHM, Claim

KEYS_MAX = 1024
"""Derived keys that are remembered, one for each key pair, day, region and service."""


def digest(body: bytes) -> str:
    """Of a payload, as it is signed."""
    return hashlib.sha256(body).hexdigest()


EMPTY = digest(b"")


def event_digests(payload: Mapping[str, Any]) -> Iterator[str]:
    """Of a frame's payload, which never was bytes: in the forms in which clients write JSON, the most usual first."""
    compact, wide = (",", ":"), (", ", ": ")
    for separators, ascii_only in ((compact, False), (wide, True), (compact, True), (wide, False)):
        yield digest(_json(payload, separators, ascii_only))
    yield digest(_json(payload, compact, ascii_only=False).replace(b"/", b"\\/"))


def _json(payload: Mapping[str, Any], separators: tuple[str, str], ascii_only: bool) -> bytes:
    text = json.dumps(payload, separators=separators, ensure_ascii=ascii_only)
    return text.encode(errors="backslashreplace")  # half a character: as JavaScript writes it


def signing_key(secret: str, claim: Claim) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in (claim.date, claim.region, claim.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signed_by(claim: Claim, key: bytes, payload: str) -> bool:
    """Whether `key` made the signature, over a payload of this hash."""
    head = f"{ALGORITHM}\n{claim.stamp}\n{claim.scope}\n".encode()
    for canonical_head in claim.heads:
        hashed = hashlib.sha256(canonical_head + payload.encode()).hexdigest()
        made = hmac.digest(key, head + hashed.encode(), "sha256").hex()
        if hmac.compare_digest(made, claim.signature):
            return True
    return False


class SigningKeys:
    """Signing keys by key pair, day, region and service: deriving one is half of the work of a request."""

    def __init__(self, most: int = KEYS_MAX) -> None:
        self._most = most
        self._keys: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def of(self, secret: str, claim: Claim) -> bytes:
        return self._keys.get((claim.access_key, claim.scope)) or signing_key(secret, claim)

    def keep(self, claim: Claim, key: bytes) -> None:
        """Only after it has been proven, or strangers could fill the place with regions of their own."""
        name = (claim.access_key, claim.scope)
        self._keys[name] = key
        self._keys.move_to_end(name)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)

    def drop(self, access_key: str) -> None:
        for name in [name for name in self._keys if name[0] == access_key]:
            del self._keys[name]
