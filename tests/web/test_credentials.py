"""What a request brings to be known by: each kind counts, none is passed over for another, two are refused."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

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


async def test_each_counts_alone_and_a_cookie_beside_it_is_not_looked_at(served: Served) -> None:
    found = await brought(served)
    wrong, right = ("cookie", f"{COOKIE}=wrong"), ("cookie", f"{COOKIE}={await served.cookie()}")
    assert await status(served, found.request, right) == 200
    for kind, header in found.good.items():
        assert await status(served, found.request, header) == 200, kind
        assert await status(served, found.request, header, wrong) == 200, kind
    for kind, header in found.bad.items():
        assert await status(served, found.request, header, right) == 401, f"{kind} passed over for the cookie"


async def test_two_in_one_request_are_refused(served: Served) -> None:
    """Also the same one twice: whoever stands between may have looked at the other."""
    found = await brought(served)
    for one, other in itertools.product(found.good.values(), found.good.values()):
        assert await status(served, found.request, one, other) == 401, (one, other)
