"""Every entry of the route table, asked as nobody, from a foreign Host or Origin, with too little scope."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from pilothouse.core.access import SCOPES
from pilothouse.core.limits import Caps
from pilothouse.web import static
from pilothouse.web.front import Front
from pilothouse.web.guard import COOKIE, LOOPBACK, Trust
from pilothouse.web.routes import TABLE, Entry
from tests.web.serving import Served, serving

ANY_ID = "01a1fca5-a696-7da8-a592-78b242187567"
HTTP = [e for e in TABLE if e.method != "WS"]
PROTECTED = [e for e in HTTP if e.policy != "public"]


SIGNED = "GET /api/artifacts/{id}/signed"
PREFLIGHTS = {f"OPTIONS {path}" for path in ("/event", "/event/history", "/event/presence", "/invoke", "/trigger")}


def name(entry: Entry) -> str:
    return f"{entry.method} {entry.path}"


def address(entry: Entry) -> str:
    query = "?channel=default/room" if entry.own is not None and entry.method == "GET" else ""
    return entry.path.replace("{id}", ANY_ID).replace("{digest}", "0" * 64) + query


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Served]:
    """One for all entries: who asks has a key or a cookie of their own."""
    async with serving() as running:
        yield running


async def ask(served: Served, entry: Entry, **headers: str) -> httpx.Response:
    body = {"channel": "/default/room", "events": ["1"]} if entry.own is not None else None
    async with httpx.AsyncClient(base_url=served.url, timeout=10) as client:
        return await client.request(entry.method, address(entry), headers=headers, json=body)


def test_the_public_routes_are_these_and_each_says_why() -> None:
    public = {name(e): e.reason for e in TABLE if e.policy == "public"}
    signing_in = {"", "/providers", "/oidc/{provider}", "/oidc/{provider}/callback"}
    documents = {"GET /openapi.json", "GET /docs"}
    assert set(public) == {"GET /healthz", "GET /readyz", "POST /api/signin", SIGNED} | documents | PREFLIGHTS | {
        f"GET /api/signin{rest}" for rest in signing_in - {""}
    }
    assert all(public.values())
    assert set(static.PUBLIC) == {"/", "/assets/{name}", "/favicon.svg", "/sw.js"}
    assert all(static.PUBLIC.values())
    assert all(e.scope for e in TABLE if e.policy != "public")


async def test_c01_the_application_serves_nothing_beside_the_table(served: Served) -> None:
    from starlette.applications import Starlette

    app = served.server.config.app._app  # type: ignore[union-attr]
    assert isinstance(app, Starlette)
    there = {(m, r.path) for r in app.routes for m in r.methods - {"HEAD"}}  # type: ignore[attr-defined]
    assert there == {(e.method, e.path) for e in HTTP} | {("GET", p) for p in static.PUBLIC}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("entry", PROTECTED, ids=name)
async def test_nobody_is_refused(shared: Served, entry: Entry) -> None:
    for headers in ({}, {"x-api-key": "ph_000000000000_" + "x" * 43}, {"authorization": "Bearer nonsense"},
                    {"cookie": f"{COOKIE}={'x' * 43}", "origin": shared.url}):  # fmt: skip
        answer = await ask(shared, entry, **headers)
        assert answer.status_code in {401, 403}, headers
        own = entry.own is not None  # in the words of another protocol
        assert answer.headers["content-type"] == ("application/json" if own else "application/problem+json")
        if not headers.get("cookie"):
            assert answer.status_code == 401


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("entry", HTTP, ids=name)
async def test_a_foreign_host_is_refused(shared: Served, entry: Entry) -> None:
    key = await shared.key()
    for host in ("evil.example", f"evil.example:{shared.port}", "127.0.0.1.evil.example", "", "localhost:x"):
        answer = await ask(shared, entry, host=host, **{"x-api-key": key})
        assert answer.status_code in {400, 421}, host


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("entry", HTTP, ids=name)
async def test_a_foreign_origin_is_refused(shared: Served, entry: Entry) -> None:
    key, cookie = await shared.key(), await shared.cookie()
    csrf = shared.identity.csrf(cookie)
    for origin in (
        "http://evil.example",
        "null",
        f"https://127.0.0.1:{shared.port}",
        f"http://127.0.0.1:{shared.port}1",
    ):
        for credential in ({"x-api-key": key}, {"cookie": f"{COOKIE}={cookie}", "x-csrf-token": csrf}):
            answer = await ask(shared, entry, origin=origin, **credential)
            assert answer.status_code == 403, origin
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("entry", PROTECTED, ids=name)
async def test_a_key_without_the_scope_is_refused(shared: Served, entry: Entry) -> None:
    others = [s for s in SCOPES if s != entry.scope]
    answer = await ask(shared, entry, **{"x-api-key": await shared.key(*others)})
    assert answer.status_code == 403
    if entry.own is None:
        assert answer.json()["code"] == "forbidden"
    else:
        assert answer.json()["errors"][0]["errorType"] == "UnauthorizedException"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "entry", [e for e in PROTECTED if e.method != "GET" and e.policy == "cookie-same-origin"], ids=name
)
async def test_a_change_by_cookie_needs_origin_and_token(shared: Served, entry: Entry) -> None:
    cookie = await shared.cookie()
    base = {"cookie": f"{COOKIE}={cookie}"}
    token = shared.identity.csrf(cookie)
    for headers in (
        {},
        {"origin": shared.url},
        {"x-csrf-token": token},
        {"origin": shared.url, "x-csrf-token": "0" * 64},
    ):
        assert (await ask(shared, entry, **base, **headers)).status_code == 403, headers
    passed = await ask(shared, entry, **base, origin=shared.url, **{"x-csrf-token": token})
    assert passed.status_code not in {401, 403}


async def test_a_given_key_is_never_passed_over_for_a_cookie(served: Served) -> None:
    headers = {"cookie": f"{COOKIE}={await served.cookie()}", "x-api-key": "wrong"}
    async with httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/api/me", headers=headers)).status_code == 401


async def test_another_site_cannot_use_the_cookie_even_for_reading(served: Served) -> None:
    headers = {"cookie": f"{COOKIE}={await served.cookie()}", "sec-fetch-site": "cross-site"}
    async with httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/api/me", headers=headers)).status_code == 403


async def test_every_answer_carries_the_headers(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url) as client:
        for path in ("/", "/healthz", "/api/me", "/nowhere", "/api/sessions/../../etc/passwd"):
            answer = await client.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert "script-src 'self'" in answer.headers["content-security-policy"], path
            assert answer.headers["referrer-policy"] == "no-referrer", path


async def test_a_key_from_an_allowed_origin_may_call() -> None:
    trust = Trust(hosts=LOOPBACK, cors_origins=frozenset({"https://app.example"}))
    async with serving(trust=trust) as served, httpx.AsyncClient(base_url=served.url) as client:
        key = await served.key()
        headers = {"origin": "https://app.example"}
        assert (await client.get("/api/me", headers=headers | {"x-api-key": key})).status_code == 200
        cookie = {"cookie": f"{COOKIE}={await served.cookie()}"}
        assert (await client.get("/api/me", headers=headers | cookie)).status_code == 403


async def test_a_ticket_signs_in_once(served: Served) -> None:
    ticket, _ = await served.identity.ticket()
    async with httpx.AsyncClient(base_url=served.url) as client:
        answers = await asyncio.gather(*[client.post("/api/signin", json={"ticket": ticket}) for _ in range(5)])
        assert sorted(a.status_code for a in answers) == [204, 401, 401, 401, 401]
        cookie = next(a.headers["set-cookie"] for a in answers if a.status_code == 204)
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
    async with httpx.AsyncClient(base_url=served.url) as client:
        client.cookies.set(COOKIE, cookie.split("=", 1)[1].split(";")[0])
        me = (await client.get("/api/me")).json()
        assert me["principal"]["kind"] == "person"
        assert me["server"]["limits"] == Caps().values()
        out = await client.post("/api/signout", headers={"origin": served.url, "x-csrf-token": me["csrf"]})
        assert out.status_code == 204
        assert (await client.get("/api/me")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/api/sessions", {"agent": "nope"}, "agent"),
        ("/api/sessions", {"agentt": "claude"}, "agentt"),
        ("/api/sessions", {"agent": 7}, "agent"),
        ("/api/sessions", {"permissionMode": "yolo"}, "permissionMode"),
        ("/api/sessions", {"title": "a\nb"}, "title"),
        ("/api/sessions", {"limits": {"memory": "much"}}, "limits.memory: expected a number"),
        ("/api/sessions", {"limits": {"cpu": True}}, "limits.cpu: expected a number"),
        ("/api/notifications", {"kind": "fax", "url": "https://example.com/"}, "; there are push, slack"),
        ("/api/webhooks", {"url": "http://a:b@127.0.0.1/#x"}, "url: must be https"),
        ("/api/keys", {"scopes": ["root"]}, "scopes"),
        ("/api/keys", {"name": ""}, "name"),
    ],
)
async def test_bad_bodies_are_refused_by_name(served: Served, path: str, body: object, named: str) -> None:
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as client:
        answer = await client.post(path, json=body)
        assert answer.status_code == 400
        assert named in answer.json()["detail"]


async def test_what_is_no_json_body_is_refused(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as client:
        for content, media in ((b"{", "application/json"), (b"\xff\xfe", "application/json"), (b"{}", "text/plain"),
                               (b"[" * 100_000, "application/json"), (b"", "application/json")):  # fmt: skip
            answer = await client.post("/api/sessions", content=content, headers={"content-type": media})
            assert answer.status_code == 400, content[:5]
        for path in ("/api/sessions", "/invoke", "/trigger"):
            empty = await client.post(path, content=b" \n", headers={"content-type": "application/json"})
            assert (empty.status_code, empty.json()["detail"]) == (400, "body: it is empty; expected JSON")
        made = (await client.post("/api/sessions", json={})).json()
        nameless = await client.get(f"/api/sessions/{made['id']}/files/content")
        assert (nameless.status_code, nameless.json()["detail"][:5]) == (400, "path:")
        await client.delete(f"/api/sessions/{made['id']}")
        big = await client.post(
            "/api/sessions", content=b'{"title":"' + b"x" * 5_000_000, headers={"content-type": "application/json"}
        )
        assert big.status_code == 413
        assert (await client.get("/api/sessions")).json()["items"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=1000", "limit=-1", "cursor=rubbish", "cursor=" + "x" * 200]
)
async def test_bad_queries_are_refused_by_name(served: Served, query: str) -> None:
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as client:
        for path in ("sessions", "approvals", "questions"):
            answer = await client.get(f"/api/{path}?{query}")
            assert answer.status_code == 400
            assert answer.json()["detail"].startswith(query.partition("=")[0] + ": ")
        assert query.split("=")[0] in answer.json()["detail"]


async def test_a_revoked_key_is_refused_at_once(served: Served) -> None:
    key = await served.key()
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}) as client:
        mine = (await client.get("/api/keys")).json()["items"][0]["id"]
        assert (await client.delete(f"/api/keys/{mine}")).status_code == 204
        assert (await client.get("/api/me")).status_code == 401


@pytest.mark.parametrize("base", ["", "/pilothouse"])
async def test_an_address_of_a_websocket_says_so_to_who_does_not_ask_for_one(base: str) -> None:
    async with serving(front=Front(base=base)) as served, httpx.AsyncClient(timeout=10) as client:
        for path in ("/ws", "/event/realtime"):
            answer = await client.get(served.url + path)
            assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required"), path
            assert answer.headers["upgrade"] == "websocket"
            assert "WebSocket" in answer.json()["detail"]


async def test_a_method_that_an_address_has_not_is_told_those_that_it_has(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url, timeout=10) as client:
        for path in {e.path for e in HTTP}:
            has = {e.method for e in HTTP if e.path == path}
            answer = await client.request("QUERY", path.replace("{id}", ANY_ID).replace(":path}", "}"))
            assert answer.status_code == 405, path
            assert answer.json()["code"] == "method_not_allowed"
            assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == has, path
