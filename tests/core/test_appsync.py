"""A connection of the event API as a conversation: what a client says and what it hears, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core import appsync, publish
from pilothouse.core.appsync import Connection, Publish, Refusal, Reply, Subscribe, Unsubscribe
from pilothouse.core.channels import channel
from pilothouse.core.publish import EVENT_MAX, Bad, Event, Failed, Taken
from tests.core.test_channels import GRAMMAR

ID = "e934fb07-33a2-435c-93a6-7c970b9f94e9"


def say(connection: Connection, now: float = 0.0, /, **frame: Any) -> appsync.Step:
    return connection.take(json.dumps(frame).encode(), text=True, now=now)


def heard(step: appsync.Step | bytes | None) -> Any:
    """The one frame that a reply has."""
    if isinstance(step, bytes):
        return json.loads(step)
    assert isinstance(step, Reply), step
    [frame] = step.frames
    return json.loads(frame)


def error(kind: str, id: str | None, name: str) -> Any:
    """To be compared without the message, which is for people."""
    return (kind, id, name)


def brief(frame: Any) -> Any:
    [problem] = frame["errors"]
    assert problem["message"]
    return (frame["type"], frame.get("id"), problem["errorType"])


def live(connection: Connection, id: str = ID, where: str = "default/room") -> Subscribe:
    step = say(connection, type="subscribe", id=id, channel=where, authorization={"x-api-key": "k"})
    assert isinstance(step, Subscribe)
    assert heard(connection.subscribed(step)) == {"type": "subscribe_success", "id": id}
    return step


# --- what is right ---


def test_init_is_answered_with_a_sign_of_life_and_may_come_again() -> None:
    connection = Connection(0)
    for _ in range(2):
        step = say(connection, type="connection_init")
        assert isinstance(step, Reply)
        assert [json.loads(f) for f in step.frames] == [
            {"type": "connection_ack", "connectionTimeoutMs": 300_000},
            {"type": "ka"},
        ]
    assert appsync.KA_S * 1000 * 4 < appsync.TIMEOUT_MS, "some signs of life may be lost"


def test_subscribe_before_init_and_as_amplify_writes_it() -> None:
    connection, given = Connection(0), {"host": "h", "x-api-key": "k"}
    step = say(
        connection, type="subscribe", id=ID, channel="default/room", authorization=given,
        payload={"channel": "elsewhere", "extensions": {"authorization": {}}},
    )  # fmt: skip
    assert isinstance(step, Subscribe)
    assert (step.pattern.path, step.said, step.authorization) == ("/default/room", "default/room", given)
    assert (step.after, step.presence) == (None, False)
    assert heard(connection.subscribed(step, seq=7)) == {"type": "subscribe_success", "id": ID, "seq": 7}
    ours = say(connection, type="subscribe", id="2", channel="a/*", authorization={}, after=3, presence=True)
    assert isinstance(ours, Subscribe)
    assert (ours.after, ours.presence, ours.pattern.wild) == (3, True, True)


def test_unsubscribe_frees_the_id() -> None:
    connection = Connection(0)
    live(connection)
    step = say(connection, type="unsubscribe", id=ID)
    assert step == Unsubscribe(ID)
    assert heard(connection.unsubscribed(step)) == {"type": "unsubscribe_success", "id": ID}
    again = heard(say(connection, type="unsubscribe", id=ID))
    assert again["errors"][0]["message"] == f"Unknown operation id {ID}"
    assert brief(again) == error("unsubscribe_error", ID, "UnknownOperationError")
    live(connection)


def test_publish_passes_the_text_on_as_it_came() -> None:
    connection = Connection(0)
    raw = b'{"type":"publish","id":"p","channel":"/a/b/","events":["{\\"n\\":1}", "\\u0022\\u00e9\\/\\u0022","null"]}'
    step = connection.take(raw, text=True, now=0)
    assert isinstance(step, Publish)
    assert step.channel == channel("/a/b")
    assert [e.raw for e in step.events] == [b'"{\\"n\\":1}"', b'"\\u0022\\u00e9\\/\\u0022"', b'"null"']
    assert [json.loads(e.text) for e in step.events] == [{"n": 1}, "é/", None]
    frame = appsync.data_head("s") + publish.rest(step.events[1])
    assert json.loads(frame) == {"type": "data", "id": "s", "event": '"é/"'}
    done = connection.published(step, [Taken("u", 0)], [Failed("v", 1, "EventTooLargeException", "too large")])
    assert heard(done) == {
        "type": "publish_success", "id": "p", "successful": [{"identifier": "u", "index": 0}],
        "failed": [{"identifier": "v", "index": 1, "code": "EventTooLargeException", "message": "too large"}],
    }  # fmt: skip


# --- what is wrong ---

LONG = "x" * 129
PUBLISHED = {"type": "publish", "id": "p", "channel": "a/b", "events": ["1"], "authorization": {}}
SUBSCRIBED = {"type": "subscribe", "id": "s", "channel": "a/b", "authorization": {}}
BAD = "BadRequestException"


@pytest.mark.parametrize(("frame", "answer"), [
    (PUBLISHED | {"events": ["1"] * 6}, ("publish_error", "p", "InvalidInputError")),
    (PUBLISHED | {"events": []}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"events": "1"}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"events": None}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"events": [{"a": 1}]}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"events": ["1", 2]}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"events": ["nul"]}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"events": [""]}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"channel": "a/*"}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"channel": "a/b/c/d/e/f"}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"channel": "x" * 51}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"channel": ""}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"channel": "a\u0000b"}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"id": ""}, ("publish_error", "", BAD)),
    (PUBLISHED | {"id": LONG}, ("publish_error", LONG[:128], BAD)),
    (PUBLISHED | {"id": 7}, ("publish_error", None, BAD)),
    (PUBLISHED | {"key": ""}, ("publish_error", "p", BAD)),
    (PUBLISHED | {"key": "a\nb"}, ("publish_error", "p", BAD)),
    (SUBSCRIBED | {"channel": "*"}, ("subscribe_error", "s", BAD)),
    (SUBSCRIBED | {"channel": "a/*/b"}, ("subscribe_error", "s", BAD)),
    (SUBSCRIBED | {"channel": ["a"]}, ("subscribe_error", "s", BAD)),
    (SUBSCRIBED | {"id": "a b"}, ("subscribe_error", "a b", BAD)),
    (SUBSCRIBED | {"id": None}, ("subscribe_error", None, BAD)),
    (SUBSCRIBED | {"after": -1}, ("subscribe_error", "s", BAD)),
    (SUBSCRIBED | {"after": True}, ("subscribe_error", "s", BAD)),
    (SUBSCRIBED | {"after": 2**53}, ("subscribe_error", "s", BAD)),
    (SUBSCRIBED | {"presence": "yes"}, ("subscribe_error", "s", BAD)),
    (SUBSCRIBED | {"authorization": {"x": "y" * appsync.AUTHORIZATION_MAX}}, ("subscribe_error", "s", BAD)),
    (PUBLISHED | {"authorization": ["y" * appsync.AUTHORIZATION_MAX]}, ("publish_error", "p", BAD)),
    ({"type": "unsubscribe", "id": "nobody"}, ("unsubscribe_error", "nobody", "UnknownOperationError")),
    ({"type": "unsubscribe"}, ("unsubscribe_error", None, "UnknownOperationError")),
    ({"type": "bogus", "id": "x"}, ("error", "x", "UnsupportedOperation")),
    ({"type": 7}, ("error", None, "UnsupportedOperation")),
    ({}, ("error", None, "UnsupportedOperation")),
])  # fmt: skip
def test_every_mistake_has_its_answer_and_changes_nothing(frame: dict[str, Any], answer: Any) -> None:
    connection = Connection(0)
    assert brief(heard(say(connection, **frame))) == answer
    live(connection, "s")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"7", b'"x"', b"null", b"\xff", b'{"type":"ka"', b"[" * 100_000])
def test_what_is_no_frame_is_said_and_the_connection_stays(raw: bytes) -> None:
    connection = Connection(0)
    assert brief(heard(connection.take(raw, text=True, now=0))) == error("error", None, BAD)
    assert brief(heard(connection.take(b"\0", text=False, now=0))) == error("error", None, BAD)
    live(connection)


def test_a_live_id_is_taken_and_what_it_names_goes_on() -> None:
    connection = Connection(0)
    live(connection)
    second = heard(say(connection, type="subscribe", id=ID, channel="other/room", authorization={}))
    assert brief(second) == error("subscribe_error", ID, "DuplicatedOperationError")
    unknown = heard(say(connection, type="bogus", id=ID))
    assert "id" not in unknown, "an error with its id would end the subscription at the client"
    assert say(connection, type="unsubscribe", id=ID) == Unsubscribe(ID)


def test_a_pending_id_that_comes_again_replaces_the_first() -> None:
    connection = Connection(0)
    first = say(connection, type="subscribe", id=ID, channel="a/b", authorization={})
    second = say(connection, type="subscribe", id=ID, channel="a/b", authorization={})
    assert isinstance(first, Subscribe)
    assert isinstance(second, Subscribe)
    assert connection.waits(second)
    assert not connection.waits(first)
    assert connection.subscribed(first) is None
    assert connection.refused(first, Refusal()) is None
    assert connection.subscribed(second) is not None


def test_a_pending_one_that_is_given_up_says_nothing_later() -> None:
    connection = Connection(0)
    step = say(connection, type="subscribe", id=ID, channel="a/b", authorization={})
    assert isinstance(step, Subscribe)
    assert say(connection, type="unsubscribe", id=ID) == Unsubscribe(ID)
    assert connection.subscribed(step) is None


def test_refusals_carry_the_id_and_free_it() -> None:
    connection = Connection(0)
    step = say(connection, type="subscribe", id=ID, channel="a/b", authorization={})
    assert isinstance(step, Subscribe)
    assert heard(connection.refused(step, Refusal())) == {
        "type": "subscribe_error", "id": ID,
        "errors": [{"errorType": "UnauthorizedException", "message": "You are not authorized to make this call."}],
    }  # fmt: skip
    live(connection)
    published = say(connection, **PUBLISHED)
    assert isinstance(published, Publish)
    assert brief(heard(connection.refused(published, Refusal()))) == error("publish_error", "p", appsync.UNAUTHORIZED)


def test_the_server_may_end_a_live_subscription_once() -> None:
    connection = Connection(0)
    live(connection)
    assert brief(heard(connection.ended(ID, Refusal()))) == error("error", ID, appsync.UNAUTHORIZED)
    assert connection.ended(ID, Refusal()) is None
    live(connection)


def test_the_201st_subscription() -> None:
    connection = Connection(0)
    for number in range(appsync.SUBSCRIPTIONS_MAX - 1):
        live(connection, str(number))
    pending = say(connection, type="subscribe", id="pending", channel="a/b", authorization={})
    assert isinstance(pending, Subscribe)
    over = heard(say(connection, type="subscribe", id="over", channel="a/b", authorization={}))
    assert brief(over) == error("subscribe_error", "over", "MaxSubscriptionsReachedError")
    assert isinstance(say(connection, type="subscribe", id="pending", channel="a/b", authorization={}), Subscribe)
    assert say(connection, type="unsubscribe", id="0") == Unsubscribe("0")
    live(connection, "over")


def test_too_many_publishes_a_second_and_later_again() -> None:
    connection = Connection(0)
    for _ in range(25):
        assert isinstance(say(connection, **PUBLISHED), Publish)
    assert brief(heard(say(connection, **PUBLISHED))) == error("publish_error", "p", "LimitExceededError")
    assert isinstance(say(connection, 1.0, **PUBLISHED), Publish)


def test_a_flood_of_other_requests_is_refused_too() -> None:
    connection = Connection(0)
    answers = [say(connection, type="connection_init") for _ in range(500)]
    assert brief(heard(answers[-1])) == error("error", None, "LimitExceededError")
    assert isinstance(say(connection, **PUBLISHED), Publish)


def test_a_refused_connection_says_why() -> None:
    assert json.loads(appsync.connection_error(Refusal())) == {
        "type": "connection_error",
        "errors": [
            {
                "errorType": "UnauthorizedException",
                "message": "You are not authorized to make this call.",
                "errorCode": 401,
            }
        ],
    }


# --- HTTP bodies ---


def body(**more: Any) -> bytes:
    return json.dumps({"channel": "/default/room", "events": ["1"], "id": "x"} | more).encode()


def test_a_body_as_clients_write_it() -> None:
    found = publish.request(body(events=['{"n": 1}', '"text"', "3", "null", "true"], key="k"))
    assert found.channel.path == "/default/room"
    assert [e.text for e in found.events] == ['{"n": 1}', '"text"', "3", "null", "true"]
    assert found.key == "k"


@pytest.mark.parametrize(("raw", "named"), [
    (b"", "body"), (b"[]", "body"), (b"{", "body"), (b"\xff", "body"), (b'{"channel":"\xff"}', "body"),
    (body(channel="a/*"), "channel"), (body(channel=None), "channel"), (body(events=[]), "events"),
    (body(events=["1"] * 6), "Input exceeded 5 event limit"), (body(events=[{}]), r"events\[0\]"),
    (body(events=["1", "{"]), r"events\[1\]"), (body(events=["\ud800"]), "body"), (body(key=7), "key"),
])  # fmt: skip
def test_a_body_that_is_wrong_is_refused_by_name(raw: bytes, named: str) -> None:
    with pytest.raises(Bad, match=named) as refused:
        publish.request(raw)
    assert refused.value.type == BAD


def test_241_kilobytes_are_too_many_however_they_are_counted() -> None:
    for value in ("x" * (EVENT_MAX - 1), "é" * (EVENT_MAX // 2)):
        assert publish.too_large(Event.of(json.dumps(value, ensure_ascii=False).encode()))
    assert not publish.too_large(Event.of(json.dumps("x" * (EVENT_MAX - 2)).encode()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, st.booleans())
def test_what_is_published_is_what_is_read(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    raw = json.dumps({"channel": "a", "events": [text]}, ensure_ascii=ascii_only).encode()
    [event] = publish.request(raw).events
    plain = json.loads(appsync.data_head("i") + publish.rest(event))
    assert plain == {"type": "data", "id": "i", "event": text}
    row = publish.kept(event, "2026-11-21T00:00:00.000Z")[:-1] + b',"seq":7}'
    where = channel("/a/b")
    kept = json.loads(appsync.data_head("i") + publish.named(publish.rest_of_row(row), where))
    assert kept == plain | {"at": "2026-11-21T00:00:00.000Z", "seq": 7, "channel": "/a/b"}


FRAME = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["connection_init", "subscribe", "unsubscribe", "publish"]) | JSON,
        "id": st.sampled_from(["a", "b", "c"]) | JSON,
        "channel": st.sampled_from(["a/b", "a/*", "/x"]) | JSON,
        "events": st.lists(st.sampled_from(["1", "{}", "x"]), max_size=7) | JSON,
        "authorization": JSON,
        "after": JSON,
        "presence": JSON,
        "key": JSON,
    },
)


@given(st.lists(FRAME.map(lambda f: json.dumps(f).encode()) | st.binary(max_size=40), max_size=12), st.data())
def test_nothing_that_is_said_raises_and_ids_are_live_or_not(messages: list[bytes], data: st.DataObject) -> None:
    connection, alive = Connection(0), set()
    for number, raw in enumerate(messages):
        step = connection.take(raw, text=True, now=float(number))
        if isinstance(step, Reply):
            assert all(json.loads(frame)["type"] for frame in step.frames)
        elif isinstance(step, Unsubscribe):
            alive.discard(step.id)
        elif isinstance(step, Subscribe):
            assert step.id not in alive
            if data.draw(st.booleans()):
                assert connection.subscribed(step) is not None
                alive.add(step.id)
            else:
                assert connection.refused(step, Refusal()) is not None


BODY = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["a/b", "/x", "a/*"]) | JSON,
        "events": st.lists(st.sampled_from(["1", "{}", "nul", "\ud800"]) | JSON, max_size=7) | JSON,
        "key": st.sampled_from(["k", ""]) | JSON,
    },
)


@given(BODY.map(lambda b: json.dumps(b).encode()) | st.binary(max_size=60), st.data())
def test_no_body_raises_anything_else_and_what_passes_is_within_bounds(raw: bytes, data: st.DataObject) -> None:
    """Whole, and with a byte changed somewhere."""
    if raw and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw = raw[:place] + data.draw(st.binary(min_size=1, max_size=1)) + raw[place + 1 :]
    try:
        found = publish.request(raw)
    except Bad as error:
        assert str(error).isprintable()
        return
    assert 1 <= len(found.events) <= 5
    assert GRAMMAR.match(found.channel.path)
    for event in found.events:
        json.loads(json.loads(event.raw))
