"""One open connection on picows, and the one timer for all of them.

picows' `WSProtocol` is not meant to be made by others: its constructor is positional and undocumented. It is used in
`_picows` below and nowhere else; `tests/web/test_hot.py` fails when it changes shape.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, cast

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]
from uvicorn.server import ServerState

from pilothouse.core.run import BINARY, TEXT, Run, header
from pilothouse.web.kernel import unacknowledged
from pilothouse.web.socket import (
    Accept,
    Frames,
    Inbox,
    Limits,
    Listener,
    Message,
    Valve,
    close_answer,
    is_utf8,
    reason_bytes,
)

READ_BUFFER = 2048
"""picows' smallest: an idle connection costs little, a busy one's grows."""
COPIED_MAX = 8192
"""Bytes of a message, up to which picows copies it. With a longer one it gives the transport a view of its own header
buffer, which it writes on again with the next: what waits for a slow client would get the headers of later messages."""
SWEEP_S = 1.0
"""How often the one timer looks at all connections."""

_DATA = WSMsgType.BINARY

_log = logging.getLogger(__name__)
_NOBODY: Final = asyncio.Protocol()
"""Hears what nobody sends any more."""


def take_over(socket: HotSocket, accept: Accept, key: str, transport: asyncio.Transport, limits: Limits) -> None:
    """Answers the upgrade and makes picows the transport's protocol. The transport's reading is paused, and resumed
    here: uvloop chooses its way of reading (into a buffer of the protocol's, or not) when reading begins."""
    protocol = _picows(socket, accept, limits)
    protocol.connection_made(transport)
    _feed(protocol, _handshake(key))
    transport.set_protocol(_NOBODY)  # uvloop keeps the last one that is not buffered, and all that it has
    transport.set_protocol(protocol)
    transport.resume_reading()


class HotSocket(WSListener):
    """A `Socket` on picows; also its listener. Callbacks of picows begin with `on_ws_`."""

    __slots__ = (
        "_accept",
        "_below",
        "_inbox",
        "_keeper",
        "_limits",
        "_loop",
        "_open",
        "_open_text",
        "_state",
        "_valves",
        "_wire",
        "_ws",
        "closed",
        "closing_since",
        "gone_since",
        "heard",
        "pinged",
        "serving",
    )

    def __init__(self, accept: Accept, limits: Limits, keeper: Keepalive, state: ServerState) -> None:
        self.closed = False
        self.heard = 0.0
        self.pinged = 0.0
        self.closing_since: float | None = None
        self.gone_since: float | None = None
        self.serving: asyncio.Task[None] | None = None
        self._accept: Accept | None = accept
        self._limits = limits
        self._keeper = keeper
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._ws: WSTransport
        self._wire: asyncio.Transport
        self._inbox = Inbox(limits.inbox, self._pause_reading, self._resume_reading)
        self._below: asyncio.Event | None = None
        self._open: bytearray | None = None
        self._open_text = False
        self._valves: tuple[Valve, ...] = ()

    # --- what doors use

    def send_text(self, data: bytes) -> None:
        self._send(TEXT, data)

    def send_binary(self, data: bytes) -> None:
        if len(data) <= COPIED_MAX and self._below is None and not self.closed:  # an echo, as a rule
            self._ws.send(_DATA, data)
        else:
            self._send(BINARY, data)

    def send_frames(self, frames: Frames) -> None:
        if not self.closed and not self._wire.is_closing():
            self._wire.write(frames.raw)  # past picows' own check, so the state is checked here
            self._check_cut()

    def send_run(self, prefix: bytes, run: Run) -> bool:
        """Whoever closes the transport has said `closed` before."""
        if self._below is not None:
            return False
        if not self.closed:
            self._wire.write(run.frames(prefix))
        return True

    def attach(self, valve: Valve) -> None:
        valve.write = self._wire.write
        valve.open = self._below is None and not self.closed
        self._valves = (*self._valves, valve)

    def detach(self, valve: Valve) -> None:
        valve.open = False
        self._valves = tuple(one for one in self._valves if one is not valve)

    def buffered(self) -> int:
        return self._wire.get_write_buffer_size()

    def underway(self) -> int:
        return self._wire.get_write_buffer_size() + unacknowledged(self._wire)

    async def writable(self) -> bool:
        while self._below is not None and not self.closed:
            await self._below.wait()
        return not self.closed

    def receive(self) -> Coroutine[Any, Any, Message | None]:
        return self._inbox.get()

    def listen(self, on_message: Listener) -> None:
        self._inbox.listen(on_message)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Says so, then waits for the client to do the same; the sweep ends the wait."""
        if self.closed:
            return
        self._ws.send_close(cast(WSCloseCode, code), reason_bytes(reason))
        self._shut()

    # --- what picows calls

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._ws = transport
        transport.request.headers = transport.response.headers = None  # type: ignore[assignment]  # read by nobody
        self._wire = transport.underlying_transport
        self._wire.set_write_buffer_limits(high=self._limits.high_water)
        self.heard = self.pinged = self._loop.time()
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._keeper.add(self)
        self.serving = self._loop.create_task(self._serve())
        self._state.tasks.add(self.serving)
        self.serving.add_done_callback(self._state.tasks.discard)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        odd = frame.rsv1 or frame.rsv2 or frame.rsv3 or self.closed or self._open is not None
        if kind == _DATA and frame.fin and not odd:  # a keystroke, as a rule: it waits for nothing else
            inbox = self._inbox
            if inbox.listener is None:
                inbox.put(frame.get_payload_as_bytes(), False)
            elif not inbox.listener(frame.get_payload_as_bytes(), False):
                inbox.listener = None
            self.heard = self._loop.time()
            return
        self.heard = self._loop.time()
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._fail(1002, "reserved bits")
        elif kind == WSMsgType.CLOSE:
            if not self.closed:
                code = close_answer(frame.get_payload_as_bytes())
                self._ws.send_close(cast(WSCloseCode, code))
                self._shut()
            self._wire.close()
        elif self.closed or kind == WSMsgType.PONG:
            return
        elif kind == WSMsgType.PING:
            self._ws.send_pong(frame.get_payload_as_bytes())
        else:
            self._take(kind, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone_since = self._loop.time()
        self._shut()
        self._state.connections.discard(self)
        if self.serving is None or self.serving.done():
            self._keeper.remove(self)

    def pause_writing(self) -> None:
        self._below = asyncio.Event()
        self._turn_valves()

    def resume_writing(self) -> None:
        if self._below is not None:
            self._below.set()
            self._below = None
        self._turn_valves()

    # --- what uvicorn and the sweep call

    def shutdown(self) -> None:
        self.close(1012, "restarting")

    def ping(self, now: float) -> None:
        self.pinged = now
        self._ws.send_ping()

    def abort(self) -> None:
        self._wire.abort()

    # ---

    async def _serve(self) -> None:
        assert self._accept is not None
        try:
            serving, self._accept = self._accept.serve(self), None  # what it came from need not be kept
            await serving
        except asyncio.CancelledError:
            self.close(1012, "restarting")
            raise
        except Exception:  # noqa: BLE001 - the last one who can say so; the connection ends with it
            _log.exception("a door failed")
            self.close(1011)
        else:
            self.close(1000)
        finally:
            if self.gone_since is not None:
                self._keeper.remove(self)

    def _send(self, opcode: int, data: bytes) -> None:
        if self.closed:
            return
        if len(data) <= COPIED_MAX:
            self._ws.send(cast(WSMsgType, opcode), data)
        elif not self._wire.is_closing():
            self._wire.writelines((header(opcode, len(data)), data))
        self._check_cut()

    def _take(self, kind: WSMsgType, frame: WSFrame) -> None:
        """Puts fragments together."""
        if (kind == WSMsgType.CONTINUATION) != (self._open is not None):
            self._fail(1002, "fragments out of order")
            return
        data = frame.get_payload_as_bytes()
        if self._open is not None:
            if len(self._open) + len(data) > self._limits.message:
                self._fail(1009, f"at most {self._limits.message} bytes")
                return
            self._open += data
            if not frame.fin:
                return
            data, text, self._open = bytes(self._open), self._open_text, None
        else:
            text = kind == WSMsgType.TEXT
            if not frame.fin:
                self._open, self._open_text = bytearray(data), text
                return
        if text and not is_utf8(data):
            self._fail(1007, "not UTF-8")
            return
        self._inbox.put(data, text)

    def _fail(self, code: int, reason: str) -> None:
        self.close(code, reason)
        self._wire.close()  # there is no telling where its next frame begins

    def _turn_valves(self) -> None:
        for valve in self._valves:
            valve.open = self._below is None and not self.closed

    def _shut(self) -> None:
        self.closed = True
        self._turn_valves()
        self._open = None
        if self.closing_since is None:
            self.closing_since = self._loop.time()
        if self._below is not None:
            self._below.set()
        self._inbox.end()
        self._resume_reading()  # or the client's close frame would never be seen

    def _check_cut(self) -> None:
        if self._below is not None and self._wire.get_write_buffer_size() > self._limits.cut:
            self._shut()
            self._wire.abort()

    def _pause_reading(self) -> None:
        if not self.closed:
            self._wire.pause_reading()

    def _resume_reading(self) -> None:
        if not self._wire.is_closing():
            self._wire.resume_reading()


class Keepalive:
    """One timer for all connections: pings, silence, closings that do not end, doors that do not return."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._every = min(SWEEP_S, limits.ping_s / 4, limits.close_s / 2)
        self._all: set[HotSocket] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, socket: HotSocket) -> None:
        self._all.add(socket)
        if self._timer is None:
            self._arm(asyncio.get_running_loop())

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._every, self._sweep)

    def remove(self, socket: HotSocket) -> None:
        self._all.discard(socket)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        held_up = now - self._timer.when() if self._timer is not None else 0.0
        for socket in tuple(self._all):
            if held_up > self._every:  # meanwhile nobody could be heard
                socket.heard += held_up
            self._look(socket, now)
        self._timer = None
        if self._all:
            self._arm(loop)

    def _look(self, socket: HotSocket, now: float) -> None:
        limits = self._limits
        if socket.gone_since is not None:
            if now - socket.gone_since > limits.grace_s and socket.serving is not None:
                socket.serving.cancel()
        elif socket.closing_since is not None:
            if now - socket.closing_since > limits.close_s:
                socket.abort()
        elif now - socket.heard > limits.silence_s:
            socket.close(1011, "no sign of life")
        elif now - socket.pinged > limits.ping_s:
            socket.ping(now)


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


def _picows(listener: HotSocket, accept: Accept, limits: Limits) -> WSProtocol:
    """The one place that knows the constructor."""

    def answer(_: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        headers = list(accept.headers)
        if accept.subprotocol is not None:
            headers.append(("Sec-WebSocket-Protocol", accept.subprotocol))
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(headers), listener)

    return WSProtocol(
        None,  # host and port: a client's business
        None,  # path: likewise
        False,  # is_client_side
        answer,
        _Silent(),
        True,  # disconnect_on_exception
        None,  # handshake time-out: over before picows comes in
        False,  # auto ping: `Keepalive` has one timer for all
        limits.ping_s,
        limits.ping_s,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # auto pong: it would hide pings from `heard`
        limits.message,
        None,  # extra headers: a client's business
        READ_BUFFER,
    )


def _feed(protocol: WSProtocol, data: bytes) -> None:
    view = memoryview(data)
    while view:
        room = protocol.get_buffer(-1)
        size = min(len(room), len(view))
        room[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]


def _handshake(key: str) -> bytes:
    """All that picows needs to see: a request that was checked here already, without its possibly many headers."""
    return (
        f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()
