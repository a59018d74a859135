"""Parameters of an address that takes some: one that it does not know is named, and does nothing."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from pilothouse.core.access import SCOPES
from pilothouse.web import query
from pilothouse.web.routes import TABLE, Entry
from tests.core.signing import signed
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
ASKING = [
    entry for entry in TABLE
    if entry.handler is not None and entry.policy != "public" and query.KNOWN[entry.method, entry.path]
]  # fmt: skip
NOBODY = "01a1fca5-a696-7da8-a592-78b242187567"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-api-key": await served.key(*SCOPES)}
    async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20) as client:
        yield client


async def told(http: httpx.AsyncClient, method: str, address: str) -> tuple[int, str]:
    answer = await http.request(method, address)
    return answer.status_code, answer.json().get("detail", "")


@pytest.mark.parametrize("entry", ASKING, ids=lambda entry: f"{entry.method} {entry.path}")
async def test_one_that_is_not_known_is_named(http: httpx.AsyncClient, entry: Entry) -> None:
    address = re.sub(r"\{[^}]+\}", NOBODY, entry.path)
    status, said = await told(http, entry.method, f"{address}?sesionId=x")
    assert status == 400
    assert re.match(r"sesionId: no parameter of this; there are \w+", said)


async def test_what_there_is_is_said(http: httpx.AsyncClient) -> None:
    assert await told(http, "GET", "/api/approvals?session_id=x") == (
        400, "session_id: no parameter of this; there are cursor, limit, sessionId, state",
    )  # fmt: skip
    assert (await http.get("/api/me?x=1")).status_code == 200  # which takes none, and has nothing to misspell


@pytest.mark.parametrize("address", ["/api/sessions?limit=1&limit=2", "/api/approvals?limit=1&state=all&limit=1"])
async def test_one_that_is_given_twice_is_named(http: httpx.AsyncClient, address: str) -> None:
    assert await told(http, "GET", address) == (400, "limit: given twice")


@pytest.mark.parametrize("path", ["/api/sessions", "/api/keys", "/api/webhooks", "/api/members", "/api/notifications"])
async def test_every_list_takes_the_size_of_a_page(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(f"{path}?limit=200")).status_code == 200


async def test_what_is_refused_has_changed_nothing(http: httpx.AsyncClient) -> None:
    before = (await http.get("/api/keys")).json()
    told = await http.post("/api/keys?organization=red", json={})
    assert (told.status_code, told.json()["detail"]) == (
        400, "organization: no parameter of this; there are organisation",
    )  # fmt: skip
    assert (await http.get("/api/keys")).json() == before


async def test_a_stranger_is_told_nothing_of_it(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url) as http:
        assert (await http.get("/api/sessions?x=1")).status_code == 401
        assert (await http.get("/healthz?x=1")).status_code == 200


async def test_a_signature_in_the_address_is_none(served: Served) -> None:
    pair, secret = await served.platform.pairs.create("aws", ("read",), account="local")
    async with httpx.AsyncClient(base_url=served.url) as http:
        for more, status in (("limit=1", 200), ("size=1", 400)):
            request = signed(
                "GET", f"{served.url}/api/sessions?{more}", (), b"", key=(pair.id, secret.secret_access_key),
                now=time.time(), presigned=60,
            )  # fmt: skip
            assert (await http.get(f"{request.path}?{request.query}")).status_code == status
