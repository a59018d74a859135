"""Shells in real sessions under a real server: a kill in the middle of a flood costs no byte of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import pty
import random
import signal
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.journeys.program import Program, installation

pytestmark = pytest.mark.asyncio(loop_scope="module")
LINES = 1_500_000
"""Some ten megabytes: seconds of a flood, however fast the machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    """Comes back where it was: a command line that is attached knows its address."""
    async with installation(demo=False, PILOTHOUSE_RATE_PER_S="0") as (made, _):
        made.port = made.url.rpartition(":")[2]
        yield made


async def session(program: Program) -> str:
    async with program.http() as http:
        return str((await http.post("/api/sessions", json={"agent": "echo"})).json()["id"])


async def shell(program: Program, session: str, *command: str) -> str:
    async with program.http() as http:
        made = await http.post(f"/api/sessions/{session}/shells", json={"command": list(command)} if command else {})
        assert made.status_code == 201, made.text
        return str(made.json()["shellId"])


class Recorder:
    """A viewer that types, keeps every byte at its offset, and comes back as long as there is something to come."""

    def __init__(self, program: Program, session: str, shell: str) -> None:
        self.program = program
        self.path = f"/api/sessions/{session}/shells/{shell}"
        self.got = bytearray()
        self.dropped = 0
        self.connections = 0
        self.ended: dict[str, Any] | None = None

    async def once(self, until: int | None = None) -> None:
        """One connection, until the server, the shell or our patience (`until` bytes) ends it."""
        url = f"{self.program.url.replace('http', 'ws')}{self.path}?after={len(self.got)}&role=type"
        headers = {"x-api-key": self.program.key}
        async with connect(url, additional_headers=headers, max_size=None, compression=None) as socket:
            self.connections += 1
            async for message in socket:
                assert isinstance(message, bytes)
                if message[0] == 1:
                    self.got += message[1:]
                elif message[0] == 3:
                    self.status(json.loads(message[1:]))
                if until is not None and len(self.got) >= until:
                    return

    def status(self, said: dict[str, Any]) -> None:
        about = said["metadata"]
        if about.get("shellId"):
            self.dropped += about.get("bytesDropped", 0)
            assert about["offset"] == len(self.got) + about.get("bytesDropped", 0)
        else:
            self.ended = said

    async def to_the_end(self) -> None:
        async with asyncio.timeout(120):
            while self.ended is None:
                with contextlib.suppress(OSError, WebSocketException):
                    await self.once()
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_ended_in_the_middle_of_a_flood_costs_no_byte(program: Program, number: int) -> None:
    sid = await session(program)
    flood = await shell(program, sid, "sh", "-c", f"stty -opost; seq 1 {LINES} | tee f; exit 3")
    watcher = Recorder(program, sid, flood)
    watching = asyncio.create_task(watcher.to_the_end())
    dice = random.Random(5)
    for _ in range(2):
        seen = len(watcher.got)
        async with asyncio.timeout(30):
            while len(watcher.got) < seen + 500_000:
                await asyncio.sleep(0.01)
        await program.kill(number)
        await asyncio.sleep(dice.random() * 0.5)
        await program.start()
    await watching
    assert watcher.connections == 3
    assert watcher.dropped == 0
    expected = "".join(f"{n}\n" for n in range(1, LINES + 1)).encode()
    assert bytes(watcher.got) == expected
    assert (program.own(sid) / "workspace" / "f").read_bytes() == expected
    assert watcher.ended is not None
    assert watcher.ended["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_what_nobody_watched_is_counted_to_the_byte(program: Program) -> None:
    sid = await session(program)
    flood = await shell(program, sid, "sh", "-c", "stty -opost; seq 1 1000000 | tee f; echo; sleep 1000")
    size, path = sum(len(f"{n}\n") for n in range(1, 1_000_001)) + len("\n"), f"/api/sessions/{sid}/shells"
    async with program.http() as http, asyncio.timeout(60):
        while (await http.get(path)).json()["items"][0]["head"] < size:
            await asyncio.sleep(0.3)
    await program.kill()
    await program.start()
    watcher = Recorder(program, sid, flood)
    headers, url = {"x-api-key": program.key}, f"{program.url.replace('http', 'ws')}{path}/{flood}?after=0&role=watch"
    async with connect(url, additional_headers=headers, max_size=None, compression=None) as socket:
        first = await asyncio.wait_for(socket.recv(), 20)
        assert isinstance(first, bytes)
        about = json.loads(first[1:])["metadata"]
        while len(watcher.got) < size - about["bytesDropped"]:
            message = await asyncio.wait_for(socket.recv(), 20)
            assert isinstance(message, bytes)
            watcher.got += message[1:] if message[0] == 1 else b""
    whole = (program.own(sid) / "workspace" / "f").read_bytes() + b"\n"
    assert about["offset"] == about["bytesDropped"] == size - len(watcher.got)
    assert whole[about["bytesDropped"] :] == bytes(watcher.got)


async def test_the_command_line_is_a_terminal_that_comes_back(program: Program) -> None:
    sid = await session(program)
    status, out, err = await program.cli("sh", sid, "--", "sh", "-c", "echo out; exit 9")
    assert (status, out) == (9, "out\n"), err
    status, out, _ = await program.cli("sh", sid, "--", "head", "-c", "6", input="typed\n")
    assert (status, out) == (0, "typed\n")
    status, out, _ = await program.cli("sh", sid, "--", "wc", "-c", input="no newline \x03\x04" + "x" * 6000)
    assert (status, out) == (0, "6013\n")
    for words in (["ls"], [sid[:8], "--", "ls"], [sid, "ls"], [sid, "--"], [sid]):  # the last has no terminal here
        assert (await program.cli("sh", *words))[0] == 2, words
    assert (await program.cli("sh", sid, "--", "nosuch"))[0] == 127
    assert (await program.cli("sh", sid, "--watch"))[0] == 1
    assert (await program.cli("sh", "--shell", "-x", sid))[0] == 2
    screen = Screen(program, "sh", sid)
    await screen.until(b"$ ")
    await screen.type(b"x=kept; stty size\r")
    await screen.until(b"27 93")
    await program.kill()
    await screen.until(b"connecting again")
    await screen.type(b"echo $x-$x\r")
    await program.start()
    await screen.until(b"kept-kept")
    screen.resize(41, 17)
    await screen.type(b"until [ \"$(stty size)\" = '17 41' ]; do sleep 0.1; done; echo resi''zed\r")
    await screen.until(b"resized")  # a key may be faster than the size
    await screen.type(b"\r~.")
    assert await screen.end() == 0
    again = Screen(program, "sh", sid)
    await again.until(b"kept-kept")
    await again.type(b"exit 4\r")
    assert await again.end() == 4
    named = Screen(program, "sh", "--shell", "named", sid)
    await named.until(b"$ ")
    assert (await program.cli("sh", "--end", "named", sid))[0] == 0
    assert await named.end() == 128 + signal.SIGHUP
    for words in (["--end", "-x"], ["--end", "named", "--watch"], ["--end", "named", "--shell", "named"]):
        assert (await program.cli("sh", *words, sid))[0] == 2, words
    status, _, err = await program.cli("sh", "--end", "none", sid)
    assert (status, "none" in err) == (1, True), err


async def piped(program: Program, *words: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
    """Of a command between two pipes."""
    process = await asyncio.create_subprocess_exec(
        *program.prefix,
        sys.executable,
        "-m",
        "pilothouse",
        "sh",
        *words,
        env=program.env,
        stdin=-1,
        stdout=-1,
        stderr=-1,
    )
    out, err = await asyncio.wait_for(process.communicate(data), 60)
    return process.returncode or 0, out, err


async def test_a_command_between_pipes_has_no_terminal(program: Program) -> None:
    sid = await session(program)
    data = random.Random(6).randbytes(300_000)
    digest = hashlib.sha256(data).hexdigest().encode()
    assert await piped(program, sid, "--", "tee", "got", data=data) == (0, data, b"")
    assert hashlib.sha256((program.own(sid) / "workspace" / "got").read_bytes()).hexdigest().encode() == digest
    assert (await piped(program, sid, "--", "sha256sum", data=data))[1].split()[0] == digest
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(__file__, "src/one")
    assert await piped(program, sid, "--", "tar", "x", data=packed.getvalue()) == (0, b"", b"")
    status, out, _ = await piped(program, sid, "--", "tar", "c", "src")
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert (status, tar.getnames()) == (0, ["src", "src/one"])
        found = tar.extractfile("src/one")
        assert found is not None
        assert found.read() == Path(__file__).read_bytes()
    assert await piped(program, sid, "--", "python3", data=b"print(6 * 7)\nexit(3)\n") == (3, b"42\n", b"")
    assert await piped(program, sid, "--", "bash", data=b"echo on; exit 4\n") == (4, b"on\n", b"")
    assert (await piped(program, sid, "--", "ls", "--color=auto"))[1] == b"got\nsrc\n"
    assert await piped(program, sid, "--", "head", "-n", "1", data=b"one\n" + data) == (0, b"one\n", b"")
    assert await piped(program, sid, "--", "true", data=data * 10) == (0, b"", b"")
    assert await piped(program, sid, "--", "sh", "-c", "kill -TERM $$") == (128 + signal.SIGTERM, b"", b"")


async def test_a_command_line_whose_reader_leaves_takes_its_command_along(program: Program) -> None:
    sid = await session(program)
    ours = f"{sys.executable} -m pilothouse sh {sid} -- sh -c 'while :; do echo y; sleep 0.01; done'"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f"{ours} | head -n 1; exit ${{PIPESTATUS[0]}}", env=program.env, stdout=-1, stderr=-1
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out, err) == (128 + signal.SIGPIPE, b"y\n", b"")
    async with asyncio.timeout(20):
        while (await program.cli("sh", sid, "--list"))[1]:
            await asyncio.sleep(0.1)


async def test_nobody_types_into_a_command_unawares_and_nothing_typed_ahead_is_lost(program: Program) -> None:
    sid = await session(program)
    command = Screen(program, "sh", sid, "--", "sh", "-c", "echo begun; cat")
    await command.until(b"begun")
    _, out, _ = await program.cli("sh", sid, "--list")
    assert out.endswith("  $ sh -c 'echo begun; cat'\n")
    own = Screen(program, "sh", sid)
    await own.type(b"echo 3$((1+1))3\r")  # it has hardly begun
    await own.until(b"323")
    _, out, _ = await program.cli("sh", sid, "--list")
    assert len(out.splitlines()) == 2
    (mine,) = [line.split()[0] for line in out.splitlines() if "$ " not in line]
    await own.type(b"\r~.")
    assert await own.end() == 0
    again = Screen(program, "sh", sid, "--shell", mine, "--startup", "echo lost")
    await again.until(b"this one is there already")
    await again.type(b"exit 5\r")
    assert await again.end() == 5
    await command.type(b"\r~.")
    assert await command.end() == 1
    assert b"it goes on as shell" in command.got
    _, out, _ = await program.cli("sh", sid, "--list")
    assert (await program.cli("sh", sid, "--end", out.split()[0]))[0] == 0


class Screen:
    """A `pilothouse` command on a terminal."""

    def __init__(self, program: Program, *words: str) -> None:
        import fcntl
        import struct
        import subprocess
        import termios

        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 27, 93, 0, 0))
        command = [*program.prefix, sys.executable, "-m", "pilothouse", *words]
        self.process = subprocess.Popen(
            command, env=program.env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        os.set_blocking(self.master, False)
        self.got = b""

    async def until(self, data: bytes) -> None:
        async with asyncio.timeout(30):
            while data not in self.got:
                with contextlib.suppress(BlockingIOError):
                    self.got += os.read(self.master, 65536)
                await asyncio.sleep(0.01)
        self.got = self.got.partition(data)[2]

    def _read(self) -> None:
        """What is there."""
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65536):
                self.got += data

    async def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def resize(self, cols: int, rows: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        os.kill(self.process.pid, signal.SIGWINCH)

    async def end(self) -> int:
        async with asyncio.timeout(30):
            while self.process.poll() is None:
                self._read()
                await asyncio.sleep(0.02)
        self._read()  # its last words
        os.close(self.master)
        return int(self.process.returncode)


async def test_nothing_of_a_shell_is_left_in_the_runtime_directory(program: Program) -> None:
    sid = await session(program)
    await shell(program, sid, "cat")
    found = list(Path(program.home).rglob("*.pty"))
    runtime = {p.parent for p in found} or {Path("/nowhere")}
    async with program.http() as http:
        assert (await http.delete(f"/api/sessions/{sid}")).status_code == 204
    assert not [p for folder in runtime for p in folder.glob(f"{sid}.*")]
