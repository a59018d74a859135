"""Answers that take long: events without end, downloads. They end with their credential, and leave nothing open.

A stream of events that is cut has a proper end: its reader comes back with its cursor, and is told 401 then. A download
that is cut breaks off instead, or half a file would look like a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pilothouse.core.errors import TooMany
from pilothouse.web import wire

RETRY_MS = (1000, 5000)
"""A browser's `EventSource` comes back after as long as it was told, each after another time: the many who lost one
server do not return in one instant."""


SILENCE_S = 15.0
"""After as long without a word a sign of life is sent. Proxies and balancers give up a silent connection after 30 s to
a minute or two; one sign may be late."""
COMMENT = b":\n\n"
"""The sign of life of a stream of events; that of a JSON document to come is a space, which may stand before it."""


async def alive(content: AsyncGenerator[bytes, None], sign: bytes = COMMENT) -> AsyncGenerator[bytes, None]:
    """`content`, and a sign of life whenever it was silent for a while."""
    coming: asyncio.Task[bytes] | None = None
    try:
        while True:
            coming = coming or asyncio.create_task(_next(content))
            await asyncio.wait([coming], timeout=SILENCE_S)
            if not coming.done():
                yield sign
                continue
            try:
                chunk = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield chunk
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await content.aclose()


async def _next(content: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(content)


def opening() -> bytes:
    """How a stream of events begins."""
    return b": pilothouse\nretry: %d\n\n" % random.randint(*RETRY_MS)  # noqa: S311 - nobody gains by guessing it


class Streams:
    """What is being sent, by credential."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[Streamed]] = defaultdict(set)

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    @contextlib.contextmanager
    def keep(self, stream: Streamed) -> Iterator[None]:
        self._open[stream.credential].add(stream)
        try:
            yield
        finally:
            self._open[stream.credential].discard(stream)
            if not self._open[stream.credential]:
                del self._open[stream.credential]

    def revoked(self, credential: str) -> None:
        for stream in self._open.get(credential, ()):
            stream.cut.set()

    def recheck(self) -> None:
        """Somebody may do less than a moment ago."""
        for mine in self._open.values():
            for stream in mine:
                if stream.left() == 0:
                    stream.cut.set()

    def aways(self) -> list[Callable[[], None]]:
        """What sends away each who follows events, and may come back. Downloads have the time that the server gives
        them."""
        return [stream.cut.set for mine in self._open.values() for stream in mine if stream.endless]

    def all_away(self) -> None:
        """The server goes now."""
        for away in self.aways():
            away()


class Streamed(StreamingResponse):
    """`left`: seconds for which it may go on, None without end, 0 no longer.

    `let_go` is called when it ends, however it ends: `content` may not have begun by then."""

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        streams: Streams,
        credential: str,
        left: Callable[[], float | None],
        sleep: Callable[[float], Awaitable[None]],
        *,
        media_type: str,
        headers: dict[str, str],
        endless: bool = False,
        let_go: Callable[[], None] | None = None,
        room: AbstractContextManager[None] | None = None,
        status_code: int = 200,
    ) -> None:
        super().__init__(content, status_code, media_type=media_type, headers=headers)
        self.credential = credential
        self.left = left
        self._sleep = sleep
        self.endless = endless
        self.cut = asyncio.Event()
        self.over = False
        """Its end was reached, or its reader left; not: it was cut, or the server goes."""
        self._content = content
        self._streams = streams
        self._let_go = let_go
        self._room = room or contextlib.nullcontext()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._room:
                await self._serve(scope, receive, send)
        except TooMany as error:  # others have come in since it was asked
            await self._content.aclose()
            if self._let_go is not None:
                self._let_go()
            await wire.problem(error)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(super().__call__(scope, receive, send))
        cut = asyncio.create_task(self.cut.wait())
        waiting = [sending, cut]
        if self.left() is not None:
            waiting.append(asyncio.create_task(self._lapse()))
        try:
            with self._streams.keep(self):
                await asyncio.wait((sending, cut), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                self.over = not self.cut.is_set()
                await sending
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await self._content.aclose()
            if self._let_go is not None:
                self._let_go()
        if self.endless and self.cut.is_set():
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lapse(self) -> None:
        await lapse(self.left, self._sleep)
        self.cut.set()


async def lapse(left: Callable[[], float | None], sleep: Callable[[float], Awaitable[None]]) -> None:
    """Returns when `left` says 0; what has no end waits for ever."""
    while (seconds := left()) != 0:
        await (asyncio.Event().wait() if seconds is None else sleep(seconds))
