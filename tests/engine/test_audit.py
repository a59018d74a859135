"""One chain, whoever writes and whatever fails; an act and its record are both there, or neither is."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.core import chain, link
from pilothouse.core import events as ev
from pilothouse.core.access import Principal
from pilothouse.core.chain import Whole
from pilothouse.core.errors import PilothouseError, Unavailable
from pilothouse.core.ids import ApprovalId
from pilothouse.engine import audit as audits
from pilothouse.engine.audit import OTHERS, SERVER, WINDOW_S, Audit, Entry, Who
from pilothouse.engine.identity import Identity
from pilothouse.engine.keeping import AuditUpkeep
from pilothouse.engine.ports import Commit, Op, Put, StoreFailed
from tests.engine.conftest import Bench
from tests.engine.fakes import HandClock


def person(name: str = "ann", org: str = "default") -> Who:
    principal = Principal("person", name, name, "local", frozenset(), f"signin:{name}", organisation=org)
    return Who(principal, "192.0.2.7")


async def whole(audit: Audit, org: str = "default") -> list[dict[str, object]]:
    """All records of a chain, which is whole and ends at its head."""
    lines = await audit.after(org, 0, 10_000)
    head = await audit.head(org)
    if lines:
        found = chain.verify(lines, chain.Head(head.seq, head.hash))
        assert isinstance(found, Whole), found
    return [json.loads(line) for line in lines]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def audit(store: MemoryStore, clock: HandClock) -> Audit:
    return Audit(store, clock)


async def test_a_record_says_who_what_from_where_when_and_what_came_of_it(audit: Audit, clock: HandClock) -> None:
    who = person()
    await audit.note(who.principal, "member.add", "member:bob", "192.0.2.7", role="viewer")
    (record,) = await whole(audit)
    assert {k: v for k, v in record.items() if k != "hash"} == {
        "v": 1, "org": "default", "seq": 1, "at": "2027-01-15T08:00:00.000Z",
        "actor": {"kind": "person", "id": "ann", "name": "ann", "credential": "signin:ann"},
        "action": "member.add", "object": "member:bob", "address": "192.0.2.7", "outcome": "ok",
        "details": {"role": "viewer"}, "prev": "0" * 64,
    }  # fmt: skip


async def test_writers_at_once_make_one_chain_each_organisation_its_own(tmp_path: Path, clock: HandClock) -> None:
    store = await SqliteStore.open(tmp_path / "log.sqlite")
    audit = Audit(store, clock)
    try:
        await asyncio.gather(
            *[
                audit.commit(person(org=org), [Entry("a"), Entry("b")], Put("thing", f"{org}{n}", b"{}"))
                for n in range(40)
                for org in ("default", "other")
            ]
        )
        for org in ("default", "other"):
            assert [r["seq"] for r in await whole(audit, org)] == list(range(1, 81))
            assert {r["org"] for r in await whole(audit, org)} == {org}
    finally:
        await store.close()


async def test_whoever_leaves_in_the_middle_breaks_no_chain(clock: HandClock) -> None:
    class InLine(MemoryStore):
        """As the durable one: a commit that was asked for happens, in its turn, whether somebody waits or not."""

        last: asyncio.Future[Commit] | None = None
        given = 0

        async def commit(self, *ops: Op) -> Commit:
            self.given += sum(isinstance(op, Put) and op.kind == "audit" for op in ops)
            self.last = asyncio.ensure_future(self._in_turn(self.last, ops))
            return await asyncio.shield(self.last)

        async def _in_turn(self, before: asyncio.Future[Commit] | None, ops: tuple[Op, ...]) -> Commit:
            if before is not None:
                await before
            for _ in range(5):
                await asyncio.sleep(0)
            return await super().commit(*ops)

    store = InLine()
    audit = Audit(store, clock)

    async def bare() -> None:
        """As one that commits by itself inside, and is not shielded."""
        async with audit.noting(person(), Entry("bare")) as ops:
            await audit._store.commit(*ops)

    for turns in range(8):
        for work in (audit.commit(person(), [Entry("left")]), bare()):
            task = asyncio.create_task(work)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await audit.commit(person(), [Entry("after")])
    records = await whole(audit)
    assert sum(r["action"] == "after" for r in records) == 16
    assert len(records) == store.given > 25, "none was written over"


@pytest.mark.parametrize("nth", range(1, 5))
async def test_killed_between_any_two_writes_leaves_both_or_neither(nth: int, clock: HandClock) -> None:
    """Every commit from the `nth` on is lost, as in a crash; a new server goes on with the chain."""

    class Dying(MemoryStore):
        left = nth

        async def commit(self, *ops: Op) -> Commit:
            self.left -= 1
            if self.left <= 0:
                raise StoreFailed("killed")
            return await super().commit(*ops)

    store = Dying()
    identity = Identity(store, clock, Audit(store, clock))
    for act in (
        lambda: identity.keys.create("a", ("read",)),
        identity.ticket,
        lambda: identity.keys.create("b", ("run",)),
    ):
        try:
            await act()
        except PilothouseError:
            break
    store.left = 1_000
    audit = Audit(store, clock)
    made = [r["action"] for r in await whole(audit)]
    assert made == ["key.create", "ticket.create", "key.create"][: nth - 1]
    assert len(await store.scan("key")) == made.count("key.create")
    assert len(await store.scan("ticket")) == made.count("ticket.create")
    await audit.note(None, "server.start", "", "")
    assert len(await whole(audit)) == nth


async def test_a_disk_that_is_full_refuses_the_act_and_leaves_the_chain_whole(tmp_path: Path, clock: HandClock) -> None:
    store = await SqliteStore.open(tmp_path / "log.sqlite", max_pages=40)
    try:
        identity = Identity(store, clock, Audit(store, clock))
        made = 0
        with pytest.raises(Unavailable):
            while True:
                await identity.keys.create("k" * 100, ("read",))
                made += 1
        audit, refused = Audit(store, clock), 0
        assert len(await store.scan("key")) == len(await whole(audit)) == made > 5
        for _ in range(20):  # a shorter way into the tree may have room for one more
            try:
                await identity.keys.create("k" * 100, ("read",))
                made += 1
            except Unavailable:
                refused += 1
            assert len(await store.scan("key")) == len(await whole(audit)) == made
        assert refused
    finally:
        await store.close()


async def test_two_that_decide_at_once_leave_one_record(bench: Bench) -> None:
    session = await bench.session()
    _, runner = await bench.run(session)
    runner.say(link.PermissionAsk(request_id="r", tool_id="t", tool="Bash", input={"command": "echo s3cret"}))
    event = (await bench.until(session, ev.ApprovalRequired))[-1]
    assert isinstance(event, ev.ApprovalRequired)
    await asyncio.gather(
        *[
            session.approvals.decide(ApprovalId(event.approval_id), approved=True, by=name, who=person(name))
            for name in ("ann", "bob", "cid")
        ],
        return_exceptions=True,
    )
    found = [r for r in await whole(bench.sessions.kit.audit) if r["object"] == f"approval:{event.approval_id}"]
    assert [(r["action"], r["actor"]["name"]) for r in found] == [("approval.approve", "ann")]  # type: ignore[index]
    assert found[0]["details"]["inputHash"] == event.input_hash  # type: ignore[index]
    assert "s3cret" not in str(found)


async def test_a_session_that_was_idle_is_nobodys_act(bench: Bench) -> None:
    session = await bench.session()
    await bench.run(session)
    await bench.sessions.stop(session)
    assert [r["action"] for r in await whole(bench.sessions.kit.audit)] == ["session.create"]


# --- refusals ---


async def test_refusals_are_one_record_at_once_and_one_with_their_number(audit: Audit, clock: HandClock) -> None:
    for _ in range(1000):
        await audit.counted(Who(None, "198.51.100.1"), Entry("credential.refuse", outcome="refused"))
    await audit.counted(Who(None, "198.51.100.2"), Entry("credential.refuse", outcome="refused"))
    assert [(r["address"], r["details"]) for r in await whole(audit)] == [("198.51.100.1", {}), ("198.51.100.2", {})]
    await clock.wind(WINDOW_S)
    await audit.flush()
    *_, last = await whole(audit)
    assert (last["seq"], last["address"], last["actor"]["kind"]) == (3, "198.51.100.1", "nobody")  # type: ignore[index]
    assert last["details"] == {"count": 999, "since": "2027-01-15T08:00:00.000Z"}


async def test_c30_a_flood_from_everywhere_makes_few_records_and_holds_little(audit: Audit, clock: HandClock) -> None:
    for n in range(5000):
        await audit.counted(Who(None, f"2001:db8:0:{n:x}::1"), Entry("credential.refuse", outcome="refused"))
    assert len(await whole(audit)) == audits.REFUSALS_MAX + 1 == len(audit._counts)
    await audit.flush(every=True)
    *_, last = await whole(audit)
    assert (last["address"], last["details"]["count"]) == (OTHERS, 5000 - audits.REFUSALS_MAX - 1)  # type: ignore[index]
    assert not audit._counts


async def test_c30_one_network_is_one_stranger(audit: Audit) -> None:
    for n in range(300):
        await audit.counted(Who(None, f"2001:db8::{n:x}"), Entry("credential.refuse", outcome="refused"))
    assert len(await whole(audit)) == 1


async def test_c30_a_flood_hides_neither_what_succeeds_nor_another_organisation(audit: Audit) -> None:
    for n in range(300):
        await audit.counted(Who(None, f"192.0.{n // 200}.{n % 200}"), Entry("credential.refuse", outcome="refused"))
    await audit.counted(person("bob"), Entry("signin", "link:1"))
    *_, last = await whole(audit)
    assert (last["object"], last["actor"]["id"]) == ("link:1", "bob")  # type: ignore[index]
    await audit.counted(person("ann", "red"), Entry("signin", "link:2", "refused"))
    (told,) = await whole(audit, "red")
    assert (told["object"], told["actor"]["id"]) == ("link:2", "ann")  # type: ignore[index]


async def test_a_refusal_is_a_refusal_when_nothing_can_be_written(audit: Audit, store: MemoryStore) -> None:
    store.failing = "disk full"
    await audit.counted(Who(None, "198.51.100.1"), Entry("signin", outcome="refused"))
    await audit.flush(every=True)
    with pytest.raises(Unavailable):
        await audit.note(None, "key.create", "key:x", "198.51.100.1")
    store.failing = ""
    assert await whole(audit) == []
    assert await store.scan("audit") == []


# --- reading and retention ---


async def test_pages_newest_first_and_filtered(audit: Audit) -> None:
    for n in range(450):
        await audit.commit(person(f"p{n % 3}"), [Entry("key.create" if n % 2 else "key.revoke", f"key:{n}")])
    page, more = await audit.before("default", None, 100)
    assert [chain.number(line) for line in page] == list(range(450, 350, -1))
    assert more == 351
    seen, at = [], None
    while True:
        page, at = await audit.before("default", at, 60, lambda r: r.action == "key.create" and r.actor.id == "p1")
        seen += [chain.number(line) for line in page]
        if at is None:
            break
    assert seen == [n + 1 for n in reversed(range(450)) if n % 2 and n % 3 == 1]
    assert await audit.before("other", None, 10) == ([], None)


async def test_a_filter_that_finds_nothing_looks_no_further_than_it_may(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "SCAN_MAX", 400)
    for _ in range(500):
        await audit.commit(SERVER, [Entry("a")])
    assert await audit.before("default", None, 10, lambda _: False) == ([], 101)
    assert await audit.before("default", 101, 10, lambda _: False) == ([], None)


async def test_what_retention_removes_is_noted_and_the_rest_is_whole(bench: Bench, clock: HandClock) -> None:
    store = bench.store
    audit = Audit(store, clock)
    for _ in range(3):
        await audit.note(None, "old", "", "")
    await clock.wind(40 * 86_400)
    await audit.note(None, "new", "", "")
    before = await audit.after("default", 0, 100)
    assert await audit.trim("default", clock.now() - 30 * 86_400) == 3
    lines = await audit.after("default", 0, 100)
    found = chain.verify(lines)
    assert isinstance(found, Whole)
    assert (found.first, found.last, found.prev) == (4, 5, json.loads(before[2])["hash"])
    trimmed = json.loads(lines[-1])
    assert (trimmed["action"], trimmed["details"]["upTo"]) == ("audit.trim", 3)
    assert (await audit.head("default")).oldest == 4
    assert await audit.trim("default", clock.now() - 30 * 86_400) == 0
    await clock.wind(400 * 86_400)
    await audit.trim("default", clock.now())
    assert len(await audit.after("default", 0, 100)) == 2  # the newest of before, and the note


async def test_the_head_is_told_to_the_servers_log_once_a_day(bench: Bench) -> None:
    told: list[dict[str, object]] = []

    def note(what: str, /, **fields: object) -> None:
        told.append({"what": what, **fields})

    kit = dataclasses.replace(bench.sessions.kit, note=note)
    await kit.audit.note(None, "server.start", "", "")
    upkeep = AuditUpkeep(kit, 365)
    await upkeep.once()
    await upkeep.once()
    head = await kit.audit.head("default")
    assert told == [{"what": "audit_head", "organisation": "default", "seq": head.seq, "hash": head.hash}]
    await bench.clock.wind(86_400)
    await upkeep.once()
    assert len(told) == 2
