"""The server's part is killed in the middle of a flood, again and again, and comes back: no byte of the shell's output
is lost, doubled or changed. Compared byte by byte with what the program itself wrote into a file."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from pilothouse.adapters.shells.held import HeldShells
from pilothouse.core.audience import Viewer, ViewerId
from pilothouse.core.ids import SessionId
from pilothouse.core.shell import REPLAY, ShellId
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.shells import ShellSpec
from pilothouse.engine.terminal import Terminal
from pilothouse.engine.terminals import Terminals
from pilothouse.engine.viewing import Viewing
from tests.adapters.shells.conftest import ROOT

SESSION = SessionId("8f14e45f-ceea-467f-a9d5-0123456789ab")
LINES = 1_500_000
"""Some 11 MB: several times what is kept, and long enough to be killed in."""
SIZE = sum(len(str(n)) + 1 for n in range(1, LINES + 1))
KILLS = 8


def serve(holder: str, got: Path, program: str, *most: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "tests.adapters.shells.serving", holder, str(got), program, *most]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT, env=environ)


def grown(got: Path, size: int, process: subprocess.Popen[bytes]) -> None:
    """Waits until so much has arrived."""
    end = time.monotonic() + 60
    while got.stat().st_size < size:
        assert process.poll() is None
        assert time.monotonic() < end, "nothing arrives"
        time.sleep(0.001)


def test_no_byte_is_lost_or_doubled_however_often_the_server_is_killed(holder: str, tmp_path: Path) -> None:
    got, written = tmp_path / "got", tmp_path / "written"
    program = f"stty -opost; seq 1 {LINES} | tee {written}"
    rng, said = random.Random(4), []
    got.touch()
    for _ in range(KILLS):
        goal = got.stat().st_size + rng.randrange(1, 900_000)
        process = serve(holder, got, program, str(goal + 200_000))
        with process:
            assert process.stdout is not None
            said.append(process.stdout.readline())
            grown(got, goal, process)
            process.send_signal(signal.SIGKILL)
        # What a killed server wrote last may be half of a frame; a client knows what it got, and says so.
        os.truncate(got, max(0, got.stat().st_size - rng.choice([0, 0, 1, 5_000])))
    process = serve(holder, got, program)
    with process:
        assert process.stdout is not None
        said += process.stdout.read().splitlines(keepends=True)
    assert said[0] == b"new\n"
    assert set(said[1:-1]) == {b"found\n"}
    assert said[-1] == b"ended %d\n" % written.stat().st_size
    assert got.read_bytes() == written.read_bytes()


class Client:
    """A plain client of the Shell API: it knows nothing of offsets, only what it is told."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    @property
    def output(self) -> bytes:
        return b"".join(frame[1:] for frame in self.sent if frame[0] == 1)

    @property
    def dropped(self) -> int:
        first = next(frame for frame in self.sent if frame[0] == 3)
        return int(json.loads(first[1:])["metadata"].get("bytesDropped", 0))

    def send_binary(self, data: bytes) -> None:
        self.sent.append(data)

    def buffered(self) -> int:
        return 0

    def underway(self) -> int:
        return 0

    async def writable(self) -> bool:
        return True

    def close(self, code: int = 1000, reason: str = "") -> None:
        pass


async def test_what_a_client_is_told_it_missed_is_exact(holder: str, tmp_path: Path) -> None:
    """It leaves, its server goes, the shell writes on for times what is kept; the next server knows where it was."""
    written = tmp_path / "written"
    words = ("/bin/sh", "-c", f"stty -opost; seq 1 {LINES} | tee {written}")

    async def open_it() -> tuple[HeldShells, Terminal, Viewing, Client]:
        shells, client = HeldShells(dial, lend=True), Client()
        terminals = Terminals(shells, SystemClock())
        terminal, new = await terminals.open(ShellSpec(SESSION, ShellId("plain"), words, dict(os.environ)))
        viewer = Viewer(ViewerId("v"), "v", "type", may_type=True, plain=True)
        return shells, terminal, terminals.attach(terminal, viewer, client, new=new), client

    async def dial(session: SessionId) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(holder)
        return sock

    shells, _, viewing, before = await open_it()
    async with asyncio.timeout(60):
        while len(before.output) < 500_000:
            await asyncio.sleep(0.001)
        viewing.leave()
        await shells.close()
        while not written.exists() or written.stat().st_size < SIZE:
            await asyncio.sleep(0.01)
        shells, terminal, _, after = await open_it()
        while terminal.shell.ended is None or len(after.sent) < 2:
            await asyncio.sleep(0.01)
        whole, got = written.read_bytes(), len(before.output)
        while got + after.dropped + len(after.output) < len(whole):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # and no more
    assert before.output == whole[:got]
    assert after.output == whole[got + after.dropped :]
    assert 0 < len(after.output) <= REPLAY + 4096, "what came while it attached is not a replay"
    await shells.close()
