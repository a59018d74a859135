"""The port to shells, on both who implement it: real PTYs, held by a process of their own or by this one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from pilothouse.adapters.shells import local
from pilothouse.adapters.shells.held import HeldShells
from pilothouse.adapters.shells.local import LocalShells
from pilothouse.core.errors import Conflict, TooMany, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.scrollback import Gone
from pilothouse.core.shell import COMMAND_SHOWN, SCROLLBACK_MIN, WINDOW, Exit, ShellId, Size
from pilothouse.engine.shells import Shell, Shells, ShellSpec

SESSION = SessionId("8f14e45f-ceea-467f-a9d5-0123456789ab")
TYPIST = 2**63 + 1


async def dial(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


@pytest.fixture(params=["held", "lent", "local"])
async def shells(request: pytest.FixtureRequest) -> AsyncIterator[Shells]:
    if request.param == "local":
        ours = LocalShells()
        yield ours
        await ours.close()
        return
    path = request.getfixturevalue("holder")
    held = HeldShells(lambda _: dial(path), lend=request.param == "lent")
    yield held
    for shell in await held.find(SESSION):
        await ended(shell)
        await held.forget(SESSION, shell.id)
    await held.close()


class Reader:
    """Reads a shell as the engine does; keeps everything."""

    def __init__(self, shell: Shell, at: int = 0, *, typed_in: bool = True) -> None:
        self.shell = shell
        self.at = at
        self.got = bytearray()
        self._typed_in = typed_in
        self._news = asyncio.Event()
        shell.listen(self.read)
        shell.grant(at + WINDOW, typed_in=typed_in)

    def read(self) -> None:
        while self.at < self.shell.head:
            piece = self.shell.read(self.at, 32_768)
            self.got += piece
            self.at += len(piece)
        self.shell.grant(self.at + WINDOW, typed_in=self._typed_in)
        self._news.set()

    async def until(self, data: bytes) -> None:
        async with asyncio.timeout(20):
            while data not in self.got:
                await self.more()

    async def end(self) -> Exit:
        async with asyncio.timeout(20):
            while self.shell.ended is None:
                await self.more()
        return self.shell.ended

    async def more(self) -> None:
        self._news.clear()
        await self._news.wait()


async def ended(shell: Shell) -> None:
    if shell.ended is None:
        reader = Reader(shell, shell.head, typed_in=False)
        shell.signal(signal.SIGKILL)
        await reader.end()


def spec(program: str, id: str = "", **more: object) -> ShellSpec:
    environ = dict(os.environ) | {"PS1": "", "ENV": ""}
    return ShellSpec(SESSION, ShellId(id or uuid4().hex), ("/bin/sh", "-c", program), environ, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("program", "exit"),
    [
        ("echo hello", Exit(0)),
        ("exit 7", Exit(7)),
        ("kill -TERM $$", Exit(0, 15)),
        ("sleep 1000 & exit 3", Exit(3)),
        ("stty -opost; seq 1 200000; exit 255", Exit(255)),
    ],
)
async def test_a_shell_says_all_it_has_to_say_and_how_it_ended(shells: Shells, program: str, exit: Exit) -> None:
    reader = Reader(await shells.start(spec(program)))
    assert await reader.end() == exit
    assert reader.at == reader.shell.head
    if "seq" in program:
        assert bytes(reader.got) == b"".join(b"%d\n" % n for n in range(1, 200_001))


async def test_it_has_a_terminal_of_its_own_of_the_size_asked_for(shells: Shells) -> None:
    program = "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.01; done"
    reader = Reader(await shells.start(spec(program, size=Size(123, 45))))
    await reader.until(b"ready")
    reader.shell.resize(Size(81, 27))
    await reader.end()
    assert bytes(reader.got).split() == [b"45", b"123", b"ready", b"27", b"81"]


async def test_what_somebody_runs_is_known_and_a_session_s_own_shell_is_none(shells: Shells) -> None:
    own = await shells.start(spec("sleep 100"))
    theirs = await shells.start(spec("sleep 100; :", command=True))
    long = await shells.start(spec("sleep 100; : " + "x" * 9000, command=True))
    assert [*own.command] == []
    assert [*theirs.command] == ["/bin/sh", "-c", "sleep 100; :"]
    assert sum(map(len, long.command)) <= COMMAND_SHOWN
    assert long.command[2].startswith("sleep 100; : xxx")
    assert long.command[2].endswith("x…")
    for shell in (own, theirs, long):
        await ended(shell)


async def test_it_starts_where_it_is_told(shells: Shells, tmp_path: Path) -> None:
    reader = Reader(await shells.start(spec("pwd; test -t 0 && ps -o tty= -p $$ | grep -v '?'", cwd=str(tmp_path))))
    assert await reader.end() == Exit(0)
    assert os.fsencode(tmp_path) in bytes(reader.got)


async def test_six_hundred_kilobytes_of_input_arrive_unchanged(shells: Shells, tmp_path: Path) -> None:
    data = os.urandom(600_000)
    wanted = tmp_path / "in"
    reader = Reader(await shells.start(spec(f"stty raw -echo; echo ready; head -c {len(data)} > {wanted}; echo done")))
    await reader.until(b"ready")
    for at in range(0, len(data), 65_536):
        reader.shell.write(TYPIST, at, data[at : at + 65_536])
    await reader.end()
    assert hashlib.sha256(wanted.read_bytes()).digest() == hashlib.sha256(data).digest()
    assert reader.shell.typed(TYPIST) == len(data)


async def test_what_is_typed_again_is_not_typed_twice(shells: Shells) -> None:
    reader = Reader(await shells.start(spec("stty -echo; echo ready; while read line; do echo got $line; done")))
    await reader.until(b"ready")
    shell = reader.shell
    shell.write(TYPIST, 0, b"one\n")
    shell.write(TYPIST, 0, b"one\ntwo\n")
    shell.write(TYPIST, 100, b"gap\n")
    shell.write(5, 0, b"other\n")
    shell.write(TYPIST, 8, b"\x04")
    await reader.end()
    assert bytes(reader.got).split() == [b"ready", b"got", b"one", b"got", b"two", b"got", b"other"]
    assert (shell.typed(TYPIST), shell.typed(5), shell.typed(6)) == (9, 6, 0)


async def test_everybody_is_typed_for_however_many_come(shells: Shells) -> None:
    """More than there is room for where a server notes whose keys they were, and all of them again."""
    count = 2 * 70
    reader = Reader(await shells.start(spec(f"stty raw -echo; echo rea''dy; head -c {count} | wc -c; echo do''ne")))
    await reader.until(b"ready")
    for turn in range(2):
        for typist in range(70):
            reader.shell.write(typist, turn, b"x")
    await reader.until(b"done")
    assert f"{count}".encode() in reader.got
    assert [reader.shell.typed(typist) for typist in range(70)] == [2] * 70


async def test_it_is_read_no_further_than_granted(shells: Shells) -> None:
    shell = await shells.start(spec("stty -opost; yes | head -c 3000000"))
    shell.grant(100_000, typed_in=True)
    async with asyncio.timeout(20):
        while shell.head < 100_000:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert shell.head == 100_000
    reader = Reader(shell)
    reader.read()
    await reader.end()
    assert bytes(reader.got) == b"y\n" * 1_500_000


async def test_what_is_not_kept_is_gone_and_what_is_kept_is_right(shells: Shells) -> None:
    shell = await shells.start(spec("stty -opost; seq 1 400000", scrollback=SCROLLBACK_MIN))
    reader = Reader(shell)
    await reader.end()
    whole = bytes(reader.got)
    assert len(whole) - SCROLLBACK_MIN - WINDOW <= shell.oldest <= len(whole) - SCROLLBACK_MIN
    assert shell.read(shell.oldest, len(whole)) == whole[shell.oldest :]
    with pytest.raises(Gone):
        shell.read(shell.oldest - 1, 1)
    seam = shell.seam(shell.head - 1000)
    assert seam is not None and shell.head - 1000 <= seam <= shell.head


async def test_a_hang_up_is_followed_by_a_kill(shells: Shells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "KILL_S", 0.1)
    reader = Reader(await shells.start(spec("trap '' HUP; echo ready; while :; do sleep 0.1; done")))
    await reader.until(b"ready")
    reader.shell.signal(signal.SIGHUP)
    assert await reader.end() == Exit(0, 9)


async def test_ids_and_their_number(shells: Shells) -> None:
    found = [await shells.start(spec("sleep 1000", f"s{n}")) for n in range(10)]
    with pytest.raises(Conflict):
        await shells.start(spec("sleep 1000", "s3"))
    with pytest.raises(TooMany):
        await shells.start(spec("sleep 1000", "s10"))
    await ended(found[0])
    await shells.forget(SESSION, ShellId("s0"))
    assert sorted(s.id for s in await shells.find(SESSION)) == sorted(f"s{n}" for n in range(1, 10))
    again = await shells.start(spec("exit 0", "s0"))
    await Reader(again).end()
    for shell in found[1:]:
        await ended(shell)


async def test_a_program_that_is_not_there(shells: Shells) -> None:
    with pytest.raises(Unavailable, match="no such program"):
        await shells.start(ShellSpec(SESSION, ShellId("x"), ("/no/such/shell",), {}))
    assert await shells.find(SESSION) == []


# --- what only a holder does ------------------------------------------------------------------------------------------


async def test_two_hundred_returns_under_output(holder: str) -> None:
    """The connection is dropped at random moments; a reader that comes back at its offset has every byte."""
    held = HeldShells(lambda _: dial(holder))
    shell = await held.start(spec("stty -opost; seq 1 1000000", "many"))
    got, at = bytearray(), 0
    for n in range(200):
        reader = Reader(shell, at)
        reader.read()
        for _ in range(n % 7):
            if shell.ended is None:
                await reader.more()
        got += reader.got
        at = reader.at
        await held.close()
        held = HeldShells(lambda _: dial(holder))
        (shell,) = await held.find(SESSION)
    reader = Reader(shell, at)
    reader.read()
    assert await reader.end() == Exit(0)
    assert bytes(got + reader.got) == b"".join(b"%d\n" % n for n in range(1, 1_000_001))
    await held.forget(SESSION, shell.id)
    await held.close()


async def test_a_shell_in_which_nobody_typed_goes_on_without_a_server(holder: str) -> None:
    held = HeldShells(lambda _: dial(holder))
    program = spec("stty -opost; yes | head -c 9000000; exit 4", "alone", scrollback=SCROLLBACK_MIN, command=True)
    shell = await held.start(program)
    shell.grant(WINDOW, typed_in=False)
    shell.note_seen(1234)
    await asyncio.sleep(0.02)
    await held.close()
    held = HeldShells(lambda _: dial(holder))
    async with asyncio.timeout(20):
        while True:
            (shell,) = await held.find(SESSION)
            shell.grant(shell.head + WINDOW, typed_in=False)
            if shell.ended is not None:
                break
            await asyncio.sleep(0.05)
    assert (shell.ended, shell.head, shell.seen) == (Exit(4), 9_000_000, 1234)
    assert shell.command == [*program.argv]
    assert shell.read(shell.oldest, shell.head) == (b"y\n" * 4_500_000)[shell.oldest :]
    await held.forget(SESSION, shell.id)
    await held.close()


async def test_the_newest_server_is_the_one_that_counts(holder: str) -> None:
    first, second = HeldShells(lambda _: dial(holder)), HeldShells(lambda _: dial(holder))
    old = await first.start(spec("read line; echo $line; exit 5", "one"))
    (new,) = await second.find(SESSION)
    async with asyncio.timeout(10):
        while old.ended is None:
            await asyncio.sleep(0.01)
    reader = Reader(new)
    new.write(TYPIST, 0, b"hello\n")
    assert await reader.end() == Exit(5)
    await second.forget(SESSION, new.id)
    await first.close()
    await second.close()


@pytest.mark.parametrize("last", ["", "setsid sleep 60 & echo $! >>{pid};"], ids=["alone", "with-a-child"])
async def test_whoever_gives_up_a_start_harms_nobody(holder: str, tmp_path: Path, last: str) -> None:
    """The shell comes nevertheless: it is read to its end for nobody and forgotten, and the others are as they were."""
    wrong: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    held, pid, there = HeldShells(lambda _: dial(holder), lend=True), tmp_path / "pid", tmp_path / "there"
    other = Reader(await held.start(spec("cat")))
    last = last.format(pid=pid)
    async with asyncio.timeout(40):
        while not there.exists():  # else it was hung up on before it could do what it is to do
            unwanted = spec(f"trap 'touch {there}; seq 1 2000; exit 3' HUP; {last} while :; do sleep 0.01; done")
            starting = asyncio.ensure_future(held.start(unwanted))
            for _ in range(3):
                await asyncio.sleep(0)
            assert not starting.done()
            starting.cancel()
            again = None
            while again is None:
                with contextlib.suppress(Conflict):
                    again = await held.start(spec("cat", unwanted.id))
                await asyncio.sleep(0.01)
            await ended(again)
            await held.forget(SESSION, again.id)
    other.shell.write(TYPIST, 0, b"still here\n")
    await other.until(b"still here")
    assert (other.shell.ended, wrong) == (None, [])
    await ended(other.shell)
    await held.forget(SESSION, other.shell.id)
    await held.close()
    for one in pid.read_text().split() if pid.exists() else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(one), signal.SIGKILL)
