"""Events as they happen, in order, once each, through cuts and restarts of the server: an iterator that comes back
from its cursor by itself. What is no longer kept is said (`Gap`), never left out in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from pilothouse.client.errors import Malformed, NoServer, Unavailable
from pilothouse.client.pause import Pause
from pilothouse.client.transport import Sent, Transport, given, read
from pilothouse.core import events as ev
from pilothouse.core.api.jobs import Job, Log

GIVE_UP_S = 300
"""A server that has not come back after this is not being restarted but gone."""
PAUSE_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Gap:
    """The events from `start` to `end` are no longer kept. `end` 0: the log is another one, and is told from its
    start."""

    start: int
    end: int


class Unknown(msgspec.Struct, frozen=True):
    """An event of a newer server."""

    type: str = ""
    seq: int = 0
    raw: bytes = b""


Event: TypeAlias = ev.LogEvent | Unknown | Gap


class _Hole(msgspec.Struct, frozen=True):
    start: int = msgspec.field(name="from")
    end: int = msgspec.field(name="to")


class _Epoch(msgspec.Struct, frozen=True):
    epoch: str


class Follower:
    """`job`: this one's events only, up to its `complete`."""

    def __init__(self, transport: Transport, path: str, after: int, job: str = "") -> None:
        self._transport = transport
        self._path = path
        self._job = job
        self._epoch: str | None = None
        self.after = after
        """The cursor: everything up to here has been given."""

    async def events(self) -> AsyncGenerator[Event, None]:
        """Raises NoServer, Refused, Malformed."""
        pause, lost_at, clock = Pause(PAUSE_MAX_S), None, asyncio.get_running_loop().time
        ever = False
        while True:
            try:
                async for event in self._once():
                    ever, lost_at = True, None
                    pause.reset()
                    yield event
                    if self._job and isinstance(event, ev.Complete):
                        return
                if self._job and await self._ended():
                    return
                ever = True
            except (NoServer, Unavailable) as error:
                if not ever:
                    raise
                lost_at = clock() if lost_at is None else lost_at
                if clock() - lost_at > GIVE_UP_S:
                    raise error from None
            await asyncio.sleep(pause.next_s())
            with suppress(NoServer):
                await self._transport.find_again()

    async def _once(self) -> AsyncGenerator[Event, None]:
        """One connection, from the cursor until it ends."""
        if not self._job and self._epoch is None:
            page = await self._transport.ask(_Epoch, "GET", self._path, params=given(after=self.after, limit=1))
            self._epoch = page.epoch
        params = given(after=self.after, epoch=None if self._job else self._epoch)
        async with aclosing(self._transport.stream(self._path, params)) as sent:
            async for one in sent:
                event = self._take(one)
                if event is not None:
                    yield event

    def _take(self, sent: Sent) -> Event | None:
        """Moves the cursor; None for what was given before."""
        if sent.name == "gap":
            hole = read(_Hole, sent.data)
            if hole.end == 0:
                self.after, self._epoch = 0, None
            self.after = max(self.after, hole.end)
            return Gap(hole.start, hole.end)
        event = _event(sent.data)
        if event.seq <= self.after:
            return None
        self.after = event.seq
        return event

    async def _ended(self) -> bool:
        """The stream of a job that is done may end without its `complete`, where that is no longer kept."""
        job = await self._transport.ask(Job, "GET", f"/api/jobs/{self._job}")
        return job.state == "done" and (job.last_seq is None or self.after >= job.last_seq)


def _event(data: bytes) -> ev.LogEvent | Unknown:
    try:
        return ev.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = read(Unknown, data)
        if not found.seq:
            raise Malformed("An event of the stream has no number.") from None
        return msgspec.structs.replace(found, raw=data)


async def page(transport: Transport, path: str, after: int, limit: int) -> Log:
    """Up to `limit` (1 to 1000) events with a number above `after`."""
    return await transport.ask(Log, "GET", path, params=given(after=after, limit=limit))
