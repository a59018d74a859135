"""A process that is the server's part: watches one shell of a holder and writes down what it got, each byte at its
offset, until it is killed. It types, so the shell waits for it; from MOST bytes on it takes no more, so that a shell
is not at its end before somebody who was to kill this process has noticed.

    python -m tests.adapters.shells.serving SOCKET FILE PROGRAM [MOST]       says "new" or "found", and later "ended N"
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from pilothouse.adapters.shells.held import HeldShells
from pilothouse.core.audience import Viewer, ViewerId
from pilothouse.core.ids import SessionId
from pilothouse.core.shell import ShellId
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.shells import ShellSpec
from pilothouse.engine.terminals import Terminals

SESSION = SessionId("8f14e45f-ceea-467f-a9d5-0123456789ab")
SHELL = ShellId("flood")


class Recorder:
    """Writes what it is sent into a file, at the offset where it belongs."""

    def __init__(self, path: str, most: float) -> None:
        self._most = most
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.at = os.fstat(self._fd).st_size
        self.closed = asyncio.Event()

    def send_binary(self, data: bytes) -> None:
        if data[:1] == b"\x01":
            self.at += os.pwrite(self._fd, data[1:], self.at)

    def buffered(self) -> int:
        return 0 if self.at < self._most else 1 << 30

    def underway(self) -> int:
        return 0

    async def writable(self) -> bool:
        if self.at >= self._most:
            await self.closed.wait()
        return True

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed.set()


async def main(path: str, file: str, program: str, most: str = "inf") -> None:
    async def dial(session: SessionId) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return sock

    terminals = Terminals(HeldShells(dial, lend=True), SystemClock())
    spec = ShellSpec(SESSION, SHELL, ("/bin/sh", "-c", program), dict(os.environ))
    terminal, new = await terminals.open(spec)
    os.write(1, b"new\n" if new else b"found\n")
    sink = Recorder(file, float(most))
    viewer = Viewer(ViewerId("v"), "v", "type", may_type=True)
    terminals.attach(terminal, viewer, sink, new=new, after=sink.at)
    await sink.closed.wait()
    os.write(1, b"ended %d\n" % sink.at)
    await terminals.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
