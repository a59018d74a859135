"""The access log: one line for each request and upgrade, and no secret in any."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from pilothouse.core.forwarded import networks
from pilothouse.web.access import AccessLog, shown
from pilothouse.web.front import Front
from pilothouse.web.guard import COOKIE
from tests.security import raw
from tests.web.serving import Served, serving

ANY_ID = "01a1fca5-a696-7da8-a592-78b242187567"


@dataclass
class Lines:
    all: list[dict[str, Any]] = field(default_factory=list)
    full: bool = False

    def info(self, event: str, /, **fields: Any) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.all.append({"event": event, **fields})

    async def next(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines since the last time, when there are so many."""
        async with asyncio.timeout(15):
            while len(self.all) < count:
                await asyncio.sleep(0.005)
        found, self.all = self.all, []
        return found


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture(params=[True, False], ids=["hot", "plain"])
async def served(request: pytest.FixtureRequest, lines: Lines) -> AsyncIterator[Served]:
    front = Front(trusted=networks(("127.0.0.1",)))
    async with serving(hot=request.param, front=front, log=AccessLog(lines)) as running:
        yield running


async def test_c02_a_line_says_who_did_what_from_where(served: Served, lines: Lines) -> None:
    key = await served.key("read")
    who = f"key:{key.split('_')[1]}"
    async with httpx.AsyncClient(base_url=served.url) as http:
        body = await http.get("/api/me", headers={"x-api-key": key, "x-forwarded-for": "203.0.113.9"})
        await http.get("/api/me")
        await http.post("/api/sessions", headers={"x-api-key": key}, json={})
        await http.get(f"/api/sessions/{ANY_ID}", headers={"x-api-key": key})
        await http.get("/api/me", headers={"host": "evil.example"})
    me, nobody, refused, missing, foreign = await lines.next(5)
    assert me.pop("ms") >= 0
    assert me == {
        "event": "request", "principal": who, "method": "GET", "path": "/api/me", "status": 200,
        "bytes": len(body.content), "peer": "203.0.113.9",
    }  # fmt: skip
    assert (nobody["principal"], nobody["status"], nobody["peer"]) == ("-", 401, "127.0.0.1")
    assert (refused["principal"], refused["method"], refused["status"]) == (who, "POST", 403)
    assert (missing["path"], missing["status"]) == (f"/api/sessions/{ANY_ID}", 404)
    assert (foreign["principal"], foreign["status"]) == ("-", 421)


async def test_c02_an_upgrade_has_one_line_let_in_or_not(served: Served, lines: Lines) -> None:
    key = await served.key()
    url = f"http://127.0.0.1:{served.port}"
    async with connect(served.socket_url, additional_headers={"x-api-key": key}) as socket:
        (opened,) = await lines.next()
        await socket.send('{"type": "ping"}')
        await socket.recv()
    await raw.exchange(url, raw.upgrade("/ws", {"host": "127.0.0.1"}))
    await raw.exchange(url, raw.upgrade("/nowhere", {"host": "127.0.0.1"}))
    denied, missing = await lines.next(2)
    assert opened.pop("ms") >= 0
    assert opened == {
        "event": "upgrade", "principal": f"key:{key.split('_')[1]}", "method": "GET", "path": "/ws", "status": 101,
        "bytes": 0, "peer": "127.0.0.1",
    }  # fmt: skip
    assert (denied["event"], denied["principal"], denied["status"]) == ("upgrade", "-", 401)
    assert (missing["event"], missing["path"], missing["status"]) == ("upgrade", "/nowhere", 403)


async def test_c10_no_secret_gets_into_a_line(served: Served, lines: Lines) -> None:
    """Good ones and forged ones, wherever a caller may put them."""
    key, cookie = await served.key(), await served.cookie()
    ticket, _ = await served.identity.ticket()
    csrf = served.identity.csrf(cookie)
    jwt = ".".join("eyJhbGciOiJSUzI1NiJ9canary" + "x" * n for n in (5, 200, 80))
    secrets = [key, key[3:], key.split("_", 2)[2], cookie, ticket, csrf, jwt, "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA=="]
    base = f"http://127.0.0.1:{served.port}"
    sent = 0
    for secret in secrets:
        plain = {"host": "127.0.0.1"}
        for headers in (
            plain | {"x-api-key": secret}, plain | {"authorization": f"Bearer {secret}"},
            plain | {"cookie": f"{COOKIE}={secret}"}, plain | {"x-forwarded-for": secret, "user-agent": secret},
            plain | {"referer": f"http://x/?{secret}", "sec-websocket-protocol": f"header-{secret}"},
        ):  # fmt: skip
            for path in (
                "/api/me", f"/api/me?token={secret}", f"/{secret}", f"/api/keys/{secret}", f"/x/{secret}/y",
                f"/a;{secret}", f"/api/{secret}?{secret}#{secret}", f"/{secret[:30]}/{secret[30:]}",
            ):  # fmt: skip
                for request in (raw.plain("GET", path, headers), raw.upgrade(path, headers)):
                    if sent % 19 == 0:  # every sort somewhere: all of them would only take longer
                        await raw.exchange(base, request)
                    sent += 1
    said = "\n".join(str(line) for line in await lines.next(sent // 19))
    assert said.count("'status'") >= sent // 19
    for secret in secrets:
        for piece in (secret, secret[:30], secret[-30:]):
            assert piece not in said


def test_what_is_shown_of_a_path() -> None:
    for path in ("/", "/api/me", f"/api/sessions/{ANY_ID}/files", "/assets/index-DMPv-vED.js", "/pilothouse/healthz"):
        assert shown(path) == path
    digest = "0" * 64
    assert shown(f"/api/sessions/{ANY_ID}/texts/{digest}") == f"/api/sessions/{ANY_ID}/texts/…"
    for word in ("x" * 25, "a b", "a\nb", "a\x1b[31m", "a=b", "ü", "a;b", "%2e", '"', ANY_ID.upper(), ANY_ID + "x"):
        assert shown(f"/api/{word}") == "/api/…", word
    assert len(shown("/a" * 10_000)) <= 202


async def test_a_log_that_cannot_be_written_stops_nothing(served: Served, lines: Lines) -> None:
    lines.full = True
    headers = {"x-api-key": await served.key()}
    async with httpx.AsyncClient(base_url=served.url, headers=headers) as http:
        assert (await http.get("/api/me")).status_code == 200
    async with connect(served.socket_url, additional_headers=headers) as socket:
        await socket.send('{"type": "ping"}')
        await socket.recv()
