"""Web push: the example of RFC 8291, decrypted by hands that are not ours, and signed so that others verify it."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from pilothouse.adapters.outgoing import push
from pilothouse.adapters.outgoing.push import WebPush, encrypted

CLIENTS = Path(__file__).parents[2] / "clients"


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_example_of_rfc_8291() -> None:
    """Section 5 and appendix A."""
    own = ec.derive_private_key(
        int.from_bytes(raw("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), "big"), ec.SECP256R1()
    )
    body = encrypted(
        b"When I grow up, I want to be a watermelon",
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "BTBZMqHH6r4Tts7J_aSIgg",
        own=own,
        salt=raw("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert push.encoded(body) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
        "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


DECRYPT = """
import ece from 'http_ece';
import crypto from 'node:crypto';
const [key, auth, body] = process.argv.slice(1).map((text) => Buffer.from(text, 'base64url'));
const browser = crypto.createECDH('prime256v1');
browser.setPrivateKey(key);
process.stdout.write(ece.decrypt(body, { version: 'aes128gcm', privateKey: browser, authSecret: auth }));
"""


NODE = pytest.mark.skipif(
    shutil.which("node") is None or not (CLIENTS / "node_modules" / "http_ece").is_dir(),
    reason="needs node and http_ece: run `make test`",
)


def decrypted(key: str, auth: str, body: bytes) -> str:
    """By who wrote the RFC. `key`: the browser's private one."""
    command = ["node", "--input-type=module", "-e", DECRYPT, key, auth, push.encoded(body)]
    done = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@NODE
def test_what_we_send_others_can_read() -> None:
    browser = ec.generate_private_key(ec.SECP256R1())
    auth = push.encoded(b"0123456789abcdef")
    body = encrypted("Approval wanted: Bash é".encode(), public(browser), auth)
    key = push.encoded(browser.private_numbers().private_value.to_bytes(32, "big"))
    assert decrypted(key, auth, body) == "Approval wanted: Bash é"


def public(key: ec.EllipticCurvePrivateKey) -> str:
    return push.encoded(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def test_who_sends_it_can_be_verified() -> None:
    web, browser = WebPush(), ec.generate_private_key(ec.SECP256R1())
    key = web.new_key()
    assert len(key) == 32
    options: dict[str, Any] = {
        "subject": "mailto:ops@pilothouse.example",
        "now": 1_900_000_000,
        "ttl": 60,
        "topic": "t",
    }
    auth = push.encoded(bytes(16))
    headers, body = web.message(key, "https://push.example:444/a/b", public(browser), auth, b"hello", **options)
    again, other = web.message(key, "https://push.example:444/a/b", public(browser), auth, b"hello", **options)
    assert Vapid02.verify(headers["authorization"]) is True
    token, shown = (part.split("=", 1)[1] for part in headers["authorization"].removeprefix("vapid ").split(","))
    assert shown == web.public(key)
    claims = raw(token.split(".")[1])
    assert b'"aud":"https://push.example:444"' in claims
    assert b'"exp":1900043200' in claims
    assert headers["content-encoding"] == "aes128gcm"
    assert headers["ttl"] == "60"
    assert body[:16] != other[:16], "a salt of its own for each"
    assert b"hello" not in body
    assert again["topic"] == "t"


@pytest.mark.parametrize(("p256dh", "auth", "said"), [
    ("", "A" * 22, "p256dh"), ("!" * 87, "A" * 22, "p256dh"), ("B" * 87, "A" * 22, "p256dh"),
    (push.encoded(b"\x04" + bytes(64)), "A" * 22, "p256dh"), (None, "", "auth"), (None, "A" * 21, "auth"),
    (None, "A" * 44, "auth"), (None, "é", "auth"), (None, "A" * 10**6, "auth"),
])  # fmt: skip
def test_keys_that_are_none_are_refused(p256dh: str | None, auth: str, said: str) -> None:
    good = public(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ValueError, match=said):
        WebPush().check(good if p256dh is None else p256dh, auth)


def test_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        encrypted(bytes(push.TEXT_MAX + 1), public(ec.generate_private_key(ec.SECP256R1())), push.encoded(bytes(16)))
