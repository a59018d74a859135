"""One installation under fire: server, keeper, proxy, demo model, the relay in front; its disk and its clock."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx

from tests.faults import processes
from tests.faults.relay import Relay
from tests.faults.viewers import Where, client
from tests.journeys.program import CANARY, Demo, Program

DISK_MIB = 2048
"""The tmpfs that the home is on. Only what is written takes memory."""
FULL_SLACK = 64 * 1024
FILL_TRIES = 20
READY_S = 40.0
GRACE_S = 15.0
"""Everything has ended this long after it was told to."""
END_S = 30.0
"""A server that was told to end has this long."""
SETTINGS = {
    "PILOTHOUSE_SPARES": "0",
    "PILOTHOUSE_JOB_TIMEOUT_S": "120",
    "PILOTHOUSE_APPROVAL_TIMEOUT_S": "60",
}


class ServerGone(Exception):
    """The server did not come back."""


class House:
    def __init__(self, place: Path, disk: bool) -> None:
        self.place = place
        self.home = place / "ph"
        self.run = self.home / "run"
        self.disk = disk
        """Whether the home is on a file system of its own."""
        self.clock = place / "clock"
        self.clock.write_bytes(struct.pack("d", 0.0))
        self.relay = Relay()
        self.demo = Demo(place)
        self.where = Where(0, 0, "")
        self.program: Program
        self.up = False
        """The server serves, as far as the harness knows."""
        self.downs = 0
        """How often it was ended."""

    async def start(self) -> None:
        await self.demo.start()
        self.program = Program(
            self.place,
            ANTHROPIC_BASE_URL=self.demo.url,
            ANTHROPIC_API_KEY=CANARY,
            PILOTHOUSE_TEST_CLOCK=str(self.clock),
            **SETTINGS,
        )
        own = Path(__file__).with_name("clock")
        self.program.env["PYTHONPATH"] = os.pathsep.join((str(own), self.program.env["PYTHONPATH"]))
        await self.back()
        port = int(self.program.url.rpartition(":")[2])
        self.program.port = str(port)
        await self.relay.start(port)
        self.where.port, self.where.relay, self.where.key = port, self.relay.port, self.program.key

    # --- the server

    def server(self) -> int | None:
        """The process that serves, whoever its parent is."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            pid = int(json.loads((self.home / "server.json").read_text())["pid"])
            return pid if processes.alive(pid) else None
        return None

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self.program.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command(), env=self.program.env, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL
            )
        self.program.process = process
        return process

    async def try_to_start(self, seconds: float) -> None:
        """A start that is killed after a while."""
        await self._spawn()
        await asyncio.sleep(seconds)
        await self.end(signal.SIGKILL)

    async def back(self) -> float:
        """Starts the server and waits until it answers. Answers when that was."""
        process = await self._spawn()
        deadline = time.monotonic() + READY_S
        async with httpx.AsyncClient(timeout=2, verify=False) as http:
            while time.monotonic() < deadline and process.returncode is None:
                with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
                    if self.server() is not None:
                        self.program.url = json.loads((self.home / "server.json").read_text())["url"]
                        if (await http.get(self.program.url + "/healthz")).status_code == 200:
                            self.up = True
                            return time.monotonic()
                await asyncio.sleep(0.01)
        raise ServerGone(self.program.log.read_text(errors="replace")[-2000:])

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "pilothouse", "serve", "--port", self.program.port]

    async def end(self, number: signal.Signals) -> None:
        """Ends the server and waits until whoever was started has ended too."""
        self.up = False
        self.downs += 1
        pid, process = self.server(), self.program.process
        assert process is not None
        processes.send(process.pid if pid is None else pid, number)
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            raise ServerGone(f"the server did not end on {number.name}") from None

    def http(self, timeout: float = 10) -> httpx.AsyncClient:
        return client(self.where.url(False), self.where.headers, httpx.Timeout(timeout))

    async def release(self, hold: str) -> None:
        """Of the demo model. It has nothing to do with the server and is never hit."""
        await self.demo.release(hold)

    # --- who is who

    def keeper(self) -> int | None:
        return processes.listener(self.run / "keeper.sock")

    def proxy(self) -> int | None:
        return processes.listener(self.run / "proxy.sock")

    def holder(self, session: str) -> int | None:
        return processes.listener(self.run / f"{session}.ctl")

    def inside(self, session: str) -> dict[int, str]:
        holder = self.holder(session)
        return processes.below(holder) if holder else {}

    # --- disk and clock

    def fill(self) -> bool:
        """The disk is as large as what is on it: nothing more goes in. Programs write meanwhile, hence tries."""
        for _ in range(FILL_TRIES):
            stat = os.statvfs(self.home)
            used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize
            with contextlib.suppress(subprocess.CalledProcessError):
                _mount("-o", f"remount,size={used + FULL_SLACK}", str(self.home))
                return True
        return False

    def empty(self) -> None:
        _mount("-o", f"remount,size={DISK_MIB}m", str(self.home))

    def shift(self, seconds: float) -> None:
        """In place: a file that is empty for a moment would end those who have it mapped."""
        fd = os.open(self.clock, os.O_WRONLY)
        os.pwrite(fd, struct.pack("d", seconds), 0)
        os.close(fd)

    # --- the end

    async def stop(self, sessions: Sequence[str] = ()) -> list[str]:
        """Ends everything in the ways that the programs have for it. Answers what is left, and ends that too."""
        await self.relay.stop()
        left: list[str] = []
        inside = {pid: processes.born(pid) for session in sessions for pid in self.inside(session)}
        try:
            await self.end(signal.SIGTERM)
        except ServerGone as gone:
            left.append(str(gone))
        await self._stop_keeper()
        await self.demo.stop()
        deadline = time.monotonic() + GRACE_S
        while (pids := self._still(inside)) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        for pid in pids:
            left.append(f"process {pid}: {processes.argv(pid)}")
            processes.send(pid, signal.SIGKILL)
        await self.program.stop()
        return left

    def _still(self, inside: dict[int, str]) -> list[int]:
        """Of what was in the sandboxes, and of all that names this installation."""
        here = [pid for pid, since in inside.items() if since and processes.born(pid) == since]
        return [pid for pid in {*here, *self.program.processes()} if processes.alive(pid)]

    async def _stop_keeper(self) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(60):
                reader, writer = await asyncio.open_unix_connection(self.run / "keeper.sock")
                for message in ({"verb": "hello", "proto": 1}, {"verb": "stop_all"}):
                    writer.write(json.dumps(message).encode() + b"\n")
                    await reader.readline()
                writer.close()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def can_mount(place: Path) -> bool:
    """Root is not enough: containers often may not."""
    try:
        _mount("-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0755", "pilothouse-faults", str(place))
    except (subprocess.CalledProcessError, OSError):
        return False
    return True


@contextlib.asynccontextmanager
async def house(place: Path, sessions: list[str], leftovers: list[str], keep: Path | None) -> AsyncIterator[House]:
    place.chmod(0o755)
    (place / "ph").mkdir()
    disk = os.geteuid() == 0 and can_mount(place / "ph")
    made = House(place, disk)
    try:
        await made.start()
        yield made
    finally:
        leftovers += await made.stop(sessions)
        if keep is not None:
            shutil.copytree(place, keep / place.name, symlinks=True, ignore=shutil.ignore_patterns("run", "*.img"))
        if disk:
            leftovers += await _umount(str(place / "ph"))


async def _umount(path: str) -> list[str]:
    """What keeps it busy must be gone soon: the last mount of a session's disk ends a little after its last process."""
    deadline = time.monotonic() + GRACE_S
    while True:
        done = subprocess.run(["umount", path], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return []
        if time.monotonic() > deadline:
            subprocess.run(["umount", "-l", path], check=False)
            return [f"mount: {done.stderr.strip()}"]
        await asyncio.sleep(0.2)
