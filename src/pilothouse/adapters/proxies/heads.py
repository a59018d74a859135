"""What a session's program asks of the egress listener, read from the head of its request.

    CONNECT host:port HTTP/1.1            a tunnel
    GET http://host[:port]/path HTTP/1.1  one plain request (any method), port 80 unless named

Everything else is refused with what is wrong. Nothing of a refused head is repeated to anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilothouse.core import reach

HEAD_MAX = 16 * 1024
"""Of a request's head; cookies are in it."""
TARGET_MAX = 8 * 1024
_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.[01]\Z")
_SCHEME = "http://"


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    target: reach.Target
    path: str = ""
    """Of a plain request, as it goes to the far end; a tunnel has none."""

    @property
    def tunnel(self) -> bool:
        return self.method == "CONNECT"


def read(head: bytes) -> Asked:
    """Raises `reach.BadTarget`."""
    line = _LINE.match(head.split(b"\r\n", 1)[0])
    if line is None:
        raise reach.BadTarget("expected CONNECT host:port, or a method, an http:// address and HTTP/1.1")
    method, text = line[1].decode(), line[2].decode()
    if len(text) > TARGET_MAX:
        raise reach.BadTarget(f"an address has at most {TARGET_MAX} characters")
    if method == "CONNECT":
        return Asked(method, _target(text, None))
    if text[: len(_SCHEME)].lower() != _SCHEME:
        raise reach.BadTarget("this is a proxy: give the whole http:// address, and CONNECT for https")
    authority, path = _split(text[len(_SCHEME) :])
    return Asked(method, _target(authority, 80), path)


def _target(text: str, default: int | None) -> reach.Target:
    if "@" in text:
        raise reach.BadTarget("the address must not have a user in it")
    return reach.target(text, default)


def _split(rest: str) -> tuple[str, str]:
    """Authority and path."""
    if "#" in rest:
        raise reach.BadTarget("the address must not have a fragment")
    at = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    path = rest[at:] or "/"
    return rest[:at], path if path.startswith("/") else "/" + path
