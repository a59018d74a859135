"""The examples for scripts where things go wrong: a server that is busy, and one that has dropped what was not read."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS = re.findall(r"^        run: \|\n((?: {10}.*\n)+)", (EXAMPLES / "github-actions.yml").read_text(), re.MULTILINE)
DAY_S = 86_400
PATIENCE_S = 30
DONE = {"output": {"success": True, "result": "done"}}


@dataclass
class Asked:
    key: str
    last: str
    stream: bool
    body: dict[str, Any]


class Busy:
    """Answers what it is told, one after another: after how many seconds to come back, events, or a document."""

    def __init__(self) -> None:
        self.answers: list[int | list[bytes] | dict[str, Any]] = []
        self.asked: list[Asked] = []
        self.url = ""

    async def invoked(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        key, last = headers.get("idempotency-key", ""), headers.get("last-event-id", "")
        self.asked.append(Asked(key, last, "event-stream" in headers.get("accept", ""), await request.json()))
        told = self.answers.pop(0)
        if isinstance(told, int):
            return web.json_response({"detail": "Too many."}, status=429, headers={"retry-after": str(told)})
        if isinstance(told, dict):
            return web.json_response(told)
        return web.Response(body=b": pilothouse\nretry: 1000\n\n" + b"".join(told), content_type="text/event-stream")


@pytest.fixture
async def busy() -> AsyncIterator[Busy]:
    made = Busy()
    app = web.Application()
    app.add_routes([web.post("/invoke", made.invoked)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def ended(busy: Busy, folder: Path, *command: str, **env: str) -> tuple[int, str, str]:
    """Exit status, output, errors."""
    known = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(folder),
        "PILOTHOUSE_URL": f"{busy.url}/",
        "PILOTHOUSE_API_KEY": "k",
    }
    child = await asyncio.create_subprocess_exec(
        *command, env=known | env, cwd=folder, stdout=-1, stderr=-1, start_new_session=True
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(), PATIENCE_S)
    except TimeoutError:
        os.killpg(child.pid, 9)
        await child.wait()
        raise
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def script(busy: Busy, folder: Path, **env: str) -> tuple[int, str, str]:
    found = await ended(busy, folder, str(EXAMPLES / "invoke.sh"), "hello", **env)
    assert list(folder.iterdir()) == [], "nothing stays behind"
    return found


async def program(busy: Busy, folder: Path) -> tuple[int, str, str]:
    return await ended(busy, folder, sys.executable, str(EXAMPLES / "invoke.py"), "hello")


@pytest.mark.parametrize(
    ("prompt", "env", "told"),
    [
        ("", {}, "Say what is to be done: invoke.sh PROMPT\n"),
        ("x", {"PILOTHOUSE_URL": ""}, "PILOTHOUSE_URL is not set.\n"),
        ("x", {"PILOTHOUSE_API_KEY": ""}, "PILOTHOUSE_API_KEY is not set.\n"),
    ],
)
async def test_what_is_missing_is_named(
    busy: Busy, tmp_path: Path, prompt: str, env: dict[str, str], told: str
) -> None:
    script = str(EXAMPLES / "invoke.sh")
    assert await ended(busy, tmp_path, script, *filter(None, [prompt]), **env) == (2, "", told)
    if prompt:
        program = str(EXAMPLES / "invoke.py")
        assert await ended(busy, tmp_path, sys.executable, program, prompt, **env) == (1, "", told)
    assert busy.asked == []


async def test_of_several_tries_the_script_prints_the_last(busy: Busy, tmp_path: Path) -> None:
    busy.answers = [1, DONE]
    assert await script(busy, tmp_path) == (0, "done\n", "")
    first, second = busy.asked
    assert first.key == second.key == str(uuid.UUID(first.key))
    assert first.body == second.body


async def test_the_script_takes_a_word_of_the_caller_s(busy: Busy, tmp_path: Path) -> None:
    busy.answers = [DONE, DONE]
    for _ in range(2):
        assert (await script(busy, tmp_path, IDEMPOTENCY_KEY="nightly"))[0] == 0
    assert [asked.key for asked in busy.asked] == ["nightly", "nightly"]


async def test_the_script_does_not_wait_for_tomorrow(busy: Busy, tmp_path: Path) -> None:
    busy.answers = [DAY_S]
    assert await script(busy, tmp_path) == (1, "", "Too many.\n")


async def test_the_workflow_does_not_wait_for_tomorrow(busy: Busy, tmp_path: Path) -> None:
    busy.answers = [DAY_S]
    step = textwrap.dedent(STEPS[0])
    said = await ended(busy, tmp_path, "bash", "-e", "-c", step, PROMPT="hello", IDEMPOTENCY_KEY="one")
    assert said == (1, "", "Too many.\n")


async def test_who_is_not_answered_is_told_how_to_ask_again(busy: Busy, tmp_path: Path) -> None:
    """Without a server at all; curl's own tries are left out, which take half a minute."""
    curl = tmp_path / "tools"
    curl.mkdir()
    (curl / "curl").write_text("#!/bin/sh\nexit 7\n")
    (curl / "curl").chmod(0o755)
    path = f"{curl}:{os.environ['PATH']}"
    status, out, err = await ended(busy, tmp_path, str(EXAMPLES / "invoke.sh"), "hello", PATH=path)
    assert (status, out) == (1, "")
    assert re.search(r"IDEMPOTENCY_KEY=[0-9a-f-]{36} asks about the same one", err)


def said(seq: int, type: str = "stream", **fields: Any) -> bytes:
    return f"id: {seq}\ndata: {json.dumps({'type': type, 'seq': seq} | fields)}\n\n".encode()


def gap(start: int, end: int) -> bytes:
    return b'event: gap\ndata: {"from":%d,"to":%d}\n\n' % (start, end)


COMPLETE = said(9, "complete", outcome="succeeded")


async def test_the_program_says_what_it_could_not_hear(busy: Busy, tmp_path: Path) -> None:
    """At the beginning and in the middle; what is gone is not asked for again."""
    busy.answers = [
        [gap(1, 2), said(3, content="three "), gap(4, 6)],
        {"output": {"success": False, "result": "never"}},
    ]
    status, out, err = await program(busy, tmp_path)
    assert (status, out) == (1, "three never\n"), "its end is among what is gone"
    assert err == "\n(events 1 to 2 are no longer kept)\n\n(events 4 to 6 are no longer kept)\n"
    busy.answers, busy.asked = [[said(3, content="a"), gap(4, 6), said(7, content="b")], [COMPLETE]], []
    status, out, _ = await program(busy, tmp_path)
    assert (status, out) == (0, "ab\n")
    assert [(asked.last, asked.stream) for asked in busy.asked] == [("", True), ("7", True)]
    assert len({asked.body["job_id"] for asked in busy.asked}) == 1


async def test_the_program_does_not_wait_for_tomorrow(busy: Busy, tmp_path: Path) -> None:
    busy.answers = [DAY_S]
    assert await program(busy, tmp_path) == (1, "", "429: Too many.\n")


def test_what_the_workflow_tells_the_agent_to_check_out_can_be_had(tmp_path: Path) -> None:
    """A pull request's merge is on no branch: a clone does not bring it, and its number alone reaches nothing."""

    def git(*words: str, at: Path = tmp_path) -> str:
        told = ["git", "-c", "user.name=n", "-c", "user.email=n@h", "-c", "init.defaultBranch=main", *words]
        return subprocess.run(told, cwd=at, check=True, capture_output=True, text=True).stdout.strip()

    workflow = (EXAMPLES / "github-actions.yml").read_text()
    prompt = " ".join(re.findall(r"PROMPT: >-\n((?: {8}.*\n)+)", workflow)[0].split())
    ref = re.sub(r"\$\{\{ [\w.]+\.number \}\}", "7", prompt)
    fetched = re.search(r"fetch (\S+),.* check out (\w+),.* against (\S+)\. ", ref)
    assert fetched is not None, prompt

    git("init", "-q", "theirs")
    theirs = tmp_path / "theirs"
    git("commit", "-q", "--allow-empty", "-m", "first", at=theirs)
    git("checkout", "-q", "-b", "change", at=theirs)
    (theirs / "new.txt").write_text("new")
    git("add", "new.txt", at=theirs)
    git("commit", "-q", "-m", "second", at=theirs)
    git("checkout", "-q", "main", at=theirs)
    git("merge", "-q", "--no-ff", "-m", "merge", "change", at=theirs)
    git("update-ref", "refs/pull/7/merge", "HEAD", at=theirs)
    git("reset", "-q", "--hard", "HEAD^1", at=theirs)
    git("branch", "-q", "-D", "change", at=theirs)

    git("clone", "-q", theirs.as_uri(), "ours")
    ours = tmp_path / "ours"
    git("fetch", "-q", "origin", fetched[1], at=ours)
    git("checkout", "-q", fetched[2], at=ours)
    assert git("diff", "--name-only", fetched[3], at=ours) == "new.txt"
