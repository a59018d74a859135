"""A group of commands as people run them, against a server and a receiver."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.receiver import Receiver, receiving
from tests.web.serving import Served, serving


@dataclass
class Here:
    group: str
    served: Served
    receiver: Receiver
    home: Path
    key: str

    async def __call__(self, *words: str, given: str = "") -> tuple[int, str, str]:
        """Exit status, output, errors."""
        child = await self.start(*words)
        out, err = await asyncio.wait_for(child.communicate(given.encode()), 60)
        return child.returncode or 0, out.decode(), err.decode()

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PILOTHOUSE_")}
        environ |= {
            "PILOTHOUSE_HOME": str(self.home),
            "PILOTHOUSE_URL": self.served.url,
            "PILOTHOUSE_API_KEY": self.key,
        }
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pilothouse", self.group, *words, env=environ, stdin=-1, stdout=-1, stderr=-1,
            preexec_fn=heard,
        )  # fmt: skip


def heard() -> None:
    """Ctrl-C, which what is started in the background does not hear; whoever runs the tests may be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.asynccontextmanager
async def running(group: str, home: Path) -> AsyncIterator[Here]:
    async with receiving() as receiver, serving(private=[receiver.target]) as served:
        yield Here(group, served, receiver, home, await served.key())
