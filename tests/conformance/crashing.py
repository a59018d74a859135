"""Run as a program by `test_sqlite`: appends to a store until it is killed, or until the disk refuses.

crashing.py FILE before|after|whenever BATCH SEED     says {"message", "seq"} of each acknowledged event
crashing.py FILE limited                              says what it saw
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.adapters.stores.transaction import Transaction
from pilothouse.adapters.stores.writer import Writer
from pilothouse.core import events as ev
from pilothouse.core.ids import SessionId
from pilothouse.engine.log import Log
from pilothouse.engine.ports import Append, Mark, StoreFailed
from tests.clock import HandClock

A = SessionId("a")
WRITERS = 8


def die_at(point: str, batch: int) -> None:
    """Puts the kill where it belongs: into the last step before the commit, or the first one after it."""
    owner, name = (Transaction, "flush") if point == "before" else (Writer, "_answer")
    real = getattr(owner, name)
    left = batch

    def step(self: Any, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments)

    setattr(owner, name, step)


async def append_for_ever(path: Path, point: str, batch: int, seed: int) -> None:
    store = await SqliteStore.open(path)
    if point != "whenever":
        die_at(point, batch)
    log = Log(store, HandClock())
    n = await store.marked("r")

    async def writer(which: int) -> None:
        nonlocal n
        while True:
            n += 1
            event = ev.ErrorEvent(code="c", message=f"{seed}-{n}")
            for row in await log.append(A, [event], mark=Mark("r", n)):
                os.write(1, json.dumps({"message": event.message, "seq": row.seq}).encode() + b"\n")

    await asyncio.gather(*map(writer, range(WRITERS)))


async def append_beyond_a_limit(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = await SqliteStore.open(path)
    before = 0
    for _ in range(20):
        before = (await store.commit(Append(A, b'{"x":"%s"}' % (b"x" * 5000)))).rows[0].seq
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name(path.name + "-wal").stat().st_size + 50_000, hard))
    failed = 0
    while failed < 5:
        try:
            before = (await store.commit(Append(A, b'{"x":"%s"}' % (b"x" * 5000)))).rows[0].seq
        except StoreFailed:
            failed += 1
    seen = (await store.read(A, 0, 1)).head
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    first = (await store.commit(Append(A, b'{"x":1}'))).rows[0].seq
    await store.close()
    report = {"before": before, "failed": failed, "read_while_failing": seen, "first_after": first}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    if sys.argv[2] == "limited":
        asyncio.run(append_beyond_a_limit(Path(sys.argv[1])))
    else:
        asyncio.run(append_for_ever(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
