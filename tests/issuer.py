"""An issuer of tokens for tests: keys, discovery and key set as documents; tokens as good or as bad as is wished."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from pilothouse.adapters.identity.documents import NotFetched
from pilothouse.core.claims import Issuer
from pilothouse.core.errors import Unauthenticated

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
NOW = 1_767_225_600.0


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def b64(raw: bytes | dict[str, Any]) -> str:
    if isinstance(raw, dict):
        raw = json.dumps(raw).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwk(key: Key, kid: str, alg: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get_default_algorithms()[alg].to_jwk(key.public_key()))
    return found | {"kid": kid, "use": "sig", **more}


def pem(key: Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Asked:
    """What a browser was sent to the issuer with."""

    nonce: str
    challenge: str
    redirect: str
    state: str
    claims: dict[str, Any]


class FakeIssuer:
    """Answers as `adapters.identity.documents` does, and counts."""

    def __init__(self, url: str = "https://issuer.example", name: str = "example") -> None:
        self.url = url
        self.key: Key = ec_key()
        self.kid = "one"
        self.alg = "ES256"
        self.keys: list[dict[str, Any]] | None = None
        self.asked: list[str] = []
        self.down: str = ""
        self.codes: dict[str, Asked] = {}
        self.exchanged: list[str] = []
        self.says_iss = False
        self.issuer = Issuer(
            name, url, audience=("pilothouse",), client_ids=("client",), roles={"ops": "operator", "boss": "admin"},
            default_role="viewer", client_id="pilothouse-page", label=f"The {name}",
        )  # fmt: skip

    async def get(self, issuer: Issuer, url: str) -> dict[str, Any]:
        self.asked.append(url)
        if self.down:
            raise NotFetched(self.down)
        if url == issuer.discovery:
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        assert url == f"{self.url}/keys"
        return {"keys": self.keys if self.keys is not None else [jwk(self.key, self.kid, self.alg)]}

    def claims(self, **more: Any) -> dict[str, Any]:
        """Good ones; a claim that is given as None is left out."""
        made = {"iss": self.url, "sub": "ann", "aud": "pilothouse", "iat": int(NOW), "exp": int(NOW) + 600, **more}
        return {name: value for name, value in made.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        alg = (header or {}).get("alg", self.alg)
        return jwt.encode(
            self.claims(**claims), key or self.key, algorithm=alg, headers={"kid": self.kid, **(header or {})}
        )

    def signed(self, header: dict[str, Any] | bytes, claims: dict[str, Any] | bytes, key: Any = None) -> str:
        """Signed whatever stands in it, by ES256."""
        said = f"{b64(header)}.{b64(claims)}"
        return f"{said}.{b64(get_default_algorithms()['ES256'].sign(said.encode(), key or self.key))}"

    # --- signing people in, as `engine.providers.Provider` ---

    async def authorization(self, issuer: Issuer) -> tuple[str, bool]:
        return f"{self.url}/authorize", self.says_iss

    def consent(self, location: str, **claims: Any) -> str:
        """Somebody signs in at the issuer: the code that the browser brings back."""
        query = dict(parse_qsl(urlsplit(location).query))
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        code = f"code-{len(self.codes)}-{self.kid}"
        self.codes[code] = Asked(query["nonce"], query["code_challenge"], query["redirect_uri"], query["state"], claims)
        return code

    async def exchange(self, issuer: Issuer, code: str, verifier: str, redirect: str) -> str:
        self.exchanged.append(code)
        asked = self.codes.pop(code, None)
        proof = b64(hashlib.sha256(verifier.encode()).digest())
        if asked is None or asked.challenge != proof or asked.redirect != redirect:
            raise Unauthenticated("invalid_grant")
        said = {"aud": issuer.client_id, "nonce": asked.nonce, **asked.claims}
        return str(said.pop("raw", "") or self.token(**said))


class Houses:
    """Several issuers at once."""

    def __init__(self, houses: Sequence[FakeIssuer]) -> None:
        self._houses = {house.url: house for house in houses}

    async def get(self, issuer: Issuer, url: str) -> dict[str, Any]:
        return await self._houses[issuer.issuer].get(issuer, url)

    async def authorization(self, issuer: Issuer) -> tuple[str, bool]:
        return await self._houses[issuer.issuer].authorization(issuer)

    async def exchange(self, issuer: Issuer, code: str, verifier: str, redirect: str) -> str:
        return await self._houses[issuer.issuer].exchange(issuer, code, verifier, redirect)
