"""uvicorn's protocols with what they lack before an application is asked: an end to waiting and to a head's size, and a
target that says the same as `Host`.

A request's target is a path (`GET /api/me`) or, as to a proxy, a whole address (`GET http://host/api/me`), which counts
instead of `Host`. The second is taken only where both name the same, so that nothing can be read in two ways.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.http11 import Request

HEAD_MAX = 128 * 1024
"""Bytes of a request's head: a token and a signed header of some KB each fit many times."""
_HANDSHAKE = frozenset(
    {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "content-length"}
    | {"transfer-encoding"}
)


class BadTargetError(Exception):
    """The request's target is none, or names another host than its head."""


class Doors(Protocol):
    """Who else takes upgrades."""

    def take(self, asked: Http) -> bool:
        """Whether it is one of theirs: it is no more uvicorn's then."""
        ...


class Quick(Protocol):
    """Answers requests by what was read from a head like theirs."""

    def know(self, scope: dict[str, Any]) -> Any | None:
        """What is kept of a head. None: it is none of those."""
        ...

    def at_once(self, head: Any, body: bytes) -> bytes | None:
        """The answer, where nothing has to be waited for. None: `answer` has it, and nothing has happened."""
        ...

    async def answer(self, head: Any, body: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Known:
    head: bytes
    """With the empty line."""
    size: int
    """Bytes of the whole request: one of another size has another head, if only by one digit."""
    what: Any


class _Cycle:
    """As much of uvicorn's as its protocol asks for, of a request that is there whole."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "more_body", "response_complete")

    def __init__(self) -> None:
        self.response_complete = self.more_body = self.disconnected = False
        self.keep_alive = True
        self.message_event = self

    def set(self) -> None:
        """The event that nobody waits for."""


class Http(HttpToolsProtocol):
    """uvicorn waits for ever for the rest of a request, and takes a head of any size."""

    head_s: float
    """From a connection's or request's first byte to the end of its head."""
    body_s: float
    """From there to the end of its body."""
    doors: Doors | None = None
    quick: Quick | None = None
    """For the requests of a client that sends the same head again and again."""
    _known: _Known | None = None
    _timer: asyncio.TimerHandle | None = None
    _size = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """uvicorn's, but for the addresses: it asks the socket for them, which makes one of Python's each time."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport, "sockname") or get_local_addr(transport)
        self.client = _address(transport, "peername") or get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._arm(self.head_s)

    def data_received(self, data: bytes) -> None:
        between, known = self._between(), self._known
        if between and known is not None and len(data) == known.size and data.startswith(known.head):
            self._again(known, data[len(known.head) :])
            return
        if self._in_head:
            self._size += len(data)
        before = self.cycle
        super().data_received(data)
        if self.quick is not None and (between or before is None) and self.cycle is not before:
            self._known = self._learned(data)
        if self._in_head and self._size > HEAD_MAX and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:  # what was asked first is answered, and that is all
            cycle.keep_alive = False
            self.flow.pause_reading()
        elif self.doors is None or not self.doors.take(self):
            super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._arm(self.head_s)

    def on_headers_complete(self) -> None:
        self._disarm()
        self._in_head, self._size = False, 0
        self.url = _path(self.url, self.headers)
        super().on_headers_complete()
        if not self.parser.should_upgrade():  # another protocol takes the connection then, and has its own times
            self._arm(self.body_s)

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    # --- the same head again ---

    def _between(self) -> bool:
        """Whether the next byte begins a request, and nothing is being answered."""
        cycle = self.cycle
        return cycle is not None and cycle.response_complete and not cycle.more_body and not self._in_head

    def _learned(self, data: bytes) -> _Known | None:
        """Of a request that came whole in one piece, and alone."""
        head, end, body = data.partition(b"\r\n\r\n")
        names = [name for name, _ in self.headers]
        plain = names.count(b"content-length") == 1 and b"transfer-encoding" not in names and b"expect" not in names
        cycle = self.cycle
        if not plain or cycle.more_body or not cycle.keep_alive or self.pipeline or self.transport.is_closing():
            return None
        if dict(self.headers)[b"content-length"] != b"%d" % len(body) or self.quick is None:
            return None
        what = self.quick.know(dict(self.scope))
        return None if what is None else _Known(head + end, len(data), what)

    def _again(self, known: _Known, body: bytes) -> None:
        self._unset_keepalive_if_required()
        if (answer := self._at_once(known, body)) is not None:
            self.transport.write(answer)
            self.on_response_complete()
            return
        self.cycle = cycle = _Cycle()  # type: ignore[assignment]
        task = self.loop.create_task(self._answer(cycle, known, body))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _at_once(self, known: _Known, body: bytes) -> bytes | None:
        if self.quick is None or self.flow.write_paused or self.transport.is_closing():
            return None
        return self.quick.at_once(known.what, body)

    async def _answer(self, cycle: _Cycle, known: _Known, body: bytes) -> None:
        assert self.quick is not None
        answer = await self.quick.answer(known.what, body)
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        cycle.response_complete = True
        if cycle.disconnected:
            return
        self.transport.write(answer)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # ---

    def _arm(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._give_up)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.transport.abort()


class Upgraded(WebSocketsSansIOProtocol):
    """The library beneath takes 8 KB of a header and 128 headers. It is shown those that make the handshake; the
    application gets all."""

    _whole: tuple[str, Headers] | None = None

    def data_received(self, data: bytes) -> None:
        if self._whole is None:
            data = self._shortened(data)
        super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        if self._whole is not None:
            event.path, event.headers = self._whole
        super().handle_connect(event)

    def send_receive_event_to_app(self) -> None:
        with contextlib.suppress(InvalidState):  # text that is no UTF-8, where the end was said already
            super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent:  # refused: else uvicorn's log calls it an application that did not answer
            self.handshake_complete = True

    def _shortened(self, data: bytes) -> bytes:
        """uvicorn hands over the whole head at once, written anew."""
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ", 2)
        pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        self._whole = (target, Headers(pairs))
        kept = [f"{name}: {value}" for name, value in pairs if name.lower() in _HANDSHAKE]
        return "\r\n".join([f"{method} / {version}", *kept, "", ""]).encode("latin-1") + rest


def http(head_s: float, body_s: float, quick: Quick | None = None, doors: Doors | None = None) -> type[Any]:
    """For `uvicorn.Config`, which takes a class and gives it nothing."""
    return type("Http", (Http,), {"head_s": head_s, "body_s": body_s, "quick": quick, "doors": doors})


def _address(transport: asyncio.Transport, name: str) -> tuple[str, int] | None:
    """Of TCP, as the transport has it."""
    found = transport.get_extra_info(name)
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) and len(found) >= 2 else None


def _path(target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Path and query of a request's target. Raises BadTargetError."""
    if target.startswith(b"/") or target == b"*":
        return target
    scheme, sign, rest = target.partition(b"://")
    authority = rest.split(b"/", 1)[0].split(b"?", 1)[0]
    named = [value for name, value in headers if name == b"host"]
    if not sign or scheme.lower() not in {b"http", b"https"} or [n.lower() for n in named] != [authority.lower()]:
        raise BadTargetError
    path = rest[len(authority) :]
    httptools.parse_url(path if path.startswith(b"/") else b"/" + path)
    return path if path.startswith(b"/") else b"/" + path
