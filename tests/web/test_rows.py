"""Each row of the event API's tables of errors (`protocol/events.md`), said by a socket that behaves badly: bytes by
hand, nothing waited for, everything in one write or every byte in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.core import bearer
from pilothouse.core.access import SCOPES
from pilothouse.core.appsync import PUBLISH, SUBSCRIPTIONS_MAX
from pilothouse.core.bucket import Rates
from pilothouse.core.channels import channel
from pilothouse.core.namespaces import Namespace
from pilothouse.core.publish import EVENT_MAX
from pilothouse.engine.gate import Gate
from pilothouse.engine.handlers import Handlers
from pilothouse.engine.hooks import Bounded
from tests.core.signing import signed
from tests.engine.fakes import HandClock
from tests.fuzz.cases import BINARY, Packet
from tests.issuer import NOW, FakeIssuer
from tests.security import raw
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOUSE = FakeIssuer()
BAD, NO = "BadRequestException", "UnauthorizedException"


async def odd(event: Any, context: Any) -> Any:
    match event["info"]["channel"]["segments"][-1]:
        case "raises":
            raise ValueError("a secret reason")
        case "leaves":
            raise SystemExit(1)
        case "hangs":
            await asyncio.sleep(20)
        case "rubbish":
            return [object()]
        case "half":
            return {"events": [{"id": "not one of them", "payload": 1}]}
        case "says-no":
            return {"error": "a secret reason"}
    return {"events": event["events"]} if event["events"] else None


NAMESPACES = (
    Namespace("default"),
    Namespace("kept", history=5),
    Namespace("signed", publish_modes=frozenset({"AWS_IAM"}), subscribe_modes=frozenset({"AWS_IAM"})),
    Namespace("odd", on_publish="odd", on_subscribe="odd"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    made = Handlers({"odd": Bounded(PythonHook("odd", odd), 0.3)})
    async with serving(hot=request.param == "hot", namespaces=NAMESPACES, handlers=made, houses=[HOUSE]) as running:
        yield running
    await made.close()


# --- a client made of bytes ---


class Bytes:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def hear(self) -> dict[str, Any] | int:
        """The next frame, or the code that it ends with."""
        async with asyncio.timeout(20):
            first, size = await self._reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
            data = await self._reader.readexactly(size)
        if first & 15 == 8:
            return int.from_bytes(data[:2], "big")
        said: dict[str, Any] = json.loads(data)
        return said

    async def brief(self) -> tuple[str, str | None, str] | int:
        said = await self.hear()
        if isinstance(said, int):
            return said
        [problem] = said.get("errors", [{"errorType": "", "message": "x"}])
        assert problem["message"]
        assert "secret" not in problem["message"]
        return said["type"], said.get("id"), problem["errorType"]

    def say(self, *packets: Packet) -> None:
        self._writer.write(b"".join(packet.encode() for packet in packets))

    async def dribble(self, *packets: Packet) -> None:
        for byte in b"".join(packet.encode() for packet in packets):
            self._writer.write(bytes([byte]))
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def opened(served: Served, given: dict[str, str] | None = None) -> AsyncIterator[Bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    shown = {"x-api-key": await served.key()} if given is None else given
    offer = f"aws-appsync-event-ws, header-{bearer.encoded(json.dumps(shown))}"
    headers = {"host": f"127.0.0.1:{served.port}", "sec-websocket-protocol": offer}
    writer.write(raw.upgrade("/event/realtime", headers))
    head = await reader.readuntil(b"\r\n\r\n")
    assert raw.status(head) == 101, head
    assert b"header-" not in head.lower(), "what carries the credential is never said back"
    try:
        yield Bytes(reader, writer)
    finally:
        writer.transport.abort()


def text(frame: Any) -> Packet:
    return Packet(frame if isinstance(frame, bytes) else json.dumps(frame).encode())


async def ask(served: Served, request: bytes) -> bytes:
    """What comes until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.transport.abort()


async def post(served: Served, body: bytes | Any, *headers: tuple[str, str]) -> tuple[int, dict[str, str], Any]:
    """Status, headers and what was said."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ["POST /event HTTP/1.1", f"host: 127.0.0.1:{served.port}", "connection: close"]
    lines += [f"content-length: {len(data)}", *(f"{name}: {value}" for name, value in headers)]
    answer = await ask(served, "\r\n".join([*lines, "", ""]).encode("latin-1") + data)
    head, _, said = answer.partition(b"\r\n\r\n")
    pairs = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:]]
    return raw.status(answer), {name.lower(): value for name, value in pairs}, json.loads(said)


# --- frames ---

PUB = {"type": "publish", "id": "p", "channel": "default/a", "events": ["1"]}
SUB = {"type": "subscribe", "id": "s", "channel": "default/a"}
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


# --- credentials, at each of the points where one is shown ---


async def _nothing(served: Served, payload: Any) -> dict[str, str]:
    return {}


async def _unknown_key(served: Served, payload: Any) -> dict[str, str]:
    return {"x-api-key": "ph_000000000000_" + "x" * 43}


async def _revoked_key(served: Served, payload: Any) -> dict[str, str]:
    record, secret = await served.identity.keys.create("gone", SCOPES)
    await served.identity.keys.revoke(record.id)
    return {"x-api-key": secret}


async def _two(served: Served, payload: Any) -> dict[str, str]:
    key = await served.key()
    return {"x-api-key": key, "authorization": f"Bearer {key}"}


async def _other_issuer(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    return {"authorization": FakeIssuer("https://other.example").token(iat=now, exp=now + 600, groups=["boss"])}


async def _forged(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    return {"authorization": FakeIssuer().token(iat=now, exp=now + 600, groups=["boss"])}


async def _other_audience(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    return {"authorization": HOUSE.token(iat=now, exp=now + 600, aud="somebody-else", groups=["boss"])}


async def _expired_token(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    return {"authorization": "Bearer " + HOUSE.token(iat=now - 900, exp=now - 600, groups=["boss"])}


async def _alg_none(served: Served, payload: Any) -> dict[str, str]:
    now = int(time.time())
    claims = HOUSE.claims(iat=now, exp=now + 600, groups=["boss"])
    return {"authorization": HOUSE.signed({"alg": "none", "kid": "one", "typ": "JWT"}, claims)}


async def _basic(served: Served, payload: Any) -> dict[str, str]:
    return {"authorization": "Basic eDp5"}


def _sigv4(**how: Any) -> Callable[[Served, Any], Any]:
    async def made(served: Served, payload: Any) -> dict[str, str]:
        record, secret = await served.platform.pairs.create("x", SCOPES, account="local")
        body = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()
        usual: dict[str, Any] = {"now": time.time(), "service": "appsync", "key": (record.id, secret.secret_access_key)}
        asked = signed("POST", f"{served.url}/event", body=body, **(usual | how))
        return {name.lower(): value for name, value in asked.headers}

    return made


CREDENTIALS: dict[str, Callable[[Served, Any], Any]] = {
    "none": _nothing, "an unknown key": _unknown_key, "a revoked key": _revoked_key, "two": _two,
    "a token of another issuer": _other_issuer, "a token by another's key": _forged, "basic": _basic,
    "a token for somebody else": _other_audience, "a token that is too old": _expired_token, "alg none": _alg_none,
    "a signature of six minutes ago": lambda s, p: _sigv4(now=time.time() - 360)(s, p),
    "a signature of the future": lambda s, p: _sigv4(now=time.time() + 360)(s, p),
    "a signature for another service": _sigv4(service="execute-api"),
    "a signature by another secret": lambda s, p: _sigv4(key=("PHKAAAAAAAAAAAAAAAAA", "x" * 40))(s, p),
    "a signature for something else": lambda s, p: _sigv4()(s, {"channel": "default/else"}),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CREDENTIALS))
async def test_c14_a_wrong_credential_is_refused_at_each_point(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.engine.gate.WRONG", Rates(1000, 1000, 0))  # there are many, and one address
    make = CREDENTIALS[name]
    async with opened(served, await make(served, {})) as stranger:
        stranger.say(text({"type": "connection_init"}))
        said = await stranger.hear()
        assert isinstance(said, dict)
        assert (said["type"], said["errors"][0]["errorCode"]) == ("connection_error", 401)
        assert await stranger.hear() == 1000
    async with opened(served) as one:
        one.say(text(SUB | {"authorization": await make(served, {"channel": "default/a"})}))
        assert await one.brief() == ("subscribe_error", "s", NO)
        one.say(text(PUB | {"authorization": await make(served, {"channel": "default/a", "events": ["1"]})}))
        assert await one.brief() == ("publish_error", "p", NO)
    body = json.dumps({"channel": "default/a", "events": ["1"]}).encode()
    given = await make(served, body)
    status, headers, said = await post(served, body, *[(n, v) for n, v in given.items() if n != "host"])
    assert (status, headers["x-amzn-errortype"], said["errors"][0]["errorType"]) == (401, NO, NO)


async def test_what_is_right_is_taken_at_each_point(served: Served) -> None:
    """Or the tests above would prove nothing."""
    now, good = int(time.time()), _sigv4()
    token = {"authorization": HOUSE.token(iat=now, exp=now + 600, groups=["boss"])}
    for given in (await good(served, {}), token):
        async with opened(served, given) as one:
            one.say(text({"type": "connection_init"}))
            assert await one.brief() == ("connection_ack", None, "")
            assert await one.brief() == ("ka", None, "")
            signature = given is not token
            given = await good(served, {"channel": "signed/a"}) if signature else token
            one.say(text(SUB | {"channel": "signed/a" if signature else "default/a", "authorization": given}))
            assert await one.brief() == ("subscribe_success", "s", "")


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
        ("POST", "/event/history", 405), ("POST", "/event/other", 404),
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


async def test_c12_a_token_that_ends_ends_what_it_opened_and_nothing_else() -> None:
    clock = HandClock(NOW)
    async with serving(clock=clock, houses=[HOUSE]) as served:
        token = {"authorization": HOUSE.token(groups=["boss"])}
        async with opened(served) as one, opened(served, token) as other:
            one.say(text(SUB | {"authorization": {"x-api-key": await served.key()}}))
            assert await one.brief() == ("subscribe_success", "s", "")
            one.say(text(SUB | {"id": "t", "authorization": token}))
            assert await one.brief() == ("subscribe_success", "t", "")
            other.say(text({"type": "unsubscribe", "id": "x"}))
            assert await other.brief() == ("unsubscribe_error", "x", "UnknownOperationError")
            await clock.wind(700)
            assert await other.hear() == 1001
            assert await one.brief() == ("error", "t", NO)
            one.say(text(SUB | {"id": "u", "authorization": token}))
            assert await one.brief() == ("subscribe_error", "u", NO)
            one.say(text({"type": "unsubscribe", "id": "s"}))
            assert await one.brief() == ("unsubscribe_success", "s", "")
