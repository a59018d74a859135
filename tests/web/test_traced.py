"""`traceparent` at the doors: gone on with for whoever is known, and nothing for anybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from pilothouse.core.traceparent import parse
from pilothouse.engine.tallies import Tallies
from pilothouse.engine.traces import SpanList
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = f"00-{TRACE}-{SPAN}-01"
SPANS = SpanList()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with serving(spans=SPANS) as running:
        yield running


async def ask(
    served: Served, method: str, path: str, body: object = None, *, key: str = "", **headers: str
) -> httpx.Response:
    SPANS.spans.clear()
    credential = {"x-api-key": key or await served.key()}
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as http:
        return await http.request(method, path, json=body, headers=credential | headers)


async def trace_of(served: Served, job: str) -> str:
    found = await Tallies(served.platform.kit.store).job(job)
    assert found is not None
    return found.trace


@pytest.mark.parametrize("door", ["/api/sessions/{id}/jobs", "/trigger"])
async def test_a_job_is_below_the_request_that_asked_for_it(served: Served, door: str) -> None:
    session = (await ask(served, "POST", "/api/sessions", {"agent": "echo"})).json()["id"]
    answer = await ask(served, "POST", door.replace("{id}", session), {"prompt": "x"}, traceparent=CALLER)
    assert answer.status_code == 202, answer.text
    [span] = SPANS.spans
    assert (span.name, span.place.trace, span.parent, span.remote) == (f"POST {door}", TRACE, SPAN, True)
    assert span.attributes["http.response.status_code"] == 202
    assert await trace_of(served, answer.json().get("id") or answer.json()["jobId"]) == str(span.place)


async def test_a_request_without_a_trace_begins_one(served: Served) -> None:
    for headers in ({}, {"traceparent": CALLER + "0"}, {"traceparent": f"00-{'0' * 32}-{SPAN}-01"}):
        assert (await ask(served, "GET", "/api/sessions/none", **headers)).status_code == 404
        [span] = SPANS.spans
        assert (span.name, span.parent) == ("GET /api/sessions/{id}", "")
        assert parse([str(span.place)]) == span.place
        assert span.place.trace != TRACE


async def test_who_is_not_known_makes_no_span(served: Served) -> None:
    nobody = "ph_000000000000_" + "x" * 43
    assert (await ask(served, "GET", "/api/me", key=nobody, traceparent=CALLER)).status_code == 401
    assert SPANS.spans == []
    assert (await ask(served, "GET", "/healthz", traceparent=CALLER)).status_code == 200
    assert (await ask(served, "GET", "/metrics", key=await served.key("metrics"))).status_code == 200
    assert SPANS.spans == []


async def test_what_the_caller_does_not_sample_makes_none_either(served: Served) -> None:
    assert (await ask(served, "GET", "/api/me", traceparent=CALLER[:-1] + "0")).status_code == 200
    assert SPANS.spans == []
