"""The codec of the chat socket: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core import chat

KINDS = [
    "subscribe",
    "unsubscribe",
    "chat",
    "approval_response",
    "question_response",
    "interrupt",
    "set_mode",
    "set_model",
    "ping",
    "nonsense",
]
FIELDS = [
    "type",
    "chatId",
    "after",
    "epoch",
    "message",
    "clientMessageId",
    "connectionId",
    "agent",
    "model",
    "permissionMode",
    "allowedTools",
    "maxCostUsd",
    "maxTokens",
    "attachments",
    "steer",
    "approvalId",
    "approved",
    "inputHash",
    "optionId",
    "updatedInput",
    "questionId",
    "answers",
    "mode",
    "extra",
]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
near_misses = st.builds(
    lambda kind, rest: {**rest, "type": kind},
    st.sampled_from(KINDS) | anything,
    st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6),
)


def say(**fields: Any) -> chat.ClientMessage | chat.Rejected:
    return chat.parse_client(json.dumps(fields))


@given(st.binary() | st.text() | near_misses.map(json.dumps) | near_misses.map(lambda m: json.dumps(m).encode()))
def test_never_raises_and_refuses_in_bounds(data: bytes | str) -> None:
    answer = chat.parse_client(data)
    if isinstance(answer, chat.Rejected):
        assert answer.code in {"bad_message", "too_large"}
        assert 0 < len(answer.message) <= chat.REASON_MAX
        assert chat.parse_server(chat.encode_frame(answer)) == answer
    else:
        assert chat.parse_client(chat.encode_client(answer)) == answer


@given(st.binary() | st.text() | near_misses.map(json.dumps))
def test_the_client_side_never_raises(data: bytes | str) -> None:
    chat.parse_server(data)


def test_every_client_message() -> None:
    assert say(type="subscribe", chatId="s") == chat.Subscribe(chat_id="s", after=0)
    assert say(type="subscribe", chatId="s", after=7, epoch="e") == chat.Subscribe(chat_id="s", after=7, epoch="e")
    assert say(type="unsubscribe", chatId="s") == chat.Unsubscribe(chat_id="s")
    assert say(type="interrupt", chatId="s") == chat.Interrupt(chat_id="s")
    assert say(type="set_mode", chatId="s", mode="plan") == chat.SetMode(chat_id="s", mode="plan")
    assert say(type="set_model", chatId="s", model="m") == chat.SetModel(chat_id="s", model="m")
    assert say(type="ping") == chat.Ping()
    assert say(type="question_response", questionId="q", answers={"a": "b"}) == chat.QuestionResponse(
        question_id="q", answers={"a": "b"}
    )


def test_a_prompt_with_everything() -> None:
    message = say(
        type="chat",
        message="fix it",
        chatId="s",
        clientMessageId="c",
        connectionId="k",
        agent="claude",
        model="m",
        permissionMode="manual",
        allowedTools=["Bash(npm test:*)"],
        maxCostUsd=0.5,
        maxTokens=10,
        attachments=[{"name": "a.txt", "mediaType": "text/plain", "data": "aGk="}],
        steer=True,
    )
    assert isinstance(message, chat.Chat)
    assert message.attachments == [chat.Attached(name="a.txt", media_type="text/plain", data="aGk=")]
    assert (message.allowed_tools, message.max_cost_usd, message.steer) == (["Bash(npm test:*)"], 0.5, True)


def test_an_approval_with_edited_input() -> None:
    assert say(
        type="approval_response", approvalId="a", approved=True, inputHash="h", optionId="o", updatedInput={"x": [1]}
    ) == chat.ApprovalResponse(approval_id="a", approved=True, input_hash="h", option_id="o", updated_input={"x": [1]})


@pytest.mark.parametrize(
    ("fields", "named", "ref"),
    [
        ({"type": "subscribe"}, "chatId", None),
        ({"type": "subscribe", "chatId": 3}, "chatId", None),
        ({"type": "subscribe", "chatId": ""}, "chatId", None),
        ({"type": "subscribe", "chatId": "s", "after": -1}, "after", "s"),
        ({"type": "subscribe", "chatId": "s", "after": "1"}, "after", "s"),
        ({"type": "subscribe", "chatId": "s", "after": 2**60}, "after", "s"),
        ({"type": "subscribe", "chatId": "s", "chatid": "t"}, "chatid", "s"),
        ({"type": "chat", "message": None, "clientMessageId": "c"}, "message", "c"),
        ({"type": "chat", "message": " \n", "clientMessageId": "c"}, "message", "c"),
        ({"type": "chat", "message": "x", "maxCostUsd": 0, "chatId": "s"}, "maxCostUsd", "s"),
        ({"type": "chat", "message": "x", "allowedTools": "Bash"}, "allowedTools", None),
        ({"type": "approval_response", "approvalId": "a", "approved": "yes"}, "approved", "a"),
        ({"type": "approval_response", "approvalId": "a"}, "approved", "a"),
        ({"type": "approval_response", "approvalId": "a", "approved": True, "updatedInput": []}, "updatedInput", "a"),
        ({"type": "question_response", "questionId": "q", "answers": {"a": 1}}, "answers", "q"),
        ({"type": "steal"}, "type", None),
        ({"type": 1}, "type", None),
        ({}, "type", None),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], named: str, ref: str | None) -> None:
    answer = say(**fields)
    assert isinstance(answer, chat.Rejected)
    assert answer.code == "bad_message"
    assert named in answer.message
    assert answer.ref == ref


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nope",
        b"[]",
        b'"ping"',
        b"\xff\xfe",
        b'{"type":"ping"',
        b'{"type":"ping"}{}',
        b'{"type":"approval_response","approvalId":"a","approved":true,"updatedInput":' + b'{"a":' * 50_000,
        b'{"type":"interrupt","chatId":"\\ud800"}',
        "\ud800",
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes | str) -> None:
    answer = chat.parse_client(data)
    assert isinstance(answer, chat.Rejected)
    assert answer.code == "bad_message"


def test_binary_is_refused() -> None:
    answer = chat.parse_client(b'{"type":"ping"}', binary=True)
    assert isinstance(answer, chat.Rejected)
    assert "binary" in answer.message


def test_sizes() -> None:
    fits = say(type="chat", message="x" * chat.PROMPT_MAX)
    assert isinstance(fits, chat.Chat)
    for long in (
        say(type="chat", message="x" * (chat.PROMPT_MAX + 1), clientMessageId="c"),
        chat.parse_client(b" " * (chat.MESSAGE_MAX + 1)),
        chat.parse_client("é" * (chat.MESSAGE_MAX // 2 + 1)),
    ):
        assert isinstance(long, chat.Rejected)
        assert long.code == "too_large"


def test_a_refusal_never_carries_control_characters() -> None:
    answer = say(type="a\x1b[2J\u202e" + "z" * 5000)
    assert isinstance(answer, chat.Rejected)
    assert "\x1b" not in answer.message
    assert "\u202e" not in answer.message
    assert len(answer.message) <= chat.REASON_MAX


def test_server_frames_on_the_wire() -> None:
    subscribed = chat.Subscribed(
        chat_id="s",
        epoch="e",
        oldest=1,
        head=9,
        gap=False,
        running=False,
        pending_approvals=[],
        pending_questions=[],
        viewers=1,
    )
    assert json.loads(chat.encode_frame(subscribed)) == {
        "type": "subscribed",
        "chatId": "s",
        "epoch": "e",
        "oldest": 1,
        "head": 9,
        "gap": False,
        "running": False,
        "pendingApprovals": [],
        "pendingQuestions": [],
        "viewers": 1,
    }
    assert json.loads(chat.encode_frame(chat.Gap(chat_id="s", from_=1, to=4))) == {
        "type": "gap",
        "chatId": "s",
        "from": 1,
        "to": 4,
    }
    for frame in (
        subscribed,
        chat.CaughtUp(chat_id="s", seq=3),
        chat.Viewers(chat_id="s", viewers=2),
        chat.Pong(),
        chat.Rejected(code="already_resolved", message="m", ref="a", outcome="denied", by="Ann"),
    ):
        assert chat.parse_server(chat.encode_frame(frame)) == frame


def test_an_event_is_kept_as_received() -> None:
    raw = b'{"type":"brand_new", "sessionId":"s","jobId":"j","from":3,"x":{"y":1},"seq":5}'
    assert chat.parse_server(raw) == chat.EventFrame("brand_new", "s", 5, 3, "j", raw)
    assert chat.parse_server(b'{"type":"stream","sessionId":"s"}') is None


def test_which_closes_come_back() -> None:
    assert [
        c for c in (None, 1000, 1001, 1006, 1008, 1009, 1011, 4400, 4401, 4499, 4500, 4508) if chat.comes_back(c)
    ] == [
        None,
        1001,
        1006,
        1011,
        4500,
        4508,
    ]
