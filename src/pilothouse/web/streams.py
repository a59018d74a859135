"""Answers that do not end by themselves: each is ended with its credential, and when the server goes.

A follower of the log waits for ever. What it sends is interleaved with comments, so that a proxy keeps the connection
and a client that has gone is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from pilothouse.core.errors import TooMany

BEAT_S = 20.0
"""Below the idle time-outs of common proxies (30-60 s)."""
BEAT = b": still here\n\n"
STREAMS_MAX = 500
"""Open streams of one credential; a fault in a client must not take all of the server's memory."""


class Streams:
    """Those that are open, by credential."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def room(self, credential: str) -> None:
        """Raises TooMany."""
        if len(self._open.get(credential, ())) >= STREAMS_MAX:
            raise TooMany(f"{STREAMS_MAX} event streams of this credential are open already.")

    def revoked(self, credential: str) -> None:
        for over in self._open.get(credential, ()):
            over.set()

    def all_away(self) -> None:
        for credential in list(self._open):
            self.revoked(credential)

    async def until_over(
        self, content: AsyncIterator[bytes], credential: str, left: float | None, beat_s: float = BEAT_S
    ) -> AsyncIterator[bytes]:
        """`content` with beats in its silences, until it ends, or its credential, or the server. `left`: seconds."""
        over = asyncio.Event()
        self._open[credential].add(over)
        timer = asyncio.get_running_loop().call_later(left, over.set) if left is not None else None
        ending = asyncio.ensure_future(over.wait())
        following: asyncio.Future[bytes | None] | None = None
        try:
            while not over.is_set():
                following = following or asyncio.ensure_future(_next(content))
                both: list[asyncio.Future[Any]] = [following, ending]
                done, _ = await asyncio.wait(both, timeout=beat_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    yield BEAT
                if following in done:
                    part, following = following.result(), None
                    if part is None:
                        return
                    yield part
        finally:
            self._open[credential].discard(over)
            if not self._open[credential]:
                del self._open[credential]
            if timer is not None:
                timer.cancel()
            ending.cancel()
            if following is not None:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await following


async def _next(content: AsyncIterator[bytes]) -> bytes | None:
    return await anext(content, None)
