"""The audit: who did what to which thing, from where, when, and what came of it. One hash chain per organisation.

A record is committed together with what it is about (`noting`), so that neither is there without the other. Where the
act reaches outside of the store (a session is stopped, its workspace removed), the record goes first (`note`). Either
way an act whose record cannot be written does not happen.

Documents: `audit` by `ORGANISATION/SEQ` (the record in its canonical form, see `core.chain`), and `audithead` by
organisation (the newest one's number and hash, the oldest one's number).

Refusals are the exception, and who follows a share link: anybody may cause them, so they are counted (`counted`). The
first from an address is a record at once; further ones of the same kind are one record at the end of `WINDOW_S`, with
their number.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from pilothouse.core import chain
from pilothouse.core.access import ORGANISATION, Principal
from pilothouse.core.chain import Actor, Head, Outcome, Value
from pilothouse.core.errors import Unavailable
from pilothouse.engine import records
from pilothouse.engine.gate import network
from pilothouse.engine.ports import Clock, Delete, EventStore, Op, Put, StoreFailed

T = TypeVar("T")

WINDOW_S = 600.0
REFUSALS_MAX = 100
"""Kinds of one organisation counted apart in one window, over all addresses; further refusals are counted
together. So a flood makes at most 2 * (REFUSALS_MAX + 1) records in a window."""
OTHERS = "others"
"""The address of what is counted together."""
SCAN_MAX = 2000
"""Records looked at for one page of a filtered list."""
SCAN = 200
"""Read at once."""
TRIM_MAX = 500
"""Records that retention removes in one commit."""


@dataclass(frozen=True, slots=True)
class Who:
    """Whose act it is, and from where. Without a principal: the server's own, or, from an address, nobody's."""

    principal: Principal | None = None
    address: str = ""
    org: str = ORGANISATION
    """Whose chain the record of no principal stands in."""

    @property
    def actor(self) -> Actor:
        p = self.principal
        if p is None:
            return Actor("nobody" if self.address else "server")
        return Actor(p.kind, p.id, p.name, p.credential)

    @property
    def organisation(self) -> str:
        return self.principal.organisation if self.principal is not None else self.org


SERVER = Who()


@dataclass(frozen=True, slots=True)
class Entry:
    """What a record is going to say. An `object` is `kind:id`. Nothing secret goes into a detail."""

    action: str
    object: str = ""
    outcome: Outcome = "ok"
    details: dict[str, Value] = field(default_factory=dict)
    organisation: str = ""
    """Whose thing it is, where it may be another's than the actor's: the record then stands in both chains."""


class Kept(msgspec.Struct, frozen=True):
    """The document `audithead`."""

    seq: int = 0
    hash: str = chain.ORIGIN
    oldest: int = 1


@dataclass(slots=True)
class _Count:
    entry: Entry
    who: Who
    since: float
    more: int = 0


class Audit:
    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._chaining = asyncio.Lock()
        """Held from reading the head to the end of the commit that moves it. Nothing is waited for inside but the
        store: whoever needs another lock takes it before."""
        self._unsure = False
        """Whoever committed last has left before the answer: the commit may still be in line."""
        self._counts: dict[tuple[str, ...], _Count] = {}

    # --- writing ---

    @contextlib.asynccontextmanager
    async def noting(self, who: Who, *entries: Entry) -> AsyncIterator[list[Op]]:
        """Records to be committed inside, with the act: `async with audit.noting(…) as ops: await store.commit(…,
        *ops)`. Exactly one commit, and one that is tried once. Raises Unavailable before anything has happened."""
        async with self._chaining:
            ops = await self._sealed(who, entries)
            for other in sorted({e.organisation for e in entries} - {"", who.organisation}):
                ops += await self._sealed(who, [e for e in entries if e.organisation == other], org=other)
            try:
                yield ops
            except asyncio.CancelledError:
                self._unsure = True
                raise

    async def commit(self, who: Who, entries: Sequence[Entry], *ops: Op) -> None:
        """An act that is one commit of documents, with its records. Done whole, whoever leaves. Raises Unavailable:
        nothing has changed."""
        await _whole(self._commit(who, entries, ops))

    async def note(
        self,
        principal: Principal | None,
        action: str,
        object: str,
        address: str,
        outcome: Outcome = "ok",
        **details: Value,
    ) -> None:
        """A record on its own: of an act that is no commit, before the act. Raises Unavailable."""
        await self.commit(Who(principal, address), [Entry(action, object, outcome, details)])

    async def _commit(self, who: Who, entries: Sequence[Entry], ops: Sequence[Op]) -> None:
        async with self.noting(who, *entries) as noted:
            try:
                await self._store.commit(*ops, *noted)
            except StoreFailed as error:
                raise Unavailable("The store cannot write; nothing was changed.") from error

    async def _sealed(
        self, who: Who, entries: Sequence[Entry], oldest: int | None = None, org: str | None = None
    ) -> list[Op]:
        """The records, and the head that they make. Needs the lock."""
        org, actor = who.organisation if org is None else org, who.actor
        try:
            if self._unsure:
                await self._store.commit()  # commits are done in order: after this one it is known
                self._unsure = False
            kept = await self._kept(org)
        except StoreFailed as error:
            raise Unavailable("The audit cannot be written; nothing was changed.") from error
        head, ops, at = Head(kept.seq, kept.hash), list[Op](), records.stamp(self._clock.now())
        for e in entries:
            head, doc = chain.seal(
                head, org=org, at=at, actor=actor, action=e.action, object=e.object, address=who.address,
                outcome=e.outcome, details=e.details,
            )  # fmt: skip
            ops.append(Put("audit", _id(org, head.seq), doc, owner=_owner(org)))
        moved = Kept(head.seq, head.hash, kept.oldest if oldest is None else oldest)
        return [*ops, Put("audithead", org, msgspec.json.encode(moved))]

    # --- refusals, and what else is counted ---

    async def counted(self, who: Who, entry: Entry) -> None:
        """A record of what somebody may cause as often as they like; never fails: it is refused, or goes on, with or
        without a record."""
        await self.flush()
        org = who.organisation
        key = (org, who.actor.kind, who.actor.id, entry.action, network(who.address))
        known = self._counts.get(key)
        if known is None and entry.outcome == "refused" and self._crowded(org):
            who = Who(None, OTHERS, org)
            key = (org, "", "", entry.action, OTHERS)
            entry = Entry(entry.action, "", entry.outcome)
            known = self._counts.get(key)
        if known is not None:
            known.more += 1
            return
        self._counts[key] = _Count(entry, who, self._clock.now())
        with contextlib.suppress(Unavailable):
            await self.commit(who, [entry])

    def _crowded(self, org: str) -> bool:
        """Each organisation has room of its own: strangers at one do not hide what happens at another."""
        return sum(1 for known in self._counts if known[0] == org) >= REFUSALS_MAX

    async def flush(self, *, every: bool = False) -> None:
        """Writes down what was counted in windows that are over."""
        now = self._clock.now()
        due = [key for key, c in self._counts.items() if every or not 0 <= now - c.since < WINDOW_S]
        for key in due:
            count = self._counts.pop(key, None)  # another one may have flushed meanwhile
            if count is None or not count.more:
                continue
            details: dict[str, Value] = {"count": count.more, "since": records.stamp(count.since)}
            entry = Entry(count.entry.action, count.entry.object, count.entry.outcome, details)
            with contextlib.suppress(Unavailable):
                await self.commit(count.who, [entry])

    # --- reading ---

    async def head(self, org: str) -> Kept:
        return await self._kept(org)

    async def after(self, org: str, seq: int, limit: int) -> list[bytes]:
        """Records with a higher number, ascending, as they are."""
        found = await self._store.scan("audit", owner=_owner(org), after=_id(org, seq), limit=limit)
        return [doc for _, doc in found]

    async def before(
        self, org: str, seq: int | None, limit: int, wanted: Callable[[chain.Record], bool] | None = None
    ) -> tuple[list[bytes], int | None]:
        """Records with a lower number, newest first, that are wanted, and the number to go on from (None: there are no
        more). Looks at SCAN_MAX at most: a page may be short, or empty, and not the last."""
        out: list[bytes] = []
        at = seq if seq is not None else (await self._kept(org)).seq + 1
        for _ in range(0, SCAN_MAX, SCAN):
            found = await self._store.scan("audit", owner=_owner(org), after=_id(org, at), limit=SCAN, newest=True)
            for _, doc in found:
                record = _record.decode(doc)
                at = record.seq
                if wanted is None or wanted(record):
                    out.append(doc)
                    if len(out) == limit:
                        return out, at
            if len(found) < SCAN:
                return out, None
        return out, at

    async def _kept(self, org: str) -> Kept:
        doc = await self._store.get("audithead", org)
        return Kept() if doc is None else msgspec.json.decode(doc, type=Kept)

    # --- retention ---

    async def organisations(self) -> list[str]:
        return [org for org, _ in await self._store.scan("audithead", limit=100_000)]

    async def trim(self, org: str, before: float) -> int:
        """Removes records from before a moment, but never the newest; that is noted too. How many went."""
        gone = 0
        while (went := await _whole(self._trim(org, records.stamp(before)))) > 0:
            gone += went
        return gone

    async def _trim(self, org: str, before: str) -> int:
        async with self._chaining:
            kept = await self._kept(org)
            old: list[chain.Record] = []
            for doc in await self.after(org, kept.oldest - 1, TRIM_MAX):
                record = _record.decode(doc)
                if record.at >= before or record.seq >= kept.seq:
                    break
                old.append(record)
            if not old:
                return 0
            last = old[-1]
            entry = Entry("audit.trim", f"audit:{last.seq}", details={"upTo": last.seq, "hash": last.hash})
            ops = await self._sealed(Who(org=org), [entry], oldest=last.seq + 1)
            await self._store.commit(*[Delete("audit", _id(org, record.seq)) for record in old], *ops)
        return len(old)


def _id(org: str, seq: int) -> str:
    return f"{org}/{seq:012d}"


def _owner(org: str) -> str:
    """Never a session's id: what is a session's goes with it."""
    return f"audit:{org}"


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """To its end, whoever stops waiting for it."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to see it
    return await asyncio.shield(task)


_record = msgspec.json.Decoder(chain.Record)
