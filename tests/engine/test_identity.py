"""Tickets are used once, everything has an end, and what was revoked stays so, whatever happens at that moment."""

from __future__ import annotations

import asyncio
import json

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.errors import BadRequest, Conflict, NotFound, Unauthenticated, Unavailable
from pilothouse.engine.identity import COOKIE_S, TICKET_S, Identity
from pilothouse.engine.ports import Commit, Op
from tests.engine.fakes import HandClock


class SlowStore(MemoryStore):
    """Every call takes a turn of the loop or two, as a real one does."""

    async def commit(self, *ops: Op) -> Commit:
        await asyncio.sleep(0)
        done = await super().commit(*ops)
        await asyncio.sleep(0)
        return done

    async def get(self, kind: str, id: str) -> bytes | None:
        found = await super().get(kind, id)
        for _ in range(4):
            await asyncio.sleep(0)
        return found


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def identity(clock: HandClock) -> Identity:
    return Identity(SlowStore(), clock)


async def test_a_ticket_is_good_for_one_sign_in_however_many_ask(identity: Identity) -> None:
    ticket, _ = await identity.ticket()
    results = await asyncio.gather(*[identity.redeem(ticket) for _ in range(10)], return_exceptions=True)
    cookies = [r for r in results if isinstance(r, str)]
    assert len(cookies) == 1
    assert all(isinstance(r, str | Unauthenticated) for r in results)
    assert (await identity.by_cookie(cookies[0])).kind == "person"
    with pytest.raises(Unauthenticated):
        await identity.redeem(ticket)


async def test_whoever_is_disabled_gets_no_ticket_and_no_sign_in_for_an_old_one(identity: Identity) -> None:
    await identity.load()
    await identity.members.put("default", "ann", role="viewer")
    ticket, _ = await identity.ticket("ann")
    await identity.members.put("default", "ann", disabled=True)
    with pytest.raises(Conflict, match="disabled"):
        await identity.ticket("ann")
    with pytest.raises(Unauthenticated, match="disabled"):
        await identity.redeem(ticket)
    assert [json.loads(line)["action"] for line in await identity.audit.after("default", 0, 100)].count("signin") == 0
    await identity.members.put("default", "ann", disabled=False)
    assert (await identity.by_cookie(await identity.redeem(ticket))).account == "ann"


async def test_a_ticket_and_a_cookie_end(identity: Identity, clock: HandClock) -> None:
    ticket, until = await identity.ticket()
    assert until == clock.now() + TICKET_S
    await clock.wind(TICKET_S + 1)
    with pytest.raises(Unauthenticated, match="too old"):
        await identity.redeem(ticket)
    ticket, _ = await identity.ticket()
    await clock.wind(TICKET_S - 1)
    cookie = await identity.redeem(ticket)
    who = await identity.by_cookie(cookie)
    assert identity.left(who) == COOKIE_S
    await clock.wind(COOKIE_S + 1)
    assert identity.left(who) == 0
    with pytest.raises(Unauthenticated, match="ended"):
        await identity.by_cookie(cookie)


async def test_old_tickets_and_sign_ins_are_removed(identity: Identity, clock: HandClock) -> None:
    store = identity._store
    for _ in range(3):
        await identity.redeem((await identity.ticket())[0])
        await identity.ticket()
    await clock.wind(COOKIE_S + 1)
    await identity.ticket()
    assert len(await store.scan("ticket")) == 1
    assert await store.scan("signin") == []
    assert identity._cookies == {}


async def test_a_revoked_key_and_an_ended_sign_in_are_refused_at_once_and_told(identity: Identity) -> None:
    told: list[str] = []
    identity.on_revoke.append(told.append)
    record, key = await identity.keys.create("ci", ("read",))
    who = await identity.keys.by_secret(key)
    assert (who.kind, who.scopes, identity.left(who)) == ("key", frozenset({"read"}), None)
    await identity.keys.revoke(record.id)
    assert identity.left(who) == 0
    with pytest.raises(Unauthenticated):
        await identity.keys.by_secret(key)
    with pytest.raises(NotFound):
        await identity.keys.revoke(record.id)
    cookie = await identity.redeem((await identity.ticket())[0])
    person = await identity.by_cookie(cookie)
    await identity.sign_out(cookie)
    with pytest.raises(Unauthenticated):
        await identity.by_cookie(cookie)
    assert told == [who.credential, person.credential]


@pytest.mark.parametrize("turns", range(12))
async def test_a_key_that_is_used_while_it_is_revoked_does_not_come_back(turns: int, clock: HandClock) -> None:
    """Writing down when it was last used once wrote the whole key back, for good."""
    store = SlowStore()
    made = Identity(store, clock)
    record, key = await made.keys.create("ci", ("admin",))
    await made.keys.by_secret(key)
    await clock.wind(1000)
    for identity in (made, Identity(store, clock)):  # with the key in memory, and without
        revoking = asyncio.create_task(identity.keys.revoke(record.id))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.gather(identity.keys.by_secret(key), return_exceptions=True)
        await asyncio.gather(revoking, return_exceptions=True)
        with pytest.raises(Unauthenticated):
            await identity.keys.by_secret(key)
        assert await store.get("key", record.id) is None


@pytest.mark.parametrize("turns", range(8))
async def test_a_cookie_that_is_used_while_it_is_signed_out_does_not_come_back(turns: int, clock: HandClock) -> None:
    store = SlowStore()
    cookie = await Identity(store, clock).redeem((await Identity(store, clock).ticket())[0])
    identity = Identity(store, clock)
    leaving = asyncio.create_task(identity.sign_out(cookie))
    for _ in range(turns):
        await asyncio.sleep(0)
    await asyncio.gather(identity.by_cookie(cookie), return_exceptions=True)
    await leaving
    with pytest.raises(Unauthenticated):
        await identity.by_cookie(cookie)


@pytest.mark.parametrize("text", [
    "", "ph_", "nonsense", "ph_000000000000_" + "x" * 43, "ph_000000000000_" + "x" * 44, "\x00", "é" * 60,
    "PH_000000000000_" + "x" * 43, "ph_00000000000g_" + "x" * 43, "x" * 100_000, "ph_000000000000_" + "x" * 43 + "\n",
])  # fmt: skip
async def test_what_is_no_credential_is_refused(identity: Identity, text: str) -> None:
    for asked in (identity.keys.by_secret(text), identity.by_cookie(text), identity.redeem(text)):
        with pytest.raises(Unauthenticated):
            await asked


async def test_only_hashes_are_kept(identity: Identity) -> None:
    store = identity._store
    _, key = await identity.keys.create("ci", ("read",))
    ticket, _ = await identity.ticket()
    cookie = await identity.redeem((await identity.ticket())[0])
    docs = b"".join([name.encode() + doc for k in ("key", "ticket", "signin") for name, doc in await store.scan(k)])
    for secret in (key.split("_", 2)[2], ticket, cookie):
        assert secret.encode() not in docs


async def test_a_full_disk_makes_nothing_and_locks_nobody_out(clock: HandClock) -> None:
    store = MemoryStore()
    identity = Identity(store, clock)
    record, key = await identity.keys.create("ci", ("read",))
    await clock.wind(1000)
    store.failing = "disk full"
    await identity.keys.by_secret(key)
    for act in (identity.keys.create("x", ("read",)), identity.ticket(), identity.keys.revoke(record.id)):
        with pytest.raises(Unavailable):
            await act
    store.failing = ""
    assert len(await identity.keys.all()) == 1
    await identity.keys.by_secret(key)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101, "\x7f"])
async def test_a_bad_name_is_named(identity: Identity, name: str) -> None:
    with pytest.raises(BadRequest, match="name"):
        await identity.keys.create(name, ("read",))
