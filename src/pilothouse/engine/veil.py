"""What a runner says, with every value masked that nobody shall read, also one that comes in several deltas.

Text comes in deltas of a block (a message's text or thinking, a tool's output). A delta whose end may be the beginning
of a value waits, whole and not acknowledged, for what follows: the next delta of its block, anything else that the
runner says, or HOLD_S. So a server that is killed has lost nothing, and the runner says it again.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from pilothouse.core import events as ev
from pilothouse.core.link import Broken, RunnerEvent
from pilothouse.core.redact import MASK, Masks, Seen

HOLD_S = 2.0
"""A model pauses in the middle of a sentence, and a person waits for its end no longer."""
BLOCKS_MAX = 64
"""Blocks that are open at one time; an agent with helpers has a handful."""
QUEUE_MAX = 200
"""Deltas that wait; there is one, mostly."""

T = TypeVar("T", bound=msgspec.Struct)
Said = RunnerEvent | Broken
Delta = ev.Stream | ev.Thinking | ev.ToolOutput


@dataclass(slots=True)
class _Waiting:
    n: int
    said: Delta
    seen: Seen
    end: int
    text: bytearray
    masked: bool = False


class Veil:
    """Of one runner, as long as one set of values holds."""

    def __init__(self, masks: Masks) -> None:
        self.masks = masks
        self._blocks: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self._queue: deque[_Waiting] = deque()
        self.newest = 0
        """The number of the last that it was fed."""

    @property
    def waits(self) -> bool:
        return bool(self._queue)

    def feed(self, n: int, said: Said) -> list[tuple[int, Said]]:
        """What can be taken now, in order."""
        self.newest = n
        if isinstance(said, Delta):
            self._delta(n, said)
            return self._ready() if len(self._queue) < QUEUE_MAX else self.release()
        return [*self.release(), (n, said if isinstance(said, Broken) else veiled(self.masks, said))]

    def release(self) -> list[tuple[int, Said]]:
        """All that waits."""
        for seen in self._blocks.values():
            span = seen.release()
            if span is not None:
                self._mask(seen, [span])
        return self._ready()

    def _delta(self, n: int, said: Delta) -> None:
        key = (type(said).__name__, said.tool_id if isinstance(said, ev.ToolOutput) else said.message_id)
        seen = self._blocks.pop(key, None) or Seen(self.masks)
        self._blocks[key] = seen
        if len(self._blocks) > BLOCKS_MAX:
            _, oldest = self._blocks.popitem(last=False)
            oldest.release()
        data = said.content.encode("utf-8", "replace")
        spans = seen.feed(data)
        self._queue.append(_Waiting(n, said, seen, seen.end, bytearray(data)))
        self._mask(seen, spans)

    def _mask(self, seen: Seen, spans: list[tuple[int, int]]) -> None:
        for one in self._queue:
            if one.seen is seen:
                start = one.end - len(one.text)
                for begin, end in spans:
                    begin, end = max(begin, start), min(end, one.end)
                    if begin < end:
                        one.text[begin - start : end - start] = MASK * (end - begin)
                        one.masked = True

    def _ready(self) -> list[tuple[int, Said]]:
        ready: list[tuple[int, Said]] = []
        while self._queue and self._queue[0].end <= self._queue[0].seen.end - self._queue[0].seen.held:
            one = self._queue.popleft()
            said = (
                msgspec.structs.replace(one.said, content=one.text.decode("utf-8", "replace"))
                if one.masked
                else one.said
            )
            ready.append((one.n, veiled(self.masks, said)))
        return ready


def veiled(masks: Masks, said: T) -> T:
    """All its texts masked."""
    plain = msgspec.to_builtins(said)
    clean = _walked(masks, plain)
    return said if clean is plain else msgspec.convert(clean, type(said))


def _walked(masks: Masks, value: Any) -> Any:
    """The same object, if there is nothing in it."""
    if isinstance(value, str):
        return masks.text(value)
    if isinstance(value, dict):
        walked = {masks.text(key): _walked(masks, one) for key, one in value.items()}
        same = all(a is b for a, b in zip(walked, value, strict=False)) and len(walked) == len(value)
        return value if same and all(walked[key] is value[key] for key in value) else walked
    if isinstance(value, list):
        items = [_walked(masks, one) for one in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    return value
