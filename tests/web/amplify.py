"""Amplify's own client under Node, driven from here (`amplify.mjs`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "clients" / "node_modules"
_OWN = ROOT / ".make" / "node" / "bin" / "node"
NODE = str(_OWN) if _OWN.exists() else shutil.which("node")
MISSING = NODE is None or not (MODULES / "aws-amplify").exists()
REASON = "needs aws-amplify: run `make test`"
PATIENCE_S = 30.0


class Refused(Exception):
    """What Amplify rejected with."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.name, self.type, self.message = error.get("name"), error.get("type"), str(error.get("message"))


class Amplify:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.heard: list[tuple[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.states: list[str] = []

    async def _line(self) -> dict[str, Any]:
        raw = await asyncio.wait_for(self._out.readline(), PATIENCE_S)
        assert raw, "Amplify has gone"
        line: dict[str, Any] = json.loads(raw)
        if "heard" in line:
            self.heard.append((line["heard"], line["event"]))
        elif "failed" in line:
            self.failed.append(line)
        elif "state" in line:
            self.states.append(line["state"])
        return line

    async def do(self, verb: str, **more: Any) -> Any:
        """Raises Refused."""
        self._in.write(json.dumps({"do": verb, **more}).encode() + b"\n")
        while True:
            line = await self._line()
            if "ok" in line:
                return line["ok"]
            if "error" in line:
                raise Refused(line["error"])

    async def hear(self, count: int) -> list[tuple[str, Any]]:
        """So many more events."""
        while len(self.heard) < count:
            await self._line()
        found, self.heard = self.heard[:count], self.heard[count:]
        return found

    async def see(self, state: str) -> None:
        while state not in self.states:
            await self._line()
        self.states.clear()


@contextlib.asynccontextmanager
async def amplify() -> AsyncIterator[Amplify]:
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, str(Path(__file__).with_name("amplify.mjs")), str(MODULES), env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Amplify(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
