"""What a handler is asked, and every answer that it may give: a row each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilothouse.core import handler
from pilothouse.core.access import Principal
from pilothouse.core.channels import channel, pattern
from pilothouse.core.handler import NoAnswer
from pilothouse.core.publish import Event

IDS = ["a", "b", "c"]
WHO = Principal("key", "PHKA1", "pub", "ann", frozenset(), "sigv4:PHKA1", organisation="red")


def test_what_it_is_asked_has_all_nine_parts() -> None:
    events = [("a", Event.of(b'{"n": 1}')), ("b", Event.of(b"null"))]
    asked = handler.asked("PUBLISH", channel("/default/room/1"), None, {"user-agent": "x"}, events)
    assert asked == {
        "identity": None, "result": None, "request": {"headers": {"user-agent": "x"}, "domainName": None},
        "info": {
            "channel": {"path": "/default/room/1", "segments": ["default", "room", "1"]},
            "channelNamespace": {"name": "default"}, "operation": "PUBLISH",
        },
        "error": None, "prev": None, "stash": {}, "outErrors": [],
        "events": [{"id": "a", "payload": {"n": 1}}, {"id": "b", "payload": None}],
    }  # fmt: skip
    subscribe = handler.asked("SUBSCRIBE", pattern("default/*"), None, {})
    assert subscribe["events"] is None
    assert subscribe["info"]["channel"] == {"path": "/default/*", "segments": ["default", "*"]}


def test_who_asks() -> None:
    assert handler.identity("API_KEY", WHO, {}, "1.2.3.4") is None
    assert handler.identity("AWS_LAMBDA", WHO, {"a": "b"}, "1.2.3.4") == {"handlerContext": {"a": "b"}}
    iam = handler.identity("AWS_IAM", WHO, {}, "1.2.3.4")
    assert iam is not None
    assert (iam["accountId"], iam["username"], iam["sourceIp"]) == ("red", "PHKA1", ["1.2.3.4"])
    claims = {"sub": "s", "iss": "i", "cognito:groups": ["g"], "username": "u"}
    assert handler.identity("OPENID_CONNECT", WHO, claims, "") == {"sub": "s", "issuer": "i", "claims": claims}
    pool = handler.identity("AMAZON_COGNITO_USER_POOLS", WHO, claims, "")
    assert pool is not None
    assert (pool["username"], pool["groups"], pool["defaultAuthStrategy"]) == ("u", ["g"], "ALLOW")


@pytest.mark.parametrize(("answer", "events", "failed"), [
    ({"events": [{"id": "a", "payload": 1}, {"id": "b", "payload": "x"}, {"id": "c", "payload": None}]},
     [("a", 1), ("b", "x"), ("c", None)], {}),
    ({"events": [{"id": "c", "payload": 3}, {"id": "a", "payload": 1}]}, [("c", 3), ("a", 1)], {}),
    ({"events": [{"id": "a", "payload": 1}, {"id": "b", "error": "no"}, {"id": "c", "error": "x", "payload": 1}]},
     [("a", 1)], {"b": "no", "c": "x"}),
    ({"events": []}, [], {}),
    ({"events": [None, {"id": "a"}, {"id": "b", "payload": 1, "error": None}]}, [("b", 1)], {}),
    ({"events": [{"id": "a", "payload": 1}, {"id": "a", "payload": 2}]}, [("a", 1)], {}),
    ({"events": [{"id": "a", "payload": 1}, {"id": "a", "error": "e"}]}, [], {"a": "e"}),
    ({"events": [{"id": "a", "error": {"deep": 1}}]}, [], {"a": "the handler says no"}),
    ({"events": [{"id": "a", "error": "x\ny\0"}]}, [], {"a": "x y "}),
])  # fmt: skip
def test_answers_to_a_publish(answer: Any, events: list[Any], failed: dict[str, str]) -> None:
    outcome = handler.published(answer, IDS)
    assert [(id, json.loads(event.text)) for id, event in outcome.events] == events
    assert outcome.failed == failed


@pytest.mark.parametrize("answer", [
    None, {}, [], "x", 7, {"error": "all of it"}, {"events": None}, {"events": {}},
    {"events": [{"id": "z", "payload": 1}]},
    {"events": [{"payload": 1}]}, {"events": ["a"]}, {"events": [{"id": 7, "payload": 1}]},
])  # fmt: skip
def test_what_is_no_answer_publishes_nothing(answer: Any) -> None:
    with pytest.raises(NoAnswer):
        handler.published(answer, IDS)


def test_answers_to_a_subscribe() -> None:
    handler.subscribed(None)
    wrong: list[Any] = [{"error": "no"}, {}, [], False, "x", {"events": []}]
    for answer in wrong:
        with pytest.raises(NoAnswer):
            handler.subscribed(answer)
