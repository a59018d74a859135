"""What is wrong with a call, how often one may call, and pages from elsewhere: in each case nothing is begun."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.access import Scope
from pilothouse.core.bucket import DAY_S, Rates
from pilothouse.engine.gate import Gate
from pilothouse.engine.kit import Limits
from pilothouse.web.guard import COOKIE, LOOPBACK, Trust
from pilothouse.web.socket import Limits as SocketLimits
from tests.core.signing import signed
from tests.issuer import FakeIssuer
from tests.security import raw
from tests.web.answering import answering
from tests.web.serving import Served, serving
from tests.web.test_rates import START, Clock, told

DOORS = ("/invoke", "/trigger")
HOUSE = FakeIssuer()
PAGE = "https://app.example"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    trust = Trust(hosts=LOOPBACK, cors_origins=frozenset({PAGE}))
    async with serving(trust=trust, houses=[HOUSE], bounds=SocketLimits(body_s=1.5)) as running:
        async with answering(running.sandboxes):
            yield running
        assert not running.platform.streams._open


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as client:
        yield client


async def nothing(served: Served) -> bool:
    """Was begun."""
    store = served.platform.kit.store
    return not [doc for kind in ("session", "job", "call", "resend") for doc in await store.scan(kind)]


# --- bodies ---


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("body", "media", "status", "word"),
    [
        (b'{"prompt":"x"}', "text/plain", 400, "content-type: 'text/plain'"),
        (b"prompt=x", "application/x-www-form-urlencoded", 400, "content-type: "),
        (b'{"prompt":"x"}', "", 400, "content-type: it is missing"),
        (b"", "application/json", 400, "body: "),
        (b"{", "application/json", 400, "body: "),
        (b'{"prompt":"x\xff"}', "application/json", 400, "body: "),
        (b'{"prompt":"x","shell":true}', "application/json", 400, "shell: there is no such field"),
        (b'{"prompt":"a\\u0000b"}', "application/json", 400, "prompt: it has a NUL character"),
        (b'{"prompt":"a\x00b"}', "application/json", 400, "body: "),
        (b'{"prompt":"x","agent":"gpt"}', "application/json", 400, "agent: 'gpt' is none of claude, echo"),
        (b'{"prompt":"x","model":"a b"}', "application/json", 400, "model: "),
        (b'{"prompt":"x","allowed_tools":"Reed"}', "application/json", 400, "allowed_tools: unknown tool 'Reed'"),
        (b'{"prompt":"%b"}' % (b"p" * (2 * 1024 * 1024)), "application/json", 413, "prompt: 2097152 bytes"),
        (b'{"prompt":"%b"}' % (b"p" * (5 * 1024 * 1024)), "application/json", 413, "body: "),
    ],
)
async def test_a_body_that_is_wrong_is_told_so(
    served: Served, http: httpx.AsyncClient, door: str, body: bytes, media: str, status: int, word: str
) -> None:
    headers = {"x-api-key": await served.key("run"), **({"content-type": media} if media else {})}
    answer = await http.post(door, content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert problem["detail"].startswith(word)
    assert {"type", "title", "status", "code", "detail"} <= set(problem)
    assert await nothing(served)


@pytest.mark.parametrize("door", DOORS)
async def test_a_chunked_body_that_never_ends_is_let_go_and_one_without_end_in_size_refused(
    served: Served, door: str
) -> None:
    head = raw.plain(
        "POST", door,
        {"host": "127.0.0.1", "x-api-key": await served.key(), "content-type": "application/json",
         "transfer-encoding": "chunked"},
    )  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head + b"1\r\n{\r\n")
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(head)
    with contextlib.suppress(*raw.CLOSED):
        for _ in range(6):
            writer.write(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
            await writer.drain()
    assert raw.status(await asyncio.wait_for(reader.read(65536), 20)) == 413
    writer.close()
    assert await nothing(served)


# --- who ---


@pytest.mark.parametrize("door", DOORS)
async def test_who_may_call(served: Served, http: httpx.AsyncClient, door: str) -> None:
    key, now = await served.key("run"), int(time.time())

    async def status(**headers: str) -> int:
        return (await http.post(door, json={"prompt": "x"}, headers=headers)).status_code

    def bearer(**claims: Any) -> dict[str, str]:
        return {"authorization": "Bearer " + HOUSE.token(groups=["ops"], **{"iat": now, "exp": now + 600, **claims})}

    for wrong in (
        {}, {"x-api-key": "ph_000000000000_" + "x" * 43}, {"authorization": "Bearer nonsense"},
        {"cookie": f"{COOKIE}={await served.cookie()}", "origin": served.url}, {"x-api-key": key, **bearer()},
        bearer(exp=now - 600), bearer(iat=now + 3600, nbf=now + 3600), bearer(aud="another"),
    ):  # fmt: skip
        assert await status(**wrong) == 401, wrong
    assert await nothing(served)
    good = 202 if door == "/trigger" else 200
    assert await status(**{"x-api-key": key}) == good
    assert await status(authorization=f"Bearer {key}") == good
    assert await status(**bearer()) == good


@pytest.mark.parametrize(("age", "reason"), [(310, "expired"), (-310, "early"), (0, None)])
async def test_a_signed_call_may_not_be_of_another_time(
    served: Served, http: httpx.AsyncClient, age: float, reason: str | None
) -> None:
    pair, secret = await served.platform.pairs.create("aws", ("run",), account="local")
    body = b'{"prompt":"x"}'
    request = signed(
        "POST", f"{served.url}/trigger", (("content-type", "application/json"),), body,
        key=(pair.id, secret.secret_access_key), now=time.time() - age,
    )  # fmt: skip
    answer = await http.post("/trigger", content=body, headers=dict(request.headers))
    assert answer.json().get("reason") == reason
    assert answer.status_code == (202 if reason is None else 401)
    assert await nothing(served) == (reason is not None)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("scopes", [("read",), ("approve",), ("read", "approve", "admin")])
async def test_a_key_of_another_scope_is_forbidden_as_api_gateways_say_it(
    served: Served, http: httpx.AsyncClient, door: str, scopes: tuple[Scope, ...]
) -> None:
    answer = await http.post(door, json={"prompt": "x"}, headers={"x-api-key": await served.key(*scopes)})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    problem = answer.json()
    assert (problem["message"], problem["code"], problem["status"]) == ("Forbidden", "forbidden", 403)
    assert await nothing(served)


# --- room ---


async def test_no_capacity_is_503_and_a_full_queue_409() -> None:
    async with serving(limits=Limits(sessions_max=1, queue_max=1)) as served, answering(served.sandboxes):
        headers = {"x-api-key": await served.key("run")}
        async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as http:
            said = (await http.post("/trigger", json={"prompt": "wait"})).json()
            while said["sessionId"] not in served.sandboxes.runners:
                await asyncio.sleep(0.002)
            before = await served.platform.kit.store.scan("session")
            over = await http.post("/trigger", json={"prompt": "x"})
            assert (over.status_code, over.json()["code"], over.headers["retry-after"]) == (503, "unavailable", "1")
            assert await served.platform.kit.store.scan("session") == before
            session = await served.platform.sessions.found(said["sessionId"])
            assert session is not None
            while session.jobs.queue:
                await asyncio.sleep(0.002)
            mine = {"prompt": "x", "session_id": said["sessionId"]}
            assert (await http.post("/trigger", json=mine)).status_code == 202
            full = await http.post("/trigger", json=mine)
            assert (full.status_code, full.json()["detail"]) == (409, "1 jobs wait in this session already.")


@pytest.mark.parametrize("door", ["/trigger", "/api"])
async def test_no_more_work_than_there_is_room_for_however_many_come_at_once(door: str) -> None:
    async with serving(limits=Limits(sessions_max=2)) as served, answering(served.sandboxes):
        headers = {"x-api-key": await served.key("run")}
        async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as http:
            if door == "/api":
                made = [(await http.post("/api/sessions", json={})).json()["id"] for _ in range(10)]
                calls = [http.post(f"/api/sessions/{one}/jobs", json={"prompt": "wait"}) for one in made]
            else:
                calls = [http.post(door, json={"prompt": "wait"}) for _ in range(10)]
            answers = [answer.status_code for answer in await asyncio.gather(*calls)]
            sessions = served.platform.sessions
            assert answers.count(202) == sessions.working() == 2
            assert not any(session.jobs.coming for session in sessions.every())


async def test_who_may_open_no_more_connections_begins_nothing(served: Served) -> None:
    served.platform.gate._connections_max = 1
    headers = {"x-api-key": await served.key("run")}
    async with (
        httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as http,
        http.stream("POST", "/invoke", json={"prompt": "wait"}),
    ):
        over = await http.post("/invoke", json={"prompt": "x"})
        assert (over.status_code, over.json()["code"]) == (429, "too_many")
        assert len(await served.platform.kit.store.scan("job")) == 1
    while served.platform.gate._open:  # and the room is given back
        await asyncio.sleep(0.002)


# --- how often ---


@pytest.mark.parametrize("door", DOORS)
async def test_what_the_bucket_allows_and_no_more(door: str) -> None:
    clock = Clock(START)
    async with (
        serving(clock=clock, gate=lambda s, c: Gate(s, c, Rates(10, 20, 0))) as served,
        answering(served.sandboxes),
        httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key("run")}, timeout=20) as http,
    ):

        async def burst(count: int) -> list[httpx.Response]:
            return await asyncio.gather(*(http.post(door, json={"prompt": "x"}) for _ in range(count)))

        answers = await burst(60)
        assert sum(a.is_success for a in answers) == 20
        refused = [a for a in answers if not a.is_success]
        assert {a.status_code for a in refused} == {429}
        assert {a.headers["retry-after"] for a in refused} == {"1"}
        assert {a.headers["x-ratelimit-remaining"] for a in refused} == {"0"}
        left = sorted(int(a.headers["x-ratelimit-remaining"]) for a in answers if a.is_success)
        assert left == list(range(20))
        assert {a.headers["x-ratelimit-limit"] for a in answers} == {"20"}
        clock.seconds += 0.5
        assert sum(a.is_success for a in await burst(12)) == 5
        clock.seconds += 0.099
        assert sum(a.is_success for a in await burst(2)) == 0
        clock.seconds += 0.001
        assert sum(a.is_success for a in await burst(2)) == 1
        clock.seconds += 3600
        assert sum(a.is_success for a in await burst(30)) == 20
        assert len(await served.platform.kit.store.scan("job")) == 46


async def test_the_day_is_counted_by_key_exactly_and_over_a_restart() -> None:
    clock, store = Clock(START), MemoryStore()

    def gate(s: Any, c: Any) -> Gate:
        return Gate(s, c, Rates(0, 1, 5))

    async def triggered(key: dict[str, str], served: Served, count: int, **more: Any) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=served.url, headers=key, timeout=20) as http:
            return await asyncio.gather(*(http.post("/trigger", json={"prompt": "x"}, **more) for _ in range(count)))

    async with serving(clock=clock, store=store, gate=gate) as served, answering(served.sandboxes):
        one, two = {"x-api-key": await served.key("run")}, {"x-api-key": await served.key("run")}
        first = await triggered(one, served, 2)
        assert sorted(told(a)["x-ratelimit-remaining"] for a in first) == ["3", "4"]
        assert {told(a)["x-ratelimit-limit"] for a in first} == {"5"}
        again = await triggered(one, served, 10, headers={"idempotency-key": "k"})  # one job
        assert {a.status_code for a in again} == {202}
        async with httpx.AsyncClient(base_url=served.url, headers=one) as http:
            assert (await http.post("/trigger", json={"prompt": " "})).status_code == 400
        # Killed here: nothing is written down any more.
    async with serving(clock=clock, store=store, gate=gate) as served, answering(served.sandboxes):
        answers = await triggered(one, served, 10)
        assert sum(a.is_success for a in answers) == 2
        over = next(a for a in answers if not a.is_success)
        assert (over.status_code, over.json()["code"]) == (429, "quota_exceeded")
        assert over.headers["retry-after"] == str(round(DAY_S - 100))
        known = await triggered(one, served, 1, headers={"idempotency-key": "k"})
        assert known[0].status_code == 202  # what starts nothing is answered
        assert sum(a.is_success for a in await triggered(two, served, 10)) == 5
        clock.seconds += DAY_S
        assert sum(a.is_success for a in await triggered(one, served, 10)) == 5


# --- pages from elsewhere ---


@pytest.mark.parametrize("door", DOORS)
async def test_pages_of_cors_origins_read_answers_and_refusals(
    served: Served, http: httpx.AsyncClient, door: str
) -> None:
    asked = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    before = await http.options(door, headers=asked)
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == PAGE
    assert before.headers["access-control-allow-methods"] == "POST,OPTIONS"
    allowed = before.headers["access-control-allow-headers"].split(",")
    assert {"x-api-key", "authorization", "content-type", "idempotency-key"} <= set(allowed)
    assert "access-control-allow-credentials" not in before.headers
    key = {"x-api-key": await served.key("run"), "origin": PAGE}
    for body, headers in (({"prompt": "x"}, key), ({"prompt": ""}, key), ({"prompt": "x"}, {"origin": PAGE})):
        answer = await http.post(door, json=body, headers=headers)
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-ratelimit-remaining" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "origin"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize("door", DOORS)
async def test_other_pages_are_foreign(served: Served, http: httpx.AsyncClient, door: str) -> None:
    key = {"x-api-key": await served.key("run")}
    for origin in ("https://evil.example", "null", PAGE + ".evil.example"):
        for answer in (
            await http.options(door, headers={"origin": origin}),
            await http.post(door, json={"prompt": "x"}, headers=key | {"origin": origin}),
        ):
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
    assert await nothing(served)
    mine = await http.post(door, json={"prompt": "x"}, headers=key | {"origin": served.url})
    assert mine.is_success
    assert "access-control-allow-origin" not in mine.headers
    assert json.loads(mine.text)
