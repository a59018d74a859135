"""The token endpoint is asked as RFC 6749 has it, and an issuer's discovery document leads browsers nowhere odd."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest

from pilothouse.adapters.identity.documents import Documents
from pilothouse.adapters.identity.keys import IssuerKeys
from pilothouse.adapters.identity.oidc import Oidc
from pilothouse.core.claims import Issuer
from pilothouse.core.errors import Unauthenticated, Unavailable
from tests.adapters.identity.test_documents import Host
from tests.clock import HandClock

AWAY = "https://issuer.example"


class Known:
    """A discovery document and an empty key set."""

    def __init__(self, **endpoints: Any) -> None:
        self.endpoints = endpoints

    async def get(self, issuer: Issuer, url: str) -> dict[str, Any]:
        if url != issuer.discovery:
            return {"keys": []}
        return {"issuer": issuer.issuer, "jwks_uri": AWAY + "/keys", **self.endpoints}


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = await Host().start()
    yield made
    made.server.close()
    await made.server.wait_closed()


@pytest.fixture
async def documents() -> AsyncIterator[Documents]:
    made = Documents(timeout_s=2.0)
    yield made
    await made.close()


def oidc(documents: Documents, notes: list[tuple[str, object]] | None = None, **endpoints: Any) -> Oidc:
    def note(what: str, /, **fields: object) -> None:
        if notes is not None:
            notes.append((what, fields))

    return Oidc(documents, IssuerKeys(Known(**endpoints), HandClock()), note)


def form(sent: bytes) -> dict[str, str]:
    return dict(parse_qsl(sent.decode()))


@pytest.mark.parametrize(
    "methods", [None, ["client_secret_basic"], ["client_secret_post"], ["client_secret_post", "none"]]
)
@pytest.mark.parametrize("secret", ["", "a:b c"])
async def test_a_code_is_exchanged(host: Host, documents: Documents, methods: list[str] | None, secret: str) -> None:
    host.says(json.dumps({"id_token": "the token", "access_token": "x"}).encode())
    issuer = dataclasses.replace(host.issuer, client_id="page", client_secret=secret)
    known: dict[str, Any] = {} if methods is None else {"token_endpoint_auth_methods_supported": methods}
    made = oidc(documents, token_endpoint=host.url + "/token", **known)
    assert await made.exchange(issuer, "the code", "the verifier", "http://me/callback") == "the token"
    head, _, body = host.seen[0].partition(b"\r\n\r\n")
    post = methods is not None and "client_secret_basic" not in methods
    assert form(body) == {
        "grant_type": "authorization_code", "code": "the code", "code_verifier": "the verifier", "client_id": "page",
        "redirect_uri": "http://me/callback", **({"client_secret": secret} if secret and post else {}),
    }  # fmt: skip
    basic = base64.b64encode(b"page:a%3Ab+c")
    assert (b"Basic " + basic in head) == bool(secret and not post)
    assert b"POST /token " in head


@pytest.mark.parametrize(("body", "status"), [
    (b'{"error":"invalid_grant"}', "400 Bad Request"), (b"{}", "200 OK"), (b'{"id_token":7}', "200 OK"),
    (b"<html>", "200 OK"), (b'{"id_token":"x"}', "302 Found"),
])  # fmt: skip
async def test_a_code_that_is_not_confirmed_signs_nobody_in(
    host: Host, documents: Documents, body: bytes, status: str
) -> None:
    host.says(body, status)
    notes: list[tuple[str, object]] = []
    issuer = dataclasses.replace(host.issuer, client_id="page", client_secret="hidden-words")
    with pytest.raises(Unauthenticated):
        await oidc(documents, notes, token_endpoint=host.url + "/token").exchange(issuer, "the code", "v", "r")
    assert [what for what, _ in notes] == ["signin_failed"]
    assert "hidden-words" not in str(notes)
    assert "the code" not in str(notes)


async def test_a_provider_that_is_away_is_not_its_users_fault(host: Host, documents: Documents) -> None:
    host.says(b'{"id_token":"x"}', "503 Busy")
    notes: list[tuple[str, object]] = []
    asking = oidc(documents, notes, token_endpoint=host.url + "/token")
    with pytest.raises(Unavailable, match="does not answer now"):
        await asking.exchange(host.issuer, "the code", "v", "r")
    assert [what for what, _ in notes] == ["signin_failed"]


@pytest.mark.parametrize("where", [
    None, 7, "", "javascript:alert(1)", "data:text/html,x", "http://issuer.example/authorize", "//x.example",
    "/authorize",
    "https://user:pass@issuer.example/authorize", "https://issuer.example/authorize#x", "https://issuer.example/a\nb",
])  # fmt: skip
async def test_c14_browsers_and_codes_are_sent_to_https_alone(documents: Documents, where: object) -> None:
    issuer = Issuer("x", AWAY, client_id="page", default_role="viewer")
    made = oidc(documents, authorization_endpoint=where, token_endpoint=where)
    with pytest.raises(Unavailable):
        await made.authorization(issuer)
    with pytest.raises(Unavailable):
        await made.exchange(issuer, "code", "verifier", "redirect")


async def test_where_browsers_are_sent(documents: Documents) -> None:
    issuer = Issuer("x", AWAY, client_id="page", default_role="viewer")
    made = oidc(documents, authorization_endpoint="https://other.example/authorize?x=y")
    assert await made.authorization(issuer) == ("https://other.example/authorize?x=y", False)
    made = oidc(documents, authorization_endpoint=AWAY + "/a", authorization_response_iss_parameter_supported=True)
    assert await made.authorization(issuer) == (AWAY + "/a", True)
