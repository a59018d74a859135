"""May they, how often: rates and daily quotas of keys and people, wrong credentials by address, open connections.

What is counted (docs/limits.md):

* every request of a program (whatever is no sign-in and no share link) takes from its bucket, and so does each message
  on a chat socket that is to do something, whoever sends it;
* each request or prompt that starts a job counts for the day. One that is refused afterwards is given back.

The count of a day is written ahead, a hundredth of the day's at a time and RESERVE at most: a server that is killed
forgets none, and takes at most that many for used that were not. Buckets are in memory alone: a restart fills them.

A wrong credential costs its address (IPv6: its /64) a token; when there is none left, wrong ones are answered with
`rate_limited`, for a time that doubles. A right credential is never refused for others' wrong ones: it has 256 random
bits or is a signature, so it is not found by trying, and an address may be many people's. What the limit saves is
work, log and audit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import msgspec

from pilothouse.core.access import Principal
from pilothouse.core.bucket import Bucket, Daily, Rates, State, day, limited
from pilothouse.core.errors import PilothouseError, RateLimited, TooMany, Unavailable
from pilothouse.engine.ports import Clock, Delete, EventStore, Put, StoreFailed

T = TypeVar("T")

HOLDERS_MAX = 10_000
"""Keys, people and addresses remembered, of each kind; beyond, those that were away longest begin anew."""
PAGES = ("signin:", "link:")
"""Credentials with which a browser shows the page; those who share a link share its credential too."""
RESERVE = 10
"""Of a day's count, written at once: one write for ten jobs."""
SWEEP_MAX = 10_000
"""Counts of earlier days removed at one start."""
CONNECTIONS_MAX = 100
"""Chat sockets and streams of one key or person: a page has a few, a program that has more does not close them."""
EVERYBODY = ""
"""No holder's name: all of them together."""
ADDRESS_MAX = 64
"""Characters that count of what is none, and up to which one is remembered."""
NETWORKS_MAX = 1024
"""Addresses whose network need not be found again."""
KNOCKING_MAX = 50
"""Sockets of one address that are not signed in yet."""
WRONG = Rates(per_s=0.1, burst=30, per_day=0)
"""Wrong credentials of one address: a person mistypes a few, a script that is wrong is wrong for ever."""
WRONG_KNOWN = 8
"""Wrong credentials remembered per address: the same again is a client that has not noticed, and costs nothing."""
PAUSE_MAX_S = 64.0


@dataclass(slots=True)
class _Wrong:
    bucket: Bucket
    known: tuple[bytes, ...] = ()
    pause_s: float = 0.0
    until: float = 0.0


class Used(msgspec.Struct, frozen=True):
    """The document `quota`, by holder: what is taken for used on a day."""

    day: int
    used: int


@dataclass(slots=True)
class _Count:
    daily: Daily
    reserved: int


class _Newest(Generic[T]):
    """So many things by name; the one that was not asked for longest goes."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, T] = OrderedDict()

    def get(self, name: str) -> T | None:
        found = self._held.get(name)
        if found is not None:
            self._held.move_to_end(name)
        return found

    def put(self, name: str, thing: T) -> None:
        self._held[name] = thing
        self._held.move_to_end(name)
        if len(self._held) > HOLDERS_MAX:
            self._held.popitem(last=False)

    def items(self) -> list[tuple[str, T]]:
        return list(self._held.items())

    def __len__(self) -> int:
        return len(self._held)


class Gate:
    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        rates: Rates | None = None,
        connections_max: int = CONNECTIONS_MAX,
        everybody_max: int | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self.rates = rates or Rates()
        """Of whoever has no others."""
        self._buckets: _Newest[Bucket] = _Newest()
        self._days: _Newest[_Count] = _Newest()
        self._wrong: _Newest[_Wrong] = _Newest()
        self._counting = asyncio.Lock()
        self._connections_max = connections_max
        self._everybody_max = everybody_max
        """Connections of all together."""
        self._open: Counter[str] = Counter()
        self._all: Counter[str] = Counter()
        self._knocking: Counter[str] = Counter()
        self._rooms: WeakValueDictionary[tuple[str, int], _Room] = WeakValueDictionary()
        """One for all that one holder has open."""

    # --- how often ---

    def request(self, who: Principal) -> State | None:
        """One request of a program; None where nothing is counted. Raises RateLimited."""
        return None if who.credential.startswith(PAGES) else self.act(who)

    def act(self, who: Principal) -> State | None:
        """One act, of whomever. Raises RateLimited."""
        rates = who.rates or self.rates
        if not rates.per_s:
            return None
        now = self._clock.now()
        name = holder(who)
        bucket, wait = (self._buckets.get(name) or Bucket.full(rates, now)).take(rates, now)
        self._buckets.put(name, bucket)
        state = bucket.state(rates)
        if wait:
            raise limited(f"At most {rates.per_s:g} requests a second, {rates.burst} at once.", state, wait)
        return state

    @contextlib.asynccontextmanager
    async def job(self, who: Principal) -> AsyncIterator[State | None]:
        """One job of the day, given back if it is refused inside; None where days are not counted. Raises RateLimited;
        Unavailable when the count cannot be written down."""
        state = await self._take(who)
        try:
            yield state
        except (PilothouseError, StoreFailed):
            count = self._days.get(holder(who))
            if state is not None and count is not None and count.daily.used:
                count.daily = Daily(count.daily.day, count.daily.used - 1)
            raise

    async def _take(self, who: Principal) -> State | None:
        rates = who.rates or self.rates
        if not rates.per_day:
            return None
        name = holder(who)
        async with self._counting:
            now = self._clock.now()
            count = await self._count(name, now)
            if count.daily.used >= rates.per_day:
                state = count.daily.state(rates)
                text = f"At most {rates.per_day} jobs a day (UTC)."
                raise limited(text, state, state.reset_at - now, code="quota_exceeded")
            used = count.daily.used + 1
            if used > count.reserved:
                ahead = used + max(min(RESERVE, rates.per_day // 100), 1) - 1
                await self._write(name, count.daily.day, ahead)
                count.reserved = ahead
            count.daily = Daily(count.daily.day, used)
            return count.daily.state(rates)

    async def _count(self, name: str, now: float) -> _Count:
        known = self._days.get(name)
        if known is None:
            doc = await self._read(name)
            known = _Count(Daily(day(now), 0), 0) if doc is None else _Count(Daily(doc.day, doc.used), doc.used)
            self._days.put(name, known)
        daily = known.daily.on(now)
        if daily.day != known.daily.day:
            known.daily, known.reserved = daily, 0
        return known

    async def _read(self, name: str) -> Used | None:
        try:
            doc = await self._store.get("quota", name)
        except StoreFailed as error:
            raise Unavailable("The store does not answer; try again.") from error
        return None if doc is None else msgspec.json.decode(doc, type=Used)

    async def _write(self, name: str, today: int, used: int) -> None:
        try:
            await self._store.commit(Put("quota", name, msgspec.json.encode(Used(today, used))))
        except StoreFailed as error:
            raise Unavailable("The store cannot write; nothing was changed.") from error

    async def start(self) -> None:
        """Forgets the counts of days long gone."""
        today = day(self._clock.now())
        with contextlib.suppress(StoreFailed):
            found = await self._store.scan("quota", limit=SWEEP_MAX)
            old = [name for name, doc in found if msgspec.json.decode(doc, type=Used).day < today - 1]
            if old:
                await self._store.commit(*[Delete("quota", name) for name in old])

    async def close(self) -> None:
        """Writes down what was used, and not what was taken ahead."""
        for name, count in self._days.items():
            if count.reserved > count.daily.used:
                with contextlib.suppress(Unavailable):
                    await self._write(name, count.daily.day, count.daily.used)

    # --- wrong credentials ---

    def wrong(self, address: str, shown: str) -> None:
        """A credential was wrong. Raises RateLimited when its address has shown too many."""
        now = self._clock.now()
        name = network(address)
        seen = self._wrong.get(name) or _Wrong(Bucket.full(WRONG, now))
        self._wrong.put(name, seen)
        mark = hashlib.sha256(shown.encode("utf-8", "replace")).digest()[:8]
        if mark in seen.known:
            return
        if now < seen.until <= now + PAUSE_MAX_S:
            raise self._pause(seen, now)
        seen.bucket, wait = seen.bucket.take(WRONG, now)
        if wait:
            seen.pause_s = min(max(seen.pause_s * 2, 1.0), PAUSE_MAX_S)
            seen.until = now + seen.pause_s
            raise self._pause(seen, now)
        if seen.bucket.level >= WRONG.burst / 2:
            seen.pause_s = 0.0
        seen.known = (mark, *seen.known)[:WRONG_KNOWN]

    @staticmethod
    def _pause(seen: _Wrong, now: float) -> RateLimited:
        state = State(WRONG.burst, 0, seen.bucket.state(WRONG).reset_at)
        return limited("Too many wrong credentials came from this address.", state, seen.until - now)

    # --- connections ---

    def connected(self, who: Principal, kind: str = "", most: int | None = None) -> AbstractContextManager[None]:
        """For a socket or stream, to be entered while it is open. `kind`: one that is counted by itself, up to `most`.
        Raises TooMany at once."""
        name, most = holder(who) + kind, self._connections_max if most is None else most
        room = self._rooms.get((name, most))
        if room is None:
            everybody = (self._all, EVERYBODY, self._everybody_max)
            room = self._rooms[name, most] = _Room((self._open, name, most), everybody)
        room.check()
        return room

    def knocking(self, address: str, kind: str = "") -> AbstractContextManager[None]:
        """Likewise for a socket that is not signed in yet."""
        name = network(address) + kind
        if self._knocking[name] >= KNOCKING_MAX:
            raise TooMany("Too many connections of this address are not signed in yet.")
        return _Room((self._knocking, name, None))


class _Room:
    """One of so many; entered by each. A class, since a generator would be one for each, and ten times as much."""

    __slots__ = ("__weakref__", "_counted")

    def __init__(self, *counted: tuple[Counter[str], str, int | None]) -> None:
        """Counters, the name in each, and how many there may be."""
        self._counted = counted

    def check(self) -> None:
        """Raises TooMany."""
        for counter, name, most in self._counted:
            if most is not None and counter[name] >= most:
                many = "The server has as many connections as it can hold; come back later."
                raise TooMany(many if name == EVERYBODY else f"{most} connections are open already; close some.")

    def __enter__(self) -> None:
        self.check()  # others have come in between asking and opening
        for counter, name, _ in self._counted:
            counter[name] += 1

    def __exit__(self, *error: object) -> None:
        for counter, name, _ in self._counted:
            counter[name] -= 1
            if not counter[name]:
                del counter[name]


def holder(who: Principal) -> str:
    """Who a limit belongs to: a key, or a person in all sign-ins and tokens together."""
    return f"{who.kind}:{who.organisation}:{who.id}"


def network(address: str) -> str:
    """What a limit by address counts together: an IPv4 address, an IPv6 /64, which is one subscriber's."""
    return _known(address) if len(address) <= ADDRESS_MAX else _network(address)


def _network(address: str) -> str:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:ADDRESS_MAX]
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.ip_network((int(known), 128)).supernet(new_prefix=64))


_known = functools.lru_cache(maxsize=NETWORKS_MAX)(_network)
