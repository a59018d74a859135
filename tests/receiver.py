"""A receiver of webhooks and notifications, that answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from aiohttp import web

from pilothouse.core import reach


@dataclass
class Got:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    port: int = 0
    got: list[Got] = field(default_factory=list)
    answer: Callable[[Got], web.Response] = field(default=lambda got: web.Response(status=204))
    gate: asyncio.Event | None = None
    """Until then nobody is answered."""
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def target(self) -> reach.Target:
        return reach.Target("127.0.0.1", self.port)

    async def hear(self, request: web.Request) -> web.Response:
        got = Got(request.path_qs, {k.lower(): v for k, v in request.headers.items()}, await request.read())
        async with self._came:
            self.got.append(got)
            self._came.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        return self.answer(got)

    async def until(self, count: int) -> list[Got]:
        async with self._came, asyncio.timeout(20):
            await self._came.wait_for(lambda: len(self.got) >= count)
        return self.got


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.hear)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()
