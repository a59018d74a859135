"""Who reads slowly, or not at all: the server's memory stays within its bound, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from pilothouse.engine.viewing import VIEWER_MAX
from tests.journeys.program import Program, installation
from tests.journeys.rough import HEARTBEAT, Gone, Record, Rough
from tests.journeys.test_shells import session, shell

pytestmark = pytest.mark.asyncio(loop_scope="module")
LINES = 3_000_000
"""Some 23 MB a flood: far more than all buffers on the way together."""
READY = b"ready\n"
FLOOD = f"stty -opost -echo; echo ready; while read -r go; do seq 1 {LINES}; done"
SLOW = 10_000
"""Bytes a second."""
STEP_S = 0.1
STILL = 10
A_SIP = 200_000
"""Bytes within so many looks, a second or more, that are no flood: it is held."""
ROOM = 4096
"""Of the kernel for what a slow one has not read: the rest has to wait in the server."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    async with installation(demo=False, PILOTHOUSE_RATE_PER_S="0") as (made, _):
        yield made


@pytest.fixture(scope="module")
def flood() -> bytes:
    return "".join(f"{n}\n" for n in range(1, LINES + 1)).encode()


def weight(program: Program) -> int:
    """Bytes of memory of server, keeper, holders and proxy; what several have mapped is counted once, in parts."""
    total = 0
    for pid in program.processes():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


async def sip(record: Record, line: Rough, thirst: asyncio.Event) -> None:
    """Reads SLOW bytes a second, until it is told to drink."""
    with contextlib.suppress(Gone):
        while record.ended is None:
            slow = not thirst.is_set()
            if not slow:
                line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            for frame in await line.frames(int(SLOW * STEP_S) if slow else 65_536):
                record.take(frame)
            if slow:
                await asyncio.sleep(STEP_S)


class Quick:
    """A viewer that types and reads everything at once."""

    def __init__(self, program: Program, path: str) -> None:
        self.program = program
        self.record = Record(path)
        self.goal = len(READY)

    async def begin(self) -> None:
        self.line = await Rough.open(self.program, self.record.query)
        self.task = asyncio.create_task(self.record.follow(self.line))
        await self.until(self.whole)

    def whole(self) -> bool:
        assert not self.task.done()
        return self.record.at >= self.goal

    async def flood(self, size: int) -> None:
        """Sets one off."""
        await self.line.type(b"go\n")
        self.goal += size

    async def until(self, so: Callable[[], bool]) -> int:
        """What server and keeper weigh at most until it is so. On a busy machine the quick one is behind for a while
        too, so that this is up to two viewers' bounds more than what one alone took."""
        most = 0
        async with asyncio.timeout(60):
            while not so():
                most = max(most, await asyncio.to_thread(weight, self.program))
                await asyncio.sleep(0.1)
        return most


def held(record: Record) -> Callable[[], bool]:
    """Whether it goes on at a slow one's pace at most."""
    seen: list[int] = []

    def so() -> bool:
        seen.append(record.at)
        return len(seen) > STILL and seen[-1] - seen[-STILL] < A_SIP

    return so


async def gone(task: asyncio.Task[None], line: Rough) -> None:
    """First nobody waits for the socket any more, then it is closed."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    line.cut()


async def viewers(program: Program, path: str) -> int:
    async with program.http() as http:
        (shown,) = (await http.get(path.rpartition("/")[0])).json()["items"]
        assert shown["running"]
        return len(shown["viewers"])


async def test_slow_viewers_cost_no_more_than_their_bound_and_nobody_else_a_byte(
    program: Program, flood: bytes
) -> None:
    sid = await session(program)
    path = f"/api/sessions/{sid}/shells/{await shell(program, sid, 'bash', '-c', FLOOD)}"
    quick, size = Quick(program, path), len(flood)
    await quick.begin()
    alone = 0
    for _ in range(2):
        await quick.flood(size)
        alone = max(alone, await quick.until(quick.whole))

    # One that watches: the shell does not wait for it, and it is told what it missed.
    watcher, thirst = Record(path, role="watch", at=quick.goal), asyncio.Event()
    line = await Rough.open(program, watcher.query, room=ROOM)
    watching = asyncio.create_task(sip(watcher, line, thirst))
    await quick.flood(size)
    assert await quick.until(quick.whole) - alone <= 2 * VIEWER_MAX
    assert weight(program) - alone <= VIEWER_MAX  # the quick one has it all, so what is kept is kept for the slow one
    assert watcher.at < quick.goal
    thirst.set()
    await quick.until(lambda: watcher.at == quick.record.at)
    assert len(watcher.parts) > 1
    await gone(watching, line)

    # One that types: the shell waits for it, and so do all.
    typist, thirst = Record(path, at=quick.goal), asyncio.Event()
    line = await Rough.open(program, typist.query, room=ROOM)
    typing = asyncio.create_task(sip(typist, line, thirst))
    await quick.flood(size)
    assert await quick.until(held(quick.record)) - alone <= 2 * VIEWER_MAX
    assert weight(program) - alone <= VIEWER_MAX
    assert not quick.whole()
    thirst.set()
    await quick.until(lambda: quick.whole() and typist.at == quick.goal)
    await gone(typing, line)

    # One that asks and asks, and reads no answer.
    deaf = await Rough.open(program, f"{path}?role=watch", room=ROOM)
    before = weight(program)
    asking = asyncio.create_task(ask(deaf))
    assert await quick.until(asking.done) - before <= VIEWER_MAX
    async with asyncio.timeout(20):
        while await viewers(program, path) > 1:
            await asyncio.sleep(0.05)
    await quick.flood(size)
    await quick.until(quick.whole)

    whole = READY + flood * 5
    assert quick.record.got == whole
    assert watcher.agrees(whole)
    assert typist.agrees(whole)
    await gone(quick.task, quick.line)
    deaf.cut()


async def ask(deaf: Rough) -> None:
    """Until the server has had enough."""
    with contextlib.suppress(Gone):
        while True:
            await deaf.send(bytes([HEARTBEAT]) + b"?" * 60_000)
            await asyncio.sleep(0.01)
