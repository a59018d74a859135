"""`/metrics`: who may read it, and that it says what has happened, as Prometheus's own parser reads it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import websockets
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pilothouse.adapters.vitals import vitals
from pilothouse.core.exposition import MEDIA_TYPE
from pilothouse.engine import gauges
from pilothouse.engine.tap import Tap
from pilothouse.web.routes import TABLE
from tests.web.serving import Served, serving
from tests.web.world import World

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.asyncio(loop_scope="module")
ID = "01a1fca5-a696-7da8-a592-78b242187567"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        platform = running.platform
        tap = Tap(platform.metrics, platform.kit.clock, platform.sessions.agent_of)
        platform.kit.log.on_rows.append(tap.rows)
        platform.metrics.sources.append(lambda: gauges.of_process(vitals()))
        yield running


async def scraped(served: Served) -> dict[str, Metric]:
    async with httpx.AsyncClient(base_url=served.url) as http:
        answer = await http.get("/metrics", headers={"authorization": f"Bearer {await served.key('metrics')}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == MEDIA_TYPE
    names = [line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(found: dict[str, Metric], name: str, **labels: str) -> float:
    family = found[name.removesuffix("_total").removesuffix("_count")]
    return next((s.value for s in family.samples if s.name == name and s.labels == labels), 0)


async def test_a_key_with_this_scope_reads_it_and_nothing_else(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key("metrics")}) as http:
        assert (await http.get("/metrics")).status_code == 200
        for entry in TABLE:
            if entry.policy == "public" or entry.path == "/metrics" or entry.method == "WS":
                continue
            path = entry.path.replace("{id}", ID) + (
                "?channel=default/room" if entry.path.startswith("/event/") else ""
            )
            assert (
                await http.request(entry.method, path, json={"channel": "/default/x", "events": ["1"]})
            ).status_code == 403
    for path in ("/ws", f"/api/sessions/{ID}/shells/x"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(
                served.socket_url.removesuffix("/ws") + path,
                additional_headers={"x-api-key": await served.key("metrics")},
            )
        assert refused.value.response.status_code == 403


async def test_nobody_else_reads_it(served: Served) -> None:
    await served.identity.members.make("green", None)
    await served.identity.members.put("green", "boss", role="admin")
    _, foreign = await served.identity.keys.create("x", ("metrics", "admin"), account="boss", organisation="green")
    await served.identity.members.put("default", "vera", role="approver")
    _, lesser = await served.identity.keys.create("x", ("read", "metrics"), account="vera")
    async with httpx.AsyncClient(base_url=served.url) as http:
        assert (await http.get("/metrics")).status_code == 401
        assert (
            await http.get("/metrics", headers={"cookie": f"pilothouse={await served.cookie()}"})
        ).status_code == 401
        for key in (await served.key("read", "run", "approve", "admin"), foreign, lesser):
            assert (await http.get("/metrics", headers={"x-api-key": key})).status_code == 403


async def test_requests_are_counted_by_route_and_never_by_what_is_in_them(served: Served) -> None:
    before = await scraped(served)
    secret = "s3cr3t-in-a-path"
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as http:
        for path in (f"/api/sessions/{ID}", f"/api/jobs/{ID}", f"/{secret}", f"/api/sessions/{secret}?a={secret}"):
            assert (await http.get(path)).status_code == 404
        await http.patch("/healthz")
        await http.get("/")
        for _ in range(3):
            await http.post("/event", json={"channel": "/default/x", "events": ["1", "2"]})
        await http.post("/event", json={"channel": f"/{secret}/x", "events": ["1"]})
        assert (await http.get("/healthz")).status_code == 200
    after = await scraped(served)

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    requests = "pilothouse_http_requests_total"
    assert more(requests, method="GET", route="/api/sessions/{id}", status="404") == 2
    assert more(requests, method="GET", route="/api/jobs/{id}", status="404") == 1
    assert more(requests, method="unknown", route="unknown", status="404") == 1
    assert more(requests, method="unknown", route="unknown", status="405") == 1
    assert more(requests, method="GET", route="/", status="200") == 1
    assert more(requests, method="POST", route="/event", status="200") == 3
    assert more("pilothouse_http_request_duration_seconds_count", method="GET", route="/api/jobs/{id}") == 1
    assert more("pilothouse_refused_total", reason="not_found") == 3
    assert more("pilothouse_events_published_total") == 6
    async with httpx.AsyncClient(base_url=served.url) as http:
        text = (await http.get("/metrics", headers={"x-api-key": await served.key("metrics")})).text
    assert secret not in text.lower()
    assert ID not in text


async def test_what_there_is_at_this_moment(served: Served) -> None:
    world = World(served)
    await world.settle()
    before = await scraped(served)
    await world.furnish()
    key = world.by_key("red", "owner")
    sid = world.session.live.record.id
    url = served.socket_url
    async with (
        websockets.connect(url, additional_headers=key) as chat,
        websockets.connect(
            f"{url.removesuffix('/ws')}/event/realtime",
            additional_headers=key,
            subprotocols=["aws-appsync-event-ws"],  # type: ignore[list-item]
        ),
    ):
        await chat.send(json.dumps({"type": "subscribe", "chatId": sid}))
        while json.loads(await chat.recv())["type"] != "caught_up":
            pass
        found = await scraped(served)
    for name, labels, n in (
        ("pilothouse_sessions", {"state": "active"}, 1),
        ("pilothouse_jobs", {"state": "running"}, 1),
        ("pilothouse_jobs_started_total", {"agent": "echo", "demo": "true"}, 1),
        ("pilothouse_approvals_waiting", {}, 1),
        ("pilothouse_approvals_decided_total", {"outcome": "approved"}, 1),
        ("pilothouse_questions_waiting", {}, 1),
        ("pilothouse_shells", {}, 1),
        ("pilothouse_session_viewers", {}, 1),
        ("pilothouse_websocket_connections", {"door": "chat"}, 1),
        ("pilothouse_websocket_connections", {"door": "events"}, 1),
        ("pilothouse_websocket_upgrades_total", {"door": "chat", "status": "101"}, 1),
    ):
        assert value(found, name, **labels) - value(before, name, **labels) == n, name
    assert value(found, "process_resident_memory_bytes") > 1e6
    assert value(found, "process_open_fds") > 3
    assert value(found, "process_cpu_seconds_total") > 0
    assert value(found, "pilothouse_ready") == 1
    while served.hub.doors()["chat"]:
        await asyncio.sleep(0.01)
    assert value(await scraped(served), "pilothouse_websocket_connections", door="chat") == 0


async def test_deliveries_are_counted(served: Served) -> None:
    before = await scraped(served)
    channels = served.platform.channels
    assert channels is not None
    key = {"x-api-key": await served.key()}
    async with websockets.connect(
        f"{served.socket_url.removesuffix('/ws')}/event/realtime",
        additional_headers=key,
        subprotocols=["aws-appsync-event-ws"],  # type: ignore[list-item]
    ) as socket:
        await socket.send('{"type":"connection_init"}')
        authorization = {"x-api-key": key["x-api-key"], "host": f"127.0.0.1:{served.port}"}
        for id in ("a", "b"):
            await socket.send(json.dumps(
                {"type": "subscribe", "id": id, "channel": "/default/told", "authorization": authorization}
            ))  # fmt: skip
        while channels.subscriptions < 2:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=served.url, headers=key) as http:
            await http.post("/event", json={"channel": "/default/told", "events": ["1", "2", "3"]})
        while json.loads(await socket.recv())["type"] != "data":
            pass
        found = await scraped(served)
    assert value(found, "pilothouse_event_subscriptions") == 2
    assert value(found, "pilothouse_events_delivered_total") - value(before, "pilothouse_events_delivered_total") == 6


async def test_what_is_told_is_what_the_docs_say_and_what_the_examples_ask_for(served: Served) -> None:
    there = set(await scraped(served))
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w, ]*) ?\|", page, re.MULTILINE))
    assert {name.removesuffix("_total") for name in rows} == there
    async with httpx.AsyncClient(base_url=served.url) as http:
        text = (await http.get("/metrics", headers={"x-api-key": await served.key("metrics")})).text
    for family in text_string_to_metric_families(text):
        documented = next(labels for name, labels in rows.items() if name.removesuffix("_total") == family.name)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == {w for w in re.split(r"[, ]+", documented) if w}, sample.name
    for name in ("grafana.json", "alerts.yml"):
        example = (ROOT / "examples" / name).read_text()
        asked = set(re.findall(r"\b((?:pilothouse|process)_[a-z_]+)\b", example))
        assert len(asked) > 5
        assert {re.sub(r"_(total|bucket|sum|count)$", "", one) for one in asked} <= there
        for metric, labels in re.findall(r"\b(pilothouse_[a-z_]+?)(?:_bucket)?\{([^}]*)\}", example):
            assert set(re.findall(r"(\w+)[=!]", labels)) <= set(re.split(r"[, ]+", rows[metric]))


async def test_the_dashboard_is_whole() -> None:
    board = json.loads((ROOT / "examples" / "grafana.json").read_text())
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(places) == len(set(places)) == len({panel["id"] for panel in board["panels"]})
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
