"""Frames taken apart by picows, without a connection of its own for each socket: an idle one needs no parser.

A `Reader` is a picows protocol that was told of a connection which is none. It is lent to whoever has received
something and goes back when the bytes end where a frame does, so that of thousands who are silent none has one; who has
sent half a frame keeps it until the other half has come. What it says by itself, a close frame for a mistake, is handed
to the socket; everything else on a wire is the socket's affair.

picows' `WSProtocol` is not meant to be made by others: its constructor is positional and undocumented. It is used here
and nowhere else; `tests/web/test_hot.py` fails when it changes shape.
"""

from __future__ import annotations

import logging
from typing import Any, Final, Protocol

from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

READ_BUFFER = 2048
"""picows' smallest."""
SHORT = 1024
"""Bytes that it takes without growing."""
IDLE_MAX = 8
"""Readers kept for the next. One is enough but for those that come back from who sent half a frame."""

_CLOSE = WSMsgType.CLOSE
_log = logging.getLogger(__name__)
_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
"""All that picows needs to see: the real one was checked before (`web.switch`)."""


class Reading(Protocol):
    """Whose bytes they are."""

    reader: Reader | None
    """While it has sent half a frame."""

    def on_frame(self, frame: WSFrame) -> None: ...
    def on_mistake(self, said: bytes) -> None:
        """What came last is no frame, and all after it is lost. `said`: the close frame that tells so."""
        ...


class Readers:
    """Those that nobody uses."""

    def __init__(self, message: int) -> None:
        """`message`: bytes that a frame may have."""
        self._message = message
        self._idle: list[Reader] = []

    def read(self, who: Reading, data: bytes) -> None:
        """Calls `on_frame` for all that is whole, then `on_mistake` if the next is none."""
        size, reader = len(data), who.reader
        if reader is None:
            if size > SHORT:
                reader = Reader(self._message, size + size // 4 + READ_BUFFER)
            else:
                reader = self._idle.pop() if self._idle else Reader(self._message, READ_BUFFER)
            whole = reader.read(who, data)
            keeps = size <= SHORT
        else:
            whole = reader.read(who, data)
            keeps = whole and reader.small
        if not whole:
            who.reader = reader
            return
        who.reader = None
        if keeps and len(self._idle) < IDLE_MAX:
            self._idle.append(reader)
        else:
            reader.end()


class Reader(WSListener):
    """One of them; also what picows tells of frames. Callbacks of picows begin with `on_ws_`."""

    __slots__ = ("_closed", "_get_buffer", "_left", "_protocol", "_room", "_said", "_updated", "_who")

    def __init__(self, message: int, buffer: int) -> None:
        self._who: Reading | None = None
        self._left = 0
        """Bytes behind the last frame; -1 before there is one."""
        self._said: bytes | None = None
        self._closed = False
        self._protocol = protocol = _picows(self, message, buffer)
        self._get_buffer = protocol.get_buffer
        self._updated = protocol.buffer_updated
        protocol.connection_made(_Nowhere(self))
        self._feed(_REQUEST)
        self._said = None
        self._room = len(protocol.get_buffer(-1))

    @property
    def small(self) -> bool:
        """Has not grown."""
        return self._room <= READ_BUFFER and len(self._get_buffer(-1)) <= self._room

    def read(self, who: Reading, data: bytes) -> bool:
        """Whether the bytes ended where a frame does, and another may have it."""
        self._who = who
        self._left = -1
        room = self._get_buffer(-1)
        size = len(data)
        if size <= len(room):
            room[:size] = data
            self._updated(size)
        else:
            self._feed(data)
        if self._said is not None:
            who.on_mistake(self._said)
            return False
        if self._left:
            return False
        if self._closed:  # picows remembers, of each connection, whether it was closed
            self._closed = False
            self._protocol.connection_made(_Nowhere(self))
        self._who = None
        return True

    def end(self) -> None:
        """It and picows' protocol hold each other, and a buffer of up to a message: not until a collection comes."""
        del self._protocol, self._get_buffer, self._updated, self._who

    def said(self, frame: bytes) -> None:
        self._said = frame

    def on_ws_connected(self, transport: WSTransport) -> None: ...

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._left = frame.tail_size
        if frame.msg_type == _CLOSE:
            self._closed = True
        assert self._who is not None
        self._who.on_frame(frame)

    def _feed(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            room = self._get_buffer(-1)
            size = min(len(room), len(view))
            room[:size] = view[:size]
            self._left = -1
            self._updated(size)
            view = view[size:]


class _Nowhere:
    """As much of a transport, and of its socket, as picows asks for. With something for `ssl_object` it writes to the
    transport, and never to a file descriptor."""

    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get_extra_info(self, name: str) -> _Nowhere:
        return self

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *option: int) -> None: ...

    def getsockopt(self, *option: int) -> int:
        return 0

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self._reader.said(bytes(data))

    def close(self) -> None: ...
    def abort(self) -> None: ...


class _Silent:
    """picows logs every mistake of a client as an error; here a client's mistakes are its own affair."""

    __slots__ = ()

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name that picows calls
        return False

    def debug(self, message: str, *args: object) -> None: ...
    def info(self, message: str, *args: object) -> None: ...
    def warning(self, message: str, *args: object) -> None: ...
    def error(self, message: str, *args: object) -> None: ...

    def exception(self, message: str, *args: object) -> None:
        _log.exception(message, *args)


_SILENT: Final = _Silent()


def _picows(listener: WSListener, message: int, buffer: int) -> Any:
    """The one place that knows the constructor."""

    def answer(_: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(), listener)

    return WSProtocol(
        None,  # host and port: a client's business
        None,  # path: likewise
        False,  # is_client_side
        answer,
        _SILENT,
        True,  # disconnect_on_exception
        None,  # handshake time-out: over before picows comes in
        False,  # auto ping: `hot.Keepalive` has one timer for all
        20,
        20,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # auto pong: it would hide pings from the socket
        message,
        None,  # extra headers: a client's business
        buffer,
    )
