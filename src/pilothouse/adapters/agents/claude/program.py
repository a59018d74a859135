"""Starting Claude Code: the SDK's options, and nothing of the workspace's own settings.

Neither the workspace nor what an earlier job left in the home is trusted to configure the program that works there: no
settings files, no MCP servers, no hooks (see `house`). The workspace's CLAUDE.md is given to the model, as text.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import deque
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pilothouse.adapters.agents.claude import house
from pilothouse.adapters.agents.claude.diffs import read_text

NOTES = "CLAUDE.md"
NOTES_MAX = 64 * 1024
"""Goes to the program as one argument, which Linux limits to 128 KiB."""
LINE_MAX = 64 * 1024 * 1024
"""One message of the program. The SDK's own limit, 1 MiB, ends the session at the first large file."""
HOOK_SECONDS = 60.0
"""The hook answers at once; its time-out blocks the call."""
START_SECONDS = 60.0
"""A cold start takes a second; on a busy machine several."""
STDERR_LINES = 200
STDERR_LINE_MAX = 2000


def version() -> str:
    """Of the bundled program, without importing the SDK or running anything."""
    spec = find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return "unknown"
    text = (Path(spec.origin).parent / "_cli_version.py").read_text()
    found = re.search(r'__cli_version__ = "([^"]{1,40})"', text)
    return found.group(1) if found else "unknown"


def notes(workspace: Path) -> str:
    """What the workspace's CLAUDE.md says, with where it is from; empty when there is none or it is too long."""
    text = read_text(workspace / NOTES, NOTES_MAX)
    if not text or not text.strip():
        return ""
    text = text.replace("\0", "")[:NOTES_MAX]
    while len(text.encode()) > NOTES_MAX:
        text = text[: len(text) * 9 // 10]
    return f"Notes of this project, from its {NOTES}:\n\n{text}"


def plans() -> Path:
    """Where the program keeps the plans it makes."""
    return house.directory() / "plans"


class Program:
    """One running process of Claude Code. Imports the SDK when it is made."""

    def __init__(
        self, *, workspace: Path, ask: Any, session: str, resume: bool, model: str, mode: str, env: dict[str, str]
    ) -> None:
        from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, HookMatcher

        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        append = notes(workspace)
        self._client = ClaudeSDKClient(
            ClaudeAgentOptions(
                cwd=workspace,
                env=env,
                model=model or None,
                session_id=None if resume else session,
                resume=session if resume else None,
                setting_sources=[],
                strict_mcp_config=True,
                system_prompt={"type": "preset", "preset": "claude_code", "append": append}
                if append
                else {"type": "preset", "preset": "claude_code"},
                permission_mode="plan" if mode == "plan" else "default",
                can_use_tool=ask,
                hooks={
                    "PreToolUse": [
                        HookMatcher(matcher="*", hooks=[_always_ask], timeout=HOOK_SECONDS, on_failure="block")
                    ]
                },
                include_partial_messages=True,
                forward_subagent_text=True,
                max_buffer_size=LINE_MAX,
                stderr=lambda line: self.stderr.append(line[:STDERR_LINE_MAX]),
            )
        )

    async def start(self) -> None:
        """Raises TimeoutError, OSError or an error of the SDK."""
        await asyncio.to_thread(house.clear)
        async with asyncio.timeout(START_SECONDS):
            await self._client.connect()

    def messages(self) -> AsyncIterator[Any]:
        """Everything it says, to be read for as long as it lives: unread messages keep its questions back, too."""
        return self._client.receive_messages()

    async def send(self, content: str | list[dict[str, Any]], id: str) -> None:
        """A message of the user."""

        async def one() -> AsyncIterator[dict[str, Any]]:
            yield {
                "type": "user",
                "message": {"role": "user", "content": content},
                "parent_tool_use_id": None,
                "uuid": id,
            }

        await self._client.query(one())

    async def interrupt(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await self._client.interrupt()

    async def set_mode(self, mode: str, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await self._client.set_permission_mode("plan" if mode == "plan" else "default")

    async def set_model(self, model: str, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await self._client.set_model(model)

    async def close(self) -> None:
        """Ends the process, whatever it is doing."""
        await self._client.disconnect()


async def _always_ask(input: Any, tool_id: str | None, context: Any) -> Any:
    """Without this, calls that the program holds to be harmless would run without a question."""
    return {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "ask",
            "permissionDecisionReason": "",
        }
    }


def new_session() -> str:
    return str(uuid.uuid4())
