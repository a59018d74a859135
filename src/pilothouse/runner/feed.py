"""What the agent says, on its way up: deltas joined, events numbered and kept, the agent held back when all is full.

Text deltas of one message are joined for at most `JOIN_SECONDS` or `JOIN_BYTES`, whichever comes first; the first delta
after a pause goes at once. `emit` waits while the outbox has no room, and because everything passes one lock, nothing
overtakes: that wait is the back-pressure on the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import TooLarge
from pilothouse.core.outbox import Outbox

JOIN_SECONDS = 0.040
"""Below what a reader notices; without joining, a fast model makes hundreds of rows a second."""
JOIN_BYTES = 4 * 1024
PIECE_MAX = 16 * 1024
"""Characters of one delta: longer text goes as several, each far below what the log cuts at and one link message."""
EVENT_MAX = link.WHOLE_MAX - 64 * 1024
"""An encoded event: one link message with room for its frame."""
CUT_TO = 256 * 1024
"""Characters that stay of each end of a text that makes an event too large."""

Delta = ev.Stream | ev.Thinking
Ask = link.PermissionAsk | link.QuestionAsk
Tap = Callable[[link.RunnerEvent], Awaitable[None]]


class Feed:
    """One per runner. `emit` is handed to the agent."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.asks: dict[str, tuple[Ask, int]] = {}
        """Open asks by request id, with the number under which each was last said."""
        self.taps: list[Tap] = []
        """Who else hears every event (an invocation, the status)."""
        self.keeping = True
        """Whether events are kept for the link; not while an invocation runs with no server attached."""
        self._order = asyncio.Lock()
        self._grown = asyncio.Event()
        self._room = asyncio.Event()
        self._pending: list[str] = []
        self._key: Delta | None = None
        self._size = 0
        self._said = 0.0
        self._timer: asyncio.Task[None] | None = None

    async def emit(self, event: link.RunnerEvent) -> None:
        """Says one event. Raises TooLarge for an ask that no message can carry whole."""
        async with self._order:
            if isinstance(event, Delta):
                for piece in _pieces(event):
                    await self._join(piece)
                return
            await self._flush()
            await self._put(event)

    async def repeat_asks(self) -> None:
        """Says again every open ask that was acknowledged: its event is not kept any more."""
        async with self._order:
            for request_id, (ask, n) in list(self.asks.items()):
                if n < self.outbox.first:
                    # Past the limit if need be: at most one unacknowledged copy of each open ask exists.
                    self.asks[request_id] = (ask, self.outbox.put(_encode(ask)))
            self._grown.set()

    def acknowledged(self, n: int) -> bool:
        good = self.outbox.ack(n)
        self._room.set()
        return good

    async def follow(self, after: int) -> AsyncIterator[bytes]:
        """Kept messages above `after`, then new ones, without end."""
        while True:
            self._grown.clear()
            while (kept := self.outbox.after(after)) is not None:
                after, message = kept
                yield message
            await self._grown.wait()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def _join(self, delta: Delta) -> None:
        if self._key is not None and not _same(self._key, delta):
            await self._flush()
        now = asyncio.get_running_loop().time()
        self._key = delta
        self._pending.append(delta.content)
        self._size += len(delta.content)
        if self._size >= JOIN_BYTES or now - self._said >= JOIN_SECONDS:
            await self._flush()
        elif self._timer is None:
            self._timer = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(JOIN_SECONDS)
        # Handed over before the lock: a delta that arrives while this waits for room starts the next timer.
        self._timer = None
        async with self._order:
            await self._flush()

    async def _flush(self) -> None:
        if self._key is None:
            return
        # Put before it is cleared: an agent that is interrupted while this waits for room loses no text.
        await self._put(msgspec.structs.replace(self._key, content="".join(self._pending)))
        self._key, self._pending, self._size = None, [], 0
        self._said = asyncio.get_running_loop().time()

    async def _put(self, event: link.RunnerEvent) -> None:
        body = _encode(event)
        if len(body) > EVENT_MAX:
            if isinstance(event, Ask):
                raise TooLarge(f"an ask of {len(body)} bytes: nobody could be shown all of it")
            body = _encode(event := shorten(event, len(body)))
        if self.keeping:
            await self._keep(event, body)
        for tap in self.taps:
            await tap(event)

    async def _keep(self, event: link.RunnerEvent, body: bytes) -> None:
        while not self.outbox.fits(len(body)):
            self._room.clear()
            await self._room.wait()
        n = self.outbox.put(body)
        if isinstance(event, Ask):
            self.asks[event.request_id] = (event, n)
        elif isinstance(event, link.AskCancelled):
            self.asks.pop(event.request_id, None)
        self._grown.set()


def shorten(event: link.RunnerEvent, size: int) -> link.RunnerEvent:
    """The event with every long text cut to its ends, or the notice that it could not be shown at all."""
    cut: link.RunnerEvent = msgspec.convert(_cut(msgspec.to_builtins(event)), link.RunnerEvent)
    if len(_encode(cut)) <= EVENT_MAX:
        return cut
    return ev.ErrorEvent(code="event_too_large", message=f"The agent said something of {size} bytes; it is not shown.")


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > 2 * CUT_TO:
        gone = len(value) - 2 * CUT_TO
        return f"{value[:CUT_TO]}\n[{gone} characters cut by the runner: the event was over 8 MiB]\n{value[-CUT_TO:]}"
    if isinstance(value, dict):
        return {key: _cut(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner) for inner in value]
    return value


def _pieces(delta: Delta) -> list[Delta]:
    text = delta.content
    if len(text) <= PIECE_MAX:
        return [delta] if text else []
    return [msgspec.structs.replace(delta, content=text[at : at + PIECE_MAX]) for at in range(0, len(text), PIECE_MAX)]


def _same(one: Delta, other: Delta) -> bool:
    return type(one) is type(other) and one.message_id == other.message_id


_encode = msgspec.json.Encoder().encode
