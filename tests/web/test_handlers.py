"""Handlers between publishers and subscribers: Powertools' resolver, unmodified, and all they can do wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.core.channels import channel
from pilothouse.core.namespaces import Namespace
from pilothouse.core.publish import EVENT_MAX, Event
from pilothouse.engine import handlers
from pilothouse.engine.handlers import Handlers
from pilothouse.engine.hooks import Bounded
from tests.web.serving import Served, serving
from tests.web.test_dialogs import Job
from tests.web.test_realtime import DENIED, client

pytest.importorskip("aws_lambda_powertools", reason="needs package aws-lambda-powertools")
from aws_lambda_powertools.event_handler import AppSyncEventsResolver
from aws_lambda_powertools.event_handler.events_appsync.exceptions import UnauthorizedException

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:No resolvers were found"),
]

app = AppSyncEventsResolver()  # type: ignore[no-untyped-call]


@app.on_publish("/tools/each")
def each(payload: Any) -> Any:
    if payload == "bad":
        raise ValueError("nope")
    return {"seen": payload}


@app.on_publish("/tools/all", aggregate=True)
def all_of_them(payload: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": item["id"], "payload": item["payload"] * 2} for item in payload if item["payload"] != 0][::-1]


@app.on_publish("/tools/raises", aggregate=True)
def raises(payload: Any) -> Any:
    raise RuntimeError("whole batch")


@app.on_publish("/tools/denied", aggregate=True)
def denied(payload: Any) -> Any:
    raise UnauthorizedException("not you")


@app.on_subscribe("/tools/closed")
def closed() -> None:
    raise ValueError("bad room")


@app.on_subscribe("/tools/forbidden")
def forbidden() -> None:
    raise UnauthorizedException("not you")


WAITING: list[asyncio.Event] = []
ANSWERS: list[bool] = []


async def odd(event: Any, context: Any) -> Any:
    """Answers by channel, not as it should."""
    events = event["events"] or []
    match event["info"]["channel"]["segments"][-1]:
        case "waits":
            WAITING.append(asyncio.Event())
            await WAITING[-1].wait()
            return {"events": events} if ANSWERS else None
        case "hangs":
            await asyncio.sleep(20)
        case "rubbish":
            return "x"
        case "grows":
            return {"events": [{"id": e["id"], "payload": "x" * EVENT_MAX} for e in events]}
        case "drops":
            return {"events": []}
        case "invents":
            return {"events": [{"id": "other", "payload": 1}]}
        case "whole":
            return {"error": "a secret reason"}
        case "echo":
            return {"events": [{"id": e["id"], "payload": event["identity"]} for e in events]}
    return None


HEARD: list[Any] = []


async def told(event: Any, context: Any) -> Any:
    HEARD.append(event)
    if len(HEARD) == 1:
        raise RuntimeError("the first one fails")
    return {"events": []}


CUSTOM: list[Any] = []


async def custom(event: Any, context: Any) -> Any:
    """Of sessions: hears of what others publish there. It hangs, fails, and would drop everything."""
    if event["events"] is None:
        return {"error": "nobody"} if event["info"]["channel"]["path"] == "/session/*" else None
    if event["events"][0]["payload"]["type"] == "custom":
        CUSTOM.append(event)
        if len(CUSTOM) == 1:
            await asyncio.sleep(20)
        raise RuntimeError("no")
    return {"events": []}


def namespaces() -> list[Namespace]:
    return [
        Namespace("tools", on_publish="tools", on_subscribe="tools"),
        Namespace("odd", on_publish="odd", on_subscribe="odd", history=10),
        Namespace("told", on_publish="told", invoke="EVENT"),
        Namespace("dialog", on_publish="told"),
        Namespace("session", on_publish="custom", on_subscribe="custom"),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    hooks = {
        "tools": Bounded(PythonHook("tools", app.resolve)),
        "odd": Bounded(PythonHook("odd", odd), 1.0),
        "told": Bounded(PythonHook("told", told)),
        "custom": Bounded(PythonHook("custom", custom), 1.0),
    }
    made = Handlers(hooks)
    async with serving(namespaces=namespaces(), handlers=made) as running:
        yield running
        await made.close()


async def post(served: Served, channel: str, *values: Any) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as http:
        answer = await http.post("/event", json={"channel": channel, "events": [json.dumps(v) for v in values]})
        return answer.status_code, answer.json()


# --- Powertools ---


async def test_powertools_changes_and_refuses_events_one_by_one(served: Served) -> None:
    async with client(served) as one:
        assert (await one.subscribe("s", "tools/each"))["type"] == "subscribe_success"
        status, answer = await post(served, "/tools/each", 1, "bad", None)
        assert status == 200
        assert [t["index"] for t in answer["successful"]] == [0, 2]
        [failed] = answer["failed"]
        assert (failed["index"], failed["code"]) == (1, "HandlerError")
        assert "nope" in failed["message"]
        assert [json.loads((await one.hear())["event"]) for _ in range(2)] == [{"seen": 1}, {"seen": None}]


async def test_powertools_takes_them_together_in_its_own_order(served: Served) -> None:
    async with client(served) as one:
        await one.subscribe("s", "tools/all")
        status, answer = await post(served, "/tools/all", 1, 0, 3)
        assert (status, len(answer["successful"]), answer["failed"]) == (200, 3, [])
        assert [json.loads((await one.hear())["event"]) for _ in range(2)] == [6, 2]
        done = await one.publish("p", "tools/none-of-its-routes", "1")
        assert done["type"] == "publish_success"


@pytest.mark.parametrize(("name", "status", "error"), [
    ("raises", 403, "HandlerError"), ("denied", 401, "UnauthorizedException"),
])  # fmt: skip
async def test_powertools_refuses_a_whole_request(served: Served, name: str, status: int, error: str) -> None:
    async with client(served) as one:
        await one.subscribe("s", f"tools/{name}")
        found, answer = await post(served, f"/tools/{name}", 1)
        assert (found, answer["errors"][0]["errorType"]) == (status, error)
        assert "batch" not in json.dumps(answer)
        refused = await one.publish("p", f"tools/{name}", "1")
        assert (refused["type"], refused["errors"][0]["errorType"]) == ("publish_error", error)


async def test_powertools_refuses_a_subscriber(served: Served) -> None:
    async with client(served) as one:
        closed_ = await one.subscribe("s", "tools/closed")
        assert (closed_["type"], closed_["errors"][0]["errorType"]) == ("subscribe_error", "Unauthorized")
        assert "bad room" not in json.dumps(closed_)
        assert (await one.subscribe("s", "tools/forbidden"))["errors"] == [DENIED]
        assert (await one.subscribe("s", "tools/open"))["type"] == "subscribe_success"


# --- others ---


@pytest.mark.parametrize("name", ["hangs", "rubbish", "invents", "whole"])
async def test_a_handler_that_goes_wrong_publishes_nothing_and_says_nothing(served: Served, name: str) -> None:
    status, answer = await post(served, f"/odd/{name}", 1)
    assert (status, answer["errors"][0]["errorType"]) == (403, "HandlerError")
    assert "secret" not in json.dumps(answer)
    channels = served.platform.channels
    assert channels is not None
    page = await channels.history("default", channel(f"odd/{name}"), 0, 10)
    assert page is not None
    assert page.head == 0
    if name in {"hangs", "rubbish"}:
        async with client(served) as one:
            refused = await one.subscribe("s", f"odd/{name}")
            assert refused["errors"][0]["errorType"] == "Unauthorized"
            assert (await one.subscribe("s", "odd/fine"))["type"] == "subscribe_success"


async def test_what_it_drops_is_taken_and_what_it_blows_up_fails(served: Served) -> None:
    async with client(served) as one:
        await one.subscribe("s", "odd/*")
        status, answer = await post(served, "/odd/drops", 1, 2)
        assert (status, len(answer["successful"]), answer["failed"]) == (200, 2, [])
        status, answer = await post(served, "/odd/grows", 1)
        assert (status, answer["failed"][0]["code"]) == (200, "EventTooLargeException")
        await one.say(type="publish", id="p", channel="odd/echo", events=["1"], authorization=one.given)
        frames = [await one.hear() for _ in range(2)]
        assert [f["event"] for f in frames if f["type"] == "data"] == ["null"], "nothing else came"


async def test_c12_a_right_that_ends_while_a_handler_thinks_subscribes_nobody(served: Served) -> None:
    record, text = await served.identity.keys.create("short", ("read",))
    async with client(served) as one:
        WAITING.clear()
        await one.say(type="subscribe", id="s", channel="odd/waits", authorization={"x-api-key": text})
        while not WAITING:
            await asyncio.sleep(0.005)
        await served.identity.keys.revoke(record.id)
        WAITING[0].set()
        refused = await one.hear()
        assert (refused["type"], refused["errors"]) == ("subscribe_error", [DENIED])


async def test_c12_a_right_that_ends_while_a_handler_thinks_publishes_nothing(served: Served) -> None:
    record, text = await served.identity.keys.create("short", ("read", "run"))
    channels = served.platform.channels
    assert channels is not None
    async with client(served) as one, httpx.AsyncClient(base_url=served.url, headers={"x-api-key": text}) as http:
        WAITING.clear()
        ANSWERS.append(True)
        body = {"channel": "odd/waits", "events": ["1"]}
        asked = asyncio.create_task(http.post("/event", json=body))
        await one.say(type="publish", id="p", **body, key="k", authorization={"x-api-key": text})
        while len(WAITING) < 2:
            await asyncio.sleep(0.005)
        await served.identity.keys.revoke(record.id)
        for waiting in WAITING:
            waiting.set()
        assert (await one.hear())["errors"] == [DENIED]
        assert (await asked).status_code == 401
        ANSWERS.clear()
    page = await channels.history("default", channel("odd/waits"), 0, 10)
    assert page is not None
    assert page.head == 0


async def test_who_may_not_subscribe_reads_no_history_and_nobody_s_names(served: Served) -> None:
    key = await served.key()
    async with client(served) as one, httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as http:
        assert (await one.publish("p", "odd/rubbish-not", "1"))["type"] == "publish_error"
        for where in ("history", "presence"):
            refused = await http.get(f"/event/{where}?channel=odd/rubbish")
            assert (refused.status_code, refused.headers["x-amzn-errortype"]) == (403, "HandlerError")
            denied_ = await http.get(f"/event/{where}?channel=tools/forbidden")
            assert (denied_.status_code, denied_.headers["x-amzn-errortype"]) == (401, "UnauthorizedException")
        assert (await http.get("/event/history?channel=odd/fine")).status_code == 200


async def test_one_that_is_only_told_changes_nothing_and_hears_all_in_order(served: Served) -> None:
    HEARD.clear()
    async with client(served) as one:
        await one.subscribe("s", "told/x")
        for number in range(5):
            assert (await post(served, "/told/x", number))[0] == 200
            assert (await one.hear())["event"] == str(number)
    while len(HEARD) < 5:
        await asyncio.sleep(0.005)
    assert [e["events"][0]["payload"] for e in HEARD] == list(range(5))
    assert HEARD[0]["request"]["headers"]["user-agent"].startswith("python-httpx")
    assert "x-api-key" not in HEARD[0]["request"]["headers"]


async def test_a_handler_of_dialogs_is_told_what_the_server_publishes_and_delays_nothing(served: Served) -> None:
    HEARD.clear()
    job = await Job.begin(served)
    job.say("x")
    await job.end()
    while not HEARD or HEARD[-1]["events"][0]["payload"]["type"] != "complete":
        await asyncio.sleep(0.005)
    assert {e["info"]["channel"]["path"] for e in HEARD} == {f"/dialog/{job.id}"}
    seqs = [e["events"][0]["payload"]["seq"] for e in HEARD]
    assert seqs == sorted(seqs)
    assert [e["events"][0]["payload"].get("text") for e in HEARD if e["events"][0]["payload"]["type"] == "stream"] == [
        "x"
    ]


async def test_what_a_slow_one_does_not_keep_up_with_is_dropped_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "BACKLOG", 3)
    noted: list[str] = []
    free = asyncio.Event()
    seen: list[Any] = []

    async def slow(event: Any, context: Any) -> None:
        await free.wait()
        seen.append(event)

    def note(what: str, /, **fields: object) -> None:
        noted.append(what)

    made = Handlers({"slow": Bounded(PythonHook("slow", slow), 5)}, note)
    namespace = Namespace("x", on_publish="slow")
    for _ in range(10):
        made.tell(namespace, channel("x/y"), [], handlers.NOBODY)
    free.set()
    while len(seen) < 3:
        await asyncio.sleep(0)
    assert noted == ["handler_behind"]
    await made.close()


async def test_what_it_is_behind_with_has_an_end_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "BACKLOG_BYTES", 1000)
    free, seen = asyncio.Event(), list[Any]()

    async def slow(event: Any, context: Any) -> None:
        await free.wait()
        seen.append(event)

    made, namespace = Handlers({"slow": Bounded(PythonHook("slow", slow), 5)}), Namespace("x", on_publish="slow")
    for size in (700, 700, 700, 100):  # under way, waits, dropped, waits
        made.tell(namespace, channel("x/y"), [("id", Event.of(b'"%b"' % (b"x" * size)))], handlers.NOBODY)
        await asyncio.sleep(0)
    free.set()
    while len(seen) < 3:
        await asyncio.sleep(0)
    made.tell(namespace, channel("x/y"), [("id", Event.of(b'"%b"' % (b"x" * 2000)))], handlers.NOBODY)
    while len(seen) < 4:  # one alone may be as large as events are
        await asyncio.sleep(0)
    assert [len(e["events"][0]["payload"]) for e in seen] == [700, 700, 100, 2000]
    await made.close()


async def test_custom_events_are_told_and_nothing_that_hears_them_changes_or_delays_the_log(served: Served) -> None:
    job = await Job.begin(served)
    text = json.dumps({"type": "custom", "name": "build", "data": [1]})
    CUSTOM.clear()
    async with client(served) as one:
        assert (await one.subscribe("s", f"session/{job.sid}"))["type"] == "subscribe_success"
        for where in (f"session/{job.sid}", f"dialog/{job.id}"):
            await one.say(type="publish", id="p", channel=where, events=[text], authorization=one.given)
            frames = [await one.hear() for _ in range(2)]  # while the first one hangs, and after the second failed
            [event] = [json.loads(f["event"]) for f in frames if f["type"] == "data"]
            assert (event["type"], event["by"], event["data"]) == ("custom", "key:test", [1])
        head = job.session.live.head
        while len(CUSTOM) < 2:
            await asyncio.sleep(0.005)
        told_of = [(e["info"]["channel"]["path"], e["identity"], e["events"][0]["payload"]["seq"]) for e in CUSTOM]
        assert told_of == [(f"/session/{job.sid}", None, head - 1), (f"/session/{job.sid}", None, head)]
        closed = await one.subscribe("t", "session/*")
        assert (closed["type"], closed["errors"][0]["errorType"]) == ("subscribe_error", "Unauthorized")
    await job.end()


async def test_an_event_that_no_handler_can_hold_is_refused_from_outside_and_passed_over_in_the_log(
    served: Served,
) -> None:
    noted: list[str] = []

    def note(what: str, /, **fields: object) -> None:
        noted.append(what)

    for text in ("1e999", "-" + "1" * 5000, "[" * 110 + "]" * 110):
        for where in ("odd/x", "told/x"):
            async with client(served) as one:
                refused = await one.publish("p", where, text)
                assert (refused["type"], refused["errors"][0]["errorType"]) == ("publish_error", "BadRequestException")
        made = Handlers({"told": Bounded(PythonHook("told", told))}, note)
        made.tell_own(Namespace("dialog", on_publish="told"), channel("dialog/x"), [("id", Event.of(text.encode()))])
        await made.close()
    assert noted == ["handler_not_told"] * 3
