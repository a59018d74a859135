"""The runner's three routes."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from pilothouse.runner.desk import Desk
from pilothouse.runner.invocations import BODY_MAX, Invocations
from pilothouse.runner.socket import Link


def make_app(desk: Desk, link: Link, workspace: Path) -> web.Application:
    app = web.Application(client_max_size=BODY_MAX)
    invocations = Invocations(desk, link, str(workspace))

    async def ping(_: web.Request) -> web.Response:
        return web.json_response(desk.status.ping())

    app.router.add_get("/ping", ping, allow_head=False)
    app.router.add_post("/invocations", invocations.handle)
    app.router.add_get("/ws", link.handle, allow_head=False)
    return app
