"""The real Claude Code under a real runner, with the demo model behind it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.runner.client import PATIENCE, Client, Runner, running


class Model:
    """The demo model as a process of its own, on a free port."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def calls(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/demo/calls") as response:
            found: dict[str, Any] = await response.json()
            return found

    async def release(self, name: str) -> None:
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/demo/release/{name}") as response:
            assert response.status < 300

    async def waits(self, name: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while name not in (await self.calls())["waiting"]:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def model(home: Path) -> AsyncIterator[Model]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pilothouse.adapters.models.demo", "--port", "0", "--pace", "0.001"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=(home / "model.log").open("ab"),
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = (await process.stdout.readline()).decode()
        yield Model(line.split()[-1])
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def claude(home: Path, url: str) -> AsyncIterator[Runner]:
    """A runner with the environment that a session has."""
    env = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "session-placeholder",
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "TMPDIR": str(home),
    }
    async with running(home, "claude", env=env) as runner:
        yield runner


def script(*lines: str) -> str:
    return "\n".join(f"demo: {line}" for line in lines)


TURN_SECONDS = 60.0
"""A turn that takes longer goes in circles."""


async def run(client: Client, id: str, message: str, behavior: str = "allow", **fields: Any) -> dict[str, Any]:
    """Prompt; answer every permission ask alike; the turn's end."""
    await client.command("prompt", id, message=message, **{"permissionMode": "manual", **fields})
    async with asyncio.timeout(TURN_SECONDS):
        while True:
            found = await client.some("permission_ask", "turn_ended")
            if found["type"] == "turn_ended":
                return found
            await client.answer(found, behavior)


def processes(home: Path) -> list[int]:
    """Claude Code processes of this runner, by their configuration directory."""
    found = []
    mark = f"CLAUDE_CONFIG_DIR={home / '.claude'}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if command[0].endswith(b"_bundled/claude") and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def show(client: Client) -> str:
    """All events, a line each, for a failing test."""
    return "\n".join(json.dumps(event)[:300] for _, event in client.events)
