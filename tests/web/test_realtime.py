"""The event API on real sockets, by clients made of bytes: what no library would send, and what none would forgive."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from pilothouse.core import bearer
from pilothouse.core.access import Scope
from pilothouse.core.namespaces import Namespace
from pilothouse.core.publish import EVENT_MAX
from pilothouse.engine import gate
from pilothouse.engine.authorizer import Ways
from pilothouse.web import conversation, hub
from pilothouse.web.guard import LOOPBACK, Trust
from pilothouse.web.pulse import LIFE_S, Pulse
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGE = "https://page.example"
DENIED = {"errorType": "UnauthorizedException", "message": "You are not authorized to make this call."}
NAMESPACES = (
    Namespace("default"),
    Namespace("open", publish="read"),
    Namespace("guarded", subscribe="approve", wildcards="admin"),
    Namespace("flat", wildcards="none"),
    Namespace("kept", history=5),
    Namespace("lobby", presence=True),
    Namespace("signed", publish_modes=frozenset({"AWS_IAM"}), subscribe_modes=frozenset({"AWS_IAM"})),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    trust = Trust(hosts=LOOPBACK, cors_origins=frozenset({PAGE}))
    async with serving(hot=request.param == "hot", namespaces=NAMESPACES, trust=trust) as running:
        yield running


class Client:
    """Says and hears frames. `given` is what its frames carry as `authorization`."""

    def __init__(self, socket: ClientConnection, given: dict[str, Any]) -> None:
        self.socket = socket
        self.given = given

    async def say(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), 10))
        return found

    async def ask(self, **frame: Any) -> dict[str, Any]:
        await self.say(**frame)
        return await self.hear()

    async def subscribe(self, id: str, channel: str, **more: Any) -> dict[str, Any]:
        return await self.ask(type="subscribe", id=id, channel=channel, authorization=self.given, **more)

    async def publish(self, id: str, channel: str, *events: str, **more: Any) -> dict[str, Any]:
        return await self.ask(type="publish", id=id, channel=channel, events=events, authorization=self.given, **more)

    async def close_code(self) -> int:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await asyncio.wait_for(self.socket.recv(), 10)
        assert self.socket.close_code is not None
        return self.socket.close_code


def offered(*protocols: str) -> list[Subprotocol]:
    return [Subprotocol(one) for one in protocols]


def url(served: Served, path: str = "/event/realtime") -> str:
    return f"ws://127.0.0.1:{served.port}{path}"


@contextlib.asynccontextmanager
async def client(served: Served, *scopes: Scope, **headers: str) -> AsyncIterator[Client]:
    key = await served.key(*scopes)
    given = {"x-api-key": key, "host": f"127.0.0.1:{served.port}"}
    offer = [f"header-{bearer.encoded(json.dumps(given))}", "aws-appsync-event-ws"]
    async with websockets.connect(
        url(served),
        subprotocols=offered(*offer),
        additional_headers=headers,
        max_size=None,
    ) as socket:
        assert socket.subprotocol == "aws-appsync-event-ws"
        yield Client(socket, given)


# --- the upgrade ---


@pytest.mark.parametrize("given", [
    {}, {"x-api-key": "wrong"}, {"Authorization": "Bearer x"}, {"Authorization": "anything"},
    {"x-api-key": "ph_000000000000_" + "x" * 43}, {"x-api-key": "a", "Authorization": "b"},
    {"authorization": "AWS4-HMAC-SHA256 Credential=x"}, {"Authorization": "a.b.c"},
])  # fmt: skip
@pytest.mark.parametrize("speaks", [True, False])
async def test_c01_a_stranger_is_refused_inside_the_protocol(
    served: Served, given: dict[str, str], speaks: bool
) -> None:
    """Spoken to or not; and nothing it says after that is done."""
    offer = ["aws-appsync-event-ws", *([f"header-{bearer.encoded(json.dumps(given))}"] if given else [])]
    async with websockets.connect(url(served), subprotocols=offered(*offer)) as socket:
        stranger = Client(socket, {"x-api-key": await served.key()})
        if speaks:
            await stranger.say(type="subscribe", id="s", channel="default/room", authorization=stranger.given)
        assert await stranger.hear() == {"type": "connection_error", "errors": [DENIED | {"errorCode": 401}]}
        assert await stranger.close_code() == 1000


async def test_a_subprotocol_that_is_broken_is_named(served: Served) -> None:
    for offer in (["aws-appsync-event-ws", "header-!!"], ["aws-appsync-event-ws", "header-e30", "header-e30"]):
        async with websockets.connect(url(served), subprotocols=offered(*offer)) as socket:
            stranger = Client(socket, {})
            [error] = (await stranger.ask(type="connection_init"))["errors"]
            assert (error["errorType"], error["errorCode"]) == ("SubProtocolNotSupportedError", 400)


async def test_phones_send_ordinary_headers_and_slashes_are_forgiven(served: Served) -> None:
    headers = {"x-api-key": await served.key()}
    for path in ("/event/realtime", "/event//realtime", "/event/realtime?x=1"):
        async with websockets.connect(
            url(served, path),
            subprotocols=offered("aws-appsync-event-ws"),
            additional_headers=headers,
        ) as socket:
            assert (await Client(socket, headers).ask(type="connection_init"))["type"] == "connection_ack"


async def test_a_page_of_nobody_is_refused_and_one_of_the_configuration_is_not(served: Served) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with client(served, origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    async with client(served, origin=PAGE) as page:
        assert (await page.ask(type="connection_init"))["type"] == "connection_ack"


async def test_a_long_header_passes(served: Served) -> None:
    given = {"x-api-key": await served.key(), "x-amz-security-token": "t" * 9000}
    offer = ["aws-appsync-event-ws", f"header-{bearer.encoded(json.dumps(given))}"]
    async with websockets.connect(url(served), subprotocols=offered(*offer)) as socket:
        assert (await Client(socket, given).ask(type="connection_init"))["type"] == "connection_ack"


# --- the conversation ---


async def test_a_sign_of_life_follows_the_ack(served: Served) -> None:
    async with client(served) as one:
        assert await one.ask(type="connection_init") == {"type": "connection_ack", "connectionTimeoutMs": 300_000}
        assert await one.hear() == {"type": "ka"}


async def test_one_who_subscribes_and_publishes_hears_itself_in_order(served: Served) -> None:
    async with client(served) as one:
        await one.say(type="subscribe", id="s", channel="default/room", authorization=one.given)
        texts = ['{"n": 1}', '"hé ✓ \\u2028 /"', "3", "null", "[1, 2]"]
        await one.say(type="publish", id="p", channel="/default/room", events=texts, authorization=one.given)
        assert await one.hear() == {"type": "subscribe_success", "id": "s"}
        frames = [await one.hear() for _ in range(6)]
        assert [f for f in frames if f["type"] == "data"] == [{"type": "data", "id": "s", "event": t} for t in texts]
        [done] = [f for f in frames if f["type"] == "publish_success"]
        assert [t["index"] for t in done["successful"]] == [0, 1, 2, 3, 4]
        assert done["failed"] == []
        assert await one.ask(type="unsubscribe", id="s") == {"type": "unsubscribe_success", "id": "s"}
        assert (await one.publish("q", "default/room", "1"))["type"] == "publish_success"
        assert (await one.ask(type="bogus"))["type"] == "error", "nothing came in between"


async def test_overlapping_subscriptions_each_get_their_own(served: Served) -> None:
    async with client(served) as one, client(served) as other:
        for id, channel in (("a", "default/x/y"), ("b", "default/x/y"), ("c", "default/x/*"), ("d", "default/*")):
            assert (await one.subscribe(id, channel))["type"] == "subscribe_success"
        assert (await other.publish("p", "default/x/y", "7"))["type"] == "publish_success"
        heard = [await one.hear() for _ in range(4)]
        assert sorted((f["id"], f["event"], f.get("channel")) for f in heard) == [
            ("a", "7", None), ("b", "7", None), ("c", "7", "/default/x/y"), ("d", "7", "/default/x/y"),
        ]  # fmt: skip


async def test_many_publishers_one_order_for_all(served: Served) -> None:
    """Whoever publishes by whichever door: all subscribers of a channel see one sequence, and each publisher's own
    events in its order."""
    key = await served.key()
    async with client(served) as one, client(served) as two, httpx.AsyncClient(base_url=served.url) as http:
        for each in (one, two):
            assert (await each.subscribe("s", "default/order"))["type"] == "subscribe_success"

        async def by_http(who: int) -> None:
            for number in range(0, 20, 2):
                events = [json.dumps([who, number]), json.dumps([who, number + 1])]
                body = {"channel": "/default/order", "events": events}
                assert (await http.post("/event", json=body, headers={"x-api-key": key})).status_code == 200

        async def by_socket(who: int) -> None:
            async with client(served) as mine:
                for number in range(20):
                    assert (await mine.publish("p", "default/order", json.dumps([who, number])))["failed"] == []

        await asyncio.gather(by_http(0), by_http(1), by_socket(2), by_socket(3))
        seen = [[json.loads((await each.hear())["event"]) for _ in range(80)] for each in (one, two)]
    assert seen[0] == seen[1]
    for who in range(4):
        assert [n for w, n in seen[0] if w == who] == list(range(20))


async def test_an_event_of_241_kilobytes_fails_and_the_others_go_on(served: Served) -> None:
    async with client(served) as one:
        await one.subscribe("s", "default/big")
        large, fits = json.dumps("x" * EVENT_MAX), json.dumps("y" * (EVENT_MAX - 2))
        await one.say(
            type="publish", id="p", channel="default/big", events=[large, fits, "1"], authorization=one.given,
            payload={"events": [large, fits, "1"]},
        )  # fmt: skip
        frames = [await one.hear() for _ in range(3)]
        done = next(f for f in frames if f["type"] == "publish_success")
        assert [t["index"] for t in done["successful"]] == [1, 2]
        assert [(f["index"], f["code"]) for f in done["failed"]] == [(0, "EventTooLargeException")]
        assert [f["event"] for f in frames if f["type"] == "data"] == [fits, "1"]


async def test_a_frame_of_ten_megabytes_ends_the_connection_and_no_other(served: Served) -> None:
    async with client(served) as one, client(served) as other:
        await other.subscribe("s", "default/calm")
        with contextlib.suppress(websockets.ConnectionClosed):
            await one.socket.send("x" * 10 * 1024 * 1024)
        assert await one.close_code() == 1009
        await other.publish("p", "default/calm", "1")


async def test_refusals_in_frames_are_for_that_frame_alone(served: Served) -> None:
    async with client(served) as one:
        assert (await one.subscribe("s", "default/room"))["type"] == "subscribe_success"
        for given in ({}, None, "x", {"x-api-key": "wrong"}, {"Authorization": "x"}, {"x-api-key": 7}):
            said = {"channel": "default/room", "authorization": given}
            assert await one.ask(type="subscribe", id="t", **said) == {
                "type": "subscribe_error", "id": "t", "errors": [DENIED],
            }  # fmt: skip
            assert await one.ask(type="publish", id="t", events=["1"], **said) == {
                "type": "publish_error", "id": "t", "errors": [DENIED],
            }  # fmt: skip
        for channel in ("nowhere/room", "dialog-x/y"):
            assert (await one.subscribe("t", channel))["errors"] == [DENIED]
            assert (await one.publish("t", channel, "1"))["errors"] == [DENIED]
        assert (await one.subscribe("t", "default/other"))["type"] == "subscribe_success"


async def test_who_may_what_is_the_namespace_s(served: Served) -> None:
    async with client(served, "read") as reader, client(served, "read", "run", "approve") as person:
        assert (await reader.subscribe("1", "default/x"))["type"] == "subscribe_success"
        assert (await reader.publish("p", "default/x", "1"))["errors"] == [DENIED]
        assert (await reader.publish("p", "open/x", "1"))["type"] == "publish_success"
        assert (await reader.subscribe("2", "guarded/x"))["errors"] == [DENIED]
        assert (await person.subscribe("2", "guarded/x"))["type"] == "subscribe_success"
        assert (await person.subscribe("3", "guarded/*"))["errors"] == [DENIED]
        assert (await person.subscribe("4", "flat/x"))["type"] == "subscribe_success"
        assert (await person.subscribe("5", "signed/x"))["errors"] == [DENIED]
        assert (await person.publish("p", "signed/x", "1"))["errors"] == [DENIED]
    async with client(served) as admin:
        assert (await admin.subscribe("1", "guarded/*"))["type"] == "subscribe_success"
        assert (await admin.subscribe("2", "flat/*"))["errors"] == [DENIED]


async def test_c13_channels_of_two_organisations_never_meet(served: Served) -> None:
    members = served.identity.members
    for name in ("red", "blue"):
        await members.make(name, None)
        await members.put(name, "owner", role="admin")
    keys = {
        name: (await served.identity.keys.create("x", ("read", "run", "admin"), account="owner", organisation=name))[1]
        for name in ("red", "blue")
    }
    async with client(served) as one, client(served) as two:
        one.given, two.given = {"x-api-key": keys["red"]}, {"x-api-key": keys["blue"]}
        for each in (one, two):
            await each.subscribe("exact", "default/same")
            await each.subscribe("wild", "default/*")
        await one.publish("p", "default/same", '"red"')
        await two.publish("p", "default/same", '"blue"')
        heard = {name: [(await each.hear()).get("event") for _ in range(2)] for name, each in (("r", one), ("b", two))}
    assert heard == {"r": ['"red"', '"red"'], "b": ['"blue"', '"blue"']}


async def test_c12_a_revoked_key_ends_its_connection(served: Served) -> None:
    record, text = await served.identity.keys.create("short", ("read",))
    async with websockets.connect(url(served), additional_headers={"x-api-key": text}) as socket:
        one = Client(socket, {"x-api-key": text})
        assert (await one.subscribe("s", "default/room"))["type"] == "subscribe_success"
        await served.identity.keys.revoke(record.id)
        assert await one.close_code() == 1001


async def test_c30_a_client_that_never_reads_costs_little_and_harms_nobody(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    key = await served.key()
    from tests.security import raw

    writer.write(raw.upgrade("/event/realtime", {"host": "127.0.0.1", "x-api-key": key}))
    await reader.readuntil(b"\r\n\r\n")
    frame = json.dumps(
        {"type": "subscribe", "id": "s", "channel": "default/flood", "authorization": {"x-api-key": key}}
    )
    mask = b"\0\0\0\0"
    writer.write(b"\x81\xfe" + len(frame).to_bytes(2) + mask + frame.encode())
    await asyncio.sleep(0.2)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with client(served) as one, httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
        await one.subscribe("s", "default/flood")
        body = {"channel": "default/flood", "events": [json.dumps("x" * 200_000)] * 5}
        for _ in range(40):
            assert (await http.post("/event", json=body)).status_code == 200
            for _ in range(5):
                assert (await one.hear())["type"] == "data"
    channels = served.platform.channels
    assert channels is not None
    assert all(feed._size <= 4 * 1024 * 1024 for feed in channels._feeds.values())
    writer.transport.abort()


# --- publishing by HTTP ---

GOOD = {"channel": "/default/room", "events": ["1"]}


@pytest.mark.parametrize(("body", "status", "name"), [
    (GOOD | {"events": ["1"] * 6}, 400, "BadRequestException"),
    (GOOD | {"events": []}, 400, "BadRequestException"),
    (GOOD | {"events": ["x"]}, 400, "BadRequestException"),
    (GOOD | {"events": [1]}, 400, "BadRequestException"),
    (GOOD | {"channel": "/default/*"}, 400, "BadRequestException"),
    (GOOD | {"channel": "/a/b/c/d/e/f"}, 400, "BadRequestException"),
    (GOOD | {"channel": ""}, 400, "BadRequestException"),
    (GOOD | {"channel": "/nowhere/room"}, 403, "UnauthorizedException"),
    ([], 400, "BadRequestException"),
    (None, 400, "BadRequestException"),
    (GOOD | {"events": ['"' + "x" * 1_000_000 + '"'] * 5}, 413, "BadRequestException"),
])  # fmt: skip
async def test_bad_bodies(served: Served, body: Any, status: int, name: str) -> None:
    async with client(served) as one, httpx.AsyncClient(base_url=served.url) as http:
        await one.subscribe("s", "default/*")
        answer = await http.post("/event", json=body, headers={"x-api-key": await served.key()})
        assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (status, name)
        [error] = answer.json()["errors"]
        assert (error["errorType"], error["message"]) == (name, answer.json()["message"])
        assert answer.headers["x-amzn-requestid"]
        await one.publish("p", "default/last", "1")
        assert (await one.hear())["channel"] == "/default/last", "nothing was published"


async def test_a_page_may_publish_where_it_is_configured(served: Served) -> None:
    key = await served.key()
    async with httpx.AsyncClient(base_url=served.url) as http:
        asked = await http.options("/event", headers={"origin": PAGE, "access-control-request-method": "POST"})
        assert asked.status_code == 204
        assert "authorization" in asked.headers["access-control-allow-headers"]
        for headers, status in (({"x-api-key": key}, 200), ({}, 401), ({"x-api-key": "wrong"}, 401)):
            answer = await http.post("/event", json=GOOD, headers={"origin": PAGE} | headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
            assert "x-amzn-errortype" in answer.headers["access-control-expose-headers"]
        for method in ("OPTIONS", "POST"):
            foreign = await http.request(method, "/event", headers={"origin": "https://evil.example", "x-api-key": key})
            assert foreign.status_code == 403
            assert "access-control-allow-origin" not in foreign.headers


async def test_any_content_type_and_two_credentials(served: Served) -> None:
    key = await served.key()
    async with httpx.AsyncClient(base_url=served.url) as http:
        for kind in ("text/plain", "application/json; charset=UTF-8", ""):
            answer = await http.post(
                "/event", content=json.dumps(GOOD | {"id": "x"}), headers={"x-api-key": key, "content-type": kind}
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-amzn-appsync-tokensconsumed"] == "1"
        both = await http.post("/event", json=GOOD, headers={"x-api-key": key, "authorization": f"Bearer {key}"})
        assert both.status_code == 401


# --- time ---


class Told:
    def __init__(self) -> None:
        self.said: list[Any] = []

    def send_text(self, data: bytes) -> None:
        self.said.append(data)

    def close(self, code: int, reason: str) -> None:
        self.said.append(code)


async def test_every_minute_a_sign_of_life_and_after_a_day_the_end() -> None:
    pulse, socket = Pulse(), Told()
    pulse.add(socket)  # type: ignore[arg-type]
    now = asyncio.get_running_loop().time()
    for second in range(0, 600, 5):
        pulse.look(now + second)
    assert socket.said in ([b'{"type":"ka"}'] * 9, [b'{"type":"ka"}'] * 10)
    pulse.look(now + LIFE_S + 1)
    assert socket.said[-1] == 1001
    pulse.remove(socket)  # type: ignore[arg-type]


async def test_who_comes_later_is_given_a_sign_later() -> None:
    pulse, early, late = Pulse(), Told(), Told()
    now = asyncio.get_running_loop().time()
    pulse.add(early)  # type: ignore[arg-type]
    pulse.look(now + 56)
    pulse.add(late)  # type: ignore[arg-type]
    pulse.look(now + 54)
    assert (len(early.said), len(late.said)) == (1, 0)
    pulse.look(now + 57)
    assert (len(early.said), len(late.said)) == (1, 1)
    pulse.remove(early)  # type: ignore[arg-type]
    pulse.remove(late)  # type: ignore[arg-type]


async def test_of_a_connection_that_has_ended_nothing_is_left_for_a_collection(
    served: Served, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "plain" in request.node.name:
        pytest.skip("uvicorn's own protocol and its tasks know each other")

    def there() -> list[conversation.Conversation]:
        return [one for one in gc.get_objects() if isinstance(one, conversation.Conversation)]

    monkeypatch.setattr(hub, "LINGER_S", 0.01)
    await asyncio.sleep(0.1)
    gc.collect()
    gc.disable()
    try:
        known = {id(one) for one in there()}
        async with client(served) as one:
            assert (await one.subscribe("a", "/default/left"))["type"] == "subscribe_success"
            (mine,) = [id(found) for found in there() if id(found) not in known]
        async with asyncio.timeout(20):
            while mine in {id(found) for found in there()}:
                await asyncio.sleep(0.05)
    finally:
        gc.enable()


# --- history and presence ---


async def test_a_history_is_replayed_from_a_cursor_and_read_by_http(served: Served) -> None:
    key = await served.key()
    async with client(served) as one, httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
        said = await one.subscribe("live", "kept/room")
        assert (said["seq"], said["oldest"], said["gap"]) == (0, 1, False)
        for number in range(12):
            await http.post("/event", json={"channel": "kept/room", "events": [str(number)]})
        frames = [await one.hear() for _ in range(12)]
        assert [(f["seq"], f["event"]) for f in frames] == [(n + 1, str(n)) for n in range(12)]
        assert all(f["at"].endswith("Z") for f in frames)
        back = await one.subscribe("back", "kept/room", after=10, epoch=said["epoch"])
        assert (back["type"], back["seq"], back["gap"]) == ("subscribe_success", 12, False)
        assert [(await one.hear())["seq"] for _ in range(2)] == [11, 12]
        late = await one.subscribe("late", "kept/room", after=1)
        assert (late["gap"], late["oldest"]) == (True, 8)
        assert await one.hear() == {"type": "gap", "id": "late", "from": 2, "to": 7}
        assert [(await one.hear())["seq"] for _ in range(5)] == [8, 9, 10, 11, 12]
        for channel in ("kept/*", "default/room"):
            refused = await one.subscribe("no", channel, after=1)
            assert refused["errors"][0]["errorType"] == "BadRequestException"
        page = (await http.get("/event/history?channel=/kept/room&after=8&limit=2")).json()
        assert (page["oldest"], page["head"], page["gap"], page["epoch"]) == (8, 12, False, said["epoch"])
        assert [(e["seq"], e["event"]) for e in page["events"]] == [(9, "8"), (10, "9")]
        assert (await http.get("/event/history?channel=kept/room&after=1")).json()["gap"] is True
        for query in (
            "channel=default/room",
            "channel=kept/*",
            "",
            "channel=kept/room&after=x",
            "channel=kept/room&limit=0",
        ):
            assert (await http.get(f"/event/history?{query}")).status_code == 400, query
        unkept = (await http.get("/event/history?channel=default/room")).json()["message"]
        assert unkept == "channel: it keeps no history; `history = N` in the namespace default gives it one"
        assert (await http.get("/event/history?channel=nowhere/x")).status_code == 403


async def test_a_publish_with_a_key_is_done_once_by_either_door(served: Served) -> None:
    key = await served.key()
    async with client(served) as one, httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
        one.given = {"x-api-key": key}
        await one.subscribe("s", "kept/once")
        body = {"channel": "kept/once", "events": ["1"]}
        first = (await http.post("/event", json=body, headers={"idempotency-key": "k"})).json()
        assert (await http.post("/event", json=body | {"key": "k"})).json() == first
        await one.hear()
        again = await one.publish("p", "kept/once", "1", key="k")
        assert again["successful"] == first["successful"]
        assert (await one.publish("p", "kept/once", "2", key="k"))["errors"][0]["errorType"] == "ConflictException"
        assert (await http.post("/event", json=body | {"key": "k", "events": ["2"]})).status_code == 409
        await one.say(type="publish", id="p", channel="kept/once", events=['"last"'], authorization=one.given)
        frames = [await one.hear() for _ in range(2)]
        assert [f["event"] for f in frames if f["type"] == "data"] == ['"last"'], "nothing came twice"


async def test_who_is_there(served: Served) -> None:
    key = await served.key()
    async with client(served) as one, httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
        assert (await one.subscribe("s", "lobby/a", presence=True))["type"] == "subscribe_success"
        assert await one.hear() == {"type": "presence", "id": "s", "present": ["key:test"], "count": 1}
        record, text = await served.identity.keys.create("ann", ("read",))
        async with websockets.connect(url(served), additional_headers={"x-api-key": text}) as socket:
            assert (await Client(socket, {"x-api-key": text}).subscribe("x", "lobby/a"))["type"] == "subscribe_success"
            assert (await one.hear())["joined"] == ["key:ann"]
            there = (await http.get("/event/presence?channel=lobby/a")).json()
            assert there == {"present": ["key:ann", "key:test"], "count": 2}
        assert await one.hear() == {"type": "presence", "id": "s", "joined": [], "left": ["key:ann"], "count": 1}
        why = "it has no presence; `presence = true` in the namespace default gives it one"
        for pattern, said in (("lobby/*", "a wildcard has no presence"), ("default/x", why)):
            refused = await one.subscribe("t", pattern, presence=True)
            assert refused["errors"] == [{"errorType": "BadRequestException", "message": f"presence: {said}"}]
        uncounted = await http.get("/event/presence?channel=default/x")
        assert (uncounted.status_code, uncounted.json()["message"]) == (400, f"channel: {why}")
        assert record.id


async def test_c30_connections_have_an_end_and_strangers_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "KNOCKING_MAX", 2)
    monkeypatch.setattr(conversation, "PATIENCE_S", 5.0)
    async with serving(ways=Ways(connections=2)) as served:
        async with client(served) as one, client(served, "read") as other:
            assert (await one.subscribe("s", "default/room"))["type"] == "subscribe_success"
            key = one.given["x-api-key"]
            by_key = {"x-api-key": key}
            async with websockets.connect(url(served), additional_headers=by_key) as second:
                assert (await Client(second, by_key).ask(type="connection_init"))["type"] == "connection_ack"
                async with websockets.connect(url(served), additional_headers=by_key) as third:
                    refused = await Client(third, by_key).ask(type="connection_init")
                    assert refused["errors"][0]["errorType"] == "LimitExceededError"
            assert (await other.ask(type="connection_init"))["type"] == "connection_ack"
        async with contextlib.AsyncExitStack() as strangers:
            for _ in range(2):
                await strangers.enter_async_context(websockets.connect(url(served)))
            async with websockets.connect(url(served)) as third:
                assert await Client(third, {}).close_code() == 1000, "at once, and not when its patience ends"
