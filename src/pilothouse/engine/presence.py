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
        self._moved: set[str] = set()
        """Who has come or gone since all were told."""
        self._watchers: dict[object, Tell] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def empty(self) -> bool:
        return not self.there

    def state(self) -> dict[str, object]:
        return {"present": sorted(islice(self.there, LISTED_MAX)), "count": len(self.there)}

    def enter(self, name: str) -> None:
        self.there[name] += 1
        if self.there[name] == 1:
            self._changed(name)

    def leave(self, name: str) -> None:
        self.there[name] -= 1
        if not self.there[name]:
            del self.there[name]
            self._changed(name)

    def watch(self, who: object, tell: Tell) -> None:
        """The state at once, then the changes. Whoever moved just before is in both: a room that fills is not told to
        everybody for each who enters."""
        self._watchers[who] = tell
        tell(self.state())

    def unwatch(self, who: object) -> None:
        self._watchers.pop(who, None)

    def _changed(self, name: str) -> None:
        if not self._watchers:
            return
        self._moved.add(name)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TOLD_S, self._flush)

    def _flush(self) -> None:
        """Says where each one is who moved, also when that is where it was: some began to watch in between."""
        self._timer = None
        moved, self._moved = sorted(self._moved), set()
        joined, left = [n for n in moved if n in self.there], [n for n in moved if n not in self.there]
        said = {"joined": joined[:LISTED_MAX], "left": left[:LISTED_MAX], "count": len(self.there)}
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
