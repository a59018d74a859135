"""A request as the client sent it: what a signature was made over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Message

from pilothouse.core import proof
from pilothouse.web import wire
from pilothouse.web.socket import UpgradeRequest


@dataclass(frozen=True)
class Asked:
    """Path and query are raw; names of headers in lower case, repeated ones kept."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    read: Callable[[], Awaitable[bytes]]
    """The body, within bounds; from then on it is here."""

    async def payload(self) -> tuple[str, ...]:
        """The body's hash."""
        return (proof.digest(await self.read()),)

    @classmethod
    def of(cls, request: Request) -> tuple[Asked, Request]:
        """And the request for the handler, who may read the body that was read here."""
        scope = request.scope
        body: list[bytes] = []
        told = False

        async def read() -> bytes:
            if not body:
                body.append(await wire.read(request))
            return body[0]

        async def receive() -> Message:
            nonlocal told
            if body and not told:
                told = True
                return {"type": "http.request", "body": body[0], "more_body": False}
            return await request.receive()

        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        query = scope["query_string"].decode("latin-1")
        path = scope["raw_path"].decode("latin-1")
        return cls(request.method, path, query, headers, read), Request(scope, receive)

    @classmethod
    def upgrade(cls, request: UpgradeRequest) -> Asked:
        """Of a WebSocket: a GET without a body."""

        async def read() -> bytes:
            return b""

        return cls("GET", request.path, request.query, request.headers, read)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]
