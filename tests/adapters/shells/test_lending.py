"""A PTY that is lent comes back exactly, wherever who had it was killed: at every step, and at moments that nobody
chose, by `kill -9`, in the middle of a flood in both directions."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import random
import select
import signal
import socket
import time
import tty
from collections.abc import Iterator
from typing import Any

import pytest

from pilothouse.adapters.shells import lending, memory
from pilothouse.adapters.shells.lending import Borrowed, Loan
from pilothouse.adapters.shells.memory import Memory, Unfit
from pilothouse.adapters.shells.pty import Pty
from pilothouse.core.scrollback import Scrollback
from pilothouse.core.seam import GRAIN, Seams
from pilothouse.core.shell import SCROLLBACK_MIN

WORDS = random.Random(7).randbytes(3_000_000)
"""What is written and what is typed: no two places look alike."""
TYPIST = 1 << 63
KILLS = 150


class Killed(BaseException):
    """Whoever borrowed it is no more."""


class Place:
    """A PTY with what reads it; the program behind it is the test."""

    def __init__(self) -> None:
        master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.slave, False)
        self.memory = memory.fresh("t", SCROLLBACK_MIN)
        self.line = Pty(master, Scrollback(self.memory.output))
        self.wrote = self.seen = self.got = 0

    @property
    def kept(self) -> Scrollback:
        return self.line.kept

    def lend(self) -> tuple[Loan, Borrowed]:
        loan = lending.lend(self.memory, self.line.fd, self.kept.head)
        seams = Seams(self.kept.latest or 0)
        seams.feed(self.kept.read(seams.end, self.kept.head - seams.end))
        window = Scrollback(self.memory.output, self.kept.head)
        return loan, Borrowed(self.memory, loan, window, seams)

    def back(self, loan: Loan) -> None:
        """Looked at: the output there is what was written, nothing missing, nothing twice."""
        settled = lending.settle(self.memory, loan, self.kept.capacity)
        self.line.resume(settled, loan.output, loan.input)
        for fd in (loan.output, loan.input):
            os.close(fd)
        self.look()

    def look(self) -> None:
        count = self.kept.head - self.seen
        assert self.kept.read(self.seen, count) == WORDS[self.seen : self.seen + count]
        self.seen += count

    def says(self, count: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self.wrote += os.write(self.slave, WORDS[self.wrote : self.wrote + count])

    def hears(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.slave, 65_536):
                assert data == WORDS[self.got : self.got + len(data)]
                self.got += len(data)

    @property
    def typed(self) -> int:
        return self.line.typing.counts.get(TYPIST, 0)

    def rest(self) -> None:
        """Nobody borrows it any more: what was under way arrives, and no more."""
        deadline = time.monotonic() + 20
        while self.kept.head < self.wrote or self.got < self.typed:
            assert time.monotonic() < deadline, (self.kept.head, self.wrote, self.got, self.typed)
            select.select([self.line.fd, self.slave], [], [], 0.01)
            self.line.typing.write(self.line.fd)
            self.line.read(1 << 20)
            self.look()
            self.hears()
        assert (self.kept.head, self.got) == (self.wrote, self.typed)

    def close(self) -> None:
        self.line.close()
        os.close(self.slave)
        self.kept.release()
        self.memory.close()
        os.close(self.memory.fd)


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


class Steps:
    """Counts down over every call and every store, then kills: before that step, so that all before it are done."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def splice(self, *args: Any, **more: Any) -> int:
        self.step()
        return os.splice(*args, **more)

    def readv(self, *args: Any) -> int:
        self.step()
        return os.readv(*args)

    def write(self, *args: Any) -> int:
        self.step()
        return os.write(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class Page:
    def __init__(self, words: memoryview, steps: Steps) -> None:
        self.words, self.steps = words, steps

    def __getitem__(self, at: int) -> int:
        return int(self.words[at])

    def __setitem__(self, at: int, value: int) -> None:
        self.steps.step()
        self.words[at] = value


@pytest.mark.parametrize(("typed", "room"), [(10, 65_536), (30_000, 65_536), (30_000, 4096)])
def test_it_comes_back_exactly_from_every_step(
    place: Place, monkeypatch: pytest.MonkeyPatch, typed: int, room: int
) -> None:
    """`typed` bytes at once: as many as go, and more than go. `room`: of a pipe; a user who has very many of them gets
    small ones."""
    points = 0
    while True:
        loan, borrowed = place.lend()
        for pipe in (loan.output, loan.input):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, room)
        place.says(5_000)
        select.select([place.line.fd], [], [], 1)
        steps = Steps(points)
        monkeypatch.setattr(lending, "os", steps)
        borrowed.page = Page(place.memory.page, steps)  # type: ignore[assignment]
        try:
            borrowed.read(100_000)
            base = place.typed
            borrowed.type(TYPIST, base, WORDS[base : base + typed])
            borrowed.read(100_000)
        except Killed:
            pass
        monkeypatch.setattr(lending, "os", os)
        before = place.typed
        place.back(loan)
        assert before <= place.typed <= before + typed
        place.rest()
        if steps.left:
            break
        points += 1
    assert points > 12, "it was hardly ever killed"
    assert place.wrote == 5_000 * (points + 1)
    assert place.typed >= typed


def borrower(place: Place, borrowed: Borrowed) -> None:
    """Reads until it is killed, and types until something does not go."""
    at, dice, goes = place.typed, random.Random(), True
    while True:
        borrowed.read(dice.choice((10, 4_000, 64_000)))
        if dice.random() < 0.5:
            borrowed.look()
        if goes:
            data = WORDS[at : at + dice.choice((1, 1, 20, 3_000))]
            goes = borrowed.type(TYPIST, at, data) == (len(data), len(data))
            at += len(data)


def test_it_comes_back_exactly_whenever_the_borrower_is_killed(place: Place) -> None:
    dice, killed = random.Random(3), 0
    for _ in range(KILLS):
        loan, borrowed = place.lend()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                borrower(place, borrowed)
            os._exit(0)
        limit, until = place.wrote + 100_000, time.monotonic() + dice.random() * 0.02
        while time.monotonic() < until:
            if place.wrote < limit:
                place.says(dice.choice((1, 700, 5_000)))
            place.hears()
        os.kill(pid, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        place.back(loan)
        place.rest()
    assert killed == KILLS
    assert place.seen > 100_000 and place.typed > 1_000


def test_seams_of_what_somebody_else_read_are_found(place: Place) -> None:
    """Of all that is kept, though more was written meanwhile than is kept."""
    borrowed_by, words = place.lend(), b"x" * 999 + b"\n"
    loan, borrowed = borrowed_by
    wrote = 0
    while wrote < 3 * SCROLLBACK_MIN:
        with contextlib.suppress(BlockingIOError):
            wrote += os.write(place.slave, words)
        borrowed.read(100_000)
        borrowed.look()
    settled = lending.settle(place.memory, loan, place.kept.capacity)
    place.line.resume(settled, loan.output, loan.input)
    kept, found = place.kept, place.kept.seams()
    assert found[0] - kept.oldest < SCROLLBACK_MIN / 32
    assert max(b - a for a, b in itertools.pairwise(found)) <= 2 * GRAIN
    assert found[-1] == kept.head
    for fd in (loan.output, loan.input):
        os.close(fd)


def test_what_is_no_terminal_or_would_block_is_not_borrowed(place: Place) -> None:
    loan, _ = place.lend()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    null = os.open("/dev/null", os.O_RDWR | os.O_NONBLOCK)
    loan.check()
    try:
        for wrong in (ours.fileno(), null, loan.output, place.slave):
            with pytest.raises(Unfit):
                Loan(wrong, loan.output, loan.input).check()
        with pytest.raises(Unfit):
            Loan(loan.master, loan.master, loan.input).check()
        for fd in loan.fds:
            os.set_blocking(fd, True)
            with pytest.raises(Unfit):
                loan.check()
            os.set_blocking(fd, False)
    finally:
        os.close(null)
        ours.close()
        theirs.close()
        place.back(loan)


def test_more_typists_than_there_is_room_for_go_another_way(place: Place) -> None:
    loan, borrowed = place.lend()
    for typist in range(lending.TYPISTS_MAX):
        assert borrowed.type(typist, typist, b"x") == (1, 1)
    assert borrowed.type(lending.TYPISTS_MAX, 0, b"x") is None
    assert borrowed.type(3, 4, b"x") == (1, 1)
    settled = lending.settle(place.memory, loan, place.kept.capacity)
    assert settled.typed == {n: n + 1 + (n == 3) for n in range(lending.TYPISTS_MAX)}
    place.line.resume(settled, loan.output, loan.input)
    for fd in (loan.output, loan.input):
        os.close(fd)


def test_a_page_of_nonsense_breaks_nothing(place: Place) -> None:
    loan, _ = place.lend()
    dice = random.Random(5)
    for word in range(1, len(place.memory.page)):
        place.memory.page[word] = dice.getrandbits(64)
    settled = lending.settle(place.memory, loan, place.kept.capacity)
    assert len(settled.typed) <= lending.TYPISTS_MAX
    for fd in (loan.output, loan.input):
        os.close(fd)


def test_memory_is_what_both_sides_say_it_is() -> None:
    """The page has room for every word that is named."""
    fresh = memory.fresh("t", SCROLLBACK_MIN)
    fd = fresh.fd
    assert isinstance(fresh, Memory) and len(fresh.page) >= lending._SEAMS + lending.SEAMS_MAX
    fresh.close()
    os.close(fd)
