"""Two hundred returns to a shell that writes without a pause, cut off in the middle of anything: every byte of output
is there once and unchanged, and so is every byte of input."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.journeys.program import Program, installation
from tests.journeys.rough import Gone, Record, Rough
from tests.journeys.test_shells import session, shell

pytestmark = pytest.mark.asyncio(loop_scope="module")
RETURNS = 200
KILLS = (40, 110, 170)
"""The returns after which the server is killed as well."""
WRITES = (
    "stty raw -echo -opost; exec 3<&0; cat <&3 >in & i=0; while [ ! -e stop ]; do i=$((i+1)); "
    "head -c 7001 /dev/urandom; printf '\\033[38;5;%dmé漢🙂\\033]0;t%d\\007\\342\\202' $((i%256)) $i; sleep 0.003; "
    "done | tee f; exit 3"
)
"""Every byte value, sequences and characters, whole and cut anywhere, some MB/s; what is typed goes to a file."""
TYPED = 400
"""Bytes typed during one connection, at most."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    async with installation(demo=False, PILOTHOUSE_RATE_PER_S="0") as (made, _):
        made.port = made.url.rpartition(":")[2]
        yield made


class Returning:
    """A viewer that comes back again and again, and goes in another way each time."""

    WAYS = ("asked", "answered", "amid", "later", "polite")

    def __init__(self, program: Program, path: str, dice: random.Random) -> None:
        self.program = program
        self.record = Record(path, typist=77)
        self.dice = dice
        self.input = dice.randbytes(RETURNS * TYPED)
        self.asked = 0
        """How much of the input has been sent at some time."""
        self.ways: Counter[str] = Counter()
        self.amid = 0
        """Cuts that left half a frame behind."""

    async def come(self, way: str) -> None:
        """Raises Gone when the server is not there."""
        self.ways[way] += 1
        line = await Rough.knock(self.program, self.record.query)
        try:
            if way != "asked":
                await line.answered()
                await self.stay(line, way)
        finally:
            self.amid += bool(line.pending)
            line.cut()

    async def stay(self, line: Rough, way: str) -> None:
        if way == "answered":
            await asyncio.sleep(self.dice.random() * 0.005)
            return
        if way == "later":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.dice.random() * 0.08):
                    await self.attend(line, 1 << 60)
            return
        await self.attend(line, self.dice.randrange(1, 60_000))
        if way == "polite":
            await line.leave()

    async def attend(self, line: Rough, size: int) -> None:
        """Types a little and reads so many bytes of the wire, whatever they are."""
        while size > 0 and self.record.ended is None:
            limit = min(size, self.dice.randrange(1, 20_000))
            for frame in await line.frames(limit):
                if self.record.take(frame):
                    await self.type(line)
            size -= limit

    async def to_the_end(self) -> None:
        """Types what is left, reads until the shell has ended."""
        self.asked = len(self.input)
        line = await Rough.open(self.program, self.record.query)
        while self.record.ended is None:
            for frame in await line.frames():
                if self.record.take(frame):
                    await self.type(line)
        line.cut()

    async def type(self, line: Rough) -> None:
        at = self.record.typed
        self.asked = max(self.asked, min(len(self.input), at + self.dice.randrange(TYPED)))
        while at < self.asked:
            piece = self.input[at : min(self.asked, at + self.dice.randrange(1, 10 * TYPED))]
            await line.type(piece)
            at += len(piece)


async def test_two_hundred_returns_in_the_middle_of_anything_cost_no_byte(program: Program) -> None:
    sid = await session(program)
    path = f"/api/sessions/{sid}/shells/{await shell(program, sid, 'bash', '-c', WRITES)}"
    dice = random.Random(200)
    viewer = Returning(program, path, dice)
    record = viewer.record
    await awake(program, record)
    async with asyncio.timeout(300):
        for number in range(RETURNS):
            await viewer.come(dice.choice(Returning.WAYS))
            assert record.ended is None, (number, record.ended)
            if number in KILLS:
                await killed(program, record)
        workspace = program.own(sid) / "workspace"
        ending = asyncio.create_task(viewer.to_the_end())
        while (workspace / "in").stat().st_size < len(viewer.input) and not ending.done():
            await asyncio.sleep(0.05)
        await shell(program, sid, "touch", "stop")
        await ending
    assert len(record.parts) == 1, "something was missed"
    assert (workspace / "in").read_bytes() == viewer.input
    assert bytes(record.got) == (workspace / "f").read_bytes()
    assert set(record.got) == set(range(256))
    assert record.ended is not None
    assert record.ended["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert set(viewer.ways) == set(Returning.WAYS)
    assert viewer.amid >= 10, "hardly ever cut in the middle of a frame"


async def awake(program: Program, record: Record) -> None:
    """The shell has made its terminal raw: before that a byte of input may be an interrupt."""
    line = await Rough.open(program, record.query)
    await record.follow(line, 1)
    line.cut()


async def killed(program: Program, record: Record) -> None:
    """The server is killed under an open connection, and the next one is there."""
    line = await Rough.open(program, record.query)
    await record.follow(line, record.at + 1)
    await program.kill()
    with pytest.raises(Gone):
        await record.follow(line)
    line.cut()
    await program.start()
