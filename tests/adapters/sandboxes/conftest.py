"""Real keepers, holders and sandboxes, each test with its own; afterwards no process of theirs may be left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import client
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.host import Host
from pilothouse.core.ids import SessionId

KEEPER = (sys.executable, "-m", "pilothouse.keeper", "--no-proxy")


def processes(mark: str) -> list[int]:
    """Pids whose command line or environment-free arguments mention `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def comm(pid: int) -> str:
    """The short name that the kernel shows; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for something that must come; not a measurement."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


@pytest.fixture
def base() -> Iterator[Path]:
    """Short, for unix sockets."""
    made = Path(tempfile.mkdtemp(prefix="ph-"))
    yield made
    subprocess.run(["rm", "-rf", str(made)], check=True)  # knows no depth


async def _end(base: Path, made: Bubblewrap | Host) -> None:
    await made.close()
    runtime = base / "r"
    for control in runtime.glob("*.ctl"):
        try:
            await client.ask(control, {"verb": "stop"})
        except client.Away:
            continue
    with contextlib.suppress(client.Away):
        await client.ask(runtime / "keeper.sock", {"verb": "stop_all"})
    await until(lambda: not processes(str(base)))


@pytest.fixture
async def sandboxes(base: Path) -> AsyncIterator[Bubblewrap]:
    made = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=KEEPER, git_schemes=("https", "http"))
    yield made
    await _end(base, made)


@pytest.fixture
async def host(base: Path) -> AsyncIterator[Host]:
    made = await Host.connect_keeper(base / "h", base / "r", argv=KEEPER)
    yield made
    await _end(base, made)


@pytest.fixture
def session() -> SessionId:
    return SessionId(str(uuid.uuid4()))
