"""What every `EventStore` promises, asked of each of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.adapters.stores import transaction
from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import events as ev
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Append, Commit, Delete, EventStore, Mark, Purge, Put, Row, StoreFailed

A, B = SessionId("a"), SessionId("b")


@pytest.fixture(params=["memory", "sqlite", "sqlite full"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventStore]:
    made: EventStore
    if request.param == "memory":
        made = MemoryStore()
    else:
        made = await SqliteStore.open(tmp_path / "store.db", full=request.param == "sqlite full")
    yield made
    await made.close()


def event(n: int, session: SessionId = A) -> Append:
    return Append(session, b'{"n":%d}' % n)


def text(
    content: str, message: str = "m", kind: type[ev.Stream] | type[ev.Thinking] = ev.Stream, **more: Any
) -> Append:
    made = kind(content=content, message_id=message, session_id=A, at="2026-01-01T00:00:00.000Z", **more)
    return Append(A, ev.encode(made))


async def rows(store: EventStore, session: SessionId = A, after: int = 0) -> list[Row]:
    """All rows, however many pages they come in."""
    found: list[Row] = []
    while True:
        page = await store.read(session, found[-1].seq if found else after, 1000)
        if not page.rows:
            return found
        found += page.rows


async def test_numbers_begin_at_one_per_session_and_are_in_the_body(store: EventStore) -> None:
    commit = await store.commit(event(1), event(2), event(3, B))
    assert commit == Commit(
        (Row(1, b'{"n":1,"seq":1}', 1), Row(2, b'{"n":2,"seq":2}', 2), Row(1, b'{"n":3,"seq":1}', 1))
    )
    assert (await store.commit(event(4))).rows[0].seq == 3
    page = await store.read(A, 1, 1)
    assert (page.oldest, page.head, page.rows) == (1, 3, (Row(2, b'{"n":2,"seq":2}', 2),))


async def test_an_unknown_session_is_an_empty_log(store: EventStore) -> None:
    page = await store.read(A, 0, 10)
    assert (page.oldest, page.head, page.rows) == (1, 0, ())
    assert await store.trim(A, 10) == 0
    assert await store.fold(A, 10) == 0
    assert await store.commit() == Commit(())


async def test_commits_keep_the_order_in_which_they_were_asked(store: EventStore) -> None:
    commits = await asyncio.gather(*(store.commit(event(n)) for n in range(2000)))
    assert [commit.rows[0].seq for commit in commits] == list(range(1, 2001))
    assert [json.loads(row.body)["n"] for row in await rows(store)] == list(range(2000))


async def test_a_mark_that_was_taken_makes_the_whole_commit_nothing(store: EventStore) -> None:
    assert not (await store.commit(Mark("r", 5), event(1), Put("k", "1", b"x"))).repeated
    for n in (5, 4, 1):
        again = await store.commit(event(2), Put("k", "1", b"y"), Mark("r", n), Purge(A))
        assert again == Commit((), repeated=True)
    assert await store.marked("r") == 5
    assert await store.marked("other") == 0
    assert await store.get("k", "1") == b"x"
    assert (await store.read(A, 0, 9)).head == 1
    assert not (await store.commit(Mark("r", 6), Mark("s", 1), event(3))).repeated
    assert (await store.commit(Mark("r", 7), Mark("s", 1), event(4))).repeated
    assert await store.marked("r") == 6


async def test_the_same_mark_many_times_at_once_is_taken_once(store: EventStore) -> None:
    commits = await asyncio.gather(*(store.commit(Mark("r", 1 + n // 3), event(n)) for n in range(300)))
    assert sum(not commit.repeated for commit in commits) == 100
    assert (await store.read(A, 0, 1)).head == 100


async def test_documents(store: EventStore) -> None:
    await store.commit(*(Put("k", f"{n:02}", b"%d" % n, "o" if n % 2 else "") for n in range(10)), Put("j", "00", b"j"))
    assert await store.get("k", "03") == b"3"
    assert await store.get("k", "99") is None
    assert [key for key, _ in await store.scan("k")] == [f"{n:02}" for n in range(10)]
    assert [key for key, _ in await store.scan("k", owner="o")] == ["01", "03", "05", "07", "09"]
    assert await store.scan("k", owner="o", after="03", limit=2) == [("05", b"5"), ("07", b"7")]
    assert [key for key, _ in await store.scan("k", newest=True, limit=2)] == ["09", "08"]
    assert [key for key, _ in await store.scan("k", newest=True, after="08", limit=2, owner="")] == ["06", "04"]
    await store.commit(Put("k", "03", b"new", "p"), Delete("k", "05"), Delete("k", "none"))
    assert await store.get("k", "03") == b"new"
    assert [key for key, _ in await store.scan("k", owner="o")] == ["01", "07", "09"]


async def test_ids_sort_as_text_and_any_text_will_do(store: EventStore) -> None:
    ids = ["%", "'; drop table docs; --", "A", "a", "z\0", "é", "😀"]
    await store.commit(*(Put("k", key, key.encode()) for key in ids))
    assert [key for key, _ in await store.scan("k")] == sorted(ids)
    for key in ids:
        assert await store.get("k", key) == key.encode()


async def test_purge_removes_the_log_and_what_the_session_owns(store: EventStore) -> None:
    await store.commit(event(1), event(1, B), Put("k", "1", b"", A), Put("k", "2", b"", B), Put("k", "3", b""))
    await store.commit(Purge(A))
    assert (await store.read(A, 0, 9)).head == 0
    assert (await store.read(B, 0, 9)).head == 1
    assert [key for key, _ in await store.scan("k")] == ["2", "3"]
    commit = await store.commit(event(1, B), Purge(B), event(2, B))
    assert [row.seq for row in commit.rows] == [2, 1]
    assert [row.body for row in await rows(store, B)] == [b'{"n":2,"seq":1}']


async def test_trim_keeps_the_head(store: EventStore) -> None:
    await store.commit(*(event(n) for n in range(3000)))
    assert await store.trim(A, 2501) == 2500
    page = await store.read(A, 0, 1)
    assert (page.oldest, page.head, page.rows[0].seq) == (2501, 3000, 2501)
    assert await store.trim(A, 10**6) == 500
    page = await store.read(A, 0, 1)
    assert (page.oldest, page.head, page.rows) == (3001, 3000, ())
    assert (await store.commit(event(1))).rows[0].seq == 3001


async def test_fold_joins_neighbours_of_one_message(store: EventStore) -> None:
    await store.commit(text("Hel"), text("lo"), text("!"), event(4), text("a"), text("b", "n"), text("c", "n"))
    await store.commit(text("t", "n", ev.Thinking), text("u", "n", ev.Thinking), text("late"), text("later"))
    assert await store.fold(A, 10) == 4
    found = await rows(store)
    assert [(row.first, row.seq) for row in found] == [(1, 3), (4, 4), (5, 5), (6, 7), (8, 9), (10, 10), (11, 11)]
    whole = ev.decode(found[0].body)
    assert isinstance(whole, ev.Stream)
    assert (whole.content, whole.from_, whole.seq, whole.session_id) == ("Hello!", 1, 3, "a")
    assert b'"from"' not in found[5].body
    assert await store.fold(A, 10) == 0
    assert await store.fold(A, 11) == 1


async def test_a_cursor_inside_a_folded_run_gets_the_whole_run_again(store: EventStore) -> None:
    await store.commit(*(text(str(n)) for n in range(1, 6)), event(6))
    await store.fold(A, 6)
    for after, first in ((0, 1), (1, 1), (4, 1), (5, 6)):
        page = await store.read(A, after, 1)
        assert page.rows[0].first == first
        assert page.oldest == 1, "there is no gap"
    await store.trim(A, 3)
    assert (await store.read(A, 0, 1)).oldest == 1, "the run is there as long as any of it is"
    await store.trim(A, 6)
    assert (await store.read(A, 0, 1)).oldest == 6


async def test_a_long_run_is_folded_into_rows_of_bounded_size(store: EventStore) -> None:
    for start in range(0, 5000, 1000):
        await store.commit(*(text(f"{n:04}" * 20) for n in range(start, start + 1000)))
    await store.fold(A, 5000)
    found = await rows(store)
    assert len(found) == 7
    events = [ev.decode(row.body) for row in found]
    assert all(isinstance(event, ev.Stream) and len(event.content) <= ev.FIELD_MAX for event in events)
    assert "".join(event.content for event in events if isinstance(event, ev.Stream)) == "".join(
        f"{n:04}" * 20 for n in range(5000)
    )
    assert [row.first for row in found] == [1, *(row.seq + 1 for row in found[:-1])]


async def test_fold_leaves_what_was_cut_or_belongs_to_other_jobs(store: EventStore) -> None:
    cut = {"content": ev.Cut(size=9, url="u")}
    await store.commit(text("a"), text("b", truncated=cut), text("c"), text("d", job_id="j"), text("e", job_id="k"))
    assert await store.fold(A, 9) == 0


@pytest.mark.parametrize(
    "op",
    [
        Append(A, b""),
        Append(A, b"{}"),
        Append(A, b"[1]"),
        Append(SessionId(""), b'{"a":1}'),
        Append(SessionId("\ud800"), b'{"a":1}'),
        Put("", "1", b""),
        Put("k", "", b""),
        Put("k", "1", b"", "\ud800"),
        Put("k", "1", bytes(17 * 1024 * 1024)),
        Delete("k", ""),
        Mark("", 1),
        Mark("r", 0),
        Mark("r", 2**63),
        Purge(SessionId("")),
    ],
)
async def test_what_no_store_takes(store: EventStore, op: Append | Put | Delete | Mark | Purge) -> None:
    with pytest.raises(ValueError):
        await store.commit(event(1), op)
    assert (await store.read(A, 0, 1)).head == 0


async def test_a_closed_store_says_so(store: EventStore) -> None:
    waiting = [asyncio.ensure_future(store.commit(event(n))) for n in range(100)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert len(await asyncio.gather(*waiting)) == 100
    with pytest.raises(StoreFailed):
        await store.commit(event(1))
    with pytest.raises(StoreFailed):
        await store.read(A, 0, 1)


async def test_a_caller_that_leaves_does_not_take_the_commit_with_it(store: EventStore) -> None:
    task = asyncio.ensure_future(store.commit(event(1)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.commit()
    assert (await store.read(A, 0, 1)).head == 1


async def test_chunks_are_smaller_than_what_was_tried() -> None:
    """The tests of trim and fold above mean something only as long as they take several chunks."""
    assert transaction.CHUNK < 2500
