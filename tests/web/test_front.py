"""Behind proxies and below a path: who is believed, whose name counts, where the cookie belongs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from starlette.requests import HTTPConnection
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from pilothouse.core.access import SCOPES
from pilothouse.core.forwarded import networks
from pilothouse.engine.gate import WRONG
from pilothouse.web.front import SEEN, Front
from pilothouse.web.guard import COOKIE, LOOPBACK, Trust
from pilothouse.web.peer import UNKNOWN, peer, upgrade_peer
from pilothouse.web.socket import UpgradeRequest
from tests.core.signing import signed
from tests.issuer import NOW, FakeIssuer
from tests.security import raw
from tests.web.serving import Served, serving
from tests.web.test_signin import Still

NAMED = frozenset({*LOOPBACK, "pilot.example", "xn--bcher-kva.example"})
TRUSTED = networks(("127.0.0.1",))
CLIENT = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "x-forwarded-host": "pilot.example"}


@contextlib.asynccontextmanager
async def proxied(*, hot: bool = True, **front: Any) -> AsyncIterator[Served]:
    made = Front(**front)
    async with serving(hot=hot, front=made, trust=Trust(NAMED, behind_proxy=made.behind_proxy)) as served:
        yield served


async def code(served: Served, path: str, method: str = "GET", **headers: str) -> int:
    given = {"host": f"127.0.0.1:{served.port}"} | {n.replace("_", "-"): v for n, v in headers.items()}
    make = raw.upgrade if method == "WS" else None
    request = make(path, given) if make else raw.plain(method, path, given)
    return raw.status(await raw.exchange(f"http://127.0.0.1:{served.port}", request))


def scope(client: str = "127.0.0.1", path: str = "/api/me", **headers: str) -> dict[str, Any]:
    given = {"host": "127.0.0.1:8420"} | {n.replace("_", "-"): v for n, v in headers.items()}
    return {
        "type": "http", "scheme": "http", "client": (client, 4711), "path": path, "raw_path": path.encode(),
        "root_path": "", "headers": [(n.encode(), v.encode()) for n, v in given.items()],
    }  # fmt: skip


def upgrade(client: str = "127.0.0.1", path: str = "/ws", **headers: str) -> UpgradeRequest:
    given = {"host": "127.0.0.1:8420"} | {n.replace("_", "-"): v for n, v in headers.items()}
    return UpgradeRequest(path, "", list(given.items()), (client, 4711), False)


FORGED = {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "https", "x_forwarded_host": "pilot.example"}


def test_the_client_a_trusted_proxy_tells_of_is_the_peer() -> None:
    front = Front(trusted=TRUSTED)
    asked = scope(**FORGED)
    front.scope(asked)
    request = HTTPConnection(asked)
    assert peer(request) == "203.0.113.9"
    assert request.url.scheme == "https"
    assert request.headers.getlist("host") == ["pilot.example"]
    assert (asked[SEEN].secure, asked[SEEN].received) == (True, "127.0.0.1:8420")
    door = front.upgrade(upgrade(**FORGED))
    assert upgrade_peer(door) == "203.0.113.9"
    assert (door.secure, door.header("host"), door.received) == (True, "pilot.example", "127.0.0.1:8420")


@pytest.mark.parametrize("front", [Front(), Front(behind_proxy=True), Front(trusted=networks(("10.0.0.0/8",)))])
def test_anybody_elses_word_counts_for_nothing(front: Front) -> None:
    asked = scope(client="192.0.2.1", **FORGED)
    front.scope(asked)
    request = HTTPConnection(asked)
    assert peer(request) == "192.0.2.1"
    assert request.url.scheme == "http"
    assert request.headers["host"] == "127.0.0.1:8420"
    assert asked[SEEN].received is None
    assert asked[SEEN].secure is (None if front.behind_proxy else False)
    door = front.upgrade(upgrade(client="192.0.2.1", **FORGED))
    assert upgrade_peer(door) == "192.0.2.1"
    assert (door.secure, door.received) == (None if front.behind_proxy else False, None)


def test_without_an_address_there_is_no_peer() -> None:
    asked = scope()
    asked["client"] = None
    Front(trusted=TRUSTED).scope(asked)
    assert peer(HTTPConnection(asked)) == UNKNOWN


def test_a_path_is_as_the_client_has_it_whether_cut_or_not() -> None:
    front = Front(base="/sub/path")
    for given in ("/api/me", "/sub/path/api/me"):
        asked = scope(path=given)
        front.scope(asked)
        assert (asked["path"], asked["raw_path"], asked["root_path"]) == (
            "/sub/path/api/me", b"/sub/path/api/me", "/sub/path",
        )  # fmt: skip
        door = front.upgrade(upgrade(path=given.replace("api/me", "ws")))
        assert (door.path, front.inner(door.path)) == ("/sub/path/ws", "/ws")
    asked = scope(path="/sub/pathology")
    front.scope(asked)
    assert asked["path"] == "/sub/path/sub/pathology", "a longer word is another word"


@pytest.mark.parametrize("hot", [True, False])
async def test_c03_a_forwarded_host_must_be_ours_and_so_must_the_one_that_came(hot: bool) -> None:
    async with proxied(hot=hot, trusted=TRUSTED) as served:
        key = await served.key()
        for forwarded, host, ok in (
            ("pilot.example", "127.0.0.1", True), ("PILOT.example.:8443", "localhost:1", True),
            ("xn--bcher-kva.example", "127.0.0.1", True), ("evil.example", "127.0.0.1", False),
            ("pilot.example", "evil.example", False), ("pilot.example, evil.example", "127.0.0.1", False),
            ("user@pilot.example", "127.0.0.1", False), ("pilot.example:x", "127.0.0.1", False),
        ):  # fmt: skip
            for method, path, good in (("GET", "/api/me", 200), ("WS", "/ws", 101)):
                got = await code(served, path, method, x_api_key=key, host=host, x_forwarded_host=forwarded)
                assert got == (good if ok else 421), (forwarded, host, method)


@pytest.mark.parametrize("hot", [True, False])
async def test_c04_an_origin_is_ours_by_the_scheme_that_the_proxy_tells(hot: bool) -> None:
    async with proxied(hot=hot, trusted=TRUSTED) as served:
        cookie = f"{COOKIE}={await served.cookie()}"
        for proto, origin, ok in (
            ("https", "https://pilot.example", True), ("https", "http://pilot.example", False),
            ("http", "http://pilot.example", True), ("http", "https://pilot.example", False),
            ("https", "https://127.0.0.1", False), ("https", "https://pilot.example:8443", False),
        ):  # fmt: skip
            forged = {"x_forwarded_proto": proto, "x_forwarded_host": "pilot.example", "cookie": cookie}
            assert await code(served, "/ws", "WS", origin=origin, **forged) == (101 if ok else 403), (proto, origin)
    async with proxied(hot=hot) as served:  # nobody is trusted: the page's own story changes nothing
        cookie = f"{COOKIE}={await served.cookie()}"
        forged = {"x_forwarded_proto": "https", "x_forwarded_host": "evil.example", "cookie": cookie}
        for origin in ("https://evil.example", f"https://127.0.0.1:{served.port}"):
            assert await code(served, "/ws", "WS", origin=origin, **forged) == 403
        assert await code(served, "/ws", "WS", origin=f"http://127.0.0.1:{served.port}", **forged) == 101


async def test_a_proxy_that_tells_nothing_is_one_with_tls() -> None:
    async with proxied(behind_proxy=True) as served:
        cookie = f"{COOKIE}={await served.cookie()}"
        for host, origin, got in (
            ("pilot.example", "https://pilot.example", 101), ("pilot.example", "http://pilot.example", 403),
            ("127.0.0.1:9", "http://127.0.0.1:9", 101), ("127.0.0.1:9", "https://127.0.0.1:9", 101),
        ):  # fmt: skip
            assert await code(served, "/ws", "WS", host=host, origin=origin, cookie=cookie) == got, (host, origin)


async def sign_in(served: Served, **headers: str) -> str:
    ticket, _ = await served.identity.ticket()
    async with httpx.AsyncClient(base_url=served.url, headers=headers) as http:
        return (await http.post("/api/signin", json={"ticket": ticket})).headers["set-cookie"].lower()


async def test_a_cookie_is_for_tls_alone_where_the_client_spoke_it() -> None:
    async with proxied(trusted=TRUSTED) as served:
        assert "; secure" in await sign_in(served, **CLIENT)
        assert "; secure" not in await sign_in(served, **{**CLIENT, "x-forwarded-proto": "http"})
        assert "; secure" not in await sign_in(served)
        async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as http:
            made = (await http.post("/api/tickets", headers=CLIENT)).json()
            assert made["url"] == f"https://pilot.example/#ticket={made['ticket']}", "a link for whoever asked"
            here = (await http.post("/api/tickets")).json()
            assert here["url"].startswith(f"http://127.0.0.1:{served.port}/#ticket=")


@pytest.mark.parametrize("hot", [True, False])
async def test_below_a_path_everything_is_below_it(hot: bool) -> None:
    """Asked with the path and with the path cut off, as proxies do either."""
    async with proxied(hot=hot, base="/pilothouse") as served:
        key = await served.key()
        root = f"127.0.0.1:{served.port}"
        for prefix in ("/pilothouse", ""):
            for path in ("/", "/healthz", "/readyz", "/favicon.svg", "/api/me", "/api/keys"):
                assert await code(served, prefix + path, x_api_key=key) == 200, prefix + path
            assert await code(served, prefix + "/api/me") == 401
            assert await code(served, prefix + "/api/none", x_api_key=key) == 404
            async with connect(f"ws://{root}{prefix}/ws", additional_headers={"x-api-key": key}) as socket:
                await socket.send('{"type": "ping"}')
                assert json.loads(await socket.recv())["type"] == "pong"
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{root}{prefix}/ws")
            assert refused.value.response.status_code == 401
        answer = await raw.exchange(f"http://{root}", raw.plain("GET", "/pilothouse", {"host": root}))
        assert raw.status(answer) == 308
        assert b"\r\nlocation: /pilothouse/\r\n" in answer
        foreign = raw.plain("GET", "/pilothouse", {"host": "evil.example"})
        assert raw.status(await raw.exchange(f"http://{root}", foreign)) == 421, "no redirect for a foreign name"
        for path in ("/pilothousex/api/me", "/pilothouse/pilothouse/api/me", "/other/api/me", "/pilothouse//api/me",
                     "/pilothouse/../api/me", "/PILOTHOUSE/api/me"):  # fmt: skip
            assert await code(served, path, x_api_key=key) == 404, path
        assert "; path=/pilothouse/" in await sign_in(served)
        ticket, _ = await served.identity.ticket()
        async with httpx.AsyncClient(base_url=f"http://{root}/pilothouse") as http:
            assert (await http.post("/api/signin", json={"ticket": ticket})).status_code == 204
            me = (await http.get("/api/me")).json()
            out = await http.post("/api/signout", headers={"origin": f"http://{root}", "x-csrf-token": me["csrf"]})
            assert "path=/pilothouse/" in out.headers["set-cookie"].lower(), "or the browser would keep it"
            assert (await http.get("/api/me")).status_code == 401


async def test_nothing_of_the_page_is_an_absolute_path() -> None:
    """So it works below any path without being built again."""
    async with proxied(base="/pilothouse") as served, httpx.AsyncClient(base_url=served.url) as http:
        page = (await http.get("/")).text
        assert 'src="/' not in page
        assert 'href="/' not in page
        for asset in [part.split('"')[0] for part in page.split('"./')[1:]]:
            assert (await http.get(f"/{asset}")).status_code == 200, asset


async def test_many_ways_at_once_do_not_mix() -> None:
    """Each request's client is its own."""
    async with proxied(trusted=TRUSTED) as served:
        key = await served.key()
        codes = await asyncio.gather(*[
            code(served, "/api/me", x_api_key=key, x_forwarded_host=name)
            for name in ("pilot.example", "evil.example") * 10
        ])  # fmt: skip
        assert codes == [200, 421] * 10


# --- who is calling, through a proxy ---


@pytest.mark.parametrize("hot", [True, False])
async def test_a_signature_is_over_the_address_that_the_client_asked(hot: bool) -> None:
    """Behind a proxy that tells of another name, and below a path that it cuts off; by HTTP and on a socket."""
    async with proxied(hot=hot, trusted=TRUSTED, base="/pilothouse") as served:
        record, secret = await served.platform.pairs.create("p", SCOPES, account="local")
        key = (record.id, secret.secret_access_key)
        for path, method, good in (("/api/sessions/a%20b", "GET", 404), ("/api/me", "GET", 200), ("/ws", "WS", 101)):
            for presigned in (None, 60):
                url = f"https://pilot.example/pilothouse{path}"
                made = signed("GET", url, key=key, now=time.time(), presigned=presigned)
                given = {n.lower().replace("-", "_"): v for n, v in made.headers if n.lower() != "host"} | FORGED
                query = f"?{made.query}" if made.query else ""
                for prefix in ("/pilothouse", ""):
                    assert await code(served, prefix + path + query, method, **given) == good, (prefix, path, presigned)
                elsewhere = {**given, "x_forwarded_host": "xn--bcher-kva.example"}
                assert await code(served, path + query, method, **elsewhere) == 401, "signed for another name"
                cut = signed("GET", f"https://pilot.example{path}", key=key, now=time.time(), presigned=presigned)
                given = {n.lower().replace("-", "_"): v for n, v in cut.headers if n.lower() != "host"} | FORGED
                query = f"?{cut.query}" if cut.query else ""
                assert await code(served, path + query, method, **given) == 401, "signed for another path"


@pytest.mark.parametrize("hot", [True, False])
async def test_a_client_behind_a_proxy_is_who_audit_gate_and_sign_ins_know(hot: bool) -> None:
    """By one address, which is written in one way; wrong credentials of one client are not another's."""
    async with proxied(hot=hot, trusted=TRUSTED) as served:
        audit, url = served.platform.kit.audit, served.url
        mapped = {**CLIENT, "x-forwarded-for": "10.9.8.7, ::ffff:203.0.113.9"}
        async with httpx.AsyncClient(base_url=url, headers=mapped) as http:
            assert (await http.post("/api/keys", json={}, headers={"x-api-key": await served.key()})).status_code == 201
            ticket, _ = await served.identity.ticket()
            cookie = (await http.post("/api/signin", json={"ticket": ticket})).cookies[COOKIE]
            seen = await http.get("/api/signins", headers={"cookie": f"{COOKIE}={cookie}"})
            assert [one["address"] for one in seen.json()["items"]] == ["203.0.113.9"]
            answers = [
                (await http.get("/api/me", headers={"x-api-key": f"wrong {n}"})).status_code
                for n in range(WRONG.burst + 1)
            ]
            assert answers == [401] * WRONG.burst + [429]
        other = {"x_forwarded_for": "203.0.113.10", "x_api_key": "wrong too"}
        assert await code(served, "/ws", "WS", **other) == 401
        assert await code(served, "/ws", "WS", **{**other, "x_forwarded_for": "203.0.113.9"}) == 429
        records = [json.loads(line) for line in await audit.after("default", 0, 100)]
        assert {(r["action"], r["address"]) for r in records if r["address"]} == {
            ("key.create", "203.0.113.9"), ("signin", "203.0.113.9"),
            ("credential.refuse", "203.0.113.9"), ("credential.refuse", "203.0.113.10"),
        }  # fmt: skip


async def test_a_provider_and_a_share_link_lead_back_below_the_path() -> None:
    house = FakeIssuer()
    front = Front(trusted=TRUSTED, base="/pilothouse")
    async with serving(houses=[house], clock=Still(NOW), front=front, trust=Trust(NAMED)) as served:
        root = f"http://127.0.0.1:{served.port}"
        for prefix in ("/pilothouse", ""):
            async with httpx.AsyncClient(base_url=root + prefix, headers=CLIENT) as http:
                begun = await http.get("/api/signin/oidc/example")
                query = dict(parse_qsl(urlsplit(begun.headers["location"]).query))
                back = "https://pilot.example/pilothouse/api/signin/oidc/example/callback"
                assert query["redirect_uri"] == back
                assert begun.headers["set-cookie"].startswith("__Host-")
                consent = house.consent(begun.headers["location"], groups=["boss"])
                secret = begun.headers["set-cookie"].partition(";")[0]
                path = "/api/signin/oidc/example/callback"
                answer = await http.get(
                    path, params={"code": consent, "state": query["state"]}, headers={"cookie": secret}
                )
                assert answer.status_code == 200, answer.text
                assert 'content="0;url=../../../../"' in answer.text, "from the address that the browser shows"
                mine = next(c for c in answer.headers.get_list("set-cookie") if c.startswith(f"{COOKIE}="))
                assert "; path=/pilothouse/" in mine.lower()
                assert "; secure" in mine.lower()
        session = await served.platform.sessions.create(owner="local", agent="echo")
        links = f"/pilothouse/api/sessions/{session.live.record.id}/links"
        async with httpx.AsyncClient(base_url=root, headers={**CLIENT, "x-api-key": await served.key()}) as http:
            url = (await http.post(links, json={"right": "watch"})).json()["url"]
            assert url.startswith("https://pilot.example/pilothouse/#link=")
            followed = await http.post("/api/signin", json={"link": url.partition("#link=")[2]})
            assert "; path=/pilothouse/" in followed.headers["set-cookie"].lower()
