"""What stands in front of the server: proxies, and a path of theirs. Applied once, before anything reads a request.

From then on a request is as its client made it: `client` is the client's address, `Host` the name the client asked for,
the path has the sub-path in front (`base`, ASGI's root path), whether a proxy has cut it off or not. Both ways are
taken always: what begins with the sub-path is left as it is, anything else is taken for cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from pilothouse.core.forwarded import Form, Hop, Network, read
from pilothouse.web.socket import Headers, UpgradeRequest

SEEN = "pilothouse.seen"
"""Where an ASGI scope has its `Seen`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the headers alone do not tell."""

    secure: bool | None = None
    """Whether the client spoke TLS. None: a proxy stands in front and did not say."""
    received: str | None = None
    """The `Host` that came with the request, where a trusted proxy has told of another. Both must be ours: some proxies
    pass on an `X-Forwarded-Host` that the client made up."""


@dataclass(frozen=True, slots=True)
class Front:
    base: str = ""
    """`/sub/path`, without a slash at its end; empty for none."""
    trusted: tuple[Network, ...] = ()
    form: Form = "x-forwarded"
    behind_proxy: bool = False
    """The way in is a TLS proxy, whether it tells of itself or not."""

    def scope(self, scope: MutableMapping[str, Any]) -> None:
        """Changes an ASGI scope, `http` or `websocket`."""
        client = scope.get("client")
        secure = scope["scheme"] in {"https", "wss"}
        if client is not None and self.trusted:
            headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
            hop = self._hop(client[0], headers)
            changed, received = _named(headers, hop.host)
            if changed is not headers:
                scope["headers"] = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in changed]
            if hop.client != client[0]:
                scope["client"] = (hop.client, 0)
            scope[SEEN] = Seen(self._secure(secure, hop), received)
            if scope[SEEN].secure is not None:
                plain, sealed = ("ws", "wss") if scope["type"] == "websocket" else ("http", "https")
                scope["scheme"] = sealed if scope[SEEN].secure else plain
        else:
            scope[SEEN] = Seen(self._secure(secure, None))
        if self.base:
            scope["root_path"] = self.base
            if not _below(scope["path"], self.base):
                scope["path"] = self.base + scope["path"]
                scope["raw_path"] = self.base.encode() + scope.get("raw_path", b"")

    def upgrade(self, request: UpgradeRequest) -> UpgradeRequest:
        """The same for a door."""
        client, headers, received, hop = request.client, request.headers, None, None
        if client is not None and self.trusted:
            hop = self._hop(client[0], headers)
            headers, received = _named(headers, hop.host)
            client = client if hop.client == client[0] else (hop.client, 0)
        secure = self._secure(bool(request.secure), hop)
        if hop is None and secure is request.secure and _below(request.path, self.base):
            return request
        path = request.path if _below(request.path, self.base) else self.base + request.path
        return dataclasses.replace(request, path=path, headers=headers, client=client, secure=secure, received=received)

    def inner(self, path: str) -> str:
        """A path as the route table has it."""
        return path[len(self.base) :] if _below(path, self.base) else path

    def _hop(self, peer: str, headers: Headers) -> Hop:
        return read(peer, lambda name: [v for k, v in headers if k == name], self.trusted, self.form)

    def _secure(self, here: bool, hop: Hop | None) -> bool | None:
        if hop is not None and hop.scheme is not None:
            return hop.scheme == "https"
        return None if self.behind_proxy and not here else here


def _named(headers: Headers, host: str | None) -> tuple[Headers, str | None]:
    """The headers with this `Host`, and the one that stood there."""
    if host is None:
        return headers, None
    received = [value for name, value in headers if name == "host"]
    kept = [(name, value) for name, value in headers if name != "host"]
    return [("host", host), *kept], received[0] if len(received) == 1 else ""


def _below(path: str, base: str) -> bool:
    return path.startswith(base) and path[len(base) : len(base) + 1] in {"/", ""}
