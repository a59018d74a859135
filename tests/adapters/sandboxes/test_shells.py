"""Shells in real sessions: their PTY is one of the sandbox, the holder reads it, and the session's end is theirs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.host import Host
from pilothouse.adapters.shells.held import HeldShells
from pilothouse.adapters.shells.heldshell import HeldShell
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.shell import Exit, ShellId, Size
from pilothouse.engine.ports import SandboxSpec
from pilothouse.engine.shells import Shell, ShellSpec
from tests.adapters.sandboxes.conftest import processes, until
from tests.adapters.sandboxes.test_bubblewrap import holder_pid, sh
from tests.adapters.sandboxes.test_levels import LANDLOCK, ROOT
from tests.adapters.sandboxes.test_reduced import alone  # noqa: F401
from tests.adapters.shells.test_shells import Reader

TYPIST = 7
IN_A_SANDBOX = [
    "sandboxes",
    "host",
    pytest.param("alone", marks=[ROOT, LANDLOCK]),
]


@pytest.fixture(params=IN_A_SANDBOX)
def kept(request: pytest.FixtureRequest) -> Bubblewrap | Host:
    made: Bubblewrap | Host = request.getfixturevalue(request.param)
    return made


@pytest.fixture
async def shells(kept: Bubblewrap | Host, session: SessionId) -> AsyncIterator[HeldShells]:
    await kept.open(SandboxSpec(session, "echo"))
    made = HeldShells(kept.shells, lend=True)
    yield made
    await made.close()


def spec(session: SessionId, *argv: str, id: str = "a") -> ShellSpec:
    return ShellSpec(session, ShellId(id), argv or ("/bin/sh",), {"PS1": "", "ENV": ""}, size=Size(91, 33))


class Typist(Reader):
    sent = 0

    def type(self, data: bytes) -> None:
        self.shell.write(TYPIST, self.sent, data)
        self.sent += len(data)


async def test_it_is_a_terminal_of_the_session(kept: Bubblewrap | Host, shells: HeldShells, session: SessionId) -> None:
    reader = Typist(await shells.start(spec(session)))
    reader.type(b"tty; stty size; pwd; ps -o sid= -p $$ 2>&1; id -u; echo $HOME; exit 7\n")
    assert await reader.end() == Exit(7)
    said = bytes(reader.got).decode()
    assert "/dev/pts/" in said
    assert "33 91" in said
    if kept.sandbox == "bubblewrap" and kept.level["sandbox"] == "bubblewrap":
        assert "/workspace" in said
        assert "/home/agent" in said
        assert "\r\n1000\r\n" in said


async def test_it_can_be_interrupted_resized_and_hung_up_on(shells: HeldShells, session: SessionId) -> None:
    shell = await shells.start(spec(session))
    reader = Typist(shell)
    reader.type(b"sleep 1000; echo inter''rupted\n")
    await reader.until(b"sleep 1000; echo")
    await asyncio.sleep(0.2)  # the shell has forked
    reader.type(b"\x03")
    reader.type(b"echo still''here\n")
    await reader.until(b"stillhere")
    shell.resize(Size(44, 11))
    reader.type(b"stty size\n")
    await reader.until(b"11 44")
    reader.type(b"trap '' HUP; echo trap''ped\n")
    await reader.until(b"trapped")
    shell.signal(signal.SIGHUP)
    assert await reader.end() == Exit(0, signal.SIGKILL)


async def test_what_cannot_be_started_says_so_in_its_terminal(shells: HeldShells, session: SessionId) -> None:
    reader = Reader(await shells.start(spec(session, "/no/such/program")))
    assert await reader.end() == Exit(127)
    assert b"/no/such/program" in reader.got
    with pytest.raises(Unavailable, match="too long"):
        await shells.start(spec(session, "/bin/echo", "x" * 70_000, id="b"))
    reader = Reader(await shells.start(spec(session, "/bin/echo", "fine", id="c")))
    assert await reader.end() == Exit(0)


async def test_it_outlives_whoever_watches(kept: Bubblewrap | Host, shells: HeldShells, session: SessionId) -> None:
    reader = Typist(await shells.start(spec(session)))
    reader.type(b"x=kept; echo rea''dy\n")
    await reader.until(b"ready")
    await shells.close()
    other = HeldShells(kept.shells, lend=True)
    (found,) = await other.find(session)
    assert found.id == "a"
    again = Typist(found, found.oldest)
    again.sent = found.typed(TYPIST)
    assert again.sent == reader.sent
    again.type(b"echo $x-$x; exit\n")
    await again.until(b"kept-kept")
    assert bytes(again.got).startswith(bytes(reader.got))
    await again.end()
    await other.close()


async def test_nothing_inside_ever_has_a_terminals_other_side(sandboxes: Bubblewrap, session: SessionId) -> None:
    """Or it could make the server wait for it: whether reading blocks belongs to what is open, whoever holds it."""
    await sandboxes.open(SandboxSpec(session, "echo"))
    shells = HeldShells(sandboxes.shells, lend=True)
    look = "while [ ! -e stop ]; do readlink /proc/[0-9]*/fd/* /proc/[0-9]*/task/*/fd/*; echo; done >seen 2>/dev/null"
    looking = Reader(await shells.start(spec(session, "/bin/sh", "-c", f"{look}; echo do''ne", id="looks")))
    for number in range(8):
        shell = await shells.start(spec(session, "/bin/echo", "fine", id=f"n{number}"))
        assert isinstance(shell, HeldShell)
        assert await Reader(shell).end() == Exit(0)
        await shells.forget(session, shell.id)
    last = Typist(await shells.start(spec(session, id="last")))
    last.type(b"sleep 0.2; touch stop; grep -c pts/ seen; grep -c ptmx seen; exit\n")
    await last.end()
    await looking.end()
    some, none = last.got.split()[-2:]
    assert int(some) > 10, "it looked, and saw terminals"
    assert int(none) == 0
    await shells.close()


async def test_a_terminal_is_lent_in_a_sandbox_of_namespaces_alone(
    kept: Bubblewrap | Host, shells: HeldShells, session: SessionId
) -> None:
    """Elsewhere who opens it is a process among the session's."""
    shell = await shells.start(spec(session))
    reader = Typist(shell)
    reader.type(b"echo rea''dy\n")
    await reader.until(b"ready")
    assert isinstance(shell, HeldShell)
    assert shell.lent is (kept.sandbox == "bubblewrap" and kept.level["sandbox"] == "bubblewrap")


async def test_the_session_s_end_is_theirs(kept: Bubblewrap | Host, shells: HeldShells, session: SessionId) -> None:
    mark = f"8{os.getpid()}{id(shells) % 10**6}"
    polite = Typist(await shells.start(spec(session, "/bin/bash", "--norc", "-i")))
    deaf = Typist(await shells.start(spec(session, id="deaf")))
    deaf.type(f"trap '' HUP TERM; sleep {mark}\n".encode())
    polite.type(b"echo rea''dy\n")
    await polite.until(b"ready")
    await until(lambda: bool(processes(mark)))
    await kept.stop(session)
    assert await polite.end()
    assert await deaf.end()
    await until(lambda: not processes(mark))
    await shells.drop(session)  # as the engine does
    with pytest.raises(Unavailable):
        await shells.find(session)
    await kept.open(SandboxSpec(session, "echo"))
    assert list(await shells.find(session)) == []


async def test_a_holder_that_is_killed_is_the_end_of_its_shells(
    sandboxes: Bubblewrap, session: SessionId, base: object
) -> None:
    await sandboxes.open(SandboxSpec(session, "echo"))
    shells = HeldShells(sandboxes.shells, lend=True)
    reader = Typist(await shells.start(spec(session)))
    os.kill(await holder_pid(base, session), signal.SIGKILL)  # type: ignore[arg-type]
    assert (await reader.end()).signal == signal.SIGHUP
    await shells.close()


async def test_what_is_inside_cannot_hear_or_hold_them_up(sandboxes: Bubblewrap, session: SessionId) -> None:
    """Runner and programs go on beside a flood; a shell's socket is nowhere inside."""
    await sandboxes.open(SandboxSpec(session, "echo"))
    shells = HeldShells(sandboxes.shells, lend=True)
    flood: Shell = await shells.start(spec(session, "/bin/sh", "-c", "yes flood"))
    reader = Reader(flood, typed_in=False)
    await reader.until(b"flood")
    assert await sh(sandboxes, session, "echo here") == "here"
    assert await sh(sandboxes, session, "find / -name '*.pty' 2>/dev/null") == ""
    flood.signal(signal.SIGKILL)
    await reader.end()
    await shells.close()
