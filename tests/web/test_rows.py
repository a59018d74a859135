"""Each row of the event API's tables of errors (`protocol/events.md`), said by a socket that behaves badly: bytes by
hand, nothing waited for, everything in one write or every byte in one of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from pilothouse.core.access import SCOPES
from pilothouse.core.appsync import PUBLISH, SUBSCRIPTIONS_MAX
from pilothouse.core.bucket import Rates
from pilothouse.core.channels import channel
from pilothouse.core.namespaces import Namespace
from pilothouse.core.publish import EVENT_MAX
from pilothouse.engine.gate import Gate
from tests.fuzz.cases import BINARY, Packet
from tests.security import raw
from tests.web.bare import BAD, NO, PUB, SUB, ask, opened, post, refusing, text
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with refusing(hot=request.param == "hot") as running:
        yield running


# --- frames ---

CHANNELS = {
    "six segments": "a/b/c/d/e/f", "51 characters": "default/" + "x" * 51, "a control character": "default/a\n",
    "nul": "default/\0", "empty": "", "no text": 7, "nothing": None, "half a wildcard": "default/a*", "bare": "*",
    "in the middle": "default/*/a", "another script": "default/é", "a dash first": "-default/a", "long": "a" * 100_000,
}  # fmt: skip
ROWS: dict[str, tuple[Any, tuple[str, str | None, str]]] = {
    "binary": (Packet(b"{}", BINARY), ("error", None, BAD)),
    "no json": (b"{", ("error", None, BAD)),
    "nothing": (b"", ("error", None, BAD)),
    "an array": (b"[]", ("error", None, BAD)),
    "a number": (b"7", ("error", None, BAD)),
    "deep": (b"[" * 100_000, ("error", None, BAD)),
    "no type": (b"{}", ("error", None, "UnsupportedOperation")),
    "an unknown type": ({"type": "bogus", "id": "x"}, ("error", "x", "UnsupportedOperation")),
    "one of the server's": ({"type": "data", "id": "x", "event": "1"}, ("error", "x", "UnsupportedOperation")),
    "six events": (PUB | {"events": ["1"] * 6}, ("publish_error", "p", "InvalidInputError")),
    "no events": (PUB | {"events": []}, ("publish_error", "p", BAD)),
    "events left out": ({"type": "publish", "id": "p", "channel": "default/a"}, ("publish_error", "p", BAD)),
    "events that are no list": (PUB | {"events": "1"}, ("publish_error", "p", BAD)),
    "an event that is no text": (PUB | {"events": [1]}, ("publish_error", "p", BAD)),
    "an event that is an object": (PUB | {"events": [{}]}, ("publish_error", "p", BAD)),
    "no json in it": (PUB | {"events": ["nul"]}, ("publish_error", "p", BAD)),
    "half a character in it": (
        b'{"type":"publish","id":"p","channel":"default/a","events":["\\"\\\\ud800\\""]}', ("publish_error", "p", BAD),
    ),
    "a wildcard in a publish": (PUB | {"channel": "default/*"}, ("publish_error", "p", BAD)),
    "a bad id to publish": (PUB | {"id": "a b"}, ("publish_error", "a b", BAD)),
    "a bad id to subscribe": (SUB | {"id": ""}, ("subscribe_error", "", BAD)),
    "an id that is no text": (SUB | {"id": 7}, ("subscribe_error", None, BAD)),
    "an id of 129": (SUB | {"id": "x" * 129}, ("subscribe_error", "x" * 128, BAD)),
    "an unknown namespace to publish": (PUB | {"channel": "nowhere/a"}, ("publish_error", "p", NO)),
    "an unknown namespace to subscribe": (SUB | {"channel": "nowhere/a"}, ("subscribe_error", "s", NO)),
    "another mode's to publish": (PUB | {"channel": "signed/a"}, ("publish_error", "p", NO)),
    "another mode's to subscribe": (SUB | {"channel": "signed/a"}, ("subscribe_error", "s", NO)),
    "a cursor without a history": (SUB | {"after": 1}, ("subscribe_error", "s", BAD)),
    "a cursor before all": (SUB | {"channel": "kept/a", "after": -1}, ("subscribe_error", "s", BAD)),
    "a cursor of a wildcard": (SUB | {"channel": "kept/*", "after": 1}, ("subscribe_error", "s", BAD)),
    "presence where there is none": (SUB | {"presence": True}, ("subscribe_error", "s", BAD)),
    "a bad key": (PUB | {"key": "a\n"}, ("publish_error", "p", BAD)),
    "a session that is nobody's": (
        PUB | {"channel": "session/11111111-1111-4111-8111-111111111111", "events": ['{"type":"custom","name":"n"}']},
        ("publish_error", "p", NO),
    ),
    "a session of nobody's to hear": (
        SUB | {"channel": "session/11111111-1111-4111-8111-111111111111"}, ("subscribe_error", "s", NO),
    ),
    "unsubscribe from nothing": (
        {"type": "unsubscribe", "id": "nobody"}, ("unsubscribe_error", "nobody", "UnknownOperationError"),
    ),
    **{f"channel: {name}, publish": (PUB | {"channel": value}, ("publish_error", "p", BAD))
       for name, value in CHANNELS.items()},
    **{f"channel: {name}, subscribe": (SUB | {"channel": value}, ("subscribe_error", "s", BAD))
       for name, value in CHANNELS.items()},
    **{f"a handler that {name}, publish": (PUB | {"channel": f"odd/{name}"}, ("publish_error", "p", "HandlerError"))
       for name in ("raises", "leaves", "hangs", "rubbish", "half", "says-no")},
    **{f"a handler that {name}, subscribe": (SUB | {"channel": f"odd/{name}"}, ("subscribe_error", "s", "Unauthorized"))
       for name in ("raises", "leaves", "hangs", "rubbish", "half", "says-no")},
}  # fmt: skip


def _named(said: Any, answer: tuple[str, str | None, str], name: str) -> tuple[Any, tuple[str, str | None, str]]:
    """With an id of its own where any would do: one that is pending may be said again."""
    if not isinstance(said, dict) or said.get("id") not in {"s", "p"}:
        return said, answer
    return said | {"id": name}, (answer[0], name, answer[2])


def _with(given: dict[str, str], said: Any) -> Packet:
    if isinstance(said, Packet):
        return said
    return text(said | {"authorization": given} if isinstance(said, dict) and said.get("type") in {
        "publish", "subscribe",
    } else said)  # fmt: skip


async def test_every_row_is_answered_for_itself_and_the_connection_stays(served: Served) -> None:
    """Before `connection_init`, which never comes; nothing is heard before all has been said."""
    given, rows = {"x-api-key": await served.key()}, list(ROWS.values())
    async with opened(served, given) as watching:
        watching.say(text({"type": "subscribe", "id": "w", "channel": "default/*", "authorization": given}))
        assert await watching.brief() == ("subscribe_success", "w", "")
        for start in range(0, len(rows), 20):  # fewer than may be published in a second
            some = [_named(said, answer, f"r{n}") for n, (said, answer) in enumerate(rows[start : start + 20])]
            async with opened(served, given) as one:
                last = text(SUB | {"id": "last", "authorization": given})
                one.say(*[_with(given, said) for said, _ in some], last)
                heard = [await one.brief() for _ in range(len(some) + 1)]
                # who is asked first need not answer first: only those that wait for nobody have an order
                assert sorted(heard, key=repr) == sorted(
                    [*[answer for _, answer in some], ("subscribe_success", "last", "")], key=repr
                )
        channels = served.platform.channels
        assert channels is not None
        watching.say(text({"type": "unsubscribe", "id": "w"}))
        assert await watching.brief() == ("unsubscribe_success", "w", ""), "nothing was published"


@pytest.mark.parametrize("name", ["six events", "no json in it", "channel: six segments, subscribe", "binary"])
async def test_byte_by_byte_it_is_the_same(served: Served, name: str) -> None:
    said, answer = ROWS[name]
    given = {"x-api-key": await served.key()}
    async with opened(served, given) as one:
        await one.dribble(_with(given, said))
        assert await one.brief() == answer


async def test_an_id_that_is_live_and_one_too_many_and_too_often(served: Served) -> None:
    given = {"x-api-key": await served.key()}
    subscribe = SUB | {"authorization": given}
    async with opened(served, given) as one:
        one.say(text(subscribe))
        assert await one.brief() == ("subscribe_success", "s", "")
        one.say(text(subscribe | {"channel": "default/other"}))
        assert await one.brief() == ("subscribe_error", "s", "DuplicatedOperationError")
        one.say(*[text(subscribe | {"id": f"s{n}"}) for n in range(1, SUBSCRIPTIONS_MAX)])
        assert {(await one.brief())[0] for _ in range(1, SUBSCRIPTIONS_MAX)} == {"subscribe_success"}  # type: ignore[index]
        one.say(text(subscribe | {"id": "more"}))
        assert await one.brief() == ("subscribe_error", "more", "MaxSubscriptionsReachedError")
    async with opened(served, given) as one:
        one.say(*[text(PUB | {"authorization": given, "channel": "default/often"})] * (PUBLISH.burst + 5))
        heard = [await one.brief() for _ in range(PUBLISH.burst + 5)]
        assert heard.count(("publish_error", "p", "LimitExceededError")) >= 4
        assert heard[: PUBLISH.burst] == [("publish_success", "p", "")] * PUBLISH.burst


@pytest.mark.parametrize(("packets", "code"), [
    ([Packet(b"", claims=10 * 2**20)], 1009),
    ([Packet(b"x" * 5 * 2**20, fin=False), Packet(b"x" * 5 * 2**20, 0)], 1009),
    ([Packet(b"\xff")], 1007),
    ([Packet(b"{}", masked=False)], 1002),
    ([Packet(b"{}", 0)], 1002),
    ([Packet(b"{}", 3)], 1002),
    ([Packet(b"{}", rsv=4)], 1002),
    ([Packet(b"x" * 126, 9)], 1002),
], ids=[
    "10 MB told", "10 MB in pieces", "no utf-8", "unmasked", "a piece of nothing", "opcode 3", "reserved", "a ping",
])  # fmt: skip
async def test_what_is_no_frame_ends_this_connection_and_no_other(
    served: Served, packets: list[Packet], code: int
) -> None:
    given = {"x-api-key": await served.key()}
    async with opened(served, given) as other, opened(served, given) as one:
        with contextlib.suppress(*raw.CLOSED):
            one.say(*packets)
        try:
            assert await one.hear() == code
        except raw.CLOSED:
            assert code == 1009, "what was not read any more makes an end of it"
        other.say(text(SUB | {"authorization": given}))
        assert await other.brief() == ("subscribe_success", "s", "")


# --- HTTP ---


@pytest.mark.parametrize(("change", "status", "name"), [
    ({"events": ["1"] * 6}, 400, BAD), ({"events": []}, 400, BAD), ({"events": None}, 400, BAD),
    ({"events": [1]}, 400, BAD), ({"events": [{}]}, 400, BAD), ({"events": ["nul"]}, 400, BAD),
    ({"key": 7}, 400, BAD), ({"channel": "nowhere/a"}, 403, NO), ({"channel": "signed/a"}, 403, NO),
    *[({"channel": value}, 400, BAD) for value in CHANNELS.values()],
    *[({"channel": f"odd/{name}"}, 403, "HandlerError") for name in ("raises", "leaves", "hangs", "rubbish", "half")],
    ({"channel": "odd/a", "events": ["1e999"]}, 400, BAD),
    ({"channel": "odd/a", "events": ["[" * 199 + "]" * 199]}, 400, BAD),
    ({"channel": "session/11111111-1111-4111-8111-111111111111", "events": ['{"type":"custom","name":"n"}']}, 403, NO),
])  # fmt: skip
async def test_every_row_of_http(served: Served, change: Any, status: int, name: str) -> None:
    key = ("x-api-key", await served.key())
    found, headers, said = await post(served, {"channel": "default/a", "events": ["1"]} | change, key)
    assert (found, headers["x-amzn-errortype"], said["errors"][0]["errorType"]) == (status, name, name)
    assert "secret" not in json.dumps(said)
    if change.get("events") == ["1"] * 6:
        assert said["errors"][0]["message"] == "Input exceeded 5 event limit"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"\0", b"[" * 100_000, b'{"channel":"default/a"'])
async def test_a_body_that_is_none(served: Served, body: bytes) -> None:
    status, headers, _ = await post(served, body, ("x-api-key", await served.key()))
    assert (status, headers["x-amzn-errortype"]) == (400, BAD)


async def test_a_body_of_five_megabytes_is_refused_by_its_length(served: Served) -> None:
    head = f"POST /event HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\nconnection: close\r\n"
    key = f"x-api-key: {await served.key()}\r\ncontent-length: 5000000\r\n\r\n"
    answer = await ask(served, (head + key).encode())
    assert raw.status(answer) == 413
    assert b"x-amzn-errortype: BadRequestException" in answer


async def test_two_keys_are_none(served: Served) -> None:
    key, body = ("x-api-key", await served.key()), {"channel": "default/a", "events": ["1"]}
    status, _, said = await post(served, body, key, ("idempotency-key", "a"), ("Idempotency-Key", "b"))
    assert (status, said["errors"][0]["errorType"]) == (400, BAD)


async def test_c03_a_name_that_is_not_ours_and_a_page_that_is_not_are_told_nothing(served: Served) -> None:
    key = await served.key()
    for headers, status in (({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403),
                            ({"origin": "null"}, 403)):  # fmt: skip
        given = {"host": f"127.0.0.1:{served.port}", "x-api-key": key} | headers
        for method, path in (("POST", "/event"), ("OPTIONS", "/event"), ("GET", "/event/history?channel=kept/a"),
                             ("GET", "/event/presence?channel=kept/a")):  # fmt: skip
            answer = await ask(served, raw.plain(method, path, given))
            assert raw.status(answer) == status, (method, path, headers)
            assert b"access-control-allow-origin" not in answer.lower()
        assert raw.status(await raw.exchange(served.url, raw.upgrade("/event/realtime", given))) == status


async def test_241_kilobytes_and_1_3_megabytes(served: Served) -> None:
    """What is too large fails by itself, by either door; the others go out."""
    key = await served.key()
    large, fits = json.dumps("x" * EVENT_MAX), json.dumps("y" * (EVENT_MAX - 2))
    for events, failed in (([large, "1"], [0]), ([fits] * 5, []), ([json.dumps("x" * 260_000)] * 5, [0, 1, 2, 3, 4])):
        body = {"channel": "default/large", "events": events}
        status, _, said = await post(served, body, ("x-api-key", key))
        assert (status, [one["index"] for one in said["failed"]]) == (200, failed)
        assert {one["code"] for one in said["failed"]} <= {"EventTooLargeException"}
        async with opened(served) as one:
            one.say(text(PUB | body | {"authorization": {"x-api-key": key}}))
            heard = await one.hear()
            assert isinstance(heard, dict)
            assert [entry["index"] for entry in heard["failed"]] == failed


async def test_other_methods_and_places(served: Served) -> None:
    for method, path, status in (
        ("GET", "/event", 405), ("PUT", "/event", 405), ("DELETE", "/event", 405), ("POST", "/event/realtime", 404),
        ("POST", "/event/history", 405), ("POST", "/event/other", 404), ("GET", "/event/realtime", 426),
    ):  # fmt: skip
        headers = {"host": f"127.0.0.1:{served.port}", "x-api-key": await served.key(), "content-length": "0"}
        answer = await ask(served, raw.plain(method, path, headers))
        assert raw.status(answer) == status, (method, path)


async def test_too_often_by_http_is_said_before_anything_is_published() -> None:
    def slow(store: Any, clock: Any) -> Gate:
        return Gate(store, clock, Rates(per_s=0.001, burst=2, per_day=0))

    async with serving(gate=slow, namespaces=[Namespace("default", history=10)]) as served:
        key = ("x-api-key", await served.key())
        found = [await post(served, {"channel": "default/a", "events": ["1"]}, key) for _ in range(3)]
        assert [status for status, _, _ in found] == [200, 200, 429]
        assert found[2][1]["x-amzn-errortype"] == "LimitExceededError"
        assert int(found[2][1]["retry-after"]) > 0
        channels = served.platform.channels
        assert channels is not None
        page = await channels.history("default", channel("default/a"), 0, 10)
        assert page is not None
        assert page.head == 2


async def test_c13_a_session_of_somebody_else_takes_nothing_from_others(served: Served) -> None:
    members = served.identity.members
    await members.make("red", None)
    await members.put("red", "owner", role="admin")
    _, theirs = await served.identity.keys.create("x", SCOPES, account="owner", organisation="red")
    session = await served.platform.sessions.create(owner="local", organisation="default", agent="echo")
    sid, head = session.live.record.id, session.live.head
    said = {"channel": f"/session/{sid}", "events": ['{"type":"custom","name":"n","data":1}']}
    status, _, _ = await post(served, said, ("x-api-key", theirs))
    assert status == 403
    async with opened(served, {"x-api-key": theirs}) as one:
        one.say(text(PUB | said | {"authorization": {"x-api-key": theirs}}))
        assert await one.brief() == ("publish_error", "p", NO)
        one.say(text(SUB | {"channel": f"/session/{sid}", "authorization": {"x-api-key": theirs}}))
        assert await one.brief() == ("subscribe_error", "s", NO)
    assert session.live.head == head
