"""An agent that runs a tool without a question is not used any further."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pilothouse.adapters.agents.claude import make, program
from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import Unavailable
from tests.adapters.agents.demo import TURN_SECONDS, model, script


async def test_c18_the_session_refuses_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_opinion(*_: object) -> dict[str, object]:
        return {}

    monkeypatch.setattr(program, "_always_ask", no_opinion)  # as if this version did not honour the hook
    workspace = tmp_path / "w"
    workspace.mkdir()
    said: list[link.RunnerEvent] = []
    over = asyncio.Event()

    async def emit(event: link.RunnerEvent) -> None:
        said.append(event)
        if isinstance(event, link.TurnEnded):
            over.set()

    async with model(tmp_path) as demo:
        for name, value in {"ANTHROPIC_BASE_URL": demo.url, "ANTHROPIC_API_KEY": "x", "HOME": str(tmp_path)}.items():
            monkeypatch.setitem(os.environ, name, value)
        agent = make(emit, workspace, "")
        try:
            await agent.prompt(link.Prompt(id="j", message=script("bash ls", "bash pwd")))
            async with asyncio.timeout(TURN_SECONDS):
                await over.wait()
            assert [event.code for event in said if isinstance(event, ev.ErrorEvent)] == ["unasked_tool"]
            ended = next(event for event in said if isinstance(event, link.TurnEnded))
            assert (ended.outcome, ended.reason) == ("failed", "unasked_tool")
            assert not [event for event in said if isinstance(event, ev.ToolUse)][1:]
            with pytest.raises(Unavailable):
                await agent.prompt(link.Prompt(id="k", message="go on"))
        finally:
            await agent.close()
