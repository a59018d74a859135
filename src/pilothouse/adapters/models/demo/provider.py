"""The demo model as a provider: its HTTP server runs inside the proxy, on a loopback port of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from aiohttp import web

from pilothouse.adapters.models.demo.app import MODEL, PACE, application
from pilothouse.adapters.models.http import Client, Limits
from pilothouse.core.prices import FREE, Price
from pilothouse.engine.upstream import Answer, ModelSettings, Request

_KEY = "x-demo-key"


class Demo:
    provider = "demo"
    demo = True
    label = "Demo model (a script, no language model)"

    def __init__(self, settings: ModelSettings, pace: float = PACE) -> None:
        self.model = MODEL  # whatever is configured: nothing else answers
        self._pace = pace
        self._client = Client(Limits())
        self._runner: web.AppRunner | None = None
        self._starting = asyncio.Lock()
        self._key = secrets.token_urlsafe()

    def price(self, model: str) -> Price:
        """None, whatever name it was asked by."""
        return FREE

    async def ready(self) -> str:
        return ""

    def call(self, request: Request) -> AbstractAsyncContextManager[Answer]:
        return self._call(request)

    @asynccontextmanager
    async def _call(self, request: Request) -> AsyncIterator[Answer]:
        base = await self._started()
        headers = {**request.headers, "accept-encoding": "identity", _KEY: self._key}
        async with self._client.send(request.method, base + request.path, headers, request.body) as answer:
            yield answer

    async def _started(self) -> str:
        async with self._starting:
            if self._runner is None:
                app = application(self._pace)
                app.middlewares.append(self._ours_only)
                runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self._runner = runner
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    @web.middleware
    async def _ours_only(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """A port on loopback is open to every program of the host; only the proxy knows the key."""
        if not secrets.compare_digest(request.headers.get(_KEY, ""), self._key):
            raise web.HTTPForbidden
        return await handler(request)

    async def close(self) -> None:
        await self._client.close()
        if self._runner is not None:
            await self._runner.cleanup()
