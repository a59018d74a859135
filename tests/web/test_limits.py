"""A session's limits over the API: asked for within what is configured, shown, named when they are wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pilothouse.core.limits import GIB, KINDS, Caps
from tests.web.serving import Served, serving
from tests.web.world import World


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


def client(served: Served, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.url, headers={"x-api-key": key}, timeout=10)


async def test_asked_for_and_shown(served: Served) -> None:
    async with client(served, await served.key("read", "run")) as http:
        made = await http.post("/api/sessions", json={"agent": "echo", "limits": {"memory": GIB, "cpu": 0.5}})
        assert made.status_code == 201, made.text
        assert made.json()["limits"] == {"memory": GIB, "cpu": 0.5}
        shown = (await http.get(f"/api/sessions/{made.json()['id']}/limits")).json()
        assert [row["name"] for row in shown["limits"]] == list(KINDS)
        assert all(set(row) == {"name", "unit", "max", "used", "enforced", "hits"} for row in shown["limits"])
        assert shown["limits"][0] == {
            "name": "memory", "unit": "bytes", "max": GIB, "used": None, "enforced": "none", "hits": 0
        }  # fmt: skip
        plain = await http.post("/api/sessions", json={"agent": "echo"})
        assert "limits" not in plain.json()
    async with client(served, await served.key("run")) as http:
        assert (await http.get(f"/api/sessions/{made.json()['id']}/limits")).status_code == 403


async def test_more_than_configured_takes_an_administrator(served: Served) -> None:
    asked = {"agent": "echo", "limits": {"memory": 2 * Caps().memory}}
    async with client(served, await served.key("read", "run")) as http:
        refused = await http.post("/api/sessions", json=asked)
        assert refused.status_code == 400
        assert "limits.memory: from 64 MiB to 4 GiB, not 8 GiB; more takes a server's admin" in refused.json()["detail"]
    async with client(served, await served.key("run", "admin")) as http:
        assert (await http.post("/api/sessions", json=asked)).status_code == 201


BEYOND: dict[str, dict[str, Any]] = {
    "source.dir": {"source": {"dir": "/srv/project"}},
    "limits.memory": {"limits": {"memory": 2 * Caps().memory}},
    "limits.cpu": {"limits": {"cpu": 2 * Caps().cpu}},
    "egress.policy": {"egress": {"policy": "full"}},
}


async def test_c13_beyond_what_is_configured_goes_nobody_but_an_admin_of_the_server(served: Served) -> None:
    """The host's directories, memory and network are not another organisation's, whose admin is one there alone."""
    world = World(served)
    await world.settle()
    keys = {
        "another organisation's admin": (world.keys["red", "admin"], "egress.policy"),
        "one without the scope": (
            await served.key("read", "run", "approve"),
            "This credential lacks the scope 'admin'",
        ),
    }
    for who, (key, egress) in keys.items():
        async with client(served, key) as http:
            for named, beyond in BEYOND.items():
                refused = await http.post("/api/sessions", json={"agent": "echo", **beyond})
                expected = 400 if named.startswith("limits") else 403
                assert refused.status_code == expected, (who, named, refused.text)
                said = egress if named == "egress.policy" else named
                assert refused.json()["detail"].startswith(said), (who, refused.text)
            own = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
            refused = await http.put(f"/api/sessions/{own}/egress", json={"policy": "full"})
            assert refused.status_code == 403, who
            assert refused.json()["detail"].startswith(egress), who
            assert [s["id"] for s in (await http.get("/api/sessions")).json()["items"]] == [own], who
    async with client(served, await served.key()) as http:
        for named, beyond in BEYOND.items():
            made = await http.post("/api/sessions", json={"agent": "echo", **beyond})
            assert made.status_code == 201, (named, made.text)
            allowed = await http.put(f"/api/sessions/{made.json()['id']}/egress", json={"policy": "full"})
            assert allowed.status_code == 200, allowed.text


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"luck": 1}, "limits.luck"),
        ({"memory": "2G"}, "limits"),
        ({"memory": -1}, "limits.memory"),
        ({"cpu": 1e999}, "limits"),
        ({"processes": 16.5}, "limits.processes"),
        ([], "limits"),
        ({"disk": None}, "limits"),
    ],
)
async def test_bad_values_are_named_and_make_nothing(served: Served, limits: Any, word: str) -> None:
    async with client(served, await served.key()) as http:
        body = json.dumps({"agent": "echo", "limits": limits}).encode()
        answer = await http.post("/api/sessions", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert word in answer.json()["detail"] or "JSON" in answer.json()["detail"]
        assert (await http.get("/api/sessions")).json()["items"] == []
