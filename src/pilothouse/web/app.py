"""All doors as one ASGI application: the route table, the page, and what holds for every answer."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilothouse.core.errors import NotFound, PilothouseError
from pilothouse.web import metrics, routes, static, wire
from pilothouse.web.access import AccessLog
from pilothouse.web.call import Platform
from pilothouse.web.front import Front
from pilothouse.web.guard import SAFE, Guard, Once
from pilothouse.web.hub import Hub

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "content-security-policy": static.CSP,
}
"""On every answer that does not say otherwise itself."""

DOORS = ("/ws", "/event/{realtime:path}", "/api/sessions/{id}/shells/{shell:path}", "/runtimes/{runtime:path}")
"""As an ASGI server sees them, decoded; `web.doors` looks at the path as it was sent."""


SOCKETS = frozenset(entry.path for entry in routes.TABLE if entry.method == "WS" and "{" not in entry.path)
"""Addresses that only a WebSocket has, whoever asks."""


class MethodNotAllowed(PilothouseError):
    """This address does not know that method."""

    code = "method_not_allowed"
    status = 405


class UpgradeRequired(PilothouseError):
    """This address speaks WebSocket; nothing was upgraded."""

    code = "upgrade_required"
    status = 426

    @property
    def headers(self) -> dict[str, str]:
        return {"upgrade": "websocket"}


def watch(platform: Platform, hub: Hub) -> None:
    """What is open ends when the right to it does, and who is there can be asked."""
    members = platform.identity.members
    platform.kit.attendance.ways.append(lambda session, besides: hub.approver(members, session, besides))
    metrics.sources(platform, hub)
    looking = [hub.recheck, platform.streams.recheck]
    platform.identity.on_revoke += [hub.revoked, platform.streams.revoked]
    platform.identity.members.on_change += looking
    platform.sessions.shelf.on_share += looking


def application(
    platform: Platform,
    guard: Guard,
    sockets: ASGIApp | None = None,
    front: Front | None = None,
    log: AccessLog | None = None,
) -> ASGIApp:
    """`sockets` serves the doors where no hot path does."""
    doors = [WebSocketRoute(path, sockets) for path in DOORS] if sockets is not None else []
    app = Starlette(
        routes=[*routes.routes(platform, guard), *_page(platform, guard), *doors],
        exception_handlers={HTTPException: _counted_unknown(platform), Exception: _broken},
    )
    app.router.redirect_slashes = False  # an address is one or is none: nothing answers before the guard
    outside = _Everywhere(app, guard, front or Front())
    return log.around(outside) if log is not None else outside


def _page(platform: Platform, guard: Guard) -> list[Route]:
    counted = functools.partial(metrics.counting, platform.metrics, "GET")
    return [Route(r.path, counted(r.path, r.endpoint), methods=["GET"]) for r in static.routes(guard)]


def _counted_unknown(platform: Platform) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def unknown(request: Request, error: Exception) -> Response:
        answer = await _unknown(request, error)
        platform.metrics.requests.add((metrics.UNKNOWN, metrics.UNKNOWN, str(answer.status_code)))
        return answer

    return unknown


async def _unknown(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        answer = wire.problem(MethodNotAllowed())
        answer.headers["allow"] = ", ".join(_methods(request))
        return answer
    path = request.scope["raw_path"].decode("latin-1")  # as doors look at it
    if request.method == "GET" and path.removeprefix(request.scope.get("root_path", "")) in SOCKETS:
        return wire.problem(UpgradeRequired())
    return wire.problem(NotFound("There is nothing at this address."))


def _methods(request: Request) -> list[str]:
    """Those of every route that has this address; Starlette's own answer knows the first one alone."""
    router: Starlette = request.app
    every = [route for route in router.routes if isinstance(route, Route)]
    path = next(route.path for route in every if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in every if route.path == path for method in route.methods or ()})


async def _broken(request: Request, error: Exception) -> Response:
    return wire.problem(PilothouseError("The server failed at this; its log says where."))


class _Everywhere:
    """What stands in front is taken into account; `Host` is checked and the headers are set for what no route answers
    too."""

    def __init__(self, app: ASGIApp, guard: Guard, front: Front) -> None:
        self._app = app
        self._guard = guard
        self._front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._front.scope(scope)
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._guard.host(Once.of(HTTPConnection(scope)))
        except PilothouseError as error:
            await wire.problem(error)(scope, receive, sender)
            return
        if self._front.base and scope["path"] == self._front.base and scope["method"] in SAFE:
            # The page's own addresses are relative, so it needs the slash.
            await Response(status_code=308, headers={"location": self._front.base + "/"})(scope, receive, sender)
            return
        await self._app(scope, receive, sender)
