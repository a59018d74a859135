"""A job that takes too much: it is told what happened, and goes on."""

from __future__ import annotations

import os

import pytest

from tests.journeys.program import Viewer, installation

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has control groups of version 1")


async def test_a_job_that_takes_too_much_memory_is_told_and_goes_on() -> None:
    async with installation() as (program, _):
        async with program.http() as http:
            made = await http.post("/api/sessions", json={"limits": {"memory": 1 << 30, "disk": 1 << 30}})
            assert made.status_code == 201, made.text
            session = made.json()["id"]
            hog = "demo: bash python3 -c 'x = b\"a\" * 3_000_000_000'; echo status $?\ndemo: say went on"
            body = {"prompt": hog, "permissionMode": "acceptAll"}
            job = (await http.post(f"/api/sessions/{session}/jobs", json=body)).json()["id"]
            viewer = Viewer(program, session)
            done = await viewer.until("complete")
            assert (done["outcome"], done["result"]) == ("succeeded", "went on")
            told = await viewer.until("error")
            assert told["code"] == "limit_memory"
            assert told["message"] == "The session reached its memory limit of 1 GiB: the kernel ended a process in it."
            assert told.get("jobId") in (job, None)
            assert "status 137" in str(viewer.of("tool_result"))
            rows = {row["name"]: row for row in (await http.get(f"/api/sessions/{session}/limits")).json()["limits"]}
            assert (rows["memory"]["enforced"], rows["memory"]["max"]) == ("cgroup", 1 << 30)
            assert rows["memory"]["hits"] >= 1
            assert 0 < rows["disk"]["used"] < rows["disk"]["max"] == 1 << 30
            counted = [row["used"] for name, row in rows.items() if name != "cpu"]
            assert {type(used) for used in counted} == {int}  # bytes and counts, as JSON has whole numbers
            await viewer.close()
        status, out, err = await program.cli("doctor")
        assert status == 0, err
        assert "limit" not in out
