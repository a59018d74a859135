"""The command line as people run it: a process of its own against a server in this one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake import KEY, FakeServer


@dataclass
class Ended:
    status: int
    out: str
    err: str


class Pilothouse:
    def __init__(self, home: Path, server: FakeServer) -> None:
        self.home = home
        self.server = server
        self.folder: Path | None = None
        """Where commands run, if not here."""
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path if p),
            "PILOTHOUSE_HOME": str(home),
            "PILOTHOUSE_URL": server.url,
            "PILOTHOUSE_API_KEY": KEY,
            "LANG": "C.UTF-8",
        }

    async def start(self, *args: str, **options: Any) -> asyncio.subprocess.Process:
        pipes = {"stdin": asyncio.subprocess.DEVNULL, "stdout": -1, "stderr": -1, **options}
        command = (sys.executable, "-m", "pilothouse", *args)
        return await asyncio.create_subprocess_exec(*command, env=self.env, cwd=self.folder, **pipes)

    async def __call__(self, *args: str, given: bytes | None = None) -> Ended:
        child = await self.start(*args, **({"stdin": -1} if given is not None else {}))
        try:
            async with asyncio.timeout(60):
                out, err = await child.communicate(given)
        finally:
            if child.returncode is None:
                child.kill()
        assert KEY.encode() not in out + err
        assert child.returncode is not None
        return Ended(child.returncode, out.decode(), err.decode())


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer().running() as fake:
        yield fake


@pytest.fixture
def pilothouse(tmp_path: Path, server: FakeServer) -> Pilothouse:
    return Pilothouse(tmp_path / "home", server)
