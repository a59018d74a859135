"""How many sessions there are, those that rest in the store included."""

from __future__ import annotations

import contextlib
from collections import Counter as Tally

import msgspec

from pilothouse.engine.ports import Clock, EventStore, StoreFailed

RESTING_S = 60.0
"""Sessions that are not in memory are counted in the store at most this often."""
PAGE = 1000


class _State(msgspec.Struct):
    state: str = "new"


_state = msgspec.json.Decoder(_State)


class Resting:
    """How many sessions there are by state, as the store has it."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._at = float("-inf")
        self._known: Tally[str] = Tally()

    async def count(self) -> Tally[str]:
        """As of at most `RESTING_S` ago; as of longer when the store does not answer."""
        now = self._clock.now()
        if not 0 <= now - self._at < RESTING_S:
            self._at = now
            with contextlib.suppress(StoreFailed):
                self._known = await self._counted()
        return self._known

    async def _counted(self) -> Tally[str]:
        found: Tally[str] = Tally()
        after = ""
        while rows := await self._store.scan("session", after=after, limit=PAGE):
            found.update(_state.decode(doc).state for _, doc in rows)
            after = rows[-1][0]
        return found
