"""An agent's program that does not behave: every prompt ends, in words, and nothing is left running."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import claude_agent_sdk
import pytest

from pilothouse.adapters.agents.claude import make, program
from pilothouse.core import events as ev
from pilothouse.core import link

PATIENCE = 60.0
LINES = 300_000
GROWTH_MAX = 200 * 1024
"""kB that a flood of a hundred times as much may cost the runner."""

HEAD = """\
import json, os, sys, time
def say(thing): sys.stdout.write((thing if isinstance(thing, str) else json.dumps(thing)) + "\\n"); sys.stdout.flush()
def take():
    line = sys.stdin.readline()
    if not line: sys.exit(0)
    return json.loads(line)
def hello():
    while True:
        asked = take()
        if asked["type"] == "control_request":
            say({"type": "control_response", "response": {"subtype": "success",
                 "request_id": asked["request_id"], "response": {"commands": [], "hook_on_failure_supported": True}}})
        else:
            return asked
def text(what): say({"type": "assistant", "session_id": "s", "parent_tool_use_id": None, "message":
    {"id": "m", "role": "assistant", "model": "x", "content": [{"type": "text", "text": what}]}})
def done(what): say({"type": "result", "subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False,
    "num_turns": 1, "session_id": "s", "result": what, "total_cost_usd": 0.0, "usage": {}})
"""


@contextlib.asynccontextmanager
async def turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> AsyncIterator[tuple[list[link.RunnerEvent], link.TurnEnded]]:
    """What a prompt gives with a program of this body, and how its turn ended."""
    cli = tmp_path / "claude"
    cli.write_text(f"#!{sys.executable}\n{HEAD}{body}\n")
    cli.chmod(0o755)
    options = functools.partial(claude_agent_sdk.ClaudeAgentOptions, cli_path=cli)
    monkeypatch.setattr(claude_agent_sdk, "ClaudeAgentOptions", options)
    if "hello()" not in body:  # every other is waited for
        monkeypatch.setattr(program, "START_SECONDS", 2.0)
    monkeypatch.setenv("CLAUDE_AGENT_SDK_SKIP_VERSION_CHECK", "1")
    said: list[link.RunnerEvent] = []
    over: asyncio.Future[link.TurnEnded] = asyncio.get_running_loop().create_future()

    async def emit(event: link.RunnerEvent) -> None:
        said.append(event)
        if isinstance(event, link.TurnEnded):
            over.set_result(event)

    agent = make(emit, tmp_path, "")
    try:
        await agent.prompt(link.Prompt(id="j", message="go"))
        async with asyncio.timeout(PATIENCE):
            ended = await over
        yield said, ended
    finally:
        await agent.close()
        gc.collect()  # the SDK leaves its transport to be found, which needs the loop that it was made in
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while running(cli):
            await asyncio.sleep(0.05)


def running(cli: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str(cli).encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(entry.name)
    return found


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        ("sys.exit(3)", "agent_start_failed", "did not start"),
        ("time.sleep(1000)", "agent_start_failed", "did not start in time"),
        ("os.close(1); take(); take()", "agent_start_failed", "did not start"),
        ("say('not json'); say('{broken'); say('[1]'); sys.exit(0)", "agent_start_failed", "did not start"),
        ("hello(); sys.exit(0)", "agent_died", "process ended"),
        ("hello(); sys.exit(7)", "agent_died", "process ended"),
        ("hello(); os.kill(os.getpid(), 9)", "agent_died", "process ended"),
        ("hello(); say('{\"type\": '); take()", "agent_died", "process ended"),
        (
            "hello(); sys.stdout.buffer.write(b'{\\xff\\xfe}\\n'); sys.stdout.flush(); take()",
            "agent_died",
            "",
        ),
        ("hello(); say({'type': 'assistant'}); take()", "agent_died", "process ended"),
    ],
)
async def test_a_program_that_fails_ends_the_turn_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str, words: str
) -> None:
    async with turn(tmp_path, monkeypatch, body) as (said, ended):
        assert (ended.outcome, ended.reason) == ("failed", reason), ended
        assert words in ended.result
        assert ended.result
        assert [e.code for e in said if isinstance(e, ev.ErrorEvent)] == [reason]


async def test_lines_that_are_nothing_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = (
        "hello(); say('warning: something'); say('\\x1b[31mred'); say('[1, 2]'); say({'type': 'unheard_of', 'x': 1}); "
        "text('fine'); done('fine'); take()"
    )
    async with turn(tmp_path, monkeypatch, body) as (_, ended):
        assert (ended.outcome, ended.result) == ("succeeded", "fine")


async def test_a_flood_is_taken_in_without_filling_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = (
        f"hello()\nfor n in range({LINES}): sys.stdout.write('noise ' * 20 + '\\n')\n"
        "sys.stderr.write('complaint\\n' * 300000)\ntext('still here'); done('still here'); take()"
    )
    async with turn(tmp_path, monkeypatch, body) as (_, ended):
        assert (ended.outcome, ended.result) == ("succeeded", "still here")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_MAX


async def test_a_line_without_an_end_ends_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "LINE_MAX", 1024 * 1024)
    body = "hello()\nwhile True: sys.stdout.write('{\"x\": \"' + 'x' * 65536); sys.stdout.flush()"
    async with turn(tmp_path, monkeypatch, body) as (_, ended):
        assert (ended.outcome, ended.reason) == ("failed", "agent_died")
        assert "buffer size" in ended.result
