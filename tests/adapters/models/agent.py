"""The real Claude CLI in print mode, for tests: quiet, in directories of its own, against any endpoint."""

from __future__ import annotations

import asyncio
import json
from importlib.resources import files
from pathlib import Path
from typing import Any


def program() -> str:
    return str(files("claude_agent_sdk") / "_bundled" / "claude")


async def ask(home: Path, url: str, prompt: str, *, tools: str = "", retries: int = 4) -> list[dict[str, Any]]:
    """What the CLI says as stream-json, its environment added as a first line's worth of nothing: one dict a line."""
    work = home / "work"
    work.mkdir(parents=True, exist_ok=True)
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "session-placeholder",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(retries),
    }
    argv = [program(), "-p", prompt, "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
    argv += ["--model", "demo", "--setting-sources", "", "--strict-mcp-config"]
    argv += ["--allowedTools", tools] if tools else []
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=work, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 90)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]


def result(said: list[dict[str, Any]]) -> dict[str, Any]:
    (last,) = [line for line in said if line["type"] == "result"]
    return last


def retries(said: list[dict[str, Any]]) -> list[int | None]:
    return [line["error_status"] for line in said if line.get("subtype") == "api_retry"]
