"""A publish that carries a key is done once, however often it is sent: what comes again gets the first one's answer.

Keys are each publisher's own, for one channel. Where the channel has a history the answer is committed with the events,
so that it holds over a restart of the server; else it is in memory alone, as the events were.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from pilothouse.core.channels import Channel
from pilothouse.core.errors import Conflict
from pilothouse.core.publish import Event, Failed, Taken
from pilothouse.engine.ports import Clock, Delete, EventStore, Op, Put
from pilothouse.engine.words import Words

KEY_S = 3600.0
"""How long a key is remembered: far longer than any client tries again."""
KEYS_MAX = 10_000
"""In memory; the oldest go."""
KIND = "published"
SWEEP = 1000


class Answer(msgspec.Struct, frozen=True):
    """The document `published`. `about`: what was published, hashed."""

    about: str
    until: float
    taken: list[Taken]
    failed: list[Failed]


Act = Callable[[Callable[[Sequence[Taken], Sequence[Failed]], Sequence[Op]]], Awaitable[None]]


class Once:
    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, Answer] = OrderedDict()
        self._words = Words()

    async def do(self, holder: str, channel: Channel, key: str, events: Sequence[Event], act: Act) -> Answer:
        """`act` is given what makes the operation to commit with what it does, from what it has taken and what failed.
        Raises Conflict when the key was used for something else, and what `act` raises."""
        name = hashlib.sha256(f"{holder}\n{channel.path}\n{key}".encode()).hexdigest()
        about = hashlib.sha256(b"\n".join(event.raw for event in events)).hexdigest()
        async with self._words.turn(name):
            known = await self._find(name)
            if known is None:
                known = await self._first(name, about, act)
        if known.about != about:
            raise Conflict("key: it was used for other events")
        return known

    async def _first(self, name: str, about: str, act: Act) -> Answer:
        made: list[Answer] = []

        def answered(taken: Sequence[Taken], failed: Sequence[Failed]) -> Sequence[Op]:
            made.append(Answer(about, self._clock.now() + KEY_S, list(taken), list(failed)))
            return [Put(KIND, name, msgspec.json.encode(made[0]))]

        await act(answered)
        self._known[name] = made[0]
        if len(self._known) > KEYS_MAX:
            self._known.popitem(last=False)
        return made[0]

    async def _find(self, name: str) -> Answer | None:
        known = self._known.get(name)
        if known is None:
            doc = await self._store.get(KIND, name)
            known = None if doc is None else msgspec.json.decode(doc, type=Answer)
        return known if known is not None and known.until > self._clock.now() else None

    async def sweep(self) -> None:
        """Forgets what is too old. Raises StoreFailed."""
        now, after = self._clock.now(), ""
        for name in [name for name, answer in self._known.items() if answer.until <= now]:
            del self._known[name]
        while rows := await self._store.scan(KIND, after=after, limit=SWEEP):
            after = rows[-1][0]
            old = [name for name, doc in rows if msgspec.json.decode(doc, type=Answer).until <= now]
            if old:
                await self._store.commit(*[Delete(KIND, name) for name in old])
