"""Random commits, trims, folds and restarts against a model that is too simple to be wrong."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import events as ev
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Append, Delete, EventStore, Mark, Op, Purge, Put

T = TypeVar("T")
SESSIONS = [SessionId("s"), SessionId("t")]

sessions = st.sampled_from(SESSIONS)
words = st.sampled_from(["x", "y", "zz"])
appends = st.builds(
    lambda session, content, message: Append(
        session, ev.encode(ev.Stream(content=content, message_id=message, session_id=session))
    ),
    sessions,
    words,
    st.sampled_from(["m", "n"]),
)
others = st.builds(lambda session: Append(session, b'{"type":"error","code":"c","message":"m"}'), sessions)
documents = st.builds(Put, st.just("k"), words, st.binary(max_size=3), st.sampled_from(["", "s", "t"]))
deletes = st.builds(Delete, st.just("k"), words)
purges = st.builds(Purge, sessions)
commits = st.lists(st.one_of(appends, appends, others, documents, deletes, purges), max_size=8)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.logs: dict[str, list[tuple[int, str]]] = {}
        """The text of each event by its number, whether folded since or not."""
        self.trimmed: dict[str, int] = {}
        self.docs: dict[str, tuple[bytes, str]] = {}
        self.mark = 0
        self.store: EventStore = self.make()

    def make(self) -> EventStore:
        return MemoryStore()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @rule(ops=commits)
    def commit(self, ops: list[Op]) -> None:
        commit = self.run(self.store.commit(*ops))
        assert [row.seq for row in commit.rows] == self.apply(ops)

    @rule(several=st.lists(commits, max_size=5))
    def commit_together(self, several: list[list[Op]]) -> None:
        async def together() -> list[Any]:
            return await asyncio.gather(*(self.store.commit(*ops) for ops in several))

        for ops, commit in zip(several, self.run(together()), strict=True):
            assert [row.seq for row in commit.rows] == self.apply(ops)

    @rule(ops=commits, n=st.integers(1, 6))
    def commit_marked(self, ops: list[Op], n: int) -> None:
        commit = self.run(self.store.commit(Mark("r", n), *ops))
        assert commit.repeated == (n <= self.mark)
        if not commit.repeated:
            self.mark = n
            assert [row.seq for row in commit.rows] == self.apply(ops)

    @rule(session=sessions, before=st.integers(0, 40))
    def trim(self, session: SessionId, before: int) -> None:
        self.run(self.store.trim(session, before))
        self.trimmed[session] = max(self.trimmed.get(session, 0), before)

    @rule(session=sessions, upto=st.integers(0, 40))
    def fold(self, session: SessionId, upto: int) -> None:
        self.run(self.store.fold(session, upto))

    @invariant()
    def logs_agree(self) -> None:
        for session in SESSIONS:
            log = self.logs.get(session, [])
            page = self.run(self.store.read(session, 0, 1000))
            assert page.head == len(log)
            expected = page.oldest
            for row in page.rows:
                assert row.first == expected, "a hole"
                expected = row.seq + 1
                event = ev.decode(row.body)
                assert event.seq == row.seq
                whole = "".join(word for seq, word in log if row.first <= seq <= row.seq)
                assert (event.content if isinstance(event, ev.Stream) else "!") == whole
            assert expected == len(log) + 1
            kept = min(self.trimmed.get(session, 0), len(log) + 1)
            assert page.oldest <= max(kept, 1), "more is gone than was asked for"
            for after in (0, len(log) // 2, len(log)):
                rest = self.run(self.store.read(session, after, 3)).rows
                assert rest == tuple(row for row in page.rows if row.seq > after)[:3]

    @invariant()
    def documents_agree(self) -> None:
        assert self.run(self.store.scan("k")) == sorted((key, doc) for key, (doc, _) in self.docs.items())
        for owner in ("", "s"):
            mine = sorted((key, doc) for key, (doc, whose) in self.docs.items() if whose == owner)
            assert self.run(self.store.scan("k", owner=owner, newest=True)) == mine[::-1]
        assert self.run(self.store.marked("r")) == self.mark

    def apply(self, ops: list[Op]) -> list[int]:
        given: list[int] = []
        for op in ops:
            if isinstance(op, Append):
                log = self.logs.setdefault(op.session, [])
                event = ev.decode(op.body)
                log.append((len(log) + 1, event.content if isinstance(event, ev.Stream) else "!"))
                given.append(len(log))
            elif isinstance(op, Put):
                self.docs[op.id] = (op.doc, op.owner)
            elif isinstance(op, Delete):
                self.docs.pop(op.id, None)
            elif isinstance(op, Purge):
                self.logs.pop(op.session, None)
                self.trimmed.pop(op.session, None)
                self.docs = {key: doc for key, doc in self.docs.items() if doc[1] != op.session}
        return given

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()


class SqliteMachine(Machine):
    def make(self) -> EventStore:
        self.directory = tempfile.TemporaryDirectory()
        return self.run(SqliteStore.open(Path(self.directory.name) / "store.db"))

    @rule()
    def restart(self) -> None:
        epoch = self.store.epoch
        self.run(self.store.close())
        self.store = self.run(SqliteStore.open(Path(self.directory.name) / "store.db"))
        assert self.store.epoch == epoch

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
SqliteMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestMemory = Machine.TestCase
TestSqlite = SqliteMachine.TestCase
