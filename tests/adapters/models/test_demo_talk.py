"""The demo model with the real agent where a person answers: questions, plans, words typed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultMessage,
)

from pilothouse.adapters.models.demo import application
from tests.adapters.models.serving import serving

Asked = list[tuple[str, dict[str, Any]]]
Answer = Callable[[str, dict[str, Any]], Awaitable[PermissionResultAllow | PermissionResultDeny]]


@asynccontextmanager
async def talking(
    home: Path, answer: Answer, mode: Literal["default", "plan"] = "default"
) -> AsyncIterator[tuple[ClaudeSDKClient, Asked, str]]:
    asked: Asked = []

    async def may(tool: str, given: dict[str, Any], _: object) -> PermissionResultAllow | PermissionResultDeny:
        asked.append((tool, given))
        return await answer(tool, given)

    (work := home / "work").mkdir()
    async with serving(application(pace=0, control=True)) as url:
        env = {
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / ".claude"),
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "session-placeholder",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        options = ClaudeAgentOptions(
            cwd=work, env=env, model="demo", setting_sources=[], permission_mode=mode, can_use_tool=may
        )
        async with ClaudeSDKClient(options) as client:
            yield client, asked, url


async def yes(tool: str, given: dict[str, Any]) -> PermissionResultAllow | PermissionResultDeny:
    return PermissionResultAllow()


async def told(client: ClaudeSDKClient) -> str:
    async for message in client.receive_response():
        if isinstance(message, ResultMessage):
            return message.result or ""
    raise AssertionError("no result")


async def test_it_asks_and_acts_on_the_answer(tmp_path: Path) -> None:
    async def shell(tool: str, given: dict[str, Any]) -> PermissionResultAllow | PermissionResultDeny:
        if tool != "AskUserQuestion":
            return PermissionResultAllow()
        return PermissionResultAllow(updated_input={**given, "answers": {given["questions"][0]["question"]: "Shell"}})

    async with talking(tmp_path, shell) as (client, asked, _):
        await client.query("please ask me a question")
        assert "You chose the shell" in await told(client)
    assert [tool for tool, _ in asked] == ["AskUserQuestion", "Write", "Bash"]


@pytest.mark.parametrize("mode", ["default", "plan"])
async def test_a_plan_is_approved_and_carried_out(tmp_path: Path, mode: Literal["default", "plan"]) -> None:
    async with talking(tmp_path, yes, mode) as (client, asked, _):
        await client.query("make a plan")
        assert "25 primes below 100" in await told(client)
    (plan,) = [given for tool, given in asked if tool == "ExitPlanMode"]
    assert plan["plan"].startswith("# Plan: a table of prime numbers")
    tools = [tool for tool, _ in asked]
    assert tools.index("ExitPlanMode") < tools.index("Bash")


async def test_a_plan_that_is_not_approved_changes_nothing(tmp_path: Path) -> None:
    async def no(tool: str, given: dict[str, Any]) -> PermissionResultAllow | PermissionResultDeny:
        return PermissionResultDeny(message="not today") if tool == "ExitPlanMode" else PermissionResultAllow()

    async with talking(tmp_path, no, "plan") as (client, _, _):
        await client.query("make a plan")
        said = await told(client)
    assert "not approved" in said
    assert "not today" in said
    assert not list((tmp_path / "work").iterdir())


async def test_words_typed_meanwhile_are_taken_up_and_an_interrupt_ends_the_script(tmp_path: Path) -> None:
    running = asyncio.Event()

    async def note(tool: str, given: dict[str, Any]) -> PermissionResultAllow | PermissionResultDeny:
        running.set()
        return PermissionResultAllow()

    async with talking(tmp_path, note) as (client, _, _):
        wait = "python3 -c 'import pathlib, time\nwhile not pathlib.Path(\"go\").exists(): time.sleep(0.05)'"
        await client.query(f"```demo\nbash <<END\n{wait}\nEND\nsay went on\n```")
        await running.wait()
        await client.query("please hurry")
        await asyncio.sleep(2)  # the agent takes typed words in when it next looks, before the command ends
        (tmp_path / "work" / "go").touch()
        assert "went on" in await told(client)
        running.clear()
        await client.query("demo: bash python3 -c 'import time; time.sleep(60)'\ndemo: say never")
        await running.wait()
        await client.interrupt()
        assert "never" not in await told(client)
        await client.query("demo: say after it")
        assert await told(client) == "after it"
