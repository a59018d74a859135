"""What whoever comes too often gets: bytes of a 429, a `rejected` of the chat socket, a refused connection."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import websockets

from pilothouse.core.access import SCOPES
from pilothouse.core.bucket import DAY_S, Rates
from pilothouse.engine import gate as gates
from pilothouse.engine.gate import WRONG, Gate
from pilothouse.engine.ports import Content, FileEntry
from pilothouse.web.guard import COOKIE, LINK_COOKIE
from tests.clock import HandClock
from tests.core.signing import signed
from tests.issuer import FakeIssuer
from tests.security import raw
from tests.web.serving import Served, serving
from tests.web.world import OneFile

START = 1_767_225_600.0 + 100.5
"""2026-01-01T00:01:40.5Z"""
NOBODY = "01a1fca5-a696-7da8-a592-78b242187567"


class Clock(HandClock):
    """Sleepers sleep in real time: the server's chores are not what is wound here."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
async def served(clock: Clock) -> AsyncIterator[Served]:
    async with serving(
        clock=clock, houses=[HOUSE], gate=lambda store, c: Gate(store, c, Rates(2, 4, 3), connections_max=2)
    ) as running:
        yield running


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-api-key": await served.key()}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as client:
        yield client


def told(answer: httpx.Response) -> dict[str, str]:
    return {n: v for n, v in answer.headers.items() if n.startswith("x-ratelimit") or n == "retry-after"}


async def test_a_429_as_bytes(served: Served) -> None:
    key = await served.key()
    request = raw.plain("GET", "/api/me", {"host": "127.0.0.1", "x-api-key": key})
    answers = [await raw.exchange(served.url, request) for _ in range(5)]
    assert [raw.status(a) for a in answers] == [200, 200, 200, 200, 429]
    head, _, body = answers[-1].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 429 too many requests"
    for line in (
        b"content-type: application/problem+json", b"retry-after: 1", b"x-ratelimit-limit: 4",
        b"x-ratelimit-remaining: 0", b"x-ratelimit-reset: 1767225703", b"cache-control: no-store",
    ):  # fmt: skip
        assert lines.count(line) == 1, line
    assert json.loads(body) == {
        "type": "about:blank", "title": "Too Many Requests", "status": 429, "code": "rate_limited",
        "detail": "At most 2 requests a second, 4 at once. Again in 1 s.",
        "limit": 4, "remaining": 0, "resetAt": 1767225703, "retryAfterS": 1,
    }  # fmt: skip


async def test_successes_say_how_many_are_left_and_waiting_as_told_is_enough(
    http: httpx.AsyncClient, clock: Clock
) -> None:
    first = await http.get("/api/me")
    assert told(first) == {
        "x-ratelimit-limit": "4", "x-ratelimit-remaining": "3", "x-ratelimit-reset": "1767225701",
    }  # fmt: skip
    for left in (2, 1, 0):
        assert told(await http.get("/api/me"))["x-ratelimit-remaining"] == str(left)
    assert (await http.get("/api/me")).status_code == 429
    clock.seconds += 0.5
    assert (await http.get("/api/me")).status_code == 200
    assert (await http.get("/api/me")).status_code == 429


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/invoke", {"prompt": ""}, 400),
        ("POST", "/trigger", {"prompt": "x", "session_id": NOBODY}, 404),
        ("GET", f"/api/sessions/{NOBODY}", None, 404),
        ("GET", "/api/sessions?limit=0", None, 400),
        ("GET", "/api/keys", None, 403),
    ],
)
async def test_what_is_refused_counts_and_says_how_many_are_left(
    served: Served, method: str, path: str, body: object, status: int
) -> None:
    headers = {"x-api-key": await served.key("read", "run")}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=10) as http:
        for left in (3, 2):
            answer = await http.request(method, path, json=body)
            assert (answer.status_code, told(answer).get("x-ratelimit-remaining")) == (status, str(left))
            assert told(answer)["x-ratelimit-limit"] == "4"
        stranger = await http.request(method, path, json=body, headers={"x-api-key": "ph_nobody"})
        assert (stranger.status_code, told(stranger)) == (401, {})


async def test_one_key_is_no_other_and_may_be_given_rates_of_its_own(served: Served, http: httpx.AsyncClient) -> None:
    usual = served.platform.gate.rates
    assert (await http.get("/api/me")).json()["server"]["rates"] == {
        "ratePerS": usual.per_s, "rateBurst": usual.burst, "quotaPerDay": usual.per_day
    }  # fmt: skip
    made = (await http.post("/api/keys", json={"name": "wide", "ratePerS": 0, "quotaPerDay": 0})).json()
    assert (made["ratePerS"], made["rateBurst"], made["quotaPerDay"]) == (0, 4, 0)
    other = await served.key()
    for _ in range(5):
        await http.get("/api/me")
    assert (await http.get("/api/me")).status_code == 429
    async with httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/api/me", headers={"x-api-key": other})).status_code == 200
        for _ in range(20):
            answer = await client.get("/api/me", headers={"x-api-key": made["key"]})
            assert answer.status_code == 200
            assert told(answer) == {}
    bad = await http.get("/healthz")
    assert bad.status_code == 200
    assert told(bad) == {}


@pytest.mark.parametrize(("field", "value"), [("ratePerS", -1), ("rateBurst", 0), ("quotaPerDay", -5)])
async def test_a_rate_out_of_range_is_named(http: httpx.AsyncClient, field: str, value: float) -> None:
    answer = await http.post("/api/keys", json={field: value})
    assert answer.status_code == 400
    assert field in answer.json()["detail"]


async def test_the_page_is_not_counted(served: Served) -> None:
    cookie = {"cookie": f"{COOKIE}={await served.cookie()}"}
    async with httpx.AsyncClient(base_url=served.url, headers=cookie) as page:
        for _ in range(20):
            answer = await page.get("/api/sessions")
            assert answer.status_code == 200
            assert told(answer) == {}


async def job(http: httpx.AsyncClient, session: str, prompt: str = "x") -> httpx.Response:
    return await http.post(f"/api/sessions/{session}/jobs", json={"prompt": prompt})


async def test_a_days_jobs_are_counted_those_that_were_refused_are_not(
    served: Served, http: httpx.AsyncClient, clock: Clock
) -> None:
    sid = (await served.platform.sessions.create(owner="local", agent="echo")).live.record.id
    for left in (2, 1, 0):
        clock.seconds += 10
        assert (await job(http, sid, prompt=" ")).status_code == 400
        answer = await job(http, sid)
        assert answer.status_code == 202
        assert told(answer) == {
            "x-ratelimit-limit": "3", "x-ratelimit-remaining": str(left), "x-ratelimit-reset": "1767312000",
        }  # fmt: skip
    clock.seconds += 10
    over = await job(http, sid)
    assert (over.status_code, over.json()["code"]) == (429, "quota_exceeded")
    assert over.headers["retry-after"] == str(round(DAY_S - 140.5 + 0.5))
    assert (await http.get("/api/me")).status_code == 200
    clock.seconds = START + DAY_S
    assert (await job(http, sid)).status_code == 202


async def test_too_many_prompts_are_rejected_in_the_chat_socket_s_own_words(served: Served, clock: Clock) -> None:
    sid = (await served.platform.sessions.create(owner="local", agent="echo")).live.record.id
    said = {"type": "chat", "chatId": sid, "message": "x"}
    async with websockets.connect(
        served.socket_url, additional_headers={"x-api-key": await served.key()}
    ) as ws:  # the opening is one request
        for n in range(6):
            await ws.send(json.dumps({**said, "clientMessageId": f"m{n}"}))
        await ws.send('{"type":"ping"}')
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["type"] != "pong":
            heard.append(json.loads(await ws.recv()))
    assert [(r["ref"], r["code"]) for r in heard[:-1]] == [(f"m{n}", "rate_limited") for n in (3, 4, 5)]
    assert heard[0]["message"] == "At most 2 requests a second, 4 at once. Again in 1 s."
    clock.seconds += 10
    async with websockets.connect(served.socket_url, additional_headers={"x-api-key": await served.key()}) as ws:
        for n in range(3):
            await ws.send(json.dumps({**said, "clientMessageId": f"n{n}"}))
        clock.seconds += 10
        await ws.send(json.dumps({**said, "clientMessageId": "last"}))
        last = json.loads(await ws.recv())
    assert (last["ref"], last["code"]) == ("last", "quota_exceeded")


# --- wrong credentials ---


async def test_c30_wrong_keys_and_tickets_of_an_address_are_slowed_down_and_the_right_ones_pass(
    served: Served, clock: Clock
) -> None:
    async with httpx.AsyncClient(base_url=served.url) as client:
        for n in range(WRONG.burst // 2):
            wrong = {"x-api-key": f"ph_{n:012x}_" + "x" * 43}
            assert (await client.get("/api/me", headers=wrong)).status_code == 401
            assert (await client.post("/api/signin", json={"ticket": f"{n:043d}"})).status_code == 401
        over = await client.get("/api/me", headers={"x-api-key": "ph_ffffffffffff_" + "x" * 43})
        assert (over.status_code, over.json()["code"]) == (429, "rate_limited")
        assert over.headers["retry-after"] == "1"
        assert (await client.post("/api/signin", json={"ticket": "y" * 43})).status_code == 429
        assert (await client.get("/api/me")).status_code == 401  # nothing shown, nothing wrong
        assert (await client.get("/api/me", headers={"x-api-key": await served.key()})).status_code == 200
        ticket, _ = await served.identity.ticket()
        assert (await client.post("/api/signin", json={"ticket": ticket})).status_code == 204
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(served.socket_url, additional_headers={"x-api-key": "wrong"})
        assert refused.value.response.status_code == 429
        clock.seconds += 600
        assert (await client.get("/api/me", headers={"x-api-key": "ph_eeeeeeeeeeee_" + "x" * 43})).status_code == 401


async def test_a_client_that_signs_wrongly_is_one_client(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url) as client:
        for n in range(WRONG.burst + 1):
            wrong = f"AWS4-HMAC-SHA256 Credential=AKID/20260101/x/y/aws4_request, Signature={n:064x}"
            answer = await client.get("/api/me", headers={"authorization": wrong})
    assert answer.status_code == 401


async def test_headers_of_a_client_are_no_address_of_it(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url) as client:
        for n in range(WRONG.burst + 1):
            headers = {"x-api-key": f"wrong {n}", "x-forwarded-for": f"10.0.0.{n}", "forwarded": f"for=10.0.0.{n}"}
            answer = await client.get("/api/me", headers=headers)
    assert answer.status_code == 429


HOUSE = FakeIssuer()


def forged(kind: str, number: int, url: str) -> dict[str, Any]:
    """A request with a wrong credential that nobody has shown yet."""
    key = f"PHKA{base64.b32encode(number.to_bytes(10)).decode()}", "wrong"
    if kind == "token":
        return {"headers": {"authorization": f"Bearer {HOUSE.token(sub=str(number))[:-4]}AAAA"}}
    if kind == "signature":
        made = signed("GET", f"{url}/api/me", key=key, now=START)
        return {"headers": dict(made.headers)}
    if kind == "signed address":
        made = signed("GET", f"{url}/api/me", key=key, now=START, presigned=300)
        return {"url": f"/api/me?{made.query}", "headers": dict(made.headers)}
    if kind == "link":
        return {"headers": {"cookie": f"{LINK_COOKIE}={number:012x}_{'x' * 43}"}}
    if kind == "cookie":
        return {"headers": {"cookie": f"{COOKIE}={number:043d}"}}
    if kind == "link in a body":
        return {"method": "POST", "url": "/api/signin", "json": {"link": f"{number:012x}_{'x' * 43}"}}
    return {"url": "/api/signin/oidc/example/callback", "params": {"state": str(number), "code": "x"}}


@pytest.mark.parametrize(
    "kind", ["token", "signature", "signed address", "cookie", "link", "link in a body", "provider's answer"]
)
async def test_c30_a_wrong_credential_of_any_kind_counts_for_its_address(
    served: Served, clock: Clock, kind: str
) -> None:
    audit = served.platform.kit.audit
    async with httpx.AsyncClient(base_url=served.url) as client:
        told = []
        for number in range(WRONG.burst + 1):
            request = {"method": "GET", "url": "/api/me"} | forged(kind, number, served.url)
            told.append((await client.request(**request)).status_code)
        assert told == [401] * WRONG.burst + [429]
        key = {"x-api-key": await served.key()}
        assert (await client.get("/api/me", headers=key)).status_code == 200
    await audit.flush(every=True)
    records = [json.loads(line) for line in await audit.after("default", 0, 100)]
    refused = [r for r in records if r["outcome"] == "refused"]
    assert {(r["actor"]["kind"], r["address"]) for r in refused} == {("nobody", "127.0.0.1")}
    assert {r["action"] for r in refused} == {"signin" if kind[-4:] in {"body", "swer"} else "credential.refuse"}
    assert sum(r["details"].get("count", 1) for r in refused) == WRONG.burst + 1


async def test_every_kind_of_credential_has_its_rate_and_its_quota(served: Served, clock: Clock) -> None:
    """A person's tokens and sign-ins are one person's; a key pair may have rates of its own, as a key may."""
    sid = (await served.platform.sessions.create(owner="local", agent="echo")).live.record.id
    token = {"authorization": f"Bearer {HOUSE.token(iat=START, exp=START + 600, groups=['boss'])}"}
    record, secret = await served.platform.pairs.create("p", SCOPES, rates=Rates(2, 3, 1), account="local")
    body = b'{"prompt":"x"}'

    def pair(method: str, path: str, body: bytes = b"") -> dict[str, str]:
        key = (record.id, secret.secret_access_key)
        given = (("content-type", "application/json"),) if body else ()
        made = signed(method, served.url + path, given, body, key=key, now=clock.now())
        return dict(made.headers)

    async with httpx.AsyncClient(base_url=served.url) as client:
        asking: dict[int, Callable[[], dict[str, str]]] = {4: lambda: token, 3: lambda: pair("GET", "/api/me")}
        for most, headers in asking.items():
            answers = [(await client.get("/api/me", headers=headers())) for _ in range(most + 1)]
            assert [a.status_code for a in answers] == [200] * most + [429]
            assert answers[0].headers["x-ratelimit-limit"] == str(most)
        clock.seconds += 10
        jobs = f"/api/sessions/{sid}/jobs"
        working: dict[int, Callable[[], dict[str, str]]] = {3: lambda: token, 1: lambda: pair("POST", jobs, body)}
        for most, headers in working.items():
            for number in range(most + 1):
                given = {**headers(), "content-type": "application/json"}
                answer = await client.post(jobs, content=body, headers=given)
                clock.seconds += 2
                assert answer.status_code == (202 if number < most else 429), answer.text
            assert answer.json()["code"] == "quota_exceeded"
        made = await client.post(
            "/api/keys", json={"kind": "sigv4", "ratePerS": 1}, headers={"x-api-key": await served.key()}
        )
        assert made.json()["ratePerS"] == 1


async def test_the_connections_of_every_kind_of_credential_are_counted(served: Served, clock: Clock) -> None:
    session = await served.platform.sessions.create(owner="local", agent="echo")
    maker = await served.identity.keys.by_secret(await served.key())
    _, link = await served.identity.links.make(maker, session.live.record.id, "watch")
    record, secret = await served.platform.pairs.create("p", SCOPES, account="local")
    made = signed("GET", f"{served.url}/ws", key=(record.id, secret.secret_access_key), now=clock.now())
    token = HOUSE.token(iat=START, exp=START + 600, groups=["boss"])
    kinds: dict[str, dict[str, str]] = {
        "token": {"authorization": f"Bearer {token}"},
        "signature": {n: v for n, v in made.headers if n.lower() != "host"},
        "sign-in": {"cookie": f"{COOKIE}={await served.cookie()}", "origin": served.url},
        "link": {"cookie": f"{LINK_COOKIE}={link}", "origin": served.url},
    }
    for kind, headers in kinds.items():
        async with contextlib.AsyncExitStack() as opened:
            for _ in range(2):
                connecting = websockets.connect(served.socket_url, additional_headers=headers)
                await opened.enter_async_context(connecting)
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(served.socket_url, additional_headers=headers)
            assert json.loads(refused.value.response.body)["code"] == "too_many", kind
        clock.seconds += 5


# --- connections ---


async def test_sockets_and_streams_of_one_are_counted_together(served: Served, http: httpx.AsyncClient) -> None:
    sid = (await served.platform.sessions.create(owner="local", agent="echo")).live.record.id
    free = (await served.identity.keys.create("free", ("read",), rates=Rates(0, 1, 0)))[1]
    headers = {"x-api-key": free}
    events = f"/api/sessions/{sid}/events"
    async with contextlib.AsyncExitStack() as opened:
        await opened.enter_async_context(websockets.connect(served.socket_url, additional_headers=headers))
        stream = http.stream("GET", events, headers={**headers, "accept": "text/event-stream"})
        answer = await opened.enter_async_context(stream)
        parts = answer.aiter_bytes()
        assert b"pilothouse" in await anext(parts)
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(served.socket_url, additional_headers=headers)
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["retry-after"] == "1"
        assert json.loads(refused.value.response.body)["code"] == "too_many"
        for path in (events, f"/api/sessions/{sid}/network/stream"):
            more = await http.get(path, headers={**headers, "accept": "text/event-stream"})
            assert (more.status_code, more.json()["code"]) == (429, "too_many")
        assert (await http.get(events, headers=headers)).status_code == 200
        async with websockets.connect(
            served.socket_url, additional_headers={"x-api-key": await served.key()}
        ):  # somebody else's
            pass
    async with asyncio.timeout(10):
        while served.platform.gate._open:
            await asyncio.sleep(0.01)
    async with websockets.connect(served.socket_url, additional_headers=headers):
        pass


class Crowd:
    """So many callers come to be known before any of them is."""

    def __init__(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        self._by_key = served.identity.keys.by_secret
        self._gate = asyncio.Barrier(CROWD)
        monkeypatch.setattr(served.identity.keys, "by_secret", self)

    async def __call__(self, text: str) -> Any:
        await self._gate.wait()
        return await self._by_key(text)


CROWD = 30


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "plain"])
async def test_c30_so_many_sockets_at_once_are_no_more_than_one_after_the_other(
    hot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was let in before any was open."""
    most = 3
    async with serving(hot=hot, gate=lambda store, c: Gate(store, c, Rates(0, 1, 0), connections_max=most)) as served:
        headers = {"x-api-key": await served.key("read")}
        with monkeypatch.context() as patched:
            Crowd(served, patched)
            sockets = await asyncio.gather(
                *[websockets.connect(served.socket_url, additional_headers=headers) for _ in range(CROWD)]
            )
        gone = [asyncio.create_task(socket.wait_closed()) for socket in sockets]
        async with asyncio.timeout(10):
            while sum(task.done() for task in gone) < CROWD - most:
                await asyncio.wait([task for task in gone if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        assert [s.close_code for s, task in zip(sockets, gone, strict=True) if task.done()] == [1013] * (CROWD - most)
        stay = [s for s, task in zip(sockets, gone, strict=True) if not task.done()]
        for socket in stay:
            await socket.send('{"type":"ping"}')
            assert json.loads(await asyncio.wait_for(socket.recv(), 10)) == {"type": "pong"}
        assert sum(served.platform.gate._open.values()) == len(stay) == most
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(served.socket_url, additional_headers=headers)
        assert refused.value.response.status_code == 429
        for socket in stay:
            await socket.close()
        await asyncio.gather(*gone)
        async with asyncio.timeout(10):
            while served.platform.gate._open:
                await asyncio.sleep(0.01)


class Heap:
    """A workspace whose files are opened by a whole crowd at once, and read when they all have been answered."""

    def __init__(self) -> None:
        self.opened = asyncio.Barrier(CROWD)
        self.go_on = asyncio.Event()
        self.closed = 0

    async def read(self, path: str) -> tuple[FileEntry, Content]:
        await self.opened.wait()
        return OneFile.entry, self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x"
        await self.go_on.wait()

    def close(self) -> None:
        self.closed += 1


async def test_c30_so_many_downloads_at_once_are_no_more_than_one_after_the_other() -> None:
    """Each had asked for room before any had taken it; what was opened for the others is closed."""
    most, heap = 3, Heap()
    async with serving(gate=lambda store, c: Gate(store, c, Rates(0, 1, 0), connections_max=most)) as served:
        served.sandboxes.files = lambda session: heap  # type: ignore[method-assign,assignment,return-value]
        sid = (await served.platform.sessions.create(owner="local", agent="echo")).live.record.id
        headers = {"x-api-key": await served.key("read")}
        async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as client:
            path = f"/api/sessions/{sid}/files/content?path=x"
            asking = [asyncio.create_task(client.get(path)) for _ in range(CROWD)]
            async with asyncio.timeout(10):
                while sum(task.done() for task in asking) < CROWD - most:
                    await asyncio.wait([t for t in asking if not t.done()], return_when=asyncio.FIRST_COMPLETED)
            assert {(t.result().status_code, t.result().json()["code"]) for t in asking if t.done()} == {
                (429, "too_many")
            }
            assert (sum(served.platform.gate._open.values()), heap.closed) == (most, CROWD - most)
            heap.go_on.set()
            answers = await asyncio.gather(*asking)
        assert sorted(answer.status_code for answer in answers) == [200] * most + [429] * (CROWD - most)
        async with asyncio.timeout(10):
            while served.platform.gate._open:
                await asyncio.sleep(0.01)
        assert heap.closed == CROWD


async def test_sockets_that_wait_to_be_known_are_bounded_by_address(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "KNOCKING_MAX", 3)
    waiting = asyncio.Event()
    by_key = served.identity.keys.by_secret

    async def slow(text: str) -> Any:
        await waiting.wait()
        return await by_key(text)

    monkeypatch.setattr(served.identity.keys, "by_secret", slow)
    request = raw.upgrade("/ws", {"host": "127.0.0.1", "x-api-key": "wrong"})
    held = [asyncio.create_task(raw.exchange(served.url, request)) for _ in range(3)]
    async with asyncio.timeout(10):
        while sum(served.platform.gate._knocking.values()) < 3:
            await asyncio.sleep(0.01)
    assert raw.status(await raw.exchange(served.url, request)) == 429
    waiting.set()
    assert [raw.status(answer) for answer in await asyncio.gather(*held)] == [401, 401, 401]


async def test_another_organisations_admin_gives_no_more_than_the_server_does(served: Served, clock: Clock) -> None:
    await served.identity.members.make("red", None)
    await served.identity.members.put("red", "boss", role="admin")
    _, key = await served.identity.keys.create("boss", ("read", "admin"), account="boss", organisation="red")
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as boss:
        for wide in ({"ratePerS": 0}, {"quotaPerDay": 0}, {"ratePerS": 3}, {"rateBurst": 5}):
            answer = await boss.post("/api/keys", json=wide)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), wide
            clock.seconds += 1
        narrow = {"ratePerS": 1, "rateBurst": 2, "quotaPerDay": 1}
        assert (await boss.post("/api/keys", json=narrow)).json()["ratePerS"] == 1
        for kind in ("key", "sigv4"):  # and fills its own shelf alone
            clock.seconds += 1
            assert (await boss.post("/api/keys", json={"kind": kind, "ratePerS": 0})).status_code == 403


async def test_what_a_socket_does_is_counted_whatever_it_is(served: Served) -> None:
    session = await served.platform.sessions.create(owner="local", agent="echo")
    said = {"type": "set_mode", "chatId": session.live.record.id, "mode": "plan"}
    async with websockets.connect(served.socket_url, additional_headers={"x-api-key": await served.key()}) as ws:
        for _ in range(6):  # the opening was one of four
            await ws.send(json.dumps(said))
        await ws.send('{"type":"ping"}')
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["type"] != "pong":
            heard.append(json.loads(await ws.recv()))
    assert [frame["code"] for frame in heard[:-1]] == ["rate_limited"] * 3
