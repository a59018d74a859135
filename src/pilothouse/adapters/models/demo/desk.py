"""What the demo server remembers: counters for faults that end, holds that wait, and what was called. Tests read it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any

LOG_MAX = 5000
"""Calls kept for `GET /demo/calls`."""
COUNTERS_MAX = 5000
"""Answers whose faults are counted at one time; the oldest is forgotten."""


@dataclass(slots=True)
class Entry:
    n: int
    path: str
    stream: bool
    model: str
    session: str
    prompt: str
    step: int
    ended: str = "open"


@dataclass(slots=True)
class Desk:
    """One per application."""

    controlled: bool
    log: list[Entry] = field(default_factory=list)
    made: int = 0
    streams: int = 0
    hangups: int = 0
    _faults: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _gates: dict[str, asyncio.Event] = field(default_factory=dict)
    _waiting: list[str] = field(default_factory=list)

    def enter(self, path: str, stream: bool, model: str, session: str, prompt: str, step: int) -> Entry:
        self.made += 1
        self.streams += stream
        entry = Entry(self.made, path, stream, model, session[:200], prompt[:200], step)
        self.log.append(entry)
        del self.log[:-LOG_MAX]
        return entry

    def leave(self, entry: Entry, ended: str) -> None:
        entry.ended = ended
        self.hangups += ended == "hangup"

    def strikes(self, key: str, times: int | None) -> bool:
        """Whether a fault that happens `times` times happens now."""
        if times is None:
            return True
        seen = self._faults.pop(key, 0)
        self._faults[key] = seen + 1
        if len(self._faults) > COUNTERS_MAX:
            self._faults.popitem(last=False)
        return seen < times

    async def hold(self, name: str) -> None:
        if not self.controlled:
            return
        self._waiting.append(name)
        try:
            await self._gates.setdefault(name, asyncio.Event()).wait()
        finally:
            self._waiting.remove(name)

    def release(self, name: str) -> None:
        self._gates.setdefault(name, asyncio.Event()).set()

    def report(self) -> dict[str, Any]:
        return {
            "calls": self.made,
            "streams": self.streams,
            "open": sum(entry.ended == "open" for entry in self.log),
            "hangups": self.hangups,
            "waiting": list(self._waiting),
            "log": [asdict(entry) for entry in self.log],
        }
