"""Answers that are the same for all who ask: made once, and not sent again to whoever has them (RFC 9110, 13.1.2)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.web import ranges


@dataclass(frozen=True, slots=True)
class Printed:
    body: bytes
    media: str
    etag: str
    """A strong one: by what is in it."""

    @classmethod
    def of(cls, body: bytes, media: str) -> Printed:
        return cls(body, media, f'"{hashlib.sha256(body).hexdigest()}"')

    def answer(self, request: Request) -> Response:
        headers = {"cache-control": "no-cache", "etag": self.etag}
        if ranges.unchanged(request.headers.get("if-none-match"), self.etag):
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media, headers=headers)
