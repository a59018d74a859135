"""Where callers put a token, in the forms of both wires; and what only looks like one."""

from __future__ import annotations

import base64
import json

import pytest

from pilothouse.core import bearer
from pilothouse.core.bearer import AGENTCORE, APPSYNC, OFFER_MAX
from pilothouse.core.token import BadToken

TOKEN = "aaaa.bbbb.cccc"
KEY = "ph_000000000000_" + "x" * 43


def offer(headers: object) -> str:
    return "header-" + bearer.encoded(headers if isinstance(headers, str) else json.dumps(headers))


@pytest.mark.parametrize(("value", "token", "raw"), [
    (f"Bearer {TOKEN}", TOKEN, TOKEN), (f"bearer {TOKEN}", TOKEN, TOKEN), (f"BEARER   {TOKEN} ", TOKEN, TOKEN),
    (TOKEN, None, TOKEN), (f" {TOKEN} ", None, TOKEN), (KEY, None, None), (f"Bearer {KEY}", KEY, KEY),
    (None, None, None),
    ("", None, None), ("Basic YTpi", None, None), (f"Basic {TOKEN}", None, None), (f"Token {TOKEN}", None, None),
    ("AWS4-HMAC-SHA256 Credential=a.b.c/x, Signature=y", None, None), ("Bearer", "", ""), ("Bearer ", "", ""),
])  # fmt: skip
def test_the_authorization_header(value: str | None, token: str | None, raw: str | None) -> None:
    """AppSync's clients leave `Bearer` out, for signed tokens alone."""
    assert bearer.of_header(value) == token
    assert bearer.of_raw_header(value) == raw


@pytest.mark.parametrize("turned", [False, True])
def test_c10_subprotocols_of_agentcore(turned: bool) -> None:
    """A browser cannot send headers with a WebSocket; what the server says yes with never carries the token."""
    offers = [f"{AGENTCORE}.{bearer.encoded(TOKEN)}", AGENTCORE]
    found = bearer.of_agentcore(offers[::-1] if turned else offers)
    assert found is not None
    assert found.headers == {"authorization": f"Bearer {TOKEN}"}
    assert found.answer == "base64UrlBearerAuthorization"
    assert bearer.of_agentcore([]) is None
    assert bearer.of_agentcore([AGENTCORE, "v1.command.agentcore.aws.dev"]) is None


@pytest.mark.parametrize("offers", [
    [f"{AGENTCORE}.{bearer.encoded(TOKEN)}"],
    [f"{AGENTCORE}.{bearer.encoded(TOKEN)}", f"{AGENTCORE}.{bearer.encoded(TOKEN)}", AGENTCORE],
    [f"{AGENTCORE}.", AGENTCORE], [f"{AGENTCORE}.!!!", AGENTCORE], [f"{AGENTCORE}.a", AGENTCORE],
    [f"{AGENTCORE}.{bearer.encoded('a' + chr(10) + 'x-api-key: y')}", AGENTCORE],
    [f"{AGENTCORE}.{bearer.encoded('é')}", AGENTCORE], [f"{AGENTCORE}.{'A' * (OFFER_MAX + 1)}", AGENTCORE],
])  # fmt: skip
def test_broken_subprotocols_of_agentcore(offers: list[str]) -> None:
    with pytest.raises(BadToken):
        bearer.of_agentcore(offers)


@pytest.mark.parametrize("text", [
    json.dumps({"Authorization": TOKEN, "host": "x"}),
    json.dumps({"Authorization": TOKEN, "host": "x"}, indent=2) + "\n",
])  # fmt: skip
@pytest.mark.parametrize("form", [base64.urlsafe_b64encode, base64.b64encode])
@pytest.mark.parametrize("padded", [False, True])
def test_c10_subprotocols_of_appsync(text: str, form: object, padded: bool) -> None:
    """As Amplify writes them, and as a shell does: with a line's end, padding and the other alphabet."""
    assert callable(form)
    raw: str = form(text.encode()).decode()
    found = bearer.of_appsync([f"header-{raw if padded else raw.rstrip('=')}", APPSYNC])
    assert found is not None
    assert found.headers == {"authorization": TOKEN, "host": "x"}
    assert found.answer == "aws-appsync-event-ws"
    assert bearer.of_raw_header(found.headers["authorization"]) == TOKEN
    assert bearer.of_appsync([APPSYNC]) is None, "phones send ordinary headers"


@pytest.mark.parametrize("offers", [
    [offer({"Authorization": TOKEN})], [offer({}), offer({}), APPSYNC], ["header-", APPSYNC], ["header-!", APPSYNC],
    [offer("[]"), APPSYNC], [offer("{"), APPSYNC], [offer('{"a":"1","a":"2"}'), APPSYNC],
    [offer({"Authorization": "a", "authorization": "b"}), APPSYNC], [offer({"x": 7}), APPSYNC],
    [offer({"x": "a\r\nb"}), APPSYNC], [offer({str(n): "x" for n in range(21)}), APPSYNC],
    [offer("{" * 9000), APPSYNC], ["header-" + "A" * (OFFER_MAX + 1), APPSYNC],
], ids=lambda v: str(v)[:30])  # fmt: skip
def test_broken_subprotocols_of_appsync(offers: list[str]) -> None:
    with pytest.raises(BadToken):
        bearer.of_appsync(offers)
