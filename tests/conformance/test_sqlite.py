"""What only a file can do: be there after a kill, be full, be somebody else's."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from pilothouse.adapters.stores.schema import StoreRefused
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core.ids import SessionId
from pilothouse.engine.log import Gap, Log
from pilothouse.engine.ports import Append, Mark, Purge, Put, StoreFailed
from tests.clock import HandClock

A, B = SessionId("a"), SessionId("b")
CHILD = Path(__file__).with_name("crashing.py")


def event(n: int, session: SessionId = A, size: int = 0) -> Append:
    return Append(session, b'{"n":%d,"x":"%s"}' % (n, b"x" * size))


async def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s.db")
    await store.commit(event(1))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"s.db": 0o600, "s.db-wal": 0o600, "s.db-shm": 0o600}
    await store.close()
    (tmp_path / "s.db").chmod(0o644)
    await (await SqliteStore.open(tmp_path / "s.db")).close()
    assert (tmp_path / "s.db").stat().st_mode & 0o777 == 0o600


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s.db")
    await store.commit(event(1), Mark("r", 7), Put("k", "1", b"d"))
    await store.commit(event(2))
    await store.trim(A, 3)
    epoch = store.epoch
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["s.db"], "closing leaves no WAL"
    store = await SqliteStore.open(tmp_path / "s.db")
    assert store.epoch == epoch
    assert await store.marked("r") == 7
    assert await store.get("k", "1") == b"d"
    assert (await store.commit(event(3))).rows[0].seq == 3, "the numbers go on though no row was left"
    await store.close()


async def test_every_store_has_its_own_epoch(tmp_path: Path) -> None:
    stores = [await SqliteStore.open(tmp_path / name) for name in ("1", "2")]
    assert stores[0].epoch != stores[1].epoch
    for store in stores:
        await store.close()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await (await SqliteStore.open(path)).close()
    db = sqlite3.connect(path)
    with db:
        db.execute("update meta set value = '99' where key = 'schema'")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match=r"newer Pilothouse \(schema 99, this one knows 1\)"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before


async def test_files_that_are_no_store_are_refused_and_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    with db:
        db.execute("create table t(x)")
    db.close()
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    damaged = tmp_path / "damaged.db"
    await (await SqliteStore.open(damaged)).close()
    db = sqlite3.connect(damaged)
    with db:
        db.execute("delete from meta where key = 'epoch'")
    db.close()
    for path in (other, garbage, damaged):
        before = path.read_bytes()
        with pytest.raises(StoreRefused, match=path.name):
            await SqliteStore.open(path)
        assert path.read_bytes() == before


async def test_a_full_store_refuses_writes_serves_reads_and_recovers(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s.db", max_pages=100)
    written = 0
    with pytest.raises(StoreFailed, match="full"):
        while written < 1000:
            await store.commit(event(written, B if written < 50 else A, 2000))
            written += 1
    assert 50 < written < 1000
    for _ in range(3):
        with pytest.raises(StoreFailed):
            await store.commit(event(0, size=100_000), Put("k", "1", b""))
    assert await store.get("k", "1") is None
    assert (await store.read(A, 0, 1000)).head == written - 50, "no number was used by what failed"
    await store.commit(Purge(B))
    assert (await store.commit(event(0, size=2000))).rows[0].seq == written - 49
    await store.close()


async def test_one_that_is_too_large_does_not_spoil_the_batch(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "s.db", max_pages=100)
    commits = [store.commit(event(n, size=1_000_000 if n % 10 == 5 else 10)) for n in range(100)]
    answers = await asyncio.gather(*commits, return_exceptions=True)
    assert [isinstance(answer, StoreFailed) for answer in answers] == [n % 10 == 5 for n in range(100)]
    page = await store.read(A, 0, 1000)
    assert [json.loads(row.body)["n"] for row in page.rows] == [n for n in range(100) if n % 10 != 5]
    assert [row.seq for row in page.rows] == list(range(1, 91))
    await store.close()


async def run_child(path: Path, *arguments: str) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = await asyncio.create_subprocess_exec(sys.executable, CHILD, path, *arguments, stdout=PIPE, env=env)
    assert child.stdout is not None
    return child, child.stdout


async def test_a_disk_that_fails_to_write(tmp_path: Path) -> None:
    """A real error of a real write: the child may make no file larger than what it has, then it may again."""
    child, stdout = await run_child(tmp_path / "s.db", "limited")
    report = json.loads(await stdout.read())
    assert await child.wait() == 0
    assert report["failed"] > 0
    assert report["read_while_failing"] == report["before"]
    assert report["first_after"] == report["before"] + 1


@pytest.mark.parametrize("seed", range(12))
async def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Generations of one store, each killed: before its commit, between commit and answer, or whenever."""
    chance = random.Random(seed)
    path = tmp_path / "s.db"
    acknowledged = 0
    cursor = 0
    followed: list[int] = []
    for _ in range(3):
        point = chance.choice(["before", "after", "whenever"])
        child, stdout = await run_child(path, point, str(chance.randint(1, 60)), str(chance.randint(0, 2**30)))
        if point == "whenever":
            await stdout.readline()
            await asyncio.sleep(chance.random() * 0.1)
            child.kill()
        said = [json.loads(line) for line in (await stdout.read()).splitlines() if line.endswith(b"}")]
        assert await child.wait() == -signal.SIGKILL
        store = await SqliteStore.open(path)
        log = Log(store, HandClock())
        page = await store.read(A, 0, 10**6)
        found = {json.loads(row.body)["message"]: row.seq for row in page.rows}
        assert [row.seq for row in page.rows] == list(range(1, page.head + 1)), "holes"
        assert all(found[line["message"]] == line["seq"] for line in said), "an acknowledged event is gone or moved"
        assert len(found) == page.head, "an event is there twice"
        acknowledged += len(said)
        assert await store.marked("r") == page.head, "event and mark are one transaction"
        upto = page.head - chance.randint(0, 5)
        if cursor < upto:
            async for row in log.follow(A, cursor):
                assert not isinstance(row, Gap)
                followed.append(row.seq)
                cursor = row.seq
                if cursor >= upto:
                    break
        await store.close()
    assert followed == list(range(1, cursor + 1))
    db = sqlite3.connect(path)
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    db.close()
