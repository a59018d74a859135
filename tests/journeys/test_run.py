"""`pilothouse run` as a user types it, with the demo model that ships, in a real sandbox."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio

from pilothouse.core import events as ev
from tests.journeys.program import CANARY, Demo, Program, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = jsonschema.Draft202012Validator(ev.schema())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shipped() -> AsyncIterator[tuple[Program, Demo]]:
    async with installation(demo=False) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ours() -> AsyncIterator[tuple[Program, Demo]]:
    """With a demo model that the test can ask."""
    async with installation() as made:
        yield made


def command(pid: int) -> bytes:
    """Its command line; nothing when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def events_of(output: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in output.splitlines()]
    for event in events:
        SCHEMA.validate(event)
    return events


async def test_the_real_agent_writes_and_runs_a_program_in_a_sandbox(
    shipped: tuple[Program, Demo], tmp_path: Path
) -> None:
    program, _ = shipped
    status, out, err = await program.cli(
        "run", "--json", "--permission-mode", "acceptAll", "--files", str(tmp_path / "files"),
        "Write a small program and run it",
    )  # fmt: skip
    assert status == 0, err
    events = events_of(out)
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    session = next(e for e in events if e["type"] == "session")
    assert session["isolation"] == "namespaces", "this run must be isolated by bubblewrap"
    started = next(e for e in events if e["type"] == "job_started")
    assert re.fullmatch(r"\d+\.\d+\.\d+", started["agentVersion"])
    assert started["demo"] is True
    assert [e["type"] for e in events].count("complete") == 1
    assert events[-1]["type"] == "complete"
    assert events[-1]["outcome"] == "succeeded"
    assert any("25 primes below 100" in e["result"] for e in events if e["type"] == "tool_result")
    assert "sieve" in (tmp_path / "files" / "primes.py").read_text()
    usage = [e for e in events if e["type"] == "usage"]
    assert usage
    assert usage[-1]["measured"] == "proxy"


async def test_without_a_server_run_starts_one_and_ends_it() -> None:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        home = Path(name)
        home.chmod(0o755)
        program = Program(home)
        try:
            status, out, err = await program.cli("run", "--json", "--agent", "echo", "hello")
            assert status == 0, err
            assert events_of(out)[-1]["type"] == "complete"
            async with asyncio.timeout(20):
                while any(b"serve" in command(pid) for pid in program.processes()):
                    await asyncio.sleep(0.1)
        finally:
            await program.stop()


async def test_exit_statuses_tell_what_happened(shipped: tuple[Program, Demo], monkeypatch: pytest.MonkeyPatch) -> None:
    program, _ = shipped
    assert (await program.cli("run", "--agent", "nope", "x"))[0] in {1, 2}
    assert (await program.cli("run", ""))[0] == 2
    assert (await program.cli("run", "--no-such-option", "x"))[0] == 2
    assert (await program.cli("run", "--max-cost", "abc", "x"))[0] == 2
    monkeypatch.setitem(program.env, "PILOTHOUSE_URL", "http://127.0.0.1:9")
    status, _, err = await program.cli("run", "x")
    assert status == 3
    assert "127.0.0.1:9" in err


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("file:///etc", "https"),
        ("ext::sh -c touch% /tmp/pwned", "url"),
        ("--upload-pack=touch /tmp/pwned", ""),
        ("https://user:secret@127.0.0.1/x.git", "credential"),
        ("/etc", ""),
        ("/", ""),
    ],
)
async def test_bad_sources_are_refused_and_say_why(shipped: tuple[Program, Demo], source: str, named: str) -> None:
    program, _ = shipped
    status, out, err = await program.cli("run", "--json", "--agent", "echo", f"--source={source}", "hello")
    assert status in {1, 2}
    said = (out + err).lower()
    assert named in said
    assert "secret" not in said
    assert not Path("/tmp/pwned").exists()


async def test_c27_the_session_sees_no_secret_and_no_host(tmp_path: Path) -> None:
    async with installation() as (program, _):
        command = (
            "env; cat /proc/*/environ 2>/dev/null | tr '\\\\0' '\\\\n'; id -u; ls /root /home; cat /etc/shadow; "
            "cat /proc/net/dev; ls /run"
        )
        status, out, err = await program.cli(
            "run", "--json", "--permission-mode", "acceptAll", f"demo: bash {command}\ndemo: say over"
        )
        assert status == 0, err
        result = next(e for e in events_of(out) if e["type"] == "tool_result")["result"]
        assert "1000" in result
        assert "ANTHROPIC_BASE_URL=http://127.0.0.1:3129" in result
        assert "eth0" not in result
        assert str(program.home) not in result
        every = out + err + program.log.read_text()
        session = events_of(out)[0]["sessionId"]
        for top in (program.home / "ph", program.own(session)):
            for path in top.rglob("*"):
                if path.is_file() and path.name != "disk.img":  # ten empty gigabytes, whose files are read below `own`
                    every += path.read_bytes().decode("latin-1")
        assert CANARY not in every, "the model key is nowhere but in the proxy's memory"


@pytest.mark.parametrize(
    ("script", "outcome", "words"),
    [
        ("demo: error 401", "failed", ""),
        ("demo: error 529 2\ndemo: say back again", "succeeded", "back again"),
        ("demo: error 429 1 1\ndemo: say back again", "succeeded", "back again"),
        ("demo: text 30\ndemo: cut 1\ndemo: say whole again", "succeeded", "whole again"),
    ],
)
async def test_a_model_in_trouble_is_told_or_overcome(
    ours: tuple[Program, Demo], script: str, outcome: str, words: str
) -> None:
    program, _ = ours
    status, out, err = await program.cli("run", "--json", "--timeout", "60", script)
    events = events_of(out)
    assert events[-1]["type"] == "complete", err
    assert events[-1]["outcome"] == outcome
    assert words in events[-1]["result"]
    assert status == (0 if outcome == "succeeded" else 1)
    text = ""
    message = ""
    for event in events:
        if event["type"] == "stream_reset" and event["messageId"] == message:
            text = ""
        elif event["type"] == "stream":
            text = text + event["content"] if event["messageId"] == message else event["content"]
            message = event["messageId"]
    assert words in text


async def test_a_model_that_never_answers_is_ended_by_the_jobs_time(ours: tuple[Program, Demo]) -> None:
    program, model = ours
    status, out, _ = await program.cli("run", "--json", "--timeout", "5", "demo: hang")
    last = events_of(out)[-1]
    assert (status, last["type"], last["outcome"], last["reason"]) == (1, "complete", "failed", "timeout")
    async with asyncio.timeout(30):
        while (await model.calls())["open"]:
            await asyncio.sleep(0.1)


async def test_a_budget_ends_the_job_and_says_so(ours: tuple[Program, Demo]) -> None:
    program, _ = ours
    script = "\n".join(["demo: text 400", *[f"demo: write f{i}.txt {'x' * 2000}" for i in range(8)]])
    status, out, err = await program.cli(
        "run", "--json", "--max-cost", "0.25", "--permission-mode", "acceptAll", script
    )
    last = events_of(out)[-1]
    assert (status, last["type"], last["outcome"]) == (1, "complete", "budget_exceeded"), (last, err)
    assert last["totalCost"] > 0
