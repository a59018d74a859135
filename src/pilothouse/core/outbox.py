"""What a runner remembers for its link, as plain state machines: kept events, commands, who is attached.

`Outbox`    numbers events from 1 and keeps each until it is acknowledged, at most `KEPT_MAX` bytes.
`Commands`  makes commands idempotent by id: a repeated one is not run again, it gets the answer of the first.
`Fence`     the highest attach number wins; a lower one is refused.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

KEPT_MAX = 16 * 1024 * 1024
"""Bytes of unacknowledged events. Full means that the agent is not read any more; nothing is dropped."""
DONE_MAX = 4096
"""Finished commands remembered: far more than a server can have sent without seeing their answers."""
RUNNING_MAX = 256
"""Commands under way at one time; a server has a handful."""


class Outbox:
    """Messages with numbers, first in, out when acknowledged."""

    def __init__(self, limit: int = KEPT_MAX) -> None:
        self._limit = limit
        self._kept: deque[bytes] = deque()
        self._held = 0
        self._last = 0

    @property
    def first(self) -> int:
        """The lowest number kept; `last + 1` when none is."""
        return self._last - len(self._kept) + 1

    @property
    def last(self) -> int:
        """The highest number ever given, 0 for none."""
        return self._last

    @property
    def held(self) -> int:
        """Bytes kept."""
        return self._held

    def fits(self, size: int) -> bool:
        """Whether `size` more bytes may be kept. An empty outbox takes anything, or one large event would stop the
        agent for ever."""
        return not self._kept or self._held + size <= self._limit

    def put(self, body: bytes) -> int:
        """Keeps an encoded event as the message `{"n": …, "ev": …}`; answers its number."""
        self._last += 1
        message = b'{"n":%d,"ev":%b}' % (self._last, body)
        self._kept.append(message)
        self._held += len(message)
        return self._last

    def ack(self, n: int) -> bool:
        """Frees everything up to `n`. False, and nothing is freed, for a number that was never given."""
        if not 0 <= n <= self._last:
            return False
        while self._kept and self.first <= n:
            self._held -= len(self._kept.popleft())
        return True

    def after(self, n: int) -> tuple[int, bytes] | None:
        """The first kept message with a number above `n`."""
        at = max(n + 1, self.first)
        return None if at > self._last else (at, self._kept[at - self.first])


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; `error` is empty when it went well."""

    error: str = ""


class Commands:
    """Every command runs once."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._done: OrderedDict[str, Done] = OrderedDict()

    def take(self, id: str) -> Done | bool:
        """True: new, run it. False: it is under way, its answer will come. `Done`: it has ended like this."""
        if id in self._done:
            return self._done[id]
        if id in self._running:
            return False
        if len(self._running) >= RUNNING_MAX:
            return Done("too many commands under way")
        self._running.add(id)
        return True

    def finish(self, id: str, error: str = "") -> None:
        self._running.discard(id)
        self._done[id] = Done(error)
        while len(self._done) > DONE_MAX:
            self._done.popitem(last=False)


class Fence:
    """Which attach holds the link."""

    def __init__(self) -> None:
        self._highest = -1
        self._held = False

    def attach(self, fence: int) -> bool:
        """Whether this attach holds the link now. An equal number is the same server coming back: it gets the link
        only when nobody has it."""
        if fence < self._highest or (fence == self._highest and self._held):
            return False
        self._highest, self._held = fence, True
        return True

    def holds(self, fence: int) -> bool:
        return self._held and fence == self._highest

    def detach(self, fence: int) -> None:
        if fence == self._highest:
            self._held = False
