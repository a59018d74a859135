"""A holder that says what cannot be: it counts as gone, its shells as ended, and nothing else happens."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from pilothouse.adapters.shells import lending, memory
from pilothouse.adapters.shells import line as line_module
from pilothouse.adapters.shells.held import HeldShells
from pilothouse.adapters.shells.heldshell import HeldShell
from pilothouse.adapters.shells.line import OUT_MAX
from pilothouse.core import shellwire as wire
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.shell import COMMAND_SHOWN, LOST, MEMORY_MAX, SCROLLBACK_MIN, WINDOW, ShellId, Size
from pilothouse.engine.shells import ShellSpec

SESSION = SessionId("8f14e45f-ceea-467f-a9d5-0123456789ab")
SHELL = {
    "id": "s",
    "started": 1.0,
    "cols": 80,
    "rows": 24,
    "capacity": SCROLLBACK_MIN,
    "numbers": wire.NUMBERS,
    "oldest": 0,
    "seams": [0],
    "typists": {"7": 3},
}


class Liar:
    """The holder's end of the wire, in the hands of the test."""

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.held = HeldShells(self.dial, lend=True)
        self.records = wire.Records()

    async def dial(self, session: SessionId) -> socket.socket:
        return self.theirs

    def say(self, data: bytes, *fds: int) -> None:
        socket.send_fds(self.sock, [data], list(fds))

    def shell(self, fd: int | None = None, size: int = SCROLLBACK_MIN, head: int = 0, **more: object) -> None:
        """One that is there already, told with `fd` or a piece of memory that is in order."""
        mine = memory.make("t", size) if fd is None else fd
        self.say(wire.say(wire.SHELL, {**SHELL, "capacity": size, **more}, 1, head), mine)
        os.close(mine)


@pytest.fixture
async def liar() -> AsyncIterator[Liar]:
    liar = Liar()
    before = len(os.listdir("/proc/self/fd"))
    yield liar
    await liar.held.close()
    assert len(os.listdir("/proc/self/fd")) <= before, "descriptors are left over"
    liar.sock.close()


def greet(shells: int = 1) -> bytes:
    return wire.say(wire.WELCOME, {"proto": 1, "shells": shells})


async def test_one_from_before_whose_output_begins_with_a_page(liar: Liar) -> None:
    liar.say(greet())
    fd = memory.make("t", SCROLLBACK_MIN, wire.PAGE)
    os.pwrite(fd, b"hello", wire.PAGE)
    told = {name: value for name, value in SHELL.items() if name != "numbers"}
    liar.say(wire.say(wire.SHELL, told, 1, 5), fd)
    os.close(fd)
    (shell,) = await liar.held.find(SESSION)
    assert shell.read(0, 10) == b"hello"


async def test_an_honest_one(liar: Liar) -> None:
    liar.say(greet())
    liar.shell(head=5)
    (shell,) = await liar.held.find(SESSION)
    assert (shell.head, shell.oldest, shell.typed(7), shell.ended) == (5, 0, 3, None)


@pytest.mark.parametrize(
    "more",
    [
        {"capacity": SCROLLBACK_MIN - 4096},
        {"numbers": 8},
        {"numbers": wire.PAGE},
        {"numbers": "many"},
        {"capacity": MEMORY_MAX + 4096},
        {"oldest": 6},
        {"oldest": -1_000_000},
        {"id": "../x"},
        {"id": 7},
        {"started": float("nan")},
        {"started": "x"},
        {"cols": 0},
        {"sizes": None},
        {"sizes": [[0, 80, 24]] * 2},
        {"sizes": [[0, 0, 24]]},
        {"sizes": [[1 << 40, 80, 24]]},
        {"sizes": [[n, 80, 24] for n in range(201)]},
        {"seams": None},
        {"seams": ["x"]},
        {"seams": [0, 6]},
        {"seams": [-1]},
        {"seams": [float("inf")]},
        {"capacity": float("inf")},
        {"head": 2**63, "oldest": 2**63},
        {"command": "make"},
        {"command": [1]},
        {"command": ["x" * (COMMAND_SHOWN + 2)]},
        {"command": [""] * (COMMAND_SHOWN + 1)},
        {"typists": [1]},
        {"typists": {"zz": 1}},
        {"typists": {"7": 2**60}},
        {"typists": {"7": -1}},
        {"started": 10**400},
        {"cols": float("inf")},
        {"ended": [1]},
        {"ended": [-1, 0]},
        {"ended": [1 << 40, 0]},
    ],
)
async def test_a_shell_that_cannot_be(liar: Liar, more: dict[str, object]) -> None:
    liar.say(greet())
    capacity, head = more.get("capacity", SCROLLBACK_MIN), more.pop("head", 5)
    assert isinstance(head, int)
    liar.shell(None, capacity if isinstance(capacity, int) else SCROLLBACK_MIN, head, **more)
    with pytest.raises(Unavailable, match="went away"):
        await liar.held.find(SESSION)


@pytest.mark.parametrize("kind", ["file", "short", "unsealed", "none"])
async def test_memory_that_cannot_be_relied_on(liar: Liar, kind: str) -> None:
    if kind == "file":
        fd = os.open("/dev/zero", os.O_RDWR)
    elif kind == "short":
        fd = memory.make("t", SCROLLBACK_MIN - 4096)
    else:
        fd = os.memfd_create("t", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, wire.NUMBERS + SCROLLBACK_MIN)
    liar.say(greet())
    if kind == "none":
        os.close(fd)
        liar.say(wire.say(wire.SHELL, SHELL, 1))
    else:
        liar.shell(fd)
    with pytest.raises(Unavailable):
        await liar.held.find(SESSION)


def test_memory_of_huge_pages_is_not_read() -> None:
    """Of which the kernel may have too few when one is read, and ends whoever reads."""
    capacity = (2 << 20) - wire.NUMBERS
    try:
        fd = os.memfd_create("t", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
        os.ftruncate(fd, 2 << 20)
    except OSError:
        pytest.skip("this kernel has no huge pages, so nobody can hand them over")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    with pytest.raises(memory.Unfit, match="huge"):
        memory.Memory(fd, capacity)
    os.close(fd)


@pytest.mark.parametrize(
    "said",
    [
        b"\xff" * 64,
        wire.record(wire.OUTPUT, 1, 0, WINDOW + 1),
        wire.record(wire.OUTPUT, 1, 0, 4),
        wire.record(wire.OUTPUT, 1, 0, 2**64 - 1),
        wire.record(wire.OUTPUT, 1, 0, 6, b"seam"),
        wire.record(wire.TYPED, 1, 0, 6, b"x"),
        wire.record(wire.TYPED, 1, 0, 2**60, wire.taken(7, 0)),
        wire.record(wire.ENDED, 1, 0, 6, b"x"),
        wire.record(wire.GRANT, 1),
        wire.record(wire.WELCOME, 0, 0, 0, b"{}"),
        wire.record(wire.FAILED, 0, 0, 0, b"{}"),
        wire.record(wire.SHELL, 2, 0, 0, b"{}"),
    ],
)
async def test_what_cannot_be_said_of_a_shell(liar: Liar, said: bytes) -> None:
    liar.say(greet())
    liar.shell(head=5)
    (shell,) = await liar.held.find(SESSION)
    news = asyncio.Event()
    shell.listen(news.set)
    shell.grant(WINDOW, typed_in=True)
    liar.say(said)
    async with asyncio.timeout(20):
        await news.wait()
    assert (shell.ended, shell.head) == (LOST, 5)


async def test_two_shells_of_one_id(liar: Liar) -> None:
    liar.say(greet(2))
    liar.shell()
    fd = memory.make("t", SCROLLBACK_MIN)
    liar.say(wire.say(wire.SHELL, SHELL, 2), fd)
    os.close(fd)
    with pytest.raises(Unavailable):
        await liar.held.find(SESSION)


async def test_descriptors_that_nobody_asked_for_do_not_pile_up(liar: Liar) -> None:
    liar.say(greet())
    liar.shell()
    (shell,) = await liar.held.find(SESSION)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(40):
        try:
            liar.say(wire.record(wire.OUTPUT, 9), *([liar.sock.fileno()] * 16))
        except OSError:
            break
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while shell.ended is None:
            await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before < most


async def test_one_that_reads_nothing_costs_no_more_than_its_bound(liar: Liar) -> None:
    liar.say(greet())
    liar.shell()
    (shell,) = await liar.held.find(SESSION)
    data, sent = bytes(65_536), 0
    async with asyncio.timeout(20):
        while shell.ended is None:
            shell.write(1, sent, data)
            sent += len(data)
            assert sent <= 2 * OUT_MAX
            await asyncio.sleep(0)
    assert shell.ended == LOST


async def test_one_that_says_that_everything_was_read_does_not_change_what_was_sent(liar: Liar) -> None:
    liar.say(greet())
    liar.shell()
    (shell,) = await liar.held.find(SESSION)
    shell.write(1, 0, bytes(1000))
    liar.say(wire.record(wire.TYPED, 1, 0, 400, wire.taken(1, 50)))
    async with asyncio.timeout(20):
        while shell.backlog == 1000:
            await asyncio.sleep(0.01)
    assert (shell.backlog, shell.typed(1)) == (650, 400)


async def test_a_shell_that_comes_when_nobody_waits_for_it_any_more_is_ended(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "START_S", 0.0)
    liar.say(greet(0))
    spec = ShellSpec(SESSION, ShellId("s"), ("sh",))
    with pytest.raises(Unavailable, match="in time"):
        await liar.held.start(spec)
    liar.shell()
    liar.say(wire.record(wire.OUTPUT, 1, 0, 5) + wire.record(wire.ENDED, 1, 0, 5, wire.exited(0, 1)))
    records, kinds = wire.Records(), list[int]()
    async with asyncio.timeout(20):
        while wire.FORGET not in kinds:
            await asyncio.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                kinds += [record.kind for record in records.feed(liar.sock.recv(65_536))]
    assert kinds == [wire.HELLO, wire.START, wire.GRANT, wire.SIGNAL, wire.FORGET]
    assert await liar.held.find(SESSION) == []
    with pytest.raises(Unavailable, match="in time"):  # the name is free
        await liar.held.start(spec)


async def test_one_that_dials_again_cuts_off_nobody_who_did_before() -> None:
    """Several wait for a holder that is not there yet; the one who hears so last must not undo what another began."""
    there, dials = False, list[socket.socket]()

    async def dial(session: SessionId) -> socket.socket:
        await asyncio.sleep(0)
        if not there:
            raise Unavailable("not yet")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.send(greet(0))
        dials.append(ours)
        return theirs

    held = HeldShells(dial, lend=True)

    async def ask() -> None:
        nonlocal there
        with contextlib.suppress(Unavailable):
            await held.find(SESSION)
        there = True
        await held.find(SESSION)

    await asyncio.gather(ask(), ask(), ask())
    await held.find(SESSION)
    assert len(dials) == 1
    await held.close()
    dials[0].close()


@pytest.mark.parametrize("how", ["breaks off", "says nothing more"])
async def test_one_that_never_comes_to_its_end_costs_nothing(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is dialled whenever somebody asks for the session's shells, and nothing may be left of that."""

    async def dial(session: SessionId) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            ours.send(greet(3))
            for slot in (1, 2):
                fd = memory.make("t", SCROLLBACK_MIN)
                socket.send_fds(ours, [wire.say(wire.SHELL, {**SHELL, "id": f"s{slot}"}, slot)], [fd])
                os.close(fd)
            if how != "breaks off":
                kept.append(ours.dup())
        return theirs

    kept: list[socket.socket] = []
    monkeypatch.setattr(line_module, "GREETING_S", 0.1)
    held, before = HeldShells(dial, lend=True), len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await held.find(SESSION)
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) - len(kept) <= before
    finally:
        gc.enable()
        for sock in kept:
            sock.close()
    await held.close()


@contextlib.contextmanager
def loan(*, blocks: bool = False) -> Iterator[list[int]]:
    """A PTY and two pipes, as a holder lends them."""
    master, slave = os.openpty()
    pipes = [lending._pipe() for _ in range(2)]
    os.set_blocking(master, blocks)
    try:
        yield [master, *pipes]
    finally:
        for fd in (master, slave, *pipes):
            os.close(fd)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("how", ["blocks", "no terminal", "no pipe", "too few", "no shell", "ahead", "seam", "twice"])
async def test_what_is_lent_must_be_what_it_should_be(liar: Liar, how: str) -> None:
    """Before it is read for the first time: reading something else could take for ever."""
    liar.say(greet())
    liar.shell()
    (shell,) = await liar.held.find(SESSION)
    head, seam, slot = int(how == "ahead"), int(how == "seam"), 1 + (how == "no shell")
    with loan(blocks=how == "blocks") as fds:
        wrong = {"no terminal": [fds[1], *fds[1:]], "no pipe": [*fds[:2], fds[0]], "too few": fds[:2]}
        record = wire.record(wire.LENT, slot, 0, head, wire.number(seam))
        for _ in range(1 + (how == "twice")):
            liar.say(record, *wrong.get(how, fds))
        await until(lambda: shell.ended is not None)
    assert shell.ended == LOST


async def test_a_terminal_that_nobody_asked_for_is_not_read(liar: Liar) -> None:
    liar.held = HeldShells(liar.dial)
    liar.say(greet())
    liar.shell()
    (shell,) = await liar.held.find(SESSION)
    with loan() as fds:
        liar.say(wire.record(wire.LENT, 1, 0, 0, wire.number(0)), *fds)
        await until(lambda: shell.ended is not None)


async def test_a_pipe_that_somebody_else_reads_is_seen(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    liar.say(greet())
    liar.shell()
    (shell,) = await liar.held.find(SESSION)
    with loan() as fds:
        liar.say(wire.record(wire.LENT, 1, 0, 0, wire.number(0)), *fds)
        monkeypatch.setattr(lending, "os", Reads())
        shell.grant(1000, typed_in=False)
        assert isinstance(shell, HeldShell)
        await until(lambda: shell.lent)
        os.write(fds[0], b"x\n")  # it is echoed
        await until(lambda: shell.ended is not None)


class Reads:
    """Half of what is read is somebody else's."""

    def readv(self, fd: int, rooms: list[memoryview]) -> int:
        os.read(fd, 1)
        return os.readv(fd, rooms)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


LENT = wire.record(wire.LENT, 1, 0, 0, wire.number(0))


async def lent(liar: Liar, fds: list[int]) -> HeldShell:
    liar.say(greet())
    liar.shell()
    (shell,) = await liar.held.find(SESSION)
    assert isinstance(shell, HeldShell)
    liar.say(LENT, *fds)
    await until(lambda: shell.lent)
    return shell


async def test_a_pipe_that_somebody_else_has_filled_is_no_way_to_type(liar: Liar) -> None:
    """What is typed goes to the holder, and nothing goes wrong for who types."""
    with loan() as fds:
        shell = await lent(liar, fds)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(fds[2], bytes(4096))
        shell.write(7, 3, b"key")
        assert not shell.lent and shell.typed(7) == 3 and shell.backlog == 3
        assert [r.kind for r in heard(liar)][-3:] == [wire.RETURN, wire.GRANT, wire.INPUT]


async def test_a_pipe_that_somebody_else_fills_is_seen(liar: Liar) -> None:
    """Or there would be something to read for ever, and nothing would come of it."""
    with loan() as fds:
        shell = await lent(liar, fds)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(fds[1], bytes(4096))
        shell.grant(1000, typed_in=False)
        os.write(fds[0], b"x\n")  # it is echoed
        await until(lambda: shell.ended is not None)


async def test_what_is_typed_after_a_resize_finds_the_new_size(liar: Liar) -> None:
    """However long the holder takes to hear of it: until it has, it types."""
    with loan() as fds:
        shell = await lent(liar, fds)
        shell.resize(Size(100, 30))
        shell._memory.page[lending.RESIZES] = 1  # as the holder says that it is done
        shell.write(7, 3, b"a")
        assert shell.typed(7) == 4, "typed here"
        shell.resize(Size(90, 30))
        shell.write(7, 4, b"b")
        assert not shell.lent and shell.typed(7) == 4
        kinds = [record.kind for record in heard(liar)]
        assert kinds == [wire.HELLO, wire.RESIZE, wire.RESIZE, wire.RETURN, wire.GRANT, wire.INPUT]


async def test_nothing_is_read_here_once_there_are_secrets(liar: Liar) -> None:
    """A loan that was under way when they were told is given back as it is: who masks is the holder."""
    with loan() as fds:
        liar.say(wire.say(wire.WELCOME, {"proto": 1, "shells": 1, "masks": True}))
        liar.shell()
        (shell,) = await liar.held.find(SESSION)
        shell.grant(1000, typed_in=False)
        os.write(fds[0], b"secret\n")  # it is echoed
        await liar.held.hide(SESSION, ["secret"])
        liar.say(LENT, *fds)
        kinds = list[int]()
        async with asyncio.timeout(20):
            while wire.RETURN not in kinds:
                await asyncio.sleep(0.005)
                kinds += [record.kind for record in heard(liar)]
        assert shell.head == 0 and shell.ended is None


async def test_descriptors_that_there_is_no_room_for_are_a_loan_that_is_not_taken(liar: Liar) -> None:
    with loan() as fds:
        liar.say(greet())
        liar.shell()
        (shell,) = await liar.held.find(SESSION)
        liar.say(LENT, *fds)
        limits, filler = resource.getrlimit(resource.RLIMIT_NOFILE), list[int]()
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, limits[1]))
        try:
            with contextlib.suppress(OSError):
                while True:
                    filler.append(os.dup(fds[0]))
            os.close(filler.pop())
            kinds = list[int]()
            async with asyncio.timeout(20):
                while wire.RETURN not in kinds:
                    await asyncio.sleep(0.005)
                    kinds += [record.kind for record in heard(liar)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in filler:
                os.close(fd)
        assert isinstance(shell, HeldShell)
        assert shell.ended is None and not shell.lent


async def test_what_cannot_be_watched_is_given_back(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no more watches")

    with loan() as fds:
        shell = await lent(liar, fds)
        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", full)
        shell.grant(1000, typed_in=True)
        monkeypatch.undo()
        assert shell.ended is None and not shell.lent
        given = [(record.kind, record.flags) for record in heard(liar)]
        assert (wire.RETURN, wire.KEEP) in given and given[-1] == (wire.GRANT, wire.TYPED_IN)


def heard(liar: Liar) -> list[wire.Record]:
    """What the server has said since the last time."""
    with contextlib.suppress(BlockingIOError):
        return list(liar.records.feed(liar.sock.recv(65_536)))
    return []
