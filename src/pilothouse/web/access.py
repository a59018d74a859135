"""The access log: one line for each request and each upgrade, when it is answered.

    principal  kind and id of who asked (`key:3f2a…`), `-` for nobody
    method, path, status, bytes, ms, peer      of a body sent in pieces: all of it, when it has ended

No secret gets in: there are no headers and no query, and of the path only words that are too short to be one of ours,
and UUIDs; anything else shows as `…`.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any, Protocol

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilothouse.core.access import Principal
from pilothouse.core.ids import is_uuid
from pilothouse.web.peer import peer, upgrade_peer
from pilothouse.web.socket import Accept, Refuse, UpgradeRequest

WHO = "pilothouse.principal"
"""Where an ASGI scope has whom the guard let in."""
WORD_MAX = 24
"""Characters of a path's word that are shown. Our shortest secret has 43."""
PATH_MAX = 200
_WORD = re.compile(r"[A-Za-z0-9._~-]*\Z")
HIDDEN = "…"
_STATUS = {
    "http.response.start": 200,
    "websocket.http.response.start": 403,
    "websocket.accept": 101,
    "websocket.close": 403,  # before it was accepted
}


class Logger(Protocol):
    def info(self, event: str, /, **fields: Any) -> Any: ...


class AccessLog:
    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def upgrade(self, request: UpgradeRequest, answer: Accept | Refuse, since: float) -> None:
        who, status, size = (
            (answer.principal, 101, 0) if isinstance(answer, Accept) else ("", answer.status, len(answer.body))
        )
        self._line("upgrade", who, "GET", request.path, status, size, since, upgrade_peer(request))

    def around(self, app: ASGIApp) -> ASGIApp:
        """Notes what `app` answers."""

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            since, status, size = time.perf_counter(), 0, 0

            async def sender(message: Message) -> None:
                nonlocal status, size
                kind = message["type"]
                size += len(message.get("body", b""))
                if not status and kind in _STATUS:
                    status = message.get("status") or _STATUS[kind]
                    if kind == "websocket.accept":
                        self._asgi(scope, status, 0, since)
                await send(message)

            try:
                await app(scope, receive, sender)
            finally:
                if status != 101:
                    self._asgi(scope, status or 500, size, since)

        return noting

    def request(self, who: str, method: str, path: str, status: int, size: int, since: float, address: str) -> None:
        self._line("request", who, method, path, status, size, since, address)

    def _asgi(self, scope: Scope, status: int, size: int, since: float) -> None:
        what, method = ("request", scope["method"]) if scope["type"] == "http" else ("upgrade", "GET")
        self._line(what, scope.get(WHO, ""), method, scope["path"], status, size, since, peer(HTTPConnection(scope)))

    def _line(
        self, what: str, who: str, method: str, path: str, status: int, size: int, since: float, address: str
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end what is being noted
            self._logger.info(
                what,
                principal=who or "-",
                method=method,
                path=shown(path),
                status=status,
                bytes=size,
                ms=round((time.perf_counter() - since) * 1000, 1),
                peer=address,
            )


def named(principal: Principal) -> str:
    """Neither a person's name nor anything of the credential."""
    return f"{principal.kind}:{principal.id}"


def shown(path: str) -> str:
    words = path[: PATH_MAX + 1].split("/")
    if len(path) > PATH_MAX:
        words[-1] = HIDDEN
    return "/".join(w if (len(w) <= WORD_MAX and _WORD.match(w)) or is_uuid(w) else HIDDEN for w in words)
