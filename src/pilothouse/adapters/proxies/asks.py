"""Connections that wait for a person: what a session may not reach by its list, asked once per host and port.

The open questions are told as a whole list, again with every change, to whoever follows; so nobody has to know what
was told before, and a server that comes back sees what is open now. An answer to what is not open any more is dropped.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from pilothouse.core.ids import SessionId
from pilothouse.core.reach import Asking, Target

OPEN_MAX = 3
"""Of one session at a time: a person can follow that; a scan gets no more."""
DENIED_S = 600.0
"""A denial stands for so long: programs try again, people do not want to be asked again."""
DENIED_MAX = 200
"""Denials of one session that are remembered."""


@dataclass(frozen=True, slots=True)
class Answer:
    allow: bool
    message: str = ""
    denied: bool = False
    """By a person: it stands for a while."""


@dataclass(slots=True)
class _Open:
    asking: Asking
    answer: asyncio.Future[Answer]
    waiting: int = 0


@dataclass(slots=True)
class _Denied:
    until: float
    message: str


@dataclass(slots=True)
class _Session:
    open: dict[Target, _Open] = field(default_factory=dict)
    denied: dict[Target, _Denied] = field(default_factory=dict)


class Asks:
    """One per proxy."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._sessions: dict[SessionId, _Session] = {}
        self._changed = asyncio.Event()
        self._clock = now

    def _now(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    async def ask(self, session: SessionId, target: Target, hold_s: float) -> Answer:
        """Waits at most `hold_s`; nobody's answer is a denial. Whoever is not interested any more cancels."""
        mine = self._sessions.setdefault(session, _Session())
        denied = mine.denied.get(target)
        if denied is not None and self._now() < denied.until:
            return Answer(False, denied.message, True)
        found = mine.open.get(target)
        if found is None:
            if len(mine.open) >= OPEN_MAX:
                return Answer(False, f"{OPEN_MAX} other domains wait for an answer already")
            asking = Asking(str(uuid.uuid4()), session, target.host, target.port, hold_s)
            found = mine.open[target] = _Open(asking, asyncio.get_running_loop().create_future())
            self._wake()
        found.waiting += 1
        try:
            async with asyncio.timeout(hold_s):
                return await asyncio.shield(found.answer)
        except TimeoutError:
            return Answer(False, "nobody answered in time")
        finally:
            found.waiting -= 1
            if not found.waiting and mine.open.get(target) is found:
                del mine.open[target]
                self._wake()

    def answer(self, ask_id: str, answer: Answer) -> None:
        for mine in self._sessions.values():
            for target, found in list(mine.open.items()):
                if found.asking.id == ask_id:
                    self._settle(mine, target, answer)
                    if answer.denied:
                        self._remember(mine, target, answer.message)

    def settle(self, session: SessionId, rule: Callable[[Target], Answer | None]) -> None:
        """The session's policy has changed: what it decides now is answered."""
        mine = self._sessions.get(session, _Session())
        for target in list(mine.open):
            if (answer := rule(target)) is not None:
                self._settle(mine, target, answer)

    def drop(self, session: SessionId) -> None:
        self.settle(session, lambda _: Answer(False, "the session was stopped"))
        self._sessions.pop(session, None)

    def _settle(self, mine: _Session, target: Target, answer: Answer) -> None:
        found = mine.open.pop(target)
        if not found.answer.done():
            found.answer.set_result(answer)
        self._wake()

    def _remember(self, mine: _Session, target: Target, message: str) -> None:
        mine.denied.pop(target, None)
        mine.denied[target] = _Denied(self._now() + DENIED_S, message)
        while len(mine.denied) > DENIED_MAX:
            del mine.denied[next(iter(mine.denied))]

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self) -> AsyncGenerator[list[Asking], None]:
        """All that are open, at once and after every change."""
        while True:
            changed = self._changed
            yield [found.asking for mine in self._sessions.values() for found in mine.open.values()]
            await changed.wait()
