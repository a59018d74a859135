"""A job with a tool, an approval and a `kill -9` in the middle, with the real programs: its trace at a collector, its
usage to the token, its metrics."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pilothouse.core.traceparent import trace_id
from tests.collector import Collector, about
from tests.journeys.program import begin, decide, installation

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROMPT = "demo: say Alpha\ndemo: bash touch traced-file\ndemo: say Omega"


def names(collector: Collector) -> set[str]:
    """What the caller's trace has so far. A model's call is told without its model."""
    mine = [s.name for s in list(collector.spans) if s.trace_id.hex() == CALLER.split("-")[1]]
    return {"chat" if name.startswith("chat ") else name for name in mine}


async def test_one_trace_of_a_job_over_a_restart_and_usage_to_the_token() -> None:
    with Collector() as collector:
        env: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with installation(**env) as (program, _):
            _, first, before = await begin(program, "demo: say Before")
            await before.until("complete")
            await before.close()
            async with program.http() as http:
                session = (await http.post("/api/sessions", json={"agent": "claude"})).json()["id"]
                asked = await http.post(
                    f"/api/sessions/{session}/jobs", json={"prompt": PROMPT, "permissionMode": "manual"},
                    headers={"traceparent": CALLER},
                )  # fmt: skip
                job = asked.json()["id"]
            while True:
                async with program.http() as http:
                    waiting = (await http.get("/api/approvals")).json()["items"]
                if waiting:
                    break
                await asyncio.sleep(0.1)
            # What has not been sent is lost with the server: the request, and the call that the tool was asked for in.
            wanted = {"POST /api/sessions/{id}/jobs", "chat"}
            async with asyncio.timeout(60):
                while not wanted <= names(collector):
                    await asyncio.sleep(0.05)
            await program.kill()
            await program.start()
            async with program.http() as http:
                await decide(program, waiting[0])
                while (await http.get(f"/api/jobs/{job}")).json()["state"] != "done":
                    await asyncio.sleep(0.1)
                events = (await http.get(f"/api/jobs/{job}/events")).json()["events"]
                usage = [e for e in events if e["type"] == "usage"][-1]
                found = (await http.get("/api/usage?by=session,model")).json()
                key = (await http.post("/api/keys", json={"name": "prometheus", "scopes": ["metrics"]})).json()["key"]
                text = (await http.get("/metrics", headers={"x-api-key": key})).text
            status, table, _ = await program.cli("usage", "--by", "session,key", "--json")
            await program.kill(15)  # what waits is sent
    mine = next(row for row in found["items"] if row["session"] == session)
    for name in ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens"):
        assert mine[name] == usage[name], name
    assert usage["measured"] == "proxy"
    assert mine["agentTokens"] == 0
    assert status == 0
    assert {row["keyName"] for row in json.loads(table)["items"]} == {"this machine"}

    spans = [s for s in collector.spans if s.trace_id.hex() == CALLER.split("-")[1]]
    by = {s.span_id.hex(): s for s in spans}
    assert len(by) == len(spans)
    [whole] = [s for s in spans if s.name.startswith("invoke_agent")]
    assert whole.name == "invoke_agent claude"
    request = by[whole.parent_span_id.hex()]
    assert (request.name, request.parent_span_id.hex()) == ("POST /api/sessions/{id}/jobs", CALLER.split("-")[2])
    [tool] = [s for s in spans if s.name == "execute_tool Bash"]
    [asked_span] = [s for s in spans if s.name == "approve"]
    assert tool.parent_span_id == whole.span_id
    assert asked_span.parent_span_id == tool.span_id
    calls = [s for s in spans if s.name.startswith("chat ")]
    assert {s.parent_span_id for s in calls} == {whole.span_id}
    assert sum(about(s)["gen_ai.usage.output_tokens"] for s in calls) == usage["outputTokens"]
    assert all(whole.start_time_unix_nano <= s.start_time_unix_nano <= s.end_time_unix_nano for s in calls)
    assert trace_id(first["id"]) not in {s.trace_id.hex() for s in spans}
    sent = b"".join(collector.bodies)
    for secret in (b"Omega", b"traced-file", key.encode(), program.env["ANTHROPIC_API_KEY"].encode()):
        assert secret not in sent

    counted = {s.name: s for family in text_string_to_metric_families(text) for s in family.samples if s.value}
    assert counted["pilothouse_model_calls_total"].labels["status"] == "200"
    assert counted["pilothouse_jobs_ended_total"].labels["outcome"] == "succeeded"
    assert counted["pilothouse_store_commit_duration_seconds_count"].value > 3
    assert counted["process_open_fds"].value > 3
