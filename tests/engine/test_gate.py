"""Rates, quotas, wrong credentials and connections, by a clock that the tests wind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core.access import Principal
from pilothouse.core.bucket import DAY_S, Bucket, Rates
from pilothouse.core.errors import Conflict, RateLimited, TooMany, Unavailable
from pilothouse.engine import gate as gates
from pilothouse.engine.gate import RESERVE, WRONG, Gate, network
from pilothouse.engine.ports import Commit, Op
from tests.engine.fakes import HandClock

NOON = 1_767_225_600.0 + DAY_S / 2


def caller(
    name: str = "k", kind: Literal["key", "person", "link"] = "key", credential: str = "", rates: Rates | None = None
) -> Principal:
    return Principal(
        kind,
        name,
        name,
        "local",
        frozenset({"run"}),
        credential or f"key:{name}",
        rates=rates,
    )


class CountingStore(MemoryStore):
    written = 0

    async def commit(self, *ops: Op) -> Commit:
        self.written += 1
        return await super().commit(*ops)


@pytest.fixture
def clock() -> HandClock:
    return HandClock(NOON)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


async def start(gate: Gate, who: Principal, count: int = 1) -> int:
    """How many left, as told."""
    left = -1
    for _ in range(count):
        async with gate.job(who) as state:
            assert state is not None
            left = state.remaining
    return left


def test_a_key_has_its_burst_then_its_rate_and_others_have_theirs(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock)
    for _ in range(20):
        gate.request(caller())
    with pytest.raises(RateLimited, match="10 requests a second, 20 at once") as told:
        gate.request(caller())
    assert told.value.code == "rate_limited"
    gate.request(caller("other"))
    gate.request(caller("wide", rates=Rates(0, 1, 0)))
    slow = caller("slow", rates=Rates(1, 1, 0))
    gate.request(slow)
    with pytest.raises(RateLimited):
        gate.request(slow)
    clock._now += 0.1
    gate.request(caller())
    with pytest.raises(RateLimited):
        gate.request(caller())


def test_a_page_is_not_counted_its_prompts_are(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock)
    person = caller("local", "person", "signin:aa")
    for _ in range(100):
        assert gate.request(person) is None
        assert gate.request(caller("l", "link", "link:l")) is None
    for _ in range(20):
        gate.act(person)
    with pytest.raises(RateLimited):
        gate.act(caller("local", "person", "signin:bb"))  # another sign-in of the same person
    with pytest.raises(RateLimited):
        gate.request(caller("local", "person", "jwt:cc"))  # a program with the person's token


async def test_the_day_is_counted_to_its_end_and_begins_at_midnight_utc(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock, Rates(per_day=5))
    assert await start(gate, caller(), 5) == 0
    with pytest.raises(RateLimited) as told:
        await start(gate, caller())
    assert told.value.code == "quota_exceeded"
    assert told.value.headers["retry-after"] == str(DAY_S // 2)
    assert told.value.headers["x-ratelimit-reset"] == str(int(NOON) + DAY_S // 2)
    clock._now = NOON + DAY_S / 2 - 1
    with pytest.raises(RateLimited):
        await start(gate, caller())
    clock._now += 1
    assert await start(gate, caller()) == 4
    clock._now -= 60  # back over midnight: no third portion
    assert await start(gate, caller()) == 3


async def test_a_job_that_is_refused_is_given_back(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock, Rates(per_day=2))
    for _ in range(5):
        with pytest.raises(Conflict):
            async with gate.job(caller()):
                raise Conflict
    assert await start(gate, caller(), 2) == 0


async def test_many_at_once_get_no_more_than_there_is(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock, Rates(per_day=25))
    done = await asyncio.gather(*[start(gate, caller()) for _ in range(60)], return_exceptions=True)
    assert sum(isinstance(d, int) for d in done) == 25
    assert all(isinstance(d, int | RateLimited) for d in done)


async def test_a_killed_server_forgets_nothing_and_writes_once_for_ten(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock, Rates(per_day=1000))
    await start(gate, caller(), 25)
    assert store.written == 3
    killed = Gate(store, clock, Rates(per_day=1000))  # nobody closed the first
    left = await start(killed, caller())
    assert 1000 - 26 - (RESERVE - 1) <= left <= 1000 - 26
    await killed.close()
    told = await start(Gate(store, clock, Rates(per_day=1000)), caller())
    assert told == left - 1  # one that was closed loses nothing


async def test_of_a_small_quota_nothing_is_taken_ahead(store: CountingStore, clock: HandClock) -> None:
    await start(Gate(store, clock, Rates(per_day=3)), caller())
    assert await start(Gate(store, clock, Rates(per_day=3)), caller()) == 1


async def test_no_job_is_let_through_that_cannot_be_written_down(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock, Rates(per_day=1000))
    await start(gate, caller(), 3)
    store.failing = "disk full"
    await start(gate, caller(), 7)  # taken ahead already
    with pytest.raises(Unavailable):
        await start(gate, caller())
    store.failing = ""
    assert await start(gate, caller()) == 989


async def test_counts_of_days_gone_are_forgotten(store: CountingStore, clock: HandClock) -> None:
    for n in range(3):
        await start(Gate(store, clock), caller(f"k{n}"))
    clock._now += 3 * DAY_S
    await start(Gate(store, clock), caller("new"))
    await Gate(store, clock).start()
    assert [name for name, _ in await store.scan("quota")] == ["key:default:new"]


async def test_no_quota_writes_nothing(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock, Rates(per_day=0))
    async with gate.job(caller()) as state:
        assert state is None
    assert store.written == 0


# --- wrong credentials ---


def fail(gate: Gate, address: str, *shown: str) -> list[float]:
    """How long each was told to wait; 0 for an ordinary refusal."""
    told = []
    for text in shown:
        try:
            gate.wrong(address, text)
            told.append(0.0)
        except RateLimited as error:
            told.append(float(error.headers["retry-after"]))
    return told


def test_wrong_credentials_of_an_address_come_to_pauses_that_double(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock)
    assert not any(fail(gate, "10.0.0.1", *[f"a{n}" for n in range(WRONG.burst)]))
    pauses = []
    for n in range(8):
        (pause,) = fail(gate, "10.0.0.1", f"b{n}")
        pauses.append(pause)
        assert fail(gate, "10.0.0.1", f"c{n}")[0] >= 1  # one that comes too early makes it no longer
        clock._now += pause
        gate._wrong.get("10.0.0.1").bucket = Bucket(0.0, clock.now())  # type: ignore[union-attr]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64]
    assert fail(gate, "10.0.0.2", "x") == [0.0]
    clock._now += 3600
    assert not any(fail(gate, "10.0.0.1", *[f"d{n}" for n in range(WRONG.burst)]))
    assert fail(gate, "10.0.0.1", "e") == [1.0]


def test_the_same_wrong_credential_again_costs_nothing(store: CountingStore, clock: HandClock) -> None:
    """A client whose key was revoked asks for ever, and is to hear that, and not to shut others out."""
    gate = Gate(store, clock)
    assert not any(fail(gate, "10.0.0.1", *["old key"] * 500))
    assert not any(fail(gate, "10.0.0.1", *[f"a{n}" for n in range(WRONG.burst - 1)]))


def test_addresses_of_one_subscriber_count_as_one() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("::ffff:10.0.0.1") == network("10.0.0.1") != network("10.0.0.2")
    assert network("local") == "local"
    assert len(network("x" * 10_000)) <= 64


def test_c30_memory_is_bounded(store: CountingStore, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "HOLDERS_MAX", 50)
    gate, steady = Gate(store, clock), caller("steady")
    for n in range(500):
        gate.wrong(f"10.0.{n // 256}.{n % 256}", "x")
        gate.request(caller(f"k{n}"))
        if n % 40 == 0:
            gate.request(steady)
    assert len(gate._wrong) == len(gate._buckets) == 50
    with pytest.raises(RateLimited):
        for _ in range(11):
            gate.request(steady)  # who is there all the time is not the one who is forgotten


# --- connections ---


def test_connections_of_one_are_counted_over_all_kinds_and_let_go(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock, connections_max=3)
    with contextlib.ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(gate.connected(caller()))
        with pytest.raises(TooMany, match="3 connections"):
            gate.connected(caller())
        opened.enter_context(gate.connected(caller("other")))
    gate.connected(caller())
    assert not gate._open


def test_connections_of_one_share_what_counts_them(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock)
    mine = [gate.connected(caller(), ":events", 5) for _ in range(3)]
    others = [gate.connected(caller("other"), ":events", 5), gate.connected(caller()), gate.connected(caller(), "", 7)]
    assert len({id(one) for one in mine}) == 1
    assert len({id(one) for one in (*mine, *others)}) == 4
    del mine, others
    assert not gate._rooms


def test_connections_of_everybody_have_an_end_too(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock, connections_max=3, everybody_max=4)
    with contextlib.ExitStack() as opened:
        for n in range(4):
            late = gate.connected(caller(f"c{n}"))
            opened.enter_context(gate.connected(caller(f"c{n}"), ":events", 10))
        for refused in (lambda: gate.connected(caller("other")), late.__enter__):
            with pytest.raises(TooMany, match="as it can hold"):
                refused()
        opened.enter_context(gate.knocking("2001:db8::1"))
    with gate.connected(caller("other")):
        pass
    assert not gate._open
    assert not gate._all


def test_sockets_that_are_not_signed_in_are_counted_by_address(store: CountingStore, clock: HandClock) -> None:
    gate = Gate(store, clock)
    with contextlib.ExitStack() as opened:
        for n in range(gates.KNOCKING_MAX):
            opened.enter_context(gate.knocking(f"2001:db8::{n:x}"))
        with pytest.raises(TooMany):
            gate.knocking("2001:db8::abcd")
        gate.knocking("2001:db8:1::1")
    assert not gate._knocking
