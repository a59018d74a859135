"""WebSocket doors: what a door says of an upgrade, and the socket it is given. No library is named here.

A door is asked before the upgrade is answered, so that a refusal is an ordinary HTTP answer. `switch` and `hot` serve
doors through picows, `plain` through any ASGI server; both keep the same promises:

  * a message is at most `Limits.message` bytes, else close 1009; text that is no UTF-8 closes 1007; anything that
    RFC 6455 forbids closes 1002;
  * messages that the door has not taken yet are bounded: reading from the client stops;
  * what the client has not read yet is bounded: `writable` waits above `Limits.high_water`, and a door that writes on
    regardless loses the connection at `Limits.cut`;
  * a client that gives no sign of life is let go (1011), as is one that never finishes the closing handshake;
  * when the client has gone `receive` still hands out what had arrived, then None; a door that has not returned
    `Limits.grace_s` later is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pilothouse.core.errors import PilothouseError
from pilothouse.core.run import TEXT, Run, header

REASON_MAX = 123
"""Bytes of a close reason: a control frame has room for 125, two are the code."""

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Limits:
    message: int = 8 * 1024 * 1024
    """Bytes of one incoming message, fragments together."""
    high_water: int = 1024 * 1024
    """Bytes not yet taken by the kernel above which a door should wait: enough for any fast client."""
    cut: int = 16 * 1024 * 1024
    """The same for a door that does not wait."""
    inbox: int = 1024 * 1024
    """Bytes of received messages that wait for the door; above it reading stops. One message may exceed it."""
    handshake_s: float = 10.0
    """From the first byte to the answer of the upgrade, checking who it is included."""
    body_s: float = 60.0
    """For the body of an ordinary request, from the end of its head: enough for some MB."""
    ping_s: float = 20.0
    """Below the idle time-outs of common proxies (30-60 s)."""
    silence_s: float = 45.0
    """Two pings missed."""
    close_s: float = 5.0
    """For the client's part of the closing handshake."""
    grace_s: float = 10.0
    """For the door to come to its end after the client has gone."""


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    path: str
    """As sent: not decoded, without the query."""
    query: str
    headers: Headers
    """Names in lower case, values latin-1, in order, repeated ones kept."""
    client: tuple[str, int] | None
    secure: bool | None
    """Whether the client spoke TLS; None where a proxy stands in front and did not say."""
    received: str | None = None
    """The `Host` that a trusted proxy sent, where it tells of another that the client asked for."""

    def header(self, name: str) -> str | None:
        """The only header of this name; None when it is absent or, being ambiguous, given more than once."""
        found = self.all(name)
        return found[0] if len(found) == 1 else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers, in its order."""
        offers = ",".join(self.all("sec-websocket-protocol")).split(",")
        return [offer.strip() for offer in offers if offer.strip()]


class Message(NamedTuple):
    data: bytes
    """Of a text message: valid UTF-8."""
    text: bool


Listener = Callable[[bytes, bool], bool]
"""Takes a message's data, and whether it is text: a `Message` for every key would be one more thing to make."""


class Valve(Protocol):
    """What `Socket.attach` sets."""

    open: bool
    """Whether `write` may be called: the socket is open and its client reads. Else `send_run` says what to do."""
    write: Callable[[bytes], object]
    """Puts whole frames on the wire."""


class Socket(Protocol):
    """One open connection. Sends never block and do nothing once it is closed. Nothing of the request is kept: it is a
    kilobyte, of thousands who stay for hours."""

    @property
    def closed(self) -> bool: ...

    def send_text(self, data: bytes) -> None:
        """One text message, already UTF-8."""
        ...

    def send_binary(self, data: bytes) -> None: ...

    def send_frames(self, frames: Frames) -> None:
        """Many text messages in one write; the same `Frames` may go to any number of sockets."""
        ...

    def send_run(self, prefix: bytes, run: Run) -> bool:
        """Likewise, each message beginning with `prefix`. False: `writable` would wait, and nothing was written."""
        ...

    def attach(self, valve: Valve) -> None:
        """For the busiest writers: lets them do without a call of `send_run`, while it would do no more than write."""
        ...

    def detach(self, valve: Valve) -> None: ...

    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        ...

    def underway(self) -> int:
        """Bytes written and not known to be in the client's machine: what would be lost with this process."""
        ...

    async def writable(self) -> bool:
        """Waits while too much is buffered. False when the socket is closed."""
        ...

    async def receive(self) -> Message | None:
        """The next message; None when there will be no more. One reader at a time."""
        ...

    def listen(self, on_message: Listener) -> None:
        """Hand every message to `on_message` at once, waiting ones first, without a task being woken for each. When it
        says False the next ones wait for `receive`, until `listen` is called again; else that only tells the end."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None: ...


class Hearer(Protocol):
    """Serves a connection without a task for it: of thousands almost all have nothing to do. What fails closes the
    socket (1011)."""

    def opened(self, socket: Socket) -> Coroutine[Any, Any, None] | None:
        """Once. What it gives is awaited before anything is heard."""
        ...

    def heard(self, data: bytes, text: bool) -> Coroutine[Any, Any, None] | None:
        """One message. What it gives is awaited before the next, as is a client that reads nothing."""
        ...

    def ended(self) -> None:
        """Once: nothing more will be heard."""
        ...


async def attend(hearer: Hearer, socket: Socket) -> None:
    """The same with a task, on any socket."""
    try:
        more = hearer.opened(socket)
        if more is not None:
            await more
        while (message := await socket.receive()) is not None:
            more = hearer.heard(message.data, message.text)
            if more is not None:
                await more
            await socket.writable()
    finally:
        hearer.ended()


@dataclass(frozen=True, slots=True)
class Accept:
    """Yes. `serve` is run with the socket; when it returns the socket is closed (1000), when it fails too (1011)."""

    serve: Callable[[Socket], Awaitable[None]]
    headers: Headers = ()
    subprotocol: str | None = None
    principal: str = ""
    """Who was let in, for the access log."""
    hearer: Hearer | None = None
    """What does the same as `serve` without a task, for sockets that can do so."""

    def __post_init__(self) -> None:
        _check_headers(self.headers)


@dataclass(frozen=True, slots=True)
class Refuse:
    """No, as an HTTP answer."""

    status: int
    headers: Headers = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        _check_headers(self.headers)


class Door(Protocol):
    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse: ...

    def at_once(self, request: UpgradeRequest) -> Accept | Refuse | None:
        """The same where nobody has to be waited for, and usually nothing is wrong. None: `authorize` says."""
        return None


Find = Callable[[str], Door | None]
"""The door behind a path (`UpgradeRequest.path`), if it is one."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Text messages, framed once. `raw` is what goes on a server's wire, `messages` serves those who frame again."""

    messages: Sequence[bytes]
    raw: bytes = field(repr=False)

    @classmethod
    def of(cls, messages: Sequence[bytes]) -> Frames:
        parts: list[bytes] = []
        for message in messages:
            parts.append(header(TEXT, len(message)))
            parts.append(message)
        return cls(messages, b"".join(parts))


class Inbox:
    """Messages on their way to the door, with a brake on whoever puts them in."""

    __slots__ = (
        "_ended",
        "_limit",
        "_pause",
        "_paused",
        "_reader",
        "_resume",
        "_size",
        "_waiting",
        "listener",
    )

    def __init__(self, limit: int, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._limit = limit
        self._pause = pause
        self._resume = resume
        self._waiting: deque[Message] | None = None
        """Made when something waits: an empty one takes as much as an idle connection has for everything else of it."""
        self._size = 0
        self._paused = False
        self._ended = False
        self._reader: asyncio.Future[None] | None = None
        self.listener: Listener | None = None
        """Is given what comes, in place of whoever waits; until it says that it takes no more."""

    def put(self, data: bytes, text: bool) -> None:
        if self._ended:
            return
        if self.listener is not None:
            if not self.listener(data, text):
                self.listener = None
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(Message(data, text))
        self._size += len(data) + _OVERHEAD
        self._wake()
        if self._size > self._limit and not self._paused:
            self._paused = True
            self._pause()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def listen(self, on_message: Listener) -> None:
        while self._waiting:
            if not on_message(*self._take(self._waiting)):
                return
        self.listener = on_message

    def next(self) -> Message | None:
        """What waits."""
        return self._take(self._waiting) if self._waiting else None

    async def get(self) -> Message | None:
        while not self._waiting:
            if self._ended:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._take(self._waiting)

    def _take(self, waiting: deque[Message]) -> Message:
        message = waiting.popleft()
        if not waiting:
            self._waiting = None
        self._size -= len(message.data) + _OVERHEAD
        if self._paused and self._size <= self._limit // 2:
            self._paused = False
            self._resume()
        return message

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


_OVERHEAD = 256
"""What one waiting message costs beside its bytes, so that a flood of empty ones is braked too."""


async def ask(door: Door, request: UpgradeRequest, limits: Limits, log: UpgradeLog | None = None) -> Accept | Refuse:
    """The door's answer, in time and in every case."""
    since = time.perf_counter()
    answer = await _answer(door, request, limits)
    if log is not None:
        log.upgrade(request, answer, since)
    return answer


async def _answer(door: Door, request: UpgradeRequest, limits: Limits) -> Accept | Refuse:
    try:
        async with asyncio.timeout(limits.handshake_s):
            return await door.authorize(request)
    except TimeoutError:
        return Refuse(503, [("retry-after", "1")], b"busy")
    except PilothouseError as error:
        return Refuse(error.status, (), error.message.encode())
    except Exception:
        logging.getLogger(__name__).exception("a door could not answer")
        return Refuse(500, (), b"the server failed at this")


def ask_at_once(door: Door, request: UpgradeRequest, log: UpgradeLog | None = None) -> Accept | Refuse | None:
    """As `ask`, and None where it is to be asked."""
    since = time.perf_counter()
    try:
        answer = door.at_once(request)
    except PilothouseError:
        return None  # `ask` says it
    except Exception:
        logging.getLogger(__name__).exception("a door could not answer at once")
        return None
    if answer is not None and log is not None:
        log.upgrade(request, answer, since)
    return answer


class UpgradeLog(Protocol):
    def upgrade(self, request: UpgradeRequest, answer: Accept | Refuse, since: float) -> None: ...


def reason_bytes(reason: str) -> bytes:
    """As much of a close reason as a frame takes, cut between characters."""
    return reason.encode()[:REASON_MAX].decode(errors="ignore").encode()


def close_answer(payload: bytes) -> int:
    """The code with which a client's close frame is answered: its own, or what is wrong with the frame (RFC 6455, 5.5.1
    and 7.4; 1004 to 1006 and 1015 are never sent)."""
    code = int.from_bytes(payload[:2])
    if not payload:
        return 1000
    if len(payload) == 1 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        return 1002
    return code if is_utf8(payload[2:]) else 1007


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_headers(headers: Headers) -> None:
    for name, value in headers:
        if not name.isascii() or any(sign in name + value for sign in "\r\n\0"):
            raise ValueError(f"header {name!r}: not allowed on the wire")
