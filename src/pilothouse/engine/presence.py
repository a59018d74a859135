"""Who subscribes to a channel, for those who asked to be told. Changes are told together, a few times a second."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice

TOLD_S = 0.25
"""A room that fills tells everybody everything four times a second and not once for each who enters."""
LISTED_MAX = 500
"""Names that are told at once; the count is of all."""
Tell = Callable[[Mapping[str, object]], None]


class Presence:
    """Of one channel."""

    def __init__(self) -> None:
        self.there: Counter[str] = Counter()
        """By name: in how many places each one is."""
        self._told: frozenset[str] = frozenset()
        self._watchers: dict[object, Tell] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def empty(self) -> bool:
        return not self.there

    def state(self) -> dict[str, object]:
        return {"present": sorted(islice(self.there, LISTED_MAX)), "count": len(self.there)}

    def enter(self, name: str) -> None:
        self.there[name] += 1
        self._changed()

    def leave(self, name: str) -> None:
        self.there[name] -= 1
        if not self.there[name]:
            del self.there[name]
        self._changed()

    def watch(self, who: object, tell: Tell) -> None:
        """The state at once, then the changes; what it knows from the one may come again with the first of the other:
        a room that fills is not told to everybody for each who enters."""
        if not self._watchers:
            self._told = frozenset(self.there)
        self._watchers[who] = tell
        tell(self.state())

    def unwatch(self, who: object) -> None:
        self._watchers.pop(who, None)

    def _changed(self) -> None:
        if self._timer is None and self._watchers:
            self._timer = asyncio.get_running_loop().call_later(TOLD_S, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = frozenset(self.there)
        joined, left = sorted(now - self._told), sorted(self._told - now)
        self._told = now
        if joined or left:
            said = {"joined": joined[:LISTED_MAX], "left": left[:LISTED_MAX], "count": len(now)}
            for tell in list(self._watchers.values()):
                tell(said)


class Presences:
    def __init__(self) -> None:
        self._of: dict[tuple[str, str], Presence] = {}

    def of(self, organisation: str, path: str) -> Presence:
        """To be entered, or only looked at: an empty one is not kept."""
        return self._of.get((organisation, path)) or Presence()

    def enter(self, organisation: str, path: str, name: str, tell: Tell | None) -> Callable[[], None]:
        """What is to be called when it leaves."""
        key = (organisation, path)
        room = self._of.setdefault(key, Presence())
        me = object()
        room.enter(name)
        if tell is not None:
            room.watch(me, tell)

        def leave() -> None:
            room.unwatch(me)
            room.leave(name)
            if room.empty:
                self._of.pop(key, None)

        return leave
