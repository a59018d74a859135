"""What a session reaches, over HTTP: who may widen it, what is refused by name, and the live stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from pilothouse.core import reach
from pilothouse.core.access import Scope
from pilothouse.core.contacts import Contact
from pilothouse.core.reach import Reach
from pilothouse.engine.contacts import NetworkIntake
from tests.web.serving import Served, serving

CONFIGURED = Reach("allow", reach.domains(["pypi.org", "*.crates.io"], "domains"), 120.0)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        kit = running.platform.kit
        object.__setattr__(kit, "limits", replace(kit.limits, egress=CONFIGURED, agent="echo"))
        yield running


async def client(served: Served, *scopes: Scope) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key(*scopes)}, timeout=10)


async def test_less_is_free_and_more_takes_a_scope(served: Served) -> None:
    async with await client(served, "read", "run") as run, await client(served, "read", "run", "approve") as approver:
        made = await run.post("/api/sessions", json={"egress": {"policy": "allow", "domains": ["pypi.org"]}})
        assert made.status_code == 201, made.text
        path = f"/api/sessions/{made.json()['id']}"
        assert (await run.get(f"{path}/network")).json() == {
            "policy": "allow", "domains": ["pypi.org"], "contacts": [],
        }  # fmt: skip
        for wish, scope in [({"policy": "full"}, "admin"), ({"domains": ["evil.test"]}, "approve")]:
            for answer in (
                await run.post("/api/sessions", json={"egress": wish}),
                await run.put(f"{path}/egress", json=wish),
            ):
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
                assert repr(scope) in answer.json()["detail"]
        changed = await approver.put(f"{path}/egress", json={"domains": ["Other.org.", "*.crates.io"]})
        assert (changed.status_code, changed.json()["domains"]) == (200, ["other.org", "*.crates.io"])
        assert (await approver.put(f"{path}/egress", json={"policy": "full"})).status_code == 403
        async with await client(served) as admin:
            assert (await admin.put(f"{path}/egress", json={"policy": "full"})).json()["policy"] == "full"
        assert (await run.put(f"{path}/egress", json={"policy": "off"})).json() == {
            "policy": "off", "domains": [], "contacts": [],
        }  # fmt: skip
        assert (await run.put(f"{path}/egress", json={})).json()["domains"] == ["pypi.org", "*.crates.io"]
        async with await client(served, "read") as reader:
            assert (await reader.put(f"{path}/egress", json={"policy": "off"})).status_code == 403


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"policy": "open"}, "egress.policy"),
        ({"policy": "allow", "domains": ["https://x.org"]}, "egress.domains"),
        ({"policy": "allow", "domains": ["*"]}, "egress.domains"),
        ({"policy": "allow", "domains": ["a\r\nb.org"]}, "egress.domains"),
        ({"policy": "allow", "domains": ["x.org"] * 201}, "egress.domains"),
        ({"policy": "off", "domains": ["x.org"]}, "egress.domains"),
        ({"policy": 1}, "policy"),
        ({"polcy": "off"}, "polcy"),
    ],
)
async def test_what_is_wrong_is_named_and_changes_nothing(served: Served, wish: dict[str, Any], field: str) -> None:
    async with await client(served) as admin:
        session = (await admin.post("/api/sessions", json={})).json()["id"]
        before = len((await admin.get("/api/sessions")).json()["items"])
        for answer in (
            await admin.put(f"/api/sessions/{session}/egress", json=wish),
            await admin.post("/api/sessions", json={"egress": wish}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
            assert field in answer.json()["detail"]
        assert (await admin.get(f"/api/sessions/{session}/network")).json()["domains"] == ["pypi.org", "*.crates.io"]
        assert len((await admin.get("/api/sessions")).json()["items"]) == before
        unknown = "5d0c7a7e-0000-4000-8000-000000000000"
        for answer in (
            await admin.get(f"/api/sessions/{unknown}/network"),
            await admin.get(f"/api/sessions/{unknown}/network/stream"),
            await admin.put(f"/api/sessions/{unknown}/egress", json={}),
        ):
            assert answer.status_code == 404


async def test_the_stream_says_all_then_changes_and_ends_with_its_key(served: Served) -> None:
    platform = served.platform
    record, key = await served.identity.keys.create("x", ("read",))
    session = await platform.sessions.create(owner="local", agent="echo")
    sid = session.live.record.id
    intake = NetworkIntake(platform.kit, platform.sessions)

    async def met(n: int, host: str) -> None:
        await intake._take([Contact("p1", n, sid, host, 443, "not_listed", n, 1e9, 1e9 + n)])

    await met(1, "first.example")
    async with (
        httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}, timeout=10) as http,
        http.stream("GET", f"/api/sessions/{sid}/network/stream") as answer,
    ):
        lines = answer.aiter_lines()

        async def data() -> dict[str, Any]:
            async for line in lines:
                if line.startswith("data: "):
                    return dict(json.loads(line[6:]))
            raise AssertionError("it ended")

        first = await data()
        assert (first["policy"], [c["host"] for c in first["contacts"]]) == ("allow", ["first.example"])
        assert first["contacts"][0]["last"] == "2001-09-09T01:46:41.000Z"
        await met(2, "<img onerror=alert(1)>")  # as text, whatever it is
        second = await data()
        assert [(c["host"], c["verdict"], c["count"]) for c in second["contacts"]] == [
            ("<img onerror=alert(1)>", "refused", 2)
        ]
        await served.identity.keys.revoke(record.id)
        async with asyncio.timeout(20):
            async for _ in lines:
                pass
    assert not platform.streams._open
