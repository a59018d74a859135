"""`pilothouse sh` on a terminal that answers what it is asked, as terminals do: by typing."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.cli.here import Here, running

ASKS, ANSWER = b"\x1b[c", b"\x1b[?1;2c"
COPIES = b"\x1b]52;c;aGk=\x07"
ASK = r"read -rsdc -p $'\033[c'; "


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, sh: Here, *words: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 27, 93, 0, 0))
        env = {k: v for k, v in os.environ.items() if not k.startswith("PILOTHOUSE_")}
        env |= {"PILOTHOUSE_HOME": str(sh.home), "PILOTHOUSE_URL": sh.served.url, "PILOTHOUSE_API_KEY": sh.key}
        words = (sys.executable, "-m", "pilothouse", "sh", *words)
        self.process = subprocess.Popen(words, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        os.set_blocking(self.master, False)
        self.got = b""
        self.asked = 0

    def look(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self.got += os.read(self.master, 65536)
        while self.got.count(ASKS) > self.asked:
            self.asked += 1
            self.type(ANSWER)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    async def see(self, data: bytes) -> None:
        async with asyncio.timeout(30):
            while data not in self.got:
                self.look()
                await asyncio.sleep(0.01)

    async def end(self) -> int:
        async with asyncio.timeout(30):
            while self.process.poll() is None:
                self.look()
                await asyncio.sleep(0.01)
        os.close(self.master)
        return int(self.process.returncode)


@pytest.fixture
async def sh(tmp_path: Path) -> AsyncIterator[Here]:
    async with running("sh", tmp_path) as here:
        yield here


class Other:
    """Somebody else at the only shell, who may type as well."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.viewers: list[dict[str, Any]] = []

    @classmethod
    async def come(cls, sh: Here) -> Other:
        path = await shell(sh)
        url = f"{sh.served.url.replace('http', 'ws')}{path}?role=watch"
        return cls(await connect(url, additional_headers={"x-api-key": sh.key}, max_size=None, proxy=None))

    async def ask(self, **asked: str) -> None:
        await self.socket.send(b"\x10" + json.dumps(asked).encode())

    async def until(self, roles: list[str]) -> None:
        """The terminal's and ours."""
        async with asyncio.timeout(20):
            while [one["role"] for one in self.viewers] != roles:
                message = await self.socket.recv()
                assert isinstance(message, bytes)
                if message[0] == 0x10 and b'"presence"' in message:
                    self.viewers = json.loads(message[1:])["viewers"]


async def shell(sh: Here) -> str:
    """The address of the only one."""
    async with httpx.AsyncClient(base_url=sh.served.url, headers={"x-api-key": sh.key}, timeout=20) as http:
        (session,) = (await http.get("/api/sessions")).json()["items"]
        (shell,) = (await http.get(f"/api/sessions/{session['id']}/shells")).json()["items"]
        return f"/api/sessions/{session['id']}/shells/{shell['shellId']}"


async def head(sh: Here) -> int:
    """How much the only shell has written."""
    async with httpx.AsyncClient(base_url=sh.served.url, headers={"x-api-key": sh.key}, timeout=20) as http:
        (session,) = (await http.get("/api/sessions")).json()["items"]
        (shell,) = (await http.get(f"/api/sessions/{session['id']}/shells")).json()["items"]
        return int(shell["head"])


async def test_c22_a_replay_asks_the_terminal_nothing_and_does_nothing_again(sh: Here) -> None:
    one = Terminal(sh)
    one.type(b"PS1=ready; " + ASK.encode() + rb"printf '\033]52;c;aGk=\007'; echo AN''SWERED" + b"\r")
    await one.see(b"ANSWERED")
    assert (one.asked, COPIES in one.got) == (1, True)
    one.type(b"\r~.")
    assert await one.end() == 0
    again = Terminal(sh)
    await again.see(b"ANSWERED")
    again.type(b"echo th''ere\r")
    await again.see(b"there")
    assert (again.asked, COPIES in again.got) == (0, False)
    assert b"1;2c" not in again.got  # what was answered would have been typed
    again.type(ASK.encode() + b"echo ANSWERED-AG''AIN\r")  # what is asked now is
    await again.see(b"ANSWERED-AGAIN")
    assert again.asked == 1
    again.type(b"exit 3\r")
    assert await again.end() == 3


async def test_c22_of_two_terminals_one_answers(sh: Here) -> None:
    one = Terminal(sh)
    one.type(b"PS1=ready; echo fi''rst\r")
    await one.see(b"first")
    two = Terminal(sh)
    await two.see(b"first")
    two.type(ASK.encode() + b"echo ANS''WERED\r")
    for terminal in (one, two):
        await terminal.see(b"ANSWERED")
    one.type(b"echo e''nd\r")
    for terminal in (one, two):
        await terminal.see(b"end")
    assert (one.asked, two.asked) == (1, 0)
    assert b"1;2c" not in two.got
    one.type(b"\r~.")
    assert await one.end() == 0
    two.type(ASK.encode() + b"echo ANSWERED-AG''AIN\r")  # it is the first now
    await two.see(b"ANSWERED-AGAIN")
    two.type(b"exit\r")
    assert await two.end() == 0


async def test_a_command_gets_its_answer_however_early_it_asks(sh: Here) -> None:
    one = Terminal(sh, "--", "bash", "-c", ASK + "echo ANSWERED; exit 5")
    await one.see(b"ANSWERED")
    assert await one.end() == 5


@pytest.mark.parametrize("leave", [b"q", b"\x03", b"~."])
async def test_who_watches_sees_everything_types_nothing_and_leaves(sh: Here, leave: bytes) -> None:
    one = Terminal(sh)
    one.type(b"PS1=ready; echo fi''rst\r")
    await one.see(b"first")
    watcher = Terminal(sh, "--watch")
    await watcher.see(b"first")
    assert b"q or Ctrl-C leaves" in watcher.got
    watcher.type(b"echo no-o''ne\r")
    one.type(ASK.encode() + rb"printf '\033]52;c;aGk=\007'; stty size; echo sec''ond" + b"\r")
    for terminal in (one, watcher):
        await terminal.see(b"27 93\r\nsecond")
    assert (watcher.asked, COPIES in watcher.got) == (0, False)
    fcntl.ioctl(watcher.master, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
    os.kill(watcher.process.pid, signal.SIGWINCH)
    before = await head(sh)
    watcher.type(leave)
    assert await watcher.end() == 0
    assert b"left; the shell goes on" in watcher.got
    one.type(b"stty size; exit 4\r")
    await one.see(b"exit\r\n")
    assert one.got.endswith(b"27 93\r\n") or b"27 93\r\nexit\r\n" in one.got
    assert await one.end() == 4
    assert b"no-one" not in one.got + watcher.got
    assert before > 0


async def test_who_watches_hears_how_it_ends(sh: Here) -> None:
    one = Terminal(sh)
    one.type(b"echo fi''rst\r")
    await one.see(b"first")
    watcher = Terminal(sh, "--watch")
    await watcher.see(b"first")
    one.type(b"exit 6\r")
    assert [await one.end(), await watcher.end()] == [6, 6]


async def test_what_is_typed_with_an_escape_for_help_is_typed(sh: Here) -> None:
    one = Terminal(sh)
    one.type(b"echo fi''rst\r")
    await one.see(b"first")
    one.type(b"\r~?echo ke''pt\r")
    await one.see(b"~~  a tilde")
    await one.see(b"kept")
    one.type(b"exit\r")
    assert await one.end() == 0


async def test_what_was_typed_while_another_types_is_never_typed_and_nothing_twice(sh: Here, tmp_path: Path) -> None:
    file = tmp_path / "typed"
    one = Terminal(sh)
    one.type(b"PS1=ready; echo fi''rst\r")
    await one.see(b"first")
    other = await Other.come(sh)
    await other.until(["type", "watch"])
    await other.ask(type="take")
    await other.until(["watch", "type"])
    await one.see(b"another types")
    one.type(b"echo refused >>%s; : and much more than what comes next\r" % bytes(file))
    await one.see(b"you watch")
    one.type(b": more\r")
    await other.ask(type="give", to=other.viewers[0]["id"])
    await other.until(["type", "watch"])
    await one.see(b"you type")
    one.type(b"echo once >>%s; echo do''ne\r" % bytes(file))
    await one.see(b"done")
    assert one.got.count(b"you watch") == 1
    one.got = b""
    sh.served.hub.all_away()
    await one.see(b"connecting again")
    one.type(b"echo la''st\r")
    await one.see(b"last")
    assert file.read_text() == "once\n"
    one.type(b"exit\r")
    assert await one.end() == 0


async def test_who_watches_since_another_took_the_typing_comes_back_watching_and_takes_it_back(sh: Here) -> None:
    one = Terminal(sh)
    one.type(b"PS1=ready; echo fi''rst\r")
    await one.see(b"first")
    other = await Other.come(sh)
    await other.ask(type="take")
    await other.until(["watch", "type"])
    await one.see(b"another types")
    sh.served.hub.all_away()
    await one.see(b"connecting again")
    again = await Other.come(sh)  # before it or after it
    await again.until(["watch", "watch"])
    one.type(b"\r~t")
    await one.see(b"you type here now")
    one.type(b"echo ba''ck\r")
    await one.see(b"back")
    one.type(b"~t\r")  # an ordinary word now
    await one.see(b"~t: ")
    one.type(b"exit 2\r")
    assert await one.end() == 2


MODES = re.compile(rb"\x1b\[\?([\d;]+)([hl])")


@pytest.mark.parametrize("watch", [False, True])
async def test_a_terminal_is_as_it_was_whatever_runs_in_the_shell_that_is_left(sh: Here, watch: bool) -> None:
    one = Terminal(sh)
    one.type(rb"printf '\033[?1;1049;1002;1006;1004h\033[?25l\033[2;5r\033='; echo fi''lled; cat" + b"\r")
    await one.see(b"filled")
    left = one
    if watch:
        left = Terminal(sh, "--watch")
        await left.see(b"filled")
    left.type(b"q" if watch else b"\r~.")
    assert await left.end() == 0
    shown, _, after = left.got.rpartition(b"filled")
    modes = {
        number: on for found in MODES.finditer(shown + after) for number in found[1].split(b";") for on in found[2]
    }
    off = {number for number, on in modes.items() if on == ord("l")}
    assert {b"1", b"1002", b"1006", b"1004", b"1047", b"2004"} <= off
    assert modes[b"25"] == ord("h")
    assert b"\x1b7\x1b[r\x1b8" in after
    assert after.endswith(b"pilothouse: left; the shell goes on\r\n")
    if watch:
        one.type(b"\r~.")
        assert await one.end() == 0
