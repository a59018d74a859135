"""The custom authorizer's question and what counts as its answer; and which mode a credential is."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.core import authorizer, modes
from pilothouse.core.authorizer import CONTEXT_MAX, Terms, Verdict
from pilothouse.core.channels import pattern
from pilothouse.core.modes import NothingShown

TOKEN = "aaaa.bbbb.cccc"
POOL = (
    "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJodHRwczovL2NvZ25pdG8taWRwLnVzLWVhc3QtMS5hbWF6b25hd3MuY29tL3AifQ.eHg"
)


def test_what_it_is_asked() -> None:
    asked = authorizer.asked("t", "subscribe", pattern("news/*"), {"h": "v"}, organisation="o", request_id="r")
    assert asked == {
        "authorizationToken": "t", "requestHeaders": {"h": "v"},
        "requestContext": {
            "apiId": "pilothouse", "accountId": "o", "requestId": "r", "operation": "EVENT_SUBSCRIBE",
            "channelNamespaceName": "news", "channel": "/news/*",
        },
    }  # fmt: skip
    connect = authorizer.asked("t", "connect", None, {}, organisation="o", request_id="r")["requestContext"]
    assert connect["operation"] == "EVENT_CONNECT"
    assert "channel" not in connect
    assert "channelNamespaceName" not in connect


@pytest.mark.parametrize(("answer", "verdict"), [
    ({"isAuthorized": True}, Verdict(True, None, 60)),
    ({"isAuthorized": True, "ttlOverride": 5, "handlerContext": {"a": "b"}}, Verdict(True, {"a": "b"}, 5)),
    ({"isAuthorized": True, "ttlOverride": 0}, Verdict(True, None, 0)),
    ({"isAuthorized": True, "ttlOverride": 99_999}, Verdict(True, None, 60)),
    ({"isAuthorized": True, "ttlOverride": "x"}, Verdict(True, None, 60)),
    ({"isAuthorized": False}, Verdict(False, None, 60)),
    ({"isAuthorized": True, "handlerContext": {"a": 1}}, Verdict()),
    ({"isAuthorized": True, "handlerContext": {"a": "x" * CONTEXT_MAX}}, Verdict()),
    ({"isAuthorized": "true"}, Verdict()), ({"isAuthorized": 1}, Verdict()), ({}, Verdict()), (None, Verdict()),
    (True, Verdict()), ([], Verdict()), ({"isAuthorised": True}, Verdict()),
])  # fmt: skip
def test_what_counts_as_a_yes(answer: Any, verdict: Verdict) -> None:
    assert authorizer.verdict(answer, Terms(ttl_s=60)) == verdict


@pytest.mark.parametrize(("given", "mode", "text"), [
    ([("x-api-key", "k")], "API_KEY", "k"), ([("X-Api-Key", "k")], "API_KEY", "k"),
    ([("Authorization", "Bearer ph_x")], "API_KEY", "ph_x"),
    ([("authorization", "AWS4-HMAC-SHA256 Credential=x")], "AWS_IAM", ""),
    ([("Authorization", TOKEN)], "OPENID_CONNECT", TOKEN),
    ([("Authorization", f"Bearer {TOKEN}")], "OPENID_CONNECT", TOKEN),
    ([("Authorization", POOL)], "AMAZON_COGNITO_USER_POOLS", POOL),
    ([("Authorization", "custom-token")], "AWS_LAMBDA", "custom-token"),
    ([("Authorization", f"x {TOKEN}")], "OPENID_CONNECT", f"x {TOKEN}"),
    ([("Authorization", "Basic eDp5"), ("x-api-key", "k")], "API_KEY", "k"),
])  # fmt: skip
def test_the_form_says_which_mode_it_is(given: list[tuple[str, str]], mode: str, text: str) -> None:
    found = modes.shown(given)
    assert (found.mode, found.text) == (mode, text)


def test_a_signed_token_is_the_authorizer_s_only_where_there_is_no_issuer() -> None:
    given = [("Authorization", TOKEN)]
    assert modes.shown(given, custom=True).mode == "AWS_LAMBDA"
    assert modes.shown(given, frozenset({"https://issuer.example"}), custom=True).mode == "OPENID_CONNECT"
    assert modes.shown(given).mode == "OPENID_CONNECT"


@pytest.mark.parametrize("given", [
    [], [("x-api-key", "a"), ("x-api-key", "b")], [("x-api-key", "a"), ("authorization", "b")], [("x-api-key", 7)],
    [("Authorization", "a"), ("authorization", "a")], [("authorization", None)], [("authorization", "Basic eDp5")],
])  # fmt: skip
def test_none_and_two_are_nothing(given: list[tuple[str, Any]]) -> None:
    with pytest.raises(NothingShown):
        modes.shown(given)
