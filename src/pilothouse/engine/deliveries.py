"""What was promised to somebody outside, and how far it has come: one document per delivery.

| state | means |
|---|---|
| `pending` | it waits for its first or its next attempt |
| `delivered` | the receiver said yes |
| `dead` | it was given up; it can be sent again by a person |
| `withheld` | it was not sent and will not be: they may not see that session any more, or nobody waits for them |

Documents: `delivery` by its id, which is the `webhook-id` too; and beside it one word of where it stands, so that
neither what is due nor the dead letters have to be looked for: `due` (when), `dead`, `done`. All belong to their target
(a webhook, somebody's notifications). A delivery, its word and what it follows from are one commit, so a server that is
killed at any point finds it again. What a receiver got just before the kill it gets again, under the same id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import msgspec

from pilothouse.core.errors import Conflict, NotFound
from pilothouse.core.ids import SessionId
from pilothouse.engine import records
from pilothouse.engine.ports import Delete, EventStore, Op, Put

Kind = Literal["webhook", "slack", "push"]
State = Literal["pending", "delivered", "dead", "withheld"]
PENDING_MAX = 5_000
"""Of one target: beyond that its receiver has been away for so long that further ones are dead letters at once."""
DEAD_MAX = 5_000
"""Dead letters of one target; the oldest go."""
DONE_MAX = 200
"""Ended ones of one target that can still be looked at; the oldest go."""
TRIMMED_MAX = 1_000
"""Of those that are too many, so many go at a time: a commit has an end, and no more than that come at a time."""
ERROR_MAX = 200
"""Characters that are kept of why an attempt failed."""
_WORDS: dict[State, str] = {"pending": "due", "dead": "dead", "delivered": "done", "withheld": "done"}
_MOST = {"dead": DEAD_MAX, "done": DONE_MAX}


class DeliveryRecord(records.Record, kw_only=True):
    id: str
    target: str
    kind: Kind
    type: str
    """The event's."""
    session_id: SessionId | None = None
    body: str
    """Of a webhook what is sent; else what it is made of when it is sent."""
    created_at: float
    state: State = "pending"
    attempts: int = 0
    next_at: float | None = None
    last_at: float | None = None
    status: int | None = None
    """Of the last answer."""
    error: str = ""
    """Why the last attempt failed, or why it was withheld."""
    expires_at: float | None = None
    """Then nobody needs to be told any more."""


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt."""

    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Withheld:
    """It is not to be sent. `dead`: a person may send it again."""

    why: str
    dead: bool = False


class Answer(msgspec.Struct, frozen=True):
    """Of a receiver."""

    status: int
    retry_after: str = ""


class NotSent(Exception):
    """No answer came; the message says why, without the address."""


class Poster(Protocol):
    """A POST to an address that somebody named."""

    async def post(self, request: Request) -> Answer:
        """Raises NotSent."""
        ...


class Sender(Protocol):
    """Knows the targets of a kind."""

    async def request(self, delivery: DeliveryRecord) -> Request | Withheld:
        """What to send now. Raises Unavailable when that cannot be known."""
        ...

    async def gone(self, delivery: DeliveryRecord, status: int) -> None:
        """The receiver says that there is nobody any more."""
        ...

    def patience(self, status: int | None) -> bool:
        """Whether an attempt that was answered so is made again."""
        ...


Word: TypeAlias = str


def kept(record: DeliveryRecord, before: State | None = None) -> list[Op]:
    """The record as it is, and its word, in place of the word of `before`."""
    word = _WORDS[record.state]
    ops: list[Op] = [Put("delivery", record.id, msgspec.json.encode(record), owner(record.target))]
    if before is not None and _WORDS[before] != word:
        ops.append(Delete(_WORDS[before], record.id))
    at = f"{record.next_at or 0.0:.3f}".encode() if word == "due" else b"-"
    return [*ops, Put(word, record.id, at, owner(record.target))]


def owner(target: str) -> str:
    """What a target's deliveries are kept under: never a session's id, with which they would go."""
    return f"target:{target}"


class Deliveries:
    """Reads what is kept, and keeps it short."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def get(self, id: str) -> DeliveryRecord | None:
        doc = await self._store.get("delivery", id)
        return None if doc is None else records.load(doc, DeliveryRecord)

    async def of(self, target: str, id: str) -> DeliveryRecord:
        """Raises NotFound: also for another target's."""
        found = await self.get(id) if 0 < len(id) <= 100 and id.isascii() else None
        if found is None or found.target != target:
            raise NotFound
        return found

    async def page(self, target: str, state: str, after: str, limit: int) -> list[DeliveryRecord]:
        """Newest first; `state` empty: whatever it is."""
        kind = {"": "delivery", "pending": "due", "dead": "dead"}.get(state, "done")
        out: list[DeliveryRecord] = []
        while True:
            found = await self._store.scan(kind, owner=owner(target), after=after, limit=limit, newest=True)
            for after, doc in found:
                record = records.load(doc, DeliveryRecord) if kind == "delivery" else await self.get(after)
                if record is not None and state in {"", record.state}:
                    out.append(record)
                if len(out) == limit:
                    return out
            if len(found) < limit:
                return out

    async def due(self) -> list[tuple[float, str, str]]:
        """When, target and id of all that wait. Once, at the start."""
        out: list[tuple[float, str, str]] = []
        after = ""
        while found := await self._store.scan("due", after=after, limit=1000):
            for after, at in found:
                record = await self.get(after)
                if record is not None:
                    out.append((float(at), record.target, after))
        return out

    async def count(self, target: str, word: str = "dead") -> int:
        return len(await self._store.scan(word, owner=owner(target), limit=DEAD_MAX + 1))

    async def overflow(self, ended: Sequence[DeliveryRecord]) -> list[Op]:
        """What goes when these end: the oldest of their targets, where there are too many."""
        new: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for record in ended:
            new[record.target, _WORDS[record.state]].add(record.id)
        ops: list[Op] = []
        for (target, word), ids in new.items():
            if (most := _MOST.get(word)) is None:
                continue
            found = await self._store.scan(word, owner=owner(target), limit=most + TRIMMED_MAX)
            old = [id for id, _ in found if id not in ids]
            gone = old[: max(len(old) + len(ids) - most, 0)]
            ops += [op for id in gone for op in (Delete("delivery", id), Delete(word, id))]
        return ops

    async def forget(self, target: str) -> None:
        """The target is gone. In pieces: there may be thousands."""
        for kind in ("due", "dead", "done", "delivery"):
            while found := await self._store.scan(kind, owner=owner(target), limit=500):
                await self._store.commit(*[Delete(kind, id) for id, _ in found])


def again(record: DeliveryRecord, now: float) -> tuple[DeliveryRecord, Sequence[Op]]:
    """To be sent once more, from the beginning, as the same event. Raises Conflict for one that waits, or never was
    for anybody."""
    if record.state in {"pending", "withheld"}:
        raise Conflict(f"It is {record.state}; only what was delivered or given up is sent again.")
    renewed = records.copy(record, state="pending", attempts=0, next_at=now, error="", status=None)
    return renewed, kept(renewed, record.state)
