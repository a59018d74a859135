"""Claude Code itself, as a person runs it in a shell: typed in at one size, come back to at others, through both doors.
What it has drawn is read off the screen of a terminal emulator that nobody here wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pyte
import pytest
import pytest_asyncio

from tests.journeys.program import Program, installation
from tests.journeys.rough import STDOUT, Rough
from tests.journeys.test_shells import session, shell

pytestmark = pytest.mark.asyncio(loop_scope="module")
KNOWN = {
    "hasCompletedOnboarding": True,  # it asks Anthropic's servers otherwise, which this session may not reach
    "theme": "dark",
    "customApiKeyResponses": {"approved": ["session-placeholder"]},
    "projects": {"/workspace": {"hasTrustDialogAccepted": True}},
}
CLAUDE = (
    f"mkdir -p $CLAUDE_CONFIG_DIR; echo '{json.dumps(KNOWN)}' >$CLAUDE_CONFIG_DIR/.claude.json; "
    "exec /opt/pilothouse/site*/claude_agent_sdk/_bundled/claude"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    async with installation() as (made, _):
        yield made


class Screen:
    """A viewer with a terminal of some size."""

    def __init__(self, line: Rough, width: int, height: int) -> None:
        self.line = line
        self.width = width
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.ByteStream(self.screen)

    async def until(self, *rows: str) -> None:
        """Until these are rows of the screen, in this order, whatever stands between them."""
        try:
            async with asyncio.timeout(45):
                while not self.shows(rows):
                    for frame in await self.line.frames():
                        if frame[0] == STDOUT:
                            self.stream.feed(frame[1:])
        except TimeoutError:
            raise AssertionError(f"{rows} not in\n" + "\n".join(self.screen.display)) from None

    def shows(self, rows: tuple[str, ...]) -> bool:
        left = iter(row.replace("\xa0", " ").rstrip() for row in self.screen.display)
        return all(any(row == shown for shown in left) for row in rows)

    @property
    def rule(self) -> str:
        """Above and below its prompt, from edge to edge."""
        return "─" * self.width


async def test_claude_itself_redraws_for_whoever_comes_back_at_another_size(program: Program) -> None:
    sid = await session(program)
    id = await shell(program, sid, "bash", "-c", CLAUDE)
    path = f"/api/sessions/{sid}/shells/{id}"

    first = Screen(await Rough.open(program, f"{path}?width=80&height=24"), 80, 24)
    rule = first.rule
    await first.until(rule, "❯", rule)
    await first.line.type(b"hello there")
    await first.until(rule, "❯ hello there", rule)
    first.line.cut()

    wide = Screen(await Rough.open(program, f"{path}?width=117&height=33"), 117, 33)
    rule = wide.rule
    await wide.until(rule, "❯ hello there", rule)
    await wide.line.type(b" again")
    await wide.until(rule, "❯ hello there again", rule)
    wide.line.cut()

    header = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
    plain = Screen(
        await Rough.open(program, f"/runtimes/my_agent-AbCdEf1234/ws/shells?shellId={id}&{header}={sid}"), 61, 19
    )
    rule = plain.rule
    await plain.line.send(b'\x04{"width":61,"height":19}')
    await plain.until(rule, "❯ hello there again", rule)
    await plain.line.type(b"\r")  # and it still works: the demo model answers
    await plain.until("❯ hello there again", "❯", rule)
    plain.line.cut()
