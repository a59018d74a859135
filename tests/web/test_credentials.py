"""What a request brings to be known by: each kind counts, none is passed over for another, two are refused; and the
role that the account has now limits it, whatever it is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pilothouse.core import chat
from pilothouse.core.access import SCOPES
from pilothouse.web.guard import COOKIE
from tests.core.signing import Request, signed
from tests.issuer import FakeIssuer
from tests.security import raw
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
SHARED = pytest_asyncio.fixture(scope="module", loop_scope="module")
HOUSE = FakeIssuer()


@dataclass
class Brought:
    """Good headers of each kind, bad ones of each kind."""

    good: dict[str, tuple[str, str]]
    bad: dict[str, tuple[str, str]]
    request: Request


@SHARED
async def served() -> AsyncIterator[Served]:
    async with serving(houses=[HOUSE]) as running:
        yield running


async def brought(served: Served) -> Brought:
    now = int(time.time())
    record, secret = await served.platform.pairs.create("test", SCOPES, account="local")
    request = signed("GET", served.url + "/api/me", key=(record.id, secret.secret_access_key), now=now)
    signature, key = request.of("authorization"), await served.key()
    token = HOUSE.token(iat=now, exp=now + 600)
    good = {
        "key": ("x-api-key", key),
        "bearer key": ("authorization", f"Bearer {key}"),
        "token": ("authorization", f"Bearer {token}"),
        "signature": ("authorization", signature),
    }
    bad = {
        "key": ("x-api-key", "ph_" + "0" * 12 + "_" + "x" * 43),
        "empty key": ("x-api-key", ""),
        "bearer key": ("authorization", "Bearer nothing"),
        "token": ("authorization", f"Bearer {token[:-4]}AAAA"),
        "signature": ("authorization", signature[:-64] + "0" * 64),
    }
    return Brought(good, bad, request.header("authorization", None))


async def status(served: Served, request: Request, *headers: tuple[str, str]) -> int:
    every = (*request.headers, *headers, ("connection", "close"))
    lines = ["GET /api/me HTTP/1.1", *(f"{name}: {value}" for name, value in every), "", ""]
    return raw.status(await raw.exchange(served.url, "\r\n".join(lines).encode("latin-1")))


async def test_c11_each_counts_alone_and_a_cookie_beside_it_is_not_looked_at(served: Served) -> None:
    found = await brought(served)
    wrong, right = ("cookie", f"{COOKIE}=wrong"), ("cookie", f"{COOKIE}={await served.cookie()}")
    assert await status(served, found.request, right) == 200
    for kind, header in found.good.items():
        assert await status(served, found.request, header) == 200, kind
        assert await status(served, found.request, header, wrong) == 200, kind
    for kind, header in found.bad.items():
        assert await status(served, found.request, header, right) == 401, f"{kind} passed over for the cookie"


async def test_c11_two_in_one_request_are_refused(served: Served) -> None:
    """Also the same one twice: whoever stands between may have looked at the other."""
    found = await brought(served)
    for one, other in itertools.product(found.good.values(), found.good.values()):
        assert await status(served, found.request, one, other) == 401, (one, other)


# --- what the account may now ---


@dataclass
class Ann:
    """One account with a credential of every kind, each of which would allow everything."""

    served: Served
    subject: str
    account: str
    pair: tuple[str, str]
    headers: dict[str, tuple[tuple[str, str], ...]]

    def token(self, since: int = 0, *groups: str) -> tuple[tuple[str, str], ...]:
        now = int(time.time())
        text = HOUSE.token(sub=self.subject, iat=now + since, exp=now + 600, groups=list(groups))
        return (("authorization", f"Bearer {text}"),)

    def signed(self, path: str) -> tuple[tuple[str, str], ...]:
        return signed("GET", self.served.url + path, key=self.pair, now=int(time.time())).headers

    def every(self, path: str = "/api/me") -> dict[str, tuple[tuple[str, str], ...]]:
        host = ("host", f"127.0.0.1:{self.served.port}")
        return {k: (host, *h) for k, h in self.headers.items()} | {"key pair": self.signed(path)}

    async def me(self, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
        lines = ["GET /api/me HTTP/1.1", *(f"{n}: {v}" for n, v in headers), "connection: close", "", ""]
        answer = await raw.exchange(self.served.url, "\r\n".join(lines).encode("latin-1"))
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found.get("principal", {}) if raw.status(answer) == 200 else {"status": raw.status(answer)}

    async def scopes(self) -> dict[str, frozenset[str]]:
        return {kind: frozenset((await self.me(h)).get("scopes", ())) for kind, h in self.every().items()}


async def made(served: Served, subject: str) -> Ann:
    """Comes by a token of an admin's group: a member by that alone."""
    ann = Ann(served, subject, "", ("", ""), {})
    first = ann.token(-30, "boss")
    host = ("host", f"127.0.0.1:{served.port}")
    ann.account = (await ann.me((host, *first)))["account"]
    _, key = await served.identity.keys.create("ann", SCOPES, account=ann.account)
    record, secret = await served.platform.pairs.create("ann", SCOPES, account=ann.account)
    cookie = await served.identity.redeem((await served.identity.ticket(ann.account))[0])
    ann.pair = (record.id, secret.secret_access_key)
    ann.headers = {
        "token": first,
        "key": (("x-api-key", key),),
        "sign-in": (("cookie", f"{COOKIE}={cookie}"), ("origin", served.url)),
    }
    return ann


async def test_c11_the_role_of_the_account_limits_whatever_is_shown(served: Served) -> None:
    ann, members = await made(served, "eve"), served.identity.members
    assert set((await ann.scopes()).values()) == {frozenset(SCOPES)}
    await members.put("default", ann.account, role="viewer")
    assert set((await ann.scopes()).values()) == {frozenset({"read"})}, "the token of before brings nothing back"
    newer = ann.every()["token"][:1] + ann.token(5, "ops")
    assert (await ann.me(newer))["role"] == "operator", "what the issuer said later counts"
    assert set((await ann.scopes()).values()) == {frozenset({"read", "run"})}
    less = ann.every()["token"][:1] + ann.token(10)
    assert (await ann.me(less))["scopes"] == ["read"]
    assert set((await ann.scopes()).values()) == {frozenset({"read"})}, "also when it is less"


async def test_c12_whoever_is_disabled_or_removed_is_nobody_by_whatever_is_shown(served: Served) -> None:
    for how in ("disabled", "removed"):
        ann, members = await made(served, how), served.identity.members
        async with contextlib.AsyncExitStack() as stack:
            sockets = {}
            for kind, headers in ann.every("/ws").items():
                given = [(n, v) for n, v in headers if n.lower() != "host"]
                sockets[kind] = await stack.enter_async_context(
                    connect(served.socket_url, additional_headers=given, compression=None)
                )
            if how == "disabled":
                await members.put("default", ann.account, disabled=True)
                assert {(await ann.me(h)).get("status") for h in ann.every().values()} == {401}
                assert (await ann.me(ann.every()["token"][:1] + ann.token(5, "boss"))).get("status") == 401
            else:
                await members.remove("default", ann.account)
                assert {(await ann.me(h)).get("status") for k, h in ann.every().items() if k != "token"} == {401}
            for kind, socket in sockets.items():
                with pytest.raises(ConnectionClosed):
                    await asyncio.wait_for(socket.recv(), 5)
                assert socket.close_code == chat.CLOSE_SIGN_IN, (how, kind)
