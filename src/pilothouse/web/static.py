"""The built page, from the package. Public: it holds no data, and signing in needs it."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.core.errors import NotFound, PilothouseError
from pilothouse.web import wire
from pilothouse.web.guard import Guard, Once

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PUBLIC: dict[str, str] = {
    "/": "the page itself: one signs in on it",
    "/assets/{name}": "the page's scripts and styles",
    "/favicon.svg": "the page's icon",
    "/sw.js": "the page's service worker, which shows notifications; a browser fetches it without being asked",
}
"""What is served, and why without a credential."""
_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
MISSING = (
    b"<!doctype html><title>Pilothouse</title><p>The page is not built. Run <code>make run</code>, or use the API."
)


def routes(guard: Guard) -> list[Route]:
    root = resources.files("pilothouse.web").joinpath("static")
    return [Route(path, _endpoint(guard, root, path), methods=["GET"]) for path in PUBLIC]


def _endpoint(guard: Guard, root: Traversable, path: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            await guard.check("public", request.method, Once.of(request))
            name = request.path_params.get("name", "")
            if path == "/":
                return _file(root.joinpath("index.html"), "no-cache")
            if name and not _NAME.match(name):
                raise NotFound
            found = root.joinpath("assets", name) if name else root.joinpath(path.lstrip("/"))
            return _file(found, "public, max-age=31536000, immutable" if name else "no-cache")
        except PilothouseError as error:
            return wire.problem(error)

    return endpoint


def _file(found: Traversable, cache: str) -> Response:
    media = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
    try:
        content = found.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        if found.name != "index.html":
            raise NotFound from None
        content = MISSING
    return Response(content, media_type=media, headers={"cache-control": cache})
