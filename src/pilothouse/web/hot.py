"""One open connection on its transport, and the one timer for all of them. Frames are taken apart by `web.readers`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Coroutine
from typing import Any, cast

from picows import WSFrame, WSMsgType
from uvicorn.server import ServerState

from pilothouse.core.run import BINARY, TEXT, Run, header
from pilothouse.web.kernel import unacknowledged
from pilothouse.web.readers import Reader, Readers
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

JOINED_MAX = 8192
"""Bytes of a message, up to which it is copied behind its header."""
SWEEP_S = 1.0
"""How often the one timer looks at all connections."""
MISTAKE_S = 0.01
"""From the close frame that tells of a mistake to the connection's end."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE, _PING, _PONG = 8, 9, 10
_DATA = WSMsgType.BINARY
_HEADERS = tuple(header(BINARY, size) for size in range(126))

_log = logging.getLogger(__name__)


def take_over(socket: HotSocket, accept: Accept, key: str, transport: asyncio.Transport) -> None:
    """Answers the upgrade and makes the socket the transport's protocol. The transport's reading is paused, and resumed
    here."""
    transport.write(_handshake(accept, key))
    transport.set_protocol(socket)
    socket.connection_made(transport)
    transport.resume_reading()


class HotSocket(asyncio.Protocol):
    """A `Socket`, and the protocol of its transport."""

    __slots__ = (
        "_accept",
        "_below",
        "_deaf",
        "_inbox",
        "_keeper",
        "_limits",
        "_loop",
        "_open",
        "_open_text",
        "_state",
        "_valves",
        "_wire",
        "closed",
        "closing_since",
        "gone_since",
        "heard",
        "pinged",
        "reader",
        "serving",
    )

    def __init__(self, accept: Accept, limits: Limits, keeper: Keepalive, state: ServerState) -> None:
        self.closed = False
        self.heard = 0.0
        self.pinged = 0.0
        self.closing_since: float | None = None
        self.gone_since: float | None = None
        self.serving: asyncio.Task[None] | None = None
        self.reader: Reader | None = None
        self._accept: Accept | None = accept
        self._limits = limits
        self._keeper = keeper
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._wire: asyncio.Transport
        self._inbox = Inbox(limits.inbox, self._pause_reading, self._resume_reading)
        self._below: asyncio.Event | None = None
        self._deaf = False
        self._open: bytearray | None = None
        self._open_text = False
        self._valves: tuple[Valve, ...] = ()

    # --- what doors use

    def send_text(self, data: bytes) -> None:
        self._send(TEXT, data)

    def send_binary(self, data: bytes) -> None:
        if len(data) < 126 and self._below is None and not self.closed:  # an echo, as a rule
            self._wire.write(_HEADERS[len(data)] + data)
        else:
            self._send(BINARY, data)

    def send_frames(self, frames: Frames) -> None:
        if not self.closed and not self._wire.is_closing():
            self._wire.write(frames.raw)
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
        self._control(_CLOSE, code.to_bytes(2) + reason_bytes(reason))
        self._shut()

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._wire.set_write_buffer_limits(high=self._limits.high_water)
        self.heard = self.pinged = self._loop.time()
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._keeper.add(self)
        self.serving = self._loop.create_task(self._serve())
        self._state.tasks.add(self.serving)
        self.serving.add_done_callback(self._state.tasks.discard)

    def data_received(self, data: bytes) -> None:
        if not self._deaf:
            self._keeper.readers.read(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone_since = self._loop.time()
        self.reader = None
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

    # --- what the reader calls

    def on_frame(self, frame: WSFrame) -> None:
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
                self._control(_CLOSE, close_answer(frame.get_payload_as_bytes()).to_bytes(2))
                self._shut()
            self._wire.close()
        elif self.closed or kind == WSMsgType.PONG:
            return
        elif kind == WSMsgType.PING:
            self._control(_PONG, frame.get_payload_as_bytes())
        else:
            self._take(kind, frame)

    def on_mistake(self, said: bytes) -> None:
        self._deaf = True
        if not self.closed:
            self._wire.write(said)
            self._shut()
        self._loop.call_later(MISTAKE_S, self._wire.close)

    # --- what uvicorn and the sweep call

    def shutdown(self) -> None:
        self.close(1012, "restarting")

    def ping(self, now: float) -> None:
        self.pinged = now
        self._control(_PING, b"")

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
        if self.closed or self._wire.is_closing():
            return
        if len(data) <= JOINED_MAX:
            self._wire.write(header(opcode, len(data)) + data)
        else:
            self._wire.writelines((header(opcode, len(data)), data))
        self._check_cut()

    def _control(self, opcode: int, data: bytes) -> None:
        if not self._wire.is_closing():
            self._wire.write(header(opcode, len(data)) + data)

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
        self.readers = Readers(limits.message)
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


def _handshake(accept: Accept, key: str) -> bytes:
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in accept.headers)]
    if accept.subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {accept.subprotocol}")
    proof = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()
    lines += ["Connection: upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {proof}", "", ""]
    return "\r\n".join(lines).encode()
