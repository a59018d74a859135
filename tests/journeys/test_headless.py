"""Calls of programs in the real one: the README's lines and the examples as they are written, and a server that is
killed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import sys
import textwrap
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pilothouse.client import Client
from pilothouse.core.api.kept import Invocation
from tests.journeys.program import Program, installation

ROOT = Path(__file__).parents[2]
EXAMPLES, README = ROOT / "examples", (ROOT / "README.md").read_text()
pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE_S = 90
SAYS = "demo: say done as told"
WAITS = "run sh -c 'until [ -e go ]; do sleep 0.1; done'"
"""Until the test has killed the server, and says so."""
PROGRAM = "primes.py"
"""What the demo model writes when it is asked for a small program."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    """With the demo model that ships, as `make run` without a key."""
    async with installation(demo=False, PILOTHOUSE_SPARES="1") as (made, _):
        made.port = made.url.rpartition(":")[2]
        tools = made.home / "tools"
        tools.mkdir()
        (tools / "pilothouse").write_text(f'#!/bin/sh\nexec {sys.executable} -m pilothouse "$@"\n')
        (tools / "pilothouse").chmod(0o755)
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def http(program: Program) -> AsyncIterator[httpx.AsyncClient]:
    async with program.http() as client:
        client.timeout = httpx.Timeout(PATIENCE_S)
        yield client


async def bash(program: Program, script: str, *arguments: str, **env: str) -> tuple[int, str, str]:
    """As somebody types it who has `pilothouse` at hand."""
    path = f"{program.home / 'tools'}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", script, "bash", *arguments,
        env=program.env | {"PATH": path} | env, cwd=program.home, stdout=-1, stderr=-1,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def blocks(title: str) -> list[str]:
    section = README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def answers(out: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Documents, and events of streams, that curl has printed one after another."""
    documents = []
    decode = json.JSONDecoder().raw_decode
    events = [json.loads(line[6:]) for line in out.splitlines() if line.startswith("data: ")]
    rest = re.sub(r"(?m)^(?:data: .*|id: .*|retry: .*)?\n", "", out).replace(": pilothouse\n", "")
    while rest := rest.strip():
        found, end = decode(rest)
        documents.append(found)
        rest = rest[end:]
    return documents, events


async def done(http: httpx.AsyncClient, job: str) -> tuple[set[str], dict[str, Any]]:
    """The files of its workspace and its last event, when nothing was refused."""
    events = (await http.get(f"/api/jobs/{job}/events")).json()["events"]
    said = [e["result"] for e in events if e["type"] == "tool_result"]
    assert said
    assert "denied" not in str(said).lower()
    session = (await http.get(f"/api/jobs/{job}")).json()["sessionId"]
    files = (await http.get(f"/api/sessions/{session}/files")).json()["entries"]
    assert events[-1]["type"] == "complete"
    return {f["name"] for f in files if f["kind"] == "file"}, events[-1]


async def test_the_lines_of_the_readme_for_programs(program: Program, http: httpx.AsyncClient) -> None:
    key = next(line for line in blocks("From curl")[0].splitlines() if line.startswith("KEY="))
    [lines] = blocks("Call it from a script or CI")
    status, out, err = await bash(program, f"{key}\nURL={program.url}\n{lines}")
    assert (status, err) == (0, "")
    [invoked, triggered, job], events = answers(out)
    assert invoked["output"]["success"] is True
    made, last = await done(http, invoked["output"]["metadata"]["job_id"])
    assert (made, "It ran and printed" in last["result"]) == ({PROGRAM}, True), last
    made, last = await done(http, events[-1]["jobId"])
    assert (made >= {"median.py", "test_median.py"}, "The test passes now" in last["result"]) == (True, True), last
    assert re.fullmatch(r"nightly-\d{4}-\d\d-\d\d", triggered["jobId"])
    assert triggered["jobId"] == job["name"]
    assert triggered["sessionId"] == job["sessionId"]
    first = await http.post("/invoke", json={"prompt": "never", "job_id": triggered["jobId"]})
    assert first.json()["output"]["session_id"] == triggered["sessionId"], "it waits for the one that was started"
    brought = await program.cli("files", triggered["jobId"], PROGRAM, "--out", str(program.home / "brought"))
    assert (brought[0], (program.home / "brought" / PROGRAM).read_text()[:9]) == (0, '"""Print '), brought
    made, last = await done(http, triggered["jobId"])
    assert (made, "It ran and printed" in last["result"]) == ({PROGRAM}, True), last


async def test_the_lines_of_the_readme_for_curl(program: Program, http: httpx.AsyncClient) -> None:
    lines, answer = blocks("From curl")[:2]
    assert "URL=http://127.0.0.1:8420\n" in lines
    status, out, err = await bash(program, lines.replace("URL=http://127.0.0.1:8420\n", f"URL={program.url}\n"))
    assert (status, err) == (0, "")
    [], events = answers(out)
    assert (await done(http, events[-1]["jobId"]))[0] == {PROGRAM}
    assert PROGRAM in zipfile.ZipFile(program.home / "workspace.zip").namelist()
    session = (await http.post("/api/sessions", json={})).json()["id"]
    job = (await http.post(f"/api/sessions/{session}/jobs", json={"prompt": "Write a small program and run it"})).json()
    while not (waiting := (await http.get("/api/approvals?state=pending")).json()["items"]):
        await asyncio.sleep(0.05)
    alone = (await http.post("/invoke", json={"prompt": "Write a small program and run it"})).json()["output"]
    log = (await http.get(f"/api/jobs/{alone['metadata']['job_id']}/events")).json()["events"]
    refused = [e["result"] for e in log if e["type"] == "tool_result" and e["isError"]]
    assert (alone["success"], len(refused)) == (True, 1), "nobody there may approve, and it says so"
    assert "approve" in refused[0]
    script = f"KEY={program.key}\nURL={program.url}\n{answer.replace('=ID', '=' + waiting[0]['approvalId'])}"
    status, out, err = await bash(program, script)
    assert (status, err) == (0, "")
    [listed, approved], _ = answers(out)
    assert [one["approvalId"] for one in listed["items"]] == [approved["approvalId"]]
    while (await http.get(f"/api/jobs/{job['id']}")).json()["state"] != "done":
        await asyncio.sleep(0.05)
    made, last = await done(http, job["id"])
    assert (made, "It ran and printed" in last["result"]) == ({PROGRAM}, True), last


async def test_the_lines_of_the_readme_for_clients_that_sign(program: Program) -> None:
    [*_, lines] = blocks("From curl")
    assert "--aws-sigv4" in lines
    status, out, err = await bash(program, f"URL={program.url}\n{lines}")
    assert status == 0, err
    who = json.loads(out)["principal"]
    assert (who["kind"], who["name"], who["id"][:3]) == ("key", "ci", "PHK")


async def test_the_examples(program: Program, http: httpx.AsyncClient) -> None:
    made = await http.post("/api/keys", json={"name": "ci", "scopes": ["run"]})
    env = {"PILOTHOUSE_URL": program.url, "PILOTHOUSE_API_KEY": made.json()["key"], "IDEMPOTENCY_KEY": "one"}
    script = str(EXAMPLES / "invoke.sh")
    for _ in range(2):
        assert await bash(program, script + ' "$@"', SAYS, **env) == (0, "done as told\n", "")
    said = await bash(program, f'{sys.executable} {EXAMPLES / "invoke.py"} "$@"', SAYS, **env)
    assert said == (0, "done as told\n", "")
    failed = await bash(program, script + ' "$@"', "another", **env)
    assert failed == (1, "", "idempotency-key: it was used for another request.\n")
    failed = await bash(program, f'{sys.executable} {EXAMPLES / "invoke.py"} ""', **env)
    assert failed == (1, "", "400: prompt: it is empty\n")


async def test_the_workflow_of_the_example(program: Program) -> None:
    """Its steps, as a runner would do them."""
    workflow = (EXAMPLES / "github-actions.yml").read_text()
    steps = re.findall(r"^        run: \|\n((?: {10}.*\n)+)", workflow, re.MULTILINE)
    assert len(steps) == workflow.count("- name: ") == 2
    summary = program.home / "summary.md"
    env = {
        "PILOTHOUSE_URL": program.url, "PILOTHOUSE_API_KEY": program.key, "IDEMPOTENCY_KEY": "me/project-1-1",
        "PROMPT": SAYS, "GITHUB_STEP_SUMMARY": str(summary),
    }  # fmt: skip
    for step in steps:
        status, _, err = await bash(program, textwrap.dedent(step), **env)
        assert (status, err) == (0, ""), step
    assert summary.read_text() == "done as told\n"


async def test_fifty_jobs_at_once_lose_and_mix_nothing(http: httpx.AsyncClient) -> None:
    """In five sessions, each job leaves a file, has it among its own, and says its number."""
    made = [(await http.post("/api/sessions", json={"agent": "echo"})).json()["id"] for _ in range(5)]

    async def one(n: int) -> dict[str, Any]:
        prompt = f"write f{n}.txt {n}\nrun cat f{n}.txt\nsay number {n}"
        given = {"prompt": prompt, "session_id": made[n % 5], "permission_mode": "acceptAll", "job_id": f"n-{n}"}
        answer = await http.post("/invoke", json=given)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["output"]
        return found

    outputs = await asyncio.gather(*(one(n) for n in range(50)))
    assert [(o["result"], o["session_id"], o["metadata"]["job_id"]) for o in outputs] == [
        (f"number {n}", made[n % 5], f"n-{n}") for n in range(50)
    ]
    kept = [[(f["file_name"], f["sha256"]) for f in o["metadata"]["uploaded_files"]] for o in outputs]
    assert kept == [[(f"f{n}.txt", hashlib.sha256(str(n).encode()).hexdigest())] for n in range(50)]
    for place, session in enumerate(made):
        files = (await http.get(f"/api/sessions/{session}/files")).json()["entries"]
        assert {f["name"] for f in files if f["kind"] == "file"} == {f"f{n}.txt" for n in range(place, 50, 5)}
    for n in (0, 27, 49):
        events = (await http.get(f"/api/jobs/n-{n}/events")).json()["events"]
        assert [e["result"] for e in events if e["type"] == "tool_result"] == [f"wrote f{n}.txt", str(n)]


async def test_what_was_promised_holds_when_the_server_is_killed(program: Program) -> None:
    async with program.http() as http:
        allowed = {"agent": "echo", "permission_mode": "acceptAll"}
        waiting = {"prompt": f"say before\n{WAITS}\nsay after", **allowed}
        streamed = {"prompt": f"{WAITS}\nsay streamed", "job_id": "cut", **allowed}
        call = asyncio.create_task(http.post("/invoke", json=waiting, headers={"idempotency-key": "killed"}))
        stream = asyncio.create_task(http.post("/invoke", json=streamed, headers={"accept": "text/event-stream"}))
        while len(found := (await http.get("/api/sessions?limit=2")).json()["items"]) < 2 or not all(
            s["running"] for s in found
        ):
            await asyncio.sleep(0.05)
        triggered = await asyncio.gather(
            *(
                http.post("/trigger", json={"prompt": f"say t{n}", "agent": "echo", "job_id": f"t-{n}"})
                for n in range(5)
            )
        )
        assert {a.status_code for a in triggered} == {202}
        await program.kill()  # not one of them has ended, or been answered
        for cut in (call, stream):
            with contextlib.suppress(httpx.HTTPError):
                assert b"complete" not in (await cut).content
    await program.start()
    for session in found:
        (program.own(session["id"]) / "workspace" / "go").touch()
    async with program.http() as http:
        again = (await http.post("/invoke", json=waiting, headers={"idempotency-key": "killed"})).json()["output"]
        assert (again["success"], again["result"]) == (True, "beforeafter")
        assert (await http.post("/invoke", json=streamed)).json()["output"]["result"] == "streamed"
        for n, answer in enumerate(triggered):
            given = {"prompt": "never", "job_id": f"t-{n}"}
            output = (await http.post("/invoke", json=given)).json()["output"]
            assert (output["result"], output["session_id"]) == (f"t{n}", answer.json()["sessionId"])


async def test_a_call_of_the_client_outlives_the_server(program: Program) -> None:
    async with Client(program.url, program.key) as client:
        before = {one.id for one in await client.sessions.all()}
        wish = Invocation(prompt=f"{WAITS}\nsay held", agent="echo", permission_mode="acceptAll", job_id="held")
        call = asyncio.create_task(client.calls.invoke(wish))
        while not (mine := [one for one in await client.sessions.all() if one.running and one.id not in before]):
            await asyncio.sleep(0.05)
        await program.kill()
        assert not call.done()
        await program.start()
        (program.own(mine[0].id) / "workspace" / "go").touch()
        output = await asyncio.wait_for(call, PATIENCE_S)
        assert (output.result, output.metadata.job_id) == ("held", "held")
        assert len(await client.sessions.all()) == len(before) + 1
