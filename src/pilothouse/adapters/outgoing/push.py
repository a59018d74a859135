"""Web push: what is sent to a browser's push service, which cannot read it.

    POST ENDPOINT
    authorization: vapid t=JWT,k=PUBLIC KEY        RFC 8292; ES256 over {aud: the service, exp, sub: whom to ask}
    content-encoding: aes128gcm
    ttl: SECONDS · urgency: high · topic: a later one replaces an earlier one that was not fetched

    salt (16) || record size 4096 (4) || 65 (1) || sender's public key (65) || AES-128-GCM(text || 0x02)

(RFC 8188, 8291)

The keys of the content come from an agreement (ECDH) between a key made for this one message and the browser's, and
from the browser's secret. Keys are points of P-256, uncompressed, in base64url without padding.
"""

from __future__ import annotations

import base64
import binascii
import secrets

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

RECORD = 4096
TEXT_MAX = 3000
"""Bytes; services take 4096 with everything."""
TOKEN_S = 12 * 3600
"""RFC 8292 allows a day."""
SCALAR_BYTES = 32


class WebPush:
    """As `engine.notifiers.Push`."""

    def new_key(self) -> bytes:
        """An installation's own, to be kept."""
        private = ec.generate_private_key(ec.SECP256R1()).private_numbers()
        return private.private_value.to_bytes(SCALAR_BYTES, "big")

    def public(self, key: bytes) -> str:
        return encoded(_point(_private(key).public_key()))

    def check(self, p256dh: str, auth: str) -> None:
        """Raises ValueError naming what is wrong."""
        try:
            _browser(p256dh)
        except ValueError:
            raise ValueError("p256dh: no public key of P-256") from None
        try:
            if len(decoded(auth)) != 16:
                raise ValueError
        except ValueError:
            raise ValueError("auth: expected 16 bytes in base64url") from None

    def message(
        self,
        key: bytes,
        url: str,
        p256dh: str,
        auth: str,
        text: bytes,
        *,
        subject: str,
        now: float,
        ttl: int,
        topic: str,
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body. Raises ValueError."""
        private = _private(key)
        claims = {"aud": _origin(url), "exp": int(now) + TOKEN_S, "sub": subject}
        token = jwt.encode(claims, private, algorithm="ES256")
        headers = {
            "authorization": f"vapid t={token},k={encoded(_point(private.public_key()))}",
            "content-type": "application/octet-stream",
            "content-encoding": "aes128gcm",
            "ttl": str(ttl),
            "urgency": "high",
            "topic": topic,
        }
        return headers, encrypted(text, p256dh, auth)


def encrypted(
    text: bytes,
    p256dh: str,
    auth: str,
    *,
    own: ec.EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """`own` and `salt` are made new for each message. Raises ValueError."""
    if len(text) > TEXT_MAX:
        raise ValueError(f"{len(text)} bytes, at most {TEXT_MAX}")
    browser = _browser(p256dh)
    own, salt = own or ec.generate_private_key(ec.SECP256R1()), salt or secrets.token_bytes(16)
    sender, receiver = _point(own.public_key()), _point(browser)
    agreed = own.exchange(ec.ECDH(), browser)
    seed = _derived(agreed, decoded(auth), b"WebPush: info\0" + receiver + sender, 32)
    key = _derived(seed, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _derived(seed, salt, b"Content-Encoding: nonce\0", 12)
    sealed = AESGCM(key).encrypt(nonce, text + b"\x02", None)
    return salt + RECORD.to_bytes(4, "big") + bytes([len(sender)]) + sender + sealed


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Raises ValueError."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("no base64url") from None


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(key, "big"), ec.SECP256R1())


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _browser(p256dh: str) -> ec.EllipticCurvePublicKey:
    """Raises ValueError: also for a point that is not on the curve."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(p256dh))
    except UnsupportedAlgorithm:
        raise ValueError("no point of P-256") from None


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
