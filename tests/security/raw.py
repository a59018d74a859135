"""A client made of bytes: what no library would send."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from urllib.parse import urlsplit

PATIENCE = 45.0
CLOSED = (ConnectionError, RuntimeError)
"""What a write raises when the other side has gone; the second is uvloop's word for it."""


async def exchange(url: str, request: bytes) -> bytes:
    """What the server at `url` answers until it hangs up, or has said a whole head and a little more."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        writer.write(request)
        answer = b""
        async with asyncio.timeout(PATIENCE):
            while b"\r\n\r\n" not in answer and (piece := await reader.read(65536)):
                answer += piece
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while piece := await reader.read(65536):
                    answer += piece
        return answer
    finally:
        writer.close()


def status(answer: bytes) -> int:
    """0 when there was none."""
    words = answer.split(b"\r\n", 1)[0].split(b" ")
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") else 0


def plain(method: str, target: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def upgrade(target: str, headers: dict[str, str]) -> bytes:
    """A WebSocket's opening request."""
    mine = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
    }
    lines = [f"GET {target} HTTP/1.1", *(f"{n}: {v}" for n, v in (mine | headers).items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
