"""`POST /invocations` on a real runner with its echo agent: nobody is there, the policy of the request decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.runner.client import Runner, running


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[Runner]:
    async with running(tmp_path) as started:
        yield started


async def post(runner: Runner, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with runner.http.post("http://runner/invocations", data=data, headers=headers) as response:
        found: dict[str, Any] = await response.json(content_type=None)
        return response.status, found


async def test_runs_to_the_end(runner: Runner) -> None:
    status, found = await post(runner, {"prompt": "say hello\nusage 10 20 0.5", "session_id": "s-1"})
    output = found["output"]
    assert status == 200 and output["success"] is True and output["result"] == "hello"
    assert output["session_id"] == "s-1" and output["metadata"]["total_cost_usd"] == 0.5
    assert (await runner.ping())["status"] == "Healthy"


async def test_the_input_may_be_wrapped(runner: Runner) -> None:
    status, found = await post(runner, {"input": {"prompt": "say hello"}})
    assert status == 200 and found["output"]["result"] == "hello"


@pytest.mark.parametrize(
    ("request_", "wrote"),
    [
        ({}, True),
        ({"permission_mode": "acceptAll"}, True),
        ({"permission_mode": "manual"}, False),
        ({"permission_mode": "plan"}, False),
        ({"permission_mode": "dontAsk"}, False),
        ({"allowed_tools": "Read, Bash(npm test:*)"}, False),
        ({"permission_mode": "acceptAll", "allowed_tools": "Read"}, False),
        ({"permission_mode": "acceptAll", "allowed_tools": "Write"}, True),
    ],
)
async def test_the_requests_policy_decides(
    runner: Runner, tmp_path: Path, request_: dict[str, str], wrote: bool
) -> None:
    status, found = await post(runner, {"prompt": "write a.txt hello\nsay went on", **request_})
    assert status == 200 and found["output"]["result"] == "went on"
    assert (tmp_path / "w" / "a.txt").exists() == wrote


async def test_outside_of_the_workspace_nobody_may_write(runner: Runner, tmp_path: Path) -> None:
    await post(runner, {"prompt": f"write {tmp_path}/w/../out.txt no\nwrite {tmp_path}/out.txt no"})
    assert not (tmp_path / "out.txt").exists()


async def test_as_events(runner: Runner) -> None:
    body = {"prompt": "say hello\nrun ls"}
    headers = {"Accept": "text/event-stream"}
    async with runner.http.post("http://runner/invocations", json=body, headers=headers) as response:
        assert response.content_type == "text/event-stream"
        lines = (await response.text()).splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events if event["type"] == "complete"] == ["complete"]
    assert events[-1]["outcome"] == "succeeded"
    refused = next(event for event in events if event["type"] == "tool_result")
    assert refused["isError"] and "nobody is there" in refused["result"]


async def test_a_failure_is_told_with_200(runner: Runner) -> None:
    status, found = await post(runner, {"prompt": "fail of course"})
    assert status == 200 and found["output"]["success"] is False and found["output"]["result"] == "of course"


async def test_time_and_money_run_out(runner: Runner) -> None:
    _, found = await post(runner, {"prompt": "sleep 60", "timeout_s": 0.2})
    assert found["output"]["success"] is False and "Timed out" in found["output"]["result"]
    _, found = await post(runner, {"prompt": "usage 1 1 3.0\nsleep 60", "max_cost_usd": 1})
    assert found["output"]["success"] is False and "budget" in found["output"]["result"]


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"prompt": "x", "colour": 1, "size": 2}, 400, "colour, size"),
        ({}, 400, "prompt"),
        ({"prompt": " "}, 400, "prompt"),
        ({"prompt": 7}, 400, "prompt"),
        ([], 400, ""),
        (b"\xff{", 400, ""),
        ({"prompt": "x", "permission_mode": "yolo"}, 400, "permission_mode"),
        ({"prompt": "x", "allowed_tools": "Read, $(rm)"}, 400, "allowed_tools"),
        ({"prompt": "x", "agent": "other"}, 400, "agent"),
        ({"prompt": "x", "timeout_s": -1}, 400, "timeout_s"),
        ({"prompt": "x" * (1024 * 1024 + 1)}, 413, "prompt"),
        ({"prompt": "x" * (3 * 1024 * 1024)}, 413, "body"),
    ],
)
async def test_bad_bodies_are_refused_by_name(runner: Runner, body: Any, status: int, named: str) -> None:
    found, problem = await post(runner, body)
    assert found == status and problem["status"] == status and named in problem["detail"]
    assert (await post(runner, {"prompt": "say fine"}))[0] == 200


async def test_one_at_a_time_and_none_beside_a_server(runner: Runner) -> None:
    first = asyncio.create_task(post(runner, {"prompt": "sleep 60", "timeout_s": 5}))
    async with asyncio.timeout(10):
        while (await runner.ping())["status"] == "Healthy":
            await asyncio.sleep(0.02)
    assert (await post(runner, {"prompt": "say x"}))[0] == 409
    await first
    async with runner.attach() as client:
        await client.run("j", "say x")
        assert (await post(runner, {"prompt": "say x"}))[0] == 409
